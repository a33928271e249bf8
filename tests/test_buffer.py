"""What a writer keeps between two pushes: the same as if every event had been sent at once.

The threads stand still here: a test folds and pushes where it wants to.
"""

import contextlib
import time
from collections import Counter

import numpy as np
import psutil
import pytest
from conftest import NOON, TODAY, day
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import BackendConnectionError, BufferedTracker, bulk
from activity_tracker_hll.errors import BackendResponseError
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty, fold

KINDS = ("daily", "monthly")
BUCKETS = ("b", "c", None)


class Still(BufferedTracker):
    """A writer whose threads are the test."""

    def __init__(self, server, namespace="written", kinds=KINDS, **options):
        self.now, self.later = NOON, 0
        backend = {name: options.pop(name) for name in ("secret", "moved_limit") if name in options}
        tracker = server.tracker(kinds, namespace=namespace, clock=lambda: self.now, **backend)
        super().__init__(tracker, **options)
        self.real = server.name != "fakeredis"
        self.server, self.tracker = server, tracker
        self.execute = self._backend.execute
        self.batches, self.sent = 0, Counter()
        self.fail_at, self.fail_after = None, False
        self._backend.execute = self.one

    def _start(self):
        pass

    def _ticks(self):
        return time.monotonic() + self.later

    def one(self, commands, shard=0):
        """Execute a batch, unless it is the one that fails, before or after the server has executed it."""
        self.batches += 1
        if self.fail_at == self.batches and not self.fail_after:
            raise BackendConnectionError("cut before")
        replies = self.execute(commands, shard)
        self.sent.update(command[0] for command in commands)
        if self.fail_at == self.batches:
            raise BackendConnectionError("cut after")
        return replies

    def fold(self):
        for buffer in self._buffers.values():
            buffer.sketches = self.real
            self._fold_one(buffer)

    def push(self, fail_at=None, *, after=False):
        self.batches, self.fail_at, self.fail_after = 0, fail_at, after
        self.sent.clear()
        return next(iter(self._push_all()), None)

    def keys(self, bucket=None, kind="daily", date=TODAY):
        calendar = self.tracker.calendar
        period = calendar.containing(kind, calendar.moment(date, "date"))
        return self.tracker.backend.keys.bucket(period.name, bucket)

    def registers(self, *place, **period):
        blob = self.server.client.get(self.keys(*place, **period).hll)
        return empty() if blob is None else codec.decode(blob)


def held(server, tracker, bucket, kind):
    """What the server has of a bucket: registers (or the count, of a stand-in) and who is out."""
    calendar = tracker.calendar
    period = calendar.containing(kind, calendar.local(NOON))
    keys = tracker.backend.keys.bucket(period.name, bucket)
    if server.name == "fakeredis":
        sketch = server.client.pfcount(keys.hll)
    else:
        blob = server.client.get(keys.hll)
        sketch = None if blob is None else codec.decode(blob).tobytes()
    return sketch, set(server.client.smembers(keys.out))


IDS = st.sampled_from([f"u{n}" for n in range(6)])
PLACES = st.sampled_from(BUCKETS)
EVENTS = st.one_of(
    st.tuples(st.just("track"), IDS, PLACES),
    st.tuples(st.just("dated"), IDS, PLACES),
    st.tuples(st.just("move"), IDS, PLACES, IDS, PLACES),
    st.tuples(st.just("remove"), IDS, PLACES),
    st.just(("fold",)),
    st.tuples(st.just("push"), st.none() | st.integers(1, 6), st.booleans()),
)


NAMES = {
    "track": ("id", "bucket"),
    "dated": ("id", "bucket"),
    "move": ("id", "bucket", "old_id", "old_bucket"),
    "remove": ("old_id", "old_bucket"),
}


def play(writer, plain, events):
    for what, *parts in events:
        if what == "fold":
            writer.fold()
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
        real_server.client.delete(keys.hll, keys.moved, keys.out, keys.back)
    play(writer, plain, after)
    for bucket in BUCKETS:  # each gets an event, so that the writer looks at it
        writer.track(id="z", bucket=bucket)
        plain.track(id="z", bucket=bucket)
    assert writer.push() is None
    assert writer.push() is None  # what left and came back takes two
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
    assert writer.sent == {"INFO": 1, "EXISTS": 8}
    assert writer.statistics.pushed == 2 * 100_200


def test_a_period_that_ends_keeps_what_came_before(server):
    writer = Still(server)
    tomorrow = day(-1)
    until = writer.tracker.calendar.timestamp(
        writer.tracker.calendar.containing("daily", writer.tracker.calendar.moment(tomorrow, "date")).start
    )
    writer.now = until - 1
    writer.fold()
    for n in range(300):
        writer.track(id=n)
    writer.now = until  # where the folder wakes
    writer.fold()
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


def test_buckets_that_come_and_go(real_server):
    """Room is for those in use: a process may live long."""
    writer = Still(real_server, max_sketches=20)
    for past in range(10, 0, -1):
        writer.now = NOON - past * 86400
        writer.fold()
        for n in range(8):
            writer.track(id=n, bucket=f"{past}-{n}")
        assert writer.push() is None
        buffer = writer._buffers[0]
        assert len(buffer._places) <= 20
        assert len(buffer.lanes) <= 16
        assert len(writer._append) <= 16
    statistics = writer.statistics
    assert (statistics.pushed, statistics.dropped) == (160, 0)


def test_an_append_that_comes_late_is_not_lost(server):
    writer = Still(server)
    append = writer._append["b"]
    writer.fold()
    writer.now += 86400
    writer.fold()
    assert "b" not in writer._append
    append("x")
    writer.track(id="y", bucket="b")
    assert writer.push() is None
    assert server.client.pfcount(writer.keys("b", date=day(-1)).hll) == 2


def test_clocks_may_be_set_back(server):
    writer = Still(server)
    writer.track(id=1)
    writer.fold()
    writer.now -= 86400
    writer.fold()
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


def test_ids_that_return_are_back(server):
    writer = Still(server)
    for n in range(10):
        writer.track(id=n, bucket="b")
    for n in range(5):
        writer.track(id=n, bucket="c", old_id=n, old_bucket="b")
    writer.push()
    assert server.client.scard(writer.keys("b").out) == 5
    for n in (0, 1):
        writer.track(id=n, bucket="b")
    writer.push()
    assert server.client.smembers(writer.keys("b").out) == {b"2", b"3", b"4"}
    assert server.client.smembers(writer.keys("b").back) == {b"0", b"1"}


def test_a_push_that_comes_after_a_move_does_not_undo_it(real_server):
    """Two workers: what the one saw before the other moved the id is no return, however late it is pushed."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    other.track(id="ann", bucket="member", old_id="s", old_bucket="anon")
    other.push()
    one.push()
    keys = one.keys("anon")
    assert real_server.client.smembers(keys.out) == {b"s"}
    assert 0 < real_server.client.ttl(f"{keys.hll[:-3]}tmp:moves") <= 3600
    one.fold()
    one.track(id="s", bucket="anon")  # signed out
    one.push()
    assert real_server.client.smembers(keys.back) == {b"s"}


@pytest.mark.parametrize("buffered", [True, False])
def test_a_move_is_as_old_as_it_is(real_server, buffered):
    """Pushed after an outage, a move counts from when it was made, not from when it was pushed."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    one.push()
    if buffered:
        other.track(old_id="s", old_bucket="anon")
        other.later = one.later = 100
        one.fold()
        one.track(id="s", bucket="anon")
        other.push()
        one.push()
        assert real_server.client.smembers(one.keys("anon").back) == {b"s"}
    else:
        one.track(id="s", bucket="anon")
        one.fold()
        other.tracker.track(old_id="s", old_bucket="anon")
        one.push()
        assert real_server.client.smembers(one.keys("anon").out) == {b"s"}


def test_how_long_moves_are_remembered_is_bounded(real_server):
    tracker = real_server.tracker(moved_limit=5)
    for n in range(20):
        tracker.track(old_id=n, old_bucket="b")
    [key] = real_server.client.scan_iter("*:tmp:moves")
    assert real_server.client.zcard(key) == 5
    real_server.tracker(moved_limit=0, namespace="none").track(old_id=1, old_bucket="b")
    assert not list(real_server.client.scan_iter("none:*:tmp:moves"))


def test_a_secret_hides_ids_wherever_they_go(server):
    writer = Still(server, secret="s3cret")
    plain = server.tracker(KINDS, namespace="plain", secret="s3cret")
    for target in (writer, plain):
        for n in range(200):
            target.track(id=f"name{n}", bucket="b")
        target.track(id="name0", bucket="c", old_id="name1", old_bucket="b")
        target.track(id="name7", bucket="b", date=TODAY)
    seen = []
    execute, writer.execute = (
        writer.execute,
        lambda commands, shard: seen.extend(commands) or execute(commands, shard),
    )
    assert writer.push() is None
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
    writer.fold()
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
    assert len(writer._buffers[0].lanes) == 100


def test_an_hour_of_outage_with_a_thousand_buckets(real_server):
    """Memory stays within what the README says: 48 KiB a bucket and period, and some for moves."""
    kinds, buckets = ("daily", "weekly", "monthly"), [f"b{n}" for n in range(1000)]
    random, process, memory = np.random.default_rng(3), psutil.Process(), []
    writer = Still(real_server, kinds=kinds, max_moves=10_000)
    before = process.memory_info().rss
    told, moved = [], set()
    for _ in range(120):
        writer.now += 30
        told.append(random.integers((1000, 300_000), size=(4000, 2), dtype=np.int32))
        for place, user in told[-1].tolist():
            writer.track(id=user, bucket=buckets[place])
        for user in random.integers(300_000, size=50).tolist():
            writer.track(old_id=f"s{user}", old_bucket=buckets[user % 1000])
            moved.add(user)
        writer.fold()
        assert isinstance(writer.push(1), BackendConnectionError)
        memory.append(process.memory_info().rss - before)
    assert max(memory) < 3 * 1000 * 48 * 1024 + 2**26
    statistics = writer.statistics
    assert statistics.tracked == 3 * 120 * 4050
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
        fold(most, bulk.hashes_of_bytes([f"s{user}".encode() for user in moved if user % 1000 == place]))
        found = writer.registers(bucket)
        assert (least <= found).all()
        assert (found <= most).all()


def test_hashes_of_ids_that_may_return_are_bounded(real_server, monkeypatch):
    monkeypatch.setattr("activity_tracker_hll.commands.buffer._MOST_HASHES", 1000)
    writer = Still(real_server)
    for part in range(5):
        for n in range(1000):
            writer.track(id=n % 500 + part, bucket="b")
        writer.fold()
    buffer = writer._buffers[0]
    assert buffer._hashes <= 1000
    writer.push()
    expected = np.zeros(16384, np.uint8)
    plain = real_server.tracker(KINDS, namespace="plain")
    plain.track_many(range(504), bucket="b")
    expected = codec.decode(
        real_server.client.get(plain.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "b").hll)
    )
    assert (writer.registers("b") == expected).all()


@pytest.mark.parametrize("parent_lives", [True, False])
def test_what_a_child_does_with_what_it_inherits(real_server, parent_lives):
    """Registers do no harm twice; moves are made again only if the parent cannot make them any more."""
    writer = Still(real_server)
    for n in range(20):
        writer.track(id=n, bucket="b")
    writer.fold()
    writer.track(id=5, bucket="c", old_id=5, old_bucket="b")
    writer.track(id=20, bucket="b")
    buffer = writer._buffers[0]
    buffer.reset_after_fork()
    writer._append.clear()
    buffer.inherit(writer.now)
    writer.track(id=21, bucket="b")
    buffer.settle(heir=not parent_lives)
    assert writer.push() is None
    assert real_server.client.pfcount(writer.keys("b").hll) == 22
    assert real_server.client.smembers(writer.keys("b").out) == (set() if parent_lives else {b"5"})
    statistics = writer.statistics
    assert statistics.tracked == statistics.pushed
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
    writer.now += 16
    assert writer.push() is None
    assert (writer.registers() == expected).all()


def test_another_server_is_recognised(real_server):
    writer = Still(real_server)
    writer.track(id=1)
    writer.push()
    writer._buffers[0]._run_id = b"that of a server before"
    real_server.client.delete(writer.keys().hll)
    # Another writer came first, so that the sketch exists.
    real_server.client.pfadd(writer.keys().hll, "2")
    writer.track(id=3)
    writer.push()
    assert real_server.client.pfcount(writer.keys().hll) == 3


def test_a_return_that_another_process_saw_is_not_undone(real_server):
    """The server comes back with its data: only what it lacks is sent again."""
    writer = Still(real_server)
    for id in ("kept", "lost"):
        writer.track(old_id=id, old_bucket="b")
    writer.push()
    writer.tracker.track(id="kept", bucket="b")
    keys = writer.keys("b")
    real_server.client.srem(keys.out, "lost")
    writer.later += 600
    writer._buffers[0].doubt()
    writer.push()
    assert real_server.client.smembers(keys.back) == {b"kept"}
    assert real_server.client.smembers(keys.out) == {b"lost"}


@pytest.mark.parametrize("lost", [("moved",), ("out",), ("back",), ("out", "back"), ("moved", "out", "back")])
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
        client = real_server.client
        return client.pfcount(keys.moved), client.smembers(keys.out), client.smembers(keys.back)

    before = held()
    assert before == (2, {b"out"}, {b"back"})
    real_server.client.delete(*(getattr(keys, key) for key in lost))
    for n in range(3):
        writer.track(id=n, bucket="b")
        writer.push()
    assert held() == before


def test_what_was_tracked_is_counted_alike_before_and_after_it_is_folded(server):
    writer = Still(server)
    for n in range(10):
        writer.track_daily(id=n)
        writer.track(id=n)
        writer.track(["monthly"], id=n, bucket="b", old_id=n)
        writer.track(old_id=n)
    before = writer.statistics
    assert before.tracked == before.pending == 10 * (1 + 2 + 2 + 2)
    writer.fold()
    assert writer.statistics == before


def test_the_moves_that_are_remembered_are_bounded(real_server):
    writer = Still(real_server, max_moves=10)
    for n in range(3):
        for id in range(8):
            writer.track(old_id=8 * n + id, old_bucket=f"b{n}")
        writer.push()
    buffer = writer._buffers[0]
    assert sum(len(state.moved) for state in buffer._places.values()) == 10
    writer.now += 32 * 86400  # both periods end
    writer.push()
    writer.push()
    assert buffer._remembered == 0


def test_errors_of_a_push_close_it(real_server):
    """What a push took along is given back even if it is never sent anything again."""
    writer = Still(real_server)
    writer.track(id=1)
    writer.fold()
    push = writer._buffers[0].push(writer.now)
    next(push)
    assert writer.statistics.pending == 2
    push.send([b"run_id:1"])
    push.close()
    assert writer.statistics.pending == 2
    with contextlib.suppress(StopIteration):
        push.send([])
    assert writer.push() is None
    assert writer.statistics.pending == 0
