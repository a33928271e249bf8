"""track, track_many, import_events and live lookups, on every server."""

import pickle
import uuid
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from activity_tracker_hll import (
    ActivityTracker,
    BackendConnectionError,
    BackendDataError,
    BackendError,
    LateEventError,
)
from activity_tracker_hll.operations.tracking import batches
from activity_tracker_hll.periods import PERIODS
from activity_tracker_hll.planner import Planner
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day

NOW = datetime.fromtimestamp(NOON, UTC).replace(tzinfo=None)


def live(tracker, period="daily", bucket=None, **options):
    """The count of the running period."""
    return tracker.lookup(period, buckets=[bucket], live=True, **options)[-1][1][bucket]


def test_one_id_counts_once_whatever_its_type(server):
    tracker = server.tracker()
    for id in (7, "7", b"7", np.int64(7), 7):
        tracker.track(id=id)
    assert live(tracker) == 1
    for id in (8, uuid.UUID(int=8), "日本", "a\r\nb", b"\x00"):
        tracker.track(id=id)
    assert live(tracker) == 6


def test_all_periods_in_one_call(server):
    tracker = server.tracker(PERIODS)
    tracker.track(id=1)
    tracker.track(id=2, periods=["yearly"])
    assert [live(tracker, kind) for kind in PERIODS] == [1, 1, 1, 1, 1, 2]


def test_shorthands(server):
    tracker = server.tracker(None)
    for kind in PERIODS:
        getattr(tracker, f"track_{kind}")(id=kind, bucket="b")
        rows = getattr(tracker, f"lookup_{kind}")(buckets=["b"], live=True)
        assert rows[-1][1] == {"b": 1}
        period = tracker.calendar.containing(kind, NOW)
        done = getattr(tracker, f"collapse_{kind}")(buckets=["b"], date=period.next().start)
        assert done == [(period, "b", 1)]
    assert ActivityTracker.PERIOD_MONTHLY == "monthly"


def test_buckets_are_apart(server):
    tracker = server.tracker()
    tracker.track(id=1)
    tracker.track(id=1, bucket="a")
    tracker.track(id=2, bucket="a:b")
    tracker.track_many([1, 2, 3], bucket="日本")
    names = [None, "a", "a:b", "日本", "unheard of"]
    assert tracker.lookup(buckets=names, live=True)[-1] == (
        TODAY,
        dict(zip(names, [1, 1, 1, 3, 0], strict=True)),
    )


def test_dates(server):
    tracker = server.tracker(["daily", "monthly"], timezone="Asia/Tokyo")
    tracker.track(id=1, date=date(2026, 1, 31))
    tracker.track(id=2, date=datetime(2026, 1, 31, 23, 59))
    tracker.track(id=3, date=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))  # 1 February there
    rows = tracker.lookup("daily", start=date(2026, 1, 30), end=date(2026, 2, 3), live=True)
    assert rows == [
        (date(2026, 1, 30), {None: 0}),
        (date(2026, 1, 31), {None: 2}),
        (date(2026, 2, 1), {None: 1}),
        (date(2026, 2, 2), {None: 0}),
    ]
    rows = tracker.lookup("monthly", start=date(2026, 1, 1), end=date(2026, 3, 1), live=True)
    assert rows == [(date(2026, 1, 1), {None: 2}), (date(2026, 2, 1), {None: 1})]


def test_the_day_changes_while_running(server):
    now = [NOON]
    tracker = server.tracker(["hourly", "daily"], clock=lambda: now[0])
    for hours in (0, 11, 12, 36):
        now[0] = NOON + hours * 3600 + 1799
        tracker.track(id=hours)
    rows = tracker.lookup("daily", start=TODAY, live=True)
    assert [count[None] for _, count in rows] == [2, 1, 1]
    assert sum(count[None] for _, count in tracker.lookup("hourly", start=NOW, live=True)) == 4
    assert tracker.lookup("hourly", start=NOW, live=True)[0] == (NOW, {None: 1})


def test_track_many_is_track_of_each(server):
    tracker = server.tracker(["daily", "monthly"])
    ids = [f"user{n}" for n in range(2500)]
    for form in (ids, set(ids), iter(ids), np.array(ids), np.array(ids, dtype="S")):
        tracker.track_many(form, bucket="many")
    before = live(tracker, bucket="many")
    for id in ids[:200]:
        tracker.track(id=id, bucket="many")
    assert live(tracker, bucket="many") == before == pytest.approx(2500, rel=0.03)
    tracker.track_many([], bucket="none")
    assert live(tracker, bucket="none", missing=None) is None


def test_import_in_any_order(server):
    tracker = server.tracker(["daily", "monthly"])
    events = [(n % 100, f"b{n % 3}", day(1 + n % 5)) for n in range(3000)]
    seen = []
    result = tracker.import_events(iter(events[::-1]), progress=seen.append)
    assert (result.events, result.late) == (3000, 0)
    assert seen[-1] == 3000
    expected = {
        (when, bucket): len({id for id, b, d in events if (b, d) == (bucket, when)})
        for _, bucket, when in events
    }
    buckets = ["b0", "b1", "b2"]
    rows = tracker.lookup("daily", start=day(5), buckets=buckets, live=True)[:-1]
    found = {(when, bucket): count for when, counts in rows for bucket, count in counts.items()}
    assert found == expected
    tracker.import_events(events)
    assert tracker.lookup("daily", start=day(5), buckets=buckets, live=True)[:-1] == rows


def test_import_of_nothing_and_of_more_than_a_batch(server, monkeypatch):
    monkeypatch.setattr(batches, "EVENTS_PER_BATCH", 1000)  # fakeredis takes minutes for two real ones
    tracker = server.tracker()
    assert tracker.import_events([]).events == 0
    seen = []
    events = ((n % 50, None, TODAY) for n in range(2500))
    assert tracker.import_events(events, progress=seen.append).events == 2500
    assert seen == [1, 2500]
    assert live(tracker) == 50


@pytest.mark.parametrize("every_s", [1e-4, 0.1, 3])
def test_import_of_a_slow_stream_sends_what_there_is_each_second(server, every_s):
    now, sent = NOON, []
    tracker = server.tracker(clock=lambda: now)
    number = 20_000 if every_s < 0.01 else 60

    def events():
        nonlocal now
        for n in range(number):
            yield n, None, TODAY
            waiting = n + 1 - (sent[-1] if sent else 0)
            assert waiting <= max(1, 2.1 / every_s)
            now += every_s

    assert tracker.import_events(events(), progress=sent.append).events == number
    assert sent[0] == 1
    assert len(sent) <= 2 + number * max(every_s, 1e-9)
    assert live(server.tracker()) == pytest.approx(number, rel=0.03)


def test_what_was_never_collapsed_never_expires(server):
    tracker = server.tracker(["daily"])
    tracker.track(id=1, date=date(2015, 5, 17))
    tracker.track(id=2)
    tracker.track(id=2, old_id=2, bucket="x")
    for key in server.names():
        assert server.client.ttl(key) == -1


@pytest.mark.parametrize("how", ["track", "track_many", "move"])
def test_a_write_to_a_period_whose_sketch_is_gone_is_refused(server, how):
    tracker = server.tracker(["daily", "monthly"], keep_sketches=timedelta(0))
    old = date(2020, 2, 29)
    tracker.track_many(range(5), date=old)
    tracker.collapse(date=date(2020, 3, 1))
    write = {
        "track": lambda: tracker.track(id=9, date=old),
        "track_many": lambda: tracker.track_many([9, 10], date=old),
        "move": lambda: tracker.track(id=9, bucket="new", old_id=3, date=old),
    }[how]
    with raises(LateEventError, "daily-20200229", "monthly-202002") as caught:
        write()
    assert caught.value.periods == ("daily-20200229", "monthly-202002")
    assert pickle.loads(pickle.dumps(caught.value)).periods == caught.value.periods
    rows = tracker.lookup("daily", start=old, end=date(2020, 3, 1), live=True)
    assert rows == [(old, {None: 5})]
    assert not [key for key in server.names() if key.endswith("20200229}:hll")]
    result = tracker.import_events([(9, None, old), (9, None, TODAY)])
    assert (result.events, result.late) == (2, 2)
    assert live(tracker, "daily") == 1


def test_a_late_write_to_a_kept_sketch_counts_at_the_next_recount_and_expires_with_it(server):
    tracker = server.tracker()
    tracker.track(id=1, date=YESTERDAY)
    tracker.collapse()
    ttl = server.client.ttl(f"{{active:daily-{YESTERDAY:%Y%m%d}}}:hll")
    tracker.track(id=2, date=YESTERDAY)
    tracker.track(id=3, old_id=1, date=YESTERDAY)
    parts = [f"{{active:daily-{YESTERDAY:%Y%m%d}}}:{part}" for part in ("hll", "moved", "moves")]
    for when in ("as soon as it is written", "after the recount"):
        for key in parts:
            assert ttl - 60 <= server.client.ttl(key) <= ttl, f"{key} {when}"
        assert tracker.lookup(start=YESTERDAY) == [(YESTERDAY, {None: 1 if "soon" in when else 2})]
        tracker.collapse(recount=True)
    assert set(parts) <= set(server.names())


def test_a_late_write_to_a_period_where_there_was_nothing_is_counted_by_the_next_collapse(server):
    tracker = server.tracker()
    assert tracker.collapse(max_periods=3) == []
    assert server.names() == []
    assert tracker.lookup(start=day(3), missing=None) == [(day(n), {None: None}) for n in (3, 2, 1)]
    tracker.track(id=1, date=day(2))
    assert server.client.ttl(f"{{active:daily-{day(2):%Y%m%d}}}:hll") == -1
    assert [(done.period.date, done.count) for done in tracker.collapse(max_periods=3)] == [(day(2), 1)]
    rows = tracker.lookup(start=day(3), missing=None)
    assert [count[None] for _, count in rows] == [None, 1, None]


@pytest.mark.parametrize("how", ["track", "track_many", "large", "move", "import"])
def test_a_late_write_opens_a_period_again_that_activity_tracker_counted_as_empty(server, how):
    """It stores a zero where there was nothing."""
    tracker = server.tracker()
    count = f"active:daily-{day(2):%Y%m%d}"
    server.client.set(count, 0)
    write = {
        "track": lambda: tracker.track(id=1, date=day(2)),
        "track_many": lambda: tracker.track_many([1], date=day(2)),
        "large": lambda: tracker.track_many([1] * 200, date=day(2)),
        "move": lambda: tracker.track(id=1, old_id=1, old_bucket="b", date=day(2)),
        "import": lambda: tracker.import_events([(1, None, day(2))]),
    }[how]
    write()
    assert not server.client.exists(count)
    assert server.client.ttl(f"{{{count}}}:hll") == -1
    assert [(done.period.date, done.count) for done in tracker.collapse(max_periods=3)] == [(day(2), 1)]
    rows = tracker.lookup(start=day(3), missing=None)
    assert [count[None] for _, count in rows] == [None, 1, None]


def test_just_before_its_end_a_period_is_written_to_with_care(server):
    """Another host's clock may be ahead: it may have collapsed the period already."""
    midnight = NOON - 12 * 3600
    tracker = server.tracker(clock=lambda: midnight - 1)
    tracker.track(id=1)
    ahead = server.tracker(clock=lambda: midnight + 1, keep_sketches=timedelta(0))
    assert [done.count for done in ahead.collapse()] == [1]
    with raises(LateEventError, f"daily-{YESTERDAY:%Y%m%d}"):
        tracker.track(id=2)
    assert f"{{active:daily-{YESTERDAY:%Y%m%d}}}:hll" not in server.names()


def test_an_error_at_one_bucket_names_it_and_the_others_are_written(server):
    from activity_tracker_hll import BackendResponseError

    tracker = server.tracker()
    server.raise_on("bad")
    with raises(BackendResponseError, f"daily-{YESTERDAY:%Y%m%d}", "'bad'"):
        tracker.import_events([(1, "bad", YESTERDAY), (1, "good", YESTERDAY)])
    assert tracker.lookup(start=YESTERDAY, buckets=["good"], live=True)[0][1] == {"good": 1}


def test_a_secret_keeps_ids_off_the_server(server):
    tracker = server.tracker(secret="pepper")
    tracker.track(id="alice@example.com", bucket="a")
    tracker.track(id="alice@example.com", bucket="b", old_id="alice@example.com", old_bucket="a")
    tracker.track(id="alice@example.com", bucket="a", old_id="alice@example.com", old_bucket="b")
    tracker.track_many(["alice@example.com", "bob"], bucket="b")
    tracker.import_events([("alice@example.com", "b", TODAY)])
    assert live(tracker, bucket="a") == 1
    assert live(tracker, bucket="b") == 2
    tables = [key for key in server.names() if key.endswith(":moves")]
    assert len(tables) == 2
    members = [member for key in tables for member in server.client.zrange(key, 0, -1)]
    assert members
    assert all(len(member) == 16 and b"alice" not in member for member in members)
    if server.name != "fakeredis":  # where a sketch is a set of what was added
        assert not any(b"alice" in (server.client.dump(key) or b"") for key in server.client.scan_iter())


def test_namespaces_are_apart(server):
    one, other = server.tracker(namespace="one"), server.tracker(namespace="other", week_start=6)
    one.track(id=1)
    assert (live(one), live(other)) == (1, 0)
    keys = [key.decode() for key in server.client.scan_iter()]
    assert {one.backend.keys.meta, one.backend.keys.open} < set(keys)
    assert all(one.backend.keys.owns(key) and not other.backend.keys.owns(key) for key in keys)
    assert all(key.startswith(("one:", "{one:")) for key in keys)


WRITES = {
    "track": lambda tracker, date: tracker.track(id=1, date=date),
    "move": lambda tracker, date: tracker.track(id=1, bucket="b", old_id=1, date=date),
    "removal": lambda tracker, date: tracker.track(old_id=1, date=date),
    "track_many": lambda tracker, date: tracker.track_many(range(3), date=date),
    "large track_many": lambda tracker, date: tracker.track_many(range(300), date=date),
    "import_events": lambda tracker, date: tracker.import_events([(1, None, date or TODAY)]),
    "columns": lambda tracker, date: tracker.import_events((np.arange(300), "b", date or TODAY)),
}


@pytest.fixture
def ticks(monkeypatch):
    """The clock that is never set, in seconds; it stands still."""
    now = [1000.0]
    monkeypatch.setattr(Planner, "ticks", staticmethod(lambda: round(now[0] * 1_000_000)))
    return now


def marks(server):
    """Names of the periods that are marked as holding uncounted data."""
    return {name.decode() for name in server.client.smembers("active:{open}")}


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
    [place] = [place for place, command in enumerate(sent) if command[0] == "SADD"]
    writes = [place for place, command in enumerate(sent) if command[0] in ("PFADD", "ZADD", "EVALSHA")]
    assert writes
    assert max(writes) < place


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_key_of_marks_that_holds_something_else_is_named(server, write):
    server.client.set("active:{open}", "no set")
    with raises(BackendDataError, r"active:\{open\}"):
        write(server.tracker(), None)


def damaged(server, part, value, bucket="bad", when=YESTERDAY):
    """Put something else where a part of a bucket should be."""
    name = f"active:daily-{when:%Y%m%d}:{bucket}"
    key = name if part == "count" else f"{{{name}}}:{part}"
    server.client.delete(key)
    if value == "list":
        server.client.rpush(key, "x")
    else:
        server.client.set(key, value)


@pytest.mark.parametrize(
    ("part", "value"),
    [("count", "list"), *((part, value) for part in ("hll", "moved", "moves") for value in ("list", "x"))],
)
@pytest.mark.parametrize("how", ["track", "track_many", "large", "move", "import", "large import"])
def test_what_does_not_belong_in_a_bucket_is_named_and_others_are_written(real_server, how, part, value):
    tracker = real_server.tracker(buckets=["bad", "good"])
    tracker.track(id=0, bucket="bad", date=YESTERDAY)
    tracker.track(id="old", bucket="good", old_id="old", old_bucket="bad", date=YESTERDAY)
    damaged(real_server, part, value)
    many = [(n, bucket, YESTERDAY) for n in range(300 if "large" in how else 3) for bucket in ("bad", "good")]
    write = {
        "track": lambda: tracker.track(id=1, bucket="bad", date=YESTERDAY),
        "track_many": lambda: tracker.track_many(range(3), bucket="bad", date=YESTERDAY),
        "large": lambda: tracker.track_many(range(300), bucket="bad", date=YESTERDAY),
        "move": lambda: tracker.track(id=1, bucket="good", old_id=0, old_bucket="bad", date=YESTERDAY),
        "import": lambda: tracker.import_events(many),
        "large import": lambda: tracker.import_events(many),
    }[how]
    if part == "moved" and how != "move":
        write()  # who is active has nothing to do with it
    else:
        with raises(BackendDataError, f"daily-{YESTERDAY:%Y%m%d}", "'bad'"):
            write()
    count = tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["good"], live=True)[0][1]["good"]
    expected = {"move": 2, "import": 4, "large import": 301}.get(how, 1)
    assert abs(count - expected) <= 4 * count.stderr


def test_an_error_that_may_pass_is_told_from_one_that_stays(real_server):
    tracker = real_server.tracker()
    tracker.track(id=1, bucket="WRONGTYPE corrupt")
    real_server.client.config_set("maxmemory", 1)
    try:
        for write in (
            *WRITES.values(),
            lambda t, _: t.track(id=2, bucket="WRONGTYPE corrupt", date=YESTERDAY),
        ):
            with raises(BackendError, "memory") as caught:
                write(tracker, YESTERDAY)
            assert not isinstance(caught.value, BackendDataError)
    finally:
        real_server.client.config_set("maxmemory", 0)
