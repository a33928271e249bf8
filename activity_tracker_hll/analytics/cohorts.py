"""Retention: of the ids of a period, how many are active again some periods later."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from math import inf, nan, sqrt
from typing import Literal, NamedTuple

import numpy as np

from ..estimates import Estimate, Share
from ..hll.layers import Layer, Planes, everything
from ..hll.patterns import Bits, Patterns, ask
from ..hll.registers import empty
from .pairs import Pairs, Term, alive_in, dead_in, share_beside
from .results import Cell, RetentionRow
from .spans import Floats, Span, mean_of, of_patterns, share_of_patterns, single_layers

__all__ = ["When", "retention"]

When = Literal["on", "on or after"]
_Cells = list[tuple[Estimate, Share]]


class _Cohort(NamedTuple):
    """A cohort: how many ids it has, and for each offset how many came back, and their share."""

    size: Estimate
    cells: _Cells


def retention(
    span: Span, first: int, look_back: int | None, when: When
) -> tuple[tuple[RetentionRow, ...], tuple[Share | None, ...]]:
    """A row for each period from `first` on, until the last one; and the mean shares by offset.

    Args:
        span: one name's layers; those before `first` are the past.
        first: index of the first cohort.
        look_back: ids that were in none of so many periods before make the cohort; None = all ids do.
        when: whether ids came back in the period of the offset, or in it or a later one.
    """
    layers = single_layers(span.history)
    indexes = range(first, len(span.history))
    if layers is None or (when == "on or after" and any(layer.moved is not None for layer in layers)):
        made = [_by_patterns(span, index, look_back, when) for index in indexes]
    else:
        made = _by_likelihood(span, layers, indexes, look_back, when)
    rows = tuple(
        _row(span, index, look_back, when, cohort) for index, cohort in zip(indexes, made, strict=True)
    )
    alike = _alike(rows, look_back)
    return rows, tuple(_mean(rows, offset, alike) for offset in range(len(indexes)))


def _row(span: Span, index: int, look_back: int | None, when: When, cohort: _Cohort) -> RetentionRow:
    """The row of a cohort, with None where a sketch is gone."""
    past = _past(index, look_back)
    is_known = span.is_known((*past, index))
    cells: list[Cell | None] = []
    for other, (ids, share) in enumerate(cohort.cells, index):
        needed = range(other, len(span.history) if when == "on or after" else other + 1)
        complete = span.over[other]
        cells.append(Cell(ids, share, complete) if is_known and span.is_known(needed) else None)
    is_complete = span.over[index] and span.is_preceded(index, look_back or 0)
    return RetentionRow(
        span.periods[index].date, cohort.size if is_known else None, tuple(cells), is_complete
    )


def _alike(rows: Sequence[RetentionRow], look_back: int | None) -> Floats:
    """How far the errors of two cohorts are correlated, at most: shape (rows, rows).

    By the ids that they have in common, as part of the geometric mean of their sizes. Who is in a cohort is
    in none of the next `look_back` ones; those who came back later may be in these.
    """
    alike = np.eye(len(rows))
    for index, row in enumerate(rows):
        for offset in range(1 + (look_back or 0), len(row.cells)):
            cell, size = row.cells[offset], rows[index + offset].size
            common = cell.ids / sqrt(row.size * size) if cell and row.size and size else 1.0
            alike[index, index + offset] = alike[index + offset, index] = min(1.0, common)
    return alike


def _mean(rows: Sequence[RetentionRow], offset: int, alike: Floats) -> Share | None:
    """The share of all cohorts' ids that came back, over the complete cells."""
    used, shares, sizes = [], [], []
    for index, row in enumerate(rows):
        cell = row.cells[offset] if row.complete and offset < len(row.cells) else None
        if cell is not None and cell.complete and row.size is not None:
            used.append(index)
            shares.append(cell.share)
            sizes.append(row.size)
    return mean_of(shares, sizes, alike[np.ix_(used, used)]) if used else None


def _past(index: int, look_back: int | None) -> range:
    return range(index, index) if look_back is None else range(max(0, index - look_back), index)


def _by_likelihood(
    span: Span, layers: Sequence[Layer], indexes: range, look_back: int | None, when: When
) -> list[_Cohort]:
    """Where a period is a single layer: by pairs of parts, with the past in each base.

    Where nobody moved, the share is that of a pair, which has the narrower interval.
    """
    pairs = Pairs()
    planned: list[tuple[list[Term], list[tuple[list[Term], list[Term]]]]] = []
    later = list(layers)
    if when == "on or after":
        for index in reversed(range(indexes.start, indexes.stop - 1)):
            later[index] = Layer(np.maximum(later[index].tracked, later[index + 1].tracked))
    for index in indexes:
        past = (reduce(np.maximum, (layers[old].tracked for old in _past(index, look_back)), empty()),)
        cohort = alive_in([layers[index]])
        cells: list[tuple[list[Term], list[Term]]] = []
        for other in later[index + 1 : indexes.stop]:
            back = pairs.common(cohort, alive_in([other]), past)
            rest: list[Term] = []
            if len(back) > 1 or other.moved is not None or layers[index].moved is not None:
                rest = pairs.apart(cohort, everything([other]), past)
                rest += pairs.common(cohort, dead_in([other]), past)
            cells.append((back, rest))
        planned.append((pairs.size(cohort, past), cells))
    pairs.solve(("share_of_a",))
    result: list[_Cohort] = []
    for index, (of_size, of_cells) in zip(indexes, planned, strict=True):
        sound = span.is_sound((*_past(index, look_back), index))
        size = (
            span.unique(range(index, index + 1)) if look_back is None else pairs.count(of_size, sound=sound)
        )
        found: _Cells = [(size, _all_of(size))]
        for offset, (back, rest) in enumerate(of_cells, 1):
            until = indexes.stop if when == "on or after" else index + offset + 1
            both_sound = sound and span.is_sound(range(index + offset, until))
            if rest:
                part = pairs.sum(back, sound=both_sound)
                found.append((part.number, share_beside(part, pairs.sum(rest, sound=both_sound))))
            else:
                ids = pairs.count(back, sound=both_sound)
                found.append((ids, pairs.share(back[0], sound=both_sound)))
        result.append(_Cohort(size, found))
    return result


def _all_of(size: Estimate) -> Share:
    return Share(1.0 if size else nan, inf if size.suspect else 0.0)


def _by_patterns(span: Span, index: int, look_back: int | None, when: When) -> _Cohort:
    """Where ids move among several buckets: by :mod:`..hll.patterns`.

    Each cell for itself, as the fewer sketches there are the more they tell; but "on or after" all cells at
    once, as most need most of the sketches.
    """
    past = _past(index, look_back)
    indexes = range(index, len(span.history))
    groups = [indexes] if when == "on or after" else [range(other, other + 1) for other in indexes]
    sound = span.is_sound((*past, index))
    size = span.unique(range(index, index + 1))
    cells: _Cells = []
    for group in groups:
        found = _ask_whether_back(span, index, past, group)
        if past and not cells:
            size = of_patterns(found, 0, sound=sound)
        for question, other in enumerate(group, 1):
            until = indexes.stop if when == "on or after" else other + 1
            both_sound = sound and span.is_sound(range(other, until))
            ids = of_patterns(found, question, sound=both_sound)
            cells.append((ids, share_of_patterns(found, question, 0, sound=both_sound)))
    cells[0] = size, _all_of(size)
    return _Cohort(size, cells)


def _ask_whether_back(span: Span, index: int, past: range, group: range) -> Patterns:
    """Who is in a cohort; and of these, for each period of a group, who is alive in it or in a later one."""
    planes = Planes([[span.history[each]] for each in (index, *group, *past)])

    def questions(shown: Bits) -> np.ndarray:
        is_in = planes.alive(shown, 0)
        for old in range(len(past)):
            is_in &= ~planes.seen(shown, 1 + len(group) + old)
        alive = [planes.alive(shown, 1 + each) for each in range(len(group))]
        back = list(accumulate(reversed(alive), np.logical_or))[::-1]
        return np.stack([is_in, *(is_in & each for each in back)])

    return ask(planes.top, planes.shown, questions)
