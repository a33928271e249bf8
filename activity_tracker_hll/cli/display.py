"""The display: the one console that all is printed through, progress bars, and how single things are shown.

Nothing that a terminal would obey gets through it, whoever made it: a server, a file, a bucket of another
program. Tables and spark lines are in :mod:`.tables`.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from ..estimates import Estimate
from ..event_files.lines import escape_unprintable

__all__ = [
    "UNLIMITED_WIDTH",
    "LogHandler",
    "console",
    "count_cell",
    "escaped",
    "is_unicode",
    "progress_bar",
    "show_command",
    "write",
]

UNLIMITED_WIDTH = 10_000


class _Console(Console):
    """Shows text as it is, but for what a terminal would obey or hide: that it shows as escapes of Python's.

    All strings come by here, those in tables too, before rich measures them.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escaped(text), **options)


def escaped(text: str) -> str:
    """Text with escapes in place of what a terminal would obey; lines stay lines."""
    return "\n".join(map(escape_unprintable, text.split("\n")))


def console(*, stderr: bool = False) -> Console:
    """A console; if that is a file or pipe, its width is unlimited."""
    result = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not result.is_terminal:
        result.width = UNLIMITED_WIDTH
    return result


def write(text: str) -> None:
    """Print text for programs: as it is, unless people look at it."""
    sys.stdout.write(escaped(text) if sys.stdout.isatty() else text)


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


# Single things


def count_cell(count: Estimate | None, display: Console) -> Text:
    """A count and, less conspicuous, its standard error."""
    if count is None:
        return Text("-", style="dim")
    if not count.stderr:
        return Text(f"{count:,}")
    if count.suspect:
        return Text.assemble(f"{count:,}", (" suspect", "bold"))
    sign = "±" if is_unicode(display) else "+/-"
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


def is_unicode(display: Console) -> bool:
    """Whether it can show more than ASCII."""
    return display.encoding.lower().startswith("utf")
