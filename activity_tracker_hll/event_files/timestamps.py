"""Parsing the time in a line of a file into a naive datetime in the tracker's zone.

A time is right or refused: no time that is not one becomes a day of 1970 or 1900, and no zone is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from .. import zones
from ..errors import ActivityTrackerError
from ..periods import Calendar

__all__ = ["EPOCH_UNITS", "BadTimestampError", "check_time_format", "timestamp_parser"]

EPOCH_UNITS = {"epoch": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
"""The names of formats of numbers since 1970, and how many of them make a second."""

_UNIT_NAMES = {
    "epoch": "seconds",
    "epoch_ms": "milliseconds",
    "epoch_us": "microseconds",
    "epoch_ns": "nanoseconds",
}
# A number of one unit read as one of another would lie outside these years, and so would most numbers that
# are no times: 20260102 is a second of 1970.
_FIRST_YEAR, _LAST_YEAR = 1980, 2200
_FIRST = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)
_LAST = datetime(_LAST_YEAR, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Adjacent lines often have the same time.
_REMEMBERED = 4096
_LONGEST = 100
"""No time is longer; nothing longer is remembered."""
_SHOWN = 60

_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?", re.ASCII)
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-?W[0-9]{2}(?:-?[0-9])?", re.ASCII)
# What separates the date from the time is an arbitrary character for datetime.fromisoformat, which takes the
# milliseconds 1711010112345 for a quarter to midnight in 1711.
_ISO_TIME = re.compile(
    r"(?P<time>[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}(?:-?[0-9])?)[T ][0-9]{2}[0-9:.,]*)"
    r" ?(?P<zone>[A-Za-z_/+\-0-9:]*)(?:\[(?P<region>[A-Za-z_/+\-0-9]+)\])?",
    re.ASCII,
)
_YEAR = re.compile("%[YyGcx]")
_WIDTHS = dict.fromkeys(["%y", "%m", "%d", "%H", "%I", "%M", "%S", "%U", "%W", "%V"], 2)
_WIDTHS |= {"%Y": 4, "%G": 4, "%j": 3, "%f": 6, "%w": 1, "%u": 1}
"""The digits of directives that are numbers; %f may have fewer."""

_PART = re.compile(r"%.|\s+|.", re.DOTALL)
_LAX = re.compile("%[jUW]|(?:%[yYGmdHIMSjUWVwuf]){2}")
_OFFSET = re.compile(r"[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?", re.ASCII)
_UTC_NAMES = {"Z", "UTC", "GMT", "ETC/UTC", "ETC/GMT"}
# Unlike each other in every part that a format may have.
_PROBE = datetime(2023, 11, 24, 15, 37, 48, 987654, tzinfo=UTC)


class BadTimestampError(ValueError):
    """A time that does not have the expected format."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A format of strptime, and what it has.

    Attributes:
        format: the format, without the name of a zone.
        has_hour: whether it has a time of day.
        has_zone_name: whether the name of a zone follows.
        strict: what texts are like, see :func:`_strict`.
    """

    format: str
    has_hour: bool = True
    has_zone_name: bool = False
    strict: re.Pattern[str] | None = None


def timestamp_parser(
    format: str, calendar: Calendar, *, hourly: bool, zone: str | None = None
) -> Callable[[Any], datetime]:
    """A function that parses a value into a naive datetime in the calendar's zone.

    The function raises BadTimestampError, or an ActivityTrackerError of the calendar.

    Args:
        format: "iso", a name in :data:`EPOCH_UNITS`, or a format for strptime.
        calendar: has the zone.
        hourly: refuse dates without a time of day.
        zone: the zone of times that have none themselves; None = the calendar's.

    Raises:
        ValueError: the format is none.
        ActivityTrackerError: no such zone.
    """
    parse_text = _text_parser(format)
    own_zone = None if zone is None else zones.load(zone)

    def convert(value: Any) -> datetime:
        parsed = value if isinstance(value, datetime) else parse_text(_text(value))
        if own_zone is not None and isinstance(parsed, datetime) and parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=own_zone)
        return calendar.moment(parsed, "time", needs_hour=hourly)

    remembered = lru_cache(_REMEMBERED, typed=True)(convert)  # 20260102 is a day, 20260102.0 is not

    def parse(value: Any) -> datetime:
        if isinstance(value, bool) or not isinstance(value, (str, bytes, int, float, datetime)):
            raise BadTimestampError(f"time {_shown(value)} is not a time")
        if isinstance(value, (str, bytes)) and len(value) > _LONGEST:
            raise BadTimestampError(f"time {_shown(value)} is too long for a time")
        try:
            return remembered(value)
        except BadTimestampError as error:
            raise BadTimestampError(f"time {_shown(value)} is not {error}") from error
        except ActivityTrackerError:
            raise
        except (ValueError, OverflowError, OSError) as error:
            raise BadTimestampError(f"time {_shown(value)} is not {_expected(format)} ({error})") from error

    return parse


def check_time_format(format: str) -> None:
    """Check a format.

    Raises:
        ValueError: it is no name of one and has no directive of strptime, or does not say the day.
    """
    _text_parser(format)


def _text_parser(format: str) -> Callable[[str], date]:
    if format == "iso":
        return _parse_iso
    if format in EPOCH_UNITS:
        return lambda text: _parse_epoch(text, format)
    pattern = _pattern(format)
    return lambda text: _parse_pattern(text, pattern)


def _text(value: str | bytes | float) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _shown(value: Any) -> str:
    part = value[: _SHOWN + 1] if isinstance(value, (str, bytes)) else value
    text = f"{part!r:.{_SHOWN}}"
    return text if len(repr(part)) <= _SHOWN else f"{text}..."


def _expected(format: str) -> str:
    if format == "iso":
        return "an ISO 8601 date or time"
    unit = _UNIT_NAMES.get(format)
    return f"{unit} since 1970" if unit else f"of the format {format!r}"


# Numbers since 1970


def _parse_epoch(text: str, format: str) -> datetime:
    if not _NUMBER.fullmatch(text):
        raise BadTimestampError(f"{_expected(format)}: no number")
    moment = _moment(text, EPOCH_UNITS[format])
    if moment is None:
        raise BadTimestampError(
            f"{_expected(format)} in the years {_FIRST_YEAR} to {_LAST_YEAR}{_other_unit(text)}"
        )
    return moment


def _moment(text: str, per_second: int) -> datetime | None:
    """The time of a number; None if that is not plausible."""
    try:
        moment = _EPOCH + timedelta(microseconds=_microseconds(text, per_second))
    except OverflowError:
        return None
    return moment if _FIRST <= moment < _LAST else None


def _microseconds(text: str, per_second: int) -> int:
    """The microseconds of a number; what is finer is cut off, as rounding could lead to the next day."""
    number, _, exponent = text.lower().partition("e")
    whole, _, fraction = number.partition(".")
    micros: int = int(whole + fraction) * 10 ** (6 + int(exponent or 0))
    scale: int = 10 ** len(fraction)
    return micros // (per_second * scale)


def _other_unit(text: str) -> str:
    """What to say of a number that is plausible in another unit."""
    if _NUMBER.fullmatch(text):
        for name, per_second in EPOCH_UNITS.items():
            if (moment := _moment(text, per_second)) is not None:
                return f"; in {_UNIT_NAMES[name]} (time format {name}) it is {moment:%Y-%m-%d %H:%M} UTC"
    return ""


# ISO 8601


def _parse_iso(text: str) -> date:
    if _ISO_DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise BadTimestampError(f"an ISO 8601 date or time ({error}){_other_unit(text)}") from error
    found = _ISO_TIME.fullmatch(text.replace("t", "T", 1) if text[8:9] == "t" or text[10:11] == "t" else text)
    if found is None:
        raise BadTimestampError(f"an ISO 8601 date or time{_other_unit(text)}")
    zone, region = found["zone"], found["region"]
    if _OFFSET.fullmatch(zone):
        return datetime.fromisoformat(found["time"] + zone)
    moment = datetime.fromisoformat(found["time"])
    name = zone or region
    return moment.replace(tzinfo=_zone(name)) if name else moment


def _zone(name: str) -> tzinfo:
    """The zone of a name that is the same everywhere.

    Raises:
        BadTimestampError: there is none, or people mean several zones by it, as by EST, CST and IST.
    """
    if name.upper() in _UTC_NAMES:
        return UTC
    if "/" in name:
        try:
            return zones.load(name) or UTC
        except ActivityTrackerError:
            pass
    raise BadTimestampError(
        f"a time whose zone is known: {name:.20} is neither UTC, an offset nor a name such as Europe/Berlin"
    )


# Formats of strptime


def _pattern(format: str) -> _Pattern:
    if "%" not in format:
        names = ", ".join(["iso", *EPOCH_UNITS])
        raise ValueError(
            f"a time format is one of {names} or has directives such as %Y, got {format!r:.{_SHOWN}}"
        )
    has_zone_name = format.endswith("%Z")
    format = format.removesuffix("%Z").rstrip() if has_zone_name else format
    if "%Z" in format.replace("%%", ""):
        raise ValueError("the name of a zone, %Z, has to be last in a time format")
    if not _YEAR.search(format.replace("%%", "")):  # else it would be 1900, of which Python may warn
        raise ValueError(f"time format {format!r:.{_SHOWN}} does not say year, month and day")
    try:
        parsed = datetime.strptime(_PROBE.strftime(format), format)  # noqa: DTZ007 (of the format's parts)
    except ValueError as error:
        raise ValueError(f"time format {format!r:.{_SHOWN}}: {error}") from error
    if parsed.date() != _PROBE.date():
        raise ValueError(f"time format {format!r:.{_SHOWN}} does not say year, month and day")
    if parsed.hour not in (0, _PROBE.hour):
        raise ValueError(f"time format {format!r:.{_SHOWN}} has %I without %p")
    return _Pattern(format, parsed.hour == _PROBE.hour, has_zone_name, _strict(format))


def _strict(format: str) -> re.Pattern[str] | None:
    """What texts of a format are like, where strptime takes others too; None if it does not.

    Numbers that touch have their full width: by %Y%m%d it takes 202611 for the first of January.
    """
    if not _LAX.search(format):
        return None
    parts = _PART.findall(format)
    patterns = []
    for before, part, after in zip(["", *parts], parts, [*parts[1:], ""], strict=False):
        width = _WIDTHS.get(part)
        if width is not None:
            is_full = (before in _WIDTHS or after in _WIDTHS) and part != "%f"
            digits = rf"\d{{{width if is_full else 1},{width}}}"
            is_year = part == "%Y" or (part == "%y" and "%Y" not in parts)
            patterns.append(f"(?P<year>{digits})" if is_year else digits)
        elif part.isspace():
            patterns.append(r"\s+")
        else:
            patterns.append(".+?" if part[0] == "%" != part[-1] else re.escape(part[-1]))
    return re.compile("".join(patterns), re.IGNORECASE)


def _parse_pattern(text: str, pattern: _Pattern) -> date:
    zone = None
    if pattern.has_zone_name:
        text, _, name = text.rpartition(" ")
        zone = _zone(name)
    text = text.strip()
    moment = datetime.strptime(text, pattern.format)  # noqa: DTZ007 (without an offset: the file's zone)
    if pattern.strict is not None:
        found = pattern.strict.fullmatch(text)
        if found is None:
            raise ValueError("numbers that touch have their full width")
        # By %Y-%j strptime takes 2026-366 for the first day of 2027.
        if int(found.groupdict().get("year") or moment.year) % 100 != moment.year % 100:
            raise ValueError("there is no such day in that year")
    if not pattern.has_hour:
        return moment.date()
    return moment if zone is None else moment.replace(tzinfo=zone)
