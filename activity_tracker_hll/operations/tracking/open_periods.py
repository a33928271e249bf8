"""Marking the periods that hold uncounted data, so that a collapse finds them however old they are.

Marks are renewed from time to time, as a server may have lost them. A mark is written after the data it is
about: a collapse removes the mark first and then checks for data once more. In which buckets these may be, it
knows because each is registered with the settings of the data. What could not be marked once its data were
written is owed, until it is: nothing else would bring the data to anybody's notice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from ...backends.base import Command
from ...keys import Keys
from ..settings import field_of

__all__ = ["Marks", "OpenPeriods"]

_EVERY_US = 60_000_000
_MOST_REMEMBERED = 10_000


class Marks(NamedTuple):
    """Periods to mark, and buckets to register."""

    periods: list[str]
    buckets: list[str | None]


class OpenPeriods:
    """The periods of one data set that this process has marked, and the buckets that it has registered.

    Args:
        ticks: microseconds of a clock that is never set.
    """

    def __init__(self, keys: Keys, ticks: Callable[[], int]) -> None:
        self.key = keys.open
        self._meta = keys.meta
        self._ticks = ticks
        self._marked: dict[str, int] = {}
        self._registered: dict[str | None, int] = {}
        self._owed_periods: dict[str, None] = {}  # one's own and those of other threads
        self._owed_buckets: dict[str | None, None] = {}

    @property
    def owes(self) -> bool:
        """Whether something that was written is not marked or registered yet."""
        return bool(self._owed_periods or self._owed_buckets)

    def due(
        self, names: Iterable[str], buckets: Iterable[str | None], running: Collection[str] = ()
    ) -> Marks | None:
        """What has to be marked and registered; None = nothing.

        Args:
            names: the names of the periods written to.
            buckets: those written to.
            running: the names of periods that are not over; all others are marked with each write.
        """
        last = self._ticks() - _EVERY_US
        periods = [name for name in names if name not in running or self._marked.get(name, last) <= last]
        new = [bucket for bucket in buckets if self._registered.get(bucket, last) <= last]
        return Marks(periods, new) if periods or new else None

    def due_with_owed(
        self, names: Iterable[str], buckets: Iterable[str | None], running: Collection[str]
    ) -> Marks | None:
        """The same, with all that is owed."""
        due = self.due(names, buckets, running) or Marks([], [])
        periods = list(dict.fromkeys([*due.periods, *list(self._owed_periods)]))
        registered = list(dict.fromkeys([*due.buckets, *list(self._owed_buckets)]))
        return Marks(periods, registered) if periods or registered else None

    def owe(self, marks: Marks) -> None:
        """Note that what has been written could not be marked."""
        self._owed_periods.update(dict.fromkeys(marks.periods))
        self._owed_buckets.update(dict.fromkeys(marks.buckets))

    def commands(self, marks: Marks) -> list[Command]:
        """The commands that mark and register."""
        commands: list[Command] = []
        if marks.buckets:  # before the mark: who finds that looks for these buckets
            fields = (part for bucket in marks.buckets for part in (field_of(bucket), ""))
            commands.append(("HSET", self._meta, *fields))
        if marks.periods:
            commands.append(("SADD", self.key, *marks.periods))
        return commands

    def are_set(self, marks: Marks) -> None:
        """Note that the server has executed the commands."""
        now = self._ticks()
        if max(len(self._marked), len(self._registered)) > _MOST_REMEMBERED:
            self.forget()
        self._marked.update(dict.fromkeys(marks.periods, now))
        self._registered.update(dict.fromkeys(marks.buckets, now))
        for name in marks.periods:
            self._owed_periods.pop(name, None)
        for bucket in marks.buckets:
            self._owed_buckets.pop(bucket, None)

    def forget(self) -> None:
        """Mark and register everything anew: the server may have lost it."""
        self._marked.clear()
        self._registered.clear()
