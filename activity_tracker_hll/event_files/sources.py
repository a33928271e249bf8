"""Several files and standard input, read one after the other, whatever becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
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


def _columns(events: Sequence[Event]) -> EventColumns:
    ids, buckets, dates = zip(*events, strict=True)
    return EventColumns(Texts.of(ids), list(buckets), list(dates))


def read_sources(
    sources: Sequence[Source],
    layout: Layout,
    calendar: Calendar,
    standard_input: BinaryIO,
    *,
    hourly: bool = False,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[EventColumns]:
    """The valid events of some files; one that cannot be read does not keep the others from being read.

    Args:
        sources: the files; what became of each is noted there.
        layout: how to read them.
        calendar: has the zone.
        standard_input: see :func:`.opening.opened`.
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
            with opened(source.path, standard_input, on_read) as stream:
                if kind := table_format(head(stream)):
                    raise LayoutError(f"{kind} is read from a file itself, neither piped nor compressed")  # noqa: TRY301
                events = read_stream(stream, source.name, layout, calendar, source.rejected, hourly=hourly)
                while some := list(islice(events, _EVENTS)):
                    source.events += len(some)
                    yield _columns(some)
        except (OSError, LayoutError, DamagedError, MissingExtraError) as error:
            source.error = str(error.strerror or error) if isinstance(error, OSError) else str(error)
