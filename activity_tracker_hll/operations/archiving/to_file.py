"""From what a server holds to a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from ...archives import ArchiveFile, Changes, Head, Record, stand_ins, united, with_members
from ...backends.base import Command
from ...errors import ArchiveError, ArgumentValueError, BackendDataError, BackendError, SettingsMismatchError
from ...messages import printable
from ..base import (
    Context,
    Failures,
    Operation,
    PeriodBucket,
    about_failures,
    batched,
    number,
    unwrap,
    unwrap_of,
)
from ..counting.legacy import registers_of_raw
from ..counting.overdue import marked_in
from ..counting.sketches import UNREADABLE, registers_of
from ..handshake import fields_of
from ..inventory import Entry, inventory
from ..settings import REDEFINED, DataSettings, field_of, redefinitions
from ..tracking.side_table import Range, read_members
from .chosen import Chosen, check_agreement

__all__ = ["Archived", "archive"]

_RECORDS_PER_BATCH = 100  # of up to two sketches each
_IDS_PER_BATCH = 200_000
_EVERYTHING = ("-inf", "+inf")


@dataclass(frozen=True, slots=True)
class Archived:
    """What :meth:`.ActivityTracker.archive` did.

    Attributes:
        read: how many buckets, counted in each period, were read from the server.
        changed: how many of those differ from what the archive had.
        held: how many the archive has now.
    """

    read: int
    changed: int
    held: int


def archive(
    context: Context, chosen: Chosen, file: ArchiveFile, new: Head, tables: bool | None, now: datetime
) -> Operation[Archived]:
    """Unite what an archive has with what the server holds; see :meth:`.ActivityTracker.archive`.

    Args:
        context: what operations are planned with.
        chosen: what is archived.
        file: where.
        new: the head of an archive that does not exist yet.
        tables: whether tables of moves are to be in it; None = as they are.
        now: the moment as of which everything is archived.

    Raises:
        ArchiveError: of the file; or some buckets could not be read.
        SettingsMismatchError: the archive is of other data.
        BackendError: nothing was archived.
    """
    chosen = chosen.with_sources(context)
    meta = context.keys.meta
    failures: Failures = []
    with file.writing(new) as changes:  # before the server is looked at, so that nobody writes in between
        _check_same(changes.head, new, tables)
        stored, marks = yield [("HGETALL", meta), ("SMEMBERS", context.keys.open)]
        settings = _settings(context, fields_of(unwrap_of(meta, [stored])[0]), chosen)
        check_agreement(settings, changes.head.settings, "the server", "the archive")
        entries = [
            entry
            for entry in (yield from inventory(context))
            if chosen.has(context.calendar, entry.period, entry.bucket)
        ]
        entries.sort(key=lambda entry: entry.bucket in context.aggregates)
        in_full: set[PeriodBucket] = set()
        for batch in batched(entries, _RECORDS_PER_BATCH):
            failures += yield from _take(context, batch, changes, in_full)
        _mark_parts(context, chosen, entries, failures, changes)
        changes.head = _after(context, changes.head, new, settings, chosen, now)
        changes.head = replace(changes.head, open=_open(context, changes.head, chosen, marked_in(marks)))
    if failures:
        raise ArchiveError(about_failures(failures, "archived"), failures)
    return Archived(len(entries), changes.changed, len(changes.entries))


def _take(
    context: Context, entries: Sequence[Entry], changes: Changes, in_full: set[PeriodBucket]
) -> Operation[Failures]:
    """Write what the server holds of some buckets and periods into a file; returns what could not be read.

    Args:
        in_full: takes those of which the server holds all that it counted, and all that the file has. Of the
            sources of an aggregate it has to be known before: they come first.
    """
    failures: Failures = []
    keys = [context.keys.bucket(entry.period.name, entry.bucket) for entry in entries]
    commands: list[Command] = [
        command
        for own in keys
        for command in (
            *(("GET", key) for key in (own.counted, own.stderr, own.hll, own.moved)),
            ("ZCOUNT", own.moves, *_EVERYTHING),
        )
    ]
    replies = list(batched((yield commands), 5))
    group: list[tuple[Record, str]] = []
    size = 0
    for entry, own, (*parts, members) in zip(entries, keys, replies, strict=True):
        target = entry.period.name, entry.bucket
        try:
            record = _record(entry, own.counted, parts)
            count = number(unwrap([members])[0], own.moves)
            if "raw" in entry.parts:
                raw = yield from registers_of_raw(context, own.raw)
                tracked = raw if record.tracked is None else np.maximum(raw, record.tracked)
                record = record._replace(tracked=tracked)
        except (BackendDataError, SettingsMismatchError) as error:  # of this bucket alone
            failures.append((*target, error))
            if target not in changes.entries:
                changes.put(Record(*target, is_whole=False))
            continue
        group.append((record, own.moves if count else ""))
        size += count
        if size > _IDS_PER_BATCH:
            yield from _put(context, group, changes, in_full)
            group, size = [], 0
    yield from _put(context, group, changes, in_full)
    return failures


def _record(entry: Entry, counted: str, parts: Sequence[Any]) -> Record:
    """A record without its table.

    Raises:
        BackendError: what is stored makes no sense, or cannot be read.
    """
    count, stderr, tracked, moved = parts
    for reply in (count, stderr):
        if isinstance(reply, BackendError):
            raise reply
    error = "" if stderr is None else stderr.decode("utf-8", "replace")
    try:
        sound = not error or float(error) >= 0
    except ValueError:
        sound = False
    if not sound:
        raise BackendDataError(f"{counted} has {printable(error)!r} beside it, which is no standard error")
    has_tracked, has_moved = tracked is not None, moved is not None
    tracked, moved = registers_of(tracked), registers_of(moved)
    if tracked is None or moved is None:
        raise BackendDataError(UNREADABLE)
    return Record(
        entry.period.name,
        entry.bucket,
        None if count is None else number(count, counted),
        error,
        tracked if has_tracked else None,
        moved if has_moved else None,
    )


def _put(
    context: Context, group: Sequence[tuple[Record, str]], changes: Changes, in_full: set[PeriodBucket]
) -> Operation[None]:
    """Write records, whose tables are read first."""
    tables: list[dict[bytes, int]] = [{} for _ in group]
    with_some = [index for index, (_, key) in enumerate(group) if key]
    yield from read_members(
        [Range(group[index][1], *_EVERYTHING) for index in with_some],
        lambda number, ids, stamps: tables[with_some[number]].update(zip(ids, stamps, strict=True)),
    )
    has_tables = changes.head.has_tables
    for (record, _), table in zip(group, tables, strict=True):
        whole = with_members(record._replace(moves=table))
        new = whole if has_tables else whole._replace(moves=stand_ins(table))
        old = changes.record(new.period, new.bucket)
        if (old is None or new.covers(old)) and not (new.tracked is None and new.is_counted):
            in_full.add((new.period, new.bucket))
        if new.is_empty:
            continue  # it has expired just now
        if old is not None:
            period = context.calendar.parse(new.period)
            is_over = period is not None and changes.head.coverage.has_all_of(period, new.bucket)
            is_settled = is_over and new.period not in changes.head.open
            sources = context.aggregates.get(new.bucket or "")
            places = () if sources is None else ((new.period, source) for source in sources)
            are_there = all(place in in_full or place not in changes.entries for place in places)
            new = united(
                old,
                new,
                has_tables=has_tables,
                is_settled=is_settled,
                are_sources_there=None if sources is None else are_there,
            )
        changes.put(new)


def _mark_parts(
    context: Context, chosen: Chosen, entries: Sequence[Entry], failures: Failures, changes: Changes
) -> None:
    """Mark sketches that were archived while their period ran, and have gone from the server since.

    What came after is in none. So it is with those that could not be read again.
    """
    there = {
        (entry.period.name, entry.bucket) for entry in entries if not {"hll", "raw"}.isdisjoint(entry.parts)
    } - {(period, bucket) for period, bucket, _ in failures}
    calendar, coverage = context.calendar, changes.head.coverage
    for name, bucket in [target for target, entry in changes.entries.items() if entry.has_tracked]:
        period = calendar.parse(name)
        if (
            period is not None
            and (name, bucket) not in there
            and chosen.has(calendar, period, bucket)
            and not coverage.has_all_of(period, bucket)
            and (record := changes.record(name, bucket)) is not None
        ):
            changes.put(record._replace(is_whole=False))


def _settings(context: Context, stored: Mapping[str, str], chosen: Chosen) -> dict[str, str]:
    """The settings of the data, and by which calendar its periods were found."""
    calendar = context.calendar
    registered = {field_of(bucket) for bucket in chosen.buckets or ()}
    kept = {
        name: value
        for name, value in stored.items()
        if chosen.buckets is None or not DataSettings.buckets_of([name]) or name in registered
    }
    ours = {
        "timezone": calendar.zone_name,
        "timezone_rules": calendar.zone_fingerprint,
        "week_start": str(calendar.week_start),
    }
    return {**ours, **kept}


def _after(
    context: Context, head: Head, new: Head, settings: Mapping[str, str], chosen: Chosen, now: datetime
) -> Head:
    """The head of an archive after what was chosen was archived.

    Of settings those of the data are the newer ones; but where these have lost theirs, and of buckets that
    are in the archive alone, what it has stays.
    """
    old = {
        name: value
        for name, value in head.settings.items()
        if "layout" not in settings or DataSettings.buckets_of([name])
    }
    before, after = (DataSettings.read("", each) for each in (head.settings, settings))
    old |= {name: value for name, value in head.settings.items() if name.startswith(REDEFINED)}
    old |= redefinitions(before, after.aggregate_buckets, new.archived_at)
    coverage = head.coverage
    for kind in chosen.kinds:
        coverage = coverage.with_span(kind, chosen.buckets, *chosen.span(context.calendar, kind, now))
    return replace(
        head,
        settings={**old, **settings},
        coverage=coverage,
        archived_at=max(head.archived_at, new.archived_at),
        until=max(head.until, now),
    )


def _open(context: Context, head: Head, chosen: Chosen, marked: Iterable[str]) -> frozenset[str]:
    """The periods that hold uncounted data: of what was chosen as they are now, of all else as they were."""
    calendar = context.calendar

    def is_chosen(name: str) -> bool:
        period = calendar.parse(name)
        return period is not None and chosen._replace(buckets=None).has(calendar, period, None)

    kept = {name for name in head.open if not is_chosen(name)}
    return frozenset(kept | {name for name in marked if is_chosen(name)})


def _check_same(head: Head, new: Head, tables: bool | None) -> None:
    """Refuse an archive of another data set, or one that has other things in it than it is to have.

    Raises:
        ArgumentValueError: naming the argument that differs.
    """
    if (head.namespace, head.shard) != (new.namespace, new.shard):
        raise ArgumentValueError(
            f"path is an archive of namespace {head.namespace!r}, shard {head.shard}: not of"
            f" {new.namespace!r}, shard {new.shard}"
        )
    if tables is not None and tables != head.has_tables:
        has = "has" if head.has_tables else "was made without"
        raise ArgumentValueError(f"moves={tables}: the archive {has} tables of moves, and that stays so")
