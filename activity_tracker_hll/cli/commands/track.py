"""The command `track`: one event."""

from __future__ import annotations

import datetime as dt

import click

from ...periods import PeriodKind
from ..options import DATE, Command, examples, period_option
from ..settings import Settings

__all__ = ["track"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll track ann --bucket members",
        "activity-tracker-hll track ann --bucket members \\",
        "    --old-id session-1 --old-bucket anonymous",
        "activity-tracker-hll track bob --date 2026-11-23",
    ),
)
@click.argument("id", required=False)
@click.option("--bucket", metavar="NAME", help="The bucket the id is in. Default: the unnamed one.")
@period_option("Kind of period to count in; can be repeated.", ("daily", "monthly"))
@click.option("--old-id", metavar="ID", help="The id was this one until now: it is moved.")
@click.option("--old-bucket", metavar="NAME", help="The bucket it was in.")
@click.option("--date", type=DATE, help="When it was. Default: now.")
@click.pass_obj
def track(
    settings: Settings,
    *,
    id: str | None,
    bucket: str | None,
    periods: tuple[PeriodKind, ...],
    old_id: str | None,
    old_bucket: str | None,
    date: dt.date | None,
) -> None:
    """Record that ID was active. Without ID, but with --old-id, that id is only removed."""
    if id is None and old_id is None:
        raise click.UsageError("give an ID, or --old-id to remove one")
    if old_bucket is not None and old_id is None:
        raise click.UsageError("--old-bucket needs --old-id")
    with settings.tracker(writes=True, creates=True) as tracker:
        tracker.track(periods, id=id, bucket=bucket, old_id=old_id, old_bucket=old_bucket, date=date)
