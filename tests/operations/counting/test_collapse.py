"""collapse: what it stores, what it leaves, what it survives."""

from datetime import date, datetime, timedelta

import pytest

from activity_tracker_hll import (
    CollapseError,
    Estimate,
)
from activity_tracker_hll.periods import PERIODS
from helpers.collapses import YNAME, interrupted, rows
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day, skip_if_tomorrow


def test_the_newest_periods_before_the_one_that_contains_the_date(server):
    tracker = server.tracker(["daily"])
    for n in range(4):
        tracker.track_many(range(n + 1), date=day(n))
    done = tracker.collapse(max_periods=1)
    assert [(c.period.name, c.bucket, c.count) for c in done] == [(YNAME, None, 2)]
    assert rows(tracker, day(3), live=False) == [{None: 0}, {None: 0}, {None: 2}]
    tracker.collapse(date=day(1), max_periods=1)
    assert rows(tracker, day(3), live=False) == [{None: 0}, {None: 3}, {None: 2}]


def test_up_to_max_periods_with_a_gap_in_between(server):
    tracker = server.tracker(["daily"])
    for n in range(1, 6):
        tracker.track_many(range(n), date=day(n))
    tracker.collapse(date=day(1), max_periods=1)  # leaves a newer period and older ones
    done = tracker.collapse(max_periods=4)
    assert [c.period.date for c in done] == [day(1), day(3), day(4)]
    assert rows(tracker, day(5), live=False) == [{None: n} for n in (0, 4, 3, 2, 1)]


def test_where_there_is_nothing_nothing_is_stored(server):
    """A zero would say that nobody was active, of buckets that did not exist then."""
    tracker = server.tracker(
        ["daily", "monthly"], buckets=["a", "b", None], aggregate_buckets={"t": ["a", "b"], "none": ["b"]}
    )
    tracker.track_many(range(5), ["daily"], bucket="a", date=day(3))
    for mode in (
        {"max_periods": 1},
        {},
        {"recount": True},
        {"max_periods": 4},
        {"max_periods": 4, "recount": True},
    ):
        done = tracker.collapse(**mode)
        counted = {(c.period.date, c.bucket) for c in done if c.period.kind == "daily"}
        assert counted == ({(day(3), "a"), (day(3), "t")} if mode == {} or "recount" in mode else set())
        assert len(counted) == len(done)
    counts = [name for name in server.names() if "{" not in name]
    assert counts == [f"active:daily-{day(3):%Y%m%d}:{bucket}" for bucket in "at"]
    names = ["a", "b", None, "t", "none"]
    found = tracker.lookup("daily", start=day(4), buckets=names, missing=None)
    assert [counts for _, counts in found] == [
        {name: 5 if n == 3 and name in ("a", "t") else None for name in names} for n in (4, 3, 2, 1)
    ]


def test_all_kinds_of_period(server):
    tracker = server.tracker(PERIODS)
    moment = datetime(TODAY.year, TODAY.month, TODAY.day, 12) - timedelta(days=400)
    tracker.track_many(range(3), date=moment)
    later = moment + timedelta(days=366)
    tracker.collapse(["hourly"], date=moment + timedelta(hours=1))
    tracker.collapse(["daily"], date=moment + timedelta(days=1))
    tracker.collapse(["weekly"], date=moment + timedelta(days=7))
    tracker.collapse(["monthly", "quarterly", "yearly"], date=later, max_periods=12)
    for kind in PERIODS:
        found = tracker.lookup(kind, start=moment - timedelta(days=370), end=later)
        assert sum(counts[None] for _, counts in found) == 3, kind


def test_a_collapsed_period_is_not_collapsed_again_unless_asked(server):
    tracker = server.tracker()
    tracker.track(id=1, date=YESTERDAY)
    tracker.collapse()
    tracker.track(id=2, date=YESTERDAY)
    assert tracker.collapse() == []
    assert rows(tracker, YESTERDAY) == [{None: 1}]
    assert [c.count for c in tracker.collapse(recount=True)] == [2]
    assert rows(tracker, YESTERDAY) == [{None: 2}]


def test_a_recount_leaves_counts_whose_sketches_are_gone(server):
    tracker = server.tracker(keep_sketches=timedelta(0))
    tracker.track_many(range(5), date=YESTERDAY)
    tracker.collapse()
    assert tracker.collapse(recount=True) == []
    assert rows(tracker, YESTERDAY) == [{None: 5}]


def test_default_buckets(server):
    tracker = server.tracker(buckets=["a", None], aggregate_buckets={"total": ["a", None]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.track(id=2, date=YESTERDAY)
    assert {(c.bucket, c.count) for c in tracker.collapse()} == {("a", 1), (None, 1), ("total", 2)}
    assert tracker.lookup(start=YESTERDAY) == [(YESTERDAY, {"a": 1, None: 1})]


def test_without_buckets_the_unnamed_one(server):
    tracker = server.tracker()
    tracker.track(id=1, date=YESTERDAY)
    tracker.collapse()
    assert server.client.get(f"active:{YNAME}") == b"1"


@pytest.mark.parametrize(
    ("kind", "options", "days"),
    [
        ("hourly", {}, 8),
        ("daily", {}, 62),
        ("weekly", {}, 26 * 7),
        ("monthly", {}, 13 * 31),
        ("quarterly", {}, 5 * 92),
        ("yearly", {}, 2 * 366),
        ("daily", {"keep_sketches": timedelta(days=3)}, 3),
        ("monthly", {"keep_sketches": timedelta(days=99)}, 99),
        ("daily", {"keep_sketches": {"daily": timedelta(days=3), "monthly": None}}, 3),
        ("monthly", {"keep_sketches": {"daily": timedelta(days=3)}}, 13 * 31),
        ("monthly", {"keep_sketches": {"daily": None, "monthly": timedelta(days=31)}}, 31),
    ],
)
def test_sketches_expire_when_they_were_kept_as_long_as_said(server, kind, options, days):
    tracker = server.tracker([kind], **options)
    tracker.track_many([1, 2])
    tracker.track(id=2, bucket="b", old_id=2)
    tracker.track(id=2, old_id=2, old_bucket="b")
    tracker.track(id=3, bucket="c")
    period = tracker.calendar.containing(kind, tracker.calendar.local(NOON))
    end = tracker.calendar.timestamp(period.next().start)
    unions = {"all": [None, "b"], "plain": ["c"]}
    tracker.collapse(date=period.next().start, buckets=[None, "b", "c"], aggregate_buckets=unions)
    sketches = [name for name in server.names() if "{" in name and not name.endswith("stderr")]
    assert {name.rpartition("}:")[2] for name in sketches} == {"hll", "moved", "moves"}
    assert f"{{active:{period.name}:plain}}:hll" in sketches
    for name in sketches:
        assert server.client.expiretime(name) == end + days * 86400, name
    for name in set(server.names()) - set(sketches):
        assert server.client.ttl(name) == -1, name


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(timedelta(0), False), (None, True), ({"daily": timedelta(0)}, False), ({"daily": None}, True)],
)
def test_sketches_kept_not_at_all_and_for_ever(server, keep, kept):
    tracker = server.tracker(
        keep_sketches=keep, buckets=["a", "b"], aggregate_buckets={"t": ["a"], "plain": ["b"]}
    )
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.track(id=2, bucket="a", old_id=1, old_bucket="a", date=YESTERDAY)
    tracker.track(id=3, bucket="b", date=YESTERDAY)
    tracker.collapse()
    assert rows(tracker, YESTERDAY, "a", "t", "plain") == [{"a": 1, "t": 1, "plain": 1}]
    sketches = [name for name in server.names() if name.endswith((":hll", ":moved", ":moves"))]
    parts = {name.rpartition(f"{YNAME}:")[2] for name in sketches}
    assert parts == ({"a}:hll", "a}:moved", "a}:moves", "b}:hll", "plain}:hll"} if kept else set())
    assert all(server.client.ttl(name) == -1 for name in sketches)


def test_an_expiry_that_was_missed_is_made_good(server):
    tracker = server.tracker(buckets=["a"], aggregate_buckets={"t": ["a"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.collapse()
    for bucket in "at":
        server.client.persist(f"{{active:{YNAME}:{bucket}}}:hll")
    tracker.collapse(max_periods=1)
    for bucket in "at":
        assert server.client.ttl(f"{{active:{YNAME}:{bucket}}}:hll") > 0


def test_counts_are_stored_as_activity_tracker_does(server):
    tracker = server.tracker(["daily", "monthly"])
    tracker.track_many(range(7), date=date(2014, 1, 1), bucket="b")
    tracker.collapse(["daily"], date=date(2014, 1, 2), buckets=["b"])
    tracker.track(["monthly"], id=1, bucket="c", old_id=1, date=date(2014, 1, 9))
    tracker.collapse(["monthly"], date=date(2014, 2, 1), buckets=["b", None, "d"])
    assert server.client.get("active:daily-20140101:b") == b"7"
    assert server.client.get("active:monthly-201401:b") == b"7"
    assert server.client.get("active:monthly-201401") == b"0"  # there were ids, and all left
    assert server.client.get("active:monthly-201401:d") is None
    assert isinstance(
        tracker.lookup("daily", start=date(2014, 1, 1), end=date(2014, 1, 2), buckets=["b"])[0][1]["b"],
        Estimate,
    )


def test_noon_is_a_time_of_today():
    assert NOON % 86400 == 43200


def test_a_count_made_without_the_sketch_is_reported_and_nothing_is_lost(server):
    """activity-tracker's collapsing job, left running, stores counts that do not know our sketches."""
    tracker = server.tracker()
    tracker.track_many(range(200), date=YESTERDAY)
    server.client.set(f"active:{YNAME}", 100)
    sketch = f"{{active:{YNAME}}}:hll"
    for _ in range(2):
        with raises(CollapseError, "100", "another program", "recount=True"):
            tracker.collapse()
        assert server.client.ttl(sketch) == -1
    [done] = tracker.collapse(recount=True)
    assert done.count == pytest.approx(200, abs=4)
    assert server.client.ttl(sketch) > 0
    server.client.persist(sketch)
    server.client.set(f"active:{YNAME}", 1000)
    with raises(CollapseError, "delete the one"):
        tracker.collapse(recount=True)
    assert rows(tracker, YESTERDAY) == [{None: 1000}]


def test_a_zero_that_was_stored_beside_a_sketch_is_counted_again(server):
    tracker = server.tracker()
    tracker.track_many(range(20), date=YESTERDAY)
    server.client.set(f"active:{YNAME}", 0)
    assert [done.count for done in tracker.collapse()] == [20]


@pytest.mark.parametrize("keep", [None, timedelta(days=35)])
def test_a_bucket_all_of_whose_ids_were_moved_out_is_collapsed_once(server, keep):
    tracker = server.tracker(keep_sketches=keep)
    tracker.track(id=1, old_id=1, bucket="b", date=YESTERDAY)
    assert [done.count for done in tracker.collapse()] == [0]
    assert tracker.collapse() == []


def test_sketches_once_kept_for_ever_get_an_expiry_and_the_other_way_round(server):
    keeping = server.tracker(keep_sketches=None, buckets=["a", "b"], aggregate_buckets={"t": ["b"]})
    keeping.track(id=1, bucket="a", date=YESTERDAY)
    keeping.track(id=2, bucket="b", old_id=1, old_bucket="a", date=YESTERDAY)
    keeping.collapse()
    parts = ("a}:hll", "a}:moved", "a}:moves", "b}:hll", "t}:hll")
    keys = [f"{{active:{YNAME}:{part}" for part in parts]
    assert [server.client.ttl(key) for key in keys] == [-1] * 5
    ending = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["b"]})
    ending.change_settings(keep_sketches=timedelta(days=35))
    assert ending.collapse(max_periods=1) == []
    assert all(server.client.ttl(key) > 0 for key in keys)
    keeping.collapse(recount=True)
    assert [server.client.ttl(key) for key in keys] == [-1] * 5


def test_the_running_period_can_be_collapsed_and_loses_nothing(server):
    """A sketch is kept at least until its period is over, so that what comes later is in it."""
    skip_if_tomorrow()
    tracker = server.tracker(keep_sketches=timedelta(0))
    tomorrow = TODAY + timedelta(days=1)
    tracker.track_many(range(100))
    tracker.collapse(date=tomorrow)
    tracker.track(id="late")
    assert tracker.collapse(date=tomorrow) == []
    [done] = tracker.collapse(date=tomorrow, recount=True)
    assert done.count == pytest.approx(101, abs=2)
    assert server.client.ttl(f"{{active:daily-{TODAY:%Y%m%d}}}:hll") > 0


def test_a_sketch_under_a_secret_is_not_handed_out(real_server, monkeypatch):
    """Nobody has chosen its ids: the server counts and stores in one step."""
    tracker = real_server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]}, secret="pepper")
    tracker.import_events([(n, "ab"[n % 2], YESTERDAY) for n in range(20_000)])
    execute, sent = tracker.backend.execute, []

    def noting(commands, shard=0):
        replies = execute(commands, shard)
        sent.extend(zip(commands, replies, strict=True))
        return replies

    monkeypatch.setattr(tracker.backend, "execute", noting)
    done = {c.bucket: c.count for c in tracker.collapse()}
    assert all(
        abs(done[name] - n) < 4 * done[name].stderr for name, n in (("a", 1e4), ("b", 1e4), ("t", 2e4))
    )
    assert max(len(repr(reply)) for _, reply in sent) < 1000


@pytest.mark.parametrize("keep", [timedelta(days=35), None])
@pytest.mark.parametrize("aggregates", [{}, {"t": ["a"]}])
def test_a_count_that_was_made_elsewhere_is_not_lost_to_a_late_raw_id(server, aggregates, keep):
    tracker = server.tracker(buckets=["a"], keep_sketches=keep)
    tracker.track_many(range(10), bucket="a", date=YESTERDAY)
    server.client.set(f"active:{YNAME}:a", 1000)  # activity-tracker counted its own
    server.client.sadd(f"active:{YNAME}:raw:a", "late")
    for _ in range(2):
        with raises(CollapseError, "the stored count, 1000, was not made from the sketch at hand"):
            tracker.collapse(aggregate_buckets=aggregates)
        assert server.client.get(f"active:{YNAME}:a") == b"1000"
        assert server.client.scard(f"active:{YNAME}:raw:a") == 1
    server.client.delete(f"active:{YNAME}:a")  # as the message says
    assert {item.count for item in tracker.collapse(aggregate_buckets=aggregates)} == {11}


@pytest.mark.parametrize("aggregates", [{}, {"t": ["a"]}])
@pytest.mark.parametrize("sketch", [False, True])
def test_a_raw_id_beside_what_is_no_count_is_kept_until_that_is_mended(server, aggregates, sketch):
    tracker = server.tracker(buckets=["a"])
    if sketch:
        tracker.track(id=1, bucket="a", date=YESTERDAY)
    server.client.set(f"active:{YNAME}:a", "many")
    server.client.sadd(f"active:{YNAME}:raw:a", "late")
    with raises(CollapseError, f"active:{YNAME}:a", "many"):
        tracker.collapse(aggregate_buckets=aggregates)
    assert server.client.scard(f"active:{YNAME}:raw:a") == 1


@pytest.mark.parametrize("max_periods", [100, None])
@pytest.mark.parametrize("number", [4, 1000])
@pytest.mark.parametrize("moves", [False, True])
def test_a_late_raw_set_is_absorbed_into_a_sketch_that_should_have_expired(
    server, moves, number, max_periods
):
    """It was kept for ever when it was counted, and is not any more."""
    tracker = server.tracker(buckets=["a"], keep_sketches=None)
    tracker.track_many(range(number), bucket="a", date=day(100))
    if moves:
        tracker.track(old_id=0, old_bucket="a", date=day(100))
    [before] = tracker.collapse()
    tracker.change_settings(keep_sketches=timedelta(days=62))
    keys = tracker.backend.keys.bucket(before.period.name, "a")
    server.client.sadd(keys.raw, "x", "y")
    [after] = tracker.collapse(max_periods=max_periods) if max_periods else tracker.collapse_due()
    assert after.count == pytest.approx(number - moves + 2, rel=0.02)
    assert rows(tracker, day(100), "a")[0] == {"a": after.count}
    assert server.names() == [keys.counted, *([keys.stderr] if moves else [])]  # and then it expires


def test_a_late_raw_set_is_absorbed_into_a_sketch_that_an_aggregate_waits_for(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    tracker.track_many(range(10), bucket="a", date=day(100))
    tracker.track_many(range(5, 15), bucket="b", date=day(100))
    [before] = tracker.collapse(buckets=["a"])
    server.client.sadd(tracker.backend.keys.bucket(before.period.name, "a").raw, "x", "y")
    assert {done.bucket: done.count for done in tracker.collapse()} == {"a": 12, "b": 10, "t": 17}


def test_what_an_absorption_looks_at_first_lets_no_sketch_expire(server):
    """As where it is interrupted between the first look and the rest."""
    tracker = server.tracker(buckets=["a"], keep_sketches=None)
    tracker.track_many(range(10), bucket="a", date=day(100))
    [before] = tracker.collapse()
    tracker.change_settings(keep_sketches=timedelta(days=62))
    keys = tracker.backend.keys.bucket(before.period.name, "a")
    server.client.sadd(keys.raw, "x", "y")
    with interrupted(tracker, at="SSCAN"):
        tracker.collapse_due()
    assert server.client.exists(keys.hll)
    assert [done.count for done in tracker.collapse_due()] == [12]
