"""The contract of a backend: settings, and a way to run commands on a server.

For asyncio: :mod:`.async_base`.

What commands to send is decided in :mod:`activity_tracker_hll.operations`; a backend sends them and
hands back the replies. This is the only copy of the contract's documentation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from ..arguments import duration, integer
from ..errors import ArgumentValueError, BackendError
from ..ids import IdEncoder
from ..keys import DEFAULT_NAMESPACE, Keys
from ..periods import LONGEST, PERIODS, check_kind

__all__ = ["DEFAULT_KEEP", "BackendSettings", "BaseBackend", "Command", "Keep", "Reply", "Shared"]

Command = tuple[str | bytes | float, ...]
"""A server command, by its name and arguments. Scripts are sent as EVALSHA."""

Reply = bytes | int | float | bool | None | list[object] | dict[object, object] | set[object] | BackendError
"""What the server answered, strings as bytes; a BackendError stands where a command failed."""

Keep = timedelta | Mapping[str, timedelta | None] | None
"""How long sketches are kept, all kinds of period or each kind of its own; None = for ever."""

DEFAULT_KEEP: Mapping[str, timedelta] = {
    "hourly": timedelta(days=8),
    "daily": timedelta(days=62),
    "weekly": timedelta(weeks=26),
    "monthly": 13 * LONGEST["monthly"],
    "quarterly": 5 * LONGEST["quarterly"],
    "yearly": 2 * LONGEST["yearly"],
}
"""Long enough to compare a period with its like of a week, two months, half a year, a year or two before."""

MOST_MOVED = 100_000


class BackendSettings:
    """The settings that belong to the data.

    Args:
        namespace: first part of every key; trackers with different namespaces share nothing.
        secret: str or bytes; ids are hashed with it (keyed BLAKE2b) before they leave the process.
        moved_limit: ids the exact side table of one bucket and period holds at most; up to 100,000.
        keep_sketches: how long sketches are kept after their period's end, once it is collapsed: a
            timedelta for all kinds of period, or a dict of them by kind; None = for ever, zero = until they
            are collapsed and the period is over. Kinds not given: 8 days of hourly, 62 days of daily, 26
            weeks of weekly, 13 months of monthly, 5 quarters of quarterly and 2 years of yearly periods. Each
            sketch takes up to 12 KiB.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the setting and what was expected.
    """

    def __init__(
        self,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        secret: str | bytes | None = None,
        moved_limit: int = 10_000,
        keep_sketches: Keep = DEFAULT_KEEP,
    ) -> None:
        self.keys = Keys(namespace)
        self.ids = IdEncoder(secret)
        self.moved_limit = integer(moved_limit, "moved_limit", minimum=0, maximum=MOST_MOVED)
        self._keep = _check_keep(keep_sketches)
        self._settings: dict[str, Any] = {
            "namespace": namespace,
            "secret": secret,
            "moved_limit": moved_limit,
            "keep_sketches": dict(self._keep),
        }

    def keep_of(self, kind: str) -> timedelta | None:
        """How long sketches of a kind of period are kept after its end; None = for ever.

        Raises:
            ArgumentValueError: that is neither zero nor as long as such a period.
        """
        keep = self._keep[kind]
        if keep and keep < LONGEST[kind]:
            raise ArgumentValueError(
                f"keep_sketches must be at least {LONGEST[kind]} for {kind} periods (or zero, or None),"
                f" got {keep}"
            )
        return keep

    def check_shard(self, shard: int) -> None:
        """Whether there is such a data set, without asking a server.

        Raises:
            ArgumentTypeError, ArgumentValueError: there is none.
        """
        integer(shard, "shard", minimum=0)


def _check_keep(given: object) -> dict[str, timedelta | None]:
    """By kind of period, those not given by default."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(PERIODS, None if given is None else duration(given, "keep_sketches"))
    by_kind: dict[str, timedelta | None] = dict(DEFAULT_KEEP)
    for kind, keep in given.items():
        argument = f"keep_sketches[{kind!r}]"
        by_kind[check_kind(kind, argument)] = None if keep is None else duration(keep, argument)
    return by_kind


class BaseBackend(BackendSettings, ABC):
    """Runs commands; settings as of :class:`BackendSettings`.

    It works in a forked child without being told: there it waits for no lock that a thread of the parent may
    have held, and leaves the parent's connections alone.

    Args:
        namespace, secret, moved_limit, keep_sketches: see :class:`BackendSettings`.
    """

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
        """What one writer sends with, and closes at its own end; what others send with stays open then.

        A writer tries again on its own: better than to wait long for an answer that may never come. What was
        not closed when this backend is, is closed with it.

        Args:
            patience: seconds to wait for an answer, unless the user has said how long.
        """
        del patience
        return Shared(self, **self._settings)


class Shared(BaseBackend):
    """A backend of somebody else's: to close this leaves it open."""

    def __init__(self, backend: BaseBackend, **settings: Any) -> None:
        super().__init__(**settings)
        self._backend = backend

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`BaseBackend.execute`."""
        return self._backend.execute(commands, shard)

    def check_shard(self, shard: int) -> None:
        """See :meth:`BackendSettings.check_shard`."""
        self._backend.check_shard(shard)

    def close(self) -> None:
        """Nothing: whoever made the backend closes it."""
