"""The registers of a sketch: what hashes are folded into.

Arrays of 16384 ranks, one byte each, live here, and the operations that need nothing else. A hash chooses
a register with its low 14 bits; its rank is one more than the number of zero bits that follow these.
A register holds the highest rank it was ever chosen with. Folding a hash and uniting two sketches are thus
both a maximum: they may be repeated, and done in any order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MAX_RANK",
    "PRECISION",
    "REGISTERS",
    "STEP",
    "Hashes",
    "Registers",
    "empty",
    "fold",
    "fold_each",
    "fold_one",
    "hashes_of",
    "histogram",
    "positions",
    "raise_at",
    "steps",
]

PRECISION = 14
"""p: bits of a hash that choose the register, as in Redis and Valkey."""

REGISTERS = 1 << PRECISION
"""m: registers of a sketch."""

MAX_RANK = 64 - PRECISION + 1
"""The rank of a hash whose 50 remaining bits are all zero."""

STEP = 20_480
"""Hashes handled together: the arrays of a step fit in the processor's second-level cache."""

Registers = NDArray[np.uint8]
"""Shape (16384,): the rank each register holds, 0 where it was never chosen."""

Hashes = NDArray[np.uint64]
"""Shape (n,): MurmurHash64A of ids, see :mod:`.hashing`."""

_SHIFT = np.uint64(PRECISION)
_INDEX = np.uint64(REGISTERS - 1)
_ONE = np.uint64(1)
_HIGHEST = _ONE << np.uint64(MAX_RANK - 1)  # a one for hashes that have no other


def empty() -> Registers:
    """The registers of an empty sketch."""
    return np.zeros(REGISTERS, np.uint8)


def positions(hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The register of each hash, and its rank; both of shape (n,)."""
    index = (hashes & _INDEX).view(np.int64)
    bits = hashes >> _SHIFT
    bits |= _HIGHEST
    # x ^ (x - 1) has ones up to and including the lowest one of x, as many as the rank.
    ones = bits - _ONE
    ones ^= bits
    return index, np.bitwise_count(ones)


def hashes_of(index: NDArray[np.integer], rank: NDArray[np.integer]) -> Hashes:
    """A hash that has this register and this rank, from 1 to 51, for each of shape (n,)."""
    return index.astype(np.uint64) | _ONE << (_SHIFT + rank.astype(np.uint64) - _ONE)


def fold(registers: Registers, hashes: Hashes) -> None:
    """Raise registers, in place, to the ranks of hashes.

    Args:
        registers: shape (16384,).
        hashes: shape (n,), of any n.
    """
    for index, rank in steps(hashes):
        raise_at(registers, index, rank)


def fold_each(
    registers: NDArray[np.uint8], hashes: Hashes, groups: NDArray[np.integer], rows: NDArray[np.int64]
) -> None:
    """:func:`fold` each hash into registers of its own.

    That takes no longer than folding all into the same. To sort them first takes twice as long for a few
    sketches, and ten times as long for a thousand.

    Args:
        registers: shape (sketches, 16384), contiguous.
        hashes: shape (n,), of any n.
        groups: shape (n,), of each hash.
        rows: shape (groups,), which registers the hashes of each group are folded into.
    """
    flat, begins = registers.reshape(-1), rows << PRECISION
    for start in range(0, len(hashes), STEP):
        index, rank = positions(hashes[start : start + STEP])
        index += begins.take(groups[start : start + STEP])
        raise_at(flat, index, rank)


def steps(hashes: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """The :func:`positions` of hashes, a step at a time."""
    for start in range(0, len(hashes), STEP):
        yield positions(hashes[start : start + STEP])


def raise_at(registers: Registers, index: NDArray[np.int64], rank: NDArray[np.uint8]) -> None:
    """Raise registers, in place, to ranks; of both any number, as :func:`positions` returns them."""
    # Once a sketch has seen some thousand ids, few hashes still raise a register; the others end here.
    raising = np.flatnonzero(rank > registers.take(index))
    np.maximum.at(registers, index[raising], rank[raising])


def fold_one(registers: Registers, hashed: int) -> None:
    """:func:`fold` for one hash, from 0 to 2^64 - 1."""
    index = hashed & (REGISTERS - 1)
    bits = hashed >> PRECISION | 1 << (MAX_RANK - 1)
    rank = (bits & -bits).bit_length()
    registers[index] = max(registers[index], rank)


def histogram(registers: Registers) -> NDArray[np.int64]:
    """How many registers hold each rank; shape (52,), from rank 0 to 51."""
    return np.bincount(registers, minlength=MAX_RANK + 1)
