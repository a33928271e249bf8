"""Events that came after their period was counted: they change no count, and are not forgotten either."""

from datetime import datetime, time, timedelta

import pytest

from activity_tracker_hll import LateEventError
from activity_tracker_hll.keys import Keys
from helpers.collapses import marks
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY, day

BUCKETS = ["anon", "member"]
CAME_AFTER = "events that came after the count was stored"


def name(date):
    return f"daily-{date:%Y%m%d}"


@pytest.fixture
def counted(server):
    """A tracker, and yesterday and the day before, counted."""
    tracker = server.tracker(buckets=BUCKETS)
    for date in (YESTERDAY, day(2)):
        tracker.track_many(range(100), bucket="anon", date=date)
        tracker.track(id="u1", bucket="member", old_id=1, old_bucket="anon", date=date)
    assert len(tracker.collapse()) == 4
    return tracker


def late(tracker, bucket, ids, date=YESTERDAY):
    return tracker.import_events([(id, bucket, date) for id in ids])


@pytest.mark.parametrize("bucket", BUCKETS)  # one with moves, one without
def test_they_are_named_until_they_are_counted(server, counted, bucket, caplog):
    before = dict(counted.lookup(start=YESTERDAY))[YESTERDAY]
    assert late(counted, bucket, range(200, 300)).outgrown == (name(YESTERDAY),)
    assert marks(server) == {name(YESTERDAY)}
    for _ in range(2):
        assert counted.collapse() == []
        assert counted.collapse_due() == []
        assert marks(server) == {name(YESTERDAY)}
    [record] = caplog.records
    assert record.getMessage().startswith(
        f"1 period has {CAME_AFTER}, such as {name(YESTERDAY)}: collapse(rec"
    )
    [warning] = [warning for warning in counted.examine().warnings if CAME_AFTER in warning]
    assert name(YESTERDAY) in warning
    assert dict(counted.lookup(start=YESTERDAY))[YESTERDAY] == before

    assert {(done.period.name, done.bucket) for done in counted.collapse(recount=True)} >= {
        (name(YESTERDAY), bucket)
    }
    assert dict(counted.lookup(start=YESTERDAY))[YESTERDAY][bucket] > before[bucket] + 90
    assert marks(server) == set()
    assert CAME_AFTER not in "".join(counted.examine().warnings)


@pytest.mark.parametrize("how", ["track", "track_many", "leave"])
def test_however_they_came(server, counted, how):
    if how == "track":
        counted.track(id="new", bucket="anon", date=YESTERDAY)
    elif how == "track_many":
        counted.track_many(range(1000), bucket="anon", date=YESTERDAY)
    else:  # which makes the count too large
        counted.track(old_id=2, old_bucket="anon", date=YESTERDAY)
    counted.collapse()
    assert CAME_AFTER in "".join(counted.examine().warnings)


def test_what_changes_no_count_is_not_named(server, counted, caplog):
    for bucket, ids in (("anon", range(2, 50)), ("member", ["u1"])):
        assert late(counted, bucket, ids).outgrown == ()
    counted.collapse()
    assert marks(server) == set()
    assert caplog.records == []
    assert CAME_AFTER not in "".join(counted.examine().warnings)


def test_all_periods_of_an_import_are_named_and_no_others(server, counted):
    dates = [TODAY, YESTERDAY, day(2), day(3)]
    events = [(f"{n}", "member", date) for date in dates for n in range(200)]
    assert counted.import_events(events).outgrown == (name(day(2)), name(YESTERDAY))


def test_what_another_program_stored_is_no_reason_to_warn(server, caplog):
    """activity-tracker's counts are exact, and a sketch's number differs; collapse says what does not fit."""
    tracker = server.tracker(buckets=BUCKETS)
    for back, stored in ((1, "text"), (2, "5" * 30), (3, "0")):
        server.client.set(f"active:{name(day(back))}:anon", stored)
    assert tracker.import_events([(1, "member", day(back)) for back in (1, 2, 3)]).outgrown == ()
    server.client.set(f"{{active:{name(day(1))}:member}}:moved", "no sketch")
    tracker.track(id=2, bucket="member", date=TODAY - timedelta(days=30))
    assert CAME_AFTER not in "".join(tracker.examine().warnings)


@pytest.fixture
def left(server):
    """A bucket that everybody left, beside one that has an id, and their aggregate."""
    tracker = server.tracker(buckets=BUCKETS, aggregate_buckets={"both": BUCKETS})
    at = datetime.combine(day(2), time(9))
    tracker.track(id=1, bucket="anon", date=at)
    tracker.track(id=1, bucket="member", old_id=1, old_bucket="anon", date=at + timedelta(seconds=3))
    assert {(each.bucket, each.count) for each in tracker.collapse()} == {
        ("anon", 0),
        ("member", 1),
        ("both", 1),
    }
    return tracker


def counts_of(tracker):
    [(_, counts)] = tracker.lookup(start=day(2), end=YESTERDAY, buckets=[*BUCKETS, "both"])
    return dict(counts)


def test_where_everybody_left_nothing_is_left_to_count(server, left):
    assert marks(server) == set()
    assert left.collapse() == left.collapse_due() == left.collapse(max_periods=3) == []
    before = {"anon": 0, "member": 1, "both": 1}
    for bucket in BUCKETS:
        late(left, bucket, [2], day(2))
        assert left.collapse() == []
        assert counts_of(left) == before
        assert marks(server) == {name(day(2))}
        assert any(CAME_AFTER in warning for warning in left.examine().warnings)
        left.collapse(recount=True)
        assert marks(server) == set()
        before = counts_of(left)
        assert before[bucket] == (1 if bucket == "anon" else 2)
        assert before["both"] == 2


def test_what_everybody_left_and_has_expired_is_gone(server, left):
    keys = Keys().bucket(name(day(2)), "anon")
    server.client.delete(keys.hll, keys.moved, keys.moves)
    with raises(LookupError, "1 sketch of bucket 'anon' is gone"):
        left.unique(day(2), YESTERDAY, buckets=["anon"], period="daily")
    server.client.sadd(keys.raw, "x")  # nothing can be added to the count any more
    assert left.collapse() == []
    assert counts_of(left) == {"anon": 0, "member": 1, "both": 1}
    server.client.delete(keys.raw, Keys().bucket(name(day(2)), "both").counted)
    [(_, counts)] = left.lookup(start=day(2), end=YESTERDAY, buckets=["both"], missing=None)
    assert counts == {"both": None}


@pytest.mark.parametrize("how", ["script of ids", "script of sketches"])
def test_what_comes_after_it_has_expired_is_late(server, left, how):
    keys = Keys().bucket(name(day(2)), "anon")
    server.client.delete(keys.hll, keys.moved, keys.moves)
    if how == "script of ids":
        with raises(LateEventError, name(day(2))):
            left.track(id="x", bucket="anon", date=day(2))
    else:
        assert late(left, "anon", range(2000), day(2)).late == 2000
    assert left.collapse() == []
    assert counts_of(left) == {"anon": 0, "member": 1, "both": 1}
    assert not server.client.exists(keys.hll)


def test_an_aggregate_that_activity_tracker_counted_as_nobody_is_counted(server):
    tracker = server.tracker(buckets=BUCKETS)
    late(tracker, "anon", range(5))
    tracker.collapse()
    server.client.set(Keys().bucket(name(YESTERDAY), "both").counted, 0)
    for counted in ([("both", 5)], []):
        done = tracker.collapse(aggregate_buckets={"both": BUCKETS})
        assert [(each.bucket, each.count) for each in done] == counted
        assert marks(server) == set()
