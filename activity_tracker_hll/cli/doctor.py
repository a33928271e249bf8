"""The command `doctor`: looks at the server and the data, and says what may go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

import click
from rich.console import Console
from rich.filesize import decimal

from ..errors import SettingsMismatchError
from ..operations import Entry
from ..periods import Calendar
from ..tracker import ActivityTracker
from .examine import Forecast, Server, examine_server, forecasts, without_expiry
from .held import is_due, kinds_of
from .screen import console, named, table
from .settings import Settings

__all__ = ["doctor"]

_BUCKETS = 40
# Before this share of maxmemory is expected to be in use there is nothing to worry about.
_FULL = 0.8


@click.command()
@click.option("--strict", is_flag=True, help="Exit with status 1 if there is a warning.")
@click.pass_obj
def doctor(settings: Settings, *, strict: bool) -> None:
    """Check the server and the data: eviction, persistence, memory, what is not collapsed."""
    screen = console()
    with settings.tracker() as tracker:
        server = examine_server(tracker.backend)
        _show_server(screen, server)
        warnings = list(server.warnings())
        try:
            entries = tracker.inventory()
        except SettingsMismatchError as error:
            warnings.append(str(error))
        else:
            screen.print("Settings: agree with the data.")
            warnings += _examine_data(screen, settings, tracker, server, entries)
    for warning in warnings:
        screen.print(f"Warning: {warning}", style="yellow")
    screen.print(f"{len(warnings)} warnings." if warnings else "No warnings.")
    if warnings and strict:
        raise click.exceptions.Exit(1)


def _show_server(screen: Console, server: Server) -> None:
    rows = table("Server", "what", "is")
    limit = "unknown" if server.limit is None else decimal(server.limit) if server.limit else "none"
    rows.add_row("server", server.product)
    rows.add_row("role", server.role)
    rows.add_row("memory in use", "unknown" if server.used is None else decimal(server.used))
    rows.add_row("memory limit (maxmemory)", limit)
    rows.add_row("eviction (maxmemory-policy)", server.policy)
    rows.add_row("persistence", server.persistence)
    screen.print(rows)


def _examine_data(
    screen: Console, settings: Settings, tracker: ActivityTracker, server: Server, entries: Sequence[Entry]
) -> Iterator[str]:
    if not entries:
        screen.print("No data in this namespace.")
        return
    _show_held(screen, entries, settings.calendar, settings.now())
    expected = forecasts(tracker.backend, entries)
    _show_forecast(screen, expected)
    yield from _about_memory(server, expected)
    yield from _about_data(tracker, settings, entries)


def _is_over(entry: Entry, calendar: Calendar, now: datetime) -> bool:
    return entry.period.start < calendar.containing(entry.period.kind, now).start


def _show_held(screen: Console, entries: Sequence[Entry], calendar: Calendar, now: datetime) -> None:
    rows = table(
        "Held",
        "kind",
        "bucket",
        "first",
        "last",
        numbers=["periods", "counts", "sketches", "to collapse", "raw sets"],
    )
    for kind in kinds_of(entries):
        of_kind = sorted(
            (e for e in entries if e.period.kind == kind), key=lambda e: (e.bucket or "", e.period.start)
        )
        groups = [(bucket, list(group)) for bucket, group in groupby(of_kind, key=lambda entry: entry.bucket)]
        for bucket, group in groups[:_BUCKETS]:
            span = [group[place].period.date.isoformat() for place in (0, -1)]
            due = sum(is_due(entry.parts) and _is_over(entry, calendar, now) for entry in group)
            parts = [sum(part in entry.parts for entry in group) for part in ("count", "hll", "raw")]
            numbers = (len(group), parts[0], parts[1], due, parts[2])
            rows.add_row(kind, named(bucket), *span, *(f"{number:,}" for number in numbers))
        if len(groups) > _BUCKETS:
            rows.add_row(kind, f"... {len(groups) - _BUCKETS:,} more buckets")
    screen.print(rows)


def _show_forecast(screen: Console, expected: Sequence[Forecast]) -> None:
    if not expected:
        return
    numbers = ["sketches", "mean size", "now", "a day adds", "in the long run", "at worst"]
    rows = table("Memory of sketches", "kind", numbers=numbers)
    for kind in expected:
        sizes = (kind.mean, kind.now, kind.per_day, kind.expected, kind.worst)
        shown = ("grows for ever" if size is None else decimal(round(size)) for size in sizes)
        rows.add_row(kind.kind, f"{kind.sketches:,}", *shown)
    screen.print(rows)


def _about_memory(server: Server, expected: Sequence[Forecast]) -> Iterator[str]:
    # What is in use already holds the sketches there are now.
    grows = sum(kind.expected - kind.now for kind in expected if kind.expected is not None)
    forecast = (server.used or 0) + max(0.0, grows)
    if server.limit and forecast > _FULL * server.limit:
        limit = decimal(server.limit)
        yield f"the memory in the long run, {decimal(round(forecast))}, comes close to maxmemory, {limit}"


def _about_data(tracker: ActivityTracker, settings: Settings, entries: Sequence[Entry]) -> Iterator[str]:
    calendar, now = settings.calendar, settings.now()
    due = [entry for entry in entries if is_due(entry.parts) and _is_over(entry, calendar, now)]
    if due:
        periods = len({entry.period for entry in due})
        yield f"{periods} periods that are over ({len(due)} counts) are not collapsed: run collapse"
    stuck = [entry for entry in entries if "raw" in entry.parts and not is_due(entry.parts)]
    if stuck:
        yield (
            f"{len(stuck)} raw sets of activity-tracker lie beside a count whose sketch is gone,"
            f" such as {stuck[0].period.name}: they are not counted"
        )
    endless = without_expiry(tracker.backend, [entry for entry in entries if _is_over(entry, calendar, now)])
    if endless:
        yield (
            f"{len(endless)} collapsed sketches never expire, such as {endless[0].period.name}"
            f" bucket {named(endless[0].bucket)}: collapse gives them an end, or says whose count was not"
            " made from its sketch; --keep-sketches forever says that this is meant"
        )
