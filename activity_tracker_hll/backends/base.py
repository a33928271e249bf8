"""The contract of a backend: settings, and a way to run commands on a server, waiting or awaited.

What commands to send is decided in :mod:`activity_tracker_hll.commands`; a backend sends them and
hands back the replies. This is the only copy of the contract's documentation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..arguments import duration, integer
from ..errors import ArgumentValueError, BackendError
from ..ids import IdEncoder
from ..keys import DEFAULT_NAMESPACE, Keys
from ..periods import LONGEST

__all__ = ["DEFAULT_RETENTION", "AsyncBaseBackend", "BackendSettings", "BaseBackend", "Command", "Reply"]

Command = tuple[str | bytes | float, ...]
"""One server command: its name and arguments. Scripts are sent as EVALSHA."""

Reply = bytes | int | float | bool | None | list[object] | dict[object, object] | set[object] | BackendError
"""What the server answered, strings as bytes; a BackendError stands where a command failed."""

DEFAULT_RETENTION = timedelta(days=35)
MOST_MOVED = 100_000


class BackendSettings:
    """The settings that belong to the data.

    Args:
        namespace: first part of every key; trackers with different namespaces share nothing.
        secret: str or bytes; ids are hashed with it (keyed BLAKE2b) before they leave the process.
        moved_limit: ids the exact side table of one bucket and period holds at most; up to 100,000,
            as an aggregate reads the tables of its sources in one step.
        retention: how long sketches are kept after their period's end, once it is collapsed; None =
            for ever, zero = until they are collapsed and the period is over. Not given: 35 days, for
            longer periods the period's length.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the setting and what was expected.
    """

    def __init__(
        self,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        secret: str | bytes | None = None,
        moved_limit: int = 10_000,
        retention: timedelta | None | str = "default",
    ) -> None:
        self.keys = Keys(namespace)
        self.ids = IdEncoder(secret)
        self.moved_limit = integer(moved_limit, "moved_limit", minimum=0, maximum=MOST_MOVED)
        self._retention = retention
        self._settings: dict[str, Any] = {
            "namespace": namespace,
            "secret": secret,
            "moved_limit": moved_limit,
            "retention": retention,
        }
        if retention is not None and retention != "default":
            duration(retention, "retention")

    def retention_of(self, kind: str) -> timedelta | None:
        """How long sketches of a kind of period are kept after its end; None = for ever.

        Raises:
            ArgumentValueError: the retention is neither zero nor as long as such a period.
        """
        length = LONGEST[kind]
        if self._retention is None:
            return None
        if not isinstance(self._retention, timedelta):
            return max(DEFAULT_RETENTION, length)
        if self._retention and self._retention < length:
            raise ArgumentValueError(
                f"retention must be at least {length} with {kind} periods (or zero, or None),"
                f" got {self._retention}"
            )
        return self._retention

    def check_shard(self, shard: int) -> None:
        """Whether there is such a data set, without asking a server.

        Raises:
            ArgumentTypeError, ArgumentValueError: there is none.
        """
        integer(shard, "shard", minimum=0)


class BaseBackend(BackendSettings, ABC):
    """Runs commands; settings as of :class:`BackendSettings`."""

    @abstractmethod
    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """Run commands in their order and return their replies in that order.

        One round trip where possible. A command that the server refuses does not keep the others
        from running: its place in the list holds a BackendError. Commands may be sent again after a
        lost reply: every command and script this library sends is idempotent.

        Args:
            commands: at least one command.
            shard: the data set, by its place in the `shards` option.

        Raises:
            ArgumentValueError: no such shard.
            BackendError: no answer at all; the cause is the client's own exception.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back connections and processes; the backend cannot be used after it."""

    def for_writer(self, patience: float) -> BaseBackend:
        """What a writer sends with, closed together with this backend.

        A writer tries again on its own: better than to wait long for an answer that may never come.

        Args:
            patience: seconds to wait for an answer, unless the user has said how long.
        """
        del patience
        return self

    def after_fork(self) -> None:
        """In a child: give up what a thread of the parent, gone now, may have held a lock of."""


class AsyncBaseBackend(BackendSettings, ABC):
    """Runs commands for :class:`~activity_tracker_hll.aio.AsyncActivityTracker`; settings as above."""

    @abstractmethod
    async def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """As of :class:`BaseBackend`. A call that is cancelled leaves nothing half-read behind."""

    @abstractmethod
    async def close(self) -> None:
        """As of :class:`BaseBackend`."""

    def blocking(self) -> BaseBackend:
        """The same data for the threads of a writer; closed together with this backend.

        Raises:
            ArgumentValueError: there is no running event loop to run the commands on.
        """
        from .on_loop import OnLoop  # noqa: PLC0415 (of it asyncio is loaded)

        return OnLoop(self, **self._settings)
