"""lookup and inventory."""

from datetime import date, datetime, timedelta

import pytest

from activity_tracker_hll import BackendDataError, Estimate
from activity_tracker_hll.hll.estimators import standard_error
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day


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
    for bucket, stderr in ((":b", "12.5"), ("", "3.25"), (":gone", "1")):
        server.client.set(f"{{active:{name}{bucket}}}:stderr", stderr)
    row = tracker.lookup(start=YESTERDAY, buckets=["a", "b", None, "gone"], missing=None)[0][1]
    assert row.pop("gone") is None
    assert all(isinstance(count, Estimate) for count in row.values())
    assert [count.stderr for count in row.values()] == [standard_error(1000), 12.5, 3.25]


def test_a_count_of_nobody_has_its_error_too(server):
    """All left, it seems; some may have stayed."""
    tracker = server.tracker(buckets=["a"])
    name = f"active:daily-{YESTERDAY:%Y%m%d}:a"
    server.client.mset({name: 0, f"{{{name}}}:stderr": "12.5"})
    [(_, counts)] = tracker.lookup(start=YESTERDAY, end=TODAY)
    assert (counts["a"], counts["a"].stderr) == (0, 12.5)
    assert counts["a"].interval() == (0, 24)


def test_what_a_collapse_stores_is_what_lookup_shows(real_server):
    """Of few and many ids that remain, and of none."""
    tracker = real_server.tracker(
        buckets=["few", "none", "plain"], aggregate_buckets={"both": ["few", "none"]}
    )
    for bucket, left in (("few", 1900), ("none", 2000)):
        tracker.track_many(range(2000), bucket=bucket, date=YESTERDAY)
        with tracker.buffered() as writer:
            for id in range(left):
                writer.track(old_id=id, old_bucket=bucket, date=YESTERDAY)
    tracker.track_many(range(100), bucket="plain", date=YESTERDAY)
    names = ["few", "none", "plain", "both"]
    done = {collapsed.bucket: collapsed.count for collapsed in tracker.collapse()}
    [(_, counts)] = tracker.lookup(start=YESTERDAY, end=TODAY, buckets=names)
    for name, true in zip(names, (100, 0, 100, 100), strict=True):
        assert (counts[name], counts[name].stderr) == (done[name], done[name].stderr)
        assert abs(counts[name] - true) <= 4 * counts[name].stderr


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
    tracker.collapse(date=day(1), max_periods=1)
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
    assert tracker.lookup(start=day(1), end=TODAY) == [(day(1), {"a": 2})]
    assert tracker.lookup(start=day(1), end=TODAY, live=False) == [(day(1), {"a": 0})]
    assert not [name for name in server.names() if ":tmp:" in name]


def test_many_buckets_over_a_year(real_server):
    tracker = real_server.tracker()
    buckets = [f"b{n}" for n in range(50)]
    values = {
        f"active:daily-{day(n):%Y%m%d}:{bucket}": n * 100 + index
        for n in range(1, 366)
        for index, bucket in enumerate(buckets)
    }
    real_server.client.mset(values)
    rows = tracker.lookup(buckets=buckets)
    assert len(rows) == 365
    for n, (when, counts) in zip(range(365, 0, -1), rows, strict=True):
        assert when == day(n)
        assert list(counts.values()) == [n * 100 + index for index in range(50)]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    "stored", ["abc", "-3", "1.5", "", "9" * 20, "9" * 5000, "1_000", " 7", "\x1b[31m", None]
)
def test_a_stored_count_that_is_none_is_named(server, stored, live):
    key = f"active:daily-{YESTERDAY:%Y%m%d}:b"
    if stored is None:
        server.client.rpush(key, 7)
    else:
        server.client.set(key, stored)
    with raises(BackendDataError, key) as caught:
        server.tracker().lookup(start=YESTERDAY, buckets=["a", "b"], live=live)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_live_aggregate_of_a_bad_source_is_named(server):
    tracker = server.tracker(buckets=["a", "bad"], aggregate_buckets={"t": ["a", "bad"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    server.raise_on("bad")
    with raises(BackendDataError, "'t'"):
        tracker.lookup(start=YESTERDAY, buckets=["t"], live=True)


def test_reading_leaves_no_trace(server):
    tracker = server.tracker(buckets=["a"], aggregate_buckets={"t": ["a"]})
    tracker.lookup(live=True, buckets=["a", "t"])
    tracker.inventory()
    assert server.client.keys() == []
    tracker.track(id=1, bucket="a")
    before = sorted(server.client.keys())
    tracker.lookup(live=True, buckets=["a", "t"])
    tracker.inventory()
    assert sorted(server.client.keys()) == before


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
    assert found.pop((f"daily-{YESTERDAY:%Y%m%d}", None)) == {"hll", "moved", "moves"}
    assert found.pop((f"daily-{YESTERDAY:%Y%m%d}", "old")) == {"raw"}
    assert {name for name, _ in found} == month


def test_inventory_of_what_was_collapsed(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a"], "u": ["b"]})
    tracker.track_many(range(50), bucket="a", date=YESTERDAY)
    tracker.track(id=1, bucket="b", old_id=1, old_bucket="a", date=YESTERDAY)
    tracker.collapse()
    assert {entry.bucket: set(entry.parts) for entry in tracker.inventory()} == {
        "a": {"count", "stderr", "hll", "moved", "moves"},
        "b": {"count", "hll"},
        "t": {"count", "stderr"},
        "u": {"count", "hll"},
    }


def test_inventory_of_a_namespace_with_special_characters(server):
    tracker = server.tracker(namespace="a[b]*?")
    tracker.track(id=1)
    others = ["ab", "xa[b]*?", "a[b]*?x", "x:a[b]*?"]
    for name in others:
        server.tracker(namespace=name).track(id=1)
    for name in ("a[b]*?", *others):
        assert len(server.tracker(namespace=name).inventory()) == 1, name
    assert len(tracker.inventory()) == 1


def test_the_clock_decides_what_today_is(server):
    tracker = server.tracker(clock=lambda: NOON - 10 * 86400)
    assert tracker.lookup()[-1][0] == day(11)


@pytest.mark.parametrize("stored", ["abc", b"\xff", "nan", "-1", "", "\x1b[31m"])
def test_a_damaged_standard_error_is_named(server, stored):
    name = f"active:daily-{YESTERDAY:%Y%m%d}:a"
    server.client.set(name, 5)
    key = f"{{{name}}}:stderr"
    server.client.set(key, stored)
    with raises(BackendDataError, rf"\{{{name}\}}:stderr") as caught:
        server.tracker().lookup(start=day(5), buckets=["a", "b"])
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("buckets", "trips"), [(["a"], [1, 1]), (["a", "b"], [3, 2])])
def test_round_trips_of_a_lookup(server, monkeypatch, buckets, trips):
    """One, and another to see whether what is absent is a key of another type.

    Where a bucket has nothing at all it is asked once whether anybody ever tracked in it.
    """
    tracker = server.tracker()
    tracker.track(id=1)
    start = day(365)
    server.client.mset({f"active:daily-{day(n):%Y%m%d}:a": 5 for n in range(1, 366)})
    execute, sent = tracker.backend.execute, []
    monkeypatch.setattr(
        tracker.backend,
        "execute",
        lambda commands, shard=0: sent.append(commands) or execute(commands, shard),
    )
    for expected in trips:
        sent.clear()
        counts = tracker.lookup(start=start, buckets=buckets)[-1][1]
        assert counts == {bucket: 5 if bucket == "a" else 0 for bucket in buckets}
        assert len(sent) == expected


def test_a_bucket_in_which_nothing_was_ever_tracked_is_told_of_once(server, caplog):
    tracker = server.tracker()
    tracker.lookup()  # nothing at all is there
    assert caplog.records == []
    tracker.track(id=1, bucket="member")
    tracker.track(id=1, bucket="guest")
    for _ in range(2):
        for buckets in (None, ["memebr"], ["member"], ["guest", "other"]):
            tracker.lookup(buckets=buckets)
    assert [record.getMessage() for record in caplog.records] == [
        "nothing was ever tracked in the unnamed bucket (there are: guest, member)",
        "nothing was ever tracked in bucket 'memebr', did you mean 'member'?",
        "nothing was ever tracked in bucket 'other' (there are: guest, member)",
    ]
