"""The public API from a user's side, for the type checker; nothing here is run."""

import datetime as dt
from typing import assert_type

import numpy as np

from activity_tracker_hll import ActivityTracker, Collapsed, Entry, Estimate, Imported
from activity_tracker_hll.operations import Row


def calls(tracker: ActivityTracker) -> None:
    """Every public call, with its result's type."""
    tracker.track(id=1, bucket="a", old_id="s", old_bucket="b", date=dt.date(2026, 1, 1))
    tracker.track(["daily"], id=b"x", shard=1)
    tracker.track_daily(id=1, bucket="a")
    assert_type(tracker.lookup_daily(live=True), list[Row])
    tracker.track_many([1, "2"], bucket="a")
    assert_type(tracker.import_events([(1, None, dt.date(2026, 1, 1))], progress=print), Imported)
    tracker.import_events((np.array(["a", "b"]), "bucket", dt.date(2026, 1, 1)))
    tracker.import_events((np.arange(2), ["a", None], np.array(["2026-01-01"] * 2, "M8[D]")))
    assert_type(tracker.collapse(buckets=["a", None], aggregate_buckets={"t": ["a"]}), list[Collapsed])
    for when, counts in tracker.lookup("daily", start=dt.date(2026, 1, 1), live=True, missing=None):
        assert_type(when, dt.date)
        print(counts["a"])
    assert_type(tracker.inventory(), list[Entry])
    with tracker as same:
        assert_type(same, ActivityTracker)


def estimates(count: Estimate) -> None:
    """An Estimate is an int."""
    number: int = count
    assert_type(count.stderr, float)
    assert_type(count.interval(0.99), tuple[int, int])
    assert_type(count + number, int)


def wrong(tracker: ActivityTracker) -> None:
    """What the type checker must refuse: an unused ignore is an error too."""
    tracker.track(1)  # type: ignore[arg-type]
    tracker.track(id=1, bucket=7)  # type: ignore[arg-type]
    tracker.track_many(7)  # type: ignore[arg-type]
    tracker.collapse(max_periods="3")  # type: ignore[arg-type]
    tracker.lookup("daily", start="2026-01-01")  # type: ignore[call-overload]
    tracker.track_daily(id=1, bukcet="x")  # type: ignore[call-arg]
    tracker.lookup_daily(start=3)  # type: ignore[call-overload]
