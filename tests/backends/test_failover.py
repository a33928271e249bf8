"""Connections that have to be left, and servers that refuse: the same in both redis backends."""

import asyncio
import itertools
import time

import pytest
import redis
import redis.asyncio.retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from activity_tracker_hll import (
    ActivityTracker,
    BackendAuthError,
    BackendResponseError,
)
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.embedded import EmbeddedServer
from activity_tracker_hll.backends.redis import RedisBackend
from helpers.faults import DROP, FORWARD, Node, Proxy, TcpProxy
from helpers.moments import NOON, YESTERDAY
from helpers.servers import eventually, program


class Pair:
    """A master, to be, and its replica, to be, behind one address."""

    def __init__(self, executable, directory):
        self.nodes = []
        for name in ("old", "new"):
            (directory / name).mkdir()
            self.nodes.append(Node(executable, directory / name))
            self.nodes[-1].start()
        self.old, self.new = self.nodes
        self.proxy = TcpProxy(self.old.port)

    def fail_over(self, *, address=True):
        """The old master is a replica now; its connections stay, and whoever connects gets the new one."""
        self.old.client.replicaof("127.0.0.1", self.new.port)
        if address:
            self.proxy.target = self.new.port


@pytest.fixture
def pair(real_server, tmp_path):
    pair = Pair(program(real_server.name), tmp_path)
    with pair.proxy:
        yield pair
    for node in pair.nodes:
        node.close()


class Waiting:
    """The asyncio backend for code that waits."""

    def __init__(self, **options):
        self._loop = asyncio.new_event_loop()
        self._backend = AsyncRedisBackend(**options)

    def client(self):
        return self._backend.client()

    def execute(self, commands):
        return self._loop.run_until_complete(self._backend.execute(commands))

    def close(self):
        """A client that was handed in is closed too: nobody else has its loop."""
        self._loop.run_until_complete(self._backend.close())
        self._loop.run_until_complete(self.client().aclose())
        self._loop.close()


BOTH = pytest.mark.parametrize("make", [RedisBackend, Waiting], ids=["waits", "asyncio"])

SCRIPT = "return redis.call('SET', KEYS[1], ARGV[1])"


@BOTH
def test_a_replica_that_was_the_master_is_left_for_the_new_one(pair, make):
    backend = make(port=pair.proxy.port)
    assert backend.execute([("SET", "a", 1)]) == [b"OK"]
    pair.fail_over()
    replies = backend.execute([("GET", "a"), ("EVAL", SCRIPT, 1, "b", 2), ("SET", "c", 3), ("GET", "c")])
    assert replies == [None, b"OK", b"OK", b"3"]  # all from the new one
    assert pair.new.client.mget("b", "c") == [b"2", b"3"]
    backend.close()


@BOTH
def test_a_master_that_does_not_come(pair, make):
    backend = make(port=pair.proxy.port, retries=2)
    assert backend.execute([("SET", "a", 1)]) == [b"OK"]
    pair.fail_over(address=False)
    before = pair.old.client.info("commandstats")["cmdstat_set"]["rejected_calls"]
    replies = backend.execute([("SET", "b", 2), ("PING",)])
    assert type(replies[0]) is BackendResponseError
    assert "read only" in str(replies[0])
    assert replies[1] == b"PONG"
    assert pair.old.client.info("commandstats")["cmdstat_set"]["rejected_calls"] - before == 3
    pair.proxy.target = pair.new.port  # and when it comes, the next call finds it
    assert backend.execute([("SET", "b", 2)]) == [b"OK"]
    backend.close()


def test_clients_of_others_in_a_failover(pair):
    """Their own policy says how often, but once at least; it says not at all in redis-py 5."""
    valkey = pytest.importorskip("valkey")
    again = valkey.retry.Retry(valkey.backoff.NoBackoff(), 2)
    for number, client in enumerate(
        [
            valkey.Valkey(port=pair.proxy.port, retry=again),
            redis.Redis(port=pair.proxy.port, retry=Retry(NoBackoff(), 2)),
            redis.Redis(port=pair.proxy.port, retry=Retry(NoBackoff(), 0)),
        ]
    ):
        pair.old.client.replicaof("no", "one")
        pair.proxy.target = pair.old.port
        backend = RedisBackend(client=client)
        assert backend.execute([("SET", "a", number)]) == [b"OK"]
        pair.fail_over()
        assert backend.execute([("SET", "a", number)]) == [b"OK"]
        assert pair.new.client.get("a") == b"%d" % number
        client.close()


@pytest.mark.parametrize(
    ("make", "library"), [(RedisBackend, redis), (Waiting, redis.asyncio)], ids=["waits", "asyncio"]
)
def test_a_client_that_tries_nothing_again_leaves_the_replica_all_the_same(pair, make, library):
    """Also where broken connections are no reason for its policy to try again; the first call finds out."""
    policy = library.retry.Retry(NoBackoff(), 0, (redis.TimeoutError,))
    client = library.Redis(port=pair.proxy.port, retry=policy)
    backend = make(client=client)
    assert backend.execute([("SET", "a", 1)]) == [b"OK"]
    pair.fail_over()
    assert backend.execute([("SET", "a", 2)]) == [b"OK"]
    assert pair.new.client.get("a") == b"2"
    pair.new.client.replicaof("127.0.0.1", pair.old.port)  # and no master anywhere: it is not asked for ever
    [reply] = backend.execute([("SET", "a", 3)])
    assert type(reply) is BackendResponseError
    backend.close()
    if make is RedisBackend:
        client.close()


def test_sentinels_connections_ask_for_the_master_again(pair, monkeypatch):
    sentinel = Sentinel([])
    address = pair.old.port
    monkeypatch.setattr(sentinel, "discover_master", lambda _name: ("127.0.0.1", address))
    client = sentinel.master_for("main", retry=Retry(ConstantBackoff(0.01), 2, (redis.ConnectionError,)))
    backend = RedisBackend(client=client)
    assert backend.execute([("SET", "a", 1)]) == [b"OK"]
    pair.fail_over()
    address = pair.new.port
    assert backend.execute([("GET", "a"), ("SET", "b", 2)]) == [None, b"OK"]
    client.close()


class Interrupted(BaseException):
    """What a signal's handler may raise anywhere."""


@BOTH
def test_an_interrupt_between_replies_leaves_no_stale_reply(real_server, tmp_path, monkeypatch, make):
    """The reply that nobody waited for comes later, when the connection may be someone else's."""

    def decide(_number, command):
        if command == [b"ECHO", b"late"]:
            time.sleep(0.3)
        return FORWARD

    with Proxy(tmp_path / "p", real_server.options["unix_socket_path"], decide) as proxy:
        backend = make(unix_socket_path=proxy.path)
        assert backend.execute([("ECHO", "first")]) == [b"first"]
        connection_class = backend.client().connection_pool.connection_class
        read, reads = connection_class.read_response, itertools.count(1)

        def interrupted(self, *args, **kwargs):
            if next(reads) == 2:
                raise Interrupted
            return read(self, *args, **kwargs)

        monkeypatch.setattr(connection_class, "read_response", interrupted)
        with pytest.raises(Interrupted):
            backend.execute([("ECHO", "read"), ("ECHO", "late")])
        assert backend.execute([("ECHO", "next")]) == [b"next"]
        backend.close()


def tries(proxy):
    """How often a password was sent."""
    return sum(command[0] == b"AUTH" or b"AUTH" in command for command in proxy.commands)


@BOTH
def test_a_wrong_password_is_tried_once(real_server, tmp_path, make):
    user = {"username": "guest", "password": "pw"}
    real_server.client.acl_setuser("guest", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"])
    what = iter([])
    target = real_server.options["unix_socket_path"]
    try:
        with Proxy(tmp_path / "p", target, lambda _n, _c: next(what, FORWARD)) as proxy:
            wrong = make(unix_socket_path=proxy.path, **{**user, "password": "wrong"})
            with pytest.raises(BackendAuthError):
                wrong.execute([("PING",)])
            assert tries(proxy) == 1
            wrong.close()

            backend = make(unix_socket_path=proxy.path, **user)
            backend.execute([("PING",)])
            real_server.client.acl_setuser("guest", enabled=True, reset_passwords=True, passwords=["+new"])
            before, what = tries(proxy), iter([DROP])
            with pytest.raises(BackendAuthError):
                backend.execute([("PING",)])  # it has to connect again
            assert tries(proxy) - before == 1
            backend.close()
    finally:
        real_server.client.acl_deluser("guest")


def full(client, directory):
    """Let a server fail to save: it refuses to write then."""
    (directory / "dump.rdb").mkdir()
    client.config_set("save", "3600 1000000")
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    with pytest.raises(redis.ResponseError, match="MISCONF"):
        client.ping()


@BOTH
def test_a_server_that_cannot_save_is_read(real_server, tmp_path, make):
    """Although it does not even answer a PING, which clients send before a call."""
    node = Node(program(real_server.name), tmp_path)
    node.start()
    try:
        node.client.set("a", 1)
        backend = make(port=node.port, health_check_interval=3600)
        assert backend.execute([("GET", "a")]) == [b"1"]
        full(node.client, tmp_path)
        # redis-py tells nobody else when a connection's next health check is due.
        [connection] = backend.client().connection_pool._available_connections  # noqa: SLF001
        connection.next_health_check = 0  # it is due
        read, written = backend.execute([("GET", "a"), ("SET", "a", 2)])
        assert read == b"1"
        assert connection.next_health_check > 0
        assert type(written) is BackendResponseError
        backend.close()
    finally:
        node.close()


def test_an_embedded_server_that_cannot_save_is_there(real_server):
    server = EmbeddedServer(executable=program(real_server.name))
    server.open()
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        full(client, server.directory)
    server.open()
    server.close()


def test_counts_are_read_on_a_replica(pair):
    """Live ones too, of moves, aggregates and raw sets: nothing is written for them."""
    options = {
        "buckets": ["a", "b"],
        "aggregate_buckets": {"t": ["a", "b"]},
        "timezone": "UTC",
        "clock": lambda: NOON,
    }
    with (
        ActivityTracker(["daily"], port=pair.new.port, **options) as tracker,
        ActivityTracker(["daily"], port=pair.old.port, **options) as reader,
    ):
        tracker.track_many(range(100), bucket="a", date=YESTERDAY)
        tracker.track(id=1, bucket="b", old_id=1, old_bucket="a", date=YESTERDAY)
        pair.new.client.sadd(f"active:daily-{YESTERDAY:%Y%m%d}:raw:b", "x")
        pair.fail_over()
        eventually(lambda: pair.old.client.info("replication").get("master_link_status") == "up")
        expected = tracker.lookup(start=YESTERDAY, buckets=["a", "b", "t"])
        assert expected[0][1] == {"a": 99, "b": 2, "t": 101}
        eventually(lambda: reader.lookup(start=YESTERDAY, buckets=["a", "b", "t"]) == expected)
        assert any("replica" in warning for warning in reader.examine().warnings)
