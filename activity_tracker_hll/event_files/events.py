"""From a file to columns of events, at the speed of the machine: no server, usable by itself.

Lines come in blocks. A fast path takes from each block what can be read in one way only; the careful reader,
which decides what a line means, takes all others, in their order. Which lines are bad, and why, is its word
alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ..columns import EventColumns, Texts
from ..periods import Calendar
from .blocks import Block, blocks
from .fast import FastPath, Part, merged
from .fast_delimited import DelimitedPath
from .fast_json import JsonPath
from .fast_logs import LogPath
from .formats import head_lines, resolve
from .layout import Layout
from .lines import NO_LINE, Lines, Rejected
from .logs import ApacheRecord
from .opening import PATIENCE_S, Wait, head, wait_of
from .readers import CarefulReader, Event, read_stream
from .timestamps import timestamp_parser

__all__ = ["read_columns"]

_ENOUGH = 1 << 15
"""Events that are worth a batch of their own."""

_MOST_PARTS = 32
"""So many blocks wait at most, however few events they have: texts may keep the whole block in memory."""

_NO_EVENTS = EventColumns(Texts.of([]), None, np.empty(0, "datetime64[us]"))
"""Says, after all that came, that the stream pauses."""


def read_columns(
    stream: io.BufferedReader,
    layout: Layout | None = None,
    calendar: Calendar | None = None,
    *,
    name: str = "",
    rejected: Rejected | None = None,
    hourly: bool = False,
) -> Iterator[EventColumns]:
    """The valid events of a file, in no certain order, as columns that ``import_events`` takes.

    Columns without events say that the stream pauses.

    Args:
        stream: the file, see :func:`.opening.opened`.
        layout: how to read it; None = see what it is.
        calendar: has the zone of the dates; None = local time.
        name: the file's name, for detecting its format and for messages.
        rejected: records bad lines.
        hourly: whether a time of day is required.

    Raises:
        FieldError: the file does not have a field at all.
        TimeFormatError: no time in it has the format, or none of so many that the others are no better.
    """
    calendar = calendar or Calendar()
    rejected = rejected if rejected is not None else Rejected()
    layout = resolve(layout or Layout(), name, head_lines(head(stream)))
    if layout.format == "log" and layout.id == ApacheRecord.default_id:
        layout = replace(layout, id=None)
    if layout.format == "json":
        events = read_stream(stream, name, layout, calendar, rejected, hourly=hourly)
        yield from _in_columns(events, wait_of(stream))
        return
    yield from _Reading(stream, layout, calendar, name, rejected, hourly).columns()


def _in_columns(events: Iterator[Event], wait: Wait) -> Iterator[EventColumns]:
    """Many events at a time, or what came until nothing more did, or in a moment: a stream may be slow."""
    some: list[Event] = []
    began = monotonic()
    for event in events:
        some.append(event)
        if len(some) == _ENOUGH or monotonic() - began > PATIENCE_S or not wait(0):
            yield _columns(some)
            some, began = [], monotonic()
    if some:
        yield _columns(some)


def _is_fast(layout: Layout) -> bool:
    """Whether there is a fast path for a layout that is resolved."""
    if not layout.is_plain:
        return False
    if layout.format == "log":
        return LogPath.takes(layout)
    return layout.format == "jsonl" or (
        layout.format in ("csv", "tsv") and layout.delimiter is not None and layout.delimiter.isascii()
    )


class _Reading:
    """The reading of one file: the fast path and the careful reader, side by side."""

    def __init__(
        self,
        stream: io.BufferedReader,
        layout: Layout,
        calendar: Calendar,
        name: str,
        rejected: Rejected,
        hourly: bool,
    ) -> None:
        self._stream, self._layout, self._rejected = stream, layout, rejected
        self._wait = wait_of(stream)
        self._lines = Lines(self._careful_lines(), name, rejected)
        self._careful = CarefulReader(layout, calendar, hourly=hourly)
        self._parse_time = timestamp_parser(layout.time_format, calendar, hourly=hourly, zone=layout.timezone)
        self._has_path = _is_fast(layout)
        self._path = self._find_path()
        self._parts: list[Part] = []  # what the fast path took, and is not handed on yet
        self._is_slow = False

    def columns(self) -> Iterator[EventColumns]:
        """All events."""
        bucket = self._layout.bucket
        events: list[Event] = []
        for event in self._careful.events(self._lines):
            if event is not None:
                events.append(event)
            is_slow = event is None and self._is_slow
            if is_slow or self._pending >= _ENOUGH or len(self._parts) >= _MOST_PARTS:
                parts, self._parts = self._parts, []
                yield from merged(parts, bucket)
            if events and (is_slow or len(events) >= _ENOUGH):
                yield _columns(events)
                events = []
            if is_slow and not self._wait(0):  # and not because the processor is
                yield _NO_EVENTS
        yield from merged(self._parts, bucket)
        if events:
            yield _columns(events)
        self._careful.end()

    def _careful_lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines for the careful reader, with their numbers: all, until there is a fast path."""
        for block in blocks(self._stream, self._lines.name, self._rejected, self._block_size):
            lines, place = iter(block), 0
            while place < block.count and self._path is None:
                yield block.number + place, next(lines)
                place += 1
                self._path = self._find_path()
            if place < block.count and self._path is not None:
                yield from self._left_over(self._path, block.after(place))
            if not self._lines.in_record:
                self._is_slow = block.is_slow
                yield self._lines.number, NO_LINE

    def _left_over(self, path: FastPath, block: Block) -> Iterator[tuple[int, bytes]]:
        """The lines of a block that the fast path leaves to the careful reader."""
        part = path.read(block)
        kept = part.plain.copy()
        places = np.flatnonzero(~kept).tolist()
        place = 0
        for wanted in [0, *places] if self._lines.in_record else places:
            if wanted < place:
                continue  # it was in the record of a line before
            place = wanted
            while place == wanted or (self._lines.in_record and place < block.count):
                self._note_events(path, kept[:place])
                kept[place] = False
                yield block.number + place, block.line(place)
                place += 1
        self._note_events(path, kept)
        if kept.any():
            self._parts.append(part.of(kept))

    def _note_events(self, path: FastPath, kept: NDArray[np.bool_]) -> None:
        """Tell the careful reader, which has found no event yet, if the fast path has."""
        if not self._careful.fits and kept.any():
            self._careful.note_events(path.fields)

    @property
    def _pending(self) -> int:
        return sum(len(part.ids) for part in self._parts)

    def _block_size(self) -> int:
        return self._path.block_size if self._path is not None else 1 << 18

    def _find_path(self) -> FastPath | None:
        """The fast path; None if there is none, or the header, which it needs, is not read yet."""
        layout = self._layout
        if not self._has_path:
            return None
        if layout.format == "log":
            return LogPath(layout, self._parse_time)
        if layout.format == "jsonl":
            return JsonPath(layout, self._parse_time)
        columns, width = self._lines.columns, self._lines.width
        return None if columns is None else DelimitedPath(layout, columns, width, self._parse_time)


def _columns(events: list[Event]) -> EventColumns:
    ids, buckets, dates = zip(*events, strict=True)
    return EventColumns(Texts.of(ids), list(buckets), list(dates))
