"""How often a client tries again, and when that is hopeless; for clients that wait, and for asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from .trouble import raise_if_denied

__all__ = ["AsyncPatient", "AsyncRetrying", "Patient", "Retrying"]

_FOR_EVER = -1
_IS_TRYING: ContextVar[bool] = ContextVar("_IS_TRYING", default=False)
"""Whether a :class:`Patient` tries something, in this thread or task."""


class Retrying(Retry):
    """Retries, except where no retry can succeed."""

    raise_if_hopeless = staticmethod(raise_if_denied)

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See redis-py, whose versions differ in the further arguments."""

        def failed(error: Exception, *count: int) -> None:
            fail(error, *count)
            self.raise_if_hopeless(error)

        return super().call_with_retry(do, failed, *arguments, **options)


class Patient(Retrying):
    """Retries for so many seconds: how often a failover has to be asked for, nobody knows.

    A retry within another one, as clients have them, is none: it would go on with the address of the old
    master, while the outer one asks for the new.
    """

    def __init__(self, backoff: Any, patience: float, errors: tuple[type[Any], ...]) -> None:
        super().__init__(backoff, _FOR_EVER, errors)
        self._patience = patience
        self._once = Retrying(NoBackoff(), 0, errors)

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See :class:`Retrying`."""
        if _IS_TRYING.get():
            return self._once.call_with_retry(do, fail, *arguments, **options)
        give_up = _deadline(self._patience)

        def failed(error: Exception, *count: int) -> None:
            fail(error, *count)
            give_up(error)

        token = _IS_TRYING.set(True)
        try:
            return super().call_with_retry(do, failed, *arguments, **options)
        finally:
            _IS_TRYING.reset(token)


class AsyncRetrying(AsyncRetry):
    """:class:`Retrying` for asyncio."""

    raise_if_hopeless = staticmethod(raise_if_denied)

    async def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See redis-py, whose versions differ in the further arguments."""

        async def failed(error: Exception, *count: int) -> None:
            await fail(error, *count)
            self.raise_if_hopeless(error)

        return await super().call_with_retry(do, failed, *arguments, **options)


class AsyncPatient(AsyncRetrying):
    """:class:`Patient` for asyncio."""

    def __init__(self, backoff: Any, patience: float, errors: tuple[type[Any], ...]) -> None:
        super().__init__(backoff, _FOR_EVER, errors)
        self._patience = patience
        self._once = AsyncRetrying(NoBackoff(), 0, errors)

    async def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        """See :class:`Retrying`."""
        if _IS_TRYING.get():
            return await self._once.call_with_retry(do, fail, *arguments, **options)
        give_up = _deadline(self._patience)

        async def failed(error: Exception, *count: int) -> None:
            await fail(error, *count)
            give_up(error)

        token = _IS_TRYING.set(True)
        try:
            return await super().call_with_retry(do, failed, *arguments, **options)
        finally:
            _IS_TRYING.reset(token)


def _deadline(patience: float) -> Callable[[Exception], None]:
    """Raises what it is given, once so many seconds are over."""
    ends = time.monotonic() + patience

    def give_up(error: Exception) -> None:
        if time.monotonic() > ends:
            raise error

    return give_up
