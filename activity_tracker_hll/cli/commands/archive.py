"""The commands `archive` and `restore`: what was counted, in a file, and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ...periods import PeriodKind
from ...words import first_of, many
from ..display import console, show_command
from ..options import DATE, DAYS, FILE, Command, bucket_option, examples, period_option
from ..results import known_buckets, until
from ..settings import Settings

__all__ = ["archive", "restore"]

F = TypeVar("F", bound=Callable[..., Any])


def _choice(verb: str) -> Callable[[F], F]:
    """The file, and what is chosen of it, or for it."""

    def add(command: F) -> F:
        for option in (
            bucket_option("Only this bucket, (all) for the unnamed one; can be repeated. Default: all."),
            click.option("--last", type=DATE, help=f"{verb} periods that begin on that day or before it."),
            click.option("--start", type=DATE, help=f"{verb} periods that begin on that day or later."),
            period_option("Only this kind of period; can be repeated. Default: all."),
            click.argument("file", type=FILE),
        ):
            command = option(command)
        return command

    return add


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll archive activity.archive",
        "activity-tracker-hll archive activity.archive --start 2026-11-01 --quiet",
        "activity-tracker-hll rolling --window 28 --archive activity.archive",
    ),
)
@_choice("Archive")
@click.option(
    "--moves/--no-moves",
    default=None,
    help="Whether tables of moves, which hold ids, are in the file. Default: as it is; if new, they are.",
)
@click.option("--quiet", is_flag=True, help="Say only what failed, as for cron.")
@click.pass_obj
def archive(  # click passes each option as an argument of its own
    settings: Settings,
    *,
    file: str,
    periods: tuple[PeriodKind, ...],
    start: dt.date | None,
    last: dt.date | None,
    buckets: tuple[str | None, ...],
    moves: bool | None,
    quiet: bool,
) -> None:
    """Copy sketches and counts to a FILE, which is made, or united with what is new.

    What expires on the server stays there. All commands that read take it as --archive FILE.
    """
    with settings.tracker() as tracker, console(stderr=True).status("Archiving"):
        done = tracker.archive(
            file,
            periods=periods or None,
            start=start,
            end=None if last is None else until(last),
            buckets=known_buckets(tracker, None, buckets) if buckets else None,
            moves=moves,
        )
    if not quiet:
        console().print(
            f"{many(done.read, 'bucket')} of periods read, {done.changed:,} of them new or changed;"
            f" {done.held:,} in the archive."
        )


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll restore activity.archive",
        "activity-tracker-hll restore activity.archive --start 2026-01-01 --last 2026-03-31 --keep 7",
    ),
)
@_choice("Restore")
@click.option(
    "--keep",
    type=DAYS,
    metavar="DAYS",
    help="Keep restored sketches that are counted for so long from now on. Default: as the settings say;"
    " where that is over, as long from now.",
)
@click.pass_obj
def restore(
    settings: Settings,
    *,
    file: str,
    periods: tuple[PeriodKind, ...],
    start: dt.date | None,
    last: dt.date | None,
    buckets: tuple[str | None, ...],
    keep: dt.timedelta | None,
) -> None:
    """Copy what the archive FILE has back to the server, united with what is there. Can be run again."""
    with settings.tracker(creates=True) as tracker, console(stderr=True).status("Restoring"):
        done = tracker.restore(
            file,
            periods=periods or None,
            start=start,
            end=None if last is None else until(last),
            buckets=buckets or None,
            keep=keep,
        )
    display = console()
    display.print(f"{many(done.written, 'bucket')} of periods restored.")
    if done.open:
        display.print(f"Not counted, or not all of it: {first_of(done.open, joint=', ')}.")
        show_command(display, settings.command("collapse"))
