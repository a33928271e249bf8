"""Importing: from events of any bucket and time, in any order, to a sketch for each bucket and period.

A batch of events is processed as columns: ids are hashed, buckets and periods factorized, which gives each
event the number of its group: of one bucket and one period of each kind. A batch that is not plain (a bad
event, dates of an unusual type) is processed event by event: that is slower, but finds out what is wrong, and
where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from ... import bulk
from ...columns import PER_SECOND, Coded, Instants
from ...errors import ActivityTrackerError, ArgumentTypeError
from ...hll.registers import Hashes
from ...keys import check_bucket
from ...messages import shown
from ..base import Context, Operation, PeriodBucket, batched
from .batches import Batch
from .factorize import BucketFactorizer, Indexes, PeriodFactorizer
from .gathered import Gathered
from .groups import FEW, NO_GROUP, Column, Groups
from .memory import Memory
from .stamps import ServerClock, Stamps

__all__ = ["Importing"]

# A file may have millions of buckets and periods.
_MOST_REMEMBERED = 1 << 15  # of both together
_GROUPS_PER_STEP = 512
_PERIOD_BITS = 32
_WIDEST_TABLE = 1 << 20  # of groups: there may be more combinations of buckets and periods than events

_Targets = tuple[PeriodBucket, ...]
"""A bucket, with a period of each kind."""


class Importing:
    """Gathers the events of one import.

    Args:
        kinds: the kinds of period to count in.
        gathered: where the events go.
        clock: gives a stamp to events without a time of their own.
        push: sends what was gathered; done within a batch that is of too many buckets and periods, else left
            to the caller.
    """

    def __init__(
        self,
        context: Context,
        kinds: Sequence[str],
        gathered: Gathered,
        clock: ServerClock,
        push: Callable[[], Operation[None]],
    ) -> None:
        self._context = context
        self._hourly = "hourly" in kinds
        self._gathered = gathered
        self._clock = clock
        self._push = push
        self._sketches = False
        self._coded_hashes = bulk.CodedHashes(context.ids)
        self._kinds = kinds
        self._forget()
        self.knows_server = False
        self.done = 0

    def _forget(self) -> None:
        self._buckets = BucketFactorizer(self._trackable)
        self._periods = PeriodFactorizer(self._context, self._kinds)
        self._gathered.groups.clear()

    def takes_sketches(self, sketches: bool) -> None:
        """Note whether the server takes sketches; if it does not, all events are kept as ids."""
        self.knows_server, self._sketches = True, sketches

    def check(self, batch: Batch) -> None:
        """Check the first event.

        Raises:
            ActivityTrackerError: it is bad.
            Exception: what the iterable raised instead of it.
        """
        for event in batch.first():
            self._checked(event)
            return
        if batch.error is not None:
            raise batch.error

    def add(self, batch: Batch) -> Operation[Exception | None]:
        """Gather the events of a batch, up to the first bad one; returns what is wrong with that, if any."""
        if len(self._buckets) + len(self._periods) > _MOST_REMEMBERED:
            self._forget()
        self._gathered.begin_batch()
        factorized = self._factorized(batch) if self._sketches and len(batch) >= FEW else None
        if factorized is None:
            bad = yield from self._add_one_by_one(batch)
            return bad or batch.error
        yield from self._add_groups(batch, factorized)
        return batch.error

    def _factorized(self, batch: Batch) -> _Factorized | None:
        """What a batch is of; None if an event is not plain."""
        hashes = self._gathered.memory.empty(len(batch), np.uint64)
        buckets, periods, all_dates, counts = [], [], [], []
        begin = 0
        try:
            for ids, bucket_column, dates in batch.parts():
                self._hash(ids, hashes[begin : begin + len(ids)])
                found = self._periods.factorize(dates)
                if found is None:
                    return None
                periods.append(found)
                buckets.append(self._buckets.factorize(bucket_column))
                all_dates.append(dates)
                counts.append(len(ids))
                begin += len(ids)
        except Exception:  # noqa: BLE001 (whatever a caller's object raises: one by one it is found, and named)
            return None
        if len(all_dates) == 1:
            return _Factorized(hashes, buckets[0], periods[0], _kept(all_dates[0], self._gathered.memory))
        dates = list(chain.from_iterable(all_dates))
        return _Factorized(hashes, _joined(buckets, counts), _joined(periods, counts), dates)

    def _hash(self, ids: Any, out: Hashes) -> None:
        if isinstance(ids, Coded):
            out[:] = self._coded_hashes.of(ids)
        else:
            bulk.all_hashes(self._context.ids, ids, out)

    def _add_groups(self, batch: Batch, events: _Factorized) -> Operation[None]:
        groups = _Groups.of(events, len(self._buckets.names), len(self._periods.names))
        known = self._gathered.groups
        groups.numbers[groups.present] = [known.get(key, NO_GROUP) for key in groups.keys]
        new = [at for at, key in enumerate(groups.keys) if key not in known]
        stamps = partial(self._stamps, events.dates, len(batch), self._clock.now())

        def add() -> None:
            present = groups.numbers[groups.present]
            of_events = self._gathered.memory.empty(len(batch), np.uint32)
            groups.numbers.take(groups.places, out=of_events, mode="clip")
            column = Column(events.hashes, of_events, present, groups.counts, stamps)
            self._gathered.add_to_groups(column, batch.numbers_per_event * len(batch))
            self.done += int(groups.counts[present != NO_GROUP].sum())

        for some in batched(new, _GROUPS_PER_STEP):  # a batch may have as many as it has events
            if self._gathered.full:
                add()
                groups.numbers.fill(NO_GROUP)
                yield from self._push()
            for at in some:
                key = groups.keys[at]
                groups.numbers[groups.present[at]] = self._gathered.new_group(key, self._targets(key))
        add()

    def _targets(self, key: int) -> _Targets:
        bucket = self._buckets.names[key >> _PERIOD_BITS]
        return tuple((name, bucket) for name in self._periods.names[key & (1 << _PERIOD_BITS) - 1])

    def _stamps(self, dates: Any, count: int, now: int) -> Stamps:
        """The :func:`_stamp` of each date of a column, or of one for all."""
        if isinstance(dates, date):
            return np.full(count, self._stamp(dates, now))
        zone = self._context.calendar.zone
        if zone is not None and _has_seconds(dates):
            dates = Instants.of_naive(dates, zone)
        if isinstance(dates, Instants):
            microseconds = dates.moments.astype("datetime64[us]").view(np.int64)
            return np.minimum(np.maximum(microseconds, 1), now)
        return np.fromiter((self._stamp(moment, now) for moment in dates), np.int64, count)

    def _stamp(self, moment: Any, now: int) -> int:
        """The stamp of an event: its time, if it has one; for a mere day, the present time."""
        if isinstance(moment, np.datetime64):
            unit = np.datetime_data(moment.dtype)[0]
            moment = now if unit in "YMWD" else moment.astype("datetime64[us]").item()
        if isinstance(moment, datetime):
            return min(now, self._context.calendar.microseconds(moment))
        return now

    def _add_one_by_one(self, batch: Batch) -> Operation[Exception | None]:
        for event in batch:
            if self._gathered.full:
                yield from self._push()
            try:
                id, bucket, moment, given = self._checked(event)
            except ActivityTrackerError as error:
                return error
            stamp = self._stamp(given, self._clock.now())
            for name in self._periods.periods(moment):
                self._gathered.add_ids((name, bucket), [(id, stamp)])
            self.done += 1
        return None

    def _checked(self, event: object) -> tuple[bytes, str | None, datetime, object]:
        """The parts of an event, its moment also as it was given."""
        argument = f"events[{self.done}]"
        parts = _parts(event)
        if len(parts) != 3:
            raise ArgumentTypeError(f"{argument} must be a tuple (id, bucket, datetime), got {shown(event)}")
        id, bucket, given = parts
        return (
            self._context.ids.one(id, f"{argument} id"),
            self._trackable(bucket, f"{argument} bucket"),
            self._context.calendar.moment(given, f"{argument} date", needs_hour=self._hourly),
            given,
        )

    def _trackable(self, bucket: object, argument: str = "bucket") -> str | None:
        return self._context.trackable(check_bucket(bucket, argument))


def _kept(dates: Any, memory: Memory) -> Any:
    """A column of dates, to be kept: no part of an array that is its caller's."""
    if isinstance(dates, Instants):
        return Instants(memory.copy(dates.moments))
    return memory.copy(dates) if isinstance(dates, np.ndarray) else dates


def _joined(parts: Sequence[Indexes], counts: Sequence[int]) -> Indexes:
    """Indexes of parts of a batch, one of each event or one of all, as those of all events."""
    each = [np.broadcast_to(part, count) for part, count in zip(parts, counts, strict=True)]
    return np.concatenate(each)


def _has_seconds(dates: Any) -> bool:
    """Whether a column is of numpy's datetimes, of seconds or a finer unit."""
    is_array = isinstance(dates, np.ndarray) and dates.dtype.kind == "M"
    return is_array and np.datetime_data(dates.dtype)[0] in PER_SECOND


def _parts(event: object) -> list[Any]:
    """The parts of an event; none of what cannot be one."""
    if isinstance(event, tuple):
        return list(tuple.__iter__(event))
    return list(list.__iter__(event)) if isinstance(event, list) else []


@dataclass(frozen=True, slots=True)
class _Factorized:
    """The columns of a batch.

    Attributes:
        hashes: shape (n,), of the ids.
        buckets, periods: the index of the bucket and of the periods of each; or of all, of shape ().
        dates: a column, or one for all.
    """

    hashes: Hashes
    buckets: Indexes
    periods: Indexes
    dates: Any


@dataclass(frozen=True, slots=True)
class _Groups:
    """The groups of a batch, each in a place of a table, which may have more.

    Attributes:
        places: shape (events,), of the group of each event.
        present: places where there are any events.
        counts: how many, of each of these.
        keys: of each of these, what stays the same while more buckets and periods are found.
        numbers: of the group in each place, at first NO_GROUP.
    """

    places: Indexes
    present: Indexes
    counts: Indexes
    keys: list[int]
    numbers: Groups

    @classmethod
    def of(cls, events: _Factorized, bucket_count: int, period_count: int) -> _Groups:
        """The groups of events, of one of so many buckets and periods each."""
        buckets, periods = events.buckets, events.periods
        both = buckets.ndim and periods.ndim
        if both:
            places, size = buckets * period_count + periods, bucket_count * period_count
        elif buckets.ndim:
            places, size = buckets, bucket_count
        elif periods.ndim:
            places, size = periods, period_count
        else:
            places, size = np.zeros(len(events.hashes), np.int64), 1
        if size > _WIDEST_TABLE:
            found, places, counts = np.unique(places, return_inverse=True, return_counts=True)
            size, present = len(found), np.arange(len(found))
        else:
            counts = np.bincount(places, minlength=size)
            found = present = np.flatnonzero(counts)
            counts = counts[present]
        if both:
            buckets, periods = np.divmod(found, period_count)
        elif buckets.ndim:
            buckets = found
        elif periods.ndim:
            periods = found
        keys = np.broadcast_to(buckets << _PERIOD_BITS | periods, found.shape).tolist()
        return cls(places, present, counts, keys, np.full(size, NO_GROUP, np.uint32))
