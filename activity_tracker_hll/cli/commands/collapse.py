"""The command `collapse`: from sketches to stored counts."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence

import click

from ...errors import CollapseError
from ...keys import check_bucket
from ...operations import Collapsed
from ...periods import PeriodKind
from ...result import named
from ...words import many
from ..display import console, count_cell, progress_bar
from ..options import DATE, Command, aggregate_option, bucket_option, examples, period_option
from ..settings import Settings
from ..tables import Cell, show_buckets

__all__ = ["collapse"]

_MOST_FAILURES = 40
Failure = tuple[str, str | None, Exception]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll collapse",
        "activity-tracker-hll collapse --quiet",
        "activity-tracker-hll collapse --aggregate all=shop,blog",
        "activity-tracker-hll collapse --period daily --recount",
    ),
)
@period_option("Only this kind of period; can be repeated. Default: all that there are.")
@click.option("--date", type=DATE, help="Collapse what lies before the period of this date. Default: now.")
@click.option(
    "--max-periods",
    type=click.IntRange(min=1),
    help="Only so many periods of each kind, the newest. Default: all that are not collapsed.",
)
@bucket_option("Only this bucket, (all) for the unnamed one; can be repeated. Default: all that there are.")
@aggregate_option(
    "Also count the union of these buckets under this name; can be repeated. It is stored with the data, so"
    " every later collapse counts it too."
)
@click.option("--recount", is_flag=True, help="Count again what was counted, where sketches are kept.")
@click.option("--quiet", is_flag=True, help="Say only what failed, as for cron.")
@click.pass_obj
def collapse(
    settings: Settings,
    *,
    periods: tuple[PeriodKind, ...],
    date: dt.date | None,
    max_periods: int | None,
    buckets: tuple[str | None, ...],
    aggregates: tuple[tuple[str, list[str | None]], ...],
    recount: bool,
    quiet: bool,
) -> None:
    """Store the counts of every period that is over. Can be interrupted and run again."""
    unions = dict(aggregates)
    for name in (*buckets, *unions):
        check_bucket(name)
    done: Sequence[Collapsed] = ()
    failures: Sequence[Failure] = ()
    with settings.tracker(writes=True) as tracker, progress_bar(quiet=quiet) as bar:
        task = bar.add_task("Collapsing", total=None)
        try:
            done = tracker.collapse_due(
                periods or None,
                date=date,
                max_periods=max_periods,
                buckets=buckets or None,
                aggregate_buckets=unions,
                recount=recount,
                progress=lambda step, steps: bar.update(task, completed=step, total=steps),
            )
        except CollapseError as error:
            done, failures = error.collapsed, error.failures
        known = tracker.settings.aggregate_buckets
        new = {name: sources for name, sources in unions.items() if name not in known}
        if new:
            tracker.change_settings(aggregate_buckets=new)
    if not quiet:
        _show(done, bool(failures))
    if failures:
        _show_failures(failures)
        raise click.exceptions.Exit(1)


def _show(done: Sequence[Collapsed], has_failures: bool) -> None:
    display = console()
    if not done:
        if not has_failures:
            display.print("Nothing to collapse: every period that is over was counted.")
        return
    stored = defaultdict(list)
    for collapsed in done:
        stored[collapsed.period.kind, collapsed.bucket].append(collapsed)
    rows: dict[tuple[str, str | None], tuple[Cell, ...]] = {}
    for place, counts in stored.items():
        counts.sort(key=lambda collapsed: collapsed.period.start)
        last = counts[-1]
        rows[place] = (f"{len(counts):,}", last.period.date.isoformat(), count_cell(last.count, display))
    show_buckets(display, "Stored", ("counts", "last", "active\nthen"), rows)
    display.print(f"{many(len(done), 'count')} stored.")


def _show_failures(failures: Sequence[Failure]) -> None:
    errors = console(stderr=True)
    for name, bucket, error in failures[:_MOST_FAILURES]:
        # The library's message names an argument, which is an option here.
        reason = " ".join(str(error).replace("recount=True", "--recount").split())
        errors.print(f"Failed: {name}, bucket {named(bucket)}: {reason}")
    if len(failures) > _MOST_FAILURES:
        errors.print(f"... and {many(len(failures) - _MOST_FAILURES, 'more failure')}")
    errors.print(f"{len(failures):,} not collapsed, all others are.")
