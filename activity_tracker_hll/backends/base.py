"""The contract of a backend: settings and a way to run commands (for asyncio: :mod:`.async_base`).

Which commands to send is decided in :mod:`activity_tracker_hll.operations`; a backend sends them and returns
the replies. The contract is documented here and nowhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arguments import duration, entries, integer, picklable
from ..errors import ArgumentValueError, BackendError
from ..ids import IdEncoder
from ..keys import DEFAULT_NAMESPACE, Keys
from ..messages import shown
from ..periods import LONGEST, PERIODS, Period, PeriodKind, check_kind

__all__ = [
    "AT_NODE",
    "DEFAULT_KEEP",
    "NODES",
    "OF_DENIAL",
    "OF_FAILURE",
    "OF_NODE",
    "SLOTS",
    "BackendSettings",
    "BaseBackend",
    "Command",
    "Keep",
    "Reply",
    "Shared",
    "check_keep",
    "check_length",
    "fitting",
]

S = TypeVar("S")

Command = tuple[str | bytes | float, ...]
"""A server command, by its name and arguments. Scripts are sent as EVALSHA."""

Reply = bytes | int | float | bool | None | list[object] | dict[object, object] | set[object] | BackendError
"""What the server replied, with strings as bytes; a BackendError if the command failed."""

Keep = timedelta | Mapping[PeriodKind, timedelta | None] | None
"""How long sketches are kept, one duration for all kinds of period or one for each kind; None = for ever."""

DEFAULT_KEEP: Mapping[PeriodKind, timedelta] = {
    "hourly": timedelta(days=8),
    "daily": timedelta(days=62),
    "weekly": timedelta(weeks=26),
    "monthly": 13 * LONGEST["monthly"],
    "quarterly": 5 * LONGEST["quarterly"],
    "yearly": 2 * LONGEST["yearly"],
}
"""Long enough to compare a period with one a week, two months, half a year, a year or two years before."""

MOST_MOVED = 100_000

SLOTS = 16384
"""Of a cluster: each key belongs to one, each slot to a node."""

OF_NODE = "# Node "
"""Begins a line of a cluster's reply to INFO, which is that of all masters, one below the other; the address
follows. So it is with a script without keys, which all nodes run, replicas too."""

AT_NODE = "AT"
"""Begins a command for one node of a cluster: the address follows, then the command. A cursor of SCAN is one
server's: no other can go on with it."""

NODES: Command = ("CLUSTER", "NODES")
"""Asked of all masters of a cluster, as INFO is, once it is known anew which these are: each knows best what
it is handing on."""

OF_FAILURE = "# Failed: "
"""Begins the only line of such a node that did not answer."""

OF_DENIAL = "# Denied: "
"""The same of one that does not let the user in."""


class BackendSettings:
    """The settings that belong to the data.

    Args:
        namespace: the first part of every key; trackers with different namespaces share nothing.
        secret: str or bytes; ids are hashed with it (keyed BLAKE2b) before they leave the process.
        moved_limit: the most ids in the exact side table of one bucket and period; up to 100,000.
        keep_sketches: how long sketches are kept after their period's end, once it is collapsed: a
            timedelta for all kinds of period, or a dict with one for each kind; None = for ever, zero = until
            the period is over and collapsed. Kinds not given are kept for 8 days (hourly), 62 days (daily),
            26 weeks (weekly), 13 months (monthly), 5 quarters (quarterly) and 2 years (yearly). Each sketch
            takes up to 12 KiB.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the setting and what was expected.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *positional: Any, **options: Any) -> Self:  # noqa: D102 (the class says)
        backend = super().__new__(cls)
        backend._arguments = positional, options  # of this class itself
        return backend

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
        self.keep_given = {} if keep_sketches is DEFAULT_KEEP else check_keep(keep_sketches)
        """How long sketches are kept after the end of kinds of period, where that was given."""
        self._settings: dict[str, Any] = {
            "namespace": namespace,
            "secret": secret,
            "moved_limit": moved_limit,
            "keep_sketches": self.keep_given or keep_sketches,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} namespace={shown(self.keys.namespace)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the constructor's arguments; another process makes its own backend from them.

        Raises:
            ArgumentTypeError: an argument, such as a client with its connections, cannot be pickled.
        """
        positional, options = self._arguments
        checked = {name: picklable(value, name) for name, value in options.items()}
        return _reconstructed, (type(self), positional, checked)

    def check_keep_of(self, kind: PeriodKind) -> None:
        """Check how long sketches of a kind of period are to be kept, now that such periods are used.

        Raises:
            ArgumentValueError: it is neither zero nor at least as long as such a period.
        """
        check_length(kind, self.keep_given.get(kind))

    def is_cluster(self, shard: int) -> bool:
        """Whether the keys of a data set are spread over servers, so that no command can use several."""
        del shard
        return False

    def node_of(self, key: str, shard: int) -> str:
        """The address of the node that has a key, as INFO's reply names it; empty if that is not known.

        It is empty as well where there is but one server.
        """
        del key, shard
        return ""

    def lacking(self, periods: Sequence[Period], bucket: str | None) -> NDArray[np.bool_] | None:
        """In which periods it is not known of a bucket whether there ever was anything, as in an archive.

        Args:
            periods: of one kind.
            bucket: None = the unnamed one.

        Returns:
            Of shape (number of periods,); None = what is not there never was, or was counted and has expired,
            as on a server.
        """
        del periods, bucket
        return None

    def check_shard(self, shard: int) -> None:
        """Check that there is such a data set, without asking a server.

        Raises:
            ArgumentTypeError, ArgumentValueError: there is none.
        """
        integer(shard, "shard", minimum=0)


def _reconstructed(cls: type[S], positional: tuple[Any, ...], options: dict[str, Any]) -> S:
    return cls(*positional, **options)


def check_keep(given: object) -> dict[str, timedelta | None]:
    """Check keep_sketches, and return a duration for each kind of period that it says something of.

    Raises:
        ArgumentTypeError, ArgumentValueError: it is no such thing.
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(PERIODS, None if given is None else duration(given, "keep_sketches"))
    by_kind: dict[str, timedelta | None] = {}
    for kind, keep in entries(given, "keep_sketches", "a dict"):
        argument = f"keep_sketches[{shown(kind)}]"
        by_kind[check_kind(kind, argument)] = None if keep is None else duration(keep, argument)
    return by_kind


def check_length(kind: str, keep: timedelta | None) -> None:
    """Check how long sketches of a kind of period are to be kept; None = for ever.

    Raises:
        ArgumentValueError: it is neither zero nor at least as long as such a period.
    """
    if keep and keep < LONGEST[kind]:
        raise ArgumentValueError(
            f"keep_sketches must be at least {_shown(LONGEST[kind])} for {kind} periods (or zero, or None),"
            f" got {_shown(keep)}"
        )


def _shown(length: timedelta) -> str:
    return str(length).removesuffix(", 0:00:00")


def fitting(keep: Mapping[str, timedelta | None]) -> dict[str, timedelta | None]:
    """What :func:`check_length` accepts of it: one length for all kinds may be too short for some."""
    return {kind: length for kind, length in keep.items() if not length or length >= LONGEST[kind]}


class BaseBackend(BackendSettings, ABC):
    """Runs commands on a server; the settings are those of :class:`BackendSettings`.

    It must work in a forked child without further ado: there it waits for no lock that a thread of the parent
    may have held, and does not use the parent's connections.

    Args:
        namespace, secret, moved_limit, keep_sketches: see :class:`BackendSettings`.
    """

    @abstractmethod
    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """Run commands in order, in one round trip where possible, and return their replies in that order.

        A command that the server refuses does not prevent the others from running: a BackendError is its
        reply. Commands may be sent again after a lost reply, as all commands and scripts that this library
        sends are idempotent.

        Args:
            commands: at least one command.
            shard: the data set, by its index in the `shards` option.

        Raises:
            ArgumentValueError: no such shard.
            BackendError: the server does not reply at all; the cause is the client's own exception.
        """

    def read(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """Run commands that only read: as :meth:`execute`, or on a replica where the user asked for that.

        Args:
            commands: at least one command.
            shard: the data set, by its index in the `shards` option.
        """
        return self.execute(commands, shard)

    @abstractmethod
    def close(self) -> None:
        """Give back connections and processes; after that, the backend cannot be used."""

    def for_writer(self, patience: float) -> BaseBackend:
        """A backend for one writer, which the writer closes in the end; closing it leaves this one open.

        A writer retries by itself, so it should not wait long for a reply that may never come. Backends of
        writers that are still open when this one is closed are closed with it.

        Args:
            patience: seconds to wait for a reply, unless the user has set a timeout.
        """
        del patience
        return Shared(self, **self._settings)


class Shared(BaseBackend):
    """Another backend, which stays open when this one is closed."""

    def __init__(self, backend: BaseBackend, **settings: Any) -> None:
        super().__init__(**settings)
        self._backend = backend

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`BaseBackend.execute`."""
        return self._backend.execute(commands, shard)

    def check_shard(self, shard: int) -> None:
        """See :meth:`BackendSettings.check_shard`."""
        self._backend.check_shard(shard)

    def is_cluster(self, shard: int) -> bool:
        """See :meth:`BackendSettings.is_cluster`."""
        return self._backend.is_cluster(shard)

    def node_of(self, key: str, shard: int) -> str:
        """See :meth:`BackendSettings.node_of`."""
        return self._backend.node_of(key, shard)

    def close(self) -> None:
        """Do nothing: whoever made the other backend closes it."""
