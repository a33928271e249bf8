"""Which writes mark their periods as holding uncounted data, and when."""

from datetime import date, datetime

import pytest

from activity_tracker_hll import (
    ActivityTracker,
    BackendConnectionError,
    BackendDataError,
)
from activity_tracker_hll.planner import Planner
from helpers.collapses import marks
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY
from helpers.writes import WRITES


@pytest.fixture
def ticks(monkeypatch):
    """The clock that is never set, in seconds; it stands still."""
    now = [1000.0]
    monkeypatch.setattr(Planner, "ticks", staticmethod(lambda: round(now[0] * 1_000_000)))
    return now


def names_of(when, *kinds):
    """Names of periods."""
    moment = datetime.combine(when, datetime.min.time())
    calendar = ActivityTracker(timezone="UTC").calendar
    return {calendar.containing(kind, moment).name for kind in kinds}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_the_first_write_of_a_process_marks_its_periods(server, ticks, write):
    tracker = server.tracker(["daily", "monthly"])
    write(tracker, None)
    assert marks(server) == names_of(TODAY, "daily", "monthly")
    server.client.delete("active:{open}")
    write(tracker, None)
    write(tracker, TODAY)
    assert marks(server) == set()  # it knows that it has done that
    tracker.track_weekly(id=1)
    assert marks(server) == names_of(TODAY, "weekly")
    write(server.tracker(["daily", "monthly"]), None)
    assert marks(server) == names_of(TODAY, "daily", "weekly", "monthly")


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_each_write_to_a_past_period_marks_it(server, ticks, write):
    tracker = server.tracker(["daily", "yearly"])
    past = date(2020, 2, 29)
    for _ in range(3):
        write(tracker, past)
        assert marks(server) == names_of(past, "daily", "yearly")
        server.client.delete("active:{open}")


def test_a_period_about_to_end_is_marked_with_each_write(server, ticks):
    """Another host's clock may be ahead: it may just have collapsed it."""
    midnight = NOON - 12 * 3600
    tracker = server.tracker(clock=lambda: midnight - 30)
    for _ in range(3):
        tracker.track(id=1)
        assert marks(server) == names_of(YESTERDAY, "daily")
        server.client.delete("active:{open}")


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_marks_that_the_server_lost_come_back_after_a_minute(server, ticks, write):
    tracker = server.tracker(["daily", "monthly"])
    write(tracker, None)
    server.client.flushall()
    ticks[0] += 59
    write(tracker, None)
    assert marks(server) == set()
    ticks[0] += 1
    write(tracker, None)
    assert marks(server) == names_of(TODAY, "daily", "monthly")
    server.client.delete("active:{open}")
    ticks[0] += 59
    write(tracker, None)
    assert marks(server) == set()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_mark_that_did_not_get_there_is_set_by_the_next_write(server, ticks, monkeypatch, write):
    tracker = server.tracker(["daily"])
    tracker.lookup()
    execute, broken = tracker.backend.execute, True

    def breaking(commands, shard=0):
        if broken and any(command[0] == "SADD" for command in commands):
            raise BackendConnectionError("it is away")
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", breaking)
    with pytest.raises(BackendConnectionError):
        write(tracker, None)
    assert marks(server) == set()
    broken = False
    write(tracker, None)
    assert marks(server) == names_of(TODAY, "daily")


def test_marks_are_of_a_namespace_and_of_a_data_set(server, ticks):
    options = {} if server.name == "fakeredis" else {"shards": [{}, {"db": 1}]}
    tracker = server.tracker(namespace="other", **options)
    tracker.track(id=1, date=YESTERDAY)
    assert marks(server) == set()
    name = f"daily-{YESTERDAY:%Y%m%d}".encode()
    assert server.client.smembers("other:{open}") == {name}
    for shard in range(1, len(options.get("shards", ()))):
        tracker.track(id=1, shard=shard)
        other = tracker.backend.client(shard)
        assert other.smembers("other:{open}") == {f"daily-{TODAY:%Y%m%d}".encode()}
        other.flushdb()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_event_is_written_before_its_period_is_marked(server, ticks, monkeypatch, write):
    """A collapse takes a mark away and then looks for data: what comes later has its mark still to come."""
    tracker = server.tracker(["daily"])
    sent = []
    execute = tracker.backend.execute

    def noting(commands, shard=0):
        sent.extend(commands)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", noting)
    write(tracker, None)
    [mark] = [number for number, command in enumerate(sent) if command[0] == "SADD"]
    writes = [number for number, command in enumerate(sent) if command[0] in ("PFADD", "ZADD", "EVALSHA")]
    assert writes
    assert max(writes) < mark


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_key_of_marks_that_holds_something_else_is_named(server, write):
    server.client.set("active:{open}", "no set")
    with raises(BackendDataError, r"active:\{open\}"):
        write(server.tracker(), None)
