"""The command `lookup`: counts as a table, JSON or CSV."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import chain

import click
from rich.console import Console

from ...analytics.results import Rows
from ...keys import check_bucket
from ...operations import Entry, RowWithGaps
from ...operations.due import buckets_of, check_known, is_due
from ...periods import PeriodKind
from ...reader import Reader
from ...result import named
from ...words import many
from ..display import console, count_cell, show_command
from ..options import PERIOD, Command, aggregate_option, bucket_option, examples
from ..results import format_options, range_options, show, until
from ..settings import Settings
from ..tables import Cell, show_courses, show_table

__all__ = ["lookup"]

_FIELDS = ("date", "bucket", "count", "low", "high", "suspect", "complete")


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll lookup",
        "activity-tracker-hll lookup --live --bucket shop",
        "activity-tracker-hll lookup --period monthly --csv",
        "activity-tracker-hll lookup --last 2026-11-30 --json",
    ),
)
@click.option("--period", "kind", type=PERIOD, default="daily", show_default=True)
@range_options("What is shown")
@bucket_option("Only this bucket, (all) for the unnamed one; can be repeated. Default: all that there are.")
@click.option(
    "--live/--no-live",
    default=None,
    help="Also the running period; or stored counts alone. Default: what is over and was not collapsed is"
    " counted now.",
)
@aggregate_option("The union of these buckets, too, where it can be counted; can be repeated.")
@click.option(
    "--fill/--no-fill", default=None, help="Whether to show periods without data. Default: as CSV and JSON."
)
@format_options
@click.pass_obj
def lookup(  # click passes each option as an argument of its own
    settings: Settings,
    *,
    kind: PeriodKind,
    start: dt.date | None,
    last: dt.date | None,
    buckets: tuple[str | None, ...],
    live: bool | None,
    aggregates: tuple[tuple[str, list[str | None]], ...],
    fill: bool | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show the counts of periods.

    Each count is followed by its standard error; low and high enclose the true count 95 times in 100. Shown
    are whole periods from --start to --last; without them all that there are, but for those in the future.
    """
    for bucket in buckets:
        check_bucket(bucket)
    given = dict(aggregates)
    rows: Rows[RowWithGaps] = Rows()
    with settings.reader(aggregate_buckets=given or None) as tracker:
        inventory = tracker.inventory()  # by then the zone of the data is known
        first = None if start is None else tracker.calendar.moment(start, "start")
        end = None if last is None else tracker.calendar.moment(until(last), "end")
        if first and end and first >= end:
            raise click.UsageError("--start must not be after --last")
        unions = {**given, **tracker.settings.aggregate_buckets}
        check_known([name for name in buckets if name not in unions], given, inventory)
        entries = [entry for entry in inventory if entry.period.kind == kind]
        there = buckets_of(entries)
        united = [name for name, sources in unions.items() if name in given or set(there).issuperset(sources)]
        wanted = list(dict.fromkeys(buckets or [*there, *united]))
        looked_at = {*wanted, *chain.from_iterable(unions.get(str(name), ()) for name in wanted)}
        running = tracker.calendar.containing(kind, tracker.calendar.local(settings.clock()))
        shown = [
            entry
            for entry in entries
            if entry.bucket in looked_at
            and (entry.period.start < running.start or (live and entry.period == running))
        ]
        stored = [entry for entry in shown if live is not False or "count" in entry.parts]
        if wanted and (stored or (first and end)):
            rows = _rows(tracker, kind, stored, (first, end), wanted, live)
    is_filled = as_json or as_csv if fill is None else fill
    listed = Rows([row for row in rows if is_filled or _has_counts(row)], rows.running)
    if as_json or as_csv:
        show(listed, as_json=as_json, as_csv=as_csv, fields=_FIELDS)
    elif any(map(_has_counts, rows)):
        _show(console(), kind, wanted, listed)
    else:
        console().print(f"No {kind} counts.")
    waiting = [entry for entry in shown if entry.period.start < running.start and is_due(entry.parts)]
    runs = [entry for entry in entries if entry.bucket in looked_at and entry.period == running]
    if settings.archive is None:  # which nobody can collapse
        _hint(settings, _within(waiting, first, end), live, has_more=not live and not listed and bool(runs))


def _rows(
    tracker: Reader,
    kind: PeriodKind,
    entries: Sequence[Entry],
    bounds: tuple[dt.datetime | None, dt.datetime | None],
    buckets: Sequence[str | None],
    live: bool | None,
) -> Rows[RowWithGaps]:
    start, end = bounds
    if start is None and end is None:
        start, end = entries[0].period.start, max(entry.period.next().start for entry in entries)
    elif end is None:
        later = (
            entry.period.next().start for entry in entries if start is None or entry.period.start >= start
        )
        end = max(later, default=start)
    elif start is None:
        start = min((entry.period.start for entry in entries if entry.period.start < end), default=end)
    return tracker.lookup(kind, start=start, end=end, buckets=buckets, missing=None, live=live)


def _has_counts(row: RowWithGaps) -> bool:
    return any(count is not None for count in row[1].values())


def _show(display: Console, kind: str, buckets: Sequence[str | None], rows: Sequence[RowWithGaps]) -> None:
    cells: list[tuple[Cell, ...]] = [
        (date.isoformat(), *(count_cell(counts[bucket], display) for bucket in buckets))
        for date, counts in rows
    ]
    show_table(display, f"{kind} active", ("date",), [named(bucket) for bucket in buckets], cells)
    show_courses(display, {named(bucket): [counts[bucket] for _, counts in rows] for bucket in buckets})


def _within(entries: Sequence[Entry], start: dt.datetime | None, end: dt.datetime | None) -> list[Entry]:
    """The entries of the periods that were looked up."""
    return [
        entry
        for entry in entries
        if (start is None or entry.period.start >= start)
        and (end is None or entry.period.next().start <= end)
    ]


def _hint(settings: Settings, waiting: Sequence[Entry], live: bool | None, *, has_more: bool) -> None:
    """Tell the user what is not collapsed, and so was counted just now or left out; and what still runs."""
    errors = console(stderr=True)
    if waiting:
        done = "left out" if live is False else "counted just now"
        count = len({entry.period for entry in waiting})
        periods = many(count, "period that is over is", "periods that are over are")
        errors.print(f"{periods} not collapsed yet, and {done}. To store the counts:")
        show_command(errors, settings.command("collapse"))
    if has_more:
        errors.print("The period that runs has data. It is shown by:")
        show_command(errors, settings.command("lookup", "--live"))
