"""Access logs in Apache's formats, read line by line by the package apachelogs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import apachelogs

from .layout import FieldError, Layout
from .lines import Lines

__all__ = ["ALIASES", "LOG_FORMATS", "LogParser", "is_log", "log_value", "read_log"]

LOG_FORMATS = {
    "combined": apachelogs.COMBINED,
    "common": apachelogs.COMMON,
    "vhost_combined": apachelogs.VHOST_COMBINED,
    "vhost_common": apachelogs.VHOST_COMMON,
}
_DEFAULT_FORMATS = ("combined", "common")
# Both formats have a timestamp; on a line without one, apachelogs takes quadratic time.
_TIMESTAMP = re.compile(rb"\[\d\d/\w+/\d{4}:")
ALIASES = {
    "host": "remote_host",
    "ip": "remote_host",
    "user": "remote_user",
    "user_agent": "User-Agent",
    "referer": "Referer",
    "vhost": "virtual_host",
}
_GROUPS = ("headers_in", "headers_out", "cookies", "env_vars", "notes", "variables")


class LogParser:
    """Parses lines of one format, or of the combined and common formats mixed.

    Args:
        log_format: a name in :data:`LOG_FORMATS`, or a format string as in Apache's LogFormat; None
            = combined or common.

    Raises:
        ValueError: an invalid format string.
    """

    def __init__(self, log_format: str | None = None) -> None:
        formats = _DEFAULT_FORMATS if log_format is None else (log_format,)
        # As bytes, so that nothing is lost or altered by a guessed encoding.
        self._parsers = [apachelogs.LogParser(LOG_FORMATS.get(name, name), "bytes") for name in formats]
        self._is_default = log_format is None

    def parse(self, line: bytes) -> Any:
        """Parse a line into a LogEntry of apachelogs.

        Raises:
            ValueError: the line does not have the format.
        """
        # Apache writes bytes that are not ASCII as \xHH, which apachelogs decodes; nginx and others do not.
        text = line.decode("ascii", "backslashreplace").rstrip()
        parsers = [] if self._is_default and not _TIMESTAMP.search(line) else self._parsers
        for index, parser in enumerate(parsers):
            try:
                entry = parser.parse(text)
            except (apachelogs.InvalidEntryError, ValueError):
                continue
            if index:  # the next line probably has the same format
                self._parsers.insert(0, self._parsers.pop(index))
            if self._is_default and (entry.remote_user or b"").startswith(b"- "):
                # Users may contain spaces: "host address - user" is read as host, logname and user "- user".
                raise ValueError(f"one field too many, is it --log-format vhost_...? {text!r:.80}")
            return entry
        raise ValueError(f"not of the log format: {text!r:.80}")

    @staticmethod
    def fields(entry: Any) -> list[str]:
        """The names of the fields that an entry has."""
        values = vars(entry)
        simple = [name for name in values if name not in ("entry", "format", "directives", *_GROUPS)]
        grouped = [str(key) for group in _GROUPS for key in values.get(group, ())]
        return [name for name in simple if not name.endswith("_fields")] + grouped


def is_log(line: bytes) -> bool:
    """Whether a line has the combined or common format."""
    try:
        LogParser().parse(line)
    except ValueError:
        return False
    return True


def log_value(entry: Any, field: str) -> Any:
    """The value of a log entry's field.

    Args:
        entry: the entry.
        field: an attribute such as remote_host, a header such as User-Agent, or a.b.

    Raises:
        KeyError: entries of this format have no such field.
        ValueError: the field is empty ("-") in this entry.
    """
    field = ALIASES.get(field, field)
    values = vars(entry)
    group, dot, name = field.partition(".")
    if field in values:
        value = values[field]
    elif dot and group in _GROUPS:
        value = values[group][name]
    else:
        value = values["headers_in"][field]
    if value is None:
        raise ValueError(f"no {field}")
    return value


def read_log(lines: Lines, layout: Layout) -> Iterator[tuple[Any, Any, Any]]:
    """The id, bucket and time of each entry, not yet checked or converted."""
    parser = LogParser(layout.log_format)
    fields = layout.fields("remote_host", "request_time")
    for line in lines:
        if not line.strip():
            continue
        try:
            entry = parser.parse(line)
            id, bucket, time = (None if field is None else log_value(entry, field) for field in fields)
        except ValueError as error:
            lines.reject(str(error))
        except KeyError:
            has = ", ".join(parser.fields(entry))
            raise FieldError(
                f"no field {_missing_field(fields, entry)!r} in this log, which has: {has}"
            ) from None
        else:
            yield id, bucket, time


def _missing_field(fields: list[str | None], entry: Any) -> str:
    for field in fields:
        try:
            log_value(entry, field or "remote_host")
        except KeyError:
            return str(field)
    return ""
