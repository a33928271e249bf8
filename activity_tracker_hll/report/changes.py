"""Changes: what a bucket was at first and is now, and whether that is more than the errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from ..estimates import Estimate
from ..hll.estimators import half_width
from .wording import Interval, difference

__all__ = ["Change", "change", "changes", "compared_days", "mean_of"]

_Z = half_width(0.95)
_MONTH, _WEEK = 28, 7
_LONG = 3 * _MONTH  # from so many days on, months are compared


@dataclass(frozen=True, slots=True)
class Change:
    """A bucket's mean day at first and at last, each with an interval.

    Attributes:
        first, last: the means.
        first_limits, last_limits: of 95 %.
    """

    first: float
    first_limits: Interval
    last: float
    last_limits: Interval

    @property
    def direction(self) -> int:
        """-1, 0 or 1: it fell, one cannot tell, or it rose."""
        return difference(self.first_limits, self.last_limits)

    @property
    def share(self) -> float:
        """By which part it changed; infinite from nothing."""
        return (self.last - self.first) / self.first if self.first else inf if self.last else 0.0

    @property
    def said(self) -> str:
        """In words: "+4 %", "from nothing", "no clear change"."""
        if not self.direction:
            return "no clear change"
        sign = "+" if self.direction > 0 else "\u2212"
        return f"{sign}{100 * abs(self.share):.0f} %" if self.first else "from nothing"


def compared_days(days: int) -> int:
    """How many days at either end are compared: whole weeks; 0 = too few to compare."""
    return _MONTH if days >= _LONG else _WEEK if days >= 2 * _WEEK else 0


def mean_of(counts: Sequence[Estimate | None]) -> tuple[float, Interval] | None:
    """A mean day; its error is the mean of the days' own, as they share ids. None if a day is not known."""
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return None
    mean = sum(known) / len(known)
    half = _Z * sum(count.stderr for count in known) / len(known)
    return mean, (max(0.0, mean - half), mean + half)


def change(counts: Sequence[Estimate | None]) -> Change | None:
    """From the first days to the last ones; None where that is not known."""
    compared = compared_days(len(counts))
    if not compared:
        return None
    first, last = mean_of(counts[:compared]), mean_of(counts[-compared:])
    return Change(*first, *last) if first and last else None


def changes(counts: Mapping[str | None, Sequence[Estimate | None]]) -> dict[str | None, Change]:
    """Of each bucket of which it is known."""
    found = ((name, change(by_day)) for name, by_day in counts.items())
    return {name: changed for name, changed in found if changed}
