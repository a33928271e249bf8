"""From lines to events, carefully: whatever a line is, it is an event or is told as bad. No files, no server.

Ids are not altered: bytes that are not UTF-8 are counted as these bytes. A line that is not a valid event
is recorded as bad, and reading goes on; a field that the file does not have at all is a :class:`.FieldError`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from ..errors import ActivityTrackerError
from ..ids import IdEncoder
from ..keys import check_bucket
from ..periods import Calendar
from .addresses import address, is_address_field
from .delimited import delimited_records, text_of
from .formats import check_layout, head_lines, resolve
from .json_records import json_line_records, json_records
from .layout import FieldError, Layout, MissingFieldError, TimeFormatError
from .lines import Lines, Rejected, escape_unprintable
from .logs import log_parser, log_records
from .opening import head
from .prefixes import without_prefix
from .records import Record
from .timestamps import BadTimestampError, timestamp_parser

__all__ = ["CarefulReader", "Event", "read_stream"]

Event = tuple[bytes, str | None, datetime]

JOINT = b"\t"
"""Between the fields of an id that is made of several."""

_MISFITS = 1000
"""So many lines in which nothing fits say that none will."""

_LINE_SHOWN = 200
_NAMES_SHOWN = 500


def read_stream(
    stream: io.BufferedReader,
    name: str,
    layout: Layout,
    calendar: Calendar,
    rejected: Rejected,
    *,
    hourly: bool = False,
) -> Iterator[Event]:
    """The valid events of a file, with naive datetimes in the calendar's zone.

    Args:
        stream: the file, see :func:`.opening.opened`.
        name: its name.
        layout: how to read it.
        calendar: has the zone.
        rejected: records bad lines.
        hourly: whether a time of day is required.

    Raises:
        FieldError: the file does not have a field at all.
        TimeFormatError: no time in it has the format, or none of so many that the others are no better.
    """
    layout = resolve(layout, name, head_lines(head(stream)))
    reader = CarefulReader(layout, calendar, hourly=hourly)
    lines = Lines.of(stream, name, rejected, in_pieces=layout.format == "json")
    yield from (event for event in reader.events(lines) if event is not None)
    reader.end()


class CarefulReader:
    """Reads events from lines of one file, in one go or some lines at a time.

    Args:
        layout: how to read them, with nothing left to detect, see :func:`.formats.resolve`.
        calendar: has the zone.
        hourly: whether a time of day is required.

    Attributes:
        fits: whether a line was an event.
    """

    def __init__(self, layout: Layout, calendar: Calendar, *, hourly: bool = False) -> None:
        check_layout(layout)
        self.fits = False
        self._layout = layout
        self._parser = log_parser(layout.log_format) if layout.format == "log" else None
        self._parse_time = timestamp_parser(layout.time_format, calendar, hourly=hourly, zone=layout.timezone)
        self._encode = IdEncoder().one
        self._misfits = 0
        self._first_misfit = ""
        self._known: set[str] = set()
        self._missing: dict[str, int] = {}
        self._has: list[str] = []

    def events(self, lines: Lines) -> Iterator[Event | None]:
        """The valid events of some lines; None for :data:`.lines.NO_LINE`.

        Raises:
            FieldError, TimeFormatError: so many lines were bad for the same reason that all will be.
        """
        has_filters = bool(self._layout.filters)
        for record in self._records(lines):
            if record is None:
                yield None
                continue
            try:
                if has_filters and not self._passes(record):
                    lines.leave_out()
                    continue
                event = self._id(record), self._bucket(record), self._time(record)
            except BadTimestampError as error:
                lines.reject(str(error))
                if not self.fits:
                    self._note_misfit(lines, error)
            except FieldError:
                raise
            except (ActivityTrackerError, ValueError) as error:
                lines.reject(str(error))
            else:
                self.fits = True
                yield event

    def note_events(self, fields: Iterable[str]) -> None:
        """Take note that another reader found events in the same file, which have these fields."""
        self.fits = True
        self._known.update(fields)

    def end(self) -> None:
        """Say what no line of the file had.

        Raises:
            FieldError, TimeFormatError: a field, or a time of the format.
        """
        for field in self._missing:
            self._check_known(field)
        if self._misfits and not self.fits:
            raise TimeFormatError(
                f"no time has the format {self._layout.time_format!r}; {self._first_misfit}"
            )

    def _records(self, lines: Lines) -> Iterator[Record | None]:
        layout = self._layout
        if self._parser is not None:
            return log_records(lines, layout, self._parser)
        if layout.format == "jsonl":
            return json_line_records(without_prefix(lines, layout.prefix), lines)
        if layout.format == "json":
            return json_records(lines)
        return delimited_records(lines, layout, self._is_time)

    def _is_time(self, value: Any) -> bool:
        try:
            self._parse_time(value)
        except (BadTimestampError, ActivityTrackerError):
            return False
        return True

    def _note_misfit(self, lines: Lines, error: BadTimestampError) -> None:
        self._misfits += 1
        if self._misfits == 1:
            line = escape_unprintable(text_of(lines.line.strip()[: _LINE_SHOWN + 1]))
            line = line if len(line) <= _LINE_SHOWN else f"{line[:_LINE_SHOWN]}..."
            self._first_misfit = f"line {lines.number}, for example, is '{line}': {error}"
        if self._misfits == _MISFITS:
            self.end()

    # Fields

    def _value(self, record: Record, field: str) -> Any:
        """A field of a record; None if it is empty.

        Raises:
            MissingFieldError: this line lacks it.
            FieldError: all lines so far do, and they are many.
        """
        try:
            value = record.value(field)
        except MissingFieldError as error:
            if field not in self._known:
                self._missing[field] = self._missing.get(field, 0) + 1
                self._has = self._has or error.has
                if self._missing[field] == _MISFITS:
                    self._check_known(field)
            raise
        self._known.add(field)
        return value

    def _check_known(self, field: str) -> None:
        if field not in self._known:
            has = escape_unprintable(", ".join(self._has))
            has = has if len(has) <= _NAMES_SHOWN else f"{has[:_NAMES_SHOWN]}..."
            raise FieldError(f"no line has a field {field!r:.80}; the first one has: {has}")

    def _passes(self, record: Record) -> bool:
        """Whether all filters let a record by; to them a field that it lacks is an empty one."""
        for one in self._layout.filters:
            try:
                text = _text(self._value(record, one.field))
            except MissingFieldError:
                text = ""
            if (one.pattern.search(text) is not None) != one.keeps:
                return False
        return True

    def _id(self, record: Record) -> bytes:
        try:
            fields = self._layout.ids(record.default_id)
            if len(fields) == 1:
                return self._encode(self._part(record, fields[0]))
            return self._encode(_joined([self._encode(self._part(record, field)) for field in fields]))
        except FieldError:
            raise
        except (ActivityTrackerError, ValueError):
            if self._layout.id_fallback is None:
                raise
            return self._encode(self._part(record, self._layout.id_fallback))

    def _part(self, record: Record, field: str) -> Any:
        """A field of the id.

        Raises:
            MissingFieldError: this line lacks it.
            ValueError: it is empty, or stands for that.
        """
        value = self._value(record, field)
        if isinstance(value, list):  # as JSON has headers
            value = ", ".join(map(_text, value)) if is_address_field(field) else _only(value, field)
        if isinstance(value, (str, bytes)) and is_address_field(field):
            value = address(field, text_of(value), self._layout.address)
            value = None if value is None else value.encode("utf-8", "surrogateescape")
        if value is None or (self._layout.nulls and _text(value) in self._layout.nulls):
            raise ValueError(f"no {field}")
        return value

    def _bucket(self, record: Record) -> str | None:
        """The bucket, which must not be empty where a field has it."""
        if self._layout.bucket_field is None:
            return self._layout.bucket
        value = self._value(record, self._layout.bucket_field)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        elif isinstance(value, bytes):
            value = text_of(value)  # check_bucket refuses what is not UTF-8, as any other bad name
        return check_bucket("" if value is None or value in self._layout.nulls else value)

    def _time(self, record: Record) -> datetime:
        fields = self._layout.times(record.default_time)
        if len(fields) == 1:
            return self._parse_time(self._time_part(record, fields[0]))
        return self._parse_time(" ".join([_text(self._time_part(record, field)) for field in fields]))

    def _time_part(self, record: Record, field: str) -> Any:
        value = self._value(record, field)
        if value is None:
            raise BadTimestampError(f"no {field}")
        return value


def _joined(parts: list[bytes]) -> bytes:
    """An id of several parts, that no others make.

    Raises:
        ValueError: others would.
    """
    if any(JOINT in part for part in parts[:-1]):
        raise ValueError(f"a tab in a part of the id that is not the last: {parts!r:.80}")
    return JOINT.join(parts)


def _only(items: list[Any], field: str) -> Any:
    if len(items) != 1:
        raise ValueError(f"{field} is a list of {len(items)}")
    return items[0]


def _text(value: Any) -> str:
    """A value as filters see it."""
    if isinstance(value, (str, bytes)):
        return text_of(value)
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (bool, dict, list)) else str(value)
