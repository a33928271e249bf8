"""The intake: queues that callers append to, one for each bucket.

Invariants established here:

- Callers only append, which is atomic, and take no lock. Everything else is done under the buffer's lock.
- Every `append` that a caller may hold leads to a queue that will be drained. Callers find the queues' own
  `append` methods in one table, and from that table queues are drained. A queue that is released, because its
  bucket is not in use or it is long, is drained until nobody but this module refers to its `append`.
- A queue holds the events of its bucket in their order.
- Nothing that is done with a long queue takes long at a time: callers wait where it holds the
  interpreter's lock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["STEP", "Append", "Appends", "ExplicitEvent", "Intake", "Queue", "extend", "in_steps"]

STEP = 4096
"""Events handled together: with the objects they refer to, they fit in the processor's second-level cache. To
join ids takes the interpreter's lock, so that a caller waits for it: a third of a millisecond for so many."""

T = TypeVar("T")

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
        no_room_in: names of the periods for which it was dropped then.
    """

    id: bytes
    ticks: int
    periods: tuple[str, ...] | None = None
    stamp: int | None = None
    leaves: bool = False
    after: ExplicitEvent | None = None
    drained: bool = False
    no_room_in: Sequence[str] = ()


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
        self._replace_long()
        taken = self._take_released()
        for bucket, append in self._filled():
            taken.append((bucket, _taken(append)))
        return taken, overflowed

    def _replace_long(self) -> None:
        """Give buckets with a long queue a new one, so that the long one can be emptied at leisure."""
        for bucket, append in self._filled():
            if len(_queue(append)) > STEP:
                self.appends[bucket] = [].append
                self._released.append((bucket, append))

    def _take_released(self) -> list[tuple[str | None, Queue]]:
        """Take the queues that no caller may append to any more as they are, and empty the others."""
        taken: list[tuple[str | None, Queue]] = []
        counts = _reference_counts(self._released)
        released, self._released = self._released, []
        for (bucket, append), references in zip(released, counts, strict=True):
            if references > _OWN_REFERENCES:
                self._released.append((bucket, append))
                taken.append((bucket, _taken(append)))
            else:
                taken.append((bucket, _queue(append)))
        return [(bucket, events) for bucket, events in taken if events]

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
        return sum(len(_queue(append)) for _, append in [*self._released, *self._filled()])

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

    def _current(self) -> list[tuple[str | None, Append]]:
        """The queues that callers find."""
        # Others only add to the table, at its end.
        appends = _listed(self.appends.values)
        return list(zip(_listed(self.appends.keys), appends, strict=False))

    def _filled(self) -> list[tuple[str | None, Append]]:
        """Those in which there is something; of ten thousand a few are, so no call is made for each."""
        appends = _listed(self.appends.values)
        filled = [index for index, append in enumerate(appends) if append.__self__]  # type: ignore[attr-defined]
        buckets = _listed(self.appends.keys) if filled else []
        return [(buckets[index], appends[index]) for index in filled]

    def _all(self) -> list[Append]:
        return [append for _, append in self._released] + _listed(self.appends.values)


def _listed(view: Callable[[], Collection[T]]) -> list[T]:
    """What a view of a dict shows."""
    while True:
        try:
            return list(view())
        except RuntimeError:  # the garbage collector ran amid this, and a finalizer tracked a new bucket
            continue


def extend(append: Append, events: Sequence[Any]) -> None:
    """Append several events at once: as atomic as one, for a list or a tuple."""
    _queue(append).extend(events)


def in_steps(taken: Sequence[tuple[str | None, Queue]]) -> Iterator[list[tuple[str | None, Queue]]]:
    """Events by bucket, in their order, up to STEP at a time of all buckets together.

    The queues are emptied on the way: to free all events at once would hold callers up.
    """
    step: list[tuple[str | None, Queue]] = []
    room = STEP
    for bucket, queue in taken:
        for events in _parts(queue):
            if len(events) > room:
                yield step
                step, room = [], STEP
            step.append((bucket, events))
            room -= len(events)
    if step:
        yield step


def _parts(queue: Queue) -> Iterator[Queue]:
    if len(queue) <= STEP:
        yield queue
        return
    queue.reverse()
    while queue:
        yield queue[: -STEP - 1 : -1]
        del queue[-STEP:]


def _taken(append: Append) -> Queue:
    """What is in a queue now; it is emptied of that."""
    queue = _queue(append)
    events = queue[:]
    del queue[: len(events)]
    return events


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
