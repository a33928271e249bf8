"""A node that is up and does not know what the cluster is now: it stops nobody who can ask the others."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import closing
from datetime import timedelta

import pytest

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.clusters import Cluster
from helpers.moments import NOON, TODAY
from helpers.servers import program

pytestmark = pytest.mark.extended
BUCKETS = [f"b{index}" for index in range(30)]
OPTIONS = {"timezone": "UTC", "clock": lambda: NOON}


@pytest.fixture(params=["valkey", "redis"])
def cluster(request, tmp_path):
    with closing(Cluster(program(request.param), tmp_path / "cluster")) as cluster:
        cluster.start()
        yield cluster


def restarted_without_its_disk(cluster):
    """At its old address, while its replica has taken its place."""
    node = cluster.masters[0]
    node.kill()
    is_replaced(cluster)
    for path in (cluster.directory / "0").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    node.start()


def taken_out(cluster):
    """As redis-cli --cluster del-node does it."""
    node = cluster.masters[0]
    cluster.replicas[0].client.execute_command("CLUSTER", "FAILOVER")
    is_replaced(cluster)
    removed = cluster.id_of(node)
    for other in cluster.nodes:
        if other is not node:
            other.client.execute_command("CLUSTER", "FORGET", removed)
    node.client.execute_command("CLUSTER", "RESET", "SOFT")


def cut_off(cluster):
    """It hears of no other node, and clients still reach it."""
    node = cluster.masters[0]
    if "valkey_version" not in node.client.info("server"):
        pytest.skip("Redis 7 drops single kinds of packets")
    node.client.execute_command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", "-2")
    is_replaced(cluster)
    cluster.wait_until(lambda node: b"cluster_state:fail" in cluster.info(node), [node])


def is_replaced(cluster):
    replica, others = cluster.replicas[0], [*cluster.masters[1:], cluster.replicas[0]]
    cluster.wait_for_master(replica)
    cluster.wait_until(lambda node: cluster.owner(node, 0) == replica.port, others)


@pytest.mark.parametrize("becomes_a_stray", [restarted_without_its_disk, taken_out, cut_off])
def test_nobody_needs_a_node_that_does_not_know_the_cluster(cluster, becomes_a_stray):
    with (
        ActivityTracker(["daily"], url=cluster.url, **OPTIONS) as idle,
        ActivityTracker(["daily"], url=cluster.url, **OPTIONS) as new,
        idle.buffered() as writer,
    ):
        for bucket in BUCKETS:
            idle.track(id="before", bucket=bucket)
            writer.track(id="before", bucket=bucket)
        assert writer.flush(30).pending == 0
        becomes_a_stray(cluster)
        began = time.monotonic()
        for bucket in BUCKETS:
            idle.track(id="idle", bucket=bucket)
            new.track(id="new", bucket=bucket)
            writer.track(id="writer", bucket=bucket)
        flushed = writer.flush(30)
        assert (flushed.pending, flushed.dropped, flushed.last_error) == (0, 0, None)
        yesterday = TODAY - timedelta(days=1)
        new.import_events([("imported", bucket, yesterday) for bucket in BUCKETS])
        asyncio.run(track_all(cluster.url))
        assert time.monotonic() - began < 5
        assert new.lookup(live=True, start=yesterday, buckets=BUCKETS) == [
            (yesterday, dict.fromkeys(BUCKETS, 1)),
            (TODAY, dict.fromkeys(BUCKETS, 5)),
        ]


async def track_all(url):
    async with AsyncActivityTracker(["daily"], url=url, **OPTIONS) as tracker:
        for bucket in BUCKETS:
            await tracker.track(id="asyncio", bucket=bucket)
