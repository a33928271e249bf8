"""Reader: the public calls that ask what was counted, and what the sketches tell beyond that.

They need nothing but to read, so that they work on a replica.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, overload

from .analytics.cohorts import When
from .analytics.results import Counts, Lifecycle, Retention, Rows, Series
from .arguments import AggregateBuckets, Buckets
from .backends.base import BaseBackend
from .base_tracker import BaseTracker
from .estimates import Estimate, Share
from .operations import Access, DataSettings, Entry, Operation, Row, RowWithGaps, run
from .overlaps import Overlap
from .periods import PeriodKind
from .reading import Cohorts
from .selection import Missing, Selection
from .shorthands import of_kind
from .sketch import Sketch

if TYPE_CHECKING:
    from .report import Report

__all__ = ["Reader"]

T = TypeVar("T")


class Reader(BaseTracker[BaseBackend]):
    """Reads counts and sketches."""

    # Ends

    def close(self) -> None:
        """Close its writers, and give back the backend's connections and processes."""
        for writer in list(self._writers):
            writer.close_within()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Stored counts

    @overload
    def lookup(
        self,
        period: PeriodKind | None = None,
        *,
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        live: bool | None = None,
        missing: int = 0,
        shard: int = 0,
    ) -> Rows[Row]: ...

    @overload
    def lookup(
        self,
        period: PeriodKind | None = None,
        *,
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        live: bool | None = None,
        missing: None,
        shard: int = 0,
    ) -> Rows[RowWithGaps]: ...

    def lookup(
        self,
        period: PeriodKind | None = None,
        *,
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        live: bool | None = None,
        missing: int | None = 0,
        shard: int = 0,
    ) -> Rows[Row] | Rows[RowWithGaps]:
        """Counts of the periods that begin in [start, end), oldest first.

        Args:
            period: kind of period; None = the tracker's, if it has only one.
            start: None = 365 days before end.
            end: the period that contains it is left out. None = now; with live=True the running
                period is the last row.
            buckets: None = the tracker's; aggregates are looked up by their name. One that is none of the
                tracker's is looked up too, and logged once.
            live: None = what was not collapsed is counted now, and nothing is stored: so `missing` never
                stands for data. True = with the running period; False = stored counts alone.
            missing: what stands where there is nothing: a count, or None.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A row for each period, ``(date, {bucket: count})``: the date is its first day, for hours a
            datetime; a count is an :class:`~.estimates.Estimate`. The list prints as a table.

        Raises:
            ArgumentTypeError, ArgumentValueError: among them a start after the end.
            BackendDataError: counts or sketches make no sense; ``failures`` has each of them, as
                (period name, bucket, error). Without these buckets the call answers.
            BackendError: the server failed.
        """
        operation = self._planner.lookup(period, start, end, buckets, shard, live=live, missing=missing)
        return self._run(operation, shard)

    # What sketches tell

    def unique(
        self,
        start: dt.date,
        end: dt.date,
        *,
        buckets: Buckets | None = None,
        aggregate_buckets: AggregateBuckets | None = None,
        period: PeriodKind | None = None,
        missing: Missing = "raise",
        shard: int = 0,
    ) -> Counts:
        """Distinct ids over the range [start, end), which is made of whole periods.

        An id counts if the newest thing that happened to it in the range was activity: one that moved away
        from a bucket does not count there, unless it was active again.

        Args:
            start: where the range begins.
            end: what it is in does not belong to the range: all of January is from the 1st of January to the
                1st of February.
            buckets: None = the tracker's, or none if aggregates are given.
            aggregate_buckets: {name: buckets to unite} to count besides.
            period: kind of period whose sketches are united; None = the coarsest of the tracker's that covers
                the range exactly and whose sketches are kept.
            missing: "raise" = where sketches are gone, or nothing was ever tracked, that is an error;
                "none" = the count is None, and `gaps` of the result say why.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A mapping of bucket to :class:`.Estimate`.

        Raises:
            MissingSketchesError: naming the periods, and the setting that decides how long they are kept.
            ArgumentTypeError, ArgumentValueError: also for a range that no kind of period covers exactly.
            BackendError: the server failed, or what it holds makes no sense.
        """
        asked = self._reading.asked(buckets, aggregate_buckets, missing, shard)
        return self._run(self._reading.unique(asked, start, end, period), shard)

    def rolling(
        self,
        window: int,
        *,
        period: PeriodKind = "daily",
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        aggregate_buckets: AggregateBuckets | None = None,
        missing: Missing = "raise",
        shard: int = 0,
    ) -> Series[Estimate]:
        """Distinct ids of trailing windows: ``rolling(7)`` are the users of seven days, for each day.

        Args:
            window: how many periods each window has.
            period: kind of period.
            start: the last period of the first window is the first one that begins at or after it; None =
                the first window whose sketches are all kept.
            end: the period that it is in is left out; None = now. One in the future takes the running period
                in, whose row is marked as not complete.
            buckets: see :meth:`unique`.
            aggregate_buckets: see :meth:`unique`.
            missing: see :meth:`unique`.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A row for each window, dated by its last period.

        Raises:
            MissingSketchesError: naming the periods, and the setting that decides how long they are kept.
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            BackendError: the server failed, or what it holds makes no sense.
        """
        asked = self._reading.asked(buckets, aggregate_buckets, missing, shard)
        return self._run(self._reading.rolling(asked, window, period, start, end), shard)

    def stickiness(
        self,
        window: int = 28,
        *,
        period: PeriodKind = "daily",
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        aggregate_buckets: AggregateBuckets | None = None,
        missing: Missing = "raise",
        shard: int = 0,
    ) -> Series[Share]:
        """The share of a trailing window's ids that are active in one of its periods, in the mean: DAU/MAU.

        Args:
            window: how many periods each window has.
            period: kind of period.
            start: see :meth:`rolling`.
            end: see :meth:`rolling`.
            buckets: see :meth:`unique`.
            aggregate_buckets: see :meth:`unique`.
            missing: see :meth:`unique`.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A row of :class:`.Share` for each window, dated by its last period.

        Raises:
            MissingSketchesError: naming the periods, and the setting that decides how long they are kept.
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            BackendError: the server failed, or what it holds makes no sense.
        """
        asked = self._reading.asked(buckets, aggregate_buckets, missing, shard)
        return self._run(self._reading.stickiness(asked, window, period, start, end), shard)

    def overlap(self, a: Selection, b: Selection, *, shard: int = 0) -> Overlap:
        """How many ids two selections have in common, and how many are in one alone.

        Args:
            a: ids of buckets over a range.
            b: others.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            Numbers and shares, each with limits. Below a Jaccard index of 0.01 to 0.02 they are uncertain.

        Raises:
            MissingSketchesError: naming the periods, and the setting that decides how long they are kept.
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            BackendError: the server failed, or what it holds makes no sense.
        """
        return self._run(self._reading.overlap(a, b, shard), shard)

    def retention(
        self,
        period: PeriodKind = "monthly",
        *,
        start: dt.date,
        end: dt.date,
        bucket: str | EllipsisType | None = ...,
        cohorts: Cohorts = "active",
        when: When = "on",
        look_back: int | None = None,
        missing: Missing = "raise",
        shard: int = 0,
    ) -> Retention:
        """How many ids of each period come back in later ones.

        Args:
            period: kind of period.
            start: the first cohort is that of the first period that begins at or after it.
            end: the period that it is in is left out, and what has not begun.
            bucket: a bucket or aggregate; need not be given where the tracker has none.
            cohorts: "active" = all ids of a period; "new" = those that were in none of the `look_back`
                periods before.
            when: "on" = active in the period of the offset; "on or after" = in it or a later one.
            look_back: of new cohorts; None = all periods whose sketches are kept.
            missing: see :meth:`unique`.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A row for each cohort, with a cell for each period from its own on.

        Raises:
            MissingSketchesError: naming the periods, and the setting that decides how long they are kept.
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            BackendError: the server failed, or what it holds makes no sense.
        """
        asked = self._reading.asked_of(bucket, missing, shard)
        operation = self._reading.retention(asked, period, start, end, cohorts, when, look_back)
        return self._run(operation, shard)

    def lifecycle(
        self,
        period: PeriodKind = "monthly",
        *,
        start: dt.date,
        end: dt.date,
        bucket: str | EllipsisType | None = ...,
        look_back: int | None = None,
        missing: Missing = "raise",
        shard: int = 0,
    ) -> Lifecycle:
        """How many ids of each period are new, retained, resurrected, and how many churned or moved away.

        Args:
            period: kind of period.
            start: the first row is that of the first period that begins at or after it.
            end: the period that it is in is left out, and what has not begun.
            bucket: a bucket or aggregate; need not be given where the tracker has none.
            look_back: new is who was in none of so many periods before; None = all whose sketches are kept.
            missing: see :meth:`unique`.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            A row for each period.

        Raises:
            MissingSketchesError: naming the periods, and the setting that decides how long they are kept.
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            BackendError: the server failed, or what it holds makes no sense.
        """
        asked = self._reading.asked_of(bucket, missing, shard)
        return self._run(self._reading.lifecycle(asked, period, start, end, look_back), shard)

    def sketch(
        self,
        period: PeriodKind,
        date: dt.date,
        bucket: str | EllipsisType | None = ...,
        *,
        shard: int = 0,
    ) -> Sketch:
        """The sketches of a bucket in one period, for questions that no other call answers.

        Args:
            period: kind of period.
            date: a date or datetime in the period.
            bucket: a bucket or aggregate; need not be given where the tracker has none.
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            MissingSketchesError: the sketch is gone, or nothing was ever tracked.
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            BackendError: the server failed, or what it holds makes no sense.
        """
        asked = self._reading.asked_of(bucket, "raise", shard, can_be_none=False)
        return self._run(self._reading.sketch(asked, period, date), shard)

    # All of it at a glance

    def report(
        self,
        path: str | PathLike[str],
        *,
        start: dt.date | None = None,
        end: dt.date | None = None,
        buckets: Buckets | None = None,
        bucket: str | EllipsisType | None = ...,
        title: str = "Active users",
        progress: Callable[[str], object] | None = None,
        shard: int = 0,
    ) -> Path:
        """Write a report: one HTML file that needs no network, with charts, what they say, and all numbers.

        It asks the calls above and shows what they answer: a year of days, by bucket; how many came within 28
        and 7 days; retention and lifecycle by month, or by week where only weeks are tracked; what buckets
        have in common. What is missing is shown as missing. It holds no ids.

        The file is there as a whole or not at all: it is written beside and renamed.

        Args:
            path: of the file, which is replaced.
            start: the first day; None = 365 days before the end, but not before the first data.
            end: the day that it is in does not belong to the report; None = now, today included, or after the
                newest data if these are older than a year.
            buckets: None = the tracker's with its aggregates; if it has none, all that :meth:`inventory`
                finds.
            bucket: a bucket or aggregate that reach, retention and lifecycle are about. Not given: an
                aggregate of all that are shown. Where there is none reach is of all together, if they are no
                more than twelve, and the rest, which is always about one, about the largest.
            title: the heading.
            progress: called with what is asked next, such as ``"retention"``, as often as something is asked;
                what it raises is raised as it is.
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            The path.

        Raises:
            MissingExtraError: jinja2 is not installed.
            ReportError: the file cannot be written.
            ArgumentTypeError, ArgumentValueError: naming the argument and what was expected.
            BackendError: the server failed, or what it holds makes no sense. If that is about a part of the
                data, the report says so, and shows the others.
        """
        from .report import Report, Source  # noqa: PLC0415 (an extra)

        planner = self._planner
        source = Source(
            planner.calendar,
            planner.clock,
            planner.buckets,
            lambda: planner.data_set(shard).context.aggregates,
        )
        report = Report.of(
            source,
            path,
            start=start,
            end=end,
            buckets=buckets,
            bucket=bucket,
            title=title,
            progress=progress,
            shard=shard,
        )
        return self._report(report)

    # Settings, and what there is

    @property
    def settings(self) -> DataSettings:
        """What :meth:`read_settings` returns, of the first shard."""
        return self.read_settings()

    def read_settings(self, *, shard: int = 0) -> DataSettings:
        """What is stored with the data, which all clients of a namespace agree on, or heed.

        It is read from the server each time. Time zone, first day of the week and whether there is a secret
        stand for ever; see :meth:`.ActivityTracker.change_settings` for the others.

        Args:
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            SettingsMismatchError: this client does not agree with what is stored.
            ArgumentTypeError, ArgumentValueError: there is no such shard.
            BackendError: the server or the way to it failed.
        """
        return self._run(self._planner.settings(shard), shard, None)

    def inventory(self, *, shard: int = 0) -> list[Entry]:
        """List what the server holds of each bucket and period, found by SCAN: slow on a large server.

        Args:
            shard: the data set, by its place in the backend's `shards` option.

        Returns:
            An entry for each bucket and period, by kind of period, start and bucket.

        Raises:
            BackendError: the server or the way to it failed.
        """
        return self._run(self._planner.inventory(shard), shard)

    # Shorthands: one period instead of a list of them

    lookup_hourly = of_kind("hourly")(lookup)
    lookup_daily = of_kind("daily")(lookup)
    lookup_weekly = of_kind("weekly")(lookup)
    lookup_monthly = of_kind("monthly")(lookup)
    lookup_quarterly = of_kind("quarterly")(lookup)
    lookup_yearly = of_kind("yearly")(lookup)

    def _report(self, report: Report) -> Path:
        return report.make(self)

    def _run(self, operation: Operation[T], shard: int, access: Access | None = Access.READ) -> T:
        handshake = None if access is None else self._planner.handshake(shard, access)
        if handshake is not None:
            run(handshake, lambda batch: self._backend.execute(batch, shard))
        send = self._backend.read if access is Access.READ else self._backend.execute
        return run(operation, lambda batch: send(batch, shard))

    _run_with_file = _run
    """For an operation that waits for a disk, too; under asyncio it does so elsewhere."""
