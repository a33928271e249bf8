"""What analytics are made of: what is known of names over a range of periods, read as they need it.

A view knows what exists. What it is asked for is counted by the server, or read and handed to
:mod:`..analytics` as a span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import compress
from math import inf
from typing import Literal

import numpy as np

from ..analytics.results import Series, SeriesRow
from ..analytics.spans import Span
from ..analytics.windows import unique
from ..backends.base import Reply
from ..errors import MissingSketchesError
from ..estimates import Estimate
from ..periods import Period
from ..result import ByBucket, Gap, N, Reason
from ..words import duration, first_of, many
from .base import Context, Operation, called, together
from .counting.marks import registered
from .series import count_windows, guess, guessed, inspect, is_slow_to_count, read_layers
from .survey import Found, Name, has_begun, survey

__all__ = ["View", "look", "mark_untracked", "series"]


@dataclass(frozen=True, slots=True)
class View:
    """What there is of some names over a range of periods.

    Attributes:
        context: what operations are planned with.
        periods: oldest first.
        found: of each name.
        begin: index of the period in which the data begin; 0 if they begin before.
        running: the period that runs.
        guesses: by name, what the server counted before that was known; see :func:`.series.guess`.
    """

    context: Context
    periods: Sequence[Period]
    found: Sequence[Found]
    begin: int
    running: Period
    guesses: Mapping[str | None, Sequence[Reply]]

    def is_over(self, index: int) -> bool:
        """Whether a period has ended."""
        return self.periods[index].start < self.running.start

    def is_complete(self, window: range) -> bool:
        """Whether a window's last period is over, and the data begin before it."""
        return self.begin <= window[0] and self.is_over(window[-1])

    def gaps(self) -> tuple[Gap, ...]:
        """What is missing."""
        return tuple(
            Gap(period.date, period.name, bucket, _why(each, period, bucket))
            for each in self.found
            for period, bucket in each.gone
        )

    def unique(self, windows: Sequence[range]) -> Operation[dict[str | None, Sequence[Estimate | None]]]:
        """Ids of each window, by name: counted by the server, unless somebody moved or there is a raw set."""
        numbers: dict[str | None, Sequence[Estimate | None]] = {}
        plain: list[Found] = []
        for each in self.found:
            if each.has_moves or each.raw:
                continue
            if each.unproven:
                yield from inspect(self.context, each)
            counts = guessed(each, self.guesses[each.name.name]) if self.guesses else None
            if counts is None:
                plain.append(each)
            else:
                numbers[each.name.name] = _plain(each, windows, counts)
        self.context.guesses = len(plain) + len(numbers) == len(self.found)
        if len(numbers) == len(self.found):
            return numbers
        known = [_are_known(each, windows) for each in plain]
        asked = [(each, list(compress(windows, are))) for each, are in zip(plain, known, strict=True)]
        if plain and not (yield from is_slow_to_count(self.context, asked)):
            counted = yield from count_windows(self.context, asked)
            for each, are_known, counts in zip(plain, known, counted, strict=True):
                values = iter(counts)
                told = [next(values) if is_known else None for is_known in are_known]
                numbers[each.name.name] = _plain(each, windows, told)
        result: dict[str | None, Sequence[Estimate | None]] = {}
        for each in self.found:
            name = each.name.name
            result[name] = numbers[name] if name in numbers else unique((yield from self.span(each)), windows)
        return result

    def span(self, found: Found) -> Operation[Span]:
        """The registers of a name."""
        yield from inspect(self.context, found)
        history = yield from read_layers(self.context, found)
        indexes = range(len(self.periods))
        return Span(
            self.periods,
            history,
            [index not in found.suspects for index in indexes],
            (~found.is_gone).tolist(),
            [self.is_over(index) for index in indexes],
            self.begin,
        )

    def demand(self, *, can_be_none: bool) -> None:
        """Raise if anything is missing.

        Args:
            can_be_none: whether the call has an argument that says that this is no error.

        Raises:
            MissingSketchesError: naming what, why, and the setting that decides.
        """
        said = (sentence for each in self.found if each.gone for sentence in _about(self.context, each))
        sentences = list(dict.fromkeys(said))
        if sentences:
            hint = " (missing='none' gives None there)" if can_be_none else ""
            raise MissingSketchesError(first_of(sentences) + hint, self.gaps())


def _are_known(found: Found, windows: Sequence[range]) -> list[bool]:
    if not found.is_gone.any():
        return [True] * len(windows)
    return [not found.is_gone[window.start : window.stop].any() for window in windows]


def _plain(found: Found, windows: Sequence[range], counts: Sequence[int | None]) -> Sequence[Estimate | None]:
    """Counts of the server as estimates; None where a sketch is gone."""
    estimates = Estimate.plain(counts)
    if found.suspects:
        for index, (window, estimate) in enumerate(zip(windows, estimates, strict=True)):
            if estimate is not None and not found.suspects.isdisjoint(window):
                estimates[index] = Estimate(estimate, inf)
    return estimates


def series(
    what: Literal["unique", "stickiness"],
    window: int,
    view: View,
    windows: Sequence[range],
    columns: Mapping[str | None, Sequence[N | None]],
) -> Series[N]:
    """The result of numbers by window, of each name."""
    rows = tuple(
        SeriesRow(
            view.periods[part[-1]].date,
            ByBucket({name: column[index] for name, column in columns.items()}),
            view.is_complete(part),
        )
        for index, part in enumerate(windows)
    )
    return Series(what, view.running.kind, window, rows, view.gaps())


def look(
    context: Context,
    names: Sequence[Name],
    periods: Sequence[Period],
    running: Period,
    windows: Sequence[range] = (),
) -> Operation[View]:
    """What there is, and where the data begin.

    Args:
        windows: what :meth:`View.unique` will be asked for.
    """
    # The guess comes first, as it keeps the server busy while the rest is on its way.
    guesses, found = yield from together(
        guess(context, names, periods, windows), survey(context, periods, names)
    )
    begin = _first(found, len(periods))
    if begin and (yield from has_begun(context, names, periods[0])):
        begin = 0
    return View(context, periods, found, begin, running, guesses)


def _first(found: Sequence[Found], periods: int) -> int:
    """The index of the first of so many periods in which there is, or was, anything; else their number."""
    if any(each.has_data[0] for each in found):
        return 0
    begins = (np.flatnonzero(each.has_data | each.is_gone) for each in found)
    return min((int(each[0]) for each in begins if each.size), default=periods)


def mark_untracked(view: View) -> Operation[None]:
    """Mark names in which nothing was ever tracked, as they may be misspelled.

    Of a bucket that is known, 0 is the truth, unless there is nothing at all.
    """
    context, found = view.context, view.found
    ever = view.running.next()
    looked_at = view.periods[-1] if view.periods else None  # and before these, or they would begin there
    if view.begin == len(view.periods) and not (
        yield from has_begun(context, [each.name for each in found], ever, after=looked_at)
    ):
        for each in found:
            each.never(each.name.buckets)
        return
    if not any(each.absent for each in found):
        return
    listed = {bucket for sources in context.aggregates.values() for bucket in sources}
    known = {*(context.known or ()), *context.aggregates, *listed}
    unknown = {bucket for each in found for bucket in each.absent} - known
    if unknown:
        unknown.difference_update((yield from registered(context)))
    for bucket in list(unknown):
        if (yield from has_begun(context, [Name(bucket, (bucket,), union=False)], ever)):
            unknown.discard(bucket)
    for each in found:
        never = [bucket for bucket in each.absent if bucket in unknown]
        if never:
            each.never(never)


def _why(found: Found, period: Period, bucket: str | None) -> Reason:
    if found.was_never_tracked:
        return "never tracked"
    return "not archived" if (period, bucket) in found.lacking else "expired"


def _about(context: Context, found: Found) -> Iterator[str]:
    """What is missing of a name, why, and the setting that decides."""
    kind = found.periods[0].kind
    gone: dict[tuple[str | None, Reason], list[str]] = {}
    for period, bucket in found.gone:
        gone.setdefault((bucket, _why(found, period, bucket)), []).append(period.name)
    for (bucket, reason), names in gone.items():
        if reason == "never tracked":
            yield f"nothing was ever tracked in {called(bucket)} in {kind} periods"
            continue
        how_many = f"{many(len(names), 'sketch', 'sketches')} of {called(bucket)}"
        state = "not in the archive" if reason == "not archived" else "gone"
        which = (
            f"is {state}, {names[0]}" if len(names) == 1 else f"are {state}, from {names[0]} to {names[-1]}"
        )
        why = "" if reason == "not archived" else f": {kind} sketches are {_how_long(context.keep(kind))}"
        yield f"{how_many} {which}{why}"


def _how_long(keep: timedelta | None) -> str:
    if keep is None:
        return "kept for ever now, but these were not, or were counted without; keep_sketches decides"
    how_long = f"kept for {duration(keep)} after their period" if keep else "not kept"
    return f"{how_long}, which keep_sketches decides"
