"""Services in processes of their own, with warnings as errors, and what the server holds of theirs."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from activity_tracker_hll import bulk
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty, fold
from helpers.moments import AHEAD, TODAY

# Forks with threads are what is tested here; newer Pythons warn of them.
STRICT = ("-W", "error", "-W", "ignore:This process:DeprecationWarning", "-X", "faulthandler")

START = f"""
import os, signal, sys, threading, time
from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.writer import worker

SOCKET = sys.argv[1]
tracker = ActivityTracker(
    ["daily"], unix_socket_path=SOCKET, timezone="UTC", clock=lambda: time.time() + {AHEAD!r}
)

def unhurried_writer():
    # It pushes when it is asked to, not as soon as it is cheap.
    worker._SHORTEST_INTERVAL_S = float("inf")
    return tracker.buffered(flush_interval=3600)

def the_writers_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("activity-tracker-hll")]

def wait_until_pushed(events):
    until = time.monotonic() + 60
    while writer.statistics.pushed < events and time.monotonic() < until:
        time.sleep(0.002)
    assert writer.statistics.pushed >= events, writer.statistics
"""


def service(body, address, *arguments, setup=""):
    """Start a script: the writer is made by it."""
    script = textwrap.dedent(setup) + START + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, *STRICT, "-c", script, str(address), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process, code=0, timeout=120):
    """What it printed, once it has ended."""
    try:
        out, problems = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler tells where each thread stands
        out, problems = process.communicate()
        pytest.fail(f"does not end: {problems}")
    assert process.returncode == code, problems
    return out, problems


def run(body, server, *arguments, **options):
    out, problems = finished(service(body, server.options["unix_socket_path"], *arguments, **options))
    assert problems == ""
    return out


def registers(ids):
    """As bytes: pytest takes minutes to compare lists that differ."""
    expected = empty()
    fold(expected, bulk.hashes_of_bytes([id.encode() for id in ids]))
    return expected.tobytes()


def held(client, bucket=""):
    blob = client.get(f"{{active:daily-{TODAY:%Y%m%d}{bucket}}}:hll")
    return (codec.decode(blob) if blob else empty()).tobytes()


def counts(server, *buckets):
    tracker = server.tracker(clock=lambda: time.time() + AHEAD)
    return {
        bucket: int(n) for bucket, n in tracker.lookup(live=True, start=TODAY, buckets=buckets)[-1][1].items()
    }
