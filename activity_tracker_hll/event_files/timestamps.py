"""Parsing the time in a line of a file into a naive datetime in the tracker's zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from ..periods import Calendar

__all__ = ["EPOCH_UNITS", "BadTimestampError", "timestamp_parser"]

EPOCH_UNITS = {"epoch": 1, "epoch_ms": 1000}
_EXPECTED = {
    "iso": "an ISO 8601 date or time",
    "epoch": "seconds since 1970",
    "epoch_ms": "milliseconds since 1970",
}
# Adjacent lines often have the same time.
_REMEMBERED = 4096
# The longest date without a time of day is 1997-W01-1.
_LONGEST_DATE = 10


class BadTimestampError(ValueError):
    """A time that does not have the expected format."""


def timestamp_parser(format: str, calendar: Calendar, *, hourly: bool) -> Callable[[Any], datetime]:
    """A function that parses a value into a naive datetime in the calendar's zone.

    The function raises BadTimestampError, or an ActivityTrackerError of the calendar.

    Args:
        format: "iso", "epoch", "epoch_ms", or a format for strptime.
        calendar: has the zone.
        hourly: refuse dates without a time of day.
    """

    @lru_cache(_REMEMBERED, typed=True)  # 20260102 is a day, 20260102.0 is not
    def parse_cached(value: Any) -> datetime:
        try:
            parsed = _parse(value, format)
        except (ValueError, OverflowError, OSError) as error:
            expected = _EXPECTED.get(format, f"of the format {format!r}")
            raise BadTimestampError(f"time {value!r:.80} is not {expected} ({error})") from error
        return calendar.moment(parsed, "time", needs_hour=hourly)

    def parse(value: Any) -> datetime:
        if isinstance(value, bool) or not isinstance(value, (str, bytes, int, float, datetime)):
            raise BadTimestampError(f"time {value!r:.80} is not a time")
        return parse_cached(value)

    return parse


def _parse(value: str | bytes | float | datetime, format: str) -> date:
    if isinstance(value, datetime):
        return value
    text = (value.decode() if isinstance(value, bytes) else str(value)).strip()
    if format in EPOCH_UNITS:
        return datetime.fromtimestamp(float(text) / EPOCH_UNITS[format], UTC)
    if format != "iso":
        return datetime.strptime(text, format)  # noqa: DTZ007 (without an offset it is in the tracker's zone)
    return date.fromisoformat(text) if len(text) <= _LONGEST_DATE else datetime.fromisoformat(text)
