"""The exchange of a batch with one server, over a connection that waits: packed, sent, answered.

Both a backend of one server and one of a cluster send this way; for asyncio it is :mod:`.async_exchange`.
Batches go straight through a connection of the client's pool, because a client's own pipeline costs more per
command than the server needs to run it.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from typing import Any

from .base import Command
from .batch import Batch
from .trouble import check_reply, raise_if_denied

__all__ = ["exchange", "lane", "pool_arguments", "read_only"]


def pool_arguments(pool: Any) -> tuple[str, ...]:
    """What get_connection of a pool wants: redis-py before 5.3 and valkey-py the name of a command.

    Newer versions warn about it.
    """
    first = next(iter(inspect.signature(pool.get_connection).parameters.values()), None)
    wanted = first is not None and first.name == "command_name" and first.default is first.empty
    return ("PFADD",) if wanted else ()


def read_only(connection: Any) -> None:
    """Begin a connection to a replica of a cluster, which without READONLY sends everybody to its master."""
    connection.on_connect()
    connection.send_command("READONLY")
    connection.read_response()


def exchange(pool: Any, arguments: tuple[str, ...], batch: Batch) -> None:
    """Exchange a batch over a connection of a pool, again as often as the connection's own policy says.

    Args:
        arguments: what getting a connection from the pool wants.
    """
    connection = pool.get_connection(*arguments)
    try:
        for part in batch.rounds():
            _exchange_with_retries(connection, part)
    finally:
        pool.release(connection)


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


def lane(
    pool: Any, arguments: tuple[str, ...], commands: Sequence[Command]
) -> Generator[None, None, list[Any]]:
    """Exchange a batch once, in steps between which other servers are sent theirs; returns the replies."""
    connection = pool.get_connection(*arguments)
    done = False
    try:
        batch = Batch(commands)
        for part in batch.rounds():
            part.begin()
            yield from _steps(connection, part)
        done = True
        return batch.replies
    finally:
        if not done:  # replies may still be on their way
            connection.disconnect()
        pool.release(connection)


def _exchange_once(connection: Any, batch: Batch) -> None:
    """Send all commands and read all replies; a command that failed has an exception for a reply."""
    if batch.begin():
        connection.connect()  # the only moment at which Sentinel's connections ask for the present master
    for _ in _steps(connection, batch):
        pass
    batch.end()


def _steps(connection: Any, batch: Batch) -> Generator[None, None, None]:
    """Send all commands and read all replies; between sending and reading, others may send theirs.

    A command that failed has an exception for a reply.
    """
    try:
        connection.check_health()
    except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
        # A server whose disk is full refuses even PING, but can still be read from.
        check_reply(error)
    replies = batch.replies
    for packed, until in batch.chunks():
        connection.send_packed_command([packed], check_health=False)
        yield
        while len(replies) < until:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except Exception as error:  # noqa: BLE001 (raised again, unless it is a reply)
                batch.failed(error)
