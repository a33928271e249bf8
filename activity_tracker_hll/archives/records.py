"""A record: all that is known of a bucket in a period. How two of one are united, and what a file keeps.

Sketches and tables of moves are semilattices, as on the server, so that uniting them is right in any order
and any number of times. A count is not: the newer one stands, unless it was made of less than is known.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .. import bulk
from ..errors import MalformedSketchError
from ..hll import packed
from ..hll.hashing import ids_of
from ..hll.registers import Registers, empty, fold, hashes_of, positions

__all__ = [
    "Moves",
    "Record",
    "Row",
    "digest",
    "fields",
    "record_of",
    "stand_ins",
    "united",
    "unpack_moves",
    "with_members",
]

Moves = Mapping[bytes, int]
"""A table of moves: ids, as bytes, each with the stamp of its newest event, negative if it left."""

Row = tuple[str, str | None, int | None, str, bytes | None, bytes | None, bytes | None, int]
"""A record as a file keeps it: period, bucket, count, standard error, H, V, T and whether it is whole."""

_DIGEST_BYTES = 16
_LONGEST_TABLE = 200 << 20
"""Bytes: 100,000 ids of 1 KiB, and room."""


class Record(NamedTuple):
    """What is known of a bucket in a period.

    Attributes:
        period: its name.
        bucket: the bucket; None = the unnamed one.
        counted: what is stored as its count, if anything is.
        stderr: the standard error beside it, as it is stored; empty for the plain formula's.
        tracked: H, the registers of all ids that were tracked; None = there is no sketch.
        moved: V, of those that ever moved out.
        moves: T.
        is_whole: whether this is all that there was: it could be read, and nothing came after.
    """

    period: str
    bucket: str | None
    counted: int | None = None
    stderr: str = ""
    tracked: Registers | None = None
    moved: Registers | None = None
    moves: Moves = MappingProxyType({})
    is_whole: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return self.counted is None and self.tracked is None and self.moved is None

    @property
    def is_counted(self) -> bool:
        """Whether a count is stored that sketches told; activity-tracker stored zeros for what never was."""
        return bool(self.counted) or bool(self.stderr)

    def covers(self, other: Record) -> bool:
        """Whether its sketches have all that is in those of another one."""
        return _covers(self.tracked, other.tracked) and _covers(self.moved, other.moved)


def united(
    old: Record,
    new: Record,
    *,
    has_tables: bool,
    is_settled: bool = False,
    are_sources_there: bool | None = None,
) -> Record:
    """What two records of a bucket and period say together.

    Args:
        old: what was known.
        new: what is known now.
        has_tables: whether their tables hold ids; what stands for ids is not known again, so that the newer
            table replaces the older, unless sketches were lost between the two.
        is_settled: whether the old one was read when its period was over and counted: a count whose sketch
            has gone since may have been made of less.
        are_sources_there: of an aggregate, whether the new one can be made of all that is known of its
            sources; None = it is a bucket. It has no sketch where an id left one of them.
    """
    if not new.is_whole or (new.tracked is None and not new.is_counted):  # it has expired, or never was
        return old
    if are_sources_there is None:
        is_less = new.tracked is None and old.tracked is not None
    else:
        is_less = not are_sources_there and (new.tracked is None or old.tracked is None)
    if is_settled and old.is_whole and is_less:
        return old
    if new.tracked is None:
        if are_sources_there:
            return new
        return new._replace(tracked=old.tracked, moved=old.moved, moves=old.moves)
    covers = new.covers(old)
    count, stderr = (
        (new.counted, new.stderr) if covers else (None, "")
    )  # neither was made of all that is known
    return Record(
        new.period,
        new.bucket,
        count,
        stderr,
        _highest(old.tracked, new.tracked),
        _highest(old.moved, new.moved),
        new.moves if covers and not has_tables else _newest(old.moves, new.moves),
    )


def _covers(new: Registers | None, old: Registers | None) -> bool:
    return old is None or (new is not None and bool((new >= old).all()))


def _highest(old: Registers | None, new: Registers | None) -> Registers | None:
    return new if old is None else old if new is None else np.maximum(old, new)


def _newest(old: Moves, new: Moves) -> Moves:
    """Of each id the newest event; of two at one moment, the activity."""
    if not (old and new):
        return old or new
    return {**old, **{id: max(stamp, old.get(id, 0), key=_age) for id, stamp in new.items()}}


def _age(stamp: int) -> tuple[int, int]:
    return abs(stamp), stamp


def stand_ins(moves: Moves) -> Moves:
    """What stands for the ids of a table, and tells the same number that came back, with the same registers.

    Nobody can tell an id from it: of the 64 bits of a hash it has those that the sketch shows, of the ids
    that are back. Whoever has left is left out.
    """
    back = [id for id, stamp in moves.items() if stamp > 0]
    index, rank = positions(bulk.hashes_of_bytes(back))
    hashes, seen = hashes_of(index, rank), Counter[int]()
    for at, hashed in enumerate(hashes.tolist()):
        # Bits above the one that ends the rank: they make a difference of ids that look alike.
        hashes[at] = (hashed | seen[hashed] << hashed.bit_length()) & (2**64 - 1)
        seen[hashed] += 1
    return dict.fromkeys(ids_of(hashes), 1)


def fields(record: Record) -> Row:
    """The record, small."""
    return (
        record.period,
        record.bucket,
        record.counted,
        record.stderr,
        None if record.tracked is None else packed.pack(record.tracked),
        None if record.moved is None else packed.pack(record.moved),
        _pack_moves(record.moves) if record.moves else None,
        int(record.is_whole),
    )


def record_of(row: Row) -> Record:
    """The record that was made small.

    Raises:
        MalformedSketchError: it makes no sense.
    """
    period, bucket, count, stderr, tracked, moved, moves, is_whole = row
    return Record(
        period,
        bucket,
        count,
        stderr,
        None if tracked is None else packed.unpack(tracked),
        None if moved is None else packed.unpack(moved),
        {} if moves is None else unpack_moves(moves),
        bool(is_whole),
    )


def digest(values: Sequence[Any]) -> bytes:
    """16 bytes that another row does not have, by types and lengths too."""
    own = blake2b(digest_size=_DIGEST_BYTES)
    own.update(repr([(len(value),) if type(value) is bytes else value for value in values]).encode())
    for value in values:
        if type(value) is bytes:
            own.update(value)
    return own.digest()


def _pack_moves(moves: Moves) -> bytes:
    """A table: the number of ids, stamps, lengths and ids, deflated; in one order, so that equal ones are."""
    ids = sorted(moves)
    numbers = [len(ids), *(moves[id] for id in ids), *map(len, ids)]
    return zlib.compress(np.array(numbers, "<i8").tobytes() + b"".join(ids))


def unpack_moves(data: bytes) -> Moves:
    """A table of moves.

    Raises:
        MalformedSketchError: it is none.
    """
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(data, _LONGEST_TABLE)
        [count] = np.frombuffer(body, "<i8", 1).tolist()
        stamps, lengths = np.frombuffer(body, "<i8", 2 * count, 8).reshape(2, -1).tolist()
    except (zlib.error, ValueError) as error:
        raise MalformedSketchError(f"packed table of moves: {error}") from error
    moves: dict[bytes, int] = {}
    at = 8 * (1 + 2 * count)
    for stamp, length in zip(stamps, lengths, strict=True):
        moves[body[at : at + length]] = stamp
        at += length
    if at != len(body) or len(moves) != count or not stream.eof or stream.unused_data:
        raise MalformedSketchError("packed table of moves: it is cut off, or tells an id twice")
    return moves


def with_members(record: Record) -> Record:
    """The record with all members of its table in both sketches, as they are on a server at any moment.

    They may have been read at different ones.
    """
    if not record.moves or record.tracked is None:
        return record
    members = empty()
    fold(members, bulk.hashes_of_bytes(list(record.moves)))
    moved = empty() if record.moved is None else record.moved
    return record._replace(tracked=np.maximum(record.tracked, members), moved=np.maximum(moved, members))
