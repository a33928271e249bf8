"""JSON: a record in each line, or records that span lines, one after the other or in an array."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .layout import MissingFieldError
from .lines import LONGEST_LINE, Lines
from .records import Record

__all__ = ["JsonRecord", "json_line_records", "json_records"]

_NAMES_SHOWN = 50
_SHOWN = 80
# What the depth of a text in JSON depends on: strings, which may contain brackets, and brackets; a quote that
# is not closed in its piece of the text stays to be looked at with the next.
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


def json_line_records(lines: Iterator[bytes], source: Lines) -> Iterator[Record]:
    """The records of a file that has one in each line.

    Args:
        lines: the lines, without what others put before them.
        source: where they come from, and where bad ones are recorded.
    """
    for line in lines:
        if line.strip():
            yield from _parsed(line, source)


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
        self._text = b""  # of an object that has begun
        self._depth = 0  # how many brackets are open in it
        self._number = 0  # of the line where it begins
        self._scanned = 0  # so much of the text has been looked at
        self._skips = False  # up to a line that begins like an object

    def records(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The objects that end in a piece, with the number of the line in which each begins."""
        starts = piece.startswith(b"{")
        if self._depth and starts and self._text.rstrip()[-1:] not in b":[,":
            self._reject("this object is not closed where another one begins")
            self._skips = False
        if self._skips and not starts:
            return
        self._skips = False
        text = self._text + piece
        begin, between = 0, self._scanned
        for token in _TOKEN.finditer(text, self._scanned):
            kind = token[0]
            if kind == b'"':
                self._scanned = token.start()
                break
            if self._depth:
                self._depth += (kind in (b"{", b"[")) - (kind in (b"}", b"]"))
                if not self._depth:
                    yield self._number, text[begin : token.end()]
                    between = token.end()
            elif kind == b"{":
                self._check(text[between : token.start()])
                self._depth, self._number, begin = 1, self._lines.number, token.start()
            elif kind in (b"[", b"]"):
                self._check(text[between : token.start()])
                between = token.end()
            self._scanned = token.end()
        is_open = self._scanned < len(text) and text[self._scanned : self._scanned + 1] == b'"'
        self._keep(text, begin, between, is_open)

    def end(self) -> None:
        """Record what has not ended as bad."""
        if self._depth:
            self._reject("this object is not closed")

    def _keep(self, text: bytes, begin: int, between: int, is_open: bool) -> None:
        if not self._depth:
            self._check(text[between:])
            self._text, self._scanned = b"", 0
            return
        self._text = text[begin:]
        self._scanned = (self._scanned if is_open else len(text)) - begin
        if is_open and text.endswith(b"\n"):
            self._reject("a quote is opened and not closed")
        elif len(self._text) > LONGEST_LINE:
            self._reject(f"this object is longer than {LONGEST_LINE:,} bytes, or not closed")

    def _check(self, between: bytes) -> None:
        if junk := between.strip(b" \t\r\n,"):
            self._lines.reject(f"no JSON object: {junk[:_SHOWN]!r:.{_SHOWN}}")

    def _reject(self, reason: str) -> None:
        last, self._lines.number = self._lines.number, self._number
        self._lines.reject(reason)
        self._lines.number = last
        self._text, self._depth, self._scanned, self._skips = b"", 0, 0, True


def _parsed(text: bytes, lines: Lines) -> Iterator[Record]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines.reject(str(error))
    else:
        yield JsonRecord(record)
