"""The command `import`: events from logs, delimited text, JSON and tables."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import DownloadColumn, TextColumn
from rich.table import Column

from ...columns import EventColumns
from ...errors import ActivityTrackerError
from ...event_files.formats import check_layout
from ...event_files.layout import FORMATS, Filter, Layout, LayoutError
from ...event_files.lines import escape_unprintable
from ...event_files.opening import total_size
from ...event_files.sources import Source, first_events, read_sources
from ...operations import Imported
from ...periods import Calendar, PeriodKind
from ...result import named
from ...words import many
from ..display import console, progress_bar, show_command
from ..options import Command, examples, period_option
from ..settings import Settings
from ..tables import show_table

__all__ = ["import_"]

_INCOMPLETE = 3
"""The exit status if something was left out, and something was counted."""

_BAD_LINES_SHOWN = 5
_OPTION = re.compile(r"^\w+|\b(?:log_format|time_format|bucket_field)\b")
"""Attributes of a layout in messages about it."""

_EVENTS_SHOWN = 10


class _Filter(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A field and a regular expression."""

    name = "filter"

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        field, equals, pattern = value.partition("=")
        if not (field and equals):
            self.fail(f"{value!r} is not of the form FIELD=PATTERN", param, ctx)
        try:
            return Filter(field, re.compile(pattern, re.IGNORECASE), self._keeps)
        except re.error as error:
            self.fail(f"{pattern!r} is no regular expression: {error}", param, ctx)


@click.command(
    "import",
    cls=Command,
    epilog=examples(
        "activity-tracker-hll import access.log access.log.*.gz",
        "activity-tracker-hll import access.log --dry-run \\",
        "    --id X-Forwarded-For --id-fallback remote_host \\",
        "    --where status=2.. --exclude User-Agent=bot",
        "activity-tracker-hll import visits.csv --id user \\",
        "    --time when --time-format %d.%m.%Y \\",
        "    --bucket-field site --period daily --period weekly",
        "activity-tracker-hll import events.parquet \\",
        "    --id user_id --time ts --bucket-field platform",
        "zcat events.jsonl.gz | activity-tracker-hll import \\",
        "    --format jsonl --id user.id --time ts \\",
        "    --time-format epoch",
    ),
)
@click.argument("files", nargs=-1, type=click.Path(allow_dash=True, readable=False))
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="What the files are. jsonl: an object in each line; json: objects anywhere, or an array of them.",
)
@click.option(
    "--log-format",
    metavar="NAME|FORMAT",
    help="The format of a log: combined, common, nginx, vhost_combined, vhost_common, w3c (IIS, CloudFront),"
    " alb, elb, or a string as of Apache's LogFormat or nginx's log_format. Default: seen, but for the two"
    " with hosts.",
)
@click.option(
    "--id",
    metavar="FIELD",
    multiple=True,
    help="Holds the id. If repeated, all of them together, with tabs between, are the id. Default: the"
    " client's address in logs, else 'id'.",
)
@click.option("--id-fallback", metavar="FIELD", help="Holds the id where --id is empty or missing.")
@click.option(
    "--address",
    type=click.Choice(["first", "last"]),
    default="first",
    show_default=True,
    help="Which one, where a field such as X-Forwarded-For has several addresses. Ports are left out.",
)
@click.option("--bucket-field", metavar="FIELD", help="Holds the bucket.")
@click.option("--bucket", metavar="NAME", help="One bucket for all. Default: the unnamed one.")
@click.option(
    "--time",
    metavar="FIELD",
    multiple=True,
    help="Holds the time. If repeated, such as for a date and a time of day, they are put together with a"
    " blank between. Default: that of the request in logs, else 'time'.",
)
@click.option(
    "--time-format",
    default="iso",
    show_default=True,
    help="iso; epoch, epoch_ms, epoch_us, epoch_ns: seconds... since 1970; or a format as of strptime such as"
    " '%d.%m.%Y'.",
)
@click.option(
    "--file-timezone",
    metavar="ZONE",
    help="The zone of times that do not say theirs. Default: the tracker's, in w3c logs UTC.",
)
@click.option(
    "--header/--no-header", default=None, help="Whether the first line names the fields. Default: seen."
)
@click.option(
    "--delimiter", metavar="CHAR", help="Between fields of csv. Default: comma, semicolon or tab, seen."
)
@click.option(
    "--null",
    "nulls",
    metavar="TEXT",
    multiple=True,
    help="Stands for no id or bucket, such as NULL; can be repeated. Lines without either are bad.",
)
@click.option(
    "--where",
    metavar="FIELD=PATTERN",
    type=_Filter(keeps=True),
    multiple=True,
    help="Take only lines whose field has this somewhere: a regular expression in which upper and lower case"
    " are the same, such as status=2.. or path=^/shop/; can be repeated, then all have to fit.",
)
@click.option(
    "--exclude",
    metavar="FIELD=PATTERN",
    type=_Filter(keeps=False),
    multiple=True,
    help="Leave out lines whose field has this, such as User-Agent=bot|crawl|spider; can be repeated.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help=f"Show the first {_EVENTS_SHOWN} events of each file as they are understood, and count nothing. No"
    " server is asked: times are in the zone of --timezone, else in local time, not in that of the data.",
)
@period_option("Kind of period to count in; can be repeated.", ("daily", "monthly"))
@click.pass_obj
def import_(
    settings: Settings,
    /,
    *,
    files: tuple[str, ...],
    periods: tuple[PeriodKind, ...],
    dry_run: bool,
    **layout: Any,
) -> None:
    """Count the events in FILES, or in standard input: access logs, CSV, TSV, JSON; also compressed.

    Files of Parquet and Feather (Arrow) are tables; they need the extra 'arrow'.

    FIELD is a name in the header, a JSON key (dots lead into nested objects, numbers into lists), a part of a
    log entry (remote_host, remote_user, virtual_host, status, method, path, User-Agent...) or the number of a
    column, from 1.

    Until its periods are collapsed, importing the same file again changes nothing. Events of periods
    that are collapsed and whose sketches are gone are refused, and reported as late.

    The exit status is 0 if all was counted, 3 if something was left out: bad lines, late events, a file
    that could not be read to its end; 1 if that was all there was. What is left out by --where and --exclude
    does not matter. With --dry-run it is the same for as much of the files as was looked at.
    """
    if "" in files:
        raise click.UsageError("the name of a file is empty, as if by a variable that is not set")
    chosen = _layout(**layout)
    sources = [Source(path) for path in files or ("-",)]
    if _is_typed(sources):
        console(stderr=True).print(
            "Reading what is typed here, up to Ctrl-D; to read files, give their names."
        )
    if dry_run:
        _show_events(sources, chosen, Calendar(settings.timezone, settings.week_start), "hourly" in periods)
    else:
        _count_events(settings, sources, chosen, periods)


def _is_typed(sources: Sequence[Source]) -> bool:
    """Whether standard input is read, and is a terminal."""
    return any(source.path == "-" for source in sources) and sys.stdin is not None and sys.stdin.isatty()


def _layout(
    *,
    id: tuple[str, ...],
    time: tuple[str, ...],
    where: tuple[Filter, ...],
    exclude: tuple[Filter, ...],
    file_timezone: str | None,
    **options: Any,
) -> Layout:
    """The layout that the options describe; those that would make every line bad are refused."""
    layout = Layout(
        id=_one_or_more(id),
        time=_one_or_more(time),
        timezone=file_timezone,
        filters=where + exclude,
        **options,
    )
    try:
        check_layout(layout)
    except (LayoutError, ActivityTrackerError) as error:
        raise click.UsageError(_OPTION.sub(_as_option, str(error))) from error
    return layout


def _as_option(name: re.Match[str]) -> str:
    return "--file-timezone" if name[0] == "timezone" else f"--{name[0].replace('_', '-')}"


def _one_or_more(fields: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return fields[0] if len(fields) == 1 else fields or None


# Counting


def _count_events(
    settings: Settings, sources: Sequence[Source], layout: Layout, periods: tuple[PeriodKind, ...]
) -> None:
    display = console(stderr=True)
    started = time.monotonic()
    with (
        settings.tracker(writes=True, creates=True) as tracker,
        progress_bar(
            TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,}/s"),
            TextColumn("{task.fields[bad]}"),
            done=DownloadColumn(table_column=Column(no_wrap=True)),
            quiet=_is_typed(sources),
        ) as bar,
    ):
        task = bar.add_task(
            "Importing", total=total_size([source.path for source in sources]), events=0, rate=0, bad=""
        )

        def show_progress(events: int) -> None:
            rate = round(events / max(time.monotonic() - started, 1e-9))
            bad = _bad_lines(sources)
            bar.update(task, events=events, rate=rate, bad=many(bad, "bad line") if bad else "")

        interrupts: list[KeyboardInterrupt] = []

        def events() -> Iterator[EventColumns]:
            try:
                yield from read_sources(
                    sources,
                    layout,
                    tracker.calendar,
                    hourly="hourly" in periods,
                    on_read=lambda size: bar.advance(task, size),
                )
            except KeyboardInterrupt as interrupt:  # what was read is counted: a pipe does not bring it again
                interrupts.append(interrupt)

        try:
            done = tracker.import_events(events(), periods, progress=show_progress)
            for interrupt in interrupts:
                raise interrupt
        except KeyboardInterrupt:
            display.print(f"{many(sum(source.events for source in sources), 'event')} were read so far.")
            raise
        kept = tracker.settings.keep_sketches
        is_kept = all(kind in kept and kept[kind] is None for kind in periods)
    if len(sources) == 1 and sources[0].error and not done.events:
        raise click.ClickException(f"{sources[0].name}: {sources[0].error}")
    counts = done.events * len(set(periods))
    _report(display, sources, done, counts, time.monotonic() - started)
    if done.late < counts:
        _suggest(display, settings, is_kept, done.outgrown)
    _exit(sources, done.late, counts)


def _exit(sources: Sequence[Source], late: int, counts: int) -> None:
    """End with the status that says whether something was left out."""
    if late or _bad_lines(sources) or any(source.error for source in sources):
        raise click.exceptions.Exit(_INCOMPLETE if late < counts else 1)


def _bad_lines(sources: Sequence[Source]) -> int:
    return sum(source.rejected.count for source in sources)


def _report(display: Console, sources: Sequence[Source], done: Imported, counts: int, seconds: float) -> None:
    """Report what was imported.

    Args:
        display: the console.
        sources: the files.
        done: the result of the import.
        counts: how often the events were to be counted: once in each kind of period.
        seconds: how long it took.
    """
    _show_bad_lines(display, sources)
    for source in sources:
        if len(sources) > 1:
            display.print(f"{source.name}: {_summary([source])}")
        if source.error:
            display.print(f"{source.name}: {source.error}")
    _show_odd_ids(display, sources)
    display.print(
        f"{_summary(sources)}, {seconds:.1f} s, {many(round(done.events / max(seconds, 1e-9)), 'event')}/s"
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


def _show_odd_ids(display: Console, sources: Sequence[Source]) -> None:
    for source in sources:
        if source.odd_id is not None:
            odd = escape_unprintable(_text(source.odd_id))
            display.print(
                f"{source.name}: ids that are not UTF-8, such as {odd}, count as others than the same in"
                " UTF-8, to which iconv converts."
            )


def _summary(sources: Sequence[Source]) -> str:
    filtered = sum(source.rejected.filtered for source in sources)
    parts = [many(sum(source.events for source in sources), "event"), many(_bad_lines(sources), "bad line")]
    return ", ".join(parts + ([f"{many(filtered, 'line')} left out by filters"] if filtered else []))


def _show_bad_lines(display: Console, sources: Sequence[Source]) -> None:
    # Of a file without any event its error says more.
    sources = [source for source in sources if source.events or not source.error]
    first = [line for source in sources for line in source.rejected.first][:_BAD_LINES_SHOWN]
    for line in first:
        display.print(line)
    if (more := _bad_lines(sources) - len(first)) > 0:
        display.print(f"... and {many(more, 'more bad line')}")


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


# Showing only


def _show_events(sources: Sequence[Source], layout: Layout, calendar: Calendar, hourly: bool) -> None:
    """Show the first events of each file, and the lines before them that are none."""
    display = console()
    for source in sources:
        first = first_events(source, layout, calendar, _EVENTS_SHOWN, hourly=hourly)
        rows = [
            [
                named(bucket),
                escape_unprintable(_text(id)),
                calendar.moment(when, "time").isoformat(" ", "seconds"),
            ]
            for id, bucket, when in first
        ]
        display.print(f"{source.name}, with times in {calendar.zone_name}:")
        show_table(display, "", ("bucket", "id"), ("time",), rows)
    _show_bad_lines(display, sources)
    for source in sources:
        if source.error:
            display.print(f"{source.name}: {source.error}")
    _show_odd_ids(display, sources)
    display.print("Nothing was counted: this was a dry run.")
    _exit(sources, late=0, counts=sum(source.events for source in sources))


def _text(id: Any) -> str:
    return id.decode("utf-8", "backslashreplace") if isinstance(id, bytes) else str(id)
