"""What a writer keeps between two pushes: the same as if every event had been sent at once.

See test_returns.py for moves, and test_resending.py for what servers lose.
"""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll.errors import BackendResponseError
from activity_tracker_hll.writer.push import ServerIdentity, push
from helpers.moments import NOON, TODAY, day
from helpers.still import BUCKETS, EVENTS, KINDS, Still, held, play


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=30), step=st.sampled_from([1, 2, 3, 8192]))
def test_any_history_ends_as_if_nothing_was_buffered(server, monkeypatch, events, step):
    monkeypatch.setattr("activity_tracker_hll.writer.intake.STEP", step)
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


@pytest.mark.parametrize("step", [1, 2, 3, 8192])
def test_what_follows_an_event_that_has_to_wait_waits_too(server, monkeypatch, step):
    """Its queue is drained before the one that has the addition which it waits for."""
    monkeypatch.setattr("activity_tracker_hll.writer.intake.STEP", step)
    writer = Still(server)
    for bucket in ("b", "c"):
        writer.track(id="anyone", bucket=bucket)
    writer.drain()
    writer.wait(1)
    writer.track(id="u", bucket="c", old_id="u", old_bucket="b")
    for id in ("u", "v", "w"):
        writer.track(id=id, bucket="b")
    assert writer.push() is None
    assert (writer.left("b"), writer.back("b")) == (set(), {b"u"})
    writer.track(id="u", bucket="c", old_id="u", old_bucket="b")
    assert writer.push() is None
    assert (writer.left("b"), writer.back("b")) == ({b"u"}, set())


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


def test_a_period_that_ends_before_it_is_known_what_the_server_takes(real_server):
    """As it does not answer yet."""
    writer = Still(real_server, kinds=["daily"])
    writer.track(id=1)
    writer.drain_buffer()
    writer.now += 86400
    writer.drain_buffer()
    for n in range(3):
        writer.track(id=n)
    assert writer.push() is None
    counts = [real_server.client.pfcount(writer.keys(date=date).hll) for date in (TODAY, day(-1))]
    assert counts == [1, 3]


def test_what_fails_for_many_at_once_is_done_one_by_one(server, monkeypatch):
    """Whatever the reason: events that were taken out of a queue are in nobody else's hands."""

    def fail(*_):
        raise AttributeError("partially initialized module")

    writer = Still(server)
    monkeypatch.setattr("activity_tracker_hll.bulk.all_hashes", fail)
    for n in range(300):
        writer.track(id=n, bucket=BUCKETS[n % len(BUCKETS)])
    writer.drain()
    monkeypatch.undo()
    assert writer.push() is None
    found = writer.statistics
    assert (found.tracked, found.pushed, found.dropped) == (300 * len(KINDS), 300 * len(KINDS), 0)
    counted = sum(server.client.pfcount(writer.keys(bucket).hll) for bucket in BUCKETS)
    assert abs(counted - 300) < 12


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


def test_errors_of_a_push_close_it(real_server):
    """What a push took along is given back even if it is never sent anything again."""
    writer = Still(real_server)
    writer.track(id=1)
    writer.drain()
    planner = writer.planner
    server = ServerIdentity(lambda _target: "")
    pushing = push(writer.buffer, planner.data_set(0), server, planner.running(), everything=False)
    next(pushing)
    assert writer.statistics.pending == 2
    pushing.send([b"run_id:1", b"master_replid:2", [b"1800000000", b"0"]])
    pushing.close()
    assert writer.statistics.pending == 2
    with contextlib.suppress(StopIteration):
        pushing.send([])
    assert writer.push() is None
    assert writer.statistics.pending == 0
