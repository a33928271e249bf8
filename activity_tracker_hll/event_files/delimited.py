"""Delimited text, with a comma, a tab or another character, or white space; read record by record."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from typing import Any

from ..errors import ActivityTrackerError
from .layout import FieldError, Layout
from .lines import Lines, printable
from .timestamps import BadTimestampError

__all__ = ["DELIMITERS", "read_delimited", "text_of"]

DELIMITERS = {"csv": ",", "tsv": "\t", "whitespace": None}
_LINES_OF_A_RECORD = 10
_OPEN_QUOTE = "a quote is opened and not closed"
_NAMES_SHOWN = 500


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
        lines.in_record = False
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
        lines.in_record = True
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


def read_delimited(
    format: str, lines: Lines, layout: Layout, parse_time: Callable[[Any], datetime]
) -> Iterator[tuple[Any, Any, Any]]:
    """The id, bucket and time of each record, not yet checked or converted."""
    rows = _rows(lines, layout.delimiter or DELIMITERS[format])
    first = next(rows, None)
    if first is None:
        return
    fields = layout.fields("id", "time")
    has_header = _is_header(first, fields, parse_time) if layout.header is None else layout.header
    names = [text_of(cell).strip() for cell in first] if has_header else None
    columns = lines.columns = [None if field is None else _column_index(field, names) for field in fields]
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


def text_of(cell: str | bytes) -> str:
    """Text of a cell; bytes that are not UTF-8 are escaped."""
    return cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else cell


def _bytes(cell: str | bytes) -> bytes:
    return cell.encode("utf-8", "surrogateescape") if isinstance(cell, str) else cell
