"""The command `import`: events from logs, delimited text and JSON lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import DownloadColumn, TextColumn
from rich.table import Column

from ...event_files.layout import FORMATS, Layout, LayoutError
from ...event_files.lines import Lines, Rejected, opened, total_size
from ...event_files.logs import LogParser
from ...event_files.readers import Event, read
from ...keys import check_bucket
from ...operations import Imported
from ...periods import Calendar, PeriodKind
from ...words import many
from ..display import console, progress_bar, show_command
from ..options import Command, examples, period_option
from ..settings import Settings

__all__ = ["import_"]


@click.command(
    "import",
    cls=Command,
    epilog=examples(
        "activity-tracker-hll import access.log access.log.*.gz",
        "activity-tracker-hll import visits.csv --id user \\",
        "    --time when --time-format %d.%m.%Y \\",
        "    --bucket-field site --period daily --period weekly",
        "zcat events.jsonl.gz | activity-tracker-hll import \\",
        "    --format jsonl --id user.id --time ts \\",
        "    --time-format epoch",
    ),
)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--format", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option("--id", metavar="FIELD", help="Holds the id. Default: remote_host in logs, else 'id'.")
@click.option("--bucket-field", metavar="FIELD", help="Holds the bucket.")
@click.option("--bucket", metavar="NAME", help="One bucket for all. Default: the unnamed one.")
@click.option("--time", metavar="FIELD", help="Holds the time. Default: request_time in logs, else 'time'.")
@click.option(
    "--time-format",
    default="iso",
    show_default=True,
    help="iso, epoch, epoch_ms, or a format as of strptime such as '%d.%m.%Y'. Times without an offset are"
    " in the tracker's time zone.",
)
@click.option(
    "--header/--no-header", default=None, help="Whether the first line names the fields. Default: seen."
)
@click.option("--delimiter", metavar="CHAR", help="Between fields of csv; default a comma.")
@click.option(
    "--log-format",
    help="combined, common, vhost_combined, vhost_common, or a format string as of Apache's LogFormat.",
)
@period_option("Kind of period to count in; can be repeated.", ("daily", "monthly"))
@click.pass_obj
def import_(
    settings: Settings, /, *, files: tuple[str, ...], periods: tuple[PeriodKind, ...], **layout: Any
) -> None:
    """Count the events in FILES, or in standard input: access logs, CSV, TSV, JSON lines, also gzipped.

    FIELD is a name in the header, a JSON key (dots lead into nested objects), a part of a log entry
    (remote_host, remote_user, virtual_host, User-Agent...) or the number of a column, from 1.

    Until its periods are collapsed, importing the same file again changes nothing. Events of periods
    that are collapsed and whose sketches are gone are refused, and reported as late.
    """
    chosen = _checked(Layout(**layout))
    rejected = Rejected()
    started = time.monotonic()
    with (
        settings.tracker(writes=True, creates=True) as tracker,
        progress_bar(
            TextColumn("{task.fields[events]:,} events"),
            done=DownloadColumn(table_column=Column(no_wrap=True)),
        ) as bar,
    ):
        paths = list(files or ("-",))
        task = bar.add_task("Importing", total=total_size(paths), events=0)
        events = _events(
            tracker.calendar, paths, chosen, "hourly" in periods, rejected, lambda n: bar.advance(task, n)
        )
        try:
            done = tracker.import_events(events, periods, progress=lambda n: bar.update(task, events=n))
        except LayoutError as error:
            raise click.ClickException(str(error)) from error
        kept = tracker.settings.keep_sketches
        is_kept = all(kind in kept and kept[kind] is None for kind in periods)
    counts = done.events * len(set(periods))
    display = console(stderr=True)
    _report(display, done, counts, rejected, time.monotonic() - started)
    if done.late < counts:
        _suggest(display, settings, is_kept, done.outgrown)
    if done.late == counts and (done.late or rejected.count):
        raise click.exceptions.Exit(1)


def _checked(layout: Layout) -> Layout:
    """Refuse options that would make every line bad."""
    if layout.bucket is not None and layout.bucket_field is not None:
        raise click.UsageError("--bucket and --bucket-field exclude each other")
    if layout.delimiter is not None and (len(layout.delimiter) != 1 or layout.delimiter in '"\r\n'):
        raise click.UsageError(
            f"--delimiter must be one character, no quote and no line break, got {layout.delimiter!r}"
        )
    check_bucket(layout.bucket)
    try:
        LogParser(layout.log_format)
    except ValueError as error:
        raise click.UsageError(f"--log-format: {error}") from error
    return layout


def _events(
    calendar: Calendar,
    paths: Iterable[str],
    layout: Layout,
    hourly: bool,
    rejected: Rejected,
    on_read: Callable[[int], object],
) -> Iterator[Event]:
    for path in paths:
        name = "stdin" if path == "-" else path
        try:
            with opened(path, sys.stdin.buffer, on_read) as stream:
                lines = Lines.of(stream, name, rejected)
                yield from read(lines, layout, calendar, hourly=hourly)
        except OSError as error:
            raise click.FileError(name, hint=str(error)) from error
        except LayoutError as error:
            raise LayoutError(f"{name}: {error}") from error


def _report(display: Console, done: Imported, counts: int, rejected: Rejected, seconds: float) -> None:
    """Report what was imported.

    Args:
        display: the console.
        done: the result of the import.
        counts: how often the events were to be counted: once in each kind of period.
        rejected: the bad lines.
        seconds: how long it took.
    """
    for line in rejected.first:
        display.print(line)
    if rejected.count > len(rejected.first):
        display.print(f"... and {many(rejected.count - len(rejected.first), 'more bad line')}")
    display.print(
        f"{many(done.events, 'event')}, {many(rejected.count, 'bad line')}, {seconds:.1f} s,"
        f" {many(round(done.events / max(seconds, 1e-9)), 'event')}/s"
    )
    why = "their periods are collapsed and the sketches are gone, see --keep-sketches."
    if done.late == counts and counts:
        display.print(f"Nothing was counted, every event is late: {why}")
    elif done.late:
        verb = "was" if done.late == 1 else "were"
        display.print(
            f"Late: {done.late:,} of {counts:,} (an event counts once in each kind of period) {verb} refused:"
            f" {why}"
        )


def _suggest(display: Console, settings: Settings, is_kept: bool, outgrown: Sequence[str]) -> None:
    """What to do next; a collapse ends sketches, unless they are kept for ever."""
    if outgrown:
        display.print(
            f"{many(len(outgrown), 'period was', 'periods were')} counted before, such as {outgrown[0]}:"
            " only a recount counts what came now."
        )
    if is_kept:
        display.print("Next:")
    else:
        display.print(
            "Next, once all is imported (sketches of periods longer ago than they are kept end when they are"
            " collapsed):"
        )
    for words in (["collapse", *(["--recount"] if outgrown else [])], ["lookup", "--live"]):
        show_command(display, settings.command(*words))
