"""From lines to events: access logs, delimited text, JSON lines. Pure: no files, no click, no server.

Ids are not altered: bytes that are not UTF-8 are counted as these bytes. A line that is not a valid event
is recorded as bad, and reading goes on; a field that the file does not have at all is a :class:`FieldError`.
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
from .timestamps import BadTimestampError, timestamp_parser

__all__ = [
    "FORMATS",
    "Event",
    "FieldError",
    "Layout",
    "LayoutError",
    "TimeFormatError",
    "detect",
    "read",
]

FORMATS = ("auto", "log", "csv", "tsv", "whitespace", "jsonl")

Event = tuple[bytes, str | None, datetime]
_Raw = tuple[Any, Any, Any]
"""The id, bucket and time of a line, not yet checked or converted."""

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
_MISFITS = 1000
_OPEN_QUOTE = "a quote is opened and not closed"
_NAMES_SHOWN = 500
_LINE_SHOWN = 200


class LayoutError(ValueError):
    """The file is not laid out as was said."""


class FieldError(LayoutError):
    """The file does not have a field that was asked for."""


class TimeFormatError(LayoutError):
    """No time in the file has the format that was said."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a file.

    Attributes:
        format: one of :data:`FORMATS`.
        id: the field with the id; None = the client of a log, else "id".
        time: the field with the time; None = the time of a log, else "time".
        bucket_field: the field with the bucket; None = every event is in `bucket`.
        bucket: the name of a bucket, or None for the unnamed one.
        time_format: see :func:`.timestamps.timestamp_parser`.
        header: whether the first line of delimited text names the fields; None = detect.
        delimiter: the delimiter of CSV; None = a comma.
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
    """The valid events of a file, with naive datetimes in the calendar's zone.

    Args:
        lines: the file's lines; bad ones are recorded there.
        layout: how to read the file.
        calendar: has the zone.
        hourly: whether a time of day is required.

    Raises:
        FieldError: the file does not have a field at all.
        TimeFormatError: no time in it has the format, or none of so many that the others are no better.
    """
    format = layout.format
    if format == "auto":
        format = detect(lines.name, lines.peek(_LINES_TO_DETECT))
    parse_time = timestamp_parser(layout.time_format, calendar, hourly=hourly)
    encode = IdEncoder().one
    check_bucket(layout.bucket)
    misfits: list[str] = []  # as long as no time fits
    fits = False
    for id, bucket, time in _raw_events(format, lines, layout, parse_time):
        try:
            event = encode(id), _bucket(bucket) if layout.bucket_field else layout.bucket, parse_time(time)
        except BadTimestampError as error:
            lines.reject(str(error))
            if not fits:
                misfits.append(f"line {lines.number}, for example, is {_line(lines)}: {error}")
                if len(misfits) == _MISFITS:
                    break
        except ActivityTrackerError as error:
            lines.reject(str(error))
        else:
            fits = True
            yield event
    if misfits and not fits:
        raise TimeFormatError(f"no time has the format {layout.time_format!r}; {misfits[0]}")


def _line(lines: Lines) -> str:
    """The line that was handed out last, short enough for a message."""
    line = _text(lines.line.strip())
    return repr(line if len(line) <= _LINE_SHOWN else f"{line[:_LINE_SHOWN]}...")


def detect(name: str, head: list[bytes]) -> str:
    """Detect the format of a file by its name, or else by its first lines."""
    base = name.lower().removesuffix(".gz")
    for extension, format in _EXTENSIONS.items():
        if base.endswith(extension):
            return format
    nonempty = [line for line in head if line.strip()]
    if any(is_log(line) for line in nonempty):
        return "log"
    first = nonempty[0] if nonempty else b""
    if first.lstrip().startswith(b"{"):
        return "jsonl"
    return "tsv" if b"\t" in first else "csv" if b"," in first else "whitespace"


def _raw_events(
    format: str, lines: Lines, layout: Layout, parse_time: Callable[[Any], datetime]
) -> Iterator[_Raw]:
    if format == "log":
        return _from_log(lines, layout)
    if format == "jsonl":
        return _from_json(lines, layout)
    delimiter = layout.delimiter or _DELIMITERS[format]
    return _from_rows(_rows(lines, delimiter), lines, layout, parse_time)


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
                f"no field {_missing_field(fields, entry)!r} in this log, which has: {has}"
            ) from None
        else:
            yield id, bucket, time


def _missing_field(fields: list[str | None], entry: Any) -> str:
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
    """The value of a key; dots lead into nested objects, unless the key itself contains them."""
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
    """Rows of fields: for CSV str, with bytes that are not UTF-8 escaped; for whitespace bytes."""
    if delimiter is None:
        return (row for row in map(bytes.split, lines) if row)
    return _csv_rows(lines, delimiter)


class _OpenQuoteError(Exception):
    """A quote was opened, and not closed within the lines that a record may have."""


def _csv_rows(lines: Lines, delimiter: str) -> Iterator[list[str]]:
    """The records of CSV; of a bad record only the first line is skipped, and the next begins another one."""
    record_lines: list[tuple[int, bytes]] = []  # the lines of the present record
    width = None
    reader = csv.reader(_record(lines, record_lines), delimiter=delimiter)
    while True:
        record_lines.clear()
        try:
            row = next(reader, None)
            if row is not None and len(record_lines) > 1:
                _check_record(row, record_lines, delimiter, width)
        except (_OpenQuoteError, csv.Error) as error:
            lines.number = record_lines[0][0]
            lines.reject(str(error))
            lines.put_back(record_lines[1:])
            # A generator that has raised an exception is at its end.
            reader = csv.reader(_record(lines, record_lines), delimiter=delimiter)
            continue
        if row is None:
            return
        if row:
            width = width or len(row)
            lines.number = record_lines[0][0]
            yield row


def _record(lines: Lines, record_lines: list[tuple[int, bytes]]) -> Iterator[str]:
    """The lines of one record for a csv.reader, which asks for another one only inside quotes."""
    for line in lines:
        record_lines.append((lines.number, line))
        if len(record_lines) > _LINES_OF_A_RECORD:
            break
        yield line.decode("utf-8", "surrogateescape")
    if record_lines:
        raise _OpenQuoteError(_OPEN_QUOTE)


def _check_record(
    row: list[str], record_lines: list[tuple[int, bytes]], delimiter: str, width: int | None
) -> None:
    """Distinguish a record of several lines from a stray quote that one in a later line seems to close.

    That quote really opens another field: text follows it, or the number of fields is not the usual one.

    Raises:
        _OpenQuoteError: the quote is a stray one.
    """
    text = [line.decode("utf-8", "surrogateescape") for _, line in record_lines]
    try:
        next(csv.reader(text, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise _OpenQuoteError(_OPEN_QUOTE) from error
    if width is not None and len(row) != width:
        raise _OpenQuoteError(_OPEN_QUOTE)


def _from_rows(
    rows: Iterator[list[Any]], lines: Lines, layout: Layout, parse_time: Callable[[Any], datetime]
) -> Iterator[_Raw]:
    first = next(rows, None)
    if first is None:
        return
    fields = layout.fields("id", "time")
    has_header = _is_header(first, fields, parse_time) if layout.header is None else layout.header
    names = [_text(cell).strip() for cell in first] if has_header else None
    columns = [None if field is None else _column_index(field, names) for field in fields]
    for row in rows if has_header else chain([first], rows):
        try:
            id, bucket, time = (None if column is None else row[column] for column in columns)
        except IndexError:
            lines.reject(f"only {len(row)} field{'s' * (len(row) != 1)}: {row!r:.80}")
        else:
            yield _bytes(id or ""), bucket, time


def _is_header(row: list[Any], fields: list[str | None], parse_time: Callable[[Any], datetime]) -> bool:
    """Whether a row is a header: fields given by name need one; otherwise, if its time is not a time."""
    if any(field is not None and not field.isdecimal() for field in fields):
        return True
    try:
        parse_time(row[int(fields[-1] or 0) - 1])
    except (BadTimestampError, ActivityTrackerError, IndexError):
        return True
    return False


def _column_index(field: str, names: list[str] | None) -> int:
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
    """The bucket from a field, which must not be empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    elif isinstance(value, bytes):
        value = _text(value)  # check_bucket refuses what is not UTF-8, as any other bad name
    return check_bucket("" if value is None else value)


def _text(cell: str | bytes) -> str:
    return cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else cell


def _bytes(cell: str | bytes) -> bytes:
    return cell.encode("utf-8", "surrogateescape") if isinstance(cell, str) else cell
