"""The writer under load while servers and networks fail: after it heals, nothing is missing.

Each fault lasts longer than every time limit of the writer. What the server holds in the end is compared,
register by register and move by move, with what an unbuffered tracker wrote of the same events to a
server in good health. How long the longest call of track took, and how long it took until all was well
again, is told at the end of the run.
"""

import contextlib
import random
import re
import threading

import pytest
import redis

from activity_tracker_hll import ActivityTracker, BackendAuthError, BackendResponseError
from helpers.faults import Node, TcpProxy
from helpers.scenes import LIMIT, PERIODS, Scene, keys_of, suffer
from helpers.servers import free_port, program


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
    load.go_on_for(3 * LIMIT)
    yield
    scene.proxy.heal()


def replies_cut(scene, load):
    scene.proxy.cut_replies(7)
    load.go_on_for(3 * LIMIT)
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
    load.go_on_for(3 * LIMIT)
    yield
    scene.proxy.heal()


def black_hole(scene, load):
    scene.proxy.black_hole()
    load.go_on_for(4 * LIMIT)
    yield
    scene.proxy.heal()


def out_of_memory(scene, load):
    scene.client.config_set("maxmemory", 1)
    load.go_on_for(3 * LIMIT)
    yield
    scene.client.config_set("maxmemory", 0)


def read_only(scene, load):
    scene.client.replicaof("127.0.0.1", str(free_port()))
    load.go_on_for(3 * LIMIT)
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


@pytest.mark.parametrize("fault", ["kill", "pause"])
@pytest.mark.parametrize("name", ["valkey", "redis"])
def test_a_flush_waits_for_no_server_that_has_all(tmp_path, name, fault):
    """The time limit of a test is less than what these would wait."""
    node = Node(program(name), tmp_path)
    node.start()
    limits = {"socket_timeout": LIMIT, "retries": 0}
    tracker = ActivityTracker(["daily"], port=node.port, timezone="UTC", **limits)
    try:
        writer = tracker.buffered(flush_interval=60)
        writer.track(id="a")
        assert writer.flush(20).pushed == 1
        getattr(node, fault)()
        assert writer.flush(3600).pending == 0
        assert writer.close(3600).pending == 0
    finally:
        tracker.close()
        node.close()


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
    load.go_on_for(3 * LIMIT)
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
    replies_lost,
    *(
        pytest.param(fault, marks=pytest.mark.extended)
        for fault in (
            out_of_memory,
            keys_evicted,
            stopped,
            replies_cut,
            connections_cut,
            refused,
            black_hole,
            read_only,
            loading,
            busy,
            scripts_forgotten,
        )
    ),
)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_missing_afterwards(make_scene, fault, record_property):
    suffer(make_scene(), fault, record_property)


def test_a_server_that_is_down_at_first(make_scene, record_property):
    suffer(make_scene(start=False), down_at_start, record_property)


@pytest.mark.parametrize(
    ("change", "undo", "words"),
    [
        pytest.param((">other", "<secret"), ("<other", ">secret"), "password", marks=pytest.mark.extended),
        (("-@write",), ("+@all",), "permission|can't run"),
        pytest.param(("-evalsha",), ("+@all",), "permission", marks=pytest.mark.extended),
        pytest.param(("resetkeys",), ("~*",), "permission", marks=pytest.mark.extended),
        pytest.param(("off",), ("on",), "password|disabled", marks=pytest.mark.extended),
    ],
    ids=["wrong password", "no writing", "no scripts", "no keys", "disabled"],
)
def test_what_the_server_does_not_permit_is_told_once(make_scene, change, undo, words, record_property):
    def fault(scene, load):
        scene.client.execute_command("ACL", "SETUSER", "service", *change)
        kill(scene.client)
        load.go_on_for(3 * LIMIT)
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


@pytest.mark.extended
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


@pytest.mark.extended
def test_a_bucket_of_the_wrong_type_holds_up_no_other(make_scene, record_property):
    def fault(scene, load):
        with scene.tracker() as tracker:
            break_sketches(scene.client, [keys_of(tracker, kind, "member").hll for kind in PERIODS])
        load.go_on_for(3 * LIMIT)
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
        load.go_on_for(3 * LIMIT)
        yield
        scene.client.delete(*keys)

    suffer(make_scene(), fault, record_property)


@pytest.mark.extended
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
