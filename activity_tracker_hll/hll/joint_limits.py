"""Confidence limits of what two sketches have in common.

Limits of shares and of numbers of ids live here, for the pairs that :mod:`.joint` fitted. Near 0 and 1
estimates are far from normal, so a share k has those values whose *profile likelihood* is high enough: with
the other parameters at their best, the logarithm may fall below the maximum by rho z^2 / 2 and no more. The
likelihood takes the numbers of ids for Poisson variables, but they are fixed numbers. Their part of the
variance, k (1 - k) / n where k is the share of n ids, is taken off: that is what rho is for.

A number of ids is a share of a count. Its limits combine those of the share and the standard error of the
count by MOVER, for correlated estimates (Zou and Donner 2008, Statistics in Medicine 27, 1693-1702).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from .estimators import half_width, resolution
from .joint import FLOOR, Floats, Indexes, Joint, Observed, climb, fit, inverse, rates_of
from .registers import REGISTERS

__all__ = [
    "DISPLAYED",
    "USUAL",
    "Limits",
    "PairLimits",
    "SetLimits",
    "What",
    "Whole",
    "limits_of",
    "of_sum",
    "set_limits",
    "share_limits",
    "shares",
    "value_of",
]

Whole = Literal["a", "b", "either"]
"""What the ids in both are a share of."""

_WHOLES: Final[dict[Whole, Floats]] = {
    "a": np.array([1.0, 0, 1]),
    "b": np.array([0, 1.0, 1]),
    "either": np.array([1.0, 1, 1]),
}
What = Literal["both", "only_a", "only_b", "share_of_a", "share_of_b", "jaccard"]
"""A number or a share of a pair of sets."""

_BOTH = np.array([0.0, 0, 1])
_NOBODY = 4 * FLOOR

USUAL: Final = 0.95
"""The confidence that limits have unless another is asked for."""

DISPLAYED: Final = 3.92
"""Standard errors from one of these limits to the other."""

_FEW_SHOWN = 32  # registers
_MOST_SHOWN = 0.9  # of the ids
_LEAST_RHO = 1e-3
_LEAST_RHO_OF_FEW = 0.5
_SEARCHES = 40
_PRECISION = 2e-3  # of z


class Limits(NamedTuple):
    """Lower and upper limits, each of shape (n,)."""

    low: Floats
    high: Floats


class SetLimits(NamedTuple):
    """Limits of the share of a set that is in both, of how many ids that are, and of the others' number."""

    share: Limits
    both: Limits
    only: Limits


def shares(joint: Joint, of: Whole) -> Floats:
    """What share of a whole is in both sets, shape (n,); NaN where the whole is empty."""
    ids = joint.ids
    whole = (ids * _WHOLES[of]).sum(1)
    is_anybody = whole > _NOBODY * REGISTERS
    return np.where(is_anybody, ids[:, 2] / np.where(is_anybody, whole, 1), np.nan)


def share_limits(joint: Joint, of: Whole, z: float) -> Limits:
    """Limits of :func:`shares`, within 0 and 1, a whole id wider than the likelihood has them.

    Args:
        z: quantile of the normal distribution, 1.96 for a confidence of 95 %.
    """
    profile = _Profile(joint, of)
    pairs = len(joint.rates)
    rows: Indexes = np.tile(np.arange(pairs), 2)  # the lower limits, then the upper ones
    limits = np.repeat([0.0, 1.0], pairs)
    inner, outer = profile.likeliest[rows], limits.copy()
    inner_root, (outer_root, _) = np.zeros(2 * pairs), profile.root(rows, outer, profile.start[rows])
    trial = inner + np.where(outer > 0, z, -z) * profile.spread[rows]
    beyond = (trial - inner) * (trial - outer) >= 0
    trial[beyond] = inner[beyond] + (outer - inner)[beyond] * 0.9 * z / np.maximum(outer_root[beyond], z)
    others = profile.start[rows]
    live: Indexes = np.flatnonzero(outer_root > z)
    for search in range(_SEARCHES):
        if not live.size:
            break
        roots, others[live] = profile.root(rows[live], trial[live], others[live])
        limits[live] = trial[live]
        for side, side_root, hit in ((inner, inner_root, roots < z), (outer, outer_root, roots >= z)):
            side[live[hit]], side_root[live[hit]] = trial[live[hit]], roots[hit]
        wide = np.abs(outer - inner)[live] * profile.ids[rows[live]] > 1e-3
        live = live[wide & (np.abs(roots - z) > _PRECISION * z)]
        # The root is nearly a line: a secant, but never too close to an end, and now and then the middle.
        part = (z - inner_root[live]) / (outer_root[live] - inner_root[live])
        part = np.clip(part, 0.02, 0.98) if search % 4 < 3 else np.full(live.size, 0.5)
        trial[live] = inner[live] + (outer[live] - inner[live]) * part
    one = 1 / np.maximum(profile.ids, 1)
    nobody = profile.ids <= _NOBODY * REGISTERS
    low, high = np.maximum(limits[:pairs] - one, 0), np.minimum(limits[pairs:] + one, 1)
    return Limits(np.where(nobody, 0, low), np.where(nobody, 1, high))


class _Profile:
    """The profile likelihood of a share."""

    def __init__(self, joint: Joint, of: Whole) -> None:
        self._joint, self._whole = joint, _WHOLES[of]
        rates = joint.rates
        whole = (rates * self._whole).sum(1)
        self.ids = whole * REGISTERS
        self.likeliest = rates[:, 2] / whole
        self.spread = np.sqrt(self._variance(rates, joint.information))
        # With k, the rates are linear in two others: a whole and the rate beside it, or two parts of it.
        if of == "either":
            alone = rates[:, :2] / np.maximum(rates[:, :2].sum(1, keepdims=True), FLOOR)
            self.start = whole[:, None] * alone
        else:
            self.start = rates[:, :2] + rates[:, 2:] * self._whole[:2]
        # Rates A, B, both by the two others: without k, and by k.
        self._fixed = np.array([[1.0, 0], [0, 1], [0, 0]])
        self._by_share = np.vstack([-np.diag(self._whole[:2]), self._whole[:2]])
        share = joint.likelihood.ranks
        few = np.zeros(len(rates), bool)
        for side, shown in enumerate((share[[0, 2, 4]].sum((0, 2)), share[[1, 3, 4]].sum((0, 2)))):
            few |= (shown < _FEW_SHOWN) & (shown < _MOST_SHOWN * REGISTERS * (rates[:, side] + rates[:, 2]))
        self._least_rho = np.where(few, _LEAST_RHO_OF_FEW, _LEAST_RHO)

    def root(self, rows: Indexes, share: Floats, start: Floats) -> tuple[Floats, Floats]:
        """How far a share is from the likeliest one, in standard errors.

        Args:
            rows: which pairs, shape (r,).
            share: shape (r,).
            start: the two other parameters, roughly; shape (r, 2).

        Returns:
            Shape (r,), and the likeliest other parameters, shape (r, 2).
        """
        maps = self._fixed + share[:, None, None] * self._by_share
        others, value, information = climb(
            self._joint.likelihood, rows, start, maps, steps=25, tolerance=1e-5
        )
        rates = rates_of(others, maps)
        whole = (rates * self._whole).sum(1)
        share = rates[:, 2] / whole
        fixed = share * (1 - share) / (REGISTERS * whole * self._variance(rates, information))
        rho = np.maximum(1 - fixed, self._least_rho[rows])
        return np.sqrt(np.maximum(2 * (self._joint.value[rows] - value), 0) / rho), others

    def _variance(self, rates: Floats, information: Floats) -> Floats:
        """Of the share, with numbers of ids that are Poisson variables; shape (r,)."""
        gradient = share_gradient(rates, self._whole)
        variance: Floats = np.einsum("ni,nij,nj->n", gradient, inverse(information), gradient)
        return variance


def share_gradient(rates: Floats, whole: Floats) -> Floats:
    """Derivatives of a share by the rates, shape (n, 3)."""
    size = (rates * whole).sum(1, keepdims=True)
    gradient: Floats = (_BOTH - rates[:, 2:] / size * whole) / size
    return gradient


def set_limits(joint: Joint, of: Literal["a", "b"], z: float) -> SetLimits:
    """Limits of a set's part that is also in the other set, and of the rest; of ids, rounded outward.

    Args:
        of: the set. The number of ids in both has the narrowest limits by the smaller one.
        z: see :func:`share_limits`.
    """
    share = share_limits(joint, of, z)
    whole, ids = _WHOLES[of], joint.ids
    count = (ids * whole).sum(1)
    likeliest = np.nan_to_num(shares(joint, of))
    covariance = inverse(joint.information) * REGISTERS**2
    covariance[:, range(3), range(3)] -= ids  # of numbers that are fixed
    gradient = share_gradient(joint.rates, whole) / REGISTERS
    of_share = np.einsum("ni,nij,nj->n", gradient, covariance, gradient)
    of_count = np.einsum("i,nij,j->n", whole, covariance, whole)
    mixed = np.einsum("ni,nij,j->n", gradient, covariance, whole)
    # Where the share is 0 or 1, or may be, the matrix has nothing to say.
    inside = (share.low > 0) & (share.high < 1) & (of_share > 0) & (of_count > 0)
    product = np.where(inside, of_share * of_count, 1)
    correlation = np.where(inside, np.clip(mixed / np.sqrt(product), -1, 1), 0)
    error = _count_error(joint, of)

    below, beyond = count * (likeliest - share.low), count * (share.high - likeliest)
    both, only = z * likeliest * error, z * (1 - likeliest) * error
    most = count + z * error
    number, rest = count * likeliest, count * (1 - likeliest)
    high = np.where(share.high < 1, number + _combined(beyond, both, correlation), most)
    only_high = np.where(share.low > 0, rest + _combined(below, only, -correlation), most)
    return SetLimits(
        share,
        _whole_ids(number - _combined(below, both, correlation), high),
        _whole_ids(rest - _combined(beyond, only, -correlation), only_high),
    )


def _count_error(joint: Joint, of: Literal["a", "b"]) -> Floats:
    """The standard error of the number of a set's ids, from its registers; as of a remainder."""
    likelihood, side = joint.likelihood, "ab".index(of)
    rates = (joint.rates * _WHOLES[of]).sum(1)
    terms = likelihood.chance / np.expm1(np.minimum(likelihood.chance * rates[:, None], 700))
    shown = likelihood.ranks[[side, side + 2, 4]].sum(0)
    information = (shown * terms * (terms + likelihood.chance)).sum(1)
    variance = np.where(information > 0, REGISTERS**2 / np.maximum(information, FLOOR), 0) - rates * REGISTERS
    error: Floats = np.sqrt(np.maximum(variance, 0) + resolution(likelihood.above[:, side]))
    return error


def _combined(a: Floats, b: Floats, correlation: Floats) -> Floats:
    return np.sqrt(np.maximum(a * a + 2 * correlation * a * b + b * b, 0))


def _whole_ids(low: Floats, high: Floats) -> Limits:
    return Limits(np.floor(np.maximum(low, 0)), np.ceil(high))


def limits_of(joint: Joint, what: Sequence[What], confidence: float = USUAL) -> dict[What, Limits]:
    """Limits of several numbers and shares of each pair.

    Args:
        confidence: probability that the true value is between the limits.
    """
    z = half_width(confidence)
    found: dict[What, Limits] = {}
    ids = joint.ids
    smaller_is_a = ids[:, 0] <= ids[:, 1]
    sets: tuple[tuple[Literal["a", "b"], What, What, Any], ...] = (
        ("a", "share_of_a", "only_a", smaller_is_a),
        ("b", "share_of_b", "only_b", ~smaller_is_a),
    )
    both = Limits(np.zeros(len(ids)), np.zeros(len(ids)))
    for of, share, only, is_smaller in sets:
        wanted = not {share, only}.isdisjoint(what)
        rows = np.arange(len(ids)) if wanted else np.flatnonzero(is_smaller)
        if not (wanted or "both" in what) or not rows.size:
            continue
        limits = set_limits(joint if wanted else joint.take(rows), of, z)
        if wanted:
            found[share], found[only] = limits.share, limits.only
        mine = is_smaller[rows]
        for side, values in zip(both, limits.both, strict=True):
            side[rows[mine]] = values[mine]
    found["both"] = both
    if "jaccard" in what:
        found["jaccard"] = share_limits(joint, "either", z)
    return {name: found[name] for name in what}


def of_sum(
    values: Floats,
    limits: Sequence[Limits],
    rows: Sequence[int],
    signs: Sequence[int] = (1,),
    scale: float = 1.0,
) -> tuple[float, float]:
    """Limits of a sum of numbers, by MOVER: Zou and Donner 2008.

    Args:
        values: the numbers, shape (k,).
        limits: of each, see :func:`limits_of`.
        rows: the pair each is of.
        signs: -1 for those that are taken off.
        scale: by how much the limits are wider, as the numbers are not independent.
    """
    if len(values) == 1:
        return float(limits[0].low[rows[0]]), float(limits[0].high[rows[0]])
    total, below, beyond = 0.0, 0.0, 0.0
    for value, each, row, sign in zip(values.tolist(), limits, rows, signs, strict=True):
        least, most = max(0.0, value - each.low[row]), max(0.0, each.high[row] - value)
        total += sign * value
        below += (least if sign > 0 else most) ** 2
        beyond += (most if sign > 0 else least) ** 2
    return total - scale * sqrt(below), total + scale * sqrt(beyond)


def value_of(joint: Joint, what: What) -> Floats:
    """A number or share of each pair, shape (n,)."""
    match what:
        case "only_a" | "only_b" | "both":
            return joint.ids[:, ("only_a", "only_b", "both").index(what)]
        case "share_of_a":
            return shares(joint, "a")
        case "share_of_b":
            return shares(joint, "b")
        case _:
            return shares(joint, "either")


@dataclass(frozen=True, slots=True, eq=False)
class PairLimits:
    """Limits of a number of a pair, or of a sum over several, which are found anew for another confidence.

    Attributes:
        observed: what the registers of the pairs tell.
        what: the number or share of each.
        usual: the limits for 95 %.
        signs: -1 for those that are taken off a sum.
        scale: see :func:`of_sum`.
    """

    observed: Observed
    what: tuple[What, ...]
    usual: tuple[float, float]
    signs: tuple[int, ...] = (1,)
    scale: float = 1.0

    def limits(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper limit.

        Args:
            confidence: probability that the true value is between them.
        """
        if confidence == USUAL:
            return self.usual
        joint = fit(self.observed)
        found = limits_of(joint, tuple(dict.fromkeys(self.what)), confidence)
        rows = range(len(self.what))
        values = np.array([value_of(joint, what)[row] for row, what in zip(rows, self.what, strict=True)])
        return of_sum(values, [found[what] for what in self.what], rows, self.signs, self.scale)
