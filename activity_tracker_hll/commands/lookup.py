"""Reading stored counts, and counting live what is not collapsed yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from ..backends.base import Command
from ..errors import BackendResponseError
from ..estimates import Estimate
from ..keys import BucketKeys
from ..periods import Period
from .base import Aggregates, Context, Operation, batched, items, named, number, unwrap
from .collapse import aggregate_call, estimate_bucket, estimate_union
from .legacy import copy_with_raw

__all__ = ["Row", "lookup"]

Row = tuple[date, dict[str | None, Any]]
"""(first day, or for an hour its datetime; {bucket: Estimate, or what stands for absent data})"""

_COUNTS_PER_BATCH = 4000
_TEMPORARY_SECONDS = 60

_Wanted = tuple[Period, str | None]


def lookup(
    context: Context,
    periods: Sequence[Period],
    buckets: Sequence[str | None],
    missing: int | None,
    live: bool,
    aggregates: Aggregates,
) -> Operation[list[Row]]:
    """A row for each period, in the order given.

    Raises:
        BackendResponseError: a stored count or a sketch that makes no sense, by name.
    """
    absent = None if missing is None else Estimate(missing)
    rows: list[Row] = []
    uncounted: list[tuple[dict[str | None, Any], _Wanted]] = []
    for batch in batched(periods, max(1, _COUNTS_PER_BATCH // max(1, len(buckets)))):
        for period, counts in zip(batch, (yield from _stored(context, batch, buckets)), strict=True):
            rows.append((period.date, counts))
            for bucket, count in counts.items():
                if count is None:
                    counts[bucket] = absent
                    uncounted.append((counts, (period, bucket)))
    if live and uncounted:
        found = yield from _live(context, [wanted for _, wanted in uncounted], aggregates)
        for counts, wanted in uncounted:
            counts[wanted[1]] = found.get(wanted, absent)
    return rows


def _stored(
    context: Context, periods: Sequence[Period], buckets: Sequence[str | None]
) -> Operation[list[dict[str | None, Estimate | None]]]:
    keys = context.keys
    suffixes = [keys.suffix(bucket) for bucket in buckets]
    names = [period.name for period in periods]
    counts: Command = ("MGET", *(key for name in names for key in keys.counts(name, suffixes)))
    values, *hashes = unwrap((yield [counts, *(("HGETALL", keys.stderr(name)) for name in names)]))
    result = []
    for place, (name, fields) in enumerate(zip(names, hashes, strict=True)):
        row = values[place * len(buckets) : (place + 1) * len(buckets)]
        try:
            estimates = Estimate.plain(row)
        except ValueError:
            estimates = [_parsed(value, name, bucket) for value, bucket in zip(row, buckets, strict=True)]
        found = dict(zip(buckets, estimates, strict=True))
        flat = items(fields)
        for field, stderr in zip(flat[::2], flat[1::2], strict=True):
            bucket = field.decode() or None
            count = found.get(bucket)
            if count is not None:
                found[bucket] = Estimate(count, float(stderr))
        result.append(found)
    return result


def _parsed(value: bytes | None, period: str, bucket: str | None) -> Estimate | None:
    return None if value is None else Estimate(number(value, f"the count of {period} bucket {bucket!r}"))


def _live(
    context: Context, wanted: Sequence[_Wanted], aggregates: Aggregates
) -> Operation[dict[_Wanted, Estimate]]:
    """Counts of what has a sketch or a raw set."""
    result: dict[_Wanted, Estimate] = {}
    plain = [place for place in wanted if place[1] not in aggregates]
    for batch in batched(plain, _COUNTS_PER_BATCH):
        result |= yield from _live_buckets(context, batch)
    for period, name in wanted:
        if name is not None and name in aggregates:
            sources = [context.keys.bucket(period.name, source) for source in aggregates[name]]
            count = yield from _live_aggregate(context, period, name, sources)
            if count is not None:
                result[period, name] = count
    return result


def _live_buckets(context: Context, wanted: Sequence[_Wanted]) -> Operation[dict[_Wanted, Estimate]]:
    keys = {place: context.keys.bucket(place[0].name, place[1]) for place in wanted}
    commands: list[Command] = [
        command for of in keys.values() for command in (("EXISTS", of.hll), ("EXISTS", of.raw))
    ]
    replies = unwrap((yield commands))
    present = {}
    for place, hll, raw in zip(wanted, replies[::2], replies[1::2], strict=True):
        if raw:
            keys[place] = yield from _with_raw(context, place, keys[place])
        if hll or raw:
            present[place] = keys[place]
    if not present:
        return {}
    commands = [
        command
        for of in present.values()
        for command in (("PFCOUNT", of.hll), ("PFCOUNT", of.moved), ("SCARD", of.back))
    ]
    replies = yield commands
    result = {}
    for at, place in enumerate(present):
        name, bucket = place[0].name, place[1]
        numbers = _numbers(replies[3 * at : 3 * at + 3], name, bucket)
        result[place] = estimate_bucket(*numbers)
    return result


def _live_aggregate(
    context: Context, period: Period, name: str, sources: list[BucketKeys]
) -> Operation[Estimate | None]:
    """None where the sketch of a source is gone: there is nothing whole to count."""
    while True:
        [reply] = yield [aggregate_call(context, period.name, name, sources, "count")]
        try:
            state, *numbers = items(unwrap([reply])[0])
        except BackendResponseError as error:
            raise named(error, period.name, name) from error
        if state == b"RAW":
            for place in numbers:
                sources[place] = yield from _with_raw(context, (period, f"{name}:{place}"), sources[place])
        elif state == b"MOVES":
            return estimate_union(numbers)
        else:
            return Estimate(numbers[0]) if state == b"COUNTED" else None


def _with_raw(context: Context, place: _Wanted, keys: BucketKeys) -> Operation[BucketKeys]:
    """The bucket's keys with a sketch that has the raw set's ids too."""
    copy = context.keys.temporary(place[0].name, place[1], "live")
    yield from copy_with_raw(context, keys, copy, _TEMPORARY_SECONDS)
    return keys._replace(hll=copy, raw=f"{copy}:none")


def _numbers(replies: Sequence[Any], period: str, bucket: str | None) -> list[int]:
    try:
        return [number(reply, "the sketch") for reply in unwrap(list(replies))]
    except BackendResponseError as error:
        raise named(error, period, bucket) from error
