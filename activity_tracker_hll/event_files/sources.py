"""Several files and standard input, read one after the other, whatever becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from ..periods import Calendar
from .layout import Layout, LayoutError
from .lines import Rejected
from .opening import DamagedError, opened
from .readers import Event, read_stream

__all__ = ["Source", "read_sources"]


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
    standard_input: BinaryIO,
    *,
    hourly: bool = False,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[Event]:
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
            with opened(source.path, standard_input, on_read) as stream:
                for event in read_stream(
                    stream, source.name, layout, calendar, source.rejected, hourly=hourly
                ):
                    source.events += 1
                    yield event
        except (OSError, LayoutError, DamagedError) as error:
            source.error = str(error.strerror or error) if isinstance(error, OSError) else str(error)
