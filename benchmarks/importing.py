"""Speed of an import next to the same work done by hand with plain redis-py.

Events of a month and some buckets, in the order of time or of chance, go to an empty server: from a list of
(id, bucket, datetime) tuples that a dictionary groups by day and bucket, then PFADD of 1000 ids a call in
pipelines of 50 calls (by hand); from the same list by `import_events`; and from columns of numpy. Time is
taken from end to end, in turns in one process. A ratio is the median of the ratios of single rounds, with
quartiles. After every run the registers of every key are compared with those that PFADD made; a difference
ends the run with exit code 1.

Where the time goes is found in a run of its own: a timer interrupts it each millisecond, and what passed
since the last time is charged to the module that is found at work.

The command line's import reads a file first. How fast each format is read, and the events are then imported
from a list, is measured with some of the events.

    python benchmarks/importing.py --events 5000000 --ids 500000 --plot importing.png
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter
from types import FrameType
from typing import Any

import click
import numpy as np
from _common import (
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
from rich.table import Table

from activity_tracker_hll import HyperLogLog
from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.lines import Lines, Rejected
from activity_tracker_hll.event_files.readers import read

BY_HAND, TUPLES, COLUMNS = "by hand, PFADD", "import_events, tuples", "import_events, columns"
GOALS = {BY_HAND: None, TUPLES: 2.0, COLUMNS: 4.0}
BEGIN = np.datetime64("2026-06-01", "s")
DAY_S = 24 * 3600
SAMPLE_S = 0.001
FILE_EVENTS = 100_000
FILE_LINES = {
    "csv": "{id},{bucket},{time:%Y-%m-%dT%H:%M:%S}\n",
    "jsonl": '{{"id": "{id}", "bucket": "{bucket}", "time": "{time:%Y-%m-%dT%H:%M:%S}"}}\n',
    "log": '{id} - - [{time:%d/%b/%Y:%H:%M:%S} +0000] "GET /{bucket} HTTP/1.1" 200 512 "-" "browser"\n',
}

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


@dataclass(frozen=True, slots=True)
class File:
    """Seconds to read a file of some format, and to import the events that were read."""

    format: str
    events: int
    parsing: float
    importing: float

    @property
    def share(self) -> float:
        """The share of an import that reading takes."""
        return self.parsing / (self.parsing + self.importing)


def read_files(server: Server, events: list[tuple[str, str, datetime]], rounds: int) -> list[File]:
    """Every format; the best of the rounds."""
    found = []
    with tracker(server) as ours:
        for name, line in FILE_LINES.items():
            made = "".join(line.format(id=id, bucket=bucket, time=time) for id, bucket, time in events)
            content = ("id,bucket,time\n" if name == "csv" else "") + made
            layout = Layout(format=name, bucket_field=None if name == "log" else "bucket")

            def parse(content: bytes = content.encode(), layout: Layout = layout) -> list[Any]:
                return list(read(Lines.of(BytesIO(content), "file", Rejected()), layout, ours.calendar))

            parsed = parse()
            if len(parsed) != len(events):
                raise click.ClickException(f"of {len(events)} events in {name}, {len(parsed)} were read")
            runs: dict[str, Callable[[], object]] = {
                "parse": parse,
                "import": partial(ours.import_events, parsed),
            }
            seconds = in_turns(runs, rounds, server.flush)
            found.append(File(name, len(events), min(seconds["parse"]), min(seconds["import"])))
    return found


def file_table(files: list[File]) -> Table:
    """Reading next to importing."""
    columns = ("", "M events/s read", "M events/s imported", "reading takes")
    caption = f"{files[0].events:,} events each, the best of the rounds; imported: from what was read."
    made = table("Files of the command line", *columns, caption=caption)
    for result in files:
        rates = (result.events / result.parsing / 1e6, result.events / result.importing / 1e6)
        made.add_row(result.format, *(f"{rate:.3f}" for rate in rates), f"{result.share:.0%}")
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
    order: str,
) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    count, ids, rounds = (20_000, 5000, 2) if quick else (count, ids, rounds)
    events = make_events(count, ids, days, buckets, order)
    with serve(server) as running:
        by_hand(running, events.tuples)
        checked = partial(checked_flush, running, sketches(running))
        runs = importers(running, events)
        seconds = in_turns(runs, rounds, checked)
        phases = where_time_goes(runs, checked)
        checked()
        files = read_files(running, events.tuples[:: max(1, count // FILE_EVENTS)], rounds)
    what = f"{count:,} events of {ids:,} ids, {days} days, {buckets} buckets, in the order of {order}"
    goals = goals_of(seconds)
    shown = result_table(goals, seconds, count, what), phase_table(phases), file_table(files)
    show(running.environment, *shown)
    results = [{**goal.as_json(), "seconds": seconds[goal.what]} for goal in goals]
    save_json(
        file,
        running.environment,
        what=what,
        results=results,
        phases=phases,
        files=[asdict(result) for result in files],
    )
    if canvas is not None and plot is not None:
        draw_goals(canvas, goals, "times as fast as by hand", plot)


if __name__ == "__main__":
    main()
