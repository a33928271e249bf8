"""What a process has learned of one data set's server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from secrets import token_hex
from typing import TypeVar

from ..backends.base import Command, Reply
from ..errors import BackendResponseError
from ..hll import codec
from ..hll.registers import empty
from .base import Context, Operation, unwrap, unwrap_of
from .handshake import check_settings
from .tracking.open_periods import OpenPeriods
from .tracking.stamps import ServerClock

__all__ = ["DataSet"]

T = TypeVar("T")
_LOOK_AGAIN_US = 60_000_000
_MOST_REMEMBERED = 100


class DataSet:
    """One data set, as a tracker and its writers share it.

    Args:
        ticks: microseconds of a clock that is never set.
        wall: seconds since the epoch, for as long as the server's clock is not known.
    """

    def __init__(self, context: Context, ticks: Callable[[], int], wall: Callable[[], float]) -> None:
        self._context = context
        self.clock = ServerClock(ticks, lambda: round(wall() * 1_000_000))
        self.open_periods = OpenPeriods(context.keys, ticks)
        self.agreed = False
        self._takes_sketches: bool | None = None
        self._look_again: dict[tuple[str, ...], int] = {}

    def agreeing(self, operation: Operation[T], *, write: bool) -> Operation[T]:
        """The operation; before the first one, settings are compared with those on the server.

        Raises:
            SettingsMismatchError: they differ.
        """
        if self.agreed:
            return operation
        return self._agree_first(operation, write=write)

    def _agree_first(self, operation: Operation[T], *, write: bool) -> Operation[T]:
        with closing(operation):
            yield from self.agree(write=write)
            return (yield from operation)

    def agree(self, *, write: bool) -> Operation[None]:
        """Compare settings with those on the server, which are stored there if there are none.

        Raises:
            SettingsMismatchError: they differ.
        """
        self.agreed = yield from check_settings(self._context, self.clock, write)

    def upkeep(self, names: tuple[str, ...], *, runs: bool) -> list[Command]:
        """What is sent along with an event, at times: marks of its periods, and last a question for the time.

        Args:
            runs: whether the periods are not over; those that are get marked each time.
        """
        ticks = self.clock.ticks()
        if runs and ticks < self._look_again.get(names, 0):
            return []
        return [*self.open_periods.mark(names, names if runs else ()), ("TIME",)]

    def kept_up(
        self, names: tuple[str, ...], sent: int, commands: list[Command], replies: list[Reply]
    ) -> None:
        """Take in the answers, which have just come.

        Args:
            names: of the event's periods.
            sent: ticks before they were asked for.
            commands: as :meth:`upkeep` returned them.

        Raises:
            BackendError: periods could not be marked.
        """
        *marked, time = replies
        self.clock.sample(sent, time)
        unwrap_of(self.open_periods.key, marked)
        self.open_periods.are_marked(commands[:-1])
        if len(self._look_again) > _MOST_REMEMBERED:
            self._look_again.clear()
        self._look_again[names] = sent + _LOOK_AGAIN_US

    def forget(self) -> None:
        """It is another server, or lost everything: settings, clock and marks have to be looked at again."""
        self.agreed = False
        self.clock.reset()
        self.open_periods.forget()
        self._look_again.clear()

    def takes_sketches(self) -> Operation[bool]:
        """Whether the server counts a sketch that is written to it: a stand-in for tests keeps a plain set.

        Raises:
            BackendError: it cannot say, being out of memory or read-only.
        """
        if self._takes_sketches is None:
            self._takes_sketches = yield from _takes_sketches(self._context)
        return self._takes_sketches


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
