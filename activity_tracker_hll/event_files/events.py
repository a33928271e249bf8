"""From a file to columns of events, at the speed of the machine: no server, usable by itself.

Lines come in blocks. A fast path takes from each block what can be read in one way only; the careful reader, which
decides what a line means, takes all others, in their order. Which lines are bad, and why, is its word alone.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, BinaryIO

import numpy as np

from ..columns import EventColumns, Texts
from ..periods import Calendar
from .blocks import Block, blocks
from .delimited import DELIMITERS
from .fast import FastPath, Part, merged
from .fast_delimited import DelimitedPath
from .fast_json import JsonPath
from .fast_logs import LogPath
from .layout import Layout
from .lines import Lines, Rejected
from .readers import Event, bucket_of, read
from .timestamps import timestamp_parser

__all__ = ["read_events"]

_ENOUGH = 1 << 15
"""Events that are worth a batch of their own."""

_MOST = 1 << 18
"""Events that are waited with until the careful reader comes by, as after each block but of the strangest files."""

_BLOCK_SIZE = 1 << 18


def read_events(
    stream: BinaryIO,
    layout: Layout | None = None,
    calendar: Calendar | None = None,
    *,
    name: str = "",
    rejected: Rejected | None = None,
    hourly: bool = False,
) -> Iterator[EventColumns]:
    """The valid events of a file, in no certain order, as columns that ``import_events`` takes.

    Args:
        stream: the file, open for reading bytes, such as :func:`.opened` gives.
        layout: how to read it; None = see what it is.
        calendar: has the zone of the dates; None = local time.
        name: the file's name, for detecting its format and for messages.
        rejected: where bad lines are recorded.
        hourly: whether a time of day is required.

    Raises:
        FieldError: the file does not have a field at all.
        TimeFormatError: no time in it has the format, or none of so many that the others are no better.
    """
    layout = layout or Layout()
    calendar = calendar or Calendar()
    rejected = rejected if rejected is not None else Rejected()
    return _Reading(stream, layout, calendar, name, rejected, hourly).columns()


class _Reading:
    """The reading of one file: the fast path and the careful reader, side by side."""

    def __init__(
        self,
        stream: BinaryIO,
        layout: Layout,
        calendar: Calendar,
        name: str,
        rejected: Rejected,
        hourly: bool,
    ) -> None:
        self._stream = stream
        self._layout, self._calendar, self._hourly = layout, calendar, hourly
        self._rejected = rejected
        self._lines = Lines(self._careful_lines(), name, rejected)
        self._parts: list[Part] = []  # what the fast path took, and is not handed on yet
        self._path: FastPath | None = None
        self._is_slow = False

    def columns(self) -> Iterator[EventColumns]:
        """All events."""
        bucket = self._layout.bucket
        events: list[Event] = []
        for event in read(self._lines, self._layout, self._calendar, hourly=self._hourly):
            events.append(event)
            if self._is_slow or self._pending >= _ENOUGH:
                parts, self._parts = self._parts, []
                yield from merged(parts, bucket)
            if self._is_slow or len(events) >= _ENOUGH:
                yield _columns(events)
                events = []
        yield from merged(self._parts, bucket)
        if events:
            yield _columns(events)

    def _careful_lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines for the careful reader, with their numbers: all, until it knows what a fast path needs."""
        for block in blocks(self._stream, self._lines.name, self._rejected, self._block_size):
            self._is_slow = block.is_slow
            place = 0
            while place < block.count and (self._path is None or self._pending >= _MOST):
                yield block.number + place, block.line(place)
                place += 1
                self._path = self._path or self._find_path()
            if place < block.count and self._path is not None:
                yield from self._left_over(self._path, block.after(place))

    def _left_over(self, path: FastPath, block: Block) -> Iterator[tuple[int, bytes]]:
        """The lines of a block that the fast path leaves to the careful reader, and one besides.

        That one is good, so the careful reader comes back with an event, and what is read is handed on.
        """
        part = path.read(block)
        places = np.flatnonzero(~part.plain).tolist()
        kept = part.plain.copy()
        last = block.count - 1 - int(kept[::-1].argmax())
        if kept[last]:
            insort(places, last)
        has_part = False
        place = 0
        for wanted in [0, *places] if self._lines.in_record else places:
            if wanted < place:
                continue  # a line of the record before
            place = wanted
            while place == wanted or (self._lines.in_record and place < block.count):
                self._lines.fits = self._lines.fits or bool(kept[:place].any())
                kept[place] = False
                if place == last:
                    self._parts.append(part.of(kept))
                    has_part = True
                yield block.number + place, block.line(place)
                place += 1
        if not has_part:
            self._parts.append(part.of(kept))

    @property
    def _pending(self) -> int:
        return sum(len(part.ids) for part in self._parts)

    def _block_size(self) -> int:
        return self._path.block_size if self._path is not None else _BLOCK_SIZE

    def _find_path(self) -> FastPath | None:
        """The fast path for this file, once enough is known of it, and if there is one."""
        layout, format = self._layout, self._lines.format
        if format == "log" and LogPath.takes(layout):
            return LogPath(layout, self._parse_time(), bucket_of)
        if format == "jsonl":
            return JsonPath(layout, self._parse_time(), bucket_of)
        if format in ("csv", "tsv") and self._lines.columns is not None:
            delimiter = layout.delimiter or DELIMITERS[format]
            if delimiter is not None and delimiter.isascii():
                return DelimitedPath(layout, delimiter, self._lines.columns, self._parse_time(), bucket_of)
        return None

    def _parse_time(self) -> Callable[[Any], datetime]:
        return timestamp_parser(self._layout.time_format, self._calendar, hourly=self._hourly)


def _columns(events: list[Event]) -> EventColumns:
    ids, buckets, dates = zip(*events, strict=True)
    return EventColumns(Texts.of(ids), list(buckets), list(dates))
