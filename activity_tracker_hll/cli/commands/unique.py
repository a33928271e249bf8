"""The command `unique`: distinct ids over a range."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from ...periods import PeriodKind
from ..options import PERIOD, Command, aggregate_option, bucket_option, examples
from ..results import known_buckets, output_options, range_options, reading, show, until
from ..settings import Settings

__all__ = ["unique"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll unique --start 2026-10-01 --last 2026-10-31",
        "activity-tracker-hll unique --start 2026-01-01 --last 2026-03-31 --bucket shop --json",
    ),
)
@range_options("The range", required=True)
@click.option(
    "--period",
    "kind",
    type=PERIOD,
    help="Kind of period whose sketches are united. Default: the coarsest that covers the range exactly.",
)
@bucket_option("Only this bucket, (all) for the unnamed one; can be repeated. Default: all that there are.")
@aggregate_option("The union of these buckets, too; can be repeated.")
@output_options
@click.pass_obj
def unique(  # click passes each option as an argument of its own
    settings: Settings,
    *,
    start: dt.date,
    last: dt.date,
    kind: PeriodKind | None,
    buckets: tuple[str | None, ...],
    aggregates: tuple[tuple[str, list[str | None]], ...],
    missing: Any,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show how many distinct ids were active over a range of days.

    An id counts in a bucket if the newest thing that happened to it there was activity, not leaving.
    """
    with reading(settings) as tracker:
        result = tracker.unique(
            start,
            until(last),
            buckets=known_buckets(tracker, kind, buckets, dict(aggregates)),
            aggregate_buckets=dict(aggregates) or None,
            period=kind,
            missing=missing,
        )
    show(result, as_json=as_json, as_csv=as_csv)
