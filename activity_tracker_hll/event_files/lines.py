"""The lines of files and standard input, plain or gzipped, and a record of bad lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["LONGEST_LINE", "Lines", "Rejected", "opened", "printable", "total_size"]

LONGEST_LINE = 1 << 20
"""A longer line is skipped, so that files of another kind do not fill the memory."""

_MAX_SHOWN = 5
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BUFFER = 1 << 18


@dataclass(slots=True)
class Rejected:
    """Bad lines: their number, and the first few, each with file, line number and reason."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str, number: int, reason: str) -> None:
        """Record a bad line."""
        self.count += 1
        if len(self.first) < _MAX_SHOWN:
            self.first.append(printable(f"{name}, line {number}: {reason}"))


def printable(text: str) -> str:
    """Text from a file, made safe to show: without anything that a terminal obeys or cannot encode."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class Lines:
    """Numbered lines, handed out one by one to a reader that may look ahead, and may find them bad.

    Args:
        numbered: the lines with their numbers, from 1; not all of them, where another reader takes some.

    Attributes:
        name: the file's name, for messages and for detecting its format.
        number: the number of the line that was handed out last, from 1.
        line: that line.
        format: the file's format, once it is known.
        columns: the places of id, bucket and time in a row of delimited text, once they are known.
        in_record: whether the next line belongs to the record of those before, if it is one.
        fits: whether a time was found that has the format.
    """

    def __init__(self, numbered: Iterable[tuple[int, bytes]], name: str, rejected: Rejected) -> None:
        self.name = name
        self.number = 0
        self.line = b""
        self.format: str | None = None
        self.columns: list[int | None] | None = None
        self.in_record = False
        self.fits = False
        self._rejected = rejected
        self._lines = iter(numbered)
        self._ahead: deque[tuple[int, bytes]] = deque()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            numbered = self._ahead.popleft() if self._ahead else next(self._lines, None)
            if numbered is None:
                return
            self.number, self.line = numbered
            yield self.line

    def peek(self, count: int) -> list[bytes]:
        """The next few lines, which are still to be handed out."""
        while len(self._ahead) < count and (numbered := next(self._lines, None)) is not None:
            self._ahead.append(numbered)
        return [line for _, line in self._ahead]

    def put_back(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Hand out lines, given with their numbers, once more before all others."""
        self._ahead.extendleft(reversed(list(lines)))

    def reject(self, reason: str) -> None:
        """Record the line that was handed out last as bad."""
        self._rejected.add(self.name, self.number, reason)

    @classmethod
    def of(cls, stream: BinaryIO, name: str, rejected: Rejected) -> Lines:
        """All lines of a stream; what is too long or damaged is recorded as bad."""
        return cls(_numbered(stream, name, rejected), name, rejected)


def _numbered(stream: BinaryIO, name: str, rejected: Rejected) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                _skip_line(stream)
                rejected.add(name, number, f"longer than {LONGEST_LINE:,} bytes")
                continue
            yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        rejected.add(name, number + 1, f"the gzip data are damaged or cut short ({error})")


@contextmanager
def opened(path: str, standard_input: BinaryIO, on_read: Callable[[int], object]) -> Iterator[BinaryIO]:
    """Open a file, or standard input for '-', and decompress it if its first bytes say that it is gzip.

    Args:
        path: the file's path, or '-'.
        standard_input: used for '-'; it is not closed.
        on_read: called with the number of bytes of each read, before decompression.
    """
    # Standard input is not ours to close.
    with nullcontext(standard_input) if path == "-" else Path(path).open("rb") as stream:
        buffered = io.BufferedReader(_Counted(stream, on_read), _BUFFER)
        if buffered.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            yield cast("BinaryIO", io.BufferedReader(gzip.GzipFile(fileobj=buffered), _BUFFER))
        else:
            yield buffered


def total_size(paths: list[str]) -> int | None:
    """The bytes of all files together; None if that cannot be known, as for standard input."""
    if any(path == "-" or not Path(path).is_file() for path in paths):
        return None
    return sum(Path(path).stat().st_size for path in paths)


class _Counted(io.RawIOBase):
    """A stream that reports how many bytes were read."""

    def __init__(self, stream: BinaryIO, on_read: Callable[[int], object]) -> None:
        self._stream = cast("io.BufferedIOBase", stream)
        self._on_read = on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        size = self._stream.readinto1(buffer)
        self._on_read(size)
        return size


def _skip_line(stream: BinaryIO) -> None:
    while (remainder := stream.readline(LONGEST_LINE)) and not remainder.endswith(b"\n"):
        pass
