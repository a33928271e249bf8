"""Switching from activity-tracker 0.0.5: the real library writes, this one goes on."""

import enum
import importlib
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from activity_tracker.backends.base import BaseBackend as ExactBackend
from activity_tracker.tracker import ActivityTracker as ExactTracker

import activity_tracker_hll.tracker
from activity_tracker_hll import (
    ActivityTrackerError,
    ArgumentTypeError,
    ArgumentValueError,
    BackendResponseError,
)
from activity_tracker_hll.ids import encode
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY, day

MONTH = TODAY.replace(day=1)


@pytest.fixture
def exact(server):
    """activity-tracker on the same server."""
    return ExactTracker(
        periods=["daily", "monthly"], backend="redis", redis_client=lambda **_options: server.client
    )


def test_only_the_import_changes(real_server, monkeypatch):
    """One service's code, run with either library by the name of its module."""
    import redis

    def service(module, action):
        cls = importlib.import_module(module).ActivityTracker
        connect = lambda **_options: redis.Redis(**real_server.options)  # noqa: E731
        tracker = cls(periods=["daily", "monthly"], backend="redis", redis_client=connect)
        return action(tracker)

    def morning(tracker):
        for n in range(60):
            tracker.track(id=n, bucket="site", date=YESTERDAY)

    def evening(tracker):
        for n in range(40, 100):
            tracker.track(id=n, bucket="site", date=YESTERDAY)

    service("activity_tracker.tracker", morning)
    service("activity_tracker_hll.tracker", evening)
    service("activity_tracker_hll.tracker", lambda tracker: tracker.collapse(buckets=["site"], date=TODAY))
    found = [
        service(
            f"activity_tracker{suffix}.tracker",
            lambda t: t.lookup_daily(start=YESTERDAY, buckets=["site"], end=TODAY),
        )
        for suffix in ("", "_hll")
    ]
    assert found[0] == found[1] == [(YESTERDAY, {"site": pytest.approx(100, abs=2)})]


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_a_day_and_a_month_that_began_with_the_other_library(server, exact, secret):
    """Stand-ins for servers hand out no sketches, so raw sets beside them are counted by collapse alone."""
    tracker = server.tracker(["daily", "monthly"], secret=secret)
    for n in range(3000):
        exact.track(id=n, bucket="a", date=YESTERDAY)
    tracker.track_many(range(2000, 4000), bucket="a", date=YESTERDAY)
    [name] = [name for name in server.names() if "daily" in name and "raw" in name]
    if server.name == "fakeredis":
        with raises(BackendResponseError, "'a'", "sketches cannot be read", "collapse"):
            tracker.lookup("daily", start=YESTERDAY, buckets=["a"])
    else:
        live = tracker.lookup("daily", start=YESTERDAY, buckets=["a"])[0][1]["a"]
        assert abs(live - 4000) < 4 * live.stderr
    assert server.client.scard(name) == 3000  # reading took nothing away
    tracker.collapse(["daily"], buckets=["a"])
    tracker.collapse(["monthly"], buckets=["a"], date=(MONTH + timedelta(days=32)))
    for rows in (
        tracker.lookup("daily", start=YESTERDAY, buckets=["a"]),
        tracker.lookup(
            "monthly", start=YESTERDAY.replace(day=1), end=MONTH + timedelta(days=40), buckets=["a"]
        )[:1],
    ):
        count = rows[0][1]["a"]
        assert abs(count - 4000) < 4 * count.stderr
    assert not [name for name in server.names() if ":raw" in name]


def test_history_reads_the_same_in_both(server, exact):
    tracker = server.tracker(["daily", "monthly"])
    for n in range(1, 6):
        for id in range(n * 10):
            exact.track(id=id, bucket="a", date=day(n))
            exact.track(id=id, date=day(n))
    exact.collapse(["daily"], date=TODAY, max_periods=3, buckets=["a", None])
    tracker.collapse(["daily"], max_periods=5, buckets=["a", None])
    assert exact.lookup("daily", start=day(6), end=TODAY, buckets=["a", None]) == tracker.lookup(
        "daily", start=day(6), buckets=["a", None]
    )
    ours = tracker.lookup("daily", start=day(5), buckets=["a"])
    # counted exactly by the other library, and within the error by this one
    assert [counts["a"] for _, counts in ours[2:]] == [30, 20, 10]
    assert all(
        abs(counts["a"] - n) < 4 * counts["a"].stderr
        for n, (_, counts) in zip((50, 40), ours[:2], strict=True)
    )
    year = {"start": day(365), "end": TODAY}
    for period in ("daily", "monthly"):
        assert exact.lookup(period, **year) == tracker.lookup(period, **year)


def test_aggregates_over_raw_sets(server, exact):
    tracker = server.tracker(["daily"])
    for bucket, ids in (("a", range(30)), ("b", range(20, 60))):
        for id in ids:
            exact.track(["daily"], id=id, bucket=bucket, date=YESTERDAY)
    tracker.track_many(range(50, 70), bucket="b", date=YESTERDAY)
    lazy = server.tracker(["daily"], buckets=["a", "b"], aggregate_buckets={"total": ["a", "b"]})
    if server.name != "fakeredis":
        assert lazy.lookup(start=YESTERDAY, buckets=["total"])[0][1]["total"] == pytest.approx(70, abs=2)
    tracker.collapse(aggregate_buckets={"total": ["a", "b"]})
    row = tracker.lookup(start=YESTERDAY, buckets=["a", "b", "total"])[0][1]
    assert row == pytest.approx({"a": 30, "b": 50, "total": 70}, abs=2)


def test_ids_of_a_raw_set_can_be_moved(server, exact):
    tracker = server.tracker(["daily"])
    for id in range(10):
        exact.track(["daily"], id=id, bucket="anon", date=YESTERDAY)
    tracker.track(id="ann", bucket="member", old_id=3, old_bucket="anon", date=YESTERDAY)
    tracker.collapse(buckets=["anon", "member"])
    assert tracker.lookup(start=YESTERDAY, buckets=["anon", "member"])[0][1] == {"anon": 9, "member": 1}


def test_ids_that_arrive_while_a_raw_set_is_folded_are_not_lost(server, exact, monkeypatch):
    tracker = server.tracker(["daily"])
    for id in range(100):
        exact.track(["daily"], id=id, date=YESTERDAY)
    execute, arriving = tracker.backend.execute, iter(range(1000, 1010))

    def interrupted(commands, shard=0):
        if any(command[0] in ("PFADD", "SREM", "SSCAN") for command in commands):
            exact.track(["daily"], id=next(arriving, 1000), date=YESTERDAY)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    with pytest.MonkeyPatch.context():
        try:
            tracker.collapse()
        finally:
            monkeypatch.undo()
    left = server.client.scard(f"active:daily-{YESTERDAY:%Y%m%d}:raw")
    tracker.collapse()
    count = tracker.lookup(start=YESTERDAY)[0][1][None]
    assert count == pytest.approx(110, abs=2)
    assert left <= 1


def test_a_straggler_after_the_collapse_is_counted_by_the_next(server, exact):
    tracker = server.tracker(["daily"], buckets=["a"], aggregate_buckets={"t": ["a"]})
    tracker.track_many(range(10), bucket="a", date=YESTERDAY)
    tracker.collapse()
    exact.track(["daily"], id="late", bucket="a", date=YESTERDAY)
    tracker.collapse()
    assert tracker.lookup(start=YESTERDAY, buckets=["a", "t"])[0][1] == {"a": 11, "t": 11}


def test_what_the_other_library_collapsed_is_left_alone(server, exact):
    tracker = server.tracker(["daily"])
    for id in range(10):
        exact.track(["daily"], id=id, bucket="a", date=YESTERDAY)
    exact.collapse(["daily"], date=TODAY, buckets=["a"])
    exact.track(["daily"], id="late", bucket="a", date=YESTERDAY)
    for recount in (False, True):
        tracker.collapse(buckets=["a"], recount=recount)
        assert tracker.lookup(start=YESTERDAY, buckets=["a"])[0][1] == {"a": 10}
    assert server.client.scard(f"active:daily-{YESTERDAY:%Y%m%d}:raw:a") == 1


def test_a_raw_key_that_is_no_set_is_reported(server):
    from activity_tracker_hll import CollapseError

    server.client.set(f"active:daily-{YESTERDAY:%Y%m%d}:raw:bad", "x")
    tracker = server.tracker(["daily"], buckets=["good", "bad"])
    tracker.track(id=1, bucket="good", date=YESTERDAY)
    with pytest.raises(CollapseError, match="'bad'"):
        tracker.collapse()
    assert tracker.lookup(start=YESTERDAY, buckets=["good"])[0][1] == {"good": 1}


def test_the_constructor_takes_what_activity_tracker_takes():
    tracker = activity_tracker_hll.tracker.ActivityTracker(
        periods=["daily"],
        backend="redis",
        host="localhost",
        port=1,
        db=2,
        socket_timeout=3,
        shards=[{}, {"db": 1}],
    )
    assert tracker.PERIOD_DAILY == ExactTracker.PERIOD_DAILY
    options = tracker.backend.client(1).connection_pool.connection_kwargs
    assert (options["port"], options["db"], options["socket_timeout"]) == (1, 1, 3)


def test_a_fold_that_is_cut_short_leaves_a_sketch_that_does_not_end(server, exact):
    tracker = server.tracker(["daily"])
    tracker.track_many(range(10), date=YESTERDAY)
    tracker.collapse()
    exact.track(["daily"], id="late", date=YESTERDAY)
    operation = tracker.backend.execute

    def cut_short(commands, shard=0):
        if commands[0][0] == "SREM":
            raise KeyboardInterrupt
        return operation(commands, shard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker.backend, "execute", cut_short)
        with pytest.raises(KeyboardInterrupt):
            tracker.collapse()
    assert server.client.ttl(f"{{active:daily-{YESTERDAY:%Y%m%d}}}:hll") == -1
    if server.name != "fakeredis":
        assert tracker.lookup(start=YESTERDAY)[0][1] == {None: 11}
    tracker.collapse()
    assert tracker.lookup(start=YESTERDAY)[0][1] == {None: 11}
    assert server.client.ttl(f"{{active:daily-{YESTERDAY:%Y%m%d}}}:hll") > 0


def test_live_counts_leave_no_copies(server, exact):
    tracker = server.tracker(["daily"], buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    for id in range(20):
        exact.track(["daily"], id=id, bucket="a", date=YESTERDAY)
    row = tracker.lookup(start=YESTERDAY, buckets=["a", "b", "t"], live=True)[0][1]
    assert row == {"a": 20, "b": 0, "t": 20}
    assert not [name for name in server.names() if ":tmp:" in name]


def test_the_other_librarys_job_left_running_is_noticed(server, exact):
    tracker = server.tracker(["daily"])
    for id in range(100):
        exact.track(["daily"], id=id, bucket="a", date=YESTERDAY)
    tracker.track_many(range(1000, 1200), bucket="a", date=YESTERDAY)
    exact.collapse(["daily"], date=TODAY, buckets=["a"])
    with pytest.raises(activity_tracker_hll.CollapseError, match="another program"):
        tracker.collapse(buckets=["a"])
    assert server.client.ttl(f"{{active:daily-{YESTERDAY:%Y%m%d}:a}}:hll") == -1


def test_zeros_the_other_librarys_job_stored_are_counted_with_their_aggregates(server, exact):
    tracker = server.tracker(["daily"], buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    tracker.track_many(range(10), bucket="a", date=YESTERDAY)
    tracker.track_many(range(5, 20), bucket="b", date=YESTERDAY)
    exact.collapse(["daily"], date=TODAY, buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    tracker.collapse()
    row = tracker.lookup(start=YESTERDAY, buckets=["a", "b", "t"])[0][1]
    assert row == {"a": 10, "b": 15, "t": 20}
    assert tracker.collapse() == []


# What the README says that differs


class Plan(enum.Enum):
    FREE = "free"


class TextPlan(str, enum.Enum):  # noqa: UP042 (as there are many)
    FREE = "free"


class Named:
    def __str__(self):
        return "named"


def counted(server, exact, id):
    """The ids that both libraries make of one."""
    exact.track(["daily"], id=id, bucket="ids", date=TODAY)
    [by_exact] = server.client.spop(f"active:daily-{TODAY:%Y%m%d}:raw:ids", 1)
    return by_exact, encode(id)


@pytest.mark.parametrize("id", [7, -7, "ann", UUID(int=7)], ids=repr)
def test_ids_that_are_the_same(server, exact, id):
    assert len(set(counted(server, exact, id))) == 1


@pytest.mark.parametrize(
    ("id", "before", "now"),
    [(b"ann", b"b'ann'", b"ann"), (TextPlan.FREE, b"TextPlan.FREE", b"free")],
    ids=["bytes", "enum"],
)
def test_ids_that_are_others(server, exact, id, before, now):
    assert counted(server, exact, id) == (before, now)
    assert counted(server, exact, str(id)) == (before, before)


@pytest.mark.parametrize(
    "id", [1.5, Decimal("1.5"), True, Plan.FREE, (1, 2), date(2026, 1, 1), Named(), "", "x" * 1025], ids=str
)
def test_ids_that_are_refused(server, exact, id):
    tracker = server.tracker()
    exact.track(id=id)
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=r"^id "):
        tracker.track(id=id)
    if 0 < len(str(id)) <= 1024:
        tracker.track(id=str(id))


@pytest.mark.parametrize("bucket", ["", "a{b}", "a\nb", "x" * 201, "raw", "raw:x"])
def test_buckets_that_are_refused(server, exact, bucket):
    exact.track(id=1, bucket=bucket)
    with pytest.raises(ArgumentValueError, match=r"^bucket "):
        server.tracker().track(id=1, bucket=bucket)


def test_the_empty_bucket_was_the_unnamed_one(server, exact):
    exact.track(["daily"], id=1, bucket="", date=YESTERDAY)
    tracker = server.tracker()
    tracker.collapse()
    assert tracker.lookup(start=YESTERDAY, end=TODAY) == [(YESTERDAY, {None: 1})]


def test_lookup_by_moments(server, exact):
    tracker = server.tracker()
    for back in range(1, 4):
        tracker.track(id=1, date=day(back))
    tracker.collapse()
    end = datetime(TODAY.year, TODAY.month, TODAY.day, 15)
    start = end - timedelta(days=2)
    before, now = (each.lookup_daily(start=start, end=end) for each in (exact, tracker))
    assert [row[0] for row in before] == [start, start + timedelta(days=1)]
    assert now == [(YESTERDAY, {None: 1})]
    as_before = tracker.lookup_daily(start=start.date(), end=end)
    assert as_before == [(moment.date(), counts) for moment, counts in before]
    assert exact.lookup_daily(start=TODAY, end=YESTERDAY) == []
    with raises(ArgumentValueError, "start must not be after end"):
        tracker.lookup_daily(start=TODAY, end=YESTERDAY)


def test_a_moment_of_another_zone(server, exact):
    """In the evening of one day it is the next one in UTC."""
    moment = datetime(2026, 1, 1, 22, tzinfo=timezone(timedelta(hours=-5)))
    exact.track(["daily"], id=1, date=moment)
    assert server.names() == ["active:daily-20260101:raw"]
    tracker = server.tracker(timezone="UTC")
    tracker.track(id=1, date=moment)
    assert moment.astimezone(UTC).date() == date(2026, 1, 2)
    assert any("daily-20260102" in name for name in server.names())


def test_backends_of_the_other_library(server):
    class Own(ExactBackend):
        pass

    for backend in ("activity_tracker.backends.redis.RedisBackend", Own()):
        with pytest.raises(ActivityTrackerError, match="BaseBackend"):
            activity_tracker_hll.tracker.ActivityTracker(["daily"], backend=backend)
    tracker = activity_tracker_hll.tracker.ActivityTracker(
        ["daily"], backend="redis", redis_client=lambda **_options: server.client
    )
    assert tracker.backend.client(0) is server.client
