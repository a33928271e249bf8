"""A writer's events while a cluster loses, hangs, moves and replaces nodes: in the end it holds them all."""

from __future__ import annotations

import gc
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import pytest
from redis.crc import key_slot

from activity_tracker_hll import ActivityTracker, HyperLogLog
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty
from activity_tracker_hll.operations.tracking.unite import CALLS_PER_BATCH
from helpers.clusters import SLOTS, Cluster
from helpers.moments import NOON, TODAY
from helpers.servers import eventually, program, sketches_on

pytestmark = pytest.mark.extended
FLUSH = 0.25
LIMIT = 0.4


class Size(NamedTuple):
    """How much is tracked while something fails."""

    buckets: int
    rate: int
    """Events a second."""
    slots_open_s: float


SIZES = {"few": Size(30, 2000, 2), "many": Size(300, 20_000, 8)}


class Service:
    """Tracks in many buckets, from a thread of its own, and keeps what it tracked."""

    def __init__(self, writer, buckets, rate):
        self.writer, self.buckets, self.rate = writer, buckets, rate
        self.events, self.raised, self.longest = [], [], 0.0
        self._stop, self._random = threading.Event(), random.Random(3)
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        gc.disable()  # its pauses, for all that tests keep, would be taken for the writer's
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._stop.set()
        self._thread.join()
        gc.enable()

    def _work(self):
        began = time.monotonic()
        while not self._stop.wait(0.005):
            for _ in range(int((time.monotonic() - began) * self.rate) - len(self.events)):
                bucket, user = self._random.choice(self.buckets), self._random.randrange(100_000)
                event = {"id": user, "bucket": bucket}
                if self._random.random() < 0.05:
                    event |= {"old_id": f"s{user}", "old_bucket": self._random.choice(self.buckets)}
                self.events.append(event)
                start = time.perf_counter()
                try:
                    self.writer.track(**event)
                except Exception as error:
                    self.raised.append(error)
                self.longest = max(self.longest, time.perf_counter() - start)


@pytest.fixture(params=["valkey", "redis"])
def cluster(request, tmp_path):
    with closing(Cluster(program(request.param), tmp_path / "cluster")) as cluster:
        cluster.start()
        yield cluster


def pause(seconds):
    time.sleep(seconds)  # the load goes on


def nothing_fails(cluster, size):
    """What the others are to be compared with."""
    pause(1)


def master_killed(cluster, size):
    pause(0.5)
    cluster.masters[0].kill()
    cluster.wait_for_master(cluster.replicas[0])
    pause(1)


def hung_and_woken(cluster, size):
    pause(0.5)
    cluster.masters[1].pause()
    cluster.wait_for_master(cluster.replicas[1])
    pause(1)
    cluster.masters[1].resume()
    pause(1.5)


def hung_briefly(cluster, size):
    cluster.masters[1].pause()
    pause(0.6)
    cluster.masters[1].resume()
    pause(1)


def stale_replica_promoted(cluster, size):
    """What it did not get any more is not there when it is master."""
    replica = cluster.replicas[2]
    replica.pause()
    pause(0.7)
    cluster.masters[2].pause()  # which cannot send it what it missed
    replica.resume()
    cluster.wait_for_master(replica, force=True)
    pause(1)
    cluster.masters[2].resume()
    pause(1)


def taken_over_and_back(cluster, size):
    for node in (cluster.replicas[0], cluster.masters[0]):
        pause(0.5)
        node.client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        cluster.wait_for_master(node)
    pause(1)


def slots_move(cluster, size):
    """All that hold something: while they are open, scripts of several keys are put off."""
    source, target = cluster.masters[:2]
    cluster.move_slots(source, target, cluster.slots_in_use(source), open_for=size.slots_open_s)
    pause(0.5)


def slots_move_at_once(cluster, size):
    """There and back, as Valkey 9 does it: the source serves them until the target has everything."""
    source, target = cluster.masters[:2]
    if not cluster.can_migrate_slots(source):
        pytest.skip("needs CLUSTER MIGRATESLOTS, which Redis 7 does not have")
    # Not all of a master's: without any it would become the other's replica.
    for giver, taker in ((source, target), (target, source)):
        cluster.migrate_slots(giver, taker, 0, 2999)
        pause(0.5)


def replaced_by_an_empty_node(cluster, size):
    pause(0.5)
    cluster.replicas[0].kill()
    cluster.masters[0].client.flushall()
    cluster.masters[0].kill()
    cluster.masters[0].start()
    cluster.wait_until(lambda node: b"cluster_state:ok" in cluster.info(node), cluster.masters)
    pause(1)


FAULTS = (
    nothing_fails,
    master_killed,
    hung_and_woken,
    hung_briefly,
    stale_replica_promoted,
    taken_over_and_back,
    pytest.param(slots_move, marks=pytest.mark.on_redis("extended")),  # it knows no other way
    slots_move_at_once,
    replaced_by_an_empty_node,
)


@pytest.mark.parametrize("size", ["few", pytest.param("many", marks=pytest.mark.long)])
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_missing_afterwards(cluster, started, fault, size, record_property):
    chosen = SIZES[size]
    buckets = [f"b{index}" for index in range(chosen.buckets)]
    errors = []
    options = {"timezone": "UTC", "clock": lambda: NOON}
    with ActivityTracker(["daily"], url=cluster.url, socket_timeout=LIMIT, **options) as tracker:
        with tracker.buffered(flush_interval=FLUSH, refresh_interval=3600, on_error=errors.append) as writer:
            began = time.monotonic()
            with Service(writer, buckets, chosen.rate) as service:
                pause(0.5)
                fault(cluster, chosen)
                pause(0.5)
            ended = time.monotonic()
            statistics = writer.flush(60)
            assert service.raised == []
            assert (statistics.pending, statistics.dropped, statistics.late) == (0, 0, 0), errors
        wanted = oracle(started, service.events, buckets)
        differ = None
        until = time.monotonic() + 30
        while differ != [] and time.monotonic() < until:
            held = state(cluster.client(), tracker, buckets)
            differ = [bucket for bucket in buckets if held[bucket] != wanted[bucket]]
        assert differ == [], (len(differ), errors)
    record_property("events", len(service.events))
    record_property("events/s", f"{len(service.events) / (ended - began):.0f}")
    record_property("buckets equal", f"{len(buckets) - len(differ)} of {len(buckets)}")
    record_property("longest call of track, ms", f"{service.longest * 1000:.1f}")
    record_property("equal after the load ended, s", f"{time.monotonic() - ended:.1f}")


def test_a_node_that_hangs_holds_up_no_other(cluster):
    """It has nobody to take its place, and what is tracked meanwhile reaches the other nodes.

    Its own buckets come first, and are more than a batch of a push has: some have nothing but errors.
    """
    slots = {name: key_slot(f"active:daily-{TODAY:%Y%m%d}:{name}".encode()) for name in map(str, range(300))}
    buckets = sorted(slots, key=slots.__getitem__)
    assert sum(slot < SLOTS // 3 for slot in slots.values()) > CALLS_PER_BATCH
    wanted = {bucket: HyperLogLog() for bucket in buckets}
    options = {"timezone": "UTC", "clock": lambda: NOON}
    with (
        ActivityTracker(["daily"], url=cluster.url, socket_timeout=LIMIT, **options) as tracker,
        tracker.buffered(flush_interval=FLUSH, refresh_interval=3600) as writer,
    ):

        def track(turn):
            for bucket in buckets:
                ids = range(100 * turn, 100 * turn + 100)
                writer.track_many(ids, bucket=bucket)
                wanted[bucket].update(ids)

        def have_all(nodes):
            held = {key: sketch for node in nodes for key, sketch in sketches_on(node).items()}
            return held and all(sketch == wanted[bucket_of(key)] for key, sketch in held.items()) and held

        track(0)
        assert writer.flush(30).pending == 0
        hung, *others = cluster.masters
        cluster.replicas[0].kill()
        hung.pause()
        for turn in range(1, 4):
            track(turn)
            eventually(lambda: have_all(others))
        pending = writer.statistics.pending
        hung.resume()
        statistics = writer.flush(30)
        assert pending > 0
        assert (statistics.pending, statistics.dropped, statistics.late) == (0, 0, 0)
        assert len(have_all(cluster.masters)) == len(buckets)


@pytest.mark.on_redis("extended")
def test_a_call_waits_for_a_slot_that_is_open(cluster):
    """Its script has several keys: nobody runs it before the slot is closed."""
    options = {"timezone": "UTC", "clock": lambda: NOON}
    with ActivityTracker(["daily"], url=cluster.url, socket_timeout=60, **options) as tracker:
        tracker.track(id="ann", bucket="b")
        source = next(node for node in cluster.masters if sketches_on(node))
        target = next(node for node in cluster.masters if node is not source)
        slots = cluster.slots_in_use(source)
        cluster.open_slots(source, target, slots)
        with ThreadPoolExecutor() as pool:
            call = pool.submit(tracker.track, old_id="ann", old_bucket="b")
            eventually(lambda: call.done() or put_off(source, target) > 1)
            cluster.close_slots(source, target, slots)
            call.result(60)
        assert put_off(source, target) > 1
        assert tracker.lookup(live=True, start=TODAY, buckets=["b"])[0][1] == {"b": 0}


def put_off(*nodes):
    """How often nodes said TRYAGAIN."""
    found = [node.client.info("errorstats").get("errorstat_TRYAGAIN", {"count": 0}) for node in nodes]
    return sum(each["count"] for each in found)


def bucket_of(key):
    return key.decode().rpartition("}")[0].rpartition(":")[2]


def oracle(started, events, buckets):
    """What one server in good health has of the same events."""
    with ActivityTracker(
        ["daily"],
        unix_socket_path=str(started("valkey").socket),
        namespace="oracle",
        timezone="UTC",
        clock=lambda: NOON,
    ) as plain:
        client = plain.backend.client()
        client.flushall()
        for event in events:
            if "old_id" in event:
                plain.track(**event)
        active = {}
        for event in events:
            active.setdefault(event["bucket"], set()).add(event["id"])
        for bucket, ids in active.items():
            plain.track_many(ids, bucket=bucket)
        return state(client, plain, buckets)


def state(client, tracker, buckets):
    """Registers of all ids and of those that left, and the table's members, of each bucket."""
    held = {}
    for bucket in buckets:
        [period] = {tracker.calendar.containing("daily", tracker.calendar.local(NOON)).name}
        keys = tracker.backend.keys.bucket(period, bucket)
        registers = [client.get(key) for key in (keys.hll, keys.moved)]
        held[bucket] = (
            *((empty() if sketch is None else codec.decode(sketch)).tobytes() for sketch in registers),
            frozenset(client.zrange(keys.moves, 0, -1)),
        )
    return held
