"""From a file to what a server holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from secrets import token_hex

from ...archives import ArchiveFile, Head, Held, Record
from ...backends.base import Command
from ...errors import ArchiveError, BackendDataError, BackendResponseError
from ...hll import codec
from ...scripts.calls import Stored, answer, call_restore, call_write
from ..base import Context, Failures, Operation, PeriodBucket, about_failures, batched, unwrap, unwrap_of
from ..counting.outcomes import expiry_of
from ..data_set import DataSet
from ..handshake import checked, read_fields
from ..settings import Access, Aggregates, DataSettings, redefinitions
from .chosen import AGREED, Chosen, check_agreement

__all__ = ["Restored", "restore"]

_RECORDS_PER_BATCH = 100  # of up to two sketches each
_STAMPS_PER_CALL = 1000  # of a script, which holds up others as long as it takes


@dataclass(frozen=True, slots=True)
class Restored:
    """What :meth:`.ActivityTracker.restore` did.

    Attributes:
        written: how many buckets, counted in each period, were united with what the server held.
        open: names of the periods that hold data which no stored count knows of: a collapse counts them.
    """

    written: int
    open: tuple[str, ...]


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
        and not entry.is_empty
    ]
    written, open_, failures = 0, set[str](), Failures()
    for batch in batched(wanted, _RECORDS_PER_BATCH):
        with file.reading() as held:
            records = [_known(context, held, target) for target in batch]
        failed, uncounted = yield from _give(context, records, file, keep, now())
        failures += failed
        open_ |= uncounted
        written += len(records) - len(failed)
    if failures:
        raise ArchiveError(about_failures(failures, "restored"), failures)
    return Restored(written, tuple(sorted(open_)))


def _known(context: Context, held: Held, target: PeriodBucket) -> Record:
    """What is restored of a bucket and period, and whether it is whole; no sketch of less than its count.

    Tables, which may be large, are read again one by one.
    """
    record, period = held.record(*target) or Record(*target), context.calendar.parse(target[0])
    if record.is_counted and not record.is_whole:
        return Record(*record[:4], is_whole=False)
    is_covered = period is not None and held.head.coverage.has_all_of(period, record.bucket)
    return record._replace(moves={}, is_whole=record.is_whole and is_covered)


def _agree(data: DataSet, head: Head) -> Operation[None]:
    """Let client, server and archive agree on settings; a server that has none is given the archive's.

    What others may have changed there since stays as it is.
    """
    context, settings = data.context, head.settings
    checked(context, settings, Access.COUNT, "the archive")
    meta = context.keys.meta
    stored = yield from read_fields(context)
    check_agreement(settings, stored, "the archive", "the server")
    given = {
        name: value
        for name, value in settings.items()
        if "layout" not in stored or name in AGREED or DataSettings.buckets_of([name])
    }
    if given:
        unwrap_of(meta, (yield [("HSETNX", meta, name, value) for name, value in given.items()]))
    if "layout" in stored:
        ours, now = DataSettings.read(meta, stored), data.clock.now() / 1e6
        redefined = redefinitions(ours, _others(ours, DataSettings.read("", settings)), now)
        if redefined:
            unwrap_of(meta, (yield [("HSET", meta, *pair) for pair in redefined.items()]))
    yield from data.agree(Access.COUNT)
    if not (yield from data.takes_sketches()):
        raise BackendResponseError("sketches cannot be written to this server")


def _others(ours: DataSettings, theirs: DataSettings) -> Aggregates:
    """The aggregates of an archive; without sources if it had others there since the server knows of any."""
    return {
        name: () if theirs.redefined.get(name, 0) > ours.redefined.get(name, 0) else sources
        for name, sources in theirs.aggregate_buckets.items()
    }


def _give(
    context: Context, records: Sequence[Record], file: ArchiveFile, keep: timedelta | None, now: float
) -> Operation[tuple[Failures, set[str]]]:
    """Write records to the server; returns what it refused, and the periods that hold uncounted data."""
    given = [_as_kept(context, record, keep, now) for record in records]
    calls: list[Command] = []
    for record, expiry in given:
        keys = context.keys.bucket(record.period, record.bucket)
        temporary = context.keys.temporary(record.period, record.bucket, token_hex(8))
        calls.append(call_restore(keys, temporary, _as_stored(record), expiry))
    with file.reading() as held:
        marked = held.head.open
    open_ = {each.period for each in records if each.counted is None or each.period in marked}
    marks: list[Command] = [("SADD", context.keys.open, *sorted(open_))] if open_ else []
    replies = yield [*calls, *marks]
    unwrap(replies[len(calls) :])
    failures, late = Failures(), set[str]()
    for (record, _), reply in zip(given, replies, strict=False):
        target = record.period, record.bucket
        try:
            _, [is_open] = answer(reply)
            if is_open:
                late.add(record.period)
            if record.moved is not None:
                yield from _give_moves(context, file, target)
        except BackendDataError as error:  # of this bucket alone
            failures.append((*target, error))
    if late - open_:
        unwrap((yield [("SADD", context.keys.open, *sorted(late - open_))]))
    return failures, open_ | late


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
    count = "" if record.counted is None else str(record.counted)
    return Stored(count, record.stderr, hll, moved, "" if record.is_whole else "1")


def _give_moves(context: Context, file: ArchiveFile, target: PeriodBucket) -> Operation[None]:
    """Unite a table of moves with the server's; its ids are in both sketches already."""
    with file.reading() as held:
        record = held.record(*target)
    keys = context.keys.bucket(*target)
    for batch in batched(record.moves.items() if record else (), _STAMPS_PER_CALL):
        [reply] = yield [call_write(keys, context.moved_limit, (), batch)]
        answer(reply)
