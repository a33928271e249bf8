"""Trailing windows: unique ids, and stickiness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from math import inf, sqrt
from typing import NamedTuple

import numpy as np

from ..estimates import Estimate, Share
from ..hll.estimators import cardinalities_of, fit, half_width, resolution
from ..hll.layers import History, Planes, has_moves
from ..hll.patterns import Bits, ask
from ..hll.registers import MAX_RANK, Registers, empty, histogram
from .spans import Span, limited_share, united

__all__ = ["stickiness", "unique"]


def unique(span: Span, windows: Sequence[range]) -> list[Estimate | None]:
    """Ids that are alive at the end of each window; None where a sketch is gone."""
    if has_moves(span.history) or len({len(window) for window in windows}) > 1:
        return [span.unique(window) if span.is_known(window) else None for window in windows]
    known = [window for window in windows if span.is_known(window)]
    histograms = [histogram(union) for union in _trailing_unions(span, known)]
    counts = cardinalities_of(np.array(histograms, np.int64).reshape(-1, MAX_RANK + 1))
    numbers = {
        window: Estimate(count, None if span.is_sound(window) else inf)
        for window, count in zip(known, counts, strict=True)
    }
    return [numbers.get(window) for window in windows]


def _trailing_unions(span: Span, windows: Sequence[range]) -> Iterator[Registers]:
    """The union of each of some windows of one length: by unions of 2, 4, 8... periods, each made of two."""
    unions = [united([period]) for period in span.history]
    length, size = len(windows[0]) if windows else 1, 1
    while size < length:
        more = min(size, length - size)
        for index in range(len(unions) - more):
            own = None if size == 1 else unions[index]  # at first they are those of the span
            unions[index] = np.maximum(unions[index], unions[index + more], out=own)
        size += more
    return (unions[window.start] for window in windows)


def stickiness(span: Span, windows: Sequence[range]) -> list[Share | None]:
    """The mean share of a window's ids that were active in each of its periods: DAU/MAU.

    Only ids that are alive at the end of the window count. None where a sketch is gone.
    """
    if has_moves(span.history):
        return [_by_patterns(span, window) if span.is_known(window) else None for window in windows]
    return _by_likelihood(span, windows)


def _by_likelihood(span: Span, windows: Sequence[range]) -> list[Share | None]:
    """Of ids that never move: the mean of the sizes, over that of the union.

    What each register adds to the logarithm of either is known (:meth:`.Fit.influence`); the sum of squares
    of the difference is the variance, as errors of sizes that have ids in common mostly cancel. The sizes are
    taken as Poisson variables. Where that makes it larger than for independent sizes, it is that. What no
    register shows is added (:func:`.estimators.resolution`).
    """
    none = empty()
    sizes = [united([period]) for period in span.history]
    fitted = [fit(registers, none) for registers in sizes]
    influences = [each.influence() for each in fitted]
    result: list[Share | None] = []
    for window in windows:
        if not span.is_known(window):
            result.append(None)
            continue
        union = fit(reduce(np.maximum, (sizes[index] for index in window), none), none)
        active = sum(fitted[index].ids for index in window)
        if not union.ids or not active:
            result.append(Share())
            continue
        share = active / len(window) / union.ids
        of_active = reduce(np.add, (influences[index] for index in window)) / active
        together = float(np.square(of_active - union.influence() / union.ids).sum())
        apart = _relative(union.ids, union.information)
        apart += sum(
            (fitted[index].ids / active) ** 2 * _relative(fitted[index].ids, fitted[index].information)
            for index in window
        )
        unseen = resolution(union.above) / union.ids**2
        unseen += sum(resolution(fitted[index].above) for index in window) / active**2
        error = share * sqrt(min(together, apart) + unseen)
        result.append(_limited(share, error, union.ids, sound=span.is_sound(window)))
    return result


class _WiderLimits(NamedTuple):
    """Limits of a share of so many ids by its standard error, as if there were one id more or less."""

    share: float
    error: float
    ids: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper limit."""
        half = half_width(confidence) * self.error + self.share / max(1.0, self.ids)
        return self.share - half, self.share + half


def _limited(share: float, error: float, ids: float, *, sound: bool) -> Share:
    return limited_share(share, _WiderLimits(share, error, ids), suspect=not sound)


def _relative(ids: float, information: float) -> float:
    """The variance of a size in parts of its square; see :func:`.estimators.remainder`."""
    if not (ids and information):
        return 0.0
    registers = len(empty())
    return max(0.0, registers**2 / information - ids) / ids**2


def _by_patterns(span: Span, window: range) -> Share:
    """Where ids move: the mean over those that are alive at the end, by :mod:`..hll.patterns`."""
    days: list[History] = [[span.history[index]] for index in window]
    planes = Planes([[day for [day] in days], *days])
    size = len(days)

    def questions(shown: Bits) -> np.ndarray:
        alive = planes.alive(shown, 0)
        active = reduce(np.add, (planes.alive(shown, 1 + day) for day in range(size)), np.zeros(len(alive)))
        return np.stack([active * alive / size, alive])

    found = ask(planes.top, planes.shown, questions)
    mean, alive = (float(value) for value in found.means)
    if not alive > 0:
        return Share()
    share = max(0.0, mean / alive)
    gradient = np.array([1, -share]) / alive
    variance = float(np.einsum("i,ij,j->", gradient, found.covariance, gradient))
    return _limited(share, sqrt(max(0.0, variance)), found.total * alive, sound=span.is_sound(window))
