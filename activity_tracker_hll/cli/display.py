"""The display: consoles, tables and their cells, progress bars, spark lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from sparklines import sparklines

from ..estimates import Estimate

__all__ = ["console", "count_cell", "named", "progress_bar", "spark", "table"]

UNNAMED = "(all)"
_UNLIMITED_WIDTH = 10_000


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is; if that is a file or pipe, its width is unlimited."""
    result = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not result.is_terminal:
        result.width = _UNLIMITED_WIDTH
    return result


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table; the columns in `numbers` come last and are aligned to the right."""
    result = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in columns:
        result.add_column(name, overflow="fold")
    for name in numbers:
        result.add_column(name, justify="right", no_wrap=True)
    return result


@contextmanager
def progress_bar(*columns: ProgressColumn, done: ProgressColumn | None = None) -> Iterator[Progress]:
    """A progress bar on stderr, if that is a terminal."""
    display = console(stderr=True)
    columns_shown = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        done or TaskProgressColumn(),
        *columns,
    ]
    with Progress(
        *columns_shown,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=display,
        disable=not display.is_terminal,
    ) as bar:
        yield bar


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


def spark(values: Sequence[int | None], display: Console, width: int) -> str:
    """A spark line of the last values that fit into the width; empty if the terminal cannot show one."""
    values_shown = values[-max(1, min(width, display.width)) :]
    if not _is_unicode(display) or sum(value is not None for value in values_shown) < 2:
        return ""
    line: str = sparklines(list(values_shown), minimum=0)[0]
    return line


def _is_unicode(display: Console) -> bool:
    return display.encoding.lower().startswith("utf")
