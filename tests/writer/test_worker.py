"""The threads of a writer: when they wake, what they wait for, and what they leave."""

import logging
import sys
import threading
import time
from datetime import UTC, datetime

import pytest

from activity_tracker_hll.writer.threads import Bell
from helpers.moments import NOON, TODAY, day
from helpers.servers import eventually


def the_writers_threads():
    return sorted(one.name for one in threading.enumerate() if one.name.startswith("activity-tracker-hll"))


BOTH = ["activity-tracker-hll drain", "activity-tracker-hll push"]


def test_an_idle_writer_sleeps_while_an_hour_comes_twice(server):
    """Antarctica/Troll sets its clocks back by two hours, at 3 o'clock."""
    twice = datetime(2025, 10, 26, 1, 30, tzinfo=UTC).timestamp()  # the second time 1:30 there
    begin = time.monotonic()
    asked = []

    def clock():
        asked.append(1)
        return twice + time.monotonic() - begin

    tracker = server.tracker(["hourly"], timezone="Antarctica/Troll", clock=clock)
    with tracker.buffered() as writer:
        writer.track(id=1)
        writer.flush()
        asked.clear()
        time.sleep(1)
        assert len(asked) < 100  # a drainer that wakes each millisecond asks a thousand times


def test_closed_writers_leave_no_connection(real_server):
    tracker = real_server.tracker()
    tracker.track(id=1)
    before = len(real_server.client.client_list())
    for _ in range(5):
        with tracker.buffered() as writer:
            writer.track(id=2)
    eventually(lambda: len(real_server.client.client_list()) <= before)


def test_a_bucket_named_like_an_error_is_waited_for(real_server):
    """Messages name buckets: words in them do not tell what passes from what stays."""
    client = real_server.client
    try:
        with real_server.tracker().buffered(flush_interval=0.05) as writer:
            writer.track(id=1, bucket="b")
            assert writer.flush().pushed == 1
            client.config_set("maxmemory", 1)
            writer.track(id=1, bucket="corrupt")
            eventually(lambda: writer.statistics.last_error is not None)
            threading.Timer(0.5, client.config_set, ("maxmemory", 0)).start()
            assert writer.flush().pending == 0
    finally:
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("name", BOTH)
def test_an_exception_amid_the_start_leaves_no_second_thread(real_server, monkeypatch, name):
    """As of Ctrl-C: it comes when there is a thread, and nobody has noted so."""
    start, interrupted = threading.Thread.start, []

    def interrupt(thread):
        start(thread)
        if thread.name == name and not interrupted:
            interrupted.append(thread)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupt)
    writer = real_server.tracker().buffered()
    with pytest.raises(KeyboardInterrupt):
        writer.track(id="interrupted")
    for n in range(10):
        writer.track(id=n)
    eventually(lambda: the_writers_threads() == BOTH)
    assert interrupted[0].is_alive()
    assert writer.close().pushed == 10
    assert the_writers_threads() == []


def test_threads_that_the_system_refuses_are_started_later(real_server, monkeypatch):
    """By the next event, also of a bucket that had some; until then, too, each counts in its own day."""
    now, errors = [NOON], []
    writer = real_server.tracker(["daily"], clock=lambda: now[0]).buffered(on_error=errors.append)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        writer.track(id=1)
        writer.track(id=2)
        now[0] += 86400
        writer.track(id=3)
        statistics = writer.flush(0.05)
        assert (statistics.pending, str(statistics.last_error)) == (3, "can't start new thread")
    writer.track(id=4)
    writer.track_many(ids=[5, 6])
    eventually(lambda: writer.statistics.pushed == 6)
    assert the_writers_threads() == BOTH
    assert writer.close().last_error is None
    keys = real_server.tracker().backend.keys.bucket
    names = [f"daily-{date:%Y%m%d}" for date in (TODAY, day(-1))]
    assert [real_server.client.pfcount(keys(name, None).hll) for name in names] == [2, 4]


@pytest.mark.parametrize("whose", ["on_error", "a handler of logging"])
def test_what_is_told_of_an_error_cannot_end_a_thread(real_server, caplog, whose):
    told = threading.Event()

    def leave(*_):
        told.set()
        raise SystemExit

    class Leaving(logging.Handler):
        emit = leave

    logger, handler = logging.getLogger("activity_tracker_hll"), Leaving()
    if whose != "on_error":
        logger.addHandler(handler)
    try:
        tracker = real_server.tracker(["daily"])
        key = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", None).hll
        real_server.client.set(key, "no sketch")
        with tracker.buffered(on_error=leave if whose == "on_error" else None) as writer:
            writer.track(id=1)
            assert told.wait(20)
            real_server.client.delete(key)
            assert writer.flush().pushed == 1
    finally:
        logger.removeHandler(handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_lost_is_started_anew(real_server, monkeypatch):
    def lose(bell, seconds):
        if threading.current_thread().name in BOTH:
            sys.exit()
        return wait(bell, seconds)

    wait = Bell.wait
    with real_server.tracker().buffered() as writer:
        writer.track(id=1)
        with monkeypatch.context() as losing:
            losing.setattr(Bell, "wait", lose)
            eventually(lambda: the_writers_threads() == [])
        writer.track(id=2)
        assert writer.flush().pushed == 2
        assert the_writers_threads() == BOTH
