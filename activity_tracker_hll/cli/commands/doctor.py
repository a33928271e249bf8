"""The command `doctor`: examines the server and the data, and warns about what may go wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

import click
from rich.console import Console
from rich.filesize import decimal

from ...operations import Entry
from ...operations.due import kinds_of
from ...operations.server import Forecast, Server
from ..display import console, named, table
from ..settings import Settings

__all__ = ["doctor"]

_BUCKETS = 40


@click.command()
@click.option("--strict", is_flag=True, help="Exit with status 1 if there is a warning.")
@click.pass_obj
def doctor(settings: Settings, *, strict: bool) -> None:
    """Check the server and the data: eviction, persistence, memory, what is not collapsed."""
    display = console()
    with settings.tracker() as tracker:
        found = tracker.examine()
    _show_server(display, found.server)
    if found.agrees:
        display.print("Settings: agree with the data.")
        _show_entries(display, found.entries, set(found.due))
        _show_forecast(display, found.forecasts)
    for warning in found.warnings:
        display.print(f"Warning: {warning}", style="yellow")
    display.print(f"{len(found.warnings)} warnings." if found.warnings else "No warnings.")
    if found.warnings and strict:
        raise click.exceptions.Exit(1)


def _show_server(display: Console, server: Server) -> None:
    rows = table("Server", "what", "is")
    limit = "unknown" if server.limit is None else decimal(server.limit) if server.limit else "none"
    rows.add_row("server", server.product)
    rows.add_row("role", server.role)
    rows.add_row("memory in use", "unknown" if server.used is None else decimal(server.used))
    rows.add_row("memory limit (maxmemory)", limit)
    rows.add_row("eviction (maxmemory-policy)", server.policy)
    rows.add_row("persistence", server.persistence)
    display.print(rows)


def _show_entries(display: Console, entries: Sequence[Entry], due: Collection[Entry]) -> None:
    if not entries:
        display.print("No data in this namespace.")
        return
    rows = table(
        "Held",
        "kind",
        "bucket",
        "first",
        "last",
        numbers=["periods", "counts", "sketches", "to collapse", "raw sets"],
    )
    for kind in kinds_of(entries):
        entries_of_kind = sorted(
            (entry for entry in entries if entry.period.kind == kind),
            key=lambda entry: (entry.bucket or "", entry.period.start),
        )
        groups = [
            (bucket, list(group))
            for bucket, group in groupby(entries_of_kind, key=lambda entry: entry.bucket)
        ]
        for bucket, group in groups[:_BUCKETS]:
            span = [group[index].period.date.isoformat() for index in (0, -1)]
            parts = [sum(part in entry.parts for entry in group) for part in ("count", "hll", "raw")]
            numbers = (len(group), *parts[:2], sum(entry in due for entry in group), parts[2])
            rows.add_row(kind, named(bucket), *span, *(f"{number:,}" for number in numbers))
        if len(groups) > _BUCKETS:
            rows.add_row(kind, f"... {len(groups) - _BUCKETS:,} more buckets")
    display.print(rows)


def _show_forecast(display: Console, expected: Sequence[Forecast]) -> None:
    if not expected:
        return
    numbers = ["sketches", "mean size", "now", "a day adds", "in the long run", "at worst"]
    rows = table("Memory of sketches", "kind", numbers=numbers)
    for kind in expected:
        sizes = (kind.mean, kind.now, kind.per_day, kind.expected, kind.worst)
        shown = ("grows for ever" if size is None else decimal(round(size)) for size in sizes)
        rows.add_row(kind.kind, f"{kind.sketches:,}", *shown)
    display.print(rows)
