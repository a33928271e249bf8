"""What archiving and restoring share: what is chosen, and what data have to agree in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ...archives import ALWAYS
from ...errors import SettingsMismatchError
from ...messages import printable
from ...periods import Calendar, Period, PeriodKind
from ..base import Context

__all__ = ["AGREED", "Chosen", "check_agreement"]

AGREED = ("layout", "timezone_rules", "week_start", "secret")
"""Fields of settings in which data have to agree to be united."""


class Chosen(NamedTuple):
    """Which buckets and periods a call is about.

    Attributes:
        kinds: of period.
        start: they begin at or after it; None = however early.
        end: the period that it is in is left out; None = however late.
        buckets: None = all.
    """

    kinds: Sequence[PeriodKind]
    start: datetime | None
    end: datetime | None
    buckets: tuple[str | None, ...] | None

    def with_sources(self, context: Context) -> Chosen:
        """The same, with the buckets that its aggregates are made of."""
        if self.buckets is None:
            return self
        known = context.aggregates
        sources = (source for name in self.buckets for source in known.get(name or "", ()))
        return self._replace(buckets=tuple(dict.fromkeys((*self.buckets, *sources))))

    def span(self, calendar: Calendar, kind: str, now: datetime) -> tuple[datetime, datetime]:
        """From where on and until when all periods of a kind are meant."""
        start, end = ALWAYS, now
        if self.start is not None:
            first = calendar.containing(kind, self.start)
            start = first.start if first.start >= self.start else first.next().start
        if self.end is not None:
            end = min(calendar.containing(kind, self.end).start, now)
        return start, end

    def has(self, calendar: Calendar, period: Period, bucket: str | None) -> bool:
        """Whether a bucket and period is meant."""
        return (
            period.kind in self.kinds
            and (self.buckets is None or bucket in self.buckets)
            and (self.start is None or period.start >= self.start)
            and (self.end is None or period.start < calendar.containing(period.kind, self.end).start)
        )


def check_agreement(ours: Mapping[str, str], theirs: Mapping[str, str], our: str, their: str) -> None:
    """Refuse to unite data that mean different things.

    Raises:
        SettingsMismatchError: naming what differs.
    """
    differing = [name for name in AGREED if name in ours and name in theirs and ours[name] != theirs[name]]
    if differing:
        shown = "; ".join(
            f"{name.removesuffix('_rules')} {_told(ours, name)} {our[4:]}, {_told(theirs, name)} {their[4:]}"
            for name in differing
        )
        raise SettingsMismatchError(f"{our} and {their} have data of different settings: {shown}")


def _told(settings: Mapping[str, str], name: str) -> str:
    return repr(printable(settings.get(name.removesuffix("_rules"), "")))
