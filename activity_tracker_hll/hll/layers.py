"""How many ids are alive over a range of periods, of one bucket or of several at once, from registers.

Pure functions of registers live here. An id counts in a range if the newest thing that happened to it there
was activity, not leaving: what one bucket of exactly that range would count. In several buckets it counts if
it does so in at least one.

A *layer* is what happened to the ids of one bucket in one period. From the newest period to the oldest, an id
belongs to the first one it is seen in; so the number of ids alive is the sum, over the periods, of the ids
alive in it that are in no later one, which is their union beyond all that came later (:mod:`.unions`). Its
terms are about different ids: their errors are independent. Nobody is missed in one bucket. In several, an id
may have left one of them after it was last active in another one, where it still is; those ids are added, by
:mod:`.patterns`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimators import LARGEST, cardinality, remainder, standard_error
from .patterns import Bits, ask
from .registers import Registers, empty
from .unions import union_of_remainders

__all__ = ["History", "Layer", "Planes", "alive", "everything", "has_moves"]


class Layer(NamedTuple):
    """What happened to the ids of one bucket in one period.

    Attributes:
        tracked: H, the ids that were active, shape (16384,).
        moved: V, the ids that left; None if none did.
        returned: those of them that were active again after they left.
        back: how many these are.
    """

    tracked: Registers
    moved: Registers | None = None
    returned: Registers | None = None
    back: int = 0


History = Sequence[Sequence[Layer | None]]
"""For each period, oldest first, the layers of the same buckets in one order; None = nothing happened."""


def has_moves(history: History) -> bool:
    """Whether anybody left a bucket."""
    return any(layer.moved is not None for period in history for layer in period if layer)


def everything(layers: Iterable[Layer | None]) -> Registers:
    """The union of all ids that were active or left; it may be an array of the layers', not to be changed."""
    parts = [part for layer in layers if layer for part in (layer.tracked, layer.moved) if part is not None]
    return parts[0] if len(parts) == 1 else reduce(np.maximum, parts, empty())


def alive(history: History) -> tuple[int, float]:
    """The number of ids alive over a range of periods, and its standard error in ids.

    Without moves it is PFCOUNT's number of the union. Of one period it is the count of the bucket, or of the
    union of the buckets.
    """
    if not has_moves(history):
        count = cardinality(everything(layer for period in history for layer in period))
        return count, standard_error(count)
    total, variance = 0, 0.0
    later: Registers | None = None
    for period in reversed(history):
        layers = [layer for layer in period if layer]
        if not layers:
            continue
        count, error = _alive_in(layers, later)
        total, variance = total + count, variance + error**2
        united = everything(layers)
        later = united if later is None else np.maximum(later, united)
    if later is not None and sum(map(any, zip(*history, strict=True))) > 1 and len(history) > 1:
        planes = Planes([history])
        missed, its_variance = ask(
            planes.top,
            planes.shown,
            lambda shown: (planes.alive(shown, 0) & planes.only_left(shown, 0))[None],
        ).number(0)
        total, variance = total + round(missed), variance + its_variance
    return min(LARGEST, max(0, total)), sqrt(variance)


def _alive_in(layers: Sequence[Layer], later: Registers | None) -> tuple[int, float]:
    """The ids alive in a period that are in no later one."""
    if len(layers) == 1 and later is None:
        [layer] = layers
        count, error = remainder(layer.tracked, empty() if layer.moved is None else layer.moved)
        return count + layer.back, error
    certain = [layer.tracked for layer in layers if layer.moved is None]
    certain += [layer.returned for layer in layers if layer.returned is not None]
    sources = [(layer.tracked, layer.moved) for layer in layers if layer.moved is not None]
    return union_of_remainders(reduce(np.maximum, certain, empty()), sources, later)


class Planes:
    """What shows in the registers of some ranges of periods, for :func:`.patterns.ask`.

    The bits say in which sketches an id shows, not whether it is alive: an id that left and another one that
    returned have to look the same in one register as in two that are put together.

    Attributes:
        top: the registers of everything, shape (16384,).
        shown: the bits; for each bucket of each range those of the layers, newest first, in which an id was
            seen; if any left, as many in which it left; and if any returned, in which it did that.
    """

    def __init__(self, ranges: Sequence[History]) -> None:
        self.top = everything(layer for history in ranges for period in history for layer in period)
        shown: list[Bits] = []
        self._ranges: list[list[tuple[slice, ...]]] = []
        row = 0
        for history in ranges:
            self._ranges.append([])
            for bucket in zip(*reversed(history), strict=True):
                planes = self._planes(bucket)
                ends = range(row, row + sum(map(len, planes)) + 1, len(planes[0]))
                self._ranges[-1].append(tuple(map(slice, ends, ends[1:])))
                shown += planes
                row = ends[-1]
        self.shown = np.concatenate(shown)

    def _planes(self, layers: Sequence[Layer | None]) -> list[Bits]:
        """Of a bucket: where an id was seen, where it left and where it returned, as far as any did."""
        seen = [everything([layer]) if layer else None for layer in layers]
        left = [layer.moved if layer else None for layer in layers]
        returned = [layer.returned if layer else None for layer in layers]
        rest = [some for some in (left, returned) if any(sketch is not None for sketch in some)]
        return [self._shown_in(sketches) for sketches in (seen, *rest)]

    def _shown_in(self, sketches: Sequence[Registers | None]) -> Bits:
        nobody = np.zeros(len(self.top), bool)
        return np.packbits(
            np.stack([nobody if sketch is None else sketch == self.top for sketch in sketches]), axis=0
        )

    def alive(self, shown: Bits, index: int) -> NDArray[np.bool_]:
        """Whether an id is alive at the end of a range."""
        result = np.zeros(shown.shape[1], bool)
        for planes in self._ranges[index]:
            result |= _is_newest(_alive(shown, planes), shown[planes[0]])
        return result

    def seen(self, shown: Bits, index: int) -> NDArray[np.bool_]:
        """Whether an id was active in a range, or left."""
        result = np.zeros(shown.shape[1], bool)
        for planes in self._ranges[index]:
            result |= shown[planes[0]].any(axis=0)
        return result

    def only_left(self, shown: Bits, index: int) -> NDArray[np.bool_]:
        """Whether an id only left buckets in the newest period of a range that it is in."""
        alive = reduce(np.bitwise_or, [_alive(shown, planes) for planes in self._ranges[index]])
        return ~_is_newest(alive, reduce(np.bitwise_or, [shown[planes[0]] for planes in self._ranges[index]]))


def _alive(shown: Bits, planes: Sequence[slice]) -> Bits:
    """The layers of a bucket in which an id is alive: it was seen, and did not leave or has returned."""
    alive = shown[planes[0]]
    if len(planes) > 1:
        gone = shown[planes[1]]
        if len(planes) > 2:
            gone = gone & ~shown[planes[2]]
        alive = alive & ~gone
    return alive


def _is_newest(some: Bits, of: Bits) -> NDArray[np.bool_]:
    """Whether the first bit that is set in `of` is set in `some`, a part of it."""
    result, undecided = np.zeros(of.shape[1], bool), np.ones(of.shape[1], bool)
    for mine, whole in zip(some, of, strict=True):
        result |= undecided & (mine > (whole & ~mine))
        undecided &= whole == 0
    return result
