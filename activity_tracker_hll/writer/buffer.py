"""The buffer: what a writer keeps of one data set between two pushes.

No sockets and no threads of its own. Callers append to the queues of the :mod:`.intake`; :meth:`Buffer.fold`
takes what is in the queues into registers; :meth:`Buffer.depart` hands out what has to be sent,
:meth:`Buffer.arrive` and :meth:`Buffer.give_back` take back what became of it.

What is established here:

- ``tracked == pushed + pending + dropped + late`` at any moment: events move from one number to the next
  under the lock.
- An event belongs to the window in which it was appended: queues are emptied before the window turns.
- An id is added where it goes before it leaves where it was: a leaving waits until the addition is folded,
  and pushes send additions first.
- Memory is bounded; what does not fit is counted as dropped.

Threads: callers append, the folder folds, the pusher folds, departs and arrives. Everything but the intake is
used under the lock, which is never held while anybody waits for the network. Side tables belong to the pusher
alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import compress
from operator import not_
from random import Random
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

from .. import bulk
from ..errors import ActivityTrackerError, BackendError
from ..hll.registers import Hashes, Registers, empty, fold
from ..operations import Context, DataSet
from ..operations.base import PeriodBucket
from ..operations.tracking.side_table import Seen, Stamps
from ..operations.tracking.unite import Load, Outcome
from .bucket_state import BucketState
from .intake import Append, Intake, Marker, Queue
from .window import Window

__all__ = ["Buffer", "Limits", "Numbers"]

P = ParamSpec("P")
T = TypeVar("T")
_MOST_HASHES = 1 << 20
"""Ids, 8 bytes each, that are remembered in case they return to a bucket; for a while, twice as many."""
_MOST_PARTS = 16


class Limits(NamedTuple):
    """What a buffer may take.

    Attributes:
        sketches: buckets in periods that are kept at once. Each takes up to 48 KiB.
        moves: ids on the move that are kept at once; as many that the server has are remembered.
        refresh_us: microseconds, in the mean, after which all of a bucket is sent again: a server that lost
            it without a trace, to eviction say, has it again then.
    """

    sketches: int
    moves: int
    refresh_us: int


class Numbers(NamedTuple):
    """Events, see :class:`~.statistics.Statistics`."""

    tracked: int
    pushed: int
    pending: int
    dropped: int
    late: int


class Buffer:
    """Events of one data set, on their way to the server.

    Args:
        context: what keys and ids are made with.
        data: what is known of the server.
        kinds: kinds of period of events that do not say theirs.
        random: spreads refreshes over time.
        make: called for a bucket that has no queue.

    Attributes:
        lock: see above.
        intake: what callers append to.
        sketches: whether the server takes sketches; else ids are sent. None = not known yet: nothing can
            be folded.
        is_refreshed: whether some of what departed last is sent again without a reason.
        has_news: whether an id left since it was looked at last: others should hear of it soon.
    """

    def __init__(
        self,
        context: Context,
        data: DataSet,
        kinds: Sequence[str],
        limits: Limits,
        random: Random,
        make: Callable[[str | None], Append],
    ) -> None:
        self._context = context
        self._data = data
        self._kinds = kinds
        self._limits = limits
        self._random = random
        self.lock = threading.RLock()
        self.intake = Intake(limits.sketches, make)
        self.sketches: bool | None = None
        self.has_news = self.is_refreshed = False
        self._taken_at = data.clock.ticks()
        self._floors: dict[str | None, int] = {}
        self._window: Window | None = None
        self._registers: dict[str | None, Registers] = {}  # of the window
        self._states: dict[PeriodBucket, BucketState] = {}
        self._departed: dict[PeriodBucket, BucketState] = {}
        self._inherited: list[tuple[str | None, Queue]] = []
        self._hashes = self._new_moves = 0
        self._crowded = False
        self._folded = self._pushed = self._dropped = self._late = 0

    # Callers

    def open(self, now: float) -> None:
        """There is a first event: its periods are those that run now."""
        if self._window is None:
            self._taken_at = self._data.clock.ticks()
            self._window = Window.at(self._context.calendar, self._kinds, now)

    # Numbers

    @property
    def until(self) -> float | None:
        """When the window has to be looked at; None before the first event."""
        return None if self._window is None else self._window.until

    @property
    def dropped(self) -> int:
        """Events that were dropped."""
        return self._dropped

    def numbers(self) -> Numbers:
        """What became of the events."""
        with self.lock:
            queued = self.intake.events_of(len(self._kinds))
            pending = sum(state.events for state in self._states.values())
            return Numbers(self._folded + queued, self._pushed, pending + queued, self._dropped, self._late)

    # Folding

    def fold(self, now: float) -> list[ActivityTrackerError]:
        """Take what is in the queues; returns what was wrong with some of it."""
        if self.sketches is None:
            return []
        with self.lock:
            self.open(now)
            errors: list[ActivityTrackerError] = []
            self._crowded = False
            taken_at = self._data.clock.ticks()
            while waiting := self._fold_queues(*self.intake.take(), errors):
                for bucket, events in waiting:
                    self.intake.put_back(bucket, events)
            self._taken_at = taken_at
            # What was marked after that comes before what is appended to the same queue from now on.
            self._floors = {bucket: floor for bucket, floor in self._floors.items() if floor > taken_at}
            self._turn(now)
            if self._hashes > 2 * _MOST_HASHES:
                self._thin_out()
            return errors

    def _turn(self, now: float) -> None:
        """Look whether periods have ended: what their buckets hold stays theirs, the window begins anew."""
        before = self._window
        assert before is not None  # noqa: S101 (for the type checker)
        if before.contains(now):
            return
        self._window = Window.at(self._context.calendar, self._kinds, now)
        if self._window.periods == before.periods:
            return
        for bucket, registers in self._registers.items():
            for period in before.periods:
                if (period, bucket) in self._states:
                    self._states[period, bucket].raise_to(registers)
        self.intake.retire(self._registers.keys())
        self._registers = {}

    def _fold_queues(
        self, taken: Sequence[tuple[str | None, Queue]], lost: int, errors: list[ActivityTrackerError]
    ) -> list[tuple[str | None, Queue]]:
        """Fold what was taken; returns what has to wait for something that is in a queue still."""
        if lost:
            self._folded += lost * len(self._kinds)
            self._dropped += lost * len(self._kinds)
        marked: Sequence[tuple[str | None, Queue]] = ()
        if self.intake.marked:
            which = [Marker in map(type, events) for _, events in taken]
            marked, taken = list(compress(taken, which)), list(compress(taken, map(not_, which)))
        waiting = [
            (bucket, rest) for bucket, events in marked if (rest := self._fold_marked(bucket, events, errors))
        ]
        if taken and not self._fold_together(taken):
            for bucket, events in taken:
                self._fold_ids(bucket, events, self._since(bucket), errors)
        return waiting

    def _happened(self, marker: Marker) -> int:
        """Ticks when it happened: asked for when the server's clock is known, as far as that can be."""
        return marker.ticks if marker.stamp is None else self._data.clock.ticks_of(marker.stamp)

    def _since(self, bucket: str | None) -> int:
        """Ticks before which nothing in a bucket's queue was appended."""
        return max(self._taken_at, self._floors.get(bucket, self._taken_at))

    def _fold_together(self, taken: Sequence[tuple[str | None, Queue]]) -> bool:
        """Fold queues of nothing but ids; not done if there is one that is none."""
        if not self.sketches:
            return False
        together = taken[0][1] if len(taken) == 1 else [id for _, ids in taken for id in ids]
        try:
            hashes = bulk.all_hashes(self._context.ids, together)
        except ActivityTrackerError:
            return False
        start = 0
        for bucket, ids in taken:
            self._add(bucket, None, hashes[start : start + len(ids)], self._since(bucket))
            start += len(ids)
        return True

    def _fold_marked(self, bucket: str | None, events: Queue, errors: list[ActivityTrackerError]) -> Queue:
        """Fold events among which there are markers; returns those that have to wait.

        What follows a marker in the queue came after it.
        """
        ids: Queue = []
        since: list[Stamps] = []
        added: dict[tuple[str, ...] | None, list[Marker]] = {}
        leaving: dict[tuple[str, ...] | None, list[Marker]] = {}
        start, now, waiting = 0, self._since(bucket), []
        for at in [at for at, kind in enumerate(map(type, events)) if kind is Marker]:
            ids += events[start:at]
            since.append(np.full(at - start, now))
            start = at + 1
            marker: Marker = events[at]
            if marker.after is not None and not marker.after.folded:
                start, waiting = len(events), events[at:]
                break
            (leaving if marker.leaves else added).setdefault(marker.periods, []).append(marker)
            marker.folded = True
            now = self._floors[bucket] = max(now, marker.ticks)
        ids += events[start:]
        since.append(np.full(len(events) - start, now))
        self._fold_ids(bucket, ids, np.concatenate(since), errors)
        for periods, markers in added.items():
            encoded = [marker.id for marker in markers]
            when = np.array(list(map(self._happened, markers)), np.int64)
            self._add(bucket, periods, bulk.hashes_of_bytes(encoded), when, encoded)
        for periods, markers in leaving.items():
            self._leave(bucket, periods, markers)
        return waiting

    def _fold_ids(
        self, bucket: str | None, ids: Queue, since: int | Stamps, errors: list[ActivityTrackerError]
    ) -> None:
        if not ids:
            return
        try:
            if self.sketches:
                self._add(bucket, None, bulk.all_hashes(self._context.ids, ids), since)
                return
            encoded = self._context.ids.many(ids)
        except ActivityTrackerError:
            encoded, good = [], []
            for at, id in enumerate(ids):
                try:
                    encoded.append(self._context.ids.one(id))
                    good.append(at)
                except ActivityTrackerError as error:
                    errors.append(error)
                    self._folded += len(self._kinds)
                    self._dropped += len(self._kinds)
            since = np.broadcast_to(np.asarray(since), len(ids))[good]
        self._add(bucket, None, bulk.hashes_of_bytes(encoded), since, encoded)

    def _names(self, periods: tuple[str, ...] | None) -> tuple[str, ...]:
        assert self._window is not None  # noqa: S101 (for the type checker)
        return self._window.periods if periods is None else periods

    def _add(
        self,
        bucket: str | None,
        periods: tuple[str, ...] | None,
        hashes: Hashes,
        since: int | Stamps,
        ids: Sequence[bytes] = (),
    ) -> None:
        """Ids were active, not before `since`."""
        if not len(hashes):
            return
        names = self._names(periods)
        self._folded += len(hashes) * len(names)
        kept = [state for name in names if (state := self._state((name, bucket), len(hashes))) is not None]
        if not kept:
            return
        seen = Seen(hashes, since)
        for state in kept:
            state.waiting.events += len(hashes)
            state.waiting.seen.append(seen)
            if not self.sketches:
                ticks = np.broadcast_to(np.asarray(since), len(ids)).tolist()
                state.waiting.ids += zip(ids, ticks, strict=True)
        self._hashes += len(hashes)
        if not self.sketches:
            return
        if periods is None:  # one fold for all periods
            registers = self._registers.get(bucket)
            if registers is None:
                registers = self._registers[bucket] = empty()
            fold(registers, hashes)
        else:
            for state in kept:
                state.fold(hashes)

    def _leave(self, bucket: str | None, periods: tuple[str, ...] | None, markers: Sequence[Marker]) -> None:
        """Ids left, in this order."""
        hashes = bulk.hashes_of_bytes([marker.id for marker in markers])
        for name in self._names(periods):
            self._folded += len(markers)
            state = self._state((name, bucket), len(markers))
            if state is None:
                continue
            room = self._limits.moves - self._new_moves
            before = state.moves.new
            taken = []
            for marker, hash in zip(markers, hashes.tolist(), strict=True):
                taken.append(state.moves.new - before < room or state.moves.is_new(marker.id))
                if taken[-1]:
                    state.moves.leave(marker.id, hash, self._happened(marker))
            self._new_moves += state.moves.new - before
            self._dropped += taken.count(False)
            state.waiting.events += taken.count(True)
            self.has_news = True
            if self.sketches:  # the server adds them too, but might lose them
                state.fold(hashes[taken])

    def _state(self, target: PeriodBucket, events: int) -> BucketState | None:
        """The state of a bucket and period; None if there are too many, and its events are dropped."""
        state = self._states.get(target)
        if state is None:
            if len(self._states) >= self._limits.sketches:
                self._make_room()
            if len(self._states) >= self._limits.sketches:
                self._dropped += events
                return None
            state = self._states[target] = BucketState()
        return state

    def _make_room(self) -> None:
        """Forget, once a fold, what the server has of buckets that nobody uses in this window."""
        if not self._crowded:
            self._crowded = True
            for target, state in list(self._states.items()):
                if state.is_idle and target[1] not in self._registers:
                    del self._states[target]

    def _thin_out(self) -> None:
        """Each hash once, in one array a bucket, and no more than may be: returns of others go unseen."""
        thinned: dict[tuple[int, ...], Seen] = {}
        total = 0
        for state in self._states.values():
            seen = state.waiting.seen
            if not seen or not self.sketches:
                continue
            key = tuple(map(id, seen))  # periods of a bucket share them
            if key not in thinned:
                room = max(_MOST_HASHES - total, 0)
                hashes, since = _latest(seen)
                thinned[key] = Seen(hashes[:room], since[:room])
                total += len(thinned[key].hashes)
            state.waiting.seen = [thinned[key]]
        self._hashes = total

    # Pushing

    def doubt(self) -> None:
        """The server may have lost what it acknowledged: send everything again."""
        with self.lock:
            for state in self._states.values():
                state.doubt()

    def has_departures(self) -> bool:
        """Whether there is something to send now."""
        with self.lock:
            now = self._data.clock.ticks()
            return any(not state.is_idle or _is_due(state, now) for state in self._states.values())

    def depart(self) -> dict[PeriodBucket, Load]:
        """What is to be sent. Each load has to arrive or to be given back before the next call."""
        with self.lock:
            clock = self._data.clock
            now = clock.ticks()
            loads: dict[PeriodBucket, Load] = {}
            self.is_refreshed = False
            for target, state in self._states.items():
                if _is_due(state, now):
                    self.is_refreshed = True
                    state.doubt()
                if state.refresh_at is None or state.refresh_at <= now:
                    state.refresh_at = now + round(self._limits.refresh_us * self._random.uniform(0.5, 1.5))
                if not state.is_idle:
                    running = target[0] in self._names(None)
                    window = self._registers.get(target[1]) if running else None
                    load = loads[target] = state.depart(window, clock, sketches=bool(self.sketches))
                    # Called amid a push, when the lock is not held.
                    load.all_moves = self._locked(partial(state.moves.stamps, clock, everything=True))
                    load.note_returned = self._locked(partial(state.moves.remember, clock=clock))
                    self._departed[target] = state
            self._hashes = sum(len(part.hashes) for part in self._parts())
            return loads

    def _locked(self, call: Callable[P, T]) -> Callable[P, T]:
        def locked(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.lock:
                return call(*args, **kwargs)

        return locked

    def arrive(self, outcomes: Mapping[PeriodBucket, Outcome]) -> list[BackendError]:
        """Take in what became of loads; returns what went wrong."""
        errors: list[BackendError] = []
        with self.lock:
            remembered = sum(len(state.moves) - state.moves.new for state in self._states.values())
            for target, outcome in outcomes.items():
                if outcome.error is not None:
                    errors.append(outcome.error)
                    continue
                state = self._departed.pop(target)
                if outcome.late:
                    self._late += state.refuse()
                    continue
                keep = remembered + state.moves.new <= self._limits.moves
                remembered += state.moves.new if keep else 0
                self._pushed += state.arrive(outcome, keep_moves=keep)
                if outcome.vanished:
                    state.doubt()
            self._forget()
        return errors

    def give_back(self) -> None:
        """Whatever has departed and not arrived is to be sent again."""
        with self.lock:
            for state in self._departed.values():
                state.give_back()
            self._departed = {}
            self._tidy()

    def _forget(self) -> None:
        """Periods that ended, once everything of theirs is sent."""
        running = self._names(None)
        for target in [target for target, state in self._states.items() if state.is_idle]:
            if target[0] not in running:
                del self._states[target]

    def _tidy(self) -> None:
        """Count anew what has to stay bounded."""
        states = self._states.values()
        self._hashes = sum(len(part.hashes) for part in self._parts())
        if max((len(state.waiting.seen) for state in states), default=0) > _MOST_PARTS:
            self._thin_out()
        self._new_moves = sum(state.moves.new for state in states)

    def _parts(self) -> Iterable[Seen]:
        """All that was seen, once; periods of a bucket share it."""
        return {id(part): part for state in self._states.values() for part in state.waiting.seen}.values()

    # Forks

    def after_fork(self) -> None:
        """In the child, which has no other threads yet."""
        self.lock = threading.RLock()
        self._inherited += self.intake.reset()
        for state in self._states.values():
            state.disown()
        self._folded = self._pushed = self._dropped = self._late = 0

    def adopt(self, now: float) -> None:
        """Take over what was there before the fork.

        It counts as the parent's, but that it is sent twice does no harm.
        """
        with self.lock:
            self.open(now)
            if self.sketches is None:
                self.sketches = True
            self.give_back()
            inherited, self._inherited = self._inherited, []
            while inherited:
                inherited = self._fold_queues(inherited, 0, [])
            for state in self._states.values():
                state.waiting.events = 0
            self._folded = self._pushed = self._dropped = self._late = 0
            self._tidy()


def _is_due(state: BucketState, now: int) -> bool:
    return state.refresh_at is not None and state.refresh_at <= now


def _latest(parts: Sequence[Seen]) -> tuple[Hashes, Stamps]:
    """Each id once, where it was seen last."""
    hashes = np.concatenate([part.hashes for part in parts])
    since = np.concatenate([np.broadcast_to(np.asarray(part.since), len(part.hashes)) for part in parts])
    order = np.lexsort((-since, hashes))
    distinct, first = np.unique(hashes[order], return_index=True)
    return distinct, since[order][first]
