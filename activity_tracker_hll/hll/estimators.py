"""Estimators from the registers of one sketch, or of two of which one contains the other.

Pure functions of registers live here. H is a bucket's sketch of every id tracked, V the sketch of
every id ever moved out of it; the remainder is H without V. Estimates for several buckets at once are in
:mod:`.unions`; those from PFCOUNT numbers, for sketches that cannot be read, in :mod:`.from_counts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import floor, inf, sqrt
from statistics import NormalDist
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .registers import MAX_RANK, REGISTERS, Registers, histogram

__all__ = [
    "ABOVE",
    "CHANCE",
    "LARGEST",
    "Fit",
    "cardinalities_of",
    "cardinality",
    "cardinality_of",
    "fit",
    "half_width",
    "remainder",
    "resolution",
    "standard_error",
]

Number = TypeVar("Number", float, NDArray[np.float64])

LARGEST: Final = 2**63 - 1
"""The largest count there is: Redis counts in signed 64-bit numbers."""

_ALPHA = 0.721347520444481703680  # 1 / (2 ln 2): Ertl 2017, section 4.2, with Redis's digits
_RANKS = np.arange(MAX_RANK + 1)

CHANCE = 2.0 ** -np.minimum(_RANKS, MAX_RANK - 1)
"""Shape (52,): the probability that a hash has rank k; 51, all bits zero, is as likely as 50."""

ABOVE = np.where(_RANKS < MAX_RANK, 2.0**-_RANKS, 0.0)
"""Shape (52,): the probability that a hash has a rank above k."""

_RAISED_BITS = np.uint8(6)
_RAISED = 1 << 6

_ITERATIONS = 100  # Newton takes 3 to 6; for registers that no ids produce, up to 60


def cardinality(registers: Registers) -> int:
    """The number of distinct ids in a sketch, equal to PFCOUNT's to the last digit.

    It is the improved raw estimator of Ertl 2017 (arXiv 1702.01284, algorithm 6), which Redis has used
    since 4.0: the same operations on doubles in the same order, halves rounded up.

    Args:
        registers: shape (16384,).

    Returns:
        The estimate, at most 2^63 - 1; :func:`standard_error` gives its error. Beyond that, which takes
        registers that no ids produce, the server's number overflows to -2^63.
    """
    return cardinality_of(histogram(registers))


def cardinality_of(histogram: NDArray[np.int64]) -> int:
    """:func:`cardinality` from the histogram of the registers, shape (52,)."""
    counts: list[int] = histogram.tolist()
    return _estimate(_harmonic(counts, _of_full(counts[MAX_RANK])) + _of_empty(counts[0]))


def cardinalities_of(histograms: NDArray[np.int64]) -> list[int]:
    """:func:`cardinality` from the histograms of many sketches, shape (n, 52)."""
    counts = histograms.T
    of_full, of_empty = (
        np.array([term(count) for count in counts[rank].tolist()])
        for term, rank in ((_of_full, MAX_RANK), (_of_empty, 0))
    )
    return [_estimate(total) for total in (_harmonic(counts, of_full) + of_empty).tolist()]


def _harmonic(counts: Sequence[int] | NDArray[np.int64], of_full: Number) -> Number:
    """Part of the denominator of the estimate: of one sketch, or of each, shape (n,).

    Args:
        counts: how many registers hold each rank, shape (52,) or (52, n).
        of_full: what those of the highest rank add.
    """
    total = of_full
    for count in counts[MAX_RANK - 1 : 0 : -1]:
        total = (total + count) * 0.5
    return total


def _estimate(total: float) -> int:
    estimate = _ALPHA * REGISTERS * REGISTERS / total if total else inf
    if estimate >= LARGEST:
        return LARGEST
    floored = floor(estimate)
    return floored + 1 if estimate - floored >= 0.5 else floored


@lru_cache(maxsize=REGISTERS + 1)
def _of_empty(registers: int) -> float:
    """What registers that are empty add, by sigma of their share: Ertl 2017, section 4.3."""
    return REGISTERS * _sigma(registers / REGISTERS)


@lru_cache(maxsize=REGISTERS + 1)
def _of_full(registers: int) -> float:
    """What registers of the highest rank add, by tau of the share of the others: Ertl 2017, section 4.4."""
    return REGISTERS * _tau((REGISTERS - registers) / REGISTERS)


def _sigma(x: float) -> float:
    if x == 1:
        return inf
    power, total, before = 1.0, x, -1.0
    while total != before:
        x *= x
        before = total
        total += x * power
        power += power
    return total


def _tau(x: float) -> float:
    if x in {0, 1}:
        return 0.0
    power, total, before = 1.0, 1 - x, -1.0
    while total != before:
        x = sqrt(x)
        before = total
        power *= 0.5
        total -= (1 - x) ** 2 * power
    return total / 3


def standard_error(n: int) -> float:
    """The standard error, in ids, of a plain HyperLogLog count of about n ids.

    n * sqrt(v(n) / m) with v(n) = 0.5 + 0.58 n / (n + 3 m), a fit to the error of cardinality(): 0.55 %
    of n for small n, never above 0.812 %.
    """
    return n * sqrt((0.5 + 0.58 * n / (n + 3 * REGISTERS)) / REGISTERS)


def half_width(confidence: float) -> float:
    """Half of the width, in standard errors, of the interval around a normal variable."""
    # By the lower tail, because 1 + confidence can be rounded to 2.
    return -NormalDist().inv_cdf((1 - confidence) / 2)


def remainder(tracked: Registers, moved: Registers) -> tuple[int, float]:
    """The number of ids in H that are not in V, by censored maximum likelihood, and its standard error.

    See :func:`fit`. As R itself is a fixed number, not a Poisson variable, the variance is m^2 / I - R.

    Args:
        tracked: registers of H, shape (16384,).
        moved: registers of V. Ids of V that are missing in H are taken to be in H too; no move leaves such.

    Returns:
        Number and standard error in ids. The error covers at least what the registers cannot show
        (:func:`resolution`). If V is empty, this is the plain count.
    """
    if not moved.any():
        count = cardinality(tracked)
        return count, standard_error(count)
    tracked = np.maximum(tracked, moved)
    fitted = fit(tracked, moved)
    if fitted.above == 0:  # full: any number of ids may be in there
        return (LARGEST if (tracked > moved).any() else 0), float(LARGEST)
    variance = REGISTERS**2 / fitted.information - fitted.ids if fitted.information else 0.0
    return min(LARGEST, round(fitted.ids)), sqrt(max(0.0, variance) + resolution(fitted.above))


class Fit(NamedTuple):
    """The result of :func:`fit`.

    Attributes:
        ids: R, not rounded; 0 if `above` is 0.
        above: a, the sum of 2^-H_i.
        information: I, about the rate of one register; 0 if no register of H is above V.
        observed: shape (16384,): the rank of H in each register, plus 64 where H is above V.
    """

    ids: float
    above: float
    information: float
    observed: NDArray[np.uint8]

    def influence(self) -> NDArray[np.float64]:
        """How many ids each register adds to R, shape (16384,); the sum of squares is R's variance."""
        if not self.information:
            return np.zeros(REGISTERS)
        by_value = np.zeros((2, _RAISED))
        by_value[:, : MAX_RANK + 1] -= ABOVE
        by_value[1, 1 : MAX_RANK + 1] += _terms(CHANCE[1:], self.ids / REGISTERS)
        by_value *= REGISTERS / self.information
        influence: NDArray[np.float64] = by_value.ravel().take(self.observed)
        return influence


def fit(tracked: Registers, moved: Registers) -> Fit:
    """The number R of ids in H that are not in V, by censored maximum likelihood.

    These ids are independent of V. Where H is above V, a register shows the highest rank among them. Where it
    is not, the register is censored: it shows only that none of them ranks higher. With b_k registers of rank
    H_i = k > V_i, c_k = 2^-k and a = sum of 2^-H_i, their number R = m x, taken as Poisson, has the score
    sum b_k c_k / (exp(c_k x) - 1) - a and the observed information
    I = sum b_k c_k^2 exp(c_k x) / (exp(c_k x) - 1)^2. For rank 51, c is 2^-50 in the first sum and 0 in a.

    Args:
        tracked: registers of H, shape (16384,), nowhere below those of V.
        moved: registers of V.
    """
    observed = tracked | (tracked > moved).view(np.uint8) << _RAISED_BITS
    both = np.bincount(observed, minlength=2 * _RAISED).reshape(2, _RAISED)[:, : MAX_RANK + 1]
    above = float(both.sum(axis=0) @ ABOVE)
    if above == 0:
        return Fit(0.0, above, 0.0, observed)
    rate, information = _likeliest(both[1], above)
    return Fit(REGISTERS * rate, above, information, observed)


def resolution(above: Number) -> Number:
    """The variance, in ids squared, that remains when no id shows in the registers.

    A new id raises a register with probability p = above / m, above being the sum of 2^-H_i: 1 / p - 1 ids
    are expected to pass unseen before one does, with variance (1 - p) / p^2. When none is seen, 3 / p ids may
    have passed (probability exp(-3) = 5 %); 1.96 standard errors reach that far with 2.3 times that variance.
    Next to a hundred ids seen, it adds 1 % to the error.
    """
    passing: Number = REGISTERS / above
    return 2.3 * passing * (passing - 1)


def _likeliest(raised: NDArray[np.int64], above: float) -> tuple[float, float]:
    """The rate at which ids fall on one register, and the information about it.

    Args:
        raised: b, shape (52,).
        above: a, not 0.
    """
    ranks = np.flatnonzero(raised)
    if not ranks.size:
        return 0.0, 0.0
    count, chance = raised[ranks], CHANCE[ranks]
    # The score is convex and at least 0 here, as 1 / (exp(y) - 1) > 1 / y - 1 / 2: Newton only ascends.
    rate = float(count.sum() / (above + count @ chance / 2))
    for _ in range(_ITERATIONS):
        term = _terms(chance, rate)
        information = float(count @ (term * (term + chance)))
        step = (float(count @ term) - above) / information
        rate += step
        if step <= 1e-10 * rate:
            break
    return rate, information


def _terms(chance: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """The terms c / (exp(c x) - 1)."""
    terms: NDArray[np.float64] = chance / np.expm1(np.minimum(chance * rate, 700))  # exp(710) overflows
    return terms
