"""Tables behind charts: numbers a row, and the same as CSV in a link that needs no network."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any
from urllib.parse import quote

from ..result import Number
from .wording import safe

__all__ = ["Row", "Table", "link", "records"]

_FORMULAS = ("=", "+", "-", "@")  # what spreadsheets take for the beginning of one
_AS_IT_IS = " ,:;/()'"  # of what a data URL and an attribute bear


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        label: what it is about.
        key: the same for programs: a date in ISO 8601.
        numbers: its cells.
        complete: False = it is not over.
    """

    label: str
    key: str
    numbers: Sequence[Number | None]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table of numbers.

    Attributes:
        name: of the file, and of the element.
        caption: what it has.
        first: heads the labels.
        headers: head the columns of numbers.
        rows: oldest first.
    """

    name: str
    caption: str
    first: str
    headers: Sequence[str]
    rows: Sequence[Row]

    @property
    def csv(self) -> str:
        """A link to it as CSV: each number with its limits, shares as parts of 1."""
        columns = [f"{header}{end}" for header in self.headers for end in ("", " low", " high")]
        return link(
            [self.first, *columns, "complete"],
            (
                [row.key, *(cell for number in row.numbers for cell in _cells(number)), row.complete]
                for row in self.rows
            ),
        )


def _cells(number: Number | None) -> tuple[Any, Any, Any]:
    if number is None or isnan(number):
        return None, None, None
    low, high = (None, None) if number.suspect else number.interval()
    value = int(number) if isinstance(number, int) else float(number)
    return _short(value), _short(low), _short(high)


def _short(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def link(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A data URL of CSV, whose texts no spreadsheet takes for a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow([_harmless(cell) for cell in row])
    return f"data:text/csv;charset=utf-8,{quote(text.getvalue(), safe=_AS_IT_IS)}"


def records(found: Sequence[Mapping[str, Any]]) -> str:
    """:func:`link` of records that all have the same keys."""
    return link(list(found[0]) if found else [], ([_short(cell) for cell in each.values()] for each in found))


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return f"'{safe(cell)}" if cell.startswith(_FORMULAS) else safe(cell)
