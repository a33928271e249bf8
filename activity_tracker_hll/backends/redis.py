"""Backend for a Redis or Valkey server reached over TCP or a Unix socket.

Clients, time limits, retries and what becomes of them in a forked child live here; what to send does not.
Batches go straight through a connection of the client's pool, because a client's own pipeline costs more per
command than the server needs to run it.
"""

from __future__ import annotations

import ctypes
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import redis
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.retry import Retry

from ..arguments import check_callable, integer
from ..errors import (
    ActivityTrackerError,
    ArgumentTypeError,
    ArgumentValueError,
    BackendConnectionError,
    BackendError,
    BackendTimeoutError,
)
from ..messages import printable, shown
from .base import DEFAULT_KEEP, BackendSettings, BaseBackend, Command, Keep, Reply
from .batch import Batch
from .cluster import BaseCluster, Cluster, ClusterSettings, cluster_settings, pool_arguments, steps
from .connection_options import (
    ADDRESS,
    Servers,
    address_of,
    check_client,
    check_options,
    check_shards,
    refusal,
    servers_of,
)
from .routing import Failed
from .trouble import raise_if_denied, translated

__all__ = ["FOR_EVER", "IS_TRYING", "RedisBackend", "RedisSettings", "Retrying", "sentinels_of"]

FOR_EVER = -1
IS_TRYING: ContextVar[bool] = ContextVar("IS_TRYING", default=False)
"""Whether a :class:`Patient` tries something, in this thread or task."""
_FAILOVER_S = 5.0
"""Time for Sentinel to notice that a master is gone and to make another one, unless a caller waits longer."""
_backends: weakref.WeakSet[RedisSettings] = weakref.WeakSet()


class RedisSettings(BackendSettings):
    """The addresses of shards, and their clients; see :class:`RedisBackend` for the options."""

    _CLIENT: Callable[..., Any]
    _RETRY: Callable[..., Any]
    _PATIENT: Callable[..., Any]
    _CLUSTER: Callable[[ClusterSettings], BaseCluster]
    _ASYNCHRONOUS: bool
    _writer_patience: float | None = None
    """What a writer waits for a reply; None = this is no writer's backend."""

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
        addresses = ", ".join(self._pool(shard)[2] for shard in range(len(self._shards)))
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
            cluster = cluster_settings(options, self._make, self._RETRY, self._writer_patience)
            if cluster is not None:
                made = self._CLUSTER(cluster)
            else:
                made = _connect(options, self._make, self._RETRY, self._PATIENT, asynchronous=asynchronous)
            self._clients.setdefault(index, made)
        return self._clients[index]

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BaseBackend.check_shard`."""
        self.client(shard)

    def is_own(self, shard: int) -> bool:
        """Whether the shard's client was made here."""
        return self._options(shard).get("client") is None

    def is_cluster(self, shard: int) -> bool:
        """See :meth:`.base.BackendSettings.is_cluster`."""
        return isinstance(self.client(shard), BaseCluster)

    def translated(self, error: Exception, address: str) -> BackendError:
        """The BackendError for a client's exception, which becomes its cause."""
        return translated(error, address, self.keys.patterns())

    def leave_to_parent(self) -> None:
        """In a forked child, leave all clients but those handed in to the parent; make new ones on demand.

        A pool's lock may be held by a thread that only the parent has, and redis-py 8 takes it even to notice
        that the process was forked.
        """
        inherited, self._clients, self._pools = self._clients, {}, {}
        for shard, client in inherited.items():
            if isinstance(client, BaseCluster):
                for of_node in client.settings.taken():
                    _never_finalize(of_node)
            elif self.is_own(shard):
                for own in (client, *sentinels_of(client)):
                    _never_finalize(own)

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
        if isinstance(client, BaseCluster):
            self._pools[shard] = client, (), client.settings.address
        else:
            pool = client.connection_pool
            self._pools[shard] = pool, pool_arguments(pool), address_of(client)
        return self._pools[shard]

    def _of_cluster(self, replies: list[Any]) -> list[Reply]:
        """Replies of a cluster, with errors as a backend returns them.

        Raises:
            BackendError: there is nothing but errors, as no node that was asked answered.
        """
        for index, reply in enumerate(replies):
            if isinstance(reply, Failed):
                replies[index] = self.translated(reply.error, f"{reply.node.host}:{reply.node.port}")
        if all(isinstance(reply, BackendConnectionError | BackendTimeoutError) for reply in replies):
            raise replies[0]
        return replies


class Retrying(Retry):
    """Retries, except where no retry can succeed."""

    raise_if_hopeless = staticmethod(raise_if_denied)

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See redis-py, whose versions differ in the further arguments."""

        def failed(error: Exception, *count: int) -> None:
            fail(error, *count)
            self.raise_if_hopeless(error)

        return super().call_with_retry(do, failed, *arguments, **options)


class Patient(Retrying):
    """Retries for so many seconds: how often a failover has to be asked for, nobody knows.

    A retry within another one, as clients have them, is none: it would go on with the address of the old
    master, while the outer one asks for the new.
    """

    def __init__(self, backoff: Any, patience: float, errors: tuple[type[Any], ...]) -> None:
        super().__init__(backoff, FOR_EVER, errors)
        self._patience = patience
        self._once = Retrying(NoBackoff(), 0, errors)

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See :class:`Retrying`."""
        if IS_TRYING.get():
            return self._once.call_with_retry(do, fail, *arguments, **options)
        deadline = time.monotonic() + self._patience

        def failed(error: Exception, *count: int) -> None:
            fail(error, *count)
            if time.monotonic() > deadline:
                raise error

        token = IS_TRYING.set(True)
        try:
            return super().call_with_retry(do, failed, *arguments, **options)
        finally:
            IS_TRYING.reset(token)


class RedisBackend(RedisSettings, BaseBackend):
    """Keeps sketches on a Redis or Valkey server.

    Args:
        url: a ``redis://``, ``rediss://`` or ``unix://`` address, instead of host, port and db; of a
            cluster ``redis+cluster://[user:password@]host:port,host:port``, of a master that Sentinel knows
            ``redis+sentinel://[user:password@]host:port,host:port/service[/db]``, both also with ``rediss+``.
        host: the server's host; default localhost.
        port: its port; default 6379.
        db: its database; default 0.
        client: a redis-py or valkey-py client (standalone or Sentinel's), used as it is, with its own time
            limits and retries; or a RedisCluster, of which only addresses and settings are used; instead of
            any address.
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
    _PATIENT = Patient
    _CLUSTER = Cluster
    _ASYNCHRONOUS = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._writer_backends: set[BaseBackend] = set()

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        pool, arguments, address = self._pool(shard)
        if isinstance(pool, Cluster):
            try:
                replies = pool.execute(commands)
            except Exception as error:  # of the client, the system...
                raise self.translated(error, address) from error
            return self._of_cluster(replies)
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
            if isinstance(client, Cluster) or self.is_own(shard):
                for own in (client, *sentinels_of(client)):
                    own.close()
        for backend in list(self._writer_backends):
            backend.close()

    def for_writer(self, patience: float) -> BaseBackend:
        """See :meth:`.base.BaseBackend.for_writer`; clients that were handed in are used as they are."""
        if not all(self.is_own(shard) or self.is_cluster(shard) for shard in range(len(self._shards))):
            return super().for_writer(patience)
        once = Retrying(NoBackoff(), 1, (redis.ConnectionError, OSError))
        options: dict[str, Any] = {"socket_timeout": patience, "retry": once}
        options |= {"retry_on_error": [redis.ConnectionError], **self._defaults, **self._settings}
        return _WriterBackend(
            self._writer_backends, patience, shards=self._shards, redis_client=self._make, **options
        )


class _WriterBackend(RedisBackend):
    """The backend of one writer. Once closed, it leaves no connection open, even if a call is in progress."""

    def __init__(self, registry: set[BaseBackend], patience: float, **options: Any) -> None:
        self._writer_patience = patience
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
    for _ in steps(connection, batch):
        pass
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


def sentinels_of(client: Any) -> Sequence[Any]:
    """The clients by which another one asks Sentinel for the master; nobody else closes them."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return getattr(manager, "sentinels", ())


def _of_sentinel(servers: Servers, options: Mapping[str, Any], *, asynchronous: bool) -> Any:
    """A client of the master that Sentinel knows, also after a failover."""
    cls = redis.asyncio.sentinel.Sentinel if asynchronous else redis.sentinel.Sentinel
    wanted = {**servers.options, **options}
    of_sentinels = {name: wanted[name] for name in wanted if name.startswith(("socket_", "ssl"))}
    sentinel = cls(servers.addresses, sentinel_kwargs=of_sentinels)
    return sentinel.master_for(servers.service, **wanted)


def _connect(
    options: dict[str, Any],
    make: Any,
    make_retry: Callable[..., Any],
    make_patient: Callable[..., Any],
    *,
    asynchronous: bool,
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
    servers = None if url is None else servers_of(url)
    if servers is None or "retries" in options:
        retry = make_retry(FullJitterBackoff(cap=1.0, base=0.05), options.pop("retries", 3), again)
    else:
        patience = max(options["socket_timeout"] or 0.0, _FAILOVER_S)
        retry = make_patient(FullJitterBackoff(cap=0.5, base=0.05), patience, again)
    options.setdefault("retry", retry)
    options.setdefault("retry_on_error", [redis.ConnectionError, redis.TimeoutError])
    try:
        if servers is not None:
            client = _of_sentinel(servers, options, asynchronous=asynchronous)
        else:
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
