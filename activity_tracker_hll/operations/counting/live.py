"""Counting what is not collapsed yet, activity-tracker's raw sets included."""

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

__all__ = ["Wanted", "count_live"]

_BUCKETS_PER_BATCH = 500  # of up to two sketches each

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
        self._look = not context.ids.has_secret
        self.copies: list[str] = []

    def buckets(self, wanted: Sequence[Wanted]) -> Operation[dict[Wanted, Estimate]]:
        """Counts of buckets that have a sketch or a raw set."""
        present = yield from self._present(wanted)
        commands: list[Command] = []
        for keys in present.values():
            sketches = [("PFCOUNT", keys.hll), ("PFCOUNT", keys.moved)]
            read = [("GET", keys.hll), ("GET", keys.moved)]
            commands += [*sketches, ("ZCOUNT", keys.moves, *ACTIVE), *read]
        replies = iter((yield commands) if commands else ())
        readings: dict[Wanted, Readings] = {}
        for target in present:
            counts = [next(replies) for _ in range(3)]
            held = [reply if isinstance(reply := next(replies), bytes) else b"" for _ in range(2)]
            try:
                tracked, moved, back = (number(count, "the sketch") for count in unwrap(counts))
                readings[target] = Readings(tracked, moved, back, *held)
            except BackendResponseError as error:
                raise named(error, (target[0].name, target[1])) from error
        made = estimates(list(readings.values()), look=self._look)
        result: dict[Wanted, Estimate] = {}
        for target, count in zip(readings, made, strict=True):
            if isinstance(count, BackendError):
                raise named(count, (target[0].name, target[1])) from count
            result[target] = count
        return result

    def aggregate(
        self, period: Period, name: str, sources: Sequence[str | None]
    ) -> Operation[Estimate | None]:
        """None where the sketch of a source is gone: there is nothing whole to count."""
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
        moves = unwrap((yield [("EXISTS", of.moved) for of in keys]))
        if not any(moves) and not self._look and len(keys) <= MOST_UNITED:
            [count] = unwrap((yield [("PFCOUNT", *(of.hll for of in keys))]))
            return Estimate(number(count, "the union"))
        union = yield from union_of(keys, look=self._look)
        if union is not None:
            return union.count
        temporary = self._context.keys.temporary(period.name, name, token_hex(8))
        return (yield from union_by_server(keys, temporary))

    def _present(self, wanted: Sequence[Wanted]) -> Operation[dict[Wanted, BucketKeys]]:
        """The keys of those that have a sketch; one with a raw set is given one."""
        keys = {target: self._context.keys.bucket(target[0].name, target[1]) for target in wanted}
        commands: list[Command] = [("EXISTS", key) for of in keys.values() for key in (of.hll, of.raw)]
        replies = unwrap((yield commands))
        present: dict[Wanted, BucketKeys] = {}
        for target, hll, raw in zip(wanted, replies[::2], replies[1::2], strict=True):
            if raw:
                try:
                    present[target] = yield from self._with_raw(target, keys[target])
                except BackendError as error:
                    raise named(error, (target[0].name, target[1])) from error
            elif hll:
                present[target] = keys[target]
        return present

    def _with_raw(self, target: Wanted, keys: BucketKeys) -> Operation[BucketKeys]:
        """The bucket's keys with a sketch, of this count's own, that has the raw set's ids too."""
        copy = self._context.keys.temporary(target[0].name, target[1], token_hex(8))
        yield from copy_with_raw(self._context, keys, copy)
        self.copies.append(copy)
        return keys._replace(hll=copy, raw=f"{copy}:none")
