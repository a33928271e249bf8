"""The intake: queues that callers append to, one for each bucket.

Invariants established here:

- Callers only append, which is atomic, and take no lock. Everything else is done under the buffer's lock.
- Every `append` that a caller may hold leads to a queue that will be drained. Callers find the queues' own
  `append` methods in one table, and from that table queues are drained. A queue that is released, because its
  bucket is not in use, is drained until nobody but this module refers to its `append`.
- A queue holds the events of its bucket in their order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Append", "Appends", "ExplicitEvent", "Intake", "Queue"]

Queue = list[Any]
"""Events of one bucket in their order: plain ids (str or bytes) that are active now, or explicit events."""

Append = Callable[[Any], None]


@dataclass(eq=False, slots=True)
class ExplicitEvent:
    """An event that says more than "this id is active now".

    Attributes:
        id: encoded, as it is counted.
        ticks: when it was appended, in microseconds of a clock that is never set.
        stamp: when it happened, in microseconds since 1970, if the caller said so.
        periods: names of its periods; None = those that run when it is appended.
        leaves: whether the id leaves the bucket.
        after: event that has to be drained first: an id is added where it goes before it leaves where it was.
        drained: whether this one has been.
    """

    id: bytes
    ticks: int
    periods: tuple[str, ...] | None = None
    stamp: int | None = None
    leaves: bool = False
    after: ExplicitEvent | None = None
    drained: bool = False


class Appends(dict[str | None, Append]):
    """Looks up the `append` of a bucket's queue; calls `open_queue` for a bucket that has none."""

    def __init__(self, open_queue: Callable[[str | None], Append]) -> None:
        super().__init__()
        self.open_queue = open_queue

    def __missing__(self, bucket: str | None) -> Append:
        return self.open_queue(bucket)


class Intake:
    """The queues of one data set.

    Args:
        max_queues: events of buckets beyond so many overflow.
        open_queue: see :class:`Appends`.

    Attributes:
        appends: where callers look up how to append.
        overflow: events for which there is no queue.
        has_explicit: whether any event was ever explicit; set by callers, never unset.
    """

    def __init__(self, max_queues: int, open_queue: Callable[[str | None], Append]) -> None:
        self._max_queues = max_queues
        self.appends = Appends(open_queue)
        self.overflow: Queue = []
        self._released: list[tuple[str | None, Append]] = []
        self.has_explicit = False

    def append_to(self, bucket: str | None) -> Append:
        """The `append` of a bucket's queue, which is created if there is none.

        Takes no lock: signal handlers and the garbage collector call it too.
        """
        append = self.appends.get(bucket)
        if append is not None:
            return append
        if len(self.appends) >= self._max_queues:
            return self.overflow.append
        return self.appends.setdefault(bucket, [].append)

    def overflows(self, append: Append) -> bool:
        """Whether what is appended this way is dropped."""
        return _queue(append) is self.overflow

    def take(self) -> tuple[list[tuple[str | None, Queue]], int]:
        """Empty the queues; returns their events by bucket, and how many events have overflowed."""
        overflowed = len(self.overflow)
        del self.overflow[:overflowed]
        taken: list[tuple[str | None, Queue]] = []
        for bucket, append in [*self._released, *self._filled()]:
            queue = _queue(append)
            if queue:
                count = len(queue)
                taken.append((bucket, queue[:count]))
                del queue[:count]
        return taken, overflowed

    def put_back(self, bucket: str | None, events: Queue) -> None:
        """Return events that have to wait; they come before what was appended since."""
        _queue(self.appends.get(bucket) or self.appends.setdefault(bucket, [].append))[:0] = events

    def release_unused(self, in_use: Collection[str | None]) -> None:
        """Forget empty queues of buckets not in use, except those that a caller may yet append to."""
        self._release(in_use)  # in a frame of its own, whose references are gone when they are counted
        counts = _reference_counts(self._released)
        self._released = [
            (bucket, append)
            for (bucket, append), references in zip(self._released, counts, strict=True)
            if _queue(append) or references > _OWN_REFERENCES
        ]

    def _release(self, in_use: Collection[str | None]) -> None:
        for bucket, append in self._current():
            if bucket not in in_use and not _queue(append):
                del self.appends[bucket]
                self._released.append((bucket, append))

    @property
    def released(self) -> int:
        """Number of queues that callers do not find any more, but may still append to."""
        return len(self._released)

    @property
    def events(self) -> int:
        """Number of events in the queues."""
        return sum(len(_queue(append)) for append in self._all())

    def events_by_period(self, kinds: int) -> int:
        """The same, each event counted once for each of its periods.

        Args:
            kinds: number of periods of events that do not name theirs.
        """
        if not self.has_explicit:
            return self.events * kinds
        return sum(
            len(event.periods) if type(event) is ExplicitEvent and event.periods is not None else kinds
            for append in self._all()
            for event in list(_queue(append))
        )

    def reset(self) -> list[tuple[str | None, Queue]]:
        """In a forked child: begin with no queues; returns copies of those there were."""
        all_queues = [*self._released, *self._current()]
        self.appends = Appends(self.appends.open_queue)
        self.overflow, self._released = [], []
        return [(bucket, list(_queue(append))) for bucket, append in all_queues if _queue(append)]

    def _filled(self) -> list[tuple[str | None, Append]]:
        """Those of the queues that callers find which hold something.

        Of thousands most are empty, each time. No tuple is made for these: so many wake the garbage
        collector, which takes several times as long.
        """
        while True:
            try:
                buckets, appends = list(self.appends), list(self.appends.values())
            except RuntimeError:  # as in _current
                continue
            # Of buckets that were added in between there are more appends, at the end.
            pairs = zip(buckets, appends, strict=False)
            return [(bucket, append) for bucket, append in pairs if _queue(append)]

    def _current(self) -> list[tuple[str | None, Append]]:
        """The queues that callers find."""
        while True:
            try:
                return list(self.appends.items())
            except RuntimeError:  # the garbage collector ran amid this, and a finalizer tracked a new bucket
                continue

    def _all(self) -> list[Append]:
        return [append for _, append in [*self._released, *self._current()]]


def _queue(append: Append) -> Queue:
    """The list whose method it is."""
    queue: Queue = append.__self__  # type: ignore[attr-defined]
    return queue


def _reference_counts(released: Sequence[tuple[str | None, Append]]) -> list[int]:
    """How many references there are to each `append`, those of this module included."""
    return [sys.getrefcount(append) for _, append in released]


# A caller that has looked up an `append` shows in nothing but CPython's reference count, and which of our own
# references that includes differs between versions of Python. So they are counted the way they are counted
# in use: of an `append` that no caller can have.
[_OWN_REFERENCES] = _reference_counts([(None, [].append)])
