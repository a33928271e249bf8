"""Collapsing all that is due: an inventory finds it, and a plan does it in as few calls as possible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from ..backends.base import Command
from ..errors import ArgumentValueError, BackendError, BackendResponseError, CollapseError
from ..messages import printable, shown
from ..periods import PERIODS, Calendar, Period, PeriodKind
from ..scripts.calls import AWAITED_FROM
from ..words import did_you_mean, first_of
from .base import Context, Failures, Operation, about_failures, batched, items
from .counting import Collapsed, Scope, collapse
from .counting.marks import FindUncounted, take_marks, warned_of
from .inventory import Entry, inventory
from .many_keys import without_zeros

__all__ = [
    "UNEXPIRING",
    "Batch",
    "Wanted",
    "buckets_of",
    "check_known",
    "collapse_due",
    "is_due",
    "kinds_of",
    "looked_into",
    "lost_unions",
    "plan",
    "uncounted_by_scan",
]

UNEXPIRING = "unexpiring"
"""A part like those of an inventory: the sketch was counted and should expire, but has no expiry."""

_SKETCH = frozenset(("hll", "moved", "raw"))
_KEYS_PER_BATCH = 1000
_NAMES_SHOWN = 20
_Buckets = tuple[str | None, ...]
_Aggregates = tuple[tuple[str, _Buckets], ...]


class Batch(NamedTuple):
    """Adjacent periods of one kind in which the same things are to be collapsed, by one call."""

    periods: tuple[Period, ...]
    buckets: _Buckets
    aggregates: _Aggregates


def buckets_of(entries: Iterable[Entry]) -> list[str | None]:
    """The distinct buckets, the unnamed one first."""
    return sorted({entry.bucket for entry in entries}, key=lambda bucket: bucket or "")


def kinds_of(entries: Iterable[Entry]) -> list[PeriodKind]:
    """The kinds of period, shortest first."""
    found = {entry.period.kind for entry in entries}
    return [kind for kind in PERIODS if kind in found]


def check_known(
    buckets: Iterable[str | None], aggregates: Mapping[str, Sequence[str | None]], entries: Iterable[Entry]
) -> None:
    """Refuse buckets and sources without any data: a misspelled name would make a count too small.

    Raises:
        ArgumentValueError: naming the bucket, and the aggregate that lists it.
    """
    known = buckets_of(entries)
    for bucket in buckets:
        if bucket not in known:
            raise ArgumentValueError(_no_such_bucket(bucket, known))
    for name, sources in aggregates.items():
        for source in sources:
            if source not in known:
                raise ArgumentValueError(f"aggregate {shown(name)}: {_no_such_bucket(source, known)}")


def _no_such_bucket(bucket: str | None, known: Sequence[str | None]) -> str:
    """What is said of a bucket without data: the name that was probably meant, and all that there are."""
    names = [name for name in known if name is not None]
    meant = did_you_mean(bucket, names)
    listed = [*(["the unnamed one"] if None in known else []), *map(printable, names)]
    there_are = f"there are: {first_of(listed, _NAMES_SHOWN, ', ')}" if listed else "there are none yet"
    called = "no such bucket " + shown(bucket) if bucket is not None else "nothing in the unnamed bucket"
    return f"{called}{meant} ({there_are})"


def is_due(parts: Collection[str], *, recount: bool = False) -> bool:
    """Whether a bucket of a past period with these parts has to be collapsed."""
    if recount:
        return not _SKETCH.isdisjoint(parts)
    # A raw set beside a count and its sketch came later; without the sketch nothing can be added. A sketch
    # without expiry is given one, or counted, or its count is another program's, which collapse reports.
    return not _SKETCH.isdisjoint(parts) and (
        "count" not in parts or {"raw", "hll"}.issubset(parts) or UNEXPIRING in parts
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the things that are due are to be collapsed.

    Attributes:
        kinds: only these kinds of period; empty = all.
        buckets: only these buckets; None = all.
        aggregates: aggregates to count in addition, where a source has a sketch.
        strict: names of those that were asked for: all their sources must have data, and one that cannot be
            counted anywhere is a failure.
        recount: also count what was counted before.
        date: as in :meth:`.ActivityTracker.collapse`.
        max_periods: likewise.
    """

    kinds: Collection[str] = ()
    buckets: Collection[str | None] | None = None
    aggregates: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    strict: Collection[str] = ()
    recount: bool = False
    date: datetime | None = None
    max_periods: int | None = None


def collapse_due(
    context: Context, wanted: Wanted, now: datetime, progress: Callable[[int, int], object] | None
) -> Operation[list[Collapsed]]:
    """Collapse everything that is due; see :meth:`.ActivityTracker.collapse_due`.

    Raises:
        ArgumentValueError: a bucket, or a source of an aggregate, has no data.
        CollapseError: something could not be collapsed; everything else was.
        BackendError: nothing was collapsed.
    """
    entries = yield from looked_into(context, (yield from inventory(context)))
    strict = {name: wanted.aggregates[name] for name in wanted.strict}
    check_known(() if wanted.buckets is None else wanted.buckets, strict, entries)
    batches = plan(entries, context.calendar, now, wanted)
    done: list[Collapsed] = []
    counted = {name for batch in batches for name, _ in batch.aggregates}
    failures: Failures = [
        (
            period,
            name,
            BackendResponseError(f"the sketches of {gone} are gone, here and before: its union is lost"),
        )
        for name, period, gone in lost_unions(
            entries, {name: strict[name] for name in strict if name not in counted}
        )
    ]
    for number, batch in enumerate(batches, 1):
        try:
            done += yield from collapse(
                context,
                batch.periods,
                Scope(batch.buckets, dict(batch.aggregates)),
                recount=wanted.recount,
                idle=None,
            )
        except CollapseError as error:
            failures += error.failures
            done += error.collapsed
        if progress is not None:
            progress(number, len(batches))

    try:
        over = dict.fromkeys(entry.period.name for entry in entries if _is_over(entry, context.calendar, now))
        yield from take_marks(context, over, uncounted_by_scan(context))
    except BackendError as error:
        failures.append((context.keys.open, None, error))
    if failures:
        raise CollapseError(about_failures(failures, "collapsed"), failures, done)
    return done


def lost_unions(
    entries: Iterable[Entry], aggregates: Mapping[str, Sequence[str | None]]
) -> Iterator[tuple[str, str, list[str | None]]]:
    """Aggregates that were never counted, each with the newest period in which that is too late.

    Yields:
        The aggregate, the period's name, and the sources whose sketches are gone.
    """
    for name, sources in aggregates.items():
        own = [entry for entry in entries if entry.bucket == name or entry.bucket in sources]
        if any(entry.bucket == name and "count" in entry.parts for entry in own):
            continue
        gone = [entry for entry in own if "count" in entry.parts and "hll" not in entry.parts]
        if gone:
            newest = max((entry.period for entry in gone), key=lambda period: period.start)
            yield name, newest.name, [entry.bucket for entry in gone if entry.period == newest]


def uncounted_by_scan(context: Context) -> FindUncounted:
    """What finds uncounted data of any bucket."""

    def find(names: Collection[str]) -> Operation[set[str]]:
        found = yield from looked_into(context, (yield from inventory(context)))
        due = {entry.period.name for entry in found if is_due(entry.parts - {UNEXPIRING})} & set(names)
        rest = filter(None, map(context.calendar.parse, sorted(set(names) - due)))
        return due | (yield from warned_of(context, rest, buckets_of(found)))

    return find


def _is_over(entry: Entry, calendar: Calendar, now: datetime) -> bool:
    """Whether the entry's period has ended."""
    return entry.period.start < calendar.containing(entry.period.kind, now).start


def looked_into(context: Context, entries: Iterable[Entry]) -> Operation[list[Entry]]:
    """Entries with what an inventory does not see.

    Collapsed sketches that should expire and have no expiry have the part UNEXPIRING. Where what is stored is
    only a 0, as activity-tracker stored it for what it never saw, there is no part ``count``.

    Raises:
        BackendError: the server does not answer.
    """
    result: list[Entry] = []
    for batch in batched(entries, _KEYS_PER_BATCH):
        stored = [
            (entry, context.keys.bucket(entry.period.name, entry.bucket))
            for entry in batch
            if "count" in entry.parts and not _SKETCH.isdisjoint(entry.parts)
        ]
        commands: list[Command] = [
            command for _, keys in stored for command in (("GET", keys.counted), ("TTL", keys.hll))
        ]
        *replies, time = (yield [*commands, ("TIME",)]) if commands else [None]
        # Who may not ask for the time takes an expiry for one that stands.
        now = 0 if time is None or isinstance(time, BackendError) else int(items(time)[0])
        counts = yield from without_zeros([keys.counted for _, keys in stored], replies[::2])
        changed: dict[Entry, Entry] = {}
        for (entry, _), count, ttl in zip(stored, counts, replies[1::2], strict=True):
            has_end = isinstance(ttl, int) and ttl != -1 and now + ttl < AWAITED_FROM
            is_kept = context.keep(entry.period.kind) is None
            unexpiring = not (has_end or is_kept) and "hll" in entry.parts
            if count is None:
                changed[entry] = replace(entry, parts=entry.parts - {"count"})
            elif unexpiring:
                changed[entry] = replace(entry, parts=entry.parts | {UNEXPIRING})
        result += [changed.get(entry, entry) for entry in batch]
    return result


def plan(entries: Iterable[Entry], calendar: Calendar, now: datetime, wanted: Wanted) -> list[Batch]:
    """The calls that collapse what is due and nothing else: no zeros are stored for what was never there."""
    due: dict[Period, tuple[_Buckets, _Aggregates]] = {}
    windows: dict[str, Collection[Period]] = {}
    date, max_periods = wanted.date, wanted.max_periods
    ordered = sorted(entries, key=lambda entry: (entry.period.kind, entry.period.start, entry.bucket or ""))
    for period, entries_of in groupby(ordered, key=lambda entry: entry.period):
        parts_of = {entry.bucket: entry.parts for entry in entries_of}
        if wanted.kinds and period.kind not in wanted.kinds:
            continue
        if period.start >= calendar.containing(period.kind, now if date is None else date).start:
            continue
        if max_periods is not None:
            if period.kind not in windows:
                windows[period.kind] = frozenset(calendar.before(period.kind, date or now, max_periods))
            if period not in windows[period.kind]:
                continue
        chosen = _due(parts_of, wanted)
        if any(chosen):
            due[period] = chosen
    return list(_batches(due))


def _due(parts_of: Mapping[str | None, Collection[str]], wanted: Wanted) -> tuple[_Buckets, _Aggregates]:
    aggregates, buckets, recount = wanted.aggregates, wanted.buckets, wanted.recount
    unions: list[tuple[str, _Buckets]] = []
    for name, sources in aggregates.items():
        present = tuple(source for source in sources if source in parts_of)
        countable = any(is_due(parts_of[source], recount=True) for source in present)
        # An uncounted source may have come after the aggregate was counted.
        is_open = "count" not in parts_of.get(name, ()) or UNEXPIRING in parts_of[name]
        if countable and (recount or is_open or any(is_due(parts_of[source]) for source in present)):
            unions.append((name, present))
    chosen = {
        bucket
        for bucket, parts in parts_of.items()
        if bucket not in aggregates
        and (buckets is None or bucket in buckets)
        and is_due(parts, recount=recount)
    }
    # A call must list the sources of its aggregates; those counted already are left alone.
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
