"""What a process knows about one data set and its server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from secrets import token_hex
from typing import TypeVar

from ..backends.base import Command
from ..errors import BackendResponseError
from ..hll import codec
from ..hll.registers import empty
from .base import Context, Operation, unwrap
from .handshake import agree, change
from .settings import Access, DataSettings, KeptFor
from .tracking.open_periods import OpenPeriods
from .tracking.stamps import ServerClock

__all__ = ["DataSet"]

T = TypeVar("T")
_AGREE_EVERY_US = 60_000_000


class DataSet:
    """One data set, shared by a tracker and its writers.

    Args:
        ticks: microseconds of a clock that is never set.
        wall: seconds since the epoch, used until the server's clock is known.
    """

    def __init__(self, context: Context, ticks: Callable[[], int], wall: Callable[[], float]) -> None:
        self.context = context
        self.clock = ServerClock(ticks, lambda: round(wall() * 1_000_000))
        self.open_periods = OpenPeriods(context.keys, ticks)
        self._agreed_until: int | None = None
        self._agreed_for = Access.READ
        self._takes_sketches: bool | None = None

    def agreeing(self, operation: Operation[T], access: Access) -> Operation[T]:
        """An operation, preceded by comparing settings with those of the data where that is due.

        It is done before the first operation, and again each minute: a server may have lost them.

        Raises:
            SettingsMismatchError: they differ.
        """
        handshake = self.handshake(access)
        return operation if handshake is None else _after(handshake, operation)

    def handshake(self, access: Access) -> Operation[None] | None:
        """Comparing settings with those of the data; None = that is not due yet."""
        if (
            self._agreed_until is not None
            and self.clock.ticks() < self._agreed_until
            and access <= self._agreed_for
        ):
            return None
        return self.agree(access)

    def agree(self, access: Access) -> Operation[None]:
        """Compare settings with those of the data.

        Raises:
            SettingsMismatchError: they differ.
        """
        began = self.clock.ticks()
        agreed = yield from agree(self.context, self.clock, access)
        self._agreed_until = began + _AGREE_EVERY_US if agreed else None
        self._agreed_for = access

    @property
    def is_known(self) -> bool:
        """Whether settings were compared, so that zone and aggregates are known."""
        return self._agreed_until is not None

    def read_settings(self) -> Operation[DataSettings]:
        """What is stored with the data."""
        yield from self.agree(Access.READ)
        return self.context.agreed

    def change_settings(
        self, keep: KeptFor, aggregates: Mapping[str, tuple[str | None, ...] | None]
    ) -> Operation[DataSettings]:
        """See :func:`.handshake.change`."""
        return change(self.context, self.clock, keep, aggregates)

    def forget(self) -> None:
        """Check settings, clock and marks again: this is another server, or it lost everything."""
        self._agreed_until = None
        self.clock.reset()
        self.open_periods.forget()

    def takes_sketches(self) -> Operation[bool]:
        """Whether the server can count a sketch that is written to it; a test double has only a plain set.

        Raises:
            BackendError: that cannot be found out, as the server is out of memory or read-only.
        """
        if self._takes_sketches is None:
            self._takes_sketches = yield from _takes_sketches(self.context)
        return self._takes_sketches


def _after(handshake: Operation[None], operation: Operation[T]) -> Operation[T]:
    with closing(operation):
        yield from handshake
        return (yield from operation)


def _takes_sketches(context: Context) -> Operation[bool]:
    key = f"{context.keys.meta}:tmp:{token_hex(8)}"
    registers = empty()
    registers[0] = 1
    commands: list[Command] = [
        ("SET", key, codec.encode(registers), "EX", 60),
        ("PFCOUNT", key),
        ("DEL", key),
    ]
    stored, counted, _ = yield commands
    unwrap([stored])
    if isinstance(counted, BackendResponseError):
        return False
    [number] = unwrap([counted])
    return bool(number == 1)
