"""Fixtures: servers for the tests, which are fakeredis, Valkey (embedded) and Debian's Redis.

Tests that take `server` run on all three, those that take `real_server` on the two real ones, each
of which is started once a session on a socket of its own; on Redis they are `extended`, see on_redis().
A missing server skips at a desk and fails in CI.
"""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import fakeredis
import hypothesis
import pytest
import redis

from activity_tracker_hll.backends.embedded import EmbeddedServer
from activity_tracker_hll.writer import worker
from helpers.clusters import LEFT_OUT, Cluster, Options
from helpers.servers import Server, installed, program

# No example is timed: speed lives in benchmarks/. Examples are other ones each time, in CI too, so half as
# many as usual do; what fails is printed as a decorator that runs it again.
hypothesis.settings.register_profile(
    "tests", max_examples=50, deadline=None, derandomize=False, print_blob=True
)
hypothesis.settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One and a half for each core, as tests wait for servers and processes two fifths of their time."""
    del config
    return math.ceil(1.5 * (os.cpu_count() or 1))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster", choices=("valkey", "redis"), help="run what asks servers on a cluster of these instead"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kind = metafunc.config.getoption("cluster")
    servers = [f"{kind} cluster"] if kind else None
    chosen = {mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")}
    for fixture in SERVERS.keys() - chosen:
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, servers or SERVERS[fixture], indirect=True)


SERVERS = {"server": ("fakeredis", "valkey", "redis"), "real_server": ("valkey", "redis")}


def pytest_report_header() -> list[str]:
    shown = [f"fakeredis {fakeredis.__version__}" if hasattr(fakeredis, "__version__") else "fakeredis"]
    for name, label in (("valkey", "Valkey (embedded)"), ("redis", "Redis (Debian)")):
        executable = installed(name)
        if executable is None:
            shown.append(f"{label}: MISSING")
            continue
        words = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout
        shown.append(f"{label} {words.split('v=')[1].split()[0]}")
    return [f"servers: {', '.join(shown)}", f"redis-py {redis.__version__}"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(type(value) is str and value == "redis" for value in parameters):
            item.add_marker(on_redis(item))
        if item.config.getoption("cluster"):
            names = (item.originalname, item.path.name)  # type: ignore[attr-defined]
            for reason in filter(None, map(LEFT_OUT.get, names)):
                item.add_marker(pytest.mark.skip(reason))


def on_redis(item: pytest.Item) -> str:
    """When a test is run on Debian's Redis: what differs between it and Valkey is little, and known by name.

    By .ci/run; by hand, if it takes long on Valkey already; or as the marker `on_redis` says.
    """
    chosen = item.get_closest_marker("on_redis")
    if chosen is None:
        return "long" if item.get_closest_marker("extended") else "extended"
    return str(chosen.args[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured and do not judge, on machines that are noisy: a table for each test."""
    tables: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for report in terminalreporter.stats.get("passed", []):
        if report.user_properties:
            names, values = zip(*report.user_properties, strict=True)
            test, _, parameters = report.nodeid.rpartition("::")[2].partition("[")
            tables.setdefault((test, *names), []).append((parameters.rstrip("]"), *map(str, values)))
    if tables:
        terminalreporter.section("measured")
    for heading, rows in tables.items():
        widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
        for first, *others in (heading, *rows):
            cells = [first.ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            terminalreporter.write_line("  ".join(cells))


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[[str], EmbeddedServer]]:
    """Starts each real server once, on a temporary directory with a Unix socket."""
    servers: dict[str, EmbeddedServer] = {}

    def start(name: str) -> EmbeddedServer:
        if name not in servers:
            config = {"enable-debug-command": "yes"}
            servers[name] = EmbeddedServer(executable=program(name), config=config)
            servers[name].open()
        return servers[name]

    yield start
    for server in servers.values():
        server.close()


@pytest.fixture(scope="session")
def started_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cluster]]:
    """Starts a cluster of each kind once."""
    clusters: dict[str, Cluster] = {}

    def start(name: str) -> Cluster:
        if name not in clusters:
            clusters[name] = Cluster(program(name), tmp_path_factory.mktemp("cluster"))
            clusters[name].start()
        return clusters[name]

    yield start
    for cluster in clusters.values():
        cluster.close()


def _connect(request: pytest.FixtureRequest) -> Iterator[Server]:
    name = request.param
    if name.endswith("cluster"):
        cluster = request.getfixturevalue("started_cluster")(name.removesuffix(" cluster"))
        cluster.flush()
        client = cluster.client()
        server = Server(name, client, Options(url=cluster.url))
    elif name == "fakeredis":
        client = fakeredis.FakeRedis()
        server = Server(name, client, {"client": client})
    else:
        socket = str(request.getfixturevalue("started")(name).socket)
        client = redis.Redis(unix_socket_path=socket, socket_timeout=30)
        client.flushall()
        server = Server(name, client, {"unix_socket_path": socket})
    yield server
    for tracker in server.trackers:
        tracker.close()
    client.close()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from _connect(request)


@pytest.fixture
def real_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from _connect(request)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers push when their interval is over and when they are asked to, not as soon as it is cheap."""
    monkeypatch.setattr(worker, "_SHORTEST_INTERVAL_S", float("inf"))


@pytest.fixture
def move_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Changes the local time of this process, until the test ends."""

    def move_to(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move_to
    monkeypatch.undo()
    time.tzset()
