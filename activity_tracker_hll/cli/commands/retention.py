"""The command `retention`: how many ids of each period come back."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from ...periods import PeriodKind
from ..options import PERIOD, Command, examples
from ..results import output_options, range_options, reading, show, single_bucket, the_bucket, until
from ..settings import Settings

__all__ = ["retention"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll retention --start 2026-01-01 --last 2026-06-30",
        "activity-tracker-hll retention --period weekly --start 2026-10-05 --last 2026-11-29 --cohorts new",
    ),
)
@click.option("--period", "kind", type=PERIOD, default="monthly", show_default=True)
@range_options("The range of cohorts", required=True)
@single_bucket("Of this bucket, (all) for the unnamed one. Default: the only one that there is.")
@click.option(
    "--cohorts",
    type=click.Choice(["active", "new"]),
    default="active",
    show_default=True,
    help="All ids of a period, or those that were not there before.",
)
@click.option(
    "--when",
    type=click.Choice(["on", "on or after"]),
    default="on",
    show_default=True,
    help="Active in the period of the offset, or in it or a later one.",
)
@click.option(
    "--look-back",
    type=click.IntRange(1),
    help="New is who was in none of so many periods before. Default: all.",
)
@output_options
@click.pass_obj
def retention(  # click passes each option as an argument of its own
    settings: Settings,
    *,
    kind: PeriodKind,
    start: dt.date,
    last: dt.date,
    bucket: Any,
    cohorts: Any,
    when: Any,
    look_back: int | None,
    missing: Any,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show how many ids of each period come back in later ones.

    A row is a cohort, the ids of its period. A column is an offset in periods. What is not complete bears a
    star: its period is still running. The mean is weighted by the cohorts' sizes, without such cells.
    """
    with reading(settings) as tracker:
        result = tracker.retention(
            kind,
            start=start,
            end=until(last),
            bucket=the_bucket(tracker, kind, bucket),
            cohorts=cohorts,
            when=when,
            look_back=look_back,
            missing=missing,
        )
    show(result, as_json=as_json, as_csv=as_csv)
