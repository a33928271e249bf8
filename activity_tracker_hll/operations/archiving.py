"""Archiving: from what a server holds to records of an archive, and back.

Both unite with what is there, so that each can be killed, run again, and done in any order. Of an archive all
is written at once, in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np

from ..archives import ALWAYS, ArchiveFile, Changes, Head, Record, stand_ins, united, with_members
from ..backends.base import Command
from ..errors import (
    ArchiveError,
    ArgumentValueError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    SettingsMismatchError,
)
from ..hll import codec
from ..messages import printable
from ..periods import Calendar, Period, PeriodKind
from ..scripts.calls import Stored, answer, call_restore, call_write
from ..words import duration, many
from .base import Context, Operation, batched, items, named, number, unwrap, unwrap_of
from .counting.legacy import registers_of_raw
from .counting.outcomes import expiry_of
from .counting.overdue import marked_in
from .counting.sketches import UNREADABLE, registers_of
from .data_set import DataSet
from .handshake import checked, fields_of
from .inventory import Entry, inventory
from .settings import Access, DataSettings, field_of
from .tracking.side_table import Range, read_members

__all__ = ["Archived", "Chosen", "Restored", "archive", "restore", "unarchived"]

_RECORDS_PER_BATCH = 100  # of up to two sketches each
_IDS_PER_BATCH = 200_000
_KEYS_PER_BATCH = 1000
_STAMPS_PER_CALL = 1000  # of a script, which holds up others as long as it takes
_EVERYTHING = ("-inf", "+inf")
_MOST_NAMED = 5
_AGREED = ("layout", "timezone_rules", "week_start", "secret")
"""Fields of settings in which data have to agree to be united."""


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


@dataclass(frozen=True, slots=True)
class Restored:
    """What :meth:`.ActivityTracker.restore` did.

    Attributes:
        written: how many buckets, counted in each period, were united with what the server held.
        open: names of the periods that hold data which no stored count knows of: a collapse counts them.
    """

    written: int
    open: tuple[str, ...]


class Chosen(NamedTuple):
    """Which buckets and periods a call is about.

    Attributes:
        kinds: of period.
        start: they begin at or after it; None = however early.
        end: the period that it is in is left out; None = however late.
        buckets: None = all.
    """

    kinds: Sequence[PeriodKind]
    start: datetime | None
    end: datetime | None
    buckets: tuple[str | None, ...] | None

    def with_sources(self, context: Context) -> Chosen:
        """The same, with the buckets that its aggregates are made of."""
        if self.buckets is None:
            return self
        known = context.aggregates
        sources = (source for name in self.buckets for source in known.get(name or "", ()))
        return self._replace(buckets=tuple(dict.fromkeys((*self.buckets, *sources))))

    def span(self, calendar: Calendar, kind: str, now: datetime) -> tuple[datetime, datetime]:
        """From where on and until when all periods of a kind are meant."""
        start, end = ALWAYS, now
        if self.start is not None:
            first = calendar.containing(kind, self.start)
            start = first.start if first.start >= self.start else first.next().start
        if self.end is not None:
            end = min(calendar.containing(kind, self.end).start, now)
        return start, end

    def has(self, calendar: Calendar, period: Period, bucket: str | None) -> bool:
        """Whether a bucket and period is meant."""
        return (
            period.kind in self.kinds
            and (self.buckets is None or bucket in self.buckets)
            and (self.start is None or period.start >= self.start)
            and (self.end is None or period.start < calendar.containing(period.kind, self.end).start)
        )


# From a server to a file


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
    entries = [
        entry
        for entry in (yield from inventory(context))
        if chosen.has(context.calendar, entry.period, entry.bucket)
    ]
    meta = context.keys.meta
    stored, marks = yield [("HGETALL", meta), ("SMEMBERS", context.keys.open)]
    settings = _settings(context, fields_of(unwrap_of(meta, [stored])[0]), chosen)
    failures: list[tuple[str, str | None, Exception]] = []
    with file.writing(new) as changes:
        _check_same(changes.head, new, tables)
        _check_agreement(settings, changes.head.settings, "the server", "the archive")
        for batch in batched(entries, _RECORDS_PER_BATCH):
            failures += yield from _take(context, batch, changes)
        changes.head = _after(context, changes.head, new, settings, chosen, now)
        changes.head = replace(changes.head, open=_open(context, changes.head, chosen, marked_in(marks)))
    if failures:
        raise ArchiveError(_about(failures, "archived"), failures)
    return Archived(len(entries), changes.changed, len(changes.entries))


def _take(
    context: Context, entries: Sequence[Entry], changes: Changes
) -> Operation[list[tuple[str, str | None, Exception]]]:
    """Write what the server holds of some buckets and periods into a file; returns what could not be read."""
    failures: list[tuple[str, str | None, Exception]] = []
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
        except BackendError as error:
            failures.append((*target, named(error, target)))
            if target not in changes.entries:
                changes.put(Record(*target, is_whole=False))
            continue
        group.append((record, own.moves if count else ""))
        size += count
        if size > _IDS_PER_BATCH:
            yield from _put(group, changes)
            group, size = [], 0
    yield from _put(group, changes)
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
        raise BackendResponseError(UNREADABLE)
    return Record(
        entry.period.name,
        entry.bucket,
        None if count is None else number(count, counted),
        error,
        tracked if has_tracked else None,
        moved if has_moved else None,
    )


def _put(group: Sequence[tuple[Record, str]], changes: Changes) -> Operation[None]:
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
        if new.is_empty:
            continue  # it has expired just now
        old = changes.record(new.period, new.bucket)
        changes.put(new if old is None or not old.is_whole else united(old, new, has_tables=has_tables))


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

    Of settings those of the data are the newer ones; but where these have lost theirs, and of buckets that are
    in the archive alone, what it has stays.
    """
    old = {
        name: value
        for name, value in head.settings.items()
        if "layout" not in settings or DataSettings.buckets_of([name])
    }
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


def _check_agreement(ours: Mapping[str, str], theirs: Mapping[str, str], our: str, their: str) -> None:
    """Refuse to unite data that mean different things.

    Raises:
        SettingsMismatchError: naming what differs.
    """
    differing = [name for name in _AGREED if name in ours and name in theirs and ours[name] != theirs[name]]
    if differing:
        shown = "; ".join(
            f"{name.removesuffix('_rules')} {_told(ours, name)} {our[4:]}, {_told(theirs, name)} {their[4:]}"
            for name in differing
        )
        raise SettingsMismatchError(f"{our} and {their} have data of different settings: {shown}")


def _told(settings: Mapping[str, str], name: str) -> str:
    return repr(printable(settings.get(name.removesuffix("_rules"), "")))


def _about(failures: Sequence[tuple[str, str | None, Exception]], done: str) -> str:
    shown = "; ".join(str(error) for _, _, error in failures[:_MOST_NAMED])
    more = f"; and {len(failures) - _MOST_NAMED:,} more" if len(failures) > _MOST_NAMED else ""
    return f"{len(failures):,} not {done} (all others were): {shown}{more}"


# From a file to a server


def restore(
    data: DataSet,
    choose: Callable[[], Chosen],
    file: ArchiveFile,
    keep: timedelta | None,
    now: Callable[[], float],
) -> Operation[Restored]:
    """Unite what the server holds with what an archive has; see :meth:`.ActivityTracker.restore`.

    Args:
        data: what is known of the server.
        choose: tells what is restored, once zone and aggregates are known.
        file: the archive.
        keep: how long sketches are kept from now on; None = as the settings say.
        now: seconds since the epoch.

    Raises:
        ArchiveError: of the file.
        SettingsMismatchError: the server's data, or the client, have other settings.
        BackendError: the server failed; part of it may be restored.
    """
    context = data.context
    with file.reading() as held:
        head, entries = held.head, held.entries
    yield from _agree(data, head)
    chosen = choose().with_sources(context)
    wanted = [
        target
        for target, entry in entries.items()
        if (period := context.calendar.parse(target[0]))
        and chosen.has(context.calendar, period, target[1])
        and entry.is_whole
    ]
    done = Restored(0, ())
    failures: list[tuple[str, str | None, Exception]] = []
    for batch in batched(wanted, _RECORDS_PER_BATCH):
        with file.reading() as held:
            records = [record for target in batch if (record := held.record(*target)) is not None]
        failed, uncounted = yield from _give(context, records, head, keep, now())
        failures += failed
        done = Restored(done.written + len(records) - len(failed), tuple(sorted({*done.open, *uncounted})))
    if failures:
        raise ArchiveError(_about(failures, "restored"), failures)
    return done


def _agree(data: DataSet, head: Head) -> Operation[None]:
    """Let client, server and archive agree on settings; a server that has none is given the archive's.

    What others may have changed there since stays as it is.
    """
    context, settings = data.context, head.settings
    checked(context, settings, Access.COUNT, "the archive")
    meta = context.keys.meta
    stored = fields_of(unwrap_of(meta, (yield [("HGETALL", meta)]))[0])
    _check_agreement(settings, stored, "the archive", "the server")
    given = {
        name: value
        for name, value in settings.items()
        if "layout" not in stored or name in _AGREED or DataSettings.buckets_of([name])
    }
    if given:
        unwrap_of(meta, (yield [("HSETNX", meta, name, value) for name, value in given.items()]))
    yield from data.agree(Access.COUNT)
    if not (yield from data.takes_sketches()):
        raise BackendResponseError("sketches cannot be written to this server")


def _give(
    context: Context, records: Sequence[Record], head: Head, keep: timedelta | None, now: float
) -> Operation[tuple[list[tuple[str, str | None, Exception]], set[str]]]:
    """Write records to the server; returns what it refused, and the periods that hold uncounted data."""
    calls: list[Command] = []
    given = [_as_kept(context, record, keep, now) for record in records]
    for record, expiry in given:
        keys = context.keys.bucket(record.period, record.bucket)
        temporary = context.keys.temporary(record.period, record.bucket, token_hex(8))
        calls.append(call_restore(keys, temporary, _as_stored(record), expiry))
    replies = (yield calls) if calls else []
    failures: list[tuple[str, str | None, Exception]] = []
    uncounted: set[str] = set()
    for (record, _), reply in zip(given, replies, strict=True):
        target = record.period, record.bucket
        try:
            _, [is_open] = answer(reply)
            if is_open or record.period in head.open:
                uncounted.add(record.period)
            yield from _give_moves(context, record)
        except BackendError as error:
            failures.append((*target, named(error, target)))
    if uncounted:
        unwrap((yield [("SADD", context.keys.open, *sorted(uncounted))]))
    return failures, uncounted


def _as_kept(context: Context, record: Record, keep: timedelta | None, now: float) -> tuple[Record, str]:
    """What of a record is restored, and when its sketches expire if they are counted, for scripts."""
    period = context.calendar.parse(record.period)
    length = keep if keep is not None or period is None else context.keep(period.kind)
    if length is None or period is None:
        return record, "keep"
    if not length:  # nothing is kept that was counted
        return (Record(*record[:4]) if record.is_counted else record), "keep"
    own, from_now = expiry_of(context, period), now + length.total_seconds()
    if keep is None and own != "keep" and float(own) > now:
        return record, own
    return record, str(ceil(from_now))


def _as_stored(record: Record) -> Stored:
    hll, moved = (b"" if each is None else codec.encode(each) for each in (record.tracked, record.moved))
    return Stored("" if record.counted is None else str(record.counted), record.stderr, hll, moved)


def _give_moves(context: Context, record: Record) -> Operation[None]:
    """Unite a table of moves with the server's; its ids are in both sketches already."""
    keys = context.keys.bucket(record.period, record.bucket)
    for batch in batched(record.moves.items(), _STAMPS_PER_CALL):
        [reply] = yield [call_write(keys, context.moved_limit, (), batch)]
        answer(reply)


# What is in danger


def unarchived(
    context: Context, entries: Sequence[Entry], file: ArchiveFile, within: timedelta
) -> Operation[list[str]]:
    """Warnings of sketches that expire soon, and that an archive does not have; a sentence at most.

    Args:
        context: what operations are planned with.
        entries: what the server holds.
        file: the archive.
        within: how soon.

    Raises:
        ArchiveError: of the file.
    """
    with file.reading() as held:
        known, head = held.entries, held.head
    at_risk: list[Entry] = []
    for batch in batched((entry for entry in entries if {"count", "hll"} <= entry.parts), _KEYS_PER_BATCH):
        keys = [context.keys.bucket(entry.period.name, entry.bucket).hll for entry in batch]
        for entry, left in zip(batch, (yield [("TTL", key) for key in keys]), strict=True):
            if isinstance(left, int) and 0 <= left <= within.total_seconds():
                own = known.get((entry.period.name, entry.bucket))
                period = entry.period
                lacks = head.coverage.lacks(period.kind, entry.bucket, period.start, period.next().start)
                if own is None or not own.has_tracked or not own.is_whole or lacks:
                    at_risk.append(entry)
    if not at_risk:
        return []
    expire = many(len(at_risk), "sketch expires", "sketches expire")
    first = f"{at_risk[0].period.name} bucket {at_risk[0].bucket or '(all)'}"
    return [
        f"{expire} within {duration(within)} that the archive does not have, such as {first}: archive() or,"
        " at the command line, archive keeps them"
    ]
