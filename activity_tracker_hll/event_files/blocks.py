"""A stream in blocks of whole lines, for readers that take many lines at once.

Line numbers are exact, lines and blocks are bounded, and what a slow stream brings is handed on soon.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from .lines import LONGEST_LINE, Rejected
from .opening import BYTE_ORDER_MARK, PATIENCE_S, DamagedError, wait_of

__all__ = ["Block", "blocks"]

_MOST_LINES = 1 << 16
"""Those of a log are some thousand a block, short ones of a CSV some ten thousand."""


@dataclass(frozen=True)
class Block:
    """Some lines of a file.

    Attributes:
        text: the lines, each with its end.
        number: the number of the first, from 1.
        is_slow: whether the stream took long to bring no more than this: perhaps not even a whole line.
    """

    text: bytes
    number: int
    is_slow: bool = False
    count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", self.text.count(b"\n"))

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where each line ends: the place of its line feed."""
        return np.flatnonzero(np.frombuffer(self.text, np.uint8) == ord("\n"))

    def __iter__(self) -> Iterator[bytes]:
        """Each line."""
        return iter(io.BytesIO(self.text))

    def line(self, index: int) -> bytes:
        """A line, by its place in the block."""
        if index == self.count - 1:  # most often asked for, and found without looking at the others
            return self.text[self.text.rfind(b"\n", 0, -1) + 1 :]
        start = int(self.ends[index - 1]) + 1 if index else 0
        return self.text[start : int(self.ends[index]) + 1]

    def after(self, lines: int) -> Block:
        """The block without its first lines."""
        if not lines:
            return self
        return Block(self.text[int(self.ends[lines - 1]) + 1 :], self.number + lines, self.is_slow)


def blocks(
    stream: BinaryIO,
    name: str,
    rejected: Rejected,
    size: Callable[[], int],
    clock: Callable[[], float] = monotonic,
) -> Iterator[Block]:
    """The lines of a stream, without byte order marks; the last one gets an end if it has none.

    Args:
        stream: has read1, which returns what there is; see also :class:`.opening.Stream`.
        name: the file's name.
        rejected: where lines that are too long, and damaged data, are recorded as bad.
        size: the bytes to read for the next block, at most LONGEST_LINE.
        clock: seconds, to see how long a stream takes.
    """
    number, rest, skips = 1, b"", False
    try:
        for data, is_slow in _pieces(stream, size, clock):
            text = rest + data
            if skips:
                end = text.find(b"\n") + 1
                text, skips = text[end:] if end else b"", not end
            # Only the first line can be too long, as the others lie within one piece.
            first = text.find(b"\n") + 1
            if first > LONGEST_LINE:
                _reject_long(rejected, name, number)
                number, text = number + 1, text[first:]
            end = text.rfind(b"\n") + 1
            if end:
                block = _block(text[:end], number, is_slow)
                number += block.count
                yield from _parts(block)
            elif is_slow:
                yield Block(b"", number, is_slow)
            rest = text[end:]
            if len(rest) >= LONGEST_LINE:
                _reject_long(rejected, name, number)
                number, rest, skips = number + 1, b"", True
    except DamagedError as error:
        rejected.add(name, number, str(error))
    else:
        if rest:
            yield _block(rest + b"\n", number)


def _parts(block: Block) -> Iterator[Block]:
    """A block in parts of so many lines at most: what is made of each takes more than an empty one."""
    if block.count <= _MOST_LINES:
        yield block
        return
    start = 0
    for first in range(0, block.count, _MOST_LINES):
        end = int(block.ends[min(first + _MOST_LINES, block.count) - 1]) + 1
        yield Block(block.text[start:end], block.number + first, block.is_slow)
        start = end


def _block(text: bytes, number: int, is_slow: bool = False) -> Block:
    if BYTE_ORDER_MARK[:1] in text:  # looking for all of it takes thirty times as long
        text = text.removeprefix(BYTE_ORDER_MARK).replace(b"\n" + BYTE_ORDER_MARK, b"\n")
    return Block(text, number, is_slow)


def _reject_long(rejected: Rejected, name: str, number: int) -> None:
    rejected.add(name, number, f"longer than {LONGEST_LINE:,} bytes")


def _pieces(
    stream: BinaryIO, size: Callable[[], int], clock: Callable[[], float]
) -> Iterator[tuple[bytes, bool]]:
    """Pieces of a size, or less where a stream is slow, which is told."""
    read = cast("io.BufferedIOBase", stream).read1
    wait = wait_of(stream)

    def is_more(ends: float) -> bool:
        left = ends - clock()
        return left > 0 and wait(left)

    data, damage = b"x", None
    while data and damage is None:
        parts: list[bytes] = []
        left, ends = size(), 0.0
        try:
            while left and (not ends or is_more(ends)) and (data := read(left)):
                ends = ends or clock() + PATIENCE_S
                parts.append(data)
                left -= len(data)
        except DamagedError as error:  # after what came before
            damage = error
        if parts:
            yield b"".join(parts), left > 0
    if damage is not None:
        raise damage
