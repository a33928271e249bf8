"""What a writer keeps between two pushes: the same as if every event had been sent at once.

The threads stand still here: a test drains and pushes where it wants to.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import BackendConnectionError, BufferedTracker, bulk
from activity_tracker_hll.backends.base import Shared
from activity_tracker_hll.errors import BackendResponseError
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty, fold
from activity_tracker_hll.operations.tracking import stamps
from activity_tracker_hll.operations.tracking.stamps import ServerClock
from activity_tracker_hll.scripts.calls import WRITE
from activity_tracker_hll.tracker import ActivityTracker
from activity_tracker_hll.writer.push import ServerIdentity, push
from helpers.moments import NOON, TODAY, day
from helpers.servers import back, left

KINDS = ("daily", "monthly")
BUCKETS = ("b", "c", None)
SECOND = 1_000_000


class Line(Shared):
    """The way to the server: a test cuts it, sets the server's clock, or lets another server answer.

    Attributes:
        fail_at: number of the batch that fails; None = none does.
        fail_after: whether the server executes that one first.
        meanwhile: called while the server works on a batch.
        ahead: seconds by which the server's clock is put forward.
        run_id: of the server, unless it is its own.
    """

    def __init__(self, backend, **settings):
        super().__init__(backend, **settings)
        self.batches, self.sent = 0, Counter()
        self.fail_at, self.fail_after = None, False
        self.meanwhile = lambda commands: None
        self.ahead, self.run_id = 0, None

    def execute(self, commands, shard=0):
        self.batches += 1
        if self.fail_at == self.batches and not self.fail_after:
            raise BackendConnectionError("cut before")
        replies = super().execute(commands, shard)
        self.sent.update(command[0] for command in commands)
        self.meanwhile(commands)
        if self.fail_at == self.batches:
            raise BackendConnectionError("cut after")
        return [self.told(*pair) for pair in zip(commands, replies, strict=True)]

    def told(self, command, reply):
        if command[0] == "TIME":
            return [b"%d" % (int(reply[0]) + self.ahead), reply[1]]
        return b"run_id:" + self.run_id if command[0] == "INFO" and self.run_id else reply


class Still(BufferedTracker):
    """A writer whose threads are the test."""

    def __init__(self, server, namespace="written", kinds=KINDS, **options):
        self.now, self.later = NOON, 0
        data = {name: options.pop(name) for name in ("secret", "moved_limit") if name in options}
        data["namespace"] = namespace
        self.server, self.real = server, server.name != "fakeredis"
        self.line = Line(server.tracker(kinds, **data).backend, **data)
        self.tracker = ActivityTracker(kinds, self.line, timezone="UTC", clock=lambda: self.now)
        planner = self.tracker._planner
        planner.ticks = lambda: time.monotonic_ns() // 1000 + self.later * SECOND
        super().__init__(planner, self.line, **options)
        self._worker.start = lambda: None

    @property
    def buffer(self):
        return self._buffers[0]

    @property
    def buckets(self):
        return self.buffer.buckets

    def wait(self, seconds):
        """Time passes, for this process and for the server as it sees it."""
        self.later += seconds
        self.line.ahead += seconds

    def drain(self):
        for buffer in self._buffers.values():
            buffer.takes_sketches = self.real
            self._worker.drain(buffer)

    def push(self, fail_at=None, *, after=False):
        self.line.batches, self.line.fail_at, self.line.fail_after = 0, fail_at, after
        self.line.sent.clear()
        return next(iter(self._worker.push()), None)

    def keys(self, bucket=None, kind="daily", date=TODAY):
        calendar = self.tracker.calendar
        period = calendar.containing(kind, calendar.moment(date, "date"))
        return self.tracker.backend.keys.bucket(period.name, bucket)

    def registers(self, *place, **period):
        blob = self.server.client.get(self.keys(*place, **period).hll)
        return empty() if blob is None else codec.decode(blob)

    def left(self, *place, **period):
        return left(self.server.client, self.keys(*place, **period))

    def back(self, *place, **period):
        return back(self.server.client, self.keys(*place, **period))


def held(server, tracker, bucket, kind):
    """What the server has of a bucket: registers (or the counts, of a stand-in), who is out, who is back."""
    calendar = tracker.calendar
    period = calendar.containing(kind, calendar.local(NOON))
    keys = tracker.backend.keys.bucket(period.name, bucket)
    if server.name == "fakeredis":
        sketches = [server.client.pfcount(key) for key in (keys.hll, keys.moved)]
    else:
        blobs = server.client.mget(keys.hll, keys.moved)
        sketches = [None if blob is None else codec.decode(blob).tobytes() for blob in blobs]
    return *sketches, left(server.client, keys), back(server.client, keys)


def wait(seconds, *writers):
    """Time passes for all of them."""
    for writer in writers:
        writer.wait(seconds)


IDS = st.sampled_from([f"u{n}" for n in range(6)])
PLACES = st.sampled_from(BUCKETS)
EVENTS = st.one_of(
    st.tuples(st.just("track"), IDS, PLACES),
    st.tuples(st.just("dated"), IDS, PLACES),
    st.tuples(st.just("move"), IDS, PLACES, IDS, PLACES),
    st.tuples(st.just("remove"), IDS, PLACES),
    st.just(("drain",)),
    st.tuples(st.just("push"), st.none() | st.integers(1, 9), st.booleans()),
)


NAMES = {
    "track": ("id", "bucket"),
    "dated": ("id", "bucket"),
    "move": ("id", "bucket", "old_id", "old_bucket"),
    "remove": ("old_id", "old_bucket"),
}


def play(writer, plain, events):
    for what, *parts in events:
        if what == "drain":
            writer.drain()
        elif what == "push":
            fail_at, after = parts
            writer.push(fail_at, after=after)
        else:
            names = NAMES[what]
            event = dict(zip(names, parts, strict=True)) | ({"date": TODAY} if what == "dated" else {})
            writer.track(**event)
            plain.track(**event)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=30))
def test_any_history_ends_as_if_nothing_was_buffered(server, events):
    server.client.flushdb()
    writer = Still(server)
    plain = server.tracker(KINDS, namespace="plain")
    play(writer, plain, events)
    assert writer.push() is None
    for bucket in BUCKETS:
        for kind in KINDS:
            written = held(server, writer.tracker, bucket, kind)
            assert written == held(server, plain, bucket, kind), (bucket, kind)
    statistics = writer.statistics
    assert statistics.pending == statistics.dropped == statistics.late == 0
    assert statistics.pushed == statistics.tracked
    server.trackers.clear()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(EVENTS, max_size=15),
    after=st.lists(EVENTS, max_size=15),
    vanished=st.sets(PLACES),
)
def test_what_the_server_lost_is_sent_again(real_server, before, after, vanished):
    """Registers and moves, each of one bucket at a time."""
    real_server.client.flushdb()
    writer = Still(real_server)
    plain = real_server.tracker(KINDS, namespace="plain")
    play(writer, plain, before)
    writer.push()
    for bucket in vanished:
        keys = writer.keys(bucket)
        real_server.client.delete(keys.hll, keys.moved, keys.moves)
    play(writer, plain, after)
    for bucket in BUCKETS:  # each gets an event, so that the writer looks at it
        writer.track(id="z", bucket=bucket)
        plain.track(id="z", bucket=bucket)
    assert writer.push() is None
    for bucket in BUCKETS:
        written = held(real_server, writer.tracker, bucket, "daily")
        assert written == held(real_server, plain, bucket, "daily"), bucket
    live = {"period": "daily", "buckets": BUCKETS, "live": True}
    assert writer.tracker.lookup(**live)[-1] == plain.lookup(**live)[-1]
    real_server.trackers.clear()


def test_only_registers_that_rose_are_sent(real_server):
    writer = Still(real_server)
    for n in range(50_000):
        writer.track(id=f"u{n}")
    writer.push()
    first = writer.statistics.bytes
    for n in range(50_000, 50_100):
        writer.track(id=f"u{n}")
    writer.push()
    second = writer.statistics.bytes - first
    assert first > 2 * 10_000  # two periods, dense
    assert second < 2 * 600
    for n in range(50_100):
        writer.track(id=f"u{n}")
    writer.push()
    third = writer.statistics.bytes - first - second
    assert third < 2 * 400  # whether both are there still
    assert writer.line.sent == {"INFO": 1, "TIME": 1, "EVALSHA": 2}
    assert writer.statistics.pushed == 2 * 100_200


def test_a_period_that_ends_keeps_what_came_before(server):
    writer = Still(server)
    tomorrow = day(-1)
    until = writer.tracker.calendar.timestamp(
        writer.tracker.calendar.containing("daily", writer.tracker.calendar.moment(tomorrow, "date")).start
    )
    writer.now = until - 1
    writer.drain()
    for n in range(300):
        writer.track(id=n)
    writer.now = until  # where the drainer wakes
    writer.drain()
    for n in range(200, 500):
        writer.track(id=n)
    assert writer.push() is None
    counts = {date: server.client.pfcount(writer.keys(date=date).hll) for date in (TODAY, tomorrow)}
    months = {writer.keys(kind="monthly", date=date).hll for date in (TODAY, tomorrow)}
    assert abs(counts[TODAY] - 300) < 12
    assert abs(counts[tomorrow] - 300) < 12
    if len(months) == 1:
        assert abs(server.client.pfcount(months.pop()) - 500) < 20
    assert writer.statistics.pushed == 1200


def test_an_idle_writer_keeps_nothing_of_periods_that_have_ended(server):
    writer = Still(server)
    for bucket in BUCKETS:
        writer.track(id=1, bucket=bucket)
    writer.track(id=2, bucket="b", old_id=2, old_bucket="c")
    assert writer.push() is None
    assert len(writer.buckets) == 6
    writer.track(id=3, bucket="b")
    writer.now += 32 * 86400
    writer.drain()
    assert {bucket for _, bucket in writer.buckets} == {"b"}  # not pushed yet
    assert writer.push() is None
    assert len(writer.buckets) == 0
    assert writer.statistics.pushed == writer.statistics.tracked == 2 * (3 + 2 + 1)


def test_buckets_that_come_and_go(real_server):
    """Room is for those in use: a process may live long."""
    writer = Still(real_server, max_sketches=20)
    for past in range(10, 0, -1):
        writer.now = NOON - past * 86400
        writer.drain()
        for n in range(8):
            writer.track(id=n, bucket=f"{past}-{n}")
        assert writer.push() is None
        assert len(writer.buckets) <= 20
        assert len(writer.buffer.intake.appends) <= 16
        assert writer.buffer.intake.released == 0
    statistics = writer.statistics
    assert (statistics.pushed, statistics.dropped) == (160, 0)


@pytest.mark.parametrize("days", [1, 2, 5])
def test_an_append_that_comes_late_is_not_lost(server, days):
    """However long a caller holds it, and as often as it does."""
    writer = Still(server)
    append = writer.buffer.intake.appends["b"]
    writer.drain()
    for _ in range(days):
        writer.now += 86400
        writer.drain()
        assert "b" not in writer.buffer.intake.appends
    for n in range(3):
        append(f"x{n}")
        writer.track(id=f"y{n}", bucket="b")
        assert writer.push() is None
    assert server.client.pfcount(writer.keys("b", date=day(-days)).hll) == 6
    assert writer.statistics.pushed == writer.statistics.tracked == 12
    assert writer.buffer.intake.released == 1
    del append
    writer.now += 86400
    writer.drain()
    assert writer.buffer.intake.released == 0


def test_clocks_may_be_set_back(server):
    writer = Still(server)
    writer.track(id=1)
    writer.drain()
    writer.now -= 86400
    writer.drain()
    writer.track(id=2)
    writer.push()
    assert server.client.pfcount(writer.keys().hll) == 1
    assert server.client.pfcount(writer.keys(date=day(1)).hll) == 1


def test_a_bucket_that_is_no_sketch_does_not_hold_up_the_others(server):
    writer = Still(server)
    server.client.rpush(writer.keys("b").hll, "no sketch")
    for n in range(10):
        for bucket in BUCKETS:
            writer.track(id=n, bucket=bucket)
    problem = writer.push()
    assert isinstance(problem, BackendResponseError)
    assert "'b'" in str(problem)
    assert writer.statistics.pending == 10
    assert [server.client.pfcount(writer.keys(bucket).hll) for bucket in ("c", None)] == [10, 10]
    server.client.delete(writer.keys("b").hll)
    assert writer.push() is None
    assert server.client.pfcount(writer.keys("b").hll) == 10
    assert writer.statistics.pending == 0


def test_late_events_are_counted(server):
    writer = Still(server)
    past = day(100)
    tracker = writer.tracker
    tracker.track(id=1, date=past, periods=["daily"])
    tracker.collapse(["daily"], date=day(99))
    server.client.delete(writer.keys(date=past).hll)
    writer.track(["daily"], id=2, date=past)
    writer.track(["daily"], id=3)
    assert writer.push() is None
    statistics = writer.statistics
    assert (statistics.late, statistics.pushed, statistics.pending) == (1, 1, 0)


def test_events_that_come_while_a_late_push_is_under_way(server):
    """None goes uncounted."""
    writer = Still(server)
    past = day(100)
    server.client.set(writer.keys(date=past).counted, 5)

    def meanwhile(commands):
        if len(more) < 7:
            more.append(writer.track(["daily"], id=f"m{len(more)}", date=past))
            writer.drain()
            numbers.append(writer.statistics)

    writer.track(["daily"], id=2, date=past)
    writer.drain()
    more, numbers = [], []
    writer.line.meanwhile = meanwhile
    assert writer.push() is None
    writer.line.meanwhile = lambda commands: None
    assert writer.push() is None
    for statistics in (*numbers, writer.statistics):
        assert statistics.tracked == statistics.pushed + statistics.pending + statistics.late
    assert writer.statistics.late == writer.statistics.tracked == 1 + len(more) > 3


@pytest.mark.parametrize("command", ["ZRANGEBYSCORE", "EVALSHA"])
def test_a_return_that_cannot_be_told_is_told_later(real_server, command, monkeypatch):
    """Neither is it forgotten who was out."""
    writer = Still(real_server)
    writer.tracker.track(old_id="s", old_bucket="b")
    writer.track(id="u", bucket="b")
    writer.wait(1)
    writer.push()
    assert writer.left("b") == {b"s"}
    execute = writer.line.execute

    def refuse(commands, shard=0):
        refused = [sent[0] == command and (command != "EVALSHA" or b"s" in sent) for sent in commands]
        replies = execute([("PING",) if no else sent for no, sent in zip(refused, commands, strict=True)])
        oom = BackendResponseError("OOM")
        return [oom if no else reply for no, reply in zip(refused, replies, strict=True)]

    writer.tracker.track(old_id="s2", old_bucket="b")  # since the table was read
    writer.wait(1)
    writer.drain()
    writer.track(id="s", bucket="b")
    writer.track(id="s2", bucket="b")
    monkeypatch.setattr(writer.line, "execute", refuse)
    assert isinstance(writer.push(), BackendResponseError)
    monkeypatch.undo()
    assert writer.left("b") >= {b"s"}
    assert writer.push() is None
    assert writer.back("b") == {b"s", b"s2"}


def test_ids_that_return_are_back(server):
    writer = Still(server)
    for n in range(10):
        writer.track(id=n, bucket="b")
    for n in range(5):
        writer.track(id=n, bucket="c", old_id=n, old_bucket="b")
    writer.push()
    assert len(writer.left("b")) == 5
    for n in (0, 1):
        writer.track(id=n, bucket="b")
    writer.push()
    assert writer.left("b") == {b"2", b"3", b"4"}
    assert writer.back("b") == {b"0", b"1"}


def test_a_push_that_comes_after_a_move_does_not_undo_it(real_server):
    """Two workers: what the one saw before the other moved the id is no return, however late it is pushed."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    wait(1, one, other)
    other.track(id="ann", bucket="member", old_id="s", old_bucket="anon")
    other.push()
    one.push()
    assert one.left("anon") == {b"s"}
    one.drain()
    wait(1, one, other)
    one.track(id="s", bucket="anon")  # signed out
    one.push()
    assert one.back("anon") == {b"s"}


def test_a_return_that_was_pushed_before_the_move_it_follows(real_server):
    """Two workers: the one that moved the id could not push in time."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    one.push()
    other.track(id="ann", bucket="member", old_id="s", old_bucket="anon")
    wait(1, one, other)
    one.drain()
    one.track(id="s", bucket="anon")
    one.push()
    other.push()
    assert one.left("anon") == {b"s"}
    one.track(id="another", bucket="anon")
    one.push()
    assert one.back("anon") == {b"s"}


@pytest.mark.parametrize("off", [-3000, -50, 50, 3000])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_process_did_itself_keeps_its_order(real_server, when, off):
    """However well the server's clock is known meanwhile: here it is off by milliseconds at first."""
    writer = Still(real_server)
    clock = writer._planner.data_set(0).clock
    for n in range(5):
        writer.track(id=n, bucket="b")
    writer.drain()
    for n in range(5):
        writer.track(old_id=n, old_bucket="b")
        if when == "after":
            writer.track(id=n, bucket="b")
            writer.track(old_id=n, old_bucket="b")
    writer.line.meanwhile = lambda commands: setattr(clock, "_ahead", clock._ahead and clock._ahead + off)
    writer.push()
    writer.line.meanwhile = lambda commands: None
    if when == "after":
        for n in range(5):
            writer.track(id=n, bucket="b")
    else:
        writer.track(id="another", bucket="b")
    writer.push()
    everyone = {b"%d" % n for n in range(5)}
    assert writer.left("b") == (everyone if when == "before" else set())
    assert writer.back("b") == (everyone if when == "after" else set())


@pytest.mark.parametrize("days", [0.001, 1000])
@pytest.mark.parametrize("buffered", [True, False])
def test_a_move_of_an_older_moment(server, days, buffered):
    """Whatever the time since the machine was started: a clock that is never set begins there."""
    writer = Still(server)
    writer.now = time.time()
    target = writer if buffered else writer.tracker
    moment = datetime.fromtimestamp(writer.now - days * 86400, UTC)
    target.track(old_id="s", old_bucket="b", date=moment)
    target.track(id="t", bucket="b", date=moment)
    writer.push()
    date = moment.date()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == ({b"s"}, set())
    target.track(id="s", bucket="b", date=moment - timedelta(seconds=1))
    writer.push()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == ({b"s"}, set())
    target.track(id="s", bucket="b", date=moment + timedelta(seconds=1))
    writer.push()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == (set(), {b"s"})
    target.track(old_id="s", old_bucket="b", date=moment)
    writer.push()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == (set(), {b"s"})


def test_the_clock_is_shared_by_threads(monkeypatch):
    """A tracker's threads and its writers' take samples of it, and forget them, at the same time."""
    clock = ServerClock(lambda: 0, lambda: 0)
    width = stamps._Sample.width.fget
    clock.sample(-10, [1, 0])

    def interrupted(sample):
        other = threading.Thread(target=clock.reset)
        other.start()
        other.join()
        return width(sample)

    monkeypatch.setattr(stamps._Sample, "width", property(interrupted))
    clock.sample(-10, [2, 0])
    assert clock.stamp(0) == 2_000_005


def test_a_return_just_after_a_move_that_a_drain_has_taken_along(server):
    """The move came after the drainer had looked at the clock and before it took the queue."""
    writer = Still(server)
    writer.track(id="s", bucket="b")
    writer.drain()
    intake = writer.buffer.intake
    take, left = intake.take, iter(["s"])

    def take_later():
        for id in left:
            writer.track(old_id=id, old_bucket="b")
        return take()

    intake.take = take_later
    writer.drain()
    writer.track(id="s", bucket="b")
    writer.push()
    assert (writer.left("b"), writer.back("b")) == (set(), {b"s"})


@pytest.mark.parametrize("buffered", [True, False])
def test_a_move_is_as_old_as_it_is(real_server, buffered):
    """Pushed after an outage, a move counts from when it was made, not from when it was pushed."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    one.push()
    wait(100, one, other)
    if buffered:
        other.track(old_id="s", old_bucket="anon")
        wait(100, one, other)
        one.drain()
        one.track(id="s", bucket="anon")
        other.push()
        one.push()
        assert one.back("anon") == {b"s"}
    else:
        one.track(id="s", bucket="anon")
        one.drain()
        wait(100, one, other)
        other.tracker.track(old_id="s", old_bucket="anon")
        one.push()
        assert one.left("anon") == {b"s"}


@pytest.mark.parametrize("limit", [0, 5])
@pytest.mark.parametrize("buffered", [True, False])
def test_how_many_moves_the_server_keeps_is_bounded(real_server, limit, buffered):
    writer = Still(real_server, moved_limit=limit)
    for n in range(20):
        (writer if buffered else writer.tracker).track(old_id=n, old_bucket="b")
    writer.push()
    keys = writer.keys("b")
    assert len(writer.left("b")) == limit
    assert real_server.client.exists(keys.moves) == (limit > 0)
    assert real_server.client.pfcount(keys.moved) == real_server.client.pfcount(keys.hll) == 20


def test_a_secret_hides_ids_wherever_they_go(server):
    writer = Still(server, secret="s3cret")
    plain = server.tracker(KINDS, namespace="plain", secret="s3cret")
    for target in (writer, plain):
        for n in range(200):
            target.track(id=f"name{n}", bucket="b")
        target.track(id="name0", bucket="c", old_id="name1", old_bucket="b")
        target.track(id="name7", bucket="b", date=TODAY)
    seen = []
    writer.line.meanwhile = seen.extend
    assert writer.push() is None
    assert len(seen) > 5
    assert not [part for command in seen for part in command if b"name" in str(part).encode()]
    for bucket in BUCKETS:
        written = held(server, writer.tracker, bucket, "daily")
        assert written == held(server, plain, bucket, "daily")


def test_an_outage_with_many_buckets_stays_within_its_bound(real_server):
    writer = Still(real_server, max_sketches=100, max_moves=50)
    for n in range(80):  # in two periods each: 160 places
        writer.track(id=n, bucket=f"b{n}")
    for n in range(60):
        writer.track(old_id=f"x{n}", old_bucket="b0")
    writer.drain()
    assert isinstance(writer.push(1), BackendConnectionError)
    statistics = writer.statistics
    assert statistics.tracked == 2 * (80 + 60)
    assert statistics.dropped == 60 + (120 - 50)
    assert statistics.pending == statistics.tracked - statistics.dropped
    assert writer.push() is None
    assert writer.statistics.pushed == statistics.pending
    for n in range(200):  # more buckets than places
        writer.track(id=n, bucket=f"more{n}")
    writer.push()
    after = writer.statistics
    assert after.tracked == after.pushed + after.dropped
    assert len(writer.buffer.intake.appends) == 100


@pytest.mark.either_server
@pytest.mark.parametrize("many", [100, pytest.param(1000, marks=pytest.mark.extended)])
def test_an_hour_of_outage_with_many_buckets(real_server, many):
    """Memory stays within what the README says: 48 KiB a bucket and period, and some for moves."""
    kinds, buckets = ("daily", "weekly", "monthly"), [f"b{n}" for n in range(many)]
    random, process, memory = np.random.default_rng(3), psutil.Process(), []
    writer = Still(real_server, kinds=kinds, max_moves=10_000)
    before = process.memory_info().rss
    told, moved = [], set()
    for _ in range(120):
        writer.now += 30
        told.append(random.integers((many, 300_000), size=(4 * many, 2), dtype=np.int32))
        for place, user in told[-1].tolist():
            writer.track(id=user, bucket=buckets[place])
        for user in random.integers(300_000, size=50).tolist():
            writer.track(old_id=f"s{user}", old_bucket=buckets[user % many])
            moved.add(user)
        writer.drain()
        assert isinstance(writer.push(1), BackendConnectionError)
        memory.append(process.memory_info().rss - before)
    assert max(memory) < 3 * many * 48 * 1024 + 2**26
    statistics = writer.statistics
    assert statistics.tracked == 3 * 120 * (4 * many + 50)
    assert statistics.pending == statistics.tracked - statistics.dropped
    moves = 3 * 120 * 50
    assert moves - 10_000 - 500 <= statistics.dropped <= moves - 10_000  # some moved twice
    assert writer.push() is None
    assert writer.push() is None
    assert writer.statistics.pushed == statistics.pending
    places, users = np.concatenate(told).T
    for place, bucket in enumerate(buckets):
        least = empty()
        fold(least, bulk.hashes_of_bytes([str(user).encode() for user in users[places == place].tolist()]))
        most = least.copy()
        fold(most, bulk.hashes_of_bytes([f"s{user}".encode() for user in moved if user % many == place]))
        found = writer.registers(bucket)
        assert (least <= found).all()
        assert (found <= most).all()


def test_hashes_of_ids_that_may_return_are_bounded(real_server, monkeypatch):
    monkeypatch.setattr("activity_tracker_hll.writer.buckets._MAX_HASHES", 1000)
    writer = Still(real_server)
    for part in range(5):
        for n in range(1000):
            writer.track(id=n % 500 + part, bucket="b")
        writer.drain()
    assert all(sum(len(part.hashes) for part in state.seen) <= 1000 for state in writer.buckets.values())
    writer.push()
    expected = np.zeros(16384, np.uint8)
    plain = real_server.tracker(KINDS, namespace="plain")
    plain.track_many(range(504), bucket="b")
    expected = codec.decode(
        real_server.client.get(plain.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "b").hll)
    )
    assert (writer.registers("b") == expected).all()


@pytest.mark.parametrize("pushes_too", [True, False], ids=["a parent that goes on", "one that ends"])
def test_what_a_child_does_with_what_it_inherits(real_server, pushes_too):
    """It pushes it: what the parent pushes too does no harm twice. But it counts as the parent's."""
    writer, parent = Still(real_server), Still(real_server)
    for process in (writer, parent):
        for n in range(20):
            process.track(id=n, bucket="b")
        process.drain()
        process.track(id=5, bucket="c", old_id=5, old_bucket="b")
        process.track(id=6, bucket="c", old_id=6, old_bucket="b")
        process.track(id=20, bucket="b")
    writer.after_fork(os.getppid())
    assert writer.statistics.tracked == 0
    writer.buffer.take_over(writer.now)
    writer.track(id=21, bucket="b")
    wait(1, writer, parent)
    parent.drain()
    parent.track(id=6, bucket="b")  # after the fork
    if pushes_too:
        parent.push()
    assert writer.push() is None
    assert real_server.client.pfcount(writer.keys("b").hll) == 22
    assert writer.left("b") == ({b"5"} if pushes_too else {b"5", b"6"})
    assert writer.back("b") == ({b"6"} if pushes_too else set())
    statistics = writer.statistics
    assert statistics.tracked == statistics.pushed == 2
    assert statistics.pending == 0


def test_what_is_refreshed_without_a_reason(real_server):
    writer = Still(real_server, refresh_interval=10)
    for n in range(1000):
        writer.track(id=n)
    writer.push()
    expected = writer.registers()
    real_server.client.delete(writer.keys().hll)
    writer.track(id="other", bucket="b")
    writer.push()
    assert not writer.registers().any()  # nothing of the bucket was tracked: nobody looked
    writer.now -= 86400  # a clock that can be set decides nothing
    writer.now += 86400
    writer.wait(4)
    writer.push()
    assert not writer.registers().any()
    writer.wait(12)
    assert writer.push() is None
    assert (writer.registers() == expected).all()


def test_another_server_is_recognised(real_server):
    writer = Still(real_server)
    writer.track(id=1)
    writer.push()
    writer.line.run_id = b"another"
    real_server.client.delete(writer.keys().hll)
    # Another writer came first, so that the sketch exists.
    real_server.client.pfadd(writer.keys().hll, "2")
    writer.track(id=3)
    writer.push()
    assert real_server.client.pfcount(writer.keys().hll) == 3


@pytest.mark.parametrize("why", ["an error", "a refresh", "another server"])
def test_a_return_that_another_process_saw_is_not_undone(real_server, why):
    """However soon all is sent again, by an error, a refresh, or another server."""
    writer = Still(real_server, refresh_interval=30)
    for id in ("kept", "lost"):
        writer.track(old_id=id, old_bucket="b")
    writer.push()
    writer.tracker.track(id="kept", bucket="b")
    keys = writer.keys("b")
    real_server.client.zrem(keys.moves, "lost")
    writer.track(id="z", bucket="c")
    if why == "an error":
        assert isinstance(writer.push(1), BackendConnectionError)
    elif why == "a refresh":
        writer.wait(46)
    else:
        writer.line.run_id = b"another"
    assert writer.push() is None
    assert writer.back("b") == {b"kept"}
    assert writer.left("b") == {b"lost"}


@pytest.mark.parametrize("lost", [("moved",), ("moves",), ("moved", "moves"), ("hll", "moved", "moves")])
def test_keys_of_moves_that_vanish_are_written_again(real_server, lost):
    """As eviction does it: one key at a time, while the sketch stays."""
    writer = Still(real_server)
    for id in ("out", "back"):
        writer.track(old_id=id, old_bucket="b")
    writer.push()
    writer.track(id="back", bucket="b")
    writer.push()
    keys = writer.keys("b")

    def held():
        return real_server.client.pfcount(keys.moved), writer.left("b"), writer.back("b")

    before = held()
    assert before == (2, {b"out"}, {b"back"})
    real_server.client.delete(*(getattr(keys, key) for key in lost))
    for n in range(3):
        writer.track(id=n, bucket="b")
        writer.push()
    assert held() == before


@pytest.mark.parametrize("lost", [("hll",), ("moved",), ("moves",), ("moved", "moves")])
@pytest.mark.parametrize("after", [0, 1], ids=["after the sketch", "amid the moves"])
def test_keys_that_vanish_during_a_push_are_written_again(real_server, lost, after, monkeypatch):
    """Eviction comes with what is written, and so between the parts of a push."""
    monkeypatch.setattr("activity_tracker_hll.operations.tracking.unite.IDS_PER_CALL", 5)
    monkeypatch.setattr("activity_tracker_hll.operations.tracking.unite._CALLS_PER_BATCH", 1)
    writer = Still(real_server, kinds=["daily"])
    for n in range(20):
        writer.track(old_id=n, old_bucket="b")
    writer.push()
    for n in range(20, 40):
        writer.track(old_id=n, old_bucket="b")
    keys, moves, execute = writer.keys("b"), [], writer.line.execute

    def evict(commands, shard=0):
        moves.extend(command for command in commands if WRITE.sha in command)
        if len(moves) == after + 1 and WRITE.sha in commands[0]:
            assert real_server.client.delete(*(getattr(keys, key) for key in lost))
        return execute(commands, shard)

    monkeypatch.setattr(writer.line, "execute", evict)
    assert writer.push() is None
    assert len(moves) == 4
    writer.track(id="another", bucket="b")
    assert writer.push() is None
    assert writer.left("b") == {b"%d" % n for n in range(40)}
    counts = [real_server.client.pfcount(key) for key in (keys.hll, keys.moved)]
    assert counts == [41, 40]


def test_what_is_written_again_is_not_ahead_of_the_rest(real_server):
    """An id is added where it goes before it leaves where it was, also if moves are sent once more."""
    writer = Still(real_server, kinds=["daily"])
    writer.track(old_id="other", old_bucket="b")
    writer.push()
    real_server.client.delete(writer.keys("b").moves)
    moving = iter([("u", "c", "s", "b")])

    def move(commands):
        if commands[0][0] == "EVALSHA":
            for id, bucket, old_id, old_bucket in moving:
                writer.track(id=id, bucket=bucket, old_id=old_id, old_bucket=old_bucket)
                writer.drain()

    writer.line.meanwhile = move
    writer.track(id="another", bucket="b")
    writer.push()
    assert next(moving, None) is None
    assert b"other" in writer.left("b")
    assert b"s" not in writer.left("b") or writer.registers("c").any()
    writer.push()
    assert writer.left("b") == {b"other", b"s"}
    assert writer.registers("c").any()


def test_the_returns_that_are_remembered_are_bounded(real_server):
    writer = Still(real_server, kinds=["daily"], max_moves=10)
    for n in range(50):
        writer.tracker.track(old_id=n, old_bucket="b")
    writer.wait(1)
    for n in range(50):
        writer.track(id=n, bucket="b")
    writer.push()
    assert len(writer.back("b")) == 50
    assert sum(len(state.moves) for state in writer.buckets.values()) <= 10


def test_what_was_tracked_is_counted_alike_before_and_after_it_is_drained(server):
    writer = Still(server)
    for n in range(10):
        writer.track_daily(id=n)
        writer.track(id=n)
        writer.track(["monthly"], id=n, bucket="b", old_id=n)
        writer.track(old_id=n)
    before = writer.statistics
    assert before.tracked == before.pending == 10 * (1 + 2 + 2 + 2)
    writer.drain()
    assert writer.statistics == before


def test_the_moves_that_are_remembered_are_bounded(real_server):
    writer = Still(real_server, max_moves=10)
    for n in range(3):
        for id in range(8):
            writer.track(old_id=8 * n + id, old_bucket=f"b{n}")
        writer.push()
    remembered = [len(state.moves) for state in writer.buckets.values()]
    assert 0 < sum(remembered) <= 10
    writer.wait(100)  # all is sent again, and is remembered still
    writer.push()
    assert [len(state.moves) for state in writer.buckets.values()] == remembered
    writer.now += 32 * 86400  # both periods end
    writer.drain()
    writer.track(["daily"], id=1)
    writer.push()
    assert [bucket for _, bucket in writer.buckets] == [None]


def test_errors_of_a_push_close_it(real_server):
    """What a push took along is given back even if it is never sent anything again."""
    writer = Still(real_server)
    writer.track(id=1)
    writer.drain()
    planner = writer._planner
    pushing = push(writer.buffer, planner.context, planner.data_set(0), ServerIdentity(), planner.running())
    next(pushing)
    assert writer.statistics.pending == 2
    pushing.send([b"run_id:1", [b"1800000000", b"0"]])
    pushing.close()
    assert writer.statistics.pending == 2
    with contextlib.suppress(StopIteration):
        pushing.send([])
    assert writer.push() is None
    assert writer.statistics.pending == 0
