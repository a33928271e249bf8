"""What a collapse of all that is due finds to do."""

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from activity_tracker_hll import ArgumentValueError, BackendAuthError, CollapseError, Entry
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.operations import run
from activity_tracker_hll.operations.due import (
    UNEXPIRING,
    Wanted,
    buckets_of,
    check_known,
    is_due,
    kinds_of,
    looked_into,
    plan,
)
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.scripts.calls import AWAITED
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY, day

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
    assert planned(HELD, date=date, kinds=["daily"]) == [
        (["daily-20200101", "daily-20200102"], ["a"], {}),
        (["daily-20200104"], ["a", "b"], {}),
    ]
    assert planned(HELD, date=date, kinds=["daily"], max_periods=1) == [(["daily-20200104"], ["a", "b"], {})]
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
    with pytest.raises(
        ArgumentValueError,
        match=r"aggregate 'total': no such bucket 'c' \(there are: the unnamed one, a, b\)",
    ):
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


@pytest.mark.parametrize(
    ("time", "ttl", "waits"),
    [
        ([1_500_000_000, 0], AWAITED - 1_500_000_000, True),
        ([AWAITED - 100, 0], 100, True),
        ([AWAITED - 100, 0], AWAITED - 1_500_000_000, True),
        ([1_500_000_000, 0], 100, False),
        (BackendAuthError("the user may not"), AWAITED - 1_500_000_000, False),
    ],
)
def test_an_expiry_is_told_by_the_clock_of_the_server(time, ttl, waits):
    """Its own alone knows in which year a key expires of which it says how long it has left."""
    answers = {"GET": b"1", "TTL": ttl, "TIME": time}
    context = SimpleNamespace(keys=Keys(), keep=lambda kind: timedelta(days=62))
    operation = looked_into(context, [entry("daily-20200103", "a", "count", "hll")])
    [found] = run(operation, lambda batch: [answers[command[0]] for command in batch])
    assert (UNEXPIRING in found.parts) is waits


# With servers


@pytest.mark.parametrize("keep", [None, timedelta(days=62)])
def test_what_lies_beside_activity_trackers_zero_is_due(server, keep):
    tracker = server.tracker(keep_sketches=keep)
    server.client.sadd(f"active:daily-{day(3):%Y%m%d}:raw:a", 1, 2)
    tracker.track_many(range(5), bucket="b", date=day(2))
    for before, bucket in ((3, "a"), (2, "b"), (1, "c")):
        server.client.set(f"active:daily-{day(before):%Y%m%d}:{bucket}", 0)
    assert {entry.bucket for entry in tracker.examine().due} == {"a", "b"}
    assert {item.bucket: item.count for item in tracker.collapse_due()} == {"a": 2, "b": 5}
    assert tracker.collapse_due() == []


def test_aggregates_of_the_tracker_are_counted_where_a_source_has_data(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    with raises(ArgumentValueError, "aggregate 'u': no such bucket 'b' .there are: a"):
        tracker.collapse_due(aggregate_buckets={"u": ["a", "b"]})
    assert {item.bucket for item in tracker.collapse_due()} == {"a", "t"}


def test_one_failure_does_not_end_the_collapse_of_what_is_due(server):
    tracker = server.tracker()
    for before in (9, 5, 2):  # three calls
        tracker.track(id=1, bucket="a", date=day(before))
    server.raise_on("bad", day(5))
    server.client.delete("active:{open}")
    server.client.set("active:{open}", "no set")
    steps = []
    with raises(CollapseError, r"active:\{open\}", "'bad'") as caught:
        tracker.collapse_due(progress=lambda step, steps_: steps.append((step, steps_)))
    assert [item.period.date for item in caught.value.collapsed] == [day(9), day(5), day(2)]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_collapse_of_what_is_due_takes_marks_away_but_of_what_it_left(server):
    tracker = server.tracker(buckets=["a"])
    for before in (3, 2, 0):
        tracker.track(id=1, bucket="a", date=day(before))
    tracker.track(id=1, bucket="other", date=day(3))
    tracker.collapse_due(buckets=["a"])
    marks = {name.decode() for name in server.client.smembers("active:{open}")}
    assert marks == {f"daily-{day(before):%Y%m%d}" for before in (3, 0)}
    tracker.collapse_due()
    assert server.client.smembers("active:{open}") == {f"daily-{TODAY:%Y%m%d}".encode()}


def test_a_tracker_that_does_not_know_all_buckets_leaves_marks(server):
    tracker = server.tracker()
    tracker.track(id=1, date=YESTERDAY)
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.collapse()
    assert server.client.smembers("active:{open}") == {f"daily-{YESTERDAY:%Y%m%d}".encode()}
