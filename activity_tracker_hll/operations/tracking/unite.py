"""The one push protocol: how events gathered in this process, by whatever call, reach the server.

What is gathered for a bucket and period is a *load*: registers to unite with the bucket's sketch, ids where
they are few or where the server takes no sketches, and stamps of ids that moved. It is sent in this order,
each step for all buckets before the next, so that an id is added where it goes before it leaves where it was:

1. Registers and ids are added; the reply says whether the bucket has a side table. Where few registers are
   set, they go as ids made for the purpose: any id with such a hash is as good as the one that was tracked.
2. Where it has one, ids that have left the bucket and were active since are stamped as active.
3. Ids that left are stamped as having left.
4. Periods that are over, or were not marked for a while, are marked as holding uncounted data.

Registers and stamps both form a semilattice: a load may be sent again, twice, in part, in any order with
others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from ... import bulk
from ...backends.base import Command, Reply
from ...errors import (
    BackendConnectionError,
    BackendDataError,
    BackendError,
    BackendTimeoutError,
    MalformedSketchError,
)
from ...hll import codec, hashing
from ...hll.compact import CompactRegisters
from ...hll.registers import Registers
from ...scripts.calls import EMPTY_TABLE, TableState, answer, call_unite, call_write
from ..base import Context, Operation, PeriodBucket, batched, named, unwrap, unwrap_of
from .open_periods import OpenPeriods
from .side_table import Range, Seen, SideTable, read_members

__all__ = ["CALLS_PER_BATCH", "IDS_PER_CALL", "Load", "Outcome", "Sent", "unite"]

IDS_PER_CALL = 500
"""Some 2 ms of the server's time."""

CALLS_PER_BATCH = 64
PLAIN_PER_BATCH = 512
FEW_REGISTERS = 16
"""Adding up to so many to a sketch, one by one, takes the server no longer than uniting it with another."""

_ATTEMPTS = 5
"""One; another where both sketches are sparse; and some more because others do the same, or the server lost
what it had."""

_Events = Sequence[tuple[bytes, int]]
"""Ids, with stamps."""


@dataclass(slots=True)
class Load:
    """What is to be sent of one bucket and period.

    Attributes:
        registers: to unite with the bucket's sketch; none set = only look what the server has; None = not
            even that, for a server that takes no sketches.
        ids: ids that were active, with their stamps.
        seen: returns hashes of ids in the registers, to find those that came back.
        moves: ids that moved, with the stamp of their newest event, negative if they left.
        table: what is known of the bucket's side table.
        expects_sketch: whether the server had a sketch of the bucket.
        expects_moved: whether it had a sketch of moved ids.
        expects_members: how many members the side table had.
        has_left: whether an id left after all activity in `seen`: this process knows the order of its own
            events better than stamps tell it.
        note_returned: called with ids that were found to be back, and their stamps, before these are sent.
        all_registers: what the server had, in case it has lost it.
        all_moves: like `moves`, with everything that was sent before, in case the server has lost that.
    """

    registers: CompactRegisters | None = None
    ids: _Events = ()
    seen: Callable[[], Sequence[Seen]] = tuple
    moves: dict[bytes, int] = field(default_factory=dict)
    table: SideTable = field(default_factory=SideTable)
    expects_sketch: bool = False
    expects_moved: bool = False
    expects_members: int = 0
    note_returned: Callable[[Mapping[bytes, int]], object] = field(default=lambda _returned: None)
    has_left: Callable[[bytes], bool] = field(default=lambda _id: False)
    all_registers: Callable[[], CompactRegisters] | None = None
    all_moves: Callable[[], dict[bytes, int]] | None = None


@dataclass(slots=True)
class Outcome:
    """What became of a load.

    Attributes:
        late: the period was collapsed and the bucket's sketch is gone: nothing was written.
        error: what went wrong, naming the bucket.
        lost_sketch: the server had lost the sketch; `all_registers` were sent.
        lost_any: it had lost the sketch or some moves; `all_moves` were sent.
        lost_meanwhile: it lost something while the load was sent: everything has to be sent again.
        has_sketch: whether the bucket has a sketch.
        moved: whether it has a sketch of moved ids.
        table: state of its side table, as of the last reply.
        returned: ids that were found to be back, with their stamps.
    """

    late: bool = False
    error: BackendError | None = None
    lost_sketch: bool = False
    lost_any: bool = False
    lost_meanwhile: bool = False
    has_sketch: bool = False
    moved: bool = False
    table: TableState = EMPTY_TABLE
    returned: dict[bytes, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether no more is to be sent."""
        return self.late or self.error is not None

    @property
    def is_in_doubt(self) -> bool:
        """Whether, after an error, the server may lack what it had, and not say so any more."""
        no_answer = isinstance(self.error, (BackendConnectionError, BackendTimeoutError))
        return no_answer or self.lost_any or self.lost_meanwhile


class Sent(NamedTuple):
    """What became of loads, and the error if their periods could not be marked."""

    outcomes: dict[PeriodBucket, Outcome]
    mark_error: BackendError | None


def unite(
    context: Context, loads: Mapping[PeriodBucket, Load], open_periods: OpenPeriods, running: Collection[str]
) -> Operation[Sent]:
    """Send loads.

    Args:
        open_periods: marks the loads' periods, and registers their buckets; what it owes is made good, too.
        running: names of periods that are not over.

    Returns:
        What became of each. A bucket that fails holds up no other.
    """
    sending = _Sending(context, loads, running)
    yield from sending.add_few()
    yield from sending.add()
    yield from sending.find_returned()
    moves = sending.moves()
    yield from sending.move(moves, lambda stamp: stamp > 0)
    sending.note_back()
    yield from sending.move(moves, lambda stamp: stamp < 0)
    periods, buckets = (
        (list(dict.fromkeys(names)) for names in zip(*loads, strict=True)) if loads else ([], [])
    )
    marks = open_periods.due_with_owed(periods, buckets, running)
    if marks:
        try:
            unwrap_of(open_periods.key, (yield open_periods.commands(marks)))
        except BackendError as error:
            open_periods.owe(marks)
            return Sent(sending.outcomes, error)
        open_periods.are_set(marks)
    return Sent(sending.outcomes, None)


class _Sketch(NamedTuple):
    """What is sent to be united with a bucket's sketch.

    Attributes:
        registers: None if none is set: then the server only tells what it has.
        base: the bucket's sketch, if it is in them already, so that the server can compare.
    """

    registers: Registers | None
    base: bytes = b""

    @classmethod
    def of(cls, registers: CompactRegisters) -> _Sketch:
        return cls(registers.dense() if len(registers) else None)


class _Sending:
    """One sending of loads."""

    def __init__(
        self, context: Context, loads: Mapping[PeriodBucket, Load], running: Collection[str]
    ) -> None:
        self._context = context
        self._loads = loads
        self._running = running
        self._added: set[PeriodBucket] = set()
        """By plain commands; all that there is to know of these is known."""
        self.outcomes = {target: Outcome() for target in loads}

    def add_few(self) -> Operation[None]:
        """Add registers where few are set, or none, by plain commands: a third of what the script costs.

        What they do not show is left to :meth:`add`: what a side table has, and registers that were lost. So
        are keys that hold something else, of which it says the same however many registers are sent.
        """
        few = {
            target: load.registers
            for target, load in self._loads.items()
            if load.registers is not None and self._is_few(target, load, len(load.registers))
        }
        keys = self._context.keys.bucket
        for batch in batched(few, PLAIN_PER_BATCH):
            commands: list[Command] = []
            parts: dict[PeriodBucket, slice] = {}
            ids = iter(hashing.ids_of(np.concatenate([few[target].hashes() for target in batch])))
            for target in batch:
                first, of_target = len(commands), keys(*target)
                commands += ("EXISTS", of_target.hll), ("ZCARD", of_target.moves)
                if count := len(few[target]):
                    commands.append(("PFADD", of_target.hll, *islice(ids, count)))
                parts[target] = slice(first, len(commands))
            replies = yield commands
            for target, part in parts.items():
                self._note_added(target, replies[part])

    def _is_few(self, target: PeriodBucket, load: Load, registers: int) -> bool:
        """Whether plain commands do: there is nothing else, and a period that runs cannot be too late."""
        return (
            (registers > 0 or load.expects_sketch)
            and registers <= FEW_REGISTERS
            and not (load.ids or load.moves or load.expects_moved or load.expects_members)
            and target[0] in self._running
        )

    def _note_added(self, target: PeriodBucket, replies: list[Reply]) -> None:
        outcome, load = self.outcomes[target], self._loads[target]
        existed, members = replies[:2]
        if load.expects_sketch and existed == 0:
            outcome.lost_sketch = outcome.lost_any = True
        try:
            unwrap(replies)
        except BackendDataError:
            return
        except BackendError as error:
            outcome.error = named(error, target)
            return
        outcome.has_sketch = True
        if not (outcome.lost_sketch or members):
            self._added.add(target)

    def add(self) -> Operation[None]:
        """Add registers and ids; of a bucket with neither, only look what the server has."""
        left = [
            target for target in self._loads if target not in self._added and not self.outcomes[target].failed
        ]
        for targets in batched(left, CALLS_PER_BATCH):
            sketches = {
                target: self._sketch(target, registers)
                for target in targets
                if (registers := self._loads[target].registers) is not None
            }
            for _ in range(_ATTEMPTS):
                sketches = yield from self._unite(sketches)
            for target in sketches:
                self.outcomes[target].error = named(BackendError("is being written to all the time"), target)
            yield from self._write({target: self._loads[target].ids for target in targets}, moves=False)

    def _sketch(self, target: PeriodBucket, registers: CompactRegisters) -> _Sketch:
        outcome = self.outcomes[target]
        if outcome.lost_sketch:
            return _Sketch.of(self._all_registers(target))
        return _Sketch(None) if outcome.has_sketch else _Sketch.of(registers)  # it has them already

    def _unite(self, sketches: Mapping[PeriodBucket, _Sketch]) -> Operation[dict[PeriodBucket, _Sketch]]:
        """Send sketches; returns what has to be sent instead."""
        again: dict[PeriodBucket, _Sketch] = {}
        stored: dict[PeriodBucket, bytes] = {}
        keys, temporary = self._context.keys.bucket, self._context.keys.temporary
        calls = [
            call_unite(keys(*target), temporary(*target, "unite"), encoded, sketch.base)
            for (target, sketch), encoded in zip(sketches.items(), _encoded(sketches.values()), strict=True)
        ]
        for target, reply in zip(sketches, (yield calls) if calls else (), strict=True):
            try:
                state, values = answer(reply)
                if state == b"SPARSE":
                    stored[target] = values[0]
                elif state == b"LATE":
                    self.outcomes[target].late = True
                elif self._lacks_sketch(target, *values):
                    again[target] = _Sketch.of(self._all_registers(target))
            except BackendError as error:
                self.outcomes[target].error = named(error, target)
        for target, own in zip(stored, codec.decode_many(list(stored.values())), strict=True):
            if isinstance(own, MalformedSketchError):
                corrupt = BackendDataError(f"the sketch is corrupt: {own}")
                self.outcomes[target].error = named(corrupt, target)
                continue
            registers = sketches[target].registers
            assert registers is not None  # noqa: S101 (else the server would not have told its own)
            again[target] = _Sketch(np.maximum(own, registers), stored[target])
        return again

    def _lacks_sketch(self, target: PeriodBucket, existed: int, moved: int, *table: object) -> bool:
        """Note what the server has; returns whether it has lost registers that can be sent again."""
        outcome, load = self.outcomes[target], self._loads[target]
        expected = load.expects_sketch or outcome.has_sketch
        outcome.has_sketch = True
        outcome.moved, outcome.table = bool(moved), TableState.read(table)
        missing = expected and not existed and not outcome.lost_sketch
        outcome.lost_sketch |= missing
        outcome.lost_any |= (
            missing
            or (load.expects_moved and not outcome.moved)
            or outcome.table.members < load.expects_members
        )
        return missing and load.all_registers is not None

    def _all_registers(self, target: PeriodBucket) -> CompactRegisters:
        """What the server had and has lost, and what the load adds to it."""
        load = self._loads[target]
        assert load.all_registers is not None  # noqa: S101 (for the type checker)
        registers = load.all_registers()
        if load.registers is not None:
            registers.raise_to(load.registers)
        return registers

    def find_returned(self) -> Operation[None]:
        """Find ids that have left a bucket and were active since."""
        for target, load in self._loads.items():
            outcome = self.outcomes[target]
            seen = load.seen() if outcome.table.left and not outcome.failed else ()
            if not seen:
                continue
            try:
                yield from self._find(target, seen)
            except BackendError as error:
                outcome.error = named(error, target)

    def _find(self, target: PeriodBucket, seen: Sequence[Seen]) -> Operation[None]:
        load, outcome = self._loads[target], self.outcomes[target]
        key = self._context.keys.bucket(*target).moves
        up_to_date = yield from self._read_returned(key, load, seen, outcome)
        if not up_to_date:
            # An id left once more, by an event older than others that were read, and so went unnoticed.
            load.table.forget()
            yield from self._read_returned(key, load, seen, outcome)
        load.note_returned(outcome.returned)

    @staticmethod
    def _read_returned(key: str, load: Load, seen: Sequence[Seen], outcome: Outcome) -> Operation[bool]:
        """Read which ids came back; returns whether all are still where the table was known to have them."""
        yield from load.table.update(key, outcome.table)
        hashes, left, since = load.table.returned(seen)
        missing = dict(zip(hashes.tolist(), since.tolist(), strict=True))

        def take(_number: int, ids: list[bytes], _scores: object) -> None:
            for id, hash in zip(ids, bulk.hashes_of_bytes(ids).tolist(), strict=True):
                stamp = missing.pop(hash, None)
                if stamp is not None and not load.has_left(id):
                    outcome.returned[id] = stamp

        scores = [Range(key, f"-{when}", f"-{when}") for when in sorted(set(left.tolist()))]
        yield from read_members(scores, take)
        return not missing

    def moves(self) -> dict[PeriodBucket, _Events]:
        """Ids that moved, with stamps; all that are remembered where the server has lost some."""
        moves: dict[PeriodBucket, _Events] = {}
        for target, load in self._loads.items():
            outcome = self.outcomes[target]
            if not outcome.failed:
                own = load.all_moves() if outcome.lost_any and load.all_moves is not None else load.moves
                moves[target] = [*own.items(), *outcome.returned.items()]
        return moves

    def move(self, moves: Mapping[PeriodBucket, _Events], which: Callable[[int], bool]) -> Operation[None]:
        """Merge some of the stamps into the side tables.

        Args:
            which: tells whether to send a stamp: it is positive for ids that are back, negative if they left.
        """
        chosen = {
            target: [(id, stamp) for id, stamp in events if which(stamp)] for target, events in moves.items()
        }
        yield from self._write(chosen, moves=True)

    def note_back(self) -> None:
        """The side tables have the ids that are back, and are known to."""
        for target, outcome in self.outcomes.items():
            if outcome.returned and not outcome.failed:
                self._loads[target].table.remove(bulk.hashes_of_bytes(list(outcome.returned)))

    def _write(self, events: Mapping[PeriodBucket, _Events], *, moves: bool) -> Operation[None]:
        for batch in batched(self._calls(events, moves=moves), CALLS_PER_BATCH):
            for (target, _), reply in zip(batch, (yield [call for _, call in batch]), strict=True):
                outcome = self.outcomes[target]
                try:
                    state, values = answer(reply)
                    if state == b"LATE":
                        outcome.late = True
                    else:
                        _note_write(outcome, *values)
                except BackendError as error:
                    outcome.error = outcome.error or named(error, target)

    def _calls(
        self, events: Mapping[PeriodBucket, _Events], *, moves: bool
    ) -> Iterable[tuple[PeriodBucket, Command]]:
        """One call for some ids each; none for a bucket that has failed meanwhile."""
        for target, stamped in events.items():
            keys = self._context.keys.bucket(*target)
            for part in batched(stamped, IDS_PER_CALL):
                if not self.outcomes[target].failed:
                    actives, moved = ((), part) if moves else (part, ())
                    yield target, call_write(keys, self._context.moved_limit, actives, moved)


def _encoded(sketches: Collection[_Sketch]) -> Iterator[bytes]:
    """Each as it is sent, empty if no register is set."""
    rows = [sketch.registers for sketch in sketches if sketch.registers is not None]
    encoded = iter(codec.encode_many(np.array(rows)) if rows else ())
    return (b"" if sketch.registers is None else next(encoded) for sketch in sketches)


def _note_write(outcome: Outcome, existed: int, moved: int, members: int, *table: object) -> None:
    """Note what the server had before a write, and the state of the side table after it."""
    outcome.lost_meanwhile |= (
        (outcome.has_sketch and not existed)
        or (outcome.moved and not moved)
        or members < outcome.table.members
    )
    before, outcome.table = outcome.table, TableState.read(table)
    outcome.has_sketch = True
    outcome.moved = bool(moved) or outcome.table.members > before.members
