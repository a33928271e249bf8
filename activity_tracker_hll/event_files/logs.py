"""Access logs, read line by line: those of Apache's and nginx's formats by the package apachelogs.

That is of an extra, and imported by the first line which may be an entry: other files are read without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

from ..errors import MissingExtraError
from .addresses import address, is_address
from .layout import Layout, MissingFieldError
from .lines import NO_LINE, Lines
from .nginx import apache_format, is_nginx_format
from .prefixes import without_prefix
from .records import Record
from .tabular_logs import ALB, ELB, ColumnParser, W3CParser
from .timestamps import BadTimestampError

__all__ = [
    "ALIASES",
    "LOG_FORMATS",
    "LONGEST_ENTRY",
    "TIMESTAMP",
    "ApacheRecord",
    "LogParser",
    "log_parser",
    "log_records",
]

_COMMON = '%h %l %u %t "%r" %>s %b'
_HEADERS = '"%{Referer}i" "%{User-Agent}i"'
_APACHE_FORMATS = {
    "combined": f"{_COMMON} {_HEADERS}",
    "common": _COMMON,
    "nginx": f'{_COMMON} {_HEADERS} "%{{X-Forwarded-For}}i"',  # "main" of the settings that come with nginx
    "vhost_combined": f'%v:%p %h %l %u %t "%r" %>s %O {_HEADERS}',
    "vhost_common": f"%v {_COMMON}",
}
LOG_FORMATS = (*_APACHE_FORMATS, "alb", "elb", "w3c")
_GUESSED = ("combined", "common", "nginx")

ALIASES = {
    "host": "remote_host",
    "ip": "remote_host",
    "remote_addr": "remote_host",
    "user": "remote_user",
    "user_agent": "User-Agent",
    "referer": "Referer",
    "vhost": "virtual_host",
    "status": "final_status",
    "request": "request_line",
}
_GROUPS = ("headers_in", "headers_out", "cookies", "env_vars", "notes", "variables")

TIMESTAMP = re.compile(rb"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:")
"""The time of an entry, as most formats have it."""

_HOST_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_CHAIN = re.compile(rb"(?P<chain>[^\s,\"\[]{1,100}(?:, ?[^\s,\"\[]{1,100}){1,30}) ")
_QUOTED = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
# apachelogs tries each way to share out the words that are not quoted among the fields.
_MOST_BREAKS = 60
LONGEST_ENTRY = 1 << 16
"""In bytes. Servers refuse requests of half that, and matching takes 200 bytes of memory for each."""

_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\[^x]|([\x80-\xff])")
_LETTERS_OF_ESCAPES = "tnrbvfx"
_FIRST_YEAR = 1980


class LogParser(Protocol):
    """Parses the lines of a log."""

    def parse(self, line: bytes) -> Record | None:
        """The fields of a line; None if it is no entry, but a comment.

        Raises:
            ValueError: the line does not have the format.
        """


def log_parser(log_format: str | None = None) -> LogParser:
    """A parser of one format, or of those mixed that need not be named.

    Args:
        log_format: a name in :data:`LOG_FORMATS`, or a format string as in Apache's LogFormat or nginx's
            log_format; None = combined, common or nginx.

    Raises:
        ValueError: an invalid format string.
        MissingExtraError: it is of Apache or nginx, and apachelogs is missing.
    """
    match log_format:
        case "w3c":
            return W3CParser()
        case "alb":
            return ColumnParser(ALB)
        case "elb":
            return ColumnParser(ELB)
        case _:
            return ApacheParser(log_format)


def log_records(lines: Lines, layout: Layout, parser: LogParser) -> Iterator[Record | None]:
    """The entries of a log; None for :data:`.lines.NO_LINE`."""
    for line in without_prefix(lines, layout.prefix):
        if not line.strip():
            if line == NO_LINE:
                yield None
            continue
        try:
            entry = parser.parse(line)
        except ValueError as error:
            lines.reject(str(error))
        else:
            if entry is not None:
                yield entry


class ApacheParser:
    """Parses lines of one format of Apache or nginx, or of the guessed ones mixed."""

    def __init__(self, log_format: str | None = None) -> None:
        names = _GUESSED if log_format is None else (log_format,)
        formats = [_APACHE_FORMATS.get(name, name) for name in names]
        formats = [apache_format(format) if is_nginx_format(format) else format for format in formats]
        if log_format is not None and "%" not in formats[0]:
            raise ValueError(f"no log format {log_format!r:.60}; there are {', '.join(LOG_FORMATS)}")
        self._formats = formats
        self._begins_with_host = all(format.startswith("%h ") for format in formats)
        self._is_guess = log_format is None
        self._has_timestamp = all("%t" in format for format in formats)
        if not self._is_guess:
            _ = self._parsers  # which refuses an invalid one

    @cached_property
    def _parsers(self) -> list[Any]:
        """Those of the formats, the likeliest first."""
        try:
            from apachelogs import LogParser  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise MissingExtraError(
                "access logs need apachelogs, of the extra 'cli': pip install 'activity-tracker-hll[cli]'"
            ) from error
        # As bytes, so that nothing is lost or altered by a guessed encoding.
        return [LogParser(format, "bytes") for format in self._formats]

    def parse(self, line: bytes) -> Record:
        """The fields of an entry.

        Raises:
            ValueError: the line does not have the format.
            MissingExtraError: it may have, and apachelogs is missing.
        """
        if len(line) > LONGEST_ENTRY:
            raise ValueError(f"longer than {LONGEST_ENTRY:,} bytes")
        if self._has_timestamp and not TIMESTAMP.search(line):
            raise self._refused(line)
        chain = _CHAIN.match(line) if self._begins_with_host else None
        hosts = chain["chain"].decode("latin-1") if chain else None
        if chain and hosts and address("X-Forwarded-For", hosts, "first"):
            line = b"- " + line[chain.end() :]
        else:
            hosts = None
        text = _plain_escapes(line)
        if _has_many_breaks(text) and _has_many_breaks(_QUOTED.sub("", text)):
            raise self._refused(line)
        for index, parser in enumerate(self._parsers):
            try:
                entry = parser.parse(text)
            except ValueError:  # of apachelogs, too
                continue
            if index:  # the next line probably has the same format
                self._parsers.insert(0, self._parsers.pop(index))
            if hosts is not None:
                entry.remote_host = hosts.encode("latin-1")
            if not _is_likely(entry, is_guess=self._is_guess and hosts is None):
                raise self._refused(line)
            return ApacheRecord(entry)
        raise self._refused(line)

    def _refused(self, line: bytes) -> ValueError:
        shown = f"{line[:100].decode('ascii', 'backslashreplace').rstrip()!r:.80}"
        if self._is_guess:
            return ValueError(
                "not of the format common, combined or nginx: name its own, as --log-format vhost_combined"
                f" or '%v %p %h %l %u %t \"%r\" %>s %b': {shown}"
            )
        return ValueError(f"not of the log format: {shown}")


class ApacheRecord:
    """An entry of apachelogs."""

    default_id = "remote_host"
    default_time: tuple[str, ...] = ("request_time",)

    def __init__(self, entry: Any) -> None:
        self._values = vars(entry)
        if "request_time" not in self._values and "time_iso8601" in self._values.get("notes", ()):
            self.default_time = ("time_iso8601",)

    def value(self, field: str) -> Any:
        """See :class:`.records.Record`; a field is an attribute, a header such as User-Agent, or a.b."""
        values = self._values
        name = ALIASES.get(field, field)
        if field not in values and name in values:
            field = name
        if field in values:
            return _checked_time(values) if field == "request_time" else values[field]
        if field in ("method", "path") and "request_line" in values:
            return _part_of_request(values["request_line"], field)
        group, dot, rest = field.partition(".")
        if dot and group in _GROUPS and rest in values.get(group, ()):
            return values[group][rest]
        header = field.removeprefix("http_").replace("_", "-") if field.startswith("http_") else name
        if header in values.get("headers_in", ()):
            return values["headers_in"][header]
        for group in ("notes", "variables", "env_vars"):
            if field in values.get(group, ()):
                return values[group][field]
        raise MissingFieldError(field, self.names())

    def names(self) -> list[str]:
        """See :class:`.records.Record`."""
        hidden = ("entry", "format", "directives", *_GROUPS)
        simple = [name for name in self._values if name not in hidden and not name.endswith("_fields")]
        return simple + [str(key) for group in _GROUPS for key in self._values.get(group, ())]


def _checked_time(values: dict[str, Any]) -> Any:
    """The time of an entry; apachelogs takes one of an unknown zone for local, and any number for one.

    Raises:
        BadTimestampError: the format has only a part of it.
        ValueError: it is not known for sure.
    """
    fields = values.get("request_time_fields", {})
    if values["request_time"] is None and any(value is not None for value in fields.values()):
        raise BadTimestampError(
            f"no request_time: the log format says only {', '.join(fields)}, and is needed to the second"
        )
    if fields.get("tzname") not in (None, "", "UTC", "GMT"):
        raise ValueError(f"the zone {fields['tzname']!r:.20} can be several")
    time = values["request_time"]
    is_number = any(name.endswith("epoch") for name in fields)
    if is_number and time is not None and time.year < _FIRST_YEAR:
        raise ValueError(f"the time is in {time.year}: it has another unit")
    return time


def _part_of_request(request: bytes | None, part: str) -> bytes | None:
    """The method, or the path without what is asked for: of "GET http://host/path?x=y HTTP/1.1"."""
    words = (request or b"").split(b" ")
    if len(words) < 2:
        return None
    if part == "method":
        return words[0]
    target = words[1].partition(b"?")[0]
    _, is_url, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if is_url else target


def _is_likely(entry: Any, *, is_guess: bool) -> bool:
    """Whether host, logname and user are that, and not fields of a format which has others before or between.

    Users may contain spaces, so that "site 443 host - -" is read as host, logname and a user "host - -".
    """
    logname, user = getattr(entry, "remote_logname", None), getattr(entry, "remote_user", None)
    if (logname or user) and not _are_words_of_a_user(logname or b"", user or b""):
        return False
    host = getattr(entry, "remote_host", b"").decode("latin-1")
    if " " in host and "," not in host:  # nor does a host, unless it is a chain of them
        return False
    if not is_guess:
        return True
    bare = address("remote_host", host, "first") or ""
    if host == "-" or not (is_address(bare) or _HOST_NAME.fullmatch(host)):
        return False
    return not logname or (is_address(bare) and b" " not in (user or b""))


def _are_words_of_a_user(logname: bytes, user: bytes) -> bool:
    words = user.split(b" ")
    if len(words) > 1 and not {b"-", b""}.isdisjoint(words):
        return False
    return not (is_address(logname.decode("latin-1")) or is_address(user.decode("latin-1")))


def _has_many_breaks(text: str) -> bool:
    return text.count(" ") + text.count("[") > _MOST_BREAKS


def _plain_escapes(line: bytes) -> str:
    r"""A line in which no escape can be read in two ways.

    apachelogs takes \x16 for a byte, or for an escaped x and two more characters, and tries all the ways to
    read a line of many (a handshake of TLS has a hundred) which is not of its format: 2 to the power of their
    number. Bytes that are not ASCII, which Apache writes as escapes and others do not, become such.
    """
    text = line.decode("latin-1").rstrip()
    return text if text.isascii() and "\\" not in text else _ESCAPE.sub(_plain_escape, text)


def _plain_escape(escape: re.Match[str]) -> str:
    if escape[1]:
        char = chr(int(escape[1], 16))
        if char == "\n":
            return r"\n"
        return char if char in _LETTERS_OF_ESCAPES else f"\\{char}"
    return f"\\{escape[2]}" if escape[2] else escape[0]
