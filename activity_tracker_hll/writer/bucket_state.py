"""What a writer has of one bucket in one period, and what of it the server has.

Invariants established here:

- Every register is acknowledged, unsent or in flight.
- Every event is unsent, in flight or done; a push that is abandoned makes what was in flight unsent again.
- The hashes of a push are kept until the next one: an id that was active before another process's move
  reached the server is found to be back once that move is there.

Used under the buffer's lock. `table` alone is used without it, amid a push, by the pusher.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..hll.registers import Hashes, Registers, empty, fold
from ..operations.tracking.side_table import Seen, SideTable
from ..operations.tracking.stamps import ServerClock
from ..operations.tracking.unite import Load, Outcome
from .moves import Moves

__all__ = ["BucketState", "Events"]


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

    registers: Registers
    events: Events
    seen: list[Seen]  # with stamps instead of ticks
    moves: dict[bytes, int]


class BucketState:
    """One bucket in one period.

    Attributes:
        unsent: events that are not in flight.
        moves: ids that moved.
        table: the server's side table, as far as it is known.
        refresh_at: ticks at which everything is sent again without a reason; None before the first push.
    """

    def __init__(self) -> None:
        self.unsent = Events()
        self.moves = Moves()
        self.table = SideTable()
        self.refresh_at: int | None = None
        self._acknowledged: Registers | None = None
        self._unsent_registers: Registers | None = None
        self._in_flight: _InFlight | None = None
        self._last_pushed: list[Seen] = []  # in stamps
        self._resend = False
        self._server_has_moved = False
        self._server_members = 0

    @property
    def is_idle(self) -> bool:
        """Whether the server has everything, except registers of the window."""
        return (
            self._unsent_registers is None
            and self._in_flight is None
            and not self.unsent.count
            and not self.unsent.seen
            and not self.moves.unsent
            and not self._resend
        )

    @property
    def pending(self) -> int:
        """Number of events that are not acknowledged."""
        return self.unsent.count + (self._in_flight.events.count if self._in_flight else 0)

    @property
    def seen(self) -> list[Seen]:
        """All hashes that are kept."""
        in_flight = self._in_flight.events.seen if self._in_flight else []
        return [*self._last_pushed, *in_flight, *self.unsent.seen]

    def is_due(self, now: int) -> bool:
        """Whether it is time to send everything again."""
        return self.refresh_at is not None and self.refresh_at <= now

    def fold(self, hashes: Hashes) -> None:
        """Fold hashes into the registers of this bucket and period alone."""
        if self._unsent_registers is None:
            self._unsent_registers = empty()
        fold(self._unsent_registers, hashes)

    def raise_to(self, registers: Registers) -> None:
        """Absorb registers that the server may not have."""
        if self._acknowledged is not None and not self._resend and not (registers > self._acknowledged).any():
            return
        if self._unsent_registers is None:
            self._unsent_registers = registers.copy()
        else:
            np.maximum(self._unsent_registers, registers, out=self._unsent_registers)

    def resend(self) -> None:
        """Send everything again: the server may have lost what it acknowledged."""
        self._resend = self._acknowledged is not None
        self.moves.resend()
        self.table.forget()

    def take_unsent(self, window: Registers | None, clock: ServerClock, *, sketches: bool) -> Load:
        """Put everything unsent in flight; returns what is to be sent.

        Args:
            window: registers of the running window, if the period runs.
            sketches: whether the server takes any.
        """
        self.moves.observe(self.unsent.seen)
        moves = self.moves.stamps(clock)
        registers = self._registers_to_send(window)
        # Stamped once: an order that was sent must not change with what the clock learns later.
        seen = [Seen(part.hashes, clock.stamp(part.since)) for part in self.unsent.seen]
        self._in_flight = _InFlight(registers, self.unsent, seen, moves)
        self.unsent, self._unsent_registers = Events(), None
        expects_sketch = self._acknowledged is not None and not self._resend
        return Load(
            registers=registers if sketches else None,
            ids=[(id, clock.stamp(ticks)) for id, ticks in self._in_flight.events.ids],
            seen=[*self._last_pushed, *seen] if sketches else (),
            moves=moves,
            table=self.table,
            expects_sketch=expects_sketch and sketches,
            expects_moved=self._server_has_moved,
            expects_members=self._server_members,
            has_left=self.moves.has_left,
            all_registers=self._all_registers,
        )

    def _registers_to_send(self, window: Registers | None) -> Registers:
        """What is unsent, 0 where the server has as much."""
        acknowledged = self._acknowledged
        parts = [
            part
            for part in (self._unsent_registers, window, acknowledged if self._resend else None)
            if part is not None
        ]
        registers = np.maximum.reduce(parts) if parts else empty()
        if acknowledged is not None and not self._resend:
            registers = np.where(registers > acknowledged, registers, np.uint8(0))
        return registers

    def _all_registers(self) -> Registers:
        return empty() if self._acknowledged is None else self._acknowledged

    def acknowledge(self, outcome: Outcome, *, keep_moves: bool) -> int:
        """The server has what was in flight; returns how many events that were.

        Args:
            keep_moves: whether there is room to remember moves.
        """
        in_flight = self._landed()
        acknowledged, sent = self._acknowledged, in_flight.registers
        if sent.any():
            self._acknowledged = sent if acknowledged is None else np.maximum(acknowledged, sent)
        self._resend = False
        self._last_pushed = in_flight.seen
        self.moves.acknowledge({**in_flight.moves, **outcome.returned}, keep=keep_moves)
        self._server_has_moved = outcome.moved or bool(outcome.table.members)
        self._server_members = outcome.table.members
        return in_flight.events.count

    def refuse(self) -> int:
        """The period was too late for what was in flight; returns how many events that were.

        What came meanwhile is still to be sent, and will be refused in its turn.
        """
        in_flight = self._landed()
        self.moves.acknowledge(in_flight.moves, keep=False)
        self.table.forget()
        self._acknowledged, self._last_pushed = None, []
        self._resend = self._server_has_moved = False
        self._server_members = 0
        return in_flight.events.count

    def put_back(self) -> None:
        """The push was abandoned: what was in flight may not have arrived, and is unsent again."""
        if self._in_flight is not None:
            in_flight = self._landed()
            self.unsent = in_flight.events.followed_by(self.unsent)
            if in_flight.registers.any():
                self.raise_to(in_flight.registers)

    def _landed(self) -> _InFlight:
        """What was in flight, and is not any more."""
        assert self._in_flight is not None  # noqa: S101 (for the type checker)
        in_flight, self._in_flight = self._in_flight, None
        return in_flight

    def forget_counts(self) -> None:
        """In a forked child: what there is counts as the parent's."""
        self.unsent.count = 0
        if self._in_flight is not None:
            self._in_flight.events.count = 0
