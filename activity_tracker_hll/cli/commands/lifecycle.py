"""The command `lifecycle`: new, retained, resurrected, churned and moved ids."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from ...periods import PeriodKind
from ..options import PERIOD, Command, examples
from ..results import output_options, range_options, reading, show, single_bucket, the_bucket, until
from ..settings import Settings

__all__ = ["lifecycle"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll lifecycle --start 2026-01-01 --last 2026-06-30",
        "activity-tracker-hll lifecycle --period weekly --start 2026-10-05 --last 2026-11-29 --csv",
    ),
)
@click.option("--period", "kind", type=PERIOD, default="monthly", show_default=True)
@range_options("The range", required=True)
@single_bucket("Of this bucket, (all) for the unnamed one. Default: the only one that there is.")
@click.option(
    "--look-back",
    type=click.IntRange(1),
    help="New is who was in none of so many periods before. Default: all.",
)
@output_options
@click.pass_obj
def lifecycle(  # click passes each option as an argument of its own
    settings: Settings,
    *,
    kind: PeriodKind,
    start: dt.date,
    last: dt.date,
    bucket: Any,
    look_back: int | None,
    missing: Any,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show what became of a bucket's ids from one period to the next.

    new: in none of the periods looked back at. retained: in the period before, too. resurrected: in an
    earlier one, but not in that. churned: in the period before, and no more. moved: left the bucket.
    """
    with reading(settings) as tracker:
        result = tracker.lifecycle(
            kind,
            start=start,
            end=until(last),
            bucket=the_bucket(tracker, kind, bucket),
            look_back=look_back,
            missing=missing,
        )
    show(result, as_json=as_json, as_csv=as_csv)
