"""The command `stickiness`: the share of active ids that are active on a day."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from ...periods import PeriodKind
from ..options import PERIOD, Command, aggregate_option, bucket_option, examples
from ..results import end_of, known_buckets, output_options, range_options, reading, show
from ..settings import Settings

__all__ = ["stickiness"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll stickiness",
        "activity-tracker-hll stickiness --window 28 --start 2026-10-01 --last 2026-10-31 --csv",
    ),
)
@click.option("--window", type=click.IntRange(1), default=28, show_default=True, help="Periods in a window.")
@click.option("--period", "kind", type=PERIOD, default="daily", show_default=True)
@range_options("What is shown")
@bucket_option("Only this bucket, (all) for the unnamed one; can be repeated. Default: all that there are.")
@aggregate_option("The union of these buckets, too; can be repeated.")
@output_options
@click.pass_obj
def stickiness(  # click passes each option as an argument of its own
    settings: Settings,
    *,
    window: int,
    kind: PeriodKind,
    start: dt.date | None,
    last: dt.date | None,
    buckets: tuple[str | None, ...],
    aggregates: tuple[tuple[str, list[str | None]], ...],
    missing: Any,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show the share of a trailing window's ids that are active in one of its periods, in the mean: DAU/MAU.

    Windows are dated by their last period. Without --start the first one is that whose sketches are all kept,
    without --last the last one is that of the newest data, but for the period that runs.
    """
    with reading(settings) as tracker:
        result = tracker.stickiness(
            window,
            period=kind,
            start=start,
            end=end_of(settings, tracker, kind, last),
            buckets=known_buckets(tracker, kind, buckets, dict(aggregates)),
            aggregate_buckets=dict(aggregates) or None,
            missing=missing,
        )
    show(result, as_json=as_json, as_csv=as_csv)
