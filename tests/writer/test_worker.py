"""The threads of a writer: when they wake, what they wait for, and what they leave."""

import threading
import time
from datetime import UTC, datetime

from helpers.servers import eventually


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
