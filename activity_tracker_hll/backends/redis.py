"""Backend for a Redis or Valkey server reached over TCP or a Unix socket.

Clients, time limits and what becomes of them in a forked child live here; what to send does not, nor how
(:mod:`.exchange`).
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import redis
from redis.backoff import FullJitterBackoff, NoBackoff

from ..arguments import check_callable, integer
from ..errors import (
    ActivityTrackerError,
    ArgumentTypeError,
    ArgumentValueError,
    BackendError,
)
from ..messages import printable, shown
from .base import DEFAULT_KEEP, BackendSettings, BaseBackend, Command, Keep, Reply
from .batch import Batch
from .cluster import BaseCluster, Cluster, ClusterSettings, cluster_settings
from .connection_options import (
    ADDRESS,
    address_of,
    check_client,
    check_options,
    check_shards,
    refusal,
    servers_of,
)
from .exchange import exchange, pool_arguments
from .marks import Marks
from .retries import Patient, Retrying
from .routing import Failed
from .sentinel import client_of, sentinels_of
from .slots import has_keys
from .topology import UnknownTopologyError
from .trouble import raise_if_denied, translated

__all__ = ["RedisBackend", "RedisSettings"]

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
        self._replicas: dict[int, Any] = {}
        self._marks = Marks()
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
                connect = partial(
                    _connect, make=self._make, make_retry=self._RETRY, asynchronous=asynchronous
                )
                if options.pop("read_from_replicas", False):
                    self._replicas.setdefault(index, connect(dict(options), patient=None))
                made = connect(options, patient=self._PATIENT)
            self._clients.setdefault(index, made)
        return self._clients[index]

    def made_here(self) -> list[Any]:
        """All clients made here: of clusters, servers, replicas, and of the Sentinels that know these."""
        made: list[Any] = []
        for shard, client in list(self._clients.items()):
            if isinstance(client, BaseCluster):
                made.append(client)
            elif self.is_own(shard):
                made += client, *sentinels_of(client)
        for client in list(self._replicas.values()):
            made += client, *sentinels_of(client)
        return made

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BaseBackend.check_shard`."""
        self.client(shard)

    def is_own(self, shard: int) -> bool:
        """Whether the shard's client was made here."""
        return self._options(shard).get("client") is None

    def is_cluster(self, shard: int) -> bool:
        """See :meth:`.base.BackendSettings.is_cluster`."""
        return isinstance(self.client(shard), BaseCluster)

    def node_of(self, key: str, shard: int) -> str:
        """See :meth:`.base.BackendSettings.node_of`."""
        client = self.client(shard)
        return client.settings.topology.address_of(key) if isinstance(client, BaseCluster) else ""

    def translated(self, error: Exception, address: str) -> BackendError:
        """The BackendError for a client's exception, which becomes its cause."""
        return translated(error, address, self.keys.patterns())

    def leave_to_parent(self) -> None:
        """In a forked child, leave all clients but those handed in to the parent; make new ones on demand.

        A pool's lock may be held by a thread that only the parent has, and redis-py 8 takes it even to notice
        that the process was forked.
        """
        for client in self.made_here():
            for own in client.settings.taken() if isinstance(client, BaseCluster) else [client]:
                _never_finalize(own)
        self._clients, self._replicas, self._pools = {}, {}, {}

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

    def _asks_replicas(self, shard: int, commands: Sequence[Command]) -> bool:
        """Whether replicas that Sentinel knows may answer a batch, and one did a moment ago."""
        return shard in self._replicas and not self._marks.is_down(shard) and all(map(has_keys, commands))

    def _lost_replicas(self, shard: int, error: Exception, address: str) -> None:
        """No replica answered: leave them alone for a while.

        Raises:
            BackendError: access is denied, as it would be each time.
        """
        self._marks.mark(shard)
        try:
            raise_if_denied(error)
        except Exception as denied:
            raise self.translated(denied, address) from denied

    def _of_cluster(self, replies: list[Any]) -> list[Reply]:
        """Replies of a cluster, with errors as a backend returns them.

        They stay in their places even if there is nothing else: other nodes may answer, and who sends batch
        after batch, all to one node by chance, is not to take the whole cluster for down.
        """
        for index, reply in enumerate(replies):
            if isinstance(reply, Failed):
                replies[index] = self.translated(reply.error, reply.node.address)
        return replies


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
        read_from_replicas: of a cluster, or of a master that Sentinel knows: calls that only read ask
            replicas, and the master where none answers. A replica that lags gives older counts. Also as
            ``?read_from_replicas=true`` at the end of the URL.
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
            return self._by_cluster(pool, commands, reads=False)
        batch = Batch(commands)
        try:
            exchange(pool, arguments, batch)
        except Exception as error:  # of the client, the system, a credential provider...
            raise self.translated(error, address) from error
        return batch.results(self.translated, address)

    def read(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.read`."""
        pool, arguments, address = self._pool(shard)
        if isinstance(pool, Cluster):
            return self._by_cluster(pool, commands, reads=True)
        if self._asks_replicas(shard, commands):
            batch = Batch(commands)
            try:
                exchange(self._replicas[shard].connection_pool, arguments, batch)
            except Exception as error:  # noqa: BLE001 (as above)
                self._lost_replicas(shard, error, address)
            else:
                self._marks.unmark(shard)
                if not batch.is_put_off():
                    return batch.results(self.translated, address)
        return self.execute(commands, shard)

    def _by_cluster(self, cluster: Cluster, commands: Sequence[Command], *, reads: bool) -> list[Reply]:
        try:
            replies = cluster.execute(commands, reads=reads)
        except UnknownTopologyError as unknown:
            raise self.translated(unknown.error, unknown.address) from unknown.error
        except Exception as error:  # of the client, the system...
            raise self.translated(error, cluster.settings.address) from error
        return self._of_cluster(replies)

    def close(self) -> None:
        """Close the connections of every client made here; a client handed in stays open."""
        for client in self.made_here():
            client.close()
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
    options: dict[str, Any],
    *,
    make: Any,
    make_retry: Callable[..., Any],
    patient: Callable[..., Any] | None,
    asynchronous: bool,
) -> Any:
    """The client of one server, or of what Sentinel knows.

    Args:
        options: checked ones.
        make: makes a client from those of connections.
        make_retry: makes what tells it how often to try again.
        patient: makes what waits for a failover; None = the client is to be one of replicas, as who does not
            get an answer there asks the master.
    """
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
    if patient is None:
        options.pop("retries", None)
        retry = make_retry(NoBackoff(), 1, (redis.ConnectionError, OSError))
    elif servers is None or "retries" in options:
        retry = make_retry(FullJitterBackoff(cap=1.0, base=0.05), options.pop("retries", 3), again)
    else:
        patience = max(options["socket_timeout"] or 0.0, _FAILOVER_S)
        retry = patient(FullJitterBackoff(cap=0.5, base=0.05), patience, again)
    options.setdefault("retry", retry)
    options.setdefault("retry_on_error", [redis.ConnectionError, redis.TimeoutError])
    try:
        if servers is not None:
            client = client_of(servers, options, asynchronous=asynchronous, is_master=patient is not None)
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
