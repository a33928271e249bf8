"""Several files and standard input, read one after the other, whatever becomes of each."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..columns import EventColumns
from ..errors import MissingExtraError
from ..periods import Calendar
from .events import read_events
from .layout import Layout, LayoutError
from .lines import Rejected
from .opening import DamagedError, head, opened
from .readers import Event, read_stream
from .tables import LONGEST_MAGIC, read_table, table_format

__all__ = ["Source", "first_events", "read_sources"]

_Item = TypeVar("_Item")


@dataclass(slots=True)
class Source:
    """A file, and what became of it.

    Attributes:
        path: its path; '-' = standard input.
        events: how many events it had.
        rejected: the lines that are none.
        error: why it was not read, or not to its end.
    """

    path: str
    events: int = 0
    rejected: Rejected = field(default_factory=Rejected)
    error: str | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return "stdin" if self.path == "-" else self.path


def read_sources(
    sources: Sequence[Source],
    layout: Layout,
    calendar: Calendar,
    standard_input: BinaryIO | None = None,
    *,
    hourly: bool = False,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[EventColumns]:
    """The valid events of some files, in no certain order within each.

    A file that cannot be read does not keep the others from being read.

    Args:
        sources: the files; what became of each is noted there.
        layout: how to read them.
        calendar: has the zone.
        standard_input: what '-' is; None = that of this process.
        hourly: whether a time of day is required.
        on_read: see :func:`.opening.opened`.
    """

    def read(stream: io.BufferedReader, source: Source) -> Iterator[EventColumns]:
        return read_events(
            stream, layout, calendar, name=source.name, rejected=source.rejected, hourly=hourly
        )

    def read_rows(source: Source) -> Iterator[EventColumns]:
        return read_table(source.path, layout, calendar, source.rejected, on_read, hourly=hourly)

    for source in sources:
        for events in _items(source, read, read_rows, standard_input, on_read):
            source.events += len(events)
            yield events


def first_events(
    source: Source,
    layout: Layout,
    calendar: Calendar,
    count: int,
    *,
    hourly: bool = False,
) -> list[Event]:
    """The first events of a file, in its order; see :func:`read_sources`."""

    def read(stream: io.BufferedReader, source: Source) -> Iterator[Event]:
        return read_stream(stream, source.name, layout, calendar, source.rejected, hourly=hourly)

    def read_rows(source: Source) -> Iterator[Event]:
        columns = read_table(source.path, layout, calendar, source.rejected, hourly=hourly)
        return chain.from_iterable(part.rows() for part in columns)

    events = list(islice(_items(source, read, read_rows), count))
    source.events = len(events)
    return events


def _items(
    source: Source,
    read: Callable[[io.BufferedReader, Source], Iterator[_Item]],
    read_rows: Callable[[Source], Iterator[_Item]],
    standard_input: BinaryIO | None = None,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[_Item]:
    """What is read of a file, of text or a table; why that ended, if not at the file's end, is noted."""
    try:
        if _is_table(source.path):
            yield from read_rows(source)
            return
        with opened(source.path, standard_input or sys.stdin.buffer, on_read) as stream:
            if kind := table_format(head(stream)):
                raise LayoutError(f"{kind} is read from a file itself, neither piped nor compressed")  # noqa: TRY301
            yield from read(stream, source)
    except (OSError, LayoutError, DamagedError, MissingExtraError) as error:
        source.error = str(error.strerror or error) if isinstance(error, OSError) else str(error)


def _is_table(path: str) -> bool:
    if path == "-" or not Path(path).is_file():  # of a pipe, what is looked at is gone
        return False
    with Path(path).open("rb") as file:
        return table_format(file.read(LONGEST_MAGIC)) is not None
