"""What trackers and writers plan with: settings, the calendar, keys, and what was learned of each server.

A plan is made in two steps: arguments are checked at once, and an operation is returned, which somebody else
drives. Nothing here sends, waits, or starts threads.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from datetime import datetime, timedelta
from functools import partial
from types import EllipsisType
from typing import TypeVar

from . import arguments
from .analytics.results import Rows
from .backends.base import DEFAULT_KEEP, BackendSettings, Keep, check_keep, check_length, fitting
from .errors import ArgumentTypeError, ArgumentValueError
from .keys import check_bucket
from .messages import shown, type_of
from .operations import (
    Access,
    Collapsed,
    Context,
    DataSet,
    DataSettings,
    Entry,
    Event,
    Examination,
    Given,
    Ids,
    Import,
    Imported,
    Operation,
    RowWithGaps,
    Scope,
    Tracking,
    Wanted,
    collapse,
    collapse_due,
    examine,
    inventory,
    lookup,
    outgrown,
    overdue,
    stored,
)
from .operations.counting.lookup import known_of
from .operations.rights import ROLES
from .operations.settings import Aggregates
from .periods import PERIODS, Calendar, PeriodKind, check_kind
from .tables import TableLayout

__all__ = ["Planner"]

T = TypeVar("T")
_LOOKUP_SPAN = timedelta(days=365)


class Planner:
    """Plans calls for one tracker and its writers.

    Args:
        settings: of the backend: what belongs to the data.
        calendar: finds periods.
        periods: default kinds of period.
        buckets, aggregates: default buckets, None = none, and aggregates of them.
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
            settings.check_keep_of(kind)
        self._tracking = Tracking(calendar)
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
            settings = self._settings
            context = Context(
                settings.keys,
                self.calendar,
                settings.ids,
                settings.moved_limit,
                {kind: DEFAULT_KEEP[kind] for kind in PERIODS},
                Given(fitting(settings.keep_given), self.aggregates),
                known=None if self.buckets is None else frozenset((*self.buckets, *self.aggregates)),
                is_cluster=settings.is_cluster(shard),
                lacking=settings.lacking,
            )
            found = self._data_sets.setdefault(shard, DataSet(context, self.ticks, self.clock))
        return found

    def agreeing(self, operation: Operation[T], shard: int, access: Access) -> Operation[T]:
        """The operation; before the first of a data set, settings are compared."""
        return self.data_set(shard).agreeing(operation, access)

    def handshake(self, shard: int, access: Access) -> Operation[None] | None:
        """What comes before such an operation: comparing settings; None = that is not due yet."""
        return self.data_set(shard).handshake(access)

    def _planned(self, data: DataSet, plan: Callable[[], Operation[T]]) -> Operation[T]:
        """Plan at once, so that bad arguments are refused before anything is sent, and all is ready.

        The first operation of all is preceded by the handshake, which may tell the zone that dates are in,
        and aggregates: it is planned anew then.
        """
        operation = plan()
        return operation if data.is_known else _anew(plan)

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
                self._settings.check_keep_of(kind)
        return kinds

    def asked(self, buckets: arguments.Buckets | None) -> tuple[str | None, ...]:
        """The buckets that a call is about: its own, else the tracker's, else the unnamed one.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument.
        """
        if buckets is not None:
            return arguments.bucket_list(buckets)
        return (None,) if self.buckets is None else self.buckets

    def event(
        self,
        data: DataSet,
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
        context = data.context
        bucket, old_bucket = check_bucket(bucket), check_bucket(old_bucket, "old_bucket")
        if id is None and old_id is None:
            raise ArgumentTypeError("id must be a str, bytes, int or UUID, got None (and no old_id)")
        added = None if id is None else context.ids.one(id)
        removed = None if old_id is None else context.ids.one(old_id, "old_id")
        if added is not None:
            context.trackable(bucket)
        if removed is not None:
            context.trackable(old_bucket)
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
        kinds, data = self.kinds(periods), self.data_set(shard)
        event = self.event(data, kinds, id, bucket, old_id, old_bucket, date)
        if data.is_known:
            return self._tracking.track(data, kinds, event, self.clock())
        return self._planned(
            data,
            lambda: self._tracking.track(
                data, kinds, self.event(data, kinds, id, bucket, old_id, old_bucket, date), self.clock()
            ),
        )

    def track_many(
        self,
        ids: object,
        periods: Iterable[PeriodKind] | None,
        bucket: str | None,
        date: dt.date | None,
        shard: int,
    ) -> Operation[None]:
        """See :meth:`.ActivityTracker.track_many`."""
        kinds, data = self.kinds(periods), self.data_set(shard)
        bucket = check_bucket(bucket)
        checked = Ids.check(ids, data.context.ids)

        def plan() -> Operation[None]:
            each = Event(None, data.context.trackable(bucket), None, None, *self._when(date, kinds))
            return self._tracking.track_many(data, kinds, checked, each, self.clock())

        return self._planned(data, plan)

    def import_events(
        self,
        events: object,
        periods: Iterable[PeriodKind] | None,
        table: TableLayout | None,
        progress: Callable[[int], object] | None,
        shard: int,
    ) -> Operation[Imported]:
        """See :meth:`.ActivityTracker.import_events`."""
        events = events if table is None else table.events(events)
        if isinstance(events, (str, bytes, Mapping)) or not isinstance(events, Iterable):
            raise ArgumentTypeError(
                f"events must be an iterable of (id, bucket, datetime) or a table, got {type_of(events)}"
            )
        begun = self.begin_import(periods, progress, shard, can_wait=isinstance(events, Sized))
        return self._tracking.import_events(events, begun)

    def begin_import(
        self,
        periods: Iterable[PeriodKind] | None,
        progress: Callable[[int], object] | None,
        shard: int,
        *,
        can_wait: bool = False,
    ) -> Import:
        """The same without events, which are still to come; see :class:`.Import`."""
        kinds = self.kinds(periods)
        arguments.check_callable(progress, "progress")
        data = self.data_set(shard)
        find_outgrown = partial(outgrown, data.context)
        return self._tracking.begin_import(
            data, kinds, self.clock, find_outgrown, progress, can_wait=can_wait
        )

    def finish_import(self, begun: Import) -> Operation[Imported]:
        """All that was added has been: push what is left."""
        return self._tracking.finish(begun)

    def collapse(
        self,
        periods: Iterable[PeriodKind] | None,
        date: dt.date | None,
        max_periods: int | None,
        buckets: arguments.Buckets | None,
        aggregate_buckets: arguments.AggregateBuckets | None,
        shard: int,
        *,
        recount: bool,
    ) -> Operation[list[Collapsed]]:
        """See :meth:`.ActivityTracker.collapse`."""
        kinds, data = self.kinds(periods), self.data_set(shard)
        if max_periods is not None:
            arguments.number_of_periods(max_periods, "max_periods")
        own = None if buckets is None else arguments.bucket_list(buckets)
        unions = (
            None
            if aggregate_buckets is None
            else arguments.aggregates(aggregate_buckets, self.buckets if own is None else own)
        )
        again = arguments.flag(recount, "recount")
        if date is not None:
            self._moment(date, kinds)
        return self._collapse(data.context, kinds, date, max_periods, own, unions, again)

    def _collapse(
        self,
        context: Context,
        kinds: Sequence[PeriodKind],
        date: dt.date | None,
        max_periods: int | None,
        buckets: tuple[str | None, ...] | None,
        aggregate_buckets: Aggregates | None,
        recount: bool,
    ) -> Operation[list[Collapsed]]:
        scope = Scope.of(context, self.buckets, buckets, aggregate_buckets)
        moment = self._now() if date is None else self._moment(date, kinds)
        if max_periods is None:
            past, idle = yield from overdue(context, kinds, moment, scope, recount=recount)
        else:
            past = [period for kind in kinds for period in self.calendar.before(kind, moment, max_periods)]
            idle = []
        return (yield from collapse(context, past, scope, recount=recount, idle=idle))

    def collapse_due(
        self,
        periods: Iterable[PeriodKind] | None,
        date: dt.date | None,
        max_periods: int | None,
        buckets: arguments.Buckets | None,
        aggregate_buckets: arguments.AggregateBuckets | None,
        shard: int,
        *,
        recount: bool,
        progress: Callable[[int, int], object] | None,
    ) -> Operation[list[Collapsed]]:
        """See :meth:`.ActivityTracker.collapse_due`."""
        arguments.check_callable(progress, "progress")
        if max_periods is not None:
            arguments.number_of_periods(max_periods, "max_periods")
        data = self.data_set(shard)
        kinds = () if periods is None else self.kinds(periods)
        own = None if buckets is None else arguments.bucket_list(buckets)
        unions = {} if aggregate_buckets is None else arguments.aggregates(aggregate_buckets, None)
        again = arguments.flag(recount, "recount")
        if date is not None:
            self.calendar.moment(date, "date")

        def operation() -> Operation[list[Collapsed]]:
            wanted = Wanted(
                kinds=kinds,
                buckets=own,
                aggregates={**data.context.aggregates, **stored(data.context, unions)},
                strict=tuple(unions),
                recount=again,
                date=None if date is None else self.calendar.moment(date, "date"),
                max_periods=max_periods,
            )
            return (yield from collapse_due(data.context, wanted, self._now(), progress))

        return operation()

    def examine(self, shard: int, role: str | None) -> Operation[Examination]:
        """See :meth:`.ActivityTracker.examine`."""
        data = self.data_set(shard)
        roles = ROLES if role is None else (arguments.one_of(role, "role", ROLES),)
        return examine(data.context, data.agree(Access.READ), self._now, roles)

    def lookup(
        self,
        period: PeriodKind | None,
        start: dt.date | None,
        end: dt.date | None,
        buckets: arguments.Buckets | None,
        shard: int,
        *,
        live: bool | None,
        missing: int | None,
    ) -> Operation[Rows[RowWithGaps]]:
        """See :meth:`.ActivityTracker.lookup`."""
        kind, data = self._kind(period), self.data_set(shard)
        is_live = None if live is None else arguments.flag(live, "live")
        wanted = self.asked(buckets)
        if missing is not None:
            arguments.integer(missing, "missing", minimum=0)

        for bound, name in ((start, "start"), (end, "end")):
            if bound is not None:
                self.calendar.moment(bound, name)
        if self.calendar.gives_zone:
            self._range(kind, start, end, running=is_live is True)
        return self._lookup(data.context, kind, start, end, wanted, is_live, missing)

    def _lookup(
        self,
        context: Context,
        kind: PeriodKind,
        start: dt.date | None,
        end: dt.date | None,
        buckets: tuple[str | None, ...],
        live: bool | None,
        missing: int | None,
    ) -> Operation[Rows[RowWithGaps]]:
        for bucket in buckets:
            if bucket not in context.aggregates:
                context.note(bucket, "is it misspelled?")
        first, last = self._range(kind, start, end, running=live is True)
        rows = list(self.calendar.between(kind, first, last))
        if start is None:
            rows = known_of(context, rows, buckets)
        running = self.calendar.containing(kind, self._now()).date
        return (yield from lookup(context, rows, buckets, missing, live is not False, running))

    def inventory(self, shard: int) -> Operation[list[Entry]]:
        """See :meth:`.ActivityTracker.inventory`."""
        return inventory(self.data_set(shard).context)

    def settings(self, shard: int) -> Operation[DataSettings]:
        """See :meth:`.Reader.read_settings`."""
        return self.data_set(shard).read_settings()

    def change_settings(
        self,
        keep_sketches: Keep | EllipsisType,
        aggregate_buckets: Mapping[str, arguments.Buckets | None],
        shard: int,
    ) -> Operation[DataSettings]:
        """See :meth:`.ActivityTracker.change_settings`."""
        keep = {} if keep_sketches is ... else check_keep(keep_sketches)
        if isinstance(keep_sketches, Mapping):
            for kind, length in keep.items():
                check_length(kind, length)
        items = arguments.entries(
            aggregate_buckets, "aggregate_buckets", "a dict of name: [bucket, ...] or None"
        )
        removed: dict[str, None] = {}
        given: dict[str, arguments.Buckets] = {}
        for name, sources in items:
            checked = arguments.aggregate_name(name)
            if sources is None:
                removed[checked] = None
            else:
                given[checked] = sources
        aggregates = {**removed, **arguments.aggregates(given, None)}
        return self.data_set(shard).change_settings(fitting(keep), aggregates)

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


def _anew(plan: Callable[[], Operation[T]]) -> Operation[T]:
    return (yield from plan())
