"""Which periods a collapse has to look at: those that hold uncounted data, however old they are.

Whoever writes marks its periods as open, see :mod:`..tracking.open_periods`. But activity-tracker's raw sets
and writers in other languages may have marked nothing. So it is looked back, besides, to the newest period of
each kind in which something was counted and nothing is left: a collapse that came that far found what lies
before. What is found in this way is marked too, before it is counted: a collapse that is cut short leaves the
marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from ...backends.base import Reply
from ...errors import BackendAuthError, BackendError
from ...periods import LONGEST, Period
from ..base import Context, Operation, batched, items, unwrap_of
from ..inventory import inventory
from ..many_keys import existing, stored_counts
from .scope import Scope

__all__ = ["Overdue", "State", "marked_in", "overdue", "states"]

_FIRST_STEP, _LONGEST_STEP = 1, 64
_PERIODS_PER_BATCH = 100
_DATA = frozenset(("hll", "raw"))


class Overdue(NamedTuple):
    """The periods that are over, newest first by kind.

    Attributes:
        due: those that may hold uncounted data.
        idle: names of those that are marked, and hold nothing that the call is about.
    """

    due: list[Period]
    idle: list[str]


class State(NamedTuple):
    """What there is in a period."""

    is_counted: bool
    is_due: bool

    @property
    def is_done(self) -> bool:
        """Whether a collapse counted what there was, and nothing came since."""
        return self.is_counted and not self.is_due


def overdue(
    context: Context, kinds: Iterable[str], date: datetime, scope: Scope, *, recount: bool
) -> Operation[Overdue]:
    """Find the periods that ended before the one that contains a date.

    Args:
        context: what operations are planned with.
        kinds: of period.
        date: naive, in the calendar's zone.
        scope: what the call is about.
        recount: all that have sketches are due, counted or not; they are found by SCAN.
    """
    running = {kind: context.calendar.containing(kind, date) for kind in kinds}
    key = context.keys.open
    [reply] = yield [("SMEMBERS", key)]
    names = marked_in(reply)
    marked = _over(filter(None, map(context.calendar.parse, names)), running)
    if recount:
        entries = yield from inventory(context)
        due = _over(
            (entry.period for entry in entries if "count" not in entry.parts or "hll" in entry.parts), running
        )
    else:
        found = yield from _look_back(context, running, date, scope)
        unmarked = sorted({period.name for period in found}.difference(names))
        if unmarked:
            yield [("SADD", key, *unmarked)]
        due = found
    due |= yield from _with_anything(context, marked, scope)
    if not due:
        unwrap_of(key, [reply])
    ordered = sorted(due, key=lambda period: period.start, reverse=True)
    of_kinds = [period for kind in running for period in ordered if period.kind == kind]
    return Overdue(of_kinds, [period.name for period in marked if period not in due])


def marked_in(reply: Reply) -> list[str]:
    """The names of the periods that are marked; none if what is there cannot be read.

    Raises:
        BackendAuthError: the user may not read it.
    """
    if isinstance(reply, BackendAuthError):
        raise reply
    return (
        [] if isinstance(reply, BackendError) else [name.decode("utf-8", "replace") for name in items(reply)]
    )


def _over(periods: Iterable[Period], running: Mapping[str, Period]) -> set[Period]:
    return {
        period for period in periods if period.kind in running and period.start < running[period.kind].start
    }


def _look_back(
    context: Context, kinds: Iterable[str], date: datetime, scope: Scope
) -> Operation[set[Period]]:
    """The periods that hold uncounted data, back to the newest of each kind in which all was counted."""
    found: set[Period] = set()
    windows = {kind: list(context.calendar.before(kind, date, _reach(context, kind))) for kind in kinds}
    searched, step = dict.fromkeys(windows, 0), _FIRST_STEP
    while searched:
        parts = {kind: windows[kind][at : at + step] for kind, at in searched.items()}
        known = yield from states(context, chain.from_iterable(parts.values()), scope)
        for kind, part in parts.items():
            newest = next((n for n, period in enumerate(part) if known[period].is_done), None)
            found |= {period for period in part[:newest] if known[period].is_due}
            searched[kind] += step
            if newest is not None or searched[kind] >= len(windows[kind]):
                del searched[kind]
        step = min(4 * step, _LONGEST_STEP)
    return found


def _with_anything(context: Context, periods: Iterable[Period], scope: Scope) -> Operation[set[Period]]:
    """The periods in which there is anything of the call's, also what does not belong there."""
    names, found = (*scope.buckets, *scope.aggregates), set()
    for batch in batched(periods, _PERIODS_PER_BATCH):
        numbers = yield from existing(list(context.keys.all_of(period.name, names)) for period in batch)
        found |= {period for period, number in zip(batch, numbers, strict=True) if number}
    return found


def _reach(context: Context, kind: str) -> int:
    """How many periods are looked back at most: as long as sketches are kept, or would be by default."""
    by_default = context.keep_by_default[kind] or LONGEST[kind]
    return max(context.keep(kind) or by_default, by_default) // LONGEST[kind] + 1


def states(context: Context, periods: Iterable[Period], scope: Scope) -> Operation[dict[Period, State]]:
    """What there is in periods, of the buckets and aggregates of a call: asked once or twice a period."""
    result: dict[Period, State] = {}
    for batch in batched(periods, _PERIODS_PER_BATCH):
        counted = yield from _counted(context, batch, (*scope.buckets, *scope.aggregates))
        numbers = yield from existing(
            # Once each: a bucket may be a source of aggregates, too.
            list(dict.fromkeys(_of_uncounted(context, period.name, scope, counted[period])))
            for period in batch
        )
        for period, number in zip(batch, numbers, strict=True):
            result[period] = State(bool(counted[period]), number > 0)
    return result


def _counted(
    context: Context, periods: Sequence[Period], names: Sequence[str | None]
) -> Operation[dict[Period, set[str | None]]]:
    """Which of the names have a count in each period."""
    stored = yield from stored_counts(context.keys.counts(period.name, names) for period in periods)
    return {
        period: {name for name, count in zip(names, counts, strict=True) if count is not None}
        for period, counts in zip(periods, stored, strict=True)
    }


def _of_uncounted(context: Context, period: str, scope: Scope, counted: set[str | None]) -> Iterable[str]:
    """The keys one of which exists if there is anything to count in a period."""
    keys = context.keys
    yield from keys.sketches(period, [bucket for bucket in scope.buckets if bucket not in counted])
    yield from keys.raws(period, scope.buckets)  # beside a count, too: they came later
    for name, sources in scope.aggregates.items():
        if name not in counted:
            yield from keys.sketches(period, sources)
            if name in scope.named:  # where it is too late, it is to fail by name
                yield from keys.counts(period, sources)
