"""What two ranges of periods have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..hll.layers import Layer, Planes, everything, has_moves
from ..hll.patterns import Bits, ask
from ..overlaps import Overlap, overlap
from .pairs import Pairs, alive_in, dead_in, share_beside
from .spans import Span, of_patterns, share_of_patterns, single_layers, sum_of, united

__all__ = ["overlap_of"]

_MOST_PAIRS = 2000
"""Of parts, which take a millisecond each."""


def overlap_of(a: Span, b: Span, *, complete: bool = True) -> Overlap:
    """What the ids alive in two ranges have in common.

    By likelihood; where ids moved among several buckets, or over very many periods, by patterns.
    """
    return replace(_overlap(a, b), complete=complete)


def _overlap(a: Span, b: Span) -> Overlap:
    sound = (a.is_sound(range(len(a.sound))), b.is_sound(range(len(b.sound))))
    if not (has_moves(a.history) or has_moves(b.history)):
        return overlap(united(a.history), united(b.history), sound=sound)
    of_a, of_b = single_layers(a.history), single_layers(b.history)
    if of_a is None or of_b is None or _parts(of_a) * _parts(of_b) > _MOST_PAIRS:
        return _by_patterns(a, b, sound=all(sound))
    return _by_likelihood(a, b, of_a, of_b, sound=all(sound))


def _parts(layers: Sequence[Layer]) -> int:
    """How many parts the ids of some layers are in, alive or dead."""
    return sum(1 + (layer.moved is not None) + 2 * (layer.returned is not None) for layer in layers)


def _by_likelihood(a: Span, b: Span, of_a: Sequence[Layer], of_b: Sequence[Layer], *, sound: bool) -> Overlap:
    """Where a period is a single layer: by pairs of parts."""
    pairs = Pairs()
    alive_a, alive_b = alive_in(of_a), alive_in(of_b)
    sums = (
        pairs.common(alive_a, alive_b),
        pairs.apart(alive_a, everything(of_b)) + pairs.common(alive_a, dead_in(of_b)),
        pairs.apart(alive_b, everything(of_a)) + pairs.common(alive_b, dead_in(of_a)),
    )
    pairs.solve()
    both, only_a, only_b = (pairs.sum(terms, sound=sound) for terms in sums)
    count_a = a.unique(range(len(of_a)))
    return Overlap(
        a=count_a,
        b=b.unique(range(len(of_b))),
        both=both.number,
        either=sum_of(count_a, only_b.number),
        only_a=only_a.number,
        only_b=only_b.number,
        share_of_a=share_beside(both, only_a),
        share_of_b=share_beside(both, only_b),
        jaccard=share_beside(both, pairs.sum(sums[1] + sums[2], sound=sound)),
    )


def _by_patterns(a: Span, b: Span, *, sound: bool) -> Overlap:
    """Any ids alive in two ranges."""
    planes = Planes([a.history, b.history])

    def questions(shown: Bits) -> np.ndarray:
        in_a, in_b = planes.alive(shown, 0), planes.alive(shown, 1)
        return np.stack([in_a & in_b, in_a & ~in_b, in_b & ~in_a, in_a, in_b, in_a | in_b])

    found = ask(planes.top, planes.shown, questions)
    return Overlap(
        a=a.unique(range(len(a.history))),
        b=b.unique(range(len(b.history))),
        both=of_patterns(found, 0, sound=sound),
        either=of_patterns(found, 5, sound=sound),
        only_a=of_patterns(found, 1, sound=sound),
        only_b=of_patterns(found, 2, sound=sound),
        share_of_a=share_of_patterns(found, 0, 3, sound=sound),
        share_of_b=share_of_patterns(found, 0, 4, sound=sound),
        jaccard=share_of_patterns(found, 0, 5, sound=sound),
    )
