"""Importing: from events of any bucket and moment, in any order, to sketches of each place.

A batch of events is taken as columns: hashes of its ids, small numbers for buckets and periods, and a
sort by these. A batch that is not plain (a bad event, moments of an unusual type) goes event by event,
which is slower, finds what is wrong, and says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from ... import bulk
from ...errors import ActivityTrackerError, ArgumentTypeError, BackendError
from ...hll.registers import Hashes
from ...keys import check_bucket
from ..base import Context, Operation, PeriodBucket
from .batches import Batch
from .factorize import BucketCodes, Cells, Codes
from .gathered import FEW, Gathered
from .side_table import Stamps
from .stamps import ServerClock

__all__ = ["Importing"]

_ANY_TIME = 0
"""The stamp of events whose moments do not matter, as nobody moved out of their bucket: older than any."""


class Importing:
    """Puts the events of one import into what is gathered.

    Args:
        kinds: kinds of period to count in.
        gathered: where to.
        clock: tells stamps of events that have none of their own.
    """

    def __init__(
        self, context: Context, kinds: Sequence[str], gathered: Gathered, clock: ServerClock
    ) -> None:
        self._context = context
        self._hourly = "hourly" in kinds
        self._gathered = gathered
        self._clock = clock
        self._sketches = False
        self._buckets = BucketCodes(self._trackable)
        self._cells = Cells(context, kinds)
        self._looked_at: dict[PeriodBucket, bool] = {}
        self.asked = False
        self.done = 0

    def takes_sketches(self, sketches: bool) -> None:
        """Whether the server takes sketches; if not, all events are kept as ids."""
        self.asked, self._sketches = True, sketches

    def check(self, batch: Batch) -> None:
        """Look at the first event.

        Raises:
            ActivityTrackerError: it is bad.
        """
        for event in batch:
            self._checked(event)
            return

    def add(self, batch: Batch) -> Operation[Exception | None]:
        """Take in the events of a batch; returns what was wrong with the first bad one, if one is."""
        coded = self._coded(batch) if self._sketches and len(batch) >= FEW else None
        if coded is None:
            return self._add_one_by_one(batch) or batch.error
        yield from self._add_groups(batch, *coded)
        self.done += len(batch)
        return batch.error

    def _coded(self, batch: Batch) -> tuple[Hashes, Codes] | None:
        """A hash for each id, a number for each one's bucket and periods; None if events are not plain."""
        hashes, buckets, cells = [], [], []
        try:
            for ids, of_buckets, dates in batch.parts():
                hashes.append(bulk.all_hashes(self._context.ids, ids))
                buckets.append(np.broadcast_to(self._buckets.of(of_buckets), len(ids)))
                numbers = self._cells.of(dates)
                if numbers is None:
                    return None
                cells.append(np.broadcast_to(numbers, len(ids)))
        except (ActivityTrackerError, TypeError, ValueError, LookupError, OverflowError):
            return None
        return np.concatenate(hashes), np.concatenate(buckets) * len(self._cells.names) + np.concatenate(
            cells
        )

    def _add_groups(self, batch: Batch, hashes: Hashes, codes: Codes) -> Operation[None]:
        width = len(self._cells.names)
        most = len(self._buckets.names) * width
        # A sort of 16-bit numbers is a radix sort.
        order = np.argsort(codes.astype(np.uint16 if most <= 1 << 16 else np.int64), kind="stable")
        hashes = hashes[order]
        present, counts = _counted(codes, most)
        groups = [
            (self._buckets.names[code // width], self._cells.names[code % width]) for code in present.tolist()
        ]
        yield from self._look_at([(name, bucket) for bucket, names in groups for name in names])
        end = 0
        for (bucket, names), count in zip(groups, counts.tolist(), strict=True):
            start, end = end, end + count
            self._add_group(batch, [(name, bucket) for name in names], hashes[start:end], order[start:end])

    def _look_at(self, targets: Sequence[PeriodBucket]) -> Operation[None]:
        """Ask, once for each, whether ids were moved out of them: only there the moments of events matter."""
        new = [target for target in dict.fromkeys(targets) if target not in self._looked_at]
        if new:
            replies = yield [("EXISTS", self._context.keys.bucket(*target).moves) for target in new]
            for target, reply in zip(new, replies, strict=True):
                self._looked_at[target] = isinstance(reply, BackendError) or bool(reply)

    def _add_group(
        self, batch: Batch, targets: Sequence[PeriodBucket], hashes: Hashes, places: Codes
    ) -> None:
        """Events of one bucket and one period of each kind."""
        stamps: list[int] = []
        encoded: list[bytes] = []
        for target in targets:
            as_hashes = len(hashes) >= FEW or self._gathered.has_sketch(target)
            moves = self._looked_at[target] or self._gathered.has_table(target)
            if not stamps and (moves or not as_hashes):
                stamps = [self._stamp(moment) for moment in batch.moments(places.tolist())]
            if as_hashes:
                since: int | Stamps = np.array(stamps, np.int64) if moves else _ANY_TIME
                self._gathered.add_hashes(target, hashes, since)
            else:
                encoded = encoded or self._context.ids.many(batch.ids(places.tolist()))
                self._gathered.add_ids(target, zip(encoded, stamps, strict=True))

    def _stamp(self, moment: Any) -> int:
        """A moment to the second is when it happened; a day says nothing of when: now."""
        now = self._clock.now()
        if isinstance(moment, np.datetime64):
            unit = np.datetime_data(moment.dtype)[0]
            moment = now if unit in "YMWD" else moment.astype("datetime64[us]").item()
        if isinstance(moment, datetime):
            return min(now, self._context.calendar.microseconds(moment))
        return now

    def _add_one_by_one(self, batch: Batch) -> Exception | None:
        for event in batch:
            try:
                id, bucket, moment = self._checked(event)
            except ActivityTrackerError as error:
                return error
            stamp = self._stamp(event[2])
            for name in self._cells.periods(moment):
                self._gathered.add_ids((name, bucket), [(id, stamp)])
            self.done += 1
        return None

    def _checked(self, event: object) -> tuple[bytes, str | None, datetime]:
        argument = f"events[{self.done}]"
        if not isinstance(event, (tuple, list)) or len(event) != 3:
            raise ArgumentTypeError(f"{argument} must be a tuple (id, bucket, datetime), got {event!r}")
        id, bucket, moment = event
        return (
            self._context.ids.one(id, f"{argument} id"),
            self._trackable(bucket, f"{argument} bucket"),
            self._context.calendar.moment(moment, f"{argument} date", needs_hour=self._hourly),
        )

    def _trackable(self, bucket: object, argument: str = "bucket") -> str | None:
        return self._context.trackable(check_bucket(bucket, argument))


def _counted(codes: Codes, most: int) -> tuple[Codes, Codes]:
    """The different codes, sorted, and how often each occurs."""
    if most > 1 << 20:  # too many combinations for a table of them
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes, minlength=most)
    present = np.flatnonzero(counts)
    return present, counts[present]
