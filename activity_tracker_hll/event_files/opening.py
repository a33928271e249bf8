"""Opening files and standard input: as one stream of UTF-8 lines, however they are compressed and encoded.

What a file begins with says how it is compressed (gzip, bzip2, xz, zstd) and whether it is UTF-16; its name
does not matter. Old Macs' line ends become newlines.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, cast

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

_XZ_MEMORY = 1 << 27
"""As much as zstd takes at most; twice of what `xz -9` makes needs."""

_LEAST_READ = 8
"""A read of fewer bytes could get less than one character."""

BYTE_ORDER_MARK = codecs.BOM_UTF8
"""Before the first line; amid a text where files were put together."""

_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class DamagedError(Exception):
    """The data are damaged or cut short; what came before them was read."""


class MissingPackageError(OSError):
    """The file needs a package that is not installed."""


def _zstd(stream: BinaryIO) -> Any:
    try:
        from backports.zstd import ZstdFile  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingPackageError(
            "it is compressed by zstd, which needs a package: pip install 'activity-tracker-hll[zstd]'"
        ) from error
    return ZstdFile(stream)


class _InSteps:
    """Reads what was compressed, perhaps in parts, in small steps: of one that meets damage, all is lost.

    Args:
        stream: the compressed data.
        new: makes what decompresses a part, as the standard library's LZMADecompressor does.
        step: so many bytes at most are made at once.
    """

    def __init__(self, stream: BinaryIO, new: Callable[[], Any], step: int) -> None:
        self._stream = cast("io.BufferedIOBase", stream)
        self._new, self._step = new, step
        self._decompressor = new()

    def read1(self, size: int) -> bytes:
        """Some bytes, at most so many; none at the end."""
        while True:
            data = b""
            if self._decompressor.eof:  # zeros may stand between what was compressed apart
                data = self._decompressor.unused_data.lstrip(b"\0")
                while not data:
                    if not (data := self._stream.read1(HEAD)):
                        return b""
                    data = data.lstrip(b"\0")
                self._decompressor = self._new()
            elif self._decompressor.needs_input and not (data := self._stream.read1(HEAD)):
                raise EOFError("the end is missing")
            found: bytes = self._decompressor.decompress(data, min(size, self._step))
            if found:
                return found


def _xz(stream: BinaryIO) -> _InSteps:
    """In bounded memory; with the standard library's LZMAFile a file decides on up to 4 GB."""
    return _InSteps(stream, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), 1 << 13)


def _gzip(stream: BinaryIO) -> Any:
    try:
        from isal import igzip_lib  # noqa: PLC0415 (an extra)
    except ImportError:
        return gzip.GzipFile(fileobj=stream)
    # Its own file reads half a megabyte at once, which is lost where a file is cut off.
    return _InSteps(stream, lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), 1 << 17)


_COMPRESSIONS: dict[bytes, tuple[str, Callable[[BinaryIO], Any]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", _xz),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}
"""By the first bytes of a file: the name, and what makes a stream of the content."""


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

        def read(size: int) -> bytes:
            data = cast("io.BufferedIOBase", file).read1(size)
            on_read(len(data))
            return data

        yield _as_utf8(_decompressed(Stream(read, _waiting(file))))


def total_size(paths: list[str]) -> int | None:
    """The bytes of all files together; None if that cannot be known, as for standard input."""
    if any(path == "-" or not Path(path).is_file() for path in paths):
        return None
    return sum(Path(path).stat().st_size for path in paths)


class _Raw(io.RawIOBase):
    """A stream made of a function that reads at most so many bytes, and none at the end.

    The first buffer is filled, so that the bytes to peek at do not depend on how a pipe was written, unless
    it is slow; others are not, so that what a slow one brings need not wait. What was read before an error is
    handed out before it.
    """

    def __init__(self, read: Callable[[int], bytes], wait: Wait) -> None:
        self._read = read
        self._wait = wait
        self._error: Exception | None = None
        self._has_begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._error is not None:
            raise self._error
        done, ends = 0, 0.0
        try:
            while len(buffer) - done >= _LEAST_READ and (data := self._read(len(buffer) - done)):
                buffer[done : done + len(data)] = data
                done += len(data)
                ends = ends or time.monotonic() + PATIENCE_S
                if self._has_begun or not self._wait(ends - time.monotonic()):
                    break
        except Exception as error:
            self._error = error
            if not done:
                raise
        self._has_begun = True
        return done


class Stream(io.BufferedReader):
    """A stream made of a function, as above, that knows whether there is more to read.

    Args:
        read: reads at most so many bytes, and none at the end.
        wait: see :data:`Wait`.
    """

    def __init__(self, read: Callable[[int], bytes], wait: Wait) -> None:
        super().__init__(_Raw(read, wait), HEAD)
        self.wait = wait


def _waiting(file: BinaryIO) -> Wait:
    try:
        descriptor = file.fileno()
        is_pipe = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    except (AttributeError, OSError):  # nothing of the system's
        is_pipe = False

    def wait(seconds: float) -> bool:
        try:
            return not is_pipe or bool(select.select([descriptor], [], [], max(seconds, 0))[0])
        except (OSError, ValueError):  # Windows can tell of sockets only
            return True

    return wait


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
    begin = head(stream)
    for magic, (name, content) in _COMPRESSIONS.items():
        if begin.startswith(magic):
            return Stream(_decompressor(name, content(stream)), stream.wait)
    return stream


def _decompressor(name: str, content: Any) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        try:
            return cast("bytes", content.read1(size))  # one step: what comes before damage is not lost
        except Exception as error:  # each module has errors of its own; some are an OSError, without a number
            if getattr(error, "errno", None) is not None:
                raise
            raise DamagedError(f"the {name} data are damaged or cut short ({error})") from error

    return read


def _as_utf8(stream: Stream) -> Stream:
    begin = head(stream)
    for mark, encoding in _UTF_16.items():
        if begin.startswith(mark):
            stream.read(len(mark))
            return _as_utf8(Stream(_transcoder(stream, encoding), stream.wait))
    if begin.startswith(BYTE_ORDER_MARK):
        stream.read(len(BYTE_ORDER_MARK))
    if b"\r" in begin and b"\n" not in begin:
        return Stream(lambda size: stream.read1(size).replace(b"\r", b"\n"), stream.wait)
    return stream


def _transcoder(stream: BinaryIO, encoding: str) -> Callable[[int], bytes]:
    # A lone surrogate stays one, which is no UTF-8 either.
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def read(size: int) -> bytes:
        while data := stream.read(size // 2):  # a unit of two bytes becomes at most three
            if text := decoder.decode(data):
                return text.encode("utf-8", "surrogatepass")
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise DamagedError(f"the UTF-16 text is cut short ({error.reason})") from error
        return b""

    return read
