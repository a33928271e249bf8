"""What is shown to people: consoles, the progress bar, cells and spark lines."""

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
_ENDLESS = 10_000


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is; into a file or pipe, without a limit to its width."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _ENDLESS
    return made


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table; columns in `numbers` come last, to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in columns:
        made.add_column(name, overflow="fold")
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made


@contextmanager
def progress_bar(*columns: ProgressColumn, done: ProgressColumn | None = None) -> Iterator[Progress]:
    """A progress bar on stderr; nothing at all where that is not a terminal."""
    screen = console(stderr=True)
    shown = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        done or TaskProgressColumn(),
        *columns,
    ]
    with Progress(
        *shown, TimeElapsedColumn(), TimeRemainingColumn(), console=screen, disable=not screen.is_terminal
    ) as bar:
        yield bar


def named(bucket: str | None) -> str:
    """A bucket's name for people."""
    return UNNAMED if bucket is None else bucket


def count_cell(count: Estimate | None, screen: Console) -> Text:
    """A count and, less loud, its standard error."""
    if count is None:
        return Text("-", style="dim")
    if not count.stderr:
        return Text(f"{count:,}")
    if count.suspect:
        return Text.assemble(f"{count:,}", (" suspect", "bold"))
    sign = "±" if _is_unicode(screen) else "+/-"
    digits = 0 if count.stderr >= 10 else 1
    return Text.assemble(f"{count:,}", (f" {sign} {count.stderr:,.{digits}f}", "dim"))


def spark(values: Sequence[int | None], screen: Console, room: int) -> str:
    """The last values that fit as a spark line; nothing where the terminal cannot show one."""
    shown = values[-max(1, min(room, screen.width)) :]
    if not _is_unicode(screen) or sum(value is not None for value in shown) < 2:
        return ""
    line: str = sparklines(list(shown), minimum=0)[0]
    return line


def _is_unicode(screen: Console) -> bool:
    return screen.encoding.lower().startswith("utf")
