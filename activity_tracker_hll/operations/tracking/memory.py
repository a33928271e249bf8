"""Memory for arrays that are kept until they are sent, and used again for the next ones.

The system hands out new memory page by page, and clears each page: for arrays that are written once and read
once, that takes as long as both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Memory"]

_SMALL = 1 << 17
"""Bytes; what is smaller the C library has at hand."""

_ALIGNMENT = 64  # bytes, of a line of the processor's cache

_SIZE = 24 << 20
"""Bytes; not taken from the system before they are written to."""


class Memory:
    """Makes arrays, all of which are given up at once; those that there is no room for as others are made."""

    def __init__(self) -> None:
        self._block: NDArray[np.uint8] | None = None
        self._used = 0

    def empty(self, count: int, kind: DTypeLike) -> NDArray[Any]:
        """An array of shape (count,) and any type, of any content."""
        dtype = np.dtype(kind)
        size = count * dtype.itemsize
        # References to objects have to be counted, so they cannot be written over.
        if size < _SMALL or self._used + size > _SIZE or dtype.hasobject:
            return np.empty(count, dtype)
        if self._block is None:
            self._block = np.empty(_SIZE, np.uint8)
        array = self._block[self._used : self._used + size].view(dtype)
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return array

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy of an array of shape (n,)."""
        copied = self.empty(len(array), array.dtype)
        copied[:] = array
        return copied

    def clear(self) -> None:
        """Give up all arrays that were made: they are written over."""
        self._used = 0
