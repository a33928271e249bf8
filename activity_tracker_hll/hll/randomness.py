"""Tests whether random ids can have produced a sketch's registers.

The error of every estimate assumes that ids are random with respect to the hash. But the hash's seed is
public: whoever chooses ids chooses registers and ranks, and with them any count. Registers that random ids
would not produce are recognized here by the histogram of their ranks. An attacker who imitates the
registers of random ids goes unnoticed, here and by any other test of registers.

The test: with x ids per register, a share of exp(-x 2^-k) of the registers is expected to hold a rank of at
most k. For each k, the number T of N registers that hold more is compared with its binomial law of mean N p.
By Chernoff's inequality it is as far off, to either side, with probability at most exp(-N KL(T / N, p)), KL
being the relative entropy of two coins (the statistic of Berk and Jones 1979, Z. Wahrscheinlichkeitstheorie
47). For a single register of a high rank that inequality is weak, and the probability itself, at most N p,
is used instead.

The bounds hold for any number of ids, so nothing is fitted to simulations. That x is an estimate does not
matter, as it fits the registers better than the true value. The significance levels add up to a bound on how
often a sketch of random ids is suspected: 8 in a million because of a high rank, 1 in a million for all other
reasons. Only sketches of few ids reach them; the tests simulate it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimators import cardinality_of
from .registers import MAX_RANK, REGISTERS, Registers, histogram

__all__ = [
    "Tails",
    "are_random",
    "is_random",
    "is_random_remainder",
    "tails_of_histograms",
    "tails_of_remainder",
]

# One id in 131,072 has a rank of 18 or more; it is suspected too, as 200,000 ids can be chosen to show it.
_HIGH: Final = 8e-6
# All other tests together: 51 ranks, two sides.
_LEAST_EXPONENT: Final = log(2 * MAX_RANK / 1e-6)

_RATES: Final = 2.0 ** -np.arange(MAX_RANK)


class Tails(NamedTuple):
    """The numbers that are tested, for n sketches.

    Attributes:
        above: shape (n, 51): how many of some registers hold a rank above k, for each k from 0 to 50.
        among: how many registers these are: the same shape, or one number for all.
        rates: shape (n,): x, the estimated number of ids per register.
    """

    above: NDArray[np.int64]
    among: NDArray[np.int64] | int
    rates: NDArray[np.float64]


def tails_of_histograms(counts: NDArray[np.int64], ids: Sequence[float] | NDArray[np.float64]) -> Tails:
    """The tails of n sketches, by the histograms of their registers, shape (n, 52), and their counts."""
    return Tails(
        REGISTERS - counts[:, :-1].cumsum(axis=1), REGISTERS, np.asarray(ids, np.float64) / REGISTERS
    )


def tails_of_remainder(tracked: Registers, moved: Registers, ids: float) -> Tails:
    """The tails of the ids in H that are not in V, whatever is in V.

    Whether one of them ranks above k can be seen in the registers where V holds at most k; elsewhere a rank
    of V hides it.

    Args:
        tracked: registers of H, shape (16384,), nowhere below those of V.
        moved: registers of V.
        ids: their estimated number.
    """
    low = np.bincount(moved, minlength=MAX_RANK + 1)[:-1].cumsum()
    # Where V is at most k but H is not; V is nowhere above H.
    both = np.bincount(tracked, minlength=MAX_RANK + 1)[:-1].cumsum()
    return Tails((low - both)[None], low[None], np.array([ids / REGISTERS]))


def is_random(registers: Registers) -> bool:
    """Whether random ids can have produced a sketch."""
    counts = histogram(registers)
    return bool(are_random(tails_of_histograms(counts[None], [cardinality_of(counts)])).all())


def is_random_remainder(tracked: Registers, moved: Registers, ids: float) -> bool:
    """Whether random ids can have produced H, V, and the `ids` that are in H alone."""
    both = np.maximum(tracked, moved)
    return (
        is_random(tracked)
        and is_random(moved)
        and bool(are_random(tails_of_remainder(both, moved, ids)).all())
    )


def are_random(sketches: Tails) -> NDArray[np.bool_]:
    """Whether random ids can have produced each sketch; True for all but 9 in a million that they do."""
    above, among, rates = sketches.above.astype(np.float64), sketches.among, sketches.rates
    expected = rates[:, None] * _RATES  # of a register: ids that rank above k
    below = among - above
    with np.errstate(divide="ignore", invalid="ignore"):
        # p = 1 - exp(-expected), both of whose logarithms are exact for any number of ids; 0 log 0 = 0.
        exponent = np.where(above > 0, above * np.log(above / (-np.expm1(-expected) * among)), 0)
        exponent += np.where(below > 0, below * (np.log(below / among) + expected), 0)
    high = (above > 0) & (among * expected <= _HIGH)
    suspect: NDArray[np.bool_] = np.any(high | (exponent >= _LEAST_EXPONENT), axis=1)
    return ~suspect
