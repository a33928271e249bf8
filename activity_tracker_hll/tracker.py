"""ActivityTracker: the public calls. Each checks its arguments, plans, executes and hands on the result.

Those that only read are in :mod:`.reader`. What it shares with the one for asyncio, in :mod:`.aio`, is in
:mod:`.base_tracker`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from types import EllipsisType, MappingProxyType
from typing import Any, ClassVar

from .archiving import Path
from .arguments import AggregateBuckets, Buckets
from .backends.base import BaseBackend, Keep
from .columns import EventColumns
from .ids import Id
from .operations import (
    Access,
    Archived,
    Collapsed,
    DataSettings,
    Examination,
    Imported,
    Restored,
)
from .periods import PeriodKind
from .reader import Reader
from .shorthands import of_kind
from .tables import ArrowStream, TableLayout
from .writer import BufferedTracker

__all__ = ["ActivityTracker"]


class ActivityTracker(Reader):
    """Counts the distinct ids that were active in each period, a bucket at a time.

    Args:
        periods: kinds of period to count by, such as ``["daily", "monthly"]``; the default of
            track() and collapse().
        backend: ``"redis"``, ``"embedded"``, ``"package.module.Class"``, or a backend instance.
        buckets: default buckets of collapse() and lookup(); None = the one unnamed bucket.
        aggregate_buckets: default aggregates of collapse(), such as
            ``{"total": ["site1", "site2"]}``. They are stored with the data, so that all who collapse know
            them.
        timezone: IANA name or tzinfo that days begin by; None = as the data have it, and the machine's local
            time where there are none.
        week_start: 0 = Monday ... 6 = Sunday; None = as the data have it, and Monday where there are none.
        clock: seconds since the epoch; for tests.

    Any other keyword argument is passed to the backend's constructor. Type checkers know those of ``"redis"``
    and ``"embedded"``; one they do not know can be given to the class, as ``backend=RedisBackend(...)``.

    Pickled, for a process of :mod:`multiprocessing` say, a tracker is its arguments, secret and password
    among them, and is made anew from them. One that was given a client or a temporary embedded server is not.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
        MissingExtraError: the backend needs an extra that is not installed.
    """

    _BACKENDS: ClassVar = {
        "redis": "activity_tracker_hll.backends.redis.RedisBackend",
        "embedded": "activity_tracker_hll.backends.embedded.EmbeddedBackend",
    }
    _BACKEND = BaseBackend

    # Track

    def track(
        self,
        periods: Iterable[PeriodKind] | None = None,
        *,
        id: Id | None = None,
        bucket: str | None = None,
        old_id: Id | None = None,
        old_bucket: str | None = None,
        date: dt.date | None = None,
        shard: int = 0,
    ) -> None:
        """Record that an id was active, in one round trip however many periods.

        Args:
            periods: kinds of period; None = the tracker's.
            id: str, bytes, int or UUID; 7, "7" and b"7" are one id.
            bucket: the bucket the id is in; None = the unnamed bucket.
            old_id: what the id was until now: it is moved. With id=None it is only removed.
            old_bucket: the bucket it was in.
            date: date or datetime of the event; None = now. Hourly periods need a datetime. Where an id is
                active in a bucket and leaves it at one datetime, it counts as active: give the later event a
                later one.
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            ArgumentTypeError, ArgumentValueError: before anything is sent.
            LateEventError: a period was collapsed and its sketch is gone.
            BackendError: the server or the way to it failed.
        """
        operation = self._planner.track(periods, id, bucket, old_id, old_bucket, date, shard)
        return self._run(operation, shard, Access.TRACK)

    def track_many(
        self,
        ids: Iterable[Id],
        periods: Iterable[PeriodKind] | None = None,
        *,
        bucket: str | None = None,
        date: dt.date | None = None,
        shard: int = 0,
    ) -> None:
        """Record that many ids were active in one bucket at one moment.

        Args:
            ids: list, tuple, set, iterator, one-dimensional numpy array (S, U, T, integer), or a column of
                pandas, polars or pyarrow; all are checked before the first is sent. What an iterator raises
                is raised as it is, and nothing is sent then.
            periods: kinds of period; None = the tracker's.
            bucket: the bucket the ids are in; None = the unnamed bucket.
            date: date or datetime of the events; None = now. Hourly periods need a datetime.
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, by its place, or another bad argument; nothing is
                sent then.
            LateEventError: a period was collapsed and its sketch is gone.
            BackendError: the server or the way to it failed.
        """
        return self._run(self._planner.track_many(ids, periods, bucket, date, shard), shard, Access.TRACK)

    def import_events(
        self,
        events: Iterable[tuple[Id, str | None, dt.date] | EventColumns] | tuple[Any, Any, Any] | ArrowStream,
        periods: Iterable[PeriodKind] | None = None,
        *,
        id_column: str | None = None,
        time_column: str | None = None,
        bucket_column: str | None = None,
        bucket: str | None = None,
        timezone: str | dt.tzinfo | None = None,
        progress: Callable[[int], object] | None = None,
        shard: int = 0,
    ) -> Imported:
        """Record events of any bucket and moment, in any order: logs, streams, back-fills.

        Importing the same events again changes nothing, so an import that was cut short is simply
        run again: an event with a time of day undoes no move that came after it. Moves that are made while an
        import runs may come before events read earlier.

        Args:
            events: (id, bucket, date or datetime) tuples, consumed once. Or, many times as fast, a table: a
                data frame of pandas or polars, a relation of DuckDB, a table or RecordBatchReader of pyarrow,
                or whatever else has ``__arrow_c_stream__``. Or a tuple of three columns: an array of ids
                (numpy's, pandas', Arrow's); an array or list of buckets, or one for all; an array (also of
                datetime64) or list of dates, or one for all.
            periods: kinds of period; None = the tracker's.
            id_column: the table's column of ids: text, bytes, integers or UUIDs.
            time_column: its column of timestamps, dates, or text such as 2026-01-31T23:59:59Z.
            bucket_column: its column of buckets.
            bucket: one bucket for all events of a table; None = the unnamed bucket.
            timezone: IANA name or tzinfo that times without a zone in a table are in; None = the tracker's.
            progress: called with the number of events sent so far.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            How many events were sent, and how often one was refused as late.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad event, by its place, such as one whose id, bucket or
                time is missing in a table; those before it may count, as they do before what an iterable
                raises, which is raised as it is.
            MissingExtraError: a table needs pyarrow, of the extra ``arrow``.
            BackendError: the server or the way to it failed.
        """
        table = TableLayout.of(events, id_column, time_column, bucket_column, bucket, timezone)
        operation = self._planner.import_events(events, periods, table, progress, shard)
        return self._run(operation, shard, Access.TRACK)

    def buffered(
        self,
        *,
        flush_interval: float = 1.0,
        close_timeout: float = 10.0,
        refresh_interval: float = 60.0,
        max_sketches: int = 8192,
        max_moves: int = 100_000,
        on_error: Callable[[Exception], object] | None = None,
    ) -> BufferedTracker:
        """Make a writer for high volume: the same track calls, which return at once.

        Use it in a ``with`` statement, or close() it; one that is open when the process exits is closed
        then. An outage of the server loses nothing as long as the process lives.

        Args:
            flush_interval: the most seconds between pushes to the server. They follow sooner while they are
                cheap: some 30 ms apart with a few buckets, and the less often the more they take.
            close_timeout: how long close() and the end of the process wait for the server, in seconds.
            refresh_interval: seconds, in the mean, after which even registers that the server has
                acknowledged are sent again, in case it lost them; longer if that were more than ten buckets a
                second.
            max_sketches: buckets in periods, such as 1,000 buckets in 3 periods = 3,000, that are kept at
                once, each in up to 48 KiB, and less than 1 KiB while few ids are in it. Events of further
                ones are dropped, and counted.
            max_moves: ids on the move that are kept at once; further ones are dropped, and counted. As many
                that the server has acknowledged are remembered, in case it loses them.
            on_error: called with each new problem, from a thread of the writer.

        Returns:
            The writer.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument.
        """
        writer = BufferedTracker(
            self._planner,
            self._backend,
            flush_interval=flush_interval,
            close_timeout=close_timeout,
            refresh_interval=refresh_interval,
            max_sketches=max_sketches,
            max_moves=max_moves,
            on_error=on_error,
        )
        self._writers.add(writer)
        writer.settle()
        return writer

    # Collapse

    def collapse(
        self,
        periods: Iterable[PeriodKind] | None = None,
        *,
        date: dt.date | None = None,
        max_periods: int | None = None,
        buckets: Buckets | None = None,
        aggregate_buckets: AggregateBuckets | None = None,
        recount: bool = False,
        shard: int = 0,
    ) -> list[Collapsed]:
        """Turn the sketches of past periods into stored counts.

        Can be killed and run again, or run twice at once: a period that is counted already is left
        alone.

        Args:
            periods: kinds of period; None = the tracker's.
            date: the periods *before* the one that contains it are collapsed; None = now.
            max_periods: only so many of them, of each kind, newest first; None = all that hold uncounted
                data, however old they are.
            buckets: None = the tracker's; without any, the unnamed bucket, or the sources of the
                aggregates.
            aggregate_buckets: {name: buckets to unite}; None = the tracker's, and those that others have
                stored with the data, where their sources are among the buckets.
            recount: count again what was counted already, where sketches are still kept.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A (period, bucket, count) for each count that was stored.

        Raises:
            CollapseError: some buckets failed, all others are collapsed.
            ArgumentTypeError, ArgumentValueError: naming the argument; nothing is sent then.
            BackendError: the server or the way to it failed.
        """
        operation = self._planner.collapse(
            periods, date, max_periods, buckets, aggregate_buckets, shard, recount=recount
        )
        return self._run(operation, shard, Access.COUNT)

    def collapse_due(
        self,
        periods: Iterable[PeriodKind] | None = None,
        *,
        date: dt.date | None = None,
        max_periods: int | None = None,
        buckets: Buckets | None = None,
        aggregate_buckets: AggregateBuckets | None = None,
        recount: bool = False,
        progress: Callable[[int, int], object] | None = None,
        shard: int = 0,
    ) -> list[Collapsed]:
        """Collapse everything that is over and not counted, whatever buckets and periods the server holds.

        For who does not know what there is: it is found by SCAN, which is slow on a large server. Can be
        killed and run again like :meth:`collapse`.

        Args:
            periods: only these kinds of period; None = all that there are.
            date: what lies before the period that contains it; None = now.
            max_periods: only so many of them, of each kind, newest first; None = all.
            buckets: only these; None = all that there are.
            aggregate_buckets: {name: buckets to unite}, in addition to the tracker's and those that are
                stored with the data; counted where a source has a sketch.
            recount: count again what was counted already, where sketches are still kept.
            progress: called with the number of steps done, and of all.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A (period, bucket, count) for each count that was stored.

        Raises:
            CollapseError: some buckets failed, all others are collapsed.
            ArgumentTypeError, ArgumentValueError: also for an aggregate of a bucket that was never seen.
            BackendError: the server or the way to it failed.
        """
        operation = self._planner.collapse_due(
            periods, date, max_periods, buckets, aggregate_buckets, shard, recount=recount, progress=progress
        )
        return self._run(operation, shard, Access.COUNT)

    # Settings, archives, and what there is

    def change_settings(
        self,
        *,
        keep_sketches: Keep | EllipsisType = ...,
        aggregate_buckets: Mapping[str, Buckets | None] = MappingProxyType({}),
        shard: int = 0,
    ) -> DataSettings:
        """Change what is stored with the data: the only way to shorten or to remove.

        Whoever makes a tracker with longer ``keep_sketches`` lengthens it again, and whoever makes one with
        an aggregate adds that. Other processes hear of a change within a minute.

        Args:
            keep_sketches: how long sketches are kept from the next collapse on, a timedelta or a dict of them
                by kind of period; None = for ever. Not given, it stays.
            aggregate_buckets: {name: buckets to unite, or None to remove it}; others stay.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            What is stored then.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument; nothing is sent then.
            BackendError: the server or the way to it failed.
        """
        return self._run(self._planner.change_settings(keep_sketches, aggregate_buckets, shard), shard, None)

    def archive(
        self,
        path: Path,
        *,
        periods: Iterable[PeriodKind] | None = None,
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        moves: bool | None = None,
        shard: int = 0,
    ) -> Archived:
        """Copy sketches, counts, tables of moves and settings to a file, which :class:`.Archive` reads.

        What the file has already is united with that: it may be done each day, again, and after a failure.
        What has expired on the server stays in the file. All is written at once in the end, or nothing: a
        process that is killed leaves the file as it was. It reads alone, so a replica will do.

        Args:
            path: of the file; it is made if there is none.
            periods: kinds of period; None = all.
            start: periods that begin at or after it; None = all that the server holds.
            end: the period that it is in is left out; None = none is, so that what runs is archived as it
                stands.
            buckets: these alone, of aggregates with their sources; None = all.
            moves: whether tables of moves are to be in it, which hold ids (under a secret, their digests).
                Without them the archive tells the same numbers, but not who moved. None = as the file has it,
                and with them in a new one.
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            ArgumentTypeError, ArgumentValueError: also for a file of another namespace or shard.
            ArchiveError: the file is foreign, newer, damaged, in use, or cannot be written; or some buckets
                could not be read: its `failures` name them, and all others are archived.
            SettingsMismatchError: the file is an archive of data with other settings.
            BackendError: the server or the way to it failed; the file is as it was.
        """
        operation = self._archiving.archive(path, periods, start, end, buckets, moves, shard)
        return self._run_with_file(operation, shard, Access.READ)

    def restore(
        self,
        path: Path,
        *,
        periods: Iterable[PeriodKind] | None = None,
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        keep: dt.timedelta | None = None,
        shard: int = 0,
    ) -> Restored:
        """Copy what an archive has back to the server, and unite it with what is there.

        It may be done again, in part, and of several archives in any order. A count that the server has
        stands. Its settings do, too; a server without any is given the archive's.

        Args:
            path: of the archive.
            periods: kinds of period; None = all.
            start: periods that begin at or after it; None = all.
            end: the period that it is in is left out; None = none is.
            buckets: these alone, of aggregates with their sources; None = all.
            keep: how long restored sketches that are counted are kept from now on. None = until they would
                have expired; of those that would have expired already, as long from now as their kind of
                period is kept. None are restored of a kind that is kept for no time at all, unless this says
                otherwise. None expires sooner than it would have without.
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            ArchiveError: the file is missing, foreign, newer, damaged, or in use; or some buckets were
                refused: its `failures` name them, and all others are restored.
            SettingsMismatchError: the server's data, or the tracker, have other settings.
            BackendError: the server or the way to it failed; what was restored until then stays.
        """
        operation = self._archiving.restore(path, periods, start, end, buckets, keep, shard)
        return self._run_with_file(operation, shard, None)  # it compares settings itself

    def examine(self, *, role: str | None = None, archive: Path | None = None, shard: int = 0) -> Examination:
        """Look at the server and the data: eviction, persistence, memory, rights, what is not collapsed.

        Args:
            role: whose rights the user needs: ``track``, ``read``, ``collapse`` or ``restore``; None = all of
                these.
            archive: an archive, to be warned of sketches that expire within a week and are not in it, or have
                grown since.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            What was found; its `warnings` say what may go wrong, a sentence each.

        Raises:
            ArgumentTypeError, ArgumentValueError: there is no such role.
            ArchiveError: the archive cannot be read.
            BackendError: no answer.
        """
        examination = self._archiving.examine(shard, role, archive)
        run = self._run if archive is None else self._run_with_file
        return run(examination, shard, None)  # it compares settings itself

    # Shorthands: one period instead of a list of them

    track_hourly = of_kind("hourly")(track)
    track_daily = of_kind("daily")(track)
    track_weekly = of_kind("weekly")(track)
    track_monthly = of_kind("monthly")(track)
    track_quarterly = of_kind("quarterly")(track)
    track_yearly = of_kind("yearly")(track)
    collapse_hourly = of_kind("hourly")(collapse)
    collapse_daily = of_kind("daily")(collapse)
    collapse_weekly = of_kind("weekly")(collapse)
    collapse_monthly = of_kind("monthly")(collapse)
    collapse_quarterly = of_kind("quarterly")(collapse)
    collapse_yearly = of_kind("yearly")(collapse)
