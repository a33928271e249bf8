"""From lines to events, carefully: whatever a line is, it is an event or is told as bad. No files, no server.

Ids are not altered: bytes that are not UTF-8 are counted as these bytes. A line that is not a valid event
is recorded as bad, and reading goes on; a field that the file does not have at all is a :class:`.FieldError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from ..errors import ActivityTrackerError
from ..ids import IdEncoder
from ..keys import check_bucket
from ..periods import Calendar
from .delimited import read_delimited, text_of
from .formats import detect
from .json_records import read_json
from .layout import Layout, TimeFormatError
from .lines import Lines
from .logs import read_log
from .timestamps import BadTimestampError, timestamp_parser

__all__ = ["Event", "bucket_of", "read"]

Event = tuple[bytes, str | None, datetime]

_LINES_TO_DETECT = 5
_MISFITS = 1000
_LINE_SHOWN = 200


def read(lines: Lines, layout: Layout, calendar: Calendar, *, hourly: bool = False) -> Iterator[Event]:
    """The valid events of a file, with naive datetimes in the calendar's zone.

    Args:
        lines: the file's lines; bad ones are recorded there.
        layout: how to read the file.
        calendar: has the zone.
        hourly: whether a time of day is required.

    Raises:
        FieldError: the file does not have a field at all.
        TimeFormatError: no time in it has the format, or none of so many that the others are no better.
    """
    format = layout.format
    if format == "auto":
        format = detect(lines.name, lines.peek(_LINES_TO_DETECT))
    lines.format = format
    parse_time = timestamp_parser(layout.time_format, calendar, hourly=hourly)
    encode = IdEncoder().one
    check_bucket(layout.bucket)
    misfits: list[str] = []  # as long as no time fits
    for id, bucket, time in _raw_events(format, lines, layout, parse_time):
        try:
            event = encode(id), bucket_of(bucket) if layout.bucket_field else layout.bucket, parse_time(time)
        except BadTimestampError as error:
            lines.reject(str(error))
            if not lines.fits:
                misfits.append(f"line {lines.number}, for example, is {_line(lines)}: {error}")
                if len(misfits) == _MISFITS:
                    break
        except ActivityTrackerError as error:
            lines.reject(str(error))
        else:
            lines.fits = True
            yield event
    if misfits and not lines.fits:
        raise TimeFormatError(f"no time has the format {layout.time_format!r}; {misfits[0]}")


def _line(lines: Lines) -> str:
    """The line that was handed out last, short enough for a message."""
    line = text_of(lines.line.strip())
    return repr(line if len(line) <= _LINE_SHOWN else f"{line[:_LINE_SHOWN]}...")


def _raw_events(
    format: str, lines: Lines, layout: Layout, parse_time: Callable[[Any], datetime]
) -> Iterator[tuple[Any, Any, Any]]:
    if format == "log":
        return read_log(lines, layout)
    if format == "jsonl":
        return read_json(lines, layout)
    return read_delimited(format, lines, layout, parse_time)


def bucket_of(value: Any) -> str | None:
    """The bucket from a field, which must not be empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    elif isinstance(value, bytes):
        value = text_of(value)  # check_bucket refuses what is not UTF-8, as any other bad name
    return check_bucket("" if value is None else value)
