"""Values that repeat from line to line: each is checked once, and stands for all lines that have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..columns import Texts
from ..errors import ActivityTrackerError
from ..hll.hashing import SLACK

__all__ = ["BAD", "Coder", "words_of"]

BAD = -1
"""The code of a value that is refused, or that only the careful reader can judge."""

_MOST = 4096
_MOST_BYTES = 1 << 20
_SLOTS = 1 << 12
_EMPTY = -1
_BLOCK = SLACK
"""Bytes of a text that are compared at once, which can be read behind any in columns.Texts."""
_WORDS = _BLOCK // 8

_SIZES = range(_BLOCK + 1)
_MASKS = np.array(
    [[(1 << 8 * min(8, max(0, size - 8 * word))) - 1 for word in range(_WORDS)] for size in _SIZES], np.uint64
)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Codes = NDArray[np.int64]


class Coder:
    """Numbers texts; after many different ones, or long ones, it begins anew: no file fills the memory.

    Args:
        check: makes of a value what it stands for, or raises ValueError or an ActivityTrackerError.

    Attributes:
        values: what the codes stand for. It is only added to; a new beginning makes a new list.
    """

    def __init__(self, check: Callable[[Any], Any]) -> None:
        self._check = check
        self._begin()

    def _begin(self) -> None:
        self.values: list[Any] = []
        self._codes: dict[Any, int] = {}
        self._size = 0  # of all texts that have a code
        # The last text of each slot: its words, its size and its code.
        self._words = np.zeros((_WORDS, _SLOTS), np.uint64)
        self._sizes = np.full(_SLOTS, _EMPTY, np.int64)
        self._slot_codes = np.zeros(_SLOTS, np.int64)

    @property
    def _is_full(self) -> bool:
        return len(self._codes) > _MOST or self._size > _MOST_BYTES

    def codes(self, values: Sequence[Any]) -> Codes:
        """The code of each value; values that are equal must be of one type."""
        if self._is_full:
            self._begin()
        known = self._codes
        try:
            return np.fromiter(map(known.__getitem__, values), np.int64, len(values))
        except KeyError:
            for value in set(values).difference(known):
                known[value] = self._code(value)
                self._size += len(value)
        return np.fromiter(map(known.__getitem__, values), np.int64, len(values))

    def codes_of_texts(self, texts: Texts) -> Codes:
        """The code of each text; the values are bytes."""
        if not len(texts) or texts.sizes.max() > _BLOCK:
            return self.codes(texts.tolist())
        if self._is_full:
            self._begin()
        words = [words & _MASKS[:, place].take(texts.sizes) for place, words in enumerate(words_of(texts).T)]
        mixed = words[0] ^ texts.sizes.view(np.uint64)
        for word in words[1:]:
            mixed = (mixed * _MULTIPLIER) ^ word
        slots = (mixed * _MULTIPLIER >> np.uint64(52)).view(np.int64)
        missing = np.flatnonzero(~self._hits(slots, words, texts.sizes))
        found: Codes = self._slot_codes.take(slots)
        if len(missing):
            found[missing] = self.codes(texts[missing].tolist())
            chosen = slots[missing]
            self._slot_codes[chosen] = found[missing]
            self._sizes[chosen] = texts.sizes[missing]
            for known, word in zip(self._words, words, strict=True):
                known[chosen] = word[missing]
        return found

    def _hits(self, slots: Codes, words: list[NDArray[np.uint64]], sizes: Codes) -> NDArray[np.bool_]:
        hits: NDArray[np.bool_] = self._sizes.take(slots) == sizes
        for known, word in zip(self._words, words, strict=True):
            hits &= known.take(slots) == word
        return hits

    def _code(self, value: Any) -> int:
        try:
            checked = self._check(value)
        except (ValueError, ActivityTrackerError):
            return BAD
        self.values.append(checked)
        return len(self.values) - 1


def words_of(texts: Texts) -> NDArray[np.uint64]:
    """The first bytes of each text and of what follows it, shape (n, 4)."""
    blocks = np.ndarray((len(texts.buffer) - _BLOCK + 1,), f"V{_BLOCK}", texts.buffer, strides=(1,))
    words: NDArray[np.uint64] = blocks[texts.starts].view("<u8").reshape(len(texts), -1)
    return words
