"""Charts: numbers to points of SVG, axes and areas. Pure; places are in per cent, from the top left.

The horizontal unit is a day, of 0 to n-1; the vertical one goes from 0 above to 100 below. The page stretches
the drawing to its room, and writes labels beside it as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from math import ceil, floor, log10
from typing import NamedTuple, TypeVar

from .wording import month_ticks, short_day

__all__ = [
    "Axis",
    "Band",
    "Hatch",
    "Tick",
    "area",
    "band",
    "dots",
    "hatches",
    "line",
    "means",
    "short",
    "time_ticks",
    "weekly",
]

V = TypeVar("V")
Values = Sequence[float | None]

_MOST_TICKS = 4  # above zero
_STEPS = (1, 2, 2.5, 5, 10, 20)
_MOST_DATES = 5
_WEEKS = 70  # up to so many days, weeks are marked


class Band(NamedTuple):
    """A number and its limits."""

    value: float
    low: float
    high: float


class Tick(NamedTuple):
    """A mark of an axis: where, in per cent, and what it says."""

    at: float
    label: str


class Hatch(NamedTuple):
    """Days of which something is not known: where they begin and how wide they are, in per cent."""

    left: float
    width: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from zero.

    Attributes:
        top: the number at the upper end.
        step: from mark to mark.
    """

    top: float
    step: float

    @classmethod
    def up_to(cls, most: float) -> Axis:
        """One that ends with a round number at or above the largest one."""
        if most <= 0:
            return cls(1, 1)
        unit = 10.0 ** floor(log10(most / _MOST_TICKS))
        steps = {factor * unit: ceil(most / (factor * unit) - 1e-9) for factor in _STEPS}
        fitting = [cls(step * count, step) for step, count in steps.items() if 1 < count <= _MOST_TICKS]
        return min(fitting, key=lambda axis: (axis.top, axis.step))

    def y(self, value: float) -> float:
        """The place of a number."""
        return round(100 - 100 * value / self.top, 1)

    def ticks(self, text: Callable[[float], str]) -> list[Tick]:
        """The marks, from zero up."""
        count = round(self.top / self.step)
        return [Tick(round(100 - 100 * at / count, 2), text(at * self.step)) for at in range(count + 1)]


def short(number: float) -> str:
    """A number of an axis: 150k, 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


# Numbers


def means(values: Sequence[Band | None], window: int = 7) -> list[Band | None]:
    """Trailing means. The limits are the means of limits: errors of days go together, as days share ids."""
    found: list[Band | None] = []
    for last in range(len(values)):
        part = values[max(0, last - window + 1) : last + 1]
        known = [value for value in part if value is not None]
        if len(known) < window:
            found.append(None)
        else:
            found.append(Band(*(sum(each) / window for each in zip(*known, strict=True))))
    return found


# Drawing


def line(values: Values, axis: Axis, at: Sequence[int]) -> str:
    """A path that is broken where a value is not known; a value alone is a dot.

    Args:
        at: the days that are joined.
    """
    parts: list[str] = []
    for run in _runs(values, at):
        points = [f"{day} {axis.y(value):g}" for day, value in run]
        parts.append(f"M{points[0]}h0" if len(points) == 1 else "M" + " ".join(points))
    return "".join(parts)


def dots(values: Values, axis: Axis) -> str:
    """A path of points, which the page draws with round ends."""
    return "".join(f"M{at} {axis.y(value):g}h0" for at, value in enumerate(values) if value is not None)


def band(values: Sequence[Band | None], axis: Axis, at: Sequence[int]) -> str:
    """A path round the limits; see :func:`line`."""
    parts: list[str] = []
    for run in _runs(values, at):
        upper = [f"{day} {axis.y(value.high):g}" for day, value in run]
        lower = [f"{day} {axis.y(value.low):g}" for day, value in reversed(run)]
        parts.append(f"M{' '.join(upper + lower)}Z")
    return "".join(parts)


def weekly(days: Sequence[int | None], most: int) -> list[float | None]:
    """Means of weeks, counted back from the last, at most so many; of the days that are known, if any are."""
    first = len(days) - 7 * min(most, len(days) // 7)
    known = ([day for day in days[at : at + 7] if day is not None] for at in range(first, len(days), 7))
    return [sum(week) / len(week) if week else None for week in known]


def area(values: Sequence[float | None]) -> str:
    """A small area from the bottom up to the values, whose largest touches the upper end."""
    top = max(filter(None, values), default=0) or 1
    parts: list[str] = []
    for run in _runs(values, range(len(values))):
        points = " ".join(f"{at} {100 - round(100 * value / top)}" for at, value in run)
        parts.append(f"M{run[0][0]} 100 {points} {run[-1][0]} 100Z")
    return "".join(parts)


def _runs(values: Sequence[V | None], at: Sequence[int]) -> Iterator[list[tuple[int, V]]]:
    """Days in a row, of some, of which values are known."""
    for known, run in groupby(((day, values[day]) for day in at), key=lambda each: each[1] is not None):
        if known:
            yield [(day, value) for day, value in run if value is not None]


# Time


def hatches(unknown: Sequence[str], *, bars: bool = False) -> list[Hatch]:
    """Areas of days of which something is not known.

    Args:
        unknown: for each day, what is said of it; empty where all is known.
        bars: each has a room of its own, instead of a place on a line from the first to the last.
    """
    found: list[Hatch] = []
    scale, before = (100 / max(1, len(unknown)), 0.0) if bars else (100 / max(1, len(unknown) - 1), 0.5)
    for label, run in groupby(enumerate(unknown), key=lambda each: each[1]):
        days = [at for at, _ in run]
        if label:
            left = max(0.0, (days[0] - before) * scale)
            right = min(100.0, (days[-1] + 1 - before) * scale)
            found.append(Hatch(round(left, 2), round(right - left, 2), label))
    return found


def time_ticks(days: Sequence[date]) -> list[Tick]:
    """Beginnings of months or weeks, at most five."""
    scale = 100 / max(1, len(days) - 1)
    if len(days) <= _WEEKS:
        marks = [(at, short_day(day)) for at, day in enumerate(days) if day.weekday() == 0]
        if not marks:
            marks = [(0, short_day(days[0]))]
        kept = marks[:: ceil(len(marks) / _MOST_DATES)]
    else:
        firsts = [(at, day) for at, day in enumerate(days) if day.day == 1]
        every = next(
            step for step in (1, 2, 3, 4, 6, 12, 24, 60, 1200) if _count(firsts, step) <= _MOST_DATES - 1
        )
        chosen = [(at, day) for at, day in firsts if _is_chosen(day, every)]
        kept = [
            (at, month_ticks(day, year=number == 0 or day.month == 1))
            for number, (at, day) in enumerate(chosen)
        ]
    return [Tick(round(at * scale, 2), label) for at, label in kept]


def _is_chosen(day: date, every: int) -> bool:
    return (day.year * 12 + day.month - 1) % every == 0


def _count(firsts: Iterable[tuple[int, date]], every: int) -> int:
    return sum(_is_chosen(day, every) for _, day in firsts)
