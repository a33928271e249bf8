"""What a writer has of one bucket in one period, and what of it the server has.

What is established here:

- Every register is acknowledged, unsent or in flight.
- Events are waiting, in flight, or done; an abandoned flight gives everything back.
- Hashes of the last push are kept until the next: who was active before another process's move got to the
  server is found to be back once that move is there.

A state belongs to the buffer, and is used under its lock only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..hll.registers import Hashes, Registers, empty, fold
from ..operations.tracking.side_table import Seen, SideTable
from ..operations.tracking.stamps import ServerClock
from ..operations.tracking.unite import Load, Outcome
from .moves import Moves

__all__ = ["BucketState", "Waiting"]


@dataclass(slots=True)
class Waiting:
    """Events besides registers.

    Attributes:
        events: how many.
        seen: their hashes, `since` in ticks.
        ids: encoded ids with ticks, for a server that takes no sketches.
    """

    events: int = 0
    seen: list[Seen] = field(default_factory=list)
    ids: list[tuple[bytes, int]] = field(default_factory=list)

    def before(self, later: Waiting) -> Waiting:
        """These, and then others."""
        return Waiting(self.events + later.events, self.seen + later.seen, self.ids + later.ids)


@dataclass(slots=True)
class _Flight:
    """What is on its way to the server."""

    registers: Registers
    waiting: Waiting
    seen: list[Seen]  # with stamps instead of ticks
    moves: dict[bytes, int]


class BucketState:
    """One bucket in one period.

    Attributes:
        waiting: events that are not sent.
        moves: ids that moved.
        table: the server's side table, as far as it is known.
        refresh_at: ticks at which everything is sent again without a reason.
    """

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.moves = Moves()
        self.table = SideTable()
        self.refresh_at: int | None = None
        self._acknowledged: Registers | None = None
        self._unsent: Registers | None = None
        self._flight: _Flight | None = None
        self._seen_before: list[Seen] = []
        self._resend = False
        self._server_moved = False
        self._server_members = 0

    @property
    def is_idle(self) -> bool:
        """Whether everything is sent, but for registers of the window."""
        return (
            self._unsent is None
            and self._flight is None
            and not self.waiting.events
            and not self.waiting.seen
            and not self.moves.unsent
            and not self._resend
        )

    @property
    def events(self) -> int:
        """Events that are not acknowledged."""
        return self.waiting.events + (self._flight.waiting.events if self._flight else 0)

    @property
    def seen(self) -> list[Seen]:
        """All hashes that are kept."""
        in_flight = self._flight.waiting.seen if self._flight else []
        return [*self._seen_before, *in_flight, *self.waiting.seen]

    def fold(self, hashes: Hashes) -> None:
        """Take hashes into the registers of this state alone."""
        if self._unsent is None:
            self._unsent = empty()
        fold(self._unsent, hashes)

    def raise_to(self, registers: Registers) -> None:
        """Take in registers that the server may not have."""
        if self._acknowledged is not None and not self._resend and not (registers > self._acknowledged).any():
            return
        if self._unsent is None:
            self._unsent = registers.copy()
        else:
            np.maximum(self._unsent, registers, out=self._unsent)

    def doubt(self) -> None:
        """The server may have lost what it acknowledged."""
        self._resend = self._acknowledged is not None
        self.moves.doubt()
        self.table.forget()

    def depart(self, window: Registers | None, clock: ServerClock, *, sketches: bool) -> Load:
        """What is to be sent now.

        Args:
            window: registers of the running window.
            sketches: whether the server takes any.
        """
        self.moves.observe(self.waiting.seen)
        moves = self.moves.stamps(clock)
        registers = self._registers_to_send(window)
        # Once for all: an order that was told must not change with what the clock has learned.
        seen = [Seen(part.hashes, clock.stamp(part.since)) for part in self.waiting.seen]
        self._flight = _Flight(registers, self.waiting, seen, moves)
        self.waiting, self._unsent = Waiting(), None
        expects = self._acknowledged is not None and not self._resend
        return Load(
            registers=registers if sketches else None,
            ids=[(id, clock.stamp(ticks)) for id, ticks in self._flight.waiting.ids],
            seen=[*self._seen_before, *seen] if sketches else (),
            moves=moves,
            table=self.table,
            expects_sketch=expects and sketches,
            expects_moved=self._server_moved,
            expects_members=self._server_members,
            has_left=self.moves.has_left,
            all_registers=self._all_registers,
        )

    def _registers_to_send(self, window: Registers | None) -> Registers:
        acknowledged = self._acknowledged
        parts = [
            part
            for part in (self._unsent, window, acknowledged if self._resend else None)
            if part is not None
        ]
        registers = np.maximum.reduce(parts) if parts else empty()
        if acknowledged is not None and not self._resend:
            registers = np.where(registers > acknowledged, registers, np.uint8(0))
        return registers

    def _all_registers(self) -> Registers:
        return empty() if self._acknowledged is None else self._acknowledged

    def arrive(self, outcome: Outcome, *, keep_moves: bool) -> int:
        """The server has what was in flight; returns how many events that were.

        Args:
            keep_moves: whether there is room to remember moves.
        """
        assert self._flight is not None  # noqa: S101 (for the type checker)
        flight, self._flight = self._flight, None
        acknowledged = self._acknowledged
        if flight.registers.any():
            self._acknowledged = (
                flight.registers if acknowledged is None else np.maximum(acknowledged, flight.registers)
            )
        self._resend = False
        self._seen_before = flight.seen
        self.moves.acknowledge({**flight.moves, **outcome.returned}, keep=keep_moves)
        self._server_moved = outcome.moved or bool(outcome.table.members)
        self._server_members = outcome.table.members
        return flight.waiting.events

    def give_back(self) -> None:
        """What was in flight may not have arrived."""
        if self._flight is not None:
            flight, self._flight = self._flight, None
            self.waiting = flight.waiting.before(self.waiting)
            if flight.registers.any():
                self.raise_to(flight.registers)

    def disown(self) -> None:
        """In a forked child: what there is counts as the parent's."""
        for waiting in (self.waiting, self._flight.waiting if self._flight else self.waiting):
            waiting.events = 0

    def refuse(self) -> int:
        """The period was too late for what was in flight; returns how many events that were.

        What came meanwhile is still to be sent, and will hear the same.
        """
        assert self._flight is not None  # noqa: S101 (for the type checker)
        flight, self._flight = self._flight, None
        self.moves.acknowledge(flight.moves, keep=False)
        self.table.forget()
        self._acknowledged, self._seen_before = None, []
        self._resend = self._server_moved = False
        self._server_members = 0
        return flight.waiting.events
