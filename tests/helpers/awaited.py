"""A tracker whose calls are awaited, used as one whose calls wait: for tests of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from activity_tracker_hll import DataSettings
from activity_tracker_hll.aio import AsyncActivityTracker

__all__ = ["Awaited"]


class Awaited:
    """The calls of a tracker for asyncio, as those of the other one."""

    def __init__(self, runner: asyncio.Runner, tracker: AsyncActivityTracker) -> None:
        self._runner, self._tracker = runner, tracker

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **options: self._runner.run(getattr(self._tracker, name)(*args, **options))

    @property
    def settings(self) -> DataSettings:
        async def settings() -> DataSettings:
            return await self._tracker.settings

        return self._runner.run(settings())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
