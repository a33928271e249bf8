"""The moves of one bucket and period that a writer made or saw: of each id the newest event.

The newest event of an id wins, across processes: stamps are merged on the server in any order, and again
whenever it may have lost some (see :mod:`..operations.tracking.side_table`). Within this process ticks tell
what came first; an event gets its stamp when it is first sent, and keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..operations.tracking.side_table import NEVER, Seen, last_seen
from ..operations.tracking.stamps import ServerClock

__all__ = ["Moves"]


@dataclass(slots=True)
class _Newest:
    """The newest event of an id: whether it was active or left, and when.

    Attributes:
        stamp: as it was sent; 0 before that.
        floor: least stamp it may get, as it comes after what was sent before.
    """

    active: bool
    ticks: int
    stamp: int = 0
    floor: int = 0


class Moves:
    """Newest events by id."""

    def __init__(self) -> None:
        self._newest: dict[bytes, _Newest] = {}
        self._left: dict[bytes, int] = {}  # hashes of those that left last
        self._unsent: set[bytes] = set()  # the server may not have these
        self._new: set[bytes] = set()  # a part of these: it never had them

    def __len__(self) -> int:
        return len(self._newest)

    def is_new(self, id: bytes) -> bool:
        """Whether the server was never known to know of it."""
        return id in self._new

    def has_left(self, id: bytes) -> bool:
        """Whether it left after all that was observed."""
        return id in self._left

    @property
    def unsent(self) -> int:
        """How many ids the server may not know of."""
        return len(self._unsent)

    @property
    def new(self) -> int:
        """How many of them it was never known to know of."""
        return len(self._new)

    def leave(self, id: bytes, hash: int, ticks: int) -> None:
        """An id leaves."""
        if self._set(id, ticks, active=False):
            self._left[id] = hash

    def observe(self, seen: Sequence[Seen]) -> None:
        """Take in who was active after it left; `since` in ticks."""
        if not seen or not self._left:
            return
        hashes = np.fromiter(self._left.values(), np.uint64, len(self._left))
        order = np.argsort(hashes)
        last = last_seen(hashes[order], seen)
        hits = np.flatnonzero(last != NEVER)
        ids = list(self._left) if len(hits) else []
        for hit in hits.tolist():
            id, ticks = ids[order[hit]], int(last[hit])
            if self._set(id, ticks, active=True):
                del self._left[id]

    def remember(self, returned: Mapping[bytes, int], clock: ServerClock) -> None:
        """Take in who was found to be back, with stamps: that is told, and told again, as all moves are."""
        for id, stamp in returned.items():
            newest = self._newest.get(id)
            if newest is None or (newest.active and newest.stamp < stamp):
                self._newest[id] = _Newest(active=True, ticks=clock.ticks_of(stamp), stamp=stamp)
                self._unsent.add(id)
                self._new.add(id)

    def stamps(self, clock: ServerClock, *, everything: bool = False) -> dict[bytes, int]:
        """Signed stamps to send: of what is unsent, or of everything that was ever sent or is in flight."""
        made: dict[bytes, int] = {}
        for id in self._newest if everything else self._unsent:
            newest = self._newest[id]
            if not newest.stamp and everything:
                continue  # it came after: where the id went has not been sent yet
            if not newest.stamp:
                newest.stamp = max(clock.stamp(newest.ticks), newest.floor, 1)
            made[id] = newest.stamp if newest.active else -newest.stamp
        return made

    def acknowledge(self, sent: Mapping[bytes, int], *, keep: bool) -> None:
        """The server has these; what has happened since stays unsent.

        Args:
            keep: whether there is room to keep those that are new, in case the server loses them.
        """
        for id, stamp in sent.items():
            newest = self._newest.get(id)
            if newest is not None and newest.stamp == abs(stamp) and newest.active == (stamp > 0):
                self._unsent.discard(id)
                if id in self._new and not keep:
                    del self._newest[id]
                    self._left.pop(id, None)
                self._new.discard(id)

    def doubt(self) -> None:
        """The server may have lost some."""
        self._unsent.update(self._newest)

    def _set(self, id: bytes, ticks: int, *, active: bool) -> bool:
        before = self._newest.get(id)
        if before is not None and before.ticks > ticks:
            return False
        # It comes after the one before, whatever the clock has learned in between; active wins a tie.
        floor = 0 if before is None else max(before.stamp, before.floor) + (not active)
        self._newest[id] = _Newest(active, ticks, floor=floor)
        self._unsent.add(id)
        self._new.add(id)
        return True
