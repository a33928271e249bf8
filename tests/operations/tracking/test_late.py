"""Events of periods that are over, or about to be: counted by the next collapse, or refused by name."""

import pickle
from datetime import date, timedelta

import pytest

from activity_tracker_hll import (
    LateEventError,
)
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.writes import live


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
