"""What doctor says of a cluster: each master, its replicas, its memory now and in the long run."""

from contextlib import closing

import pytest
from redis.crc import key_slot

from activity_tracker_hll import ActivityTracker
from helpers.clusters import Cluster
from helpers.command_line import invoke
from helpers.moments import YESTERDAY
from helpers.servers import program

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def cluster(started_cluster):
    return started_cluster("valkey")


def test_masters_and_what_they_will_take(cluster):
    cluster.flush()
    with ActivityTracker(["daily"], url=cluster.url, timezone="UTC") as tracker:
        for number in range(300):
            tracker.track_many(range(5000), bucket=f"b{number}")
        found = tracker.examine()
    assert [node.replicas for node in found.server.nodes] == [1, 1, 1]
    assert not [warning for warning in found.warnings if "replica" in warning or "maxmemory" in warning]
    shown = invoke(["--url", cluster.url, "doctor"]).stdout
    assert "cluster of 3 masters" in shown
    for node in found.server.nodes:
        assert node.address in shown


def test_the_fullest_master_is_named(cluster):
    cluster.flush()
    first = cluster.masters[0]
    with ActivityTracker(["daily"], url=cluster.url, timezone="UTC") as tracker:
        for number in range(60):
            tracker.track_many(range(5000), bucket=f"b{number}")
        first.client.config_set("maxmemory", 10_000_000)  # 62 days of 20 buckets are 18 MB
        try:
            warnings = [warning for warning in tracker.examine().warnings if "in the long run" in warning]
        finally:
            first.client.config_set("maxmemory", 0)
    assert len(warnings) == 1
    assert f"127.0.0.1:{first.port}" in warnings[0]


def test_a_master_without_a_replica_is_named(cluster):
    master, replica = cluster.masters[2], cluster.replicas[2]
    replica.kill()
    try:
        cluster.wait_until(lambda node: node.client.info("replication")["connected_slaves"] == 0, [master])
        with ActivityTracker(["daily"], url=cluster.url, timezone="UTC") as tracker:
            [warning] = [each for each in tracker.examine().warnings if "no replica" in each]
    finally:
        replica.start()
    assert f"127.0.0.1:{master.port}" in warning
    cluster.wait_until(lambda node: node.client.info("replication")["connected_slaves"] == 1, [master])


def test_the_master_that_may_evict_or_forget_is_named_whichever_it_is(cluster):
    cluster.flush()
    for node in cluster.masters:
        node.client.config_set("appendonly", "yes")
    try:
        for node in cluster.masters:
            node.client.config_set("maxmemory-policy", "allkeys-lru")
            node.client.config_set("appendonly", "no")
            with ActivityTracker(["daily"], url=cluster.url, timezone="UTC") as tracker:
                found = tracker.examine()
            node.client.config_set("maxmemory-policy", "noeviction")
            node.client.config_set("appendonly", "yes")
            evicts, forgets = found.warnings
            assert f"maxmemory-policy allkeys-lru on 127.0.0.1:{node.port} evicts any sketch" in evicts
            assert f"no persistence on 127.0.0.1:{node.port}: a restart loses" in forgets
            assert sorted(found.server.policy.split(", ")) == ["allkeys-lru", "noeviction"]
    finally:
        for node in cluster.masters:
            node.client.config_set("appendonly", "no")


@pytest.mark.parametrize("holds_settings", [True, False])
def test_a_master_that_is_down_is_named_and_others_are_examined(tmp_path, holds_settings):
    with closing(Cluster(program("valkey"), tmp_path / "cluster")) as cluster:
        cluster.start()
        with ActivityTracker(["daily"], url=cluster.url, timezone="UTC", socket_timeout=1) as tracker:
            for number in range(60):
                tracker.track_many(range(20), bucket=f"b{number}", date=YESTERDAY)
            port = cluster.owner(cluster.masters[0], key_slot(b"active:{meta}"))
            [bad] = [n for n, node in enumerate(cluster.masters) if (node.port == port) is holds_settings][:1]
            cluster.replicas[bad].kill()
            cluster.masters[bad].kill()
            found = tracker.examine()
            address = f"127.0.0.1:{cluster.masters[bad].port}"
            assert found.server.missing == (address,)
            assert len(found.server.nodes) == 2
            [warning] = [each for each in found.warnings if "cannot be examined" in each]
            assert warning.startswith(f"1 master cannot be examined ({address})")
            assert found.agrees is not holds_settings
            assert bool(found.entries) is not holds_settings
            assert len(found.entries) < 60
