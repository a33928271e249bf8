"""Backend for a Redis or Valkey server reached over TCP or a Unix socket.

Clients, time limits and retries live here, and what becomes of them in a forked child; what to send does not.
Batches go straight through a connection of the client's pool: a client's own pipeline costs more per command
than the server needs to run it.
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

from ..arguments import integer, seconds
from ..errors import ArgumentTypeError, ArgumentValueError, BackendError
from .base import DEFAULT_KEEP, BackendSettings, BaseBackend, Command, Keep, Reply
from .batch import Batch, check_reply, client_errors, raise_if_denied, translated

__all__ = ["RedisBackend"]

_ADDRESS = ("url", "host", "port", "db", "unix_socket_path", "client")

_backends: weakref.WeakSet[RedisSettings] = weakref.WeakSet()


class RedisSettings(BackendSettings):
    """Addresses, and the clients of them; see :class:`RedisBackend` for the options."""

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
        self._shards = _check_shards(shards)
        self._defaults = connection
        for shard in range(len(self._shards)):
            _check_connection(self._options(shard), asynchronous=self._ASYNCHRONOUS)
        self._make = redis_client or self._CLIENT
        self._clients: dict[int, Any] = {}
        self._pools: dict[int, tuple[Any, tuple[str, ...]]] = {}
        # Clients connect when they are first used; made now, bad options are reported now.
        for shard in range(len(self._shards)):
            self.client(shard)
        _backends.add(self)

    def client(self, shard: int = 0) -> Any:
        """The client of a shard.

        Raises:
            ArgumentTypeError, ArgumentValueError: no such shard.
        """
        place = integer(shard, "shard", minimum=0)
        if place >= len(self._shards):
            raise ArgumentValueError(f"shard must be below {len(self._shards)}, got {shard!r}")
        if place not in self._clients:
            # Of threads that come at once each makes one, and the first is taken: no other has connected.
            self._clients.setdefault(place, _connect(self._options(place), self._make, self._RETRY))
        return self._clients[place]

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BaseBackend.check_shard`."""
        self.client(shard)

    def is_own(self, shard: int) -> bool:
        """Whether the shard's client was made here."""
        return self._options(shard).get("client") is None

    def leave_to_parent(self) -> None:
        """In a forked child: make new clients when they are next asked for, but for those handed in.

        The lock of a pool may be held by a thread that only the parent has, and redis-py 8 takes it even to
        notice that the process was forked.
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
            defaults = {name: value for name, value in defaults.items() if name not in _ADDRESS}
        return {**defaults, **override}

    def _pool(self, shard: int) -> tuple[Any, tuple[str, ...]]:
        pool = self.client(shard).connection_pool
        # redis-py before 5.3 and valkey-py want a command's name, newer ones warn of it.
        first = next(iter(inspect.signature(pool.get_connection).parameters.values()), None)
        wanted = first is not None and first.name == "command_name" and first.default is first.empty
        self._pools[shard] = pool, ("PFADD",) if wanted else ()
        return self._pools[shard]


class _Retry(Retry):
    """Tries again what may succeed then."""

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        def failed(error: Exception, *count: int) -> None:
            fail(error, *count)
            raise_if_denied(error)

        return super().call_with_retry(do, failed, *arguments, **options)


class RedisBackend(RedisSettings, BaseBackend):
    """Keeps sketches on a Redis or Valkey server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address; instead of host, port and db.
        host, port, db: address; localhost, 6379, 0 unless given.
        client: a redis-py or valkey-py client (standalone or Sentinel's) to use as it is, with its
            own time limits and retries; instead of any address.
        socket_timeout: seconds to wait for a connection and for each reply; None = no limit.
        retries: how often a batch is sent again after a broken connection, a time-out or a failover.
        shards: overrides of the options above per data set, such as ``[{}, {"db": 1}]``; chosen by
            the `shard` argument of each call.
        redis_client: what makes a client from connection options, as in activity-tracker.

    The settings that belong to the data, such as `secret`, are those of :class:`~.base.BackendSettings`. Any
    other option (password, username, ssl...) is handed to the client's constructor.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the option and what was expected.
    """

    _CLIENT = redis.Redis
    _RETRY = _Retry
    _ASYNCHRONOUS = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._for_writers: set[BaseBackend] = set()

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        pool, arguments = self._pools.get(shard) or self._pool(shard)
        batch = Batch(commands)
        try:
            connection = pool.get_connection(*arguments)
            try:
                for part in batch.rounds():
                    _retried(connection, part)
            finally:
                pool.release(connection)
        except client_errors() as error:
            raise translated(error) from error
        return batch.results()

    def close(self) -> None:
        """Close the connections of every client made here; a client handed in stays open."""
        for shard, client in list(self._clients.items()):
            if self.is_own(shard):
                client.close()
        for backend in list(self._for_writers):
            backend.close()

    def for_writer(self, patience: float) -> BaseBackend:
        """See :meth:`.base.BaseBackend.for_writer`; clients that were handed in are used as they are."""
        if not all(map(self.is_own, range(len(self._shards)))):
            return super().for_writer(patience)
        once = _Retry(NoBackoff(), 1, (redis.ConnectionError, OSError))
        options: dict[str, Any] = {"socket_timeout": patience, "retry": once}
        options |= {"retry_on_error": [redis.ConnectionError], **self._defaults, **self._settings}
        return _OfWriter(self._for_writers, shards=self._shards, redis_client=self._make, **options)


class _OfWriter(RedisBackend):
    """What one writer sends with. Closed, it leaves no connection open, also if a call is under way."""

    def __init__(self, unclosed: set[BaseBackend], **options: Any) -> None:
        super().__init__(**options)
        self._unclosed = unclosed
        self._closed = False
        unclosed.add(self)

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        if self._closed:
            raise BackendError("the writer's backend is closed")
        try:
            return super().execute(commands, shard)
        finally:
            if self._closed:  # by another thread, meanwhile: the call may have connected again
                super().close()

    def close(self) -> None:
        self._closed = True
        self._unclosed.discard(self)
        super().close()


def _retried(connection: Any, batch: Batch) -> None:
    def broken(error: Exception) -> None:
        connection.disconnect()
        raise_if_denied(error)

    try:
        connection.retry.call_with_retry(lambda: _exchange(connection, batch), broken)
    except BaseException as error:
        # Replies may still be on their way: the next user of the connection would read them.
        connection.disconnect()
        if error is not batch.demoted:
            raise


def _exchange(connection: Any, batch: Batch) -> None:
    """Send all commands and read all replies; an error reply stands in its place as an exception."""
    if batch.begin():
        connection.connect()  # Sentinel's connections ask nowhere else for the master of now
    try:
        connection.check_health()
    except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
        # While its disk is full, a server refuses a PING too, and may be read from all the same.
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
    """Keep a client for longer than the interpreter runs.

    In a child its finalizers would wait for the lock of the pool. Those of asyncio's streams would reach into
    the parent: what the kernel watches for its loop is shared, and so is a connection, on which TLS takes
    leave.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


os.register_at_fork(after_in_child=_leave_to_parent)


def _check_shards(shards: object) -> list[dict[str, Any]]:
    if shards is None:
        return [{}]
    if isinstance(shards, (str, bytes, Mapping)) or not isinstance(shards, Sequence):
        raise ArgumentTypeError(f"shards must be a list of dicts of connection options, got {shards!r}")
    if not shards:
        raise ArgumentValueError("shards must not be empty")
    for place, shard in enumerate(shards):
        if not isinstance(shard, Mapping):
            raise ArgumentTypeError(f"shards[{place}] must be a dict of connection options, got {shard!r}")
    return [dict(shard) for shard in shards]


def _check_connection(options: Mapping[str, Any], *, asynchronous: bool) -> None:
    if options.get("socket_timeout") is not None:
        seconds(options["socket_timeout"], "socket_timeout")
    if options.get("db") is not None:
        integer(options["db"], "db", minimum=0)
    if "retries" in options:
        integer(options["retries"], "retries", minimum=0)
    for sole in ("client", "url"):
        others = sorted(set(_ADDRESS) & set(options) - {sole})
        if options.get(sole) is not None and others:
            raise ArgumentValueError(f"{sole} cannot be combined with {', '.join(others)}")
    client = options.get("client")
    pool = getattr(client, "connection_pool", None)
    if client is not None and (pool is None or hasattr(client, "__aenter__") != asynchronous):
        raise ArgumentTypeError(
            f"client must be {'an asyncio' if asynchronous else 'a synchronous'} client of redis-py or"
            f" valkey-py, standalone or Sentinel's, got {client!r}"
        )


def _connect(options: dict[str, Any], make: Any, make_retry: Callable[..., Any]) -> Any:
    client = options.pop("client", None)
    if client is not None:
        if options:
            raise ArgumentTypeError(
                f"client is used as it is, and cannot be given {', '.join(sorted(options))}"
            )
        return client
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
        made = make(**options) if url is None else make.from_url(url, **options)
        if (
            url is not None
        ):  # from a URL, options are looked at when a connection is made; that connects not yet
            made.connection_pool.connection_class(**made.connection_pool.connection_kwargs)
    except (TypeError, ValueError, AttributeError) as error:
        kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentValueError
        raise kind(f"connection options: {error}") from error
    return made
