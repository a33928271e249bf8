"""Whatever is found by SCAN, on clusters whose slots and masters change meanwhile: all of it."""

import asyncio
from contextlib import closing

import pytest
from redis.crc import key_slot

from activity_tracker_hll import ActivityTracker, Archive
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.clusters import NODE_TIMEOUT_MS, SLOTS, Cluster
from helpers.faults import Node
from helpers.moments import NOON, TODAY, day
from helpers.servers import free_port, program

BUCKETS = [f"b{number}" for number in range(200)]
OPTIONS = {"timezone": "UTC", "clock": lambda: NOON}
THEN = day(3)
MANY = 9000


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.extended)])
def cluster(request, tmp_path):
    with closing(Cluster(program(request.param), tmp_path / "cluster")) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def new(cluster, request, tmp_path):
    """A master that has no slots yet."""
    bus = free_port()
    config = {
        "cluster_enabled": "yes",
        "cluster_node_timeout": NODE_TIMEOUT_MS,
        "cluster_require_full_coverage": "no",
        "cluster_port": bus,
    }
    executable = program(request.node.callspec.params["cluster"])
    (tmp_path / "new").mkdir()
    with closing(Node(executable, tmp_path / "new", **config)) as node:
        node.start()
        cluster.masters[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        cluster.wait_until(
            lambda each: len(cluster.known(each)) == 7 and b"cluster_state:ok" in cluster.info(each),
            [*cluster.nodes, node],
        )
        yield node


def tracker_of(cluster):
    return ActivityTracker(["daily"], url=cluster.url, **OPTIONS)


def track(cluster):
    with tracker_of(cluster) as tracker:
        for bucket in BUCKETS:
            tracker.track_many(range(20), bucket=bucket, date=THEN)


def zeros(path):
    rows = dict(Archive(path).lookup("daily", start=THEN, end=TODAY, buckets=BUCKETS))[THEN]
    return [bucket for bucket, count in rows.items() if count == 0]


def test_slots_that_went_to_a_new_master_while_nobody_asked(cluster, new, tmp_path):
    """Redirects tell of other nodes only who asks for a key."""
    track(cluster)
    source = cluster.masters[0]

    async def count():
        tracker = AsyncActivityTracker(["daily"], url=cluster.url, **OPTIONS)
        before = len(await tracker.inventory())
        settings = {key_slot(key) for key in (b"active:{meta}", b"active:{open}")}
        slots = [slot for slot in cluster.slots_in_use(source) if slot not in settings]
        cluster.open_slots(source, new, slots)
        cluster.close_slots(source, new, slots)
        after = len(await tracker.inventory())
        await tracker.close()
        return before, after

    with tracker_of(cluster) as tracker:
        tracker.inventory()
        assert asyncio.run(count()) == (200, 200)
        tracker.archive(tmp_path / "archive")
        assert len(tracker.inventory()) == 200
        found = tracker.examine()
    assert len(found.entries) == 200
    assert f"127.0.0.1:{new.port}" in [node.address for node in found.server.nodes]
    assert zeros(tmp_path / "archive") == []


def test_slots_that_are_open_towards_a_master_that_has_none(cluster, new, tmp_path):
    track(cluster)
    source = cluster.masters[0]
    slots = cluster.slots_in_use(source)
    cluster.open_slots(source, new, slots)
    for slot in slots[::2]:
        while cluster.migrate(source, new, slot, 100):
            pass
    with tracker_of(cluster) as tracker:
        assert len(tracker.inventory()) == 200
        tracker.archive(tmp_path / "archive")
    assert zeros(tmp_path / "archive") == []


def amid_scan(cluster, tracker, happens):
    """What an inventory finds if something happens after its first page."""
    key = f"active:daily-{THEN:%Y%m%d}:b"
    names = [f"{key}{number}" for number in range(MANY)]
    client = cluster.client()
    client.mset(dict.fromkeys(names, 5))
    client.close()
    tracker.inventory()
    read, left = tracker.backend.read, [happens]

    def watch(commands, shard=0):
        replies = read(commands, shard)
        if left and any("SCAN" in command for command in commands):
            left.pop()()
        return replies

    tracker.backend.read = watch
    found = tracker.inventory()
    assert not left
    return sum(entry.period.date == THEN for entry in found)


def test_a_planned_failover_amid_a_scan(cluster):
    replica = cluster.replicas[0]

    def fail_over():
        replica.client.execute_command("CLUSTER", "FAILOVER")
        cluster.wait_for_master(replica)
        cluster.wait_until(lambda node: cluster.owner(node, 0) == replica.port)
        for bucket in BUCKETS[:40]:  # so that the process hears of the new master amid its scan
            tracker.track(id="ann", bucket=bucket)

    with tracker_of(cluster) as tracker:
        assert amid_scan(cluster, tracker, fail_over) == MANY


@pytest.mark.extended
def test_a_master_killed_amid_a_scan(cluster):
    def kill():
        for number in (0, 1, 2):
            cluster.masters[number].client.wait(1, 1000)
        cluster.masters[1].kill()

    with tracker_of(cluster) as tracker:
        assert amid_scan(cluster, tracker, kill) == MANY


@pytest.mark.extended
def test_slots_that_move_amid_a_scan_to_who_was_asked_already(cluster):
    """Their keys are neither here nor there, at the moment at which each is asked for them."""
    source, target = cluster.masters[0], cluster.masters[2]
    slots = range(SLOTS // 3 - 2000, SLOTS // 3)  # servers scan by slots: what the source has not come to yet

    def move():
        if cluster.can_migrate_slots(source):
            cluster.migrate_slots(source, target, slots[0], slots[-1])
        else:
            cluster.open_slots(source, target, slots)
            cluster.close_slots(source, target, slots)

    with tracker_of(cluster) as tracker:
        assert amid_scan(cluster, tracker, move) == MANY
