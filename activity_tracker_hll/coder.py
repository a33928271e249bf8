"""Values that repeat from event to event: each is checked once, and stands for all events that have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Texts
from .errors import ActivityTrackerError

__all__ = ["BAD", "LONGEST", "Coder", "Words", "blocks_of", "words_of"]

BAD = -1
"""The code of a value that is refused, or that only the careful reader can judge."""

LONGEST = 32
"""Bytes of a text, no more than can be read behind any in columns.Texts; longer ones have no words."""

_MOST = 4096
_MOST_BYTES = 1 << 20
_SLOT_BITS = 16
_NONE = -1
_WORD = 8
_WORDS = LONGEST // _WORD
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio; any odd one, with bits all over
# Of each word, what belongs to a text of each size.
_MASKS = (0xFF * np.tri(LONGEST + 1, LONGEST, -1, np.uint8)).view("<u8").T.copy()

Codes = NDArray[np.int64]
Sizes = NDArray[np.integer[Any]]
Words = Sequence[NDArray[np.uint64]]
"""For each 8 bytes of a text, the first, the second..., an array of shape (n,)."""


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
        self._slots: dict[int, _Slots] = {}  # for texts of so many words

    def _make_room(self) -> None:
        if len(self._codes) > _MOST or self._size > _MOST_BYTES:
            self._begin()

    def codes(self, values: Sequence[Any]) -> Codes:
        """The code of each value; values that are equal must be of one type."""
        self._make_room()
        return self._look_up(values)

    def _look_up(self, values: Sequence[Any]) -> Codes:
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
        words = words_of(texts) if len(texts) else None
        if words is None:
            return self.codes(texts.tolist())
        return self.codes_of_words(words, texts.sizes, lambda places: texts[places].tolist())

    def codes_of_words(self, words: Words, sizes: Sizes, values: Callable[[Codes], Sequence[Any]]) -> Codes:
        """The code of each text, of which not all are made objects.

        Args:
            words: of the texts, any bytes behind the end of each; up to four, or less if all are shorter.
            sizes: of the texts.
            values: returns the texts at some places.
        """
        self._make_room()
        words = _exact(words, sizes)
        slots = self._slots_of(len(words))
        places = _places(words)
        found = slots.codes.take(places)
        hits = slots.hits(places, words)
        if not hits.all():
            missing = np.flatnonzero(~hits)
            # One text of each slot is known from now on: any of several, but most often there is one.
            chosen = np.full(1 << _SLOT_BITS, _NONE)
            chosen[places[missing]] = missing
            chosen = chosen[chosen != _NONE]
            slots.keep(self._look_up(values(chosen)), places[chosen], _at(chosen, words))
            found[missing] = slots.codes.take(places[missing])
            others = missing[~slots.hits(places[missing], _at(missing, words))]
            if len(others):
                found[others] = self._look_up(values(others))
        return found

    def _slots_of(self, words: int) -> _Slots:
        if words not in self._slots:
            self._slots[words] = _Slots(words)
        return self._slots[words]

    def _code(self, value: Any) -> int:
        try:
            checked = self._check(value)
        except (ValueError, ActivityTrackerError):
            return BAD
        self.values.append(checked)
        return len(self.values) - 1


class _Slots:
    """The last text of each slot: its words, with its size in them, and its code. 1 to 3 MB.

    Args:
        words: how many a text has.
    """

    def __init__(self, words: int) -> None:
        self._words = np.zeros((words, 1 << _SLOT_BITS), np.uint64)
        self.codes = np.zeros(1 << _SLOT_BITS, np.int64)

    def hits(self, slots: Codes, words: Words) -> NDArray[np.bool_]:
        """Whether each text is the one in its slot."""
        hits: NDArray[np.bool_] = self._words[0].take(slots) == words[0]
        for known, word in zip(self._words[1:], words[1:], strict=True):
            hits &= known.take(slots) == word
        return hits

    def keep(self, codes: Codes, slots: Codes, words: Words) -> None:
        """Put texts into their slots."""
        self.codes[slots] = codes
        for known, word in zip(self._words, words, strict=True):
            known[slots] = word


def _exact(words: Words, sizes: Sizes) -> Words:
    """Words that two texts share only if they are the same: without what is behind, and with the size.

    That is in the last byte of the last word, or in one word more if a text reaches there.
    """
    longest = int(sizes.max())
    if sizes.min() == longest:
        masks: Any = _MASKS[: len(words), longest]
        marks: Any = np.uint64(longest)
    else:
        masks = _MASKS[: len(words)].take(sizes.astype(np.intp, copy=False), axis=1)
        marks = sizes.astype(np.uint64)
    marks = marks + np.uint64(1) << np.uint64(56)  # no text is all zeros then
    *others, last = (word & mask for word, mask in zip(words, masks, strict=True))
    if longest < _WORD * len(words):
        last |= marks
        return [*others, last]
    return [*others, last, np.broadcast_to(marks, last.shape)]


def _places(words: Words) -> Codes:
    """The slot of each text."""
    mixed = words[0] * _MULTIPLIER
    for word in words[1:]:
        mixed ^= word
        mixed *= _MULTIPLIER
    mixed >>= np.uint64(64 - _SLOT_BITS)
    return mixed.view(np.int64)


def _at(places: Codes, words: Words) -> Words:
    return [word[places] for word in words]


def words_of(texts: Texts) -> Words | None:
    """The words of texts, as many as the longest has, of shorter ones also of what is behind them.

    None if one is longer than :data:`LONGEST`.
    """
    longest = int(texts.sizes.max(initial=0))
    if longest > LONGEST:
        return None
    count = max(1, -(-longest // _WORD))
    texts = texts.padded()
    distance = texts.distance()
    if distance:
        begin = int(texts.starts[0])
        return [
            np.ndarray((len(texts),), "<u8", texts.buffer, begin + _WORD * word, (distance,))
            for word in range(count)
        ]
    return list(blocks_of(texts, count).T)


def blocks_of(texts: Texts, words: int = _WORDS) -> NDArray[np.uint64]:
    """The first bytes of each text and of what follows it, shape (n, words)."""
    size = _WORD * words
    blocks = np.ndarray((len(texts.buffer) - size + 1,), f"V{size}", texts.buffer, strides=(1,))
    together: NDArray[np.uint64] = blocks[texts.starts].view("<u8")
    return together.reshape(len(texts), words)
