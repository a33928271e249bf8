"""The inventory of a namespace: which buckets and periods have keys, found by SCAN."""

from __future__ import annotations

from dataclasses import dataclass

from ..keys import is_bucket
from ..periods import Period
from .base import Context, Operation, items, unwrap

__all__ = ["Entry", "inventory"]

_KEYS_PER_SCAN = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """What the server holds for one bucket in one period.

    Attributes:
        period: the period.
        bucket: the bucket; None = the unnamed one.
        parts: some of ``count`` (collapsed), ``stderr`` (its standard error), ``hll`` (sketch), ``moved``,
            ``moves`` (ids that moved) and ``raw`` (a set of activity-tracker).
    """

    period: Period
    bucket: str | None
    parts: frozenset[str]


def inventory(context: Context) -> Operation[list[Entry]]:
    """Everything that the namespace holds, sorted by kind, start and bucket."""
    parts_of: dict[tuple[Period, str | None], set[str]] = {}
    cursor: bytes | int = 0
    while True:
        command = ("SCAN", cursor, "MATCH", context.keys.pattern(), "COUNT", _KEYS_PER_SCAN)
        cursor, keys = items(unwrap((yield [command]))[0])
        for key in keys:
            found = context.keys.parse(key.decode("utf-8", "replace"))
            period = context.calendar.parse(found.period) if found else None
            if found and period and is_bucket(found.bucket):
                parts_of.setdefault((period, found.bucket), set()).add(found.part)
        if int(cursor) == 0:
            break
    entries = [Entry(period, bucket, frozenset(parts)) for (period, bucket), parts in parts_of.items()]
    return sorted(entries, key=lambda entry: (entry.period.kind, entry.period.start, entry.bucket or ""))
