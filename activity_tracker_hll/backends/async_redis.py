"""The backend of :mod:`.redis` for asyncio: the same servers, options and commands, awaited."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..errors import BackendConnectionError
from .async_base import AsyncBaseBackend
from .async_cluster import AsyncCluster, discard, exchange
from .base import BaseBackend, Command, Reply
from .batch import Batch
from .redis import FOR_EVER, IS_TRYING, RedisBackend, RedisSettings, sentinels_of
from .trouble import raise_if_denied

__all__ = ["AsyncRedisBackend", "Retrying"]

# Further calls wait their turn, because a pool that has lent its last connection raises an exception.
_MOST_CONNECTIONS = 50
_OTHER_LOOP = "the connections belong to another event loop: make a tracker, and a client, for each"


class Retrying(Retry):
    """As in the other backend."""

    raise_if_hopeless = staticmethod(raise_if_denied)

    async def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See redis-py, whose versions differ in the further arguments."""

        async def failed(error: Exception, *count: int) -> None:
            await fail(error, *count)
            self.raise_if_hopeless(error)

        return await super().call_with_retry(do, failed, *arguments, **options)


class Patient(Retrying):
    """As in the other backend."""

    def __init__(self, backoff: Any, patience: float, errors: tuple[type[Any], ...]) -> None:
        super().__init__(backoff, FOR_EVER, errors)
        self._patience = patience
        self._once = Retrying(NoBackoff(), 0, errors)

    async def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See :class:`Retrying`."""
        if IS_TRYING.get():
            return await self._once.call_with_retry(do, fail, *arguments, **options)
        deadline = time.monotonic() + self._patience

        async def failed(error: Exception, *count: int) -> None:
            await fail(error, *count)
            if time.monotonic() > deadline:
                raise error

        token = IS_TRYING.set(True)
        try:
            return await super().call_with_retry(do, failed, *arguments, **options)
        finally:
            IS_TRYING.reset(token)


class AsyncRedisBackend(RedisSettings, AsyncBaseBackend):
    """Keeps sketches on a Redis or Valkey server; the options are those of :class:`~.redis.RedisBackend`.

    A client that is handed in must be an asyncio client, and belongs to its event loop; clients made here
    can be used in one loop after another.
    """

    _CLIENT = redis.asyncio.Redis
    _RETRY = Retrying
    _PATIENT = Patient
    _CLUSTER = AsyncCluster
    _ASYNCHRONOUS = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._twin: BaseBackend | None = None
        self._turns: dict[int, asyncio.Semaphore] = {}
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    async def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        self._follow()
        pool, arguments, address = self._pool(shard)
        if isinstance(pool, AsyncCluster):
            return await self._by_cluster(pool, commands)
        turn = self._turns.get(shard) or self._turns.setdefault(
            shard, asyncio.Semaphore(min(pool.max_connections, _MOST_CONNECTIONS))
        )
        batch = Batch(commands)
        try:
            async with turn:
                connection = await pool.get_connection(*arguments)
                try:
                    for part in batch.rounds():
                        await _exchange_with_retries(connection, part)
                except BaseException:
                    # Replies may still be on their way, and the next user of the connection would read them.
                    # Nor may the connection stay lent for ever because the caller was cancelled twice.
                    await asyncio.shield(discard(pool, connection))
                    raise
                await pool.release(connection)
        except RuntimeError as error:
            raise BackendConnectionError(f"{_OTHER_LOOP} ({address})") from error
        except Exception as error:  # of the client, the system, a credential provider...
            raise self.translated(error, address) from error
        return batch.results(self.translated, address)

    async def _by_cluster(self, cluster: AsyncCluster, commands: Sequence[Command]) -> list[Reply]:
        try:
            replies = await cluster.execute(commands)
        except RuntimeError as error:
            raise BackendConnectionError(f"{_OTHER_LOOP} ({cluster.settings.address})") from error
        except Exception as error:  # of the client, the system...
            raise self.translated(error, cluster.settings.address) from error
        return self._of_cluster(replies)

    async def close(self) -> None:
        """Close the connections of every client made here; a client handed in stays open."""
        self._follow()
        for shard, client in list(self._clients.items()):
            if isinstance(client, AsyncCluster) or self.is_own(shard):
                for own in (client, *sentinels_of(client)):
                    await own.aclose()
        if self._twin is not None:
            self._twin.close()

    def blocking(self) -> BaseBackend:
        """See the base class; it has connections of its own, unless clients were handed in."""
        if not all(map(self.is_own, range(len(self._shards)))) or self._arguments[1].get("redis_client"):
            return super().blocking()
        if self._twin is None:
            self._twin = RedisBackend(**self._arguments[1])
        return self._twin

    def leave_to_parent(self) -> None:
        """See :meth:`.redis.RedisSettings.leave_to_parent`; the loop is left, too."""
        super().leave_to_parent()
        self._turns, self._loop = {}, None

    def _follow(self) -> None:
        """Forget connections of a loop that has ended.

        Raises:
            BackendConnectionError: it has not: its connections can be neither used nor closed here.
        """
        loop = asyncio.get_running_loop()
        last = None if self._loop is None else self._loop()
        if last is loop:
            return
        if last is not None and not last.is_closed():
            raise BackendConnectionError(_OTHER_LOOP)
        if self._loop is not None:
            for shard, client in self._clients.items():
                if isinstance(client, AsyncCluster):
                    client.reset()
                elif self.is_own(shard):
                    for own in (client, *sentinels_of(client)):
                        own.connection_pool.reset()
        self._loop = weakref.ref(loop)
        self._turns = {}


async def _exchange_with_retries(connection: Any, batch: Batch) -> None:
    async def broken(error: Exception) -> None:
        await connection.disconnect()
        raise_if_denied(error)

    try:
        await connection.retry.call_with_retry(lambda: _exchange_once(connection, batch), broken)
    except Exception as error:
        if error is not batch.demoted:
            raise
        await connection.disconnect()
        if batch.attempts == 1:
            await _exchange_with_retries(connection, batch)


async def _exchange_once(connection: Any, batch: Batch) -> None:
    """As in the other backend, whose comments give the reasons."""
    if batch.begin():
        await connection.connect()
    await exchange(connection, batch)
    batch.end()
