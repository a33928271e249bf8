"""The command `overlap`: what two selections have in common."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from ...periods import PeriodKind
from ...selection import Selection
from ..options import DATE, PERIOD, Command, examples
from ..results import format_options, range_options, reading, show, single_bucket, the_bucket, until
from ..settings import Settings

__all__ = ["overlap"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll overlap --start 2026-10-01 --last 2026-10-31 --bucket shop --with-bucket blog",
        "activity-tracker-hll overlap --start 2026-09-01 --last 2026-09-30 \\",
        "    --with-start 2026-10-01 --with-last 2026-10-31",
    ),
)
@single_bucket("The first selection's. Default: the only one that there is.")
@range_options("The first selection", required=True)
@single_bucket("The second selection's. Default: as the first one.", "--with-bucket")
@click.option(
    "--with-start", type=DATE, help="The second selection begins with that day. Default: as the first."
)
@click.option(
    "--with-last", type=DATE, help="The second selection ends with that day. Default: as the first."
)
@click.option(
    "--period",
    "kind",
    type=PERIOD,
    help="Kind of period whose sketches are united. Default: the coarsest that covers a range exactly.",
)
@format_options
@click.pass_obj
def overlap(  # click passes each option as an argument of its own
    settings: Settings,
    *,
    bucket: Any,
    start: dt.date,
    last: dt.date,
    with_bucket: Any,
    with_start: dt.date | None,
    with_last: dt.date | None,
    kind: PeriodKind | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show how many ids two selections have in common, and how many are in one alone.

    Both are a bucket over a range of days. Below a Jaccard index of 0.02 the numbers are uncertain.
    """
    with reading(settings) as tracker:
        first = the_bucket(tracker, kind, bucket)
        second = first if with_bucket is ... else the_bucket(tracker, kind, with_bucket)
        found = tracker.overlap(
            Selection(first, start, until(last), kind),
            Selection(second, with_start or start, until(with_last or last), kind),
        )
    show(found, as_json=as_json, as_csv=as_csv)
