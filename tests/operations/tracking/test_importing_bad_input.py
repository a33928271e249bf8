"""Imports of events that cannot be: named by their number, and those before them count."""

from collections import deque
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest

from activity_tracker_hll import (
    ArgumentTypeError,
    ArgumentValueError,
    HyperLogLog,
)
from activity_tracker_hll.columns import EventColumns
from activity_tracker_hll.operations.tracking import batches
from helpers.errors import raises
from helpers.moments import TODAY
from helpers.servers import sketches_on

FAR = 4777


@pytest.fixture
def small_batches(monkeypatch):
    """So that FAR is in another batch than the first; of the real size they take their time."""
    monkeypatch.setattr(batches, "EVENTS_PER_BATCH", FAR - 777)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ((None, "a", TODAY), ArgumentTypeError, "id must be"),
        (("", "a", TODAY), ArgumentValueError, "id must not be empty"),
        (("x" * 1025, "a", TODAY), ArgumentValueError, "at most 1024 bytes"),
        ((1.5, "a", TODAY), ArgumentTypeError, "id must be"),
        (("x", 7, TODAY), ArgumentTypeError, "bucket must be"),
        (("x", [], TODAY), ArgumentTypeError, "bucket must be"),
        (("x", "a{", TODAY), ArgumentValueError, "bucket must not"),
        (("x", "total", TODAY), ArgumentValueError, "aggregate_buckets"),
        (("x", "a", "2026-01-01"), ArgumentTypeError, "date must be"),
        (("x", "a", None), ArgumentTypeError, "date must be"),
        (("x", "a", date(1, 1, 1)), ArgumentValueError, "1000-9998"),
        (("x", "a", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))), ArgumentValueError, "date"),
        (("x", "a"), ArgumentTypeError, "tuple"),
        (("x", "a", TODAY, 1), ArgumentTypeError, "tuple"),
        ("xyz", ArgumentTypeError, "tuple"),
        (None, ArgumentTypeError, "tuple"),
    ],
)
def test_a_bad_event_is_named_and_those_before_it_count(real_server, bad, error, words):
    tracker = real_server.tracker(aggregate_buckets={"total": ["a"]})
    events = [(id % 3000, "a", TODAY) for id in range(FAR)]
    with raises(error, rf"events\[{FAR}\]" if words != "aggregate_buckets" else "", words):
        tracker.import_events([*events, bad, ("never sent", "a", TODAY)])
    assert list(sketches_on(real_server).values()) == [HyperLogLog(range(3000))]


def test_none_is_no_end(server):
    tracker = server.tracker()
    with raises(ArgumentTypeError, r"events\[0\] must be a tuple", "got None"):
        tracker.import_events([None, ("a", None, TODAY)])
    with raises(ArgumentTypeError, r"events\[0\] must be a tuple", "got None"):
        tracker.import_events(map({1: None}.get, [1, 2]))
    columns = EventColumns(["a"], None, TODAY)
    for other in (None, 7, ("b", None, TODAY)):
        with raises(ArgumentTypeError, "events must be EventColumns like the first ones, got "):
            tracker.import_events([columns, other, columns])
    with raises(ArgumentTypeError, r"events\[1\] must be a tuple"):
        tracker.import_events([("b", None, TODAY), columns])


@pytest.mark.usefixtures("small_batches")
def test_an_error_of_the_iterables_own_ends_the_import_after_the_events_before_it(server):
    def events():
        yield from ((id % 700, "a", TODAY) for id in range(FAR))
        raise KeyError("no more")

    tracker = server.tracker(buckets=["a"])
    with pytest.raises(KeyError):
        tracker.import_events(events())
    assert tracker.lookup(live=True)[-1][1]["a"] == pytest.approx(700, rel=0.03)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((np.arange(3), ["a"] * 2, TODAY), ArgumentValueError, "3 ids but 2 buckets"),
        ((np.arange(3), None, [TODAY]), ArgumentValueError, "3 ids but 1 dates"),
        ((np.arange(3), 7, TODAY), ArgumentTypeError, "buckets must be"),
        ((np.arange(3), None, 7), ArgumentTypeError, "dates must be"),
        ((np.arange(3), b"a", TODAY), ArgumentTypeError, "buckets must be"),
        ((np.arange(3) + 0.5, None, TODAY), ArgumentTypeError, "ids must be.*float64"),
        ((np.zeros((3, 2), int), None, TODAY), ArgumentTypeError, "one-dimensional"),
        ((np.array(["", "a"]), None, TODAY), ArgumentValueError, r"events\[0\] id must not be empty"),
        (
            (np.arange(50), None, np.array(["NaT"] * 50, "datetime64[D]")),
            ArgumentTypeError,
            "date must be.*NaT",
        ),
        ((np.arange(50), np.array(["a", "{"] * 25), TODAY), ArgumentValueError, r"events\[1\] bucket"),
        ((np.arange(50), np.array([b"a"] * 50), TODAY), ArgumentTypeError, "bucket must be"),
        ((np.arange(50), None, np.array(["20000"] * 50, "M8[Y]")), ArgumentTypeError, "date must be.*20000"),
    ],
)
def test_bad_columns(server, given, error, words):
    tracker = server.tracker()
    with raises(error, words):
        tracker.import_events(given)
    if words != r"events\[1\] bucket":
        assert server.names() == []


def test_hourly_columns_need_the_hour(server):
    tracker = server.tracker(["hourly"])
    with raises(ArgumentTypeError, "hourly"):
        tracker.import_events((np.arange(50), None, np.full(50, TODAY, "datetime64[D]")))


MASKED = np.ma.masked_array(np.arange(3), [True, False, False])


@pytest.mark.parametrize(
    ("ids", "buckets", "dates", "words"),
    [
        (MASKED, "a", TODAY, "masked"),
        (np.ma.masked_array(["a", "b", "c"], [1, 0, 0]).astype("S"), "a", TODAY, "masked"),
        (np.ndarray((3,), "S0", b"abc"), "a", TODAY, "empty"),
        (np.arange(3), np.ma.masked_array(["a", "b", "c"], [1, 0, 0]), TODAY, "masked"),
        (np.arange(3), np.array("a"), TODAY, "buckets"),
        (np.arange(3), deque("abc"), TODAY, "buckets"),
        (np.arange(3), memoryview(b"abc"), TODAY, "buckets"),
        (np.arange(3), "a", np.array("2026-01-01", "M8[D]"), "dates"),
        (np.arange(3), "a", np.datetime64("NaT", "D"), "date"),
        (np.arange(3), "a", np.datetime64(2**62, "s"), "date"),  # older versions of numpy make it 1970
    ],
)
def test_odd_columns_are_refused(real_server, ids, buckets, dates, words):
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=words):
        real_server.tracker().import_events((ids, buckets, dates))
    assert not sketches_on(real_server)


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h"])
@pytest.mark.parametrize("number", [2**63 - 1, 2**61 + 20_000, -(2**63) + 1])
def test_moments_that_no_calendar_has_are_refused_in_any_lot(real_server, unit, number):
    for count in (10, 5000):
        dates = np.full(count, "2026-01-01", f"M8[{unit}]")
        dates.view(np.int64)[count // 2] = number
        with pytest.raises((ArgumentTypeError, ArgumentValueError), match="date"):
            real_server.tracker().import_events((np.arange(count), "a", dates))


def test_a_span_of_time_is_no_id(real_server):
    for span in (np.timedelta64(5, "D"), np.timedelta64(5, "s"), np.timedelta64("NaT", "s")):
        with pytest.raises(ArgumentTypeError, match="timedelta64"):
            real_server.tracker().track(id=span)
