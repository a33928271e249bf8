"""JSON: a record in each line, or records that span lines, one after the other or in an array."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .layout import MissingFieldError
from .lines import LONGEST_LINE, NO_LINE, Lines
from .records import Record

__all__ = ["MOST_NESTED", "JsonRecord", "is_too_deep", "json_line_records", "json_records"]

MOST_NESTED = 500
"""Objects and arrays within each other. How many a parser takes depends on who calls it: about 900."""

_NAMES_SHOWN = 50
_SHOWN = 80
# What the depth of a text in JSON depends on: strings, which may contain brackets, and brackets; a quote that
# is not closed in its piece of the text stays to be looked at with the next.
_BEGIN = re.compile(rb"([ \t]*)(?:[,\[][ \t]*)?\{")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]|"', re.DOTALL)


class JsonRecord:
    """A JSON object."""

    default_id = "id"
    default_time: tuple[str, ...] = ("time",)

    def __init__(self, values: Any) -> None:
        self._values = values

    def value(self, field: str) -> Any:
        """See :class:`.records.Record`.

        Dots lead into nested objects, unless the key itself contains them; numbers into lists.
        """
        value = self._values
        if isinstance(value, dict) and field in value:
            return value[field]
        for key in field.split("."):
            value = self._below(value, key, field)
        return value

    def _below(self, value: Any, key: str, field: str) -> Any:
        if isinstance(value, dict) and key in value:
            return value[key]
        if isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            return value[int(key)]
        raise MissingFieldError(field, self.names())

    def names(self) -> list[str]:
        """See :class:`.records.Record`."""
        return list(self._values)[:_NAMES_SHOWN] if isinstance(self._values, dict) else []


def json_line_records(lines: Iterator[bytes], source: Lines) -> Iterator[Record | None]:
    """The records of a file that has one in each line; None for :data:`.lines.NO_LINE`.

    Args:
        lines: the lines, without what others put before them.
        source: where they come from, and where bad ones are recorded.
    """
    for line in lines:
        if line.strip():
            yield from _parsed(line, source)
        elif line == NO_LINE:
            yield None


def json_records(lines: Lines) -> Iterator[Record]:
    """The records of a file, wherever its lines end: objects one after the other, or in arrays.

    Args:
        lines: the lines; those that are very long in pieces.
    """
    splitter = _Splitter(lines)
    for piece in lines:
        for number, text in splitter.records(piece):
            last, lines.number = lines.number, number
            yield from _parsed(text, lines)
            lines.number = last
    splitter.end()


class _Splitter:
    """Finds where objects begin and end. What is none is bad; of one that does not end little is kept."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._arrays = 0  # how many are open around the objects
        self._skipped_from: bytes | None = None  # after a bad object, up to a line indented like its own
        self._forget()

    def _forget(self) -> None:
        self._parts: list[bytes] = []  # of an object that has begun
        self._size = 0  # of them together
        self._cut = b""  # a string that goes on in the next piece
        self._open = bytearray()  # the brackets that are open in the object
        self._number = 0  # of the line where it begins
        self._indent = b""  # of that line
        self._ends_with_key = False  # the last piece

    def records(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The objects that end in a piece, with the number of the line in which each begins."""
        if self._skipped_from is not None and _indent(piece) != self._skipped_from:
            return
        self._skipped_from = None
        piece = self._cut + piece
        begin = between = last = 0
        end = len(piece)
        for token in _TOKEN.finditer(piece):
            start, kind = token.start(), token[0]
            if kind == b'"':
                end = start
                break
            if kind == b"{" and self._open[-1:] == b"{" and not self._follows_key(piece[last:start]):
                self._reject("this object is not closed where another one begins")
                between = start
            last, self._ends_with_key = token.end(), False
            if self._open:
                if kind in (b"{", b"["):
                    self._open += kind
                elif kind in (b"}", b"]"):
                    self._open.pop()
                if not self._open:
                    yield self._number, b"".join([*self._parts, piece[begin:last]])
                    self._forget()
                    between = last
            elif kind == b"{":
                self._check(piece[between:start])
                self._number, self._indent, begin = self._lines.number, _indent(piece) or b"", start
                self._open += kind
            elif kind == b"[" or (kind == b"]" and self._arrays):
                self._check(piece[between:start])
                self._arrays += 1 if kind == b"[" else -1
                between = last
        if self._open:
            self._keep(piece, begin, last, end)
        else:
            self._check(piece[between:])
            self._forget()

    def _keep(self, piece: bytes, begin: int, last: int, end: int) -> None:
        """Keep a piece of an object that goes on; its last token ends at `last`, a string is cut at `end`."""
        self._ends_with_key = self._follows_key(piece[last:end])
        self._parts.append(piece[begin:end])
        self._cut = piece[end:]
        self._size += end - begin
        if self._cut.endswith(b"\n"):
            self._give_up("a quote is opened and not closed")
        elif self._size + len(self._cut) > LONGEST_LINE:
            self._give_up(f"this object is longer than {LONGEST_LINE:,} bytes, or not closed")

    def _follows_key(self, gap: bytes) -> bool:
        """Whether what comes now is the value of a key, by what stands between it and the token before."""
        gap = gap.strip()
        return gap.endswith(b":") or (not gap and self._ends_with_key)

    def end(self) -> None:
        """Record what has not ended as bad."""
        if self._open:
            self._reject("this object is not closed")
        elif self._arrays:
            self._lines.reject("the array is not closed: the file is cut short")

    def _check(self, between: bytes) -> None:
        if junk := between.strip(b" \t\r\n,"):
            self._lines.reject(f"no JSON object: {junk[:_SHOWN]!r:.{_SHOWN}}")

    def _give_up(self, reason: str) -> None:
        self._skipped_from = self._indent
        self._reject(reason)

    def _reject(self, reason: str) -> None:
        last, self._lines.number = self._lines.number, self._number
        self._lines.reject(reason)
        self._lines.number = last
        self._forget()


def _indent(line: bytes) -> bytes | None:
    """What stands before the first object of a line; None if it begins with something else."""
    found = _BEGIN.match(line)
    return found[1] if found else None


def is_too_deep(text: bytes) -> bool:
    """Whether more than :data:`MOST_NESTED` objects and arrays are within each other."""
    if text.count(b"{") + text.count(b"[") <= MOST_NESTED:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth > MOST_NESTED:
                return True
        elif token[0] in (b"}", b"]"):
            depth -= 1
    return False


def _parsed(text: bytes, lines: Lines) -> Iterator[Record]:
    if is_too_deep(text):
        lines.reject(f"more than {MOST_NESTED} objects and arrays within each other")
        return
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines.reject(str(error))
    else:
        yield JsonRecord(record)
