"""lookup and inventory."""

from datetime import date, datetime, timedelta

import pytest
from conftest import NOON, TODAY, YESTERDAY, day, raises

from activity_tracker_hll import BackendResponseError, Estimate
from activity_tracker_hll.hll.estimators import standard_error


def test_a_year_to_today_oldest_first(server):
    rows = server.tracker().lookup()
    assert len(rows) == 365
    assert (rows[0][0], rows[-1][0]) == (TODAY - timedelta(days=365), YESTERDAY)
    assert all(type(when) is date and counts == {None: 0} for when, counts in rows)


def test_months_are_dated_the_first_and_begin_at_or_after_start(server):
    tracker = server.tracker(["monthly"])
    rows = tracker.lookup(start=date(2026, 1, 2), end=date(2026, 4, 30))
    assert [when for when, _ in rows] == [date(2026, 2, 1), date(2026, 3, 1)]
    rows = tracker.lookup(start=date(2026, 1, 1), end=date(2026, 4, 1))
    assert [when for when, _ in rows] == [date(2026, n, 1) for n in (1, 2, 3)]


def test_hours_are_dated_by_their_datetime(server):
    tracker = server.tracker(["hourly"])
    end = datetime(2026, 5, 1, 3, 30)
    assert [when for when, _ in tracker.lookup(start=date(2026, 5, 1), end=end)] == [
        datetime(2026, 5, 1, hour) for hour in range(3)
    ]


def test_an_empty_range(server):
    assert server.tracker().lookup(start=TODAY, end=TODAY) == []


def test_absent_data(server):
    tracker = server.tracker()
    server.client.set(f"active:daily-{YESTERDAY:%Y%m%d}", 0)
    for missing in (0, None, 7):
        rows = tracker.lookup(start=day(2), missing=missing)
        assert rows == [(day(2), {None: missing}), (YESTERDAY, {None: 0})]


def test_estimates_carry_the_plain_error_or_the_stored_one(server):
    tracker = server.tracker()
    name = f"daily-{YESTERDAY:%Y%m%d}"
    server.client.mset({f"active:{name}:a": 1000, f"active:{name}:b": 1000, f"active:{name}": 1000})
    server.client.hset(f"active:{{{name}}}:stderr", mapping={"b": "12.5", "": "3.25", "gone": "1"})
    row = tracker.lookup(start=YESTERDAY, buckets=["a", "b", None])[0][1]
    assert all(isinstance(count, Estimate) for count in row.values())
    assert [count.stderr for count in row.values()] == [standard_error(1000), 12.5, 3.25]


def test_live_is_stored_where_collapsed_and_counted_where_not(server):
    tracker = server.tracker(
        buckets=["a"],
        aggregate_buckets={
            "t": [
                "a",
            ]
        },
    )
    for n in (0, 1, 2):
        tracker.track_many(range(n + 1), bucket="a", date=day(n))
    tracker.collapse(date=day(1))
    tracker.track(id=99, bucket="a", date=day(2))
    tracker.track(old_id=0, old_bucket="a")
    rows = tracker.lookup(start=day(3), buckets=["a", "t"], live=True, missing=None)
    assert rows == [
        (day(3), {"a": None, "t": None}),
        (day(2), {"a": 3, "t": 3}),
        (day(1), {"a": 2, "t": 2}),
        (TODAY, {"a": 0, "t": 0}),
    ]
    assert tracker.lookup(start=day(3), end=TODAY, live=True)[-1] == (day(1), {"a": 2})
    assert tracker.lookup(start=day(1), end=TODAY) == [(day(1), {"a": 0})]
    assert not [name for name in server.names() if ":tmp:" in name]


def test_many_buckets_over_a_year(server):
    tracker = server.tracker()
    buckets = [f"b{n}" for n in range(50)]
    values = {
        f"active:daily-{day(n):%Y%m%d}:{bucket}": n * 100 + place
        for n in range(1, 366)
        for place, bucket in enumerate(buckets)
    }
    server.client.mset(values)
    rows = tracker.lookup(buckets=buckets)
    assert len(rows) == 365
    for n, (when, counts) in zip(range(365, 0, -1), rows, strict=True):
        assert when == day(n)
        assert list(counts.values()) == [n * 100 + place for place in range(50)]


@pytest.mark.parametrize("stored", ["abc", "-3", "1.5"])
def test_a_stored_count_that_is_none_is_named(server, stored):
    server.client.set(f"active:daily-{YESTERDAY:%Y%m%d}:b", stored)
    with raises(BackendResponseError, f"daily-{YESTERDAY:%Y%m%d}", "'b'"):
        server.tracker().lookup(start=YESTERDAY, buckets=["b"])


def test_a_live_aggregate_of_a_bad_source_is_named(server):
    tracker = server.tracker(buckets=["a", "bad"], aggregate_buckets={"t": ["a", "bad"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    server.raise_on("bad")
    with raises(BackendResponseError, "'t'"):
        tracker.lookup(start=YESTERDAY, buckets=["t"], live=True)


def test_reading_leaves_no_trace(server):
    tracker = server.tracker()
    tracker.lookup(live=True)
    tracker.inventory()
    assert server.client.keys() == []


def test_inventory(server):
    tracker = server.tracker(["daily", "monthly"])
    tracker.track(id=1, bucket="a:b")
    tracker.track(id=1, old_id=2, date=YESTERDAY)
    server.client.sadd(f"active:daily-{YESTERDAY:%Y%m%d}:raw:old", 1)
    server.client.mset({"active:unrelated": 1, "active:daily-20200101:a{b": 1, "active:daily-20209999": 1})
    server.client.set("activex:daily-20200101", 1)
    found = {(e.period.name, e.bucket): set(e.parts) for e in tracker.inventory()}
    month = {f"monthly-{YESTERDAY:%Y%m}", f"monthly-{TODAY:%Y%m}"}
    assert found.pop((f"daily-{TODAY:%Y%m%d}", "a:b")) == {"hll"}
    assert found.pop((f"daily-{YESTERDAY:%Y%m%d}", None)) == {"hll", "moved", "out"}
    assert found.pop((f"daily-{YESTERDAY:%Y%m%d}", "old")) == {"raw"}
    assert {name for name, _ in found} <= month


def test_inventory_of_a_namespace_with_special_characters(server):
    tracker = server.tracker(namespace="a[b]*?")
    tracker.track(id=1)
    server.tracker(namespace="ab").track(id=1)
    assert len(tracker.inventory()) == 1


def test_the_clock_decides_what_today_is(server):
    tracker = server.tracker(clock=lambda: NOON - 10 * 86400)
    assert tracker.lookup()[-1][0] == day(11)


@pytest.mark.parametrize(
    "damage",
    [
        lambda client, key: client.hset(key, "a", "abc"),
        lambda client, key: client.hset(key, b"\xff", "1"),
        lambda client, key: client.hset(key, "a", "nan"),
        lambda client, key: client.hset(key, "a", "-1"),
        lambda client, key: client.set(key, "x"),
    ],
    ids=["text", "field", "nan", "negative", "type"],
)
def test_a_damaged_hash_of_errors_is_named(server, damage):
    name = f"daily-{YESTERDAY:%Y%m%d}"
    server.client.set(f"active:{name}:a", 5)
    damage(server.client, f"active:{{{name}}}:stderr")
    with raises(BackendResponseError, rf"\{{{name}\}}:stderr"):
        server.tracker().lookup(start=day(5), buckets=["a"])
