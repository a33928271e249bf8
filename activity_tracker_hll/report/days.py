"""Days of buckets, settled: which are numbers, which are zero, and which are not known and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..estimates import Estimate
from ..result import Number
from .charts import Band, means
from .facts import Facts

__all__ = ["NO_COUNT", "Course", "banded", "settled"]

NOTHING, NO_COUNT = "nothing tracked", "no count"


@dataclass(frozen=True)
class Course:
    """What became of a bucket.

    Attributes:
        counts: by day; None = not known, or the bucket's data have not begun.
        unknown: by day, what is said where a count is missing; empty elsewhere.
    """

    counts: Sequence[Estimate | None]
    unknown: Sequence[str]

    @cached_property
    def bands(self) -> list[Band | None]:
        """Counts with their limits; None also where a count is suspect, as it has none."""
        return [banded(count) for count in self.counts]

    @cached_property
    def mean(self) -> list[Band | None]:
        """Of seven days, trailing; None where one of them is not known, or suspect."""
        return means(self.bands)


def banded(number: Number | None) -> Band | None:
    """A number with its limits; None where it has none."""
    return None if number is None or number.suspect else Band(float(number), *number.interval())


def settled(facts: Facts) -> dict[str | None, Course]:
    """The course of each bucket.

    Nobody came to a bucket on a day of which it has no count while others have one: that is zero. If nothing
    at all was tracked on a day, that is more probably a fault; and if the sources of an aggregate have counts
    and it has none, it was not counted in time.
    """
    nothing = [all(day is None for day in every) for every in zip(*facts.counts.values(), strict=True)]
    return {name: _course(facts, name, counts, nothing) for name, counts in facts.counts.items()}


def _course(
    facts: Facts, name: str | None, counts: Sequence[Estimate | None], nothing: Sequence[bool]
) -> Course:
    if None not in counts:
        return Course(counts, [""] * len(counts))
    of = facts.aggregates.get(name or "", ()) if name is not None else ()
    sources = [facts.counts[source] for source in of if source in facts.counts]
    begun = next((at for at, count in enumerate(counts) if count is not None), len(counts))
    found: list[Estimate | None] = []
    unknown: list[str] = []
    for at, count in enumerate(counts):
        label, settled = "", count
        if count is None and any(source[at] is not None for source in sources):
            label = NO_COUNT
        elif count is None and at >= begun:
            label = NOTHING if nothing[at] else ""
            settled = None if label else Estimate(0)
        found.append(settled)
        unknown.append(label)
    return Course(found, unknown)
