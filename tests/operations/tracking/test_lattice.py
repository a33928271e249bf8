"""The laws of the side table: the newest event of an id wins, whatever becomes of messages.

But for one test, which holds the scripts and the model of them together, there is no server. In the
histories all that plans and remembers is the package's own (trackers, buffers, pushes, clocks); the server,
the time and the network between them are made up, so that anything can happen at any moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from operator import itemgetter
from typing import Any

import numpy as np
import pytest

from activity_tracker_hll.backends.base import BackendSettings
from activity_tracker_hll.bulk import hashes_of_bytes
from activity_tracker_hll.hll import codec
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.operations import run
from activity_tracker_hll.operations.tracking.side_table import Seen, SideTable
from activity_tracker_hll.operations.tracking.stamps import ServerClock
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.planner import Planner
from activity_tracker_hll.scripts import calls
from activity_tracker_hll.writer import lifecycle
from activity_tracker_hll.writer.moves import Moves
from helpers.model import Bucket, ModelServer, newer, registers_of
from helpers.stopped import Stopped

IDS = [b"%d" % number for number in range(100)]
"""Of one world. What happens to one id is a history; the ids of a world share its messages and failures."""

NO_LIMIT = 10_000
Events = list[tuple[bytes, int]]


# Laws


def some_events(rng: random.Random, most: int = 12) -> Events:
    """Signed stamps, many of them equal but for the sign."""
    return [
        (rng.choice(IDS[:6]), rng.randrange(1, 8) * rng.choice((-1, 1))) for _ in range(rng.randrange(most))
    ]


def merged(*parts: Iterable[tuple[bytes, int]], limit: int = NO_LIMIT) -> dict[bytes, int]:
    bucket = Bucket()
    for events in parts:
        bucket.write(limit, (), events)
    return bucket.table


@pytest.mark.parametrize("seed", range(20))
def test_merging_is_commutative_associative_and_idempotent(seed):
    rng = random.Random(seed)
    for _ in range(200):
        a, b, c = some_events(rng), some_events(rng), some_events(rng)
        assert merged(a, b) == merged(b, a)
        assert merged(merged(a, b).items(), c) == merged(a, merged(b, c).items())
        assert merged(a, a) == merged(a) == merged(merged(a).items())


@pytest.mark.parametrize("seed", range(20))
def test_the_newest_event_of_each_id_stays_in_any_order_and_however_often_it_is_sent(seed):
    rng = random.Random(seed)
    for _ in range(200):
        events = some_events(rng)
        newest: dict[bytes, int] = {}
        for id, stamp in events:
            newest[id] = max(stamp, newest.get(id, 0), key=lambda stamp: (abs(stamp), stamp))
        sent = events + rng.choices(events, k=5) if events else []
        rng.shuffle(sent)
        assert merged(sent) == newest


@pytest.mark.parametrize("seed", range(20))
def test_a_full_table_keeps_its_bound_and_what_got_in_is_right(seed):
    rng = random.Random(seed)
    for _ in range(200):
        events, limit = some_events(rng, 30), rng.randrange(6)
        rng.shuffle(events)
        bucket = Bucket()
        bucket.write(limit, (), events)
        unbounded = merged(events)
        assert len(bucket.table) == min(limit, len(unbounded))
        assert bucket.table.items() <= unbounded.items()
        assert bucket.tracked == unbounded.keys()
        left = {id for id, stamp in events if stamp < 0}
        assert bucket.moved == left | bucket.table.keys()


@pytest.mark.parametrize("seed", range(20))
def test_events_of_one_process_keep_their_order_whatever_its_clock_learns(seed):
    rng = random.Random(seed)
    for _ in range(20):
        now, ahead = 1_000_000, 1_800_000_000_000_000
        clock = ServerClock(lambda: now, lambda: now + ahead)  # noqa: B023 (what they are by then)
        moves, bucket, last = Moves(), Bucket(), {}
        for _ in range(40):
            now += rng.choice((1, 1, 10, 1000))
            if rng.random() < 0.2:
                ahead += rng.randrange(-2000, 2000)
                clock.sample(now - 100, divmod(now + ahead, 1_000_000))
            id = rng.choice(IDS[:3])
            hashes = hashes_of_bytes([id])
            last[id] = rng.random() < 0.5 and id in last
            if last[id]:
                moves.observe([Seen(hashes, now)])
            else:
                moves.leave(id, int(hashes[0]), now)
            if rng.random() < 0.5:  # sent, but nobody heard of it
                bucket.write(NO_LIMIT, (), moves.stamps(clock).items())
        bucket.write(NO_LIMIT, (), moves.stamps(clock).items())
        assert {id: stamp > 0 for id, stamp in bucket.table.items()} == last


NOW = 1_000_000_000


def test_who_left_by_an_older_event_is_found_although_all_numbers_are_as_they_were():
    """One came back and another left, both before the newest event: that is read again for a while."""
    server, known = ModelServer(lambda: 0), SideTable()
    server.bucket.table = {b"newest": -NOW, b"leaves": NOW - 400, b"returns": 100 - NOW}
    run(known.update(KEYS.moves, server.bucket.state, NOW), server.execute)
    server.bucket.table |= {b"leaves": 300 - NOW, b"returns": NOW - 90}
    run(known.update(KEYS.moves, server.bucket.state, NOW + 1), server.execute)
    leaves, returns = hashes_of_bytes([b"leaves"]), hashes_of_bytes([b"returns"])
    assert known.returned([Seen(leaves, NOW - 200)])[0] == leaves
    assert not len(known.returned([Seen(returns, NOW)])[0])
    # Not for ever: what is merged later than that is found at a refresh.
    sent: list[Any] = []
    run(known.update(KEYS.moves, server.bucket.state, NOW + 10_000_001), sent.append)
    assert sent == []


def test_who_left_by_an_older_event_is_found_although_another_came_back_meanwhile():
    server, known = ModelServer(lambda: 0), SideTable()
    server.bucket.table = {b"out": -30, b"returns": -10, b"late": 5}
    run(known.update(KEYS.moves, server.bucket.state, NOW), server.execute)
    server.bucket.table |= {b"returns": 40, b"late": -20}
    run(known.update(KEYS.moves, server.bucket.state, NOW), server.execute)
    late = hashes_of_bytes([b"late"])
    assert known.returned([Seen(late, 25)])[0] == late


def test_newer():
    assert newer(2, 1)
    assert newer(-2, 1)
    assert newer(2, -1)
    assert newer(1, -1)
    assert newer(-1, 0)
    assert not newer(-1, 1)
    assert not newer(1, 1)
    assert not newer(-1, 2)


# The scripts


KEYS = Keys().bucket("daily-20260101", "a")
TEMPORARY = Keys().temporary("daily-20260101", "a", "unite")
STAMPS = (*range(1, 9), 1_800_000_000_000_000, 1_800_000_000_000_001, 2**53 - 1)


def some_command(rng: random.Random) -> calls.Call:
    def events(signs: tuple[int, ...]) -> Events:
        ids = rng.choices(IDS[:20], k=rng.randrange(4))
        return [(id, rng.choice(STAMPS) * rng.choice(signs)) for id in ids]

    low, high = sorted((rng.choice(STAMPS) * rng.choice((1, -1)), rng.choice(STAMPS)))
    return rng.choice(
        (
            calls.call_write(KEYS, rng.choice((5, 10, 15)), events((1,)), events((1, -1))),
            calls.call_unite(KEYS, TEMPORARY, codec.encode(registers_of(rng.choices(IDS, k=3)))),
            calls.call_unite(KEYS, TEMPORARY, b""),
            ("PFADD", KEYS.hll, rng.choice(IDS)),
            ("ZADD", KEYS.moves, "XX", "GT", rng.choice(STAMPS), rng.choice(IDS[:20])),
            ("ZRANGEBYSCORE", KEYS.moves, f"({low}", str(high), "WITHSCORES", "LIMIT", rng.randrange(3), 4),
            ("ZRANGEBYSCORE", KEYS.moves, str(low), f"({high}", "WITHSCORES", "LIMIT", rng.randrange(3), 4),
        )
    )


def executed(client: Any, command: calls.Call) -> Any:
    """The reply of a real server, comparable with the model's."""
    if command[0] == "ZRANGEBYSCORE":
        _, key, low, high, _, _, start, count = command
        members = client.zrangebyscore(key, low, high, start, count, withscores=True)
        return [part for id, score in members for part in (id, b"%d" % score)]
    reply = client.execute_command(*command)
    if command[0] != "EVALSHA":
        return 0
    if reply[0] == b"SPARSE":
        registers = np.maximum(codec.decode(command[-2]), codec.decode(reply[1]))
        return executed(client, calls.call_unite(KEYS, TEMPORARY, codec.encode(registers), reply[1]))
    return [*reply[:-3], *calls.TableState.read(reply[-3:])]


@pytest.mark.parametrize("seed", range(20))
def test_the_model_of_the_server_is_true(real_server, seed):
    client, rng = real_server.client, random.Random(seed)
    for script in (calls.WRITE, calls.UNITE):
        client.script_load(script.source)
    model = ModelServer(lambda: 0)
    for _ in range(100):
        command = some_command(rng)
        assert executed(client, command) == model.execute([command])[0], command
    assert dict(client.zrange(KEYS.moves, 0, -1, withscores=True)) == model.bucket.table
    for key, registers in (
        (KEYS.hll, model.bucket.registers),
        (KEYS.moved, registers_of(model.bucket.moved)),
    ):
        assert (codec.decode(client.get(key)) == registers).all()


# Histories


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
        run(self.planner.agreeing(operation, 0, write=True), self._execute)

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


PARTS = 20
WORLDS = 100_000 // PARTS // len(IDS)


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.extended] * (part > 2)) for part in range(PARTS)]
)
def test_100_000_random_histories_end_right(part):
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        world = World(seed)
        for _ in range(ROUNDS):
            world.play()
        world.refresh()
        check(world, f"World({seed})")


@pytest.mark.parametrize("seed", range(20))
def test_a_clock_of_the_server_that_is_set_back_changes_no_order(seed):
    world = World(seed)
    for number in range(ROUNDS):
        world.set_back += 30 * S * (number == 2)
        world.play()
    world.refresh()
    check(world, f"World({seed}), set back")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limit", [0, 1, 20])
def test_with_a_full_table_counts_stay_right_but_for_returns_of_those_who_did_not_get_in(seed, limit):
    world = World(seed, limit=limit)
    for _ in range(ROUNDS):
        world.play()
    world.refresh()
    check(world, f"World({seed}, limit={limit})", limit)


LOSSES: dict[str, Callable[[ModelServer], object]] = {
    "another, empty server": lambda server: server.restart(empty=True),
    "all data": lambda server: server.lose(),
    "the sketch": lambda server: server.lose("hll"),
    "the sketch of who moved": lambda server: server.lose("moved"),
    "the table": lambda server: server.lose("moves"),
    "nothing": lambda server: server.restart(empty=False),
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("loss", LOSSES)
def test_writers_mend_what_a_server_lost(seed, loss):
    world = World(seed, trackers=0)
    for _ in range(2):
        world.play()
        world.play()
        world.refresh()
        LOSSES[loss](world.server)
        world.refresh()
    world.play()
    world.refresh()
    check(world, f"World({seed}, trackers=0)")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("loss", "writers"), [*((loss, 1) for loss in LOSSES), ("another, empty server", 2)])
def test_writers_notice_with_the_next_push_that_something_was_lost(seed, loss, writers):
    world = World(seed, writers=writers, trackers=0)
    world.play()
    world.play()
    world.refresh()
    LOSSES[loss](world.server)
    for _ in range(writers):  # what one writer tells after the other's push, the other answers with its next
        world.nudge()
    check(world, f"World({seed}, writers={writers}, trackers=0)")
