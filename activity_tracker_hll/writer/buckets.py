"""All buckets and periods that a writer keeps, within bounds.

Invariants established here:

- Memory is bounded: bucket states, ids that moved and remembered hashes. For what does not fit, the caller is
  told so, and counts it as dropped.
- What was folded into the window's registers is sent under the window's periods: when the window changes, the
  registers go to the states of the periods that they were folded for.
- The state of a period that has ended is released as soon as the server has everything of it.

Used under the buffer's lock: by the drainer, which adds, and by the pusher, which takes and acknowledges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

import numpy as np

from ..hll.registers import Hashes, Registers, empty, fold
from ..operations.base import PeriodBucket
from ..operations.tracking.side_table import Seen, Stamps
from ..periods import Calendar
from .bucket_state import BucketState
from .window import Window

__all__ = ["MAX_HASHES", "Buckets", "Leaving", "Limits"]

MAX_HASHES = 1 << 20
"""Ids, 8 bytes each, that are remembered in case they return to a bucket; for a while, twice as many."""
_MAX_PARTS = 16


class Limits(NamedTuple):
    """What a writer may keep of one data set.

    Attributes:
        sketches: buckets in periods at once. Each takes up to 48 KiB.
        moves: unacknowledged moves at once; as many acknowledged ones are remembered.
        refresh_us: microseconds, in the mean, after which all of a bucket is sent again: a server that lost
            it without a trace, to eviction say, has it again then.
    """

    sketches: int
    moves: int
    refresh_us: int


class Leaving(NamedTuple):
    """An id that leaves a bucket.

    Attributes:
        id: encoded.
        hash: of it.
        ticks: when.
    """

    id: bytes
    hash: int
    ticks: int


class Buckets(Mapping[PeriodBucket, BucketState]):
    """The state of each bucket and period, and the registers of the window.

    Args:
        calendar: finds the running periods.
        kinds: kinds of period of events that do not name theirs.
        random: spreads refreshes over time.

    Attributes:
        takes_sketches: whether the server takes sketches; else ids are kept. None = not known yet.
    """

    def __init__(self, calendar: Calendar, kinds: Sequence[str], limits: Limits, random: Random) -> None:
        self._calendar = calendar
        self._kinds = kinds
        self._limits = limits
        self._random = random
        self.takes_sketches: bool | None = None
        self._window: Window | None = None
        self._window_registers: dict[str | None, Registers] = {}
        self._states: dict[PeriodBucket, BucketState] = {}
        self._remembered_hashes = self._new_moves = 0
        self._made_room = False

    def __getitem__(self, target: PeriodBucket) -> BucketState:
        return self._states[target]

    def __iter__(self) -> Iterator[PeriodBucket]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    # Window

    @property
    def window(self) -> Window | None:
        """The running periods; None before the first event."""
        return self._window

    def open_window(self, now: float) -> None:
        """Determine the running periods for the first time."""
        self._window = Window.at(self._calendar, self._kinds, now)

    def update_window(self, now: float) -> Collection[str | None] | None:
        """Determine the running periods anew if they may have changed.

        Returns:
            The buckets that were active in the window before; None if the periods are the same.
        """
        before = self._window
        assert before is not None  # noqa: S101 (for the type checker)
        if before.contains(now) and before.revision == self._calendar.revision:
            return None
        self._window = Window.at(self._calendar, self._kinds, now)
        if self._window.periods == before.periods:
            return None
        ended, self._window_registers = self._window_registers, {}
        for bucket, registers in ended.items():
            for period in before.periods:
                if (period, bucket) in self._states:
                    self._states[period, bucket].raise_to(registers)
        self.release_ended()
        return ended.keys()

    def follow_calendar(self, now: float) -> None:
        """If it has adopted another zone meanwhile, what waits in the queues belongs to its periods."""
        if self._window is not None and self._window.revision != self._calendar.revision:
            self.update_window(now)

    def names(self, periods: tuple[str, ...] | None) -> tuple[str, ...]:
        """Names of periods; None = the running ones."""
        assert self._window is not None  # noqa: S101 (for the type checker)
        return self._window.periods if periods is None else periods

    # Adding

    def begin(self) -> None:
        """A round of additions begins: room may be made once."""
        self._made_room = False

    def add(
        self, bucket: str | None, periods: tuple[str, ...] | None, seen: Seen, ids: Sequence[bytes]
    ) -> int:
        """Ids were active.

        Args:
            periods: names; None = the running ones.
            ids: the same ids encoded; needed only where the server takes no sketches.

        Returns:
            For how many periods there was no room.
        """
        names, count = self.names(periods), len(seen.hashes)
        kept = [state for name in names if (state := self._state((name, bucket))) is not None]
        if not kept:
            return len(names)
        for state in kept:
            state.unsent.count += count
            state.unsent.seen.append(seen)
            if not self.takes_sketches:
                ticks = np.broadcast_to(np.asarray(seen.since), count).tolist()
                state.unsent.ids += zip(ids, ticks, strict=True)
        self._remembered_hashes += count
        if not self.takes_sketches:
            pass
        elif periods is None:  # folded once for all periods
            registers = self._window_registers.get(bucket)
            if registers is None:
                registers = self._window_registers[bucket] = empty()
            fold(registers, seen.hashes)
        else:
            for state in kept:
                state.fold(seen.hashes)
        return len(names) - len(kept)

    def leave(self, bucket: str | None, period: str, leaving: Sequence[Leaving]) -> int:
        """Ids left, in this order; returns for how many there was no room."""
        state = self._state((period, bucket))
        if state is None:
            return len(leaving)
        room = self._limits.moves - self._new_moves
        before = state.moves.new
        kept = []
        for event in leaving:
            if state.moves.new - before < room or state.moves.is_new(event.id):
                state.moves.leave(*event)
                kept.append(event.hash)
        self._new_moves += state.moves.new - before
        state.unsent.count += len(kept)
        if kept and self.takes_sketches:  # the server adds them too, but might lose them
            state.fold(np.array(kept, np.uint64))
        return len(leaving) - len(kept)

    def _state(self, target: PeriodBucket) -> BucketState | None:
        """The state of a bucket and period; None if there is no room for it."""
        state = self._states.get(target)
        if state is None:
            if len(self._states) >= self._limits.sketches:
                self._make_room()
            if len(self._states) >= self._limits.sketches:
                return None
            state = self._states[target] = BucketState()
        return state

    # Pushing

    def next_refresh(self, now: int) -> int:
        """Ticks at which a bucket is to be sent again without a reason."""
        return now + round(self._limits.refresh_us * self._random.uniform(0.5, 1.5))

    def registers(self, target: PeriodBucket) -> Registers | None:
        """The window's registers of a bucket, if the period runs."""
        period, bucket = target
        return self._window_registers.get(bucket) if period in self.names(None) else None

    def room_for_moves(self) -> int:
        """How many more acknowledged moves may be remembered."""
        return self._limits.moves - sum(len(state.moves) - state.moves.new for state in self._states.values())

    # Bounds

    def _make_room(self) -> None:
        """Release, once a round, idle states of buckets that nobody uses in this window."""
        if not self._made_room:
            self._made_room = True
            for target, state in list(self._states.items()):
                if state.is_idle and target[1] not in self._window_registers:
                    del self._states[target]

    def release_ended(self) -> None:
        """Release states of periods that have ended, if the server has everything of theirs."""
        running = self.names(None)
        ended = [target for target in self._states if target[0] not in running]
        for target in ended:
            if self._states[target].is_idle:
                del self._states[target]

    def limit_hashes(self) -> None:
        """Thin out the remembered hashes if they are too many."""
        if self._remembered_hashes > 2 * MAX_HASHES:
            self._thin_out()

    def recount(self) -> None:
        """Count what is bounded anew, after a push took of it or returned it."""
        self._remembered_hashes = sum(len(part.hashes) for part in self._parts())
        if max((len(state.unsent.seen) for state in self._states.values()), default=0) > _MAX_PARTS:
            self._thin_out()
        self._new_moves = sum(state.moves.new for state in self._states.values())

    def _parts(self) -> Iterable[Seen]:
        """All unsent hashes, each part once; the periods of a bucket share them."""
        return {id(part): part for state in self._states.values() for part in state.unsent.seen}.values()

    def _thin_out(self) -> None:
        """Keep each hash once, in one array a bucket, and no more than fit: returns of others go unseen."""
        thinned: dict[tuple[int, ...], Seen] = {}
        total = 0
        for state in self._states.values():
            seen = state.unsent.seen
            if not seen or not self.takes_sketches:
                continue
            key = tuple(map(id, seen))  # periods of a bucket share them
            if key not in thinned:
                room = max(MAX_HASHES - total, 0)
                hashes, since = _latest(seen)
                thinned[key] = Seen(hashes[:room], since[:room])
                total += len(thinned[key].hashes)
            state.unsent.seen = [thinned[key]]
        self._remembered_hashes = total


def _latest(parts: Sequence[Seen]) -> tuple[Hashes, Stamps]:
    """Each hash once, with the latest of its `since`."""
    hashes = np.concatenate([part.hashes for part in parts])
    since = np.concatenate([np.broadcast_to(np.asarray(part.since), len(part.hashes)) for part in parts])
    # A third of the time that np.lexsort and np.unique take: one sort, in no particular order of equals.
    order = np.argsort(hashes)
    hashes = hashes.take(order)
    first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1]))
    return hashes.take(first), np.maximum.reduceat(since.take(order), first)
