"""What it costs to read counts that were not collapsed, and to collapse where little or much is due.

Next to activity-tracker 0.0.5, which shows 0 for what it has not collapsed, and next to plain commands
through redis-py, on one server, in the same run and in turns; see throughput.py.

    python benchmarks/counting.py --server redis --plot counting.png
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import click
from _common import HOST, Server, axes, options, save_json, serve, show, table, tracker
from activity_tracker.tracker import ActivityTracker as ExactTracker
from throughput import EXACT, NAMESPACE, OURS, PER_CALL, PLAIN, Contest, Entry, Result

SECRET = "with one, nobody has chosen the ids"  # noqa: S105 (of nothing)
IDS = 20
"""In each bucket of each period: what is measured does not depend on it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is; the second set of numbers is that of --quick."""

    days: int = 365
    lookup_buckets: int = 50
    collapsed: tuple[int, ...] = (365, 30, 0)
    buckets: int = 1000
    hours: int = 168

    @classmethod
    def quick(cls) -> Sizes:
        """For a smoke run."""
        return cls(20, 3, (20, 5, 0), 20, 5)


def lookup(server: Server, sizes: Sizes, collapsed: int) -> Contest:
    """Look up a year of which the first so many days were collapsed."""
    server.flush()
    today = date.today()
    days = [today - timedelta(days=back) for back in range(sizes.days, 0, -1)]
    buckets = [f"b{index}" for index in range(sizes.lookup_buckets)]
    ours = tracker(server, buckets=buckets, secret=SECRET)
    exact: Any = ExactTracker(["daily"], "redis", host=HOST, port=server.port)
    ours.track(id="anyone", bucket=buckets[0])
    pipeline = server.client.pipeline(transaction=False)
    for index, day in enumerate(days):
        for bucket in buckets:
            keys = ours.backend.keys.bucket(f"daily-{day:%Y%m%d}", bucket)
            if index < collapsed:
                pipeline.set(keys.counted, IDS)
            else:
                pipeline.pfadd(keys.hll, *range(IDS))
        pipeline.execute()
    chosen: dict[str, Any] = {"start": days[0], "end": today, "buckets": buckets}

    def check(rows: Sequence[Any]) -> None:
        if {int(count) for _, counts in rows for count in counts.values()} != {IDS}:
            raise click.ClickException("lookup did not find what there is")

    runs: dict[str, Callable[[], object]] = {
        OURS: lambda: check(ours.lookup("daily", **chosen)),
        EXACT: lambda: exact.lookup(period="daily", **chosen),
        PLAIN: lambda: plain_lookup(server, ours, days, buckets),
    }
    what = f"lookup, {collapsed} of {sizes.days} days collapsed, {sizes.lookup_buckets} buckets"
    return Contest(what, "calls/s", {name: Entry(run, 1) for name, run in runs.items()}, lambda: None)


def plain_lookup(server: Server, ours: Any, days: Sequence[date], buckets: Sequence[str]) -> None:
    """MGET, and PFCOUNT in a pipeline where there was no count."""
    keys = [ours.backend.keys.bucket(f"daily-{day:%Y%m%d}", bucket) for day in days for bucket in buckets]
    values: Any = server.client.mget([key.counted for key in keys])
    pipeline = server.client.pipeline(transaction=False)
    for key, value in zip(keys, values, strict=True):
        if value is None:
            pipeline.pfcount(key.hll)
    pipeline.execute()


def collapse(server: Server, sizes: Sizes, hours: int) -> Contest:
    """Collapse so many hours that are due, after a year of nights without a fault."""
    server.flush()
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    names = [f"hourly-{now - timedelta(hours=back):%Y%m%d%H}" for back in range(1, sizes.hours + 2)]
    buckets = [f"b{index}" for index in range(sizes.buckets)]
    ours = tracker(server, ["hourly"], buckets=buckets, namespace=NAMESPACE, secret=SECRET, timezone="UTC")
    due = [(name, bucket) for name in names[:hours] for bucket in buckets]

    def prepare() -> None:
        server.flush()
        ours.track(id="anyone", bucket=buckets[0])
        keys = ours.backend.keys
        commands: list[tuple[Any, ...]] = [("SADD", keys.open, name) for name in names[:hours]]
        commands += [("SET", keys.bucket(name, buckets[0]).counted, 1) for name in names[hours:]]
        commands += [("PFADD", keys.bucket(*target).hll, *range(IDS)) for target in due]
        for start in range(0, len(commands), PER_CALL):
            ours.backend.execute(commands[start : start + PER_CALL])

    def run() -> None:
        if len(ours.collapse()) != len(due):
            raise click.ClickException("collapse did not count what is due")

    def plain() -> None:
        for start in range(0, len(due), PER_CALL):
            keys = [ours.backend.keys.bucket(*target) for target in due[start : start + PER_CALL]]
            pipeline = server.client.pipeline(transaction=False)
            for key in keys:
                pipeline.pfcount(key.hll)
            counts = pipeline.execute()
            for key, count in zip(keys, counts, strict=True):
                pipeline.set(key.counted, count)
                pipeline.expire(key.hll, timedelta(days=8))
            pipeline.execute()

    entries = {OURS: Entry(run, 1)}
    if due:
        entries[PLAIN] = Entry(plain, 1)
    what = f"collapse, {sizes.buckets:,} buckets, {hours} hours due"
    return Contest(what, "calls/s", entries, prepare)


@click.command(help="Counts that were not collapsed, and collapses of little and much.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def main(server: str, quick: bool, file: Path | None, plot: Path | None, rounds: int) -> None:
    """Measure, print, save."""
    sizes = Sizes.quick() if quick else Sizes()
    canvas = axes(plot)
    rounds = 2 if quick else rounds
    with serve(server) as running:
        results = [lookup(running, sizes, collapsed).measure(rounds) for collapsed in sizes.collapsed]
        results += [collapse(running, sizes, hours).measure(rounds) for hours in (0, 1, sizes.hours)]
    caption = "Medians in milliseconds. Ratios: how many times faster activity-tracker-hll is."
    made = table(
        "Reading and collapsing", "", "hll", EXACT, PLAIN, "ratio", "ratio to plain", caption=caption
    )
    for result in results:
        made.add_row(result.what, *_milliseconds(result), _ratio(result, EXACT), _ratio(result, PLAIN))
    show(running.environment, made)
    save_json(file, running.environment, results=[result.as_json() for result in results])
    if canvas is not None and plot is not None:
        draw(*canvas, results, plot)


def draw(figure: Any, subplot: Any, results: Sequence[Result], plot: Path) -> None:
    """Bars of the times of each contestant."""
    for index, name in enumerate((OURS, EXACT, PLAIN)):
        shown = [(n, 1000 / median(one.values[name])) for n, one in enumerate(results) if name in one.values]
        subplot.barh([n + index / 4 for n, _ in shown], [time for _, time in shown], height=0.22, label=name)
    subplot.set_yticks([n + 0.25 for n in range(len(results))], [result.what for result in results])
    subplot.set_xscale("log")
    subplot.invert_yaxis()
    subplot.set_xlabel("milliseconds")
    subplot.legend()
    figure.savefig(plot, dpi=120)


def _milliseconds(result: Result) -> list[str]:
    names = (OURS, EXACT, PLAIN)
    return [f"{1000 / median(result.values[name]):,.1f}" if name in result.values else "" for name in names]


def _ratio(result: Result, other: str) -> str:
    ratio = result.ratio(other)
    return "" if ratio is None else f"{ratio:.2f}"


if __name__ == "__main__":
    main()
