"""Two sets beyond a third: how many ids are in both, or in one of them alone, from registers.

Pure functions of registers live here; intervals are in :mod:`.joint_limits`. A and B are sketches. P, the
base, is a sketch of ids that are left out: those known before, or moved away. Without one it is empty. Ids of
A only, of B only and of both that are not in P fall on a register as independent Poisson variables of rates
x_A, x_B, x_C. With a = max(A, P), b = max(B, P), t_k = 2^-k (t_51 = 0) and c_k = t_(k-1) - t_k, the
likelihood of a register (Ertl 2017, arXiv 1706.07290, section 5; here left-censored at the base) is

    a < b:  e^(-(x_A + x_C) t_a) [1 - e^(-(x_A + x_C) c_a)]  e^(-x_B t_b) (1 - e^(-x_B c_b))
    a > b:  the same with A and B exchanged
    a = b:  e^(-(x_A + x_B + x_C) t_a) [f_C + e^(-x_C c_a) f_A f_B],  f_X = 1 - e^(-x_X c_a)

where what is in brackets is left out if the lower of a and b is not above P. So five histograms of ranks and
three sums hold all that the registers tell. The rates that maximise the likelihood are found themselves, not
their logarithms, because zero must be reachable: sets may be disjoint, or one may contain the other.

Everything is done for many pairs at once: a single pair costs numpy some milliseconds, another 0.2 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimators import ABOVE, CHANCE
from .registers import MAX_RANK, REGISTERS, Registers

__all__ = [
    "FLOOR",
    "Joint",
    "Likelihood",
    "Maximum",
    "Observed",
    "Pair",
    "climb",
    "fit",
    "influence",
    "inverse",
    "joined",
    "observe",
]

Floats = NDArray[np.float64]
Indexes = NDArray[np.intp]
Pair = tuple[Registers, Registers, Registers | None]
"""A, B and the base; None = no base."""

FLOOR: Final = 1e-9
"""The least rate: stands for 0, where the likelihood has logarithms of 0."""

_BITS = 6  # of a rank
_SHOWN_BIT = np.uint16(1 << 2 * _BITS)
_RANK_BITS = (1 << _BITS) - 1
_CODES = 2 << 2 * _BITS
_RANKS = slice(0, MAX_RANK + 1)
_SMALLEST_SCALE = 1e-6
_HALVINGS = 40


class Observed(NamedTuple):
    """What the registers of n pairs tell.

    Attributes:
        ranks: shape (5, n, 51): how many registers show rank 1 to 51; of A where it is below B, of B there,
            of A where it is above B, of B there, and of both where they are equal. Only ranks above the base.
        above: shape (n, 3): the sums of 2^-a, of 2^-b, and of 2^-min(a, b).
    """

    ranks: NDArray[np.uint16]
    above: Floats

    def take(self, rows: Sequence[int] | Indexes) -> Observed:
        """Some of the pairs."""
        return Observed(self.ranks[:, rows], self.above[rows])


def joined(parts: Sequence[Observed]) -> Observed:
    """All the pairs of some parts."""
    return Observed(
        np.concatenate([part.ranks for part in parts], axis=1), np.concatenate([part.above for part in parts])
    )


def observe(pairs: Iterable[Pair]) -> Observed:
    """Read pairs of sketches.

    Args:
        pairs: (A, B, base), each of shape (16384,).
    """
    counted = [_observe(*pair) for pair in pairs]
    ranks = np.array([ranks for ranks, _ in counted], np.uint16).reshape(len(counted), 5, MAX_RANK)
    above = np.array([above for _, above in counted], np.float64).reshape(len(counted), 3)
    return Observed(ranks.transpose(1, 0, 2), above)


def _encoded(a: Registers, b: Registers, base: Registers | None) -> NDArray[np.uint16]:
    """For each register the ranks of A and B, and whether the lower one is above the base."""
    if base is not None:
        a, b = np.maximum(a, base), np.maximum(b, base)
    code = (np.minimum(a, b) > (0 if base is None else base)) * _SHOWN_BIT
    code |= a.astype(np.uint16) << _BITS
    code |= b
    return code


def _observe(
    a: Registers, b: Registers, base: Registers | None
) -> tuple[list[NDArray[np.int64]], list[float]]:
    counts = np.bincount(_encoded(a, b, base), minlength=_CODES)
    table = counts.reshape(2, 1 << _BITS, 1 << _BITS)
    shown = table[1, _RANKS, _RANKS]
    either = table[0, _RANKS, _RANKS] + shown
    less, more, equal = np.triu(either, 1), np.tril(either, -1), np.diagonal(either)
    ranks = [
        np.triu(shown, 1).sum(1),
        less.sum(0),
        more.sum(1),
        np.tril(shown, -1).sum(0),
        np.diagonal(shown),
    ]
    above = [either.sum(1), either.sum(0), less.sum(1) + more.sum(0) + equal]
    return [counts[1:] for counts in ranks], [float((counts * ABOVE).sum()) for counts in above]


def influence(pair: Pair, number: int, rates: Floats, information: Floats) -> Floats:
    """What each register adds to one of the three numbers of ids, shape (16384,), in the first order.

    The sum of squares is a number's variance, if ids were Poisson variables, and that of products the
    covariance of two numbers, also of different pairs of the same ids' sketches.

    Args:
        number: 0 = of ids in A only, 1 = in B only, 2 = in both.
        rates, information: see :class:`Joint`, shape (3,) and (3, 3).
    """
    code = _encoded(*pair)
    used = np.flatnonzero(np.bincount(code, minlength=_CODES))
    a, b = used >> _BITS & _RANK_BITS, used & _RANK_BITS
    shown, tie = used >= _SHOWN_BIT, a == b
    x_a, x_b, x_c = rates
    of_a = np.where(a < b, x_a + x_c, x_a)  # the rate of those of whom the last one has the rank
    of_b = np.where(b < a, x_b + x_c, x_b)
    to_a, to_b = (
        np.where(shown | (one > other), CHANCE[one] / np.expm1(np.minimum(CHANCE[one] * rate, 700)), 0)
        for one, other, rate in ((a, b, of_a), (b, a, of_b))
    )
    f_a, f_b, f_c = (-np.expm1(-CHANCE[a] * rate) for rate in rates)
    share = np.where(tie & shown, CHANCE[a] * (1 - f_c) / (f_c + (1 - f_c) * f_a * f_b), 0)
    above = np.stack([ABOVE[a], ABOVE[b], ABOVE[np.minimum(a, b)]])
    score = np.where(
        tie,
        np.stack([share * f_b * (1 - f_a), share * f_a * (1 - f_b), share * (1 - f_a * f_b)]),
        np.stack([to_a, to_b, np.where(a < b, to_a, to_b)]),
    )
    table = np.zeros(_CODES)
    free = np.flatnonzero(rates > FLOOR)  # a rate of 0 stays there, whatever a register shows
    if number in free:
        inverted = inverse(information[None, free[:, None], free])[0]
        table[used] = REGISTERS * inverted[np.searchsorted(free, number)] @ (score - above)[free]
    return table[code]


class Likelihood:
    """The log-likelihood of rates, for n pairs.

    Attributes:
        observed: what it is of.
        size: n.
        ranks, above: see :class:`Observed`; without the ranks that no pair shows.
        chance: shape (k,): the probabilities of the ranks that are left.
    """

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        used = np.flatnonzero(observed.ranks.any(axis=(0, 1)))
        self.size = len(observed.above)
        self.above = np.maximum(observed.above, FLOOR)  # 0 where all registers are full: no ids do that
        self.ranks = observed.ranks[:, :, used].astype(np.float64, order="C")
        self.chance = CHANCE[1:][used]

    def take(self, rows: Indexes) -> Likelihood:
        """That of some of the pairs."""
        return Likelihood(self.observed.take(rows))

    def at(self, rates: Floats, rows: Indexes) -> tuple[Floats, Floats, Floats]:
        """Value, gradient and negative Hessian at some rates.

        Args:
            rates: x_A, x_B, x_C, shape (r, 3), none below FLOOR.
            rows: which pairs, shape (r,).

        Returns:
            Arrays of shape (r,), (r, 3), (r, 3, 3).
        """
        c, counts, above = self.chance, self.ranks[:, rows], self.above[rows]
        # f is the probability that an id of that rank or above has come, e = 1 - f. Only sums of positive
        # numbers: nothing cancels.
        f_a, f_b, f_c = -np.expm1(rates.T[:, :, None] * -c)
        e_a, e_b, e_c = 1 - f_a, 1 - f_b, 1 - f_c
        f_ac, f_bc, f_ab = f_a + e_a * f_c, f_b + e_b * f_c, f_a * f_b
        tie = f_c + e_c * f_ab
        terms = counts * np.log(np.stack([f_ac, f_b, f_a, f_bc, tie]))
        value = terms.sum((0, 2)) - (rates * above).sum(1)

        # Derivatives of each logarithm; the second one of log f is -d (d + c) where d is the first.
        d_ac, d_b, d_a, d_bc = c * (1 - f_ac) / f_ac, c * e_b / f_b, c * e_a / f_a, c * (1 - f_bc) / f_bc
        share = c * e_c / tie
        q_a, q_b, q_c = share * f_b * e_a, share * f_a * e_b, share * (1 - f_ab)
        ac, b, a, bc, ties = counts
        ac, b, a, bc = ac * d_ac, b * d_b, a * d_a, bc * d_bc
        t_a, t_b, t_c = ties * q_a, ties * q_b, ties * q_c
        sum_ac, sum_bc = ac.sum(1), bc.sum(1)
        gradient = np.stack(
            [sum_ac + (a + t_a).sum(1), sum_bc + (b + t_b).sum(1), sum_ac + sum_bc + t_c.sum(1)], axis=1
        )
        gradient -= above

        curve_ac, curve_bc = (ac * (d_ac + c)).sum(1), (bc * (d_bc + c)).sum(1)
        information = np.empty((len(rates), 3, 3))
        information[:, 0, 0] = curve_ac + (a * (d_a + c) + t_a * (q_a + c)).sum(1)
        information[:, 1, 1] = curve_bc + (b * (d_b + c) + t_b * (q_b + c)).sum(1)
        information[:, 2, 2] = curve_ac + curve_bc + (t_c * (q_c + c)).sum(1)
        mixed = (t_a * q_b).sum(1) - (ties * share * c * e_a * e_b).sum(1)
        information[:, 0, 1] = information[:, 1, 0] = mixed
        information[:, 0, 2] = information[:, 2, 0] = curve_ac + (t_a * (q_c + c)).sum(1)
        information[:, 1, 2] = information[:, 2, 1] = curve_bc + (t_b * (q_c + c)).sum(1)
        return value, gradient, information


class Maximum(NamedTuple):
    """Where the likelihood is highest.

    Attributes:
        at: shape (r, d): the parameters.
        value: shape (r,): the log-likelihood.
        information: shape (r, 3, 3): minus its Hessian by rates.
    """

    at: Floats
    value: Floats
    information: Floats


def climb(
    likelihood: Likelihood,
    rows: Indexes,
    start: Floats,
    maps: Floats | None = None,
    *,
    steps: int = 60,
    tolerance: float = 1e-8,
) -> Maximum:
    """Maximise the likelihood over parameters y >= FLOOR, of which the rates are a linear function.

    By projected Newton steps in the units of y. The likelihood is not concave everywhere: where a direction
    curves upwards, the step takes the absolute value of the curvature. A step that does not ascend is halved.

    Args:
        rows: which pairs, shape (r,).
        start: shape (r, d).
        maps: rates = maps @ y, shape (r, 3, d); None = y are the rates.
        steps: how many at most.
        tolerance: of the log-likelihood.
    """
    at = np.maximum(start, FLOOR)
    live: Indexes = np.arange(len(at))
    diagonal = np.arange(at.shape[1])

    def evaluate(parameters: Floats, which: Indexes) -> tuple[Floats, Floats, Floats]:
        return likelihood.at(rates_of(parameters, None if maps is None else maps[which]), rows[which])

    value, gradient, information = evaluate(at, live)
    for _ in range(steps):
        if not live.size:
            break
        slope, curve = gradient[live], information[live]
        if maps is not None:
            slope = np.einsum("nij,ni->nj", maps[live], slope)
            curve = np.einsum("nia,nij,njb->nab", maps[live], curve, maps[live])
        scale = np.maximum(at[live], _SMALLEST_SCALE)
        slope, curve = slope * scale, curve * scale[:, :, None] * scale[:, None, :]
        fixed = (at[live] <= FLOOR) & (slope < 0)
        slope[fixed] = 0
        curve[fixed[:, :, None] | fixed[:, None, :]] = 0
        curve[:, diagonal, diagonal] = np.where(fixed, 1, curve[:, diagonal, diagonal])
        step = np.einsum("nij,nj->ni", inverse(curve), slope)
        rising = (slope * step).sum(1) > tolerance
        live, step = live[rising], (step * scale)[rising]
        origin, left = at[live], np.arange(live.size)
        for halving in range(_HALVINGS):
            trial, which = np.maximum(origin[left] + step[left] / 2**halving, FLOOR), live[left]
            found = evaluate(trial, which)
            higher = found[0] >= value[which] - 1e-12 * np.abs(value[which])
            for target, new in zip((at, value, gradient, information), (trial, *found), strict=True):
                target[which[higher]] = new[higher]
            left = left[~higher]
            if not left.size:
                break
        live = np.delete(live, left)
    return Maximum(at, value, information)


def rates_of(parameters: Floats, maps: Floats | None) -> Floats:
    """Rates, not below FLOOR; see :func:`climb`."""
    rates = parameters if maps is None else np.einsum("nij,nj->ni", maps, parameters)
    return np.maximum(rates, FLOOR)


def inverse(matrices: Floats) -> Floats:
    """The inverse of symmetric matrices with the absolute values of their eigenvalues; shape (n, d, d)."""
    values, vectors = np.linalg.eigh(matrices)
    values = np.abs(values)
    values = np.maximum(values, 1e-12 * values.max(axis=1, keepdims=True, initial=0) + 1e-30)
    inverted: Floats = np.einsum("nij,nj,nkj->nik", vectors, 1 / values, vectors)
    return inverted


class Joint(NamedTuple):
    """The result of :func:`fit` for n pairs.

    Attributes:
        likelihood: of the pairs.
        rates: shape (n, 3): x_A, x_B, x_C.
        value: shape (n,): the log-likelihood there.
        information: shape (n, 3, 3).
    """

    likelihood: Likelihood
    rates: Floats
    value: Floats
    information: Floats

    @property
    def ids(self) -> Floats:
        """Ids in A only, in B only and in both, not rounded; shape (n, 3)."""
        return np.where(self.rates > FLOOR, self.rates * REGISTERS, 0)

    def take(self, rows: Indexes) -> Joint:
        """Some of the pairs."""
        return Joint(self.likelihood.take(rows), self.rates[rows], self.value[rows], self.information[rows])


def fit(observed: Observed) -> Joint:
    """The likeliest numbers of ids in A only, in B only and in both, beyond the base.

    It starts where inclusion and exclusion end, |A| + |B| - |A u B|, from the likeliest size of each alone.
    """
    likelihood = Likelihood(observed)
    less_a, b_there, a_there, less_b, ties = likelihood.ranks
    above_a, above_b, above_lower = likelihood.above.T
    chance = likelihood.chance
    size_a = _likeliest(less_a + a_there + ties, above_a, chance)
    size_b = _likeliest(less_b + b_there + ties, above_b, chance)
    # 2^-max(a, b) = 2^-a + 2^-b - 2^-min(a, b)
    united = _likeliest(b_there + a_there + ties, above_a + above_b - above_lower, chance)
    smaller = np.minimum(size_a, size_b)
    both = np.clip(size_a + size_b - united, 0.02 * smaller, 0.98 * smaller)
    start = np.stack([size_a - both, size_b - both, both], axis=1)
    return Joint(likelihood, *climb(likelihood, np.arange(likelihood.size), start))


def _likeliest(ranks: Floats, above: Floats, chance: Floats) -> Floats:
    """The rates of single sets, see :func:`.estimators.fit`, roughly.

    Args:
        ranks: shape (n, k); above: shape (n,).
        chance: shape (k,).
    """
    seen = ranks.sum(1)
    rates: Floats = seen / (above + (ranks * chance).sum(1) / 2 + FLOOR)
    for _ in range(20):
        terms = ranks * chance / np.expm1(np.clip(rates[:, None] * chance, FLOOR, 700))
        curve = (terms * (terms / np.maximum(ranks, 1) + chance)).sum(1)
        step = np.where(seen > 0, (terms.sum(1) - above) / np.maximum(curve, FLOOR), 0)
        rates += step
        if (np.abs(step) <= 1e-3 * rates).all():
            break
    return rates
