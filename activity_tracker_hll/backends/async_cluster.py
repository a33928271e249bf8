"""The cluster of :mod:`.cluster` for asyncio: nodes are asked at the same time, each by a task of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .base import Command
from .batch import Batch
from .cluster import BaseCluster, ClusterSettings
from .routing import Node, Wait, route
from .trouble import check_reply, raise_if_denied

__all__ = ["AsyncCluster", "discard"]

_MOST_CONNECTIONS = 50  # to a node; further calls wait their turn


class AsyncCluster(BaseCluster):
    """Exchanges batches with a cluster; belongs to the event loop that uses it."""

    def __init__(self, settings: ClusterSettings) -> None:
        super().__init__(settings)
        self._turns: dict[Node, asyncio.Semaphore] = {}

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See :meth:`.cluster.Cluster.execute`."""
        routing = route(
            commands, self.settings.topology, patience=self.settings.patience, clock=time.monotonic
        )
        try:
            step = next(routing)
            while True:
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                    await self.learn()
                    step = next(routing)
                else:
                    step = routing.send(await self._exchange(step))
        except StopIteration as stop:
            replies: list[Any] = stop.value
            return replies
        finally:
            routing.close()

    async def learn(self) -> None:
        """See :meth:`.cluster.Cluster.learn`."""
        problem: Exception | None = None
        for node in self.settings.candidates():
            answer = await self._answer(node, [("CLUSTER", "SLOTS")])
            reply = answer if isinstance(answer, Exception) else answer[0]
            if not isinstance(reply, Exception):
                self.settings.topology.learn(reply, node)
                return
            raise_if_denied(reply)
            problem = reply
        if problem is not None and not self.settings.topology.masters:
            raise problem

    async def _exchange(self, sent: Mapping[Node, Sequence[Command]]) -> dict[Node, Any]:
        answers: dict[Node, Any] = {}
        asked = []
        for node, commands in sent.items():
            if self.settings.is_down(node):
                answers[node] = self.settings.absent(node)
            else:
                asked.append((node, self._answer(node, commands)))
        found = await asyncio.gather(*(answer for _, answer in asked))
        return answers | dict(zip((node for node, _ in asked), found, strict=True))

    async def _answer(self, node: Node, commands: Sequence[Command]) -> Any:
        """The replies of a node, or why it failed.

        Raises:
            Exception: of the client: access is denied.
        """
        pool, arguments = self.settings.pool(node)
        turn = self._turns.get(node) or self._turns.setdefault(
            node, asyncio.Semaphore(min(pool.max_connections, _MOST_CONNECTIONS))
        )
        batch = Batch(commands)
        try:
            async with turn:
                connection = await pool.get_connection(*arguments)
                try:
                    for part in batch.rounds():
                        part.begin()
                        await exchange(connection, part)
                except BaseException:
                    await asyncio.shield(discard(pool, connection))
                    raise
                await pool.release(connection)
        except RuntimeError:  # of another event loop
            raise
        except Exception as error:  # noqa: BLE001 (of the client, the system: one node's)
            raise_if_denied(error)
            if "Timeout" in type(error).__name__:
                self.settings.mark(node)
            return error
        self.settings.unmark(node)
        return batch.replies

    def reset(self) -> None:
        """Forget connections of an event loop that has ended."""
        for client in self.settings.clients():
            client.connection_pool.reset()
        self._turns = {}

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self.settings.taken():
            await client.aclose()


async def exchange(connection: Any, batch: Batch) -> None:
    """Send all commands and read all replies, as in :mod:`.redis`, whose comments give the reasons."""
    try:
        await connection.check_health()
    except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
        check_reply(error)
    replies = batch.replies
    for packed, until in batch.chunks():
        await connection.send_packed_command([packed], check_health=False)
        while len(replies) < until:
            try:
                replies.append(await connection.read_response(disable_decoding=True))
            except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
                batch.failed(error)


async def discard(pool: Any, connection: Any) -> None:
    """Give back a connection on which replies may still be on their way."""
    try:
        await connection.disconnect()
    finally:
        await pool.release(connection)
