"""Removing the marks of periods in which nothing is left to count; :mod:`..tracking.open_periods` sets them.

A writer marks a period after it wrote to it. So the data are looked at, the mark is removed, and they are
looked at again: what was written in between, by a process whose mark was there before, is marked once more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ...backends.base import Command
from ..base import Context, Operation, PeriodBucket, batched, unwrap_of

__all__ = ["FindUncounted", "take_marks", "uncounted_among"]

_TARGETS_PER_BATCH = 500

FindUncounted = Callable[[Collection[str]], Operation[set[str]]]
"""Given names of periods, which of them hold uncounted data."""


def take_marks(
    context: Context, names: Iterable[str], find_uncounted: FindUncounted, *, at_least: int = 1
) -> Operation[None]:
    """Remove the marks of the periods that hold no uncounted data, unless fewer than `at_least` are marked.

    Raises:
        BackendError: the key of the marks holds something else.
    """
    key = context.keys.open
    marked: set[str] = set()
    for batch in batched(names, _TARGETS_PER_BATCH):
        # SREM's reply would not tell which were marked, as it may be sent twice.
        [found] = unwrap_of(key, (yield [("SMISMEMBER", key, *batch)]))
        marked |= {name for name, is_marked in zip(batch, found, strict=True) if is_marked}
    if len(marked) < at_least:
        return
    empty = marked - (yield from find_uncounted(marked))
    if not empty:
        return
    unwrap_of(key, (yield [("SREM", key, *sorted(empty))]))
    again = yield from find_uncounted(empty)
    if again:
        unwrap_of(key, (yield [("SADD", key, *sorted(again))]))


def uncounted_among(context: Context, targets: Iterable[PeriodBucket]) -> Operation[set[str]]:
    """The periods of those buckets that have data and no count; also where the server does not say."""
    uncounted: set[str] = set()
    for batch in batched(targets, _TARGETS_PER_BATCH):
        buckets = [context.keys.bucket(*target) for target in batch]
        commands: list[Command] = [
            ("EXISTS", key) for bucket in buckets for key in (bucket.hll, bucket.raw, bucket.counted)
        ]
        found = yield commands
        uncounted |= {
            name
            for (name, _), hll, raw, counted in zip(batch, found[::3], found[1::3], found[2::3], strict=True)
            if (hll, raw) != (0, 0) and counted != 1
        }
    return uncounted
