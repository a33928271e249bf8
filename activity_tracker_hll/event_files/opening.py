"""Opening files and standard input: as one stream of UTF-8 lines, however they are compressed and encoded.

What a file begins with says how it is compressed (gzip, bzip2, xz, zstd) and whether it is UTF-16; its name
does not matter. Old Macs' line ends become newlines.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, cast

from .compressions import DamagedError, Decompressing, MissingPackageError, compression_of

__all__ = [
    "BYTE_ORDER_MARK",
    "HEAD",
    "PATIENCE_S",
    "DamagedError",
    "MissingPackageError",
    "Stream",
    "Wait",
    "head",
    "opened",
    "total_size",
    "wait_of",
]

HEAD = 1 << 18
"""So many bytes can be looked at before any is read, or all of a smaller file: `stream.peek()`."""

PATIENCE_S = 0.1
"""So long a slow stream may take to bring more, to be looked at or handed on together with what came."""

BYTE_ORDER_MARK = codecs.BOM_UTF8
"""Before the first line; amid a text where files were put together."""

_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


Wait = Callable[[float], bool]
"""Waits until there is more to read, or its end, but at most so many seconds; says whether there is."""


@contextmanager
def opened(path: str, standard_input: BinaryIO, on_read: Callable[[int], object]) -> Iterator[Stream]:
    """Open a file, or standard input for '-', as a stream of bytes in UTF-8; it raises DamagedError.

    Args:
        path: the file's path, or '-'.
        standard_input: used for '-'; it is not closed.
        on_read: called with the number of bytes of each read, before decompression.
    """
    # Standard input is not ours to close.
    with nullcontext(standard_input) if path == "-" else Path(path).open("rb") as file:
        read1, waited = cast("io.BufferedIOBase", file).read1, _waiting(file)
        size_before = _size(file)
        is_over = False  # behind its end, a terminal waits for more to be typed

        def read(size: int) -> bytes:
            nonlocal is_over
            if is_over:
                return b""
            data = read1(size)
            if not data and _never_waits(file):
                waited(None)
                data = read1(size)
            if not data and _size(file) < size_before and file.tell() < size_before:
                raise DamagedError("the file was cut while it was read")
            is_over = not data
            on_read(len(data))
            return data

        def wait(seconds: float) -> bool:
            return is_over or waited(seconds)

        yield _as_utf8(_decompressed(Stream(read, wait)))


def total_size(paths: list[str]) -> int | None:
    """The bytes of all files together; None if that cannot be known, as for standard input."""
    if any(path == "-" or not os.path.isfile(path) for path in paths):  # noqa: PTH113 (Path raises some errors)
        return None
    return sum(Path(path).stat().st_size for path in paths)


class _Raw(io.RawIOBase):
    """A stream made of a function that reads about so many bytes, and none at the end only.

    Whatever room there is for them, some are handed out; those that have none wait. Zero would be the end.

    The first buffer is filled, so that the bytes to peek at do not depend on how a pipe was written, unless
    it is slow; others are not, so that what a slow one brings need not wait. What was read before an error is
    handed out before it.
    """

    def __init__(self, read: Callable[[int], bytes], wait: Wait) -> None:
        self._read = read
        self._wait = wait
        self._rest = b""
        self._given = 0
        self._error: Exception | None = None
        self._has_begun = False

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        """How many bytes were handed out."""
        return self._given

    @property
    def taken(self) -> int:
        """How many bytes the function has read."""
        return self._given + len(self._rest)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._error is not None:
            raise self._error
        done, ends = 0, 0.0
        try:
            while done < len(buffer) and (data := self._some(len(buffer) - done)):
                buffer[done : done + len(data)] = data
                done += len(data)
                ends = ends or time.monotonic() + PATIENCE_S
                if self._has_begun or (
                    not self._wait(ends - time.monotonic()) and _shows_kind(bytes(buffer[:done]))
                ):
                    break
        except Exception as error:
            self._error = error
            if not done:
                raise
        self._has_begun = True
        self._given += done
        return done

    def _some(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        data = self._rest or self._read(size)
        self._rest = data[size:]
        return data[:size]


def _shows_kind(begin: bytes) -> bool:
    """Whether what a stream begins with shows what it is: of text, a whole line."""
    return b"\n" in begin or compression_of(begin) is not None


class Stream(io.BufferedReader):
    """A stream made of a function, as above, that knows whether there is more to read.

    Args:
        read: reads about so many bytes, and none at the end only.
        wait: see :data:`Wait`; of what the function reads from.
    """

    def __init__(self, read: Callable[[int], bytes], wait: Wait) -> None:
        self._source = _Raw(read, wait)
        self._wait = wait
        super().__init__(self._source, HEAD)

    def wait(self, seconds: float) -> bool:
        """See :data:`Wait`; what was read and not handed out is there to read, too."""
        return self._source.taken > self.tell() or self._wait(seconds)


def _about(file: BinaryIO) -> os.stat_result | None:
    """What the system knows of a file; None of a stream that is nothing of the system's."""
    try:
        return os.fstat(file.fileno())
    except (AttributeError, OSError):
        return None


def _size(file: BinaryIO) -> int:
    """The bytes of a regular file; 0 of others."""
    about = _about(file)
    return about.st_size if about and stat.S_ISREG(about.st_mode) else 0


def _waiting(file: BinaryIO) -> Callable[[float | None], bool]:
    """How to wait for a file, see :data:`Wait`; None = without a limit."""
    about = _about(file)
    is_pipe = about is not None and not stat.S_ISREG(about.st_mode)

    def wait(seconds: float | None) -> bool:
        limit = seconds and max(seconds, 0)
        try:
            return not is_pipe or bool(select.select([file], [], [], limit)[0])
        except (OSError, ValueError):  # Windows can tell of sockets only
            return True

    return wait


def _never_waits(file: BinaryIO) -> bool:
    """Whether nothing is read not at the end only, because a process that shares the pipe wished it so."""
    is_file = isinstance(getattr(file, "raw", None), io.FileIO)
    return is_file and sys.platform != "win32" and not os.get_blocking(file.fileno())


def wait_of(stream: BinaryIO) -> Wait:
    """How to wait for a stream; one of others is taken to have more."""
    wait: Wait = getattr(stream, "wait", lambda _seconds: True)
    return wait


def head(stream: io.BufferedReader) -> bytes:
    """What a stream begins with; of one that is damaged at once, nothing, and reading it says so."""
    try:
        return stream.peek()
    except DamagedError:
        return b""


def _decompressed(stream: Stream) -> Stream:
    if (name := compression_of(head(stream))) is None:
        return stream
    content = Decompressing(stream, name)
    return Stream(content.read, content.wait)


def _as_utf8(stream: Stream) -> Stream:
    begin = head(stream)
    for mark, encoding in _UTF_16.items():
        if begin.startswith(mark):
            stream.read(len(mark))
            return _as_utf8(Stream(_transcoder(stream, encoding), stream.wait))
    if begin.startswith(BYTE_ORDER_MARK):
        stream.read(len(BYTE_ORDER_MARK))
    if b"\r" in begin[:-1] and b"\n" not in begin:  # which may come after the last one
        return Stream(lambda size: stream.read1(size).replace(b"\r", b"\n"), stream.wait)
    return stream


def _transcoder(stream: Stream, encoding: str) -> Callable[[int], bytes]:
    # A lone surrogate stays one, which is no UTF-8 either.
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def read(size: int) -> bytes:
        text, data = "", b"x"
        try:
            while data and not text:
                data = stream.read1(size)
                text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise DamagedError(f"the UTF-16 text is cut short ({error.reason})") from error
        return text.encode("utf-8", "surrogatepass")

    return read
