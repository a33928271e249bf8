"""Panels: facts to what the page shows of each section, ready to be written down. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import inf, isfinite, isnan
from typing import Any

from ..estimates import Share
from ..result import Number
from .changes import Change, changes, mean_of
from .charts import Axis, Band, Hatch, Tick, area, band, dots, hatches, line, means, short, time_ticks, weekly
from .days import NO_COUNT, Course, banded, settled
from .facts import Facts, Point, Reach
from .findings import newest, of_buckets, of_reach
from .gather import MOST_PANELS
from .tables import Row, Table, link
from .wording import Interval, Named, Sentence, difference, full, limits, percent, rounded, short_day, weekday

__all__ = ["Buckets", "Listed", "Panel", "ReachView", "Tile", "buckets", "reach", "tiles"]

_HALF = MOST_PANELS // 2
_BACK = 28  # days that tiles look back
_MOST_FLAGS = 12
_WEEKS = 52
_LABEL = 5.5  # between labels of lines, in per cent of a chart's height


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a panel.

    Attributes:
        path, band, tail: as SVG: the line, its limits, and what leads to the day that is not over.
        label: beside its end, and where that is, in per cent.
    """

    path: str
    band: str = ""
    tail: str = ""
    label: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart of days with its name and the numbers of the last whole day.

    Attributes:
        name: what it shows.
        value, limits: of the day that is shown first.
        column: of the table with its numbers.
        width: days, less one.
        lines: drawn in this order.
        dots: single days.
        across, up: marks of the axes.
        hatches: days of which something is not known.
        flags: where counts are suspect, in per cent.
    """

    name: str
    value: str
    limits: str
    column: int
    width: int
    lines: Sequence[Line]
    dots: str
    across: Sequence[Tick]
    up: Sequence[Tick]
    hatches: Sequence[Hatch] = ()
    flags: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """A number at the top."""

    label: str
    value: str
    limits: str
    change: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A bucket in the list of many.

    Attributes:
        cells: for programs: the mean day, its limits, the change as a part of 1, each None where it is not
            known; and whether that change is clear.
    """

    name: Named
    spark: str
    mean: str
    limits: str
    change: str
    direction: int
    cells: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Buckets:
    """The section of buckets."""

    finding: Sentence
    panels: Sequence[Panel]
    table: Table
    selected: int
    listed: Sequence[Listed] = ()
    width: int = 0
    csv: str = ""
    has_flags: bool = False
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class ReachView:
    """The section of reach and stickiness."""

    finding: Sentence
    panels: Sequence[Panel] = ()
    table: Table | None = None


# Buckets


def buckets(facts: Facts) -> Buckets:
    """A panel for each bucket; of many, for the largest and those that changed, and a list of all."""
    courses = settled(facts)
    changed = changes({name: course.counts[: facts.whole] for name, course in courses.items()})
    names = list(courses)
    is_part = len(names) > MOST_PANELS
    if is_part:
        moved = sorted(
            (name for name in names[_HALF:] if _beyond(changed.get(name)) > 1),
            key=lambda name: -_beyond(changed[name]),
        )
        names = names[:_HALF] + moved[:_HALF]
    selected = max(0, facts.whole - 1)
    panels = [
        _panel(facts, courses[name], Named.of(name), column, selected) for column, name in enumerate(names)
    ]
    table = Table(
        "days",
        "Users a day",
        "day",
        [Named.of(name) for name in names],
        _day_rows(facts, [courses[name].counts for name in names]),
    )
    listed = [_listed(facts, name, courses[name], changed.get(name)) for name in courses] if is_part else []
    return Buckets(
        of_buckets(facts, changed),
        panels,
        table,
        selected,
        listed,
        max(1, min(_WEEKS, facts.whole // 7) - 1),
        link(
            ["bucket", "mean day", "mean day low", "mean day high", "change", "clear"],
            ([each.name, *each.cells] for each in listed),
        )
        if listed
        else "",
        any(panel.flags for panel in panels),
        is_part,
    )


def _beyond(change: Change | None) -> float:
    """How far a bucket moved, in sums of both half intervals."""
    if change is None:
        return 0.0
    errors = sum(high - low for low, high in (change.first_limits, change.last_limits)) / 2
    return abs(change.last - change.first) / max(errors, 0.5)


def _day_rows(facts: Facts, columns: Sequence[Sequence[Number | None]]) -> list[Row]:
    return [
        Row(weekday(day), day.isoformat(), numbers, complete=day != facts.running)
        for day, *numbers in zip(facts.days, *columns, strict=True)
    ]


def _panel(facts: Facts, course: Course, name: Named, column: int, selected: int) -> Panel:
    counts, bands, mean = course.counts, course.bands, course.mean
    highs = [each.high for each in mean if each]
    axis = Axis.up_to(max([*(each.value for each in bands if each), *highs], default=0))
    before = next((each for each in (mean[facts.whole - 1], bands[facts.whole - 1]) if each), None)
    whole = range(facts.whole)
    tail = _tail(facts, [*bands[: facts.whole - 1], before, bands[-1]], axis)
    flagged = [at for at, count in enumerate(counts) if count is not None and count.suspect]
    return Panel(
        name,
        *_shown(counts[selected]),
        column,
        max(1, len(counts) - 1),
        [Line(line(_values(mean), axis, whole), band(mean, axis, whole), tail)],
        # A count that somebody made up may be far above all others.
        dots([None if count is None or count > axis.top else count for count in counts], axis),
        time_ticks(facts.days),
        axis.ticks(short),
        hatches(course.unknown),
        [round(100 * at / max(1, len(counts) - 1), 2) for at in flagged[:_MOST_FLAGS]],
    )


def _shown(number: Number | None) -> tuple[str, str]:
    """A number as a panel's title has it, with its limits; see ``page.js``, which does likewise."""
    if number is None:
        return NO_COUNT, ""
    value = full(number) if isinstance(number, Share) else rounded(number)
    return value, "suspect" if number.suspect else limits(number)


def _tail(facts: Facts, bands: Sequence[Band | None], axis: Axis) -> str:
    """From the last whole day to the one that is not over."""
    if facts.running is None or not facts.whole:
        return ""
    before, last = bands[facts.whole - 1], bands[-1]
    if before is None or last is None:
        return ""
    return f"M{facts.whole - 1} {axis.y(before.value):g} {len(facts.days) - 1} {axis.y(last.value):g}"


def _listed(facts: Facts, name: str | None, course: Course, change: Change | None) -> Listed:
    whole = course.counts[: facts.whole]
    found = mean_of(whole[-7:])
    said = "-" if found is None else rounded(found[0])
    its_limits = (
        ""
        if found is None or found[1][1] == float("inf")
        else f"{rounded(found[1][0])} to {rounded(found[1][1])}"
    )
    return Listed(
        Named.of(name),
        area(weekly(whole, _WEEKS)),
        said,
        its_limits,
        change.said if change else "-",
        change.direction if change else 0,
        _cells(found, change),
    )


def _cells(mean: tuple[float, Interval] | None, change: Change | None) -> list[Any]:
    """What of a bucket's mean day and change is known."""
    numbers = [*((mean[0], *mean[1]) if mean else (inf,) * 3), change.share if change else inf]
    return [
        *(round(number, 5) if isfinite(number) else None for number in numbers),
        bool(change and change.direction),
    ]


# Reach


def reach(facts: Facts) -> ReachView:
    """How many came within 28 and 7 days and on a day, above the share of those that come on a day."""
    found = facts.reach
    finding = of_reach(facts, found)
    columns = [_settled(facts, found, points) for points in (found.month, found.week, found.stickiness)]
    month, week, sticky = columns
    a_day = [count for count, _ in found.a_day]
    if not any(number is not None for numbers in (*columns, a_day) for number in numbers):
        return ReachView(finding)
    panels = [_reach_panel(facts, month, week, a_day)]
    if any(share is not None for share in sticky):
        panels.append(_sticky_panel(facts, sticky))
    rows = _day_rows(facts, [month, week, a_day, sticky])
    table = Table(
        "reach",
        "Different users",
        "day",
        ["28 days", "7 days", "a day", "stickiness"],
        [rows[at] for at in found.at],
    )
    return ReachView(finding, panels, table)


def _settled(facts: Facts, found: Reach, points: Sequence[Point]) -> list[Number | None]:
    """A window for each day, None also where it is not complete, but for the day that is not over."""
    numbers: list[Number | None] = [None] * len(facts.days)
    for at, (number, complete) in zip(found.at, points, strict=False):
        if number is not None and (complete or at >= facts.whole) and not isnan(number):
            numbers[at] = number
    return numbers


def _reach_panel(
    facts: Facts,
    month: Sequence[Number | None],
    week: Sequence[Number | None],
    a_day: Sequence[Number | None],
) -> Panel:
    at = [index for index in facts.reach.at if index < facts.whole]
    courses = [
        ("28 days", at, [banded(number) for number in month]),
        ("7 days", at, [banded(number) for number in week]),
        ("a day", range(facts.whole), means([banded(number) for number in a_day])),
    ]
    axis = Axis.up_to(max((each.high for _, _, bands in courses for each in bands if each), default=0))
    lines = []
    for label, days, bands in courses:
        last = next((each for each in (bands[index] for index in reversed(days)) if each), None)
        tail = _tail(facts, bands, axis) if label != "a day" else ""
        drawn = Line(line(_values(bands), axis, days), band(bands, axis, days), tail)
        lines.append(replace(drawn, label=label, at=axis.y(last.value)) if last else drawn)
    return Panel(
        "Active users",
        *_shown(month[_last_known(month, at)]),
        0,
        max(1, len(facts.days) - 1),
        _apart(lines),
        "",
        time_ticks(facts.days),
        axis.ticks(short),
        _unknown(facts, facts.reach.month),
    )


def _sticky_panel(facts: Facts, sticky: Sequence[Number | None]) -> Panel:
    at = [index for index in facts.reach.at if index < facts.whole]
    bands = [banded(share) for share in sticky]
    axis = Axis.up_to(max((each.high for each in bands if each), default=1))
    return Panel(
        "Stickiness (a day / 28 days)",
        *_shown(sticky[_last_known(sticky, at)]),
        3,
        max(1, len(facts.days) - 1),
        [Line(line(_values(bands), axis, at), band(bands, axis, at), _tail(facts, bands, axis))],
        "",
        time_ticks(facts.days),
        axis.ticks(lambda share: f"{100 * share:g} %"),
        _unknown(facts, facts.reach.stickiness),
    )


def _values(bands: Sequence[Band | None]) -> list[float | None]:
    return [None if each is None else each.value for each in bands]


def _last_known(numbers: Sequence[Number | None], at: Sequence[int]) -> int:
    """The last of these days of which there is a number; else the last one."""
    return next((index for index in reversed(at) if numbers[index] is not None), at[-1] if at else 0)


def _apart(lines: Sequence[Line]) -> list[Line]:
    """The same, with labels as far apart as text needs to be, from the bottom up."""
    below = 100.0 + _LABEL
    placed = []
    for each in reversed(lines):
        at = min(each.at, below - _LABEL)
        below = at if each.label else below
        placed.append(replace(each, at=round(at, 1)))
    return placed[::-1]


def _unknown(facts: Facts, points: Sequence[Point]) -> list[Hatch]:
    """Where windows need sketches that are gone, or are suspect, and thus have no interval."""
    labels = [""] * len(facts.days)
    at = facts.reach.at
    step = at[1] - at[0] if len(at) > 1 else 1
    for index, (number, complete) in zip(at, points, strict=False):
        if complete and (number is None or number.suspect):
            since = max(0, index - step + 1)
            labels[since : index + 1] = ["suspect" if number is not None else NO_COUNT] * (index + 1 - since)
    return hatches(labels)


# Tiles


def tiles(facts: Facts) -> list[Tile]:
    """Users of a day, a week, four weeks, and how often they come; each with its change in four weeks."""
    found = facts.reach
    every = range(len(facts.days))
    last = newest(facts, every, found.a_day)
    day = facts.days[last[0]] if last else None
    is_yesterday = day is None or day == facts.made.date() - timedelta(days=1)
    label = "Yesterday" if is_yesterday or day is None else f"{short_day(day)} {day.year}"
    return [
        _tile(facts, f"{label} (DAU)", every, found.a_day),
        _tile(facts, "7 days (WAU)", found.at, found.week),
        _tile(facts, "28 days (MAU)", found.at, found.month),
        _tile(facts, "Stickiness", found.at, found.stickiness),
    ]


def _tile(facts: Facts, label: str, at: Sequence[int], points: Sequence[Point]) -> Tile:
    last = newest(facts, at, points)
    if last is None:
        return Tile(label, "-", "not known", "")
    index, number = last
    value, its_limits = _shown(number)
    if isinstance(number, Share):
        value = f"{percent(number)} %"
    known = dict(zip(at, points, strict=False))
    before, complete = known.get(index - _BACK, (None, False))
    if before is None or not complete or before.suspect or number.suspect or isnan(before):
        return Tile(label, value, its_limits, "")
    direction = difference(before.interval(), number.interval())
    if not direction:
        return Tile(label, value, its_limits, "no clear change in 4 weeks")
    by = abs(number - before) / before if before else 0.0
    arrow = "\u25b2" if direction > 0 else "\u25bc"
    return Tile(label, value, its_limits, f"{arrow}{f' {100 * by:.0f} %' if by else ''} in 4 weeks")
