"""Importing: from events of any bucket and moment, in any order, to sketches of each place.

A batch of events is taken as columns: hashes of its ids, small numbers for buckets and periods, and a
sort by these. A batch that is not plain (a bad event, moments of an unusual type) goes event by event,
which is slower, finds what is wrong, and says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from .. import bulk
from ..errors import ActivityTrackerError, ArgumentTypeError
from ..hll.registers import Hashes
from ..keys import check_bucket
from .base import Context
from .batches import Batch
from .codes import BucketCodes, Cells, Codes
from .pending import FEW, Pending

__all__ = ["Importing"]


class Importing:
    """Puts the events of one import into what is pending.

    Args:
        kinds: kinds of period to count in.
        pending: where to.
        sketches: whether the server takes sketches; if not, all are kept as ids.
    """

    def __init__(self, context: Context, kinds: Sequence[str], pending: Pending, sketches: bool) -> None:
        self._context = context
        self._hourly = "hourly" in kinds
        self._pending = pending
        self._sketches = sketches
        self._buckets = BucketCodes(self._open)
        self._cells = Cells(context, kinds)
        self.done = 0

    def check(self, batch: Batch) -> None:
        """Look at the first event.

        Raises:
            ActivityTrackerError: it is bad.
        """
        for event in batch:
            self._checked(event)
            return

    def add(self, batch: Batch) -> Exception | None:
        """Take in the events of a batch; returns what was wrong with the first bad one, if one is."""
        coded = self._coded(batch) if self._sketches and len(batch) >= FEW else None
        if coded is None:
            return self._add_one_by_one(batch) or batch.error
        self._add_groups(batch, *coded)
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

    def _add_groups(self, batch: Batch, hashes: Hashes, codes: Codes) -> None:
        width = len(self._cells.names)
        most = len(self._buckets.names) * width
        # A sort of 16-bit numbers is a radix sort.
        order = np.argsort(codes.astype(np.uint16 if most <= 1 << 16 else np.int64), kind="stable")
        hashes = hashes[order]
        present, counts = _counted(codes, most)
        ends = np.cumsum(counts)
        for code, start, end in zip(present.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
            bucket, names = self._buckets.names[code // width], self._cells.names[code % width]
            self._add_group(batch, bucket, names, hashes[start:end], order[start:end])

    def _add_group(
        self, batch: Batch, bucket: str | None, names: Sequence[str], hashes: Hashes, places: Codes
    ) -> None:
        """Events of one bucket and one period of each kind."""
        encoded: list[bytes] = []
        for name in names:
            if len(hashes) >= FEW or self._pending.has_sketch((name, bucket)):
                self._pending.add_hashes((name, bucket), hashes)
            else:
                encoded = encoded or self._context.ids.many(batch.ids(places.tolist()))
                self._pending.add_ids((name, bucket), encoded)

    def _add_one_by_one(self, batch: Batch) -> Exception | None:
        for event in batch:
            try:
                id, bucket, moment = self._checked(event)
            except ActivityTrackerError as error:
                return error
            for name in self._cells.periods(moment):
                self._pending.add_ids((name, bucket), (id,))
            self.done += 1
        return None

    def _checked(self, event: object) -> tuple[bytes, str | None, datetime]:
        argument = f"events[{self.done}]"
        if not isinstance(event, (tuple, list)) or len(event) != 3:
            raise ArgumentTypeError(f"{argument} must be a tuple (id, bucket, datetime), got {event!r}")
        id, bucket, moment = event
        return (
            self._context.ids.one(id, f"{argument} id"),
            self._open(bucket, f"{argument} bucket"),
            self._context.calendar.moment(moment, f"{argument} date", needs_hour=self._hourly),
        )

    def _open(self, bucket: object, argument: str = "bucket") -> str | None:
        return self._context.open(check_bucket(bucket, argument))


def _counted(codes: Codes, most: int) -> tuple[Codes, Codes]:
    """The different codes, sorted, and how often each occurs."""
    if most > 1 << 20:  # too many combinations for a table of them
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes, minlength=most)
    present = np.flatnonzero(counts)
    return present, counts[present]
