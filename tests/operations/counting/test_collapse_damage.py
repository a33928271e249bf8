"""Collapses of buckets whose keys hold what does not belong there: each is named, the others are counted."""

import pickle
from datetime import timedelta

import pytest

from activity_tracker_hll import (
    BackendDataError,
    BackendResponseError,
    CollapseError,
)
from helpers.collapses import YNAME, rows
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY


def test_one_bad_bucket_is_named_and_the_others_are_collapsed(server):
    names = ["good", "bad", "fine"]
    tracker = server.tracker(buckets=names, aggregate_buckets={"sum": ["good", "fine"], "worse": names})
    tracker.import_events([(1, "good", YESTERDAY), (2, "fine", YESTERDAY)])
    server.raise_on("bad")
    with raises(CollapseError, "'bad'", "'worse'", "2 not collapsed") as caught:
        tracker.collapse()
    assert {bucket for _, bucket, _ in caught.value.failures} == {"bad", "worse"}
    assert {done.bucket: done.count for done in caught.value.collapsed} == {"good": 1, "fine": 1, "sum": 2}
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.collapsed) == (str(caught.value), caught.value.collapsed)
    assert all(isinstance(error, BackendDataError) for _, _, error in caught.value.failures)
    assert rows(tracker, YESTERDAY, "good", "fine", "sum") == [{"good": 1, "fine": 1, "sum": 2}]
    server.client.delete(f"{{active:{YNAME}:bad}}:hll")
    assert [(done.bucket, done.count) for done in tracker.collapse()] == [("worse", 2)]
    assert rows(tracker, YESTERDAY, "bad", "worse") == [{"bad": 0, "worse": 2}]
    assert not server.client.exists(f"active:{YNAME}:bad")


def test_of_many_bad_buckets_the_first_are_named_and_all_are_told(server):
    names = [f"b{number}" for number in range(8)]
    for name in names[1:]:
        server.client.set(f"active:{YNAME}:{name}", "many")
    tracker = server.tracker(buckets=names)
    tracker.track(id=1, bucket="b0", date=YESTERDAY)
    with raises(CollapseError, "^7 not collapsed .*'b1'.*'b5': [^;]*; and 2 more$") as caught:
        tracker.collapse()
    assert [bucket for _, bucket, _ in caught.value.failures] == names[1:]
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert (len(copy.failures), copy.collapsed) == (7, caught.value.collapsed)


@pytest.mark.parametrize(
    "bad",
    [
        b"HYLL",
        b"not a sketch at all",
        b"HYLL\x07\x00\x00\x00" + bytes(8),
        b"HYLL\x00\x00\x00\x00" + bytes(100),
    ],
)
def test_corrupt_sketches_are_named(real_server, bad):
    tracker = real_server.tracker(buckets=["good", "bad"])
    tracker.track(id=1, bucket="good", date=YESTERDAY)
    real_server.client.set(f"{{active:{YNAME}:bad}}:hll", bad)
    with raises(CollapseError, "'bad'"):
        tracker.collapse()
    with raises(BackendResponseError, "'bad'"):
        tracker.lookup(start=YESTERDAY, buckets=["bad"], live=True)
    assert rows(tracker, YESTERDAY, "good") == [{"good": 1}]


def test_a_negative_cardinality_is_no_count(real_server):
    """The header caches the count, so whoever can write the key can claim any."""
    tracker = real_server.tracker(buckets=["bad"])
    tracker.track(id=1, bucket="bad", date=YESTERDAY)
    key = f"{{active:{YNAME}:bad}}:hll"
    sketch = real_server.client.get(key)
    # magic (4), encoding (1), unused (3), cardinality (8, little endian; top bit = stale), registers
    real_server.client.set(key, sketch[:8] + b"\xff" * 7 + b"\x7f" + sketch[16:])
    assert real_server.client.pfcount(key) == 2**63 - 1
    with raises(CollapseError, "'bad'"):
        tracker.collapse()
    with raises(BackendResponseError, "'bad'"):
        tracker.lookup(start=YESTERDAY, live=True)


def test_a_moved_sketch_without_its_bucket_is_no_count(server):
    tracker = server.tracker(buckets=["a"])
    tracker.track(id=1, bucket="a", old_id=2, old_bucket="a", date=YESTERDAY)
    server.client.delete(f"{{active:{YNAME}:a}}:hll")  # evicted, say
    with raises(CollapseError, "'a'", "gone"):
        tracker.collapse()


@pytest.mark.parametrize("text", ["", "many", "-3", "1.5", "1e3", "\x1b[31m", "9" * 40])
@pytest.mark.parametrize("secret", [None, "s"])
def test_a_count_that_is_none_does_not_keep_others_from_being_counted(server, text, secret):
    tracker = server.tracker(secret=secret, buckets=["a", "b", "c"], aggregate_buckets={"all": ["a", "c"]})
    for bucket in "abc":
        tracker.track(id=1, bucket=bucket, date=YESTERDAY)
    key = f"active:daily-{YESTERDAY:%Y%m%d}:b"
    server.client.set(key, text)
    with raises(CollapseError, "daily", "'b'") as caught:
        tracker.collapse()
    assert {collapsed.bucket for collapsed in caught.value.collapsed} == {"a", "c", "all"}
    assert [failure[1] for failure in caught.value.failures] == ["b"]
    assert "\x1b" not in str(caught.value)
    assert server.client.get(key) == text.encode()


# More digits than a count can have: numbers are exact up to 2^53 in Lua.
@pytest.mark.parametrize("text", ["many", "", "-3", "1.5", "9" * 20, str(2**53), str(2**63)])
@pytest.mark.parametrize(
    "keep", [timedelta(0), timedelta(days=35), None], ids=["zero", "35 days", "for ever"]
)
@pytest.mark.parametrize("held", ["a sketch", "a collapsed sketch", "moves", "nothing else"])
def test_what_is_no_count_is_named_and_the_others_are_collapsed(real_server, held, keep, text):
    tracker = real_server.tracker(buckets=["good", "bad"], keep_sketches=keep)
    tracker.track(id=1, bucket="good", date=YESTERDAY)
    key = f"active:{YNAME}:bad"
    if held != "nothing else":
        tracker.track_many(range(5), bucket="bad", date=YESTERDAY)
    if held == "moves":
        tracker.track(old_id=1, old_bucket="bad", date=YESTERDAY)
    if held == "a collapsed sketch":
        tracker.collapse(buckets=["bad"])
    real_server.client.set(key, text)
    for recount in (False, True):
        with raises(CollapseError, YNAME, "'bad'", "1 not collapsed") as caught:
            tracker.collapse(recount=recount)
        [(name, bucket, error)] = caught.value.failures
        assert (name, bucket) == (YNAME, "bad")
        assert isinstance(error, BackendDataError)
        assert key in str(error)
        assert real_server.client.get(key) == text.encode()
    assert rows(tracker, YESTERDAY, "good") == [{"good": 1}]
    with raises(BackendDataError, key):
        tracker.lookup(start=YESTERDAY)


@pytest.mark.parametrize(
    ("part", "value"),
    [("count", "list"), ("raw", "list"), ("raw", "x")]
    + [(part, value) for part in ("hll", "moved", "moves") for value in ("list", "x")],
)
@pytest.mark.parametrize("secret", [None, "pepper"])
def test_what_does_not_belong_in_a_bucket_is_named_and_the_others_are_collapsed(
    real_server, secret, part, value
):
    tracker = real_server.tracker(
        buckets=["good", "bad"], aggregate_buckets={"worse": ["good", "bad"], "fine": ["good"]}, secret=secret
    )
    tracker.track_many(range(5), bucket="bad", date=YESTERDAY)
    tracker.track(id=1, bucket="good", old_id=1, old_bucket="bad", date=YESTERDAY)
    keys = tracker.backend.keys.bucket(YNAME, "bad")._asdict()
    key = keys["counted" if part == "count" else part]
    real_server.client.delete(key)
    if value == "list":
        real_server.client.rpush(key, "x")
    else:
        real_server.client.set(key, value)
    with raises(CollapseError, "2 not collapsed", YNAME, "'bad'", "'worse'") as caught:
        tracker.collapse()
    assert {done.bucket: done.count for done in caught.value.collapsed} == {"good": 1, "fine": 1}
    assert all(isinstance(error, BackendDataError) for *_, error in caught.value.failures)
    for bucket in ("bad", "worse") if part != "count" else ("worse",):
        with raises(BackendDataError, YNAME, f"'{bucket}'"):
            tracker.lookup(start=YESTERDAY, buckets=[bucket], live=True)
    assert tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["good", "fine"], live=True)[0][1] == {
        "good": 1,
        "fine": 1,
    }
