"""Removing the marks of periods in which nothing is left to count; :mod:`..tracking.open_periods` sets them.

A writer marks a period after it wrote to it. So the data are looked at, the mark is removed, and they are
looked at again: what was written in between, by a process whose mark was there before, is marked once more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import product

from ...periods import Period
from ..base import Context, Operation, batched, items, unwrap_of
from ..settings import DataSettings
from .outgrown import outgrown
from .overdue import states
from .scope import Scope

__all__ = ["FindUncounted", "registered", "take_marks", "uncounted_of_known", "warned_of"]

_TARGETS_PER_BATCH = 500

FindUncounted = Callable[[Collection[str]], Operation[set[str]]]
"""Given names of periods, which of them hold uncounted data."""


def take_marks(context: Context, names: Iterable[str], find_uncounted: FindUncounted) -> Operation[None]:
    """Remove the marks of the periods that hold no uncounted data, nor events since a count.

    Raises:
        BackendError: the key of the marks holds something else.
    """
    key = context.keys.open
    marked: set[str] = set()
    for batch in batched(names, _TARGETS_PER_BATCH):
        # SREM's reply would not tell which were marked, as it may be sent twice.
        [found] = unwrap_of(key, (yield [("SMISMEMBER", key, *batch)]))
        marked |= {name for name, is_marked in zip(batch, found, strict=True) if is_marked}
    empty = marked - (yield from find_uncounted(marked)) if marked else marked
    if not empty:
        return
    unwrap_of(key, (yield [("SREM", key, *sorted(empty))]))
    again = yield from find_uncounted(empty)
    if again:
        unwrap_of(key, (yield [("SADD", key, *sorted(again))]))


def uncounted_of_known(context: Context, scope: Scope) -> FindUncounted:
    """What finds uncounted data of all buckets in which anything was ever tracked, and of those of a call."""

    def find(names: Collection[str]) -> Operation[set[str]]:
        buckets = yield from registered(context)
        known = Scope(tuple(dict.fromkeys((*buckets, *scope.buckets))))
        periods = {period: name for name in names if (period := context.calendar.parse(name))}
        found = yield from states(context, periods, known)
        due = {name for period, name in periods.items() if found[period].is_due}
        rest = [period for period, name in periods.items() if name not in due]
        return due | (yield from warned_of(context, rest, known.buckets))

    return find


def warned_of(
    context: Context, periods: Iterable[Period], buckets: Sequence[str | None]
) -> Operation[set[str]]:
    """The names of the periods that have events since they were counted; that is logged."""
    found = yield from outgrown(context, product((period.name for period in periods), buckets))
    context.warn_of_outgrown(found)
    return found


def registered(context: Context) -> Operation[list[str | None]]:
    """The buckets in which anything was ever tracked; read anew, as others write."""
    meta = context.keys.meta
    [fields] = unwrap_of(meta, (yield [("HKEYS", meta)]))
    return DataSettings.buckets_of(field.decode("utf-8", "replace") for field in items(fields))
