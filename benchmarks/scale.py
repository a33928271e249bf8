"""How far it goes: a capacity model, from one real writer of a thousand and the costs of a real server.

One writer with all its buckets runs against a stub, which answers what a server would and counts what it is
asked: after some days, at the rate of its share of the traffic, and after a failover. That, times the number
of writers and what a server takes for each call, is how many servers they need. What a call takes is measured
on one server; whether the model holds, on a cluster.

    python benchmarks/scale.py --buckets 10000 --writers 1000
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import click
import psutil
from _cluster import Servers, serve_cluster
from _common import axes, cell, options, quotient, save_json, serve, show, table
from rich.table import Table

from activity_tracker_hll import ActivityTracker, BufferedTracker, PeriodKind
from activity_tracker_hll.backends.base import BaseBackend, Command, Reply
from activity_tracker_hll.hll.codec import DENSE_BYTES
from activity_tracker_hll.scripts.calls import EMPTY_TABLE, SCRIPTS

KINDS: tuple[PeriodKind, ...] = ("daily", "weekly", "monthly")
_NAMES = {script.sha: script.name for script in SCRIPTS}
_PLAIN, _SKETCH = "zcard", "unite"
"""By which of a writer's calls its pushes of a bucket in a period are told."""
_US = 1_000_000
_LOAD = 0.6
"""How busy a server may be."""
_DAY_S = 86_400
_NOTICED_S = 3  # a writer asks a server once a second who it is
_MONDAY = 20_605 * _DAY_S + 1
"""A Monday that is the first of a month; the day after it is in the same week and month."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What comes in, evenly spread over the day, the buckets and the writers."""

    ids_a_day: float
    events_an_id: float
    buckets: int
    writers: int

    @property
    def events_a_second(self) -> float:
        """Of one writer."""
        return self.ids_a_day * self.events_an_id / 86_400 / self.writers

    @property
    def places(self) -> int:
        """Buckets in periods."""
        return self.buckets * len(KINDS)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done; the second set of numbers is that of --quick.

    Attributes:
        seconds: that are watched, each time.
        buckets, ids: what is on a server, each id in one bucket.
        rate: events a second.
    """

    seconds: float = 10
    buckets: int = 2000
    ids: int = 1000
    rate: float = 2000

    @classmethod
    def quick(cls) -> Sizes:
        """For a smoke run."""
        return cls(1, 20, 50, 200)


class Stub(BaseBackend):
    """Answers as a server that holds everything, at once, and counts.

    Attributes:
        sent: how often, by command or script.
        bytes: of all that was sent.
        run: of the server; another number is another server.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[str] = Counter()
        self.bytes, self.run = 0, 1
        self._settings_stored: dict[str, str] = {}

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.BaseBackend.execute`."""
        del shard
        return [self._answer(*command) for command in commands]

    def _answer(self, name: Any, *arguments: Any) -> Reply:
        self.sent[_NAMES[arguments[0]] if name == "EVALSHA" else name.lower()] += 1
        self.bytes += sum(len(part) for part in arguments if isinstance(part, (bytes, str)))
        stored = self._settings_stored
        if name == "EVALSHA":
            return [b"OK", 1, 0, *([0] if _NAMES[arguments[0]] == "write" else []), *EMPTY_TABLE]
        if name == "INFO":
            return b"run_id:%d" % self.run
        if name == "TIME":
            seconds, us = divmod(time.time_ns() // 1000, _US)
            return [b"%d" % seconds, b"%d" % us]
        if name == "HSETNX":
            stored.setdefault(str(arguments[1]), str(arguments[2]))
        if name == "HSCAN":
            return [b"0", [part.encode() for pair in stored.items() for part in pair]]
        return int(name in {"EXISTS", "PFADD", "PFCOUNT", "HSETNX", "DEL"})

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one writer does at one moment of its life.

    Attributes:
        day: of the month.
        memory: MB that the process took on since the writer was new.
        plain, sketches: buckets in periods that it pushes in a second, by plain commands and by a script.
        bytes: sent in a second.
        peak: the most scripts in one second after a failover; `storm_s` is how long they take to end, None if
            there were none beyond the usual.
        cores: of this machine that it takes, the caller's part included.
    """

    day: int
    memory: float
    plain: float
    sketches: float
    bytes: float
    peak: float
    storm_s: float | None
    cores: float


def observe(traffic: Traffic, days: int, seconds: float) -> Point:
    """Run a writer through some days at once, and then at the rate of its traffic.

    Args:
        seconds: to watch it for, each time.
    """
    process, stub, now = psutil.Process(), Stub(), [float(_MONDAY)]
    names = [f"bucket-{number}" for number in range(traffic.buckets)]
    a_day = round(traffic.events_a_second * _DAY_S / traffic.buckets)
    gc.collect()
    before = process.memory_info().rss
    tracker = ActivityTracker(KINDS, stub, timezone="UTC", clock=lambda: now[0])
    with tracker, tracker.buffered(max_sketches=traffic.places, close_timeout=600) as writer:
        for day in range(days):
            now[0] = _MONDAY + day * _DAY_S
            fill(writer, names, a_day, day * traffic.buckets * a_day)
        trickle(writer, traffic.events_a_second, names, min(seconds, 2))
        gc.collect()
        memory = process.memory_info().rss - before
        sent, size = stub.sent.copy(), stub.bytes
        worked, began = sum(process.cpu_times()[:2]), time.perf_counter()
        trickle(writer, traffic.events_a_second, names, seconds)
        spent = time.perf_counter() - began
        worked = (sum(process.cpu_times()[:2]) - worked) / spent
        sent, size = stub.sent - sent, stub.bytes - size
        usual = sent[_SKETCH] / spent
        peak, storm = fail_over(writer, stub, traffic, names, usual, seconds)
    plain = sent[_PLAIN] / spent
    return Point(days, memory / 1e6, plain, usual, size / spent, peak, storm, worked)


def trickle(writer: BufferedTracker, rate: float, names: Sequence[str], seconds: float) -> None:
    """Track events, each of another id, evenly in time and over buckets."""
    dice, began, done = random.Random(seconds), time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        for _ in range(int(elapsed * rate) - done):
            writer.track(id=dice.getrandbits(62), bucket=dice.choice(names))
            done += 1
        time.sleep(0.01)


def fail_over(
    writer: BufferedTracker, stub: Stub, traffic: Traffic, names: Sequence[str], usual: float, seconds: float
) -> tuple[float, float | None]:
    """Another server answers: the most scripts in a second, and how long it takes to send all again."""
    stub.run += 1
    first, peak = stub.sent[_SKETCH], 0.0
    began = time.perf_counter()
    for _ in range(max(round(seconds), _NOTICED_S)):
        before, at = stub.sent[_SKETCH], time.perf_counter()
        trickle(writer, traffic.events_a_second, names, 1)
        peak = max(peak, (stub.sent[_SKETCH] - before) / (time.perf_counter() - at))
    elapsed = time.perf_counter() - began
    resent = stub.sent[_SKETCH] - first - usual * elapsed
    return peak, quotient(traffic.places * elapsed, resent)


# What a server takes


@dataclass(frozen=True, slots=True)
class Cost:
    """What servers take for what a real writer sends.

    Attributes:
        servers: which.
        pushes: buckets in periods pushed in a second, with the few registers of ordinary traffic.
        cores: that the servers are busy with these, more than when they are idle.
        sketch_us: a server's time for a whole sketch that is sent again.
    """

    servers: str
    pushes: float
    cores: float
    sketch_us: float

    @property
    def push_us(self) -> float:
        """A server's time for an ordinary push of one bucket in a period."""
        return self.cores / self.pushes * _US


def measure(servers: Servers, sizes: Sizes) -> Cost:
    """Let a real writer push, at the rate of many; then another send all of it again."""
    servers.flush()
    names = [f"bucket-{number}" for number in range(sizes.buckets)]
    with servers.tracker(KINDS) as tracker:
        with tracker.buffered(refresh_interval=36_000) as writer:
            fill(writer, names, sizes.ids)
            idle = cpu(servers)
            time.sleep(sizes.seconds)
            idle = (cpu(servers) - idle) / sizes.seconds
            trickle(writer, sizes.rate, names, min(sizes.seconds, 2))
            used, sent, began = cpu(servers), pushes(servers), time.perf_counter()
            trickle(writer, sizes.rate, names, sizes.seconds)
            writer.flush(600)
            spent = time.perf_counter() - began
            used, sent = cpu(servers) - used - idle * spent, pushes(servers) - sent
        with tracker.buffered(refresh_interval=36_000) as again:
            before = cpu(servers)
            fill(again, names, sizes.ids)
            sketch = (cpu(servers) - before) / (len(KINDS) * len(names))
    return Cost(servers.name, sent / spent, used / spent, sketch * _US)


def fill(writer: BufferedTracker, names: Sequence[str], ids: int, first: int = 0) -> None:
    """So many ids for each bucket, each in one bucket."""
    for number, name in enumerate(names):
        start = first + number * ids
        writer.track_many(range(start, start + ids), bucket=name)
        if not number % 100:
            writer.flush(600)
    writer.flush(600)


def cpu(servers: Servers) -> float:
    """Seconds of a core that they have used."""
    infos: list[Any] = [node.client.info("cpu") for node in servers.nodes]
    return sum(float(info["used_cpu_user"]) + float(info["used_cpu_sys"]) for info in infos)


def pushes(servers: Servers) -> int:
    """How often they were asked for a bucket in a period: plainly, or by a script."""
    stats: list[Any] = [node.client.info("commandstats") for node in servers.nodes]
    names = [f"cmdstat_{name}" for name in (_PLAIN, "evalsha")]
    return sum(each.get(name, {}).get("calls", 0) for each in stats for name in names)


# Tables


def writer_table(traffic: Traffic, points: Sequence[Point]) -> Table:
    """One writer."""
    caption = (
        f"{traffic.places:,} buckets in periods, {traffic.events_a_second:,.0f} events a second, each in"
        f" {len(KINDS)} periods. Against a stub, in real time."
    )
    made = table("One writer", "after day", "MB", "pushes/s, plain", "by script", "kB/s", "% of a core",
                 "after a failover, scripts/s", "all sent again in, s", caption=caption)  # fmt: skip
    for point in points:
        made.add_row(
            str(point.day),
            f"{point.memory:,.0f}",
            f"{point.plain:,.0f}",
            f"{point.sketches:,.1f}",
            f"{point.bytes / 1000:,.1f}",
            f"{100 * point.cores:.0f}",
            f"{point.peak:,.0f}",
            cell(point.storm_s, ",.0f"),
        )
    return made


def server_table(traffic: Traffic, points: Sequence[Point], cost: Cost) -> Table:
    """What all writers ask of the servers."""
    caption = (
        f"{cost.push_us:.1f} us of a server for a push of a bucket in a period, {cost.sketch_us:.1f} us for a"
        f" sketch that is sent again; servers {100 * _LOAD:.0f} % busy.\n"
        f"Dense sketches of one day, week and month: {traffic.places * DENSE_BYTES / 1e9:.2f} GB, and as much"
        " for each replica."
    )
    made = table(f"All {traffic.writers:,} writers", "after day", "pushes/s", "MB/s", "cores", "servers",
                 "cores after a failover", caption=caption)  # fmt: skip
    for point in points:
        a_second = (point.plain + point.sketches) * traffic.writers
        cores = a_second * cost.push_us / _US
        made.add_row(
            str(point.day),
            f"{a_second:,.0f}",
            f"{point.bytes * traffic.writers / 1e6:,.0f}",
            f"{cores:.2f}",
            f"{ceil(cores / _LOAD)}",
            f"{point.peak * traffic.writers * cost.sketch_us / _US:,.1f}",
        )
    return made


def check_table(one: Cost, cluster: Cost) -> Table:
    """Whether a cluster takes what the model says."""
    predicted = cluster.pushes * one.push_us / _US
    caption = "Predicted: what one server takes for a push, times the pushes to the cluster."
    made = table(
        "The model and a cluster",
        "",
        "pushes/s",
        "cores",
        "us a push",
        "predicted / measured",
        caption=caption,
    )
    made.add_row(one.servers, f"{one.pushes:,.0f}", f"{one.cores:.3f}", f"{one.push_us:.1f}", "")
    made.add_row(cluster.servers, f"{cluster.pushes:,.0f}", f"{cluster.cores:.3f}", f"{cluster.push_us:.1f}",
                 cell(quotient(predicted, cluster.cores), ".2f"))  # fmt: skip
    return made


@click.command(help="A capacity model: one real writer of many, and what servers take for what it sends.")
@options
@click.option("--ids", type=float, default=1e9, show_default=True, help="Active ids a day.")
@click.option("--events", type=float, default=10.0, show_default=True, help="Events of each id, a day.")
@click.option("--buckets", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--writers", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--days", type=click.IntRange(1, 28), multiple=True, default=(1, 15), show_default=True,
              help="After which days of a month to look at a writer.")  # fmt: skip
def main(
    server: str,
    quick: bool,
    file: Path | None,
    plot: Path | None,
    ids: float,
    events: float,
    buckets: int,
    writers: int,
    days: tuple[int, ...],
) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    sizes = Sizes.quick() if quick else Sizes()
    traffic = Traffic(1e6, 10, 20, 10) if quick else Traffic(ids, events, buckets, writers)
    points = [observe(traffic, day, sizes.seconds) for day in ((1, 2) if quick else days)]
    with serve(server) as running:
        environment = running.environment
        one = measure(Servers("one server", [running]), sizes)
    with serve_cluster(server) as servers:
        cluster = measure(servers, sizes)
    show(
        environment,
        writer_table(traffic, points),
        server_table(traffic, points, one),
        check_table(one, cluster),
    )
    save_json(
        file,
        environment,
        traffic=asdict(traffic),
        writer=[asdict(point) for point in points],
        costs=[asdict(one), asdict(cluster)],
    )
    if canvas is not None and plot is not None:
        figure, subplot = canvas
        subplot.bar([f"day {point.day}" for point in points], [point.memory for point in points])
        subplot.set_ylabel(f"MB of a writer with {traffic.places:,} buckets in periods")
        figure.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
