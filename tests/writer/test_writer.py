"""The writer with its threads: the calls, their errors, flush, close and what callers are told."""

import dataclasses
import inspect
import logging
import threading
import time
import uuid

import numpy as np
import pytest

from activity_tracker_hll import (
    ActivityTracker,
    ArgumentTypeError,
    ArgumentValueError,
    BackendConnectionError,
    BufferedTracker,
    DroppedEventsError,
    SettingsMismatchError,
    Statistics,
    WriterClosedError,
)
from helpers.errors import raises
from helpers.moments import NOON, TODAY
from helpers.servers import free_port

FAST = 0.02


def counts(tracker, *buckets, kind="daily"):
    return {bucket: int(n) for bucket, n in tracker.lookup(kind, buckets=buckets, live=True)[-1][1].items()}


def test_the_calls(server):
    tracker = server.tracker(["daily", "monthly"])
    with tracker.buffered(flush_interval=FAST) as writer:
        for id in (
            "a",
            b"a",
            "1",
            1,
            uuid.UUID(int=1),
            str(uuid.UUID(int=1)),
            "x" * 1024,
            b"\xff\xfe",
            "ä" * 300,
        ):
            writer.track(id=id)
        writer.track_many(np.array([1, 2, 3]))
        writer.track_many(["p", "q", 7], bucket="b")
        writer.track_many(["r"], ["daily"], bucket="b", date=TODAY)
        writer.track_daily(id="only daily", bucket="b")
        writer.track(["monthly"], id="only monthly", bucket="b")
        writer.track(id="s", bucket="c", old_id="p", old_bucket="b")
        writer.track(old_id="q", old_bucket="b")
        statistics = writer.flush(20)
        assert statistics.pending == 0
        assert statistics.pushed == statistics.tracked == 2 * (9 + 3 + 3) + 1 + 1 + 1 + 2 * 2 + 2
        assert statistics.last_error is None
        assert statistics.bytes > 100
        assert counts(tracker, None, "b", "c") == {None: 8, "b": 3, "c": 1}
        assert counts(tracker, None, "b", "c", kind="monthly") == {None: 8, "b": 2, "c": 1}


def test_everything_is_pushed_without_being_asked(server):
    tracker = server.tracker()
    with tracker.buffered(flush_interval=FAST) as writer:
        writer.track(id=1)
        limit = threading.Event()
        for _ in range(500):
            if writer.statistics.pushed == 1:
                break
            limit.wait(0.02)
        assert counts(tracker, None) == {None: 1}


def test_close_pushes_what_is_left(server, unhurried):
    tracker = server.tracker()
    writer = tracker.buffered(flush_interval=3600)
    for n in range(100):
        writer.track(id=n)
    statistics = writer.close()
    assert statistics == dataclasses.replace(statistics, tracked=100, pushed=100, pending=0)
    assert counts(tracker, None) == {None: 100}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("activity-tracker-hll")]
    assert writer.close() == statistics


def test_closing_the_tracker_closes_its_writers(real_server, unhurried):
    tracker = ActivityTracker(["daily"], **real_server.options, timezone="UTC", clock=lambda: NOON)
    writer = tracker.buffered(flush_interval=3600)
    writer.track(id=1)
    tracker.close()
    assert writer.statistics.pushed == 1
    with pytest.raises(WriterClosedError):
        writer.track(id=2)


def test_a_writer_that_was_closed_says_so(server):
    writer = server.tracker().buffered()
    writer.track(id=1)
    writer.close()
    for call in (
        lambda: writer.track(id=1),
        lambda: writer.track(id=1, bucket="new"),
        lambda: writer.track(id=1, date=TODAY),
        lambda: writer.track_many([1]),
    ):
        with raises(WriterClosedError, "closed"):
            call()


def test_threads_share_a_writer(real_server):
    tracker = real_server.tracker(["daily", "monthly"])
    with tracker.buffered(flush_interval=FAST) as writer:

        def work(number):
            for n in range(20_000):
                writer.track(id=f"{number}-{n}", bucket="b" if n % 2 else None)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statistics = writer.flush(30)
    assert statistics.tracked == statistics.pushed == 2 * 4 * 20_000
    plain = real_server.tracker(["daily", "monthly"], namespace="plain")
    plain.track_many([f"{number}-{n}" for number in range(4) for n in range(0, 20_000, 2)])
    assert counts(tracker, None) == counts(plain, None)


def test_threads_share_a_writer_across_the_ends_of_periods(real_server):
    """Queues are released while callers append to them, and bucket names come and go."""
    now = [NOON]
    tracker = real_server.tracker(["hourly"], clock=lambda: now[0])
    ended = threading.Event()
    tracked = []

    def track(number, writer):
        count = 0
        while not ended.is_set():
            writer.track(id=f"{number}-{count}", bucket=f"b{count % 7}")
            writer.track(
                id=f"{number}-{count}", bucket="in", old_id=f"{number}", old_bucket=f"out{count % 3}"
            )
            count += 1
            time.sleep(0.0005)
        tracked.append(3 * count)

    with tracker.buffered(flush_interval=0.05) as writer:
        threads = [threading.Thread(target=track, args=(number, writer)) for number in range(3)]
        for thread in threads:
            thread.start()
        for hour in range(1, 20):
            now[0] = NOON + hour * 3600 - 60
            time.sleep(0.02)
            now[0] += 61
            time.sleep(0.05)
        ended.set()
        for thread in threads:
            thread.join()
        statistics = writer.flush()
    assert statistics.tracked == statistics.pushed == sum(tracked)


def test_moves_of_one_id_keep_their_order(server):
    tracker = server.tracker()
    with tracker.buffered(flush_interval=FAST) as writer:
        for n in range(50):
            for _ in range(n % 3 + 1):
                writer.track(id=n, bucket="c", old_id=n, old_bucket="b")
                writer.track(id=n, bucket="b", old_id=n, old_bucket="c")
            if n % 2:
                writer.track(id=n, bucket="c", old_id=n, old_bucket="b")
    assert counts(tracker, "b", "c") == {"b": 25, "c": 25}


def test_what_is_no_id(server):
    errors = []
    tracker = server.tracker(["daily", "monthly"])
    with tracker.buffered(flush_interval=FAST, on_error=errors.append) as writer:
        for bad in (None, True, 1.5, "", b"", b"x" * 1025, 10**1024, [], object()):
            with pytest.raises((ArgumentTypeError, ArgumentValueError)):
                writer.track(id=bad)
        with raises(ArgumentValueError, "ids.1."):
            writer.track_many(["a", ""])
        writer.track(id="good")
        for bad in ("\ud800", "x" * 1025, "ä" * 513):  # found when they are encoded
            writer.track(id=bad)
        statistics = writer.flush(20)
    assert (statistics.tracked, statistics.pushed, statistics.dropped) == (8, 2, 6)
    assert any(isinstance(error, ArgumentValueError) for error in errors)
    assert counts(tracker, None) == {None: 1}


@pytest.mark.parametrize("bad", ["", None, 1.5, "x" * 1025, "ä" * 513, "\ud800", b"", True])
@pytest.mark.parametrize("form", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_of_many_ids_with_a_bad_one_none_is_taken(server, form, bad):
    with server.tracker().buffered(flush_interval=60) as writer:
        ids = [f"u{n}" for n in range(21_000)]
        for place in (0, 7, 20_999):
            with raises((ArgumentTypeError, ArgumentValueError), rf"ids\[{place}\]"):
                writer.track_many(form([*ids[:place], bad, *ids[place:]]))
        assert writer.statistics.tracked == 0
        writer.track_many(["a\nb", "a", "b\n", "ä"])
        writer.track_many(form(ids[:100]))
        assert writer.statistics.tracked == writer.flush(20).pushed == 104


LONG_LINES = "x" * 600 + "\n" + "x" * 600


@pytest.mark.parametrize("given", [{}, {"periods": ["daily"]}, {"date": TODAY}], ids=str)
def test_a_long_id_with_a_line_end_is_found_when_it_is_encoded_or_before_any_is_taken(server, given):
    errors = []
    with server.tracker(["daily"]).buffered(flush_interval=60, on_error=errors.append) as writer:
        if given:
            with raises(ArgumentValueError, r"ids\[1\]", "1201"):
                writer.track_many(["a", LONG_LINES, "b"], **given)
            assert writer.statistics.tracked == 0
            return
        writer.track_many(["a", LONG_LINES, "b"])
        statistics = writer.flush(20)
    assert (statistics.tracked, statistics.pushed, statistics.dropped) == (3, 2, 1)
    assert isinstance(errors[0], ArgumentValueError)


def test_many_ids_stay_the_callers(server):
    with server.tracker().buffered(flush_interval=FAST) as writer:
        ids = [f"u{n}" for n in range(300)]
        writer.track_many(ids)
        ids.clear()
        assert writer.flush(20).pushed == 300


@pytest.mark.parametrize(
    ("event", "error", "words"),
    [
        ({"bucket": 1}, ArgumentTypeError, ("bucket", "1")),
        ({"bucket": []}, ArgumentTypeError, ("bucket",)),
        ({"bucket": ""}, ArgumentValueError, ("bucket", "empty")),
        ({"bucket": "raw"}, ArgumentValueError, ("bucket", "raw")),
        ({"bucket": "total"}, ArgumentValueError, ("total", "aggregate_buckets")),
        ({"old_id": "x", "old_bucket": "{"}, ArgumentValueError, ("old_bucket",)),
        ({"periods": ["dayly"]}, ArgumentValueError, ("periods", "dayly")),
        ({"date": "today"}, ArgumentTypeError, ("date", "today")),
        ({"shard": 1}, ArgumentValueError, ("shard", "1")),
        ({"shard": "1"}, ArgumentTypeError, ("shard", "1")),
    ],
)
def test_bad_arguments_of_track(server, event, error, words):
    tracker = server.tracker(buckets=["a"], aggregate_buckets={"total": ["a"]})
    with tracker.buffered() as writer:
        with raises(error, *words):
            writer.track(**{"id": "x", **event})
        assert writer.statistics.tracked == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"flush_interval": 0}, ArgumentValueError, ("flush_interval", "0")),
        ({"flush_interval": "1"}, ArgumentTypeError, ("flush_interval", "1")),
        ({"close_timeout": -1}, ArgumentValueError, ("close_timeout", "-1")),
        ({"refresh_interval": None}, ArgumentTypeError, ("refresh_interval", "None")),
        ({"max_sketches": 0}, ArgumentValueError, ("max_sketches", "0")),
        ({"max_moves": 1.5}, ArgumentTypeError, ("max_moves", "1.5")),
        ({"on_error": "print"}, ArgumentTypeError, ("on_error", "print")),
    ],
)
def test_bad_options(server, options, error, words):
    with raises(error, *words):
        server.tracker().buffered(**options)


def test_a_bucket_that_is_no_sketch_does_not_hold_up_a_flush(server, unhurried):
    tracker = server.tracker()
    server.raise_on("b", TODAY)
    with tracker.buffered(flush_interval=3600) as writer:
        for n in range(10):
            writer.track(id=n, bucket="b")
            writer.track(id=n, bucket="c")
        assert writer.flush(300).pending == 10
        server.client.flushdb()
        assert writer.flush(300).pending == 0
    assert counts(tracker, "b", "c")["b"] == 10


def test_without_periods_each_event_names_its_own(server):
    tracker = server.tracker(None)
    with tracker.buffered(flush_interval=FAST) as writer:
        with raises(ArgumentValueError, "periods"):
            writer.track(id=1)
        writer.track(["daily"], id=1)
        writer.track_daily(id=2)
        assert writer.flush(20).pushed == 2
    assert counts(tracker, None) == {None: 2}


def test_shards(real_server):
    tracker = real_server.tracker(shards=[{}, {"db": 1}])
    with tracker.buffered(flush_interval=FAST) as writer:
        for n in range(10):
            writer.track(id=n)
        for n in range(7):
            writer.track(id=n, shard=1)
        writer.track_many([7, 8], shard=1)
        assert writer.flush(20).pushed == 19
    assert tracker.lookup(live=True)[-1][1] == {None: 10}
    assert tracker.lookup(live=True, shard=1)[-1][1] == {None: 9}
    tracker.backend.client(1).flushdb()


def test_a_server_that_is_not_there(caplog):
    errors = []
    tracker = ActivityTracker(["daily"], port=free_port(), retries=0)
    with caplog.at_level(logging.ERROR):
        writer = tracker.buffered(flush_interval=FAST, on_error=errors.append)
        for n in range(100):
            writer.track(id=n)
        statistics = writer.flush(1.5)
        assert (statistics.pending, statistics.pushed) == (100, 0)
        assert isinstance(statistics.last_error, BackendConnectionError)
        writer.close(0.1)
    assert len(errors) == 1  # not one with every attempt
    assert isinstance(errors[0], BackendConnectionError)
    assert "100 events" in caplog.text
    assert "lost" in caplog.text


def test_on_error_may_fail_and_may_flush(caplog):
    called = threading.Event()
    tracker = ActivityTracker(["daily"], port=free_port(), retries=0)

    def on_error(error):
        assert writer.flush(10).pending == 1  # does not wait for itself
        called.set()
        raise RuntimeError("my own")

    with caplog.at_level(logging.ERROR):
        writer = tracker.buffered(flush_interval=FAST, on_error=on_error)
        writer.track(id=1)
        assert called.wait(20)
        writer.close(0.1)
    assert "my own" in caplog.text


def test_data_of_other_settings_are_not_mixed_with(server):
    server.tracker(week_start=0).track(id=1)
    errors = []
    other = server.tracker(week_start=3)
    writer = other.buffered(flush_interval=FAST, on_error=errors.append)
    writer.track(id=2)
    assert writer.flush(0.5).pending == 1
    writer.close(0.1)
    assert isinstance(errors[0], SettingsMismatchError)
    assert counts(server.tracker(week_start=0), None) == {None: 1}


def test_too_many_buckets_are_reported(server):
    errors = []
    tracker = server.tracker(["daily", "monthly"])
    with tracker.buffered(flush_interval=FAST, max_sketches=4, on_error=errors.append) as writer:
        for n in range(10):
            writer.track(id=n, bucket=f"b{n}")
        statistics = writer.flush(20)
    assert (statistics.tracked, statistics.pushed, statistics.dropped) == (20, 4, 16)
    assert isinstance(errors[0], DroppedEventsError)


def test_signatures_are_those_of_the_tracker():
    for name in ("track", "track_many", "track_daily", "track_hourly", "track_yearly"):
        ours = inspect.signature(getattr(BufferedTracker, name))
        assert ours == inspect.signature(getattr(ActivityTracker, name)), name


def test_statistics_are_values():
    statistics = Statistics(1, 1, 0, 0, 0, 10, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.tracked = 2
    assert statistics == Statistics(1, 1, 0, 0, 0, 10, None)
