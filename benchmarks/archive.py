"""The archive of a year: bytes of a sketch, and seconds to write, open, ask and restore it.

A year of days in twenty buckets, dense, from registers that are drawn, not from ids. Each question is asked
of the server and of the archive in turns; that both say the same is checked first.

    python benchmarks/archive.py --json archive.json
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import click
import numpy as np
from _common import Server, axes, in_turns, options, save_json, serve, show, table, tracker

from activity_tracker_hll import ActivityTracker, Archive
from activity_tracker_hll.hll import codec, packed
from activity_tracker_hll.hll.estimators import cardinality
from activity_tracker_hll.hll.registers import MAX_RANK, REGISTERS, Registers

SERVERS_BYTES = codec.DENSE_BYTES
TODAY = datetime.now(UTC).date()
NOW = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC).timestamp()


class Sizes(NamedTuple):
    """How much there is; the second set of numbers is that of --quick."""

    days: int
    buckets: int
    window: int
    rounds: int
    ids: Sequence[int]


FULL = Sizes(365, 20, 28, 5, (10, 100, 1000, 10_000, 100_000, 1_000_000, 100_000_000))
QUICK = Sizes(40, 2, 28, 1, (10, 100_000))


class Measured(NamedTuple):
    """What something took: seconds, and of asking the server the same."""

    what: str
    seconds: float
    server: float | None = None


def drawn(dice: np.random.Generator, ids: int) -> Registers:
    """Registers of that many random ids."""
    fallen = dice.multinomial(ids, np.full(REGISTERS, 1 / REGISTERS))
    with np.errstate(divide="ignore"):
        rank = np.ceil(-np.log2(-np.expm1(-dice.exponential(size=REGISTERS) / fallen)))
    return np.where(fallen == 0, 0, np.clip(rank, 1, MAX_RANK)).astype(np.uint8)


def fill(server: Server, names: Sequence[str], sizes: Sizes) -> None:
    """A year of dense sketches with counts."""
    dice = np.random.default_rng(1)
    ids = {name: int(10 ** dice.uniform(5, 6.5)) for name in names}
    for before in range(sizes.days, 0, -1):
        pipeline = server.client.pipeline(transaction=False)
        for name in names:
            count = f"active:daily-{TODAY - timedelta(days=before):%Y%m%d}:{name}"
            registers = drawn(dice, ids[name])
            pipeline.set(f"{{{count}}}:hll", codec.encode(registers), ex=86_400 * 500)
            pipeline.set(count, cardinality(registers))
        pipeline.execute()


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = perf_counter()
    call()
    return perf_counter() - begin


def measure(server: Server, source: ActivityTracker, sizes: Sizes, path: Path) -> list[Measured]:
    """Write, open, ask and restore."""
    names = [f"bucket-{number}" for number in range(sizes.buckets)]
    fill(server, names, sizes)
    first_day = TODAY - timedelta(days=1)
    found = [
        Measured(f"archive {sizes.days - 1:,} days", timed(lambda: source.archive(path, end=first_day))),
        Measured("append the last day", timed(lambda: source.archive(path, start=first_day))),
        Measured("archive all again, nothing new", timed(lambda: source.archive(path))),
    ]
    found.append(
        Measured("open and verify", median(timed(lambda: Archive(path)) for _ in range(sizes.rounds)))
    )
    archive = Archive(path, buckets=names)
    start = TODAY - timedelta(days=sizes.days - sizes.window)
    month = TODAY - timedelta(days=31)
    questions: dict[str, Callable[[Any], Any]] = {
        f"rolling({sizes.window}), all buckets": lambda reader: reader.rolling(
            sizes.window, start=start, buckets=names
        ),
        f"rolling({sizes.window}), one bucket": lambda reader: reader.rolling(
            sizes.window, start=start, buckets=names[:1]
        ),
        "unique of a month, all buckets": lambda reader: reader.unique(
            month, TODAY, period="daily", buckets=names
        ),
        "lookup of all": lambda reader: reader.lookup("daily", buckets=names),
    }
    for what, ask in questions.items():
        if ask(archive) != ask(source):
            raise click.ClickException(f"{what}: the archive says something else than the server")
        runs = {"archive": lambda ask=ask: ask(archive), "server": lambda ask=ask: ask(source)}
        seconds = in_turns(runs, sizes.rounds, lambda: None)
        found.append(Measured(what, median(seconds["archive"]), median(seconds["server"])))
    server.flush()
    with tracker(server, ["daily"], timezone="UTC", clock=lambda: NOW) as target:
        found.append(Measured("restore all", timed(lambda: target.restore(path))))
    return found


@click.command()
@options
def main(server: str, *, quick: bool, file: Path | None, plot: Path | None) -> None:
    """Measure an archive."""
    canvas = axes(plot)
    sizes = QUICK if quick else FULL
    dice = np.random.default_rng(2)
    packed_sizes = {ids: len(packed.pack(drawn(dice, ids))) for ids in sizes.ids}
    with serve(server) as running, TemporaryDirectory() as folder:
        path = Path(folder) / "activity.archive"
        with tracker(running, ["daily"], timezone="UTC", clock=lambda: NOW) as source:
            measured = measure(running, source, sizes, path)
        in_file = path.stat().st_size / (sizes.days * sizes.buckets)
        environment = running.environment
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    small = table("Bytes of a sketch", "ids", "in the archive", "on the server", "share")
    for ids, size in packed_sizes.items():
        theirs = len(codec.encode(drawn(dice, ids)))
        small.add_row(f"{ids:,}", f"{size:,}", f"{theirs:,}", f"{size / theirs:.0%}")
    small.add_row(
        "of the year, with all of the file",
        f"{in_file:,.0f}",
        f"{SERVERS_BYTES:,}",
        f"{in_file / SERVERS_BYTES:.0%}",
    )
    times = table(
        f"{sizes.days:,} days of {sizes.buckets:,} buckets",
        "what",
        "archive, s",
        "server, s",
        caption=f"{path.name}: this process had at most {peak:,.0f} MiB of memory, of all that it did",
    )
    for row in measured:
        times.add_row(row.what, f"{row.seconds:.3f}", "" if row.server is None else f"{row.server:.3f}")
    show(environment, small, times)
    if plot is not None and canvas is not None:
        _draw(canvas, measured, plot)
    save_json(
        file,
        environment,
        bytes={str(ids): size for ids, size in packed_sizes.items()},
        bytes_in_file=in_file,
        peak_mib=peak,
        results=[row._asdict() for row in measured],
    )


def _draw(canvas: tuple[Any, Any], measured: Sequence[Measured], plot: Path) -> None:
    figure, subplot = canvas
    names = [row.what for row in measured]
    subplot.barh(names, [row.seconds for row in measured], label="archive")
    subplot.scatter(
        [row.server or np.nan for row in measured], names, marker="|", s=400, color="k", label="server"
    )
    subplot.invert_yaxis()
    subplot.set_xlabel("seconds")
    subplot.legend()
    figure.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
