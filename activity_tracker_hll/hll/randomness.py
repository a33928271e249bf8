"""Whether registers look as if random ids had made them.

Every error that an estimate states supposes that ids are random with respect to the hash, whose seed is
public: someone who chooses ids chooses registers and ranks, and with them any count. What no random ids
would leave behind is told apart here, by histograms of ranks alone. Who imitates the registers of random
ids is not seen, by this or by any other look at them.

The test. With x ids a register, no more than exp(-x 2^-k) of the registers are expected to hold a rank of at
most k. For each k, the number T of N registers that hold more is compared with its binomial law of mean N p:
by Chernoff's inequality it is as far off, to either side, with chance at most exp(-N KL(T / N, p)), KL being
the relative entropy of two coins (the statistic of Berk and Jones 1979, Z. Wahrscheinlichkeitstheorie 47).
For a single register of a high rank the chance itself, at most N p, is used: that inequality is weak there.

A bound holds for any number of ids, so that nothing is fitted to simulations. That x is an estimate does not
matter: it fits the registers better than the true one. Sums of the levels bound how often random ids are
suspected, per sketch: 8 in a million for a high rank, 1 in a million for the rest. Both are reached
by few ids only; the tests simulate it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimators import cardinality_of
from .registers import MAX_RANK, REGISTERS, Registers, histogram

__all__ = ["Tails", "are_random", "is_random", "is_random_remainder", "of_histograms", "of_remainder"]

# Of one id 1 in 131,072 has a rank of 18 or more: still suspected, as 200,000 ids in one register have it.
_HIGH: Final = 8e-6
# All other tests together: 51 ranks, two sides.
_LEAST_EXPONENT: Final = log(2 * MAX_RANK / 1e-6)

_RATES: Final = 2.0 ** -np.arange(MAX_RANK)


class Tails(NamedTuple):
    """What is tested, of n sketches.

    Attributes:
        above: shape (n, 51): of some registers, how many hold a rank above k, for each k from 0 to 50.
        among: how many registers these are; of the same shape, or one number for all.
        rates: shape (n,): x, the ids that fell on each register, as estimated.
    """

    above: NDArray[np.int64]
    among: NDArray[np.int64] | int
    rates: NDArray[np.float64]


def of_histograms(counts: NDArray[np.int64], ids: Sequence[float] | NDArray[np.float64]) -> Tails:
    """Sketches of so many ids; the histograms of their registers have shape (n, 52)."""
    return Tails(
        REGISTERS - counts[:, :-1].cumsum(axis=1), REGISTERS, np.asarray(ids, np.float64) / REGISTERS
    )


def of_remainder(tracked: Registers, moved: Registers, ids: float) -> Tails:
    """So many ids that are in H and not in V, whatever is in V.

    They show in the registers where V holds at most k: no rank of V hides there that one of theirs is
    at most k.

    Args:
        tracked: registers of H, shape (16384,), nowhere below those of V.
        moved: registers of V.
        ids: how many, as estimated.
    """
    low = np.bincount(moved, minlength=MAX_RANK + 1)[:-1].cumsum()
    # Where V is at most k but H is not; V is nowhere above H.
    both = np.bincount(tracked, minlength=MAX_RANK + 1)[:-1].cumsum()
    return Tails((low - both)[None], low[None], np.array([ids / REGISTERS]))


def is_random(registers: Registers) -> bool:
    """Whether random ids can have made a sketch."""
    counts = histogram(registers)
    return bool(are_random(of_histograms(counts[None], [cardinality_of(counts)])).all())


def is_random_remainder(tracked: Registers, moved: Registers, ids: float) -> bool:
    """Whether random ids can have made all of this: H, V, and what is in H alone, so many ids."""
    both = np.maximum(tracked, moved)
    return is_random(tracked) and is_random(moved) and bool(are_random(of_remainder(both, moved, ids)).all())


def are_random(sketches: Tails) -> NDArray[np.bool_]:
    """For each, whether random ids can have made it: True for all but 9 in a million that they made."""
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
