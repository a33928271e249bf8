"""Reading stored counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from ...errors import BackendDataError
from ...estimates import Estimate
from ...periods import Period
from ..base import Aggregates, Context, Operation, batched, number, unwrap
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
    """Rows of stored counts; standard errors, of which there are few, are asked for after them."""
    names = [period.name for period in periods]
    keys = [key for name in names for key in context.keys.counts(name, buckets)]
    if not keys:
        return [{} for _ in names]
    [values] = unwrap((yield [("MGET", *keys)]))
    try:
        counts = Estimate.plain(values)
    except ValueError:
        counts = [_parsed(value, key) for value, key in zip(values, keys, strict=True)]
    known = [place for place, count in enumerate(counts) if count]
    if known:
        errors = context.keys.stderrs(keys[place] for place in known)
        [stderrs] = unwrap((yield [("MGET", *errors)]))
        for place, key, stderr in zip(known, errors, stderrs, strict=True):
            if stderr is not None:
                counts[place] = Estimate(int(counts[place] or 0), _error(stderr, key))
    width = len(buckets)
    return [
        dict(zip(buckets, counts[row * width : (row + 1) * width], strict=True)) for row in range(len(names))
    ]


def _parsed(value: bytes | None, key: str) -> Estimate | None:
    return None if value is None else Estimate(number(value, key))


def _error(value: bytes, key: str) -> float:
    """A stored standard error."""
    try:
        stderr = float(value)
    except ValueError as error:
        raise BackendDataError(f"{key} holds {value[:40]!r}, no standard error") from error
    if not stderr >= 0:
        raise BackendDataError(f"{key} holds {stderr}, no standard error")
    return stderr
