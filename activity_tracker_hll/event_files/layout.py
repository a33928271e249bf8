"""How a file is laid out: what is said of it, and the errors when it is not so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from .addresses import is_address_field

__all__ = [
    "FORMATS",
    "FieldError",
    "Filter",
    "Layout",
    "LayoutError",
    "MissingFieldError",
    "TimeFormatError",
]

FORMATS = ("auto", "log", "csv", "tsv", "whitespace", "jsonl", "json")


class LayoutError(ValueError):
    """The file is not laid out as was said."""


class FieldError(LayoutError):
    """The file does not have a field that was asked for."""


class TimeFormatError(LayoutError):
    """No time in the file has the format that was said."""


class MissingFieldError(ValueError):
    """A line does not have a field; other lines may.

    Attributes:
        has: the names of those it has.
    """

    def __init__(self, field: str, has: list[str]) -> None:
        super().__init__(f"no field {field!r}")
        self.has = has


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are taken, by a field.

    Attributes:
        field: its name.
        pattern: a regular expression that is looked for anywhere in the field.
        keeps: whether it is the lines with that which are taken, or all the others.
    """

    field: str
    pattern: re.Pattern[str]
    keeps: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a file.

    Attributes:
        format: one of :data:`FORMATS`.
        id: the field with the id, or several which together are it; None = the client of a log, else "id".
        id_fallback: the field with the id where the one above is empty.
        address: which address of a field that may hold several, such as X-Forwarded-For.
        time: the field with the time, or several, such as a date and a time of day; None = the time of a log,
            else "time".
        bucket_field: the field with the bucket; None = every event is in `bucket`.
        bucket: the name of a bucket, or None for the unnamed one.
        time_format: see :func:`.timestamps.timestamp_parser`.
        timezone: the zone of times that have none themselves; None = the tracker's, in W3C logs UTC.
        header: whether the first line of delimited text names the fields; None = detect.
        names: the names of the columns of delimited text whose lines do not have them.
        delimiter: the delimiter of CSV; None = detect.
        log_format: a name in :data:`.logs.LOG_FORMATS` or a format string of Apache or nginx; None = detect.
        prefix: a name in :data:`.prefixes.PREFIXES`, of what others put before each line; None = nothing.
        nulls: texts that stand for no id or bucket.
        filters: which lines are taken: those that all of them let by.
    """

    format: str = "auto"
    id: str | tuple[str, ...] | None = None
    id_fallback: str | None = None
    address: Literal["first", "last"] = "first"
    time: str | tuple[str, ...] | None = None
    bucket_field: str | None = None
    bucket: str | None = None
    time_format: str = "iso"
    timezone: str | None = None
    header: bool | None = None
    names: tuple[str, ...] | None = None
    delimiter: str | None = None
    log_format: str | None = None
    prefix: str | None = None
    nulls: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether id, bucket and time are each one field as it stands: a fast reader can do no more."""
        if isinstance(self.id, tuple) or isinstance(self.time, tuple):
            return False
        asked = self.id_fallback or self.prefix or self.timezone or self.nulls or self.filters
        return not (asked or (self.id is not None and is_address_field(self.id)))

    def ids(self, default: str) -> tuple[str, ...]:
        """The fields of which the id is made."""
        return _several(self.id, (default,))

    def times(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """The fields of which the time is made."""
        return _several(self.time, default)

    def fields(self, id: str, time: tuple[str, ...]) -> list[str]:
        """All fields that are looked at, given those of id and time by default."""
        more = [self.id_fallback, self.bucket_field, *(one.field for one in self.filters)]
        named = [*self.ids(id), *self.times(time), *more]
        return list(dict.fromkeys(field for field in named if field is not None))


def _several(fields: str | tuple[str, ...] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return (fields,) if isinstance(fields, str) else fields or default
