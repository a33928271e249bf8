"""Delimited text, with a comma, a tab or another character, or white space; read record by record."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from .addresses import is_address
from .layout import FieldError, Layout
from .lines import NO_LINE, Lines, escape_unprintable
from .records import Record

__all__ = ["DELIMITERS", "SEPARATOR_LINE", "delimited_records", "text_of"]

DELIMITERS = {"csv": ",", "tsv": "\t", "whitespace": None}
SEPARATOR_LINE = re.compile(rb"sep=(.)\r?\n?", re.IGNORECASE)
"""A first line that says the delimiter, as Excel writes it and reads it."""

_LINES_OF_A_RECORD = 10
_OPEN_QUOTE = "a quote is opened and not closed"
_NAMES_SHOWN = 500
_LONGEST_NUMBER = 9  # of a column; arrays take no greater ones

# What a first line must look like to be taken for a header unasked.
_NAME = re.compile(r"[#@$]?\s*[^\W\d]")
_MOST_DIGITS = 3
_MISSING = {"n/a", "na", "nan", "nat", "null", "nil", "none", "undefined", "unknown", "invalid date", "never"}


def _rows(lines: Lines, layout: Layout) -> Iterator[list[Any]]:
    """Rows of fields: for CSV str, with bytes that are not UTF-8 escaped; for whitespace bytes.

    One without fields stands for :data:`.lines.NO_LINE`; blank lines are left out.
    """
    delimiter = layout.delimiter or DELIMITERS[layout.format]
    first = lines.peek()
    if first is not None and SEPARATOR_LINE.fullmatch(first):
        next(iter(lines))
    if delimiter is None:
        return (row for line in lines if (row := line.split()) or line == NO_LINE)
    return _csv_rows(lines, delimiter)


class _OpenQuoteError(Exception):
    """A quote was opened, and not closed within the lines that a record may have."""


def _csv_reader(lines: Iterable[str], delimiter: str, **options: Any) -> Iterator[list[str]]:
    # A quote after a comma and a space opens a field, too.
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=not delimiter.isspace(), **options)


def _csv_rows(lines: Lines, delimiter: str) -> Iterator[list[str]]:
    """The records of CSV; of a bad record only the first line is skipped, and the next begins another one."""
    record_lines: list[tuple[int, bytes]] = []  # the lines of the present record
    width = None
    reader = _csv_reader(_record(lines, record_lines), delimiter)
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
            reader = _csv_reader(_record(lines, record_lines), delimiter)
            continue
        if row is None:
            return
        if row:
            width = width or len(row)
            lines.number = record_lines[0][0]
            yield row
        elif not record_lines:
            yield row


def _record(lines: Lines, record_lines: list[tuple[int, bytes]]) -> Iterator[str]:
    """The lines of one record for a csv.reader, which asks for another one only inside quotes."""
    for line in lines:
        if line == NO_LINE:  # which never comes within a record
            yield ""
            continue
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
        next(_csv_reader(text, delimiter, strict=True))
    except csv.Error as error:
        raise _OpenQuoteError(_OPEN_QUOTE) from error
    if width is not None and len(row) != width:
        raise _OpenQuoteError(_OPEN_QUOTE)


class _Row:
    """A record of delimited text."""

    default_id = "id"
    default_time: tuple[str, ...] = ("time",)

    def __init__(self, columns: dict[str, int], cells: list[Any]) -> None:
        self._columns = columns
        self._cells = cells

    def value(self, field: str) -> bytes:
        """See :class:`.records.Record`."""
        try:
            cell = self._cells[self._columns[field]]
        except IndexError:
            count = len(self._cells)
            raise ValueError(f"only {count} field{'s' * (count != 1)}: {self._cells!r:.80}") from None
        return cell.encode("utf-8", "surrogateescape") if isinstance(cell, str) else cell

    def names(self) -> list[str]:
        """See :class:`.records.Record`."""
        return list(self._columns)


def delimited_records(
    lines: Lines, layout: Layout, is_time: Callable[[Any], bool]
) -> Iterator[Record | None]:
    """The records of delimited text; None for :data:`.lines.NO_LINE`.

    Args:
        lines: the lines.
        layout: its format is one of :data:`DELIMITERS`, and it has the delimiter.
        is_time: whether something is a time; the first line is no header if it has one.

    Raises:
        FieldError: there is no such column, or there are several of its name.
    """
    fields = layout.fields(_Row.default_id, _Row.default_time)
    rows = _rows(lines, layout)
    if layout.names is None:
        first = next(filter(None, rows), None)
        if first is None:
            return
        times = layout.times(_Row.default_time)
        has_header = layout.header
        if has_header is None:
            has_header = _is_header(first, fields, times, is_time)
        names = [text_of(cell).strip() for cell in first] if has_header else None
        rows = rows if has_header else chain([first], rows)
    else:
        names = list(layout.names)
    columns = {field: _column_index(field, names) for field in fields}
    if layout.header is None and layout.names is None:
        _check_numbers(columns, names)
    lines.columns, lines.width = columns, len(names) if names is not None else None
    for row in rows:
        if not row:
            yield None
            continue
        if names is not None and any(cell.strip() for cell in row[len(names) :]):
            lines.reject(f"{len(row)} fields, and the header has {len(names)}: {row!r:.80}")
            continue
        yield _Row(columns, row)


def _is_header(
    row: list[Any], fields: Sequence[str], times: Sequence[str], is_time: Callable[[Any], bool]
) -> bool:
    """Whether a row is a header: fields given by name need one, and else all of it looks like names.

    A row without a time is not enough: it may as well be a bad one, of which people want to know.
    """
    places = {field: place for field in fields if (place := _place(field)) is not None}
    if len(places) < len(fields):
        return True
    texts = [text_of(cell).strip() for cell in row]
    if max(places.values()) >= len(texts) or not all(map(_may_be_name, texts)):
        return False
    time = " ".join(texts[places[field]] for field in times).strip()
    return time != "" and not is_time(time)


def _place(field: str) -> int | None:
    """The place, from 0, of a column that is given by its number; None if it is not."""
    is_number = field.isdecimal() and len(field) <= _LONGEST_NUMBER and int(field) > 0
    return int(field) - 1 if is_number else None


def _may_be_name(text: str) -> bool:
    """Whether a text may be the name of a column, and no number, date, address or missing value."""
    if not text:  # as above the row numbers of a data frame
        return True
    return bool(_NAME.match(text)) and not (
        "@" in text[1:]
        or text.lower() in _MISSING
        or sum(map(str.isdigit, text)) > _MOST_DIGITS
        or is_address(text)
    )


def _column_index(field: str, names: list[str] | None) -> int:
    if names is not None and names.count(field) > 1:
        raise FieldError(f"several columns are called {field!r:.80}: give the number of one")
    if names is not None and field in names:
        return names.index(field)
    place = _place(field)
    if place is not None:
        return place
    if names is None:
        raise FieldError(f"field {field!r} needs a header; without one, give the number of its column")
    has = escape_unprintable(", ".join(names))
    has = has if len(has) <= _NAMES_SHOWN else f"{has[:_NAMES_SHOWN]}..."
    raise FieldError(f"no field {field!r} in the header, which has: {has}")


def _check_numbers(columns: dict[str, int], names: list[str] | None) -> None:
    """Refuse a number of a column that is the name of another one, if nobody said that there are names."""
    for field, place in columns.items():
        if names is not None and _place(field) not in (None, place):
            raise FieldError(
                f"{field!r:.80} is the number of a column and the name of another; with --header it is that"
            )


def text_of(cell: str | bytes) -> str:
    """Text of a cell; bytes that are not UTF-8 are escaped."""
    return cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else cell
