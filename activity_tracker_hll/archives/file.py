"""The file of an archive: an SQLite database of two tables, which is read whole or refused whole.

SQLite, as it comes with Python, is written to in transactions, which a process that is killed leaves undone;
a row is changed without writing the others again; and readers go on while somebody writes. Of what it does
not see, a bit that flipped or a page that is missing, digests tell: each record has one, and the head has
that of itself and the sum of all records'. They are compared whenever a file is read for the first time, and
again when it has changed.

    head      one row: a JSON document, see :class:`Head`, and its digest
    records   a row for each bucket and period, see :mod:`.records`, with the digest of its other columns

``application_id`` says that it is an archive, ``user_version`` how it is to be read.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ArchiveError, MalformedSketchError
from ..keys import is_bucket
from ..messages import shown
from ..paths import Place
from ..periods import Calendar
from .coverage import ALWAYS, Coverage
from .records import Record, Row, digest, fields, record_of

if TYPE_CHECKING:
    import sqlite3  # else by :mod:`.database`, which is loaded when a file is used

__all__ = ["ArchiveFile", "Changes", "Entry", "Head", "Held"]

FORMAT = 1
"""The version of the file that this version of the library reads and writes."""
APPLICATION = int.from_bytes(b"AHLL", "big")

_PAGE_BYTES = 2048
"""A full sketch takes about three: of larger pages more is left empty, up to a third of the file."""
_SCHEMA = (
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
    "CREATE TABLE head (id INTEGER PRIMARY KEY, document TEXT NOT NULL, digest BLOB NOT NULL)",
    """CREATE TABLE records (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL, period TEXT NOT NULL, bucket TEXT, count INTEGER,
    stderr TEXT NOT NULL, tracked BLOB, moved BLOB, moves BLOB, is_whole INTEGER NOT NULL)""",
)
_COLUMNS = "period, bucket, count, stderr, tracked, moved, moves, is_whole"
_SUMS = 2**128
_NAMES = Calendar("UTC")


@dataclass(frozen=True, slots=True)
class Head:
    """What an archive says of itself.

    Attributes:
        namespace, shard: of the data set whose archive it is.
        has_tables: whether tables of moves hold ids, or only what stands for them.
        archived_at: when something was archived for the last time, in seconds since the epoch.
        until: the same moment by a clock in the zone of the data.
        settings: the fields of the data's settings.
        coverage: of what it knows all.
        open: names of the periods that held uncounted data.
        revision: how often it was written.
        records: how many it has.
        sum: of the digests of all of them.
    """

    namespace: str
    shard: int
    has_tables: bool
    archived_at: float = 0.0
    until: datetime = ALWAYS
    settings: Mapping[str, str] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    open: frozenset[str] = frozenset()
    revision: int = 0
    records: int = 0
    sum: int = 0

    def document(self) -> str:
        """As it is stored."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        told |= {"until": self.until.isoformat(), "settings": dict(self.settings), "sum": f"{self.sum:032x}"}
        return json.dumps(told | {"coverage": self.coverage.to_json(), "open": sorted(self.open)})

    @classmethod
    def read(cls, document: str) -> Head:
        """From what is stored.

        Raises:
            ValueError, TypeError, KeyError: it makes no sense.
        """
        told = json.loads(document)
        told |= {"until": datetime.fromisoformat(told["until"]), "sum": int(told["sum"], 16)}
        told |= {"coverage": Coverage.from_json(told["coverage"]), "open": frozenset(told["open"])}
        return cls(**told)


class Entry(NamedTuple):
    """What there is of a bucket in a period, without what takes room.

    Attributes:
        id: of the row.
        digest: of the record.
        period: its name.
        bucket: None = the unnamed one.
        counted, stderr: see :class:`.records.Record`.
        has_tracked, has_moved, has_moves: whether there is H, V and T.
        is_whole: see :class:`.records.Record`.
    """

    id: int
    digest: bytes
    period: str
    bucket: str | None
    counted: int | None
    stderr: str
    has_tracked: bool
    has_moved: bool
    has_moves: bool
    is_whole: bool

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but that it could not be read."""
        return self.counted is None and not (self.has_tracked or self.has_moved)

    @classmethod
    def of(cls, id: int, digest: bytes, row: Row) -> Entry:
        """Of the columns of a record."""
        period, bucket, counted, stderr, tracked, moved, moves, is_whole = row
        has = [part is not None for part in (tracked, moved, moves)]
        return cls(id, digest, period, bucket, counted, stderr, has[0], has[1], has[2], bool(is_whole))


Entries = Mapping[tuple[str, str | None], Entry]


class Held:
    """What a file holds, at one moment.

    Attributes:
        head: what it says of itself.
        entries: by period and bucket.
    """

    def __init__(self, connection: sqlite3.Connection, head: Head, entries: Entries) -> None:
        self._connection = connection
        self.head = head
        self.entries: Entries = entries

    def row(self, entry: Entry) -> Row:
        """The columns of a record.

        Raises:
            MalformedSketchError: they are not what they were.
        """
        query = f"SELECT {_COLUMNS} FROM records WHERE id = ?"  # noqa: S608 (a constant)
        row: Row | None = self._connection.execute(query, (entry.id,)).fetchone()
        if row is None or digest(row) != entry.digest:
            raise MalformedSketchError(f"a record of {entry.period} is not what its digest says")
        return row

    def record(self, period: str, bucket: str | None) -> Record | None:
        """All that is known of a bucket in a period; None = nothing."""
        entry = self.entries.get((period, bucket))
        return None if entry is None else record_of(self.row(entry))


class Changes(Held):
    """What is to be written to a file, all at once in the end.

    Attributes:
        changed: how many records differ from what they were.
    """

    def __init__(self, connection: sqlite3.Connection, head: Head, entries: Entries) -> None:
        self._own = dict(entries)
        super().__init__(connection, head, self._own)
        self.changed = 0

    def put(self, record: Record) -> None:
        """Write a record in place of what was known of its bucket and period."""
        row = fields(record)
        own, old = digest(row), self.entries.get((record.period, record.bucket))
        if old is not None and own == old.digest:
            return
        marks = ", ".join("?" * (2 + len(row)))
        columns = f"id, digest, {_COLUMNS}"
        cursor = self._connection.execute(
            f"INSERT OR REPLACE INTO records ({columns}) VALUES ({marks})",  # noqa: S608 (constants)
            (None if old is None else old.id, own, *row),
        )
        entry = Entry.of(cursor.lastrowid or 0, own, row)
        self._own[record.period, record.bucket] = entry
        change = _number(own) - (0 if old is None else _number(old.digest))
        self.head = replace(self.head, records=len(self._own), sum=(self.head.sum + change) % _SUMS)
        self.changed += 1

    def finish(self) -> None:
        """Write the head."""
        self.head = replace(self.head, revision=self.head.revision + 1)
        _write_head(self._connection, self.head)


class ArchiveFile:
    """A file on disk. Connections are made for each use: so threads and forks have nothing in common.

    Args:
        path: of the file, which need not exist.

    Raises:
        ArgumentTypeError, ArgumentValueError: no path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = Place.of(path, "a file")
        self.path = self._place.path
        self._known: tuple[str, Head, Entries] | None = None

    @contextmanager
    def reading(self) -> Iterator[Held]:
        """What it holds, which does not change meanwhile.

        Raises:
            ArchiveError: it is missing, foreign, newer, damaged, or in use.
        """
        with self._translated(), self._connected(writes=False) as connection:
            connection.execute("BEGIN")
            yield Held(connection, *self._load(connection))

    @contextmanager
    def writing(self, new: Head) -> Iterator[Changes]:
        """Changes, all of which are written in the end, or none if an exception ends it.

        Args:
            new: the head of a file that is made, if there is none.

        Raises:
            ArchiveError: it is foreign, newer, damaged, in use, or cannot be written.
        """
        with self._translated():
            with self._opening():
                if not self.path.exists():
                    self._create(new)
            with self._connected(writes=True) as connection:
                connection.execute("BEGIN IMMEDIATE")
                changes = Changes(connection, *self._load(connection))
                yield changes
                changes.finish()
                connection.execute("COMMIT")
                self._known = changes.head.document(), changes.head, changes.entries

    def _create(self, head: Head) -> None:
        """Make a file that holds nothing, at once: under its name there is never a part of one."""
        import tempfile  # noqa: PLC0415 (of all who import this library few make archives)

        from . import database  # noqa: PLC0415 (likewise)

        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name[:100]}.") as folder:
            made = Path(folder) / "new"
            with closing(database.connect(made, "rwc")) as connection:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                connection.execute("BEGIN")
                for statement in _SCHEMA:
                    connection.execute(statement)
                _write_head(connection, head)
                connection.execute("COMMIT")
            try:
                os.link(made, self.path)
            except OSError:  # another process was faster, or it is a file system without links
                if not self.path.exists():
                    made.rename(self.path)

    @contextmanager
    def _connected(self, *, writes: bool) -> Iterator[sqlite3.Connection]:
        from . import database  # noqa: PLC0415 (of all who import this library few use archives)

        with self._opening():
            self._check_place()
        # What a process that was killed left has to be undone before anything is read.
        mode = "rw" if writes or os.access(self.path, os.W_OK) else "ro"
        with closing(database.connect(self.path, mode)) as connection:
            self._check_header(connection)
            yield connection

    def _check_place(self) -> None:
        """Refuse what is no file, by its name: opening and closing it here would end SQLite's locks on it.

        They are the process's, so another thread would go on writing without; see section 2.2 of
        https://www.sqlite.org/howtocorrupt.html.
        """
        status = self.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise ArchiveError(f"{self._called} cannot be used: it is no regular file")
        if not status.st_size:
            raise ArchiveError(f"{self._called} is empty: it is no archive, or was cut off")

    def _check_header(self, connection: sqlite3.Connection) -> None:
        """Refuse what is no archive before anything else is read of it."""
        [(application,)] = connection.execute("PRAGMA application_id")
        [(version,)] = connection.execute("PRAGMA user_version")
        if application != APPLICATION:
            raise self._foreign()
        if version != FORMAT:
            raise ArchiveError(
                f"{self._called} has format {version}, of which this version of activity_tracker_hll knows"
                f" only {FORMAT}: a newer one wrote it, or it is damaged"
            )

    def _load(self, connection: sqlite3.Connection) -> tuple[Head, Entries]:
        """All but what takes room; all of it is verified, if it was not before."""
        [(document, own)] = connection.execute("SELECT document, digest FROM head").fetchall() or [("", b"")]
        known = self._known
        if known is not None and known[0] == document:
            return known[1:]
        [(pages,)] = connection.execute("PRAGMA page_count")
        if self.path.stat().st_size != pages * _PAGE_BYTES:
            raise self._damaged("it was cut off, or something was added to it")
        if digest([document]) != own:
            raise self._damaged("its head is not what its digest says")
        try:
            head = Head.read(document)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._damaged("its head makes no sense") from error
        entries, total = {}, 0
        query = f"SELECT id, digest, {_COLUMNS} FROM records"  # noqa: S608 (constants)
        for id, own, *columns in connection.execute(query):
            row: Any = tuple(columns)
            if digest(row) != own:
                raise self._damaged("a record is not what its digest says")
            entry = Entry.of(id, own, row)
            if _NAMES.parse(entry.period) is None or not is_bucket(entry.bucket):
                raise self._damaged(f"{shown(entry.period)} {shown(entry.bucket)} is no period and bucket")
            entries[entry.period, entry.bucket] = entry
            total += _number(own)
        if (len(entries), total % _SUMS) != (head.records, head.sum):
            raise self._damaged(
                f"it has {len(entries):,} records, which are not the {head.records:,} it should have"
            )
        self._known = document, head, entries
        return head, entries

    def __str__(self) -> str:
        return self._place.shown

    @property
    def _called(self) -> str:
        return f"the archive {self._place.shown}"

    def _damaged(self, why: str) -> ArchiveError:
        return ArchiveError(f"{self._called} is damaged, so nothing of it is used: {why}")

    def _foreign(self) -> ArchiveError:
        return ArchiveError(
            f"{self._called} is no archive of activity_tracker_hll, or its beginning is damaged"
        )

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """The system's errors as ours."""
        try:
            yield
        except OSError as error:
            raise ArchiveError(f"{self._called} cannot be used: {self._place.why(error)}") from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of SQLite as ours, and those of what is in the file."""
        from . import database  # noqa: PLC0415 (of all who import this library few use archives)

        try:
            yield
        except MalformedSketchError as error:
            raise self._damaged(str(error)) from error
        except UnicodeDecodeError as error:  # of a message about what is damaged
            raise self._damaged("it has text that is none") from error
        except database.Error as error:
            match database.trouble(error):
                case "foreign":
                    raise self._foreign() from error
                case "in use":
                    raise ArchiveError(f"{self._called} is being written by another process") from error
                case "not written":
                    raise ArchiveError(f"{self._called} cannot be read or written: {error}") from error
                case _:
                    raise self._damaged(str(error)) from error


def _write_head(connection: sqlite3.Connection, head: Head) -> None:
    document = head.document()
    connection.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (document, digest([document])))


def _number(own: bytes) -> int:
    return int.from_bytes(own, "big")
