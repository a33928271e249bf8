"""Columns of events as files and tables have them: texts that stay in their buffer, without an object each.

Readers of files and tables make these, :meth:`.ActivityTracker.import_events` takes them. Nothing is checked
here: what an id or a bucket may be is decided where they are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hll.hashing import SLACK

__all__ = ["Coded", "EventColumns", "Texts"]


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts as they stand in a buffer.

    Attributes:
        buffer: shape (bytes,), contiguous, with at least SLACK bytes of any content after the last text.
        starts: shape (n,), where each text begins in the buffer.
        sizes: shape (n,), the bytes of each.
    """

    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Texts:
        """The same as separate objects, put into a buffer."""
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        buffer = np.frombuffer(b"".join([*texts, bytes(SLACK)]), np.uint8)
        return cls(buffer, np.cumsum(sizes) - sizes, sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.tolist())

    def __getitem__(self, part: slice | NDArray[Any] | Sequence[int]) -> Texts:
        return Texts(self.buffer, self.starts[part], self.sizes[part])

    def tolist(self) -> list[bytes]:
        """Each text as an object."""
        view = memoryview(self.buffer.data)
        ends = (self.starts + self.sizes).tolist()
        return [bytes(view[start:end]) for start, end in zip(self.starts.tolist(), ends, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Values that repeat.

    Attributes:
        values: the values, each at least once.
        codes: shape (n,), the place in them of each event's value.
    """

    values: Sequence[Any] | Texts | NDArray[Any]
    codes: NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __getitem__(self, part: slice | NDArray[Any] | Sequence[int]) -> Coded:
        return Coded(self.values, self.codes[part])

    def tolist(self) -> list[Any]:
        """The value of each event."""
        values = self.values if isinstance(self.values, Sequence) else self.values.tolist()
        return [values[code] for code in self.codes.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Some events, as columns of equal length.

    Attributes:
        ids: the ids.
        buckets: the bucket of each event, or one for all: a name, or None for the unnamed one.
        dates: the time of each event, naive in the tracker's zone; or one for all.
    """

    ids: Texts | Coded | NDArray[Any]
    buckets: Any
    dates: Any

    def __len__(self) -> int:
        return len(self.ids)
