"""A real cluster next to a single server: the same events leave the same keys, and get the same answers."""

import asyncio
import random
import re
from contextlib import closing
from datetime import datetime, timedelta

import pytest
import redis
import redis.asyncio
from redis.crc import key_slot

from activity_tracker_hll import ActivityTracker, ActivityTrackerError, ArgumentValueError, Selection
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.redis import RedisBackend
from activity_tracker_hll.errors import BackendConnectionError, CollapseError
from activity_tracker_hll.hll import codec
from helpers.awaited import Awaited
from helpers.clusters import Cluster
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.servers import free_port, program

BUCKETS = [f"b{index}" for index in range(200)]
AGGREGATES = {f"all{index}": BUCKETS[20 * index : 20 * index + 20] for index in range(10)}
SETTINGS = {
    "buckets": BUCKETS,
    "aggregate_buckets": AGGREGATES,
    "timezone": "UTC",
    "clock": lambda: NOON,
}
CLIENTS = ("url", "redis-py", "valkey-py", "redis-py, asyncio", "valkey-py, asyncio")


@pytest.fixture(scope="module", params=["valkey", "redis"])
def cluster(request, started_cluster):
    return started_cluster(request.param)


def events():
    """Of four days, with moves: each with a moment of its own, so that stamps do not depend on clocks."""
    dice = random.Random(5)
    first = datetime.combine(day(3), datetime.min.time())
    for number in range(1500):
        when = first + timedelta(days=number % 3, seconds=number)
        event = {"id": f"u{dice.randrange(500)}", "bucket": dice.choice(BUCKETS), "date": when}
        if dice.random() < 0.1 and event["bucket"] > "b5":
            event |= {"old_id": f"u{dice.randrange(500)}", "old_bucket": dice.choice(BUCKETS[100:])}
        yield event


def answers(tracker):
    """What calls return, and what they raise."""
    with pytest.raises(CollapseError) as caught:
        tracker.collapse(["daily"], buckets=[*BUCKETS, "broken"])
    span = {"start": day(3), "end": TODAY}
    selections = [Selection(["b1", "b2"], **span), Selection("b150", **span)]
    calls = [
        lambda: sorted(caught.value.failures, key=str),
        lambda: tracker.lookup("daily", start=day(3)),
        lambda: tracker.lookup("daily", start=day(3), buckets=[*AGGREGATES], live=True),
        lambda: tracker.lookup("daily", start=day(3), buckets=["broken"], live=True),
        lambda: tracker.unique(day(3), TODAY, period="daily").to_dicts(),
        lambda: tracker.unique(day(3), TODAY, period="daily", buckets=[*AGGREGATES]).to_dicts(),
        lambda: tracker.rolling(2, **span).to_dicts(),
        lambda: tracker.stickiness(2, buckets=["b1", "b150", "all1"], **span).to_dicts(),
        lambda: repr(tracker.overlap(*selections)),
        lambda: tracker.retention("daily", bucket="all0", **span).to_dicts(),
        lambda: tracker.lifecycle("daily", bucket="b160", **span).to_dicts(),
        lambda: tracker.sketch("daily", day(2), "b150").remainder(),
        lambda: [(entry.period.name, entry.bucket, sorted(entry.parts)) for entry in tracker.inventory()],
        lambda: repr(tracker.settings),
    ]
    found = []
    for call in calls:
        try:
            found.append(re.sub(r"[^' ]+: WRONGTYPE", "WRONGTYPE", str(call())))
        except ActivityTrackerError as error:
            found.append(re.sub("[^' ]+: WRONGTYPE", "WRONGTYPE", f"{type(error).__name__}: {error}"))
    return found


def keys_of(client, namespace):
    """All keys of a namespace, and what they hold: of sketches the registers; without temporary ones."""
    held = {}
    for key in client.scan_iter(match=f"*{namespace}:*", count=10_000):
        if b":tmp:" in key:
            continue
        kind = client.type(key)
        if kind == b"string":
            value = client.get(key)
            held[key] = codec.decode(value).tobytes() if value.startswith(b"HYLL") else value
        elif kind == b"zset":
            held[key] = client.zrange(key, 0, -1, withscores=True)
        elif kind == b"set":
            held[key] = client.smembers(key)
        elif kind == b"hash":
            held[key] = client.hgetall(key)
        else:
            held[key] = kind
    return held


def track(tracker):
    for event in events():
        tracker.track(["daily"], **event)
    tracker.track_many(range(2000), ["daily"], bucket="b7", date=YESTERDAY)
    tracker.import_events([(number, BUCKETS[number % 200], YESTERDAY) for number in range(4000)], ["daily"])


def break_a_sketch(client):
    key = f"{{one:daily-{YESTERDAY:%Y%m%d}:broken}}:hll"
    client.rpush(key, "no sketch")


@pytest.fixture(scope="module")
def of_one_server(started):
    with ActivityTracker(
        ["daily"], unix_socket_path=str(started("valkey").socket), namespace="one", **SETTINGS
    ) as tracker:
        client = tracker.backend.client()
        client.flushall()
        track(tracker)
        break_a_sketch(client)
        return answers(tracker), keys_of(client, "one")


def library(name):
    if name.startswith("redis-py"):
        return redis, redis.RedisCluster, redis.asyncio.RedisCluster
    valkey = pytest.importorskip("valkey")
    return valkey, valkey.ValkeyCluster, pytest.importorskip("valkey.asyncio").ValkeyCluster


@pytest.mark.parametrize(
    ("cluster", "client"),
    [
        *(pytest.param("valkey", client, marks=pytest.mark.extended) for client in CLIENTS[:1]),
        ("redis", CLIENTS[2]),
        *(
            pytest.param("valkey", client, marks=pytest.mark.long)
            for client in CLIENTS
            if client != CLIENTS[0]
        ),
        *(
            pytest.param("redis", client, marks=pytest.mark.long)
            for client in CLIENTS
            if client != CLIENTS[2]
        ),
    ],
    indirect=["cluster"],
)
def test_as_one_server(cluster, of_one_server, client):
    cluster.flush()
    host = {"host": "127.0.0.1", "port": cluster.masters[0].port}
    with asyncio.Runner() as runner:
        if "asyncio" in client:

            async def made():
                own = library(client)[2](**host)
                return own, AsyncActivityTracker(["daily"], client=own, namespace="one", **SETTINGS)

            own, awaited = runner.run(made())
            tracker = Awaited(runner, awaited)
        else:
            own = None if client == "url" else library(client)[1](**host)
            where = {"url": cluster.url} if own is None else {"client": own}
            tracker = ActivityTracker(["daily"], namespace="one", **where, **SETTINGS)
        track(tracker)
        look = cluster.client()
        break_a_sketch(look)
        found = answers(tracker)
        wanted, keys = of_one_server
        assert found == wanted
        assert keys_of(look, "one") == keys
        tracker.close()
        if own is not None:
            runner.run(own.aclose()) if "asyncio" in client else own.close()


def test_a_writer(cluster):
    cluster.flush()
    with (
        ActivityTracker(["daily"], url=cluster.url, timezone="UTC", clock=lambda: NOON) as tracker,
        tracker.buffered() as writer,
    ):
        for number in range(2000):
            writer.track(id=number, bucket=BUCKETS[number % 50])
        assert writer.flush(10).pending == 0
        rows = tracker.lookup(live=True, start=TODAY, buckets=BUCKETS[:50])
        assert sum(rows[0][1].values()) == pytest.approx(2000, rel=0.01)


def test_keys_are_spread_evenly(cluster):
    """At most a twentieth above the mean, of 10,000 buckets: slots are hashes, so that is chance's to say."""
    from activity_tracker_hll.keys import Keys

    keys = Keys()
    for nodes, most in ((3, 1.05), (6, 1.1)):
        counts = [0] * nodes
        for number in range(10_000):
            slot = key_slot(keys.bucket("daily-20260101", f"bucket {number}").hll.encode())
            counts[slot * nodes // 16384] += 1
        assert max(counts) / (10_000 / nodes) <= most


@pytest.mark.parametrize("server", ["valkey", pytest.param("redis", marks=pytest.mark.extended)])
def test_nodes_that_do_not_tell_each_other_s_names(server, tmp_path):
    """As behind something that gives each client other addresses: they are at the host that was asked."""
    cluster = Cluster(program(server), tmp_path, cluster_preferred_endpoint_type="unknown-endpoint")
    with closing(cluster), asyncio.Runner() as runner:
        cluster.start()
        source, target = cluster.masters[:2]
        url = f"redis+cluster://127.0.0.1:{source.port}"
        for slot, make in enumerate((RedisBackend, AsyncRedisBackend)):  # the first slots are the source's

            def wait(sent, make=make):
                return runner.run(sent) if make is AsyncRedisBackend else sent

            key = next(key for key in map(str, range(10**6)) if key_slot(key.encode()) == slot)
            backend = make(url=url)
            wait(backend.execute([("PING",)]))  # now it knows where slots were
            cluster.open_slots(source, target, [slot])
            assert wait(backend.execute([("SET", key, "here")])) == [b"OK"]  # by ASK
            cluster.close_slots(source, target, [slot])
            assert wait(backend.execute([("GET", key)])) == [b"here"]  # by MOVED
            assert {node.host for node in backend.client(0).settings.topology.nodes} == {"127.0.0.1"}
            assert backend.node_of(key, 0) == f"127.0.0.1:{target.port}"
            wait(backend.close())


# Addresses


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://", "must look like"),
        ("redis+cluster://h:x", "must look like"),
        ("redis+cluster://a:1,,b:2", "must look like"),
        ("redis+cluster://a:1/0", "must look like"),
        ("redis+cluster://a:99999", "port"),
        ("redis+cluster://user:hush@a b:1", "name or an address"),
        ("redis+sentinel://a:1", "must look like"),
        ("redis+sentinel://a:1/", "must look like"),
        ("redis+sentinel://a:1/shop/x", "must be a number"),
        ("redis+sentinel://user:hush#@a:1/shop#", "must look like"),
    ],
)
def test_what_is_no_address(url, words):
    with raises(ArgumentValueError, words) as caught:
        RedisBackend(url=url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+cluster://user:p%40ss@a:1,b", "a:1,b:6379"),
        ("rediss+cluster://[::1]:7000,b:2", "::1:7000,b:2"),
        ("redis+sentinel://:pass@a,b:2/shop/3", "shop"),
    ],
)
def test_addresses(url, shown):
    assert f" {shown} " in repr(RedisBackend(url=url))


def test_a_cluster_that_is_down():
    backend = RedisBackend(url=f"redis+cluster://127.0.0.1:{free_port()}", socket_timeout=0.2)
    with raises(BackendConnectionError, "cannot be reached"):
        backend.execute([("PING",)])
