"""Marks of what gave no answer a moment ago, so that nobody waits for it at each call."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

__all__ = ["Marks"]

_FIRST_S, _LONGEST_S = 1.0, 8.0


class Marks:
    """For how long nobody waits for servers; twice as long with each failure, until one answers.

    Args:
        clock: seconds, never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: dict[Hashable, tuple[float, float]] = {}

    def is_down(self, server: Hashable, *, is_patient: bool = False) -> bool:
        """Whether a server gave no answer a moment ago.

        Args:
            is_patient: try it each second again, as nobody else can answer.
        """
        mark = self._marks.get(server)
        if mark is None:
            return False
        since, length = mark
        return self._clock() < since + (_FIRST_S if is_patient else length)

    def mark(self, server: Hashable) -> None:
        """A server gave no answer."""
        _, length = self._marks.get(server, (0.0, _FIRST_S / 2))
        self._marks[server] = self._clock(), min(2 * length, _LONGEST_S)

    def unmark(self, server: Hashable) -> None:
        """A server answered."""
        self._marks.pop(server, None)
