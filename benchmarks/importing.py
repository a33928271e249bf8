"""Speed of an import next to the same work done by hand with plain redis-py.

Events of a month and some buckets, in the order of time or of chance, go to an empty server: from a list of
(id, bucket, datetime) tuples that a dictionary groups by day and bucket, then PFADD of 1000 ids a call in
pipelines of 50 calls (by hand); from the same list by `import_events`; and from columns of numpy. Time is
taken from end to end, in turns in one process. A ratio is the median of the ratios of single rounds, with
quartiles. After every run the registers of every key are compared with those that PFADD made; a difference
ends the run with exit code 1.

Where the time goes is found in a run of its own: a timer interrupts it each millisecond, and what passed
since the last time is charged to the module that is found at work.

Files (a log, also gzipped, CSV and JSON lines) are imported by the command line, a process of its own, next
to what people use else: GoAccess, awk and sort, DuckDB, polars and pandas, where they are installed.
Registers are compared with those that the same events leave when they are imported from memory. The peak of
memory is that of the process alone, or of the largest, where there are several.

    python benchmarks/importing.py --events 5000000 --ids 500000 --plot importing.png
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from types import FrameType
from typing import Any

import _files as file_events
import click
import numpy as np
from _common import (
    HOST,
    Goal,
    Ratio,
    Server,
    axes,
    draw_goals,
    in_turns,
    options,
    pfadd,
    save_json,
    serve,
    show,
    table,
    tracker,
)
from _files import Contestant
from rich.table import Table

from activity_tracker_hll import HyperLogLog

BY_HAND, TUPLES, COLUMNS = "by hand, PFADD", "import_events, tuples", "import_events, columns"
GOALS = {BY_HAND: None, TUPLES: 2.0, COLUMNS: 4.0}
BEGIN = np.datetime64("2026-06-01", "s")
DAY_S = 24 * 3600
SAMPLE_S = 0.001
READING, HASHING, FOLDING, PACKING, SENDING = (
    "reading, grouping",
    "hashing",
    "folding",
    "packing sketches",
    "sending, waiting",
)
Phases = dict[str, float]
# The innermost frame in one of these files decides; without any, events are read or grouped.
PHASES = {
    "/activity_tracker_hll/bulk.py": HASHING,
    "/activity_tracker_hll/ids.py": HASHING,
    "/hll/hashing.py": HASHING,
    "/hll/registers.py": FOLDING,
    "/hll/codec.py": PACKING,
    "/backends/redis.py": SENDING,
    "/backends/exchange.py": SENDING,
    "/redis/client.py": SENDING,
    "/redis/connection.py": SENDING,
}


@dataclass(frozen=True, slots=True)
class Events:
    """The same events twice."""

    tuples: list[tuple[str, str, datetime]]
    columns: tuple[Any, Any, Any]


def make_events(count: int, ids: int, days: int, buckets: int, order: str) -> Events:
    """Events as a reader of logs makes them: every id is an object of its own, every bucket is shared."""
    source = np.random.default_rng(1)
    known = np.array([f"u{number:016x}" for number in source.integers(0, 2**63, ids).tolist()], "S")
    names = [f"site{number}" for number in range(buckets)]
    seconds = source.integers(0, days * DAY_S, count)
    if order == "time":
        seconds.sort()
    chosen, which, timestamps = (
        source.choice(known, count),
        source.integers(0, buckets, count),
        BEGIN + seconds,
    )
    texts = chosen.astype("U").tolist()
    tuples = zip(texts, map(names.__getitem__, which.tolist()), timestamps.tolist(), strict=True)
    return Events(list(tuples), (chosen, np.array(names)[which], timestamps.astype("datetime64[D]")))


def by_hand(server: Server, events: list[tuple[str, str, datetime]]) -> None:
    """Group, then send."""
    groups: defaultdict[tuple[date, str], list[str]] = defaultdict(list)
    for id, bucket, moment in events:
        groups[moment.date(), bucket].append(id)
    pfadd(server, ((key(day, bucket), ids) for (day, bucket), ids in groups.items()))


def key(day: date, bucket: str) -> str:
    """A key as this library names it."""
    return f"{{active:daily-{day:%Y%m%d}:{bucket}}}:hll"


def importers(server: Server, events: Events) -> dict[str, Callable[[], object]]:
    """All contestants."""
    ours = tracker(server)
    return {
        BY_HAND: lambda: by_hand(server, events.tuples),
        TUPLES: lambda: ours.import_events(events.tuples),
        COLUMNS: lambda: ours.import_events(events.columns),
    }


def sketches(server: Server) -> dict[bytes, HyperLogLog]:
    """Every sketch on the server."""
    keys: list[Any] = list(server.client.scan_iter("{active:*:hll", count=1000))
    values: Any = server.client.mget(keys) if keys else []
    return {key: HyperLogLog.from_bytes(value) for key, value in zip(keys, values, strict=True)}


def checked_flush(server: Server, expected: dict[bytes, HyperLogLog]) -> None:
    """Check what the last run left on the server, and flush it for the next run.

    Raises:
        click.ClickException: the sketches differ from those that PFADD made.
    """
    if sketches(server) != expected:
        raise click.ClickException("an import left other registers than PFADD of the same events")
    server.flush()


@contextmanager
def sampled() -> Iterator[Phases]:
    """Sample which phase is running; yields the seconds of each, complete once the block is left."""
    spent = dict.fromkeys((READING, HASHING, FOLDING, PACKING, SENDING), 0.0)
    last = perf_counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        nonlocal last
        # A call into C is not interrupted: its time is added when it returns.
        now = perf_counter()
        spent[phase(frame)] += now - last
        last = now

    before = signal.signal(signal.SIGALRM, sample)
    signal.setitimer(signal.ITIMER_REAL, SAMPLE_S, SAMPLE_S)
    try:
        yield spent
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def phase(frame: FrameType | None) -> str:
    """The phase that a frame, or its nearest caller that has one, belongs to."""
    while frame is not None:
        for ending, name in PHASES.items():
            if frame.f_code.co_filename.endswith(ending):
                return name
        frame = frame.f_back
    return READING


def where_time_goes(
    runs: dict[str, Callable[[], object]], prepare: Callable[[], object]
) -> dict[str, Phases]:
    """The seconds of each phase, in one run of each contestant."""
    found = {}
    for name, run in runs.items():
        prepare()
        with sampled() as spent:
            run()
        found[name] = spent
    return found


def imported(server: Server, kind: str, events: Iterator[file_events.Events]) -> None:
    """Import the events that are in a file from memory."""
    ours = tracker(server, ("daily", "monthly"), timezone="UTC")
    for part in events:
        ours.import_events((part.ids, None if kind == "log" else part.buckets, part.times))


@dataclass(frozen=True, slots=True)
class FileResult:
    """How long whole processes take with a file."""

    contestant: Contestant
    rows: int
    seconds: list[float]
    ratio: Ratio | None

    def cells(self) -> list[str]:
        """For a table."""
        one = self.contestant
        goal = Goal(one.what, self.ratio, one.goal)
        spent = median(self.seconds) if self.seconds else 0
        rate = f"{self.rows / spent / 1e6:.2f}" if spent else "missing"
        return [one.file, one.what, f"{spent:.2f}", rate, f"{one.peak / 1e6:.0f}", *goal.cells()]

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        one = self.contestant
        ratio = self.ratio and self.ratio._asdict()
        return {
            "file": one.file,
            "what": one.what,
            "rows": self.rows,
            "seconds": self.seconds,
            "peak": one.peak,
            "ratio": ratio,
            "goal": one.goal,
        }


def read_files(server: Server, lines: int, rows: int, rounds: int) -> list[FileResult]:
    """Every kind of file; after each import the registers are compared with those of the same events."""
    results = []
    with TemporaryDirectory() as directory:
        for kind, count in (("log", lines), ("csv", rows), ("jsonl", rows)):
            path = Path(directory, f"events.{kind}")
            server.flush()
            made = file_events.make_events(kind, count, max(1, count // 5))
            imported(server, kind, file_events.write(path, kind, made))
            expected = sketches(server)
            for name in (kind, "log.gz") if kind == "log" else (kind,):
                file = Path(directory, f"events.{name}")
                results += compare_on_file(server, file, name, count, rounds, expected)
            for file in Path(directory).iterdir():
                file.unlink()
    return results


def compare_on_file(
    server: Server, path: Path, kind: str, rows: int, rounds: int, expected: dict[bytes, HyperLogLog]
) -> list[FileResult]:
    """All contestants on a file, in turns."""
    found = file_events.contestants(path, kind, f"redis://{HOST}:{server.port}")
    has_imported = False

    def check() -> None:
        nonlocal has_imported
        if has_imported:
            checked_flush(server, expected)
        server.flush()
        has_imported = False

    def run(contestant: Contestant) -> None:
        nonlocal has_imported
        contestant.run()
        has_imported = contestant.is_ours

    present = {one.what: one for one in found if one.command is not None}
    seconds = in_turns({what: partial(run, one) for what, one in present.items()}, rounds, check)
    check()
    rates = {what: [1 / each for each in spent] for what, spent in seconds.items()}
    ours = rates[found[0].what]
    return [
        FileResult(
            one,
            rows,
            seconds.get(one.what, []),
            None if one is found[0] or one.what not in rates else Ratio.of_rates(ours, rates[one.what]),
        )
        for one in found
    ]


def file_table(results: list[FileResult]) -> Table:
    """The command line's import next to others."""
    columns = ("file", "", "s", "M rows/s", "peak MB", "ours is faster by", "of best", "goal", "met")
    caption = (
        "Whole processes, medians. Distinct ids a day (and bucket, but in logs); ours daily and monthly.\n"
        "Ratio: the median of single rounds (and quartiles). Registers equal to those of the same events."
    )
    made = table("Files", *columns, caption=caption)
    for result in results:
        made.add_row(*result.cells())
    return made


def goals_of(seconds: dict[str, list[float]]) -> list[Goal]:
    """How much faster than by hand, round by round."""
    rates = {name: [1 / each for each in spent] for name, spent in seconds.items()}
    return [Goal(name, Ratio.of_rates(own, rates[BY_HAND]), GOALS[name]) for name, own in rates.items()]


def result_table(goals: list[Goal], seconds: dict[str, list[float]], events: int, what: str) -> Table:
    """All contestants."""
    caption = (
        f"{what}.\nMedians of the rounds, from end to end. Ratio: the median of single rounds\n(and"
        " quartiles); of best: of the best round of each.\nAfter every run: registers equal to PFADD's."
    )
    columns = ("", "s", "M events/s", "ratio", "of best", "goal", "met")
    made = table("Import", *columns, caption=caption)
    for goal in goals:
        spent = median(seconds[goal.what])
        made.add_row(goal.what, f"{spent:.3f}", f"{events / spent / 1e6:.2f}", *goal.cells())
    return made


def phase_table(found: dict[str, Phases]) -> Table:
    """Shares of the time."""
    columns = ("", "s", *found[BY_HAND])
    made = table("Where the time goes", *columns, caption="By samples of one run each.")
    for what, spent in found.items():
        total = sum(spent.values()) or 1
        made.add_row(what, f"{total:.3f}", *(f"{seconds / total:.0%}" for seconds in spent.values()))
    return made


@click.command(help="Speed of an import next to plain redis-py, registers compared.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--events", "count", type=click.IntRange(min=1), default=5_000_000, show_default=True)
@click.option("--ids", type=click.IntRange(min=1), default=500_000, show_default=True)
@click.option("--days", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--buckets", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--lines", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Of the log.")
@click.option(
    "--rows", type=click.IntRange(min=1), default=10_000_000, show_default=True, help="Of CSV, JSON."
)
@click.option("--only", type=click.Choice(["events", "files"]), help="Measure one part alone.")
@click.option("--order", type=click.Choice(["time", "chance"]), default="time", show_default=True)
def main(
    server: str,
    quick: bool,
    file: Path | None,
    plot: Path | None,
    rounds: int,
    count: int,
    ids: int,
    days: int,
    buckets: int,
    lines: int,
    rows: int,
    only: str | None,
    order: str,
) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    if quick:
        count, ids, lines, rows, rounds = 20_000, 5000, 3000, 3000, 2
    what = f"{count:,} events of {ids:,} ids, {days} days, {buckets} buckets, in the order of {order}"
    goals: list[Goal] = []
    seconds: dict[str, list[float]] = {}
    phases: dict[str, Phases] = {}
    files: list[FileResult] = []
    shown = []
    with serve(server, "duckdb", "polars", "pandas", "msgspec") as running:
        if only != "files":
            events = make_events(count, ids, days, buckets, order)
            by_hand(running, events.tuples)
            checked = partial(checked_flush, running, sketches(running))
            runs = importers(running, events)
            seconds = in_turns(runs, rounds, checked)
            phases = where_time_goes(runs, checked)
            checked()
            goals = goals_of(seconds)
            shown += [result_table(goals, seconds, count, what), phase_table(phases)]
        if only != "events":
            files = read_files(running, lines, rows, rounds)
            shown.append(file_table(files))
    show(running.environment, *shown)
    results = [{**goal.as_json(), "seconds": seconds[goal.what]} for goal in goals]
    save_json(
        file,
        running.environment,
        what=what,
        results=results,
        phases=phases,
        files=[result.as_json() for result in files],
    )
    if canvas is not None and plot is not None:
        others = [
            Goal(f"{result.contestant.file}, {result.contestant.what}", result.ratio, result.contestant.goal)
            for result in files
            if result.ratio is not None
        ]
        draw_goals(canvas, goals + others, "times as fast as by hand, or as the other", plot)


if __name__ == "__main__":
    main()
