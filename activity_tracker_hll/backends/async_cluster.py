"""The cluster of :mod:`.cluster` for asyncio: nodes are asked at the same time, each by a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..driving import run_awaiting
from .async_exchange import Lender, exchange_once, read_only
from .base import Command
from .batch import Batch
from .cluster import BaseCluster, ClusterSettings
from .routing import Wait
from .topology import Node, Sent

__all__ = ["AsyncCluster"]


class AsyncCluster(BaseCluster):
    """Exchanges batches with a cluster; belongs to the event loop that uses it."""

    def __init__(self, settings: ClusterSettings) -> None:
        super().__init__(settings)
        self._lender = Lender()

    async def execute(self, commands: Sequence[Command], *, reads: bool = False) -> list[Any]:
        """See :meth:`.cluster.Cluster.execute`."""
        return await run_awaiting(self.routing(commands, reads=reads), self._step)

    async def _step(self, step: Sent | Wait) -> dict[Node, Any] | None:
        if not isinstance(step, Wait):
            return await self._exchange(step)
        await asyncio.sleep(step.seconds)
        await run_awaiting(self.learning(), self._ask)
        return None

    async def _exchange(self, sent: Sent) -> dict[Node, Any]:
        absent = self.absent(sent)
        return absent | await self._ask({node: sent[node] for node in sent if node not in absent})

    async def _ask(self, sent: Sent) -> dict[Node, Any]:
        answers = await asyncio.gather(*(self._answer(node, commands) for node, commands in sent.items()))
        return dict(zip(sent, answers, strict=True))

    async def _answer(self, node: Node, commands: Sequence[Command]) -> Any:
        """The replies of a node, or why it failed."""
        pool, arguments = self.settings.pool(node, read_only)
        batch = Batch(commands)
        try:
            await self._lender.exchange(pool, arguments, batch, exchange_once)
        except RuntimeError:  # of another event loop
            raise
        except Exception as error:  # noqa: BLE001 (of the client, the system: one node's)
            self.settings.failed(node, error)
            return error
        self.settings.answered(node)
        return batch.replies

    def reset(self) -> None:
        """Forget connections of an event loop that has ended."""
        for client in self.settings.clients():
            client.connection_pool.reset()
        self._lender = Lender()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self.settings.taken():
            await client.aclose()
