"""What sketches tell, asked of real servers, against sets of ids."""

import random
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pytest

from activity_tracker_hll import Archive, Estimate, HyperLogLog, Selection, Share
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import REGISTERS
from activity_tracker_hll.keys import Keys
from helpers.collapses import restore, snapshot
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.sets import World

BUCKETS = ("a", "b", "c")
DAYS = 9  # up to today


def happen(tracker, seed, *, leaves=0.3, buckets=BUCKETS, ids=60, events=60):
    """Nine days of events, the last of which is today, on a server and in a world."""
    rng = random.Random(seed)
    world = World(len(buckets), [])
    for back in range(DAYS - 1, -1, -1):
        rows = [[] for _ in buckets]
        for number in range(events):
            moment = datetime.combine(day(back), time(0, number // 60, number % 60))
            id, bucket = rng.randrange(ids), rng.randrange(len(buckets))
            if rng.random() < leaves:
                tracker.track(id=None, old_id=id, old_bucket=buckets[bucket], date=moment)
                rows[bucket].append((id, False))
            else:
                tracker.track(id=id, bucket=buckets[bucket], date=moment)
                rows[bucket].append((id, True))
        world.periods.append(rows)
    return world


def only(world, *buckets):
    """The world of some of its buckets."""
    return World(len(buckets), [[period[bucket] for bucket in buckets] for period in world.periods])


def holds(value, truth):
    """A number is that of a set, but for some of its ids, and near to its interval."""
    low, high = value.interval()
    assert low - 3 <= len(truth) <= high + 3, (value, len(truth))
    assert abs(value - len(truth)) <= 4, (value, len(truth))


@pytest.fixture(scope="module")
def happened():
    """What happened, and the keys that a server has of it, by its name and the share of moves."""
    return {}


@pytest.fixture(params=[0.3, 0], ids=["moves", "no moves"])
def told(request, real_server, happened):
    """A tracker, and what happened."""
    tracker = real_server.tracker(buckets=BUCKETS, aggregate_buckets={"all": BUCKETS, "two": ["a", "b"]})
    same = real_server.name, request.param
    if same in happened:
        world, keys = happened[same]
        restore(real_server, keys)
    else:
        world = happen(tracker, 1, leaves=request.param)
        happened[same] = world, snapshot(real_server)
    return tracker, world


INDEXES = {"a": (0,), "b": (1,), "c": (2,), "all": (0, 1, 2), "two": (0, 1)}


@pytest.mark.parametrize("collapsed", [False, True])
def test_unique(told, collapsed):
    tracker, world = told
    if collapsed:
        tracker.collapse()
    for first, last in ((8, 0), (5, 2), (1, 1), (0, 0)):
        counts = tracker.unique(day(first), day(last - 1), buckets=list(INDEXES))
        periods = range(DAYS - 1 - first, DAYS - last)
        assert list(counts) == list(INDEXES)
        for name, indexes in INDEXES.items():
            holds(counts[name], only(world, *indexes).alive(*periods))
        assert counts.complete is (last > 0)
        assert (counts.start, counts.end, counts.period, counts.gaps) == (
            day(first),
            day(last - 1),
            "daily",
            (),
        )


def test_an_aggregate_of_the_call_itself(told):
    tracker, world = told
    counts = tracker.unique(day(6), TODAY, aggregate_buckets={"mine": ["b", "c"]})
    assert list(counts) == ["mine"]
    holds(counts["mine"], only(world, 1, 2).alive(*range(2, 8)))
    both = tracker.unique(day(6), TODAY, buckets=["a"], aggregate_buckets={"mine": ["b", "c"]})
    assert list(both) == ["a", "mine"]


@pytest.mark.parametrize("window", [1, 3])
def test_rolling(told, window):
    tracker, world = told
    series = tracker.rolling(window, buckets=list(INDEXES), end=day(-1))
    assert [row.date for row in series] == [day(back) for back in range(DAYS - window, -1, -1)]
    for index, row in enumerate(series):
        for name, indexes in INDEXES.items():
            holds(row.estimates[name], only(world, *indexes).alive(*range(index, index + window)))
        assert row.complete is (row.date != TODAY)
    assert (series.what, series.period, series.window, series.gaps) == ("unique", "daily", window, ())
    assert tracker.rolling(window, buckets=list(INDEXES)).rows == series.rows[:-1]


def test_stickiness(told):
    tracker, world = told
    for row, index in zip(tracker.stickiness(4, buckets=list(INDEXES)), range(20), strict=False):
        for name, indexes in INDEXES.items():
            some, periods = only(world, *indexes), range(index, index + 4)
            users = some.alive(*periods)
            truth = sum(len(users & some.alive(period)) for period in periods) / 4 / len(users)
            assert isinstance(row.estimates[name], Share)
            assert row.estimates[name] == pytest.approx(truth, abs=0.03)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Selection("a", day(8), day(4)), Selection("a", day(4), day(-1))),
        (Selection("a", day(1), TODAY), Selection("b", day(1), TODAY)),
        (Selection(["a", "b"], day(5), day(2)), Selection("all", day(2), TODAY, "daily")),
    ],
)
def test_overlap(told, a, b):
    tracker, world = told
    sets = []
    for selection in (a, b):
        names = [selection.buckets] if isinstance(selection.buckets, str) else selection.buckets
        some = only(world, *{index for name in names for index in INDEXES[name]})
        first = DAYS - 1 - (TODAY - selection.start).days
        sets.append(some.alive(*range(first, first + (selection.end - selection.start).days)))
    in_a, in_b = sets
    found = tracker.overlap(a, b)
    truths = {
        "a": in_a,
        "b": in_b,
        "both": in_a & in_b,
        "either": in_a | in_b,
        "only_a": in_a - in_b,
        "only_b": in_b - in_a,
    }
    assert found.complete is (b.end <= TODAY)
    for field in fields(found):
        if field.name in truths:
            holds(getattr(found, field.name), truths[field.name])
    assert found.jaccard == pytest.approx(len(in_a & in_b) / len(in_a | in_b), abs=0.08)


@pytest.mark.parametrize(
    ("when", "cohorts", "look_back"),
    [
        ("on", "active", None),
        pytest.param("on or after", "active", None, marks=pytest.mark.extended),
        pytest.param("on", "new", 2, marks=pytest.mark.extended),
        ("on or after", "new", 2),
        ("on", "new", None),
        pytest.param("on or after", "new", None, marks=pytest.mark.extended),
    ],
)
def test_retention(told, when, cohorts, look_back):
    tracker, world = told
    for bucket, indexes in INDEXES.items():
        some = only(world, *indexes)
        result = tracker.retention(
            "daily",
            start=day(5),
            end=day(-1),
            bucket=bucket,
            cohorts=cohorts,
            when=when,
            look_back=look_back,
        )
        assert (result.period, result.bucket, result.cohorts, result.when) == ("daily", bucket, cohorts, when)
        assert result.look_back == {"active": None, "new": look_back or 3}[cohorts]
        assert result.since == (day(8) if cohorts == "new" and look_back is None else None)
        assert (result.gaps, len(result), len(result.means)) == ((), 6, 6)
        for index, row in enumerate(result, 3):
            used = {"active": 0, "new": look_back or index}[cohorts]
            members = some.alive(index) - some.seen(*range(index - used, index))
            assert row.date == day(8 - index)
            holds(row.size, members)
            assert len(row.cells) == DAYS - index
            for other, cell in enumerate(row.cells, index):
                back = some.alive(other)
                if when == "on or after":
                    back = set().union(*(some.alive(later) for later in range(other, DAYS)))
                holds(cell.ids, members & back)
                if members:
                    assert cell.share == pytest.approx(len(members & back) / len(members), abs=0.1)
                assert cell.complete is (other < DAYS - 1)
            assert row.complete is (index < DAYS - 1)


@pytest.mark.parametrize("look_back", [2, None])
def test_lifecycle(told, look_back):
    tracker, world = told
    for bucket, indexes in INDEXES.items():
        some = only(world, *indexes)
        result = tracker.lifecycle("daily", start=day(5), end=day(-1), bucket=bucket, look_back=look_back)
        assert result.look_back == (look_back or 3)
        assert result.since == (None if look_back else day(8))
        assert [row.date for row in result] == [day(back) for back in range(5, -1, -1)]
        for index, row in enumerate(result, 3):
            now, before = some.alive(index), some.alive(index - 1)
            known = some.seen(*range(index - (look_back or index), index))
            left = some.seen(index) - now
            truths = {
                "active": now,
                "new": now - known,
                "retained": now & before,
                "resurrected": (now & known) - before,
                "churned": before - now - left,
                "moved": before & left,
            }
            for name, truth in truths.items():
                holds(getattr(row, name), truth)
            assert row.complete is (index < DAYS - 1)


def test_a_sketch(told):
    tracker, world = told
    for back in (1, 0):
        sketch = tracker.sketch("daily", day(back), "a")
        some = only(world, 0)
        holds(sketch.tracked.count(), some.seen(DAYS - 1 - back))
        holds(sketch.remainder(), some.alive(DAYS - 1 - back))
        assert sketch.remainder() == tracker.lookup(start=day(back), live=True, buckets=["a"])[0][1]["a"]


def test_one_period_is_what_lookup_says(told):
    """By the same estimators, to the last digit; also of aggregates, by all ways there are."""
    tracker, _ = told
    rows = tracker.rolling(1, buckets=list(INDEXES), end=day(-1)).rows
    looked_up = tracker.lookup(start=day(DAYS - 1), live=True, buckets=list(INDEXES))
    for row, (when, counts) in zip(rows, looked_up, strict=True):
        assert row.date == when
        assert row.estimates == counts
        for name in INDEXES:
            assert row.estimates[name].stderr == pytest.approx(counts[name].stderr)


def test_windows_without_moves_are_the_servers_count(real_server):
    tracker = real_server.tracker()
    rng = random.Random(3)
    for back in range(6, -1, -1):
        tracker.track_many([rng.randrange(30_000) for _ in range(10_000)], date=day(back))
    for row, newest in zip(tracker.rolling(3), range(4, 0, -1), strict=True):
        keys = [f"{{active:daily-{day(newest + back):%Y%m%d}}}:hll" for back in range(3)]
        count = real_server.client.pfcount(*keys)
        assert row.estimates == {None: count}
        assert row.estimates[None].stderr == Estimate(count).stderr


@pytest.fixture
def plain(real_server):
    """A tracker of which all is counted and nothing is rare, as it was found to be by the last question."""
    tracker = real_server.tracker(buckets=["a", "b"])
    for back in (3, 2, 1):
        for bucket in ("a", "b"):
            tracker.track_many(range(100), bucket=bucket, date=day(back))
    tracker.collapse()
    assert dict(tracker.unique(day(3), TODAY)) == {"a": 100, "b": 100}
    return tracker


def test_a_sketch_that_is_gone_since(plain, real_server):
    real_server.client.delete(plain.backend.keys.bucket(f"daily-{day(2):%Y%m%d}", "a").hll)
    with raises(LookupError, "1 sketch of bucket 'a' is gone"):
        plain.unique(day(3), TODAY)


@pytest.mark.parametrize("count", [None, 0])
def test_a_sketch_that_nobody_has_looked_at_since(plain, real_server, count):
    """What was counted was looked at then; activity-tracker's count of nobody proves nothing."""
    keys = plain.backend.keys.bucket(f"daily-{day(2):%Y%m%d}", "a")
    real_server.client.set(keys.hll, codec.encode(np.full(REGISTERS, 5, np.uint8)))
    real_server.client.delete(keys.counted)
    if count is not None:
        real_server.client.set(keys.counted, count)
    found = plain.unique(day(3), TODAY)
    assert (found["a"].suspect, found["b"].suspect) == (True, False)


def test_what_is_rare_and_came_since(plain, real_server):
    keys = plain.backend.keys.bucket(f"daily-{day(2):%Y%m%d}", "a")
    real_server.client.set(keys.stderr, "inf")
    assert [row.estimates["a"].suspect for row in plain.rolling(1, start=day(3))] == [False, True, False]
    real_server.client.delete(keys.stderr)
    assert dict(plain.unique(day(3), TODAY)) == {"a": 100, "b": 100}
    real_server.client.sadd(keys.raw, *range(1000, 1050))
    holds(plain.unique(day(3), TODAY)["a"], [*range(100), *range(1000, 1050)])
    real_server.client.delete(keys.raw)
    assert dict(plain.unique(day(3), TODAY)) == {"a": 100, "b": 100}
    for back in (3, 2, 1):
        plain.track(id=None, old_id=1, old_bucket="a", date=day(back))
    assert dict(plain.unique(day(3), TODAY)) == {"a": 99, "b": 100}


def test_months_before_days(real_server):
    """The coarsest kind that covers a range, and was tracked from its beginning on."""
    moment = datetime(2026, 7, 10, 12)
    tracker = real_server.tracker(["daily", "monthly"], clock=moment.timestamp, keep_sketches=None)
    for back in range(100):
        tracker.track_many(range(back, back + 50), date=moment.date() - timedelta(days=back))
    first, july = datetime(2026, 5, 1).date(), datetime(2026, 7, 1).date()
    assert tracker.unique(first, july).period == "monthly"
    assert tracker.unique(first, july, period="daily").period == "daily"
    assert tracker.unique(first, july + timedelta(days=1)).period == "daily"
    holds(tracker.unique(first, july)[None], range(9, 9 + 50 + 60))
    # Until June there are days only.
    for key in real_server.client.scan_iter("*monthly-20260[45]*"):
        real_server.client.delete(key)
    assert tracker.unique(first, july).period == "daily"
    with raises(ValueError, "no kind of period covers the range exactly, from 2026-05-01 12:30:00"):
        tracker.unique(datetime(2026, 5, 1, 12, 30), july)


def test_weeks_that_are_cut_are_left_out(real_server):
    tracker = real_server.tracker(["weekly"], clock=datetime(2026, 7, 10).timestamp)
    tracker.track(id=1, date=datetime(2026, 6, 1).date())
    result = tracker.retention("weekly", start=datetime(2026, 6, 3), end=datetime(2026, 7, 1))
    assert [row.date.day for row in result] == [8, 15, 22]
    with raises(ValueError, "no whole weekly period from start"):
        tracker.retention("weekly", start=datetime(2026, 6, 3), end=datetime(2026, 6, 12))


def test_history_of_activity_tracker(real_server):
    """Its raw sets count, as in a lookup; a count of its own has no sketch."""
    tracker = real_server.tracker()
    for back, ids in ((3, range(20)), (2, range(10, 30))):
        real_server.client.sadd(f"active:daily-{day(back):%Y%m%d}:raw", *ids)
    tracker.track_many(range(25, 40), date=day(2))
    holds(tracker.unique(day(3), day(1))[None], range(40))
    found = tracker.overlap(Selection(None, day(3), day(2)), Selection(None, day(2), day(1)))
    holds(found.both, range(10))
    real_server.client.set(f"active:daily-{day(5):%Y%m%d}", 100)
    with raises(LookupError, "1 sketch of the unnamed bucket"):
        tracker.unique(day(5), day(1))


def test_a_secret_makes_no_difference(real_server):
    tracker = real_server.tracker(buckets=BUCKETS, secret="s3cret")
    world = happen(tracker, 5)
    for name, index in (("a", 0), ("b", 1)):
        some = only(world, index)
        holds(tracker.unique(day(8), day(-1), buckets=[name])[name], some.alive(*range(DAYS)))
        row = tracker.lifecycle("daily", start=day(2), end=day(1), bucket=name)[0]
        holds(row.moved, some.alive(DAYS - 4) & (some.seen(DAYS - 3) - some.alive(DAYS - 3)))


def test_nothing_is_written(real_server):
    tracker = real_server.tracker(buckets=BUCKETS)
    happen(tracker, 6)
    before = {key: real_server.client.dump(key) for key in real_server.client.scan_iter()}
    tracker.unique(day(5), TODAY)
    tracker.rolling(2)
    tracker.stickiness(2)
    tracker.overlap(Selection("a", day(3), TODAY), Selection(BUCKETS, day(3), TODAY))
    tracker.retention("daily", start=day(5), end=TODAY, bucket="a", cohorts="new")
    tracker.lifecycle("daily", start=day(5), end=TODAY, bucket="a")
    tracker.sketch("daily", YESTERDAY, "a")
    assert {key: real_server.client.dump(key) for key in real_server.client.scan_iter()} == before


def test_the_clock_decides_what_runs(real_server):
    tracker = real_server.tracker(clock=lambda: NOON)
    tracker.track(id=1, date=YESTERDAY)
    later = real_server.tracker(clock=lambda: NOON + 86_400)
    later.track(id=2, date=TODAY)
    assert [row.complete for row in tracker.rolling(1, end=day(-3))] == [True, False]
    assert [row.complete for row in later.rolling(1, end=day(-3))] == [True, True, False]


def test_a_union_that_is_out_of_date_is_not_read(real_server):
    """After late events, and after the aggregate was changed, its stored union is not that of its sources."""
    tracker = real_server.tracker(buckets=["a", "b", "c"], aggregate_buckets={"all": ["a", "b"]})
    for number, bucket in enumerate("abc"):
        tracker.track_many(range(100 * number, 100 * number + 100), bucket=bucket, date=day(2))
    tracker.collapse()
    assert tracker.unique(day(2), day(1), buckets=["all"])["all"] == pytest.approx(200, abs=3)
    tracker.track_many(range(1000, 1500), bucket="a", date=day(2))
    late = tracker.unique(day(2), day(1), buckets=["all"])["all"]
    assert late == pytest.approx(700, abs=10)
    assert tracker.rolling(1, start=day(2), buckets=["all"])[0].estimates["all"] == late
    assert tracker.retention("daily", start=day(2), end=day(1), bucket="all")[0].size == late
    tracker.change_settings(aggregate_buckets={"all": ["a", "b", "c"]})
    again = real_server.tracker(buckets=["a", "b", "c"], aggregate_buckets={"all": ["a", "b", "c"]})
    assert again.unique(day(2), day(1), buckets=["all"])["all"] == pytest.approx(800, abs=10)


def test_a_union_stands_for_a_source_that_is_gone(real_server):
    tracker = real_server.tracker(buckets=["a", "b"], aggregate_buckets={"all": ["a", "b"]})
    for number, bucket in enumerate("ab"):
        tracker.track_many(range(100 * number, 100 * number + 100), bucket=bucket, date=day(2))
    tracker.collapse()
    real_server.client.delete(f"{{active:daily-{day(2):%Y%m%d}:a}}:hll")
    counts = tracker.unique(day(2), day(1), buckets=["a", "all"], missing="none")
    assert counts["a"] is None
    assert counts["all"] == pytest.approx(200, abs=3)


@pytest.mark.parametrize("others", [["b", "c"], ["a", "b", "c"]])
@pytest.mark.parametrize("how", ["changed", "removed and given", "restored"])
def test_a_union_of_other_sources_stands_for_none(real_server, tmp_path, others, how):
    """Of periods that were over when an aggregate got other sources; afterwards its union is of these."""
    options = {"buckets": ["a", "b", "c"], "clock": lambda: NOON + 5 * 86_400}
    tracker = real_server.tracker(**options, aggregate_buckets={"all": ["a", "b"]})

    def fill(back):
        for number, bucket in enumerate("abc"):
            tracker.track_many(range(100 * number, 100 * number + 100), bucket=bucket, date=day(back))
        tracker.collapse()
        keys = Keys().bucket(f"daily-{day(back):%Y%m%d}", "c")
        real_server.client.delete(keys.hll)

    fill(2)
    tracker.archive(tmp_path / "before")
    if how == "changed":
        tracker.change_settings(aggregate_buckets={"all": others})
    elif how == "removed and given":
        tracker.change_settings(aggregate_buckets={"all": None})
        tracker = real_server.tracker(**options, aggregate_buckets={"all": others})
    else:
        real_server.client.flushall()
        tracker = real_server.tracker(**options, aggregate_buckets={"all": others})
        tracker.collapse()
        tracker.restore(tmp_path / "before")
        real_server.client.delete(Keys().bucket(f"daily-{day(2):%Y%m%d}", "c").hll)
    fill(-2)
    for path in ("before", "new"):
        tracker.archive(tmp_path / path)
        with Archive(tmp_path / path, periods=["daily"]) as archive:
            assert archive.settings == tracker.settings
            readers = [tracker] if (path, how) == ("before", "restored") else [tracker, archive]
            for reader in readers:
                union = reader.unique(day(-2), day(-3), buckets=["all"])["all"]
                assert union == pytest.approx(100 * len(others), abs=3)
            if path == "new":
                for reader in readers:
                    with raises(LookupError, f"1 sketch of bucket 'c' is gone, daily-{day(2):%Y%m%d}"):
                        reader.unique(day(2), day(1), buckets=["all"])


def test_the_kind_of_period_that_knows_of_most_ids(real_server):
    """Of two buckets one is tracked by day only; and months were added in the middle of one."""
    moment = datetime(2026, 7, 10, 12)
    options = {"buckets": ["a", "b", "c"], "clock": moment.timestamp, "keep_sketches": None}
    tracker = real_server.tracker(["daily", "monthly"], **options)
    by_day = real_server.tracker(["daily"], **options)
    first, last = datetime(2026, 6, 1).date(), datetime(2026, 7, 1).date()
    tracker.track_many(range(100), bucket="a", date=first)
    by_day.track_many(range(50), bucket="b", date=first)
    by_day.track_many(range(100), bucket="c", date=first)
    tracker.track_many(range(200, 260), bucket="c", date=datetime(2026, 6, 20).date())
    for buckets, period, truths in (
        (["a"], "monthly", [100]),
        (["a", "b"], "daily", [100, 50]),
        (["c"], "daily", [160]),
    ):
        counts = tracker.unique(first, last, buckets=buckets)
        assert counts.period == period
        assert list(counts.values()) == pytest.approx(truths, abs=3)


def test_months_that_began_before_for_every_name(real_server):
    """A count, a sketch, or another bucket of the same name says so; what began for some says nothing."""
    moment = datetime(2026, 7, 10, 12)
    options = {"clock": moment.timestamp, "keep_sketches": None}
    tracker = real_server.tracker(["daily", "monthly"], **options)
    by_day = real_server.tracker(["daily"], **options)
    first, last = datetime(2026, 6, 1).date(), datetime(2026, 7, 1).date()
    for bucket in ("a", "b", "c"):
        tracker.track_many(range(100), bucket=bucket, date=first)
        by_day.track_many(range(100, 200), bucket=bucket, date=first)
    real_server.client.set("active:monthly-202605:a", 100)
    tracker.track(id=1, bucket="b", date=datetime(2026, 5, 1).date())
    for buckets, unions, period in (
        (["a", "b"], {}, "monthly"),
        (["a", "c"], {}, "daily"),
        (["a"], {"all": ["a", "c"]}, "monthly"),
        (["c"], {"all": ["a", "c"]}, "daily"),
    ):
        counts = tracker.unique(first, last, buckets=buckets, aggregate_buckets=unions)
        assert counts.period == period, (buckets, unions)


def test_an_hour_that_the_clocks_skip_is_no_period(real_server):
    moment = datetime(2026, 3, 29, 6, 30)
    tracker = real_server.tracker(
        ["hourly"],
        timezone="Europe/Berlin",
        clock=lambda: datetime(2026, 3, 29, 4, 30, tzinfo=UTC).timestamp(),
    )
    for hour in (0, 1, 3, 4, 5):
        tracker.track_many(range(100), date=moment.replace(hour=hour, minute=0))
    start, end = datetime(2026, 3, 29, 1), datetime(2026, 3, 29, 6)
    for rows in (
        tracker.lifecycle("hourly", start=start, end=end),
        tracker.retention("hourly", start=start, end=end),
        tracker.rolling(1, period="hourly", start=start, end=end),
    ):
        assert [row.date.hour for row in rows] == [1, 3, 4, 5]
    assert [row.churned for row in tracker.lifecycle("hourly", start=start, end=end, look_back=1)] == [0] * 4
    [row] = tracker.stickiness(4, period="hourly", start=datetime(2026, 3, 29, 5), end=end)
    assert row.estimates[None] == pytest.approx(1, abs=0.01)
    assert tracker.unique(start, end, period="hourly")[None] == pytest.approx(100, abs=2)


def test_an_hour_that_the_clocks_skip_in_part_is_one(real_server):
    """On Chatham clocks go from 2:45 to 3:45: of the hour that begins at 3 there is a quarter."""
    now = datetime(2026, 9, 28, tzinfo=UTC).timestamp()
    tracker = real_server.tracker(
        ["hourly", "daily"], timezone="Pacific/Chatham", clock=lambda: now, keep_sketches=None
    )
    two = datetime(2026, 9, 26, 13, 50, tzinfo=UTC)
    for quarter, ids in enumerate((range(5), range(5, 25), range(25, 28))):
        tracker.track_many(ids, date=two + timedelta(minutes=15 * quarter))
    span = {"start": datetime(2026, 9, 27, 2), "end": datetime(2026, 9, 27, 5)}
    for collapse in (False, True):
        if collapse:
            counted = [(each.period.name, each.count) for each in tracker.collapse()]
            assert ("hourly-2026092703", 20) in counted
        rows = tracker.lookup("hourly", **span)
        assert [(date.hour, counts[None]) for date, counts in rows] == [(2, 5), (3, 20), (4, 3)]
        assert tracker.unique(**span, period="hourly")[None] == 28
        for each in (tracker.lifecycle, tracker.retention):
            assert [row.date.hour for row in each("hourly", **span)] == [2, 3, 4]
        assert [row.estimates[None] for row in tracker.rolling(2, period="hourly", **span)] == [5, 25, 23]
        day = {"start": datetime(2026, 9, 27), "end": datetime(2026, 9, 28)}
        assert {tracker.unique(**day, period=kind)[None] for kind in ("hourly", "daily")} == {28}


NONE_BUT_SKIPPED = {
    "hourly": ("Europe/Berlin", datetime(2026, 3, 29, 2), datetime(2026, 3, 29, 3)),
    "daily": ("Pacific/Apia", date(2011, 12, 30), date(2011, 12, 31)),
}


@pytest.mark.parametrize("kind", NONE_BUT_SKIPPED)
def test_a_range_that_the_clocks_skip_has_no_period(real_server, tmp_path, kind):
    zone, start, end = NONE_BUT_SKIPPED[kind]
    tracker = real_server.tracker(["hourly", "daily"], timezone=zone)
    tracker.track(id=1)
    tracker.archive(tmp_path / "a")
    chosen = Selection(None, start, end)
    with Archive(tmp_path / "a", periods=["hourly", "daily"]) as archive:
        for reader in (tracker, archive):
            for call in (
                lambda reader: reader.unique(start, end),
                lambda reader: reader.unique(start, end, period=kind, missing="none"),
                lambda reader: reader.overlap(chosen, chosen),
                lambda reader: reader.rolling(1, period=kind, start=start, end=end),
                lambda reader: reader.lifecycle(kind, start=start, end=end),
            ):
                with raises(ValueError, f"no whole {kind} period from start {start}.* that clocks skip"):
                    call(reader)


def test_fewer_days_than_a_window_has(real_server):
    tracker = real_server.tracker()
    tracker.track_many(range(10), date=day(2))
    tracker.track_many(range(5, 12), date=day(1))
    for rows in (tracker.rolling(7), tracker.stickiness(7)):
        assert [(row.date, row.complete) for row in rows] == [(day(2), False), (day(1), False)]
    assert [row.estimates[None] for row in tracker.rolling(7)] == [10, 12]


def test_names_of_aggregates(real_server):
    tracker = real_server.tracker(aggregate_buckets={"two": ["a", "b"]})
    for number, bucket in enumerate("abc"):
        tracker.track_many(range(20 * number, 20 * number + 20), bucket=bucket, date=day(1))
    with raises(ValueError, "aggregate_buckets.'a'. bears the name of a bucket"):
        tracker.unique(day(1), TODAY, buckets=["a"], aggregate_buckets={"a": ["b"]})
    # An aggregate may be a source; one that nobody knows may not.
    assert tracker.unique(day(1), TODAY, aggregate_buckets={"x": ["two", "c"]})["x"] == 60
    with raises(LookupError, "nothing was ever tracked in bucket 'aa'"):
        tracker.unique(day(1), TODAY, aggregate_buckets={"x": ["a", "aa"]})
    with raises(LookupError, "nothing was ever tracked in bucket 'aa'"):
        tracker.overlap(Selection(["a", "aa"], day(1), TODAY), Selection("b", day(1), TODAY))


TOO_FAR = {
    "1000": [
        lambda tracker: tracker.lifecycle("monthly", start=day(99), end=TODAY, look_back=90_000),
        lambda tracker: tracker.rolling(3000, period="yearly", start=day(900)),
    ],
    "less than 100,000 periods before end": [
        lambda tracker: tracker.rolling(7, period="hourly", start=day(82_000)),
        lambda tracker: tracker.unique(day(46_000), TODAY, period="hourly"),
    ],
    "a.buckets lists no buckets": [
        lambda tracker: tracker.overlap(Selection([], day(1), TODAY), Selection(None, day(1), TODAY))
    ],
    "b.end must be a date": [
        lambda tracker: tracker.overlap(Selection(None, day(1), TODAY), Selection(None, day(1), 3))
    ],
}


@pytest.mark.parametrize(
    ("message", "call"), [(message, call) for message, calls in TOO_FAR.items() for call in calls]
)
def test_what_nobody_can_mean(real_server, message, call):
    tracker = real_server.tracker()
    tracker.track(id=1, date=day(1))
    with raises((ValueError, TypeError), message):
        call(tracker)


def test_sketches_read_without_the_secret(real_server):
    """They are compared with others of the same secret, take no ids, and are not taken for unkeyed ones."""
    tracker = real_server.tracker(secret="s3cret")
    tracker.track_many(range(100), date=day(1))
    known, unknown = (each.sketch("daily", day(1)) for each in (tracker, real_server.tracker()))
    assert unknown.tracked.overlap(known.tracked).both == known.tracked.count()
    with raises(ValueError, "with a secret, which is not known here"):
        unknown.tracked.add("x")
    with raises(ValueError, "different secrets"):
        unknown.tracked.overlap(HyperLogLog(range(100)))


def test_a_server_that_is_slow_to_count_is_read(real_server, monkeypatch):
    """Windows of its sketches say the same, to the last digit. Slow is what its own clock says it is."""
    tracker = real_server.tracker(keep_sketches=None)
    rng = random.Random(4)
    tracker.import_events((rng.randrange(5000), None, day(back)) for back in range(1, 400) for _ in range(30))
    counted = tracker.rolling(60, start=day(366))
    read = []
    execute = tracker.backend.execute

    def slow(commands, shard=0):
        replies = execute(commands, shard)
        if [command[0] for command in commands[-3:]] == ["PFCOUNT", "TIME", "GET"]:
            seconds, micros = replies[-2]
            replies[-2] = [int(seconds) + 60, micros]
        read.extend(command for command in commands if command[0] == "GET")
        return replies

    monkeypatch.setattr(tracker.backend, "execute", slow)
    assert tracker.rolling(60, start=day(366)) == counted
    assert len(read) >= 400
