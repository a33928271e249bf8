"""What became of ids from one period to the next: new, retained, resurrected, churned, moved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from ..estimates import Estimate
from ..hll.layers import History, Layer, Planes, everything
from ..hll.patterns import Bits, ask
from ..hll.registers import empty
from .pairs import Pairs, Part, Term, alive_in, dead_in
from .results import LifecycleRow
from .spans import Span, of_patterns, single_layers

__all__ = ["lifecycle"]


class _Classes(NamedTuple):
    """How many ids of a period, and of the one before, belong to each class."""

    active: Estimate
    new: Estimate
    retained: Estimate
    resurrected: Estimate
    churned: Estimate
    moved: Estimate


def lifecycle(span: Span, first: int, look_back: int, begin: int = 0) -> tuple[LifecycleRow, ...]:
    """A row for each period from `first` on, until the last one.

    Args:
        span: one name's layers; those before `first` are the past.
        first: index of a period, not 0.
        look_back: at how many periods is looked back.
        begin: index of the first of these: 1 where the one before `first` is there only to tell who stayed.
    """
    pasts = [range(max(begin, index - look_back), index) for index in range(first, len(span.history))]
    layers = single_layers(span.history)
    if layers is None:
        made = [_by_patterns(span, past) for past in pasts]
    else:
        made = _by_likelihood(span, layers, pasts)
    return tuple(_row(span, past, look_back, found) for past, found in zip(pasts, made, strict=True))


def _row(span: Span, past: range, look_back: int, found: _Classes) -> LifecycleRow:
    """A row, with None where a sketch is gone."""
    index = past.stop
    is_known, near = span.known[index], span.is_known((index, index - 1))
    far = is_known and span.is_known(past)
    return LifecycleRow(
        span.periods[index].date,
        found.active if is_known else None,
        found.new if far else None,
        found.retained if near else None,
        found.resurrected if far else None,
        found.churned if near else None,
        found.moved if near else None,
        span.over[index] and span.is_preceded(index, look_back),
    )


def _by_likelihood(span: Span, layers: Sequence[Layer], pasts: Sequence[range]) -> list[_Classes]:
    """Where a period is a single layer: by pairs of parts.

    Who left in the period before and did not return was not active in it, but was seen before. Who left in
    this one and did not return moved.
    """
    pairs = Pairs()
    planned: list[list[list[Term]]] = []
    for looked_back in pasts:
        index = looked_back.stop
        layer, last = layers[index], layers[index - 1]
        now, before, left = alive_in([layer]), alive_in([last]), dead_in([layer])
        earlier = (layers[old].tracked for old in looked_back[:-1])
        past = reduce(np.maximum, earlier, empty())
        seen = everything([last])
        planned.append(
            [
                pairs.apart(now, np.maximum(past, seen)),
                pairs.common(before, now),
                pairs.common(now, [Part(past)], (seen,)) + pairs.common(now, dead_in([last])),
                pairs.apart(before, everything([layer])),
                pairs.common(before, left),
            ]
        )
    pairs.solve()
    result: list[_Classes] = []
    for looked_back, sums in zip(pasts, planned, strict=True):
        index = looked_back.stop
        active = span.unique(range(index, index + 1))
        near = span.sound[index] and span.sound[index - 1]
        far = near and span.is_sound(looked_back)
        sounds = (far, near, far, near, near)
        counts = [pairs.count(terms, sound=sound) for terms, sound in zip(sums, sounds, strict=True)]
        result.append(_Classes(active, *counts))
    return result


def _by_patterns(span: Span, past: range) -> _Classes:
    """Where ids move among several buckets: by :mod:`..hll.patterns`."""
    index, old = past.stop, past[:-1]
    ranges: list[History] = [[span.history[each]] for each in (index, index - 1, *old)]
    planes = Planes(ranges)

    def questions(shown: Bits) -> np.ndarray:
        now, before = planes.alive(shown, 0), planes.alive(shown, 1)
        left = planes.seen(shown, 0) & ~now
        seen_before = planes.seen(shown, 1)
        seen = reduce(np.logical_or, (planes.seen(shown, 2 + each) for each in range(len(old))), seen_before)
        return np.stack(
            [now & ~seen, now & before, now & seen & ~before, before & ~now & ~left, before & left]
        )

    found = ask(planes.top, planes.shown, questions)
    near = span.sound[index] and span.sound[index - 1]
    far = near and span.is_sound(old)
    sounds = (far, near, far, near, near)
    counts = [of_patterns(found, question, sound=sound) for question, sound in enumerate(sounds)]
    return _Classes(span.unique(range(index, index + 1)), *counts)
