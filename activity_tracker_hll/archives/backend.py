"""A backend whose server is the file of an archive: it answers the commands of reading calls, and no others.

So whatever is read of an archive is planned, asked for and worked out by the same code as from a server. Keys
are given the names that they have on a server of its namespace.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer
from ..backends.base import BaseBackend, Command, Reply
from ..errors import ArgumentValueError, BackendResponseError
from ..hll import codec, packed
from ..hll.estimators import cardinality
from ..hll.registers import Registers
from ..keys import Keys
from ..messages import shown
from ..periods import Period
from .file import ArchiveFile, Entries, Entry, Held
from .records import unpack_moves

__all__ = ["ArchiveBackend"]

_REMEMBERED = 512
"""Sketches, of 16 KiB, while a batch is answered: each window has most in common with the one before."""
_TABLES = 4
"""Tables, which are read in pages."""
_TRACKED, _MOVED, _MOVES = 4, 5, 6
"""Columns of a row."""
_Members = list[tuple[bytes, int]]


class _Place(NamedTuple):
    """Where a key's value is: in a column of a record."""

    entry: Entry
    column: int


class _Keys(NamedTuple):
    """What keys there are.

    Attributes:
        entries: what they were made of.
        strings: counts and standard errors, by key.
        places: of all else.
    """

    entries: Entries
    strings: Mapping[str, bytes]
    places: Mapping[str, _Place]


class ArchiveBackend(BaseBackend):
    """Reads an archive.

    Args:
        path: of the file.
        secret: what ids are hashed with, to look for ids by name.

    Raises:
        ArgumentTypeError, ArgumentValueError: no path, or no secret.
        ArchiveError: it is missing, foreign, newer, damaged, or in use.
    """

    def __init__(self, path: str | os.PathLike[str], *, secret: str | bytes | None = None) -> None:
        self.file = ArchiveFile(path)
        with self.file.reading() as held:
            super().__init__(namespace=held.head.namespace, secret=secret)
        self._known: _Keys | None = None
        self._tables = lru_cache(_TABLES)(_members)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} path={self.file}>"

    def check_shard(self, shard: int) -> None:
        """See :meth:`.base.BackendSettings.check_shard`."""
        if integer(shard, "shard", minimum=0):
            raise ArgumentValueError(f"shard must be 0: an archive is of one data set, got {shown(shard)}")

    def now(self) -> float:
        """When something was archived for the last time, in seconds since the epoch.

        Raises:
            ArchiveError: it cannot be read.
        """
        with self.file.reading() as held:
            return held.head.archived_at

    def lacking(self, periods: Sequence[Period], bucket: str | None) -> NDArray[np.bool_]:
        """See :meth:`.base.BackendSettings.lacking`; periods are of one kind."""
        with self.file.reading() as held:
            head, entries = held.head, held.entries
        spans = ((period.start, min(period.next().start, head.until)) for period in periods)
        found = np.array(head.coverage.lacking(periods[0].kind if periods else "", bucket, spans), bool)
        for index, period in enumerate(periods):
            entry = entries.get((period.name, bucket))
            if entry is not None and not entry.is_whole:
                found[index] = True
        return found

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.base.BaseBackend.execute`.

        Raises:
            ArchiveError: the file is missing, foreign, newer, damaged, or in use.
        """
        self.check_shard(shard)
        with self.file.reading() as held:
            reply = _Reader(self.keys, held, self._keys(held), self._tables).reply
            return [reply(command) for command in commands]

    def close(self) -> None:
        """See :meth:`.base.BaseBackend.close`; nothing is open between calls."""

    def _keys(self, held: Held) -> _Keys:
        known = self._known
        if known is None or known.entries is not held.entries:
            known = self._known = self._found(held.entries)
        return known

    def _found(self, entries: Entries) -> _Keys:
        strings: dict[str, bytes] = {}
        places: dict[str, _Place] = {}
        for entry in entries.values():
            keys = self.keys.bucket(entry.period, entry.bucket)
            if entry.counted is not None:
                strings[keys.counted] = str(entry.counted).encode()
            if entry.stderr:
                strings[keys.stderr] = entry.stderr.encode()
            if entry.has_tracked:
                places[keys.hll] = _Place(entry, _TRACKED)
            if entry.has_moved:
                places[keys.moved] = _Place(entry, _MOVED)
            if entry.has_moves:
                places[keys.moves] = _Place(entry, _MOVES)
        return _Keys(entries, strings, places)


class _Reader:
    """Replies to commands, of what a file holds at one moment."""

    def __init__(self, keys: Keys, held: Held, known: _Keys, tables: Callable[[bytes], _Members]) -> None:
        self._held, self._strings, self._places = held, known.strings, known.places
        self._meta, self._open = keys.meta, keys.open
        self._tables = tables
        self._registers = lru_cache(_REMEMBERED)(self._unpacked)

    def reply(self, command: Command) -> Reply:
        """What a server would answer."""
        name, *arguments = command
        answer = self._ANSWERS.get(str(name))
        if answer is None:
            return BackendResponseError(f"an archive is only read: it does not know {shown(name)}")
        return answer(self, *map(str, arguments))

    def _exists(self, *keys: str) -> int:
        return sum(key in self._strings or key in self._places or self._is_other(key) for key in keys)

    def _is_other(self, key: str) -> bool:
        head = self._held.head
        return (key == self._meta and bool(head.settings)) or (key == self._open and bool(head.open))

    def _get(self, key: str) -> Reply:
        if key in self._strings:
            return self._strings[key]
        registers = self._registers(key)
        return None if registers is None else codec.encode_dense(registers)

    def _mget(self, *keys: str) -> Reply:
        return [self._strings.get(key) for key in keys]

    def _pfcount(self, *keys: str) -> int:
        there = [registers for key in keys if (registers := self._registers(key)) is not None]
        return cardinality(reduce(np.maximum, there)) if there else 0

    def _zcount(self, key: str, low: str, high: str) -> int:
        return len(self._members(key, low, high))

    def _zrangebyscore(self, key: str, low: str, high: str, *options: str) -> Reply:
        offset, count = map(int, options[-2:])
        members = self._members(key, low, high)[offset : offset + count]
        return [part for id, stamp in members for part in (id, str(stamp).encode())]

    def _members(self, key: str, low: str, high: str) -> _Members:
        """Members of a table by their stamps."""
        place = self._places.get(key)
        if place is None:
            return []
        first, last = _bound(low, +1), _bound(high, -1)
        return [member for member in self._tables(self._value(place)) if first <= member[1] <= last]

    def _scan(self, *_arguments: str) -> Reply:
        keys = [*self._strings, *self._places]
        return [b"0", [key.encode() for key in keys]]

    def _hscan(self, key: str, _cursor: str, _match: str, pattern: str, *_count: str) -> Reply:
        stored = self._held.head.settings if key == self._meta else {}
        pattern = pattern.replace("[^", "[!")  # as Python writes it
        found = [pair for pair in stored.items() if fnmatchcase(pair[0], pattern)]
        return [b"0", [part.encode() for pair in found for part in pair]]

    def _hkeys(self, key: str) -> Reply:
        return [name.encode() for name in (self._held.head.settings if key == self._meta else ())]

    def _smembers(self, key: str) -> Reply:
        return [name.encode() for name in (sorted(self._held.head.open) if key == self._open else ())]

    def _time(self) -> Reply:
        seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
        return [str(seconds).encode(), str(micros).encode()]

    def _unpacked(self, key: str) -> Registers | None:
        place = self._places.get(key)
        return None if place is None else packed.unpack(self._value(place))

    def _value(self, place: _Place) -> bytes:
        value: Any = self._held.row(place.entry)[place.column]
        return bytes(value)

    _ANSWERS: Mapping[str, Callable[..., Reply]] = {
        "EXISTS": _exists,
        "GET": _get,
        "MGET": _mget,
        "PFCOUNT": _pfcount,
        "ZCOUNT": _zcount,
        "ZRANGEBYSCORE": _zrangebyscore,
        "SCAN": _scan,
        "HSCAN": _hscan,
        "HKEYS": _hkeys,
        "SMEMBERS": _smembers,
        "TIME": _time,
    }


def _members(data: bytes) -> _Members:
    """A table in the order of a server, by stamps and then by ids."""
    return sorted(unpack_moves(data).items(), key=lambda member: (member[1], member[0]))


def _bound(text: str, inwards: int) -> float:
    """A bound of stamps, that one included."""
    if text.endswith("inf"):
        return math.inf if text.startswith("+") else -math.inf
    return int(text[1:]) + inwards if text.startswith("(") else int(text)
