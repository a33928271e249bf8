"""collapse: what it stores, what it leaves, what it survives."""

import pickle
import random
import threading
from datetime import date, datetime, timedelta
from itertools import islice

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import (
    ActivityTracker,
    BackendDataError,
    BackendError,
    BackendResponseError,
    CollapseError,
    Estimate,
    HyperLogLog,
)
from activity_tracker_hll.periods import PERIODS
from helpers.collapses import AGGREGATES, ends, restore, scenario, snapshot, state, steps
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day

YNAME = f"daily-{YESTERDAY:%Y%m%d}"


def rows(tracker, start, *buckets, period="daily"):
    return [counts for _, counts in tracker.lookup(period, start=start, buckets=buckets or [None])]


def test_the_period_before_the_one_that_contains_the_date(server):
    tracker = server.tracker(["daily"])
    for n in range(4):
        tracker.track_many(range(n + 1), date=day(n))
    done = tracker.collapse()
    assert [(c.period.name, c.bucket, c.count) for c in done] == [(YNAME, None, 2)]
    assert rows(tracker, day(3)) == [{None: 0}, {None: 0}, {None: 2}]
    tracker.collapse(date=day(1))
    assert rows(tracker, day(3)) == [{None: 0}, {None: 3}, {None: 2}]


def test_up_to_max_periods_with_a_gap_in_between(server):
    tracker = server.tracker(["daily"])
    for n in range(1, 6):
        tracker.track_many(range(n), date=day(n))
    tracker.collapse(date=day(1))  # leaves a newer period and older ones
    done = tracker.collapse(max_periods=4)
    assert [c.period.date for c in done] == [day(1), day(3), day(4)]
    assert rows(tracker, day(5)) == [{None: n} for n in (0, 4, 3, 2, 1)]


def test_where_there_is_nothing_nothing_is_stored(server):
    """A zero would say that nobody was active, of buckets that did not exist then."""
    tracker = server.tracker(
        ["daily", "monthly"], buckets=["a", "b", None], aggregate_buckets={"t": ["a", "b"], "none": ["b"]}
    )
    tracker.track_many(range(5), ["daily"], bucket="a", date=day(3))
    for mode in ({}, {"recount": True}, {"max_periods": 4}, {"max_periods": 4, "recount": True}):
        done = tracker.collapse(**mode)
        places = {(c.period.date, c.bucket) for c in done if c.period.kind == "daily"}
        assert places == ({(day(3), "a"), (day(3), "t")} if "max_periods" in mode else set())
        assert len(places) == len(done)
    counts = [name for name in server.names() if "{" not in name]
    assert counts == [f"active:daily-{day(3):%Y%m%d}:{bucket}" for bucket in "at"]
    names = ["a", "b", None, "t", "none"]
    found = tracker.lookup("daily", start=day(4), buckets=names, missing=None)
    assert [counts for _, counts in found] == [
        {name: 5 if n == 3 and name in ("a", "t") else None for name in names} for n in (4, 3, 2, 1)
    ]


def test_all_kinds_of_period(server):
    tracker = server.tracker(PERIODS)
    moment = datetime(TODAY.year, TODAY.month, TODAY.day, 12) - timedelta(days=400)
    tracker.track_many(range(3), date=moment)
    later = moment + timedelta(days=366)
    tracker.collapse(["hourly"], date=moment + timedelta(hours=1))
    tracker.collapse(["daily"], date=moment + timedelta(days=1))
    tracker.collapse(["weekly"], date=moment + timedelta(days=7))
    tracker.collapse(["monthly", "quarterly", "yearly"], date=later, max_periods=12)
    for kind in PERIODS:
        found = tracker.lookup(kind, start=moment - timedelta(days=370), end=later)
        assert sum(counts[None] for _, counts in found) == 3, kind


def test_a_collapsed_period_is_not_collapsed_again_unless_asked(server):
    tracker = server.tracker()
    tracker.track(id=1, date=YESTERDAY)
    tracker.collapse()
    tracker.track(id=2, date=YESTERDAY)
    assert tracker.collapse() == []
    assert rows(tracker, YESTERDAY) == [{None: 1}]
    assert [c.count for c in tracker.collapse(recount=True)] == [2]
    assert rows(tracker, YESTERDAY) == [{None: 2}]


def test_a_recount_leaves_counts_whose_sketches_are_gone(server):
    tracker = server.tracker(keep_sketches=timedelta(0))
    tracker.track_many(range(5), date=YESTERDAY)
    tracker.collapse()
    assert tracker.collapse(recount=True) == []
    assert rows(tracker, YESTERDAY) == [{None: 5}]


def test_default_buckets(server):
    tracker = server.tracker(buckets=["a", None], aggregate_buckets={"total": ["a", None]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.track(id=2, date=YESTERDAY)
    assert {(c.bucket, c.count) for c in tracker.collapse()} == {("a", 1), (None, 1), ("total", 2)}
    assert tracker.lookup(start=YESTERDAY) == [(YESTERDAY, {"a": 1, None: 1})]


def test_without_buckets_the_unnamed_one(server):
    tracker = server.tracker()
    tracker.track(id=1, date=YESTERDAY)
    tracker.collapse()
    assert server.client.get(f"active:{YNAME}") == b"1"


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


def test_aggregates_of_more_sources_than_the_server_unites_at_once(server):
    names = [f"b{n}" for n in range(300)]
    tracker = server.tracker(buckets=names, aggregate_buckets={"total": names})
    tracker.import_events([(n, names[n % 300], YESTERDAY) for n in range(600)])
    tracker.track(id=0, bucket="b1", old_id=0, old_bucket="b0", date=YESTERDAY)
    tracker.collapse()
    [row] = rows(tracker, YESTERDAY, "total", "b0", "b1")
    assert row["total"] == pytest.approx(600, abs=4 * row["total"].stderr)
    assert (row["b0"], row["b1"]) == (1, 3)


@pytest.mark.parametrize(
    ("kind", "options", "days"),
    [
        ("hourly", {}, 8),
        ("daily", {}, 62),
        ("weekly", {}, 26 * 7),
        ("monthly", {}, 13 * 31),
        ("quarterly", {}, 5 * 92),
        ("yearly", {}, 2 * 366),
        ("daily", {"keep_sketches": timedelta(days=3)}, 3),
        ("monthly", {"keep_sketches": timedelta(days=99)}, 99),
        ("daily", {"keep_sketches": {"daily": timedelta(days=3), "monthly": None}}, 3),
        ("monthly", {"keep_sketches": {"daily": timedelta(days=3)}}, 13 * 31),
        ("monthly", {"keep_sketches": {"daily": None, "monthly": timedelta(days=31)}}, 31),
    ],
)
def test_sketches_expire_when_they_were_kept_as_long_as_said(server, kind, options, days):
    tracker = server.tracker([kind], **options)
    tracker.track_many([1, 2])
    tracker.track(id=2, bucket="b", old_id=2)
    tracker.track(id=2, old_id=2, old_bucket="b")
    tracker.track(id=3, bucket="c")
    period = tracker.calendar.containing(kind, tracker.calendar.local(NOON))
    end = tracker.calendar.timestamp(period.next().start)
    unions = {"all": [None, "b"], "plain": ["c"]}
    tracker.collapse(date=period.next().start, buckets=[None, "b", "c"], aggregate_buckets=unions)
    sketches = [name for name in server.names() if "{" in name and not name.endswith("stderr")]
    assert {name.rpartition("}:")[2] for name in sketches} == {"hll", "moved", "moves"}
    assert f"{{active:{period.name}:plain}}:hll" in sketches
    for name in sketches:
        assert server.client.expiretime(name) == end + days * 86400, name
    for name in set(server.names()) - set(sketches):
        assert server.client.ttl(name) == -1, name


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(timedelta(0), False), (None, True), ({"daily": timedelta(0)}, False), ({"daily": None}, True)],
)
def test_sketches_kept_not_at_all_and_for_ever(server, keep, kept):
    tracker = server.tracker(
        keep_sketches=keep, buckets=["a", "b"], aggregate_buckets={"t": ["a"], "plain": ["b"]}
    )
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.track(id=2, bucket="a", old_id=1, old_bucket="a", date=YESTERDAY)
    tracker.track(id=3, bucket="b", date=YESTERDAY)
    tracker.collapse()
    assert rows(tracker, YESTERDAY, "a", "t", "plain") == [{"a": 1, "t": 1, "plain": 1}]
    sketches = [name for name in server.names() if name.endswith((":hll", ":moved", ":moves"))]
    parts = {name.rpartition(f"{YNAME}:")[2] for name in sketches}
    assert parts == ({"a}:hll", "a}:moved", "a}:moves", "b}:hll", "plain}:hll"} if kept else set())
    assert all(server.client.ttl(name) == -1 for name in sketches)


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


def test_a_bucket_written_to_while_it_is_collapsed_is_counted_with_that(server, monkeypatch):
    tracker = server.tracker(buckets=["a"], keep_sketches=timedelta(0))
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track(old_id=0, old_bucket="a", date=YESTERDAY)
    other = server.tracker()
    execute, calls = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        replies = execute(commands, shard)
        calls.append(commands)
        if len(calls) <= 3:
            other.track(id=100 + len(calls), bucket="a", date=YESTERDAY)
        return replies

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    [done] = tracker.collapse()
    assert done.count == 7 == rows(tracker, YESTERDAY, "a")[0]["a"]


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_a_bucket_without_moves_is_counted_however_often_it_is_written_to(server, monkeypatch, secret):
    tracker = server.tracker(buckets=["a"], secret=secret)
    other = server.tracker(secret=secret)
    other.track_many(range(5), bucket="a", date=YESTERDAY)
    execute, calls = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        calls.append(commands)
        other.track_many(range(1000 * len(calls), 1000 * len(calls) + 50), bucket="a", date=YESTERDAY)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    [done] = tracker.collapse()
    assert done.count >= 50
    assert not done.count.suspect


def test_a_bucket_that_never_comes_to_rest_is_reported(server, monkeypatch):
    tracker = server.tracker(buckets=["a", "calm"], aggregate_buckets={"t": ["a", "calm"]})
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track(id=1, bucket="calm", old_id=0, old_bucket="a", date=YESTERDAY)
    other = server.tracker()
    execute, calls = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        calls.append(commands)
        other.track_many(range(1000 * len(calls), 1000 * len(calls) + 50), bucket="a", date=YESTERDAY)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    with raises(CollapseError, "'a': is still being written to"):
        tracker.collapse()
    assert rows(tracker, YESTERDAY, "calm") == [{"calm": 1}]


@pytest.fixture(params=[None, "pepper"], ids=["no secret", "secret"])
def undisturbed(request, real_server):
    tracker = scenario(real_server, request.param)
    before = snapshot(real_server)
    tracker.collapse(max_periods=4)
    return tracker, before, state(real_server)


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_the_scenario_is_counted_right(server, secret):
    tracker = scenario(server, secret)
    marks = {f"daily-{day(n):%Y%m%d}".encode() for n in (1, 3)}
    assert server.client.smembers("active:{open}") == marks
    tracker.collapse(max_periods=4)
    assert server.client.smembers("active:{open}") == set()
    found = tracker.lookup(start=day(3), buckets=["a", "b", "c", "d", *AGGREGATES], missing=None)
    assert [counts for _, counts in found] == [
        {"a": 32, "b": 1, "c": None, "d": 3, "ab": 32, "abc": 32, "cd": 3},
        {"a": 19, "b": 1, "c": None, "d": 2, "ab": 20, "abc": 20, "cd": 2},
        {"a": 9, "b": 1, "c": 20, "d": 1, "ab": 10, "abc": 25, "cd": 20},
    ]


def test_a_collapse_that_ends_after_any_command_is_completed_by_the_next(real_server, undisturbed):
    tracker, before, expected = undisturbed
    restore(real_server, before)
    commands = list(steps(tracker))
    assert len(ends(commands)) > 30
    for end in ends(commands):
        restore(real_server, before)
        running = steps(tracker)
        assert [command[0] for command in islice(running, end + 1)] == [c[0] for c in commands[: end + 1]]
        running.close()
        tracker.collapse(max_periods=4)
        assert state(real_server) == expected, f"ended after {commands[:end][-1:]}, the {end}th command"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.booleans(), max_size=120))
def test_two_collapses_at_once_in_any_interleaving(real_server, undisturbed, turns):
    tracker, before, expected = undisturbed
    restore(real_server, before)
    both = [steps(tracker), steps(tracker)]
    for turn in turns:
        next(both[turn], None)
    for running in both:
        for _ in running:
            pass
    assert state(real_server) == expected


def test_two_collapses_at_once_in_two_threads(real_server):
    tracker = scenario(real_server)
    before = snapshot(real_server)
    tracker.collapse(max_periods=4)
    expected = state(real_server)
    for _ in range(10):
        restore(real_server, before)
        gate = threading.Barrier(2)
        failures = []

        def work(gate=gate, failures=failures):
            gate.wait()
            try:
                tracker.collapse(max_periods=4)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert state(real_server) == expected


def test_an_expiry_that_was_missed_is_made_good(server):
    tracker = server.tracker(buckets=["a"], aggregate_buckets={"t": ["a"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.collapse()
    for bucket in "at":
        server.client.persist(f"{{active:{YNAME}:{bucket}}}:hll")
    tracker.collapse()
    for bucket in "at":
        assert server.client.ttl(f"{{active:{YNAME}:{bucket}}}:hll") > 0


def test_counts_are_stored_as_activity_tracker_does(server):
    tracker = server.tracker(["daily", "monthly"])
    tracker.track_many(range(7), date=date(2014, 1, 1), bucket="b")
    tracker.collapse(["daily"], date=date(2014, 1, 2), buckets=["b"])
    tracker.track(["monthly"], id=1, bucket="c", old_id=1, date=date(2014, 1, 9))
    tracker.collapse(["monthly"], date=date(2014, 2, 1), buckets=["b", None, "d"])
    assert server.client.get("active:daily-20140101:b") == b"7"
    assert server.client.get("active:monthly-201401:b") == b"7"
    assert server.client.get("active:monthly-201401") == b"0"  # there were ids, and all left
    assert server.client.get("active:monthly-201401:d") is None
    assert isinstance(
        tracker.lookup("daily", start=date(2014, 1, 1), end=date(2014, 1, 2), buckets=["b"])[0][1]["b"],
        Estimate,
    )


def test_noon_is_a_time_of_today():
    assert NOON % 86400 == 43200


def test_a_count_made_without_the_sketch_is_reported_and_nothing_is_lost(server):
    """activity-tracker's collapsing job, left running, stores counts that do not know our sketches."""
    tracker = server.tracker()
    tracker.track_many(range(200), date=YESTERDAY)
    server.client.set(f"active:{YNAME}", 100)
    sketch = f"{{active:{YNAME}}}:hll"
    for _ in range(2):
        with raises(CollapseError, "100", "another program", "recount=True"):
            tracker.collapse()
        assert server.client.ttl(sketch) == -1
    [done] = tracker.collapse(recount=True)
    assert done.count == pytest.approx(200, abs=4)
    assert server.client.ttl(sketch) > 0
    server.client.persist(sketch)
    server.client.set(f"active:{YNAME}", 1000)
    with raises(CollapseError, "delete the one"):
        tracker.collapse(recount=True)
    assert rows(tracker, YESTERDAY) == [{None: 1000}]


def test_a_zero_that_was_stored_beside_a_sketch_is_counted_again(server):
    tracker = server.tracker()
    tracker.track_many(range(20), date=YESTERDAY)
    server.client.set(f"active:{YNAME}", 0)
    assert [done.count for done in tracker.collapse()] == [20]


@pytest.mark.parametrize("keep", [None, timedelta(days=35)])
def test_a_bucket_all_of_whose_ids_were_moved_out_is_collapsed_once(server, keep):
    tracker = server.tracker(keep_sketches=keep)
    tracker.track(id=1, old_id=1, bucket="b", date=YESTERDAY)
    assert [done.count for done in tracker.collapse()] == [0]
    assert tracker.collapse() == []


def test_sketches_once_kept_for_ever_get_an_expiry_and_the_other_way_round(server):
    keeping = server.tracker(keep_sketches=None, buckets=["a", "b"], aggregate_buckets={"t": ["b"]})
    keeping.track(id=1, bucket="a", date=YESTERDAY)
    keeping.track(id=2, bucket="b", old_id=1, old_bucket="a", date=YESTERDAY)
    keeping.collapse()
    parts = ("a}:hll", "a}:moved", "a}:moves", "b}:hll", "t}:hll")
    keys = [f"{{active:{YNAME}:{part}" for part in parts]
    assert [server.client.ttl(key) for key in keys] == [-1] * 5
    ending = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["b"]})
    assert ending.collapse() == []
    assert all(server.client.ttl(key) > 0 for key in keys)
    keeping.collapse(recount=True)
    assert [server.client.ttl(key) for key in keys] == [-1] * 5


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


def test_the_running_period_can_be_collapsed_and_loses_nothing(server):
    """A sketch is kept at least until its period is over, so that what comes later is in it."""
    tracker = server.tracker(keep_sketches=timedelta(0))
    tomorrow = TODAY + timedelta(days=1)
    tracker.track_many(range(100))
    tracker.collapse(date=tomorrow)
    tracker.track(id="late")
    assert tracker.collapse(date=tomorrow) == []
    [done] = tracker.collapse(date=tomorrow, recount=True)
    assert done.count == pytest.approx(101, abs=2)
    assert server.client.ttl(f"{{active:daily-{TODAY:%Y%m%d}}}:hll") > 0


def test_temporary_keys_have_an_end_from_the_beginning(server, monkeypatch):
    """Whenever a process is killed, none stays for ever; and while it lives, none outlasts the call."""
    tracker = server.tracker(buckets=["plain", "a"], aggregate_buckets={"t": ["plain", "a"]})
    tracker.track(id=1, bucket="plain", date=YESTERDAY)
    tracker.track(id=1, bucket="a", old_id=2, old_bucket="a", date=YESTERDAY)
    tracker.track(id=2, bucket="a", date=YESTERDAY)
    server.client.sadd(f"active:{YNAME}:raw:plain", "x", "y")
    execute, lives = tracker.backend.execute, []

    def watched(commands, shard=0):
        replies = execute(commands, shard)
        lives.extend(server.client.ttl(name) for name in temporary())
        return replies

    def temporary():
        return [name for name in server.names() if ":tmp:" in name]

    monkeypatch.setattr(tracker.backend, "execute", watched)
    assert tracker.lookup(start=YESTERDAY, live=True)[0][1] == {"plain": 3, "a": 2}
    assert tracker.lookup(start=YESTERDAY, buckets=["t"], live=True)[0][1] == {"t": 4}
    assert len(lives) >= 2
    assert temporary() == []
    server.client.delete(f"{{active:{YNAME}:a}}:moves")
    server.client.set(f"{{active:{YNAME}:a}}:moves", "no sorted set")
    with raises(CollapseError, "'t'"):
        tracker.collapse()
    with raises(BackendResponseError, "'t'"):
        tracker.lookup(start=YESTERDAY, buckets=["t"], live=True)
    assert all(0 < life <= 600 for life in lives), lives


def marks(server):
    """Names of the periods that are marked as holding uncounted data."""
    return {name.decode() for name in server.client.smembers("active:{open}")}


@pytest.fixture(params=[1, 2], ids=["once", "every command twice"])
def repeat(request):
    """How often commands are executed: clients send again what lost only its reply."""
    return request.param


def between(monkeypatch, tracker, repeat, command, act):
    """Do something before the first batch that has a command."""
    execute, done = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        if not done and any(sent[0] == command for sent in commands):
            done.append(act())
        for _ in range(repeat):
            replies = execute(commands, shard)
        return replies

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    return done


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_a_collapse_that_leaves_nothing_takes_the_mark_away(server, secret):
    tracker = server.tracker(
        ["daily", "yearly"], buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]}, secret=secret
    )
    for n in range(4):
        tracker.track_many(range(5), ["daily"], bucket="ab"[n % 2], date=day(n))
    tracker.track(["daily"], id=1, bucket="b", old_id=1, old_bucket="a", date=day(2))
    name = "daily-{:%Y%m%d}".format
    assert marks(server) == {name(day(n)) for n in range(4)}
    tracker.collapse(date=day(1))
    assert marks(server) == {name(day(n)) for n in (0, 1, 3)}
    tracker.collapse()
    assert marks(server) == {name(day(n)) for n in (0, 3)}
    tracker.collapse(max_periods=9)
    assert marks(server) == {name(TODAY)}
    assert tracker.collapse(max_periods=9, recount=True) != []
    assert marks(server) == {name(TODAY)}


def test_a_mark_where_there_is_nothing_is_taken_away(server):
    tracker = server.tracker(buckets=["a", "b"])
    for n in range(9):
        server.client.sadd("active:{open}", f"daily-{day(n):%Y%m%d}")
    assert tracker.collapse(max_periods=5) == []
    assert marks(server) == {f"daily-{day(n):%Y%m%d}" for n in (0, 6, 7, 8)}


def test_a_collapse_that_fails_leaves_the_mark(server):
    tracker = server.tracker(buckets=["good", "bad"], aggregate_buckets={"t": ["bad"]})
    tracker.track(id=1, bucket="good", date=YESTERDAY)
    tracker.track(id=1, bucket="good", date=day(2))
    server.raise_on("bad")
    for _ in range(2):
        with raises(CollapseError, "'bad'"):
            tracker.collapse(max_periods=2)
        assert marks(server) == {YNAME}
    server.client.delete(f"{{active:{YNAME}:bad}}:hll")
    tracker.collapse(max_periods=2)
    assert marks(server) == set()


def test_a_collapse_of_some_buckets_leaves_the_mark_for_the_others(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"], "just a": ["a"]})
    for bucket in ("a", "b"):
        tracker.track(id=1, bucket=bucket, date=YESTERDAY)
    tracker.collapse(buckets=["a"])
    assert marks(server) == {YNAME}
    tracker.collapse()
    assert marks(server) == set()


@pytest.mark.parametrize("how", ["track", "track_many", "raw"])
def test_a_write_that_comes_between_is_marked_again(server, monkeypatch, repeat, how):
    """Its own mark came before the collapse took it away."""
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    other = server.tracker()
    other.track(id=1, bucket="a", date=YESTERDAY)
    other.track(id=1, bucket="a", date=day(2))
    write = {
        "track": lambda: other.track(id=2, bucket="b", date=YESTERDAY),
        "track_many": lambda: other.track_many(range(500), bucket="b", date=YESTERDAY),
        "raw": lambda: server.client.sadd(f"active:{YNAME}:raw:b", 2),
    }[how]
    done = between(monkeypatch, tracker, repeat, "SREM", write)
    assert {(c.period.date, c.bucket) for c in tracker.collapse(max_periods=2)} == {
        (date, bucket) for date in (YESTERDAY, day(2)) for bucket in ("a", "t")
    }
    assert done
    assert marks(server) == {YNAME}
    monkeypatch.undo()
    assert {c.bucket for c in tracker.collapse(max_periods=2)} == {"b", "t"}
    assert marks(server) == set()


def test_a_write_whose_mark_comes_after_the_collapse_is_marked(server, monkeypatch):
    """Between the writer's two steps, all of a collapse."""
    tracker, other = server.tracker(buckets=["a"]), server.tracker()
    tracker.track(id=1, bucket="a", date=day(2))
    done = between(monkeypatch, other, 1, "SADD", lambda: tracker.collapse(max_periods=2))
    other.track_many([1], bucket="a", date=YESTERDAY)
    assert [[c.count for c in collapsed] for collapsed in done] == [[1, 1]]
    assert marks(server) == {YNAME}  # for nothing, which does no harm
    assert tracker.collapse(max_periods=2) == []
    assert marks(server) == set()


def test_marks_that_cannot_be_taken_away_do_not_hide_what_was_collapsed(server):
    tracker = server.tracker(buckets=["good", "bad"])
    for n in (1, 2):
        tracker.track(id=1, bucket="good", date=day(n))
    server.client.delete("active:{open}")
    server.client.set("active:{open}", "no set")
    with raises(CollapseError, r"active:\{open\}") as caught:
        tracker.collapse()
    assert [item.bucket for item in caught.value.collapsed] == ["good"]
    assert rows(tracker, YESTERDAY, "good") == [{"good": 1}]
    server.raise_on("bad")
    with raises(CollapseError, "'bad'"):
        tracker.collapse(max_periods=2)


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


def test_a_sketch_under_a_secret_is_not_handed_out(real_server, monkeypatch):
    """Nobody has chosen its ids: the server counts and stores in one step."""
    tracker = real_server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]}, secret="pepper")
    tracker.import_events([(n, "ab"[n % 2], YESTERDAY) for n in range(20_000)])
    execute, sent = tracker.backend.execute, []

    def noting(commands, shard=0):
        replies = execute(commands, shard)
        sent.extend(zip(commands, replies, strict=True))
        return replies

    monkeypatch.setattr(tracker.backend, "execute", noting)
    done = {c.bucket: c.count for c in tracker.collapse()}
    assert all(
        abs(done[name] - n) < 4 * done[name].stderr for name, n in (("a", 1e4), ("b", 1e4), ("t", 2e4))
    )
    assert max(len(repr(part)) for part in sent) < 1000


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


@pytest.mark.parametrize("aggregates", [{}, {"t": ["a"]}])
def test_a_count_that_was_made_elsewhere_is_not_lost_to_a_late_raw_id(server, aggregates):
    tracker = server.tracker(buckets=["a"])
    tracker.track_many(range(10), bucket="a", date=YESTERDAY)
    server.client.set(f"active:{YNAME}:a", 1000)  # activity-tracker counted its own
    server.client.sadd(f"active:{YNAME}:raw:a", "late")
    for _ in range(2):
        with raises(CollapseError, "the stored count, 1000, was not made from the sketch at hand"):
            tracker.collapse(aggregate_buckets=aggregates)
        assert server.client.get(f"active:{YNAME}:a") == b"1000"
        assert server.client.scard(f"active:{YNAME}:raw:a") == 1
    server.client.delete(f"active:{YNAME}:a")  # as the message says
    assert {item.count for item in tracker.collapse(aggregate_buckets=aggregates)} == {11}
