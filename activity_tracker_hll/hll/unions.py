"""Ids alive in at least one of several buckets, some of which ids were moved out of: from registers.

Pure functions of registers live here. H_i is the sketch of every id tracked in source i, V_i that of every
id ever moved out of it; an id is alive in source i if it is in H_i and not in V_i. It can be dead in
one source and alive in another, so that neither V_i nor the union of them says how many are left.

What a register shows. Take the highest rank t of any H_i in it. With one id of that rank, the id's state
in each source can be read off: absent (H_i < t), alive (H_i = t > V_i) or dead (V_i = t). With several,
each source shows the highest state of any of them, in this order. The ids of each *pattern* s of states fall
on a register with rank t as a Poisson process of rate x_s 2^-t, so that patterns o are seen with

    P(pattern <= o | no rank above t) = exp(-2^-t (sum of x_s over all s that are not <= o)),

from which P(pattern = o) follows by differences along each source (Moebius inversion). All x_s, and with them
the number of ids alive anywhere, m (sum of x_s over s with a state "alive"), have maximum likelihood
estimates: the general form of censored maximum likelihood, which it is where there is one source
(see :func:`.estimators.remainder`). States below the top of a register are not used; in simulations of two
sources the error was 0.9 to 1.1 times that of inclusion-exclusion over remainders of unions, which uses
them, and whose error grows with the number of sources.

With s sources there are 3^s patterns. From five sources on (four beside plain ones) the patterns are not
enumerated: :func:`_combining`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from math import expm1, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimators import ABOVE, CHANCE, LARGEST, cardinality, remainder, resolution, standard_error
from .registers import MAX_RANK, REGISTERS, Registers, empty

__all__ = ["union_of_remainders"]

Floats = NDArray[np.float64]

_MOST_PATTERNS = 81  # four sources: some 5 ms; the time grows with the cube
_EM_STEPS = 20  # from there the scoring step goes the rest of the way; 100 change nothing
_PSEUDO = 0.25  # ids a pattern, see _scored
_EXPECTED = 0.01  # registers of a rank, below which it says nothing
_NEVER = 1e-30  # registers of a cell: less are there only in sketches that no ids make
_TERMS = 8  # of the series in _combining


def union_of_remainders(
    plain: Registers | None, sources: Sequence[tuple[Registers, Registers]]
) -> tuple[int, float]:
    """Ids alive in at least one source, and the standard error.

    Args:
        plain: registers, shape (16384,), of the union of the sources without moves and of the exact ids that
            were moved out of a source and came back; None if there are none.
        sources: (H_i, V_i) of each source with moves. Ids of V_i that are missing in H_i are taken to be
            in it too.

    Returns:
        Number and standard error in ids. Of a plain union without moves, PFCOUNT's number; of a single
        source and nothing else, that of :func:`.estimators.remainder`. At most two standard errors above the
        count of the union of all, at most two below that of the plain union.

    Up to four sources (three beside plain ones): maximum likelihood of all patterns, in some 0.8, 0.8, 1.1
    and 7 ms for 1 to 4 sources. More: patterns of different registers are combined, in some 5-10 ms, with an
    error up to a third larger.
    """
    moving = [(np.maximum(tracked, moved), moved) for tracked, moved in sources if moved.any()]
    unmoved = [tracked for tracked, moved in sources if not moved.any()]
    plain = reduce(np.maximum, unmoved, empty() if plain is None else plain)
    if not moving:
        count = cardinality(plain)
        return count, standard_error(count)
    if len(moving) == 1 and not plain.any():
        return remainder(*moving[0])
    seen = _look(plain, moving)
    most = cardinality(seen.top)
    if most == LARGEST or not ABOVE[seen.top].any():  # registers that no ids make
        return most, float(LARGEST)
    few = 3 ** len(moving) * (2 if plain.any() else 1) <= _MOST_PATTERNS
    alive, variance = (_likeliest if few else _combining)(seen)
    variance += resolution(float(ABOVE[seen.top].sum()))
    least = cardinality(plain)
    alive = max(least - 2 * standard_error(least), min(most + 2 * standard_error(most), alive))
    return max(0, min(LARGEST, round(alive))), sqrt(variance)


class _Seen(NamedTuple):
    """The highest rank of each register, and the state of each source there.

    Attributes:
        top: shape (16384,).
        states: shape (sources, 16384): 0 absent, 1 alive, 2 dead; plain sources, if any, are the last.
        shape: states that each source can have: 3, and 2 of the plain ones.
    """

    top: Registers
    states: NDArray[np.uint8]
    shape: tuple[int, ...]


def _look(plain: Registers, moving: Sequence[tuple[Registers, Registers]]) -> _Seen:
    top = reduce(np.maximum, [tracked for tracked, _ in moving], plain)
    states = [(tracked == top).view(np.uint8) + (moved == top) for tracked, moved in moving]
    if plain.any():
        states.append((plain == top).view(np.uint8))
    shape = (3,) * len(moving) + (2,) * (len(states) - len(moving))
    shown = np.array(states, np.uint8)
    shown[:, top == 0] = 0
    return _Seen(top, shown, shape)


class _Lattice(NamedTuple):
    """All patterns of so many sources, in the order of a table with one axis a source.

    Attributes:
        below: shape (patterns, patterns): 1 where the second is, in each source, at most the first.
        inverse: the inverse matrix, which takes differences.
        alive: shape (patterns,): whether some state is "alive".
    """

    below: Floats
    inverse: Floats
    alive: Floats


@cache
def _lattice(shape: tuple[int, ...]) -> _Lattice:
    below: Floats = np.ones((1, 1))
    inverse: Floats = np.ones((1, 1))
    alive = np.zeros(1, bool)
    for states in shape:
        below = np.asarray(np.kron(below, np.tri(states)), np.float64)
        inverse = np.asarray(np.kron(inverse, np.eye(states) - np.eye(states, k=-1)), np.float64)
        alive = np.logical_or.outer(alive, np.arange(states) == 1).ravel()
    return _Lattice(below, inverse, alive.astype(float))


def _likeliest(seen: _Seen) -> tuple[float, float]:
    """Number of ids alive and its variance, by maximum likelihood of all patterns."""
    lattice = _lattice(seen.shape)
    patterns = len(lattice.alive)
    cell = seen.top.astype(np.int64)
    for state, states in zip(seen.states, seen.shape, strict=True):
        cell = cell * states + state
    table = np.bincount(cell, minlength=(MAX_RANK + 1) * patterns).reshape(-1, patterns).astype(float)
    return _scored(table, lattice, _ascended(table, lattice))


def _ascended(table: Floats, lattice: _Lattice) -> Floats:
    """Rates x_s, shape (patterns,), near the maximum of the likelihood: some steps of the EM algorithm.

    What is missing is how many ids of each pattern had the top rank of a register. That number is
    expected to be x_s d log P / dx_s, but for what the step divides by: the chances that ids had to be
    seen. Rates stay positive, and those of patterns never seen 0.

    Args:
        table: registers by rank and pattern, shape (52, patterns).
    """
    ranks = np.flatnonzero(table[1:].any(axis=1)) + 1
    chance, count = CHANCE[ranks, None], table[ranks]
    exposure = float(table.sum(axis=1) @ ABOVE + count.sum(axis=1) @ chance[:, 0])
    rates: Floats = count.sum(axis=0) / exposure
    for _ in range(_EM_STEPS):
        within, probability = _probabilities(rates, chance, lattice)
        weight = np.divide(count, probability, out=np.zeros_like(count), where=probability > 0)
        rates = (
            rates * ((chance * within * (weight @ lattice.inverse)) @ lattice.below).sum(axis=0) / exposure
        )
    return rates


def _probabilities(rates: Floats, chance: Floats, lattice: _Lattice) -> tuple[Floats, Floats]:
    """P(pattern <= o) and P(pattern = o) where no rank is higher, each of shape (ranks, patterns)."""
    below = lattice.below @ rates
    exponent = -chance * (below[-1] - below)
    # Differences of P - 1 are those of P, and exact where all P are close to 1.
    return np.exp(exponent), np.maximum(np.expm1(exponent) @ lattice.inverse.T, 0)


def _scored(table: Floats, lattice: _Lattice, rates: Floats) -> tuple[float, float]:
    """Number of ids alive and its variance: one step of Fisher scoring from some rates, without bounds.

    Rates that are not negative would be biased: two ids of one register and rank look like one id
    of a pattern that may not exist, at times more often than is expected. So the step may lead below
    zero. A quarter of an id is added to each pattern before: where patterns have no ids the score is not
    nearly linear, and the information without them would be far too high.

    Args:
        rates: shape (patterns,); they are changed.
    """
    rates[1:] += _PSEUDO / REGISTERS
    ranks, expected, slopes = _expected(rates, lattice)
    surplus = np.append(table[ranks, 1:], table[0].sum()) - expected
    weight = np.divide(1, expected, out=np.zeros_like(expected), where=expected > _NEVER)
    wanted = lattice.alive[1:]
    solution = _solved(slopes.T @ (weight[:, None] * slopes), wanted)
    alive = REGISTERS * float(wanted @ rates[1:])
    step = REGISTERS * float((slopes @ solution) @ (weight * surplus))
    # The Poisson process has that variance; the ids themselves are a fixed number.
    return alive + step, max(0.0, REGISTERS**2 * float(wanted @ solution) - alive)


def _expected(rates: Floats, lattice: _Lattice) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Expected registers by rank and pattern, and how they change with the rates.

    Returns:
        ranks: those that matter.
        expected: shape (ranks x patterns without the empty one + 1,): in the order of a table's rows; last
            the empty registers.
        slopes: d expected / dx_s; shape (as expected, patterns without the empty one).
    """
    total = rates[1:].sum()
    reached = np.exp(-ABOVE * total) * REGISTERS  # registers without a higher rank
    ranks = np.flatnonzero(reached[1:] * -np.expm1(-CHANCE[1:] * total) > _EXPECTED) + 1
    chance, above, reached = CHANCE[ranks, None], ABOVE[ranks, None], reached[ranks, None]
    within, probability = _probabilities(rates, chance, lattice)
    expected = reached * probability[:, 1:]
    # P(pattern <= o) has the slope -chance P but for s <= o: shape (ranks, s, patterns), in one product.
    within_or_not = within[:, None, :] * lattice.below.T[1:]
    slopes = within_or_not.reshape(-1, len(rates)) @ lattice.inverse.T[:, 1:]
    slopes = slopes.reshape(len(ranks), -1, len(rates) - 1) * (reached * chance)[:, None]
    slopes -= ((chance + above) * expected)[:, None]
    slopes = slopes.transpose(0, 2, 1).reshape(expected.size, -1)
    unchosen = REGISTERS * np.exp(-total)
    last = np.full((1, slopes.shape[1]), -unchosen)
    return ranks, np.append(expected, unchosen), np.concatenate([slopes, last])


def _solved(information: Floats, wanted: Floats) -> Floats:
    """The solution of a symmetric system whose entries differ by many powers of ten."""
    scale = 1 / np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
    # With a diagonal of 1, a bit more of it makes any such system regular, and changes no other one.
    scaled = scale[:, None] * information * scale + 1e-10 * np.eye(len(wanted))
    solution: Floats = scale * np.linalg.solve(scaled, scale * wanted)
    return solution


def _combining(seen: _Seen) -> tuple[float, float]:
    """Number of ids alive and its variance, for any number of sources.

    Of all ids, cardinality(top), the share that is alive anywhere is wanted: the chance g_1 that a register
    with one id of its top rank shows somebody alive. What is seen are registers with a Poisson
    number of ids, of mean y = 2^-t x, that is not 0. Let g_n be the chance that n *registers* of rank
    t, overlaid, show somebody alive. Poisson numbers are exponentials under overlaying (as convolution
    makes them); the logarithm's series gives back the single id:

        share = 1 / y sum over n of (-1)^(n-1) / n (e^y - 1)^n g_n

    for each rank with y <= ln 2; g_n is averaged over all runs of n registers. After some terms g_n is
    taken to be constant, as the sum for constant g is y g. The variance is that of the runs' sums (Hajek's
    projection), without the Poisson part.
    """
    total = cardinality(seen.top)
    order = np.argsort(seen.top, kind="stable")
    ends = np.cumsum(np.bincount(seen.top, minlength=MAX_RANK + 1))
    present = np.packbits(seen.states[:, order] > 0, axis=0)
    dead = np.packbits(seen.states[:, order] == 2, axis=0)
    counts, weights, shares, variances = [1], [0.0], [0.0], [0.0]
    for rank in range(1, MAX_RANK + 1):
        mean = CHANCE[rank] * total / REGISTERS
        group = slice(ends[rank - 1], ends[rank])
        count = int(ends[rank] - ends[rank - 1])
        if count == 0 or mean > log(2):
            continue
        share, variance = _share(present[:, group], dead[:, group], mean)
        counts.append(count)
        weights.append(count * (mean / expm1(mean)) ** 2)  # about the inverse of the variance
        shares.append(share)
        variances.append(variance)
    if not sum(weights):  # registers that no ids make: nothing is known
        return total / 2, total**2.0
    weight = np.array(weights) / sum(weights)
    share = float(weight @ shares)
    # Within and between ranks: of few ids, whose registers show each of them, the Poisson part takes off all.
    variance = float(weight**2 @ (variances + (np.array(shares) - share) ** 2 / counts))
    variance -= max(0.0, share * (1 - share)) / max(1, total)
    return total * share, (share * standard_error(total)) ** 2 + total**2 * max(0.0, variance)


def _share(present: Registers, dead: Registers, mean: float) -> tuple[float, float]:
    """The share of ids that are alive, from registers of one rank, and its variance.

    Args:
        present, dead: bits of the sources in which an id of that rank is present, or dead; shape
            (bytes, registers).
        mean: ids of that rank on a register.
    """
    count = present.shape[1]
    terms = min(_TERMS, count)
    power = np.arange(1, terms)
    factors = (-1.0) ** (power - 1) * expm1(mean) ** power / (power * mean)
    factors = np.append(factors, 1 - factors.sum())
    influence = np.zeros(count)
    share, shown, hidden = 0.0, present, dead
    for run, factor in enumerate(factors):
        if run:
            shown, hidden = shown | np.roll(present, run, axis=1), hidden | np.roll(dead, run, axis=1)
        alive = (shown & ~hidden).any(axis=0)
        average = alive.mean()
        share += factor * average
        # Register i is in the runs that end at i, i + 1, ..., i + run.
        sums = np.cumsum(np.concatenate([alive - average, (alive - average)[:run]]))
        influence += factor * (sums[run:] - np.concatenate([[0], sums[: count - 1]]))
    return share, float(influence @ influence) / count**2
