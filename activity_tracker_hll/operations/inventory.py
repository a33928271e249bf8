"""The inventory of a namespace: which buckets and periods have keys, found by a scan."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BackendError
from ..keys import is_bucket
from ..periods import Period
from .base import Context, Operation
from .scans import scan_keys

__all__ = ["Entry", "inventory"]


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


def inventory(context: Context, missing: dict[str, BackendError] | None = None) -> Operation[list[Entry]]:
    """Everything that the namespace holds, sorted by kind, start and bucket.

    Args:
        context: what operations are planned with.
        missing: takes the masters of a cluster that do not answer; None = that is an error.

    Raises:
        BackendError: the server does not answer, or it cannot be known that nothing was left out.
    """
    parts_of: dict[tuple[Period, str | None], set[str]] = {}

    def take(keys: list[bytes]) -> None:
        for key in keys:
            found = context.keys.parse(key.decode("utf-8", "replace"))
            period = context.calendar.parse(found.period) if found else None
            if found and period and is_bucket(found.bucket):
                parts_of.setdefault((period, found.bucket), set()).add(found.part)

    yield from scan_keys(context.keys.pattern(), take, is_cluster=context.is_cluster, missing=missing)
    entries = [Entry(period, bucket, frozenset(parts)) for (period, bucket), parts in parts_of.items()]
    return sorted(entries, key=lambda entry: (entry.period.kind, entry.period.start, entry.bucket or ""))
