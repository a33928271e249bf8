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

    Attributes:
        top: the registers of everything, shape (16384,).
        shown: the bits; for each bucket of each range those of the layers, newest first, in which an id is
            alive, and as many in which it is dead.
    """

    def __init__(self, ranges: Sequence[History]) -> None:
        self.top = everything(layer for history in ranges for period in history for layer in period)
        planes: list[Bits] = []
        self._ranges: list[list[tuple[slice, slice]]] = []
        row = 0
        for history in ranges:
            self._ranges.append([])
            for bucket in zip(*reversed(history), strict=True):
                alive, dead = zip(*(self._states(layer) for layer in bucket), strict=True)
                planes += [np.packbits(np.stack(alive), axis=0), np.packbits(np.stack(dead), axis=0)]
                size = len(planes[-1])
                self._ranges[-1].append((slice(row, row + size), slice(row + size, row + 2 * size)))
                row += 2 * size
        self.shown = np.concatenate(planes)

    def _states(self, layer: Layer | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        if layer is None:
            nobody = np.zeros(len(self.top), bool)
            return nobody, nobody
        dead = np.zeros(len(self.top), bool) if layer.moved is None else layer.moved == self.top
        if layer.returned is not None:
            dead &= layer.returned != self.top
        return (layer.tracked == self.top) & ~dead, dead

    def alive(self, shown: Bits, index: int) -> NDArray[np.bool_]:
        """Whether an id is alive at the end of a range."""
        result = np.zeros(shown.shape[1], bool)
        for alive, dead in self._ranges[index]:
            result |= _is_newest(shown[alive] & ~shown[dead], shown[alive] | shown[dead])
        return result

    def seen(self, shown: Bits, index: int) -> NDArray[np.bool_]:
        """Whether an id was active in a range, or left."""
        rows = slice(self._ranges[index][0][0].start, self._ranges[index][-1][1].stop)
        return np.asarray(np.bitwise_or.reduce(shown[rows], axis=0) != 0)

    def only_left(self, shown: Bits, index: int) -> NDArray[np.bool_]:
        """Whether an id only left buckets in the newest period of a range that it is in."""
        pairs = [(shown[alive] & ~shown[dead], shown[dead]) for alive, dead in self._ranges[index]]
        active = reduce(np.bitwise_or, [alive for alive, _ in pairs])
        return ~_is_newest(active, active | reduce(np.bitwise_or, [dead for _, dead in pairs]))


def _is_newest(some: Bits, of: Bits) -> NDArray[np.bool_]:
    """Whether the first bit that is set in `of` is set in `some`, a part of it."""
    result, undecided = np.zeros(of.shape[1], bool), np.ones(of.shape[1], bool)
    for mine, whole in zip(some, of, strict=True):
        result |= undecided & (mine > (whole & ~mine))
        undecided &= whole == 0
    return result
