"""Backend for a Redis or Valkey server reached over TCP or a Unix socket.

Connections, time limits, retries and the translation of client errors live here; what to send does
not. Batches go straight through a connection of the client's pool: a client's own pipeline costs
more per command than the server needs to run it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import redis
from hiredis import pack_command
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from ..arguments import integer, seconds
from ..errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BackendAuthError,
    BackendConnectionError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
)
from .base import BackendSettings, BaseBackend, Command, Reply
from .scripts import SOURCES

__all__ = ["RedisBackend"]

# While the server works on one chunk the next is packed and sent.
_CHUNK_COMMANDS = 128
_CHUNKS_IN_FLIGHT = 4
# Of commands in a script, Redis 7.0 and Valkey say so without the code NOPERM.
_DENIED_IN_SCRIPT = re.compile("user executing the script can't run|ACL failure in script")
_ADDRESS = ("url", "host", "port", "db", "unix_socket_path", "client")


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
        retention: timedelta | None | str = "default",
        **connection: Any,
    ) -> None:
        super().__init__(namespace=namespace, secret=secret, moved_limit=moved_limit, retention=retention)
        self._shards = _check_shards(shards)
        self._defaults = connection
        for shard in range(len(self._shards)):
            _check_connection(self._options(shard), asynchronous=self._ASYNCHRONOUS)
        # Clients connect when they are first used; made now, bad options are reported now.
        self._make = redis_client or self._CLIENT
        self._clients = [
            _connect(self._options(shard), self._make, self._RETRY) for shard in range(len(self._shards))
        ]
        self._for_writers: list[BaseBackend] = []
        self._inherited: list[Any] = []
        self._pools: dict[int, tuple[Any, tuple[str, ...]]] = {}

    def client(self, shard: int = 0) -> Any:
        """The client of a shard.

        Raises:
            ArgumentTypeError, ArgumentValueError: no such shard.
        """
        if integer(shard, "shard", minimum=0) >= len(self._clients):
            raise ArgumentValueError(f"shard must be below {len(self._clients)}, got {shard!r}")
        return self._clients[shard]

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BaseBackend.check_shard`."""
        self.client(shard)

    def is_own(self, shard: int) -> bool:
        """Whether the shard's client was made here."""
        return self._options(shard).get("client") is None

    def _options(self, shard: int) -> dict[str, Any]:
        override = self._shards[shard]
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


class RedisBackend(RedisSettings, BaseBackend):
    """Keeps sketches on a Redis or Valkey server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address; instead of host, port and db.
        host, port, db: address; localhost, 6379, 0 unless given.
        client: a redis-py or valkey-py client (standalone or Sentinel's) to use as it is, with its
            own time limits and retries; instead of any address.
        socket_timeout: seconds to wait for a connection and for each reply; None = no limit.
        retries: how often a batch is sent again after a broken connection or a time-out.
        shards: overrides of the options above per data set, such as ``[{}, {"db": 1}]``; chosen by
            the `shard` argument of each call.
        redis_client: what makes a client from connection options, as in activity-tracker.

    namespace, secret, moved_limit, retention: see :class:`~.base.BaseBackend`. Any other option
    (password, username, ssl...) is handed to the client's constructor.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the option and what was expected.
    """

    _CLIENT = redis.Redis
    _RETRY = Retry
    _ASYNCHRONOUS = False

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        pool, arguments = self._pools.get(shard) or self._pool(shard)
        try:
            connection = pool.get_connection(*arguments)
            try:
                replies = _retried(connection, commands)
                if unknown := failed_with("NoScriptError", replies):
                    sources = list(with_sources(commands, unknown))
                    replace_replies(replies, unknown, _retried(connection, sources))
                if failed_with("ReadOnlyError", replies):
                    connection.disconnect()  # no master any more: its address may be another server's by now
            finally:
                pool.release(connection)
        except client_errors() as error:
            raise translated(error) from error
        return [translated(reply) if isinstance(reply, Exception) else reply for reply in replies]

    def close(self) -> None:
        """Close the connections of every client made here; a client handed in stays open."""
        for shard, client in enumerate(self._clients):
            if self.is_own(shard):
                client.close()
        for backend in self._for_writers:
            backend.close()

    def after_fork(self) -> None:
        """See :meth:`.base.BaseBackend.after_fork`: new clients, but for those that were handed in.

        Pools of redis-py 8 take their lock even to notice that the process was forked.
        """
        self._inherited = [*self._inherited, *self._clients]  # not closed: connections are the parent's
        self._pools.clear()
        for shard in range(len(self._clients)):
            if self.is_own(shard):
                self._clients[shard] = _connect(self._options(shard), self._make, self._RETRY)

    def for_writer(self, patience: float) -> BaseBackend:
        """See :meth:`.base.BaseBackend.for_writer`; clients that were handed in are used as they are."""
        if not all(map(self.is_own, range(len(self._clients)))):
            return self
        once = Retry(NoBackoff(), 1, (redis.ConnectionError, OSError))
        options: dict[str, Any] = {"socket_timeout": patience, "retry": once}
        options |= {"retry_on_error": [redis.ConnectionError], **self._defaults, **self._settings}
        backend = RedisBackend(shards=self._shards, redis_client=self._make, **options)
        self._for_writers.append(backend)
        return backend


def failed_with(name: str, replies: Sequence[Any]) -> list[int]:
    """The places of a client's exception; by class name, see :func:`translated`."""
    return [place for place, reply in enumerate(replies) if type(reply).__name__ == name]


def replace_replies(replies: list[Any], places: Sequence[int], others: Sequence[Any]) -> None:
    """Put other replies in those places."""
    for place, reply in zip(places, others, strict=True):
        replies[place] = reply


def translated(error: Exception) -> BackendError:
    """The BackendError for a client's exception, which becomes its cause.

    By class name: redis-py and valkey-py have the same names in separate trees.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    kind: type[BackendError]
    if _DENIED_IN_SCRIPT.search(str(error)) or names & {
        "AuthenticationError",
        "AuthorizationError",
        "NoPermissionError",
    }:
        kind = BackendAuthError
    elif "TimeoutError" in names:
        kind = BackendTimeoutError
    elif "ConnectionError" in names or isinstance(error, OSError):
        kind = BackendConnectionError
    elif "ResponseError" in names:
        kind = BackendResponseError
    else:
        kind = BackendError
    result = kind(str(error) or type(error).__name__)
    result.__cause__ = error
    return result


def client_errors() -> tuple[type[Exception], ...]:
    """The roots of what clients raise; valkey-py's if that client is in use at all."""
    roots: list[type[Exception]] = [redis.RedisError, RedisClusterException, OSError]
    valkey = sys.modules.get("valkey.exceptions")
    if valkey is not None:
        roots.append(valkey.ValkeyError)
    return tuple(roots)


def _retried(connection: Any, commands: Sequence[Command]) -> list[Any]:
    def broken(_error: Exception) -> None:
        connection.disconnect()

    try:
        replies: list[Any] = connection.retry.call_with_retry(lambda: _exchange(connection, commands), broken)
    except BaseException:
        # Replies may still be on their way: the next user of the connection would read them.
        connection.disconnect()
        raise
    return replies


def _exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Send all commands and read all replies; an error reply stands in its place as an exception."""
    replies: list[Any] = []
    for packed, until in chunks(commands):
        connection.send_packed_command([packed])
        while len(replies) < until:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
                replies.append(in_place(error))
    return replies


def chunks(commands: Sequence[Command]) -> Iterator[tuple[bytes, int]]:
    """What to send, each with the number of replies that have to be read before the next is sent."""
    for start in range(0, len(commands), _CHUNK_COMMANDS):
        end = start + _CHUNK_COMMANDS
        packed = b"".join([pack_command(command) for command in commands[start:end]])  # type: ignore[arg-type]
        last = end >= len(commands)
        yield packed, len(commands) if last else max(end - (_CHUNKS_IN_FLIGHT - 1) * _CHUNK_COMMANDS, 0)


def in_place(error: Exception) -> Exception:
    """An error that is the reply to one command; any other, which concerns the connection, is raised."""
    if not any(cls.__name__ == "ResponseError" for cls in type(error).__mro__):
        raise error
    return error


def with_sources(commands: Sequence[Command], places: list[int]) -> Iterator[Command]:
    """Script calls the server did not know: the first of each brings the source along."""
    brought: set[object] = set()
    for place in places:
        command = commands[place]
        sha = command[1]
        if sha in brought:
            yield command
        else:
            brought.add(sha)
            yield ("EVAL", SOURCES[str(sha)], *command[2:])


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
        if url is not None:
            return make.from_url(url, **options)
        return make(**options)
    except (TypeError, ValueError, AttributeError) as error:
        kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentValueError
        raise kind(f"connection options: {error}") from error
