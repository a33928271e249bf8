"""Gathering the facts: which questions a report asks, in which order, as a generator of them.

It knows no reader: it yields a question and is sent the answer, or the error that it met.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from itertools import combinations
from typing import Any, TypeVar

from ..errors import ActivityTrackerError, ArgumentValueError, BackendDataError
from ..estimates import Estimate
from ..overlaps import Overlap
from ..periods import PeriodKind
from ..selection import Selection
from ..sketch import Sketch
from .facts import Facts, Groups, Point, Reach, Shares, Wanted
from .questions import Question

__all__ = ["MOST_PANELS", "gather"]

T = TypeVar("T")
Asking = Generator[Question, Any, T]
Counts = dict[str | None, list[Estimate | None]]

MOST_PANELS = 12
"""More buckets are a table, and are not united for the report alone: that would read all their sketches."""
_MOST_IN_OVERLAP = 8
_YEAR = timedelta(days=365)
_DAY = timedelta(days=1)
_WEEK_OF_DAYS, _MONTH_OF_DAYS = 7, 28
_COHORTS: dict[PeriodKind, int] = {"monthly": 25, "weekly": 13}  # and how many at most
_TOGETHER = "all together"
_NO_GROUPS = "Neither months nor weeks are tracked: periods=['daily', 'monthly'] does that from then on."
_NOT_WHOLE: Point = (None, False)
_ENOUGH_COHORTS = 2  # that are complete: one now, and one to compare it with


def gather(wanted: Wanted) -> Asking[Facts]:
    """All that a report shows.

    Reach, retention and lifecycle are about `wanted.bucket`. If that is not given, about the aggregate that
    unites all buckets which are shown; else reach is about all of them together, if they are not too many,
    and the rest, which can only be asked of one, about the largest.
    """
    source, calendar = wanted.source, wanted.source.calendar
    asking = _Days(wanted)
    days, counts = yield from asking.asked()
    made = calendar.local(source.clock())
    facts = Facts(
        wanted.title,
        made,
        calendar.zone_name,
        unread=asking.unread,
        other_kinds=tuple(sorted(asking.other_kinds)),
    )
    if not days:
        return facts
    running = calendar.containing("daily", made).start.date()
    last = days.index(running) if running in days else len(days)
    recent = slice(max(0, last - _MONTH_OF_DAYS), last or 1)
    order = sorted(counts, key=lambda name: -sum(filter(None, counts[name][recent])))
    facts = replace(
        facts,
        days=tuple(days),
        running=running if running == days[-1] else None,
        counts={name: counts[name] for name in order},
        aggregates={name: of for name, of in wanted.source.aggregates().items() if name in counts},
    )
    facts = replace(facts, reach=(yield from _reach(wanted, facts)))
    facts = replace(facts, groups=(yield from _groups(wanted, facts)))
    return replace(facts, shares=(yield from _shares(wanted, facts)))


@dataclass(slots=True)
class _Days:
    """Asks for days and counts.

    Attributes:
        unread: buckets that cannot be read, and why.
        other_kinds: the kinds of period that were found where there are no days.
    """

    wanted: Wanted
    unread: dict[str | None, str] = field(default_factory=dict)
    other_kinds: set[PeriodKind] = field(default_factory=set)

    def asked(self) -> Asking[tuple[list[date], Counts]]:
        """Days, and their counts by bucket."""
        wanted = self.wanted
        names = wanted.source.buckets if wanted.buckets is None else wanted.buckets
        there: tuple[date, date] | None = None
        if names is None:
            names, there = yield from self._found(None)
        days, counts = yield from self._counted(names, there)
        if not counts and there is None and wanted.end is None:
            _, there = yield from self._found(names)
            if there is not None:
                days, counts = yield from self._counted(names, there)
        if wanted.buckets is None and counts:
            plain = set(names)
            unions = [name for name, of in wanted.source.aggregates().items() if plain.issuperset(of)]
            if unions := [name for name in unions if name not in plain]:
                more = yield from self._lookup(unions, days[0], days[-1] + _DAY)
                counts |= {name: by_day for name, by_day in more[1].items() if any(by_day)}
        return days, counts

    def _found(
        self, names: Sequence[str | None] | None
    ) -> Asking[tuple[tuple[str | None, ...], tuple[date, date] | None]]:
        """Which buckets have days, and the first and the last of these."""
        entries = yield _question("what there is", "inventory", shard=self.wanted.shard)
        if isinstance(entries, ActivityTrackerError):
            raise entries
        entries = [entry for entry in entries if names is None or entry.bucket in names]
        daily = [entry for entry in entries if entry.period.kind == "daily"]
        if not daily:
            self.other_kinds |= {entry.period.kind for entry in entries}
        now = self._now()
        begun = [entry for entry in daily if entry.period.start <= now]  # a wrong date is no newest day
        unions = self.wanted.source.aggregates()
        found = dict.fromkeys(entry.bucket for entry in begun if entry.bucket not in unions)
        starts = [entry.period.start.date() for entry in begun]
        return tuple(found) or (None,), (min(starts), max(starts)) if starts else None

    def _counted(
        self, names: Sequence[str | None], there: tuple[date, date] | None
    ) -> Asking[tuple[list[date], Counts]]:
        """Days and counts, from the first on of which anything is known unless they are asked for.

        The day that runs is left out as long as there is nothing.
        """
        wanted = self.wanted
        end, start = wanted.end, wanted.start
        if end is None and there is not None:
            end = there[1] + _DAY
        if start is None and end is not None:
            until = min(wanted.source.calendar.moment(end, "end"), self._now()).date()
            start = until - _YEAR if there is None else max(until - _YEAR, min(there[0], until - _DAY))
        days, counts = yield from self._lookup(names, start, end)
        counts = {name: by_day for name, by_day in counts.items() if any(by_day)}
        if not counts:
            return [], {}
        known = [at for at in range(len(days)) if any(by_day[at] is not None for by_day in counts.values())]
        first = 0 if wanted.start else known[0]
        last = len(days) if wanted.end or known[-1] < len(days) - 2 else known[-1] + 1
        return days[first:last], {name: by_day[first:last] for name, by_day in counts.items()}

    def _lookup(
        self, names: Sequence[str | None], start: date | None, end: date | None
    ) -> Asking[tuple[list[date], Counts]]:
        options = {"start": start, "live": True, "missing": None, "shard": self.wanted.shard}
        if end is not None:
            until = self.wanted.source.calendar.moment(end, "end")
            if _midnight(until) <= _midnight(self._now()):
                options |= {"end": end, "live": None}
        rows = yield _question("days", "lookup", "daily", buckets=names, **options)
        if isinstance(rows, BackendDataError):
            for period, name, why in rows.failures:
                self.unread.setdefault(name, f"{period}: {why}")
            readable = [name for name in names if name not in self.unread]
            if len(readable) < len(names):
                return (yield from self._lookup(readable, start, end)) if readable else ([], {})
        if isinstance(rows, ActivityTrackerError):
            raise rows
        return [day for day, _ in rows], {name: [counts[name] for _, counts in rows] for name in names}

    def _now(self) -> datetime:
        source = self.wanted.source
        return source.calendar.local(source.clock())


def _question(about: str, call: str, *arguments: Any, **options: Any) -> Question:
    return Question(about, call, arguments, options)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


# Reach


def _reach(wanted: Wanted, facts: Facts) -> Asking[Reach]:
    plain = [name for name in facts.counts if name not in facts.aggregates]
    bucket = _main(wanted, facts)
    together = bucket is ... and 1 < len(plain) <= MOST_PANELS
    if bucket is ...:
        bucket = plain[0] if plain else next(iter(facts.counts))
    known = {*facts.counts, *wanted.source.aggregates(), *(wanted.source.buckets or ())}
    name = _unlike(_TOGETHER, known) if together else bucket
    what = {"aggregate_buckets": {name: plain}} if together else {"buckets": [bucket]}
    asking = _Windows(wanted, facts, name, {**what, "missing": "none", "shard": wanted.shard})
    if name in facts.counts:
        a_day: list[Point] = [
            (count, day != facts.running) for day, count in zip(facts.days, facts.counts[name], strict=True)
        ]
    else:
        a_day = yield from asking.all_of("reach", "rolling", 1)
    moves = yield from asking.moves(plain if together else [bucket])
    at = range((facts.whole - 1) % 7, facts.whole, 7) if moves else range(len(facts.days))
    ask = partial(asking.each_of, at) if moves else asking.all_of
    week = yield from ask("reach", "rolling", _WEEK_OF_DAYS)
    month = yield from ask("reach", "rolling", _MONTH_OF_DAYS)
    sticky = yield from ask("stickiness", "stickiness", _MONTH_OF_DAYS)
    return Reach(bucket, together, a_day, at, week, month, sticky, asking.problem)


@dataclass(slots=True)
class _Windows:
    """Asks for windows of one name.

    Attributes:
        name: the bucket or aggregate.
        options: of all calls.
        problem: the first error.
    """

    wanted: Wanted
    facts: Facts
    name: str | None
    options: Mapping[str, Any]
    problem: str = ""

    def moves(self, names: Sequence[str | None]) -> Asking[bool]:
        """Whether ids left any of these on the last day, or among the sources of one."""
        last = self.facts.days[max(0, self.facts.whole - 1)]
        for name in names:
            sketch = yield _question("reach", "sketch", "daily", last, name, shard=self.wanted.shard)
            if isinstance(sketch, ArgumentValueError) or (
                isinstance(sketch, Sketch) and sketch.moved.count()
            ):
                return True
        return False

    def all_of(self, about: str, call: str, window: int) -> Asking[list[Point]]:
        """A window that ends with each day."""
        first = min(self._first(window), len(self.facts.days))
        points = [_NOT_WHOLE] * first
        if days := self.facts.days[first:]:
            points += yield from self._points(about, call, window, days)
        return points

    def each_of(self, at: Sequence[int], about: str, call: str, window: int) -> Asking[list[Point]]:
        """A window that ends with each of some days, each by a question of its own."""
        points: list[Point] = []
        for index in at:
            if index < self._first(window):
                points.append(_NOT_WHOLE)
            else:
                points += yield from self._points(about, call, window, [self.facts.days[index]])
        return points

    def _first(self, window: int) -> int:
        """The index of the first day with which a window can end that does not begin before the data."""
        return window - 1 if _begins_with_data(self.wanted, self.facts) else 0

    def _points(self, about: str, call: str, window: int, days: Sequence[date]) -> Asking[list[Point]]:
        """A point for each day; nothing is known where there is an error."""
        answer = yield _question(about, call, window, start=days[0], end=days[-1] + _DAY, **self.options)
        if isinstance(answer, ActivityTrackerError):
            self.problem = self.problem or str(answer)
            return [_NOT_WHOLE] * len(days)
        found: dict[date, Point] = {row.date: (row.estimates[self.name], row.complete) for row in answer}
        return [found.get(day, _NOT_WHOLE) for day in days]


def _begins_with_data(wanted: Wanted, facts: Facts) -> bool:
    """Whether the first day shown is the first one of the data."""
    return wanted.start is None and facts.days[-1] - facts.days[0] < _YEAR - _DAY


def _main(wanted: Wanted, facts: Facts) -> Any:
    """What most of the report is about; ... where nothing says so."""
    if wanted.bucket is not ...:
        return wanted.bucket
    plain = {name for name in facts.counts if name not in facts.aggregates}
    covering = (name for name, of in facts.aggregates.items() if plain and plain.issubset(of))
    return next(covering, ...) if len(plain) != 1 else next(iter(plain))


def _unlike(name: str, others: Iterable[str | None]) -> str:
    """A name that nothing else has."""
    while name in others:
        name += "*"
    return name


# Retention and lifecycle


def _groups(wanted: Wanted, facts: Facts) -> Asking[Groups]:
    """Of months, or of weeks where these tell more: as only weeks are tracked, or for a short time."""
    bucket = _main(wanted, facts)
    if bucket is ...:
        bucket = next((name for name in facts.counts if name not in facts.aggregates), None)
    best, problem = Groups(bucket=bucket), ""
    chosen: dict[str, Any] = {}
    for kind, most in _COHORTS.items():
        periods, partial_one = _periods(wanted, facts, kind, most)
        options = {**periods, "bucket": bucket, "missing": "none", "shard": wanted.shard}
        found = Groups(kind, bucket, partial=partial_one)
        for cohorts in ("new", "active"):  # all, where it is too early to tell who is new, or nobody is
            if len(found.told) < _ENOUGH_COHORTS:
                answer = yield _question("retention", "retention", kind, cohorts=cohorts, **options)
                if isinstance(answer, ActivityTrackerError):
                    problem = problem or str(answer)
                else:
                    found = max(found, replace(found, retention=answer), key=_worth)
        if _worth(found) > _worth(best):
            best, chosen = found, options
        if len(best.told) >= _ENOUGH_COHORTS:
            break
    if best.retention is None:
        return replace(best, problem=problem or _NO_GROUPS)
    answer = yield _question("lifecycle", "lifecycle", best.kind, **chosen)
    if isinstance(answer, ActivityTrackerError):
        return replace(best, problem=str(answer))
    return replace(best, lifecycle=answer)


def _worth(groups: Groups) -> tuple[int, bool]:
    """How much there is to tell; without anybody, nothing."""
    return len(groups.told), any(row.size for row in groups.retention or ())


def _periods(
    wanted: Wanted, facts: Facts, kind: PeriodKind, most: int
) -> tuple[dict[str, date], date | None]:
    """The periods of the days, up to so many, with the one that runs; and the one in which data begin.

    They are whole, unless the data begin within the first one.
    """
    calendar, begin = wanted.source.calendar, _midnight(facts.days[0])
    first, last = calendar.containing(kind, begin), calendar.containing(kind, _midnight(facts.days[-1]))
    is_partial = first.start < begin and _begins_with_data(wanted, facts)
    if first.start < begin and not is_partial and first != last:
        first = first.next()
    earliest = [*calendar.before(kind, last.start, most - 1)][-1]
    if first.start < earliest.start:
        first, is_partial = earliest, False
    span = {"start": first.start.date(), "end": last.next().start.date()}
    return span, first.start.date() if is_partial else None


# Overlap


def _shares(wanted: Wanted, facts: Facts) -> Asking[Shares]:
    plain = [name for name in facts.counts if name not in facts.aggregates]
    last = facts.days[facts.whole - 1] if facts.whole else facts.days[-1]
    start, end = max(facts.days[0], last - (_MONTH_OF_DAYS - 1) * _DAY), last + _DAY
    present = [
        name
        for name in plain
        if any(count for day, count in zip(facts.days, facts.counts[name], strict=True) if start <= day < end)
    ]
    shown = present[:_MOST_IN_OVERLAP]
    pairs: dict[tuple[str | None, str | None], Overlap] = {}
    problem = ""
    for a, b in combinations(shown, 2):
        both = (Selection(name, start, end, "daily") for name in (a, b))
        found = yield _question("overlap", "overlap", *both, shard=wanted.shard)
        if isinstance(found, Overlap):
            pairs[a, b] = found
        else:
            problem = problem or str(found)
            if not isinstance(found, BackendDataError | LookupError):  # of this server: the others go alike
                break
    return Shares(tuple(shown), start, end, pairs, problem)
