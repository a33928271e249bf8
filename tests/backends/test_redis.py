"""Options and clients of the redis backend."""

import subprocess
import threading
import time
from datetime import date, timedelta

import pytest
import redis
import redis.asyncio.retry
from redis.sentinel import Sentinel

from activity_tracker_hll import (
    ActivityTracker,
    ActivityTrackerError,
    BackendDataError,
    BackendResponseError,
)
from activity_tracker_hll.backends import BaseBackend
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.embedded import EmbeddedServer
from activity_tracker_hll.backends.redis import RedisBackend
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.planner import Planner
from helpers.errors import raises
from helpers.moments import NOON
from helpers.servers import free_port, program

NEXT = date.today() + timedelta(days=1)


@pytest.fixture(scope="module")
def tcp():
    server = EmbeddedServer(port=free_port())
    server.open()
    yield server
    server.close()


def works(tracker, expected=2):
    tracker.track(id=1)
    tracker.track(id=2, bucket="b", old_id=1)
    tracker.track(id=3)
    tracker.track(id=2)
    assert tracker.lookup("daily", buckets=[None, "b"], live=True)[-1][1] == {None: expected, "b": 1}


@pytest.mark.parametrize(
    "options",
    [
        lambda port: {"host": "127.0.0.1", "port": port, "db": 1},
        lambda port: {"url": f"redis://127.0.0.1:{port}/2"},
        lambda port: {"url": f"redis://127.0.0.1:{port}/3?protocol=3"},
        lambda port: {"port": port, "db": 4, "decode_responses": True},
        lambda port: {"port": port, "db": 5, "socket_timeout": None, "retries": 0},
        lambda port: {"port": port, "db": 6, "client_name": "tracker", "health_check_interval": 1},
        lambda port: {"client": redis.Redis(port=port, db=7)},
        lambda port: {"client": redis.Redis(port=port, db=8, decode_responses=True, protocol=3)},
        lambda port: {"client": redis.Redis(port=port, db=9, single_connection_client=True)},
        lambda port: {"redis_client": redis.Redis, "port": port, "db": 10},
    ],
    ids=[
        "host",
        "url",
        "url, resp3",
        "decoding",
        "no limits",
        "others",
        "client",
        "resp3",
        "single",
        "factory",
    ],
)
def test_ways_to_name_a_server(tcp, options):
    with ActivityTracker(["daily"], **options(tcp.port)) as tracker:
        works(tracker)
        client = tracker.backend.client()
        tracker.collapse(["daily"], date=NEXT, buckets=[None, "b"], aggregate_buckets={"t": [None, "b"]})
        assert tracker.lookup(end=NEXT, buckets=[None, "b", "t"])[-1][1] == {None: 2, "b": 1, "t": 2}
        assert len(tracker.inventory()) == 3
    client.close()


def test_a_client_of_valkey_py(tcp):
    valkey = pytest.importorskip("valkey")
    client = valkey.Valkey(port=tcp.port, db=11)
    with ActivityTracker(["daily"], client=client) as tracker:
        works(tracker)
        client.script_flush()
        tracker.track(id=9, old_id=3)
        client.set("{active:daily-20200101}:hll", "x")
        with pytest.raises(BackendDataError):
            tracker.track(id=1, date=date(2020, 1, 1))
    client.close()
    closed = valkey.Valkey(port=free_port(), socket_timeout=1)
    with ActivityTracker(["daily"], client=closed) as tracker, pytest.raises(ActivityTrackerError):
        tracker.track(id=1)


def test_shards_are_data_sets_of_their_own(tcp):
    shards = [
        {},
        {"db": 13},
        {"url": f"redis://127.0.0.1:{tcp.port}/14"},
        {"client": redis.Redis(port=tcp.port, db=15)},
    ]
    with ActivityTracker(["daily"], port=tcp.port, db=12, shards=shards) as tracker:
        for shard in range(4):
            tracker.track_many(range(shard + 1), shard=shard)
            tracker.import_events([(n, "x", NEXT) for n in range(shard + 2)], shard=shard)
        for shard in range(4):
            assert tracker.lookup(live=True, shard=shard)[-1][1] == {None: shard + 1}
            done = tracker.collapse(date=NEXT + timedelta(days=1), buckets=["x"], shard=shard)
            assert [c.count for c in done] == [shard + 2]
            assert len(tracker.inventory(shard=shard)) == 2
        clients = {id(tracker.backend.client(shard)) for shard in range(4)}
        assert len(clients) == 4
        tracker.backend.client(3).close()


def test_our_client_has_time_limits_and_retries():
    backend = RedisBackend()
    options = backend.client().connection_pool.connection_kwargs
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 5
    assert attempts(options["retry"]) == 4
    own = RedisBackend(socket_timeout=1.5, retries=0).client().connection_pool.connection_kwargs
    assert own["socket_timeout"] == own["socket_connect_timeout"] == 1.5
    assert attempts(own["retry"]) == 1


def attempts(retry):
    """How often something is tried that always fails."""
    failures = []

    def fail():
        raise redis.ConnectionError

    with pytest.raises(redis.ConnectionError):
        retry.call_with_retry(fail, failures.append)
    return len(failures)


# By kind, in days.
KEPT = {"hourly": 8, "daily": 62, "weekly": 182, "monthly": 403, "quarterly": 460, "yearly": 732}


@pytest.mark.parametrize("cls", [RedisBackend, AsyncRedisBackend])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, KEPT),
        ({"keep_sketches": {}}, KEPT),
        ({"keep_sketches": timedelta(days=400)}, dict.fromkeys(KEPT, 400)),
        ({"keep_sketches": timedelta(0)}, dict.fromkeys(KEPT, 0)),
        ({"keep_sketches": None}, dict.fromkeys(KEPT)),
        (
            {"keep_sketches": {"daily": timedelta(days=9), "yearly": None}},
            {**KEPT, "daily": 9, "yearly": None},
        ),
    ],
)
def test_how_long_sketches_are_kept_by_kind_of_period(cls, options, expected):
    backend = cls(**options)
    context = Planner(backend, Calendar(), None, None, {}, time.time).data_set(0).context
    for kind, days in expected.items():
        assert context.keep(kind) == (None if days is None else timedelta(days=days))
    if cls is RedisBackend:
        assert backend.for_writer(1.0).keep_given == backend.keep_given
        shared = RedisBackend(client=redis.Redis(), **options).for_writer(1.0)
        assert shared.keep_given == backend.keep_given


def test_settings_that_are_changed_afterwards_change_nothing():
    keep = {"daily": timedelta(days=9)}
    backend = RedisBackend(keep_sketches=keep)
    keep["daily"] = None
    assert backend.keep_given == backend.for_writer(1.0).keep_given == {"daily": timedelta(days=9)}


def test_a_backend_instance_and_a_class_by_name(tcp):
    backend = RedisBackend(port=tcp.port, db=3, namespace="own")
    tracker = ActivityTracker(["daily"], backend=backend)
    assert tracker.backend is backend
    tracker.track(id=1)
    tracker.close()
    name = f"{RedisBackend.__module__}.RedisBackend"
    with ActivityTracker(["daily"], backend=name, port=tcp.port, db=3, namespace="own") as tracker:
        assert isinstance(tracker.backend, RedisBackend)
        assert tracker.lookup(live=True)[-1][1] == {None: 1}


def test_the_contract_is_enough_for_a_backend_of_ones_own(server):
    class Counting(BaseBackend):
        def __init__(self, inner, **settings):
            super().__init__(**settings)
            self.inner, self.batches = inner, 0

        def execute(self, commands, shard=0):
            self.batches += 1
            return self.inner.execute(commands, shard)

        def close(self):
            self.inner.close()

    backend = Counting(RedisBackend(**server.options), namespace="mine")
    with ActivityTracker(["daily"], backend=backend, clock=lambda: NOON, timezone="UTC") as tracker:
        works(tracker)
    assert backend.batches > 4
    with pytest.raises(TypeError, match="abstract"):
        BaseBackend()


def test_threads_share_a_tracker(real_server):
    tracker = real_server.tracker(["daily", "monthly"])

    def work(number):
        for n in range(200):
            tracker.track(id=number * 1000 + n)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = tracker.lookup("daily", live=True)[-1][1][None]
    assert abs(count - 800) < 4 * count.stderr


def test_a_batch_larger_than_what_is_in_flight(server):
    tracker = server.tracker()
    replies = tracker.backend.execute(
        [("SET", f"k{n}", n) for n in range(2000)] + [("LPUSH", "k1", 1), ("GET", "k1999")]
    )
    assert all(reply in (b"OK", True) for reply in replies[:2000])
    assert isinstance(replies[2000], BackendResponseError)
    assert replies[2001] == b"1999"


def test_sentinel_finds_the_master(tmp_path):
    server = program("redis")
    master = EmbeddedServer(executable=server, port=free_port())
    master.open()
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master.port} 1\ndir {tmp_path}\n"
    )
    process = subprocess.Popen([server, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(
            port=port,
            retry=redis.retry.Retry(
                redis.backoff.ConstantBackoff(0.05), 200, (OSError, redis.ConnectionError)
            ),
        ) as probe:
            probe.ping()
        sentinel = Sentinel([("127.0.0.1", port)], socket_timeout=5)
        client = sentinel.master_for("main", socket_timeout=5)
        with ActivityTracker(["daily"], client=client) as tracker:
            works(tracker)
        client.close()
        for node in sentinel.sentinels:
            node.close()
    finally:
        process.kill()
        process.wait()
        master.close()


def test_what_is_no_client_is_refused_clearly():
    class RedisCluster:
        pass

    with raises(TypeError, "standalone, Sentinel's or a cluster's"):
        ActivityTracker(["daily"], client=RedisCluster())


def test_a_server_that_comes_up_while_it_is_tried_again(monkeypatch):
    """A refused connection is one of the failures that are tried again."""
    port = free_port()
    server, pauses = EmbeddedServer(port=port), []

    def start_instead_of_sleeping(seconds):
        monkeypatch.undo()
        pauses.append(seconds)
        server.open()

    with ActivityTracker(["daily"], port=port, retries=1) as tracker:
        monkeypatch.setattr("redis.retry.sleep", start_instead_of_sleeping)
        tracker.track(id=1)
        assert len(pauses) == 1
        assert tracker.lookup(live=True)[-1][1] == {None: 1}
    server.close()
