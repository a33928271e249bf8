"""Which format a file has, by its name and its first lines: only what fits is guessed, or else nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from .. import zones
from ..keys import check_bucket
from .delimited import DELIMITERS, SEPARATOR_LINE
from .layout import FORMATS, Layout, LayoutError
from .logs import TIMESTAMP, LogParser, log_parser
from .prefixes import find_prefix
from .tabular_logs import is_w3c
from .timestamps import check_time_format

__all__ = ["check_layout", "head_lines", "resolve"]

_LINES_TO_DETECT = 100
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_JSON = re.compile(rb"\s*(?:\{|\[\s*(?:\{|$))")
_QUOTED = re.compile(rb'"[^"]*+"')
_COMMA = re.compile(rb"[,;]")
_DECIMAL_COMMA = re.compile(rb"(?<=:\d\d),(?=\d{3,9}\s+\S)")  # of seconds, with more behind them
_SEEN = (",", ";", "\t")
"""Delimiters that need not be named."""

_FITTING = 0.9
"""So large a part of the first lines has as many delimiters as the first one: a few may be bad."""

_EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def check_layout(layout: Layout) -> None:
    """Refuse what would make every line bad.

    Raises:
        LayoutError: it is said what, with the names of attributes of the layout.
        ActivityTrackerError: no such bucket or zone.
    """
    if layout.format not in FORMATS:
        raise LayoutError(f"format is one of {', '.join(FORMATS)}, got {layout.format!r:.60}")
    if layout.log_format is not None and layout.format not in ("auto", "log"):
        raise LayoutError(f"log_format is of logs, and format is {layout.format}")
    if layout.bucket is not None and layout.bucket_field is not None:
        raise LayoutError("bucket and bucket_field exclude each other")
    if layout.delimiter is not None and (len(layout.delimiter) != 1 or layout.delimiter in '"\r\n'):
        raise LayoutError(
            f"delimiter is one character, no quote and no line break, got {layout.delimiter!r:.60}"
        )
    for name in ("id", "id_fallback", "time", "bucket_field"):
        fields = getattr(layout, name)
        if "" in (fields if isinstance(fields, tuple) else (fields,)):
            raise LayoutError(f"{name} is the name or the number of a field, got ''")
    check_bucket(layout.bucket)
    zones.load(layout.timezone)
    try:
        check_time_format(layout.time_format)
    except ValueError as error:
        raise LayoutError(f"time_format: {error}") from error
    try:
        log_parser(layout.log_format)
    except ValueError as error:
        raise LayoutError(f"log_format: {error}") from error


def head_lines(head: bytes) -> list[bytes]:
    """The lines of what a file begins with, of which the last one may be cut."""
    return head.splitlines(keepends=True)[:_LINES_TO_DETECT]


def resolve(layout: Layout, name: str, head: Sequence[bytes]) -> Layout:
    """A layout in which nothing is left to detect, but for the header of delimited text.

    Args:
        layout: what was said.
        name: the file's name.
        head: its first lines.

    Raises:
        LayoutError: they fit two layouts.
    """
    head = [line for line in head if line.strip()]
    format = layout.format if layout.format != "auto" else _format(layout, name, head)
    is_tsv = "tsv" in (layout.format, _by_name(name))
    layout = replace(layout, format=format)
    if format == "log":
        return _resolved_log(layout, head)
    if format in ("json", "jsonl"):
        return replace(layout, prefix=layout.prefix or find_prefix(head, _is_object))
    if layout.delimiter is None and format != "whitespace":
        return replace(layout, delimiter=_delimiter(format, head, is_sure=is_tsv))
    return layout


def _format(layout: Layout, name: str, head: Sequence[bytes]) -> str:
    if layout.log_format is not None:
        return "log"
    found = _by_name(name)
    if found == "json" or (found is None and head and _JSON.match(head[0])):
        begin = next((line for line in head if line.lstrip().startswith((b"{", b"["))), b"")
        return "jsonl" if _is_object(begin) else "json"
    return found or ("csv" if layout.delimiter is not None else _by_content(head))


def _by_content(head: Sequence[bytes]) -> str:
    # One of a format that does not fit is a log, too, and its lines say that they need a name.
    if _log_format(head) is not None or any(map(TIMESTAMP.search, head)):
        return "log"
    if find_prefix(head, _is_object):
        return "jsonl"
    first = head[0] if head else b""
    if b"\t" in first:
        return "tsv"
    if SEPARATOR_LINE.fullmatch(first):
        return "csv"
    if not _COMMA.search(first):
        return "whitespace"
    if not _COMMA.search(_DECIMAL_COMMA.sub(b"", first)):
        raise LayoutError("fields may end at ',' or ' ': say which with --format csv or --format whitespace")
    return "csv"


def _by_name(name: str) -> str | None:
    base = name.lower()
    for ending in _COMPRESSED:
        base = base.removesuffix(ending)
    return next((format for ending, format in _EXTENSIONS.items() if base.endswith(ending)), None)


# JSON


def _is_object(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


# Logs


def _resolved_log(layout: Layout, head: Sequence[bytes]) -> Layout:
    log_format, prefix = layout.log_format, layout.prefix
    if log_format is None:
        log_format, prefix = _log_format(head) or (None, prefix)
    elif prefix is None:
        prefix = find_prefix(head, _fits(log_parser(log_format)))
    zone = "UTC" if log_format == "w3c" and layout.timezone is None else layout.timezone
    return replace(layout, log_format=log_format, prefix=prefix, timezone=zone)


def _log_format(head: Sequence[bytes]) -> tuple[str | None, str | None] | None:
    """The format that lines have (None: one that need not be named), and their prefix; None without one."""
    if any(map(is_w3c, head)):
        return "w3c", None
    for log_format in (None, "alb", "elb"):
        fits = _fits(log_parser(log_format))
        prefix = find_prefix(head, fits)
        if prefix is not None or any(map(fits, head)):
            return log_format, prefix
    return None


def _fits(parser: LogParser) -> Callable[[bytes], bool]:
    def fits(line: bytes) -> bool:
        try:
            return parser.parse(line) is not None
        except ValueError:
            return False

    return fits


# Delimited text


def _delimiter(format: str, head: Sequence[bytes], *, is_sure: bool) -> str:
    """What separates the fields: of what the first line has outside of quotes what others have too.

    Args:
        format: the format, which has a usual delimiter.
        head: the first lines.
        is_sure: whether somebody said the format, and not only its delimiter did.

    Raises:
        LayoutError: it may be one or the other.
    """
    if head and (said := SEPARATOR_LINE.fullmatch(head[0])):
        return said[1].decode("latin-1")
    usual = DELIMITERS[format] or " "
    lines = _outside_quotes(head)
    found = [char for char in dict.fromkeys((usual, *_SEEN)) if char.encode() in lines[0]]
    if is_sure and usual in found:
        return usual
    fitting = [char for char in found if _is_as_often(char.encode(), lines)]
    if len(found) > 1 and len(fitting) != 1:
        raise LayoutError(f"fields may end at {_either(fitting or found)}: say which with --delimiter")
    return next(iter(fitting or found), usual)


def _outside_quotes(head: Sequence[bytes]) -> list[bytes]:
    """Whole lines without what is in quotes, which may span lines."""
    whole = head[:-1] if len(head) > 1 and not head[-1].endswith((b"\n", b"\r")) else head
    return _QUOTED.sub(b"", b"".join(whole)).splitlines() or [b""]


def _is_as_often(char: bytes, lines: Sequence[bytes]) -> bool:
    """Whether a character is in nearly all lines as often as in the first."""
    count = lines[0].count(char)
    return sum(line.count(char) == count for line in lines) >= _FITTING * len(lines)


def _either(chars: Sequence[str]) -> str:
    *some, last = map(repr, chars)
    return f"{', '.join(some)} or {last}"
