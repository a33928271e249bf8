"""Counting periods that are not collapsed yet, activity-tracker's raw sets included, by reading alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np

from ...backends.base import Command
from ...errors import BackendDataError, BackendError, BackendResponseError
from ...estimates import Estimate
from ...hll import codec
from ...hll.estimators import cardinality
from ...hll.registers import Registers
from ...keys import BucketKeys
from ...periods import Period
from ...scripts.calls import Readings
from ..base import Context, Operation, batched, named, number, unwrap
from ..many_keys import without_zeros
from ..settings import Aggregates
from ..tracking.side_table import ACTIVE
from .aggregates import MOST_UNITED
from .legacy import registers_of_raw
from .sketches import UNREADABLE, estimates, registers_of, union_by_server, union_of

__all__ = ["LiveTarget", "Unread", "count_live", "keys_of_data"]

_BUCKETS_PER_BATCH = 500  # of up to two sketches each
_UNIONS_PER_BATCH = 200

LiveTarget = tuple[Period, str | None]
"""A bucket or aggregate of a period."""

Unread = dict[LiveTarget, BackendDataError]
"""What cannot be read, and why."""


def count_live(
    context: Context, wanted: Sequence[LiveTarget], unread: Unread
) -> Operation[dict[LiveTarget, Estimate]]:
    """The counts of targets that have a sketch or a raw set; of aggregates, those whose sources have one.

    Args:
        context: what operations are planned with.
        wanted: the targets.
        unread: takes those of which a key holds what does not belong there.

    Raises:
        BackendError: the server failed, or a count cannot be told by reading; by name.
    """
    counter = _Counter(context, unread)
    result: dict[LiveTarget, Estimate] = {}
    aggregates = context.aggregates
    for batch in batched((target for target in wanted if target[1] not in aggregates), _BUCKETS_PER_BATCH):
        result |= yield from counter.buckets(batch)
    for batch in batched((target for target in wanted if target[1] in aggregates), _UNIONS_PER_BATCH):
        result |= yield from counter.unions(batch, aggregates)
    return result


def keys_of_data(context: Context, by_period: Mapping[Period, Sequence[str | None]]) -> list[list[str]]:
    """The keys of each period one of which exists if there is anything to count.

    Args:
        by_period: the buckets and aggregates of each.
    """
    aggregates, keys = context.aggregates, context.keys
    groups: list[list[str]] = []
    for period, names in by_period.items():
        united = {source for name in names if name in aggregates for source in aggregates[str(name)]}
        buckets = united.union(name for name in names if name not in aggregates)
        # Where a source is counted and its sketch gone, somebody has to be told.
        counts = keys.counts(period.name, united)
        groups.append([*keys.sketches(period.name, buckets), *keys.raws(period.name, buckets), *counts])
    return groups


class _Found(NamedTuple):
    """A bucket that has data."""

    keys: BucketKeys
    has_moves: bool
    has_raw: bool


class _Counter:
    """One live count; remembers the raw sets it has read."""

    def __init__(self, context: Context, unread: Unread) -> None:
        self._context, self._unread = context, unread
        self._inspect = context.are_ids_chosen
        self._raw: dict[str, Registers] = {}

    def buckets(self, wanted: Sequence[LiveTarget]) -> Operation[dict[LiveTarget, Estimate]]:
        """The counts of buckets that have a sketch or a raw set."""
        asked: dict[LiveTarget, tuple[_Found, list[Command]]] = {}
        for target, found in (yield from self._present(wanted)).items():
            if isinstance(found, BackendError):
                self._leave_out(target, found)
            else:
                asked[target] = found, self._questions(found)
        commands = [command for _, own in asked.values() for command in own]
        replies = iter((yield commands) if commands else ())
        readings: dict[LiveTarget, Readings] = {}
        for target, (found, own) in asked.items():
            answers = list(islice(replies, len(own)))
            try:
                readings[target] = self._reading(found, answers)
            except BackendError as error:
                self._leave_out(target, error)
        result: dict[LiveTarget, Estimate] = {}
        estimated = estimates(list(readings.values()), inspect=self._inspect)
        for target, count in zip(readings, estimated, strict=True):
            if isinstance(count, BackendError):
                self._leave_out(target, count)
            else:
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
        keys = [bucket_keys(period.name, source).counted for period, source in sources]
        counted = yield from without_zeros(keys, (yield [("GET", key) for key in keys]))
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
                    if count is not None and source not in present
                ]
                if gone:
                    self._context.warn_of_lost_union(str(name), period.name)
                    continue
                found = unwrap([present[source] for source in own if source in present])
                if found:
                    result[period, name] = yield from self._union(period, name, found)
            except BackendError as error:
                self._leave_out((period, name), error)
        return result

    def _leave_out(self, target: LiveTarget, error: BackendError) -> None:
        """Note a target that cannot be read.

        Raises:
            BackendError: this one, by name, if it may be about others too.
        """
        if not isinstance(error, BackendDataError):
            raise named(error, (target[0].name, target[1])) from error
        self._unread[target] = error

    def _union(self, period: Period, name: str | None, found: Sequence[_Found]) -> Operation[Estimate]:
        keys = [one.keys for one in found]
        has_moves, has_raw = any(one.has_moves for one in found), any(one.has_raw for one in found)
        if not (has_moves or has_raw or self._inspect) and len(keys) <= MOST_UNITED:
            [count] = unwrap((yield [("PFCOUNT", *(bucket.hll for bucket in keys))]))
            return Estimate(number(count, "the union"))
        union = yield from union_of(keys, inspect=self._inspect, raw=self._raw)
        if union is not None:
            return union.count
        if has_raw:
            raise BackendResponseError(f"{UNREADABLE}, so raw sets are counted by collapse alone")
        # A stand-in for a server, which has no replicas either: there a key may be written for a moment.
        temporary = self._context.keys.temporary(period.name, name, token_hex(8))
        return (yield from union_by_server(keys, temporary))

    def _present(self, wanted: Sequence[LiveTarget]) -> Operation[dict[LiveTarget, Any]]:
        """The targets that have a sketch or a raw set, which is read; or the error that this gave."""
        keys = {target: self._context.keys.bucket(target[0].name, target[1]) for target in wanted}
        commands: list[Command] = [
            ("EXISTS", key) for bucket in keys.values() for key in (bucket.hll, bucket.moved, bucket.raw)
        ]
        replies = batched(unwrap((yield commands)), 3)
        present: dict[LiveTarget, _Found | BackendError] = {}
        for (target, own), (hll, moved, raw) in zip(keys.items(), replies, strict=True):
            if hll or raw:
                present[target] = _Found(own, bool(moved), bool(raw))
            if raw and own.hll not in self._raw:
                try:
                    self._raw[own.hll] = yield from registers_of_raw(self._context, own.raw)
                except BackendError as error:
                    present[target] = error
        return present

    def _questions(self, found: _Found) -> list[Command]:
        """What has to be known of a bucket: of most the count is enough."""
        keys = found.keys
        questions: list[Command] = [("PFCOUNT", keys.hll)]
        if found.has_moves or found.has_raw or self._inspect:
            questions.append(("GET", keys.hll))
        if found.has_moves:
            questions += [("PFCOUNT", keys.moved), ("ZCOUNT", keys.moves, *ACTIVE), ("GET", keys.moved)]
        return questions

    def _reading(self, found: _Found, replies: Sequence[Any]) -> Readings:
        """The replies to :meth:`_questions`; with the ids of the raw set, if there is one."""
        count, hll, *of_moves = replies if len(replies) > 1 else (*replies, None)
        moved_count, back_count, moved_hll = of_moves or (0, 0, None)
        numbers = unwrap([count, moved_count, back_count])
        tracked, moved, back = (number(reply, "the sketch") for reply in numbers)
        if found.has_raw:
            registers = registers_of(hll)
            if registers is None:
                raise BackendResponseError(f"{UNREADABLE}, so the raw set is counted by collapse alone")
            np.maximum(registers, self._raw[found.keys.hll], out=registers)
            tracked, hll = cardinality(registers), codec.encode(registers)
        sketches = (sketch if isinstance(sketch, bytes) else b"" for sketch in (hll, moved_hll))
        return Readings(tracked, moved, back, *sketches)
