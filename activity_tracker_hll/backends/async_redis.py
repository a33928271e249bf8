"""The backend of :mod:`.redis` for asyncio: the same servers, options and commands, awaited."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from typing import Any

import redis.asyncio

from ..errors import BackendConnectionError
from .async_base import AsyncBaseBackend
from .async_cluster import AsyncCluster
from .async_exchange import Lender, exchange_with_retries
from .base import BaseBackend, Command, Reply
from .batch import Batch
from .redis import RedisBackend, RedisSettings
from .retries import AsyncPatient, AsyncRetrying
from .topology import UnknownTopologyError

__all__ = ["AsyncRedisBackend"]

_OTHER_LOOP = "the connections belong to another event loop: make a tracker, and a client, for each"


class AsyncRedisBackend(RedisSettings, AsyncBaseBackend):
    """Keeps sketches on a Redis or Valkey server; the options are those of :class:`~.redis.RedisBackend`.

    A client that is handed in must be an asyncio client, and belongs to its event loop; clients made here
    can be used in one loop after another.
    """

    _CLIENT = redis.asyncio.Redis
    _RETRY = AsyncRetrying
    _PATIENT = AsyncPatient
    _CLUSTER = AsyncCluster
    _ASYNCHRONOUS = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._twin: BaseBackend | None = None
        self._lender = Lender()
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    async def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        self._follow()
        pool, arguments, address = self._pool(shard)
        if isinstance(pool, AsyncCluster):
            return await self._by_cluster(pool, commands, reads=False)
        batch = Batch(commands)
        try:
            await self._lender.exchange(pool, arguments, batch, exchange_with_retries)
        except RuntimeError as error:
            raise BackendConnectionError(f"{_OTHER_LOOP} ({address})") from error
        except Exception as error:  # of the client, the system, a credential provider...
            raise self.translated(error, address) from error
        return batch.results(self.translated, address)

    async def read(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.read`."""
        self._follow()
        pool, arguments, address = self._pool(shard)
        if isinstance(pool, AsyncCluster):
            return await self._by_cluster(pool, commands, reads=True)
        if self._asks_replicas(shard, commands):
            batch, replicas = Batch(commands), self._replicas[shard].connection_pool
            try:
                await self._lender.exchange(replicas, arguments, batch, exchange_with_retries)
            except Exception as error:  # noqa: BLE001 (as above)
                self._lost_replicas(shard, error, address)
            else:
                self._marks.unmark(shard)
                if not batch.is_put_off():
                    return batch.results(self.translated, address)
        return await self.execute(commands, shard)

    async def _by_cluster(
        self, cluster: AsyncCluster, commands: Sequence[Command], *, reads: bool
    ) -> list[Reply]:
        try:
            replies = await cluster.execute(commands, reads=reads)
        except UnknownTopologyError as unknown:
            raise self.translated(unknown.error, unknown.address) from unknown.error
        except RuntimeError as error:
            raise BackendConnectionError(f"{_OTHER_LOOP} ({cluster.settings.address})") from error
        except Exception as error:  # of the client, the system...
            raise self.translated(error, cluster.settings.address) from error
        return self._of_cluster(replies)

    async def close(self) -> None:
        """Close the connections of every client made here; a client handed in stays open."""
        self._follow()
        for client in self.made_here():
            await client.aclose()
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
        self._lender, self._loop = Lender(), None

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
            for client in self.made_here():
                of_loop = client if isinstance(client, AsyncCluster) else client.connection_pool
                of_loop.reset()
        self._loop = weakref.ref(loop)
        self._lender = Lender()
