"""What a process loses that is killed: a writer's next to a buffer of 1,000 PFADDs, as one writes it by hand.

Each is a process of its own that tracks 20,000 events a second, each of another id, and is ended by SIGKILL
at a moment that dice choose. Lost is what was tracked by then and does not show in the registers on the
server. What both cost is measured in the same runs.

    python benchmarks/killed.py --server redis --rounds 20
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
import numpy as np
import psutil
import redis
from _common import HOST, PER_CALL, Server, axes, options, save_json, serve, show, table

from activity_tracker_hll import ActivityTracker, bulk
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty, fold

RATE = 20_000
_TICK_S = 0.001
WRITER, BY_HAND = "writer", f"buffer of {PER_CALL:,} PFADDs"
DAY, MONTH = "daily", "monthly"
PLACES = {"6 buckets, 1 period": (6, (DAY,)), "3 buckets, 2 periods": (3, (DAY, MONTH))}
_GOAL = 2


def track(way: str, port: int, buckets: int, periods: Sequence[str], tracked: Any) -> None:
    """Track until killed; counts what was tracked in shared memory."""
    call = (by_writer if way == WRITER else by_hand)(port, periods)
    names = [f"b{number}" for number in range(buckets)]
    began, number = time.perf_counter(), 0
    while True:
        for _ in range(int((time.perf_counter() - began) * RATE) - number):
            call(f"u{number}", names[number % buckets])
            number += 1
            tracked.value = number
        time.sleep(_TICK_S)


def by_writer(port: int, periods: Sequence[Any]) -> Callable[[str, str], None]:
    """As the README has it."""
    writer = ActivityTracker(periods, "redis", host=HOST, port=port).buffered()

    def track(id: str, bucket: str) -> None:
        writer.track(id=id, bucket=bucket)

    return track


def by_hand(port: int, periods: Sequence[str]) -> Callable[[str, str], None]:
    """Ten lines."""
    client = redis.Redis(host=HOST, port=port)
    pipeline = client.pipeline(transaction=False)

    def track(id: str, bucket: str) -> None:
        for period in periods:
            pipeline.pfadd(f"{period}:{bucket}", id)
        if len(pipeline) >= PER_CALL:
            pipeline.execute()

    return track


@dataclass
class Losses:
    """Of one way, an entry a round.

    Attributes:
        events: that were lost.
        seconds: the age of the oldest of them.
        process, server: share of a core that each used.
    """

    events: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)


def run(server: Server, way: str, places: str, seconds: float, losses: Losses) -> None:
    """Start one, kill it, and see what is there."""
    buckets, periods = PLACES[places]
    server.client.flushall()
    context = multiprocessing.get_context("spawn")
    tracked = context.Value("Q", 0, lock=False)
    process = context.Process(target=track, args=(way, server.port, buckets, periods, tracked), daemon=True)
    process.start()
    while not tracked.value:
        time.sleep(_TICK_S)
    began, before = time.perf_counter(), cpu(server)
    of_process = psutil.Process(process.pid)
    used = sum(of_process.cpu_times()[:2])
    time.sleep(seconds)
    used = sum(of_process.cpu_times()[:2]) - used
    process.kill()
    process.join()
    spent, after = time.perf_counter() - began, cpu(server)
    arrived = [events_there(server, bucket, buckets, tracked.value) for bucket in range(buckets)]
    # The oldest event that is missing is one of the bucket that has the least.
    losses.events.append(tracked.value - sum(arrived))
    losses.seconds.append((tracked.value / buckets - min(arrived)) * buckets / RATE)
    losses.process.append(used / spent)
    losses.server.append((after - before) / spent)


def cpu(server: Server) -> float:
    """Seconds of a core that the server has used."""
    info: Any = server.client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def events_there(server: Server, bucket: int, buckets: int, tracked: int) -> int:
    """How many of a bucket's events, from the first on, its least complete sketch can have."""
    ids = [f"u{number}".encode() for number in range(bucket, tracked, buckets)]
    hashes = bulk.hashes_of_bytes(ids)
    keys: Any = [*server.client.scan_iter(f"*:b{bucket}}}:hll"), *server.client.scan_iter(f"*ly:b{bucket}")]
    sketches: Any = server.client.mget(keys) if keys else ()
    stored = [codec.decode(sketch) for sketch in sketches] or [empty()]
    return min(_prefix(hashes, registers) for registers in stored)


def _prefix(hashes: Any, stored: Any) -> int:
    """The longest prefix of hashes that raises none of some registers: found by halving."""
    low, high = 0, len(hashes)
    while low < high:
        middle = (low + high + 1) // 2
        registers = empty()
        fold(registers, hashes[:middle])
        if np.any(registers > stored):
            high = middle - 1
        else:
            low = middle
    return low


@click.command(help="Events that a killed process loses: a writer's next to a buffer of 1,000 PFADDs.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True)
def main(server: str, quick: bool, file: Path | None, plot: Path | None, rounds: int) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    rounds, dice, longest = 1 if quick else rounds, random.Random(1), 1 if quick else 4
    found: dict[tuple[str, str], Losses] = {}
    with serve(server) as running:
        for _ in range(rounds):
            for places in PLACES:
                for way in (WRITER, BY_HAND):
                    losses = found.setdefault((places, way), Losses())
                    run(running, way, places, dice.uniform(longest / 2, longest), losses)
        environment = running.environment
    caption = f"{rounds} kills each. Goal: at most {_GOAL} times the events by hand."
    columns = (
        "",
        "lost, mean",
        "median",
        "most",
        "oldest, ms",
        "times by hand",
        "process, % of a core",
        "server, %",
    )
    made = table(f"Events lost of {RATE:,} a second", *columns, caption=caption)
    for (places, way), losses in found.items():
        by_hand = mean(found[places, BY_HAND].events)
        made.add_row(
            f"{places}: {way}",
            f"{mean(losses.events):,.0f}",
            f"{median(losses.events):,.0f}",
            f"{max(losses.events):,.0f}",
            f"{1000 * mean(losses.seconds):,.0f}",
            f"{mean(losses.events) / by_hand:.2f}" if by_hand else "",  # all had just been sent
            f"{100 * median(losses.process):.1f}",
            f"{100 * median(losses.server):.1f}",
        )
    show(environment, made)
    save_json(
        file,
        environment,
        results=[
            {"places": places, "way": way, "events": losses.events, "seconds": losses.seconds,
             "process": losses.process, "server": losses.server}
            for (places, way), losses in found.items()
        ],
    )  # fmt: skip
    if canvas is not None and plot is not None:
        figure, subplot = canvas
        labels = [f"{places}\n{way}" for places, way in found]
        subplot.boxplot([losses.events for losses in found.values()], tick_labels=labels)
        subplot.set_ylabel("events lost")
        figure.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
