"""Access logs in Apache's named formats, a block of lines at a time.

A regular expression takes the lines that can be read in one way only, and finds the fields in them; what is
unusual (escapes in a field that is asked for, users with spaces, ...) is left to the careful reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..coder import BAD, Coder
from ..columns import Coded
from .addresses import is_address
from .blocks import Block
from .fast import Part, bucket_of
from .layout import Layout
from .logs import ALIASES, LONGEST_ENTRY, log_parser
from .quarters import LogTimes

__all__ = ["LogPath"]

_TIME = "request_time"
_COMMON = ("remote_host", "remote_logname", "remote_user", _TIME, "request_line", "status", "bytes_sent")
_HOST_AND_PORT = "virtual_host:port"
_HEADERS = ("referer", "user-agent")
_FORMATS: dict[str | None, list[tuple[str, ...]]] = {
    None: [(*_COMMON, *_HEADERS), _COMMON, (*_COMMON, *_HEADERS, "x-forwarded-for")],
    "nginx": [(*_COMMON, *_HEADERS, "x-forwarded-for")],
    "combined": [(*_COMMON, *_HEADERS)],
    "common": [_COMMON],
    "vhost_combined": [(_HOST_AND_PORT, *_COMMON[:-1], "bytes_out", *_HEADERS)],
    "vhost_common": [("virtual_host", *_COMMON)],
}
_IDS = ("virtual_host", "remote_host", "remote_user", *_HEADERS)
_LONG_ADDRESS = rb"(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}"
_HOST = rb"(?!- )(?:[A-Za-z0-9_.-]{1,1024}+|" + _LONG_ADDRESS + rb")"
_WANTED_HOST = rb"(?!- )([A-Za-z0-9_.-]{1,1024}+|[0-9A-Fa-f:]{2,39}+)"  # which may be no address
_is_long_address = re.compile(_LONG_ADDRESS).fullmatch
_LF, _DELETE, _BACKSLASH = b"\n\x7f\\"
_FIRST_PRINTABLE = 0x20
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")

Fields = tuple[bytes, ...]


class LogPath:
    """Reads blocks of an access log.

    Args:
        layout: one that it takes.
        parse_time: the careful parser, of datetimes.
    """

    block_size = 1 << 18

    def __init__(self, layout: Layout, parse_time: Callable[[Any], datetime]) -> None:
        self.fields = _asked(layout)
        wanted = _wanted(layout)
        self._patterns = [
            _Pattern(fields, wanted) for fields in _FORMATS[layout.log_format] if {*wanted} <= _names(fields)
        ]
        self._id, self._time = wanted.index(_field(self.fields[0])), wanted.index(_TIME)
        self._bucket = wanted.index(_field(layout.bucket_field)) if layout.bucket_field else None
        self._host = wanted.index("remote_host") if "remote_host" in wanted else None
        self._nothing = (b"",) * len(wanted)
        self._coder = Coder(bucket_of)
        parser = log_parser("common")

        def parse(text: str) -> datetime:
            entry = parser.parse(b'- - - [%s] "-" - -' % text.encode())
            if entry is None:
                raise ValueError(text)
            return parse_time(entry.value(_TIME))

        self._times = LogTimes(parse)

    @staticmethod
    def takes(layout: Layout) -> bool:
        """Whether it can read a log of this layout."""
        *others, time = _asked(layout)
        wanted = [_field(name) for name in others]
        return (
            time == _TIME
            and len({*wanted}) == len(wanted)
            and {*wanted} <= {*_IDS}
            and any({*wanted} <= _names(fields) for fields in _FORMATS.get(layout.log_format, ()))
        )

    def read(self, block: Block) -> Part:
        """Understand what is plain in a block."""
        rows = self._rows(block)
        id, time, no_time = self._id, self._time, b"-" * LogTimes.SIZE
        ids = [row[id] for row in rows]
        times = b"".join([row[time] or no_time for row in rows])
        dates, plain = self._times.read(times, len(rows))
        buckets = None
        if self._bucket is not None:
            bucket = self._bucket
            codes = self._coder.codes([row[bucket] for row in rows])
            buckets = Coded(self._coder.values, codes)
            plain &= codes != BAD
        if self._host is not None:
            _check_addresses([row[self._host] for row in rows], plain)
        if _may_have_long(block.text):
            plain &= np.diff(block.ends, prepend=-1) <= LONGEST_ENTRY
        return Part(ids, buckets, dates, plain)

    def _rows(self, block: Block) -> list[Fields]:
        """The fields that are wanted of each line; empty ones of a line that is not plain."""
        text = block.text.replace(b"\r\n", b"\n") if b"\r" in block.text else block.text
        chars = np.frombuffer(text, np.uint8)
        if np.count_nonzero(chars < _FIRST_PRINTABLE) == block.count and not _has_any(text, b"\x7f", b"\\"):
            return self._find(text, block.count)
        odd = (chars < _FIRST_PRINTABLE) & (chars != _LF) | (chars == _DELETE) | (chars == _BACKSLASH)
        ends = np.flatnonzero(chars == _LF)
        lines = text.split(b"\n")[:-1]
        odd_lines = {
            number: lines[number] for number in set(np.searchsorted(ends, np.flatnonzero(odd)).tolist())
        }
        for number in odd_lines:
            lines[number] = b" "
        rows = self._find(b"\n".join([*lines, b""]), block.count)
        for number, line in odd_lines.items():
            rows[number] = self._match(line)
        return rows

    def _find(self, text: bytes, count: int) -> list[Fields]:
        """The fields of lines without controls and escapes."""
        first, *others = self._patterns
        rows = first.find(text, count)
        for pattern in others:
            if self._nothing not in rows:
                break
            missing = [number for number, row in enumerate(rows) if row == self._nothing]
            lines = text.split(b"\n")
            found = pattern.find(b"".join([lines[number] + b"\n" for number in missing]), len(missing))
            for number, row in zip(missing, found, strict=True):
                rows[number] = row
            if 2 * (len(missing) - found.count(self._nothing)) > count:  # the next lines probably have it too
                self._patterns.sort(key=lambda each: each is not pattern)
        return rows

    def _match(self, line: bytes) -> Fields:
        """The fields of one line."""
        for pattern in self._patterns:
            if (fields := pattern.match(line)) != self._nothing:
                return fields
        return self._nothing


class _Pattern:
    """Finds the wanted fields in lines of a format.

    Args:
        fields: all fields of a line, in their order.
        wanted: some of them, in their order.
    """

    def __init__(self, fields: Iterable[str], wanted: Sequence[str]) -> None:
        def pattern(escape: bytes) -> bytes:
            patterns = _patterns(escape)
            return rb" ".join([patterns[name][_name(name) in wanted] for name in fields])

        # Whatever else there is in a line is found too, without fields, so that lines can be counted.
        self._find = re.compile(pattern(b"") + rb"\n|.*+\n").findall
        self._match = re.compile(pattern(rb"\\")).fullmatch
        self._nothing = (b"",) * len(wanted)

    def find(self, text: bytes, count: int) -> list[Fields]:
        """The fields of each of some lines, which have no controls and no escapes."""
        rows: list[Fields] = self._find(text)
        # A quote that is open in one line may find its end in another.
        return rows if len(rows) == count else list(map(self.match, text.splitlines()))

    def match(self, line: bytes) -> Fields:
        """The fields of one line; empty ones if it is not plain."""
        found = None if _CONTROLS.search(line) else self._match(line)
        return found.groups() if found else self._nothing


def _patterns(escape: bytes) -> dict[str, tuple[bytes, bytes]]:
    """The patterns of all fields: with any value, and as one that is wanted.

    What is wanted is as long as an id may be, "-" is none of a user and of a header, and an escape has to be
    resolved with care.

    Args:
        escape: the character that begins an escape; none where no line has one.
    """
    text = rb'[^"' + escape + rb"]"
    escapes = rb"(?:\\(?:[^x]|x[0-9A-Fa-f]{2})" + text + rb"*+)*+" if escape else b""
    quoted = rb'"' + text + rb"*+" + escapes + rb'"'
    name = rb'[A-Za-z_][^ ":\n' + escape + rb"]"  # no address, as may be where a format has other fields
    word, wanted_name = rb"(?:-|" + name + rb"*+)", rb"(" + name + rb"{0,1023}+)"
    wanted_text = rb'"(?!-")(' + text + rb'{1,1024}+)"'
    host, number = rb'[^ ":\n' + escape + rb"]", rb"(?:[1-9][0-9]*+|0)"
    time = rb"\[(.{%d})\]" % LogTimes.SIZE
    return {
        "virtual_host": (host + rb"++", rb"(" + host + rb"{1,1024}+)"),
        _HOST_AND_PORT: (host + rb"++:" + number, rb"(" + host + rb"{1,1024}+):" + number),
        "remote_host": (_HOST, _WANTED_HOST),
        "remote_logname": (rb"-", b""),
        "remote_user": (word, wanted_name),
        _TIME: (time, time),
        "request_line": (quoted, b""),
        "status": (rb"(?:[0-9]{3}|-)", b""),
        "bytes_sent": (rb"(?:-|" + number + rb")", b""),
        "bytes_out": (number, b""),
        "referer": (quoted, wanted_text),
        "user-agent": (quoted, wanted_text),
        "x-forwarded-for": (quoted, b""),
    }


def _may_have_long(text: bytes) -> bool:
    """Whether a line may be longer than LONGEST_ENTRY: there is none where each half of that has an end."""
    step = LONGEST_ENTRY // 2
    return any(text.find(b"\n", start, start + step) < 0 for start in range(0, len(text) - step + 1, step))


def _check_addresses(hosts: list[bytes], plain: NDArray[np.bool_]) -> None:
    """Hosts with a colon are plain if they are addresses."""
    if b":" in b"".join(hosts):
        for place, host in enumerate(hosts):
            if b":" in host and not _is_long_address(host) and not is_address(host.decode("ascii")):
                plain[place] = False


def _wanted(layout: Layout) -> list[str]:
    """The fields that are asked for, in their order."""
    fields = set(map(_field, _asked(layout)))
    return [name for name in ("virtual_host", *_COMMON, *_HEADERS) if name in fields]


def _asked(layout: Layout) -> list[str]:
    """The fields that are asked for, the id first and the time last, by the names that people give them."""
    bucket = [] if layout.bucket_field is None else [layout.bucket_field]
    return [*layout.ids("remote_host"), *bucket, *layout.times((_TIME,))]


def _field(name: str) -> str:
    name = ALIASES.get(name, name)
    return name.lower() if name.lower() in _HEADERS else name


def _name(field: str) -> str:
    """The name by which a field is asked for."""
    return field.partition(":")[0]


def _names(fields: Iterable[str]) -> set[str]:
    return set(map(_name, fields))


def _has_any(text: bytes, *parts: bytes) -> bool:
    return any(part in text for part in parts)
