"""Reading from replicas, of a real cluster and of a master that Sentinel knows, awaited or not."""

import asyncio
import gc
import importlib
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
import redis
import redis.asyncio

from activity_tracker_hll import ActivityTracker, ArgumentValueError
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.backends import marks
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.cluster import ClusterSettings
from activity_tracker_hll.backends.marks import Marks
from activity_tracker_hll.backends.redis import RedisBackend
from activity_tracker_hll.backends.topology import Node
from helpers.awaited import Awaited
from helpers.clusters import Cluster
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY
from helpers.sentinels import Sentinels
from helpers.servers import eventually, program

BUCKETS = [f"b{index}" for index in range(12)]
OPTIONS = {
    "timezone": "UTC",
    "clock": lambda: NOON,
    "buckets": BUCKETS,
    "aggregate_buckets": {"all": BUCKETS},
}
FROM_REPLICAS = "?read_from_replicas=true"
SPAN = {"start": YESTERDAY, "end": TODAY + timedelta(days=1)}
READING = {"get", "mget", "exists", "zcount", "zrangebyscore", "strlen", "smembers", "readonly"}
"""What is sent to who is read from. Masters pass PFCOUNT on, as it may store what it counted."""


def with_replicas_known(cluster):
    """Wait until all nodes tell of a replica of each master."""
    cluster.wait_until(lambda node: all(len(served) > 3 for served in cluster.served(node)))
    return cluster


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.long)])
def cluster(request, started_cluster):
    cluster = with_replicas_known(started_cluster(request.param))
    cluster.flush()
    return cluster


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.long)])
def doomed_cluster(request, tmp_path):
    """For who does something to its nodes."""
    with closing(Cluster(program(request.param), tmp_path / "cluster")) as cluster:
        cluster.start()
        yield with_replicas_known(cluster)


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.long)])
def sentinels(request, tmp_path):
    with closing(Sentinels(program(request.param), tmp_path)) as sentinels:
        sentinels.start()
        yield sentinels


@pytest.fixture(params=["waits", pytest.param("awaits", marks=pytest.mark.extended)])
def kind(request):
    return request.param


@pytest.fixture
def runner():
    with asyncio.Runner() as runner:
        yield runner
        runner.run(asyncio.sleep(0.01))  # what was closed without waiting, as a node was killed, is gone then
        gc.collect()


@pytest.fixture
def tracker_of(kind, runner):
    """Makes trackers, of the one and of the other kind."""

    def tracker_of(**options):
        if kind == "waits":
            return ActivityTracker(["daily"], **OPTIONS, **options)
        return Awaited(runner, AsyncActivityTracker(["daily"], **OPTIONS, **options))

    return tracker_of


def track(tracker):
    for index, bucket in enumerate(BUCKETS):
        for date in (YESTERDAY, TODAY):
            tracker.track_many(range(100 * index), bucket=bucket, date=date)
    for id in range(10):
        tracker.track(id=id, bucket="b2", old_id=id, old_bucket="b1")


def answers(tracker):
    return [
        tracker.lookup(start=YESTERDAY, live=True, buckets=[*BUCKETS, "all"]),
        tracker.unique(**SPAN, buckets=["b1", "b7", "all"]).to_dicts(),
        tracker.rolling(2, **SPAN, buckets=["b1", "b7"]).to_dicts(),
        tracker.lifecycle("daily", **SPAN, bucket="b1").to_dicts(),
        str(tracker.sketch("daily", YESTERDAY, "b1").remainder()),
        [(entry.period.name, entry.bucket) for entry in tracker.inventory()],
    ]


def forget(*nodes):
    """Count commands anew."""
    for node in nodes:
        node.client.config_resetstat()


def commands_at(node):
    """What a node was sent since, by whomever."""
    return {
        name.removeprefix("cmdstat_"): said["calls"]
        for name, said in node.client.info("commandstats").items()
    }


def asked(node):
    """The commands by which a node was read from since."""
    return commands_at(node).keys() & READING


def caught_up(*masters):
    for master in masters:
        assert master.client.wait(1, 10_000) == 1


def test_who_reads_asks_replicas_of_a_cluster_and_gets_the_masters_answers(cluster, tracker_of):
    with tracker_of(url=cluster.url) as tracker, tracker_of(url=cluster.url + FROM_REPLICAS) as reader:
        track(tracker)
        caught_up(*cluster.masters)
        forget(*cluster.nodes)
        found = answers(reader)
        assert not any(map(asked, cluster.masters))
        for replica in cluster.replicas:
            assert {"readonly", "exists", "mget"} < asked(replica)
            assert commands_at(replica)["readonly"] == 1
            assert "scan" not in commands_at(replica)  # whose cursor is of one server
        forget(*cluster.nodes)
        assert answers(tracker) == found
        assert not any(map(asked, cluster.replicas))


@pytest.mark.extended
@pytest.mark.parametrize(
    ("in_url", "given"), [("true", False), ("FALSE", True), ("true", None), ("false", None)]
)
def test_an_option_stands_above_the_url(cluster, tracker_of, in_url, given):
    url = f"{cluster.url}?read_from_replicas={in_url}"
    with tracker_of(url=url, **({} if given is None else {"read_from_replicas": given})) as tracker:
        track(tracker)
        forget(*cluster.nodes)
        tracker.lookup(live=True)
        assert any(map(asked, cluster.replicas)) == (given is True or (given is None and in_url == "true"))


def test_who_writes_asks_no_replica_of_a_cluster(cluster, tracker_of):
    with tracker_of(url=cluster.url, read_from_replicas=True) as tracker:
        track(tracker)
        assert tracker.collapse()
        tracker.change_settings(keep_sketches=timedelta(days=400))
        assert not any(map(asked, cluster.replicas))


@pytest.mark.extended
def test_masters_answer_for_replicas_that_are_gone(doomed_cluster, tracker_of):
    cluster = doomed_cluster
    with tracker_of(url=cluster.url + FROM_REPLICAS) as reader:
        track(reader)
        caught_up(*cluster.masters)
        found = answers(reader)
        forget(*cluster.masters)
        cluster.replicas[0].kill()
        assert answers(reader) == found
        assert asked(cluster.masters[0])
        for replica in cluster.replicas[1:]:
            replica.kill()
        assert answers(reader) == found


@pytest.mark.extended
def test_a_master_answers_for_a_replica_that_lost_it(cluster, tracker_of):
    with tracker_of(url=cluster.url + FROM_REPLICAS) as reader:
        track(reader)
        caught_up(*cluster.masters)
        found = answers(reader)
        forget(*cluster.masters)
        with lost(cluster.replicas[0]):
            assert answers(reader) == found
        assert asked(cluster.masters[0])
        assert not any(map(asked, cluster.masters[1:]))


@contextmanager
def lost(replica):
    """It has no master, and does not answer without."""
    client = replica.client
    client.config_set("replica-serve-stale-data", "no")
    client.config_set("masterauth", "not the password")  # it cannot come back
    client.client_kill_filter(_type="master")
    eventually(lambda: client.info("replication")["master_link_status"] == "down")
    try:
        yield
    finally:
        client.config_set("replica-serve-stale-data", "yes")
        client.config_set("masterauth", "")


def by_strategy():
    cluster = importlib.import_module("redis.cluster")
    if not hasattr(cluster, "LoadBalancingStrategy"):
        pytest.skip("redis-py before 6 has no strategies")
    return {"load_balancing_strategy": cluster.LoadBalancingStrategy.RANDOM_REPLICA}


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning")
@pytest.mark.parametrize(
    ("library", "options"),
    [
        ("redis-py", lambda: {"read_from_replicas": True}),
        ("redis-py", by_strategy),
        ("valkey-py", lambda: {"read_from_replicas": True}),
    ],
    ids=["redis-py", "redis-py, by strategy", "valkey-py"],
)
def test_a_cluster_client_that_reads_from_replicas(
    cluster, kind, runner, tracker_of, library, options, tmp_path
):
    name = library.removesuffix("-py")
    module = pytest.importorskip(f"{name}.asyncio" if kind == "awaits" else name)
    make = getattr(module, f"{name.title()}Cluster")

    async def made():
        return make(host="127.0.0.1", port=cluster.masters[0].port, **options())

    client = runner.run(made())
    with tracker_of(client=client) as tracker:
        track(tracker)
        caught_up(*cluster.masters)
        forget(*cluster.nodes)
        answers(tracker)
        assert all(map(asked, cluster.replicas))
        assert not any(map(asked, cluster.masters))
        forget(*cluster.nodes)
        tracker.archive(tmp_path / "archive")
        assert any(map(asked, cluster.replicas))
        assert not any(map(asked, cluster.masters))
    runner.run(client.aclose()) if kind == "awaits" else client.close()


def test_who_reads_asks_the_replica_that_sentinel_knows(sentinels, tracker_of):
    master, replica = sentinels.master, sentinels.replica
    with tracker_of(url=sentinels.url) as tracker, tracker_of(url=sentinels.url + FROM_REPLICAS) as reader:
        track(tracker)
        caught_up(master)
        forget(master, replica)
        found = answers(reader)
        assert not asked(master)
        assert {"exists", "mget"} < asked(replica)
        assert "scan" not in commands_at(replica)  # as above
        forget(master, replica)
        assert answers(tracker) == found
        assert not asked(replica)
        assert reader.collapse()
        assert not asked(replica)


@pytest.mark.extended
def test_the_master_answers_until_sentinel_knows_a_replica_again(sentinels, tracker_of):
    master, replica = sentinels.master, sentinels.replica
    with tracker_of(url=sentinels.url + FROM_REPLICAS) as reader:
        track(reader)
        caught_up(master)
        found = answers(reader)
        replica.kill()
        forget(master)
        assert answers(reader) == found
        assert asked(master)
        replica.start()
        replica.client.replicaof("127.0.0.1", str(master.port))
        eventually(lambda: replica.client.info("replication")["master_link_status"] == "up")
        forget(replica)
        eventually(lambda: answers(reader) == found and asked(replica))


@pytest.mark.extended
def test_the_master_answers_for_a_replica_that_lost_it(sentinels, tracker_of):
    with tracker_of(url=sentinels.url + FROM_REPLICAS) as reader:
        track(reader)
        caught_up(sentinels.master)
        found = answers(reader)
        forget(sentinels.master)
        with lost(sentinels.replica):
            assert answers(reader) == found
        assert asked(sentinels.master)


@pytest.mark.extended
def test_a_replica_of_a_cluster_that_hung_is_left_alone_for_a_while(cluster, tracker_of, monkeypatch):
    left_alone(cluster.url, cluster.masters, cluster.replicas[0], tracker_of, monkeypatch)


@pytest.mark.extended
def test_a_replica_that_hung_is_left_alone_for_a_while(sentinels, tracker_of, monkeypatch):
    left_alone(sentinels.url, [sentinels.master], sentinels.replica, tracker_of, monkeypatch)


def left_alone(url, masters, replica, tracker_of, monkeypatch):
    monkeypatch.setattr(marks, "_FIRST_S", 3600)
    monkeypatch.setattr(marks, "_LONGEST_S", 3600)
    with tracker_of(url=url + FROM_REPLICAS, socket_timeout=1) as reader:
        track(reader)
        caught_up(*masters)
        found = answers(reader)
        assert asked(replica)
        forget(replica)
        replica.pause()
        try:
            assert answers(reader) == found
        finally:
            replica.resume()
        eventually(lambda: asked(replica))  # it still reads what it was asked while it hung
        forget(replica)
        assert answers(reader) == found
        assert not asked(replica)


# Options


@pytest.mark.parametrize("backend", [RedisBackend, AsyncRedisBackend])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"read_from_replicas": True}, "replicas of a single one are not known"),
        ({"url": "redis://localhost", "read_from_replicas": True}, "replicas of a single one are not known"),
        ({"url": "redis://localhost" + FROM_REPLICAS}, "replicas of a single one are not known"),
        ({"url": "unix:///tmp/x" + FROM_REPLICAS}, "replicas of a single one are not known"),
        ({"url": "redis+cluster://a:1", "read_from_replicas": "yes"}, "must be True or False"),
        ({"url": "redis+cluster://a:1?read_from_replicas=perhaps"}, "must be true or false"),
        ({"url": "redis+sentinel://a:1/shop?read_from_replicas=1"}, "must be true or false"),
    ],
)
def test_what_cannot_read_from_replicas(backend, options, words):
    with raises(TypeError if "must be True" in words else ArgumentValueError, words):
        backend(**options)


def test_a_client_has_a_setting_of_its_own():
    with raises(ArgumentValueError, "cannot be combined with client"):
        RedisBackend(client=redis.Redis(), read_from_replicas=True)


def test_what_a_node_costs_that_does_not_answer():
    """A master that refuses connections costs nobody time; a replica has a master that answers as well."""
    settings = ClusterSettings([Node("a", 1)], redis.Redis, {})
    master, replica = Node("a", 1), Node("a", 1, is_replica=True)
    for node in (master, replica):
        settings.failed(node, redis.ConnectionError("refused"))
    assert not settings.is_down(master)
    assert settings.is_down(replica)
    settings.failed(master, redis.TimeoutError("no"))
    assert settings.is_down(master)


def test_nobody_waits_for_what_gave_no_answer_longer_each_time_until_it_does():
    now = 0.0
    marks = Marks(lambda: now)
    assert not marks.is_down("a")
    for length in (1, 2, 4, 8, 8):
        marks.mark("a")
        now += length - 0.5
        assert marks.is_down("a")
        assert not marks.is_down("b")
        assert marks.is_down("a", is_patient=True) == (length == 1)
        now += 0.5
        assert not marks.is_down("a")
    marks.unmark("a")
    marks.mark("a")
    now += 1
    assert not marks.is_down("a")
