"""MurmurHash64A as Redis and Valkey use it: for one id, and for many at once.

Bytes in, hashes out; nothing here knows where ids come from or what registers are. Many ids are hashed 8
bytes of each at a time, so that every step is one numpy operation over all of them.

Source: Austin Appleby's MurmurHash2 (public domain), 64-bit version for 64-bit machines, read as
little endian; the seed is the server's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .registers import Hashes

__all__ = ["SLACK", "Hasher", "Offsets", "hash_one", "ids_of"]

SLACK = 64
"""Bytes, of any content, that must follow the last id in a buffer, because it is read in blocks."""

_SEED = 0xADC83B19
_MULTIPLIER = 0xC6A4A7935BD1E995
_MASK = 2**64 - 1
_WORD = 8
_MOST_WORDS = SLACK // _WORD  # of a block

_M = np.uint64(_MULTIPLIER)
_INVERSE = np.uint64(pow(_MULTIPLIER, -1, 2**64))
_R = np.uint64(47)
# Keeps the low bytes of a word: the first i of eight.
_LOW_BYTES = np.array([2 ** (8 * count) - 1 for count in range(_WORD)], np.uint64)

_DIGIT = np.arange(10, dtype=np.uint64) + ord("0")
# The numbers below 10^4 as text of four digits, in the lower and in the upper half of a word.
_FOUR_DIGITS = (
    _DIGIT[:, None, None, None]
    | _DIGIT[:, None, None] << np.uint64(8)
    | _DIGIT[:, None] << np.uint64(16)
    | _DIGIT << np.uint64(24)
).ravel()
_FOUR_DIGITS_ABOVE = _FOUR_DIGITS << np.uint64(32)

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.integer[Any]]


def hash_one(data: bytes) -> int:
    """The hash of one id, from 0 to 2^64 - 1."""
    size = len(data)
    hashed = _SEED ^ (size * _MULTIPLIER & _MASK)
    full_words_end = size - size % _WORD
    for start in range(0, full_words_end, _WORD):
        word = int.from_bytes(data[start : start + _WORD], "little") * _MULTIPLIER & _MASK
        word = (word ^ (word >> 47)) * _MULTIPLIER & _MASK
        hashed = (hashed ^ word) * _MULTIPLIER & _MASK
    if full_words_end < size:
        hashed = (hashed ^ int.from_bytes(data[full_words_end:], "little")) * _MULTIPLIER & _MASK
    hashed = (hashed ^ (hashed >> 47)) * _MULTIPLIER & _MASK
    return hashed ^ (hashed >> 47)


def ids_of(hashes: Hashes) -> list[bytes]:
    """For each hash, shape (n,), the one id of 8 bytes that has it.

    Each step of the hash of a single word can be undone: multiplication by an odd number, and x ^ x >> 47,
    which undoes itself, as 47 is more than half of 64 bits.
    """
    words = hashes ^ hashes >> _R
    words *= _INVERSE
    words ^= words >> _R
    words *= _INVERSE
    words ^= np.uint64(_SEED ^ (_WORD * _MULTIPLIER & _MASK))
    words *= _INVERSE
    words ^= words >> _R
    words *= _INVERSE
    data = words.astype("<u8", copy=False).tobytes()
    return [data[start : start + _WORD] for start in range(0, len(data), _WORD)]


class Hasher:
    """Hashes batches of ids, most of it in memory that is reused from one batch to the next.

    Reuse matters: the system hands out new arrays of this size page by page, which takes longer than the
    hashing. The next call overwrites what a method returned.

    Args:
        capacity: the largest number of ids in a batch.
    """

    def __init__(self, capacity: int) -> None:
        self._hashes, self._words, self._spare = np.empty((3, capacity), np.uint64)

    def equal(self, buffer: Bytes, count: int, size: int, stride: int) -> Hashes:
        """Hashes of ids of equal size at equal distances.

        Args:
            buffer: contiguous; id i begins at i * stride. Ids shorter than 8 bytes need 8 more bytes after
                the last one.
            count: the number of ids.
            size: the bytes of each id.
            stride: the bytes from one id to the next.
        """
        hashes, words = self._begin(count, size), self._words[:count]
        for start in range(0, size - size % _WORD, _WORD):
            self._absorb(hashes, _words(buffer, start, stride, count))
        tail = size % _WORD
        if tail and size > _WORD:
            # The last 8 bytes of each id begin in a word that was absorbed already: shift its part out.
            last = _words(buffer, size - _WORD, stride, count)
            _absorb_tail(hashes, np.right_shift(last, np.uint64(8 * (_WORD - tail)), out=words))
        elif tail:
            first = _words(buffer, 0, stride, count)
            _absorb_tail(hashes, np.bitwise_and(first, _LOW_BYTES[tail], out=words))
        return self._finish(hashes)

    def ragged(self, buffer: Bytes, starts: Offsets, sizes: Offsets) -> Hashes:
        """Hashes of ids of different sizes.

        Args:
            buffer: contiguous, with SLACK bytes after the last id.
            starts: shape (n,), where each id begins.
            sizes: shape (n,), bytes of each, below 65,536.
        """
        # Sorted from the longest to the shortest, the ids that reach into a word, and those that fill it, are
        # each a prefix of all. numpy sorts numbers of 8 and 16 bits by radix, the former in half the time.
        longest = int(sizes.max(initial=0))
        short = sizes.astype(np.min_scalar_type(longest))
        counts = np.bincount(short, minlength=1)[::-1]  # of each size, from the longest on
        order = np.argsort(short.dtype.type(longest) - short, kind="stable")
        offsets = starts.take(order).astype(np.int64, copy=False)
        # How many ids have 1 byte or more, 9 or more, ...; and how many 8 or more, 16 or more, ... and none.
        at_least = [*counts.cumsum()[::-1].tolist(), *[0] * _WORD]
        started, complete = at_least[1 : longest + 1 : _WORD], at_least[_WORD::_WORD]
        from_longest = np.arange(longest, -1, -1, dtype=np.uint64)
        hashes = np.repeat(from_longest * _M ^ np.uint64(_SEED), counts)
        tail_masks = np.repeat(_LOW_BYTES.take(from_longest.view(np.int64) % _WORD), counts)
        words = min(-(-longest // _WORD), _MOST_WORDS)
        size = _WORD * words
        blocks = np.ndarray((len(buffer) - size + 1,), f"V{size}", buffer, strides=(1,))
        for word, (started_count, complete_count) in enumerate(zip(started, complete, strict=False)):
            column = word % words
            if not column:
                # Fetching several words of an id takes no longer than fetching one.
                block = blocks[offsets[:started_count]].view("<u8").reshape(started_count, words)
                offsets += size
            self._absorb(hashes[:complete_count], block[:complete_count, column])
            last = slice(complete_count, started_count)
            _absorb_tail(hashes[last], block[last, column] & tail_masks[last])
        result = self._hashes[: len(short)]
        result[order] = hashes
        return self._finish(result)

    def decimals(self, numbers: Hashes) -> Hashes:
        """Hashes of the decimal text of numbers, shape (n,)."""
        length = len(str(numbers.max(initial=0)))
        shorter = np.flatnonzero(numbers < np.uint64(10 ** (length - 1))) if length > 1 else ()
        if not len(shorter):
            return self._of_digits(numbers, length)
        # Usually nine of ten have as many digits as the longest: hash all as if they had, then redo the rest.
        result = self._of_digits(numbers, length).copy()
        result[shorter] = self.decimals(numbers[shorter])
        return result

    def _of_digits(self, numbers: Hashes, length: int) -> Hashes:
        """Hashes of numbers that all have `length` digits."""
        hashes = self._begin(len(numbers), length)
        while length > _WORD:
            length -= _WORD
            below = np.uint64(10**length)
            head = numbers // below
            numbers = numbers - head * below
            self._absorb(hashes, self._text(head, _WORD))
        words = self._text(numbers, length)
        if length == _WORD:
            self._absorb(hashes, words)
        else:
            _absorb_tail(hashes, words)
        return self._finish(hashes)

    def _text(self, numbers: Hashes, length: int) -> Hashes:
        """Numbers of `length` digits, up to 8, as text in the bytes of a word."""
        words, high = self._words[: len(numbers)], self._spare[: len(numbers)]
        if length <= 4:
            _FOUR_DIGITS.take(numbers.view(np.int64), out=words, mode="clip")
            words >>= np.uint64(8 * (4 - length))
            return words
        np.multiply(numbers, np.uint64(109_951_163), out=high)  # 2^40 / 10^4: exact below 10^8
        high >>= np.uint64(40)
        _FOUR_DIGITS.take(high.view(np.int64), out=words, mode="clip")
        high *= np.uint64(10_000)
        low = np.subtract(numbers, high, out=high).view(np.int64)
        words |= _FOUR_DIGITS_ABOVE.take(low)
        words >>= np.uint64(8 * (_WORD - length))
        return words

    def _begin(self, count: int, size: int) -> Hashes:
        hashes = self._hashes[:count]
        hashes.fill(_SEED ^ (size * _MULTIPLIER & _MASK))
        return hashes

    def _absorb(self, hashes: Hashes, source: Hashes) -> None:
        """Mix in a full word of each id."""
        words = np.multiply(source, _M, out=self._words[: len(source)])
        words ^= np.right_shift(words, _R, out=self._spare[: len(words)])
        words *= _M
        hashes ^= words
        hashes *= _M

    def _finish(self, hashes: Hashes) -> Hashes:
        shifted = self._words[: len(hashes)]
        hashes ^= np.right_shift(hashes, _R, out=shifted)
        hashes *= _M
        hashes ^= np.right_shift(hashes, _R, out=shifted)
        return hashes


def _words(buffer: Bytes, start: int, stride: int, count: int) -> Hashes:
    """The word that begins `start` bytes into each id."""
    return np.ndarray((count,), "<u8", buffer, offset=start, strides=(stride,))


def _absorb_tail(hashes: Hashes, words: Hashes) -> None:
    """Mix in the last, partial word of each id."""
    hashes ^= words
    hashes *= _M
