"""JSON lines, a block at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import Any

import numpy as np

from ..columns import Coded, Texts
from ..ids import MAX_ID_BYTES
from .blocks import Block
from .coder import BAD, Coder
from .fast import Part, bucket_of
from .json_records import JsonRecord
from .layout import Layout
from .quarters import Moments, TextTimes

__all__ = ["JsonPath"]

_LARGEST = 2**63
_DECODER: Any = json.JSONDecoder()

_NO_ROW = (None, None, None)

Row = tuple[Any, ...]
"""The id, the time, and the bucket if there is a field for it."""


class JsonPath:
    """Reads blocks of JSON lines.

    Args:
        layout: names the fields.
        parse_time: the careful parser.
    """

    block_size = 1 << 18

    def __init__(self, layout: Layout, parse_time: Callable[[Any], datetime]) -> None:
        self.fields = [*layout.ids(JsonRecord.default_id), *layout.times(JsonRecord.default_time)]
        self._has_bucket = layout.bucket_field is not None
        if layout.bucket_field is not None:
            self.fields.append(layout.bucket_field)
        self._values = _values_of(self.fields)
        self._coder = Coder(bucket_of)
        self._times = TextTimes(layout.time_format, parse_time)

    def read(self, block: Block) -> Part:
        """Understand what is plain in a block."""
        rows = self._rows(block.text)
        ids = _encoded([row[0] for row in rows])
        moments = self._moments([row[1] for row in rows])
        plain = moments.plain & np.fromiter(map(bool, ids), np.bool_, len(ids))
        buckets = None
        if self._has_bucket:
            codes = self._coder.codes([row[2] if type(row[2]) is str else "" for row in rows])
            buckets = Coded(self._coder.values, codes)
            plain &= codes != BAD
        return Part(ids, buckets, moments.dates, plain)

    def _rows(self, text: bytes) -> list[Row]:
        """The values of each line's fields; of a line that is not plain none."""
        try:
            lines = text.decode().split("\n")
        except UnicodeDecodeError:
            lines = [_decoded(line) for line in text.split(b"\n")]
        lines.pop()  # behind the last line feed
        scan, values = _DECODER.scan_once, self._values
        rows: list[Row] = []
        for line in lines:
            try:
                record, end = scan(line, 0)
                rows.append(values(record) if end == len(line) or not line[end:].strip(" \t\r") else _NO_ROW)
            except (StopIteration, ValueError, LookupError, TypeError, RecursionError):
                rows.append(_NO_ROW)
        return rows

    def _moments(self, times: list[Any]) -> Moments:
        kinds = list(map(type, times))
        count = len(times)
        if kinds.count(str) == count:
            return self._of_texts(times)
        result = Moments(np.zeros(count, "datetime64[us]"), np.zeros(count, np.bool_))
        for kind, read in ((str, self._of_texts), (int, self._of_integers), (float, self._of_floats)):
            places = [place for place, found in enumerate(kinds) if found is kind]
            if places:
                result.dates[places], result.plain[places] = read([times[place] for place in places])
        return result

    def _of_texts(self, times: list[str]) -> Moments:
        return self._times.read(Texts.of([time.encode("utf-8", "replace") for time in times]))

    def _of_integers(self, times: list[int]) -> Moments:
        return self._times.read_numbers(
            np.array([time if -_LARGEST <= time < _LARGEST else -1 for time in times], np.int64)
        )

    def _of_floats(self, times: list[float]) -> Moments:
        return self._times.read_numbers(np.array(times, np.float64))


def _values_of(fields: list[str]) -> Callable[[Any], Row]:
    """What takes the values of fields from a record."""
    if any("." in field for field in fields):
        return lambda record: tuple(map(JsonRecord(record).value, fields))
    return itemgetter(*fields)


def _encoded(ids: list[Any]) -> list[bytes]:
    """The bytes of ids; none of one that is not plain."""
    try:
        encoded = list(map(str.encode, ids))
        if len(max(encoded, key=len, default=b"")) <= MAX_ID_BYTES:
            return encoded
    except (TypeError, UnicodeEncodeError):
        pass
    return list(map(_encoded_one, ids))


def _encoded_one(value: Any) -> bytes:
    if type(value) is int and -_LARGEST <= value < _LARGEST:
        return b"%d" % value
    try:
        encoded = value.encode() if type(value) is str else b""
    except UnicodeEncodeError:
        return b""
    return encoded if len(encoded) <= MAX_ID_BYTES else b""


def _decoded(line: bytes) -> str:
    """A line as text; none of one that is no UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return ""
