"""Time zones: loading them by name, what they are called, and telling whether two behave alike."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from .errors import ArgumentTypeError, ArgumentValueError
from .messages import plain_text, printable, shown

__all__ = ["fingerprint", "load", "name_of"]

_LOCAL_LINK = Path("/etc/localtime")
# As str() shows a fixed offset of the standard library.
_FIXED = re.compile(r"UTC(?:([+-])([01]\d|2[0-3]):([0-5]\d))?", re.ASCII)


def load(zone: object, argument: str = "timezone") -> tzinfo | None:
    """The zone of an IANA name or an offset such as UTC+02:00; a tzinfo as it is; None is local time.

    Raises:
        ArgumentTypeError, ArgumentValueError: there is no such zone.
    """
    if zone is None:
        return None
    if isinstance(zone, tzinfo):
        try:
            datetime(2015, 1, 1, tzinfo=UTC).astimezone(zone)
            str(zone)
        except Exception as error:
            raise ArgumentValueError(f"{argument} cannot convert times, got {shown(zone)}") from error
        return zone
    name = plain_text(zone)
    if name is None:
        raise ArgumentTypeError(f"{argument} must be an IANA name, a tzinfo or None, got {shown(zone)}")
    if fixed := _FIXED.fullmatch(name):
        sign, hours, minutes = fixed.groups(default="0")
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset) if offset else UTC
    try:
        return ZoneInfo(name)
    except Exception as error:  # many: of what is no path, no text, no file...
        raise ArgumentValueError(
            f"{argument} must be an IANA name such as 'Europe/Berlin', got {shown(zone)}"
            " (on a system without time zone data: pip install tzdata)"
        ) from error


def name_of(zone: tzinfo | None) -> str:
    """What a zone is called: :func:`load` finds it by that, unless local time has no other name."""
    return _name_of_local_time() if zone is None else printable(str(zone))


def fingerprint(zone: tzinfo | None) -> str:
    """A digest of a zone's offsets from UTC in each week of 2015-2024.

    It is equal for zones that behave alike, whatever they are called ("UTC" and "Etc/UTC", a name and local
    time). Only past years count, so that an update of tzdata on one host changes nothing.
    """
    return _fingerprint(zone) if type(zone) in (ZoneInfo, timezone) else _digest(zone)


def _digest(zone: tzinfo | None) -> str:
    first = datetime(2015, 1, 1, tzinfo=UTC)
    offsets = ((first + timedelta(weeks=week)).astimezone(zone).utcoffset() for week in range(522))
    return hashlib.blake2b(repr(list(offsets)).encode(), digest_size=8).hexdigest()


_fingerprint = lru_cache(maxsize=64)(_digest)  # not of local time, which a process may change


def _name_of_local_time() -> str:
    """An IANA name, by which other machines know the zone too; else "local time" and its present offset."""
    candidates = [os.environ.get("TZ", "").lstrip(":")]
    if _LOCAL_LINK.is_symlink():
        candidates.append(str(_LOCAL_LINK.resolve()).partition("zoneinfo/")[2])
    for name in filter(None, candidates):
        try:
            if fingerprint(load(name)) == fingerprint(None):
                return name
        except ArgumentValueError:
            continue
    return f"local time ({datetime.now().astimezone().tzname()}, UTC{datetime.now().astimezone():%z})"
