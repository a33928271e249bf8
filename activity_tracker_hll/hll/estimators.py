"""Cardinality estimators that need only counts (PFCOUNT), and their standard errors.

Pure functions of numbers live here. H is a bucket's sketch of every id tracked, V the sketch of
every id ever moved out of it; V is a subset of H. A "remainder" is what stayed: H without V.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

__all__ = ["REGISTERS", "difference", "standard_error", "union_of_remainders"]

REGISTERS = 16384
"""m: registers of a sketch, 2^14 as in Redis and Valkey."""


def standard_error(n: int) -> float:
    """Standard error, in ids, of a plain HyperLogLog count of about n ids.

    n * sqrt(v(n) / m) with v(n) = 0.5 + 0.58 n / (n + 3 m), a fit to the error of the estimator of
    Redis (Ertl 2017, arXiv 1702.01284, section 2.3): 0.55 % of n for small n, never above 0.812 %.
    """
    return n * sqrt((0.5 + 0.58 * n / (n + 3 * REGISTERS)) / REGISTERS)


def difference(tracked: int, moved: int, back: int) -> tuple[int, float]:
    """Ids that remain in a bucket, and the standard error: the PFCOUNT difference.

    Args:
        tracked: PFCOUNT of H.
        moved: PFCOUNT of V.
        back: exact number of ids that were moved out and came back.

    V is a subset of H, so a sketch grows from V to H as if the remaining ids were added last. The
    growth of an estimate is uncorrelated with the estimate so far, hence
    Var(H - V) = Var(H) - Var(V), which simulation confirms to a few per cent. The last term is the
    resolution: about n / m ids pass before the registers show anything at all.
    """
    remaining = max(0, tracked - moved) + back
    if moved == 0:
        return remaining, standard_error(tracked)
    return remaining, sqrt(_growth(tracked, moved) + (tracked / REGISTERS) ** 2)


def union_of_remainders(
    union: int, gone: int, plain: int, sources: Iterable[tuple[int, int, int]]
) -> tuple[int, float]:
    """Ids alive in at least one of several buckets, and the standard error, from counts of unions.

    D is the union of the sources without moves and of all ids that came back, V the union of all V.

    Args:
        union: count of the union of every H and D.
        gone: count of V | D.
        plain: count of D.
        sources: for each source with moves the counts of (H | D, its own V | D, H | V | D).

    Ids in V are dead unless they are in D or alive in another source with moves. Those alive in
    source j are (H_j minus V_j) within V, outside D:
    |H_j|D| - |V_j|D| - |H_j|V|D| + |V|D|. An id that left one source and is alive in two others is
    counted twice.
    """
    revived, variance = 0, _growth(union, gone) + standard_error(plain) ** 2
    for tracked, moved, both in sources:
        revived += tracked - moved - both + gone
        variance += _growth(tracked, moved) + _growth(both, gone)
    alive = union - gone + plain + max(0, revived)
    return max(plain, min(union, alive)), sqrt(variance + (union / REGISTERS) ** 2)


def _growth(larger: int, smaller: int) -> float:
    """Variance of the difference of two estimates, one of a subset of the other."""
    return max(0.0, standard_error(larger) ** 2 - standard_error(smaller) ** 2)
