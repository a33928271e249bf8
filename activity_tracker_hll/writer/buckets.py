"""All buckets and periods that a writer keeps, within bounds.

Invariants established here:

- Memory is bounded: bucket states, ids that moved and remembered hashes. For what does not fit, the caller is
  told so, and counts it as dropped.
- What is folded for the window is sent under the window's periods: before a push, and before the window
  changes, it goes to the states of the periods that it was folded for.
- The state of a period that has ended is released as soon as the server has everything of it.
- Every state that has something to send is among those that the next push takes; a push looks at no others.

Used under the buffer's lock: by the drainer, which adds, and by the pusher, which takes and acknowledges.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..hll.compact import CompactRegisters
from ..hll.registers import Hashes, Registers
from ..operations.base import PeriodBucket
from ..operations.tracking.side_table import Seen
from ..periods import Calendar
from .bucket_state import BucketState
from .window import Window

__all__ = ["MAX_HASHES", "Buckets", "Leaving", "Limits"]

MAX_HASHES = 1 << 20
"""Ids, 8 bytes each, that are remembered in case they return to a bucket; for a while, twice as many."""
_PART = 32
"""An array of hashes takes as much as so many hashes, besides those that are in it."""
_MAX_PARTS = 16
_REFRESH_US = 100_000
"""Ten buckets a second, and no more, are sent again without a reason."""
_DUE_SPARE = 1000
"""So many more than twice the states may be scheduled before those that were released are sorted out."""
_RESEND_US = 50_000
_MOST_RESENDS = 32
"""Twenty buckets a second are sent again, because a server may have lost them or without a reason, and so
many at first. It is for the sake of servers with a thousand writers: one that has taken over from another, or
is back after an outage, has to go on serving."""


class Limits(NamedTuple):
    """What a writer may keep of one data set.

    Attributes:
        sketches: buckets in periods at once. Each takes up to 48 KiB, and less than one while few ids are in
            it.
        moves: unacknowledged moves at once; as many acknowledged ones are remembered.
        refresh_us: microseconds, in the mean, after which all of a bucket is sent again: a server that lost
            it without a trace, to eviction say, has it again then. With very many buckets it takes longer.
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
    """The state of each bucket and period, and what was folded for the window.

    Args:
        calendar: finds the running periods.
        kinds: kinds of period of events that do not name theirs.
        random: spreads what is sent without haste over time.

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
        self._folded: dict[str | None, CompactRegisters] = {}
        self._in_use: set[str | None] = set()
        """Buckets that were active in the window."""
        self._states: dict[PeriodBucket, BucketState] = {}
        self._unsent: dict[PeriodBucket, BucketState] = {}
        """Those that may have something to send."""
        self._awaiting: dict[PeriodBucket, BucketState] = {}
        """Those that have to be sent again, and whose turn has not come."""
        self._resends = float(_MOST_RESENDS)
        """How many of them may be sent at once."""
        self._counted_at: int | None = None
        self._moves: dict[PeriodBucket, tuple[int, int]] = {}
        """By state, how many moves it has that were never acknowledged, and how many that were."""
        self._remembering: dict[PeriodBucket, int] = {}
        """By state, how many hashes it keeps of what was pushed; the one pushed longest ago is the first."""
        self._due: list[tuple[int, int, PeriodBucket]] = []
        """A heap: ticks at which a state is to be sent again, unless it says otherwise by then."""
        self._due_number = 0
        self._remembered_hashes = self._remembered_pushed = self._new_moves = self._kept_moves = 0
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
        self._hand_out(before.periods)
        used, self._in_use = self._in_use, set()
        self.release_ended(self._states)
        return used

    def _hand_out(self, periods: Sequence[str]) -> None:
        """Give what was folded for periods to their states."""
        folded, self._folded = self._folded, {}
        for bucket, registers in folded.items():
            for period in periods:
                state = self._states.get((period, bucket))
                if state is not None:
                    state.raise_to(registers)

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
    ) -> list[str]:
        """Ids were active.

        Args:
            periods: names; None = the running ones.
            ids: the same ids encoded; needed only where the server takes no sketches.

        Returns:
            The names of periods for which there was no room.
        """
        names, count = self.names(periods), len(seen.hashes)
        kept: list[BucketState] = []
        no_room: list[str] = []
        for name in names:
            state = self._to_add_to((name, bucket))
            if state is None:
                no_room.append(name)
            else:
                kept.append(state)
        if not kept:
            return no_room
        for state in kept:
            state.unsent.count += count
            state.unsent.seen.append(seen)
            if not self.takes_sketches:
                ticks = np.broadcast_to(np.asarray(seen.since), count).tolist()
                state.unsent.ids += zip(ids, ticks, strict=True)
        self._remembered_hashes += count + _PART
        if periods is None:
            self._in_use.add(bucket)
        if not self.takes_sketches:
            pass
        elif periods is None:  # folded once for all periods
            folded = self._folded.get(bucket)
            if folded is None:
                folded = self._folded[bucket] = CompactRegisters()
            # One that is missing may be made before this is handed out, and then gets all of it.
            folded.fold(seen.hashes, partial(_had_by_all, kept) if len(kept) == len(names) else None)
        else:
            for state in kept:
                state.fold(seen.hashes)
        return no_room

    def leave(self, bucket: str | None, period: str, leaving: Sequence[Leaving]) -> int:
        """Ids left, in this order; returns for how many there was no room."""
        target = period, bucket
        state = self._to_add_to(target)
        if state is None:
            return len(leaving)
        room = self._limits.moves - self._new_moves
        before = state.moves.new
        kept = []
        for event in leaving:
            if state.moves.new - before < room or state.moves.is_new(event.id):
                state.moves.leave(*event)
                kept.append(event.hash)
        self._count_moves(target, state)
        state.unsent.count += len(kept)
        if kept and self.takes_sketches:  # the server adds them too, but might lose them
            state.fold(np.array(kept, np.uint64))
        return len(leaving) - len(kept)

    def _to_add_to(self, target: PeriodBucket) -> BucketState | None:
        """The state of a bucket and period, which will have something to send; None = no room for it."""
        state = self._states.get(target)
        if state is None:
            if len(self._states) >= self._limits.sketches:
                self._make_room()
            if len(self._states) >= self._limits.sketches:
                return None
            state = self._states[target] = BucketState()
        self._unsent[target] = state
        return state

    # Pushing

    def has_unsent(self, now: int, *, everything: bool) -> bool:
        """Whether :meth:`take` would find something."""
        return (
            bool(self._due and self._due[0][0] <= now)
            or bool(self._awaiting and (everything or self._may_resend(now)))
            or any(not state.is_idle for state in self._unsent.values())
        )

    def resend(self) -> None:
        """Send everything again, little by little: other processes will do the same, to the same server."""
        self._awaiting |= self._states

    def resend_to_others(self, server_of: Callable[[PeriodBucket], object]) -> None:
        """The same with what was acknowledged by another server than the one that has it now."""
        for target, state in self._states.items():
            server = server_of(target)
            if server is not None and state.server != server:
                state.server = server
                self._awaiting[target] = state

    def resend_state(self, target: PeriodBucket, state: BucketState) -> None:
        """Send everything of one again."""
        state.resend()
        self._unsent[target] = state

    def _may_resend(self, now: int) -> int:
        """How many of those that have to be sent again may be by now."""
        elapsed = 0 if self._counted_at is None else now - self._counted_at
        self._counted_at = now
        self._resends = min(self._resends + elapsed / _RESEND_US, _MOST_RESENDS)
        return int(self._resends)

    def take(self, now: int, *, everything: bool) -> tuple[dict[PeriodBucket, BucketState], bool]:
        """What has something to send at these ticks, and whether some is to be sent without a reason.

        Args:
            everything: whether all that has to be sent again is, at once.
        """
        self._hand_out(self.names(None))
        refreshes = False
        while self._due and self._due[0][0] <= now:  # after an outage, all are
            due_at, _, target = heapq.heappop(self._due)
            state = self._states.get(target)
            if state is not None and state.due_at == due_at:
                refreshes = True
                state.due_at = None
                self._awaiting[target] = state
        again = list(islice(self._awaiting, None if everything else self._may_resend(now)))
        self._resends = max(self._resends - len(again), 0)
        for target in again:
            self.resend_state(target, self._awaiting.pop(target))
        taken, self._unsent = self._unsent, {}
        taken = {target: state for target, state in taken.items() if not state.is_idle}
        for target, state in taken.items():
            if state.due_at is None:
                self._schedule(target, state, now)
        return taken, refreshes

    def _schedule(self, target: PeriodBucket, state: BucketState, now: int) -> None:
        """Choose when a state is sent again without a reason."""
        mean = max(self._limits.refresh_us, len(self._states) * _REFRESH_US)
        state.due_at = now + round(mean * self._random.uniform(0.5, 1.5))
        self._due_number += 1
        heapq.heappush(self._due, (state.due_at, self._due_number, target))
        if len(self._due) > 2 * len(self._states) + _DUE_SPARE:  # most are of states that were released
            self._due = [
                entry
                for entry in self._due
                if (of := self._states.get(entry[2])) is not None and of.due_at == entry[0]
            ]
            heapq.heapify(self._due)

    def return_state(self, target: PeriodBucket, state: BucketState) -> None:
        """One that was taken has something to send again."""
        self._unsent[target] = state
        self._count_moves(target, state)

    def acknowledged(self, target: PeriodBucket, state: BucketState) -> None:
        """Note that one has been pushed; what would exceed the bounds is forgotten."""
        self._count_moves(target, state)
        self._remember(target, state)
        most = MAX_HASHES * max(len(self._kinds), 1)  # the periods of a bucket share them
        while self._remembered_pushed > most:
            oldest = next(iter(self._remembering))
            if oldest == target:
                state.forget_pushed(but_last=True)
                self._remember(target, state)
                break
            self._states[oldest].forget_pushed()
            self._remember(oldest, self._states[oldest])

    def _remember(self, target: PeriodBucket, state: BucketState) -> None:
        """Count the hashes that a state keeps of what was pushed; it is the one that was pushed last."""
        self._remembered_pushed -= self._remembering.pop(target, 0)
        if kept := state.remembered:
            self._remembering[target] = kept
            self._remembered_pushed += kept

    def room_for_moves(self) -> int:
        """How many more acknowledged moves may be remembered."""
        return self._limits.moves - self._kept_moves

    def _count_moves(self, target: PeriodBucket, state: BucketState | None) -> None:
        """Count the moves of a state, which may have changed; None = it is released."""
        new, kept = self._moves.pop(target, (0, 0))
        self._new_moves -= new
        self._kept_moves -= kept
        if state is not None and state.has_moves:
            new, kept = self._moves[target] = state.moves.new, len(state.moves) - state.moves.new
            self._new_moves += new
            self._kept_moves += kept

    # Bounds

    def _make_room(self) -> None:
        """Release, once a round, idle states of buckets that nobody uses in this window."""
        if not self._made_room:
            self._made_room = True
            unused = (target for target in self._states if target[1] not in self._in_use)
            # What is unsent may be idle yet, and about to be added to.
            self._release(target for target in unused if target not in self._unsent)

    def release_ended(self, targets: Iterable[PeriodBucket]) -> None:
        """Release those of periods that have ended, if the server has everything of theirs."""
        running = self.names(None)
        self._release(target for target in targets if target[0] not in running)

    def _release(self, targets: Iterable[PeriodBucket]) -> None:
        for target in list(targets):
            state = self._states.get(target)
            if state is not None and state.is_idle and target not in self._awaiting:
                del self._states[target]
                self._unsent.pop(target, None)
                self._count_moves(target, None)
                self._remembered_pushed -= self._remembering.pop(target, 0)

    def limit_hashes(self) -> None:
        """Thin out the remembered hashes if they are too many."""
        if self._remembered_hashes > 2 * MAX_HASHES + _PART * len(self._states):
            self._thin_out()

    def recount(self, pushed: Mapping[PeriodBucket, BucketState]) -> None:
        """Count what is bounded anew, after a push took these states or returned them."""
        self._remembered_hashes = sum(len(part.hashes) + _PART for part in self._parts())
        if max((len(state.unsent.seen) for state in self._unsent.values()), default=0) > _MAX_PARTS:
            self._thin_out()
        for target, state in pushed.items():
            self._count_moves(target, state)

    def _parts(self) -> Iterable[Seen]:
        """All unsent hashes, each part once; the periods of a bucket share them."""
        return {id(part): part for state in self._unsent.values() for part in state.unsent.seen}.values()

    def _thin_out(self) -> None:
        """Keep each hash once, in one array a bucket, and no more than fit: returns of others go unseen."""
        thinned: dict[tuple[int, ...], Seen] = {}
        total = 0
        for state in self._unsent.values():
            seen = state.unsent.seen
            if not seen or not self.takes_sketches:
                continue
            key = tuple(map(id, seen))  # periods of a bucket share them
            if key not in thinned:
                thinned[key] = _latest(seen, max(MAX_HASHES - total, 0))
                total += len(thinned[key].hashes)
            state.unsent.seen = [thinned[key]]
        self._remembered_hashes = total + _PART * len(thinned)


def _had_by_all(states: Sequence[BucketState]) -> Registers | None:
    """Registers that the server has of all of them; None if it may have nothing of one."""
    had = [state.acknowledged.dense() for state in states if state.acknowledged is not None]
    return np.minimum.reduce(had) if len(had) == len(states) else None


def _latest(parts: Sequence[Seen], most: int) -> Seen:
    """Each hash once, with the latest of its `since`; only so many, which are any of them."""
    # To sort takes numpy a fifth of the time of finding an order: at first, those that are of one time.
    parts = [part if isinstance(part.since, np.ndarray) else _distinct(part) for part in parts]
    if len(parts) == 1 and not isinstance(parts[0].since, np.ndarray):
        return Seen(parts[0].hashes[:most].copy(), parts[0].since)  # no view, which would keep all of them
    hashes = np.concatenate([part.hashes for part in parts])
    since = np.concatenate([np.broadcast_to(np.asarray(part.since), len(part.hashes)) for part in parts])
    # A third of the time that np.lexsort and np.unique take: one sort, in no particular order of equals.
    order = np.argsort(hashes)
    hashes = hashes.take(order)
    first = _firsts(hashes)
    return Seen(hashes.take(first[:most]), np.maximum.reduceat(since.take(order), first)[:most].copy())


def _distinct(part: Seen) -> Seen:
    """Each hash once."""
    hashes = np.sort(part.hashes)
    return Seen(hashes[_firsts(hashes)], part.since)


def _firsts(hashes: Hashes) -> NDArray[np.intp]:
    """The places of the first ones of equal hashes, which are sorted."""
    return np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
