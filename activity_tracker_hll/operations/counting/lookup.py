"""Reading stored counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import chain, compress
from typing import Any

import numpy as np

from ...analytics.results import Rows
from ...errors import BackendDataError, BackendError, MissingSketchesError
from ...estimates import Estimate
from ...periods import Period
from ...result import Gap
from ..base import Context, Operation, batched, called, number, together, unreadable, unwrap_of
from ..many_keys import ask_again, existing, values
from .live import LiveTarget, Unread, count_live, keys_of_data
from .marks import registered

__all__ = ["Row", "RowWithGaps", "known_of", "lookup"]

Row = tuple[date, dict[str | None, Estimate]]
"""The first day of a period (of an hour, its datetime), and its counts by bucket."""

RowWithGaps = tuple[date, dict[str | None, Estimate | None]]
"""A :data:`Row` in which None stands for absent data."""

_COUNTS_PER_BATCH = 20_000
_WITHOUT_SKETCHES = " (live=False reads stored counts alone)"
_FEW_DIGITS = 16  # all of them are possible counts


def lookup(
    context: Context,
    periods: Sequence[Period],
    buckets: Sequence[str | None],
    missing: int | None,
    live: bool,
    running: date | None = None,
) -> Operation[Rows[RowWithGaps]]:
    """A row for each period, in the order given. Writes nothing.

    Args:
        running: the date of the period that runs.
        missing: what stands where there is nothing; None = None.
        live: whether what was not collapsed is counted.

    Raises:
        BackendDataError: stored counts or sketches that make no sense: it tells all of them.
        MissingSketchesError: an archive has no count, nor knows that there was nothing, for which `missing`
            would stand.
    """
    absent = None if missing is None else Estimate(missing)
    rows: Rows[RowWithGaps] = Rows(running=running)
    bad: Unread = {}  # stored counts
    unread: Unread = {}  # sketches
    for batch in batched(periods, max(1, _COUNTS_PER_BATCH // max(1, len(buckets)))):
        counts_of = dict(zip(batch, (yield from _stored(context, batch, buckets, bad)), strict=True))
        unknown = _unknown(context, counts_of, buckets)
        if unknown and missing is not None:
            raise MissingSketchesError(_about_unknown(unknown), unknown)
        kept_out = {(gap.period, gap.bucket) for gap in unknown} | {
            (period.name, name) for period, name in bad
        }
        incomplete = {
            period: {name: count for name, count in counts.items() if (period.name, name) not in kept_out}
            for period, counts in counts_of.items()
            if not all(counts.values())
        }
        uncounted = yield from _uncounted(context, incomplete, live, bad)
        found = yield from _counted_now(context, uncounted, unread)
        for period, counts in incomplete.items():
            for bucket, count in counts.items():
                if not count:
                    value = found.get((period, bucket), absent if count is None else count)
                    counts_of[period][bucket] = value
        rows += [(period.date, counts) for period, counts in counts_of.items()]
    if bad or unread:
        failures = [
            (period.name, name, why)
            for period in periods
            for name in buckets
            if (why := bad.get((period, name)) or unread.get((period, name)))
        ]
        raise unreadable(failures, _WITHOUT_SKETCHES if unread else "")
    if rows:
        empty = [bucket for bucket in buckets if all(counts[bucket] is absent for _, counts in rows)]
        yield from _warn_of_untracked(context, empty)
    return rows


def known_of(context: Context, periods: list[Period], buckets: Sequence[str | None]) -> list[Period]:
    """The periods from the first on of which there is something to be known, as archives begin somewhere."""
    told = [lacking for bucket in buckets if (lacking := context.lacking(periods, bucket)) is not None]
    first = int(np.argmin(np.all(told, axis=0))) if told and periods else 0
    return periods[first:]


def _unknown(
    context: Context,
    counts_of: Mapping[Period, Mapping[str | None, Estimate | None]],
    buckets: Sequence[str | None],
) -> list[Gap]:
    """What has no count, and may have had one: an archive does not know."""
    gaps: list[Gap] = []
    for bucket in buckets:
        periods = [period for period, counts in counts_of.items() if counts[bucket] is None]
        for source in context.aggregates.get(bucket or "", (bucket,)):
            lacking = context.lacking(periods, source)
            if lacking is not None:
                gaps += [
                    Gap(period.date, period.name, bucket, "not archived")
                    for period in compress(periods, lacking)
                ]
    return list(dict.fromkeys(gaps))


def _about_unknown(gaps: Sequence[Gap]) -> str:
    first, last = (f"{gap.period} of {called(gap.bucket)}" for gap in (gaps[0], gaps[-1]))
    what = f"{first} is" if len(gaps) == 1 else f"{len(gaps):,} counts, from {first} to {last}, are"
    return f"{what} not in the archive (missing=None gives None there)"


def _warn_of_untracked(context: Context, empty: Sequence[str | None]) -> Operation[None]:
    """Log which of the buckets without any count nobody ever tracked in."""
    unknown = context.lacks_news_of(empty)
    if unknown:
        try:
            tracked = yield from registered(context)
        except BackendError:  # no reason not to show counts
            return
        context.warn_of_untracked(unknown, tracked)


def _uncounted(
    context: Context,
    counts_of: Mapping[Period, Mapping[str | None, Estimate | None]],
    live: bool,
    bad: Unread,
) -> Operation[list[LiveTarget]]:
    """What has data and no stored count, if `live`.

    Args:
        bad: takes counts that are no strings, for which MGET returns nil too.
    """
    absent: dict[Period, list[str | None]] = {}
    keys: list[str] = []
    uncounted: dict[Period, list[str | None]] = {}
    for period, counts in counts_of.items():
        missing = [bucket for bucket, count in counts.items() if count is None]
        absent[period] = missing
        keys += context.keys.counts(period.name, missing)
        # activity-tracker stored zeros where it saw nothing; those of a sketch have a standard error.
        zeros = [
            bucket for bucket, count in counts.items() if count is not None and not count and count.is_plain
        ]
        if live and (missing or zeros):
            uncounted[period] = missing + zeros
    others, *data = yield from existing([keys, *keys_of_data(context, uncounted)])
    if others:  # counted in the meantime, or no string
        places = [(period, name) for period, names in absent.items() for name in names]
        replies: list[Any] = [None] * len(keys)
        yield from ask_again(keys, replies)
        for place, key, reply in zip(places, keys, replies, strict=True):
            try:
                unwrap_of(key, [reply])
            except BackendDataError as error:
                bad[place] = error
    with_data = [period for period, exists in zip(uncounted, data, strict=True) if exists]
    targets = ((period, name) for period in with_data for name in uncounted[period])
    return [target for target in targets if target not in bad]


def _counted_now(
    context: Context, targets: Sequence[LiveTarget], unread: Unread
) -> Operation[dict[LiveTarget, Estimate]]:
    try:
        return (yield from count_live(context, targets, unread))
    except BackendError as error:
        raise type(error)(f"{error}{_WITHOUT_SKETCHES}") from error


def _stored(
    context: Context, periods: Sequence[Period], buckets: Sequence[str | None], bad: Unread
) -> Operation[list[dict[str | None, Estimate | None]]]:
    """Rows of stored counts.

    Standard errors, of which few are stored, are asked for along with the counts: the server looks them up
    while the counts are being read. So is how many there are, which tells of those that are no strings; but
    not on a cluster, for which that is a second command for each count.

    Args:
        bad: takes those that make no sense, for which there is None.
    """
    names = [period.name for period in periods]
    keys = [key for name in names for key in context.keys.counts(name, buckets)]
    if not keys:
        return [{} for _ in names]
    error_keys = context.keys.stderrs(keys)
    # Side by side: on a cluster both are in one slot, so that one command asks for them.
    [replies], [errors_there] = yield from together(
        values([list(chain.from_iterable(zip(keys, error_keys, strict=True)))]),
        existing([[] if context.is_cluster else error_keys]),
    )
    stored, errors = replies[::2], replies[1::2]
    if errors_there > len(errors) - errors.count(None):
        yield from ask_again(error_keys, errors)
    # One check of all values together: only if it fails are they parsed one by one.
    found = [value for value in stored if value is not None]
    are_plain = all(found) and (b"".join(found) or b"0").isdigit()
    are_plain = are_plain and max(map(len, found), default=0) < _FEW_DIGITS
    counts: list[Estimate | None] = Estimate.plain(stored) if are_plain else [None] * len(keys)
    row_length = len(buckets)
    if not are_plain or errors.count(None) < len(errors):
        for index, (value, stderr) in enumerate(zip(stored, errors, strict=True)):
            if value is not None and not (are_plain and stderr is None):
                try:
                    error = _error(stderr, error_keys[index])
                    counts[index] = Estimate(number(value, keys[index]), error)
                except BackendDataError as why:
                    counts[index] = None
                    bad[periods[index // row_length], buckets[index % row_length]] = why
    return [
        dict(zip(buckets, counts[row * row_length : (row + 1) * row_length], strict=True))
        for row in range(len(names))
    ]


def _error(reply: Any, key: str) -> float | None:
    """A stored standard error; None = that of the plain formula."""
    [value] = unwrap_of(key, [reply])
    if value is None:
        return None
    try:
        stderr = float(value)
    except ValueError as error:
        raise BackendDataError(f"{key} holds {value[:40]!r}, no standard error") from error
    if not stderr >= 0:
        raise BackendDataError(f"{key} holds {stderr}, no standard error")
    return stderr
