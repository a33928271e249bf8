"""Draining: from the events in the queues to hashes in the registers of buckets.

Invariants established here:

- An event belongs to the window in which it was appended: the queues are drained before the window changes.
- An id is added where it goes before it leaves where it was: a leaving event waits until the addition is
  drained, and is dropped where that was. (Pushes send additions first.)
- Every event that is taken from a queue is counted as drained, and as dropped if it is.

Used under the buffer's lock, by the thread that drains at the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import not_

import numpy as np

from .. import bulk
from ..hll.registers import Hashes
from ..ids import IdEncoder
from ..operations.tracking.side_table import Seen
from ..operations.tracking.stamps import ServerClock, Stamps
from .buckets import Buckets, Leaving
from .intake import ExplicitEvent, Intake, Queue, in_steps

__all__ = ["Drainer"]

_Periods = tuple[str, ...] | None


class Drainer:
    """Drains the queues of one data set.

    Args:
        ids: encodes plain ids.
        clock: of the server.
        kinds: number of periods of events that do not name theirs.

    Attributes:
        drained: events taken from queues, once for each period.
        dropped: those of them that are lost: too many buckets or moves at once, or no valid id.
        found_moves: whether ids left since this was set to False; other processes should hear of it soon.
    """

    def __init__(
        self, intake: Intake, buckets: Buckets, ids: IdEncoder, clock: ServerClock, kinds: int
    ) -> None:
        self._intake = intake
        self._buckets = buckets
        self._ids = ids
        self._clock = clock
        self._kinds = kinds
        self.drained = self.dropped = 0
        self.found_moves = False
        self._drained_at = clock.ticks()
        self._not_before: dict[str | None, int] = {}
        """By bucket: ticks of the newest explicit event that was drained after `_drained_at`; what follows it
        in the queue was not appended before."""

    def open(self, now: float) -> None:
        """There is a first event: its periods are those that run now."""
        if self._buckets.window is None:
            self._drained_at = self._clock.ticks()
            self._buckets.open_window(now)

    def drain(self, now: float) -> list[Exception]:
        """Drain all queues, then look whether periods have ended; returns what was wrong with events."""
        self.open(now)
        errors: list[Exception] = []
        self._buckets.follow_calendar(now)
        self._buckets.begin()
        drained_at = self._clock.ticks()
        while True:
            taken, overflowed = self._intake.take()
            self._drop(overflowed * self._kinds)
            waiting = self.absorb(taken, errors)
            if not waiting:
                break
            for bucket, events in waiting:
                self._intake.put_back(bucket, events)
        self._end(now, drained_at)
        return errors

    def inherit(self, events: Sequence[tuple[str | None, Queue]], now: float) -> None:
        """In a forked child: absorb what was in its parent's queues, before there is anything of its own."""
        self.open(now)
        self._buckets.begin()
        drained_at = self._clock.ticks()
        while events:
            events = self.absorb(events, [])
        self._end(now, drained_at)

    def _end(self, now: float, drained_at: int) -> None:
        """The queues were emptied: what is appended from now on belongs to the periods that run now."""
        self._drained_at = drained_at
        # Explicit events that came after that come before what is appended to the same queue from now on.
        self._not_before = {bucket: at for bucket, at in self._not_before.items() if at > drained_at}
        in_use = self._buckets.update_window(now)
        if in_use is not None:
            self._intake.release_unused(in_use)
        self._buckets.limit_hashes()

    def absorb(
        self, taken: Sequence[tuple[str | None, Queue]], errors: list[Exception]
    ) -> list[tuple[str | None, Queue]]:
        """Absorb events that were in queues; returns those that have to wait for one that still is in one.

        Args:
            taken: events by bucket.
            errors: what is wrong with some is added to it.
        """
        waiting: dict[str | None, Queue] = {}
        hashed: dict[tuple[str | None, int], list[Hashes]] = {}
        for step in in_steps(taken):
            plain = step
            if self._intake.has_explicit:
                which = [bucket in waiting or ExplicitEvent in map(type, events) for bucket, events in step]
                plain = list(compress(step, map(not_, which)))
                for bucket, events in compress(step, which):
                    remaining = events if bucket in waiting else self._absorb_explicit(bucket, events, errors)
                    if remaining:
                        waiting.setdefault(bucket, []).extend(remaining)
            if plain and not self._hash_together(plain, hashed):
                for bucket, events in plain:
                    self._absorb_ids(bucket, events, self._since(bucket), errors)
        for (bucket, since), parts in hashed.items():
            self._add(bucket, None, Seen(parts[0] if len(parts) == 1 else np.concatenate(parts), since))
        return list(waiting.items())

    def reset_counts(self) -> None:
        """In a forked child: what was drained until now counts as the parent's."""
        self.drained = self.dropped = 0

    def _drop(self, events: int) -> None:
        self.drained += events
        self.dropped += events

    def _happened(self, event: ExplicitEvent) -> int:
        """Ticks when it happened: asked for when the server's clock is known, as far as that can be."""
        return event.ticks if event.stamp is None else self._clock.ticks_of(event.stamp)

    def _since(self, bucket: str | None) -> int:
        """Ticks before which nothing in a bucket's queue was appended."""
        return max(self._drained_at, self._not_before.get(bucket, self._drained_at))

    def _hash_together(
        self,
        taken: Sequence[tuple[str | None, Queue]],
        hashed: dict[tuple[str | None, int], list[Hashes]],
    ) -> bool:
        """Hash plain ids of all buckets at once; returns False, and does nothing, if one is not valid.

        Args:
            hashed: hashes are added to it, by bucket and ticks before which none was appended.
        """
        if not self._buckets.takes_sketches:
            return False
        together = taken[0][1] if len(taken) == 1 else [id for _, ids in taken for id in ids]
        try:
            hashes = bulk.all_hashes(self._ids, together)
        except Exception:  # noqa: BLE001 (whatever it is, one by one all others are valid)
            return False
        start = 0
        for bucket, ids in taken:
            of_bucket = hashed.setdefault((bucket, self._since(bucket)), [])
            of_bucket.append(hashes[start : start + len(ids)])
            start += len(ids)
        return True

    def _absorb_explicit(self, bucket: str | None, events: Queue, errors: list[Exception]) -> Queue:
        """Absorb events some of which are explicit; returns those that have to wait.

        What follows an explicit event in the queue came after it.
        """
        ids: Queue = []
        since: list[Stamps] = []
        added: dict[_Periods, list[ExplicitEvent]] = {}
        leaving: dict[_Periods, list[ExplicitEvent]] = {}
        start, now, waiting = 0, self._since(bucket), []
        for index in [index for index, kind in enumerate(map(type, events)) if kind is ExplicitEvent]:
            ids += events[start:index]
            since.append(np.full(index - start, now))
            start = index + 1
            event: ExplicitEvent = events[index]
            if event.after is not None and not event.after.drained:
                start, waiting = len(events), events[index:]
                break
            (leaving if event.leaves else added).setdefault(event.periods, []).append(event)
            event.drained = True
            now = self._not_before[bucket] = max(now, event.ticks)
        ids += events[start:]
        since.append(np.full(len(events) - start, now))
        self._absorb_ids(bucket, ids, np.concatenate(since), errors)
        for periods, together in added.items():
            encoded = [event.id for event in together]
            when = np.array(list(map(self._happened, together)), np.int64)
            no_room = self._add(bucket, periods, Seen(bulk.hashes_of_bytes(encoded), when), encoded)
            if no_room:
                for event in together:
                    event.no_room_in = no_room
        for periods, together in leaving.items():
            self._leave(bucket, periods, together)
        return waiting

    def _absorb_ids(
        self, bucket: str | None, ids: Queue, since: int | Stamps, errors: list[Exception]
    ) -> None:
        """Absorb plain ids, without those that are not valid."""
        if not ids:
            return
        try:
            if self._buckets.takes_sketches:
                self._add(bucket, None, Seen(bulk.all_hashes(self._ids, ids), since))
                return
            encoded = self._ids.many(ids)
        except Exception:  # noqa: BLE001
            encoded, valid = [], []
            for index, id in enumerate(ids):
                try:
                    encoded.append(self._ids.one(id))
                    valid.append(index)
                except Exception as error:  # noqa: BLE001
                    errors.append(error)
                    self._drop(self._kinds)
            since = np.broadcast_to(np.asarray(since), len(ids))[valid]
        self._add(bucket, None, Seen(bulk.hashes_of_bytes(encoded), since), encoded)

    def _add(
        self, bucket: str | None, periods: _Periods, seen: Seen, ids: Sequence[bytes] = ()
    ) -> Sequence[str]:
        """Add ids; returns the names of periods for which there was no room."""
        count = len(seen.hashes)
        if not count:
            return ()
        self.drained += count * len(self._buckets.names(periods))
        no_room = self._buckets.add(bucket, periods, seen, ids)
        self.dropped += count * len(no_room)
        return no_room

    def _leave(self, bucket: str | None, periods: _Periods, events: Sequence[ExplicitEvent]) -> None:
        hashes = bulk.hashes_of_bytes([event.id for event in events]).tolist()
        for period in self._buckets.names(periods):
            leaving = [
                Leaving(event.id, hash, self._happened(event))
                for event, hash in zip(events, hashes, strict=True)
                if event.after is None or period not in event.after.no_room_in
            ]
            dropped = self._buckets.leave(bucket, period, leaving) + len(events) - len(leaving)
            self.drained += len(events)
            self.dropped += dropped
            self.found_moves |= dropped < len(events)
