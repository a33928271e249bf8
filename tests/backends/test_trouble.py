"""What a user reads when a server is in trouble: what is wrong, what to do, and where; in both backends."""

import asyncio
import contextlib
import shutil
import socket
import threading

import hiredis
import pytest
import redis
import redis.asyncio

from activity_tracker_hll import (
    ActivityTracker,
    ActivityTrackerError,
    BackendAuthError,
    BackendConnectionError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
)
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.backends.exchange import pool_arguments
from activity_tracker_hll.backends.redis import RedisBackend
from activity_tracker_hll.backends.trouble import translated
from helpers.errors import raises
from helpers.faults import Node
from helpers.servers import eventually, free_port, program


def waits(**options):
    with ActivityTracker(["daily"], **options) as tracker:
        tracker.track(id="a")
    if "client" in options:
        options["client"].close()


def awaited(**options):
    async def run():
        try:
            async with AsyncActivityTracker(["daily"], **options) as tracker:
                await tracker.track(id="a")
        finally:
            if "client" in options:
                await options["client"].aclose()

    asyncio.run(run())


BOTH = pytest.mark.parametrize("track", [waits, awaited], ids=["waits", "asyncio"])


@pytest.fixture
def node(real_server, tmp_path):
    """A server of the test's own."""
    node = Node(program(real_server.name), tmp_path)
    node.start()
    yield node
    node.close()


@pytest.fixture
def locked(node):
    node.client.config_set("requirepass", "right")
    return node


@BOTH
@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_a_password_is_wanted(locked, track, protocol):
    options = {} if protocol is None else {"protocol": protocol}
    with raises(BackendAuthError, "^(127.0.0.1|localhost):", "wants a password: give password="):
        track(port=locked.port, **options)


@BOTH
@pytest.mark.parametrize("options", [{"password": "wrong"}, {"username": "nobody", "password": "wrong"}])
def test_a_wrong_password(locked, track, options):
    with raises(BackendAuthError, rf"^localhost:{locked.port}/0 refuses the password") as caught:
        track(port=locked.port, **options)
    assert "wrong)" not in str(caught.value)
    assert "nobody" not in str(caught.value)
    with raises(BackendAuthError, "refuses the password"):
        track(url=f"redis://:wrong@127.0.0.1:{locked.port}")


@BOTH
def test_a_password_that_is_not_wanted(node, track):
    with raises(BackendAuthError, rf"^localhost:{node.port}/0 wants no password"):
        track(port=node.port, password="unwanted", protocol=2)
    # By RESP3 a password is that of a user, and one without takes any.
    track(port=node.port, password="unwanted", protocol=3)


@BOTH
def test_a_user_without_the_permission(node, track):
    node.client.acl_setuser(
        "limited", enabled=True, passwords=["+pw"], keys=["*"], commands=["+ping", "+hello"]
    )
    with raises(BackendAuthError, "does not allow that to this user", str(node.port)) as caught:
        track(url=f"redis://limited:pw@127.0.0.1:{node.port}")
    assert "limited" not in str(caught.value)


@BOTH
def test_a_disk_that_is_full(node, tmp_path, track):
    """Or gone."""
    node.client.config_set("save", "3600 1")
    node.client.set("a", 1)
    shutil.rmtree(tmp_path)
    node.client.bgsave()
    eventually(lambda: node.client.info("persistence")["rdb_last_bgsave_status"] == "err")
    with raises(BackendResponseError, "cannot save its data to disk, and takes no writes", str(node.port)):
        track(port=node.port)


@BOTH
def test_no_memory(node, track):
    node.client.config_set("maxmemory", 1)
    with raises(BackendResponseError, "has used up its memory .maxmemory.", str(node.port)):
        track(port=node.port)


@BOTH
def test_a_replica(node, track):
    node.client.replicaof("127.0.0.1", free_port())
    with raises(
        BackendResponseError, "is a replica and takes no writes: connect to the master", str(node.port)
    ):
        track(port=node.port, retries=0)


@BOTH
def test_too_many_clients(node, track):
    node.client.config_set("maxclients", 1)
    # It says so and hangs up, which may be noticed first.
    with raises(BackendConnectionError, "(as many clients as it may|connection lost)", str(node.port)):
        track(port=node.port, retries=0)


def test_too_many_threads(real_server):
    """The limit is the client's own; it is not the server that cannot be reached."""
    with real_server.tracker(max_connections=1) as tracker:
        pool = tracker.backend.client().connection_pool
        taken = pool.get_connection(*pool_arguments(pool))
        with raises(
            BackendConnectionError, "is not asked, .*max_connections=.*Too many connections"
        ) as caught:
            tracker.track(id="a")
        assert "reached" not in str(caught.value)
        pool.release(taken)
        tracker.track(id="a")


@pytest.mark.parametrize(
    ("code", "said"),
    [("TRYAGAIN", "here is giving the slot .* another node"), ("CLUSTERDOWN", "here cannot use its cluster")],
)
def test_what_a_cluster_cannot_do_for_the_moment(code, said):
    with raises(BackendResponseError, said, "cause"):
        raise translated(redis.ResponseError(f"{code} cause"), "here")


@contextlib.contextmanager
def speaker(answer):
    """A server that says the same to each command; of what is no command, to all of it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    commands = hiredis.Reader()
                    while answer and (data := connection.recv(65536)):
                        with contextlib.suppress(hiredis.ProtocolError):
                            commands.feed(data)
                            while commands.gets() is not False:
                                connection.sendall(answer)
                            continue
                        connection.sendall(answer)  # to a TLS handshake
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
"""What OpenSSL says to whoever does not begin with a TLS handshake."""
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


@BOTH
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer as a Redis server: another program listens"),
        (ALERT, "it expects TLS .rediss://"),
        (b"", "closed the connection: .* expects TLS"),
        (LOADING, "is still loading its data from disk: try again later"),
        (b"-ERR \x1b]0;evil\x07\xe2\x80\xaecipher\r\n", r"\\x1b\]0;evil\\x07\\u202ecipher"),
    ],
    ids=["HTTP", "TLS", "silence", "loading", "escapes"],
)
def test_servers_that_are_none(track, answer, words):
    with speaker(answer) as port, raises(BackendError, f"127.0.0.1:{port}/0", words) as caught:
        track(host="127.0.0.1", port=port, retries=0)
    assert str(caught.value).isprintable()
    assert caught.value.__cause__ is not None


@BOTH
def test_tls_with_a_server_that_has_none(node, track):
    """It waits for more; others say something else."""
    with raises(BackendTimeoutError, f"localhost:{node.port}/0 does not answer in time.* TLS"):
        track(port=node.port, ssl=True, retries=0, socket_timeout=0.5)
    with speaker(b"-ERR unknown command\r\n") as port, raises(BackendConnectionError, "spoken to by TLS"):
        track(port=port, ssl=True, retries=0)


@BOTH
def test_nobody_there(track):
    with raises(BackendConnectionError, "127.0.0.1:1/0 cannot be reached", "connect") as caught:
        track(url="redis://user:pw@127.0.0.1:1/0", retries=0)
    assert "pw" not in str(caught.value)


@BOTH
def test_no_answer(track):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with raises(BackendTimeoutError, f"127.0.0.1:{port}/0 does not answer in time .socket_timeout"):
            track(host="127.0.0.1", port=port, retries=0, socket_timeout=0.1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "no such", 7])
def test_clients_that_encode_otherwise(encoding):
    with raises(ActivityTrackerError, "^client: encoding must be"):
        ActivityTracker(["daily"], client=redis.Redis(encoding=encoding))
    with raises(ActivityTrackerError, "^encoding must be"):
        ActivityTracker(["daily"], encoding=encoding)


@BOTH
def test_clients_that_decode(real_server, track):
    """Their replies are bytes to us all the same, errors too."""
    library = redis if track is waits else redis.asyncio
    path = real_server.options["unix_socket_path"]
    track(client=library.Redis(unix_socket_path=path, decode_responses=True, encoding="latin-1"))
    real_server.client.set("active:{meta}", b"\xff")
    with raises(BackendError, "active:{meta}"):
        track(client=library.Redis(unix_socket_path=path, decode_responses=True))


@pytest.mark.parametrize("handed_in", [False, True])
def test_two_loops(real_server, handed_in):
    options = {"unix_socket_path": real_server.options["unix_socket_path"]}
    client = redis.asyncio.Redis(**options)
    tracker = AsyncActivityTracker(["daily"], **({"client": client} if handed_in else options))
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def meanwhile():
        await tracker.track(id="a")
        await asyncio.to_thread(second.run_until_complete, tracker.track(id="a"))

    with raises(
        BackendConnectionError, "belong to another event loop: make a tracker, and a client, for each"
    ):
        first.run_until_complete(meanwhile())  # while it runs
    with raises(BackendConnectionError, "belong to another event loop"):
        second.run_until_complete(tracker.track(id="a"))
    with raises(BackendConnectionError, "belong to another event loop"):
        second.run_until_complete(tracker.close())
    first.run_until_complete(tracker.close())
    first.run_until_complete(client.aclose())
    first.close()
    second.run_until_complete(tracker.track(id="a"))  # now that the first one has ended
    second.run_until_complete(tracker.close())
    second.run_until_complete(client.aclose())
    second.close()


def test_what_a_provider_of_passwords_raises():
    class Failing(redis.CredentialProvider):
        def get_credentials(self):
            raise LookupError("s3cret")

    backend = RedisBackend(port=free_port(), credential_provider=Failing(), retries=0)
    with pytest.raises(BackendError):  # nobody is there, so it is not even asked
        backend.execute([("PING",)])
    assert "s3cret" not in str(translated(LookupError("s3cret"), "here"))


@BOTH
@pytest.mark.parametrize(("where", "why"), [("", "No such file"), ("/", "refused")])
def test_a_unix_socket_that_is_not_there(tmp_path, track, where, why):
    path = f"{tmp_path}{where or '/server.sock'}"
    with raises(BackendConnectionError, f"^{path} cannot be reached", why) as caught:
        track(unix_socket_path=path)
    assert "ssl_" not in str(caught.value)
    with raises(BackendConnectionError, rf"^{path} \(database 3\) cannot be reached", why):
        track(url=f"unix://{path}?db=3")


@pytest.mark.parametrize(
    ("text", "is_about_tls"),
    [
        ("Error 2 connecting to /run/redis.sock. No such file or directory.", False),
        ("Error 2 connecting to redis.sock. No such file or directory.", False),
        ("Error 2 connecting to unix socket: /run/redis.sock. No such file or directory.", False),
        ("Error 2 connecting to localhost:6379. No such file or directory.", True),
        ("Error 2 connecting to ::1:6379. No such file or directory.", True),
        ("Error connecting to localhost:6379. [Errno 2] No such file or directory.", True),
    ],
)
def test_a_file_that_is_missing_is_a_socket_or_one_of_tls(text, is_about_tls):
    """As clients of several versions say it."""
    assert ("ssl_ca_certs=" in str(translated(redis.ConnectionError(text)))) is is_about_tls
