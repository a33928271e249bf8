"""The moves of one bucket and period that a writer made or saw: the newest event of each id.

Invariant established here: the newest event of an id wins, across processes. Stamps are merged on the server
in any order, and again whenever it may have lost some (see :mod:`..operations.tracking.side_table`). Within
this process ticks tell what came first; an event gets its stamp when it is first sent, and keeps it.
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
    """The newest event of an id.

    Attributes:
        active: whether the id was active; else it left.
        ticks: when.
        stamp: as it was sent; 0 until then.
        min_stamp: the stamp must not be less, as the event comes after one that was sent before.
    """

    active: bool
    ticks: int
    stamp: int = 0
    min_stamp: int = 0


class Moves:
    """Newest events by id.

    Used under the buffer's lock, except :meth:`has_left`, which only the pusher calls, amid a push.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, _Newest] = {}
        self._left: dict[bytes, int] = {}  # hashes of those whose newest event is that they left
        self._unsent: set[bytes] = set()  # the server may not have these
        self._new: set[bytes] = set()  # a part of these: it never had them

    def __len__(self) -> int:
        return len(self._newest)

    def is_new(self, id: bytes) -> bool:
        """Whether the server has never acknowledged an event of this id."""
        return id in self._new

    def has_left(self, id: bytes) -> bool:
        """Whether the id left after all activity that was observed."""
        return id in self._left

    @property
    def unsent(self) -> int:
        """Number of ids whose newest event the server may not have."""
        return len(self._unsent)

    @property
    def new(self) -> int:
        """Number of ids of which the server has never acknowledged an event."""
        return len(self._new)

    def leave(self, id: bytes, hash: int, ticks: int) -> None:
        """An id leaves."""
        if self._set(id, ticks, active=False):
            self._left[id] = hash

    def observe(self, seen: Sequence[Seen]) -> None:
        """Note which ids were active after they left; `since` in ticks."""
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

    def add_returned(self, returned: Mapping[bytes, int], clock: ServerClock) -> None:
        """Note ids that a push found to be back, with stamps, so that they are resent as all moves are."""
        for id, stamp in returned.items():
            newest = self._newest.get(id)
            if newest is None or (newest.active and newest.stamp < stamp):
                self._newest[id] = _Newest(active=True, ticks=clock.ticks_of(stamp), stamp=stamp)
                self._unsent.add(id)
                self._new.add(id)

    def stamps(self, clock: ServerClock, *, everything: bool = False) -> dict[bytes, int]:
        """Signed stamps by id.

        Args:
            everything: of all events that were ever sent or are in flight; else of the unsent ones.
        """
        stamps: dict[bytes, int] = {}
        for id in self._newest if everything else self._unsent:
            newest = self._newest[id]
            if not newest.stamp and everything:
                continue  # later than this push: where the id went has not been sent yet
            if not newest.stamp:
                newest.stamp = max(clock.stamp(newest.ticks), newest.min_stamp, 1)
            stamps[id] = newest.stamp if newest.active else -newest.stamp
        return stamps

    def acknowledge(self, sent: Mapping[bytes, int], *, keep: bool) -> None:
        """The server has these stamps; events that came since stay unsent.

        Args:
            keep: whether there is room to keep ids that were new, in case the server loses them.
        """
        for id, stamp in sent.items():
            newest = self._newest.get(id)
            if newest is not None and newest.stamp == abs(stamp) and newest.active == (stamp > 0):
                self._unsent.discard(id)
                if id in self._new and not keep:
                    del self._newest[id]
                    self._left.pop(id, None)
                self._new.discard(id)

    def resend(self) -> None:
        """Send everything again: the server may have lost some."""
        self._unsent.update(self._newest)

    def _set(self, id: bytes, ticks: int, *, active: bool) -> bool:
        """Make this the newest event of the id, unless a newer one is known; returns whether it is."""
        before = self._newest.get(id)
        if before is not None and before.ticks > ticks:
            return False
        # It comes after the one before, whatever the clock has learned in between; active wins a tie.
        min_stamp = 0 if before is None else max(before.stamp, before.min_stamp) + (not active)
        self._newest[id] = _Newest(active, ticks, min_stamp=min_stamp)
        self._unsent.add(id)
        self._new.add(id)
        return True
