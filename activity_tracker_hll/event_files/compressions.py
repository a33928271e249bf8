"""What files are compressed by (gzip, bzip2, xz, zstd), and decompressing them: all in the same way.

What stands behind the end of compressed data is more of them, zeros, or damage; none is left out silently.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["DamagedError", "Decompressing", "MissingPackageError", "compression_of"]

_XZ_MEMORY = 1 << 27
"""As much as zstd takes at most; twice of what `xz -9` makes needs."""

_PACKED = 1 << 15
"""So many bytes are read at once: those behind the end of a part are copied for each part."""

_STEP = 1 << 15
"""So many bytes are made at once: of a step that meets damage, all is lost."""


class DamagedError(Exception):
    """The data are damaged or cut short; what came before them was read."""


class MissingPackageError(OSError):
    """The file needs a package that is not installed."""


class _Source(Protocol):
    def read1(self, size: int, /) -> bytes: ...

    def wait(self, seconds: float) -> bool: ...


class _Gunzip:
    """Decompresses a part of gzip by the standard library's zlib, as its decompressors of others do."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        found = self._zlib.decompress(self._zlib.unconsumed_tail + data, size)
        self.needs_input = not self._zlib.unconsumed_tail and len(found) < size
        return found


def _gzip() -> Any:
    try:
        from isal import igzip_lib  # noqa: PLC0415 (an extra)
    except ImportError:
        return _Gunzip()
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _xz() -> Any:
    """In bounded memory; else a file decides on up to 4 GB."""
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def _zstd() -> Any:
    try:
        from backports.zstd import ZstdDecompressor  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingPackageError(
            "it is compressed by zstd, which needs a package: pip install 'activity-tracker-hll[zstd]'"
        ) from error
    return ZstdDecompressor()


_COMPRESSIONS: dict[bytes, tuple[str, Callable[[], Any]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", _xz),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"\x50\x2a\x4d\x18": ("zstd", _zstd),  # a frame to be skipped, of which pzstd writes one first
}
"""By the first bytes of a file: the name, and what makes what decompresses a part."""

_NEW = dict(_COMPRESSIONS.values())


def compression_of(begin: bytes) -> str | None:
    """By what a file is compressed that begins so; None if by nothing."""
    return next((name for magic, (name, _) in _COMPRESSIONS.items() if begin.startswith(magic)), None)


class Decompressing:
    """Reads what was compressed, perhaps in parts.

    Args:
        stream: the compressed data.
        name: by what, see :func:`compression_of`.

    Raises:
        MissingPackageError: that needs a package.
    """

    def __init__(self, stream: _Source, name: str) -> None:
        self._stream, self._name, self._new = stream, name, _NEW[name]
        self._decompressor = self._new()

    def read(self, _size: int) -> bytes:
        """What one step makes; nothing at the end only.

        Raises:
            DamagedError: the data are.
            OSError: the system cannot read them.
        """
        try:
            return self._read()
        except Exception as error:  # each module has errors of its own; some are an OSError, without a number
            if getattr(error, "errno", None) is not None:
                raise
            raise DamagedError(f"the {self._name} data are damaged or cut short ({error})") from error

    def wait(self, seconds: float) -> bool:
        """See :data:`.opening.Wait`."""
        found = self._decompressor
        is_more = bool(found.unused_data) if found.eof else not found.needs_input
        return is_more or self._stream.wait(seconds)

    def _read(self) -> bytes:
        while True:
            data = b""
            if self._decompressor.eof:  # zeros may stand between what was compressed apart
                data = self._decompressor.unused_data.lstrip(b"\0")
                while not data:
                    if not (data := self._stream.read1(_PACKED)):
                        return b""
                    data = data.lstrip(b"\0")
                self._decompressor = self._new()
            elif self._decompressor.needs_input and not (data := self._stream.read1(_PACKED)):
                raise EOFError("the end is missing")
            found: bytes = self._decompressor.decompress(data, _STEP)
            if found:
                return found
