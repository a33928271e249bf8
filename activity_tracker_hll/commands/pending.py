"""Events on their way to the server: folded into sketches here, or kept as ids where they are few.

A sketch costs the server the same however many ids are in it, so many ids are cheaper as a sketch
and few as PFADD. Whether the server can take sketches at all is asked first: a stand-in for tests
such as fakeredis keeps a plain set behind PFADD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import numpy as np

from .. import bulk
from ..backends.base import Command, Reply
from ..backends.scripts import MERGE, WRITE
from ..errors import BackendError, BackendResponseError, MalformedSketchError
from ..hll import codec
from ..hll.registers import Hashes, Registers, empty, fold
from .base import Context, Operation, batched, items, named, unwrap

__all__ = ["FEW", "Pending", "Place", "merge_call", "recent_moves", "takes_sketches", "write_call"]

Place = tuple[str, str | None]
"""A period's name and a bucket."""

FEW = 128
"""Fewer events of one place than this are kept as ids: the server adds these in the time it takes to read
a small sketch, unite it here and write it back."""

_IDS_PER_CALL = 1000
_CALLS_PER_BATCH = 64
_MOST_SKETCHES = 2048  # of 16 KiB
_MOST_EVENTS = 1 << 20  # of 8 bytes, kept to find returning ids; beyond that a push costs next to nothing


def takes_sketches(context: Context) -> Operation[bool]:
    """Whether the server counts a sketch that is written to it.

    Raises:
        BackendError: it cannot say, being out of memory or read-only.
    """
    key = f"{context.keys.meta}:tmp:{token_hex(8)}"
    registers = empty()
    registers[0] = 1
    commands: list[Command] = [
        ("SET", key, codec.encode(registers), "EX", 60),
        ("PFCOUNT", key),
        ("DEL", key),
    ]
    replies = yield commands
    stored, counted, _ = replies
    unwrap([stored])
    if isinstance(counted, BackendResponseError):
        return False
    [number] = unwrap([counted])
    return bool(number == 1)


def write_call(
    context: Context, place: Place, added: Sequence[bytes], removed: Iterable[tuple[bytes, int]] = ()
) -> Command:
    """A call of the script that adds ids to a bucket and moves ids out of it.

    Args:
        removed: ids, and how many milliseconds ago each moved.
    """
    keys = context.keys.bucket(*place)
    return WRITE.call(
        (keys.counted, keys.hll, keys.moved, keys.out, keys.back, recent_moves(context, place)),
        context.moved_limit,
        len(added),
        *added,
        *(part for id, ago in removed for part in (id, ago)),
    )


def recent_moves(context: Context, place: Place) -> str:
    """The key that says when ids moved out of the bucket: milliseconds of the server's clock, for an hour."""
    return context.keys.temporary(*place, "moves")


def merge_call(context: Context, place: Place, *sketches: bytes) -> Command:
    """A call of the script that unites a sketch with a bucket's."""
    keys = context.keys.bucket(*place)
    temporary = context.keys.temporary(*place, "merge")
    return MERGE.call((keys.counted, keys.hll, keys.out, temporary, keys.moved, keys.back), *sketches)


@dataclass(slots=True)
class _Folded:
    """The sketch of a place and the hashes that are in it, an event each."""

    registers: Registers = field(default_factory=empty)
    hashes: list[Hashes] = field(default_factory=list)

    @property
    def events(self) -> int:
        return sum(map(len, self.hashes))


class Pending:
    """What is not sent yet, by period and bucket."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folded: dict[Place, _Folded] = {}
        self._ids: dict[Place, list[bytes]] = {}
        self.events = 0

    @property
    def full(self) -> bool:
        """Whether more would take too much memory."""
        return self.events >= _MOST_EVENTS or len(self._folded) >= _MOST_SKETCHES

    def add_ids(self, place: Place, ids: Iterable[bytes]) -> None:
        """Keep encoded ids."""
        kept = self._ids.setdefault(place, [])
        before = len(kept)
        kept += ids
        self.events += len(kept) - before

    def add_hashes(self, place: Place, hashes: Hashes) -> None:
        """Fold hashes, which must not change any more."""
        folded = self._folded.get(place)
        if folded is None:
            folded = self._folded[place] = _Folded()
        fold(folded.registers, hashes)
        folded.hashes.append(hashes)
        self.events += len(hashes)

    def has_sketch(self, place: Place) -> bool:
        """Whether the place has a sketch that more can be folded into."""
        return place in self._folded

    def push(self) -> Operation[dict[str, int]]:
        """Send everything; returns how many events each late period refused.

        Raises:
            BackendError: the first one; what else could be sent was.
        """
        push = _Push(self._context)
        folded, ids = self._folded, self._ids
        self._folded, self._ids, self.events = {}, {}, 0
        for batch in batched(folded.items(), _CALLS_PER_BATCH):
            yield from push.sketches(dict(batch))
        parts = (
            (place, kept[start : start + _IDS_PER_CALL])
            for place, kept in ids.items()
            for start in range(0, len(kept), _IDS_PER_CALL)
        )
        for part in batched(parts, _CALLS_PER_BATCH):
            yield from push.ids(part)
        if push.errors:
            raise push.errors[0]
        return push.late


class _Push:
    """One push: what was refused, and what went wrong."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.late: dict[str, int] = {}
        self.errors: list[BackendError] = []

    def sketches(self, folded: dict[Place, _Folded]) -> Operation[None]:
        """Unite sketches with those on the server."""
        calls = {
            place: merge_call(self._context, place, codec.encode(of.registers))
            for place, of in folded.items()
        }
        again: dict[Place, Command] = {}
        returned: list[Place] = []

        def read(place: Place, reply: Reply) -> None:
            state, *rest = items(reply)
            if state == b"LATE":
                self._refuse(place, folded[place].events)
            elif state == b"SPARSE":
                again[place] = self._united(place, folded[place].registers, rest[0])
            elif state == b"OUT":
                returned.append(place)

        yield from self._call(calls, read)
        yield from self._call(dict(again), read)
        for place in returned:
            yield from self._return(place, np.concatenate(folded[place].hashes))

    def ids(self, parts: Sequence[tuple[Place, list[bytes]]]) -> Operation[None]:
        """Add ids."""
        replies = yield [write_call(self._context, place, ids) for place, ids in parts]
        for (place, ids), reply in zip(parts, replies, strict=True):
            if isinstance(reply, BackendError):
                self.errors.append(named(reply, *place))
            elif reply == b"LATE":
                self._refuse(place, len(ids))

    def _call(self, calls: dict[Place, Command], read: Callable[[Place, Reply], None]) -> Operation[None]:
        if not calls:
            return
        replies = yield list(calls.values())
        for place, reply in zip(calls, replies, strict=True):
            try:
                [answer] = unwrap([reply])
                read(place, answer)
            except BackendError as error:
                self.errors.append(named(error, *place))

    def _return(self, place: Place, hashes: Hashes) -> Operation[None]:
        """Ids that are out of the bucket and were tracked in it again are back; few are out at a time."""
        [reply] = yield [("SMEMBERS", self._context.keys.bucket(*place).out)]
        if isinstance(reply, BackendError):
            self.errors.append(named(reply, *place))
            return
        # They are kept as they were sent, under the secret if there is one.
        out = items(reply)
        known = np.isin(bulk.hashes_of_bytes(out), hashes)
        back = [id for id, tracked in zip(out, known.tolist(), strict=True) if tracked]
        for part in batched(back, _IDS_PER_CALL):
            yield from self.ids([(place, part)])

    def _united(self, place: Place, registers: Registers, held: Any) -> Command:
        try:
            union = np.maximum(registers, codec.decode(held))
        except MalformedSketchError as error:
            raise BackendResponseError(f"the sketch is corrupt: {error}") from error
        return merge_call(self._context, place, codec.encode(union), held)

    def _refuse(self, place: Place, events: int) -> None:
        self.late[place[0]] = self.late.get(place[0], 0) + events
