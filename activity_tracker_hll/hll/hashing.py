"""MurmurHash64A as Redis and Valkey use it: of one id, and of many at once.

Bytes in, hashes out; nothing here knows where ids come from or what registers are. The many are
taken 8 bytes of each at a time, so that every step is one numpy operation over all ids.

Source: Austin Appleby's MurmurHash2 (public domain), 64-bit version for 64-bit machines, read as
little endian; the seed is the server's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .registers import Hashes

__all__ = ["SLACK", "Hasher", "hash_one"]

SLACK = 32
"""Bytes, of any content, that must follow the last id in a buffer: it is read in blocks."""

_SEED = 0xADC83B19
_MULTIPLIER = 0xC6A4A7935BD1E995
_MASK = 2**64 - 1
_WORD = 8
_BLOCK = SLACK

_M = np.uint64(_MULTIPLIER)
_R = np.uint64(47)
# Keeps the low bytes of a word: the first i of eight.
_LOW_BYTES = np.array([2 ** (8 * count) - 1 for count in range(_WORD)], np.uint64)

_DIGIT = np.arange(10, dtype=np.uint64) + ord("0")
# The text of the numbers below 10^4, four digits each, in the lower and in the upper half of a word.
_FOUR_DIGITS = (
    _DIGIT[:, None, None, None]
    | _DIGIT[:, None, None] << np.uint64(8)
    | _DIGIT[:, None] << np.uint64(16)
    | _DIGIT << np.uint64(24)
).ravel()
_FOUR_DIGITS_ABOVE = _FOUR_DIGITS << np.uint64(32)

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


def hash_one(data: bytes) -> int:
    """The hash of one id, from 0 to 2^64 - 1."""
    size = len(data)
    hashed = _SEED ^ (size * _MULTIPLIER & _MASK)
    whole = size - size % _WORD
    for start in range(0, whole, _WORD):
        word = int.from_bytes(data[start : start + _WORD], "little") * _MULTIPLIER & _MASK
        word = (word ^ (word >> 47)) * _MULTIPLIER & _MASK
        hashed = (hashed ^ word) * _MULTIPLIER & _MASK
    if whole < size:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    hashed = (hashed ^ (hashed >> 47)) * _MULTIPLIER & _MASK
    return hashed ^ (hashed >> 47)


class Hasher:
    """Hashes batches of ids, in memory that is kept from one batch to the next.

    The memory matters: fresh arrays of this size come from the system page by page, which takes
    longer than the hashing. What a method returns is overwritten by the next call.

    Args:
        capacity: most ids in a batch.
    """

    def __init__(self, capacity: int) -> None:
        self._hashes, self._sorted, self._words, self._spare = np.empty((4, capacity), np.uint64)

    def equal(self, buffer: Bytes, count: int, size: int, stride: int) -> Hashes:
        """Hashes of ids of equal size that stand at equal distances.

        Args:
            buffer: contiguous; holds id i at i * stride; if ids are shorter than 8 bytes, with as
                many bytes after the last one.
            count: how many ids.
            size: bytes of each.
            stride: bytes from one to the next.
        """
        hashes, words = self._begin(count, size), self._words[:count]
        for start in range(0, size - size % _WORD, _WORD):
            self._absorb(hashes, _words(buffer, start, stride, count))
        rest = size % _WORD
        if rest and size > _WORD:
            # The last word of each id reaches back into what was absorbed: shift that out.
            last = _words(buffer, size - _WORD, stride, count)
            _absorb_rest(hashes, np.right_shift(last, np.uint64(8 * (_WORD - rest)), out=words))
        elif rest:
            first = _words(buffer, 0, stride, count)
            _absorb_rest(hashes, np.bitwise_and(first, _LOW_BYTES[rest], out=words))
        return self._finished(hashes)

    def ragged(self, buffer: Bytes, starts: Places, sizes: Places) -> Hashes:
        """Hashes of ids of different sizes.

        Args:
            buffer: contiguous, with SLACK bytes after the last id.
            starts: shape (n,), where each id begins.
            sizes: shape (n,), bytes of each, below 65,536.
        """
        # From the longest to the shortest: those that have a word at all, and those that have all of it,
        # are the first so many. A sort of 16-bit numbers is a radix sort.
        short = sizes.astype(np.uint16)
        longest = int(short.max(initial=0))
        order = np.argsort(longest - short, kind="stable")
        places, short = starts.take(order), short.take(order)
        # How many have 1 byte or more, 9 or more, ...; then 8 or more, 16 or more, ...
        words = np.arange(0, longest, _WORD)
        begun, whole = (
            (len(short) - np.searchsorted(short[::-1], words + least)).tolist() for least in (1, _WORD)
        )
        hashes = np.multiply(short, _M, out=self._sorted[: len(short)])
        hashes ^= np.uint64(_SEED)
        rest = _LOW_BYTES.take(short & np.uint16(_WORD - 1))
        blocks = np.ndarray((len(buffer) - _BLOCK + 1,), f"V{_BLOCK}", buffer, strides=(1,))
        for word, (some, all_of_it) in enumerate(zip(begun, whole, strict=True)):
            column = word % (_BLOCK // _WORD)
            if not column:
                # Fetching several words of an id takes hardly longer than fetching one.
                block = blocks[places[:some]].view("<u8").reshape(some, -1)
                places += _BLOCK
            self._absorb(hashes[:all_of_it], block[:all_of_it, column])
            last = slice(all_of_it, some)
            _absorb_rest(hashes[last], block[last, column] & rest[last])
        result = self._hashes[: len(short)]
        result[order] = hashes
        return self._finished(result)

    def decimals(self, numbers: Hashes) -> Hashes:
        """Hashes of the decimal text of numbers, shape (n,)."""
        length = len(str(numbers.max(initial=0)))
        shorter = np.flatnonzero(numbers < np.uint64(10 ** (length - 1))) if length > 1 else ()
        if not len(shorter):
            return self._of_digits(numbers, length)
        # Mostly nine of ten have as many digits as the longest: all are taken for such, the few are mended.
        result = self._of_digits(numbers, length).copy()
        result[shorter] = self.decimals(numbers[shorter])
        return result

    def _of_digits(self, numbers: Hashes, length: int) -> Hashes:
        """Hashes of numbers that all have so many digits."""
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
            _absorb_rest(hashes, words)
        return self._finished(hashes)

    def _text(self, numbers: Hashes, length: int) -> Hashes:
        """Numbers of so many digits, up to 8, as text in the bytes of a word."""
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
        """Take in a whole word of each id."""
        words = np.multiply(source, _M, out=self._words[: len(source)])
        words ^= np.right_shift(words, _R, out=self._spare[: len(words)])
        words *= _M
        hashes ^= words
        hashes *= _M

    def _finished(self, hashes: Hashes) -> Hashes:
        shifted = self._words[: len(hashes)]
        hashes ^= np.right_shift(hashes, _R, out=shifted)
        hashes *= _M
        hashes ^= np.right_shift(hashes, _R, out=shifted)
        return hashes


def _words(buffer: Bytes, start: int, stride: int, count: int) -> Hashes:
    """The word that begins so many bytes after the beginning of each id."""
    return np.ndarray((count,), "<u8", buffer, offset=start, strides=(stride,))


def _absorb_rest(hashes: Hashes, words: Hashes) -> None:
    """Take in the last, partial word."""
    hashes ^= words
    hashes *= _M
