"""collapse: what it stores, what it leaves, what it survives."""

import pickle
import threading
from datetime import date, datetime, timedelta
from itertools import islice

import pytest
from conftest import NOON, TODAY, YESTERDAY, Server, day, raises
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import BackendResponseError, CollapseError, Estimate
from activity_tracker_hll.commands import collapse as collapse_operation
from activity_tracker_hll.periods import PERIODS

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
    tracker = server.tracker(retention=timedelta(0))
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


def test_an_aggregate_keeps_its_union_under_its_own_name(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"both": ["a", "b"]})
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track_many(range(3, 9), bucket="b", date=YESTERDAY)
    tracker.collapse()
    key = f"active:{{{YNAME}:both}}:hll"
    assert server.client.pfcount(key) == 9
    assert server.client.ttl(key) > 0
    tracker.track(id=100, bucket="b", date=YESTERDAY)
    tracker.collapse(recount=True)
    assert rows(tracker, YESTERDAY, "both") == [{"both": 10}]
    assert server.client.pfcount(key) == 10


def test_an_aggregate_whose_source_is_gone_is_refused_not_undercounted(server):
    tracker = server.tracker(retention=timedelta(0))
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track_many(range(5), bucket="b", date=YESTERDAY)
    tracker.collapse(buckets=["a"])
    with raises(CollapseError, "'both'", r"\['a'\]", "gone") as caught:
        tracker.collapse(buckets=["a", "b"], aggregate_buckets={"both": ["a", "b"]})
    assert [failure[:2] for failure in caught.value.failures] == [(YNAME, "both")]
    assert rows(tracker, YESTERDAY, "a", "b", "both") == [{"a": 5, "b": 5, "both": 0}]
    # b's sketch is kept while the aggregate that wants it is not counted
    assert f"active:{{{YNAME}:b}}:hll" in server.names()


def test_aggregates_of_more_sources_than_a_script_unpacks(server):
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
        ("daily", {}, 35),
        ("daily", {"retention": timedelta(days=3)}, 3),
        ("monthly", {}, 35),
        ("yearly", {}, 366),
    ],
)
def test_sketches_expire_when_their_retention_ends(server, kind, options, days):
    tracker = server.tracker([kind], **options)
    tracker.track_many([1, 2], date=TODAY)
    tracker.track(id=2, bucket="b", old_id=2)
    tracker.track(id=2, old_id=2, old_bucket="b")
    period = tracker._calendar.containing(kind, datetime(TODAY.year, TODAY.month, TODAY.day))
    end = tracker._calendar.timestamp(period.next().start)
    tracker.collapse(date=period.next().date, buckets=[None, "b"], aggregate_buckets={"all": [None, "b"]})
    sketches = [name for name in server.names() if "{" in name and not name.endswith("stderr")]
    assert {name.rpartition(":")[2] for name in sketches} >= {"hll", "moved", "out", "back"}
    for name in sketches:
        assert server.client.expiretime(name) == end + days * 86400, name
    for name in set(server.names()) - set(sketches):
        assert server.client.ttl(name) == -1, name


@pytest.mark.parametrize(("retention", "kept"), [(timedelta(0), False), (None, True)])
def test_retention_of_nothing_and_for_ever(server, retention, kept):
    tracker = server.tracker(retention=retention, buckets=["a"], aggregate_buckets={"t": ["a"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.track(id=2, bucket="a", old_id=1, old_bucket="a", date=YESTERDAY)
    tracker.collapse()
    assert rows(tracker, YESTERDAY, "a", "t") == [{"a": 1, "t": 1}]
    sketches = [name for name in server.names() if name.endswith((":hll", ":moved", ":out", ":back"))]
    assert bool(sketches) == kept
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
    assert all(isinstance(error, BackendResponseError) for _, _, error in caught.value.failures)
    assert rows(tracker, YESTERDAY, "good", "fine", "sum") == [{"good": 1, "fine": 1, "sum": 2}]
    server.client.delete(f"active:{{{YNAME}:bad}}:hll")
    tracker.collapse()
    assert rows(tracker, YESTERDAY, "bad", "worse") == [{"bad": 0, "worse": 2}]


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
    real_server.client.set(f"active:{{{YNAME}:bad}}:hll", bad)
    with raises(CollapseError, "'bad'"):
        tracker.collapse()
    with raises(BackendResponseError, "'bad'"):
        tracker.lookup(start=YESTERDAY, buckets=["bad"], live=True)
    assert rows(tracker, YESTERDAY, "good") == [{"good": 1}]


def test_a_negative_cardinality_is_no_count(real_server):
    """The header caches the count, so whoever can write the key can claim any."""
    tracker = real_server.tracker(buckets=["bad"])
    tracker.track(id=1, bucket="bad", date=YESTERDAY)
    key = f"active:{{{YNAME}:bad}}:hll"
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
    server.client.delete(f"active:{{{YNAME}:a}}:hll")  # evicted, say
    with raises(CollapseError, "'a'", "gone"):
        tracker.collapse()


def test_a_bucket_written_to_while_it_is_collapsed_is_counted_with_that(server, monkeypatch):
    tracker = server.tracker(buckets=["a"], retention=timedelta(0))
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


def scenario(server: Server):
    """Days with plain, moved, empty and legacy buckets, aggregates, and a gap."""
    tracker = server.tracker(
        buckets=["a", "b", "c"], aggregate_buckets={"ab": ["a", "b"], "abc": ["a", "b", "c"]}
    )
    for n in (1, 2, 3):
        tracker.track_many(range(10 * n), bucket="a", date=day(n))
        tracker.track(id=1, bucket="b", old_id=1, old_bucket="a", date=day(n))
    tracker.track(id=1, bucket="a", date=day(3))
    server.client.sadd(f"active:daily-{day(1):%Y%m%d}:raw:c", *range(5, 25))
    server.client.sadd(f"active:daily-{day(3):%Y%m%d}:raw:a", "x", "y")
    tracker.collapse(date=day(1))
    return tracker


def state(server: Server):
    """Counts, errors and expiries."""
    found = {}
    for name in server.names():
        if name.endswith(":stderr"):
            found[name] = server.client.hgetall(name)
        elif "{" in name:
            found[name] = server.client.expiretime(name)
        else:
            found[name] = server.client.get(name) if ":raw" not in name else None
    return found


def restore(server: Server, snapshot):
    server.client.flushall()
    for key, ttl, dump in snapshot:
        server.client.restore(key, ttl, dump, absttl=True)


def snapshot(server: Server):
    return [
        (key, max(0, server.client.pexpiretime(key)), server.client.dump(key))
        for key in server.client.scan_iter()
    ]


def operation(tracker):
    moment = datetime(TODAY.year, TODAY.month, TODAY.day)
    past = list(tracker._calendar.before("daily", moment, 4))
    return collapse_operation(tracker._context, past, tracker._buckets, tracker._aggregates, recount=False)


def steps(tracker):
    """The operation with each command a step of its own."""
    running = operation(tracker)
    try:
        batch = next(running)
        while True:
            replies = []
            for command in batch:
                yield
                replies += tracker.backend.execute([command])
            batch = running.send(replies)
    except StopIteration:
        return


@pytest.fixture
def undisturbed(real_server):
    tracker = scenario(real_server)
    before = snapshot(real_server)
    tracker.collapse(max_periods=4)
    return tracker, before, state(real_server)


def test_the_scenario_is_counted_right(server):
    tracker = scenario(server)
    tracker.collapse(max_periods=4)
    found = rows(tracker, day(3), "a", "b", "c", "ab", "abc")
    assert found == [
        {"a": 32, "b": 1, "c": 0, "ab": 32, "abc": 32},
        {"a": 19, "b": 1, "c": 0, "ab": 20, "abc": 20},
        {"a": 9, "b": 1, "c": 20, "ab": 10, "abc": 25},
    ]


def test_a_collapse_that_ends_after_any_command_is_completed_by_the_next(real_server, undisturbed):
    tracker, before, expected = undisturbed
    for commands in range(200):
        restore(real_server, before)
        running = steps(tracker)
        begun = sum(1 for _ in islice(running, commands + 1))
        running.close()
        tracker.collapse(max_periods=4)
        assert state(real_server) == expected, f"ended after {commands} commands"
        if begun <= commands:  # it came to its own end
            break
    assert 15 < commands < 199


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
        server.client.persist(f"active:{{{YNAME}:{bucket}}}:hll")
    tracker.collapse()
    for bucket in "at":
        assert server.client.ttl(f"active:{{{YNAME}:{bucket}}}:hll") > 0


def test_counts_are_stored_as_activity_tracker_does(server):
    tracker = server.tracker(["daily", "monthly"])
    tracker.track_many(range(7), date=date(2014, 1, 1), bucket="b")
    tracker.collapse(["daily"], date=date(2014, 1, 2), buckets=["b"])
    tracker.collapse(["monthly"], date=date(2014, 2, 1), buckets=["b", None])
    assert server.client.get("active:daily-20140101:b") == b"7"
    assert server.client.get("active:monthly-201401:b") == b"7"
    assert server.client.get("active:monthly-201401") == b"0"
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
    sketch = f"active:{{{YNAME}}}:hll"
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


@pytest.mark.parametrize("retention", [None, timedelta(days=35)])
def test_a_bucket_all_of_whose_ids_were_moved_out_is_collapsed_once(server, retention):
    tracker = server.tracker(retention=retention)
    tracker.track(id=1, old_id=1, bucket="b", date=YESTERDAY)
    assert [done.count for done in tracker.collapse()] == [0]
    assert tracker.collapse() == []


def test_sketches_once_kept_for_ever_get_an_expiry_and_the_other_way_round(server):
    keeping = server.tracker(retention=None, buckets=["a"], aggregate_buckets={"t": ["a"]})
    keeping.track(id=1, bucket="a", date=YESTERDAY)
    keeping.track(id=2, bucket="b", old_id=1, old_bucket="a", date=YESTERDAY)
    keeping.collapse(buckets=["a", "b"])
    keys = [f"active:{{{YNAME}:{bucket}}}:hll" for bucket in "abt"]
    assert [server.client.ttl(key) for key in keys] == [-1, -1, -1]
    ending = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a"]})
    assert ending.collapse() == []
    assert all(server.client.ttl(key) > 0 for key in keys)
    keeping.collapse(buckets=["a", "b"], aggregate_buckets={"t": ["a"]}, recount=True)
    assert [server.client.ttl(key) for key in keys] == [-1, -1, -1]


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
    server.client.delete(f"active:{{{YNAME}:b}}:hll")  # as if it had expired
    assert {done.bucket for done in tracker.collapse(recount=True)} == {"a"}
    assert rows(tracker, YESTERDAY, "a", "b", "t") == [{"a": 5, "b": 9, "t": 9}]


def test_the_running_period_can_be_collapsed_and_loses_nothing(server):
    """With no retention a sketch is kept until its period is over, so that what comes later is in it."""
    tracker = server.tracker(retention=timedelta(0))
    tomorrow = TODAY + timedelta(days=1)
    tracker.track_many(range(100))
    tracker.collapse(date=tomorrow)
    tracker.track(id="late")
    assert tracker.collapse(date=tomorrow) == []
    [done] = tracker.collapse(date=tomorrow, recount=True)
    assert done.count == pytest.approx(101, abs=2)
    assert server.client.ttl(f"active:{{daily-{TODAY:%Y%m%d}}}:hll") > 0


def test_a_failing_aggregate_leaves_no_temporary_key_for_ever(server):
    tracker = server.tracker(buckets=["plain", "a"], aggregate_buckets={"t": ["plain", "a"]})
    tracker.track(id=1, bucket="plain", date=YESTERDAY)
    tracker.track(id=1, bucket="a", old_id=2, old_bucket="a", date=YESTERDAY)
    server.client.set(f"active:{{{YNAME}:a}}:back", "no set")
    with raises(CollapseError, "'t'"):
        tracker.collapse()
    with raises(BackendResponseError, "'t'"):
        tracker.lookup(start=YESTERDAY, buckets=["t"], live=True)
    temporary = [name for name in server.names() if ":tmp:" in name]
    assert all(0 < server.client.ttl(name) <= 60 for name in temporary)
