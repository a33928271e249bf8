"""The global options as a value, and the tracker that they describe."""

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
    """The global options of the command line.

    Attributes:
        url: the server with the data.
        data: the directory with the data; without either, the user's own data directory.
        namespace: see :class:`~.backends.base.BackendSettings`.
        timezone: an IANA name; None = local time.
        week_start: 0 = Monday ... 6 = Sunday.
        secret: see :class:`~.backends.base.BackendSettings`.
        keep_sketches: likewise.
        is_explicit: whether url or data was typed, not taken from the environment or a default.
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
        """The present time in the tracker's zone."""
        return self.calendar.local(self.clock())

    @contextmanager
    def tracker(self, **overrides: Any) -> Iterator[ActivityTracker]:
        """A tracker, which is closed in the end; arguments override the settings."""
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
        with ActivityTracker(**{**options, **overrides}) as tracker:
            yield tracker
