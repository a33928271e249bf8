"""Marking the periods that hold uncounted data, so that a collapse finds them however old they are.

Marks are renewed from time to time, as a server may have lost them. A mark is written after the data it is
about: a collapse removes the mark first and then checks for data once more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ...backends.base import Command
from ...keys import Keys

__all__ = ["OpenPeriods"]

_EVERY_US = 60_000_000
_MOST_REMEMBERED = 1000


class OpenPeriods:
    """The periods of one data set that this process has marked.

    Args:
        ticks: microseconds of a clock that is never set.
    """

    def __init__(self, keys: Keys, ticks: Callable[[], int]) -> None:
        self.key = keys.open
        self._ticks = ticks
        self._marked: dict[str, int] = {}

    def mark(self, names: Iterable[str], running: Collection[str] = ()) -> list[Command]:
        """The commands that mark periods, where that is necessary.

        Args:
            names: the names of the periods written to.
            running: the names of periods that are not over; all others are marked with each write.
        """
        last = self._ticks() - _EVERY_US
        due = [name for name in names if name not in running or self._marked.get(name, last) <= last]
        return [("SADD", self.key, *due)] if due else []

    def are_marked(self, commands: Iterable[Command]) -> None:
        """Note that the server has executed what :meth:`mark` returned."""
        if len(self._marked) > _MOST_REMEMBERED:
            self._marked.clear()
        for _, _, *names in commands:
            self._marked.update(dict.fromkeys(map(str, names), self._ticks()))

    def forget(self) -> None:
        """Mark everything anew: the server may have lost the marks."""
        self._marked.clear()
