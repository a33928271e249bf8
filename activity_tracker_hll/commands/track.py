"""Tracking: one event, many ids, streams of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any

import numpy as np

from .. import bulk
from ..backends.base import Command, Reply
from ..errors import ArgumentTypeError, BackendError, LateEventError
from ..ids import check_batch
from ..periods import Period
from .base import MARGIN_S, Context, Operation, named
from .batches import batches
from .importing import Importing
from .pending import FEW, Pending, Place, takes_sketches, write_call

__all__ = ["Imported", "Tracking"]

_PUSH_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        events: events read and sent.
        late: how often an event was refused by a period that was collapsed and whose sketches are
            gone; an event counts once for each such period.
    """

    events: int
    late: int


class Tracking:
    """Plans the operations that add and move ids; remembers the running period of each kind."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: dict[str, tuple[float, float, Period]] = {}
        self._sketches: dict[int, bool] = {}  # by shard, whether the server takes them

    def track(
        self,
        kinds: Sequence[str],
        now: float,
        moment: datetime | None,
        id: object,
        bucket: str | None,
        old_id: object,
        old_bucket: str | None,
    ) -> Operation[None]:
        """One event, in one round trip; every add comes before any removal."""
        added, removed = self._ids_of_event(
            id, self._context.open(bucket), old_id, self._context.open(old_bucket)
        )
        periods = [self._locate(kind, now, moment) for kind in kinds]
        commands: list[Command] = []
        places: list[Place] = []
        if added is not None:
            for period, running in periods:
                new = self._add(period, running, bucket, added)
                commands += new
                places += [(period.name, bucket)] * len(new)
        if removed is not None:
            for period, _ in periods:
                commands.append(write_call(self._context, (period.name, old_bucket), [], [(removed, 0)]))
                places.append((period.name, old_bucket))
        late, errors = _refusals(places, (yield commands))
        if errors:
            raise errors[0]
        if late:
            raise LateEventError(list(dict.fromkeys(period for period, _ in late)))

    def events(
        self,
        kinds: Sequence[str],
        now: float,
        moment: datetime | None,
        id: object,
        bucket: str | None,
        old_id: object,
        old_bucket: str | None,
    ) -> tuple[tuple[str, ...], bytes | None, bytes | None]:
        """One event for later: names of its periods, the id to add, and the one to remove."""
        added, removed = self._ids_of_event(
            id, self._context.open(bucket), old_id, self._context.open(old_bucket)
        )
        return tuple(self._locate(kind, now, moment)[0].name for kind in kinds), added, removed

    def track_many(
        self,
        kinds: Sequence[str],
        now: float,
        moment: datetime | None,
        ids: object,
        bucket: str | None,
        shard: int,
    ) -> Operation[None]:
        """Many ids of one bucket and moment; all are checked before the first is sent."""
        batch: Any = check_batch(ids, "ids")
        if not isinstance(batch, (list, tuple, np.ndarray)):
            batch = list(batch)
        places = [(self._locate(kind, now, moment)[0].name, self._context.open(bucket)) for kind in kinds]
        pending = Pending(self._context)
        hashes = bulk.all_hashes(self._context.ids, batch) if len(batch) >= FEW else None
        if hashes is not None and (yield from self.takes_sketches(shard)):
            for place in places:
                pending.add_hashes(place, hashes)
        else:
            encoded = self._context.ids.many(batch)
            for place in places:
                pending.add_ids(place, encoded)
        late = yield from pending.push()
        if late:
            raise LateEventError(list(late))

    def import_events(
        self,
        kinds: Sequence[str],
        events: Any,
        progress: Callable[[int], object] | None,
        clock: Callable[[], float],
        shard: int,
    ) -> Operation[Imported]:
        """Events of any bucket and moment, united in sketches before they are sent.

        A bad event ends the import with an error that names its place, as does an error of the
        iterable's own; the events before it are sent.
        """
        pending = Pending(self._context)
        importing: Importing | None = None
        # What may be a stream shows at once that it works; what is all there is not cut up.
        late, pushed = 0, clock() if isinstance(events, Sized) else -inf

        def due() -> bool:
            return abs(clock() - pushed) >= _PUSH_EVERY_S

        for batch in batches(events, due):
            if importing is None:
                importing = Importing(self._context, kinds, pending, sketches=True)
                importing.check(batch)
                if len(batch) and not (yield from self.takes_sketches(shard)):
                    importing = Importing(self._context, kinds, pending, sketches=False)
            bad = importing.add(batch)
            if bad is not None or pending.full or due():
                late += sum((yield from pending.push()).values())
                pushed = clock()
                if progress is not None and importing.done:
                    progress(importing.done)
            if bad is not None:
                raise bad
        late += sum((yield from pending.push()).values())
        done = 0 if importing is None else importing.done
        if progress is not None and done:
            progress(done)
        return Imported(done, late)

    def takes_sketches(self, shard: int) -> Operation[bool]:
        """Whether a data set's server takes sketches; asked once."""
        if shard not in self._sketches:
            self._sketches[shard] = yield from takes_sketches(self._context)
        return self._sketches[shard]

    def _ids_of_event(
        self, id: object, bucket: str | None, old_id: object, old_bucket: str | None
    ) -> tuple[bytes | None, bytes | None]:
        if id is None and old_id is None:
            raise ArgumentTypeError("id must be a str, bytes, int or UUID, got None (and no old_id)")
        added = None if id is None else self._context.ids.one(id)
        removed = None if old_id is None else self._context.ids.one(old_id, "old_id")
        if added == removed and bucket == old_bucket:
            removed = None  # it was here and is here
        return added, removed

    def _locate(self, kind: str, now: float, moment: datetime | None) -> tuple[Period, bool]:
        """The period of an event, and whether it is the running one and will be for a while."""
        running = self._running.get(kind)
        if running is None or not running[0] <= now < running[1]:
            calendar = self._context.calendar
            period = calendar.containing(kind, calendar.local(now))
            start, end = (calendar.timestamp(edge.start) for edge in (period, period.next()))
            running = self._running[kind] = start, end, period
        _, end, period = running
        lasts = now < end - MARGIN_S
        if moment is None:
            return period, lasts
        named_period = self._context.calendar.containing(kind, moment)
        return named_period, lasts and named_period == period

    def _add(self, period: Period, running: bool, bucket: str | None, id: bytes) -> list[Command]:
        if not running:
            return [write_call(self._context, (period.name, bucket), [id])]
        tagged = self._context.keys.tagged(period.name, bucket)
        return [("PFADD", f"{tagged}:hll", id), ("SMOVE", f"{tagged}:out", f"{tagged}:back", id)]


def _refusals(places: Sequence[Place], replies: Sequence[Reply]) -> tuple[list[Place], list[BackendError]]:
    """The places whose writes were late, and errors that name theirs."""
    late: list[Place] = []
    errors: list[BackendError] = []
    for place, reply in zip(places, replies, strict=True):
        if reply == b"LATE":
            late.append(place)
        elif isinstance(reply, BackendError):
            errors.append(named(reply, *place))
    return late, errors
