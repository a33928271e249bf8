"""The command `settings`: what is stored with the data, and how that is changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from ...keys import check_bucket
from ...operations import DataSettings
from ...periods import PERIODS
from ...result import named
from ...words import duration
from ..display import console, show_command
from ..options import KEEP, Command, aggregate_option, examples
from ..settings import Settings
from ..tables import show_facts

__all__ = ["settings"]


class _KeepOfKind(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """daily=30, or daily=forever."""

    name = "keep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        kind, equals, length = value.partition("=")
        if not equals or kind not in PERIODS:
            self.fail(f"{value!r} is not of the form daily=30 or daily=forever", param, ctx)
        return kind, KEEP.convert(length, param, ctx)


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll settings",
        "activity-tracker-hll settings --keep daily=90",
        "activity-tracker-hll settings --keep yearly=forever",
        "activity-tracker-hll settings --aggregate all=shop,blog",
        "activity-tracker-hll settings --remove-aggregate all",
    ),
)
@click.option(
    "--keep",
    "lengths",
    type=_KeepOfKind(),
    multiple=True,
    metavar="KIND=DAYS|forever",
    help="Keep sketches of this kind of period so long; can be repeated. --keep-sketches: of all kinds.",
)
@aggregate_option("Count the union of these buckets under this name from now on; can be repeated.")
@click.option(
    "--remove-aggregate", "removed", multiple=True, metavar="NAME", help="Count it no more; can be repeated."
)
@click.pass_obj
def settings(
    options: Settings,
    *,
    lengths: tuple[tuple[str, timedelta | None], ...],
    aggregates: tuple[tuple[str, list[str | None]], ...],
    removed: tuple[str, ...],
) -> None:
    """Show what is stored with the data, or change it.

    All clients agree on time zone, first day of the week and secret; these stay. Sketches are kept, and
    aggregates counted, by whoever collapses: longer and more if anyone says so, shorter and fewer by this
    command alone.
    """
    for name in removed:
        check_bucket(name)
    keeps = bool(lengths) or "keep_sketches" in options.given
    if options.archive is not None and not (keeps or aggregates or removed):
        with options.reader() as archive:
            _show(archive.settings)
        return
    with options.tracker(creates=keeps or bool(aggregates)) as tracker:
        found = tracker.settings
        for name in removed:
            if name not in found.aggregate_buckets:
                raise click.UsageError(f"no such aggregate {name!r} (there are: {_names(found)})")
        changes: dict[str, Any] = {}
        if "keep_sketches" in options.given:
            found = tracker.change_settings(keep_sketches=options.keep_sketches)
        if lengths:
            changes["keep_sketches"] = dict(lengths)
        if aggregates or removed:
            changes["aggregate_buckets"] = {**dict(aggregates), **dict.fromkeys(removed)}
        if changes:
            found = tracker.change_settings(**changes)
    _show(found)
    if keeps:
        display = console(stderr=True)
        display.print("Sketches that were to be kept longer are given an earlier end by:")
        show_command(display, options.command("collapse"))


def _names(found: DataSettings) -> str:
    return ", ".join(found.aggregate_buckets) or "none"


def _show(found: DataSettings) -> None:
    display = console()
    if found.timezone is None and not found.keep_sketches and not found.aggregate_buckets:
        display.print("No settings are stored here.")
        return
    facts = {
        "time zone": found.timezone or "not known yet",
        "first day of the week": "not known yet" if found.week_start is None else _DAYS[found.week_start],
        "secret": "ids are hashed with one" if found.has_secret else "none",
    }
    for kind in PERIODS:
        if kind in found.keep_sketches:
            facts[f"{kind} sketches kept"] = _length(found.keep_sketches[kind])
    for name, sources in found.aggregate_buckets.items():
        facts[f"aggregate {name}"] = ", ".join(map(named, sources))
    show_facts(display, "Settings", facts)
    for problem in found.problems:
        display.print(f"Warning: {problem}", style="yellow")


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _length(keep: timedelta | None) -> str:
    if keep is None:
        return "for ever"
    return duration(keep) if keep else "until their period is over and collapsed"
