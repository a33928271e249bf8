"""Faults that were found in the field, each as those saw it who ran into it."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from activity_tracker_hll import ActivityTracker, CollapseError
from activity_tracker_hll.periods import Calendar
from helpers.errors import raises
from helpers.faults import DROP, FORWARD, Proxy
from helpers.moments import NOON, TODAY, YESTERDAY

PATIENCE_S = 20


def live(tracker, *buckets):
    """Counts of the running day."""
    row = tracker.lookup("daily", live=True, buckets=buckets)[-1][1]
    return row[buckets[0]] if len(buckets) == 1 else [row[bucket] for bucket in buckets]


def wait_until(true):
    """Wait for something that threads do."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def moved_and_seen_again(server, writer):
    """20 ids tracked, 10 of them moved by the writer, these seen again by somebody else."""
    other = server.tracker()
    for n in range(20):
        other.track(id=n, bucket="b")
    for n in range(10):
        writer.track(old_id=n, old_bucket="b")
    assert writer.flush().pending == 0
    assert live(other, "b") == 10
    for n in range(10):
        other.track(id=n, bucket="b")
    assert live(other, "b") == 20
    return other


def test_a_writer_does_not_undo_what_others_did_to_ids_it_moved(real_server):
    with real_server.tracker().buffered() as writer:
        other = moved_and_seen_again(real_server, writer)
        writer.track(id="one more", bucket="b")
        assert writer.flush().pending == 0
        assert live(other, "b") == 21


def test_nor_does_a_refresh(real_server):
    with real_server.tracker().buffered(flush_interval=0.05, refresh_interval=0.1) as writer:
        other = moved_and_seen_again(real_server, writer)
        before = writer.statistics.bytes
        wait_until(lambda: writer.statistics.bytes > before + 2000)  # several times all that it has
        assert live(other, "b") == 20


def test_nor_does_an_error_in_a_push(real_server, tmp_path):
    fails = threading.Event()

    def decide(_number, command):
        return DROP if fails.is_set() and command[0] in {b"EVALSHA", b"EVAL"} else FORWARD

    with Proxy(tmp_path / "p", real_server.options["unix_socket_path"], decide) as proxy:
        tracker = ActivityTracker(["daily"], unix_socket_path=proxy.path, timezone="UTC", clock=lambda: NOON)
        with tracker, tracker.buffered(flush_interval=0.05) as writer:
            other = moved_and_seen_again(real_server, writer)
            fails.set()
            writer.track(id="one more", bucket="b")
            wait_until(lambda: writer.statistics.last_error is not None)
            fails.clear()
            assert writer.flush().pending == 0
            assert live(other, "b") == 21


def run(script, *arguments):
    """A script in a process of its own, which must not hang."""
    source = textwrap.dedent(script)
    command = [sys.executable, "-W", "ignore", "-c", source, *arguments]
    done = subprocess.run(
        command, timeout=60, check=False, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


REAP = """
    import concurrent.futures.thread, logging  # they take locks at a fork, too: after those of writers
    import os, sys, threading, time
    from activity_tracker_hll import ActivityTracker

    def reap(child):
        deadline = time.monotonic() + 15
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, 9)
                print("a child hangs", file=sys.stderr)
                os._exit(1)
            time.sleep(0.005)
"""


def test_threads_that_fork_at_once_while_there_are_writers(real_server):
    script = (
        REAP
        + """
    tracker = ActivityTracker(["daily"], unix_socket_path=sys.argv[1])
    writers = [tracker.buffered(), tracker.buffered()]
    for writer in writers:
        writer.track(id="before")

    class Lock:
        # What is done with it is followed by a turn of the other threads, as may always happen.
        def __init__(self, lock):
            self.lock = lock

        def acquire(self):
            self.lock.acquire()
            time.sleep(0.001)

        def release(self):
            self.lock.release()
            time.sleep(0.001)

    def locks(of_writer):
        return lambda: [Lock(lock) for lock in of_writer()]

    for writer in writers:
        writer.locks = locks(writer.locks)
    together = threading.Barrier(4)

    def fork():
        for _ in range(10):
            together.wait()
            child = os.fork()
            if not child:
                for writer in writers:
                    writer.track(id="child")
                os._exit(0)
            reap(child)

    threads = [threading.Thread(target=fork, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        if thread.is_alive():
            print("a thread hangs", file=sys.stderr)
            os._exit(1)
    print(sum(writer.close().pushed for writer in writers))
    """
    )
    assert run(script, real_server.options["unix_socket_path"]).strip() == "2"


def test_a_child_of_a_process_whose_threads_track(real_server):
    script = (
        REAP
        + """
    tracker = ActivityTracker(["daily"], unix_socket_path=sys.argv[1])
    tracker.track(id="first")
    ended = threading.Event()

    def track():
        while not ended.is_set():
            tracker.track(id="parent")

    threads = [threading.Thread(target=track) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(60):
        child = os.fork()
        if not child:
            tracker.track(id=f"child {n}")
            os._exit(0)
        reap(child)
    ended.set()
    for thread in threads:
        thread.join()
    """
    )
    run(script, real_server.options["unix_socket_path"])
    [key] = [name for name in real_server.names() if name.endswith(":hll")]
    assert abs(real_server.client.pfcount(key) - 62) <= 1


def test_events_of_many_threads_across_the_ends_of_periods(real_server):
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


def test_a_refresh_is_not_timed_by_a_clock_that_can_be_set(real_server):
    now = [NOON]
    tracker = real_server.tracker(clock=lambda: now[0])
    with tracker.buffered(flush_interval=0.05, refresh_interval=0.3) as writer:
        writer.track(id=1, bucket="b")
        assert writer.flush().pushed == 1
        now[0] -= 3600
        real_server.client.delete(f"{{active:daily-{TODAY:%Y%m%d}:b}}:hll")
        wait_until(lambda: live(tracker, "b") == 1)


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


def test_hours_that_come_twice_are_told_apart_from_those_that_do_not():
    calendar = Calendar("Antarctica/Troll")
    begin = datetime(2025, 10, 25, 22, tzinfo=UTC).timestamp()
    for quarter in range(4 * 10):
        now = begin + quarter * 900
        for moment in (now, now + 450, now + 899.9):
            running = calendar.running("hourly", moment)
            assert running.period == calendar.containing("hourly", calendar.local(moment))
            assert moment < running.sure_until <= running.ends
            last = calendar.containing("hourly", calendar.local(running.sure_until - 0.001))
            assert last == running.period


def test_closed_writers_leave_no_connection(real_server):
    tracker = real_server.tracker()
    tracker.track(id=1)
    before = len(real_server.client.client_list())
    for _ in range(5):
        with tracker.buffered() as writer:
            writer.track(id=2)
    wait_until(lambda: len(real_server.client.client_list()) <= before)


def test_a_bucket_named_like_an_error_is_waited_for(real_server):
    """What passes was told from what stays by words in messages, in which buckets are named."""
    client = real_server.client
    try:
        with real_server.tracker().buffered(flush_interval=0.05) as writer:
            writer.track(id=1, bucket="b")
            assert writer.flush().pushed == 1
            client.config_set("maxmemory", 1)
            writer.track(id=1, bucket="corrupt")
            wait_until(lambda: writer.statistics.last_error is not None)
            threading.Timer(0.5, client.config_set, ("maxmemory", 0)).start()
            assert writer.flush().pending == 0
    finally:
        client.config_set("maxmemory", 0)


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


def test_an_aggregate_of_many_sources_with_full_tables(real_server):
    """It took one script that held the server, for 11 s where there were 60 sources of 100,000."""
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


def test_data_of_the_older_layout_are_refused_with_a_sentence(server):
    server.client.hset("active:{meta}", mapping={"layout": "1", "week_start": "0"})
    tracker = server.tracker()
    for call in (lambda: tracker.track(id=1), tracker.lookup, tracker.collapse):
        with raises(Exception, "older version", "delete active:{meta}"):
            call()


def test_a_lost_mark_comes_back(server):
    tracker = server.tracker(buckets=[None])
    tracker.track(id=1, date=YESTERDAY)
    marked = server.client.smembers("active:{open}")
    assert marked == {f"daily-{YESTERDAY:%Y%m%d}".encode()}
    tracker.collapse()
    assert server.client.smembers("active:{open}") == set()
    assert tracker.collapse(date=TODAY + timedelta(days=3)) == []
