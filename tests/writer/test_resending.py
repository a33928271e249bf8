"""What a server lost is sent again, and nothing else is."""

import os

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import BackendConnectionError, bulk
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty, fold
from activity_tracker_hll.scripts.calls import WRITE
from helpers.moments import NOON, TODAY, day
from helpers.servers import eventually
from helpers.still import BUCKETS, EVENTS, KINDS, SOME_BUCKETS, Still, held, play


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(EVENTS, max_size=15),
    after=st.lists(EVENTS, max_size=15),
    vanished=st.sets(SOME_BUCKETS),
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
    assert writer.line.sent == {"EXISTS": 2, "ZCARD": 2}
    assert writer.statistics.pushed == 2 * 100_200


def test_an_outage_with_many_buckets_stays_within_its_bound(real_server):
    writer = Still(real_server, max_sketches=100, max_moves=50)
    for n in range(80):  # in two periods each: 160 sketches
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
    for n in range(200):  # more buckets than there is room for
        writer.track(id=n, bucket=f"more{n}")
    writer.push()
    after = writer.statistics
    assert after.tracked == after.pushed + after.dropped
    assert len(writer.buffer.intake.appends) == 100


@pytest.mark.parametrize("many", [30, pytest.param(1000, marks=pytest.mark.long)])
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
        for number, user in told[-1].tolist():
            writer.track(id=user, bucket=buckets[number])
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
    numbers, users = np.concatenate(told).T
    for number, bucket in enumerate(buckets):
        least = empty()
        fold(least, bulk.hashes_of_bytes([str(user).encode() for user in users[numbers == number].tolist()]))
        most = least.copy()
        fold(most, bulk.hashes_of_bytes([f"s{user}".encode() for user in moved if user % many == number]))
        found = writer.registers(bucket)
        assert (least <= found).all()
        assert (found <= most).all()


def test_hashes_of_ids_that_may_return_are_bounded(real_server, monkeypatch):
    monkeypatch.setattr("activity_tracker_hll.writer.buckets.MAX_HASHES", 1000)
    writer = Still(real_server)
    for part in range(5):
        for n in range(1000):
            writer.track(id=n % 500 + part, bucket="b")
        writer.drain()
    for state in writer.buckets.values():
        assert sum(len(part.hashes) for part in state.unsent.seen) <= 1000
    writer.push()
    assert [state.remembered for state in writer.buckets.values()] == [504, 504]
    for n in range(1000):  # what other buckets push takes the place of what was pushed before
        writer.track(id=n, bucket="c")
    writer.push()
    kept = {target: state.remembered for target, state in writer.buckets.items()}
    assert sum(kept.values()) <= 2000  # the periods share them
    assert [kept[target] for target in kept if target[1] == "c"] == [1000, 1000]
    expected = np.zeros(16384, np.uint8)
    plain = real_server.tracker(KINDS, namespace="plain")
    plain.track_many(range(504), bucket="b")
    expected = codec.decode(
        real_server.client.get(plain.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "b").hll)
    )
    assert (writer.registers("b") == expected).all()


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
    writer.line.info = b"run_id:another"
    writer.wait(1)
    real_server.client.delete(writer.keys().hll)
    # Another writer came first, so that the sketch exists.
    real_server.client.pfadd(writer.keys().hll, "2")
    writer.track(id=3)
    writer.push()
    assert real_server.client.pfcount(writer.keys().hll) == 3


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
    monkeypatch.setattr("activity_tracker_hll.operations.tracking.unite.CALLS_PER_BATCH", 1)
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


def test_a_refresh_is_not_timed_by_a_clock_that_can_be_set(real_server):
    now = [NOON]
    tracker = real_server.tracker(clock=lambda: now[0])
    with tracker.buffered(flush_interval=0.05, refresh_interval=0.3) as writer:
        writer.track(id=1, bucket="b")
        assert writer.flush().pushed == 1
        now[0] -= 3600
        real_server.client.delete(f"{{active:daily-{TODAY:%Y%m%d}:b}}:hll")
        eventually(lambda: tracker.lookup(live=True, buckets=["b"])[-1][1] == {"b": 1})


def info(**run_ids):
    """INFO of a cluster's masters, by node."""
    return "".join(f"# Node {node}\r\nrun_id:{run}\r\n" for node, run in run_ids.items()).encode()


def on_two_nodes(writer):
    """Buckets whose names begin with a letter up to m are on one node, the others on another."""
    writer.line.node_of = lambda key, _shard: "a" if key.split(":")[-2] < "n" else "z"


def test_only_what_a_changed_node_has_is_sent_again(real_server):
    writer = Still(real_server)
    buckets = ("b", "c", "x", "y")
    writer.line.info = info(a="1", z="2")
    on_two_nodes(writer)
    for bucket in buckets:
        writer.track(id=1, bucket=bucket)
    writer.push()
    for bucket in buckets:
        real_server.client.delete(writer.keys(bucket).hll)
    writer.line.info = info(a="1", z="3")
    writer.wait(1)
    writer.track(id=2, bucket="other")
    assert writer.push() is None
    assert [bool(writer.registers(bucket).any()) for bucket in buckets] == [False, False, True, True]
    writer.wait(1)
    writer.track(id=3, bucket="other")
    writer.push()
    assert not writer.registers("b").any()


def test_it_may_be_learned_later_which_node_has_what(real_server):
    """A slot moves with a failover that was noticed by another slot."""
    writer = Still(real_server)
    writer.line.info = info(a="1", z="2")
    on_two_nodes(writer)
    writer.track(id=1, bucket="b")
    writer.push()
    real_server.client.delete(writer.keys("b").hll)
    writer.line.info = info(z="2", q="3")
    for node, there in (("a", False), ("q", True)):
        writer.line.node_of = lambda _key, _shard, node=node: node
        writer.wait(1)
        writer.track(id=2, bucket="other")
        assert writer.push() is None
        assert bool(writer.registers("b").any()) == there


def pushed_and_lost(writer, count):
    """Buckets with an id in each, of which the server has lost all."""
    buckets = [f"b{n}" for n in range(count)]
    for bucket in buckets:
        writer.track(id=1, bucket=bucket)
    writer.push()
    for bucket in buckets:
        writer.server.client.delete(writer.keys(bucket).hll)
    return buckets


def test_a_thousand_writers_do_not_send_all_at_once(real_server):
    """Twenty a second, after the first few; whoever waits for a flush does not wait for that."""
    writer = Still(real_server, kinds=["daily"])
    buckets = pushed_and_lost(writer, 200)

    def there():
        return sum(bool(writer.registers(bucket).any()) for bucket in buckets)

    writer.line.info = b"run_id:another"
    writer.wait(1)
    writer.track(id=1, bucket="other")
    assert writer.push() is None
    assert there() == 32
    writer.wait(1)
    assert writer.push() is None
    assert 32 + 20 <= there() <= 32 + 40  # and as much time as the test took
    before = there()
    writer.track(id=2, bucket="b199")  # of which the server lacks all, as it says
    assert writer.push() is None
    assert np.count_nonzero(writer.registers("b199")) == 2
    assert before < there() < 150
    assert writer.push_all(everything=True) == []
    assert there() == 200


def test_many_buckets_are_refreshed_more_seldom(real_server):
    writer = Still(real_server, kinds=["daily"], refresh_interval=10)
    buckets = pushed_and_lost(writer, 300)
    writer.wait(14)  # 15 to 45 seconds, where it is ten a second
    writer.push()
    assert not any(writer.registers(bucket).any() for bucket in buckets)
    writer.wait(17)
    writer.push_all(everything=True)
    assert 60 < sum(bool(writer.registers(bucket).any()) for bucket in buckets) < 240
    writer.wait(16)
    writer.push_all(everything=True)
    assert all(writer.registers(bucket).any() for bucket in buckets)


def test_what_is_tracked_meanwhile_does_not_wait_and_is_not_sent_as_a_whole(real_server):
    """The new server has an older sketch: it gets what rose at once, the rest when it is its turn."""
    writer = Still(real_server, kinds=["daily"])
    buckets = [f"b{n}" for n in range(100)]
    for n in range(5000):
        writer.track(id=n, bucket=buckets[n % 100])
    writer.push()
    before = [writer.registers(bucket) for bucket in buckets]
    for bucket in buckets:
        real_server.client.delete(writer.keys(bucket).hll)
        real_server.client.pfadd(writer.keys(bucket).hll, "old")
    writer.line.info = b"run_id:another"
    writer.wait(1)
    writer.push()
    for bucket in buckets:
        writer.track(id="new", bucket=bucket)
    sent = writer.statistics.bytes
    assert writer.push() is None
    assert writer.statistics.bytes - sent < 100 * 400  # whole ones are 200 bytes more
    new = np.array([np.count_nonzero(writer.registers(bucket)) for bucket in buckets])
    assert 20 < (new == 2).sum() <= 100 - 32  # some more had their turn, as time went on
    assert writer.push_all(everything=True) == []
    for bucket, registers in zip(buckets, before, strict=True):
        assert (writer.registers(bucket) >= registers).all()


def test_after_an_outage_not_all_is_refreshed_at_once(real_server):
    writer = Still(real_server, kinds=["daily"], refresh_interval=10)
    buckets = pushed_and_lost(writer, 100)
    writer.wait(1000)
    assert writer.push() is None
    assert sum(bool(writer.registers(bucket).any()) for bucket in buckets) == 32
    assert writer.push_all(everything=True) == []
    assert all(writer.registers(bucket).any() for bucket in buckets)


def test_another_server_is_remembered_however_long_it_is_not_ready(real_server):
    writer = Still(real_server, refresh_interval=10_000)
    writer.track(id=1, bucket="b")
    writer.push()
    real_server.client.delete(writer.keys("b").hll)
    writer.line.info = b"run_id:another"
    writer.wait(1)
    writer.track(id=2, bucket="other")
    assert isinstance(writer.push(2), BackendConnectionError)  # after it has said who it is
    writer.wait(100)
    assert writer.push() is None
    assert writer.registers("b").any()


def test_a_child_recognises_another_server_than_its_parents(real_server):
    writer = Still(real_server, refresh_interval=10_000)
    writer.track(id=1, bucket="b")
    writer.push()
    real_server.client.delete(writer.keys("b").hll)
    writer.line.info = b"run_id:another"
    writer.after_fork(os.getppid())
    writer.buffer.take_over(NOON)
    writer.track(id=2, bucket="other")
    assert writer.push() is None
    assert writer.registers("b").any()


def test_what_fails_before_anything_is_sent_loses_nothing(real_server, monkeypatch):
    writer = Still(real_server)
    for bucket in ("b", "c"):
        writer.track(id=1, bucket=bucket)
    clock, calls = writer.planner.data_set(0).clock, []
    stamp = clock.stamp

    def short_of_memory(ticks):
        calls.append(ticks)
        if len(calls) == 3:
            raise MemoryError
        return stamp(ticks)

    monkeypatch.setattr(clock, "stamp", short_of_memory)
    assert isinstance(writer.push(), MemoryError)
    assert writer.statistics.pending == 4
    assert writer.push() is None
    assert writer.statistics.pushed == 4
    assert all(writer.registers(bucket).any() for bucket in ("b", "c"))


def test_an_id_that_is_back_in_a_period_that_is_too_late_is_not_kept_for_ever(real_server):
    writer = Still(real_server, kinds=["daily"])
    writer.tracker.track(old_id="u", old_bucket="b")
    writer.wait(2)
    writer.drain()
    writer.track(id="u", bucket="b")
    keys = writer.keys("b")

    def collapse(commands):
        if writer.line.sent["ZRANGEBYSCORE"] == 2 and commands[0][0] == "ZRANGEBYSCORE":
            real_server.client.set(keys.counted, 1)
            real_server.client.delete(keys.hll, keys.moved, keys.moves)

    writer.line.meanwhile = collapse
    assert writer.push() is None
    assert writer.statistics.late == 1
    assert writer.push() is None
    assert all(state.is_idle for state in writer.buckets.values())


@pytest.mark.parametrize("more", [0, 1])
def test_a_flush_finds_out_that_the_server_lost_all(real_server, more):
    """However soon after it was asked last, and whether there is anything new."""
    writer = Still(real_server, kinds=["daily"])
    for bucket in ("b", "c"):
        writer.track(id=1, bucket=bucket)
    writer.line.info = b"run_id:first"
    assert writer.push() is None
    real_server.client.flushdb()
    writer.line.info = b"run_id:restarted"
    for n in range(more):
        writer.track(id=n, bucket="b")
    assert writer.push_all(everything=True) == []
    assert [real_server.client.pfcount(writer.keys(bucket).hll) for bucket in ("b", "c")] == [1 + more, 1]


@pytest.mark.parametrize("command", ["HSET", "SADD"])
def test_a_mark_that_failed_is_made_good(real_server, command):
    """Its events are acknowledged, so that nothing else has it sent again."""
    writer = Still(real_server, kinds=["daily"])
    assert writer.push() is None
    writer.track(id="late", bucket="b", date=day(5))
    execute = writer.line.execute

    def refuse(commands, shard=0):
        if commands[-1][0] == "SADD":
            return [BackendConnectionError("cut") if sent[0] == command else 0 for sent in commands]
        return execute(commands, shard)

    writer.line.execute = refuse
    assert "cut" in str(writer.push())
    assert writer.statistics.pending == 0
    assert writer.push() is not None  # a flush waits for it
    writer.line.execute = execute
    assert writer.push() is None
    assert writer.tracker.collapse(buckets=["b"])
    assert writer.push() is None
    assert not writer.line.sent  # once
