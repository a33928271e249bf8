"""Reading stored counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from ..backends.base import Command
from ..errors import BackendError, BackendResponseError
from ..estimates import Estimate
from ..periods import Period
from .base import Aggregates, Context, Operation, batched, items, number, unwrap
from .live import Wanted, count_live

__all__ = ["Row", "lookup"]

Row = tuple[date, dict[str | None, Any]]
"""(first day, or for an hour its datetime; {bucket: Estimate, or what stands for absent data})"""

_COUNTS_PER_BATCH = 4000


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
    uncounted: list[tuple[dict[str | None, Any], Wanted]] = []
    for batch in batched(periods, max(1, _COUNTS_PER_BATCH // max(1, len(buckets)))):
        for period, counts in zip(batch, (yield from _stored(context, batch, buckets)), strict=True):
            rows.append((period.date, counts))
            for bucket, count in counts.items():
                if count is None:
                    counts[bucket] = absent
                    uncounted.append((counts, (period, bucket)))
    if live and uncounted:
        found = yield from count_live(context, [wanted for _, wanted in uncounted], aggregates)
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
    values, *hashes = yield [counts, *(("HGETALL", keys.stderr(name)) for name in names)]
    [numbers] = unwrap([values])
    result = []
    for place, (name, fields) in enumerate(zip(names, hashes, strict=True)):
        row = numbers[place * len(buckets) : (place + 1) * len(buckets)]
        try:
            estimates = Estimate.plain(row)
        except ValueError:
            estimates = [_parsed(value, name, bucket) for value, bucket in zip(row, buckets, strict=True)]
        found = dict(zip(buckets, estimates, strict=True))
        for bucket, stderr in _errors(fields, keys.stderr(name)):
            count = found.get(bucket)
            if count is not None:
                found[bucket] = Estimate(count, stderr)
        result.append(found)
    return result


def _parsed(value: bytes | None, period: str, bucket: str | None) -> Estimate | None:
    return None if value is None else Estimate(number(value, f"the count of {period} bucket {bucket!r}"))


def _errors(fields: Any, key: str) -> list[tuple[str | None, float]]:
    """Stored standard errors by bucket."""
    if isinstance(fields, BackendError):
        raise BackendResponseError(f"{key}: {fields}") from fields
    flat = items(fields)
    try:
        found = [
            (bucket.decode() or None, float(stderr))
            for bucket, stderr in zip(flat[::2], flat[1::2], strict=True)
        ]
    except ValueError as error:
        raise BackendResponseError(f"{key} holds what is no standard error: {error}") from error
    for bucket, stderr in found:
        if not stderr >= 0:
            raise BackendResponseError(f"{key} holds {stderr} for bucket {bucket!r}, no standard error")
    return found
