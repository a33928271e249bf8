"""The one way by which events that were gathered here get to the server: for track_many, imports and writers.

What is gathered for a bucket and period is a *load*: registers to unite with the bucket's sketch, ids where
they are few or where the server takes no sketches, and stamps of ids that moved. It is sent in this order,
each step for all buckets before the next, so that an id is added where it goes before it leaves where it was:

1. registers and ids are added; a bucket's reply says whether it has a side table;
2. where it has one, ids that are out of the bucket and were active since are told to be back;
3. ids that left are told to be out;
4. periods that are over, or were not marked for a while, are marked as holding uncounted data.

Registers and stamps both form a semilattice: a load may be sent again, twice, in part, in any order with
others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ... import bulk
from ...backends.base import Command
from ...errors import BackendDataError, BackendError, MalformedSketchError
from ...hll import codec
from ...hll.registers import Registers
from ...scripts.calls import EMPTY_TABLE, TableState, answer, call_unite, call_write
from ..base import Context, Operation, PeriodBucket, batched, named, unwrap_of
from .open_periods import OpenPeriods
from .side_table import Range, Seen, SideTable, read_members

__all__ = ["IDS_PER_CALL", "Load", "Outcome", "Sent", "unite"]

IDS_PER_CALL = 500
"""Some 2 ms of the server's time."""

_CALLS_PER_BATCH = 64
_ATTEMPTS = 5
"""One; another where both sketches are sparse; and some as others do the same, or the server lost what it
had."""


_Events = Sequence[tuple[bytes, int]]
"""Ids, with stamps."""


@dataclass(slots=True)
class Load:
    """What is to get to one bucket and period.

    Attributes:
        registers: to unite with the bucket's sketch; all zero = only look what the server has; None = not
            even that, as of a server that takes no sketches.
        ids: that were active, with their stamps.
        seen: hashes of ids in the registers, to find those that came back.
        moves: ids that moved, with the stamp of their newest event, negative if they left.
        table: what is known of the bucket's side table.
        expects_sketch: whether the server had a sketch of the bucket.
        expects_moved: whether it had a sketch of moved ids.
        expects_members: how many members the side table had.
        has_left: whether an id left after all that was seen: this process knows its own order better than
            stamps tell it.
        note_returned: called with ids that were found to be back, and their stamps, before they are told.
        all_registers: what the server had, in case it has not any more.
        all_moves: as `moves`, what it was told before included, in case it lost that.
    """

    registers: Registers | None = None
    ids: _Events = ()
    seen: Sequence[Seen] = ()
    moves: dict[bytes, int] = field(default_factory=dict)
    table: SideTable = field(default_factory=SideTable)
    expects_sketch: bool = False
    expects_moved: bool = False
    expects_members: int = 0
    note_returned: Callable[[Mapping[bytes, int]], object] = field(default=lambda _returned: None)
    has_left: Callable[[bytes], bool] = field(default=lambda _id: False)
    all_registers: Callable[[], Registers] | None = None
    all_moves: Callable[[], dict[bytes, int]] | None = None


@dataclass(slots=True)
class Outcome:
    """What became of a load.

    Attributes:
        late: the period was collapsed and the bucket's sketch is gone: nothing was written.
        error: what went wrong, naming the bucket.
        lost: the server had lost the sketch; `all_registers` were sent.
        doubted: it had lost something; `all_moves` were sent.
        vanished: it lost something while the load was sent: what was sent before has to be sent again.
        moved: whether the bucket has a sketch of moved ids.
        table: state of its side table, as last heard.
        returned: ids that were found to be back, with their stamps.
        has_sketch: whether the bucket has a sketch.
    """

    late: bool = False
    error: BackendError | None = None
    lost: bool = False
    doubted: bool = False
    vanished: bool = False
    has_sketch: bool = False
    moved: bool = False
    table: TableState = EMPTY_TABLE
    returned: dict[bytes, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether no more is to be sent."""
        return self.late or self.error is not None


class Sent(NamedTuple):
    """What became of loads, and the error if their periods could not be marked."""

    outcomes: dict[PeriodBucket, Outcome]
    unmarked: BackendError | None


def unite(
    context: Context, loads: Mapping[PeriodBucket, Load], open_periods: OpenPeriods, running: Iterable[str]
) -> Operation[Sent]:
    """Send loads.

    Args:
        open_periods: marks the loads' periods.
        running: names of periods that are not over.

    Returns:
        What became of each. A bucket that fails holds up no other.
    """
    sending = _Sending(context, loads)
    for batch in batched(loads, _CALLS_PER_BATCH):
        yield from sending.add(batch)
    yield from sending.find_returned()
    moves = sending.moves()
    yield from sending.move(moves, lambda stamp: stamp > 0)
    sending.remember_returned()
    yield from sending.move(moves, lambda stamp: stamp < 0)
    marks = open_periods.mark(dict.fromkeys(period for period, _ in loads), running)
    try:
        unwrap_of(open_periods.key, (yield marks) if marks else [])
    except BackendError as error:
        return Sent(sending.outcomes, error)
    open_periods.are_marked(marks)
    return Sent(sending.outcomes, None)


class _Sending:
    """One sending of loads."""

    def __init__(self, context: Context, loads: Mapping[PeriodBucket, Load]) -> None:
        self._context = context
        self._loads = loads
        self.outcomes = {target: Outcome() for target in loads}

    def add(self, targets: Sequence[PeriodBucket]) -> Operation[None]:
        """Registers and ids; of a bucket with neither, only what the server has is looked at."""
        sketches: dict[PeriodBucket, tuple[bytes, ...]] = {}
        for target in targets:
            load = self._loads[target]
            if load.registers is not None:
                sketches[target] = (codec.encode(load.registers) if load.registers.any() else b"",)
        for _ in range(_ATTEMPTS):
            sketches = yield from self._unite(sketches)
        for target in sketches:
            self.outcomes[target].error = named(BackendError("is being written to all the time"), target)
        yield from self._write({target: self._loads[target].ids for target in targets}, moves=False)

    def _unite(
        self, sketches: Mapping[PeriodBucket, tuple[bytes, ...]]
    ) -> Operation[dict[PeriodBucket, tuple[bytes, ...]]]:
        """Send sketches; returns what has to be sent instead."""
        again: dict[PeriodBucket, tuple[bytes, ...]] = {}
        keys, temporary = self._context.keys.bucket, self._context.keys.temporary
        calls = [
            call_unite(keys(*target), temporary(*target, "unite"), *arguments)
            for target, arguments in sketches.items()
        ]
        for target, reply in zip(sketches, (yield calls) if calls else (), strict=True):
            try:
                state, rest = answer(reply)
                if state == b"SPARSE":
                    again[target] = self._united(sketches[target][0], rest[0])
                elif state == b"LATE":
                    self.outcomes[target].late = True
                elif self._arrived(target, *rest):
                    again[target] = (codec.encode(self._everything(target)),)
            except BackendError as error:
                self.outcomes[target].error = named(error, target)
        return again

    def _arrived(self, target: PeriodBucket, existed: int, moved: int, *table: object) -> bool:
        """Note what the server has; returns whether it needs more."""
        outcome, load = self.outcomes[target], self._loads[target]
        outcome.has_sketch = True
        outcome.moved, outcome.table = bool(moved), TableState.read(table)
        missing = load.expects_sketch and not existed and not outcome.lost
        outcome.lost |= missing
        outcome.doubted |= (
            missing
            or (load.expects_moved and not outcome.moved)
            or outcome.table.members < load.expects_members
        )
        return missing and load.all_registers is not None

    def _everything(self, target: PeriodBucket) -> Registers:
        load = self._loads[target]
        assert load.all_registers is not None  # noqa: S101 (for the type checker)
        known = load.all_registers()
        return known if load.registers is None else np.maximum(known, load.registers)

    @staticmethod
    def _united(sketch: bytes, held: bytes) -> tuple[bytes, bytes]:
        try:
            return codec.encode(np.maximum(codec.decode(sketch), codec.decode(held))), held
        except MalformedSketchError as error:
            raise BackendDataError(f"the sketch is corrupt: {error}") from error

    def find_returned(self) -> Operation[None]:
        """Who is out of a bucket, and was seen since: that is what the side tables are told next."""
        for target, load in self._loads.items():
            outcome = self.outcomes[target]
            if outcome.failed or not load.seen or not outcome.table.left:
                continue
            try:
                yield from self._find(target)
            except BackendError as error:
                outcome.error = named(error, target)

    def _find(self, target: PeriodBucket) -> Operation[None]:
        load, outcome = self._loads[target], self.outcomes[target]
        key = self._context.keys.bucket(*target).moves
        told = yield from self._read_returned(key, load, outcome)
        if not told:
            # Somebody left once more, by an event older than others that were read: nothing said so.
            load.table.forget()
            yield from self._read_returned(key, load, outcome)
        load.note_returned(outcome.returned)

    @staticmethod
    def _read_returned(key: str, load: Load, outcome: Outcome) -> Operation[bool]:
        """Read who came back; returns whether everybody is where he was when the table was read."""
        yield from load.table.update(key, outcome.table)
        hashes, left, since = load.table.returned(load.seen)
        stamps = dict(zip(hashes.tolist(), since.tolist(), strict=True))

        def take(ids: list[bytes], _scores: object) -> None:
            for id, hash in zip(ids, bulk.hashes_of_bytes(ids).tolist(), strict=True):
                since = stamps.pop(hash, None)
                if since is not None and not load.has_left(id):
                    outcome.returned[id] = since

        scores = [Range(key, f"-{when}", f"-{when}") for when in np.unique(left).tolist()]
        yield from read_members(scores, take)
        return not stamps

    def moves(self) -> dict[PeriodBucket, _Events]:
        """Who moved, with stamps: of what the server lost, all that are remembered."""
        made: dict[PeriodBucket, _Events] = {}
        for target, load in self._loads.items():
            outcome = self.outcomes[target]
            if not outcome.failed:
                own = load.all_moves() if outcome.doubted and load.all_moves is not None else load.moves
                made[target] = [*own.items(), *outcome.returned.items()]
        return made

    def move(self, moves: Mapping[PeriodBucket, _Events], which: Callable[[int], bool]) -> Operation[None]:
        """Merge the stamps of those ids that are back, or of those that left."""
        chosen = {
            target: [(id, stamp) for id, stamp in events if which(stamp)] for target, events in moves.items()
        }
        yield from self._write(chosen, moves=True)

    def remember_returned(self) -> None:
        """Those who are back were told so."""
        for target, outcome in self.outcomes.items():
            if outcome.returned and not outcome.failed:
                self._loads[target].table.are_back(bulk.hashes_of_bytes(list(outcome.returned)))

    def _write(self, events: Mapping[PeriodBucket, _Events], *, moves: bool) -> Operation[None]:
        for batch in batched(self._calls(events, moves=moves), _CALLS_PER_BATCH):
            for (target, _), reply in zip(batch, (yield [call for _, call in batch]), strict=True):
                outcome = self.outcomes[target]
                try:
                    state, rest = answer(reply)
                    if state == b"LATE":
                        outcome.late = True
                    else:
                        _note_write(outcome, *rest)
                except BackendError as error:
                    outcome.error = outcome.error or named(error, target)

    def _calls(
        self, events: Mapping[PeriodBucket, _Events], *, moves: bool
    ) -> Iterable[tuple[PeriodBucket, Command]]:
        """Calls for some ids each; none for a bucket that has failed meanwhile."""
        for target, stamped in events.items():
            keys = self._context.keys.bucket(*target)
            for part in batched(stamped, IDS_PER_CALL):
                if not self.outcomes[target].failed:
                    actives, moved = ((), part) if moves else (part, ())
                    yield target, call_write(keys, self._context.moved_limit, actives, moved)


def _note_write(outcome: Outcome, existed: int, moved: int, members: int, *table: object) -> None:
    outcome.vanished |= (
        (outcome.has_sketch and not existed)
        or (outcome.moved and not moved)
        or members < outcome.table.members
    )
    before, outcome.table = outcome.table, TableState.read(table)
    outcome.has_sketch = True
    outcome.moved = bool(moved) or outcome.table.members > before.members
