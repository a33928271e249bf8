"""Speed of importing tables and Parquet files, next to libraries that count distinct ids of the same.

Events of a month and three buckets in the order of time, with ids of 17 characters or e-mail addresses, are
imported by day and month into one empty server:

- a Parquet file by the command line, next to DuckDB's exact ``count(DISTINCT)`` a day; each is a process of
  its own, timed from its start to its end;
- a data frame of pandas or polars, next to its rows as tuples that it hands out itself, of which there are
  fewer; with ``--before DIRECTORY``, those are imported by the older version that is checked out there;
- a table of pyarrow, next to chdb, which makes states of ``uniqCombined64(14)`` of it, a day and bucket, on
  all cores, and keeps them in memory.

Each contestant has a process of its own, which waits until it is told to run; they take turns. After each run
of ours the server's daily counts are compared with the exact ones.

    python benchmarks/tables.py --rows 10000000 --ids 2000000
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

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
    save_json,
    serve,
    show,
    table,
)

from activity_tracker_hll import ActivityTracker

BEGIN, DAYS = np.datetime64("2026-06-01", "D"), 30
BUCKETS = ("site0", "site1", "site2")
TUPLES_OF = 20
"""Of so many rows one is made a tuple, which takes long."""
AWAY = 0.05
"""A count that is further away from the exact one is wrong: six standard errors."""
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared.

    Attributes:
        what: for people.
        ids: which kind of ids.
        ours, theirs: names in RUNS, or commands of whole processes.
        goal: how many times as fast ours should be.
        share: theirs gets one of so many rows.
    """

    what: str
    ids: str
    ours: str
    theirs: str
    goal: float
    share: int = 1


COMPARISONS = (
    Comparison(
        "Parquet, the whole command / DuckDB's count(DISTINCT) a day", "short", "command", "duckdb", 1.0
    ),
    Comparison("pandas frame / its itertuples()", "short", "pandas", "pandas tuples", 60.0, TUPLES_OF),
    Comparison("polars frame / its iter_rows()", "short", "polars", "polars tuples", 60.0, TUPLES_OF),
    Comparison("Arrow, 17 characters / chdb's states", "short", "pyarrow", "chdb", 1.0),
    Comparison("Arrow, e-mail addresses / chdb's states", "mail", "pyarrow", "chdb", 0.5),
)


# What is run, in a process of its own


def importing(table: Any, port: int) -> Callable[[], object]:
    """An import of a table."""
    tracker = ActivityTracker(["daily", "monthly"], host=HOST, port=port, timezone="UTC")
    return lambda: tracker.import_events(table, id_column="uid", time_column="ts", bucket_column="site")


def tuples(kind: str, path: str, port: int) -> Callable[[], object]:
    """The import of tuples, made of every so many-th row of a frame."""
    tracker = ActivityTracker(["daily", "monthly"], host=HOST, port=port, timezone="UTC")
    full = read(path)
    part = full.take(np.arange(0, len(full), TUPLES_OF)).select(["uid", "site", "ts"])
    if kind == "pandas":
        of_pandas = part.to_pandas()
        return lambda: tracker.import_events(of_pandas.itertuples(index=False, name=None))
    of_polars = import_module("polars").from_arrow(part)
    return lambda: tracker.import_events(of_polars.iter_rows())


def states(path: str, _port: int) -> Callable[[], object]:
    """States of chdb of a table, made in memory."""
    session = import_module("chdb.session").Session()
    events = read(path)  # found by its name
    sql = (
        "CREATE OR REPLACE TABLE states ENGINE = Memory AS SELECT toDate(ts) AS day, site,"
        " uniqCombined64State(14)(uid) AS ids FROM Python(events) GROUP BY day, site"
    )

    return lambda: session.query(sql) or events


def read(path: str) -> Any:
    """The table in a file."""
    return import_module("pyarrow.parquet").read_table(path).combine_chunks()


RUNS: dict[str, Callable[[str, int], Callable[[], object]]] = {
    "pyarrow": lambda path, port: importing(read(path), port),
    "pandas": lambda path, port: importing(read(path).to_pandas(), port),
    "polars": lambda path, port: importing(import_module("polars").read_parquet(path), port),
    "pandas tuples": partial(tuples, "pandas"),
    "polars tuples": partial(tuples, "polars"),
    "chdb": states,
}


def wait_and_run(name: str, path: str, port: int) -> None:
    """Run once for each line of standard input."""
    run = RUNS[name](path, port)
    print("ready", flush=True)
    for _ in sys.stdin:
        run()
        print("done", flush=True)


def whole_process(name: str, path: str, port: int) -> Callable[[], object]:
    """A process from its start to its end."""
    if name == "duckdb":
        sql = f"SELECT ts::DATE, count(DISTINCT uid) FROM '{path}' GROUP BY 1"  # noqa: S608 (our own file)
        command = [sys.executable, "-c", f"import duckdb; duckdb.sql({sql!r}).fetchall()"]
    else:
        options = ("--id", "uid", "--time", "ts", "--bucket-field", "site", "--timezone", "UTC")
        url = ("--url", f"redis://{HOST}:{port}")
        command = [sys.executable, "-m", "activity_tracker_hll", "import", path, *options, *url]
    return partial(subprocess.run, command, check=True, capture_output=True)


@contextmanager
def contestant(name: str, path: Path, port: int, before: Path | None) -> Iterator[Callable[[], object]]:
    """A function that lets a contestant run once."""
    if name in ("command", "duckdb"):
        yield whole_process(name, str(path), port)
        return
    command = [sys.executable, __file__, "--contestant", name, str(path), str(port)]
    older = {"PYTHONPATH": str(before.resolve())} if before and name.endswith("tuples") else {}
    with subprocess.Popen(  # noqa: S603 (this file)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | older
    ) as process:
        questions: Any = process.stdin
        answers: Any = process.stdout

        def expect(answer: str) -> None:
            if answers.readline().strip() != answer:
                raise click.ClickException(f"{name} failed")

        def run() -> None:
            print(file=questions, flush=True)
            expect("done")

        expect("ready")
        yield run
        questions.close()


# Events, and what is right


def write_events(directory: Path, rows: int, ids: int) -> dict[str, Path]:
    """A Parquet file for each kind of ids."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    source = np.random.default_rng(1)
    at = BEGIN.astype("M8[us]") + np.sort(source.integers(0, DAYS * 86_400, rows)).astype("m8[s]")
    site = arrow.array(np.array(BUCKETS)[source.integers(0, len(BUCKETS), rows)])
    which = arrow.array(source.integers(0, ids, rows))
    numbers = source.integers(0, 2**63, ids).tolist()
    people = ("al", "bob.the.builder", "christine", "d", "erika_mustermann")
    kinds = {
        "short": [f"u{number:016x}" for number in numbers],
        "mail": [f"{people[n % 5]}{n % 10**6}@example{n % 7}.com" for n in numbers],
    }
    paths = {}
    for kind, texts in kinds.items():
        paths[kind] = directory / f"{kind}.parquet"
        parquet.write_table(
            arrow.table({"uid": arrow.array(texts).take(which), "ts": at, "site": site}), paths[kind]
        )
    return paths


def check(server: Server, path: Path, what: str) -> None:
    """Compare the counts of a day with the exact ones.

    Raises:
        click.ClickException: they are further away than a sketch may be.
    """
    table = read(str(path))
    day = table.column("ts").to_numpy().astype("M8[D]") == BEGIN
    first = table.filter(import_module("pyarrow").array(day))
    compute = import_module("pyarrow.compute")
    for bucket in BUCKETS:
        of_bucket = first.filter(compute.equal(first.column("site"), bucket))
        exact = len(compute.unique(of_bucket.column("uid")))
        key = f"{{active:daily-{str(BEGIN).replace('-', '')}:{bucket}}}:hll"
        found: Any = server.client.pfcount(key)
        if abs(found - exact) > max(10, AWAY * exact):
            raise click.ClickException(f"{what}: {found:,} ids in {key}, not {exact:,}")


def compare(
    server: Server, comparison: Comparison, path: Path, rounds: int, before: Path | None
) -> dict[str, list[float]]:
    """The seconds of both, in turns."""
    with ExitStack() as stack:
        runs = {
            name: stack.enter_context(contestant(name, path, server.port, before))
            for name in (comparison.ours, comparison.theirs)
        }
        server.flush()
        runs[comparison.ours]()
        check(server, path, comparison.what)
        return in_turns(runs, rounds, server.flush)


@click.command(help="Speed of importing tables and Parquet files, next to DuckDB, chdb and tuples.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=10_000_000, show_default=True)
@click.option("--ids", type=click.IntRange(min=1), default=2_000_000, show_default=True)
@click.option("--before", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(
    server: str,
    quick: bool,
    file: Path | None,
    plot: Path | None,
    rounds: int,
    rows: int,
    ids: int,
    before: Path | None,
) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    rows, ids, rounds = (20_000, 5000, 1) if quick else (rows, ids, rounds)
    packages = ("pyarrow", "pandas", "polars", "duckdb", "chdb")
    goals, results = [], []
    made = table("Tables", "", "ours, M rows/s", "theirs", "ratio", "of best", "goal", "met")
    with TemporaryDirectory() as directory, serve(server, *packages) as running:
        paths = write_events(Path(directory), rows, ids)
        for comparison in COMPARISONS:
            if running.environment.get(comparison.theirs) == "missing":
                continue
            seconds = compare(running, comparison, paths[comparison.ids], rounds, before)
            ours = [rows / each for each in seconds[comparison.ours]]
            theirs = [rows / comparison.share / each for each in seconds[comparison.theirs]]
            goal = Goal(comparison.what, Ratio.of_rates(ours, theirs), comparison.goal)
            goals.append(goal)
            results.append({**goal.as_json(), "seconds": seconds})
            rates = (f"{median(rates) / 1e6:.2f}" for rates in (ours, theirs))
            made.add_row(goal.what, *rates, *goal.cells())
    show(running.environment, made)
    save_json(file, running.environment, rows=rows, ids=ids, results=results)
    if canvas is not None and plot is not None:
        draw_goals(canvas, goals, "times as fast", plot)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        wait_and_run(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
