"""What a namespace holds, and what of it is to be collapsed. Pure: works on an inventory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from ..errors import ArgumentValueError
from ..operations import Entry
from ..periods import PERIODS, Calendar, Period

__all__ = ["ENDLESS", "Batch", "buckets_of", "check_known", "is_due", "kinds_of", "plan"]

ENDLESS = "endless"
"""A part like those of an inventory: the sketch was counted but has no expiry, though it should."""

_SKETCH = frozenset(("hll", "moved", "raw"))
_Buckets = tuple[str | None, ...]
_Aggregates = tuple[tuple[str, _Buckets], ...]


class Batch(NamedTuple):
    """Neighbouring periods of one kind with the same things to collapse: one call."""

    periods: tuple[Period, ...]
    buckets: _Buckets
    aggregates: _Aggregates


def buckets_of(entries: Iterable[Entry]) -> list[str | None]:
    """Distinct buckets, the unnamed one first."""
    return sorted({entry.bucket for entry in entries}, key=lambda bucket: bucket or "")


def kinds_of(entries: Iterable[Entry]) -> list[str]:
    """Kinds of period, shortest first."""
    found = {entry.period.kind for entry in entries}
    return [kind for kind in PERIODS if kind in found]


def check_known(aggregates: Mapping[str, Sequence[str | None]], entries: Iterable[Entry]) -> None:
    """Refuse aggregates of buckets that were never seen: a typing error would make them too small.

    Raises:
        ArgumentValueError: naming the aggregate and the bucket.
    """
    known = buckets_of(entries)
    for name, sources in aggregates.items():
        for source in sources:
            if source not in known:
                held = ", ".join(str(bucket) for bucket in known if bucket) or "none"
                raise ArgumentValueError(
                    f"aggregate {name!r} lists the unknown bucket {source!r} (there are: {held})"
                )


def is_due(parts: Collection[str], *, recount: bool = False) -> bool:
    """Whether a bucket of a past period with these parts is to be collapsed."""
    if recount:
        return not _SKETCH.isdisjoint(parts)
    # A raw set beside a count with its sketch came later; without its sketch nothing can be added. An
    # endless sketch is given its end, or counted, or its count is another program's: collapse says so.
    return not _SKETCH.isdisjoint(parts) and (
        "count" not in parts or {"raw", "hll"}.issubset(parts) or ENDLESS in parts
    )


def plan(
    entries: Iterable[Entry],
    calendar: Calendar,
    now: datetime,
    *,
    kinds: Collection[str] = (),
    buckets: Collection[str | None] = (),
    aggregates: Mapping[str, Sequence[str | None]] | None = None,
    recount: bool = False,
    date: datetime | None = None,
    max_periods: int | None = None,
) -> list[Batch]:
    """The calls that collapse what is held and due, nothing else: no zeros for what was never there.

    Args:
        kinds, buckets: only these; empty = all.
        date, max_periods: as of ActivityTracker.collapse(); neither = every period that is over.
    """
    due: dict[Period, tuple[_Buckets, _Aggregates]] = {}
    windows: dict[str, Collection[Period]] = {}
    ordered = sorted(entries, key=lambda entry: (entry.period.kind, entry.period.start, entry.bucket or ""))
    for period, of_period in groupby(ordered, key=lambda entry: entry.period):
        held = {entry.bucket: entry.parts for entry in of_period}
        if kinds and period.kind not in kinds:
            continue
        if period.start >= calendar.containing(period.kind, now if date is None else date).start:
            continue
        if date is not None or max_periods is not None:
            if period.kind not in windows:
                before = calendar.before(period.kind, date or now, max_periods or 1)
                windows[period.kind] = frozenset(before)
            if period not in windows[period.kind]:
                continue
        wanted = _due(held, buckets, aggregates or {}, recount)
        if any(wanted):
            due[period] = wanted
    return list(_batches(due))


def _due(
    held: Mapping[str | None, Collection[str]],
    buckets: Collection[str | None],
    aggregates: Mapping[str, Sequence[str | None]],
    recount: bool,
) -> tuple[_Buckets, _Aggregates]:
    unions: list[tuple[str, _Buckets]] = []
    for name, sources in aggregates.items():
        present = tuple(source for source in sources if source in held)
        countable = any(is_due(held[source], recount=True) for source in present)
        # What is not counted yet may have come after the aggregate was.
        is_open = "count" not in held.get(name, ()) or ENDLESS in held[name]
        if countable and (recount or is_open or any(is_due(held[source]) for source in present)):
            unions.append((name, present))
    chosen = {
        bucket
        for bucket, parts in held.items()
        if bucket not in aggregates and (not buckets or bucket in buckets) and is_due(parts, recount=recount)
    }
    # A call knows the buckets it lists; one that is counted already is left alone.
    chosen.update(source for _, sources in unions for source in sources)
    return tuple(sorted(chosen, key=lambda bucket: bucket or "")), tuple(unions)


def _batches(due: Mapping[Period, tuple[_Buckets, _Aggregates]]) -> Iterator[Batch]:
    run: list[Period] = []
    for period, wanted in due.items():
        if run and not (run[-1].next() == period and due[run[-1]] == wanted):
            yield Batch(tuple(run), *due[run[-1]])
            run = []
        run.append(period)
    if run:
        yield Batch(tuple(run), *due[run[-1]])
