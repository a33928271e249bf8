"""The laws of the side table: the newest event of an id wins, whatever becomes of messages.

No server here but for one test, which holds the script and the model of it together. In the histories all of
the package that plans and remembers is its own (buffers, pushes, clocks, trackers); the server, time and the
network between them are made up, so that anything can happen at any moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from operator import itemgetter
from typing import Any

import pytest
from model import ModelServer, registers_of

from activity_tracker_hll.backends.base import BackendSettings
from activity_tracker_hll.operations import run
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.planner import Planner
from activity_tracker_hll.writer.buffer import Buffer, Limits
from activity_tracker_hll.writer.intake import Marker
from activity_tracker_hll.writer.push import ServerIdentity, push

MS, S = 1000, 1_000_000
NOON_US = 20_000 * 86_400 * S + 43_200 * S

UTC_CALENDAR = Calendar("UTC")

IDS = [b"%d" % number for number in range(100)]
"""Of one world. What happens to one id is a history; the ids of a world share its messages and failures."""

ROUNDS = 5
REFRESH_US = 60 * S
# What happens when in a round. In the events of a round each id belongs to one process, so that events of
# different processes lie at least a second apart; and so do moments in a pause from all that is folded.
EVENTS_US, PUSHES_US, PAUSE_US, LAST_FOLD_US, ROUND_US = 400 * MS, 650 * MS, 900 * MS, 1400 * MS, 1650 * MS


class World:
    """Two writers, some trackers, a server, and what lies between them.

    A leaving gets from a writer to the server before another process's second push after it: a push fails only
    if all that it carries is of its own round. And a tracker, which keeps nothing to make up for it, is not
    given an id whose leaving may still be under way. Beyond that are the documented limits.

    Args:
        limit: of the side table.
        trackers: how many.

    Attributes:
        now: microseconds since 1970 by the server's clock.
        round: its number.
        failures: how often a message of a push fails.
        events: by id, when something happened, and whether that was an activity.
    """

    def __init__(self, seed: int, *, limit: int = 10_000, trackers: int = 2) -> None:
        self.random = random.Random(seed)
        self.now = NOON_US
        self.round = 0
        self.failures = 0.1
        self.events: dict[bytes, list[tuple[int, bool]]] = {}
        self.server = ModelServer(lambda: self.now)
        self.sent: list[Any] = []
        self.writers = [Writer(self, limit) for _ in range(100)]
        self.trackers = [Tracker(self, limit) for _ in range(trackers)]
        self._agenda: list[tuple[int, int, Callable[[], object]]] = []
        self._order = count()
        self._left_in: dict[bytes, int] = {}
        self._pauses: list[int] = []

    def at(self, when: int, do: Callable[[], object]) -> None:
        """Do something then."""
        heappush(self._agenda, (when, next(self._order), do))

    def within(self, first: int, last: int, do: Callable[[], object]) -> None:
        """Do something in a while, from now on."""
        self.at(self.now + self.random.randrange(first, last), do)

    def run_until(self, when: int) -> None:
        while self._agenda:
            due, _, do = heappop(self._agenda)
            self.now = max(self.now, due)
            do()
        assert self.now <= when
        self.now = when

    def play(self) -> None:
        """One round: events, folds, pushes."""
        began, self.round = self.now, self.round + 1
        for id in IDS:
            if self.random.random() < 0.6:
                self._plan(id)
        for writer in self.writers:
            self.within(0, PUSHES_US, writer.push)
            self.within(EVENTS_US - 150 * MS, EVENTS_US, writer.fold)
            self.within(LAST_FOLD_US, ROUND_US, writer.fold)
        for command in self.random.sample(self.sent, min(len(self.sent), 3)):
            # Sent long ago and held up on the way, while the client sent it again.
            self.within(0, ROUND_US, partial(self.server.execute, [command]))
        self.run_until(began + ROUND_US)
        self._pauses.append(began + PAUSE_US)

    def _plan(self, id: bytes) -> None:
        """What happens to an id in a round."""
        under_way = self._left_in.get(id) == self.round - 1
        process = self.random.choice([*self.writers, *(() if under_way else self.trackers)])
        past = self.random.choice(self._pauses[:-1] or [0])
        events = self.events.get(id, [])
        if past and self.random.random() < 0.1 and past not in map(itemgetter(0), events):
            # By a log that is read late; a leaving that is not the newest event would need what no table keeps.
            active = any(when > past for when, _ in events) or self.random.random() < 0.5
            happens = [(self.random.randrange(EVENTS_US), active, past)]
        else:
            times = self.random.choice((1, 1, 2, 3))
            together = self.random.random() < 0.2
            moments = sorted(self.random.randrange(1 if together else EVENTS_US) for _ in range(times))
            happens = [(moment, self.random.random() < 0.55, None) for moment in moments]
        for delay, active, moment in happens:
            if not active and isinstance(process, Writer):
                self._left_in[id] = self.round
            self.at(self.now + delay, partial(self._happen, process, id, active, moment))

    def _happen(self, process: Process, id: bytes, active: bool, moment: int | None) -> None:
        self.events.setdefault(id, []).append((self.now if moment is None else moment, active))
        process.do(id, active, moment)
        self.now += 1  # a call takes a microsecond

    def refresh(self) -> None:
        """Time for all to be sent again."""
        self.now += 2 * REFRESH_US
        self.round, self.failures = self.round + 1, 0
        for writer in self.writers:
            self.within(0, S, writer.push)
        self.run_until(self.now + 2 * S)


class Process:
    """Has ticks of its own, and a clock on the wall that is wrong by up to 20 s."""

    def __init__(self, world: World, limit: int) -> None:
        self.world = world
        booted, wrong = world.random.randrange(NOON_US), world.random.randrange(-20, 21)
        self.wall = lambda: world.now / S + wrong
        settings = BackendSettings(moved_limit=limit)
        self.planner = Planner(settings, UTC_CALENDAR, ("daily",), None, {}, self.wall)
        self.planner.ticks = lambda: world.now - booted  # type: ignore[method-assign]
        self.data = self.planner.data_set(0)

    def do(self, id: bytes, active: bool, moment: int | None) -> None:
        raise NotImplementedError


class Tracker(Process):
    """Sends each event at once, and some twice."""

    def do(self, id: bytes, active: bool, moment: int | None) -> None:
        date = None if moment is None else datetime.fromtimestamp(moment / S, UTC)
        who, whom = (id, None) if active else (None, id)
        operation = self.planner.track(None, who, None, whom, None, date, 0)
        run(self.planner.agreeing(operation, 0, write=True), self._execute)

    def _execute(self, batch: list[Any]) -> list[Any]:
        for _ in range(self.world.random.choice((1, 1, 1, 2))):  # no reply came: once more
            replies = self.world.server.execute(batch)
        return replies


class Writer(Process):
    """Folds and pushes as the package's writer does, but that time and threads are the world's."""

    def __init__(self, world: World, limit: int) -> None:
        super().__init__(world, limit)
        spread = random.Random(world.random.random())
        limits = Limits(sketches=8192, moves=100_000, refresh_us=REFRESH_US)
        self._buffer = Buffer(
            self.planner.context, self.data, ("daily",), limits, spread, lambda _: self._intake.append_to(None)
        )
        self._buffer.sketches = True
        self._intake = self._buffer.intake
        self._server = ServerIdentity()
        self._oldest = inf

    def do(self, id: bytes, active: bool, moment: int | None) -> None:
        self._buffer.open(self.wall())
        event: Any = id
        if not active or moment is not None:
            clock = self.data.clock
            ticks = clock.ticks() if moment is None else clock.ticks_at(moment)
            event = Marker(id, ticks, leaves=not active)
            self._intake.marked = True
        self._intake.appends[None](event)
        self._oldest = min(self._oldest, self.world.round)

    def fold(self) -> None:
        assert self._buffer.fold(self.wall()) == []

    def push(self) -> None:
        """Begin to push; one step follows the other."""
        self.fold()
        operation = push(
            self._buffer, self.planner.context, self.data, self._server, self.planner.running()
        )
        self._step(self.planner.agreeing(operation, 0, write=True), None)

    def _step(self, operation: Any, replies: Any) -> None:
        try:
            batch = operation.send(replies)
        except StopIteration as stop:
            assert stop.value == []
            self._oldest = self.world.round if self._buffer.numbers().pending else inf
        else:
            self.world.within(0, 20 * MS, partial(self._arrive, operation, batch))

    def _arrive(self, operation: Any, batch: list[Any]) -> None:
        done = len(batch)
        fails = self._oldest >= self.world.round and self.world.random.random() < self.world.failures
        if fails:
            done = self.world.random.choice((0, done // 2, done, done))
        replies = self.world.server.execute(batch[:done])
        self.world.sent += [command for command in batch[:done] if command[0] == "EVALSHA"]
        if fails:
            operation.close()
            self._buffer.doubt()
            self.data.forget()
        else:
            self.world.within(0, 20 * MS, partial(self._step, operation, replies))


def check(world: World, limit: int) -> None:
    """Compare the server with what happened."""
    bucket = world.server.bucket
    newest = {id: sorted(events, key=itemgetter(0))[-1][1] for id, events in world.events.items()}
    left = {id for id, events in world.events.items() if not all(active for _, active in events)}
    assert (bucket.registers == registers_of(newest)).all()
    table = {id: stamp > 0 for id, stamp in bucket.table.items()}
    wrong = {id: (world.events[id], table[id]) for id in table if table[id] != newest[id]}
    assert not wrong
    assert table.keys() <= bucket.moved <= left
    if limit >= len(left):
        assert table.keys() == left
    else:
        assert len(table) == limit
        # Others are out, or are back unseen, or came back before anybody was told.
        assert all(newest[id] for id in left - bucket.moved)


def history(seed: int, limit: int) -> None:
    world = World(seed, limit=limit)
    for _ in range(ROUNDS):
        world.play()
    world.refresh()
    world.refresh()
    check(world, limit)
