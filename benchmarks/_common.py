"""What the benchmarks share: a server of their own, a record of the environment, tables, files, options.

Nothing that is measured lives here. The server is started for the run and ends with it; it listens on the
loopback interface only, and no other server is ever flushed.
"""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any, NamedTuple

import click
import redis
from rich.console import Console
from rich.table import Table

from activity_tracker_hll import ActivityTracker, PeriodKind, __version__
from activity_tracker_hll.backends.embedded import EmbeddedServer
from activity_tracker_hll.errors import ActivityTrackerError

__all__ = [
    "HOST",
    "PER_CALL",
    "PER_PIPELINE",
    "Goal",
    "Ratio",
    "Server",
    "axes",
    "cell",
    "draw_goals",
    "free_port",
    "in_turns",
    "options",
    "pfadd",
    "quotient",
    "save_json",
    "serve",
    "show",
    "table",
    "tracker",
]

HOST = "127.0.0.1"
PER_CALL = 1000
PER_PIPELINE = 50
_EXECUTABLES = {"valkey": None, "redis": "redis-server"}
_PACKAGES = ("activity-tracker", "redis", "hiredis", "numpy")
# Wide enough for every table here if the output is not a terminal.
_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Server:
    """The server that all contestants of a run use."""

    port: int
    socket: str
    client: redis.Redis
    environment: dict[str, str]

    def flush(self) -> None:
        """Empty the server; scripts stay loaded."""
        self.client.flushdb()


class Ratio(NamedTuple):
    """How many times faster one is than another: the median of the ratios of single rounds, and quartiles.

    Whatever slows the machine down for seconds slows both in a round, so this is steadier than either rate.
    The ratio of the best rounds comes near to that of an idle machine.
    """

    median: float
    low: float
    high: float
    best: float

    @classmethod
    def of_rates(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """The ratio, from the rates of both in the same rounds."""
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return cls(median(ratios), low, high, max(ours) / max(theirs))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


class Goal(NamedTuple):
    """A ratio, if it could be measured, and the one to reach, if there is one."""

    what: str
    ratio: Ratio | None
    goal: float | None

    @property
    def verdict(self) -> str:
        """Whether the goal is reached, for a table."""
        if self.ratio is None or self.goal is None:
            return ""
        return "yes" if self.ratio.median >= self.goal else "NO"

    def cells(self) -> tuple[str, str, str, str]:
        """Ratio, ratio of the best rounds, goal and verdict, for a table."""
        ratio = (str(self.ratio), f"{self.ratio.best:.2f}") if self.ratio else ("missing", "")
        return *ratio, f"{self.goal:g}" if self.goal else "", self.verdict

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        ratio = self.ratio and self.ratio._asdict()
        return {"what": self.what, "ratio": ratio, "goal": self.goal}


def quotient(one: float, other: float) -> float | None:
    """How many times as much was measured; None if there was nothing of the other, as in a short run."""
    return one / other if other > 0 else None


def cell(value: float | None, spec: str) -> str:
    """A number in a table; empty where there is none."""
    return "" if value is None else format(value, spec)


@contextmanager
def serve(kind: str, *packages: str, config: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server on a free port of the loopback, with nothing written to disk.

    Args:
        kind: valkey or redis.
        packages: further packages whose versions are recorded.
        config: further configuration of the server.

    Raises:
        click.ClickException: the server cannot be started.
    """
    port = free_port()
    try:
        embedded = EmbeddedServer(executable=_EXECUTABLES[kind], port=port, config=dict(config or {}))
        embedded.open()
    except (ActivityTrackerError, OSError) as error:
        raise click.ClickException(f"cannot start {kind}: {error}") from error
    try:
        with redis.Redis(host=HOST, port=port) as client:
            info: Any = client.info("server")
            if int(info["process_id"]) != embedded.process_id():
                raise click.ClickException(f"another server took port {port}: run it again")
            yield Server(port, str(embedded.socket), client, _environment(info, packages))
    finally:
        embedded.close()


def tracker(server: Server, periods: Iterable[PeriodKind] = ("daily",), **settings: Any) -> ActivityTracker:
    """A tracker of this library on the server, over TCP like all contestants."""
    return ActivityTracker(periods, "redis", host=HOST, port=server.port, **settings)


def pfadd(server: Server, groups: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """Send ids by key with plain redis-py: PER_CALL ids per PFADD, PER_PIPELINE calls per pipeline."""
    pipeline = server.client.pipeline(transaction=False)
    for key, ids in groups:
        for start in range(0, len(ids), PER_CALL):
            pipeline.pfadd(key, *ids[start : start + PER_CALL])
            if len(pipeline) == PER_PIPELINE:
                pipeline.execute()
    pipeline.execute()


def in_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, prepare: Callable[[], object]
) -> dict[str, list[float]]:
    """The seconds of every run in every round, in turns (A B C, B C A, ...), after a round to warm up.

    Args:
        runs: what to time, by name.
        rounds: the number of rounds.
        prepare: called before each run, and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs.items())
    for _ in range(rounds + 1):
        for name, run in order:
            prepare()
            begin = perf_counter()
            run()
            seconds[name].append(perf_counter() - begin)
        order.append(order.pop(0))
    return {name: spent[1:] for name, spent in seconds.items()}


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all benchmarks have to a command."""
    for option in (
        click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Save a plot."),
        click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Save results."),
        click.option("--quick", is_flag=True, help="Small sizes, to see that it works; proves nothing."),
        click.option("--server", type=click.Choice(list(_EXECUTABLES)), default="valkey", show_default=True),
    ):
        command = option(command)
    return command


def table(title: str, *columns: str, caption: str | None = None) -> Table:
    """A table with words in the first column and numbers in all others."""
    result = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for index, column in enumerate(columns):
        result.add_column(column, justify="right" if index else "left")
    return result


def show(environment: Mapping[str, str], *tables: Table) -> None:
    """Print the environment and the tables."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(", ".join(f"{name} {value}" for name, value in environment.items()), highlight=False)
    for result in tables:
        console.print(result, highlight=False)


def save_json(file: Path | None, environment: Mapping[str, str], **results: object) -> None:
    """Write the environment and the results to a file, if there is to be one."""
    if file is not None:
        file.write_text(json.dumps({"environment": environment, **results}, indent=1) + "\n", "utf-8")


def axes(plot: Path | None) -> tuple[Any, Any] | None:
    """A matplotlib figure and its axes, if there is to be a plot; called before anything is measured.

    Raises:
        click.ClickException: matplotlib is not installed.
    """
    if plot is None:
        return None
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError as error:
        raise click.ClickException(
            "--plot needs matplotlib, from the extra 'bench': pip install 'activity-tracker-hll[bench]'"
        ) from error
    pyplot.switch_backend("agg")
    figure, subplot = pyplot.subplots(figsize=(9, 5), layout="constrained")
    return figure, subplot


def draw_goals(canvas: tuple[Any, Any], goals: Sequence[Goal], label: str, plot: Path) -> None:
    """Draw the ratios as bars, with marks at the goals."""
    figure, subplot = canvas
    subplot.barh([goal.what for goal in goals], [goal.ratio.median if goal.ratio else 0 for goal in goals])
    aims = [(goal.goal, index) for index, goal in enumerate(goals) if goal.goal]
    subplot.scatter(*zip(*aims, strict=True), marker="|", s=400, color="k")
    subplot.axvline(1, color="grey", linewidth=0.8)
    subplot.invert_yaxis()
    subplot.set_xlabel(f"{label} (| goal)")
    figure.savefig(plot, dpi=120)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(info: Mapping[str, Any], packages: Sequence[str]) -> dict[str, str]:
    valkey = info.get("valkey_version")
    return {
        "activity-tracker-hll": __version__,
        **{package: _version(package) for package in (*_PACKAGES, *packages)},
        "python": platform.python_version(),
        "server": f"valkey {valkey}" if valkey else f"redis {info['redis_version']}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
