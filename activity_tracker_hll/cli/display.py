"""The display: the one console that all is printed through, tables, progress bars, spark lines, commands.

Nothing that a terminal would obey gets through it, whoever made it: a server, a file, a bucket of another
program. Nothing is wider than the terminal.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console
from rich.measure import measure_renderables
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text
from sparklines import sparklines

from ..estimates import Estimate
from ..event_files.lines import printable
from ..periods import PERIODS

__all__ = [
    "Cell",
    "LogHandler",
    "console",
    "count_cell",
    "many",
    "named",
    "progress_bar",
    "show_buckets",
    "show_command",
    "show_courses",
    "show_facts",
    "show_table",
    "write",
]

UNNAMED = "(all)"
_UNLIMITED_WIDTH = 10_000
_MOST_BUCKETS = 40
_AROUND = 3  # what rich puts around a cell: a border and two blanks
_NARROWEST = 10 + _AROUND  # a column may be for its header's sake
_SHORTEST_COURSE = 10
_BETWEEN = 2  # blanks

Cell = str | Text


class _Console(Console):
    """Shows text as it is, but for what a terminal would obey or hide: that it shows as escapes of Python's.

    All strings come by here, those in tables too, before rich measures them.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_shown(text), **options)


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def console(*, stderr: bool = False) -> Console:
    """A console; if that is a file or pipe, its width is unlimited."""
    result = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not result.is_terminal:
        result.width = _UNLIMITED_WIDTH
    return result


def write(text: str) -> None:
    """Print text for programs: as it is, unless people look at it."""
    sys.stdout.write(_shown(text) if sys.stdout.isatty() else text)


class LogHandler(logging.Handler):
    """Shows what the library, or a package below it, warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        console(stderr=True).print(f"{record.levelname.capitalize()}: {record.getMessage()}")


@contextmanager
def progress_bar(
    *columns: ProgressColumn, done: ProgressColumn | None = None, quiet: bool = False
) -> Iterator[Progress]:
    """A progress bar on stderr, if that is a terminal; it is gone in the end."""
    display = console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),  # takes the room that the others leave
        done or TaskProgressColumn(),
        *columns,
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        console=display,
        disable=quiet or not display.is_terminal,
        expand=True,
        transient=True,
    ) as bar:
        yield bar


# Words


def many(number: int, noun: str, verbs: tuple[str, str] = ("", "")) -> str:
    """A number of things, and what they do: '1 line', '2,000 lines', '1 period is', '2 periods are'."""
    words = f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
    return f"{words} {verbs[number != 1]}".rstrip()


def named(bucket: str | None) -> str:
    """A bucket's name as people see it."""
    return UNNAMED if bucket is None else bucket


def count_cell(count: Estimate | None, display: Console) -> Text:
    """A count and, less conspicuous, its standard error."""
    if count is None:
        return Text("-", style="dim")
    if not count.stderr:
        return Text(f"{count:,}")
    if count.suspect:
        return Text.assemble(f"{count:,}", (" suspect", "bold"))
    sign = "±" if _is_unicode(display) else "+/-"
    digits = 0 if count.stderr >= 10 else 1
    return Text.assemble(f"{count:,}", (f" {sign} {count.stderr:,.{digits}f}", "dim"))


def show_command(display: Console, words: Sequence[str]) -> None:
    """Show a command so that it can be pasted: where it is too long, it is continued after a backslash."""
    indent, lines = "  ", [""]
    for word in map(shlex.quote, words):
        longer = f"{lines[-1]} {word}" if lines[-1] else f"{indent}{word}"
        if lines[-1] and cell_len(longer) > display.width - len(" \\"):
            lines.append(f"{indent}{indent}{word}")
        else:
            lines[-1] = longer
    display.print(" \\\n".join(lines), style="bold", soft_wrap=True)


# Tables


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
    rows: Sequence[Sequence[Cell]],
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
    name, others = len(labels) - 1, range(len(labels), len(headers))
    wide = display.options.update(width=_UNLIMITED_WIDTH)

    def width(cells: Sequence[Cell]) -> int:
        return measure_renderables(display, wide, cells).maximum + _AROUND if cells else _AROUND

    of_headers = [width([header]) for header in headers]
    of_cells = [width([row[i] for row in rows]) for i in range(len(headers))]
    # The last label is a name, and may be of any length.
    room = display.width - 1 - sum(max(of_headers[i], of_cells[i]) for i in range(name))
    longest = room - max(max(of_cells[i], min(of_headers[i], _NARROWEST)) for i in others)
    fitting: list[Sequence[Cell]] = []
    apart: list[Sequence[Cell]] = []
    for row in rows:
        (apart if max(width([row[name]]), of_headers[name]) > longest else fitting).append(row)
    room -= max(of_headers[name], width([row[name] for row in fitting]))
    widths = {i: min(room, max(of_headers[i], of_cells[i])) for i in others}
    for part in _parts(widths, room) if fitting else ():
        shown = _table(title)
        for label in labels:
            shown.add_column(label, no_wrap=True)
        for i in part:
            # A header may be folded, a number must not.
            header = Text(_shown(headers[i]), justify="right", overflow="fold", no_wrap=False)
            shown.add_column(header, justify="right", no_wrap=True, max_width=widths[i] - _AROUND)
        for row in fitting:
            shown.add_row(*(row[i] for i in (*range(len(labels)), *part)))
        display.print(shown)
        title = ""
    _show_below_each_other(display, title, len(labels), headers, apart)


def _table(title: str) -> Table:
    return Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")


def _parts(widths: Mapping[int, int], room: int) -> Iterator[list[int]]:
    """Columns that fit side by side, as many as do."""
    part: list[int] = []
    for column, width in widths.items():
        if part and sum(widths[i] for i in part) + width > room:
            yield part
            part = []
        part.append(column)
    yield part


def _show_below_each_other(
    display: Console, title: str, labels: int, headers: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> None:
    """Show rows that no table has room for: each label in a line of its own, and what belongs to it below."""
    if rows and title:
        display.print(title, style="bold")
    for row in rows:
        for label in row[:labels]:
            display.print(label, no_wrap=True, overflow="ellipsis")
        cells = [
            Text.assemble(f"{_shown(' '.join(header.split()))} ", _text(display, cell))
            for header, cell in zip(headers[labels:], row[labels:], strict=True)
        ]
        display.print(Padding(Columns(cells, padding=(0, _BETWEEN)), (0, 0, 0, _BETWEEN)))


def _text(display: Console, cell: Cell) -> Text:
    return display.render_str(cell) if isinstance(cell, str) else cell


# Spark lines


def show_courses(display: Console, courses: Mapping[str, Sequence[int | None]]) -> None:
    """Show a spark line of each sequence of values, all over the same periods.

    They begin with the first period in which there is anything, and end with the last; if that is too long,
    with the last periods that there is room for. There are none if the terminal cannot show them.
    """
    if not _is_unicode(display):
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


def _is_unicode(display: Console) -> bool:
    return display.encoding.lower().startswith("utf")
