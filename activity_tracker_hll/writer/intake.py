"""The intake: queues that callers append to, one for each bucket.

What is established here:

- Callers only append, which is atomic; they take no lock. Only the thread that folds takes.
- Every append that a caller may hold leads to a queue that will be taken. There is one table, of the queues'
  own `append` methods, so that what callers find is what is taken from; a queue that is retired is taken from
  until nobody else refers to its `append`.
- The order of a queue is the order of its bucket's events.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

__all__ = ["Append", "Appends", "Intake", "Marker", "Queue"]

Queue = list[Any]
"""Events of one bucket in their order: ids as plain str or bytes, and markers for what is more than an id."""

Append = Callable[[Any], None]

_OWN_REFERENCES = 3
"""To a retired queue's `append`: of the list of these, of the variable that holds it, of the question
itself."""


@dataclass(eq=False, slots=True)
class Marker:
    """An event that is more than an id that is active now.

    Attributes:
        id: as it is counted.
        ticks: when it was appended, in microseconds of a clock that is never set.
        stamp: when it happened, in microseconds since 1970, if that was said.
        periods: names of the periods; None = those that run when it is appended.
        leaves: the id leaves the bucket.
        after: what has to be folded first: an id is added where it goes before it leaves where it was.
        folded: whether it is.
    """

    id: bytes
    ticks: int
    periods: tuple[str, ...] | None = None
    stamp: int | None = None
    leaves: bool = False
    after: Marker | None = None
    folded: bool = False


class Appends(dict[str | None, Append]):
    """How to append to the queue of a bucket; what is missing is made when it is first asked for."""

    def __init__(self, make: Callable[[str | None], Append]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, bucket: str | None) -> Append:
        return self.make(bucket)


class Intake:
    """The queues of one data set.

    Args:
        most: queues there are at most; events of further buckets overflow.
        make: called for a bucket that has no queue, see :class:`Appends`.

    Attributes:
        appends: what callers look up.
        overflow: events for which there is no room.
        marked: whether there ever was a marker.
    """

    def __init__(self, most: int, make: Callable[[str | None], Append]) -> None:
        self._most = most
        self.appends = Appends(make)
        self.overflow: Queue = []
        self._retired: list[tuple[str | None, Append]] = []
        self.marked = False

    def append_to(self, bucket: str | None) -> Append:
        """The `append` of a bucket's queue, which is made if there is none.

        Without a lock: signal handlers and the garbage collector call too.
        """
        append = self.appends.get(bucket)
        if append is not None:
            return append
        if len(self.appends) >= self._most:
            return self.overflow.append
        return self.appends.setdefault(bucket, [].append)

    def is_overflow(self, append: Append) -> bool:
        """Whether what is appended so is lost."""
        return _queue(append) is self.overflow

    def take(self) -> tuple[list[tuple[str | None, Queue]], int]:
        """What is in the queues, a bucket each, and how many events have overflowed."""
        lost = len(self.overflow)
        del self.overflow[:lost]
        taken: list[tuple[str | None, Queue]] = []
        for bucket, append in [*self._retired, *self.appends.items()]:
            queue = _queue(append)
            if queue:
                count = len(queue)
                taken.append((bucket, queue[:count]))
                del queue[:count]
        return taken, lost

    def put_back(self, bucket: str | None, events: Queue) -> None:
        """Events that have to wait; they come before what was appended since."""
        _queue(self.appends.get(bucket) or self.appends.setdefault(bucket, [].append))[:0] = events

    def retire(self, used: Collection[str | None]) -> None:
        """Let go of queues that are empty and not in use, but for those that a caller may yet append to."""
        for bucket, append in list(self.appends.items()):
            if bucket not in used and not _queue(append):
                del self.appends[bucket]
                self._retired.append((bucket, append))
        kept = []
        for bucket, append in self._retired:
            if _queue(append) or sys.getrefcount(append) > _OWN_REFERENCES:
                kept.append((bucket, append))
        self._retired = kept

    @property
    def events(self) -> int:
        """How many there are."""
        return sum(len(_queue(append)) for append in self._all())

    def events_of(self, kinds: int) -> int:
        """How many there are, once for each period; events that do not say theirs are in so many."""
        if not self.marked:
            return self.events * kinds
        return sum(
            len(event.periods) if type(event) is Marker and event.periods is not None else kinds
            for append in self._all()
            for event in list(_queue(append))
        )

    def reset(self) -> list[tuple[str | None, Queue]]:
        """Begin anew, in a forked child; returns what was in the queues."""
        held = [(bucket, list(_queue(append))) for bucket, append in [*self._retired, *self.appends.items()]]
        self.appends = Appends(self.appends.make)
        self.overflow, self._retired = [], []
        return [(bucket, queue) for bucket, queue in held if queue]

    def _all(self) -> list[Append]:
        return [append for _, append in self._retired] + list(self.appends.values())


def _queue(append: Append) -> Queue:
    """The list whose method it is."""
    queue: Queue = append.__self__  # type: ignore[attr-defined]
    return queue
