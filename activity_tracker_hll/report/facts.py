"""Facts: what a report is made of, as values, and what it was asked for.

Nothing is asked or drawn here. All lists of days run beside :attr:`Facts.days`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from math import isnan
from types import EllipsisType

from ..analytics.results import Cell, Lifecycle, LifecycleRow, Retention, RetentionRow
from ..estimates import Estimate, Share
from ..overlaps import Overlap
from ..periods import Calendar, PeriodKind
from ..result import Number

__all__ = ["Facts", "Groups", "Point", "Reach", "Shares", "Source", "Wanted"]

Point = tuple[Number | None, bool]
"""What is known of a day, and whether it is complete."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a report has to know of a reader beside its answers.

    Attributes:
        calendar: the reader's.
        clock: seconds since the epoch.
        buckets: the reader's; None = it has none.
        aggregates: names of unions, and what each unites; more may be known once something was asked.
    """

    calendar: Calendar
    clock: Callable[[], float]
    buckets: tuple[str | None, ...] | None
    aggregates: Callable[[], Mapping[str, tuple[str | None, ...]]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report is asked for.

    Attributes:
        source: the reader.
        buckets: what is shown; None = the reader's, or all that there are.
        bucket: what reach, retention and lifecycle are about; ... = see :func:`.gather`.
        start, end: the days; what `end` is in does not belong to them. None = a year, up to now or to the
            newest data.
        title: the heading.
        shard: the data set.
    """

    source: Source
    buckets: tuple[str | None, ...] | None = None
    bucket: str | EllipsisType | None = ...
    start: date | None = None
    end: date | None = None
    title: str = "Active users"
    shard: int = 0


@dataclass(frozen=True, slots=True)
class Reach:
    """How many came within 28 days, 7 days and a day, and how often.

    Attributes:
        bucket: of what; meaningless where it is of several together.
        together: whether it is of all buckets that are shown, which no aggregate unites.
        a_day: how many came on each day.
        at: indexes of the days at which windows end: of all, or where ids move and each window costs a
            fraction of a second, of each seventh.
        week, month: how many came in the 7 and in the 28 days up to these.
        stickiness: the mean of a day by those of 28 days.
        problem: why something is not known: a sentence.
    """

    bucket: str | None
    together: bool
    a_day: Sequence[Point] = ()
    at: Sequence[int] = ()
    week: Sequence[Point] = ()
    month: Sequence[Point] = ()
    stickiness: Sequence[Point] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Groups:
    """Who came back, and what became of whom.

    Attributes:
        kind: of the periods.
        bucket: of what.
        retention, lifecycle: None where they are not known.
        partial: the first period, if the data begin within it: nothing is to be compared with it.
        problem: why something is not known: a sentence.
    """

    kind: PeriodKind = "monthly"
    bucket: str | None = None
    retention: Retention | None = None
    lifecycle: Lifecycle | None = None
    partial: date | None = None
    problem: str = ""

    @property
    def told(self) -> list[tuple[RetentionRow, Cell]]:
        """Cohorts that are whole, and how many of each came back in the next period."""
        rows = [row for row in self.retention or () if row.complete and row.date != self.partial]
        cells = [(row, row.cells[1]) for row in rows if len(row.cells) > 1]
        return [
            (row, cell)
            for row, cell in cells
            if cell and cell.complete and not cell.share.suspect and not isnan(cell.share)
        ]

    @property
    def passed(self) -> list[LifecycleRow]:
        """Periods that are whole, as is the one before."""
        rows = list(self.lifecycle or ())
        if rows and rows[0].date == self.partial:
            rows = rows[2:]
        return [row for row in rows if row.complete]


@dataclass(frozen=True, slots=True)
class Shares:
    """What buckets have in common over some days.

    Attributes:
        buckets: largest first.
        start, end: the days, `end` not among them.
        pairs: what was answered of each two.
        problem: why something is not known: a sentence.
    """

    buckets: tuple[str | None, ...] = ()
    start: date = date.min
    end: date = date.min
    pairs: Mapping[tuple[str | None, str | None], Overlap] = field(default_factory=dict)
    problem: str = ""

    def size(self, bucket: str | None) -> Estimate | None:
        """How many ids a bucket has."""
        return next(
            (found.a if a == bucket else found.b for (a, b), found in self.pairs.items() if bucket in (a, b)),
            None,
        )

    def share(self, bucket: str | None, other: str | None) -> Share | None:
        """The share of a bucket's ids that are in the other, too."""
        if found := self.pairs.get((bucket, other)):
            return found.share_of_a
        return found.share_of_b if (found := self.pairs.get((other, bucket))) else None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report shows.

    Attributes:
        title: the heading.
        made: when it was made, wall-clock time in the zone.
        zone: its name.
        days: oldest first; none where nothing is known.
        running: the day that is not over; None = none of them.
        counts: by bucket, largest first; None = nothing was tracked, or in an aggregate: nothing was counted.
        aggregates: names among the buckets that unite others, and which.
        unread: buckets whose counts cannot be read, and why.
        other_kinds: the kinds of period that there are, if there are no days.
        reach, groups, shares: see there.
    """

    title: str
    made: datetime
    zone: str
    days: tuple[date, ...] = ()
    running: date | None = None
    counts: Mapping[str | None, Sequence[Estimate | None]] = field(default_factory=dict)
    aggregates: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    unread: Mapping[str | None, str] = field(default_factory=dict)
    other_kinds: tuple[PeriodKind, ...] = ()
    reach: Reach = field(default_factory=lambda: Reach(None, together=False))
    groups: Groups = field(default_factory=Groups)
    shares: Shares = field(default_factory=Shares)

    @property
    def whole(self) -> int:
        """How many of the days are over: all, or all but the last."""
        return len(self.days) - (self.running is not None)
