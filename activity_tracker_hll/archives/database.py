"""SQLite, for archives: connections, and what its errors mean.

Loaded when a file is used: of all who import this library few do, and not every Python has SQLite.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..errors import ArchiveError

try:
    import sqlite3
    from sqlite3 import Error
except ImportError as error:
    raise ArchiveError("archives need the module sqlite3, which this Python was made without") from error

__all__ = ["SETTINGS", "Error", "connect", "trouble"]

SETTINGS = ["trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL", "cache_size = -16384"]
"""Of a connection: whatever stands in the file is data; the disk has what is said to be written; KiB."""

_PATIENCE_S = 30.0
_LONGEST = 256 << 20
"""Bytes of a value: SQLite asks for no more memory, whatever a damaged file says."""
_IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NOT_WRITTEN = {
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH),
}


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in autocommit mode, which several threads may use one after the other.

    Args:
        path: of the file.
        mode: "ro", "rw", or "rwc" to make it.

    Raises:
        Error: see :func:`trouble`.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_PATIENCE_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        for setting in SETTINGS:
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def trouble(error: Error) -> Literal["foreign", "in use", "not written", "damaged"]:
    """What an error says of the file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "foreign"
    if code in _IN_USE:
        return "in use"
    return "not written" if code in _NOT_WRITTEN else "damaged"
