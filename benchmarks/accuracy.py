"""Errors of counts on a real server, next to theory: plain counts, moves, aggregates with moves.

Every trial uses new random ids; what is observed over N trials is itself uncertain by about 1 / sqrt(2 N).
All counts come from the library's own calls; moves are made with the library's own script, in batches.

    python benchmarks/accuracy.py --seeds 300 --plot accuracy.png
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import click
import numpy as np
from _common import Server, axes, options, save_json, serve, show, table, tracker
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from activity_tracker_hll import ActivityTracker, Estimate
from activity_tracker_hll.backends.scripts import WRITE
from activity_tracker_hll.hll.estimators import standard_error

Ids = NDArray[np.int64]
DAY = date(2026, 1, 1)
PERIOD = f"daily-{DAY:%Y%m%d}"
CONFIDENCE = 0.95
SHARES_OUT = (10, 50, 90, 99)
OVERLAPS = (0, 50, 100)
PER_CALL = 1000
SIMULATED = {
    (10_000, 50): (1.18, 1.05, 0.90),
    (10_000, 90): (5.9, 2.7, 2.1),
    (10_000, 99): (57, 8.8, 6.8),
    (100_000, 50): (1.50, 1.35, 1.12),
    (100_000, 90): (7.6, 3.6, 2.8),
    (100_000, 99): (69, 11.5, 8.5),
    (1_000_000, 50): (1.57, 1.37, 1.19),
    (1_000_000, 90): (8.2, 3.7, 2.9),
    (1_000_000, 99): (74, 11.6, 8.9),
}
"""(ids, per cent moved out): errors in per cent that a simulation of 2000 trials gave when the library was
designed: minus the exact number, PFCOUNT difference, censored maximum likelihood."""


@dataclass(slots=True)
class Cell:
    """The trials of one setting; errors and standard errors are relative to the truth, in per cent."""

    setting: dict[str, Any]
    errors: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    covered: int = 0

    def add(self, truth: int, estimate: Estimate, other: int | None = None) -> None:
        """One trial; `other` is what a simpler estimate gives."""
        self.errors.append(100 * (estimate - truth) / truth)
        self.reported.append(100 * estimate.stderr / truth)
        low, high = estimate.interval(CONFIDENCE)
        self.covered += low <= truth <= high
        if other is not None:
            self.other.append(100 * (other - truth) / truth)

    def as_json(self) -> dict[str, Any]:
        """For the file of results and for the tables."""
        rmse, reported = rms(self.errors), rms(self.reported)
        return {
            **self.setting,
            "trials": len(self.errors),
            "rmse": rmse,
            "bias": sum(self.errors) / len(self.errors),
            "reported": reported,
            "rmse_to_reported": rmse / reported if reported else None,
            "coverage": 100 * self.covered / len(self.errors),
            "other_rmse": rms(self.other) if self.other else None,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried, how often."""

    seeds: int
    plain: Sequence[int] = (100, 1000, 10_000, 100_000, 1_000_000)
    moves: Sequence[int] = (10_000, 100_000)
    source: int = 20_000


def rms(values: Sequence[float]) -> float:
    """Root mean square."""
    return sqrt(sum(value * value for value in values) / len(values))


def new_ids(source: np.random.Generator, count: int) -> Ids:
    """Different ids: of 2^63 numbers two are never drawn twice."""
    return source.integers(1, 2**63 - 1, count)


def seeds(plan: Plan, what: str) -> Iterable[np.random.Generator]:
    """A generator of random numbers for each trial; progress is shown on a terminal."""
    console = Console(stderr=True)
    shown = progress(
        range(plan.seeds), what, console=console, transient=True, disable=not console.is_terminal
    )
    return (np.random.default_rng(seed) for seed in shown)


def count(counter: ActivityTracker, bucket: str) -> Estimate:
    """The count of a bucket or aggregate now."""
    next_day = DAY + timedelta(days=1)
    [(_, counts)] = counter.lookup(start=DAY, end=next_day, buckets=[bucket], live=True)
    estimate: Estimate = counts[bucket]
    return estimate


def move_out(counter: ActivityTracker, bucket: str, ids: Ids) -> None:
    """What track(old_id=..., old_bucket=...) does, many at a time."""
    backend = counter.backend
    counted, hll, moved, out, back, _ = backend.keys.bucket(PERIOD, bucket)
    encoded = backend.ids.many(ids)
    for start in range(0, len(encoded), PER_CALL):
        part = encoded[start : start + PER_CALL]
        [reply] = backend.execute(
            [WRITE.call((counted, hll, moved, out, back), backend.moved_limit, 0, *part)]
        )
        if isinstance(reply, Exception):
            raise reply


def plain_counts(server: Server, plan: Plan) -> list[Cell]:
    """One sketch a trial, counted each time it has grown to the next size."""
    cells = [Cell({"ids": size, "theory": 100 * standard_error(size) / size}) for size in plan.plain]
    with tracker(server) as counter:
        for source in seeds(plan, "plain counts"):
            server.flush()
            done = 0
            for cell, size in zip(cells, plan.plain, strict=True):
                counter.track_many(new_ids(source, size - done), bucket="b", date=DAY)
                done = size
                cell.add(size, count(counter, "b"))
    return cells


def moves(server: Server, plan: Plan, tracked: int) -> list[Cell]:
    """One bucket a trial, out of which more and more ids are moved."""
    cells = [Cell({"ids": tracked, "out": share}) for share in SHARES_OUT]
    with tracker(server) as counter:
        keys = counter.backend.keys.bucket(PERIOD, "b")
        for source in seeds(plan, f"moves out of {tracked:,}"):
            server.flush()
            ids = new_ids(source, tracked)
            counter.track_many(ids, bucket="b", date=DAY)
            done = 0
            for cell, share in zip(cells, SHARES_OUT, strict=True):
                gone = tracked * share // 100
                move_out(counter, "b", ids[done:gone])
                done = gone
                cell.add(tracked - gone, count(counter, "b"), server.client.pfcount(keys.hll) - gone)
    return cells


def aggregates(server: Server, plan: Plan, sources: int, moving: int, overlap: int) -> Cell:
    """The union of some buckets, of which the first few lose half of their ids.

    The buckets share a part of their ids; each loses a half of its own choice, so that an id can be gone from
    one and alive in another. The other estimate is PFCOUNT of all ids minus PFCOUNT of all moved.
    """
    cell = Cell({"sources": sources, "moving": moving, "overlap": overlap, "ids": plan.source})
    names = [f"b{place}" for place in range(sources)]
    with tracker(server, aggregate_buckets={"total": names}) as counter:
        keys = [counter.backend.keys.bucket(PERIOD, name) for name in names]
        for source in seeds(plan, f"{sources} sources, {moving} with moves, {overlap} % shared"):
            server.flush()
            shared = new_ids(source, plan.source * overlap // 100)
            alive: list[Ids] = []
            for place, name in enumerate(names):
                ids = np.concatenate([shared, new_ids(source, plan.source - len(shared))])
                source.shuffle(ids)
                counter.track_many(ids, bucket=name, date=DAY)
                half = len(ids) // 2 if place < moving else 0
                move_out(counter, name, ids[:half])
                alive.append(ids[half:])
            truth = len(np.unique(np.concatenate(alive)))
            everyone = server.client.pfcount(*(of.hll for of in keys))
            gone = server.client.pfcount(*(of.moved for of in keys))
            cell.add(truth, count(counter, "total"), everyone - gone)
    return cell


def measure_all(server: Server, plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Every experiment."""
    settings = [
        (sources, moving, overlap) for sources in (2, 3, 4) for moving in (1, sources) for overlap in OVERLAPS
    ]
    cells = {
        "plain": plain_counts(server, plan),
        "moves": [cell for tracked in plan.moves for cell in moves(server, plan, tracked)],
        "aggregates": [aggregates(server, plan, *setting) for setting in settings],
    }
    return {name: [cell.as_json() for cell in made] for name, made in cells.items()}


def tables(results: dict[str, list[dict[str, Any]]]) -> list[Table]:
    """One for each experiment; errors in per cent of the true count."""
    common = ("RMSE %", "bias %", "reported %", "RMSE / reported", "95 % covers")
    plain = table("Plain counts", "ids", "theory %", *common)
    for row in results["plain"]:
        plain.add_row(f"{row['ids']:,}", f"{row['theory']:.3f}", *shown(row))
    moved = table(
        "Ids that remain after moves",
        *("ids", "moved out", *common, "simulated: difference", "ML", "minus exact number", "simulated"),
    )
    for row in results["moves"]:
        minus, difference, likely = SIMULATED.get((row["ids"], row["out"]), ("", "", ""))
        other = f"{row['other_rmse']:.2f}"
        moved.add_row(
            *(f"{row['ids']:,}", f"{row['out']} %", *shown(row)),
            *(str(difference), str(likely), other, str(minus)),
        )
    trials = results["plain"][0]["trials"]
    united = table(
        f"Aggregates of buckets of {results['aggregates'][0]['ids']:,} ids",
        *("buckets", "of them with 50 % out", "shared", *common, "overlap ignored %"),
        caption=f"{trials} trials: an observed RMSE is itself uncertain by {100 / sqrt(2 * trials):.0f} %.",
    )
    for row in results["aggregates"]:
        setting = (str(row["sources"]), str(row["moving"]), f"{row['overlap']} %")
        united.add_row(*setting, *shown(row), f"{row['other_rmse']:.2f}")
    return [plain, moved, united]


def shown(row: dict[str, Any]) -> tuple[str, ...]:
    """The columns all tables have."""
    ratio = row["rmse_to_reported"]
    return (
        f"{row['rmse']:.3f}",
        f"{row['bias']:+.3f}",
        f"{row['reported']:.3f}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{row['coverage']:.1f} %",
    )


def draw(figure: Any, drawn: Any, rows: Sequence[dict[str, Any]], server: str, plot: Path) -> None:
    """Errors of what remains after moves, by the share that remains."""
    lines = {"rmse": ("observed", "-o"), "reported": ("reported", "--"), "other_rmse": ("minus exact", ":x")}
    for place, tracked in enumerate(dict.fromkeys(row["ids"] for row in rows)):
        of = [row for row in rows if row["ids"] == tracked]
        for column, (label, style) in lines.items():
            remain = [100 - row["out"] for row in of]
            errors = [row[column] for row in of]
            drawn.plot(remain, errors, style, color=f"C{place}", label=f"{tracked:,} ids, {label}")
    drawn.set(xscale="log", yscale="log", ylabel="RMS error, % of the ids that remain")
    drawn.set_xlabel(f"% of the ids that remain in the bucket ({server})")
    drawn.legend()
    figure.savefig(plot, dpi=120)


@click.command(help="Errors of counts on a real server, next to theory.")
@options
@click.option("--seeds", "trials", type=click.IntRange(min=2), default=30, show_default=True)
@click.option("--million", is_flag=True, help="Also moves out of a bucket of 1,000,000 ids.")
def main(server: str, quick: bool, file: Path | None, plot: Path | None, trials: int, million: bool) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    plan = Plan(trials, moves=(10_000, 100_000, 1_000_000) if million else (10_000, 100_000))
    if quick:
        plan = Plan(3, plain=(100, 1000), moves=(2000,), source=1000)
    with serve(server) as running:
        results = measure_all(running, plan)
    show(running.environment, *tables(results))
    save_json(file, running.environment, **results)
    if canvas is not None and plot is not None:
        draw(*canvas, results["moves"], running.environment["server"], plot)


if __name__ == "__main__":
    main()
