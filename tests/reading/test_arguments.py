"""Arguments that make no sense, as a table: refused at once, by name, before anything is sent."""

from datetime import date, timedelta

import pytest

from activity_tracker_hll import ActivityTracker, BackendConnectionError, Selection
from helpers.errors import raises

JANUARY, FEBRUARY = date(2026, 1, 1), date(2026, 2, 1)
MONTH = Selection("a", JANUARY, FEBRUARY)
RANGE = {"start": JANUARY, "end": FEBRUARY, "bucket": "a"}

BAD = {
    "unique": [
        ((FEBRUARY, JANUARY), {}, "start must lie before end.* 2026-02-01 and 2026-01-01"),
        ((JANUARY, JANUARY), {}, "start must lie before end"),
        (("2026-01-01", FEBRUARY), {}, "start must be a date or a datetime, got '2026-01-01'"),
        ((JANUARY, None), {}, "end must be a date or a datetime, got None"),
        ((JANUARY, FEBRUARY), {"period": "fortnightly"}, "period must be one of hourly, daily"),
        ((JANUARY, FEBRUARY), {"buckets": "a"}, "buckets must be a list, got 'a'"),
        ((JANUARY, FEBRUARY), {"buckets": [7]}, "buckets"),
        ((JANUARY, FEBRUARY), {"aggregate_buckets": {"x": []}}, "aggregate_buckets.'x'. lists no buckets"),
        ((JANUARY, FEBRUARY), {"aggregate_buckets": {None: ["a"]}}, "an aggregate needs a name"),
        ((JANUARY, FEBRUARY), {"missing": "ignore"}, "missing must be one of 'raise', 'none', got 'ignore'"),
        ((JANUARY, FEBRUARY), {"shard": 1}, "shard"),
    ],
    "rolling": [
        ((0,), {}, "window must be at least 1, got 0"),
        ((7.0,), {}, "window must be an int of at least 1, got 7.0"),
        ((True,), {}, "window must be an int"),
        ((10**9,), {}, "window must be at most 100000"),
        ((7,), {"period": None}, "period must be one of"),
        ((7,), {"start": FEBRUARY, "end": JANUARY}, "start must lie before end"),
    ],
    "stickiness": [
        ((-1,), {}, "window must be at least 1"),
        ((28,), {"end": date.max}, "end must lie in the years"),
    ],
    "overlap": [
        (("a", "b"), {}, "a must be a Selection, got 'a'"),
        ((MONTH, None), {}, "b must be a Selection, got None"),
        ((MONTH, Selection("a", FEBRUARY, JANUARY)), {}, "start must lie before end"),
        ((MONTH, Selection("a", JANUARY, "soon")), {}, "b.end must be a date or a datetime, got 'soon'"),
        ((Selection(7, JANUARY, FEBRUARY), MONTH), {}, "a.buckets must be a list, got 7"),
        ((Selection("a", JANUARY, FEBRUARY, "era"), MONTH), {}, "a.period must be one of"),
    ],
    "retention": [
        ((), {**RANGE, "cohorts": "old"}, "cohorts must be one of 'active', 'new', got 'old'"),
        ((), {**RANGE, "when": "before"}, "when must be one of 'on', 'on or after', got 'before'"),
        ((), {**RANGE, "look_back": 3}, "look_back is for cohorts='new'"),
        ((), {**RANGE, "cohorts": "new", "look_back": 0}, "look_back must be at least 1, got 0"),
        ((), {"start": JANUARY, "end": FEBRUARY}, "bucket must be given: one of"),
        ((), {**RANGE, "bucket": ["a"]}, "bucket"),
        (("daily",), {**RANGE, "start": timedelta(1)}, "start must be a date or a datetime"),
    ],
    "lifecycle": [
        ((), {**RANGE, "look_back": "all"}, "look_back must be an int of at least 1, got 'all'"),
        (("millennially",), RANGE, "period must be one of"),
    ],
    "sketch": [
        (("hourly", JANUARY, "a"), {}, "date must be a datetime for hourly periods"),
        (("daily", "today", "a"), {}, "date must be a date or a datetime, got 'today'"),
        (("daily", JANUARY), {}, "bucket must be given"),
    ],
}


@pytest.fixture(scope="module")
def tracker():
    """Of a server that is not there: nobody asks it."""
    return ActivityTracker(url="redis://127.0.0.1:1", timezone="UTC", buckets=["a", "b"])


@pytest.mark.parametrize(
    ("call", "arguments", "options", "message"),
    [(call, *case) for call, cases in BAD.items() for case in cases],
)
def test_what_is_refused(tracker, call, arguments, options, message):
    with raises((TypeError, ValueError), message):
        getattr(tracker, call)(*arguments, **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda tracker: tracker.unique(JANUARY, FEBRUARY),
        lambda tracker: tracker.rolling(7),
        lambda tracker: tracker.stickiness(),
        lambda tracker: tracker.overlap(MONTH, MONTH),
        lambda tracker: tracker.retention(**RANGE),
        lambda tracker: tracker.lifecycle(**RANGE),
        lambda tracker: tracker.sketch("daily", JANUARY, "a"),
    ],
)
def test_a_server_that_is_down(tracker, call):
    with raises(BackendConnectionError, "127.0.0.1:1"):
        call(tracker)
