"""The command `doctor`: examines the server and the data, and warns about what may go wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import click
from rich.console import Console
from rich.filesize import decimal

from ...operations import Entry, Examination
from ...operations.rights import ROLES
from ...operations.server import Forecast, in_the_long_run
from ...words import many
from ..display import console, show_command
from ..options import FILE, Command, examples
from ..settings import Settings
from ..tables import show_buckets, show_facts, show_table

__all__ = ["doctor"]


@click.command(
    cls=Command,
    epilog=examples(
        "activity-tracker-hll doctor",
        "activity-tracker-hll doctor --strict",
        "activity-tracker-hll doctor --archived activity.archive",
    ),
)
@click.option("--strict", is_flag=True, help="Exit with status 1 if there is a warning.")
@click.option(
    "--archived",
    metavar="FILE",
    type=FILE,
    help="Warn of sketches that expire within a week and are not in this archive as they are.",
)
@click.option("--role", type=click.Choice(ROLES), help="Whose rights the user needs; default: all.")
@click.pass_obj
def doctor(settings: Settings, *, strict: bool, archived: str | None, role: str | None) -> None:
    """Check the server and the data: eviction, persistence, memory, rights, what is not collapsed."""
    display = console()
    with settings.tracker() as tracker:
        found = tracker.examine(role=role, archive=archived)
        now = tracker.calendar.local(settings.clock())
    _show_server(display, found)
    if found.agrees:
        display.print("Settings: agree with the data.")
        _show_entries(display, found.entries, set(found.due))
        _show_forecast(display, found.forecasts)
    _show_masters(display, found)
    for warning in found.warnings:
        display.print(f"Warning: {' '.join(warning.split())}", style="yellow")
    display.print(f"{many(len(found.warnings), 'warning')}." if found.warnings else "No warnings.")
    if found.due:
        display.print("To collapse what is over:")
        show_command(display, settings.command("collapse"))
    if any(entry.period.start > now for entry in found.entries):
        display.print(
            "To be rid of what lies in the future, archive the rest, and restore that to another place, by"
            " --data, --url or --namespace:"
        )
        last = now.date().isoformat()
        show_command(display, settings.command("archive", "activity.archive", "--last", last))
    if found.warnings and strict:
        raise click.exceptions.Exit(1)


def _show_server(display: Console, found: Examination) -> None:
    server = found.server
    facts = {
        "server": server.product,
        "role": server.role,
        "memory in use": _size(server.used),
        "memory limit (maxmemory)": _limit(server.limit),
        "eviction (maxmemory-policy)": server.policy,
        "persistence": server.persistence,
        "rights": "unknown" if found.lacking is None else "some are missing" if found.lacking else "all",
    }
    if server.nodes:
        masters = many(len(server.nodes) + len(server.missing), "master")
        facts["server"] = f"cluster of {masters}, {server.product}"
    show_facts(display, "Server", facts)


def _show_masters(display: Console, found: Examination) -> None:
    server, rows = found.server, []
    for node in server.nodes:
        expected = round(in_the_long_run(node, server, found.forecasts)) if found.agrees else None
        replicas = "unknown" if node.replicas is None else f"{node.replicas:,}"
        rows.append((node.address, replicas, _size(node.used), _size(expected), _limit(node.limit)))
    headers = ("replicas", "memory\nin use", "in the\nlong run", "limit")
    if rows:
        show_table(display, "Masters", ("address",), headers, rows)


def _limit(limit: int | None) -> str:
    return "none" if limit == 0 else _size(limit)


def _size(size: int | None) -> str:
    return "unknown" if size is None else decimal(size)


def _show_entries(display: Console, entries: Sequence[Entry], due: Collection[Entry]) -> None:
    if not entries:
        display.print("No data in this namespace.")
        return
    held = defaultdict(list)
    for entry in entries:
        held[entry.period.kind, entry.bucket].append(entry)
    kept = {"count": "counts", "hll": "sketches"}
    if any("raw" in entry.parts for entry in entries):
        kept["raw"] = "raw\nsets"
    rows = {}
    for place, group in held.items():
        group.sort(key=lambda entry: entry.period.start)
        parts = (sum(part in entry.parts for entry in group) for part in kept)
        numbers = (sum(entry in due for entry in group), len(group), *parts)
        span = (group[index].period.date.isoformat() for index in (0, -1))
        rows[place] = (*span, *(f"{number:,}" for number in numbers))
    headers = ("first", "last", "to\ncollapse", "periods", *kept.values())
    show_buckets(display, "Held", headers, rows)


def _show_forecast(display: Console, expected: Sequence[Forecast]) -> None:
    rows = []
    for kind in expected:
        sizes = (kind.mean, kind.now, kind.per_day, kind.expected, kind.worst)
        shown = ("grows for ever" if size is None else decimal(round(size)) for size in sizes)
        rows.append((kind.kind, f"{kind.sketches:,}", *shown))
    headers = ("sketches", "mean\nsize", "now", "a day\nadds", "in the\nlong run", "at worst")
    if rows:
        show_table(display, "Memory of sketches", ("kind",), headers, rows)
