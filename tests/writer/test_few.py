"""Where few registers rose, a push sends ids that stand for them, by plain commands."""

import pytest

from activity_tracker_hll import BackendDataError
from activity_tracker_hll.operations.tracking.unite import FEW_REGISTERS
from helpers.moments import YESTERDAY
from helpers.still import KINDS, Still, held


@pytest.fixture
def writer(real_server):
    return Still(real_server)


@pytest.fixture
def plain(real_server):
    return real_server.tracker(KINDS, namespace="plain")


def same(real_server, writer, plain, *buckets):
    for bucket in buckets:
        for kind in KINDS:
            assert held(real_server, writer.tracker, bucket, kind) == held(real_server, plain, bucket, kind)


def test_three_commands_a_bucket_and_period(real_server, writer, plain):
    buckets = [f"b{n}" for n in range(300)]
    for n in range(900):
        writer.track(id=n, bucket=buckets[n % 300])
        plain.track(id=n, bucket=buckets[n % 300])
    assert writer.push() is None
    sent = {name: writer.line.sent[name] for name in ("EXISTS", "PFADD", "ZCARD", "EVALSHA")}
    assert sent == {"EXISTS": 600, "PFADD": 600, "ZCARD": 600, "EVALSHA": 0}
    same(real_server, writer, plain, *buckets)
    assert writer.statistics.pushed == 2 * 900


@pytest.mark.parametrize("more", [0, 1])
def test_more_than_a_few_go_as_a_sketch(real_server, writer, plain, more):
    for n in range(FEW_REGISTERS + more):
        writer.track(id=n)
        plain.track(id=n)
    assert writer.push() is None
    assert writer.line.sent["EVALSHA"] == 2 * more
    same(real_server, writer, plain, None)


def test_a_period_that_is_over_may_be_too_late_and_so_gets_a_script(real_server, writer):
    writer.track(["daily"], id=1, date=YESTERDAY)
    assert writer.push() is None
    assert writer.line.sent["EVALSHA"] == 1


@pytest.mark.parametrize("lost", [("hll",), ("hll", "moved", "moves")])
def test_what_was_lost_is_sent_again(real_server, writer, plain, lost):
    for n in range(1000):
        writer.track(id=n, bucket="b")
        plain.track(id=n, bucket="b")
    writer.push()
    for kind in KINDS:
        keys = writer.keys("b", kind=kind)
        real_server.client.delete(*(getattr(keys, key) for key in lost))
    writer.track(id="another", bucket="b")
    plain.track(id="another", bucket="b")
    assert writer.push() is None
    assert writer.line.sent["PFADD"] == 2
    same(real_server, writer, plain, "b")


def test_a_side_table_that_another_process_made_is_looked_at(real_server, writer, plain):
    """An id that left comes back: it counts again."""
    writer.track(id="x", bucket="b")
    writer.push()
    for namespace in ("written", "plain"):
        other = real_server.tracker(KINDS, namespace=namespace)
        other.track(id="x", bucket="b")
        other.track(old_id="x", old_bucket="b")
    assert writer.left("b") == {b"x"}
    writer.wait(2)
    writer.drain()  # what comes after this came after the move
    for tracker in (writer, plain):
        tracker.track(id="x", bucket="b")
        tracker.track(id="y", bucket="b")
    assert writer.push() is None
    assert writer.back("b") == {b"x"}
    same(real_server, writer, plain, "b")


@pytest.mark.parametrize("key", ["hll", "moves"])
@pytest.mark.parametrize("more", [100, 10_000])
def test_the_same_is_said_of_a_key_of_the_wrong_type_however_much_is_sent(real_server, writer, key, more):
    """So that it is told once, whatever comes."""
    real_server.client.rpush(getattr(writer.keys("broken"), key), "something else")
    writer.track(id=1, bucket="broken")
    error = writer.push()
    assert isinstance(error, BackendDataError)
    writer.track_many(range(more), bucket="broken")
    assert str(writer.push()) == str(error)


@pytest.mark.parametrize("value", ["text", b"HYLL but no sketch"])
def test_a_key_that_holds_something_else_holds_up_no_other(real_server, writer, value):
    real_server.client.set(writer.keys("broken").hll, value)
    for bucket in ("broken", "b"):
        writer.track(id=1, bucket=bucket)
    error = writer.push()
    assert isinstance(error, BackendDataError)
    assert "'broken'" in str(error)
    assert writer.statistics.pending == 1
    real_server.client.delete(writer.keys("broken").hll)
    assert writer.push() is None
    assert writer.registers("broken").any()


def test_an_event_that_came_amid_the_push_goes_with_the_next(real_server, writer, plain):
    def meanwhile(commands):
        if any(command[0] == "PFADD" for command in commands):
            writer.line.meanwhile = lambda _commands: None
            writer.track(id=2)
            writer.drain()

    writer.line.meanwhile = meanwhile
    writer.track(id=1)
    assert writer.push() is None
    assert writer.statistics.pending == 2
    assert writer.push() is None
    for id in (1, 2):
        plain.track(id=id)
    same(real_server, writer, plain, None)


def test_what_is_evicted_once_it_is_added_is_sent_again(real_server, writer, plain):
    for namespace in ("written", "plain"):
        real_server.tracker(KINDS, namespace=namespace).track(old_id="x", old_bucket="b")

    def evict(commands):
        if any(command[0] == "PFADD" for command in commands):
            for kind in KINDS:
                real_server.client.delete(writer.keys("b", kind=kind).hll)

    writer.line.meanwhile = evict
    writer.track(id=1, bucket="b")
    assert writer.push() is None
    for kind in KINDS:
        assert real_server.client.pfcount(writer.keys("b", kind=kind).hll) == 1


def test_a_period_that_had_no_room_gets_nothing_of_the_other(real_server):
    writer = Still(real_server, max_sketches=2)
    writer.track_many(range(500), ["daily"], bucket="b")
    writer.track(["daily"], id=1, bucket="other")

    def meanwhile(_commands):
        writer.line.meanwhile = lambda _commands: None
        writer.track_many(range(10_000, 13_000), bucket="b")
        writer.drain()

    writer.push()
    writer.track(["daily"], id=2, bucket="other")
    writer.drain()
    writer.line.meanwhile = meanwhile
    writer.push()
    assert writer.statistics.dropped == 3000
    writer.track(id=10_000, bucket="b")
    writer.push()
    writer.push()
    assert 0 < real_server.client.pfcount(writer.keys("b", kind="monthly").hll) < 3200
