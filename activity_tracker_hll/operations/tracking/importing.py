"""Importing: from events of any bucket and time, in any order, to a sketch for each bucket and period.

A batch of events is processed as columns: ids are hashed, buckets and periods factorized, and the hashes
sorted by these. A batch that is not plain (a bad event, dates of an unusual type) is processed event by
event, which is slower, but finds out what is wrong, and where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from ... import bulk
from ...columns import Coded
from ...errors import ActivityTrackerError, ArgumentTypeError, BackendError
from ...hll.registers import Hashes
from ...keys import check_bucket
from ...messages import shown
from ..base import Context, Operation, PeriodBucket, batched
from .batches import Batch
from .factorize import BucketFactorizer, Indexes, PeriodFactorizer
from .gathered import FEW, Gathered
from .side_table import Stamps
from .stamps import ServerClock

__all__ = ["Importing"]

# A file may have millions of buckets and periods.
_MOST_REMEMBERED = 1 << 15  # of both together
_MOST_ASKED = 1 << 14  # targets, of which no push takes more than an eighth
_GROUPS_PER_STEP = 512

_ANY_TIME = 0
"""Older than any stamp: for events whose time does not matter, because nobody moved out of their bucket."""


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
        self._have_moves: dict[PeriodBucket, bool] = {}

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
        factorized = self._factorized(batch) if self._sketches and len(batch) >= FEW else None
        if factorized is None:
            bad = yield from self._add_one_by_one(batch)
            return bad or batch.error
        yield from self._add_groups(batch, *factorized)
        return batch.error

    def _factorized(self, batch: Batch) -> tuple[Hashes, Indexes] | None:
        """The hash of each id, the index of its bucket and periods; None if an event is not plain.

        The indexes have shape () if all are the same.
        """
        hashes, pairs = [], []
        try:
            for ids, bucket_column, dates in batch.parts():
                hashes.append(self._hashes(ids))
                buckets, periods = self._buckets.factorize(bucket_column), self._periods.factorize(dates)
                if periods is None:
                    return None
                pairs.append((buckets, periods))
        except Exception:  # noqa: BLE001 (whatever a caller's object raises: one by one it is found, and named)
            return None
        indexes = [buckets * len(self._periods.names) + periods for buckets, periods in pairs]
        if len(hashes) == 1:
            return hashes[0], np.asarray(indexes[0])
        each = [np.broadcast_to(some, len(part)) for some, part in zip(indexes, hashes, strict=True)]
        return np.concatenate(hashes), np.concatenate(each)

    def _hashes(self, ids: Any) -> Hashes:
        if isinstance(ids, Coded):
            return self._coded_hashes.of(ids)
        return bulk.all_hashes(self._context.ids, ids)

    def _add_groups(self, batch: Batch, hashes: Hashes, indexes: Indexes) -> Operation[None]:
        combinations = len(self._periods.names)
        groups = (
            ([(name, self._buckets.names[index // combinations]) for name in names], positions)
            for index, positions in _groups(indexes, len(batch), len(self._buckets.names) * combinations)
            for names in [self._periods.names[index % combinations]]
        )
        for some in batched(groups, _GROUPS_PER_STEP):  # a batch may have as many as it has events
            yield from self._find_moves([target for targets, _ in some for target in targets])
            for targets, positions in some:
                if self._gathered.full:
                    yield from self._push()
                self._add_group(batch, targets, hashes.take(positions), positions)
                self.done += len(positions)

    def _find_moves(self, targets: Sequence[PeriodBucket]) -> Operation[None]:
        """Ask, once for each, whether ids were moved out of it: only then the time of an event matters."""
        if len(self._have_moves) > _MOST_ASKED:
            self._have_moves = {}
        new = [target for target in dict.fromkeys(targets) if target not in self._have_moves]
        if new:
            replies = yield [("EXISTS", self._context.keys.bucket(*target).moves) for target in new]
            for target, reply in zip(new, replies, strict=True):
                self._have_moves[target] = isinstance(reply, BackendError) or bool(reply)

    def _add_group(
        self, batch: Batch, targets: Sequence[PeriodBucket], hashes: Hashes, positions: Indexes
    ) -> None:
        """Gather events of one bucket and one period of each kind."""
        stamps: list[int] = []
        encoded: list[bytes] = []
        folded: dict[PeriodBucket, int | Stamps] = {}
        for target in targets:
            count = self._gathered.few_ids(target) + len(hashes)
            as_hashes = count >= FEW or self._gathered.has_sketch(target)
            moves = self._have_moves[target] or self._gathered.has_table(target)
            if not stamps and (moves or not as_hashes):
                stamps = [self._stamp(moment) for moment in batch.dates(positions.tolist())]
            if as_hashes:
                folded[target] = np.array(stamps, np.int64) if moves else _ANY_TIME
            else:
                encoded = encoded or self._context.ids.many(batch.ids(positions.tolist()))
                self._gathered.add_ids(target, zip(encoded, stamps, strict=True))
        if folded:
            self._gathered.add_hashes(hashes, folded)

    def _stamp(self, moment: Any) -> int:
        """The stamp of an event: its time, if it has one; for a mere day, the present time."""
        now = self._clock.now()
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
                id, bucket, moment, stamp = self._checked(event)
            except ActivityTrackerError as error:
                return error
            for name in self._periods.periods(moment):
                self._gathered.add_ids((name, bucket), [(id, stamp)])
            self.done += 1
        return None

    def _checked(self, event: object) -> tuple[bytes, str | None, datetime, int]:
        argument = f"events[{self.done}]"
        parts = _parts(event)
        if len(parts) != 3:
            raise ArgumentTypeError(f"{argument} must be a tuple (id, bucket, datetime), got {shown(event)}")
        id, bucket, moment = parts
        return (
            self._context.ids.one(id, f"{argument} id"),
            self._trackable(bucket, f"{argument} bucket"),
            self._context.calendar.moment(moment, f"{argument} date", needs_hour=self._hourly),
            self._stamp(moment),
        )

    def _trackable(self, bucket: object, argument: str = "bucket") -> str | None:
        return self._context.trackable(check_bucket(bucket, argument))


def _parts(event: object) -> list[Any]:
    """The parts of an event; none of what cannot be one."""
    if isinstance(event, tuple):
        return list(tuple.__iter__(event))
    return list(list.__iter__(event)) if isinstance(event, list) else []


def _groups(indexes: Indexes, count: int, index_count: int) -> Iterator[tuple[int, Indexes]]:
    """The distinct indexes of `count` events, in order, and where each occurs.

    Args:
        indexes: one of each event, or one of all.
        count: how many events there are.
        index_count: how many indexes there may be.
    """
    if not indexes.ndim:
        yield int(indexes), np.arange(count)
        return
    if index_count > 1 << 20:  # too many combinations for a table of them
        present, counts = np.unique(indexes, return_counts=True)
    else:
        every = np.bincount(indexes, minlength=index_count)
        present = np.flatnonzero(every)
        counts = every[present]
    # numpy sorts 16-bit numbers by radix.
    order = np.argsort(indexes.astype(np.uint16 if index_count <= 1 << 16 else np.int64), kind="stable")
    end = 0
    for index, size in zip(present.tolist(), counts.tolist(), strict=True):
        start, end = end, end + size
        yield index, order[start:end]
