"""The backend of :mod:`.embedded` for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from ..errors import BackendConnectionError, BackendError, EmbeddedServerError
from .async_redis import AsyncRedisBackend
from .base import Command, Reply
from .embedded import EmbeddedBackend
from .retries import AsyncRetrying
from .trouble import raise_if_absent

__all__ = ["AsyncEmbeddedBackend"]


class _Retry(AsyncRetrying):
    """Leaves a server that is not there to the backend, see :mod:`.embedded`."""

    raise_if_hopeless = staticmethod(raise_if_absent)


class AsyncEmbeddedBackend(AsyncRedisBackend):
    """Keeps sketches in an embedded server; the options are those of :class:`~.embedded.EmbeddedBackend`.

    The server is started in the constructor, which takes a few tenths of a second.

    Args:
        path, executable, start_timeout: see :class:`~.embedded.EmbeddedBackend`.
    """

    _RETRY = _Retry

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | None = None,
        executable: str | os.PathLike[str] | None = None,
        start_timeout: float = 60.0,
        **options: Any,
    ) -> None:
        server = EmbeddedBackend(path=path, executable=executable, start_timeout=start_timeout, **options)
        try:
            super().__init__(**{**options, "unix_socket_path": str(server.server.socket)})
        except BaseException:
            server.close()
            raise
        self._twin = self._embedded = server
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        self._embedded.server.check_shareable()
        return super().__reduce__()

    async def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`; a server that died is started again, with its data."""
        if self._closed:
            raise EmbeddedServerError("the backend is closed")
        try:
            return await super().execute(commands, shard)
        except BackendConnectionError:
            await asyncio.to_thread(self._embedded.server.open)
            return await super().execute(commands, shard)

    def translated(self, error: Exception, address: str) -> BackendError:
        """See :meth:`.redis.RedisSettings.translated`."""
        return self._embedded.translated(error, address)

    async def close(self) -> None:
        """Leave the server, which ends when its last user has left."""
        self._closed = True
        await super().close()
