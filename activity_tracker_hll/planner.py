"""What trackers and writers plan with: settings, the calendar, keys, and what was learned of each server.

A plan is made in two steps: arguments are checked at once, and an operation is returned, which somebody else
drives. Nothing here sends, waits, or starts threads.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from . import arguments
from .backends.base import BackendSettings
from .errors import ArgumentTypeError, ArgumentValueError
from .keys import check_bucket
from .messages import shown
from .operations import (
    Collapsed,
    Context,
    DataSet,
    Entry,
    Event,
    Examination,
    Imported,
    Operation,
    RowWithGaps,
    Tracking,
    Wanted,
    collapse,
    collapse_due,
    examine,
    inventory,
    lookup,
)
from .operations.base import Aggregates
from .periods import PERIODS, Calendar, PeriodKind, check_kind

__all__ = ["Planner"]

T = TypeVar("T")
_LOOKUP_SPAN = timedelta(days=365)
_MOST_PERIODS = 100_000  # eleven years of hours


class Planner:
    """Plans calls for one tracker and its writers.

    Args:
        settings: of the backend: what belongs to the data.
        calendar: finds periods.
        periods: default kinds of period.
        buckets, aggregates: default buckets, and aggregates of them.
        clock: seconds since the epoch.

    Raises:
        ArgumentValueError: sketches of a default kind of period are kept for less than one.
    """

    def __init__(
        self,
        settings: BackendSettings,
        calendar: Calendar,
        periods: tuple[PeriodKind, ...] | None,
        buckets: tuple[str | None, ...] | None,
        aggregates: Aggregates,
        clock: Callable[[], float],
    ) -> None:
        self.calendar = calendar
        self.clock = clock
        self.periods = periods
        self.buckets = buckets
        self.aggregates = aggregates
        self._settings = settings
        for kind in periods or ():
            settings.keep_of(kind)
        self.context = Context(
            settings.keys,
            calendar,
            settings.ids,
            settings.moved_limit,
            lambda period: settings.keep_of(period.kind),
            frozenset(aggregates),
        )
        self._tracking = Tracking(self.context)
        self._data_sets: dict[int, DataSet] = {}

    @staticmethod
    def ticks() -> int:
        """Microseconds of a clock that is never set."""
        return time.monotonic_ns() // 1000

    def data_set(self, shard: int) -> DataSet:
        """What is known of a shard's server.

        Raises:
            ArgumentTypeError, ArgumentValueError: there is no such shard.
        """
        found = self._data_sets.get(shard) if type(shard) is int else None
        if found is None:
            self._settings.check_shard(shard)
            found = self._data_sets.setdefault(shard, DataSet(self.context, self.ticks, self.clock))
        return found

    def agreeing(self, operation: Operation[T], shard: int, *, write: bool) -> Operation[T]:
        """The operation; before the first of a data set, settings are compared."""
        return self.data_set(shard).agreeing(operation, write=write)

    def described(self) -> str:
        """The settings, for people."""
        buckets, zone = shown(self.buckets), shown(self.calendar.zone_name)
        return f"periods={self.periods} buckets={buckets} timezone={zone}"

    # Arguments

    def kinds(self, periods: Iterable[PeriodKind] | None) -> tuple[PeriodKind, ...]:
        """Kinds of period, given or by default.

        Raises:
            ArgumentTypeError, ArgumentValueError: unknown ones, or none at all.
        """
        kinds = self.periods if periods is None else arguments.kinds(periods)
        if not kinds:
            raise ArgumentValueError("periods must be given, here or to the constructor")
        if kinds is not self.periods:
            for kind in kinds:
                self._settings.keep_of(kind)
        return kinds

    def event(
        self,
        kinds: Sequence[str],
        id: object,
        bucket: str | None,
        old_id: object,
        old_bucket: str | None,
        date: dt.date | None,
    ) -> Event:
        """An event, checked and encoded.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument.
        """
        moment, stamp = self._when(date, kinds)
        bucket = self.context.trackable(check_bucket(bucket))
        old_bucket = self.context.trackable(check_bucket(old_bucket, "old_bucket"))
        if id is None and old_id is None:
            raise ArgumentTypeError("id must be a str, bytes, int or UUID, got None (and no old_id)")
        ids = self.context.ids
        added = None if id is None else ids.one(id)
        removed = None if old_id is None else ids.one(old_id, "old_id")
        if added == removed and bucket == old_bucket:
            removed = None  # it was here and is here
        return Event(added, bucket, removed, old_bucket, moment, stamp)

    def names(self, kinds: tuple[str, ...], event: Event) -> tuple[str, ...]:
        """Names of an event's periods."""
        return self._tracking.periods(kinds, event.moment, self.clock())

    def running(self) -> set[str]:
        """Names of all periods that run, and do so for a while."""
        return self._tracking.running(self.clock())

    def _when(self, date: dt.date | None, kinds: Sequence[str]) -> tuple[datetime | None, int | None]:
        """When an event was, if that is said; and microseconds since 1970, if it is said to the second."""
        if date is None:
            return None, None
        moment = self._moment(date, kinds)
        return moment, self.calendar.microseconds(date, "date") if isinstance(date, datetime) else None

    def _moment(self, date: dt.date, kinds: Sequence[str]) -> datetime:
        return self.calendar.moment(date, "date", needs_hour="hourly" in kinds)

    def _now(self) -> datetime:
        return self.calendar.local(self.clock())

    # Operations

    def track(
        self,
        periods: Iterable[PeriodKind] | None,
        id: object,
        bucket: str | None,
        old_id: object,
        old_bucket: str | None,
        date: dt.date | None,
        shard: int,
    ) -> Operation[None]:
        """See :meth:`.ActivityTracker.track`."""
        kinds = self.kinds(periods)
        event = self.event(kinds, id, bucket, old_id, old_bucket, date)
        return self._tracking.track(self.data_set(shard), kinds, event, self.clock())

    def track_many(
        self,
        ids: object,
        periods: Iterable[PeriodKind] | None,
        bucket: str | None,
        date: dt.date | None,
        shard: int,
    ) -> Operation[None]:
        """See :meth:`.ActivityTracker.track_many`."""
        kinds = self.kinds(periods)
        bucket = self.context.trackable(check_bucket(bucket))
        each = Event(None, bucket, None, None, *self._when(date, kinds))
        return self._tracking.track_many(self.data_set(shard), kinds, ids, each, self.clock())

    def import_events(
        self,
        events: object,
        periods: Iterable[PeriodKind] | None,
        progress: Callable[[int], object] | None,
        shard: int,
    ) -> Operation[Imported]:
        """See :meth:`.ActivityTracker.import_events`."""
        if isinstance(events, (str, bytes, Mapping)) or not isinstance(events, Iterable):
            raise ArgumentTypeError(
                f"events must be an iterable of (id, bucket, datetime), got {type(events).__name__}"
            )
        kinds = self.kinds(periods)
        arguments.check_callable(progress, "progress")
        return self._tracking.import_events(self.data_set(shard), kinds, events, progress, self.clock)

    def collapse(
        self,
        periods: Iterable[PeriodKind] | None,
        date: dt.date | None,
        max_periods: int,
        buckets: arguments.Buckets | None,
        aggregate_buckets: arguments.AggregateBuckets | None,
        *,
        recount: bool,
    ) -> Operation[list[Collapsed]]:
        """See :meth:`.ActivityTracker.collapse`."""
        chosen, aggregates = self._chosen(buckets, aggregate_buckets)
        kinds = self.kinds(periods)
        moment = self._now() if date is None else self._moment(date, kinds)
        arguments.integer(max_periods, "max_periods", minimum=1, maximum=_MOST_PERIODS)
        past = [period for kind in kinds for period in self.calendar.before(kind, moment, max_periods)]
        # Without a list of its own a tracker does not know what other buckets there are.
        others = None if self.buckets is None else [bucket for bucket in self.buckets if bucket not in chosen]
        return collapse(self.context, past, chosen, aggregates, arguments.flag(recount, "recount"), others)

    def collapse_due(
        self,
        periods: Iterable[PeriodKind] | None,
        date: dt.date | None,
        max_periods: int | None,
        buckets: arguments.Buckets | None,
        aggregate_buckets: arguments.AggregateBuckets | None,
        *,
        recount: bool,
        progress: Callable[[int, int], object] | None,
    ) -> Operation[list[Collapsed]]:
        """See :meth:`.ActivityTracker.collapse_due`."""
        arguments.check_callable(progress, "progress")
        aggregates = (
            self.aggregates if aggregate_buckets is None else arguments.aggregates(aggregate_buckets, None)
        )
        wanted = Wanted(
            kinds=() if periods is None else self.kinds(periods),
            buckets=() if buckets is None else arguments.bucket_list(buckets),
            aggregates=aggregates,
            strict=aggregate_buckets is not None,
            recount=arguments.flag(recount, "recount"),
            date=None if date is None else self.calendar.moment(date, "date"),
            max_periods=None
            if max_periods is None
            else arguments.integer(max_periods, "max_periods", minimum=1, maximum=_MOST_PERIODS),
        )
        return collapse_due(self.context, wanted, self._now(), progress)

    def examine(self, shard: int) -> Operation[Examination]:
        """See :meth:`.ActivityTracker.examine`."""
        return examine(self.context, self.data_set(shard).agree(write=False), self._now())

    def lookup(
        self,
        period: PeriodKind | None,
        start: dt.date | None,
        end: dt.date | None,
        buckets: arguments.Buckets | None,
        *,
        live: bool,
        missing: int | None,
    ) -> Operation[list[RowWithGaps]]:
        """See :meth:`.ActivityTracker.lookup`."""
        kind, live = self._kind(period), arguments.flag(live, "live")
        first, last = self._range(kind, start, end, running=live)
        wanted = (None,) if buckets is None and not self.buckets else self._chosen(buckets, {})[0]
        if missing is not None:
            arguments.integer(missing, "missing", minimum=0)
        rows = list(self.calendar.between(kind, first, last))
        return lookup(self.context, rows, wanted, missing, live, self.aggregates)

    def inventory(self) -> Operation[list[Entry]]:
        """See :meth:`.ActivityTracker.inventory`."""
        return inventory(self.context)

    def _kind(self, period: PeriodKind | None) -> PeriodKind:
        if period is not None:
            return check_kind(period)
        if self.periods is None or len(self.periods) != 1:
            raise ArgumentValueError(f"period must be given: one of {', '.join(self.periods or PERIODS)}")
        return self.periods[0]

    def _range(
        self, kind: str, start: dt.date | None, end: dt.date | None, *, running: bool
    ) -> tuple[datetime, datetime]:
        if end is not None:
            last = self.calendar.moment(end, "end")
        else:
            last = self._now() if kind == "hourly" else datetime.combine(self._now(), datetime.min.time())
        first = last - _LOOKUP_SPAN if start is None else self.calendar.moment(start, "start")
        if first > last:
            raise ArgumentValueError(
                f"start must not be after end, got {shown(start)} and {shown(end or last)}"
            )
        if end is None and running:
            last = self.calendar.containing(kind, last).next().start
        return first, last

    def _chosen(
        self,
        buckets: arguments.Buckets | None,
        aggregate_buckets: arguments.AggregateBuckets | None,
    ) -> tuple[tuple[str | None, ...], Aggregates]:
        """The buckets and aggregates a call is about: its own, else the tracker's."""
        chosen = (None if buckets is None else arguments.bucket_list(buckets)) or self.buckets
        if aggregate_buckets is not None:
            aggregates = arguments.aggregates(aggregate_buckets, chosen)
        elif buckets is None:
            aggregates = self.aggregates
        else:
            # The tracker's aggregates, where the call's own buckets make them whole.
            own = set(chosen or ())
            aggregates = {name: of for name, of in self.aggregates.items() if own.issuperset(of)}
        if chosen is None:
            chosen = tuple(dict.fromkeys(source for of in aggregates.values() for source in of)) or (None,)
        return chosen, aggregates
