"""A list of buckets that is empty is refused by each call: nobody knows whether it means none or all."""

import asyncio
import inspect

import pytest

from activity_tracker_hll import ActivityTracker, Archive, ArgumentValueError, Selection
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.awaited import Awaited
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day

GIVEN = {"window": 2, "start": day(3), "end": TODAY, "path": "new.file"}
"""What calls need besides."""


def calls_of(cls):
    """The calls that take buckets, by name, each with what it needs besides."""
    calls = {name: call for name in dir(cls) if name[0] != "_" and callable(call := getattr(cls, name))}
    found = {name: inspect.signature(call).parameters for name, call in calls.items()}
    return {
        name: {each: GIVEN[each] for each in GIVEN.keys() & of if of[each].default is inspect.Parameter.empty}
        for name, of in found.items()
        if "buckets" in of
    }


CALLS = calls_of(ActivityTracker)
each_call = pytest.mark.parametrize("call", CALLS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where files would be written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def counted(server):
    """A tracker of a bucket with data of yesterday, which nobody has collapsed."""
    tracker = server.tracker(buckets=["a"])
    tracker.track_many(range(3), bucket="a", date=YESTERDAY)
    return tracker


def test_these_are_the_calls():
    assert {"collapse", "collapse_daily", "collapse_due", "lookup", "lookup_daily", "report"} < CALLS.keys()
    assert {"unique", "rolling", "stickiness", "archive", "restore"} < CALLS.keys()
    assert CALLS.keys() == calls_of(AsyncActivityTracker).keys()


@pytest.mark.parametrize("empty", [list, tuple, set, lambda: iter(())])
@each_call
def test_no_buckets_are_refused(server, counted, call, empty, folder):
    before = server.names()
    with raises(ArgumentValueError, "buckets lists no buckets: name one, or leave it out"):
        getattr(counted, call)(**CALLS[call], buckets=empty())
    assert server.names() == before
    assert list(folder.iterdir()) == []


@each_call
def test_no_buckets_are_refused_where_calls_are_awaited(call):
    with (
        asyncio.Runner() as runner,
        Awaited(runner, AsyncActivityTracker(["daily"], port=1, clock=lambda: NOON)) as tracker,
        raises(ArgumentValueError, "buckets lists no buckets"),
    ):
        getattr(tracker, call)(**CALLS[call], buckets=[])


def test_no_buckets_are_refused_by_an_archive(real_server, folder):
    tracker = real_server.tracker(buckets=["a"])
    tracker.track_many(range(3), bucket="a", date=YESTERDAY)
    tracker.archive(folder / "x.archive")
    calls = calls_of(Archive)
    assert {"lookup", "unique", "rolling", "stickiness", "report"} < calls.keys()
    with Archive(folder / "x.archive", periods=["daily"], buckets=["a"]) as archive:
        for call, given in calls.items():
            with raises(ArgumentValueError, "buckets lists no buckets"):
                getattr(archive, call)(**given, buckets=[])


@pytest.mark.parametrize("call", ["unique", "rolling", "stickiness", "collapse", "collapse_due"])
def test_nor_do_aggregates_make_up_for_it(counted, call):
    with raises(ArgumentValueError, "buckets lists no buckets"):
        getattr(counted, call)(**CALLS[call], buckets=[], aggregate_buckets={"t": ["a"]})
    with raises(ArgumentValueError, r"aggregate_buckets\['t'\] lists no buckets"):
        getattr(counted, call)(**CALLS[call], aggregate_buckets={"t": []})


@pytest.mark.parametrize("call", ["collapse", "collapse_due"])
def test_there_may_be_no_aggregates(counted, call):
    assert [done.bucket for done in getattr(counted, call)(aggregate_buckets={})] == ["a"]


def test_nor_does_a_selection_of_nothing_say_what_is_meant(counted):
    with raises(ArgumentValueError, "b.buckets lists no buckets"):
        counted.overlap(Selection("a", YESTERDAY, TODAY), Selection((), YESTERDAY, TODAY))


@pytest.mark.parametrize("call", ["archive", "restore"])
def test_no_kinds_of_period_are_refused_where_all_are_the_default(counted, call, folder):
    with raises(ArgumentValueError, "periods lists no kinds of period: name one, or leave it out"):
        getattr(counted, call)(folder / "x.archive", periods=[])


def test_a_tracker_that_is_given_no_buckets_is_about_the_unnamed_one(real_server):
    tracker = real_server.tracker(buckets=[], aggregate_buckets={})
    assert tracker.buckets is None
    tracker.track(id=1, date=YESTERDAY)
    assert [done.bucket for done in tracker.collapse()] == [None]
    assert tracker.lookup(start=YESTERDAY)[0][1] == {None: 1}
    assert dict(tracker.unique(YESTERDAY, TODAY)) == {None: 1}
    assert tracker.retention("daily", start=YESTERDAY, end=TODAY).bucket is None
