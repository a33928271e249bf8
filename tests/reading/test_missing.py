"""What is not known is said: what expired, was never tracked, is suspect, or cannot be read."""

import re
from datetime import datetime, time, timedelta

import numpy as np
import pytest

from activity_tracker_hll import BackendError, Gap, MissingSketchesError, Selection
from activity_tracker_hll.hll import codec
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day


def forget(server, back, bucket="a"):
    """As if a sketch had expired."""
    name = f"active:daily-{day(back):%Y%m%d}:{bucket}"
    server.client.delete(f"{{{name}}}:hll", f"{{{name}}}:moved", f"{{{name}}}:moves")


@pytest.fixture
def tracker(real_server):
    """Six days in two buckets, all but today's counted; the sketch of one is gone."""
    tracker = real_server.tracker(
        buckets=["a", "b"], aggregate_buckets={"all": ["a", "b"]}, keep_sketches=timedelta(9)
    )
    for back in range(5, -1, -1):
        for bucket in "ab":
            tracker.track_many(range(back, back + 20), bucket=bucket, date=day(back))
    tracker.collapse()
    forget(real_server, 4)
    return tracker


GONE = Gap(day(4), f"daily-{day(4):%Y%m%d}", "a", "expired")
ABOUT = (
    f"1 sketch of bucket 'a' is gone, {GONE.period}: daily sketches are kept for 9 days after their period,"
    " which keep_sketches decides (missing='none' gives None there)"
)
CALLS = {
    "unique": lambda tracker, **options: tracker.unique(day(5), TODAY, **options),
    "rolling": lambda tracker, **options: tracker.rolling(2, start=day(3), **options),
    "stickiness": lambda tracker, **options: tracker.stickiness(2, start=day(3), **options),
    "retention": lambda tracker, **options: tracker.retention(
        "daily", start=day(4), end=TODAY, bucket="a", **options
    ),
    "lifecycle": lambda tracker, **options: tracker.lifecycle(
        "daily", start=day(3), end=TODAY, bucket="a", look_back=1, **options
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_expired_is_named_with_the_setting_that_decides(tracker, call):
    with raises(MissingSketchesError, re.escape(ABOUT)) as caught:
        CALLS[call](tracker)
    assert caught.value.gaps == (GONE,)
    assert isinstance(caught.value, LookupError)


def test_overlap_and_sketch_raise_too(tracker):
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is gone"):
        tracker.overlap(Selection("a", day(4), day(3)), Selection("b", day(4), day(3)))
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is gone"):
        tracker.sketch("daily", day(4), "a")


def test_none_stands_only_where_it_is_missing(tracker):
    counts = tracker.unique(day(5), TODAY, missing="none", buckets=["a", "b", "all"])
    assert counts["a"] is None
    assert counts["b"] == 24
    assert counts["all"] == 24  # its own union is there
    assert counts.gaps == (GONE,)
    rows = tracker.rolling(2, start=day(3), missing="none").rows
    assert [row.estimates["a"] for row in rows] == [None, 21, 21]
    assert [row.estimates["b"] for row in rows] == [21, 21, 21]
    shares = tracker.stickiness(2, start=day(3), missing="none")
    assert [row.estimates["a"] is None for row in shares] == [True, False, False]
    retention = tracker.retention("daily", start=day(5), end=TODAY, bucket="a", missing="none")
    assert [row.size for row in retention] == [20, None, 20, 20, 20]
    assert [cell is None for cell in retention[0].cells] == [False, True, False, False, False]
    assert all(cell is None for cell in retention[1].cells)
    assert retention.gaps == (GONE,)
    row = tracker.lifecycle("daily", start=day(3), end=day(2), bucket="a", look_back=2, missing="none")[0]
    assert row.active == 20
    assert (row.new, row.retained, row.resurrected, row.churned, row.moved) == (None,) * 5


def test_an_aggregate_whose_union_is_gone_is_read_from_its_sources(tracker, real_server):
    for back in (3, 4):
        forget(real_server, back, "all")
    assert tracker.unique(day(3), day(2), buckets=["all"])["all"] == 20
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is gone"):
        tracker.unique(day(4), day(3), buckets=["all"])


def test_the_first_window_is_the_first_that_is_kept(tracker):
    assert [row.date for row in tracker.rolling(2)] == [day(2), day(1)]
    assert [row.date for row in tracker.rolling(2, buckets=["b"])] == [day(back) for back in (4, 3, 2, 1)]
    with raises(MissingSketchesError, re.escape(ABOUT)):  # none is
        tracker.rolling(6)


def test_new_looks_back_as_far_as_sketches_are_kept(tracker):
    result = tracker.retention("daily", start=day(1), end=TODAY, bucket="a", cohorts="new")
    assert result.look_back == 2
    assert tracker.lifecycle("daily", start=day(1), end=TODAY, bucket="b").look_back == 4


def test_sketches_that_are_not_kept(real_server):
    tracker = real_server.tracker(keep_sketches=timedelta(0))
    tracker.track(id=1, date=YESTERDAY)
    tracker.collapse()
    real_server.client.delete(f"{{active:daily-{YESTERDAY:%Y%m%d}}}:hll")
    with raises(MissingSketchesError, "daily sketches are not kept, which keep_sketches decides"):
        tracker.rolling(1, start=YESTERDAY)


@pytest.mark.parametrize("call", [*CALLS, "sketch", "overlap"])
def test_where_nothing_was_ever_tracked(real_server, call):
    tracker = real_server.tracker()
    calls = {
        "unique": lambda: tracker.unique(day(5), TODAY),
        "rolling": lambda: tracker.rolling(7),
        "stickiness": lambda: tracker.stickiness(7),
        "retention": lambda: tracker.retention("daily", start=day(4), end=TODAY),
        "lifecycle": lambda: tracker.lifecycle("daily", start=day(4), end=TODAY),
        "sketch": lambda: tracker.sketch("daily", YESTERDAY),
        "overlap": lambda: tracker.overlap(Selection(None, day(2), TODAY), Selection(None, day(4), day(2))),
    }
    with raises(
        MissingSketchesError, "nothing was ever tracked in the unnamed bucket in daily periods"
    ) as caught:
        calls[call]()
    assert {gap.reason for gap in caught.value.gaps} == {"never tracked"}


@pytest.mark.parametrize(("years", "count"), [(49, 0), (51, None)])
def test_where_something_was_tracked_long_ago(real_server, years, count):
    """For fifty years, a bucket is known by any count that is left of it."""
    tracker = real_server.tracker()
    keys = tracker.backend.keys.bucket(f"daily-{TODAY.year - years}0115", "b")
    real_server.client.set(keys.counted, 7)
    rows = tracker.rolling(1, start=day(2), buckets=["b"], missing="none")
    assert [row.estimates for row in rows] == [{"b": count}] * 2


@pytest.mark.parametrize("back", [2, 0])
def test_what_was_tracked_only_later_had_nobody_before(real_server, back):
    """What there is up to now, after the periods that are asked for, tells that no bucket is misspelled."""
    tracker = real_server.tracker()
    tracker.track(id=1, bucket="b", date=day(back))
    assert tracker.unique(day(5), day(3), buckets=["b"])["b"] == 0
    with raises(MissingSketchesError, "nothing was ever tracked in bucket 'c'"):
        tracker.unique(day(5), day(3), buckets=["c"])


def test_a_kind_of_period_that_was_never_tracked(tracker):
    with raises(MissingSketchesError, "nothing was ever tracked in bucket 'a' in weekly periods"):
        tracker.rolling(1, period="weekly")


def test_a_bucket_that_nobody_knows(tracker):
    with raises(MissingSketchesError, "nothing was ever tracked in bucket 'bb' in daily periods"):
        tracker.rolling(1, buckets=["a", "bb"])
    rows = tracker.rolling(1, start=day(2), buckets=["b", "bb"], missing="none")
    assert [row.estimates for row in rows] == [{"b": 20, "bb": None}] * 2
    assert [gap.reason for gap in rows.gaps] == ["never tracked"]


def test_a_bucket_of_the_tracker_in_which_nobody_was_yet_has_nobody(real_server):
    tracker = real_server.tracker(buckets=["a", "b"])
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    assert tracker.rolling(1)[0].estimates == {"a": 1, "b": 0}


def test_zero_is_no_gap(real_server):
    """Days without anybody, after the first one with somebody."""
    tracker = real_server.tracker()
    tracker.track(id=1, date=day(4))
    tracker.track(id=2, date=day(1))
    for collapsed in (False, True):
        if collapsed:
            tracker.collapse()
        series = tracker.rolling(1)
        assert [row.estimates[None] for row in series] == [1, 0, 0, 1]
        assert all(row.complete for row in series)
        assert tracker.unique(day(3), day(1))[None] == 0
        assert tracker.unique(day(3), day(1)).complete


def test_what_reaches_before_the_first_data_is_not_complete(real_server):
    tracker = real_server.tracker()
    tracker.track(id=1, date=day(3))
    assert not tracker.unique(day(5), TODAY).complete
    assert tracker.unique(day(3), TODAY).complete
    rows = tracker.rolling(2, start=day(4))
    assert [(row.estimates[None], row.complete) for row in rows] == [
        (0, False),
        (1, False),
        (1, True),
        (0, True),
    ]
    new = tracker.retention("daily", start=day(3), end=TODAY, cohorts="new", look_back=1)
    assert [row.complete for row in new] == [False, True, True]
    lives = tracker.lifecycle("daily", start=day(3), end=TODAY, look_back=1)
    assert [row.complete for row in lives] == [False, True, True]


@pytest.mark.parametrize("collapsed", [False, True])
def test_what_is_made_of_a_suspect_sketch_is_suspect(real_server, collapsed):
    """Registers that no random ids leave: someone chose them. A stored count remembers that."""
    tracker = real_server.tracker(buckets=["a"])
    for back in range(4, 0, -1):
        tracker.track_many(range(1000), bucket="a", date=day(back))
    key = f"{{active:daily-{day(2):%Y%m%d}:a}}:hll"
    real_server.client.set(key, codec.encode(np.full(16384, 7, np.uint8)))
    if collapsed:
        tracker.collapse()
    assert [row.estimates["a"].suspect for row in tracker.rolling(2, start=day(3))] == [False, True, True]
    assert [row.estimates["a"].suspect for row in tracker.stickiness(2, start=day(3))] == [False, True, True]
    assert tracker.unique(day(4), TODAY)["a"].suspect
    found = tracker.overlap(Selection("a", day(4), day(3)), Selection("a", day(2), day(1)))
    assert (found.a.suspect, found.b.suspect, found.both.suspect) == (False, True, True)
    rows = tracker.retention("daily", start=day(4), end=TODAY, bucket="a")
    assert [row.size.suspect for row in rows] == [False, False, True, False]
    assert [cell.ids.suspect for cell in rows[0].cells] == [False, False, True, False]
    lives = tracker.lifecycle("daily", start=day(3), end=TODAY, bucket="a", look_back=1)
    assert [row.retained.suspect for row in lives] == [False, True, True]
    if collapsed:  # where it cannot be read what the count remembers, the sketch is looked at
        errors = f"{{active:daily-{day(2):%Y%m%d}:a}}:stderr", f"{{active:daily-{day(3):%Y%m%d}:a}}:stderr"
        real_server.client.delete(*errors)
        for key in errors:
            real_server.client.rpush(key, "inf")
        daily = tracker.rolling(1, start=day(3))
        assert [row.estimates["a"].suspect for row in daily] == [False, True, False]
    with_secret = real_server.tracker(buckets=["a"], namespace="other", secret="s")
    with_secret.track_many(range(1000), bucket="a", date=day(2))
    assert not with_secret.unique(day(2), day(1))["a"].suspect


def test_a_key_of_another_type_is_named(tracker, real_server):
    real_server.client.delete(f"active:daily-{day(2):%Y%m%d}:a")
    key = f"{{active:daily-{day(2):%Y%m%d}:a}}:hll"
    real_server.client.delete(key)
    real_server.client.rpush(key, "no sketch")
    with raises(BackendError, "WRONGTYPE"):  # the server counts
        CALLS["rolling"](tracker, missing="none")
    for name in ("stickiness", "retention", "lifecycle"):
        with raises(BackendError, "daily-.*'a'.*WRONGTYPE"):
            CALLS[name](tracker, missing="none")


def test_a_damaged_sketch_is_named(tracker, real_server):
    key = f"active:daily-{day(2):%Y%m%d}:a"
    real_server.client.set(f"{{{key}}}:hll", b"HYLL nonsense")
    real_server.client.delete(key)
    for call in CALLS.values():
        with raises(BackendError, "daily-.*'a'"):
            call(tracker, missing="none")


@pytest.mark.extended
def test_a_stand_in_for_a_server_counts_unions_and_nothing_else(server):
    """fakeredis keeps a set behind PFADD: there are no registers to read."""
    if server.name != "fakeredis":
        pytest.skip("about stand-ins")
    tracker = server.tracker()
    for back in (2, 1):
        tracker.track_many(range(back * 10), date=day(back))
    assert tracker.unique(day(2), TODAY)[None] == 20
    assert [row.estimates[None] for row in tracker.rolling(2)] == [20]
    for call in (
        lambda: tracker.stickiness(2),
        lambda: tracker.overlap(Selection(None, day(2), TODAY), Selection(None, day(1), TODAY)),
        lambda: tracker.retention("daily", start=day(2), end=TODAY),
        lambda: tracker.lifecycle("daily", start=day(1), end=TODAY),
        lambda: tracker.sketch("daily", day(1)),
    ):
        with raises(BackendError, "sketches cannot be read on this server, and a count alone does not tell"):
            call()


def test_clocks_that_differ_count_what_has_begun(real_server):
    """An event of another process whose clock is ahead, in a period that has not begun here."""
    ahead = real_server.tracker(clock=lambda: NOON + 86_400)
    ahead.track(id=1)
    tracker = real_server.tracker()
    tracker.track(id=2)
    assert [row.date for row in tracker.rolling(1, end=day(-5))] == [TODAY]


def test_each_bucket_whose_sketches_are_gone_is_named(tracker, real_server):
    forget(real_server, 3, "b")
    forget(real_server, 3, "all")
    forget(real_server, 4, "all")
    with raises(MissingSketchesError) as caught:
        tracker.unique(day(5), TODAY, buckets=["a", "all"])
    [about_a, about_b] = str(caught.value).split("; ")
    assert about_a.startswith("1 sketch of bucket 'a' is gone")
    assert about_b.startswith("1 sketch of bucket 'b' is gone")


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (None, "kept for ever now, but these were not, or were counted without"),
        ({"daily": timedelta(hours=36)}, "kept for 36 hours after their period"),
    ],
)
def test_how_long_sketches_are_kept(real_server, keep, message):
    tracker = real_server.tracker(keep_sketches=keep)
    tracker.track(id=1, date=day(1))
    real_server.client.set(f"active:daily-{day(3):%Y%m%d}", 7)
    with raises(MissingSketchesError, message):
        tracker.unique(day(3), TODAY)


@pytest.mark.parametrize("has_moves", [False, True])
def test_what_expired_before_the_first_period_is_missing_from_that_alone(real_server, has_moves):
    """Who is new since then does not depend on what was before; who stayed in the first period does."""
    tracker = real_server.tracker(aggregate_buckets={"all": ["a", "b"]})
    for back in range(7, 0, -1):
        begun = 70 - 10 * back
        for bucket in "ab":
            tracker.track_many(range(begun, begun + 20), bucket=bucket, date=day(back))
            if has_moves:
                at = datetime.combine(day(back), time(9))
                tracker.track(id=None, old_id="x", old_bucket=bucket, date=at)
    tracker.collapse()
    for bucket in ("a", "b", "all"):
        forget(real_server, 6, bucket)
    for bucket in ("a", "all"):
        asked = {"start": day(5), "end": TODAY, "bucket": bucket}
        found = tracker.lifecycle("daily", **asked, missing="none")
        first, *others = found
        assert found.since == day(5)
        assert (first.active, first.new, first.resurrected) == (20, 20, 0)
        assert (first.retained, first.churned, first.moved) == (None, None, None)
        assert {(row.new, row.retained, row.resurrected, row.churned) for row in others} == {(10, 10, 0, 10)}
        with raises(LookupError, f"daily-{day(6):%Y%m%d}"):
            tracker.lifecycle("daily", **asked)
        # Asked for a number of periods, new ids are those that were in none of them.
        rows = tracker.lifecycle("daily", **asked, look_back=2, missing="none")
        assert [row.new for row in rows] == [None, None, 10, 10, 10]
