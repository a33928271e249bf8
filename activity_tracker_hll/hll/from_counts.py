"""Remainders after moves from PFCOUNT numbers alone: the fallback where registers cannot be read.

Pure functions of numbers live here, for test doubles, which keep no registers, and for sketches in an
encoding that only the server knows. H is a bucket's sketch of every id tracked, V the sketch of every
id ever moved out of it; V is a subset of H. Registers tell much more about the same sketches: see
:mod:`.estimators` and :mod:`.unions`.

The count of a union of buckets is a sum over the counts of many unions: :func:`terms` lists these, the caller
has the server count them, and :func:`union` adds them up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import product
from math import fsum, prod, sqrt
from typing import TypeVar

from ..errors import ArgumentValueError
from .estimators import standard_error
from .registers import REGISTERS

__all__ = ["MOST_SOURCES", "difference", "terms", "union"]

Key = TypeVar("Key", bound=Hashable)

MOST_SOURCES = 6
"""With moves, in one union: 729 counts."""


def difference(tracked: int, moved: int, back: int) -> tuple[int, float]:
    """The number of ids that remain in a bucket, as a difference of PFCOUNTs, and its standard error.

    Args:
        tracked: PFCOUNT of H.
        moved: PFCOUNT of V.
        back: the exact number of ids that were moved out and came back.

    As V is a subset of H, V grows into H as if the remaining ids were added last. The growth of an estimate
    is nearly uncorrelated with the estimate before, hence Var(H - V) = Var(H) - Var(V); measured on servers,
    it is up to 14 % more the less remains. The resolution is added: about n / m ids pass before the registers
    show anything at all. The error grows with what remains, which is itself uncertain: it is evaluated
    half an error above the estimate.
    """
    stayed = max(0, tracked - moved)
    if moved == 0:
        return stayed + back, standard_error(tracked)
    growth = max(0.0, standard_error(tracked) ** 2 - standard_error(moved) ** 2)
    variance = growth * (1 + 0.14 * min(1, moved / max(1, tracked))) + (tracked / REGISTERS) ** 2
    return stayed + back, sqrt(variance * (1 + sqrt(variance) / (2 * max(1, stayed))))


def terms(sources: Sequence[tuple[Key, Key]]) -> dict[frozenset[Key], int]:
    """The unions to count for the number of ids alive in at least one of several buckets.

    Args:
        sources: keys (H_i, V_i) of each source with moves, in any order; a repeated one counts once.

    Returns:
        For each union its keys and the factor by which to multiply its count. D, the union of the sources
        without moves and of all ids that came back, is part of every union; the empty set stands for D
        alone. For s sources with keys of their own there are 3^s. A factor of 0 has only the union of
        everything, which :func:`union` needs as a bound, and only where sources share keys.

    Let v_i say whether an id is in V_i, h_i whether it is in H_i or V_i. Outside D it is alive in source i
    with (1 - v_i) - (1 - h_i), and alive nowhere with the product of 1 - (1 - v_i) + (1 - h_i) over all i.
    Multiplied out, that is a sum over all ways to take nothing, V_i (with a minus) or H_i and V_i of
    each source; each product of complements says that the id is not in the union of what was taken. As the
    factors sum up to 1, the number of ids that are in D or alive is the same sum, over the counts of these
    unions with D. With R(H, V) = |H u V| - |V|, this is what the recursion of :mod:`.unions` comes to.

    Raises:
        ArgumentValueError: more than six sources.
    """
    distinct = dict.fromkeys(sources)
    if len(distinct) > MOST_SOURCES:
        raise ArgumentValueError(
            f"the union of {len(distinct)} buckets with moves takes {3 ** len(distinct):,} counts where their"
            f" sketches cannot be read: there may be at most {MOST_SOURCES}"
        )
    factors: Counter[frozenset[Key]] = Counter()
    for taken in product(
        *(
            ((frozenset(), 1), (frozenset({moved}), -1), (frozenset({tracked, moved}), 1))
            for tracked, moved in distinct
        )
    ):
        factors[frozenset().union(*(keys for keys, _ in taken))] += prod(sign for _, sign in taken)
    everything = frozenset(key for pair in distinct for key in pair)
    return {keys: factor for keys, factor in factors.items() if factor or keys == everything}


def union(weighted: Iterable[tuple[int, int]]) -> tuple[int, float]:
    """The number of ids alive in at least one of several buckets, and its standard error.

    Args:
        weighted: the factor and the PFCOUNT of each union of :func:`terms`.

    The number is never below the smallest count, that of D, nor above the largest, that of everything. The
    error treats the counts as independent. In fact their errors mostly cancel: the observed error is nine
    tenths of the stated one for a single source, a half for two, a fifteenth for six, and next to
    nothing where few ids are alive and many left.
    """
    weighted = list(weighted)
    alive = sum(factor * count for factor, count in weighted)
    counts = [count for _, count in weighted]
    variance = fsum((factor * standard_error(count)) ** 2 for factor, count in weighted)
    return max(min(counts), min(max(counts), alive)), sqrt(variance)
