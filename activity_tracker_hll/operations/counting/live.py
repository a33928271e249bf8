"""Counting periods that are not collapsed yet, activity-tracker's raw sets included."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex

from ...backends.base import Command
from ...errors import BackendError, BackendResponseError
from ...estimates import Estimate
from ...keys import BucketKeys
from ...periods import Period
from ...scripts.calls import Readings
from ..base import UNCOUNTED, Aggregates, Context, Operation, batched, named, number, unwrap
from ..tracking.side_table import ACTIVE
from .aggregates import MOST_UNITED
from .legacy import copy_with_raw
from .sketches import estimates, union_by_server, union_of

__all__ = ["LiveTarget", "count_live"]

_BUCKETS_PER_BATCH = 500  # of up to two sketches each

LiveTarget = tuple[Period, str | None]
"""A bucket or aggregate of a period."""


def count_live(
    context: Context, wanted: Sequence[LiveTarget], aggregates: Aggregates
) -> Operation[dict[LiveTarget, Estimate]]:
    """The counts of targets that have a sketch or a raw set.

    Raises:
        BackendResponseError: a sketch that makes no sense, by name.
    """
    counter = _Counter(context)
    result: dict[LiveTarget, Estimate] = {}
    for batch in batched((target for target in wanted if target[1] not in aggregates), _BUCKETS_PER_BATCH):
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
        self._inspect = not context.ids.has_secret
        self.copies: list[str] = []

    def buckets(self, wanted: Sequence[LiveTarget]) -> Operation[dict[LiveTarget, Estimate]]:
        """The counts of buckets that have a sketch or a raw set."""
        present = yield from self._present(wanted)
        commands: list[Command] = []
        for keys in present.values():
            commands += [("PFCOUNT", keys.hll), ("PFCOUNT", keys.moved), ("ZCOUNT", keys.moves, *ACTIVE)]
            commands += [("GET", keys.hll), ("GET", keys.moved)]
        replies = iter((yield commands) if commands else ())
        readings: dict[LiveTarget, Readings] = {}
        for target in present:
            counts = [next(replies) for _ in range(3)]
            sketches = [reply if isinstance(reply := next(replies), bytes) else b"" for _ in range(2)]
            try:
                tracked, moved, back = (number(count, "the sketch") for count in unwrap(counts))
                readings[target] = Readings(tracked, moved, back, *sketches)
            except BackendResponseError as error:
                raise named(error, (target[0].name, target[1])) from error
        estimated = estimates(list(readings.values()), inspect=self._inspect)
        result: dict[LiveTarget, Estimate] = {}
        for target, count in zip(readings, estimated, strict=True):
            if isinstance(count, BackendError):
                raise named(count, (target[0].name, target[1])) from count
            result[target] = count
        return result

    def aggregate(
        self, period: Period, name: str, sources: Sequence[str | None]
    ) -> Operation[Estimate | None]:
        """The count of an aggregate; None if a source's sketch is gone, as the count would be too small."""
        try:
            return (yield from self._aggregate(period, name, list(dict.fromkeys(sources))))
        except BackendResponseError as error:
            raise named(error, (period.name, name)) from error

    def _aggregate(
        self, period: Period, name: str, sources: Sequence[str | None]
    ) -> Operation[Estimate | None]:
        counted = unwrap(
            (yield [("GET", self._context.keys.bucket(period.name, source).counted) for source in sources])
        )
        present = yield from self._present([(period, source) for source in sources])
        for source, count in zip(sources, counted, strict=True):
            if count not in UNCOUNTED and (period, source) not in present:
                return None
        keys = list(present.values())
        if not keys:
            return None
        moves = unwrap((yield [("EXISTS", bucket.moved) for bucket in keys]))
        if not any(moves) and not self._inspect and len(keys) <= MOST_UNITED:
            [count] = unwrap((yield [("PFCOUNT", *(bucket.hll for bucket in keys))]))
            return Estimate(number(count, "the union"))
        union = yield from union_of(keys, inspect=self._inspect)
        if union is not None:
            return union.count
        temporary = self._context.keys.temporary(period.name, name, token_hex(8))
        return (yield from union_by_server(keys, temporary))

    def _present(self, wanted: Sequence[LiveTarget]) -> Operation[dict[LiveTarget, BucketKeys]]:
        """The keys of targets that have a sketch; for one with a raw set, a sketch is made of both."""
        keys = {target: self._context.keys.bucket(target[0].name, target[1]) for target in wanted}
        commands: list[Command] = [
            ("EXISTS", key) for bucket in keys.values() for key in (bucket.hll, bucket.raw)
        ]
        replies = unwrap((yield commands))
        present: dict[LiveTarget, BucketKeys] = {}
        for target, hll, raw in zip(wanted, replies[::2], replies[1::2], strict=True):
            if raw:
                try:
                    present[target] = yield from self._with_raw(target, keys[target])
                except BackendError as error:
                    raise named(error, (target[0].name, target[1])) from error
            elif hll:
                present[target] = keys[target]
        return present

    def _with_raw(self, target: LiveTarget, keys: BucketKeys) -> Operation[BucketKeys]:
        """The bucket's keys, but with a temporary sketch that includes the ids of the raw set."""
        copy = self._context.keys.temporary(target[0].name, target[1], token_hex(8))
        yield from copy_with_raw(self._context, keys, copy)
        self.copies.append(copy)
        # _replace is public in a NamedTuple, in spite of its underscore.
        return keys._replace(hll=copy, raw=f"{copy}:none")
