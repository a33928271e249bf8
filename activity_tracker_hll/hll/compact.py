"""Registers that take little memory while few are set: for a process that keeps those of many buckets.

What is set is kept as sorted numbers, 4 bytes each, until that is half of what all registers take.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .registers import (
    MAX_RANK,
    REGISTERS,
    Hashes,
    Registers,
    empty,
    hashes_of,
    raise_at,
    steps,
)

__all__ = ["MOST_PACKED", "CompactRegisters"]

MOST_PACKED = REGISTERS // 8
"""More than so many registers that are set are kept in an array of all."""

_RANK_BITS = np.uint32(MAX_RANK.bit_length())
_RANK = np.uint32(2 ** MAX_RANK.bit_length() - 1)

_Packed = NDArray[np.uint32]
"""Sorted; each is a register, shifted to the left, and its rank. No register is in it twice."""

_NOTHING: _Packed = np.empty(0, np.uint32)
_NOTHING.flags.writeable = False


class CompactRegisters:
    """Registers of one sketch, all 0 at first.

    Args:
        registers: shape (16384,); not kept.
    """

    __slots__ = ("_dense", "_packed")

    def __init__(self, registers: Registers | None = None) -> None:
        self._packed = _NOTHING
        self._dense: Registers | None = None
        if registers is not None:
            self._adopt(registers.copy())

    def __len__(self) -> int:
        """How many registers are set."""
        return len(self._packed) if self._dense is None else int(np.count_nonzero(self._dense))

    @classmethod
    def of(cls, registers: Registers) -> CompactRegisters:
        """Registers, shape (16384,), that nobody else may change from now on."""
        compact = cls()
        compact._adopt(registers)
        return compact

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return int(self._packed.nbytes if self._dense is None else self._dense.nbytes)

    def dense(self) -> Registers:
        """All registers, in an array that is the caller's."""
        if self._dense is not None:
            return self._dense.copy()
        registers = empty()
        registers[self._packed >> _RANK_BITS] = self._packed & _RANK
        return registers

    def hashes(self) -> Hashes:
        """A hash for each register that is set, which raises it to its rank and no other."""
        packed = self._packed if self._dense is None else _pack(self._dense, np.flatnonzero(self._dense))
        return hashes_of(packed >> _RANK_BITS, packed & _RANK)

    def copy(self) -> CompactRegisters:
        """Registers that change independently."""
        other = CompactRegisters()
        other._packed = self._packed  # never changed in place
        other._dense = None if self._dense is None else self._dense.copy()
        return other

    def fold(self, hashes: Hashes, known: Callable[[], Registers | None] | None = None) -> None:
        """Raise them to the ranks of hashes, shape (n,).

        Args:
            known: where there are many hashes, asked for registers that these may be raised to as well: a
                hash that raises none of them takes less time.
        """
        self._make_room(len(hashes), known)
        for index, rank in steps(hashes):
            self._raise_at(index, rank)

    def raise_at(self, index: NDArray[np.int64], rank: NDArray[np.uint8]) -> None:
        """Raise some to ranks; of both any number, as :func:`.positions` returns them."""
        self._make_room(len(index))
        self._raise_at(index, rank)

    def _raise_at(self, index: NDArray[np.int64], rank: NDArray[np.uint8]) -> None:
        if self._dense is not None:
            raise_at(self._dense, index, rank)
        else:
            self._packed = _highest(self._packed, index.astype(np.uint32) << _RANK_BITS | rank)

    def _make_room(self, more: int, known: Callable[[], Registers | None] | None = None) -> None:
        """Become dense if so many hashes would be too many to be packed."""
        if self._dense is not None or len(self._packed) + more <= MOST_PACKED:
            return
        self._dense, self._packed = self.dense(), _NOTHING
        raised = known() if known is not None else None
        if raised is not None:
            np.maximum(self._dense, raised, out=self._dense)

    def raise_to(self, other: CompactRegisters) -> None:
        """Raise each to the other's."""
        if self._dense is not None:
            other._raise(self._dense)
        elif other._dense is not None:
            dense = other._dense.copy()
            self._raise(dense)
            self._adopt(dense)
        else:
            self._packed = _highest(self._packed, other._packed)
            if len(self._packed) > MOST_PACKED:
                self._dense, self._packed = self.dense(), _NOTHING

    def above(self, other: CompactRegisters) -> CompactRegisters:
        """Those that are higher than the other's; 0 in place of the rest."""
        above = CompactRegisters()
        if self._dense is not None:
            above._adopt(np.where(self._dense > other.dense(), self._dense, np.uint8(0)))
        elif other._dense is not None:
            packed = self._packed
            above._packed = packed[(packed & _RANK) > other._dense.take(packed >> _RANK_BITS)]
        elif len(other._packed):
            # The first that is not less is the same register with no lower rank, or none has that.
            packed = self._packed
            found = other._packed.take(other._packed.searchsorted(packed), mode="clip")
            above._packed = packed[(found < packed) | (found > packed | _RANK)]
        else:
            above._packed = self._packed
        return above

    def _raise(self, dense: Registers) -> None:
        """Raise others, in place, to these."""
        if self._dense is not None:
            np.maximum(dense, self._dense, out=dense)
        else:
            index = self._packed >> _RANK_BITS
            dense[index] = np.maximum(dense.take(index), self._packed & _RANK)

    def _adopt(self, dense: Registers) -> None:
        """Become these, which nobody else may change."""
        if np.count_nonzero(dense) > MOST_PACKED:
            self._dense, self._packed = dense, _NOTHING
        else:
            self._dense, self._packed = None, _pack(dense, np.flatnonzero(dense))


def _pack(dense: Registers, index: NDArray[np.intp]) -> _Packed:
    return index.astype(np.uint32) << _RANK_BITS | dense.take(index)


def _highest(packed: _Packed, more: _Packed) -> _Packed:
    """All registers of both, each once, with its highest rank.

    Args:
        more: in any order, and of any number a register.
    """
    together = np.concatenate((packed, more))
    together.sort()
    index = together >> _RANK_BITS
    last = np.empty(len(together), np.bool_)
    last[-1:] = True
    np.not_equal(index[1:], index[:-1], out=last[:-1])
    return together[last]
