"""Finding out what a namespace holds, by SCAN."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ActivityTrackerError
from ..keys import check_bucket
from ..periods import Period
from .base import Context, Operation, items, unwrap

__all__ = ["Entry", "inventory"]

_KEYS_PER_SCAN = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """What the server holds of one bucket in one period.

    Attributes:
        period: which period.
        bucket: which bucket; None = the unnamed one.
        parts: of ``count`` (collapsed), ``stderr`` (its standard error), ``hll`` (sketch), ``moved``,
            ``moves`` (ids that moved) and ``raw`` (a set of activity-tracker).
    """

    period: Period
    bucket: str | None
    parts: frozenset[str]


def inventory(context: Context) -> Operation[list[Entry]]:
    """Everything there is, by kind, start and bucket."""
    found: dict[tuple[Period, str | None], set[str]] = {}
    cursor: bytes | int = 0
    while True:
        command = ("SCAN", cursor, "MATCH", context.keys.pattern(), "COUNT", _KEYS_PER_SCAN)
        cursor, keys = items(unwrap((yield [command]))[0])
        for key in keys:
            about = context.keys.parse(key.decode("utf-8", "replace"))
            period = context.calendar.parse(about.period) if about else None
            if about and period and _is_bucket(about.bucket):
                found.setdefault((period, about.bucket), set()).add(about.part)
        if int(cursor) == 0:
            break
    entries = [Entry(period, bucket, frozenset(parts)) for (period, bucket), parts in found.items()]
    return sorted(entries, key=lambda entry: (entry.period.kind, entry.period.start, entry.bucket or ""))


def _is_bucket(bucket: str | None) -> bool:
    """Other programs' keys may look like counts of buckets that no call accepts."""
    try:
        check_bucket(bucket)
    except ActivityTrackerError:
        return False
    return True
