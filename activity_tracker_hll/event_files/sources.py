"""Several files and standard input, read one after the other, whatever becomes of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from ..columns import EventColumns, Texts
from ..errors import MissingExtraError
from ..periods import Calendar
from .layout import Layout, LayoutError
from .lines import Rejected
from .opening import DamagedError, head, opened
from .readers import Event, read_stream
from .tables import LONGEST_MAGIC, read_table, table_format

__all__ = ["Source", "read_sources"]

_EVENTS = 8192
_MOMENT_S = 0.1


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


def _is_table(path: str) -> bool:
    if path == "-":
        return False
    with Path(path).open("rb") as file:
        return table_format(file.read(LONGEST_MAGIC)) is not None


def _in_columns(events: Iterator[Event]) -> Iterator[EventColumns]:
    """Some thousand events at a time, or what came in a moment: a stream may be slow."""
    some: list[Event] = []
    began = monotonic()
    for event in events:
        some.append(event)
        if len(some) == _EVENTS or monotonic() - began > _MOMENT_S:
            yield _columns(some)
            some, began = [], monotonic()
    if some:
        yield _columns(some)


def _columns(events: Sequence[Event]) -> EventColumns:
    ids, buckets, dates = zip(*events, strict=True)
    return EventColumns(Texts.of(ids), list(buckets), list(dates))


def read_sources(
    sources: Sequence[Source],
    layout: Layout,
    calendar: Calendar,
    standard_input: BinaryIO | None = None,
    *,
    hourly: bool = False,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[EventColumns]:
    """The valid events of some files; one that cannot be read does not keep the others from being read.

    Args:
        sources: the files; what became of each is noted there.
        layout: how to read them.
        calendar: has the zone.
        standard_input: what '-' is; None = that of this process.
        hourly: whether a time of day is required.
        on_read: see :func:`.opening.opened`.
    """
    for source in sources:
        try:
            if _is_table(source.path):
                for columns in read_table(
                    source.path, layout, calendar, source.rejected, on_read, hourly=hourly
                ):
                    source.events += len(columns)
                    yield columns
                continue
            with opened(source.path, standard_input or sys.stdin.buffer, on_read) as stream:
                if kind := table_format(head(stream)):
                    raise LayoutError(f"{kind} is read from a file itself, neither piped nor compressed")  # noqa: TRY301
                events = read_stream(stream, source.name, layout, calendar, source.rejected, hourly=hourly)
                for columns in _in_columns(events):
                    source.events += len(columns)
                    yield columns
        except (OSError, LayoutError, DamagedError, MissingExtraError) as error:
            source.error = str(error.strerror or error) if isinstance(error, OSError) else str(error)
