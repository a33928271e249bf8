"""How a file is laid out: what is said of it, and the errors when it is not so."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMATS", "FieldError", "Layout", "LayoutError", "TimeFormatError"]

FORMATS = ("auto", "log", "csv", "tsv", "whitespace", "jsonl")


class LayoutError(ValueError):
    """The file is not laid out as was said."""


class FieldError(LayoutError):
    """The file does not have a field that was asked for."""


class TimeFormatError(LayoutError):
    """No time in the file has the format that was said."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a file.

    Attributes:
        format: one of :data:`FORMATS`.
        id: the field with the id; None = the client of a log, else "id".
        time: the field with the time; None = the time of a log, else "time".
        bucket_field: the field with the bucket; None = every event is in `bucket`.
        bucket: the name of a bucket, or None for the unnamed one.
        time_format: see :func:`.timestamps.timestamp_parser`.
        header: whether the first line of delimited text names the fields; None = detect.
        delimiter: the delimiter of CSV; None = a comma.
        log_format: see :class:`.logs.LogParser`.
    """

    format: str = "auto"
    id: str | None = None
    time: str | None = None
    bucket_field: str | None = None
    bucket: str | None = None
    time_format: str = "iso"
    header: bool | None = None
    delimiter: str | None = None
    log_format: str | None = None

    def fields(self, id: str, time: str) -> list[str | None]:
        """The fields of id, bucket and time, with defaults."""
        return [self.id or id, self.bucket_field, self.time or time]
