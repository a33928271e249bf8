"""The writer under load while servers and networks fail: after it heals, nothing is missing.

Each fault lasts longer than every time limit of the writer. What the server holds in the end is compared,
register by register and move by move, with what an unbuffered tracker wrote of the same events to a
server in good health. How long the longest call of track took, and how long it took until all was well
again, is told at the end of the run.
"""

import contextlib
import gc
import itertools
import random
import re
import threading
import time
from pathlib import Path

import pytest
import redis

from activity_tracker_hll import ActivityTracker, BackendAuthError, BackendResponseError
from activity_tracker_hll.hll import codec
from helpers.faults import Node, TcpProxy
from helpers.moments import NOON
from helpers.servers import back, free_port, left, missing, program

pytestmark = pytest.mark.either_server

FLUSH = 0.5
LIMIT = 0.4
PERIODS = ("daily", "monthly")
BUCKETS = ("anon", "member", None)


class Load:
    """A service: calls a writer from a thread of its own, and keeps what it said to it."""

    def __init__(self, writer, seed):
        self.writer, self.events, self.raised, self.worst = writer, [], [], (0.0, 0.0)
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        gc.collect()
        gc.freeze()  # or the longest call is the one in which Python looks through all that the tests made
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._stop.set()
        self._thread.join()
        gc.unfreeze()

    def go_on(self, events=400):
        """Wait until so many more events were tracked."""
        until = len(self.events) + events
        while len(self.events) < until and self._thread.is_alive():
            time.sleep(0.005)

    def go_on_for(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.go_on(10)

    def _work(self):
        while not self._stop.wait(0.005):
            for _ in range(5):
                user = self._random.randrange(3000)
                if self._random.random() < 0.2:
                    event = {"id": user, "bucket": "member", "old_id": f"s{user}", "old_bucket": "anon"}
                elif self._random.random() < 0.5:
                    event = {"id": f"s{user}", "bucket": "anon"}
                else:
                    event = {"id": user, "bucket": self._random.choice(("member", None))}
                self.events.append(event)
                queued, start = waited_for_a_processor(), time.perf_counter()
                try:
                    self.writer.track(**event)
                except Exception as error:
                    self.raised.append(error)
                took = time.perf_counter() - start
                self.worst = max(self.worst, (took - (waited_for_a_processor() - queued), took))


def waited_for_a_processor():
    """Seconds this thread could have run and others ran instead."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def state(client, tracker, buckets=BUCKETS):
    """What a server holds: of each bucket and period the registers, of all ids and of those that ever left,
    who is out, and who is back."""
    held = {}
    for bucket, kind in itertools.product(buckets, PERIODS):
        keys = keys_of(tracker, kind, bucket)
        registers = [
            None if blob is None else codec.decode(blob).tobytes()
            for blob in client.mget(keys.hll, keys.moved)
        ]
        held[kind, bucket] = *registers, left(client, keys), back(client, keys)
    return held


class Scene:
    """A server process behind a proxy, a writer that sends through it, and an oracle."""

    def __init__(self, name, directory, oracle, *, start=True, **config):
        executable = program(name)
        if executable is None:
            missing(name)
        self.name, self.directory, self.oracle = name, directory, oracle
        self.node = Node(executable, directory, **config)
        if start:
            self.node.start()
        self.proxy = TcpProxy(self.node.port)
        self.errors = []

    @property
    def client(self):
        return self.node.client

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.proxy.__exit__()
        self.node.close()

    def tracker(self, **options):
        settings = {
            "port": self.proxy.port,
            "timezone": "UTC",
            "clock": lambda: NOON,
            "socket_timeout": LIMIT,
        }
        return ActivityTracker(PERIODS, **settings | options)

    def wait_for(self, expected, read):
        """Until the server holds what it should, at most a minute."""
        until = time.monotonic() + 60
        while (found := read()) != expected and time.monotonic() < until:
            time.sleep(0.02)
        assert found == expected


@pytest.fixture(params=["valkey", "redis"])
def make_scene(request, tmp_path, started):
    """Makes scenes, on a server of its own; the oracle is the session's server, in good health."""
    scenes = []

    def make(**options):
        oracle = redis.Redis(unix_socket_path=str(started(request.param).socket), socket_timeout=30)
        oracle.flushall()
        scenes.append(Scene(request.param, tmp_path, oracle, **options))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.__exit__()
        scene.oracle.close()


def expected(scene, events):
    socket = scene.oracle.connection_pool.connection_kwargs["path"]
    with ActivityTracker(PERIODS, unix_socket_path=socket, timezone="UTC", clock=lambda: NOON) as plain:
        for event in events:
            plain.track(**event)
        return state(scene.oracle, plain)


def suffer(scene, fault, record_property, *, broken=(), **options):
    """Load before, during and after a fault; then nothing may be missing but of broken buckets.

    Returns the errors that the caller was told.
    """
    errors = []
    tracker = scene.tracker(**options)
    # All has to be noticed: nothing is sent again only because time has passed.
    writer = tracker.buffered(flush_interval=FLUSH, refresh_interval=3600, on_error=errors.append)
    with tracker, writer:
        with Load(writer, seed=7) as load:
            load.go_on()
            for _ in fault(scene, load):
                load.go_on()
            load.go_on(100)
        ended = time.monotonic()
        wanted = expected(scene, load.events)
        wanted = {place: held for place, held in wanted.items() if place[1] not in broken}
        buckets = [bucket for bucket in BUCKETS if bucket not in broken]
        scene.wait_for(wanted, lambda: state(scene.client, tracker, buckets))
        record_property("equal to the oracle after the load ended, s", f"{time.monotonic() - ended:.1f}")
        statistics = writer.flush(30)
        assert load.raised == []
        assert statistics.dropped == statistics.late == 0
        assert (statistics.pending == 0) == (statistics.last_error is None) == (not broken)
        assert statistics.tracked == statistics.pushed + statistics.pending
    own, whole = load.worst
    record_property(
        "longest call of track, ms", f"{own * 1000:.1f} ({whole * 1000:.1f} with other processes' turns)"
    )
    assert own < LIMIT  # no call waited for the network
    return errors


# Faults: what happens up to a yield lasts while the load goes on.


def down_at_start(scene, load):
    yield
    scene.node.start()


def killed_and_started_empty(scene, load):
    load.go_on(1000)
    scene.node.kill()
    yield
    scene.node.start()


def stopped(scene, load):
    scene.node.pause()
    load.go_on_for(4 * LIMIT)
    yield
    scene.node.resume()


def replies_lost(scene, load):
    scene.proxy.cut_replies(0)
    load.go_on_for(2)
    yield
    scene.proxy.heal()


def replies_cut(scene, load):
    scene.proxy.cut_replies(7)
    load.go_on_for(2)
    yield
    scene.proxy.heal()


def connections_cut(scene, load):
    for _ in range(10):
        scene.proxy.cut()
        load.go_on_for(0.1)
    yield


def refused(scene, load):
    scene.proxy.refuses = True
    scene.proxy.cut()
    load.go_on_for(2)
    yield
    scene.proxy.heal()


def black_hole(scene, load):
    scene.proxy.black_hole()
    load.go_on_for(5 * LIMIT)
    yield
    scene.proxy.heal()


def out_of_memory(scene, load):
    scene.client.config_set("maxmemory", 1)
    load.go_on_for(2)
    yield
    scene.client.config_set("maxmemory", 0)


def read_only(scene, load):
    scene.client.replicaof("127.0.0.1", str(free_port()))
    load.go_on_for(2)
    yield
    scene.client.replicaof("NO", "ONE")


def loading(scene, load):
    for n in range(150):
        scene.client.set(f"junk{n}", random.Random(n).randbytes(2000))
    scene.client.save()
    scene.node.kill()
    slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    scene.node.start(*slowly, wait=False)
    scene.wait_for(redis.BusyLoadingError, lambda: answer(scene.client))
    load.go_on_for(1)
    yield
    scene.wait_for("PONG", lambda: answer(scene.client))


def answer(client):
    try:
        return "PONG" if client.ping() else None
    except redis.ConnectionError as error:  # among them: loading
        return type(error)


def busy(scene, load):
    scene.client.config_set("lua-time-limit", 50)
    stuck = redis.Redis(port=scene.node.port, socket_timeout=60)

    def run():
        with pytest.raises(redis.ResponseError):
            stuck.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    load.go_on_for(2)
    with pytest.raises(redis.ResponseError, match="BUSY"):
        scene.client.get("x")
    yield
    scene.client.script_kill()
    thread.join()
    stuck.close()


def scripts_forgotten(scene, load):
    for _ in range(40):
        scene.client.script_flush()
        load.go_on(20)
    yield


def keys_evicted(scene, load):
    """Memory for next to nothing: whatever is written, others have to go for it."""
    scene.client.config_set("maxmemory-policy", "allkeys-lru")
    used = scene.client.info("memory")["used_memory"]
    scene.client.config_set("maxmemory", used + 3_000_000)
    for n in range(400):
        with contextlib.suppress(redis.OutOfMemoryError):  # not fast enough, this time
            scene.client.set(f"junk{n}", b"x" * 30_000)
        load.go_on(5)
    assert scene.client.info("stats")["evicted_keys"] > 100
    yield
    scene.client.config_set("maxmemory", 0)


FAULTS = (
    killed_and_started_empty,
    stopped,
    replies_lost,
    replies_cut,
    connections_cut,
    refused,
    black_hole,
    out_of_memory,
    read_only,
    loading,
    busy,
    scripts_forgotten,
    keys_evicted,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_missing_afterwards(make_scene, fault, record_property):
    suffer(make_scene(), fault, record_property)


def test_a_server_that_is_down_at_first(make_scene, record_property):
    suffer(make_scene(start=False), down_at_start, record_property)


@pytest.mark.parametrize(
    ("change", "undo", "words"),
    [
        ((">other", "<secret"), ("<other", ">secret"), "password"),
        (("-@write",), ("+@all",), "permission|can't run"),
        (("-evalsha",), ("+@all",), "permission"),
        (("resetkeys",), ("~*",), "permission"),
        (("off",), ("on",), "password|disabled"),
    ],
    ids=["wrong password", "no writing", "no scripts", "no keys", "disabled"],
)
def test_what_the_server_does_not_permit_is_told_once(make_scene, change, undo, words, record_property):
    def fault(scene, load):
        scene.client.execute_command("ACL", "SETUSER", "service", *change)
        kill(scene.client)
        load.go_on_for(2)
        yield
        scene.client.execute_command("ACL", "SETUSER", "service", *undo)

    scene = make_scene()
    scene.client.execute_command("ACL", "SETUSER", "service", "on", ">secret", "~*", "&*", "+@all")
    errors = suffer(scene, fault, record_property, username="service", password="secret")
    told = [error for error in errors if isinstance(error, BackendAuthError)]
    assert len(told) == 1
    assert re.search(words, str(told[0]), re.IGNORECASE)


def kill(client):
    """Cut the user's connections: who is in stays in."""
    with contextlib.suppress(redis.ResponseError):
        client.execute_command("CLIENT", "KILL", "USER", "service")


def test_a_server_that_gives_no_information(make_scene, record_property):
    """Without INFO, what vanished is noticed a bucket at a time."""
    scene = make_scene()
    permissions = ("on", ">secret", "~*", "&*", "+@all", "-info")

    def fault(scene, load):
        load.go_on(1000)
        scene.node.kill()
        yield
        scene.node.start()
        scene.client.execute_command("ACL", "SETUSER", "service", *permissions)

    scene.client.execute_command("ACL", "SETUSER", "service", *permissions)
    suffer(scene, fault, record_property, username="service", password="secret")


def break_sketches(client, keys):
    with client.pipeline() as transaction:
        for key in keys:
            transaction.delete(key).rpush(key, "no sketch")
        transaction.execute()


def test_a_bucket_of_the_wrong_type_holds_up_no_other(make_scene, record_property):
    def fault(scene, load):
        with scene.tracker() as tracker:
            break_sketches(scene.client, [keys_of(tracker, kind, "member").hll for kind in PERIODS])
        load.go_on_for(2)
        yield

    errors = suffer(make_scene(), fault, record_property, broken=["member"])
    [told] = {str(error): error for error in errors}.values()
    assert isinstance(told, BackendResponseError)
    assert "member" in str(told)


def test_a_bucket_that_was_of_the_wrong_type(make_scene, record_property):
    def fault(scene, load):
        with scene.tracker() as tracker:
            keys = [keys_of(tracker, kind, "member").hll for kind in PERIODS]
        break_sketches(scene.client, keys)
        load.go_on_for(2)
        yield
        scene.client.delete(*keys)

    suffer(make_scene(), fault, record_property)


def test_failover_to_a_replica_that_lags(make_scene, tmp_path, record_property):
    """What the replica did not get before its master died is sent to it as the new master."""
    scene = make_scene()
    (tmp_path / "replica").mkdir()
    replica = Node(program(scene.name), tmp_path / "replica")
    replica.start()
    link = TcpProxy(scene.node.port)
    replica.client.replicaof("127.0.0.1", str(link.port))

    def fault(scene, load):
        scene.wait_for("up", lambda: replica.client.info("replication")["master_link_status"])
        load.go_on(500)
        link.black_hole()
        load.go_on(2000)
        writer = load.writer.flush(20)
        assert writer.pushed > 2000
        scene.node.kill()
        load.go_on(500)
        yield
        replica.client.replicaof("NO", "ONE")
        scene.proxy.target = replica.port
        scene.node, scene.failed = replica, scene.node

    try:
        suffer(scene, fault, record_property)
    finally:
        link.__exit__()
        replica.close()
        scene.failed.close()


def keys_of(tracker, kind, bucket):
    calendar = tracker.calendar
    return tracker.backend.keys.bucket(calendar.containing(kind, calendar.local(NOON)).name, bucket)
