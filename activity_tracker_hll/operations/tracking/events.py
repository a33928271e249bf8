"""Tracking: one event, many ids, streams of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from math import inf
from typing import Any, NamedTuple

import numpy as np

from ... import bulk
from ...backends.base import Command, Reply
from ...columns import Coded, Texts
from ...errors import BackendError, LateEventError
from ...ids import IdEncoder, check_batch
from ...keys import BucketKeys
from ...periods import PERIODS, Calendar
from ...scripts.calls import TableState, answer, call_write
from ..base import MARGIN_S, Operation, PeriodBucket, named, unwrap_of
from ..data_set import DataSet
from .batches import batches
from .gathered import Gathered
from .groups import FEW, Column
from .imports import Import, Imported
from .memory import Memory

__all__ = ["Event", "Ids", "Tracking"]


class Event(NamedTuple):
    """One event, checked and encoded.

    Attributes:
        id: who is active; None = nobody.
        bucket: where.
        old_id: who leaves; None = nobody.
        old_bucket: the bucket it leaves.
        moment: the time of the event, naive in the calendar's zone; None = now.
        stamp: microseconds since 1970, if the event's time was given to the second; None = it happens now.
    """

    id: bytes | None
    bucket: str | None
    old_id: bytes | None
    old_bucket: str | None
    moment: datetime | None
    stamp: int | None


@dataclass(frozen=True, slots=True)
class Ids:
    """Many ids of one call, checked.

    Attributes:
        given: as they were given.
        hashes: of each, where they are many; else None.
        encoded: each, where they are few; else None.
    """

    given: Any
    hashes: bulk.Hashes | None
    encoded: list[bytes] | None

    @classmethod
    def check(cls, ids: object, encoder: IdEncoder) -> Ids:
        """Check all of them, and consume them if they are an iterator.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, by its place.
        """
        batch: Any = check_batch(ids, "ids")
        if not isinstance(batch, (list, tuple, np.ndarray, Texts, Coded)):
            batch = list(batch)
        hashes = bulk.all_hashes(encoder, batch) if len(batch) >= FEW else None
        return cls(batch, hashes, encoder.many(batch) if hashes is None else None)


class _Running(NamedTuple):
    """Periods that certainly run from `since` until `until`, and none of which ends before `ends_after`."""

    names: tuple[str, ...]
    since: float
    until: float
    ends_after: float
    revision: int


class Tracking:
    """Plans the operations that add and move ids; remembers the running periods, and keeps memory."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._spare: list[Memory] = []  # of an import that ended well, for the next one
        self._running: dict[tuple[str, ...], _Running] = {}

    def periods(self, kinds: tuple[str, ...], moment: datetime | None, now: float) -> tuple[str, ...]:
        """The names of the periods of an event."""
        if moment is None:
            return self._running_at(kinds, now).names
        return tuple(self._calendar.containing(kind, moment).name for kind in kinds)

    def track(self, data: DataSet, kinds: tuple[str, ...], event: Event, now: float) -> Operation[None]:
        """Track one event, in one round trip; ids are added before any is removed."""
        running = self._running_at(kinds, now)
        names = running.names if event.moment is None else self.periods(kinds, event.moment, now)
        runs = now < running.ends_after and names == running.names
        stamp = data.clock.now() if event.stamp is None else min(event.stamp, data.clock.now())
        bucket_keys, limit = data.context.keys.bucket, data.context.moved_limit
        commands: list[Command] = []
        targets: list[PeriodBucket] = []
        if event.id is not None:
            for name in names:
                keys, target = bucket_keys(name, event.bucket), (name, event.bucket)
                # Only an event that happens now is certainly newer than what the side table has.
                if runs and event.stamp is None:
                    commands += _add(keys, event.id, stamp)
                    targets += (target, target)
                else:
                    commands.append(call_write(keys, limit, [(event.id, stamp)]))
                    targets.append(target)
        if event.old_id is not None:
            for name in names:
                keys = bucket_keys(name, event.old_bucket)
                commands.append(call_write(keys, limit, (), [(event.old_id, -stamp)]))
                targets.append((name, event.old_bucket))
        buckets = list({bucket for _, bucket in targets})
        marks = data.open_periods.due(names, buckets, names if runs else ())
        replies = yield [*commands, *data.open_periods.commands(marks)] if marks else commands
        if marks:
            unwrap_of(data.open_periods.key, replies[len(targets) :])
            data.open_periods.are_set(marks)
        late = _late(data, targets, replies)
        if late:
            raise LateEventError(list(dict.fromkeys(period for period, _ in late)))

    def track_many(
        self, data: DataSet, kinds: tuple[str, ...], ids: Ids, event: Event, now: float
    ) -> Operation[None]:
        """Track many ids of one bucket and time.

        Args:
            data: the data set.
            kinds: the kinds of period to count in.
            ids: the ids.
            event: the bucket and the time.
            now: seconds since the epoch.
        """
        hashes, encoded = ids.hashes, ids.encoded
        stamp = data.clock.now() if event.stamp is None else min(event.stamp, data.clock.now())
        gathered = Gathered(data.context, data.open_periods, lambda: self.running(now), Memory())
        if hashes is not None and not (yield from data.takes_sketches()):
            hashes, encoded = None, data.context.ids.many(ids.given)
        targets = [(name, event.bucket) for name in self.periods(kinds, event.moment, now)]
        if hashes is not None:
            gathered.add_to_groups(Column.of_one(gathered.new_group(0, targets), hashes, stamp), len(hashes))
        else:
            for target in targets:
                gathered.add_ids(target, ((id, stamp) for id in encoded or ()))
        late = yield from gathered.push()
        if late:
            raise LateEventError(list(late))

    def import_events(self, events: Any, begun: Import) -> Operation[Imported]:
        """Import events of any bucket and time, united in sketches before they are sent.

        If the first event is bad, the server is not even asked.

        Args:
            events: see :func:`.batches`.
            begun: by :meth:`begin_import`.
        """
        all_batches = batches(events, begun.due)
        first = next(all_batches, None)
        if first is not None:
            begun.check(first)

        def operation() -> Operation[Imported]:
            for batch in chain([] if first is None else [first], all_batches):
                yield from begun.add(batch)
            return (yield from self.finish(begun))

        return operation()

    def begin_import(
        self,
        data: DataSet,
        kinds: tuple[str, ...],
        clock: Callable[[], float],
        find_outgrown: Callable[[Iterable[PeriodBucket]], Operation[set[str]]],
        progress: Callable[[int], object] | None,
        *,
        can_wait: bool,
    ) -> Import:
        """An import without events yet; see :class:`.Import`."""
        try:
            memory = self._spare.pop()  # of several threads one has it
        except IndexError:
            memory = Memory()
        return Import(data, kinds, memory, self.running, clock, find_outgrown, progress, can_wait=can_wait)

    def finish(self, begun: Import) -> Operation[Imported]:
        """Push what is left of an import; its memory is for the next one."""
        imported = yield from begun.finish()
        if not self._spare:
            self._spare.append(begun.memory)
        return imported

    def running(self, now: float) -> set[str]:
        """The names of all running periods that do not end soon."""
        running = (self._calendar.running(kind, now) for kind in PERIODS)
        return {found.period.name for found in running if now < found.ends - MARGIN_S}

    def _running_at(self, kinds: tuple[str, ...], now: float) -> _Running:
        running = self._running.get(kinds)
        revision = self._calendar.revision
        if running is None or not running.since <= now < running.until or running.revision != revision:
            found = [self._calendar.running(kind, now) for kind in kinds]
            running = self._running[kinds] = _Running(
                tuple(each.period.name for each in found),
                now,
                min((each.sure_until for each in found), default=inf),
                min((each.ends for each in found), default=inf) - MARGIN_S,
                revision,
            )
        return running


def _add(keys: BucketKeys, id: bytes, stamp: int) -> tuple[Command, Command]:
    """Commands for an id that is active now: idempotent; the second does nothing unless the id ever left."""
    return ("PFADD", keys.hll, id), ("ZADD", keys.moves, "XX", "GT", stamp, id)


def _late(data: DataSet, targets: Sequence[PeriodBucket], replies: Sequence[Reply]) -> list[PeriodBucket]:
    """The targets whose writes were late.

    Raises:
        BackendError: naming its target.
    """
    late: list[PeriodBucket] = []
    for target, reply in zip(targets, replies, strict=False):
        if isinstance(reply, int):
            continue
        try:
            state, values = answer(reply)
        except BackendError as error:
            raise named(error, target) from error
        if state == b"LATE":
            late.append(target)
        else:
            data.clock.observe(TableState.read(values).newest)
    return late
