"""Awaiting, in an event loop, what can only be waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

__all__ = ["in_own_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_own_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """:func:`asyncio.to_thread`, where a timeout must hold and the call be made even if this is cancelled.

    The threads of the loop's executor may all be at something else, and are gone before the loop ends.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    in_context = partial(copy_context().run, call, *args, **kwargs)

    def conclude(tell: Callable[[Any], object], outcome: object) -> None:
        if not done.done():  # cancelled
            tell(outcome)

    def wait() -> None:
        tell: Callable[[Any], object] = done.set_result
        outcome: object
        try:
            outcome = in_context()
        except BaseException as error:  # noqa: BLE001 (it is raised where this is awaited)
            tell, outcome = done.set_exception, error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(conclude, tell, outcome)

    threading.Thread(target=wait, name="waits for activity-tracker-hll").start()
    return await done
