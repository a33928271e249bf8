"""Counting what is not collapsed yet, activity-tracker's raw sets included."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from math import inf
from secrets import token_hex
from typing import Any

from ..backends.base import Command
from ..errors import BackendError, BackendResponseError
from ..estimates import Estimate
from ..keys import BucketKeys
from ..periods import Period
from .base import Aggregates, Context, Operation, batched, items, named, number, unwrap
from .collapse import aggregate_call
from .legacy import copy_with_raw
from .sketches import Moved, estimate_buckets, estimate_union, suspects, union_from_counts

__all__ = ["Wanted", "count_live"]

_BUCKETS_PER_BATCH = 4000

Wanted = tuple[Period, str | None]
"""A bucket or aggregate of a period."""


def count_live(
    context: Context, wanted: Sequence[Wanted], aggregates: Aggregates
) -> Operation[dict[Wanted, Estimate]]:
    """Counts of those that have a sketch or a raw set.

    Raises:
        BackendResponseError: a sketch that makes no sense, by name.
    """
    counter = _Counter(context)
    result: dict[Wanted, Estimate] = {}
    for batch in batched((place for place in wanted if place[1] not in aggregates), _BUCKETS_PER_BATCH):
        result |= yield from counter.buckets(batch)
    for period, name in wanted:
        if name is not None and name in aggregates:
            count = yield from counter.aggregate(period, name, aggregates[name])
            if count is not None:
                result[period, name] = count
    if counter.copies:
        unwrap((yield [("DEL", *counter.copies)]))
    return result


class _Counter:
    """One live count; remembers the temporary sketches it made."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.copies: list[str] = []

    def buckets(self, wanted: Sequence[Wanted]) -> Operation[dict[Wanted, Estimate]]:
        """Counts of buckets that have a sketch or a raw set."""
        keys = {place: self._context.keys.bucket(place[0].name, place[1]) for place in wanted}
        commands: list[Command] = [
            command for of in keys.values() for command in (("EXISTS", of.hll), ("EXISTS", of.raw))
        ]
        replies = unwrap((yield commands))
        present: dict[Wanted, BucketKeys] = {}
        for place, hll, raw in zip(wanted, replies[::2], replies[1::2], strict=True):
            if raw:
                present[place] = yield from self._with_raw(place, keys[place])
            elif hll:
                present[place] = keys[place]
        return (yield from self._estimates(present)) if present else {}

    def aggregate(
        self, period: Period, name: str, sources: Sequence[str | None]
    ) -> Operation[Estimate | None]:
        """None where the sketch of a source is gone: there is nothing whole to count."""
        keys = [self._context.keys.bucket(period.name, source) for source in sources]
        detailed, doubted = False, not self._context.ids.has_secret
        while True:
            [reply] = yield [
                aggregate_call(self._context, period.name, name, keys, "count", detail=str(int(detailed)))
            ]
            try:
                state, *numbers = items(unwrap([reply])[0])
            except BackendResponseError as error:
                raise named(error, period.name, name) from error
            if state == b"COUNTED":
                [suspect] = yield from suspects(self._context, [[of.hll for of in keys]], numbers)
                return Estimate(numbers[0], inf if suspect else None)
            if state == b"MOVES":
                if detailed:
                    return union_from_counts(numbers)
                try:
                    estimate = yield from estimate_union(keys, doubted=doubted)
                except BackendResponseError as error:
                    raise named(error, period.name, name) from error
                if estimate is not None:
                    return estimate
                detailed = True
                continue
            if state != b"RAW":
                return None
            for place in numbers:
                keys[place] = yield from self._with_raw((period, sources[place]), keys[place])

    def _estimates(self, present: dict[Wanted, BucketKeys]) -> Operation[dict[Wanted, Estimate]]:
        replies = yield [
            command
            for of in present.values()
            for command in (("PFCOUNT", of.hll), ("PFCOUNT", of.moved), ("SCARD", of.back))
        ]
        result: dict[Wanted, Estimate] = {}
        moves: dict[Wanted, Moved] = {}
        for at, place in enumerate(present):
            tracked, moved, back = _numbers(replies[3 * at : 3 * at + 3], place[0].name, place[1])
            if moved:
                moves[place] = Moved(present[place], tracked, moved, back, not self._context.ids.has_secret)
            else:
                result[place] = Estimate(tracked)
        keys = [[present[place].hll] for place in result]
        found = yield from suspects(self._context, keys, list(result.values()))
        result |= {place: Estimate(result[place], inf) for place in compress(list(result), found)}
        made = yield from estimate_buckets(list(moves.values()))
        for (period, bucket), estimate in zip(moves, made, strict=True):
            if isinstance(estimate, BackendError):
                raise named(estimate, period.name, bucket) from estimate
            result[period, bucket] = estimate
        return result

    def _with_raw(self, place: Wanted, keys: BucketKeys) -> Operation[BucketKeys]:
        """The bucket's keys with a sketch, of this count's own, that has the raw set's ids too."""
        copy = self._context.keys.temporary(place[0].name, place[1], token_hex(8))
        yield from copy_with_raw(self._context, keys, copy)
        self.copies.append(copy)
        return keys._replace(hll=copy, raw=f"{copy}:none")


def _numbers(replies: Sequence[Any], period: str, bucket: str | None) -> list[int]:
    try:
        return [number(reply, "the sketch") for reply in unwrap(list(replies))]
    except BackendResponseError as error:
        raise named(error, period, bucket) from error
