"""From lines to events: access logs, delimited text, JSON lines. Pure: no files, no click, no server.

What is read is not altered: bytes of an id that are no UTF-8 are counted as these bytes. A line
that makes no valid event is counted as bad and never ends the reading; a field that the whole file
lacks does (:class:`FieldError`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from ..errors import ActivityTrackerError
from ..ids import IdEncoder
from ..keys import check_bucket
from ..periods import Calendar
from .lines import Lines, printable
from .logs import LogParser, is_log, log_value
from .timestamps import BadMomentError, moment_parser

__all__ = ["FORMATS", "Event", "FieldError", "Layout", "detect", "read"]

FORMATS = ("auto", "log", "csv", "tsv", "whitespace", "jsonl")

Event = tuple[bytes, str | None, datetime]
_Raw = tuple[Any, Any, Any]
"""id, bucket and time as they stand in a line"""

_EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_DELIMITERS = {"csv": ",", "tsv": "\t", "whitespace": None}
_LINES_TO_DETECT = 5
_LINES_OF_A_RECORD = 10
_OPEN_QUOTE = "a quote is opened and not closed"
_NAMES_SHOWN = 500


class FieldError(ValueError):
    """A field was asked for that the file does not have."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a file.

    Attributes:
        format: one of :data:`FORMATS`.
        id, time: fields; None = those a log has, or the ones called "id" and "time".
        bucket_field: field that holds the bucket; None = every event is in `bucket`.
        bucket: name of a bucket, or None for the unnamed one.
        time_format: see :func:`.moments.moment_parser`.
        header: whether the first line of delimited text names the fields; None = find out.
        delimiter: of CSV; None = a comma.
        log_format: see :class:`.logs.LogParser`.
    """

    format: str = "auto"
    id: str | None = None
    time: str | None = None
    bucket_field: str | None = None
    bucket: str | None = None
    time_format: str = "iso"
    header: bool | None = None
    delimiter: str | None = None
    log_format: str | None = None

    def fields(self, id: str, time: str) -> list[str | None]:
        """The fields of id, bucket and time, with defaults."""
        return [self.id or id, self.bucket_field, self.time or time]


def read(lines: Lines, layout: Layout, calendar: Calendar, *, hourly: bool = False) -> Iterator[Event]:
    """The valid events of a file, with naive moments in the calendar's zone.

    Args:
        hourly: whether a time of day is needed.

    Raises:
        FieldError: the file does not have a field at all.
    """
    format = layout.format
    if format == "auto":
        format = detect(lines.name, lines.peek(_LINES_TO_DETECT))
    moment = moment_parser(layout.time_format, calendar, hourly=hourly)
    encode = IdEncoder().one
    check_bucket(layout.bucket)
    for id, bucket, time in _raw_events(format, lines, layout, moment):
        try:
            event = encode(id), _bucket(bucket) if layout.bucket_field else layout.bucket, moment(time)
        except (ActivityTrackerError, BadMomentError) as error:
            lines.reject(str(error))
        else:
            yield event


def detect(name: str, head: list[bytes]) -> str:
    """The format of a file, by its name or else its first lines."""
    stem = name.lower().removesuffix(".gz")
    for extension, format in _EXTENSIONS.items():
        if stem.endswith(extension):
            return format
    filled = [line for line in head if line.strip()]
    if any(is_log(line) for line in filled):
        return "log"
    first = filled[0] if filled else b""
    if first.lstrip().startswith(b"{"):
        return "jsonl"
    return "tsv" if b"\t" in first else "csv" if b"," in first else "whitespace"


def _raw_events(
    format: str, lines: Lines, layout: Layout, moment: Callable[[Any], datetime]
) -> Iterator[_Raw]:
    if format == "log":
        return _from_log(lines, layout)
    if format == "jsonl":
        return _from_json(lines, layout)
    delimiter = layout.delimiter or _DELIMITERS[format]
    return _from_rows(_rows(lines, delimiter), lines, layout, moment)


# Access logs


def _from_log(lines: Lines, layout: Layout) -> Iterator[_Raw]:
    parser = LogParser(layout.log_format)
    fields = layout.fields("remote_host", "request_time")
    for line in lines:
        if not line.strip():
            continue
        try:
            entry = parser.parse(line)
            id, bucket, time = (None if field is None else log_value(entry, field) for field in fields)
        except ValueError as error:
            lines.reject(str(error))
        except KeyError:
            has = ", ".join(parser.fields(entry))
            raise FieldError(
                f"no field {_missing_of(fields, entry)!r} in this log, which has: {has}"
            ) from None
        else:
            yield id, bucket, time


def _missing_of(fields: list[str | None], entry: Any) -> str:
    for field in fields:
        try:
            log_value(entry, field or "remote_host")
        except KeyError:
            return str(field)
    return ""


# JSON lines


def _from_json(lines: Lines, layout: Layout) -> Iterator[_Raw]:
    fields = layout.fields("id", "time")
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            id, bucket, time = (None if field is None else _json_value(record, field) for field in fields)
        except (ValueError, RecursionError) as error:
            lines.reject(str(error))
        else:
            yield id, bucket, time


def _json_value(record: Any, field: str) -> Any:
    """A key's value; dots lead into nested objects, unless the key itself has them."""
    if isinstance(record, dict) and field in record:
        return record[field]
    value = record
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            raise ValueError(f"no field {field!r}")
        value = value[key]
    return value


# Delimited text


def _rows(lines: Lines, delimiter: str | None) -> Iterator[list[Any]]:
    """Rows of fields: str of CSV, with bytes that are no UTF-8 escaped; bytes of whitespace-separated."""
    if delimiter is None:
        return (row for row in map(bytes.split, lines) if row)
    return _csv_rows(lines, delimiter)


class _OpenQuoteError(Exception):
    """A quote was opened and is not closed within the lines of a record."""


def _csv_rows(lines: Lines, delimiter: str) -> Iterator[list[str]]:
    """Records of CSV; a bad one costs its first line only, and the next is read as if it began there."""
    taken: list[tuple[int, bytes]] = []  # the lines of the record at hand
    width = None
    reader = csv.reader(_record(lines, taken), delimiter=delimiter)
    while True:
        taken.clear()
        try:
            row = next(reader, None)
            if row is not None and len(taken) > 1:
                _check_record(row, taken, delimiter, width)
        except (_OpenQuoteError, csv.Error) as error:
            lines.number = taken[0][0]
            lines.reject(str(error))
            lines.put_back(taken[1:])
            # A generator that raised has ended.
            reader = csv.reader(_record(lines, taken), delimiter=delimiter)
            continue
        if row is None:
            return
        if row:
            width = width or len(row)
            lines.number = taken[0][0]
            yield row


def _record(lines: Lines, taken: list[tuple[int, bytes]]) -> Iterator[str]:
    """Lines for a csv.reader, which asks for another one within a record only inside quotes."""
    for line in lines:
        taken.append((lines.number, line))
        if len(taken) > _LINES_OF_A_RECORD:
            break
        yield line.decode("utf-8", "surrogateescape")
    if taken:
        raise _OpenQuoteError(_OPEN_QUOTE)


def _check_record(row: list[str], taken: list[tuple[int, bytes]], delimiter: str, width: int | None) -> None:
    """Tell a record of several lines from a stray quote that a later line's quote seems to close.

    There the "closing" quote is one that opens: text follows it, or the fields are not as many as elsewhere.
    """
    text = [line.decode("utf-8", "surrogateescape") for _, line in taken]
    try:
        next(csv.reader(text, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise _OpenQuoteError(_OPEN_QUOTE) from error
    if width is not None and len(row) != width:
        raise _OpenQuoteError(_OPEN_QUOTE)


def _from_rows(
    rows: Iterator[list[Any]], lines: Lines, layout: Layout, moment: Callable[[Any], datetime]
) -> Iterator[_Raw]:
    first = next(rows, None)
    if first is None:
        return
    fields = layout.fields("id", "time")
    has_header = _is_header(first, fields, moment) if layout.header is None else layout.header
    names = [_text(cell).strip() for cell in first] if has_header else None
    places = [None if field is None else _place(field, names) for field in fields]
    for row in rows if has_header else chain([first], rows):
        try:
            id, bucket, time = (None if place is None else row[place] for place in places)
        except IndexError:
            lines.reject(f"only {len(row)} fields: {row!r:.80}")
        else:
            yield _bytes(id or ""), bucket, time


def _is_header(row: list[Any], fields: list[str | None], moment: Callable[[Any], datetime]) -> bool:
    """Fields asked for by name need one; else a line whose time is none is taken for a header."""
    if any(field is not None and not field.isdecimal() for field in fields):
        return True
    try:
        moment(row[int(fields[-1] or 0) - 1])
    except (BadMomentError, ActivityTrackerError, IndexError):
        return True
    return False


def _place(field: str, names: list[str] | None) -> int:
    if names is not None and field in names:
        return names.index(field)
    if field.isdecimal() and int(field) > 0:
        return int(field) - 1
    if names is None:
        raise FieldError(f"field {field!r} needs a header; without one, give the number of its column")
    has = printable(", ".join(names))
    has = has if len(has) <= _NAMES_SHOWN else f"{has[:_NAMES_SHOWN]}..."
    raise FieldError(f"no field {field!r} in the header, which has: {has}")


# Values


def _bucket(value: Any) -> str | None:
    """The bucket in a field, which has to be there."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    elif isinstance(value, bytes):
        value = _text(value)  # what is no UTF-8 the library's check refuses, as anything else
    return check_bucket("" if value is None else value)


def _text(cell: str | bytes) -> str:
    return cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else cell


def _bytes(cell: str | bytes) -> bytes:
    return cell.encode("utf-8", "surrogateescape") if isinstance(cell, str) else cell
