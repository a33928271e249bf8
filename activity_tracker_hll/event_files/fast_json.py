"""JSON lines, a block at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np

from ..coder import BAD, Coder
from ..columns import Coded, Texts
from ..hll.hashing import SLACK
from ..ids import MAX_ID_BYTES
from .blocks import Block
from .fast import Part, bucket_of
from .json_records import MOST_NESTED, JsonRecord, is_too_deep
from .layout import Layout
from .quarters import Moments, TextTimes

__all__ = ["JsonPath"]

_LARGEST = 2**63
_DECODER: Any = json.JSONDecoder()

Row = tuple[Any, ...]
"""The id, the time, and the bucket if there is a field for it."""


class JsonPath:
    """Reads blocks of JSON lines.

    Args:
        layout: names the fields.
        parse_time: the careful parser.
    """

    block_size = 1 << 20

    def __init__(self, layout: Layout, parse_time: Callable[[Any], datetime]) -> None:
        self.fields = [*layout.ids(JsonRecord.default_id), *layout.times(JsonRecord.default_time)]
        if layout.bucket_field is not None:
            self.fields.append(layout.bucket_field)
        self._has_bucket = layout.bucket_field is not None
        self._rows = _rows_by_msgspec(self.fields) or _rows_by_json(self.fields)
        self._coder = Coder(bucket_of)
        self._times = TextTimes(layout.time_format, parse_time)

    def read(self, block: Block) -> Part:
        """Understand what is plain in a block."""
        rows = self._rows(block.text)
        ids = _ids([row[0] for row in rows])
        moments = self._moments([row[1] for row in rows])
        plain = moments.plain & (ids.sizes > 0) & (ids.sizes <= MAX_ID_BYTES)
        buckets = None
        if self._has_bucket:
            values = [row[2] for row in rows]
            codes = self._coder.codes(values if _are_texts(values) else _only_texts(values))
            buckets = Coded(self._coder.values, codes)
            plain &= codes != BAD
        # What is nested too deep is longer, so that few lines are looked at.
        for place in np.flatnonzero(np.diff(block.ends, prepend=-1) > 2 * MOST_NESTED).tolist():
            plain[place] &= not is_too_deep(block.line(place))
        return Part(ids, buckets, moments.dates, plain)

    def _moments(self, times: list[Any]) -> Moments:
        if _are_texts(times):
            return self._of_texts(times)
        result = Moments(np.zeros(len(times), "datetime64[us]"), np.zeros(len(times), np.bool_))
        kinds = list(map(type, times))
        for kind, read in ((str, self._of_texts), (int, self._of_integers), (float, self._of_floats)):
            places = [place for place, found in enumerate(kinds) if found is kind]
            if places:
                result.dates[places], result.plain[places] = read([times[place] for place in places])
        return result

    def _of_texts(self, times: list[str]) -> Moments:
        return self._times.read(_texts(times))

    def _of_integers(self, times: list[int]) -> Moments:
        return self._times.read_numbers(
            np.array([time if -_LARGEST <= time < _LARGEST else -1 for time in times], np.int64)
        )

    def _of_floats(self, times: list[float]) -> Moments:
        return self._times.read_numbers(np.array(times, np.float64))


# The values of each line's fields; empty texts of a line that is not plain.


def _rows_by_json(fields: list[str]) -> Callable[[bytes], list[Row]]:
    values: Callable[[Any], Row] = itemgetter(*fields)
    if any("." in field for field in fields):
        values = lambda record: tuple(map(JsonRecord(record).value, fields))  # noqa: E731
    nothing = ("",) * len(fields)
    scan = _DECODER.scan_once

    def rows(text: bytes) -> list[Row]:
        try:
            lines = text.decode().split("\n")
        except UnicodeDecodeError:
            lines = [_decoded(line) for line in text.split(b"\n")]
        lines.pop()  # behind the last line feed
        found: list[Row] = []
        for line in lines:
            try:
                record, end = scan(line, 0)
                is_all = end == len(line) or not line[end:].strip(" \t\r")
                found.append(values(record) if is_all else nothing)
            except (StopIteration, ValueError, LookupError, TypeError, RecursionError):
                found.append(nothing)
        return found

    return rows


def _rows_by_msgspec(fields: list[str]) -> Callable[[bytes], list[Row]] | None:
    """The same by a package that makes objects of these fields alone; None without it.

    Also None of fields that it does not take: nested ones, one twice, one with a quote or such in its name.
    """
    if any("." in field for field in fields):
        return None
    try:
        import msgspec  # noqa: PLC0415 (an extra)
    except ImportError:
        return None
    names = [f"field_{place}" for place in range(len(fields))]
    renamed = dict(zip(names, fields, strict=True))
    try:
        record = msgspec.defstruct("Record", [(name, Any) for name in names], rename=renamed)
    except ValueError:
        return None
    decode = msgspec.json.Decoder(record).decode
    values = attrgetter(*names)
    nothing = ("",) * len(fields)

    def rows(text: bytes) -> list[Row]:
        lines = text.split(b"\n")
        lines.pop()  # behind the last line feed
        try:
            text.decode()
        except UnicodeDecodeError:  # which it overlooks in what it passes over
            lines = [_decoded(line).encode() for line in lines]
        found: list[Row] = []
        for line in lines:
            try:
                found.append(values(decode(line)))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                found.append(nothing)
        return found

    return rows


def _decoded(line: bytes) -> str:
    """A line as text; none of one that is no UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return ""


# Columns


def _are_texts(values: list[Any]) -> bool:
    try:
        "".join(values)
    except TypeError:
        return False
    return True


def _only_texts(values: list[Any]) -> list[str]:
    return [value if type(value) is str else "" for value in values]


def _texts(values: list[str]) -> Texts:
    joined = "".join(values)
    if not joined.isascii():
        return Texts.of([value.encode("utf-8", "replace") for value in values])
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    return Texts(
        np.frombuffer(joined.encode() + bytes(SLACK), np.uint8), np.cumsum(sizes) - sizes, sizes, adjoin=True
    )


def _ids(values: list[Any]) -> Texts:
    """The bytes of ids; none of one that is not plain."""
    try:
        "".join(values).encode()
    except (TypeError, UnicodeEncodeError):
        return Texts.of(list(map(_encoded, values)))
    return _texts(values)


def _encoded(value: Any) -> bytes:
    if type(value) is int and -_LARGEST <= value < _LARGEST:
        return b"%d" % value
    try:
        return value.encode() if type(value) is str else b""
    except UnicodeEncodeError:
        return b""
