"""The command `collapse`: from sketches to stored counts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import click

from ...errors import CollapseError
from ...keys import check_bucket
from ...operations import Collapsed
from ...periods import PeriodKind
from ..display import console, count_cell, named, progress_bar, table
from ..options import DATE, aggregate_option, bucket_option, period_option
from ..settings import Settings

__all__ = ["collapse"]

_ROWS = 40
Failure = tuple[str, str | None, Exception]


@click.command()
@period_option("Only this kind of period; can be repeated. Default: all that there are.")
@click.option("--date", type=DATE, help="Collapse what lies before the period of this date. Default: now.")
@click.option(
    "--max-periods",
    type=click.IntRange(min=1),
    help="Only so many periods of each kind; 1 with --date. Default: all that are not collapsed.",
)
@bucket_option("Only this bucket; can be repeated. Default: all that there are.")
@aggregate_option("Also count the union of these buckets under this name; can be repeated.")
@click.option("--recount", is_flag=True, help="Count again what was counted, where sketches are kept.")
@click.pass_obj
def collapse(
    settings: Settings,
    *,
    periods: tuple[PeriodKind, ...],
    date: dt.date | None,
    max_periods: int | None,
    buckets: tuple[str, ...],
    aggregates: tuple[tuple[str, list[str]], ...],
    recount: bool,
) -> None:
    """Store the counts of every period that is over. Can be interrupted and run again."""
    unions = dict(aggregates)
    for name in (*buckets, *unions):
        check_bucket(name)
    done: Sequence[Collapsed] = ()
    failures: Sequence[Failure] = ()
    with settings.tracker() as tracker, progress_bar() as bar:
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
    _show(done, failures)
    if failures:
        raise click.exceptions.Exit(1)


def _show(done: Sequence[Collapsed], failures: Sequence[Failure]) -> None:
    display = console()
    if not done and not failures:
        display.print("Nothing to collapse: every period that is over is counted.")
    if done:
        rows = table("Stored", "period", "bucket", numbers=["active"])
        ordered = sorted(
            done,
            key=lambda collapsed: (collapsed.period.kind, collapsed.period.start, collapsed.bucket or ""),
        )
        for collapsed in ordered[-_ROWS:]:
            rows.add_row(collapsed.period.name, named(collapsed.bucket), count_cell(collapsed.count, display))
        if len(done) > _ROWS:
            display.print(f"The last {_ROWS} of {len(done):,}:")
        display.print(rows)
        display.print(f"{len(done):,} counts stored.")
    errors = console(stderr=True)
    for name, bucket, error in failures[:_ROWS]:
        # The library's message names an argument, which is an option here.
        reason = str(error).replace("recount=True", "--recount")
        errors.print(f"Failed: {name}, bucket {named(bucket)}: {reason}")
    if failures:
        errors.print(f"{len(failures):,} not collapsed, all others are.")
