"""The global options as a value, and the tracker they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from ..backends.base import Keep
from ..periods import Calendar
from ..tracker import ActivityTracker

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was given to the command group.

    Attributes:
        url, data: where the data are; neither = the user's own data directory.
        is_explicit: whether the place of the data was typed, not taken from the environment or a
            default.
        keep_sketches: see :class:`~.backends.base.BackendSettings`.
        clock: seconds since the epoch.
    """

    url: str | None
    data: str | None
    namespace: str
    timezone: str | None
    week_start: int
    secret: str | None
    keep_sketches: Keep
    is_explicit: bool
    clock: Callable[[], float]

    @property
    def calendar(self) -> Calendar:
        """The tracker's calendar."""
        return Calendar(self.timezone, self.week_start)

    def now(self) -> datetime:
        """The time of day in the tracker's zone."""
        return self.calendar.local(self.clock())

    @contextmanager
    def tracker(self, **changes: Any) -> Iterator[ActivityTracker]:
        """A tracker, closed in the end; arguments go before the settings."""
        options: dict[str, Any] = {
            "backend": "redis" if self.url else "embedded",
            "namespace": self.namespace,
            "timezone": self.timezone,
            "week_start": self.week_start,
            "secret": self.secret,
            "keep_sketches": self.keep_sketches,
            "clock": self.clock,
        }
        if self.url:
            options["url"] = self.url
        else:
            options["path"] = self.data or click.get_app_dir("activity-tracker-hll")
        with ActivityTracker(**{**options, **changes}) as tracker:
            yield tracker
