"""Reading stored counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import chain

from ...backends.base import Command
from ...errors import BackendDataError
from ...estimates import Estimate
from ...periods import Period
from ..base import Aggregates, Context, Operation, batched, number, unwrap, unwrap_of
from .live import LiveTarget, count_live

__all__ = ["Row", "RowWithGaps", "lookup"]

Row = tuple[date, dict[str | None, Estimate]]
"""The first day of a period (of an hour, its datetime), and its counts by bucket."""

RowWithGaps = tuple[date, dict[str | None, Estimate | None]]
"""A :data:`Row` in which None stands for absent data."""

_COUNTS_PER_BATCH = 20_000
_KEYS_PER_COMMAND = 4000
_FEW_DIGITS = 16  # all of them are possible counts


def lookup(
    context: Context,
    periods: Sequence[Period],
    buckets: Sequence[str | None],
    missing: int | None,
    live: bool,
    aggregates: Aggregates,
) -> Operation[list[RowWithGaps]]:
    """A row for each period, in the order given.

    Raises:
        BackendResponseError: a stored count or a sketch that makes no sense, by name.
    """
    absent = None if missing is None else Estimate(missing)
    rows: list[RowWithGaps] = []
    uncounted: list[tuple[dict[str | None, Estimate | None], LiveTarget]] = []
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
    """Rows of stored counts.

    Standard errors, of which few are stored, are asked for along with the counts: the server looks them up
    while the counts are being read.
    """
    names = [period.name for period in periods]
    keys = [key for name in names for key in context.keys.counts(name, buckets)]
    if not keys:
        return [{} for _ in names]
    error_keys = context.keys.stderrs(keys)
    commands: list[Command] = [
        ("MGET", *part) for wanted in (keys, error_keys) for part in batched(wanted, _KEYS_PER_COMMAND)
    ]
    replies: list[bytes | None] = list(chain.from_iterable(unwrap((yield commands))))
    values, errors = replies[: len(keys)], replies[len(keys) :]
    # One check of all values together: only if it fails are they parsed one by one.
    found = [value for value in values if value is not None]
    if all(found) and (b"".join(found) or b"0").isdigit() and max(map(len, found), default=0) < _FEW_DIGITS:
        counts = Estimate.plain(values)
    else:
        counts = [_parsed(value, key) for value, key in zip(values, keys, strict=True)]
    if len(found) < len(keys):
        yield from _check_absent([key for key, value in zip(keys, values, strict=True) if value is None])
    if errors.count(None) < len(errors):
        for index, (count, stderr) in enumerate(zip(counts, errors, strict=True)):
            if count is not None and stderr is not None:
                counts[index] = Estimate(int(count), _error(stderr, error_keys[index]))
    row_length = len(buckets)
    return [
        dict(zip(buckets, counts[row * row_length : (row + 1) * row_length], strict=True))
        for row in range(len(names))
    ]


def _check_absent(keys: Sequence[str]) -> Operation[None]:
    """Raise the error of a key that does not hold a string; MGET returns nil for these, too."""
    [existing] = unwrap((yield [("EXISTS", *keys)]))
    if existing:  # perhaps counted in the meantime
        for key, reply in zip(keys, (yield [("GET", key) for key in keys]), strict=True):
            unwrap_of(key, [reply])


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
