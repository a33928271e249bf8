"""Several files and standard input, read one after the other, whatever becomes of each."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, TypeVar

from ..columns import EventColumns
from ..periods import Calendar
from .events import read_events
from .layout import Layout, LayoutError
from .lines import Rejected
from .opening import DamagedError, opened
from .readers import Event, read_stream

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

    for source in sources:
        for events in _items(source, read, standard_input, on_read):
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

    events = list(islice(_items(source, read, None, lambda _: None), count))
    source.events = len(events)
    return events


def _items(
    source: Source,
    read: Callable[[io.BufferedReader, Source], Iterator[_Item]],
    standard_input: BinaryIO | None,
    on_read: Callable[[int], object],
) -> Iterator[_Item]:
    """What is read of a file; why that ended, if not at the file's end, is noted."""
    try:
        with opened(source.path, standard_input or sys.stdin.buffer, on_read) as stream:
            yield from read(stream, source)
    except (OSError, LayoutError, DamagedError) as error:
        source.error = str(error.strerror or error) if isinstance(error, OSError) else str(error)
