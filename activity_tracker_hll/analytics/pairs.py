"""What ids of two ranges of periods have in common, where each period is a single layer.

The ids alive in a range are in several *parts*, no id in two of them: for each layer (H, V), with ids R that
returned, those in H beyond V, and those in R; both beyond all that came later. The dead ones are, likewise,
those in V, less those in R. A number of ids is a sum of *terms*, each of which is what two parts have in
common, or have not (:mod:`..hll.joint`). All pairs of a question are fitted at once. Limits are those of a
sum of independent numbers, by a factor: as all terms are estimated from the same registers, errors partly
cancel, and the influence of each register tells how far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from math import inf, sqrt
from typing import NamedTuple

import numpy as np

from ..estimates import Estimate, Share
from ..hll.joint import Floats, Joint, Observed, Pair, fit, influence, joined, observe
from ..hll.joint_limits import Limits, PairLimits, What, limits_of, of_sum, value_of
from ..hll.layers import Layer, everything
from ..hll.registers import REGISTERS, Registers
from .spans import estimated, limited_share, part_of

__all__ = ["Pairs", "Part", "Sum", "Term", "alive_in", "dead_in", "share_beside"]

_AT_ONCE = 1000  # pairs
_MOST_SCALE = 2.0
_NUMBERS: tuple[What, ...] = ("only_a", "only_b", "both")


class Part(NamedTuple):
    """Ids of a sketch that are not in any of some others.

    Attributes:
        tracked: the sketch.
        base: the others.
        sign: -1 for those that are taken off.
    """

    tracked: Registers
    base: tuple[Registers, ...] = ()
    sign: int = 1


def alive_in(layers: Sequence[Layer]) -> list[Part]:
    """The ids that are alive at the end of some periods.

    Args:
        layers: of each, oldest first.
    """
    parts: list[Part] = []
    for layer, later in _with_later(layers):
        parts.append(Part(layer.tracked, later if layer.moved is None else (*later, layer.moved)))
        if layer.returned is not None:
            parts.append(Part(layer.returned, later))
    return parts


def dead_in(layers: Sequence[Layer]) -> list[Part]:
    """The ids that left in some periods and did not return; see :func:`alive_in`."""
    parts: list[Part] = []
    for layer, later in _with_later(layers):
        if layer.moved is not None:
            parts.append(Part(layer.moved, later))
        if layer.returned is not None:
            parts.append(Part(layer.returned, later, -1))
    return parts


def _with_later(layers: Sequence[Layer]) -> Iterable[tuple[Layer, tuple[Registers, ...]]]:
    """Each layer, newest first, and the union of those that came later."""
    later: tuple[Registers, ...] = ()
    for layer in reversed(layers):
        yield layer, later
        later = (reduce(np.maximum, later, everything([layer])),)


class Term(NamedTuple):
    """A part of a sum: of which pair, what, and whether it is added or taken off."""

    pair: int
    what: What
    sign: int = 1


class Sum(NamedTuple):
    """A number of ids, and how its error comes about.

    Attributes:
        number: the number.
        influence: what each register adds to it, shape (16384,).
        variance: of the number.
    """

    number: Estimate
    influence: Floats
    variance: float


class Pairs:
    """Pairs that are fitted together."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Registers, Registers, tuple[Registers, ...]]] = []
        self._what: set[What] = set()
        self._limits: dict[What, Limits] = {}
        self._values: dict[What, Floats] = {}
        self._observed: Observed
        self._rates: Floats
        self._information: Floats

    def common(
        self, some: Iterable[Part], others: Sequence[Part], base: tuple[Registers, ...] = ()
    ) -> list[Term]:
        """The ids that are in one of some parts and in one of others, and not in a base."""
        return [
            self._add(a.tracked, b.tracked, (*a.base, *b.base, *base), "both", a.sign * b.sign)
            for a in some
            for b in others
        ]

    def apart(self, some: Iterable[Part], sketch: Registers, base: tuple[Registers, ...] = ()) -> list[Term]:
        """The ids that are in one of some parts, and neither in a sketch nor in a base."""
        return [self._add(a.tracked, sketch, (*a.base, *base), "only_a", a.sign) for a in some]

    def size(self, some: Iterable[Part], base: tuple[Registers, ...] = ()) -> list[Term]:
        """The ids that are in one of some parts, and not in a base."""
        return [self._add(a.tracked, a.tracked, (*a.base, *base), "both", a.sign) for a in some]

    def _add(self, a: Registers, b: Registers, base: tuple[Registers, ...], what: What, sign: int) -> Term:
        self._pairs.append((a, b, base))
        self._what.add(what)
        return Term(len(self._pairs) - 1, what, sign)

    def _pair(self, index: int) -> Pair:
        """Bases are put together when they are needed: there may be many."""
        a, b, base = self._pairs[index]
        return a, b, reduce(np.maximum, base) if base else None

    def solve(self, extra: Iterable[What] = ()) -> None:
        """Fit all pairs; afterwards numbers can be asked for.

        Args:
            extra: what is asked for besides the terms.
        """
        what = tuple(self._what.union(extra))
        found: list[tuple[dict[What, Limits], dict[What, Floats], Joint]] = []
        for first in range(0, len(self._pairs), _AT_ONCE):
            rows = range(first, min(first + _AT_ONCE, len(self._pairs)))
            joint = fit(observe(map(self._pair, rows)))
            values = {each: value_of(joint, each) for each in what}
            found.append((limits_of(joint, what), values, joint))
        if found:
            limits, values_, joints = zip(*found, strict=True)
            for each in what:
                self._limits[each] = Limits(
                    *map(np.concatenate, zip(*(part[each] for part in limits), strict=True))
                )
                self._values[each] = np.concatenate([part[each] for part in values_])
            self._observed = joined([joint.likelihood.observed for joint in joints])
            self._rates = np.concatenate([joint.rates for joint in joints])
            self._information = np.concatenate([joint.information for joint in joints])

    def _limits_of(self, terms: Sequence[Term], scale: float) -> PairLimits:
        """The limits of a number."""
        rows = [term.pair for term in terms]
        what = tuple(term.what for term in terms)
        signs = tuple(term.sign for term in terms)
        usual = of_sum(self._values_of(terms), [self._limits[each] for each in what], rows, signs, scale)
        return PairLimits(self._observed.take(rows), what, usual, signs, scale)

    def _values_of(self, terms: Sequence[Term]) -> Floats:
        return np.array([self._values[term.what][term.pair] for term in terms])

    def count(self, terms: Sequence[Term], *, sound: bool) -> Estimate:
        """A number of ids."""
        return self._count(terms, 1.0, sound=sound) if len(terms) < 2 else self.sum(terms, sound=sound).number

    def sum(self, terms: Sequence[Term], *, sound: bool) -> Sum:
        """A number of ids, and how its error comes about, by :func:`.joint.influence`."""
        total: Floats = np.zeros(REGISTERS)
        apart, number = 0.0, 0.0
        for (index, what, sign), value in zip(terms, self._values_of(terms).tolist(), strict=True):
            of_term = influence(
                self._pair(index), _NUMBERS.index(what), self._rates[index], self._information[index]
            )
            total += sign * of_term
            apart += max(0.0, _product(of_term, of_term) - value)
            number += sign * value
        # The ids are fixed numbers, not Poisson variables.
        variance = max(0.0, _product(total, total) - max(0.0, number))
        scale = min(_MOST_SCALE, max(1 / _MOST_SCALE, sqrt(variance / apart))) if apart else 1.0
        return Sum(self._count(terms, scale if len(terms) > 1 else 1.0, sound=sound), total, variance)

    def _count(self, terms: Sequence[Term], scale: float, *, sound: bool) -> Estimate:
        if not terms:
            return Estimate(0, 0 if sound else inf)
        value = sum(number * term.sign for number, term in zip(self._values_of(terms), terms, strict=True))
        return estimated(float(value), self._limits_of(terms, scale), sound=sound)

    def share(self, term: Term, *, sound: bool) -> Share:
        """The share of a part's ids that are in the other part of a pair, too."""
        limits = self._limits_of([Term(term.pair, "share_of_a")], 1.0)
        return limited_share(float(self._values["share_of_a"][term.pair]), limits, suspect=not sound)


def share_beside(part: Sum, rest: Sum) -> Share:
    """The share that a number has of itself and the rest.

    Both are made of the same registers: an id too many in one is often one too few in the other.
    """
    correlation = 0.0
    if part.variance and rest.variance:
        together = _product(part.influence, rest.influence)
        correlation = min(1.0, max(-1.0, together / sqrt(part.variance * rest.variance)))
    return part_of(part.number, rest.number, correlation)


def _product(a: Floats, b: Floats) -> float:
    """Not by a dot product: BLAS's threads cost more than they help, and differ in the last bits."""
    return float((a * b).sum())
