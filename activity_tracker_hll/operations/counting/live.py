"""Counting periods that are not collapsed yet, activity-tracker's raw sets included. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...backends.base import Command
from ...errors import BackendError, BackendResponseError
from ...estimates import Estimate
from ...hll import codec
from ...hll.estimators import cardinality
from ...hll.registers import Registers
from ...keys import BucketKeys
from ...periods import Period
from ...scripts.calls import Readings
from ..base import UNCOUNTED, Context, Operation, batched, named, number, unwrap
from ..settings import Aggregates
from ..tracking.side_table import ACTIVE
from .aggregates import MOST_UNITED
from .legacy import registers_of_raw
from .sketches import UNREADABLE, estimates, registers_of, union_by_server, union_of

__all__ = ["LiveTarget", "ask_for_data", "count_live"]

_BUCKETS_PER_BATCH = 500  # of up to two sketches each
_UNIONS_PER_BATCH = 200

LiveTarget = tuple[Period, str | None]
"""A bucket or aggregate of a period."""


def count_live(context: Context, wanted: Sequence[LiveTarget]) -> Operation[dict[LiveTarget, Estimate]]:
    """The counts of targets that have a sketch or a raw set; of aggregates, those whose sources have one.

    Raises:
        BackendError: a sketch that makes no sense, by name.
    """
    counter = _Counter(context)
    result: dict[LiveTarget, Estimate] = {}
    aggregates = context.aggregates
    for batch in batched((target for target in wanted if target[1] not in aggregates), _BUCKETS_PER_BATCH):
        result |= yield from counter.buckets(batch)
    for batch in batched((target for target in wanted if target[1] in aggregates), _UNIONS_PER_BATCH):
        result |= yield from counter.unions(batch, aggregates)
    return result


def ask_for_data(context: Context, by_period: Mapping[Period, Sequence[str | None]]) -> list[Command]:
    """Commands that ask whether there is anything to count: one a period, not one a bucket.

    Args:
        by_period: the buckets and aggregates of each.
    """
    aggregates, keys = context.aggregates, context.keys
    commands: list[Command] = []
    for period, names in by_period.items():
        united = {source for name in names if name in aggregates for source in aggregates[str(name)]}
        buckets = united.union(name for name in names if name not in aggregates)
        # Where a source is counted and its sketch gone, somebody has to be told.
        counts = keys.counts(period.name, united)
        commands.append(
            ("EXISTS", *keys.sketches(period.name, buckets), *keys.raws(period.name, buckets), *counts)
        )
    return commands


class _Counter:
    """One live count; remembers the raw sets it has read."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inspect = context.are_ids_chosen
        self._raw: dict[str, Registers] = {}

    def buckets(self, wanted: Sequence[LiveTarget]) -> Operation[dict[LiveTarget, Estimate]]:
        """The counts of buckets that have a sketch or a raw set."""
        present = yield from self._present(wanted)
        commands: list[Command] = []
        for target, keys in present.items():
            if isinstance(keys, BackendError):
                raise named(keys, (target[0].name, target[1])) from keys
            commands += [("PFCOUNT", keys.hll), ("PFCOUNT", keys.moved), ("ZCOUNT", keys.moves, *ACTIVE)]
            commands += [("GET", keys.hll), ("GET", keys.moved)]
        replies = iter((yield commands) if commands else ())
        readings: dict[LiveTarget, Readings] = {}
        for target in present:
            counts = [next(replies) for _ in range(3)]
            sketches = [reply if isinstance(reply := next(replies), bytes) else b"" for _ in range(2)]
            try:
                tracked, moved, back = (number(count, "the sketch") for count in unwrap(counts))
                readings[target] = self._with_raw(target, Readings(tracked, moved, back, *sketches))
            except BackendError as error:
                raise named(error, (target[0].name, target[1])) from error
        estimated = estimates(list(readings.values()), inspect=self._inspect)
        result: dict[LiveTarget, Estimate] = {}
        for target, count in zip(readings, estimated, strict=True):
            if isinstance(count, BackendError):
                raise named(count, (target[0].name, target[1])) from count
            result[target] = count
        return result

    def unions(
        self, wanted: Sequence[LiveTarget], aggregates: Aggregates
    ) -> Operation[dict[LiveTarget, Estimate]]:
        """The counts of aggregates, unless a source's sketch is gone: they would be too small."""
        sources = list(
            dict.fromkeys((period, source) for period, name in wanted for source in aggregates[str(name)])
        )
        bucket_keys = self._context.keys.bucket
        counted = yield [("GET", bucket_keys(period.name, source).counted) for period, source in sources]
        count_of = dict(zip(sources, counted, strict=True))
        present = yield from self._present(sources)
        result: dict[LiveTarget, Estimate] = {}
        for period, name in wanted:
            own = list(dict.fromkeys((period, source) for source in aggregates[str(name)]))
            try:
                counts = unwrap([count_of[source] for source in own])
                gone = [
                    source
                    for source, count in zip(own, counts, strict=True)
                    if count not in UNCOUNTED and source not in present
                ]
                if gone:
                    self._context.warn_of_lost_union(str(name), period.name)
                    continue
                keys = unwrap([present[source] for source in own if source in present])
                if keys:
                    result[period, name] = yield from self._union(period, name, keys)
            except BackendResponseError as error:
                raise named(error, (period.name, name)) from error
        return result

    def _union(self, period: Period, name: str | None, keys: Sequence[BucketKeys]) -> Operation[Estimate]:
        moves = unwrap((yield [("EXISTS", bucket.moved) for bucket in keys]))
        has_raw = not self._raw.keys().isdisjoint(bucket.hll for bucket in keys)
        if not any(moves) and not self._inspect and not has_raw and len(keys) <= MOST_UNITED:
            [count] = unwrap((yield [("PFCOUNT", *(bucket.hll for bucket in keys))]))
            return Estimate(number(count, "the union"))
        union = yield from union_of(keys, inspect=self._inspect, raw=self._raw)
        if union is not None:
            return union.count
        if has_raw:
            raise BackendResponseError(f"{UNREADABLE}, so raw sets are counted by collapse alone")
        temporary = self._context.keys.temporary(period.name, name, "union")
        return (yield from union_by_server(keys, temporary, may_write=False))

    def _present(self, wanted: Sequence[LiveTarget]) -> Operation[dict[LiveTarget, Any]]:
        """The keys of targets that have a sketch or a raw set, which is read; or the error that this gave."""
        keys = {target: self._context.keys.bucket(target[0].name, target[1]) for target in wanted}
        commands: list[Command] = [
            ("EXISTS", key) for bucket in keys.values() for key in (bucket.hll, bucket.raw)
        ]
        replies = unwrap((yield commands))
        present: dict[LiveTarget, BucketKeys | BackendError] = {}
        for target, hll, raw in zip(keys, replies[::2], replies[1::2], strict=True):
            if hll or raw:
                present[target] = keys[target]
            if raw and keys[target].hll not in self._raw:
                try:
                    self._raw[keys[target].hll] = yield from registers_of_raw(self._context, keys[target].raw)
                except BackendError as error:
                    present[target] = error
        return present

    def _with_raw(self, target: LiveTarget, reading: Readings) -> Readings:
        """What was read of a bucket, and the ids of its raw set, if it has one."""
        raw = self._raw.get(self._context.keys.bucket(target[0].name, target[1]).hll)
        if raw is None:
            return reading
        tracked = registers_of(reading.hll or None) if reading.hll or not reading.tracked else None
        if tracked is None:
            raise BackendResponseError(f"{UNREADABLE}, so the raw set is counted by collapse alone")
        np.maximum(tracked, raw, out=tracked)
        return reading._replace(tracked=cardinality(tracked), hll=codec.encode(tracked))
