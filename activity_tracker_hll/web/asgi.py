"""ASGI middleware: Starlette, FastAPI, Quart, Litestar, anything that runs under uvicorn or hypercorn.

An ASGI server may end its process by the signal that it received, so that nothing runs at exit; but before
that, it informs the application by the lifespan protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from inspect import iscoroutinefunction
from typing import Any

from ..awaiting import in_own_thread
from . import Identify, Recorder, Writer, check_app, check_writer

__all__ = ["ASGIApp", "ActivityMiddleware", "FlushOnShutdown", "Message", "Receive", "Scope", "Send"]

_LOG = logging.getLogger("activity_tracker_hll")
_STARTS = ("http.response.start", "websocket.accept")
_BEGUN, _END = "lifespan.startup.complete", "lifespan.shutdown"
_ENDED = {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class FlushOnShutdown:
    """Pushes what was tracked before the server ends; everything else is left to the application.

    Args:
        app: the application. If it does not support the lifespan protocol (Django's does not), the middleware
            answers the server itself.
        writer: made by ``tracker.buffered()``.

    Raises:
        ArgumentTypeError: no application, or not a writer.
    """

    def __init__(self, app: ASGIApp, writer: Writer) -> None:
        check_app(app)
        check_writer(writer)
        self.app = app
        self._writer = writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        said: set[str] = set()

        async def noting_receive() -> Message:
            message = await receive()
            said.add(message["type"])
            return message

        async def flushing_send(message: Message) -> None:
            if message["type"] in _ENDED:
                await self._flush()
            said.add(message["type"])
            await send(message)

        try:
            await self.app(scope, noting_receive, flushing_send)
        except Exception:
            if said:
                if _END in said and said.isdisjoint(_ENDED):
                    await self._flush()
                raise
            _LOG.debug("the application does not support the lifespan protocol", exc_info=True)
        if not said:
            await noting_receive()
            await flushing_send({"type": _BEGUN})
        if _BEGUN in said and said.isdisjoint(_ENDED):  # it leaves the end to its server, and so to us
            while _END not in said:  # it may not even have waited for the start
                await noting_receive()
            await flushing_send({"type": "lifespan.shutdown.complete"})

    async def _flush(self) -> None:
        try:
            if iscoroutinefunction(self._writer.flush):
                await self._writer.flush()
            else:
                await in_own_thread(self._writer.flush)
        except Exception:  # noqa: BLE001 (the server must end all the same)
            _LOG.exception("cannot push what was tracked before the server ends")


class ActivityMiddleware(FlushOnShutdown):
    """Counts the requests and websockets of an ASGI application.

    Args:
        app: the application.
        writer: made by ``tracker.buffered()``; it is flushed before the server ends, too.
        identify: called with the scope when the application starts its response or accepts a websocket. By
            then, inner layers have added what they know, such as ``scope["session"]``.

    Raises:
        ArgumentTypeError: naming the argument.
    """

    def __init__(self, app: ASGIApp, writer: Writer, identify: Identify[Scope]) -> None:
        super().__init__(app, writer)
        self._recorder = Recorder(writer, identify)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] not in ("http", "websocket"):
            await super().__call__(scope, receive, send)
            return

        async def start(message: Message) -> None:
            if message["type"] in _STARTS:
                self._recorder.record(scope)
            await send(message)

        await self.app(scope, receive, start)
