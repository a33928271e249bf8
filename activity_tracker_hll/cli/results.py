"""What the commands that ask sketches share: their options, and how a result is shown."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from typing import Any, TypeVar

import click
from rich.text import Text

from ..analytics.results import Retention
from ..errors import MissingSketchesError
from ..operations import Entry
from ..operations.due import buckets_of, check_known
from ..periods import PeriodKind
from ..reader import Reader
from ..result import Result, named
from .display import console, write
from .options import DATE, one_bucket
from .settings import Settings
from .tables import Cell, show_table

__all__ = [
    "end_of",
    "format_options",
    "known_buckets",
    "output_options",
    "range_options",
    "reading",
    "show",
    "single_bucket",
    "the_bucket",
    "until",
]

F = TypeVar("F", bound=Callable[..., Any])
_SHADES = (194, 157, 120, 83, 46, 40, 34, 28, 22)  # of the greens of a terminal with 256 colours
_DARK = 4  # of the shades, from this one on


def range_options(what: str, *, required: bool = False) -> Callable[[F], F]:
    """--start and --last: people think of a last day, the library of an end that does not belong to it."""

    def add(command: F) -> F:
        last = click.option("--last", type=DATE, required=required, help=f"{what} ends with that day.")
        start = click.option("--start", type=DATE, required=required, help=f"{what} begins with that day.")
        return start(last(command))

    return add


def format_options(command: F) -> F:
    """--json, --csv."""
    as_csv = click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a header.")
    as_json = click.option("--json", "as_json", is_flag=True, help="A list of objects.")
    return as_json(as_csv(command))


def output_options(command: F) -> F:
    """--missing, --json, --csv."""
    missing = click.option(
        "--missing",
        type=click.Choice(["raise", "none"]),
        default="raise",
        show_default=True,
        help="Where sketches have expired: fail by name, or show the others and - there.",
    )
    return missing(format_options(command))


def single_bucket(help: str, name: str = "--bucket") -> Callable[[F], F]:
    """One bucket; ... if it is not given."""
    return click.option(name, type=one_bucket, default=..., metavar="NAME", help=help)


def until(last: dt.date) -> dt.date:
    """The end of a range, which does not belong to it, from the last day, or hour, that does."""
    try:
        return last + (dt.timedelta(hours=1) if isinstance(last, dt.datetime) else dt.timedelta(days=1))
    except OverflowError as error:
        raise click.UsageError(f"there is no day after {last}") from error


@contextmanager
def reading(settings: Settings, **options: Any) -> Iterator[Reader]:
    """What reads, and a sign that something goes on for who waits."""
    with settings.reader(**options) as tracker, console(stderr=True).status("Reading sketches"):
        try:
            yield tracker
        except MissingSketchesError as error:  # its hint is about an argument, which is an option here
            raise click.ClickException(str(error).replace("missing='none'", "--missing none")) from error


def known_buckets(
    tracker: Reader,
    kind: PeriodKind | None,
    wanted: Sequence[str | None],
    aggregates: Mapping[str, Sequence[str | None]] | None = None,
    inventory: Sequence[Entry] | None = None,
) -> list[str | None]:
    """The buckets asked for; without any, all that there are in this kind of period, and all aggregates.

    Args:
        kind: None = in any kind.
        aggregates: further unions that are asked for, whose sources are to be there.
        inventory: what there is, if the caller has asked for it already, which searches the whole server.
    """
    inventory = tracker.inventory() if inventory is None else inventory
    unions = tracker.settings.aggregate_buckets
    sources = {
        name: [source for source in listed if source not in unions]
        for name, listed in (aggregates or {}).items()
    }
    check_known([name for name in wanted if name not in unions], sources, inventory)
    if wanted:
        return list(wanted)
    there = buckets_of([entry for entry in inventory if kind is None or entry.period.kind == kind])
    united = [name for name, sources in unions.items() if set(there).issuperset(sources)]
    return list(dict.fromkeys([*there, *united])) or [None]


def end_of(settings: Settings, tracker: Reader, kind: PeriodKind, last: dt.date | None) -> dt.date | None:
    """The end of a range, from its last day; without one, that of the newest data, but not of what runs."""
    if last is not None:
        return until(last)
    periods = {entry.period for entry in tracker.inventory() if entry.period.kind == kind}
    running = tracker.calendar.containing(kind, tracker.calendar.local(settings.clock())).start
    return max((period.next().start for period in periods if period.start < running), default=running)


def the_bucket(tracker: Reader, kind: PeriodKind | None, wanted: Any) -> str | None:
    """The bucket asked for; without one, the only one that there is."""
    [bucket, *others] = known_buckets(tracker, kind, () if wanted is ... else (wanted,))
    if others:
        names = ", ".join(map(named, (bucket, *others)))
        raise click.UsageError(f"--bucket must be given, as there are several: {names}")
    return bucket


def show(result: Result, *, as_json: bool, as_csv: bool, fields: Sequence[str] = ()) -> None:
    """Show a result as a table, JSON or CSV.

    Args:
        fields: the header of CSV where there is no record to have it from.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    if as_json:
        write(json.dumps([_plain(record) for record in result.to_dicts()], indent=1) + "\n")
    elif as_csv:
        records = [_plain(record) for record in result.to_dicts()]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(records[0]) if records else fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        write(text.getvalue())
    else:
        display = console()
        title, (label, *numbers), rows = result.table()
        cells: list[Sequence[Cell]] = [tuple(row) for row in rows]
        if isinstance(result, Retention):
            cells = [_shaded(row) for row in rows]
        show_table(display, title, (label,), numbers, cells)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record for programs: dates as text, and no NaN, which JSON does not know."""
    return {name: _plain_value(value) for name, value in record.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, dt.date):
        return value.isoformat()
    return None if isinstance(value, float) and isnan(value) else value


def _shaded(row: Sequence[str]) -> tuple[Cell, ...]:
    """The cells of a cohort: the larger a share, the darker."""
    label, ids, *shares = row
    return label, ids, *(_shade(share) for share in shares)


def _shade(share: str) -> Cell:
    try:
        part = float(share.rstrip(" *?%")) / 100
    except ValueError:
        return share
    index = min(len(_SHADES) - 1, int(part * len(_SHADES)))
    return Text(share, style=f"{'white' if index > _DARK else 'black'} on color({_SHADES[index]})")
