"""What a high-volume writer keeps between two pushes: registers, moves, and what the server has of them.

No sockets, clocks or threads of its own. Callers append to *lanes*, one for each bucket, without a
lock; :meth:`Buffer.fold` takes what is in the lanes into registers, :meth:`Buffer.push` sends the
registers that rose. Registers only grow and their union is idempotent, so a push that failed, or
of which nobody knows whether it arrived, is made good by sending more.

An id that leaves a bucket is kept exactly. What counts for an id is the last thing that happened to it
in the bucket: the order of a lane is the order of its events.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from math import inf
from operator import not_
from random import Random
from typing import Any, NamedTuple, cast

import numpy as np

from .. import bulk
from ..backends.base import Command, Reply
from ..errors import ActivityTrackerError, BackendError, BackendResponseError, MalformedSketchError
from ..hll import codec
from ..hll.registers import Hashes, Registers, empty, fold
from .base import Context, Operation, batched, items, named
from .pending import Place, merge_call, recent_moves, write_call

__all__ = ["Buffer", "Marker", "Statistics"]

_IDS_PER_CALL = 1000
_SKETCHES_PER_BATCH = 64
_MOST_HASHES = 1 << 20
"""Ids, 8 bytes each, that are remembered until the next push in case they return to a bucket; for a while,
twice as many."""
_MOST_PARTS = 16
_TICKS_DIFFER_S = 2.0
"""What a clock of ours and the server's may differ by, in telling the same moment."""
_LONGEST_LAG_S = 120
"""A replica that is further behind than this is not made a master."""
_RUN_ID = re.compile(rb"run_id:(\w+)")

Lane = list[Any]
"""Events of one bucket in their order: ids, and markers for what is more than an id."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What became of the events of a writer.

    All numbers but `bytes` count an event once for each of its periods, a move once for each bucket:
    ``tracked == pushed + pending + dropped + late``.

    Attributes:
        tracked: taken by track and its kin.
        pushed: acknowledged by the server.
        pending: not acknowledged yet.
        dropped: lost: too many buckets or moves at once, or no valid id.
        late: refused by a period that was collapsed and whose sketches are gone.
        bytes: size of all that was sent, without the protocol's own overhead.
        last_error: what went wrong last; None once all is well again.
    """

    tracked: int
    pushed: int
    pending: int
    dropped: int
    late: int
    bytes: int
    last_error: Exception | None


@dataclass(eq=False, slots=True)
class Marker:
    """An event in a lane that is more than an id that is active now.

    Attributes:
        id: as it is counted.
        when: ticks at the event.
        periods: names of the periods; None = those that run when the lane is folded.
        removes: the id leaves the bucket.
        after: what has to be folded first: an id is added where it goes before it leaves.
        folded: whether it is.
    """

    id: bytes
    when: float
    periods: tuple[str, ...] | None = None
    removes: bool = False
    after: Marker | None = None
    folded: bool = False


@dataclass(frozen=True, slots=True)
class _Window:
    """The running periods of a writer's kinds, one each: from when until when none of them changes."""

    periods: tuple[str, ...]
    since: float
    until: float


class _Seen(NamedTuple):
    """Ids that were active, none of them before `since`: ticks, one for all or one for each."""

    hashes: Hashes
    since: Any

    @classmethod
    def together(cls, parts: Sequence[_Seen]) -> _Seen:
        """All of them, with ticks for each."""
        since = [np.broadcast_to(np.float64(part.since), len(part.hashes)) for part in parts]
        return cls(np.concatenate([part.hashes for part in parts]), np.concatenate(since))

    def latest(self) -> _Seen:
        """Each id once, where it was seen last."""
        hashes, places = np.unique(self.hashes[::-1], return_index=True)
        return _Seen(hashes, self.since[::-1][places])


class _Removed(NamedTuple):
    """An id that leaves, and when."""

    hash: int
    when: float


@dataclass(slots=True)
class _Flight:
    """What a push takes along for one place, besides registers."""

    events: int = 0
    seen: list[_Seen] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    removed: dict[bytes, _Removed] = field(default_factory=dict)
    cancelled: dict[bytes, _Removed] = field(default_factory=dict)

    @property
    def moves(self) -> int:
        """Ids that left, or that left and are back."""
        return len(self.removed) + len(self.cancelled)

    def remove(self, id: bytes, removed: _Removed) -> None:
        """An id that leaves."""
        self.cancelled.pop(id, None)
        self.removed[id] = removed

    def add(self, seen: _Seen, ids: Sequence[bytes] = ()) -> None:
        """Events of ids that are active: whatever removed them before has no effect any more.

        If the server has it all the same, of a push that failed, they are back.
        """
        self.events += len(seen.hashes)
        self.seen.append(seen)
        self.ids += ids
        if self.removed:
            active = set(seen.hashes.tolist())
            for id in [id for id, removed in self.removed.items() if removed.hash in active]:
                self.cancelled[id] = self.removed.pop(id)

    def before(self, later: _Flight) -> _Flight:
        """This one, which comes back, and what happened since."""
        both = replace(
            self,
            seen=list(self.seen),
            ids=list(self.ids),
            removed=dict(self.removed),
            cancelled=dict(self.cancelled),
        )
        for seen in later.seen:
            both.add(seen)
        both.events = self.events + later.events
        both.ids += later.ids
        both.cancelled |= later.cancelled
        for id, removed in later.removed.items():
            both.remove(id, removed)
        return both


@dataclass(frozen=True, slots=True)
class _Moved:
    """An id that left a bucket, when; whether it is back, and since when it is out or back."""

    hash: int
    when: float
    since: float
    back: bool = False


@dataclass(slots=True)
class _State:
    """A bucket in one period.

    Attributes:
        known: registers the server has acknowledged.
        rest: registers beside those of the window that it may not have.
        sent: registers on their way.
        whole: whether known has to be sent again too: the server may have lost it.
        refresh_at: when that is done without a reason.
        waiting: everything else that is not sent.
        moved: ids that left, as the server has acknowledged.
        sides: whether the server has each of the keys that keep moves.
        doubted: whether it may have lost moves.
    """

    known: Registers | None = None
    rest: Registers | None = None
    sent: Registers | None = None
    whole: bool = False
    refresh_at: float | None = None
    waiting: _Flight = field(default_factory=_Flight)
    moved: dict[bytes, _Moved] = field(default_factory=dict)
    sides: tuple[int, ...] = (0, 0, 0)
    doubted: bool = False

    @property
    def idle(self) -> bool:
        """Whether everything is sent, but for registers of the window."""
        return self.rest is None and not self.waiting.events and not self.waiting.seen

    def observe(self, flight: _Flight, now: float) -> None:
        """Note who of those that moved away is active again."""
        if self.moved and flight.seen:
            hashes = np.fromiter((moved.hash for moved in self.moved.values()), np.uint64, len(self.moved))
            active = np.isin(hashes, np.concatenate([seen.hashes for seen in flight.seen])).tolist()
            for id, again in zip(list(self.moved), active, strict=True):
                if again and id not in flight.removed and not self.moved[id].back:
                    self.moved[id] = replace(self.moved[id], back=True, since=now)

    def fold(self, hashes: Hashes) -> None:
        if self.rest is None:
            self.rest = empty()
        fold(self.rest, hashes)

    def raise_to(self, registers: Registers) -> None:
        if self.rest is None:
            self.rest = registers.copy()
        else:
            np.maximum(self.rest, registers, out=self.rest)

    def acknowledge(self, sent: Registers) -> None:
        self.known = sent if self.known is None else np.maximum(self.known, sent)

    def inherit(self, window: Registers | None) -> None:
        """In a forked process, which cannot know what becomes of the registers on their way."""
        for registers in (self.sent, window):
            if registers is not None:
                self.raise_to(registers)
        self.sent = None

    def take(self, window: Registers | None) -> Registers:
        """The registers to send; all zero if the server has them."""
        parts = [part for part in (self.rest, window, self.known if self.whole else None) if part is not None]
        sent = np.maximum.reduce(parts) if parts else empty()
        if self.known is not None and not self.whole:
            sent = np.where(sent > self.known, sent, np.uint8(0))
        self.rest, self.sent = None, sent
        return sent


class Buffer:
    """Events of one data set, on their way to the server.

    Args:
        context: what keys and ids are made with.
        kinds: kinds of period of events that do not say theirs.
        most_sketches: buckets in periods that are kept at once. Each takes up to 48 KiB.
        most_ids: ids on the move that are kept at once.
        refresh_interval: seconds, in the mean, after which all registers of a bucket are sent again: a
            server that lost them without a trace, to eviction say, has them again then.
        random: spreads that over time.
        retire: called with a bucket whose lane is not used any more.
        ticks: seconds of a clock that is never set: what came before what.

    Attributes:
        lock: held while lanes are folded and while a push takes or gives back; never while it waits.
        sketches: whether the server takes sketches; else ids are sent. None = not known yet: nothing can
            be folded.
    """

    def __init__(
        self,
        context: Context,
        kinds: Sequence[str],
        *,
        most_sketches: int,
        most_ids: int,
        refresh_interval: float,
        random: Random,
        retire: Callable[[str | None], object],
        ticks: Callable[[], float],
    ) -> None:
        self._context = context
        self._kinds = kinds
        self._most_sketches, self._most_ids = most_sketches, most_ids
        self._refresh_interval, self._random = refresh_interval, random
        self._retire = retire
        self.ticks = ticks
        self._taken_at = ticks()
        self.lock = threading.RLock()
        self.sketches: bool | None = None
        self.lanes: dict[str | None, Lane] = {}
        self.overflow: Lane = []
        self._retired: dict[str | None, Lane] = {}
        self._crowded = False
        self.marked = False
        self._window: _Window | None = None
        self._registers: dict[str | None, Registers] = {}
        self._places: dict[Place, _State] = {}
        self._flying: dict[Place, _Flight] = {}
        self._inherited_lanes: dict[str | None, Lane] = {}
        self._inherited: dict[Place, _Flight] = {}
        self._hashes = self._moves = self._remembered = 0
        self._run_id: bytes | None = None
        self.folded = self.pushed = self.dropped = self.late = 0

    # Callers

    def lane(self, bucket: str | None) -> Lane:
        """The lane of a bucket; without a lock: signal handlers and the garbage collector call too."""
        lane = self.lanes.get(bucket)
        if lane is not None:
            return lane
        if len(self.lanes) >= self._most_sketches:
            return self.overflow
        if not self.lanes:
            self._taken_at = self.ticks()
        return self.lanes.setdefault(bucket, [])

    # Folding

    @property
    def until(self) -> float | None:
        """When the window ends; None before the first fold."""
        return None if self._window is None else self._window.until

    @property
    def held(self) -> int:
        """Events in the lanes."""
        return sum(map(len, list(self.lanes.values())))

    @property
    def held_events(self) -> int:
        """The same, once for each period."""
        kinds = len(self._kinds)
        if not self.marked:
            return self.held * kinds
        return sum(
            len(event.periods) if type(event) is Marker and event.periods is not None else kinds
            for lane in list(self.lanes.values())
            for event in list(lane)
        )

    @property
    def pending(self) -> int:
        """Events that are folded and not acknowledged, once for each period."""
        with self.lock:
            flights = chain((state.waiting for state in self._places.values()), self._flying.values())
            return sum(flight.events for flight in flights)

    def fold(self, now: float) -> list[ActivityTrackerError]:
        """Take what is in the lanes; returns what was wrong with some of it.

        Events have no time of their own, so this has to be called where the window ends: what is in the
        lanes then belongs to the periods that end.
        """
        if self.sketches is None:
            return []
        with self.lock:
            if self._window is None:
                self._window = self._find_window(now)
            errors: list[ActivityTrackerError] = []
            self._crowded = False
            taken_at = self.ticks()
            self._fold_lanes(self._retired, errors)
            while self._fold_lanes(self.lanes, errors):
                pass
            self._taken_at = taken_at
            if not self._window.since <= now < self._window.until:
                self._turn(now)
            if self._hashes > 2 * _MOST_HASHES:
                self._thin_out()
            return errors

    def _turn(self, now: float) -> None:
        """A period has ended: what its buckets hold stays theirs, and the window begins anew."""
        assert self._window is not None  # noqa: S101 (for the type checker)
        for bucket, registers in self._registers.items():
            for period in self._window.periods:
                state = self._places.get((period, bucket))
                if state is not None and (state.known is None or (registers > state.known).any()):
                    state.raise_to(registers)
        # A caller may be about to append to a lane it has looked up: it is folded until the next turn.
        self._retired = {
            bucket: lane for bucket, lane in self.lanes.items() if bucket not in self._registers and not lane
        }
        for bucket in self._retired:
            del self.lanes[bucket]
            self._retire(bucket)
        self._registers = {}
        self._window = self._find_window(now)

    def _find_window(self, now: float) -> _Window:
        calendar = self._context.calendar
        periods = [calendar.containing(kind, calendar.local(now)) for kind in self._kinds]
        since = max((calendar.timestamp(period.start) for period in periods), default=-inf)
        until = min((calendar.timestamp(period.next().start) for period in periods), default=inf)
        return _Window(tuple(period.name for period in periods), since, until)

    def _fold_lanes(self, lanes: dict[str | None, Lane], errors: list[ActivityTrackerError]) -> bool:
        """Fold every lane; whether something waits for another lane that was folded before."""
        waiting = False
        if self.overflow:
            count = len(self.overflow)
            del self.overflow[:count]
            self.folded += count * len(self._kinds)
            self._drop(count * len(self._kinds))
        taken = []
        for bucket, lane in list(lanes.items()):
            if lane:
                count = len(lane)
                taken.append((bucket, lane[:count]))
                del lane[:count]
        if self.marked:
            marked = [Marker in map(type, events) for _, events in taken]
            plain = list(compress(taken, map(not_, marked)))
            taken = list(compress(taken, marked))
        else:
            plain, taken = taken, []
        for bucket, events in taken:
            rest = self._fold_marked(bucket, events, errors)
            if rest:
                waiting = True
                lanes[bucket][:0] = rest
        if plain and not self._fold_together(plain):
            for bucket, events in plain:
                self._fold_ids(bucket, events, errors)
        return waiting

    def _fold_together(self, taken: list[tuple[str | None, Lane]]) -> bool:
        """Fold lanes of nothing but ids; not done if there is one that is none."""
        if not self.sketches:
            return False
        together = taken[0][1] if len(taken) == 1 else [id for _, ids in taken for id in ids]
        try:
            hashes = bulk.all_hashes(self._context.ids, together)
        except ActivityTrackerError:
            return False
        start = 0
        for bucket, ids in taken:
            self._add(bucket, None, hashes[start : start + len(ids)])
            start += len(ids)
        return True

    def _fold_marked(self, bucket: str | None, events: Lane, errors: list[ActivityTrackerError]) -> Lane:
        """Fold events among which there may be markers; returns those that have to wait."""
        start = 0
        for at in [at for at, kind in enumerate(map(type, events)) if kind is Marker]:
            self._fold_ids(bucket, events[start:at], errors)
            marker: Marker = events[at]
            if marker.after is not None and not marker.after.folded:
                return events[at:]
            hashes = bulk.hashes_of_bytes([marker.id])
            if marker.removes:
                self._remove(bucket, marker, int(hashes[0]), hashes)
            else:
                self._add(bucket, marker.periods, hashes, [marker.id], since=marker.when)
            marker.folded = True
            start = at + 1
        self._fold_ids(bucket, events[start:], errors)
        return []

    def _fold_ids(self, bucket: str | None, ids: Lane, errors: list[ActivityTrackerError]) -> None:
        if not ids:
            return
        try:
            if self.sketches:
                self._add(bucket, None, bulk.all_hashes(self._context.ids, ids))
                return
            encoded = self._context.ids.many(ids)
        except ActivityTrackerError:
            encoded = []
            for id in ids:
                try:
                    encoded.append(self._context.ids.one(id))
                except ActivityTrackerError as error:
                    errors.append(error)
                    self.folded += len(self._kinds)
                    self._drop(len(self._kinds))
        self._add(bucket, None, bulk.hashes_of_bytes(encoded), encoded)

    def _periods(self, periods: tuple[str, ...] | None) -> tuple[str, ...]:
        assert self._window is not None  # noqa: S101 (for the type checker)
        return self._window.periods if periods is None else periods

    def _add(
        self,
        bucket: str | None,
        periods: tuple[str, ...] | None,
        hashes: Hashes,
        ids: Sequence[bytes] = (),
        *,
        since: float | None = None,
    ) -> None:
        if not len(hashes):
            return
        seen = _Seen(hashes, self._taken_at if since is None else since)
        names = self._periods(periods)
        self.folded += len(hashes) * len(names)
        kept = [state for name in names if (state := self._state((name, bucket), len(hashes))) is not None]
        if not kept:
            return
        for state in kept:
            state.waiting.add(seen, () if self.sketches else ids)
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

    def _remove(self, bucket: str | None, marker: Marker, hash: int, hashes: Hashes) -> None:
        for name in self._periods(marker.periods):
            self.folded += 1
            if self._moves >= self._most_ids:
                self._drop(1)
            elif (state := self._state((name, bucket), 1)) is not None:
                state.waiting.events += 1
                self._moves -= state.waiting.moves
                state.waiting.remove(marker.id, _Removed(hash, marker.when))
                self._moves += state.waiting.moves
                if self.sketches:  # the server adds it too, but might lose it
                    state.fold(hashes)

    def _state(self, place: Place, events: int) -> _State | None:
        """The state of a place; None if there are too many, and its events are dropped."""
        state = self._places.get(place)
        if state is None:
            if len(self._places) >= self._most_sketches:
                self._make_room()
            if len(self._places) >= self._most_sketches:
                self._drop(events)
                return None
            state = self._places[place] = _State()
        return state

    def _make_room(self) -> None:
        """Forget, once a fold, what the server has of buckets that nobody uses in this window."""
        if not self._crowded:
            self._crowded = True
            for place, state in list(self._places.items()):
                idle = place[1] not in self._registers and place not in self._flying
                if idle and state.idle:
                    del self._places[place]

    def _drop(self, events: int) -> None:
        self.dropped += events

    def _thin_out(self) -> None:
        """Each hash once, in one array a place, and no more than may be: returns of others go unseen."""
        thinned: dict[tuple[int, ...], _Seen] = {}
        total = 0
        for state in self._places.values():
            waiting = state.waiting
            if not waiting.seen or not self.sketches:
                continue
            key = tuple(map(id, waiting.seen))  # periods of a bucket share them
            if key not in thinned:
                room = max(_MOST_HASHES - total, 0)
                hashes, since = _Seen.together(waiting.seen).latest()
                thinned[key] = _Seen(hashes[:room], since[:room])
                total += len(thinned[key].hashes)
            waiting.seen = [thinned[key]]
        self._hashes = total

    # Forks

    def reset_after_fork(self) -> None:
        """In the child: what was tracked before is the parent's to send, but registers do no harm twice."""
        self.lock = threading.RLock()
        self._inherited_lanes = {bucket: list(lane) for bucket, lane in self._inherited_lanes.items()}
        for bucket, lane in self.lanes.items():
            self._inherited_lanes.setdefault(bucket, []).extend(lane)
        self.lanes = {}
        self.overflow = []

    def inherit(self, now: float) -> None:
        """Take what was there before the fork into registers, and put moves aside until :meth:`settle`."""
        with self.lock:
            if self._window is None:
                self._window = self._find_window(now)
            if self.sketches is None:
                self.sketches = True
            self._give_back(self._flying)
            lanes, self._inherited_lanes = self._inherited_lanes, {}
            while self._fold_lanes(lanes, []):
                pass
            for place, state in self._places.items():
                running = place[0] in self._window.periods
                state.inherit(self._registers.get(place[1]) if running else None)
                self._inherited[place] = state.waiting.before(self._inherited.get(place, _Flight()))
                state.waiting = _Flight()
            self.folded = self.pushed = self.dropped = self.late = 0
            self._hashes = self._moves = 0

    def settle(self, *, heir: bool) -> None:
        """Send also the moves from before the fork, if the parent is gone and this is its heir."""
        with self.lock:
            flights, self._inherited = self._inherited, {}
            if heir:
                self.folded += sum(flight.events for flight in flights.values())
                self._give_back(flights)

    # Pushing

    def doubt(self) -> None:
        """The server may have lost what it acknowledged: send everything again."""
        with self.lock:
            for state in self._places.values():
                state.whole = state.known is not None
                state.doubted = bool(state.moved)

    def push(self, now: float) -> Operation[list[BackendError]]:
        """Send what rose and who moved; returns what went wrong, a bucket at a time.

        Closed before its end, for instance because the server does not answer, it gives everything back.
        """
        flights = self._depart(now)
        if not flights:
            return []
        try:
            yield from self._recognise()
            push = _Push(self, flights)
            for batch in batched(list(flights), _SKETCHES_PER_BATCH):
                yield from push.add(batch)
            yield from push.remove()
            return push.errors
        finally:
            self._give_back(flights)

    def _depart(self, now: float) -> dict[Place, _Flight]:
        with self.lock:
            flights = self._flying
            for place, state in self._places.items():
                if state.refresh_at is None or state.refresh_at <= now:
                    state.whole |= state.refresh_at is not None and state.known is not None
                    state.refresh_at = now + self._refresh_interval * self._random.uniform(0.5, 1.5)
                if state.whole or not state.idle:
                    flights[place], state.waiting = state.waiting, _Flight()
            self._hashes = self._moves = 0
            return flights

    def _recognise(self) -> Operation[None]:
        """Another server, or the same one started again, may lack what was acknowledged."""
        [reply] = yield [("INFO", "server")]
        found = _RUN_ID.search(reply) if isinstance(reply, bytes) else None
        if found is None:  # not permitted, say: what vanished is noticed a bucket at a time
            return
        if self._run_id not in (None, found[1]):
            self.doubt()
        self._run_id = found[1]

    def _give_back(self, flights: dict[Place, _Flight]) -> None:
        with self.lock:
            for place, flight in flights.items():
                state = self._places.setdefault(place, _State())
                state.waiting = flight.before(state.waiting)
            flights.clear()
            waiting = [state.waiting for state in self._places.values()]
            parts = {id(seen): len(seen.hashes) for flight in waiting for seen in flight.seen}
            self._hashes = sum(parts.values())
            if max((len(flight.seen) for flight in waiting), default=0) > _MOST_PARTS:
                self._thin_out()
            self._moves = sum(flight.moves for flight in waiting)
            self._forget()
            self._remembered = sum(len(state.moved) for state in self._places.values())

    def _forget(self) -> None:
        """Periods that ended, once everything of theirs is sent."""
        running = self._periods(None)
        done = [place for place, state in self._places.items() if place[0] not in running and state.idle]
        for place in done:
            del self._places[place]

    def _take(self, place: Place) -> Registers:
        with self.lock:
            running = place[0] in self._periods(None)
            return self._places[place].take(self._registers.get(place[1]) if running else None)

    def _restore(self, place: Place, sent: Registers) -> None:
        with self.lock:
            state = self._places[place]
            state.sent = None
            if sent.any():
                state.raise_to(sent)

    def _arrived(self, place: Place, sent: Registers, existed: Sequence[Any]) -> bool:
        """The server has united what was sent; whether it needs the rest too.

        Args:
            existed: whether the bucket's keys did: the sketch, and those that keep moves.
        """
        with self.lock:
            state = self._places[place]
            sketch, *sides = existed
            lost = not sketch and state.known is not None and not state.whole
            state.whole, state.sent = lost, None
            # One that was there before and is not any more; that may be as it should, but is looked into.
            vanished = any(before > after for before, after in zip(state.sides, sides, strict=True))
            state.doubted = bool(state.moved) and (state.doubted or lost or vanished)
            state.sides = tuple(sides)
            if lost:
                state.raise_to(sent)
            else:
                state.acknowledge(sent)
            return lost

    def _lost_moves(self, place: Place, out: set[Any], back: set[Any]) -> list[bytes]:
        """Take along again who left the bucket or came back, as far as the server does not know.

        It lacks ids altogether, or is a replica that was behind and has them as they were. What it has of ids
        that did not move just now is believed: others may have moved them since.

        Returns:
            All that are remembered; none of a period that is over.
        """
        with self.lock:
            state, flight = self._places[place], self._flying[place]
            state.observe(flight, self.ticks())
            again = []
            long_ago = self.ticks() - _LONGEST_LAG_S
            for id, moved in state.moved.items():
                known = id in out or id in back
                believed = known and moved.since < long_ago
                if id in flight.removed or believed:
                    continue
                if not known or (id in back and not moved.back):
                    flight.removed[id] = _Removed(moved.hash, moved.when)
                if moved.back and id not in back:
                    again.append(moved.hash)
            if again:  # who left and came back: the one now, the other with the next push
                state.waiting.seen.append(_Seen(np.array(again, np.uint64), self.ticks()))
            return list(state.moved) if place[0] in self._periods(None) else []

    def _land(self, place: Place, *, late: bool) -> None:
        with self.lock:
            flight, state = self._flying.pop(place), self._places[place]
            if late:
                self.late += flight.events
                return
            self.pushed += flight.events
            state.doubted = False
            state.observe(flight, self.ticks())
            now = self.ticks()
            for id, removed in flight.removed.items():
                if id in state.moved or self._remembered < self._most_ids:
                    self._remembered += id not in state.moved
                    state.moved[id] = _Moved(removed.hash, removed.when, now)
            if flight.removed:
                state.sides = (1, int(self._context.moved_limit > 0), state.sides[2])


class _Push:
    """One push: its flights, and what went wrong."""

    def __init__(self, buffer: Buffer, flights: dict[Place, _Flight]) -> None:
        self._buffer, self._flights = buffer, flights
        self._context = buffer._context  # noqa: SLF001 (a part of it)
        self._added: list[Place] = []
        self.errors: list[BackendError] = []

    def add(self, places: Iterable[Place]) -> Operation[None]:
        """Everything but removals."""
        if not self._buffer.sketches:
            for place in places:
                if (yield from self._write(place, self._flights[place].ids)):
                    self._added.append(place)
            return
        lost = yield from self._unite(places)
        lost = yield from self._unite(lost)
        for place in lost:  # twice in a row: the next push tries again
            self._fail(place, BackendResponseError("the sketch vanished again"))

    def _unite(self, places: Iterable[Place]) -> Operation[list[Place]]:
        """Unite registers with the server's; returns the places of which it needs more."""
        buffer = self._buffer
        sent = {place: buffer._take(place) for place in places}  # noqa: SLF001
        if not sent:
            return []
        unsettled = dict(sent)
        lost: list[Place] = []
        returned: list[Place] = []
        try:
            calls: dict[Place, tuple[bytes, ...]] = {
                place: (codec.encode(registers),) for place, registers in sent.items() if registers.any()
            }
            again: dict[Place, tuple[bytes, ...]] = {}
            for batch in (calls, again):
                replies = yield from self._merge(batch)
                for place, reply in zip(batch, replies, strict=True):
                    if isinstance(reply, BackendError):
                        self._fail(place, reply)
                        continue
                    state, *rest = items(reply)
                    if state == b"SPARSE":
                        try:
                            union = np.maximum(sent[place], codec.decode(rest[0]))
                        except MalformedSketchError as error:
                            self._fail(place, BackendResponseError(f"the sketch is corrupt: {error}"))
                            continue
                        again[place] = codec.encode(union), rest[0]
                        continue
                    del unsettled[place]
                    if state == b"LATE":
                        self._late(place)
                        continue
                    if buffer._arrived(place, sent[place], rest):  # noqa: SLF001
                        lost.append(place)
                        continue
                    (returned if state == b"OUT" else self._added).append(place)
            idle = [place for place, registers in sent.items() if not registers.any()]
            lost += yield from self._look(idle, returned)
        finally:
            for place, registers in unsettled.items():
                buffer._restore(place, registers)  # noqa: SLF001
        for place in returned:
            if (yield from self._return(place)):
                self._added.append(place)
        return lost

    def _merge(self, sketches: dict[Place, tuple[bytes, ...]]) -> Operation[list[Reply]]:
        calls = [merge_call(self._context, place, *arguments) for place, arguments in sketches.items()]
        return (yield calls) if calls else []

    def _look(self, places: list[Place], returned: list[Place]) -> Operation[list[Place]]:
        """Of places that have nothing to send: whether the server still has them, and who is out."""
        if not places:
            return []
        commands: list[Command] = []
        for place in places:
            keys = self._context.keys.bucket(*place)
            commands += [("EXISTS", key) for key in (keys.hll, keys.moved, keys.out, keys.back)]
        replies = yield commands
        lost = []
        for place, existed in zip(places, batched(replies, 4), strict=True):
            if self._failed(place, existed):
                continue
            if self._buffer._arrived(place, empty(), existed):  # noqa: SLF001
                lost.append(place)
            else:
                (returned if existed[2] else self._added).append(place)
        return lost

    def _return(self, place: Place) -> Operation[bool]:
        """Ids that are out of the bucket and were active in it again are back; whether that is done."""
        flight = self._flights[place]
        if not flight.seen:
            return True
        [reply] = yield [("SMEMBERS", self._context.keys.bucket(*place).out)]
        if self._failed(place, [reply]):
            return False
        out, seen = items(reply), _Seen.together(flight.seen)
        hashes = bulk.hashes_of_bytes(out)
        active = np.isin(hashes, seen.hashes).tolist()
        active_ids = [id for id, again in zip(out, active, strict=True) if again and id not in flight.removed]
        back: list[bytes] = []
        if active_ids:
            wanted = np.isin(seen.hashes, hashes)
            latest = _Seen(seen.hashes[wanted], seen.since[wanted]).latest()
            since = dict(zip(latest.hashes.tolist(), latest.since.tolist(), strict=True))
            replies = yield from self._moved_at(place, active_ids)
            if replies is None:
                return False
            for id, hash in zip(active_ids, bulk.hashes_of_bytes(active_ids).tolist(), strict=True):
                own = flight.cancelled.get(id) or self._buffer._places[place].moved.get(id)  # noqa: SLF001
                moved_at = replies[id]
                # After a move of our own, acknowledged before, comes whatever we see later.
                is_own = own is not None and abs(own.when - moved_at) < _TICKS_DIFFER_S
                if is_own or since[hash] >= moved_at:
                    back.append(id)
        written = yield from self._write(place, back)
        if written and back:
            self._buffer._places[place].sides = (1, 1, 1)  # noqa: SLF001
        return written

    def _moved_at(self, place: Place, ids: list[bytes]) -> Operation[dict[bytes, float] | None]:
        """When ids moved out of a bucket, in our own ticks; long ago, if the server does not know.

        Later rather than earlier, by what the answer took and the millisecond that the server may have cut.
        """
        key = recent_moves(self._context, place)
        replies = yield [("TIME",), *(("ZSCORE", key, id) for id in ids)]
        answered = self._buffer.ticks()
        if self._failed(place, replies):
            return None
        seconds, microseconds = items(replies[0])
        now = int(seconds) * 1000 + int(microseconds) / 1000
        return {
            id: -inf if moved is None else answered - (now - float(moved) - 1) / 1000
            for id, moved in zip(ids, cast("list[Any]", replies[1:]), strict=True)
        }

    def remove(self) -> Operation[None]:
        """Removals, each of a place whose ids were added."""
        for place in self._added:
            if (yield from self._recall(place)):
                now, removed = self._buffer.ticks(), self._flights[place].removed
                aged = [(id, max(int((now - of.when) * 1000), 0)) for id, of in removed.items()]
                if (yield from self._write(place, [], aged)):
                    self._landed(place)

    def _recall(self, place: Place) -> Operation[bool]:
        """Where the server may have lost moves: which of them; whether that is known."""
        if not self._buffer._places[place].doubted:  # noqa: SLF001
            return True
        keys = self._context.keys.bucket(*place)
        replies = yield [("SMEMBERS", keys.out), ("SMEMBERS", keys.back)]
        if not self._failed(place, replies):
            out, back = map(items, replies)
            moved = self._buffer._lost_moves(place, set(out), set(back))  # noqa: SLF001
            replies = (
                (yield [("PFADD", keys.moved, *part) for part in batched(moved, _IDS_PER_CALL)])
                if moved
                else []
            )
        return not self._failed(place, replies)

    def _failed(self, place: Place, replies: Iterable[Reply]) -> bool:
        error = next((reply for reply in replies if isinstance(reply, BackendError)), None)
        if error is not None:
            self._fail(place, error)
        return error is not None

    def _write(
        self, place: Place, added: list[bytes], removed: Sequence[tuple[bytes, int]] = ()
    ) -> Operation[bool]:
        calls = [write_call(self._context, place, part) for part in batched(added, _IDS_PER_CALL)]
        calls += [write_call(self._context, place, [], part) for part in batched(removed, _IDS_PER_CALL)]
        for call in calls:
            [reply] = yield [call]
            if self._failed(place, [reply]):
                return False
            if reply == b"LATE":
                self._late(place)
                return False
        return True

    def _landed(self, place: Place) -> None:
        self._buffer._land(place, late=False)  # noqa: SLF001

    def _late(self, place: Place) -> None:
        self._buffer._land(place, late=True)  # noqa: SLF001

    def _fail(self, place: Place, error: BackendError) -> None:
        self.errors.append(named(error, *place))
