"""Driving a generator that says what to exchange: it yields that, and is sent what came of it.

What is exchanged is not known here: batches of commands and their replies, or what goes to each node of a
cluster and what each answered. So one description serves who waits and who awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

__all__ = ["run", "run_awaiting"]

Y = TypeVar("Y")
S = TypeVar("S")
T = TypeVar("T")


def run(description: Generator[Y, S, T], exchange: Callable[[Y], S]) -> T:
    """Run a description to its end and return its result; it is closed even if an exchange fails."""
    try:
        wanted = next(description)
        while True:
            wanted = description.send(exchange(wanted))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        description.close()


async def run_awaiting(description: Generator[Y, S, T], exchange: Callable[[Y], Awaitable[S]]) -> T:
    """:func:`run` for asyncio."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        wanted = next(description)
        while True:
            reply = await exchange(wanted)
            # In Python 3.11 asyncio.wait_for drops that it was cancelled, where it was done then.
            if task and task.cancelling() > cancelled:
                raise asyncio.CancelledError
            wanted = description.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        description.close()
