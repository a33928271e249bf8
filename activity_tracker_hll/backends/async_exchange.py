"""The exchange of a batch with one server for asyncio, as in :mod:`.exchange`; lending its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .batch import Batch
from .trouble import check_reply, raise_if_denied

__all__ = ["Lender", "exchange_once", "exchange_with_retries", "read_only"]

_MOST_CONNECTIONS = 50
"""Of a pool, at a time."""


class Lender:
    """Lends connections of pools to batches; belongs to one event loop.

    Further batches wait their turn, because a pool that has lent its last connection raises an exception.
    """

    def __init__(self) -> None:
        self._turns: dict[Any, asyncio.Semaphore] = {}

    async def exchange(
        self,
        pool: Any,
        arguments: tuple[str, ...],
        batch: Batch,
        by: Callable[[Any, Batch], Awaitable[None]],
    ) -> None:
        """Exchange a batch over a connection of a pool.

        Args:
            arguments: what getting a connection from it wants.
            by: exchanges one round of the batch.
        """
        turn = self._turns.get(pool) or self._turns.setdefault(
            pool, asyncio.Semaphore(min(pool.max_connections, _MOST_CONNECTIONS))
        )
        async with turn:
            connection = await pool.get_connection(*arguments)
            try:
                for part in batch.rounds():
                    await by(connection, part)
            except BaseException:
                # Replies may still be on their way, and the next user of the connection would read them.
                # Nor may the connection stay lent for ever because the caller was cancelled twice.
                await asyncio.shield(_discard(pool, connection))
                raise
            await pool.release(connection)


async def read_only(connection: Any) -> None:
    """See :func:`.exchange.read_only`."""
    await connection.on_connect()
    await connection.send_command("READONLY")
    await connection.read_response()


async def exchange_with_retries(connection: Any, batch: Batch) -> None:
    """As in :mod:`.exchange`, whose comments give the reasons."""

    async def broken(error: Exception) -> None:
        await connection.disconnect()
        raise_if_denied(error)

    async def once() -> None:
        await exchange_once(connection, batch)
        batch.end()

    try:
        await connection.retry.call_with_retry(once, broken)
    except Exception as error:
        if error is not batch.demoted:
            raise
        await connection.disconnect()
        if batch.attempts == 1:
            await exchange_with_retries(connection, batch)


async def exchange_once(connection: Any, batch: Batch) -> None:
    """Send all commands and read all replies; a command that failed has an exception for a reply."""
    if batch.begin():
        await connection.connect()
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


async def _discard(pool: Any, connection: Any) -> None:
    """Give back a connection on which replies may still be on their way."""
    try:
        await connection.disconnect()
    finally:
        await pool.release(connection)
