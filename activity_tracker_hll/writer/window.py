"""The window: the periods that run now, one of each kind, and until when that is certain.

Events in the queues bear no time of their own. They belong to the window in which they were appended, so the
queues are drained where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from ..periods import Calendar

__all__ = ["Window"]


class Window(NamedTuple):
    """Names of the running periods; times are seconds since the epoch.

    Attributes:
        periods: one of each kind.
        since: when this was determined; a clock may be set back to before it.
        until: when it has to be determined again; the periods may still be the same then.
        revision: of the calendar, which may adopt another zone.
    """

    periods: tuple[str, ...]
    since: float
    until: float
    revision: int

    @classmethod
    def at(cls, calendar: Calendar, kinds: Sequence[str], now: float) -> Window:
        """The window that is open at a moment."""
        running = [calendar.running(kind, now) for kind in kinds]
        until = min((found.sure_until for found in running), default=inf)
        return cls(tuple(found.period.name for found in running), now, until, calendar.revision)

    def contains(self, now: float) -> bool:
        """Whether the same periods certainly still run."""
        return self.since <= now < self.until
