"""The contract of a backend for asyncio, and a backend by which threads use the client of an event loop."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import wait
from typing import Any

from ..errors import ArgumentValueError, BackendConnectionError
from .base import BackendSettings, BaseBackend, Command, Reply

__all__ = ["AsyncBaseBackend", "OnLoop"]

_POLL_S = 0.5


class AsyncBaseBackend(BackendSettings, ABC):
    """Runs commands for :class:`.AsyncActivityTracker`.

    Args:
        namespace, secret, moved_limit, keep_sketches: see :class:`~.base.BackendSettings`.
    """

    @abstractmethod
    async def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """Run commands as a :class:`.BaseBackend` does; a cancelled call leaves no half-read replies behind.

        Args:
            commands: at least one command.
            shard: the data set, by its place in the `shards` option.
        """

    async def read(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """Run commands that only read, see :meth:`.base.BaseBackend.read`.

        Args:
            commands: at least one command.
            shard: the data set, by its place in the `shards` option.
        """
        return await self.execute(commands, shard)

    @abstractmethod
    async def close(self) -> None:
        """Give back connections and processes; the backend cannot be used after it."""

    def blocking(self) -> BaseBackend:
        """A backend on the same data for the threads of a writer; it is closed together with this one.

        Raises:
            ArgumentValueError: there is no running event loop to run the commands on.
        """
        return OnLoop(self, **self._settings)


class OnLoop(BaseBackend):
    """Runs commands on the event loop in which it was made."""

    def __init__(self, backend: AsyncBaseBackend, **settings: Any) -> None:
        super().__init__(**settings)
        self._backend = backend
        self._process = os.getpid()
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise ArgumentValueError(
                "buffered() must be called in a coroutine, as it shares the client of its event loop"
            ) from error

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`."""
        return self._run(self._backend.execute, commands, shard)

    def read(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.read`."""
        return self._run(self._backend.read, commands, shard)

    def _run(
        self,
        send: Callable[[Sequence[Command], int], Coroutine[Any, Any, list[Reply]]],
        commands: Sequence[Command],
        shard: int,
    ) -> list[Reply]:
        if self._process != os.getpid() or not self._loop.is_running():
            raise BackendConnectionError("the event loop of the client does not run, or not in this process")
        running = send(commands, shard)
        try:
            future = asyncio.run_coroutine_threadsafe(running, self._loop)
        except RuntimeError as error:  # it has just been closed
            running.close()
            raise BackendConnectionError(str(error)) from error
        while not wait([future], _POLL_S).done:
            if not self._loop.is_running():
                future.cancel()
                raise BackendConnectionError("the event loop of the client has ended")
        return future.result()

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BackendSettings.check_shard`."""
        self._backend.check_shard(shard)

    def is_cluster(self, shard: int) -> bool:
        """See :meth:`.base.BackendSettings.is_cluster`."""
        return self._backend.is_cluster(shard)

    def node_of(self, key: str, shard: int) -> str:
        """See :meth:`.base.BackendSettings.node_of`."""
        return self._backend.node_of(key, shard)

    def close(self) -> None:
        """Do nothing: the client is closed with the backend it belongs to."""
