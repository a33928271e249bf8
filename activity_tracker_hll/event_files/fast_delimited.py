"""CSV and TSV, a block of lines at a time: numpy finds the separators, and texts stay where they are.

Lines whose quotes are not plain are left to the careful reader, and with them the lines that it takes for the
same record.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..coder import BAD, Coder
from ..columns import Coded, Texts
from ..hll.hashing import SLACK
from ..ids import MAX_ID_BYTES
from .blocks import Block
from .fast import Part, bucket_of
from .layout import Layout
from .quarters import TextTimes

__all__ = ["DelimitedPath"]

_LF, _CR, _QUOTE, _SPACE = b'\n\r" '
_SPACES = b" \t"
_LONGEST = 1 << 16
"""Longer lines are left to the careful reader, which bounds their fields."""

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


class DelimitedPath:
    """Reads blocks of delimited text, without the header.

    Args:
        layout: names the fields; its delimiter is ASCII.
        columns: the place of each field in a row, from 0.
        width: how many fields a row has at most; None = any number.
        parse_time: the careful parser.
    """

    block_size = 1 << 20

    def __init__(
        self,
        layout: Layout,
        columns: dict[str, int],
        width: int | None,
        parse_time: Callable[[Any], datetime],
    ) -> None:
        self.fields = list(columns)
        self._delimiter = ord(layout.delimiter or ",")
        [id], [time] = layout.ids("id"), layout.times(("time",))
        self._width = width
        self._id, self._time = columns[id], columns[time]
        self._bucket = None if layout.bucket_field is None else columns[layout.bucket_field]
        self._coder = Coder(bucket_of)
        self._times = TextTimes(layout.time_format, parse_time)

    def read(self, block: Block) -> Part:
        """Understand what is plain in a block."""
        rows = _Rows(block.text, self._delimiter)
        plain = rows.plain
        if self._width is not None:
            plain &= rows.widths <= self._width
        ids = rows.texts(self._id, plain)
        plain &= (ids.sizes > 0) & (ids.sizes <= MAX_ID_BYTES)
        moments = self._times.read(rows.texts(self._time, plain))
        plain &= moments.plain
        buckets = None
        if self._bucket is not None:
            codes = self._coder.codes_of_texts(rows.texts(self._bucket, plain))
            buckets = Coded(self._coder.values, codes)
            plain &= codes != BAD
        return Part(ids, buckets, moments.dates, plain)


class _Rows:
    """The rows of a block.

    Attributes:
        plain: which lines are rows whose fields are plain.
        widths: how many fields each has.
    """

    def __init__(self, text: bytes, delimiter: int) -> None:
        self._delimiter = delimiter
        self._buffer = np.frombuffer(text + bytes(SLACK), np.uint8)
        chars = self._buffer[: len(text)]
        is_line_end = chars == _LF
        is_end = chars == delimiter
        is_end |= is_line_end
        self._field_ends = np.flatnonzero(is_end)
        is_last = is_line_end.take(self._field_ends)
        line_ends = self._field_ends[is_last]
        self._line_starts = _after(line_ends)
        self.plain: Flags = line_ends - self._line_starts <= _LONGEST
        self._has_quotes = b'"' in text
        if self._has_quotes:
            quotes = np.flatnonzero(chars == _QUOTE)
            in_quotes = self._check_quotes(quotes, line_ends, delimiter)
            kept = ~in_quotes | is_last
            self._field_ends, is_last = self._field_ends[kept], is_last[kept]
        self._lasts = np.flatnonzero(is_last)
        self._firsts = _after(self._lasts)
        self.widths = self._lasts - self._firsts + 1
        # Where the text of each line ends; nothing else may contain a carriage return.
        self._text_ends = line_ends
        if b"\r" in text:
            returns = np.flatnonzero(chars == _CR)
            self.plain[np.searchsorted(line_ends, returns[chars.take(returns + 1) != _LF])] = False
            self._text_ends = line_ends - (self._buffer.take(line_ends - 1) == _CR)
        self.plain &= self._text_ends > self._line_starts

    def _check_quotes(self, quotes: Places, line_ends: Places, delimiter: int) -> Flags:
        """Check that quotes enclose whole fields; returns which delimiters are within quotes."""
        lines = np.searchsorted(line_ends, quotes)
        before = np.searchsorted(quotes, self._line_starts)  # quotes before each line
        counts = np.diff(np.append(before, len(quotes)))
        opens = (np.arange(len(quotes)) - before.take(lines)) % 2 == 0
        neighbours = self._buffer.take(np.where(opens, quotes - 1, quotes + 1))
        fits = (neighbours == delimiter) | (neighbours == _LF)
        fits |= np.where(opens, quotes == self._line_starts.take(lines), neighbours == _CR)
        self.plain[lines[~fits]] = False
        self.plain &= counts % 2 == 0
        ends = np.searchsorted(quotes, self._field_ends)
        in_quotes: Flags = (ends - before.take(np.searchsorted(line_ends, self._field_ends))) % 2 == 1
        return in_quotes

    def texts(self, column: int, plain: Flags) -> Texts:
        """A column; lines that are too short for it are no longer plain, and of any text."""
        ends = self._firsts + column
        is_last = ends >= self._lasts
        np.logical_and(plain, ends <= self._lasts, out=plain)
        ends = np.minimum(ends, self._lasts)
        stops = np.where(is_last, self._text_ends, self._field_ends.take(ends))
        starts = self._line_starts
        if column:
            starts = np.where(plain, self._field_ends.take(ends - 1) + 1, 0)
        sizes = np.where(plain, stops - starts, 0)
        if self._delimiter not in _SPACES:  # what follows a delimiter is left out, as by the csv module
            has_space = (self._buffer.take(starts) == _SPACE) & (sizes > 0)
            if has_space.any():
                starts = starts + has_space
                sizes -= has_space
                plain &= ~has_space | (self._buffer.take(starts) != _SPACE)
        if self._has_quotes:
            is_quoted = (self._buffer.take(starts) == _QUOTE) & (sizes >= 2)
            starts = starts + is_quoted
            sizes -= 2 * is_quoted
        return Texts(self._buffer, starts, sizes)


def _after(places: Places) -> Places:
    """Where each begins that ends at a place: behind the one before."""
    starts = np.empty_like(places)
    starts[:1] = 0
    np.add(places[:-1], 1, out=starts[1:])
    return starts
