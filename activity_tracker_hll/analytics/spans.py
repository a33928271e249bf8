"""Ranges of periods as analytics take them, and shares of numbers of ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import hypot, inf, isnan, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..estimates import Estimate, Limits, Share
from ..hll.estimators import LARGEST
from ..hll.joint_limits import DISPLAYED, USUAL
from ..hll.layers import History, Layer, alive, everything, has_moves
from ..hll.patterns import Patterns, ProportionLimits
from ..hll.registers import Registers, empty
from ..periods import Period

__all__ = [
    "ALL",
    "Floats",
    "Span",
    "estimated",
    "limited_share",
    "mean_of",
    "of_patterns",
    "part_of",
    "share_of_patterns",
    "single_layers",
    "sum_of",
    "united",
]

Floats = NDArray[np.float64]

ALL = 1_000_000
"""Periods to look back at: all that were read."""


class Span(NamedTuple):
    """What was read of a name over a range of periods.

    Attributes:
        periods: oldest first.
        history: the layers of its buckets in each.
        sound: whether random ids can have made a period's sketches.
        known: whether none of a period's sketches is gone.
        over: whether a period has ended.
        begin: index of the period in which the data begin; 0 if they begin before.
    """

    periods: Sequence[Period]
    history: History
    sound: Sequence[bool]
    known: Sequence[bool]
    over: Sequence[bool]
    begin: int

    def unique(self, periods: range) -> Estimate:
        """The number of ids alive in a part of the range."""
        history = [self.history[index] for index in periods]
        count, error = alive(history)
        if not self.is_sound(periods):
            return Estimate(count, inf)
        return Estimate(count, error if has_moves(history) else None)

    def is_sound(self, periods: Iterable[int]) -> bool:
        """Whether random ids can have made the sketches of these periods."""
        return all(self.sound[index] for index in periods)

    def is_preceded(self, index: int, look_back: int) -> bool:
        """Whether the data begin before the periods that one looks back at; if at all of them, before it."""
        return self.begin <= (index - 1 if look_back == ALL else index - look_back)

    def is_known(self, periods: Iterable[int]) -> bool:
        """Whether none of the sketches of these periods is gone."""
        return all(self.known[index] for index in periods)


def united(history: History) -> Registers:
    """All ids that were active or left."""
    return everything(layer for period in history for layer in period)


def single_layers(history: History) -> list[Layer] | None:
    """A single layer for each period; None where that cannot be, as ids moved among several buckets."""
    if not has_moves(history):
        return [Layer(everything(period)) for period in history]
    if all(len(period) == 1 for period in history):
        return [period[0] or Layer(empty()) for period in history]
    return None


class _SumOf(NamedTuple):
    """Limits of a sum of independent numbers: MOVER, Zou and Donner 2008."""

    numbers: tuple[Estimate, ...]

    def limits(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper limit."""
        bounds = [(number, *number.interval(confidence)) for number in self.numbers]
        total = sum(self.numbers)
        return (
            total - hypot(*(number - low for number, low, _ in bounds)),
            total + hypot(*(high - number for number, _, high in bounds)),
        )


def sum_of(*numbers: Estimate) -> Estimate:
    """The sum of numbers of different ids."""
    return estimated(sum(numbers), _SumOf(numbers), sound=not any(number.suspect for number in numbers))


class _PartOf(NamedTuple):
    """Limits of the share that a number has of a whole, of which another one is the rest.

    MOVER, for correlated numbers: Zou and Donner 2008.
    """

    part: Estimate
    rest: Estimate
    correlation: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper limit."""
        (low, high), (least, most) = self.part.interval(confidence), self.rest.interval(confidence)
        whole = self.part + self.rest
        share = self.part / whole
        below = self._apart((1 - share) * (self.part - low), share * (most - self.rest))
        beyond = self._apart((1 - share) * (high - self.part), share * (self.rest - least))
        return share - below / whole, share + beyond / whole

    def _apart(self, a: float, b: float) -> float:
        return sqrt(max(0.0, a * a + b * b - 2 * self.correlation * a * b))


def part_of(part: Estimate, rest: Estimate, correlation: float) -> Share:
    """The share that a number has of itself and the rest; NaN of nobody."""
    suspect = part.suspect or rest.suspect
    whole = part + rest
    if not whole:
        return Share(nan, inf if suspect else 0.0)
    return limited_share(part / whole, _PartOf(part, rest, correlation), suspect=suspect)


class _MeanOf(NamedTuple):
    """Limits of the mean of shares of sets, each weighted by the size of its set; see :func:`mean_of`."""

    mean: float
    shares: tuple[Share, ...]
    sizes: tuple[Estimate, ...]
    scale: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper limit."""
        below, beyond = 0.0, 0.0
        for share, size in zip(self.shares, self.sizes, strict=True):
            (low, high), (least, most) = share.interval(confidence), size.interval(confidence)
            by_size = (share - self.mean) * (size - least), (share - self.mean) * (most - size)
            below = hypot(below, size * (share - low), max(by_size[0], -by_size[1]))
            beyond = hypot(beyond, size * (high - share), max(by_size[1], -by_size[0]))
        scale = self.scale / sum(self.sizes)
        return self.mean - scale * below, self.mean + scale * beyond


def mean_of(shares: Sequence[Share], sizes: Sequence[Estimate], alike: Floats) -> Share:
    """The mean of shares of k sets, weighted by their sizes; NaN of nobody.

    By MOVER, to the first order: of n ids among N the share s moves the mean by n / N times its error, and n
    moves it by (s - mean) / N times its own. The errors of sets that have ids in common are correlated.

    Args:
        shares: of each set.
        sizes: of each set.
        alike: how far the errors of two sets are correlated, shape (k, k).
    """
    suspect = any(share.suspect for share in shares)
    whole = sum(sizes)
    if not whole:
        return Share(nan, inf if suspect else 0.0)
    used = [index for index, size in enumerate(sizes) if size]
    shares, sizes = tuple(shares[index] for index in used), tuple(sizes[index] for index in used)
    mean = min(1.0, sum(share * size for share, size in zip(shares, sizes, strict=True)) / whole)
    if suspect:
        return Share(mean, inf)
    errors = np.array(
        [
            hypot(size * share.stderr, (share - mean) * size.stderr)
            for share, size in zip(shares, sizes, strict=True)
        ]
    )
    apart = float((errors * errors).sum())
    together = float(np.einsum("i,ij,j->", errors, alike[np.ix_(used, used)], errors))
    limits = _MeanOf(mean, shares, sizes, sqrt(together / apart) if apart else 1.0)
    return limited_share(mean, limits, suspect=False)


def limited_share(value: float, limits: Limits, *, suspect: bool) -> Share:
    """A share with limits of its own."""
    low, high = limits.limits(USUAL)
    return Share(
        value if isnan(value) else min(1.0, value), inf if suspect else (high - low) / DISPLAYED, limits
    )


def estimated(value: float, limits: Limits, *, sound: bool) -> Estimate:
    """An estimate with limits of its own."""
    low, high = limits.limits(USUAL)
    error = (high - low) / DISPLAYED if sound else inf
    return Estimate(min(LARGEST, max(0, round(value))), error, limits)


def of_patterns(found: Patterns, question: int, *, sound: bool) -> Estimate:
    """A number of ids of which something is true."""
    limits = ProportionLimits(found.of(question), found.total, found.stderr)
    return estimated(found.total * limits.proportion.share, limits, sound=sound)


def share_of_patterns(found: Patterns, question: int, whole: int, *, sound: bool) -> Share:
    """The share of ids of which something is true that something else is true of, too."""
    limits = found.of(question, whole)
    return limited_share(limits.share, limits, suspect=not sound)
