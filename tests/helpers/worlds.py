"""Histories of ids: writers, trackers, a server, and what lies between them, where anything can happen.

All that plans and remembers is the package's own (trackers, buffers, pushes, clocks); the server, the time
and the network between them are made up.
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

from activity_tracker_hll.backends.base import BackendSettings
from activity_tracker_hll.operations import Access, run
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.planner import Planner
from activity_tracker_hll.writer import lifecycle
from helpers.model import ModelServer, registers_of
from helpers.stopped import Stopped

IDS = [b"%d" % number for number in range(100)]
"""Of one world. What happens to one id is a history; the ids of a world share its messages and failures."""

NO_LIMIT = 10_000
MS, S = 1000, 1_000_000
NOON_US = 20_000 * 86_400 * S + 43_200 * S
UTC_CALENDAR = Calendar("UTC")
REFRESH_US = 60 * S
ROUNDS = 5

# What happens when in a round. In its events each id belongs to one process, so that events of different
# processes lie about a second apart; and so do moments in a pause from all that is drained.
EVENTS_US, PUSHES_US, PAUSE_US, LAST_DRAIN_US, ROUND_US = 400 * MS, 650 * MS, 900 * MS, 1400 * MS, 1650 * MS
BEFORE = [NOON_US - 30 * S, NOON_US - 20 * S, NOON_US - 10 * S]
"""Moments that were over when all began."""

NOTHING: dict[str, Any] = dict.fromkeys(("periods", "id", "bucket", "old_id", "old_bucket", "date"))
NOTHING["shard"] = 0


class World:
    """Writers, trackers, a server, and what lies between them.

    A leaving gets from a writer to the server before another process's second push after it: a push fails
    only if all that it carries is of its own round. And a tracker, which keeps nothing that would make up for
    it, is not given an id whose leaving may still be under way. Beyond that are the documented limits.

    Args:
        limit: of the side table.
        writers, trackers: how many.

    Attributes:
        now: microseconds since 1970.
        set_back: how far the server's clock is behind.
        round: its number.
        failures: how often a message of a push fails.
        events: by id, when something happened, and whether that was an activity.
        sent: scripts that writers called.
        errors: what pushes said.
    """

    def __init__(self, seed: int, *, limit: int = NO_LIMIT, writers: int = 2, trackers: int = 2) -> None:
        self.random = random.Random(seed)
        self.now, self.set_back = NOON_US, 0
        self.round, self.failures = 0, 0.1
        self.events: dict[bytes, list[tuple[int, bool]]] = {}
        self.server = ModelServer(lambda: self.now - self.set_back)
        self.sent: list[Any] = []
        self.errors: list[Any] = []
        self.writers = [Writer(self, limit) for _ in range(writers)]
        self.trackers = [Tracker(self, limit) for _ in range(trackers)]
        self._agenda: list[tuple[int, int, Callable[[], object]]] = []
        self._order = count()
        self._left_in: dict[bytes, int] = {}
        self._pauses = [*BEFORE]

    def within(self, first: int, last: int, do: Callable[[], object]) -> None:
        """Do something in a while, from now on."""
        self._at(self.now + self.random.randrange(first, last), do)

    def _at(self, when: int, do: Callable[[], object]) -> None:
        heappush(self._agenda, (when, next(self._order), do))

    def _next(self) -> None:
        due, _, do = heappop(self._agenda)
        self.now = max(self.now, due)
        do()

    def hurry(self, process: Process) -> None:
        """The next event comes at once if it is of that process: another of its threads is in between."""
        event: Any = self._agenda[0][2] if self._agenda else None
        if getattr(event, "func", None) == self._happen and event.args[0] is process:
            self._next()

    def _run_until(self, when: int) -> None:
        while self._agenda:
            self._next()
        assert self.now <= when
        self.now = when

    def play(self) -> None:
        """One round: events, drains, pushes."""
        began, self.round = self.now, self.round + 1
        for id in IDS:
            if self.random.random() < 0.6:
                self._plan(id)
        for writer in self.writers:
            self.within(0, PUSHES_US, writer.push)
            self.within(EVENTS_US - 150 * MS, EVENTS_US, writer.drain)
            self.within(LAST_DRAIN_US, ROUND_US, writer.drain)
        for command in self.random.sample(self.sent, min(len(self.sent), 3)):
            # Sent long ago and held up on the way, while the client sent it again.
            self.within(0, ROUND_US, partial(self.server.execute, [command]))
        self._run_until(began + ROUND_US)
        self._pauses.append(began + PAUSE_US)

    def _plan(self, id: bytes) -> None:
        """What happens to an id in a round."""
        under_way = self._left_in.get(id) == self.round - 1
        process = self.random.choice([*self.writers, *(() if under_way else self.trackers)])
        events = self.events.get(id, [])
        past = self.random.choice(self._pauses[:-1])
        if self.random.random() < 0.1 and past not in map(itemgetter(0), events):
            # By a log that is read late. A leaving that is not the newest event would need what no table
            # keeps.
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
            self._at(self.now + delay, partial(self._happen, process, id, active, moment))

    def _happen(self, process: Process, id: bytes, active: bool, moment: int | None) -> None:
        self.events.setdefault(id, []).append((self.now if moment is None else moment, active))
        event: dict[str, Any] = {"id" if active else "old_id": id.decode()}
        if moment is not None:
            event["date"] = datetime.fromtimestamp(moment / S, UTC)
        process.do(event)
        self.now += 1  # a call takes a microsecond

    def nudge(self) -> None:
        """Each writer has something to push, and nothing fails."""
        self.failures = 0
        for id, writer in zip(IDS, self.writers, strict=False):
            self._at(self.now, partial(self._happen, writer, id, active=True, moment=None))
            self.within(0, S, writer.push)
        self._run_until(self.now + 2 * S)

    def refresh(self) -> None:
        """Time for all to be sent again, and nothing fails."""
        self.now += 2 * REFRESH_US
        self.round, failures, self.failures = self.round + 1, self.failures, 0
        for writer in self.writers:
            self.within(0, S, writer.push)
        self._run_until(self.now + 2 * S)
        self.failures = failures


class Backend(BackendSettings):
    """Settings alone: what is sent goes another way."""

    def for_writer(self, _patience: float) -> Backend:
        return self


class Process:
    """Has ticks of its own, and a clock on the wall that is wrong by up to 20 s."""

    def __init__(self, world: World, limit: int) -> None:
        self.world = world
        # Some machines have just been started: ticks of what was before are negative.
        self._booted = world.random.choice((world.random.randrange(NOON_US), NOON_US - 5 * S))
        wrong = world.random.randrange(-20, 21)
        self._backend = Backend(moved_limit=limit)
        self.planner = Planner(
            self._backend, UTC_CALENDAR, ("daily",), None, {}, lambda: world.now / S + wrong
        )
        self.planner.ticks = self.ticks  # type: ignore[method-assign]
        self.data = self.planner.data_set(0)

    def ticks(self) -> int:
        return self.world.now - self._booted

    def do(self, event: dict[str, Any]) -> None:
        """Track an event."""
        raise NotImplementedError


class Tracker(Process):
    """Sends each event at once, and some twice."""

    def do(self, event: dict[str, Any]) -> None:
        operation = self.planner.track(**NOTHING | event)
        run(self.planner.agreeing(operation, 0, Access.TRACK), self._execute)

    def _execute(self, batch: list[Any]) -> list[Any]:
        for _ in range(self.world.random.choice((1, 1, 1, 2))):  # no reply came: once more
            replies = self.world.server.execute(batch)
        return replies


class Writer(Process):
    """The package's writer; what its threads do is done when the world says so."""

    _interrupted = False

    def __init__(self, world: World, limit: int) -> None:
        super().__init__(world, limit)
        self._writer = Stopped(self.planner, self._backend, refresh_interval=REFRESH_US / S)
        lifecycle.unregister(self._writer)
        self._writer.seed(world.random.random())
        self._buffer = self._writer.buffer
        self._oldest = inf
        """The round of the oldest event that is not pushed."""

    def ticks(self) -> int:
        ticks = super().ticks()
        if self._interrupted:
            self._interrupted = False
            self.world.hurry(self)
        return ticks

    def do(self, event: dict[str, Any]) -> None:
        self._writer.track(**event)
        self._oldest = min(self._oldest, self.world.round)

    def drain(self) -> None:
        self._interrupted = self.world.random.random() < 0.3
        self._writer.drain_buffer()
        self._interrupted = False

    def push(self) -> None:
        """Begin to push; one step follows the other."""
        self._step(self._writer.pushing(), None)

    def _step(self, operation: Any, replies: Any) -> None:
        try:
            batch = operation.send(replies)
        except StopIteration as stop:
            self.world.errors += stop.value
            self._oldest = self.world.round if self._buffer.counts().pending else inf
        else:
            self.world.within(0, 20 * MS, partial(self._arrive, operation, batch))

    def _arrive(self, operation: Any, batch: list[Any]) -> None:
        # Whoever gets no answer to his first questions begins to drain a second late.
        may_fail = self._buffer.takes_sketches and self._oldest >= self.world.round
        fails = may_fail and self.world.random.random() < self.world.failures
        done = self.world.random.choice((0, len(batch) // 2, len(batch))) if fails else len(batch)
        replies = self.world.server.execute(batch[:done])
        self.world.sent += [command for command in batch[:done] if command[0] == "EVALSHA"]
        if fails:
            operation.close()
            self._buffer.resend()
            self.data.forget()
        else:
            self.world.within(0, 20 * MS, partial(self._step, operation, replies))


def check(world: World, name: str, limit: int = NO_LIMIT) -> None:
    """Compare the server with what happened."""
    assert not world.errors, name
    bucket = world.server.bucket
    newest = {id: max(reversed(events), key=itemgetter(0))[1] for id, events in world.events.items()}
    left = {id for id, events in world.events.items() if not all(active for _, active in events)}
    assert (bucket.registers == registers_of(newest)).all(), name
    wrong = {id: world.events[id] for id, stamp in bucket.table.items() if newest[id] != (stamp > 0)}
    assert not wrong, name
    assert bucket.table.keys() <= bucket.moved <= left, name
    if limit >= len(left):
        assert bucket.table.keys() == left, name
    else:
        assert len(bucket.table) == limit, name
        assert all(newest[id] for id in left - bucket.moved), name  # back before anybody was told
