"""One import from its first event to its last: what is gathered is pushed in time, and its result is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from ..base import Operation, PeriodBucket
from ..data_set import DataSet
from .batches import Batch
from .gathered import Gathered
from .importing import Importing
from .memory import Memory

__all__ = ["Import", "Imported"]

_PUSH_EVERY_S = 1.0
_PAUSE_TO_PUSH = 4  # pushing many buckets and periods takes long, however few events of each there are
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import.

    Attributes:
        events: the number of events read and sent.
        late: how many were refused because their period was collapsed and its sketches are gone; an event
            counts once for each such period.
        outgrown: names of the periods that were counted before, so that only a recount counts all of their
            events: ``collapse(recount=True)``.
    """

    events: int
    late: int
    outgrown: tuple[str, ...] = ()


class Import:
    """An import, whose events come batch by batch.

    A bad event ends it with an error that names its position, and so does an exception of where they come
    from; the events before it are sent.

    Args:
        running: the names of all running periods that do not end soon, at a time.
        clock: seconds since 1970.
        find_outgrown: names those of some past periods that were counted before.
        progress: called with the number of events sent so far.
        can_wait: whether the first events can, as for a list; those of a stream are pushed at once, to show
            that it works.

    Attributes:
        memory: for another import when this one has ended well.
    """

    def __init__(
        self,
        data: DataSet,
        kinds: tuple[str, ...],
        memory: Memory,
        running: Callable[[float], set[str]],
        clock: Callable[[], float],
        find_outgrown: Callable[[Iterable[PeriodBucket]], Operation[set[str]]],
        progress: Callable[[int], object] | None,
        *,
        can_wait: bool,
    ) -> None:
        self.memory = memory
        self._data = data
        self._clock = clock
        self._find_outgrown = find_outgrown
        self._progress = progress
        self._gathered = Gathered(data.context, data.open_periods, lambda: running(clock()), memory)
        self._importing = Importing(data.context, kinds, self._gathered, data.clock, self._push)
        self._late = 0
        self._outgrown = set[str]()
        self._pushed = clock() if can_wait else -inf
        self._pause = _PUSH_EVERY_S

    def due(self) -> bool:
        """Whether events have waited long enough."""
        return abs(self._clock() - self._pushed) >= self._pause

    def check(self, batch: Batch) -> None:
        """Check the first event, before the server is asked; see :meth:`.Importing.check`."""
        self._importing.check(batch)

    def add(self, batch: Batch) -> Operation[None]:
        """Gather the events of a batch, and push what is due; an empty batch pushes all.

        Raises:
            ActivityTrackerError: an event is bad; those before it are sent.
            Exception: what the batch says was raised behind its events.
        """
        if len(batch) and not self._importing.knows_server:
            self._importing.takes_sketches((yield from self._data.takes_sketches()))
        bad = yield from self._importing.add(batch)
        if bad is not None or not len(batch) or self._gathered.full or self.due():
            yield from self._push()
        if bad is not None:
            raise bad

    def finish(self) -> Operation[Imported]:
        """Push what is left."""
        yield from self._push()
        return Imported(self._importing.done, self._late, tuple(sorted(self._outgrown)))

    def _push(self) -> Operation[None]:
        gathered, outgrown = self._gathered, self._outgrown
        if gathered.empty:
            return
        began = self._clock()
        refused = yield from gathered.push()
        self._late += sum(refused.values())
        # At each push, as there may be more buckets and periods than can be remembered.
        new = [at for at in gathered.past if at[0] not in outgrown]
        outgrown.update((yield from self._find_outgrown(new)))
        self._pushed = self._clock()
        pause = min(_PAUSE_TO_PUSH * (self._pushed - began), _LONGEST_PAUSE_S)
        self._pause = max(_PUSH_EVERY_S, pause)
        if self._progress is not None:
            self._progress(self._importing.done)
