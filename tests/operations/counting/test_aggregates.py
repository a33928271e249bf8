"""Aggregates as collapse stores them: unions, whichever way they are made."""

import random
from datetime import timedelta

import fakeredis
import pytest

from activity_tracker_hll import (
    ActivityTracker,
    BackendError,
    CollapseError,
    HyperLogLog,
)
from helpers.collapses import YNAME, rows
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY


def test_aggregates_alone_collapse_their_sources_too(server):
    tracker = server.tracker()
    for bucket, ids in (("a", range(5)), ("b", range(3, 9))):
        tracker.track_many(ids, bucket=bucket, date=YESTERDAY)
    tracker.collapse(aggregate_buckets={"both": ["a", "b"], "one": ["a"]})
    assert rows(tracker, YESTERDAY, "a", "b", "both", "one") == [{"a": 5, "b": 6, "both": 9, "one": 5}]


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_an_aggregate_keeps_its_union_under_its_own_name(server, secret):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"both": ["a", "b"]}, secret=secret)
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track_many(range(3, 9), bucket="b", date=YESTERDAY)
    tracker.collapse()
    key = f"{{active:{YNAME}:both}}:hll"
    assert server.client.pfcount(key) == 9
    assert server.client.ttl(key) > 0
    tracker.track(id=100, bucket="b", date=YESTERDAY)
    tracker.collapse(recount=True)
    assert rows(tracker, YESTERDAY, "both") == [{"both": 10}]
    assert server.client.pfcount(key) == 10
    assert server.client.ttl(key) > 0


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_an_aggregate_keeps_no_union_where_a_source_had_moves(server, secret):
    """Of who is in a union of sketches nobody could say that he left."""
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"both": ["a", "b"]}, secret=secret)
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track_many(range(3, 9), bucket="b", date=YESTERDAY)
    key = f"{{active:{YNAME}:both}}:hll"
    tracker.collapse()
    assert server.client.pfcount(key) == 9
    tracker.track(id=100, bucket="a", old_id=8, old_bucket="b", date=YESTERDAY)
    assert {(c.bucket, c.count) for c in tracker.collapse(recount=True)} == {("a", 6), ("b", 5), ("both", 9)}
    assert not server.client.exists(key)
    assert tracker.collapse() == []
    assert {(c.bucket, c.count) for c in tracker.collapse(recount=True)} == {("a", 6), ("b", 5), ("both", 9)}
    assert tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["both"], live=True)[0][1] == {"both": 9}


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("sources", [2, 32, 33, 70])
@pytest.mark.parametrize("secret", [None, "pepper"])
def test_an_aggregate_is_the_union_however_it_is_made(real_server, secret, sources, moves):
    """By the server, or of registers that are read; next to the same ids in one bucket."""
    names = [f"b{n}" for n in range(sources)]
    tracker = real_server.tracker(buckets=[*names, "all"], secret=secret)
    source = random.Random(sources)
    for name in names:
        ids = source.sample(range(3000), 200)
        tracker.track_many(ids, bucket=name, date=YESTERDAY)
        tracker.track_many(ids, bucket="all", date=YESTERDAY)
    if moves:  # of an id that others have too, and which comes back
        tracker.track_many(["x"], bucket="b0", date=YESTERDAY)
        tracker.track_many(["x"], bucket="all", date=YESTERDAY)
        tracker.track(old_id="x", old_bucket="b0", date=YESTERDAY)
        tracker.track(id="x", bucket="b0", date=YESTERDAY)
    unions = {"one": names, "two": [*reversed(names), *names[:2]]}
    tracker.collapse(aggregate_buckets=unions)
    [row] = rows(tracker, YESTERDAY, "all", "one", "two")
    assert row["one"] == row["two"]
    assert abs(row["one"] - row["all"]) <= (row["all"].stderr if moves else 0)
    for name in unions:
        key = f"{{active:{YNAME}:{name}}}:hll"
        if moves:
            assert not real_server.client.exists(key)
        else:
            whole = real_server.client.get(f"{{active:{YNAME}:all}}:hll")
            assert HyperLogLog.from_bytes(real_server.client.get(key)) == HyperLogLog.from_bytes(whole)


def test_an_aggregate_whose_source_is_gone_is_refused_not_undercounted(server):
    tracker = server.tracker(keep_sketches=timedelta(0))
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track_many(range(5), bucket="b", date=YESTERDAY)
    tracker.collapse(buckets=["a"])
    with raises(CollapseError, "'both'", r"\['a'\]", "gone") as caught:
        tracker.collapse(buckets=["a", "b"], aggregate_buckets={"both": ["a", "b"]})
    assert [failure[:2] for failure in caught.value.failures] == [(YNAME, "both")]
    assert rows(tracker, YESTERDAY, "a", "b", "both") == [{"a": 5, "b": 5, "both": 0}]
    # b's sketch is kept while the aggregate that wants it is not counted
    assert f"{{active:{YNAME}:b}}:hll" in server.names()


def test_aggregates_of_more_sources_than_the_server_unites_at_once(real_server):
    names = [f"b{n}" for n in range(300)]
    tracker = real_server.tracker(buckets=names, aggregate_buckets={"total": names})
    tracker.import_events([(n, names[n % 300], YESTERDAY) for n in range(600)])
    tracker.track(id=0, bucket="b1", old_id=0, old_bucket="b0", date=YESTERDAY)
    tracker.collapse()
    [row] = rows(tracker, YESTERDAY, "total", "b0", "b1")
    assert row["total"] == pytest.approx(600, abs=4 * row["total"].stderr)
    assert (row["b0"], row["b1"]) == (1, 3)


def test_an_aggregate_of_many_sources_whose_tables_of_moves_are_full(real_server):
    """One script for all would hold the server: for 11 s, with 60 sources of 100,000."""
    sources = [f"s{n}" for n in range(12)]
    tracker = real_server.tracker(
        secret="s", buckets=sources, aggregate_buckets={"all": sources}, moved_limit=3000
    )
    for number, source in enumerate(sources):
        ids = range(number * 2000, number * 2000 + 5000)
        tracker.track_many(ids, bucket=source, date=YESTERDAY)
        with tracker.buffered() as writer:
            for id in ids[:4000]:
                writer.track(old_id=id, old_bucket=source, date=YESTERDAY)
            writer.flush()
            for id in ids[:500]:
                writer.track(id=id, bucket=source, date=YESTERDAY)
    # Of each source the first 500, which came back, and the last 1000 remain.
    remain = set().union(
        *([*range(n * 2000, n * 2000 + 500), *range(n * 2000 + 4000, n * 2000 + 5000)] for n in range(12))
    )
    [count] = [collapsed.count for collapsed in tracker.collapse() if collapsed.bucket == "all"]
    assert abs(count - len(remain)) < 4 * count.stderr
    assert count.relative_error < 0.2


def test_an_aggregate_is_counted_again_with_a_source_that_opened_again(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"total": ["a", "b"]})
    tracker.track_many(range(50), bucket="b", date=YESTERDAY)
    tracker.collapse()
    tracker.track_many(range(1000, 1020), bucket="a", date=YESTERDAY)
    tracker.collapse()
    assert rows(tracker, YESTERDAY, "a", "b", "total") == [
        {"a": 20, "b": 50, "total": pytest.approx(70, abs=2)}
    ]
    assert tracker.collapse() == []


def test_an_aggregate_never_overwrites_a_bucket_of_its_name(server):
    tracker = server.tracker()
    tracker.track_many(range(500), bucket="total", date=YESTERDAY)
    tracker.track_many(range(10), bucket="a", date=YESTERDAY)
    for mode in ({}, {"recount": True}):
        with raises(CollapseError, "'total'", "tracked in a bucket of this name"):
            tracker.collapse(aggregate_buckets={"total": ["a"]}, **mode)
    tracker.collapse(buckets=["total"])
    assert rows(tracker, YESTERDAY, "total") == [{"total": pytest.approx(500, rel=0.03)}]


def test_a_recount_leaves_aggregates_whose_sources_are_gone(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track_many(range(9), bucket="b", date=YESTERDAY)
    tracker.collapse()
    server.client.delete(f"{{active:{YNAME}:b}}:hll")  # as if it had expired
    assert {done.bucket for done in tracker.collapse(recount=True)} == {"a"}
    assert rows(tracker, YESTERDAY, "a", "b", "t") == [{"a": 5, "b": 9, "t": 9}]


@pytest.mark.parametrize("text", ["many", "9" * 20])
@pytest.mark.parametrize("secret", [None, "pepper"])
@pytest.mark.parametrize("moves", [False, True])
def test_an_aggregates_own_count_that_is_none_is_named(server, text, secret, moves):
    tracker = server.tracker(
        buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"], "other": ["b"]}, secret=secret
    )
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track_many(range(3, 9), bucket="b", date=YESTERDAY)
    if moves:
        tracker.track(old_id=1, old_bucket="a", date=YESTERDAY)
    key = f"active:{YNAME}:t"
    server.client.set(key, text)
    for recount in (False, False, True):
        with raises(CollapseError, "1 not collapsed", "'t'", key):
            tracker.collapse(recount=recount)
        assert server.client.get(key) == text.encode()
    assert rows(tracker, YESTERDAY, "a", "b", "other") == [{"a": 4 if moves else 5, "b": 6, "other": 6}]


def test_an_aggregate_that_cannot_be_counted_does_not_keep_others_from_it():
    """Where sketches cannot be read, as on a stand-in for tests, a union of many with moves is too much."""
    sources = [f"b{n}" for n in range(7)]
    tracker = ActivityTracker(
        ["daily"],
        client=fakeredis.FakeRedis(),
        timezone="UTC",
        clock=lambda: NOON,
        buckets=sources,
        aggregate_buckets={"all": sources, "some": sources[:6]},
    )
    for source in sources:
        tracker.track_many([1, 2, 3], bucket=source, date=YESTERDAY)
        tracker.track(old_id=1, old_bucket=source, date=YESTERDAY)
    with raises(CollapseError, "1 not collapsed", "'all'", "at most 6") as caught:
        tracker.collapse()
    assert {done.bucket: done.count for done in caught.value.collapsed} == dict.fromkeys(
        [*sources, "some"], 2
    )
    with raises(BackendError, "'all'", "at most 6"):
        tracker.lookup(start=YESTERDAY, buckets=["all"], live=True)


@pytest.mark.parametrize("raw", [False, True])
def test_a_bucket_that_bears_the_name_of_an_aggregate_is_not_deleted(server, raw):
    server.tracker().track_many(range(50), bucket="all", date=YESTERDAY)
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"all": ["a", "b"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    if raw:
        server.client.sadd(f"active:{YNAME}:raw:b", 1)
    with raises(CollapseError, "'all'", "ids are tracked in a bucket of this name"):
        tracker.collapse()
    assert server.tracker().collapse(buckets=["all"])[0].count == 50
