"""Periods of time as values: their names, their neighbours, and the calendar that finds them.

Pure: nothing here reads a clock. A period starts at a naive wall-clock time in the tracker's time zone; only
:class:`Calendar` knows that zone.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import count, dropwhile, takewhile
from typing import Literal, NamedTuple, get_args

from . import zones
from .errors import ArgumentTypeError, ArgumentValueError
from .messages import plain_text, shown

__all__ = [
    "LONGEST",
    "PERIODS",
    "Calendar",
    "Period",
    "PeriodKind",
    "Running",
    "check_kind",
    "check_week_start",
]

PeriodKind = Literal["hourly", "daily", "weekly", "monthly", "quarterly", "yearly"]
"""A kind of period."""

PERIODS: tuple[PeriodKind, ...] = get_args(PeriodKind)
_KINDS: dict[str, PeriodKind] = {kind: kind for kind in PERIODS}

LONGEST = {  # the longest a period of each kind can be
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=31),
    "quarterly": timedelta(days=92),
    "yearly": timedelta(days=366),
}
_SKIPPED = ("hourly", "daily")
"""Kinds of which clocks may skip one: an hour, or the day that a country gave up to change its date."""
_MONTHS = {"monthly": 1, "quarterly": 3, "yearly": 12}
_NAME = re.compile(
    r"(?:hourly-(?P<hourly>\d{10})|daily-(?P<daily>\d{8})|weekly-(?P<weekly>\d{8})"
    r"|monthly-(?P<monthly>\d{6})|quarterly-(?P<quarterly>\d{4}Q[1-4])|yearly-(?P<yearly>\d{4}))\Z"
)
QUARTER_S = 900
"""No zone's clock changes within a quarter of an hour, except for a few before 1972."""

# Names hold four digits for the year, and a period's end must be a date too.
_FIRST_YEAR, _LAST_YEAR = 1000, 9998
_REMEMBERED = 1024  # the same days and months with every question
_REMEMBERED_YEARS = 256  # fifty of each kind but hours, of which nobody asks for more than a few


def check_kind(kind: object, argument: str = "period") -> PeriodKind:
    """Check that a kind is one of :data:`PERIODS`.

    Raises:
        ArgumentTypeError, ArgumentValueError: listing them.
    """
    name = plain_text(kind)
    if name is None:
        raise ArgumentTypeError(f"{argument} must be one of {', '.join(PERIODS)}, got {shown(kind)}")
    found = _KINDS.get(name)
    if found is None:
        raise ArgumentValueError(f"{argument} must be one of {', '.join(PERIODS)}, got {shown(kind)}")
    return found


@dataclass(frozen=True, slots=True)
class Period:
    """One hour, day, week, month, quarter or year.

    Attributes:
        kind: one of :data:`PERIODS`.
        start: naive datetime at which it begins.
        name: as used in keys, such as ``daily-20261123`` or ``quarterly-2026Q4``.
    """

    kind: str
    start: datetime
    name: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Computed once, as the running period's name is needed with every event.
        object.__setattr__(self, "name", _name(self.kind, self.start))

    @property
    def date(self) -> date:
        """The date that lookups report, which is the first day; for an hour, the datetime of its start."""
        return self.start if self.kind == "hourly" else self.start.date()

    def next(self) -> Period:
        """The period that begins where this one ends."""
        return _period(self.kind, _shifted(self.kind, self.start, +1))

    def previous(self) -> Period:
        """The period that ends where this one begins."""
        return _period(self.kind, _shifted(self.kind, self.start, -1))


_period = lru_cache(maxsize=_REMEMBERED)(Period)


@lru_cache(maxsize=_REMEMBERED_YEARS)
def _names_of_year(last: Period) -> tuple[tuple[str, ...], Period]:
    """The names of all periods of a year, newest first, and the last period of the year before."""
    kind, year = last.kind, last.start.year
    starts = (_shifted(kind, last.start, -steps) for steps in count())
    names = tuple(_name(kind, start) for start in takewhile(lambda start: start.year == year, starts))
    return names, Period(kind, _shifted(kind, last.start, -len(names)))


def _names_back(last: Period, year: int) -> Iterator[str]:
    while last.start.year >= year:
        names, last = _names_of_year(last)
        yield from names


class Running(NamedTuple):
    """The period that is running at some time.

    Attributes:
        period: the period.
        ends: the timestamp of its end, as expected at that time.
        sure_until: the timestamp until which it certainly runs. At any quarter of an hour a zone's clocks may
            change, so that an hour is repeated, or a period ends later or sooner.
    """

    period: Period
    ends: float
    sure_until: float


def _shifted(kind: str, start: datetime, steps: int) -> datetime:
    """Where the period begins that comes so many after the one that begins at `start`."""
    if kind in _MONTHS:
        months = start.year * 12 + start.month - 1 + steps * _MONTHS[kind]
        return start.replace(year=months // 12, month=months % 12 + 1)
    return start + steps * LONGEST[kind]


def _name(kind: str, start: datetime) -> str:
    match kind:
        case "hourly":
            return f"hourly-{start.year:04}{start.month:02}{start.day:02}{start.hour:02}"
        case "daily" | "weekly":
            return f"{kind}-{start.year:04}{start.month:02}{start.day:02}"
        case "monthly":
            return f"monthly-{start.year:04}{start.month:02}"
        case "quarterly":
            return f"quarterly-{start.year:04}Q{(start.month + 2) // 3}"
        case _:
            return f"yearly-{start.year:04}"


class Calendar:
    """Finds periods in one time zone with one first day of the week.

    What is not given is adopted from the data, once these are known; until then, and where they do not say,
    it is the machine's local time and Monday.

    Args:
        zone: IANA name, tzinfo, or None = not given.
        week_start: 0 = Monday ... 6 = Sunday; None = not given.

    Attributes:
        zone_fingerprint: equal for zones that behave alike, see ``zones.py``.
        revision: changes where something is adopted that makes a difference.

    Raises:
        ArgumentTypeError, ArgumentValueError: an unknown zone or day.
    """

    def __init__(self, zone: str | tzinfo | None = None, week_start: int | None = None) -> None:
        self.zone = zones.load(zone)
        self.zone_fingerprint = zones.fingerprint(self.zone)
        self.week_start = 0 if week_start is None else check_week_start(week_start)
        self.gives_zone, self.gives_week_start = zone is not None, week_start is not None
        self.revision = 0

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to adopt any more."""
        return self.gives_zone and self.gives_week_start

    # Several threads may adopt at once: the same, and each sets last what says that it is done.

    def adopt_zone(self, zone: tzinfo | None, fingerprint: str) -> None:
        """Take over a zone that was not given; from now on it is as if it had been."""
        self._use(zone, fingerprint)
        self.gives_zone = True

    def fix_local_time(self) -> None:
        """Let local time be the zone that it is now: a process may change it, as Django does at its start.

        If that zone has no name, it goes on to be what the process has.
        """
        try:
            local = zones.load(zones.name_of(None))
        except ArgumentValueError:
            local = None
        fingerprint = zones.fingerprint(local)
        if self.zone is None:  # asked last, as another thread may have adopted one
            self._use(local, fingerprint)

    def _use(self, zone: tzinfo | None, fingerprint: str) -> None:
        # Local time may have been another one when periods were found.
        has_changed = self.zone is None or fingerprint != self.zone_fingerprint
        self.zone, self.zone_fingerprint = zone, fingerprint
        if has_changed:
            self.revision += 1

    def adopt_week_start(self, week_start: int) -> None:
        """Take over a first day of the week that was not given."""
        if week_start != self.week_start:
            self.week_start = week_start
            self.revision += 1
        self.gives_week_start = True

    @property
    def zone_name(self) -> str:
        """The name of the zone; local time has one, too, if the machine tells."""
        return zones.name_of(self.zone)

    def local(self, timestamp: float) -> datetime:
        """The naive wall-clock time of a POSIX timestamp."""
        return datetime.fromtimestamp(timestamp, self.zone).replace(tzinfo=None)

    def timestamp(self, moment: datetime) -> float:
        """The POSIX timestamp of a naive wall-clock time; of one that clocks skip, of when they do."""
        found = moment.replace(tzinfo=self.zone).timestamp()
        if self.zone is UTC or self.local(found) <= moment:
            return found
        earlier = moment.replace(tzinfo=self.zone, fold=1).timestamp()
        seconds = range(int(earlier), int(found) + 1)
        return float(seconds[bisect_left(seconds, moment, key=self.local)])

    def moment(self, value: object, argument: str, *, needs_hour: bool = False) -> datetime:
        """The naive wall-clock time that a caller's date or datetime stands for.

        Aware datetimes are converted to the zone, naive ones are taken to be in it, and a date stands for its
        midnight.

        Args:
            value: the date or datetime.
            argument: the argument's name, for errors.
            needs_hour: refuse dates.

        Raises:
            ArgumentTypeError: not a date or datetime, or a date where the hour is needed.
            ArgumentValueError: outside the years 1000-9998.
        """
        if not isinstance(value, date):
            raise ArgumentTypeError(f"{argument} must be a date or a datetime, got {shown(value)}")
        if needs_hour and not isinstance(value, datetime):
            raise ArgumentTypeError(
                f"{argument} must be a datetime for hourly periods, got the date {shown(value)}"
            )
        try:
            moment = self._naive(value)
        except Exception as error:  # out of range, pandas' NaT, a zone that cannot tell
            raise ArgumentValueError(f"{argument} is no moment in range: {shown(value)}") from error
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ArgumentValueError(
                f"{argument} must lie in the years {_FIRST_YEAR}-{_LAST_YEAR}, got {shown(value)}"
            )
        return moment

    def _naive(self, value: date) -> datetime:
        if not isinstance(value, datetime):
            return datetime(value.year, value.month, value.day)
        if value.tzinfo is not None:
            # By way of UTC, or a time in the same zone that its clocks skip would be kept as it is.
            value = value.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None)
        if type(value) is datetime:
            return value
        time = value.hour, value.minute, value.second, value.microsecond
        return datetime(value.year, value.month, value.day, *time)

    def containing(self, kind: str, moment: datetime) -> Period:
        """The period of this kind that contains a moment.

        Args:
            kind: one of :data:`PERIODS`.
            moment: naive wall-clock time in the calendar's zone.
        """
        start = datetime(moment.year, moment.month, moment.day)
        if kind == "hourly":
            start = start.replace(hour=moment.hour)
        elif kind == "weekly":
            start -= timedelta(days=(start.weekday() - self.week_start) % 7)
        elif kind in _MONTHS:
            months = _MONTHS[kind]
            start = start.replace(month=(start.month - 1) // months * months + 1, day=1)
        return _period(kind, start)

    def running(self, kind: str, now: float) -> Running:
        """The period of this kind that is running at a POSIX timestamp."""
        local = self.local(now)
        period = self.containing(kind, local)
        ends = self.timestamp(period.next().start)
        if ends <= now:  # clocks were put back from a time after its end
            ends = now + (period.next().start - local).total_seconds()
        return Running(period, ends, min(ends, (now // QUARTER_S + 1) * QUARTER_S))

    def microseconds(self, value: datetime, argument: str = "date") -> int:
        """Microseconds since 1970, at least 1, of an aware datetime or a naive one in the zone.

        Raises:
            ArgumentValueError: it is no moment, such as pandas' NaT.
        """
        try:
            aware = value if value.tzinfo is not None else value.replace(tzinfo=self.zone)
            return max(1, round(aware.timestamp() * 1_000_000))
        except Exception as error:
            raise ArgumentValueError(f"{argument} is no moment: {shown(value)}") from error

    def is_skipped(self, period: Period) -> bool:
        """Whether clocks go past all of a period, as past an hour in spring: no moment lies in it."""
        if period.kind not in _SKIPPED or self.zone is UTC:
            return False
        return self.local(self.timestamp(period.start)) >= period.next().start

    def before(self, kind: str, moment: datetime, count: int) -> Iterator[Period]:
        """Up to `count` periods before the one that contains a naive wall-clock time, newest first."""
        period, left = self.containing(kind, moment), range(count)
        while left and period.start.year > _FIRST_YEAR:
            period = period.previous()
            if not self.is_skipped(period):
                left = left[1:]
                yield period

    def names_before(self, period: Period, year: int) -> Iterator[str]:
        """The names of the periods before one that begin in a year or later, newest first.

        So many are named in a moment, as they are remembered by the year. No zone is asked: among them are
        hours and days that clocks skipped, in which there is nothing.
        """
        last = self.containing(period.kind, datetime(period.start.year, 12, 31, 23))
        return dropwhile(lambda name: name >= period.name, _names_back(last, year))

    def between(self, kind: str, start: datetime, end: datetime) -> Iterator[Period]:
        """The periods that begin at or after start and before the one that contains end, oldest first."""
        period = self.containing(kind, start)
        if period.start < start:
            period = period.next()
        last = self.containing(kind, end)
        while period.start < last.start:
            if not self.is_skipped(period):
                yield period
            period = period.next()

    def parse(self, name: str) -> Period | None:
        """The period with this name; None if there is none."""
        match = _NAME.match(name)
        if match is None or match.lastgroup is None:
            return None
        kind, digits = match.lastgroup, match[match.lastgroup]
        try:
            if kind == "quarterly":
                start = datetime(int(digits[:4]), int(digits[5]) * 3 - 2, 1)
            else:
                start = datetime(
                    int(digits[:4]), int(digits[4:6] or 1), int(digits[6:8] or 1), int(digits[8:] or 0)
                )
        except ValueError:
            return None
        return Period(kind, start)


def check_week_start(value: object, argument: str = "week_start") -> int:
    """The first day of the week, 0 = Monday ... 6 = Sunday.

    Raises:
        ArgumentTypeError, ArgumentValueError: it is another value.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"{argument} must be an int from 0 (Monday) to 6, got {shown(value)}")
    day = int.__index__(value)
    if not 0 <= day <= 6:
        raise ArgumentValueError(f"{argument} must lie from 0 (Monday) to 6, got {shown(value)}")
    return day
