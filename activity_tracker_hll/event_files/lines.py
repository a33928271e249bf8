"""Numbered lines for readers that may look ahead, and a record of bad ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from .opening import BYTE_ORDER_MARK, DamagedError

__all__ = ["LONGEST_LINE", "NO_LINE", "Lines", "Rejected", "escape_unprintable"]

LONGEST_LINE = 1 << 20
"""A longer line is skipped, so that files of another kind do not fill the memory."""

NO_LINE = b""
"""Between lines, where those that came together end: readers of records hand on None for it, so that whoever
asks them hears of that before they ask for more lines, which may be long in coming."""

_MAX_SHOWN = 5


@dataclass(slots=True)
class Rejected:
    """Lines that are no events: the number of bad ones, and of those that filters leave out.

    Attributes:
        count: how many lines are bad.
        filtered: how many lines were left out because somebody wished so.
        first: the first few bad ones, each with file, line number and reason.
    """

    count: int = 0
    filtered: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str, number: int, reason: str, what: str = "line") -> None:
        """Record a bad line, or whatever else is numbered in the file."""
        self.count += 1
        if len(self.first) < _MAX_SHOWN:
            self.first.append(escape_unprintable(f"{name}, {what} {number}: {reason}"))


def escape_unprintable(text: str) -> str:
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
        columns: the places of fields in a row of delimited text, once they are known.
        width: how many fields a row has at most, once that is known: one with more has a delimiter within
            a field, and not each field where it should be.
        in_record: whether the line that is asked for next belongs to a record that has begun.
    """

    def __init__(self, numbered: Iterable[tuple[int, bytes]], name: str, rejected: Rejected) -> None:
        self.name = name
        self.number = 0
        self.line = b""
        self.columns: dict[str, int] | None = None
        self.width: int | None = None
        self.in_record = False
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

    def peek(self) -> bytes | None:
        """The first line, which is still to be handed out; a pause before it is not. None of no line."""
        while not self._ahead:
            numbered = next(self._lines, None)
            if numbered is None:
                return None
            if numbered[1] != NO_LINE:
                self._ahead.append(numbered)
        return self._ahead[0][1]

    def put_back(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Hand out lines, given with their numbers, once more before all others."""
        self._ahead.extendleft(reversed(list(lines)))

    def leave_out(self) -> None:
        """Record the line that was handed out last as one that nobody wants."""
        self._rejected.filtered += 1

    def reject(self, reason: str) -> None:
        """Record the line that was handed out last as bad."""
        self._rejected.add(self.name, self.number, reason)

    @classmethod
    def of(cls, stream: BinaryIO, name: str, rejected: Rejected, *, in_pieces: bool = False) -> Lines:
        """All lines of a stream; what is too long or damaged is recorded as bad.

        Args:
            stream: has the lines.
            name: the file's name.
            rejected: records what is bad.
            in_pieces: a line that is too long is handed out in pieces, which have its number.
        """
        return cls(_numbered(stream, name, rejected, in_pieces), name, rejected)


def _numbered(
    stream: BinaryIO, name: str, rejected: Rejected, in_pieces: bool
) -> Iterator[tuple[int, bytes]]:
    number = 0
    is_whole = True
    try:
        while line := stream.readline(LONGEST_LINE):
            begins = is_whole
            number += begins
            is_whole = not in_pieces or line.endswith(b"\n")
            if not in_pieces and len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                _skip_line(stream)
                rejected.add(name, number, f"longer than {LONGEST_LINE:,} bytes")
                continue
            yield number, line.removeprefix(BYTE_ORDER_MARK) if begins else line
    except DamagedError as error:
        rejected.add(name, number + 1, str(error))


def _skip_line(stream: BinaryIO) -> None:
    while (remainder := stream.readline(LONGEST_LINE)) and not remainder.endswith(b"\n"):
        pass
