"""What a plain collapse finds to do; no server."""

from datetime import datetime

import pytest

from activity_tracker_hll import ArgumentValueError, Entry
from activity_tracker_hll.operations.due import Wanted, buckets_of, check_known, is_due, kinds_of, plan
from activity_tracker_hll.periods import Calendar

CALENDAR = Calendar("UTC")
NOW = datetime(2026, 3, 10, 12)


def entry(name, bucket, *parts):
    return Entry(CALENDAR.parse(name), bucket, frozenset(parts))


def planned(entries, **options):
    return [
        ([period.name for period in batch.periods], list(batch.buckets), dict(batch.aggregates))
        for batch in plan(entries, CALENDAR, NOW, Wanted(**options))
    ]


HELD = [
    entry("daily-20200101", "a", "hll"),
    entry("daily-20200102", "a", "hll", "moved", "moves"),
    entry("daily-20200103", "a", "count", "hll"),
    entry("daily-20200104", "a", "hll"),
    entry("daily-20200104", "b", "hll"),
    entry("daily-20200106", "b", "count"),
    entry("daily-20260310", "a", "hll"),
    entry("monthly-202001", None, "raw"),
    entry("monthly-202603", None, "hll"),
]


def test_neighbours_go_together_and_nothing_else_is_touched():
    assert planned(HELD) == [
        (["daily-20200101", "daily-20200102"], ["a"], {}),
        (["daily-20200104"], ["a", "b"], {}),
        (["monthly-202001"], [None], {}),
    ]


def test_limits():
    assert planned(HELD, kinds=["monthly"]) == [(["monthly-202001"], [None], {})]
    assert planned(HELD, buckets=["b"]) == [(["daily-20200104"], ["b"], {})]
    date = datetime(2020, 1, 5)
    assert planned(HELD, date=date, kinds=["daily"]) == [(["daily-20200104"], ["a", "b"], {})]
    assert planned(HELD, date=date, kinds=["daily"], max_periods=3, buckets=["a"]) == [
        (["daily-20200102"], ["a"], {}),
        (["daily-20200104"], ["a"], {}),
    ]
    assert planned(HELD, max_periods=5) == []


def test_recount():
    assert planned(HELD, kinds=["daily"], buckets=["a"], recount=True) == [
        ([f"daily-2020010{day}" for day in (1, 2, 3, 4)], ["a"], {})
    ]


def test_aggregates_of_the_sources_that_are_there():
    found = planned(HELD, kinds=["daily"], aggregates={"total": ["a", "b"]})
    assert found == [
        (["daily-20200101", "daily-20200102", "daily-20200103"], ["a"], {"total": ("a",)}),
        (["daily-20200104"], ["a", "b"], {"total": ("a", "b")}),
    ]


@pytest.mark.parametrize(
    ("total", "source", "is_called"),
    [
        ("hll count", "hll count", False),
        ("hll count", "hll", True),  # which may have come later
        ("hll count unexpiring", "hll count", True),
        ("hll count", "count", False),
    ],
)
def test_an_aggregate_that_is_counted(total, source, is_called):
    held = [entry("daily-20200104", "a", *source.split()), entry("daily-20200104", "total", *total.split())]
    found = planned(held, aggregates={"total": ["a"]})
    assert found == ([(["daily-20200104"], ["a"], {"total": ("a",)})] if is_called else [])


def test_unexpiring_sketches_of_past_periods_only():
    held = [entry(f"daily-{day}", "a", "hll", "count", "unexpiring") for day in (20200104, 20260310)]
    assert planned(held) == [(["daily-20200104"], ["a"], {})]


def test_an_aggregate_of_a_bucket_that_was_never_seen():
    check_known((), {"total": ["a", "b"]}, HELD)
    with pytest.raises(ArgumentValueError, match=r"'total' lists the unknown bucket 'c' \(there are: a, b\)"):
        check_known((), {"total": ["a", "c"]}, HELD)


@pytest.mark.parametrize(
    ("parts", "due"),
    [
        ("hll", True),
        ("raw", True),
        ("hll count", False),
        ("hll count unexpiring", True),
        ("count unexpiring", False),
        ("raw hll count", True),
        ("raw count", False),
        ("count", False),
    ],
)
def test_what_is_due(parts, due):
    assert is_due(parts.split()) is due


def test_what_is_there():
    assert buckets_of(HELD) == [None, "a", "b"]
    assert kinds_of(reversed(HELD)) == ["daily", "monthly"]
