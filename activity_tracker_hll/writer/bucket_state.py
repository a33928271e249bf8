"""What a writer has of one bucket in one period, and what of it the server has.

Invariants established here:

- Every register is acknowledged, unsent or in flight.
- Every event is unsent, in flight or done; a push that is abandoned makes what was in flight unsent again.
- The hashes of a push are kept until the next one, and for a while: an id that was active before another
  process's move reached the server is found to be back once that move is there.

A writer may have tens of thousands of these, most of which hold little: what few of them need is made when it
is needed. Used under the buffer's lock; the side table alone is used without it, amid a push, by the pusher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..hll.compact import CompactRegisters
from ..hll.registers import Hashes
from ..operations.tracking.side_table import Seen, SideTable
from ..operations.tracking.stamps import ServerClock
from ..operations.tracking.unite import Load, Outcome
from .moves import Moves

__all__ = ["BucketState", "Events"]


_REMEMBER_US = 1_000_000
"""Hashes of a push are kept for so long, or until the next one if that comes later. Another process's move
takes no longer: it is pushed at once."""


@dataclass(slots=True)
class Events:
    """Events, apart from the registers that their hashes are folded into.

    Attributes:
        count: how many.
        seen: hashes of those that were active, `since` in ticks.
        ids: encoded ids with ticks, for a server that takes no sketches.
    """

    count: int = 0
    seen: list[Seen] = field(default_factory=list)
    ids: list[tuple[bytes, int]] = field(default_factory=list)

    def followed_by(self, later: Events) -> Events:
        """These, then others."""
        return Events(self.count + later.count, self.seen + later.seen, self.ids + later.ids)


@dataclass(slots=True)
class _InFlight:
    """What is on its way to the server."""

    registers: CompactRegisters
    events: Events
    seen: list[Seen]  # with stamps instead of ticks
    moves: dict[bytes, int]


class _Pushed(NamedTuple):
    """Hashes of a push, `since` in stamps, and ticks of when it was acknowledged."""

    at: int
    seen: list[Seen]


class BucketState:
    """One bucket in one period.

    Attributes:
        unsent: events that are not in flight.
        due_at: ticks at which everything is to be sent again; None before the first push.
        server: identity of the one that acknowledged the last push; None if it is not known.
    """

    __slots__ = (
        "_acknowledged",
        "_in_flight",
        "_moves",
        "_pushed",
        "_resend",
        "_server_has_moved",
        "_server_members",
        "_table",
        "_unsent_registers",
        "due_at",
        "server",
        "unsent",
    )

    def __init__(self) -> None:
        self.unsent = Events()
        self.due_at: int | None = None
        self.server: object = None
        self._moves: Moves | None = None
        self._table = SideTable()
        self._acknowledged: CompactRegisters | None = None
        self._unsent_registers: CompactRegisters | None = None
        self._in_flight: _InFlight | None = None
        self._pushed: list[_Pushed] = []
        self._resend = False
        self._server_has_moved = False
        self._server_members = 0

    @property
    def moves(self) -> Moves:
        """Ids that moved."""
        if self._moves is None:
            self._moves = Moves()
        return self._moves

    @property
    def has_moves(self) -> bool:
        """Whether any did, so that it is worth looking at them."""
        return self._moves is not None

    @property
    def is_idle(self) -> bool:
        """Whether the server has everything, except what was folded for the window."""
        return (
            self._unsent_registers is None
            and self._in_flight is None
            and not self.unsent.count
            and not self.unsent.seen
            and not (self._moves is not None and self._moves.unsent)
            and not self._resend
        )

    @property
    def pending(self) -> int:
        """Number of events that are not acknowledged."""
        return self.unsent.count + (self._in_flight.events.count if self._in_flight else 0)

    @property
    def remembered(self) -> int:
        """Number of hashes that are kept of what was pushed."""
        return sum(len(part.hashes) for push in self._pushed for part in push.seen)

    @property
    def acknowledged(self) -> CompactRegisters | None:
        """Registers that the server has, or had; not to be changed."""
        return self._acknowledged

    def fold(self, hashes: Hashes) -> None:
        """Fold hashes into the registers of this bucket and period alone."""
        if self._unsent_registers is None:
            self._unsent_registers = CompactRegisters()
        self._unsent_registers.fold(hashes)

    def raise_to(self, registers: CompactRegisters) -> None:
        """Absorb registers that the server may not have."""
        if self._acknowledged is not None and not self._resend:
            registers = registers.above(self._acknowledged)
            if not len(registers):
                return
        if self._unsent_registers is None:
            self._unsent_registers = CompactRegisters()
        self._unsent_registers.raise_to(registers)

    def resend(self) -> None:
        """Send everything again: the server may have lost what it acknowledged."""
        self._resend = self._acknowledged is not None
        if self._moves is not None:
            self._moves.resend()
        self._table.forget()

    def take_unsent(self, clock: ServerClock, *, sketches: bool) -> Load:
        """Put everything unsent in flight; returns what is to be sent.

        Args:
            sketches: whether the server takes any.
        """
        moves: dict[bytes, int] = {}
        if self._moves is not None:
            self._moves.observe(self.unsent.seen)
            moves = self._moves.stamps(clock)
        registers = self._registers_to_send()
        # Stamped once: an order that was sent must not change with what the clock learns later.
        seen = [Seen(part.hashes, clock.stamp(part.since)) for part in self.unsent.seen]
        self._in_flight = _InFlight(registers, self.unsent, seen, moves)
        pushed = [*(part for push in self._pushed for part in push.seen), *seen] if sketches else []
        self.unsent, self._unsent_registers = Events(), None
        expects_sketch = self._acknowledged is not None and not self._resend
        return Load(
            registers=registers if sketches else None,
            ids=[(id, clock.stamp(ticks)) for id, ticks in self._in_flight.events.ids],
            seen=lambda: pushed,
            moves=moves,
            table=self._table,
            expects_sketch=expects_sketch and sketches,
            expects_moved=self._server_has_moved,
            expects_members=self._server_members,
            has_left=self._has_left,
            all_registers=self._all_registers,
        )

    def _has_left(self, id: bytes) -> bool:
        return self._moves is not None and self._moves.has_left(id)

    def all_moves(self, clock: ServerClock) -> dict[bytes, int]:
        """Signed stamps by id, of all events that were ever sent or are in flight."""
        return {} if self._moves is None else self._moves.stamps(clock, everything=True)

    def note_returned(self, returned: Mapping[bytes, int], clock: ServerClock) -> None:
        """Ids that a push found to be back, with stamps, are sent again as all moves are."""
        if returned:
            self.moves.add_returned(returned, clock)

    def _registers_to_send(self) -> CompactRegisters:
        """What is unsent, 0 where the server has as much."""
        registers, acknowledged = self._unsent_registers or CompactRegisters(), self._acknowledged
        if acknowledged is None:
            return registers
        if not self._resend:
            return registers.above(acknowledged)
        registers.raise_to(acknowledged)
        return registers

    def _all_registers(self) -> CompactRegisters:
        return CompactRegisters() if self._acknowledged is None else self._acknowledged.copy()

    def acknowledge(self, outcome: Outcome, now: int, *, keep_moves: bool) -> int:
        """The server has what was in flight; returns how many events that were.

        Args:
            now: ticks.
            keep_moves: whether there is room to remember moves.
        """
        in_flight = self._landed()
        if self._acknowledged is not None:
            self._acknowledged.raise_to(in_flight.registers)
        elif len(in_flight.registers):
            self._acknowledged = in_flight.registers
        self._resend = False
        self._pushed = [push for push in self._pushed if push.at > now - _REMEMBER_US]
        if in_flight.seen:
            self._pushed.append(_Pushed(now, in_flight.seen))
        for sent in (in_flight.moves, outcome.returned):  # one id may be in both, with two stamps
            if sent:
                self.moves.acknowledge(sent, keep=keep_moves)
        self._server_has_moved = outcome.moved or bool(outcome.table.members)
        self._server_members = outcome.table.members
        return in_flight.events.count

    def refuse(self) -> int:
        """The period was too late for what was in flight; returns how many events that were.

        What came meanwhile is still to be sent, and will be refused in its turn.
        """
        in_flight = self._landed()
        if self._moves is not None:
            self._moves.acknowledge(in_flight.moves, keep=False)
        self._table.forget()
        self._acknowledged, self._pushed = None, []
        self._resend = self._server_has_moved = False
        self._server_members = 0
        return in_flight.events.count

    def put_back(self, *, all_in_doubt: bool) -> None:
        """What was in flight may not have arrived, and is unsent again.

        Args:
            all_in_doubt: whether it was lost what the server said of what it had: everything is sent again.
        """
        if self._in_flight is not None:
            in_flight = self._landed()
            self.unsent = in_flight.events.followed_by(self.unsent)
            if len(in_flight.registers):
                self.raise_to(in_flight.registers)
            if all_in_doubt:
                self.resend()

    def _landed(self) -> _InFlight:
        """What was in flight, and is not any more."""
        assert self._in_flight is not None  # noqa: S101 (for the type checker)
        in_flight, self._in_flight = self._in_flight, None
        return in_flight

    def forget_pushed(self, *, but_last: bool = False) -> None:
        """Remember no hashes of what was pushed, but for the last push: that ids are back may go unseen."""
        self._pushed = self._pushed[-1:] if but_last else []

    def forget_counts(self) -> None:
        """In a forked child: what there is counts as the parent's."""
        self.unsent.count = 0
        if self._in_flight is not None:
            self._in_flight.events.count = 0
