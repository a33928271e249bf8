"""Counts that events came after: what is stored is no longer what a recount would store.

A count stays as it is until someone asks for another one. So that nobody takes it for the whole, periods are
looked at that writers have marked since, see :mod:`..tracking.open_periods`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from ...backends.base import Command, Reply
from ...errors import BackendError
from ...keys import BucketKeys
from ...scripts.calls import Readings
from ..base import Context, Operation, PeriodBucket, batched
from ..many_keys import stored_counts
from ..tracking.side_table import ACTIVE
from .sketches import estimates

__all__ = ["outgrown"]

_PLACES_PER_BATCH = 10_000
_BUCKETS_PER_BATCH = 500
_SKETCHES_PER_BATCH = 100  # two of 12 KiB each


def outgrown(context: Context, places: Iterable[PeriodBucket]) -> Operation[set[str]]:
    """The names of the periods of which a stored count does not hold all that is in the bucket's sketch.

    What cannot be read is left out: a collapse reports it.

    Args:
        context: what operations are planned with.
        places: names of periods and buckets; those of one period one after the other.
    """
    found: set[str] = set()
    for batch in batched(places, _PLACES_PER_BATCH):
        of_period = [(name, [bucket for _, bucket in group]) for name, group in groupby(batch, itemgetter(0))]
        stored = yield from stored_counts(context.keys.counts(name, buckets) for name, buckets in of_period)
        counted = [
            (name, context.keys.bucket(name, bucket), int(count))
            for (name, buckets), counts in zip(of_period, stored, strict=True)
            for bucket, count in zip(buckets, counts, strict=True)
            if count is not None and count.isdigit()
        ]
        for part in batched(counted, _BUCKETS_PER_BATCH):
            found |= yield from _grown(part)
    return found


def _grown(counted: Sequence[tuple[str, BucketKeys, int]]) -> Operation[set[str]]:
    commands: list[Command] = [
        command for _, keys, _ in counted for command in (("PFCOUNT", keys.hll), ("PFCOUNT", keys.moved))
    ]
    replies = yield commands
    found: set[str] = set()
    moving: list[tuple[str, BucketKeys, int, Reply, Reply]] = []
    for (name, keys, count), tracked, moved in zip(counted, replies[::2], replies[1::2], strict=True):
        if moved == 0 and isinstance(tracked, int) and tracked > count:
            found.add(name)
        elif moved != 0:
            moving.append((name, keys, count, tracked, moved))
    for part in batched(moving, _SKETCHES_PER_BATCH):
        found |= yield from _grown_with_moves([entry for entry in part if entry[0] not in found])
    return found


def _grown_with_moves(moving: Sequence[tuple[str, BucketKeys, int, Reply, Reply]]) -> Operation[set[str]]:
    """The same where ids moved out: only the registers tell how many remain."""
    if not moving:
        return set()
    replies = yield [
        command
        for _, keys, _, _, _ in moving
        for command in (("ZCOUNT", keys.moves, *ACTIVE), ("GET", keys.hll), ("GET", keys.moved))
    ]
    read = [
        (
            name,
            count,
            Readings(tracked, moved, back, *(value if isinstance(value, bytes) else b"" for value in both)),
        )
        for (name, _, count, tracked, moved), back, *both in zip(
            moving, replies[::3], replies[1::3], replies[2::3], strict=True
        )
        if isinstance(tracked, int) and isinstance(moved, int) and isinstance(back, int)
    ]
    recounted = estimates([readings for _, _, readings in read], inspect=False)
    return {
        name
        for (name, count, _), estimate in zip(read, recounted, strict=True)
        if not isinstance(estimate, BackendError) and estimate != count
    }
