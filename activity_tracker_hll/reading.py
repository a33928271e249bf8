"""Plans of the calls that ask what sketches tell: windows, overlap, retention, lifecycle.

Like :class:`.Planner`, whose settings they use: arguments are checked at once, and an operation is returned.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from types import EllipsisType
from typing import Any, Literal

from . import arguments
from .analytics.cohorts import When, retention
from .analytics.lifecycle import lifecycle
from .analytics.overlap import overlap_of
from .analytics.results import Counts, Lifecycle, Retention, Series
from .analytics.spans import ALL, Span
from .analytics.windows import stickiness
from .errors import ArgumentTypeError, ArgumentValueError
from .estimates import Estimate, Share
from .keys import check_bucket
from .messages import plain_text, shown
from .operations import Operation
from .operations.base import together
from .operations.series import count_windows
from .operations.spans import View, look, mark_untracked, series
from .operations.survey import Name, have_begun, kept
from .overlaps import Overlap
from .periods import LONGEST, PERIODS, Period, PeriodKind, check_kind
from .planner import Planner
from .result import ByBucket
from .selection import Asked, Missing, Selection
from .sketch import Sketch

__all__ = ["Cohorts", "Reading"]

Cohorts = Literal["active", "new"]
_FIRST_LOOK = 64  # periods


class Reading:
    """Plans reading calls for one tracker."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._calendar = planner.calendar

    # Calls

    def unique(
        self, asked: Asked, start: dt.date, end: dt.date, period: PeriodKind | None
    ) -> Operation[Counts]:
        """See :meth:`.Reader.unique`."""
        kind = None if period is None else check_kind(period)
        self._check_range(start, end)

        def operation() -> Operation[Counts]:
            names = asked.names()
            first, last = self._bounds(start, end)
            view = yield from self._cover(asked, names, first, last, kind, count=True)
            window = range(len(view.periods))
            found = yield from view.unique([window])
            counts = {name: numbers[0] for name, numbers in found.items()}
            kind_ = view.running.kind
            return Counts(start, end, kind_, ByBucket(counts), view.is_complete(window), view.gaps())

        return operation()

    def rolling(
        self, asked: Asked, window: int, period: PeriodKind, start: dt.date | None, end: dt.date | None
    ) -> Operation[Series[Estimate]]:
        """See :meth:`.Reader.rolling`."""
        look = self._windows(asked, window, period, start, end)

        def operation() -> Operation[Series[Estimate]]:
            view, covered = yield from look(count=True)
            return series("unique", window, view, covered, (yield from view.unique(covered)))

        return operation()

    def stickiness(
        self, asked: Asked, window: int, period: PeriodKind, start: dt.date | None, end: dt.date | None
    ) -> Operation[Series[Share]]:
        """See :meth:`.Reader.stickiness`."""
        look = self._windows(asked, window, period, start, end)

        def operation() -> Operation[Series[Share]]:
            view, covered = yield from look()
            columns = {}
            for each in view.found:
                columns[each.name.name] = stickiness((yield from view.span(each)), covered)
            return series("stickiness", window, view, covered, columns)

        return operation()

    def _windows(
        self,
        asked: Asked,
        window: int,
        period: PeriodKind,
        start: dt.date | None,
        end: dt.date | None,
    ) -> Callable[..., Operation[tuple[View, list[range]]]]:
        """What there is, and the windows."""
        kind = check_kind(period)
        window = arguments.number_of_periods(window, "window")
        self._check_range(start, end, optional=True)

        def look(*, count: bool = False) -> Operation[tuple[View, list[range]]]:
            names, last = asked.names(), self._end(kind, end)
            if start is None:
                periods = yield from kept(asked.context, names, last, max(_FIRST_LOOK, 2 * window))
                periods = periods or self._before(last, 1)
            else:
                periods = self._periods(kind, start, last)
            if start is not None or len(periods) < window:
                periods = self._before(periods[0], window - 1, "window") + periods
            windows = [range(stop - window, stop) for stop in range(window, len(periods) + 1)]
            return (yield from self._view(asked, names, periods, windows if count else ())), windows

        return look

    def overlap(self, a: Selection, b: Selection, shard: int) -> Operation[Overlap]:
        """See :meth:`.Reader.overlap`."""
        checked = []
        for selection, argument in ((a, "a"), (b, "b")):
            if not isinstance(selection, Selection):
                raise ArgumentTypeError(f"{argument} must be a Selection, got {shown(selection)}")
            several: Any = selection.buckets
            buckets = [several] if several is None or plain_text(several) is not None else several
            chosen = arguments.bucket_list(buckets, f"{argument}.buckets")
            asked = self._asked(chosen, {}, "raise", shard, together=True, can_be_none=False)
            kind = None if selection.period is None else check_kind(selection.period, f"{argument}.period")
            self._check_range(selection.start, selection.end, f"{argument}.")
            checked.append((selection, asked, kind))

        def operation() -> Operation[Overlap]:
            spans: list[Span] = []
            complete = True
            for selection, asked, kind in checked:
                [name] = asked.names()
                first, last = self._bounds(selection.start, selection.end)
                view = yield from self._cover(asked, [name], first, last, kind)
                spans.append((yield from view.span(view.found[0])))
                complete = complete and view.is_complete(range(len(view.periods)))
            return overlap_of(*spans, complete=complete)

        return operation()

    def retention(
        self,
        asked: Asked,
        period: PeriodKind,
        start: dt.date,
        end: dt.date,
        cohorts: Cohorts,
        when: When,
        look_back: int | None,
    ) -> Operation[Retention]:
        """See :meth:`.Reader.retention`."""
        kind = check_kind(period)
        arguments.one_of(cohorts, "cohorts", ("active", "new"))
        arguments.one_of(when, "when", ("on", "on or after"))
        if look_back is not None:
            look_back = arguments.number_of_periods(look_back, "look_back")
            if cohorts == "active":
                raise ArgumentValueError("look_back is for cohorts='new': those of the active need none")
        self._check_range(start, end)

        def operation() -> Operation[Retention]:
            names = asked.names()
            periods = self._periods(kind, start, self._end(kind, end))
            past: list[Period] = []
            if cohorts == "new":
                past = yield from self._past(asked, names, periods[0], look_back)
            view = yield from self._view(asked, names, past + periods)
            span = yield from view.span(view.found[0])
            used = None if cohorts == "active" else look_back or ALL
            rows, means = retention(span, len(past), used, when)
            told = None if cohorts == "active" else len(past)
            since = view.periods[0].date if cohorts == "new" and look_back is None else None
            return Retention(
                kind, names[0].name, cohorts, when, told, rows, means, gaps=view.gaps(), since=since
            )

        return operation()

    def lifecycle(
        self, asked: Asked, period: PeriodKind, start: dt.date, end: dt.date, look_back: int | None
    ) -> Operation[Lifecycle]:
        """See :meth:`.Reader.lifecycle`."""
        kind = check_kind(period)
        if look_back is not None:
            look_back = arguments.number_of_periods(look_back, "look_back")
        self._check_range(start, end)

        def operation() -> Operation[Lifecycle]:
            names = asked.names()
            periods = self._periods(kind, start, self._end(kind, end))
            past = yield from self._past(asked, names, periods[0], look_back)
            since = None if look_back else (past or periods)[0].date
            before = past or self._before(periods[0], 1)
            view = yield from self._view(asked, names, before + periods)
            span = yield from view.span(view.found[0])
            rows = lifecycle(span, len(before), look_back or ALL, len(before) - len(past))
            return Lifecycle(kind, names[0].name, len(before), rows, view.gaps(), since)

        return operation()

    def sketch(self, asked: Asked, period: PeriodKind, date: dt.date) -> Operation[Sketch]:
        """See :meth:`.Reader.sketch`."""
        kind = check_kind(period)
        self._calendar.moment(date, "date", needs_hour=kind == "hourly")

        def operation() -> Operation[Sketch]:
            moment = self._calendar.moment(date, "date", needs_hour=kind == "hourly")
            view = yield from self._view(asked, asked.names(), [self._calendar.containing(kind, moment)])
            [found] = view.found
            [layers] = (yield from view.span(found)).history
            if len(layers) > 1 and found.has_moves:
                raise ArgumentValueError(
                    f"bucket {shown(found.name.name)} is an aggregate whose ids move among its sources: no"
                    " single sketch can tell them; ask for the sketches of its sources"
                )
            return Sketch.of(layers, asked.context.ids, asked.context.agreed.fingerprint)

        return operation()

    # Arguments

    def asked(
        self,
        buckets: arguments.Buckets | None,
        aggregate_buckets: arguments.AggregateBuckets | None,
        missing: Missing,
        shard: int,
    ) -> Asked:
        """What a call asks for.

        Args:
            buckets: None = the tracker's, or none if there are aggregates.
            aggregate_buckets: more names, of unions.
            missing: what becomes of what is missing.
            shard: of which data set.
        """
        unions = None if aggregate_buckets is None else arguments.aggregates(aggregate_buckets, None)
        arguments.one_of(missing, "missing", ("raise", "none"))
        chosen = () if buckets is None and unions else self._planner.asked(buckets)
        return self._asked(chosen, unions or {}, missing, shard)

    def _asked(
        self,
        buckets: tuple[str | None, ...],
        unions: Mapping[str, tuple[str | None, ...]],
        missing: Missing,
        shard: int,
        *,
        together: bool = False,
        can_be_none: bool = True,
    ) -> Asked:
        context = self._planner.data_set(shard).context
        return Asked(context, buckets, unions, missing, together, can_be_none)

    def asked_of(
        self, bucket: str | EllipsisType | None, missing: Missing, shard: int, *, can_be_none: bool = True
    ) -> Asked:
        """What a call about one bucket asks for; it is the unnamed one where the tracker has no others."""
        if bucket is ... and self._planner.buckets not in {None, (None,)}:
            raise ArgumentTypeError(f"bucket must be given: one of {shown(self._planner.buckets)}")
        arguments.one_of(missing, "missing", ("raise", "none"))
        chosen = None if bucket is ... else check_bucket(bucket)
        return self._asked((chosen,), {}, missing, shard, can_be_none=can_be_none)

    def _check_range(
        self, start: dt.date | None, end: dt.date | None, prefix: str = "", *, optional: bool = False
    ) -> None:
        """Refuse what is wrong whatever the zone is."""
        for bound, name in ((start, "start"), (end, "end")):
            if bound is not None or not optional:
                self._calendar.moment(bound, prefix + name)
        if start is not None and end is not None and self._calendar.gives_zone:
            self._bounds(start, end)

    def _bounds(self, start: dt.date, end: dt.date) -> tuple[datetime, datetime]:
        first, last = self._calendar.moment(start, "start"), self._calendar.moment(end, "end")
        if not first < last:
            raise ArgumentValueError(
                "start must lie before end, which does not belong to the range, got"
                f" {_day(first)} and {_day(last)}"
            )
        return first, last

    # Periods

    def _now(self) -> datetime:
        return self._calendar.local(self._planner.clock())

    def _end(self, kind: PeriodKind, end: dt.date | None) -> Period:
        """The first period that does not belong to a range: what `end` is in; none lies in the future."""
        running = self._calendar.containing(kind, self._now())
        if end is None:
            return running
        last = self._calendar.containing(kind, self._calendar.moment(end, "end"))
        return min(last, running.next(), key=lambda period: period.start)

    def _periods(self, kind: PeriodKind, start: dt.date, last: Period) -> list[Period]:
        """The whole periods from `start` on and before one.

        Raises:
            ArgumentValueError: there are none.
        """
        first = self._calendar.moment(start, "start")
        _check_number(kind, first, last.start)
        found = list(self._calendar.between(kind, first, last.start))
        if not found:
            raise _no_whole(kind, first, last.start)
        return found

    def _past(
        self, asked: Asked, names: Sequence[Name], period: Period, look_back: int | None
    ) -> Operation[list[Period]]:
        """The periods before one that are looked back at; None = all that is kept."""
        if look_back is None:
            return (yield from kept(asked.context, names, period, _FIRST_LOOK))
        return self._before(period, look_back, "look_back")

    def _before(self, period: Period, count: int, argument: str = "") -> list[Period]:
        """So many periods before one, oldest first."""
        found = list(self._calendar.before(period.kind, period.start, count))
        if len(found) < count:
            raise ArgumentValueError(f"{argument} reaches back beyond the year 1000")
        return found[::-1]

    def _cover(
        self,
        asked: Asked,
        names: Sequence[Name],
        first: datetime,
        last: datetime,
        kind: PeriodKind | None,
        *,
        count: bool = False,
    ) -> Operation[View]:
        """What there is of periods that cover a range exactly: of the coarsest kind that is kept.

        Not all ids need have been tracked in every kind of period, as one that was added later: it is the
        kind that knows of most ids. If a kind is known to have begun before, for each name, that is it.

        Raises:
            ArgumentValueError: no kind covers it.
        """
        kinds = [kind] if kind else sorted(self._planner.periods or PERIODS, key=PERIODS.index, reverse=True)
        now = self._now()
        covers: list[tuple[PeriodKind, datetime]] = []
        for each in kinds:
            ends = [self._calendar.containing(each, bound) for bound in (first, last)]
            if [period.start for period in ends] == [first, last] and first <= now:
                until = min(last, self._calendar.containing(each, now).next().start)
                if kind or not _is_too_long(each, first, until):
                    _check_number(each, first, until)
                    covers.append((each, until))
        if not covers:
            raise ArgumentValueError(
                f"no {kind or 'kind of'} period covers the range exactly, from {first} until {last}, which"
                f" does not belong to it (of {', '.join(kinds)})"
                if first <= now
                else f"start must not lie in the future, got {first}"
            )
        with_periods = [cover for cover in covers if any(self._calendar.between(cover[0], first, cover[1]))]
        if not with_periods:
            raise _no_whole(covers[0][0], first, covers[0][1])
        context = asked.context
        views: list[tuple[int, int, View]] = []
        for each, until in with_periods:
            periods = list(self._calendar.between(each, first, until))
            whole = [range(len(periods))]
            if len(with_periods) == 1:
                return (yield from self._view(asked, names, periods, whole if count else ()))
            earlier = next(self._calendar.before(each, first, 1), periods[0].previous())
            view, begun = yield from together(
                look(context, names, periods, self._running(periods), whole if count else ()),
                have_begun(context, names, earlier),
            )
            if any(each.gone for each in view.found):
                views.append((1, 0, view))
            elif not any(each.has_data.any() for each in view.found):
                views.append((0, 0, view))
            elif begun:
                return (yield from self._demanded(asked, view))
            else:
                counts = yield from count_windows(context, [(each, whole) for each in view.found])
                views.append((2, sum(chain.from_iterable(counts)), view))
        *_, best = max(views, key=lambda known: known[:2])
        return (yield from self._demanded(asked, best))

    def _view(
        self, asked: Asked, names: Sequence[Name], periods: Sequence[Period], windows: Sequence[range] = ()
    ) -> Operation[View]:
        """What there is; what is missing is an error, if it is to be one."""
        running = self._running(periods)
        return (
            yield from self._demanded(
                asked, (yield from look(asked.context, names, periods, running, windows))
            )
        )

    @staticmethod
    def _demanded(asked: Asked, view: View) -> Operation[View]:
        yield from mark_untracked(view)
        if asked.missing == "raise":
            view.demand(can_be_none=asked.can_be_none)
        return view

    def _running(self, periods: Sequence[Period]) -> Period:
        return self._calendar.containing(periods[0].kind, self._now())


def _day(moment: datetime) -> dt.date:
    return moment if moment.time() != dt.time() else moment.date()


def _no_whole(kind: PeriodKind, first: datetime, until: datetime) -> ArgumentValueError:
    return ArgumentValueError(
        f"there is no whole {kind} period from start {_day(first)} until {_day(until)}, which does not belong"
        " to the range, nor do periods that have not begun, or that clocks skip"
    )


def _is_too_long(kind: PeriodKind, first: datetime, last: datetime) -> bool:
    return (last - first) / LONGEST[kind] > arguments.MOST_PERIODS


def _check_number(kind: PeriodKind, first: datetime, last: datetime) -> None:
    """Refuse a range that nobody can mean, before it is looked at."""
    if _is_too_long(kind, first, last):
        raise ArgumentValueError(f"start must be less than {arguments.MOST_PERIODS:,} periods before end")
