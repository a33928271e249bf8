"""Counts of what was not collapsed: they need no right to write, and `missing` never stands for data."""

import logging
import random

import pytest

from activity_tracker_hll import ActivityTracker, BackendDataError, BackendError
from helpers.collapses import YNAME
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day


def test_past_periods_that_were_not_collapsed_are_counted_and_nothing_is_stored(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    for n in (0, 1, 2, 9):
        tracker.track_many(range(n + 1), bucket="a", date=day(n))
    tracker.track(id="x", bucket="b", old_id=0, old_bucket="a", date=day(2))
    before = server.names()
    names = ["a", "b", "t"]
    found = {date: tuple(counts.values()) for date, counts in tracker.lookup(start=day(9), buckets=names)}
    expected = {day(n): (0, 0, 0) for n in range(1, 10)} | {
        day(9): (10, 0, 10),
        day(1): (2, 0, 2),
        day(2): (2, 1, 3),
    }
    assert found == expected
    assert tracker.lookup(start=day(9), buckets=names, live=True)[-1] == (TODAY, {"a": 1, "b": 0, "t": 1})
    assert {tuple(c.values()) for _, c in tracker.lookup(start=day(9), buckets=names, live=False)} == {
        (0, 0, 0)
    }
    assert server.names() == before
    tracker.collapse()
    assert {
        d: tuple(c.values()) for d, c in tracker.lookup(start=day(9), buckets=names, live=False)
    } == expected


@pytest.mark.parametrize("live", [None, True])
def test_a_running_period_that_is_asked_for_is_counted(server, live):
    """missing never stands for data."""
    tracker = server.tracker()
    tracker.track(id=1)
    assert tracker.lookup(start=TODAY, end=day(-1), live=live) == [(TODAY, {None: 1})]
    assert tracker.lookup(start=TODAY, end=day(-2), live=live, missing=None)[1] == (day(-1), {None: None})


def test_a_zero_of_activity_tracker_does_not_hide_ids(server):
    tracker = server.tracker(buckets=["a", "b"])
    server.client.mset({f"active:{YNAME}:a": 0, f"active:{YNAME}:b": 0})
    tracker.track_many(range(7), bucket="a", date=YESTERDAY)
    assert tracker.lookup(start=YESTERDAY, missing=None) == [(YESTERDAY, {"a": 7, "b": 0})]


def test_a_union_that_cannot_be_known_any_more_is_missing_and_logged_once(server, caplog):
    tracker = server.tracker(buckets=["a", "b"])
    for n in (1, 2):
        tracker.track(id=1, bucket="a", date=day(n))
    tracker.collapse()
    for n in (1, 2):
        server.client.delete(tracker.backend.keys.bucket(f"daily-{day(n):%Y%m%d}", "a").hll)
    new = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            rows = new.lookup(start=day(2), buckets=["t"], missing=None)
            assert rows == [(day(2), {"t": None}), (day(1), {"t": None})]
    [record] = caplog.records
    assert "aggregate 't' was not counted in daily-" in record.getMessage()


def test_a_reader_needs_no_right_to_write(real_server):
    """Every kind of data, by a user who may only read: as on a replica."""
    aggregates = {"t": ["a", "b", "c"], "plain": ["c"]}
    tracker = real_server.tracker(buckets=["a", "b", "c"], aggregate_buckets=aggregates, secret="pepper")
    for n in (1, 2):
        tracker.track_many(range(300), bucket="a", date=day(n))
        tracker.track_many(range(200), bucket="c", date=day(n))
        for id in range(50):
            tracker.track(id=id, bucket="b", old_id=id, old_bucket="a", date=day(n))
        for id in range(20):
            tracker.track(id=id, bucket="a", date=day(n))  # came back
        real_server.client.sadd(f"active:daily-{day(n):%Y%m%d}:raw:c", *range(150, 400))
    tracker.collapse(date=YESTERDAY)
    client = real_server.client
    client.execute_command(
        "ACL", "SETUSER", "reader", "on", "nopass", "~*", "+@read", "+@connection", "+time"
    )
    options = {"username": "reader", "password": "x", **real_server.options}
    names = ["a", "b", "c", "t", "plain"]
    with ActivityTracker(["daily"], secret="pepper", clock=lambda: NOON, **options) as reader:
        assert reader.settings.timezone == "UTC"
        found = dict(reader.lookup(start=day(2), buckets=names))
        assert found[day(2)] == dict(tracker.lookup(start=day(2), buckets=names, live=False))[day(2)]
        with raises(BackendError, "permission"):
            reader.track(id=1)
    for name, true in {"a": 270, "b": 50, "c": 400, "t": 400, "plain": 400}.items():
        for count in (found[day(1)][name], found[day(2)][name]):
            assert abs(count - true) <= 4 * max(count.stderr, 1), (name, count)
    assert not [name for name in real_server.names() if ":tmp:" in name]
    tracker.collapse()
    assert tracker.lookup(start=YESTERDAY, buckets=names, live=False)[-1][1] == found[day(1)]


def test_whether_there_are_data_is_asked_once_a_period(real_server, monkeypatch):
    tracker = real_server.tracker(buckets=[f"b{n}" for n in range(50)])
    tracker.track(id=1, bucket="b7", date=day(3))
    execute, sent = tracker.backend.execute, []
    monkeypatch.setattr(
        tracker.backend,
        "execute",
        lambda commands, shard=0: sent.append(commands) or execute(commands, shard),
    )
    rows = tracker.lookup()
    assert [counts["b7"] for _, counts in rows].count(1) == 1
    assert len(sent) == 4  # counts; what is absent, and whether there are data; which; their sketches
    assert len(sent[1]) == 5 + 365  # the absent ones in parts of at most 4,000


@pytest.mark.parametrize("stored", [b"9" * 20, b"%d" % 2**53, b"9" * 5000, b"-1"])
@pytest.mark.parametrize("live", [None, True, False])
def test_an_absurd_number_is_an_error_that_names_its_key(server, stored, live):
    server.client.set(f"active:{YNAME}:a", stored)
    with raises(BackendDataError, f"active:{YNAME}:a") as caught:
        server.tracker().lookup(start=YESTERDAY, buckets=["a"], live=live)
    assert len(str(caught.value)) < 200


def test_an_absurd_number_does_not_keep_others_from_being_collapsed(server):
    tracker = server.tracker(buckets=["a", "b"])
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.track(id=1, bucket="b", date=YESTERDAY)
    server.client.set(f"active:{YNAME}:b", b"9" * 20)
    with raises(Exception, f"active:{YNAME}:b") as caught:
        tracker.collapse(max_periods=1)
    assert [c.bucket for c in caught.value.collapsed] == ["a"]


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_live_counts_are_those_that_a_collapse_stores(real_server, secret):
    """Random data of every kind; a collapse makes of raw sets what a reader made of them."""
    dice = random.Random(5)
    names = ["a", "b", "c", None]
    aggregates = {"ab": ["a", "b"], "all": names}
    tracker = real_server.tracker(buckets=names, aggregate_buckets=aggregates, secret=secret)
    for bucket in names:
        tracker.track_many(range(dice.randrange(5000)), bucket=bucket, date=YESTERDAY)
        for _ in range(30):
            other = {"id": dice.randrange(3000), "bucket": dice.choice(names)}
            tracker.track(**other, old_id=dice.randrange(3000), old_bucket=bucket, date=YESTERDAY)
        raw = tracker.backend.keys.bucket(YNAME, bucket).raw
        real_server.client.sadd(raw, *range(4000, 4000 + dice.randrange(1, 3000)))
    [(_, live)] = tracker.lookup(start=YESTERDAY, buckets=[*names, *aggregates])
    tracker.collapse()
    [(_, stored)] = tracker.lookup(start=YESTERDAY, buckets=[*names, *aggregates], live=False)
    assert {name: (count, count.stderr) for name, count in live.items()} == {
        name: (count, count.stderr) for name, count in stored.items()
    }


# Buckets outside buckets=


def test_a_misspelled_bucket_is_logged_once_with_the_nearest_name(server, caplog):
    tracker = server.tracker(
        buckets=["anonymous", "member"], aggregate_buckets={"all": ["anonymous", "member"]}
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            tracker.track(id=1, bucket="memeber", date=YESTERDAY)
            tracker.track_many([2], bucket="memeber", date=YESTERDAY)
            tracker.import_events([(3, "memeber", YESTERDAY)])
            tracker.lookup(buckets=["memeber", "all", "member"])
            tracker.lookup(buckets=["nobody"])
            tracker.track(id=1, date=YESTERDAY)
        with tracker.buffered() as writer:
            writer.track(id=1, bucket="memeber")
            writer.track(id=1, bucket="writer's own")
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" (")[0] for line in said] == [
        "bucket 'memeber' is none of the tracker's buckets, did you mean 'member'?",
        "bucket 'nobody' is none of the tracker's buckets",
        "the unnamed bucket is none of the tracker's buckets",
        "bucket \"writer's own\" is none of the tracker's buckets",
    ]
    assert tracker.lookup(start=YESTERDAY, buckets=["memeber"])[0][1] == {"memeber": 3}  # and is tracked


def test_examine_lists_buckets_that_nobody_collapses(server):
    tracker = server.tracker(buckets=["anonymous", "member"])
    tracker.track(id=1, bucket="member", date=YESTERDAY)
    tracker.track(id=1, bucket="memeber", date=YESTERDAY)
    tracker.collapse()
    assert "bucket 'memeber' has data and is none of the tracker's buckets, did you mean 'member'?" in (
        tracker.examine().warnings
    )
    # Who has no list of buckets tells by what is never collapsed.
    said = "bucket 'memeber' is not collapsed in 1 period in which others are, did you mean 'member'?"
    assert said in server.tracker().examine().warnings
    tracker.collapse(buckets=["memeber"], max_periods=1)
    assert said not in server.tracker().examine().warnings
