"""Tables and spark lines that fit into the terminal, and keep the names of their rows whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.columns import Columns
from rich.console import Console
from rich.measure import measure_renderables
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from sparklines import sparklines

from ..periods import PERIODS
from ..result import named
from ..words import many
from .display import UNLIMITED_WIDTH, escaped, is_unicode

__all__ = ["Cell", "show_buckets", "show_courses", "show_facts", "show_table"]

_MOST_BUCKETS = 40
_AROUND = 3  # what rich puts around a cell: a border and two blanks
_NARROWEST = 10 + _AROUND  # a column may be, if its header is longer than its numbers
_SHORTEST_COURSE = 10
_BETWEEN = 2  # blanks

Cell = str | Text
Rows = Sequence[Sequence[Cell]]


def show_facts(display: Console, title: str, facts: Mapping[str, str]) -> None:
    """Show names and what they are; what is long is continued in the next line."""
    shown = _table(title)
    shown.add_column("what", no_wrap=True)
    shown.add_column("is", overflow="fold")
    for name, fact in facts.items():
        shown.add_row(name, fact)
    display.print(shown)


def show_buckets(
    display: Console,
    title: str,
    numbers: Sequence[str],
    rows: Mapping[tuple[str, str | None], Sequence[Cell]],
) -> None:
    """Show a table with a row for each kind of period and bucket, up to some buckets of each kind."""
    ordered = sorted(rows, key=lambda key: (PERIODS.index(key[0]), key[1] or ""))
    shown: list[Sequence[Cell]] = []
    for kind, keys in groupby(ordered, key=lambda key: key[0]):
        buckets = [bucket for _, bucket in keys]
        shown += [(kind, named(bucket), *rows[kind, bucket]) for bucket in buckets[:_MOST_BUCKETS]]
        if (more := len(buckets) - _MOST_BUCKETS) > 0:
            shown.append((kind, f"... {many(more, 'more bucket')}", *[""] * len(numbers)))
    show_table(display, title, ("kind", "bucket"), numbers, shown)


def show_table(
    display: Console,
    title: str,
    labels: Sequence[str],
    numbers: Sequence[str],
    rows: Rows,
) -> None:
    """Show a table; one that is too wide as several, with the labels in each; rows with long names apart.

    Args:
        display: the console.
        title: stands above.
        labels: headers of the columns that say what a row is about; they come first and are never cut.
        numbers: headers of the other columns, which may have several lines.
        rows: cells, the labels first.
    """
    headers = (*labels, *numbers)
    fitting, apart, parts = _arrange(display, len(labels), headers, rows)
    for part in parts:
        shown = _table(title)
        for label in labels:
            shown.add_column(label, no_wrap=True)
        for column, width in part.items():
            # A header may be folded, a number must not.
            header = Text(escaped(headers[column]), justify="right", overflow="fold", no_wrap=False)
            shown.add_column(header, justify="right", no_wrap=True, max_width=width - _AROUND)
        for row in fitting:
            shown.add_row(*(row[column] for column in (*range(len(labels)), *part)))
        display.print(shown)
        title = ""
    _show_below_each_other(display, title, len(labels), headers, apart)


def _table(title: str) -> Table:
    return Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")


def _arrange(
    display: Console, labels: int, headers: Sequence[str], rows: Rows
) -> tuple[Rows, Rows, list[dict[int, int]]]:
    """Rows that fit into tables, those that do not, and for each table its columns with their widths."""
    wide = display.options.update(width=UNLIMITED_WIDTH)

    def width(cells: Sequence[Cell]) -> int:
        return _AROUND + (measure_renderables(display, wide, cells).maximum if cells else 0)

    columns, name = range(len(headers)), labels - 1
    of_headers = [width([headers[i]]) for i in columns]
    of_cells = [width([row[i] for row in rows]) for i in columns]
    # The last label is a name, and may be of any length.
    room = display.width - 1 - sum(max(of_headers[i], of_cells[i]) for i in columns[:name])
    longest = room - max(max(of_cells[i], min(of_headers[i], _NARROWEST)) for i in columns[labels:])
    fits = [max(width([row[name]]), of_headers[name]) <= longest for row in rows]
    fitting = [row for row, does in zip(rows, fits, strict=True) if does]
    apart = [row for row, does in zip(rows, fits, strict=True) if not does]
    room -= max(of_headers[name], width([row[name] for row in fitting]))
    widths = {i: min(room, max(of_headers[i], of_cells[i])) for i in columns[labels:]}
    return fitting, apart, list(_parts(widths, room)) if fitting else []


def _parts(widths: Mapping[int, int], room: int) -> Iterator[dict[int, int]]:
    """Columns that fit side by side, as many as do."""
    part: dict[int, int] = {}
    for column, width in widths.items():
        if part and sum(part.values()) + width > room:
            yield part
            part = {}
        part[column] = width
    yield part


def _show_below_each_other(
    display: Console, title: str, labels: int, headers: Sequence[str], rows: Rows
) -> None:
    """Show rows that no table has room for: each label in a line of its own, and what belongs to it below."""
    if rows and title:
        display.print(title, style="bold")
    for row in rows:
        for label in row[:labels]:
            display.print(label, no_wrap=True, overflow="ellipsis")
        cells = [
            Text.assemble(f"{escaped(' '.join(header.split()))} ", _text(display, cell))
            for header, cell in zip(headers[labels:], row[labels:], strict=True)
        ]
        display.print(Padding(Columns(cells, padding=(0, _BETWEEN)), (0, 0, 0, _BETWEEN)))


def _text(display: Console, cell: Cell) -> Text:
    return display.render_str(cell) if isinstance(cell, str) else cell


# Spark lines


def show_courses(display: Console, courses: Mapping[str, Sequence[int | None]]) -> None:
    """Show a spark line of each sequence of values, all over the same periods, as a table has rows.

    They begin with the first period in which there is anything, and end with the last; if that is too long,
    with the last periods that there is room for. There are none if the terminal cannot show them.
    """
    if not is_unicode(display):
        return
    there = [i for i, values in enumerate(zip(*courses.values(), strict=True)) if set(values) != {None}]
    names = measure_renderables(display, display.options, [*courses]).maximum if courses else 0
    room = display.width - names - _BETWEEN
    beside = room >= _SHORTEST_COURSE
    shown = Table.grid(padding=(0, _BETWEEN))
    shown.add_column(no_wrap=True)
    for name, values in courses.items():
        part = values[there[0] : there[-1] + 1][-(room if beside else display.width) :] if there else ()
        if sum(value is not None for value in part) >= 2:
            line: str = sparklines(list(part), minimum=0)[0]
            for cells in [(name, line)] if beside else [(name,), (line,)]:
                shown.add_row(*cells)
    if shown.rows:
        display.print(shown)
