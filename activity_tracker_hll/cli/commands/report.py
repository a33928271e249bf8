"""The command `report`: one HTML file with charts, what they say, and all numbers."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from ..display import console
from ..options import FILE, Command, bucket_option, examples
from ..results import known_buckets, range_options, single_bucket, until
from ..settings import Settings

__all__ = ["report"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll report",
        "activity-tracker-hll report /var/www/active.html --title 'Users of the shop' --of everyone",
        "activity-tracker-hll report --start 2026-10-01 --last 2026-10-31 --bucket shop --bucket blog",
    ),
)
@click.argument("path", type=FILE, default="active-users.html")
@range_options("What is shown")
@bucket_option("Only this bucket, (all) for the unnamed one; can be repeated. Default: all that there are.")
@single_bucket(
    "What reach, retention and lifecycle are about. Default: an aggregate of all buckets, else all together"
    " or the largest.",
    "--of",
)
@click.option("--title", default="Active users", show_default=True, help="The heading.")
@click.pass_obj
def report(
    settings: Settings,
    *,
    path: str,
    start: dt.date | None,
    last: dt.date | None,
    buckets: tuple[str | None, ...],
    of: Any,
    title: str,
) -> None:
    """Write a report: one HTML file, PATH, that needs no network and holds no ids.

    Without --start and --last it shows a year of days up to today, or up to the newest data where these are
    older than that. What is missing is shown as missing.
    """
    with settings.reader() as reader, console(stderr=True).status("Reading") as status:
        if of is not ...:
            known_buckets(reader, None, (of,))
        made = reader.report(
            path,
            start=start,
            end=None if last is None else until(last),
            buckets=known_buckets(reader, None, buckets) if buckets else None,
            bucket=of,
            title=title,
            progress=lambda about: status.update(f"Reading: {about}"),
        )
    console().print(f"{made}: {made.stat().st_size:,} bytes")
