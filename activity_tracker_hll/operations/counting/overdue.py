"""Which periods a collapse has to look at: those that may hold uncounted data, however old they are.

Whoever writes marks its periods as open, see :mod:`..tracking.open_periods`. But activity-tracker's raw sets
and writers in other languages may have marked nothing. So it is looked back, besides, to the newest period of
each kind in which something was counted: a collapse that came that far found what lies before. What is found
in this way is marked too, before it is counted: a collapse that is cut short leaves the marks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ...backends.base import Command
from ...errors import BackendError
from ...periods import LONGEST, Period
from ..base import UNCOUNTED, Context, Operation, batched, items, unwrap, unwrap_of

__all__ = ["overdue"]

_FIRST_STEP, _LONGEST_STEP = 1, 64
_BUCKETS_PER_COMMAND = 4000


def overdue(
    context: Context,
    kinds: Iterable[str],
    date: datetime,
    buckets: Collection[str | None],
    *,
    recount: bool,
) -> Operation[list[Period]]:
    """The periods that ended before the one that contains a date, and may hold uncounted data, newest first.

    Args:
        context: what operations are planned with.
        kinds: of period.
        date: naive, in the calendar's zone.
        buckets: all that are known, aggregates included.
        recount: all whose sketches are kept, counted or not.
    """
    running = {kind: context.calendar.containing(kind, date) for kind in kinds}
    windows = {kind: list(context.calendar.before(kind, date, _reach(context, kind))) for kind in running}
    key, marked = context.keys.open, set()
    [reply] = yield [("SMEMBERS", key)]
    if not isinstance(reply, BackendError):  # where that is no set, the attempt to remove the marks says so
        marked = {name.decode("utf-8", "replace") for name in items(reply)}
    found = windows if recount else (yield from _look_back(context, windows, buckets))
    unmarked = {period.name for periods in found.values() for period in periods} - marked
    if unmarked and not recount:
        yield [("SADD", key, *sorted(unmarked))]
    for period in filter(None, map(context.calendar.parse, marked)):
        if period.kind in running and period.start < running[period.kind].start:
            found[period.kind].append(period)
    periods = [
        period
        for periods in found.values()
        for period in sorted(set(periods), key=lambda period: period.start, reverse=True)
    ]
    if not periods:
        unwrap_of(key, [reply])
    return periods


def _look_back(
    context: Context, windows: Mapping[str, Sequence[Period]], buckets: Collection[str | None]
) -> Operation[dict[str, list[Period]]]:
    """By kind, the periods with data after the newest counted one, and that one if it has raw sets.

    Args:
        windows: by kind, the periods before the date, newest first.
    """
    found: dict[str, list[Period]] = {kind: [] for kind in windows}
    searched, step = dict.fromkeys(windows, 0), _FIRST_STEP
    while searched:
        parts = {kind: windows[kind][at : at + step] for kind, at in searched.items()}
        states = yield from _states(context, [period for part in parts.values() for period in part], buckets)
        for kind, part in parts.items():
            newest = next((index for index, period in enumerate(part) if states[period].is_counted), None)
            reached = part if newest is None else part[: newest + 1]
            found[kind] += [period for period in reached if states[period].is_due]
            searched[kind] += step
            if newest is not None or searched[kind] >= len(windows[kind]):
                del searched[kind]
        step = min(4 * step, _LONGEST_STEP)
    return found


class _State(NamedTuple):
    """What there is in a period, of any bucket."""

    is_counted: bool
    has_raw: bool
    has_sketch: bool

    @property
    def is_due(self) -> bool:
        return self.has_raw or (self.has_sketch and not self.is_counted)


def _states(
    context: Context, periods: Sequence[Period], buckets: Collection[str | None]
) -> Operation[dict[Period, _State]]:
    commands: list[Command] = []
    parts = list(batched(buckets, _BUCKETS_PER_COMMAND))
    for period in periods:
        for part in parts:
            commands.append(("MGET", *context.keys.counts(period.name, part)))
            commands.append(("EXISTS", *context.keys.raws(period.name, part)))
            commands.append(("EXISTS", *context.keys.sketches(period.name, part)))
    replies = unwrap((yield commands)) if commands else []
    states = {}
    for period, own in zip(periods, batched(replies, 3 * len(parts)), strict=True):
        counts = (count for part in own[::3] for count in part)
        is_counted = any(count not in UNCOUNTED for count in counts)
        states[period] = _State(is_counted, any(own[1::3]), any(own[2::3]))
    return states


def _reach(context: Context, kind: str) -> int:
    """How many periods are looked back at most: as long as sketches are kept, or would be by default."""
    by_default = context.keep_by_default[kind] or LONGEST[kind]
    return max(context.keep(kind) or by_default, by_default) // LONGEST[kind] + 1
