"""Columns of events as files and tables have them: texts that stay in their buffer, without an object each.

Readers of files and tables make these, :meth:`.ActivityTracker.import_events` takes them. Nothing is checked
here: what an id or a bucket may be is decided where they are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hll.hashing import SLACK
from .periods import QUARTER_S

__all__ = ["PER_SECOND", "Coded", "EventColumns", "Instants", "Texts", "as_python", "is_single", "times"]

_EPOCH = datetime(1970, 1, 1)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Of the units of numpy's datetimes that are finer than a minute."""


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts as they stand in a buffer.

    Attributes:
        buffer: shape (bytes,), contiguous. With SLACK bytes of any content after the last text, no part
            of it need be copied to be hashed.
        starts: shape (n,), where each text begins in the buffer.
        sizes: shape (n,), the bytes of each.
        adjoin: whether it is certain that each begins where the one before it ends.
    """

    buffer: NDArray[np.uint8]
    starts: NDArray[np.integer[Any]]
    sizes: NDArray[np.integer[Any]]
    adjoin: bool = False

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Texts:
        """The same as separate objects, put into a buffer.

        Args:
            texts: the objects.
        """
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        buffer = np.frombuffer(b"".join([*texts, bytes(SLACK)]), np.uint8)
        return cls(buffer, np.cumsum(sizes) - sizes, sizes, adjoin=True)

    def padded(self) -> Texts:
        """The same, with SLACK bytes after the last text: itself, if it has them."""
        if not len(self):
            return self
        last = self.starts[-1] if self.adjoin else self.starts.max()
        end = int(last) + int(self.sizes.max())  # or behind it
        if end + SLACK <= len(self.buffer):
            return self
        begin = int(self.starts[0] if self.adjoin else self.starts.min())
        padding = np.zeros(end - min(end, len(self.buffer)) + SLACK, np.uint8)
        buffer = np.concatenate([self.buffer[begin:end], padding])
        return Texts(buffer, self.starts - begin, self.sizes, self.adjoin)

    def distance(self) -> int:
        """From where a text begins to where the next one does, if that and sizes are equal; else 0."""
        if not len(self) or self.sizes.min() != self.sizes.max():
            return 0
        if self.adjoin or len(self) == 1:
            return int(self.sizes[0])
        distance = int(self.starts[1] - self.starts[0])
        return max(distance, 0) if (np.diff(self.starts) == distance).all() else 0

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.tolist())

    def __getitem__(self, part: slice | NDArray[Any] | Sequence[int]) -> Texts:
        adjoin = self.adjoin and isinstance(part, slice) and part.step in (None, 1)
        return Texts(self.buffer, self.starts[part], self.sizes[part], adjoin)

    def tolist(self) -> list[bytes]:
        """Each text as an object."""
        view = memoryview(self.buffer.data)
        ends = (self.starts + self.sizes).tolist()
        return [bytes(view[start:end]) for start, end in zip(self.starts.tolist(), ends, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Values that repeat.

    Attributes:
        values: the values, each at least once; who made them may add more at the end.
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
        values: Any = self.values
        if not isinstance(values, Sequence):
            values = as_python(values) if isinstance(values, np.ndarray) else values.tolist()
        return [values[code] for code in self.codes.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class Instants:
    """Moments that are certain, whatever the tracker's zone.

    Attributes:
        moments: shape (n,), datetime64 in UTC, of seconds or finer units down to nanoseconds.
    """

    moments: NDArray[np.datetime64]

    @classmethod
    def of_naive(cls, moments: NDArray[np.datetime64], zone: tzinfo) -> Instants:
        """The instants of naive times in a zone; of those that it has twice, the first.

        Args:
            moments: the times, as ``times()`` returns them; of seconds or a finer unit down to nanoseconds.
            zone: the zone.
        """
        values, per_second = moments.view(np.int64), PER_SECOND[np.datetime_data(moments.dtype)[0]]
        quarters, which = np.unique(values // (QUARTER_S * per_second), return_inverse=True)
        starts = (quarters * QUARTER_S).tolist()
        first = np.array([_offset(zone, start) for start in starts], np.int64)
        last = np.array([_offset(zone, start + QUARTER_S - 1) for start in starts], np.int64)
        offsets = first.take(which)
        for odd in np.flatnonzero((first != last).take(which)).tolist():
            offsets[odd] = _offset(zone, int(values[odd]) // per_second)
        return cls((values - offsets * per_second).view(moments.dtype))

    def __len__(self) -> int:
        return len(self.moments)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __getitem__(self, part: slice | NDArray[Any] | Sequence[int]) -> Instants:
        return Instants(self.moments[part])

    def tolist(self) -> list[Any]:
        """Each as an aware datetime; what is none as :func:`as_python` has it."""
        return [
            moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else moment
            for moment in as_python(self.moments)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Some events, as columns of equal length.

    Attributes:
        ids: the ids.
        buckets: the bucket of each event, or one for all: a name, or None for the unnamed one.
        dates: the time of each event, naive in the tracker's zone, or as instants; or one for all.
    """

    ids: Texts | Coded | NDArray[Any]
    buckets: Any
    dates: Any

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> Iterator[tuple[Any, Any, Any]]:
        """Each event as a tuple."""
        columns = (self.ids, self.buckets, self.dates)
        return zip(*(_listed(column, len(self)) for column in columns), strict=True)


def _offset(zone: tzinfo, second: int) -> int:
    """Seconds that a zone is ahead of UTC at a naive time, given in seconds since 1970."""
    try:
        offset = (_EPOCH + timedelta(seconds=second)).replace(tzinfo=zone).utcoffset()
    except OverflowError:  # such a year is refused later
        return 0
    return 0 if offset is None else round(offset.total_seconds())


def is_single(column: Any) -> bool:
    """Whether it is one value that stands for all events."""
    return column is None or isinstance(column, (str, date))


def _listed(column: Any, count: int) -> list[Any]:
    if is_single(column):
        return [column] * count
    if isinstance(column, np.ndarray):
        return as_python(column)
    return list(column)


def times(column: NDArray[np.datetime64] | Instants) -> Any:
    """Times whose bits are numbers of one unit, of this machine's byte order, to be computed with.

    Others, of several units at once as ``datetime64[25s]``, are objects: where single units run out of bits,
    numpy makes another time of them.
    """
    moments = column.moments if isinstance(column, Instants) else column
    if np.datetime_data(moments.dtype)[1] != 1:
        return column.tolist() if isinstance(column, Instants) else as_python(moments)
    moments = moments.astype(moments.dtype.newbyteorder("="), copy=False)
    return Instants(moments) if isinstance(column, Instants) else moments


def as_python(values: NDArray[Any]) -> list[Any]:
    """What there is in Python for numpy's values; a time that it does not have, or that is none, as it is."""
    if values.dtype.kind != "M":
        return list(values.tolist())
    # What is finer than microseconds would be plain numbers, too. Others cannot be converted before: what is
    # out of range then becomes another time, or an OverflowError, as the version of numpy may be.
    fine = np.datetime_data(values.dtype)[0] in ("ns", "ps", "fs", "as")
    listed = (values.astype("datetime64[us]") if fine else values).tolist()
    return [
        moment if isinstance(moment, date) else value for moment, value in zip(listed, values, strict=True)
    ]
