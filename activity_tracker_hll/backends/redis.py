"""Backend for a Redis or Valkey server reached over TCP or a Unix socket.

Clients, time limits, retries and what becomes of them in a forked child live here; what to send does not.
Batches go straight through a connection of the client's pool, because a client's own pipeline costs more per
command than the server needs to run it.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.retry import Retry

from ..arguments import check_callable, integer
from ..errors import ActivityTrackerError, ArgumentTypeError, ArgumentValueError, BackendError
from ..messages import printable, shown
from .base import DEFAULT_KEEP, BackendSettings, BaseBackend, Command, Keep, Reply
from .batch import Batch
from .connection_options import ADDRESS, address_of, check_client, check_options, check_shards, refusal
from .trouble import check_reply, raise_if_denied, translated

__all__ = ["RedisBackend", "RedisSettings", "Retrying"]

_backends: weakref.WeakSet[RedisSettings] = weakref.WeakSet()


class RedisSettings(BackendSettings):
    """The addresses of shards, and their clients; see :class:`RedisBackend` for the options."""

    _CLIENT: Callable[..., Any]
    _RETRY: Callable[..., Any]
    _ASYNCHRONOUS: bool

    def __init__(
        self,
        *,
        shards: Sequence[Mapping[str, Any]] | None = None,
        redis_client: Callable[..., Any] | None = None,
        namespace: str = "active",
        secret: str | bytes | None = None,
        moved_limit: int = 10_000,
        keep_sketches: Keep = DEFAULT_KEEP,
        **connection: Any,
    ) -> None:
        super().__init__(
            namespace=namespace, secret=secret, moved_limit=moved_limit, keep_sketches=keep_sketches
        )
        check_callable(redis_client, "redis_client")
        self._shards = check_shards(shards)
        self._defaults = connection
        self._make = self._CLIENT if redis_client is None else redis_client
        self._clients: dict[int, Any] = {}
        self._pools: dict[int, tuple[Any, tuple[str, ...], str]] = {}
        # Clients connect when they are first used, but are made now, so that bad options are reported now.
        for shard in range(len(self._shards)):
            self.client(shard)
        _backends.add(self)

    def __repr__(self) -> str:
        addresses = ", ".join(address_of(self.client(shard)) for shard in range(len(self._shards)))
        return f"<{type(self).__name__} {addresses} namespace={shown(self.keys.namespace)}>"

    def client(self, shard: int = 0) -> Any:
        """The client of a shard.

        Raises:
            ArgumentTypeError, ArgumentValueError: no such shard.
        """
        index = integer(shard, "shard", minimum=0)
        if index >= len(self._shards):
            raise ArgumentValueError(f"shard must be below {len(self._shards)}, got {shown(shard)}")
        if index not in self._clients:
            # Threads that come at the same time each make one, and the first is kept; no other has connected.
            asynchronous = self._ASYNCHRONOUS
            options = check_options(self._options(index), asynchronous=asynchronous)
            made = _connect(options, self._make, self._RETRY, asynchronous=asynchronous)
            self._clients.setdefault(index, made)
        return self._clients[index]

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BaseBackend.check_shard`."""
        self.client(shard)

    def is_own(self, shard: int) -> bool:
        """Whether the shard's client was made here."""
        return self._options(shard).get("client") is None

    def translated(self, error: Exception, address: str) -> BackendError:
        """The BackendError for a client's exception, which becomes its cause."""
        return translated(error, address)

    def leave_to_parent(self) -> None:
        """In a forked child, leave all clients but those handed in to the parent; make new ones on demand.

        A pool's lock may be held by a thread that only the parent has, and redis-py 8 takes it even to notice
        that the process was forked.
        """
        inherited, self._clients, self._pools = self._clients, {}, {}
        for shard, client in inherited.items():
            if self.is_own(shard):
                _never_finalize(client)

    def _options(self, shard: int) -> dict[str, Any]:
        override = self._shards[shard]
        if override.get("client") is not None:
            return dict(override)
        defaults = self._defaults
        if not override.keys().isdisjoint(("url", "client")):
            defaults = {name: value for name, value in defaults.items() if name not in ADDRESS}
        return {**defaults, **override}

    def _pool(self, shard: int) -> tuple[Any, tuple[str, ...], str]:
        """A shard's pool, the arguments for getting a connection from it, and the address, for messages."""
        found = self._pools.get(shard) if type(shard) is int else None
        if found is not None:
            return found
        client = self.client(shard)
        pool = client.connection_pool
        # redis-py before 5.3 and valkey-py require the name of a command, newer versions warn about it.
        first = next(iter(inspect.signature(pool.get_connection).parameters.values()), None)
        wanted = first is not None and first.name == "command_name" and first.default is first.empty
        self._pools[shard] = pool, ("PFADD",) if wanted else (), address_of(client)
        return self._pools[shard]


class Retrying(Retry):
    """Retries, except where no retry can succeed."""

    raise_if_hopeless = staticmethod(raise_if_denied)

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See redis-py, whose versions differ in the further arguments."""

        def failed(error: Exception, *count: int) -> None:
            fail(error, *count)
            self.raise_if_hopeless(error)

        return super().call_with_retry(do, failed, *arguments, **options)


class RedisBackend(RedisSettings, BaseBackend):
    """Keeps sketches on a Redis or Valkey server.

    Args:
        url: a ``redis://``, ``rediss://`` or ``unix://`` address, instead of host, port and db.
        host: the server's host; default localhost.
        port: its port; default 6379.
        db: its database; default 0.
        client: a redis-py or valkey-py client (standalone or Sentinel's), used as it is, with its own time
            limits and retries; instead of any address.
        socket_timeout: seconds to wait for a connection and for each reply; None = no limit.
        retries: how often a batch is sent again after a broken connection, a timeout or a failover.
        shards: overrides of the options above for each data set, such as ``[{}, {"db": 1}]``; the `shard`
            argument of each call chooses one.
        redis_client: a callable that makes a client from connection options, as in activity-tracker.

    namespace, secret, moved_limit, keep_sketches: see :class:`~.base.BackendSettings`. All other options
    (password, username, ssl...) are handed to the client's constructor.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the option and what was expected.
    """

    _CLIENT = redis.Redis
    _RETRY = Retrying
    _ASYNCHRONOUS = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._writer_backends: set[BaseBackend] = set()

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        pool, arguments, address = self._pool(shard)
        batch = Batch(commands)
        try:
            connection = pool.get_connection(*arguments)
            try:
                for part in batch.rounds():
                    _exchange_with_retries(connection, part)
            finally:
                pool.release(connection)
        except Exception as error:  # of the client, the system, a credential provider...
            raise self.translated(error, address) from error
        return batch.results(self.translated, address)

    def close(self) -> None:
        """Close the connections of every client made here; a client handed in stays open."""
        for shard, client in list(self._clients.items()):
            if self.is_own(shard):
                client.close()
        for backend in list(self._writer_backends):
            backend.close()

    def for_writer(self, patience: float) -> BaseBackend:
        """See :meth:`.base.BaseBackend.for_writer`; clients that were handed in are used as they are."""
        if not all(map(self.is_own, range(len(self._shards)))):
            return super().for_writer(patience)
        once = Retrying(NoBackoff(), 1, (redis.ConnectionError, OSError))
        options: dict[str, Any] = {"socket_timeout": patience, "retry": once}
        options |= {"retry_on_error": [redis.ConnectionError], **self._defaults, **self._settings}
        return _WriterBackend(self._writer_backends, shards=self._shards, redis_client=self._make, **options)


class _WriterBackend(RedisBackend):
    """The backend of one writer. Once closed, it leaves no connection open, even if a call is in progress."""

    def __init__(self, registry: set[BaseBackend], **options: Any) -> None:
        super().__init__(**options)
        self._registry = registry
        self._closed = False
        registry.add(self)

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        if self._closed:
            raise BackendError("the writer's backend is closed")
        try:
            return super().execute(commands, shard)
        finally:
            if self._closed:  # by another thread meanwhile: this call may have connected again
                super().close()

    def close(self) -> None:
        self._closed = True
        self._registry.discard(self)
        super().close()


def _exchange_with_retries(connection: Any, batch: Batch) -> None:
    def broken(error: Exception) -> None:
        connection.disconnect()
        raise_if_denied(error)

    try:
        connection.retry.call_with_retry(lambda: _exchange_once(connection, batch), broken)
    except BaseException as error:
        # Replies may still be on their way, and the next user of the connection would read them.
        connection.disconnect()
        if error is not batch.demoted:
            raise
        if batch.attempts == 1:  # the client's policy tries nothing again, but a new connection may do
            _exchange_with_retries(connection, batch)


def _exchange_once(connection: Any, batch: Batch) -> None:
    """Send all commands and read all replies; a command that failed has an exception for a reply."""
    if batch.begin():
        connection.connect()  # the only moment at which Sentinel's connections ask for the present master
    try:
        connection.check_health()
    except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
        # A server whose disk is full refuses even PING, but can still be read from.
        check_reply(error)
    replies = batch.replies
    for packed, until in batch.chunks():
        connection.send_packed_command([packed], check_health=False)
        while len(replies) < until:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
                batch.failed(error)
    batch.end()


def _leave_to_parent() -> None:
    for backend in list(_backends):
        backend.leave_to_parent()


def _never_finalize(client: Any) -> None:
    """Keep a client alive until the interpreter has ended, so that its finalizers never run.

    In a child they would wait for the lock of the pool. Those of asyncio's streams would affect the parent:
    they share what the kernel watches for the event loop, and the connection, on which TLS says goodbye.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


os.register_at_fork(after_in_child=_leave_to_parent)


def _connect(
    options: dict[str, Any], make: Any, make_retry: Callable[..., Any], *, asynchronous: bool
) -> Any:
    client = options.pop("client", None)
    if client is not None:
        if options:
            raise ArgumentTypeError(
                f"client is used as it is, and cannot be given {', '.join(map(printable, sorted(options)))}"
            )
        return client
    given = dict(options)
    url = options.pop("url", None)
    # The client's own defaults differ by version: none at all in redis-py 5, a minute in 8.
    options.setdefault("socket_timeout", 5.0)
    options.setdefault("socket_connect_timeout", options["socket_timeout"])
    # OSError: a refused connection, which redis-py 5 would not try again.
    again = (redis.ConnectionError, redis.TimeoutError, OSError)
    retry = make_retry(FullJitterBackoff(cap=1.0, base=0.05), options.pop("retries", 3), again)
    options.setdefault("retry", retry)
    options.setdefault("retry_on_error", [redis.ConnectionError, redis.TimeoutError])
    try:
        client = make(**options) if url is None else make.from_url(url, **options)
        check_client(client, "redis_client: what it makes", asynchronous=asynchronous)
        # Most options are not checked before a connection is made; making one does not connect it.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except ActivityTrackerError:
        raise
    except Exception as error:  # noqa: BLE001 (as many kinds as there are options)
        refused = refusal(error, given)
    else:
        return client
    raise refused  # outside, as the client's own error may hold the password
