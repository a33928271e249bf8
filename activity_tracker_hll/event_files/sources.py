"""Files and standard input: one, or several one after the other, whatever becomes of each."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import numpy as np

from ..columns import EventColumns, Texts
from ..errors import ArgumentTypeError, MissingExtraError
from ..messages import shown
from ..periods import Calendar
from .events import read_columns
from .layout import Layout, LayoutError
from .lines import Rejected, escape_unprintable
from .opening import DamagedError, head, opened
from .readers import Event, read_stream
from .tables import LONGEST_MAGIC, read_table, table_format, what_else

__all__ = ["Source", "first_events", "read_events", "read_sources"]

_Item = TypeVar("_Item")

_LAST_OF_ASCII = 0x7F
_LOOKS = 2
"""So many blocks with letters beyond ASCII have their ids looked at: that takes longer than to see them."""


@dataclass(slots=True)
class Source:
    """A file, and what became of it.

    Attributes:
        path: its path; '-' = standard input.
        events: how many events it had.
        rejected: the lines that are none.
        error: why it was not read, or not to its end.
        odd_id: an id that is not UTF-8, if one was seen.
    """

    path: str
    events: int = 0
    rejected: Rejected = field(default_factory=Rejected)
    error: str | None = None
    odd_id: bytes | None = None
    _looks: int = field(default=_LOOKS, repr=False)

    def note(self, events: EventColumns) -> None:
        """Note what was read."""
        self.events += len(events)
        ids = events.ids
        if self._looks and isinstance(ids, Texts) and len(ids):
            ids = _cut_out(ids)
            if ids.buffer.max() > _LAST_OF_ASCII:
                self.look_at(_with_others(ids).tolist())

    def look_at(self, ids: Sequence[bytes]) -> None:
        """Look for an id that is not UTF-8."""
        self._looks -= 1
        if not _is_utf8(b"\n".join(ids)):
            self.odd_id, self._looks = next(id for id in ids if not _is_utf8(id)), 0

    @property
    def name(self) -> str:
        """What people call it."""
        return "stdin" if self.path == "-" else escape_unprintable(self.path)


def read_events(
    file: str | os.PathLike[str] | BinaryIO,
    layout: Layout | None = None,
    calendar: Calendar | None = None,
    *,
    rejected: Rejected | None = None,
    hourly: bool = False,
) -> Iterator[EventColumns]:
    """The valid events of a file, in no certain order, as columns that ``import_events`` takes.

    It is opened once the first events are asked for. Of a pipe that pauses, columns without events come after
    those that it brought, so that these are sent; not of the format json, whose records span lines.

    Args:
        file: its path, '-' for standard input, or a binary stream that is open, and stays so, and has read1,
            such as ``open(path, "rb")`` or io.BytesIO. Compressed or not, but tables only by their path.
        layout: how to read it; None = see what it is.
        calendar: has the zone of the dates, such as ``tracker.calendar``; None = local time.
        rejected: records bad lines, and damage after which nothing more is read.
        hourly: whether a time of day is required.

    Raises:
        ArgumentTypeError: neither a path nor such a stream.
        OSError: the file cannot be read.
        LayoutError: it does not have a field at all, no time in it has the format, or it is a table that is
            piped or compressed.
        MissingExtraError: a table, without pyarrow; or an access log, without apachelogs.
    """
    layout, calendar = layout or Layout(), calendar or Calendar()
    rejected = rejected if rejected is not None else Rejected()
    is_stream = hasattr(file, "read1")
    path = "-" if is_stream else _path(file)
    name = getattr(file, "name", "") if is_stream else Source(path).name

    def read(stream: io.BufferedReader) -> Iterator[EventColumns]:
        # A stream that was opened by its number has that for a name.
        return read_columns(stream, layout, calendar, name=str(name), rejected=rejected, hourly=hourly)

    def read_rows() -> Iterator[EventColumns]:
        return read_table(path, layout, calendar, rejected, hourly=hourly)

    return _content(path, read, read_rows, cast("BinaryIO", file) if is_stream else None)


def _path(file: object) -> str:
    path = os.fspath(file) if isinstance(file, (str, os.PathLike)) else None
    if not isinstance(path, str):
        raise ArgumentTypeError(
            f"file must be a path as a str or PathLike, or a binary stream with read1, got {shown(file)}"
        )
    return path


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
        return read_columns(
            stream, layout, calendar, name=source.name, rejected=source.rejected, hourly=hourly
        )

    def read_rows(source: Source) -> Iterator[EventColumns]:
        return read_table(source.path, layout, calendar, source.rejected, on_read, hourly=hourly)

    for source in sources:
        for events in _items(source, read, read_rows, standard_input, on_read):
            source.note(events)
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
    source.look_at([id for id, _, _ in events if isinstance(id, bytes)])
    return events


def _items(
    source: Source,
    read: Callable[[io.BufferedReader, Source], Iterator[_Item]],
    read_rows: Callable[[Source], Iterator[_Item]],
    standard_input: BinaryIO | None = None,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[_Item]:
    """What is read of a file; why that ended, if not at the file's end, is noted."""
    try:
        yield from _content(
            source.path,
            lambda stream: read(stream, source),
            lambda: read_rows(source),
            standard_input,
            on_read,
        )
    except (OSError, LayoutError, DamagedError, MissingExtraError) as error:
        source.error = str(error.strerror or error) if isinstance(error, OSError) else str(error)


def _content(
    path: str,
    read: Callable[[io.BufferedReader], Iterator[_Item]],
    read_rows: Callable[[], Iterator[_Item]],
    standard_input: BinaryIO | None = None,
    on_read: Callable[[int], object] = lambda _: None,
) -> Iterator[_Item]:
    """What is read of a file, of text or a table."""
    if _is_table(path):
        yield from read_rows()
        return
    with opened(path, standard_input or _standard_input(path), on_read) as stream:
        if kind := table_format(head(stream)):
            raise LayoutError(f"{kind} is read from a file itself, neither piped nor compressed")
        if advice := what_else(head(stream)):
            raise LayoutError(f"the file is {advice}")
        yield from read(stream)


def _standard_input(path: str) -> BinaryIO:
    """That of this process, which may have been started without one: only '-' needs it."""
    if sys.stdin is not None:
        return sys.stdin.buffer
    if path == "-":
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return io.BytesIO()


def _cut_out(ids: Texts) -> Texts:
    """The same in a part of the buffer, which may be that of a whole column; none is empty."""
    begin, end = int(ids.starts.min()), int((ids.starts + ids.sizes).max())
    return Texts(ids.buffer[begin:end], ids.starts - begin, ids.sizes, ids.adjoin)


def _with_others(ids: Texts) -> Texts:
    """Those that have other letters than ASCII's; none is empty."""
    are_others = ids.buffer > _LAST_OF_ASCII
    before = np.cumsum(are_others, dtype=np.int32)
    are_within = before.take(ids.starts + ids.sizes - 1) > before.take(ids.starts)
    return ids[np.flatnonzero(are_within | are_others.take(ids.starts))]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_table(path: str) -> bool:
    if path == "-" or not Path(path).is_file():  # of a pipe, what is looked at is gone
        return False
    with Path(path).open("rb") as file:
        return table_format(file.read(LONGEST_MAGIC)) is not None
