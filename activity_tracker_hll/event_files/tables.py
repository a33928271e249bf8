"""Which files are tables, Parquet or Arrow's (Feather), and reading them; how is in :mod:`.table_rows`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..columns import EventColumns
from ..periods import Calendar
from .layout import Layout
from .lines import Rejected

__all__ = ["LONGEST_MAGIC", "read_table", "table_format", "what_else"]

LONGEST_MAGIC = 6
"""Bytes that :func:`table_format` has to see."""

_MAGIC = {b"PAR1": "Parquet", b"ARROW1": "Arrow"}
# What is neither text nor a table that is read, and what to do about it.
_OTHERS = {
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are: unpack it, or save the workbook as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook of an old Excel: save it as CSV",
    b"\xff\xff\xff\xff": "a stream of Arrow's: write it as a file, which is Feather, or as Parquet",
    b"FEA1": "Feather of version 1: write it as version 2, or as Parquet",
    b"Obj\x01": "Avro: convert it to Parquet or JSON lines",
    b"SQLite format 3\0": "a database of SQLite: export its table as CSV",
}


def table_format(head: bytes) -> str | None:
    """What kind of table a file is, by its first bytes; None if it is none."""
    return _found(_MAGIC, head)


def what_else(head: bytes) -> str | None:
    """What a file is that is not read, by its first bytes, and what to do; None if it may be text."""
    return _found(_OTHERS, head)


def _found(known: Mapping[bytes, str], head: bytes) -> str | None:
    return next((what for magic, what in known.items() if head.startswith(magic)), None)


def read_table(
    path: str,
    layout: Layout,
    calendar: Calendar,
    rejected: Rejected,
    on_read: Callable[[int], object] = lambda _: None,
    *,
    hourly: bool = False,
) -> Iterator[EventColumns]:
    """The valid events of a Parquet or Arrow IPC file.

    Args:
        path: the file.
        layout: the fields; a field is the name of a column, where dots lead into structs, or its number.
        calendar: has the zone of times without one.
        rejected: where bad rows are recorded.
        on_read: called with the number of bytes of each step, as far as that is known.
        hourly: whether a time of day is required.

    Raises:
        MissingExtraError: pyarrow is missing.
        LayoutError: the file has no such column, a column is of another type, no time has the format, or the
            file is damaged.
        OSError: the file cannot be read.
    """
    from .table_rows import read  # noqa: PLC0415 (needs an extra)

    return read(path, layout, calendar, rejected, on_read, hourly=hourly)
