"""What scrapes of Prometheus cost the server: of all buckets, live and collapsed, in three kinds of period.

A Prometheus scrapes each 15 s, by a clock that is set here. Either the server is asked by every scrape, or by
one in 60 s, as CountsCollector does unless told otherwise. Server time is taken from INFO commandstats for
all commands that were sent, the server's processor time with all that is around them from INFO cpu, the
slowest command from SLOWLOG. With a secret nobody can choose ids for their hashes, so live sketches need not
be read.

    python benchmarks/metrics.py --server redis
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, time
from typing import Any, NamedTuple

import click
from _common import Server, axes, options, save_json, serve, show, table, tracker
from moves import server_us, slowest
from prometheus_client import CollectorRegistry, generate_latest
from rich.table import Table

from activity_tracker_hll import ActivityTracker, PeriodKind
from activity_tracker_hll.metrics import CountsCollector

KINDS: tuple[PeriodKind, ...] = ("daily", "weekly", "monthly")
SCRAPED_EVERY_S, REFRESH_S = 15, 60


class Plan(NamedTuple):
    """Sizes: numbers of buckets, ids in each of them a period, and scrapes."""

    buckets: Sequence[int]
    ids: int
    scrapes: int


FULL = Plan((10, 100, 1000), 5000, 24)
QUICK = Plan((2, 10), 10, 8)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a scrape in the mean: of the server's commands and processor, and until it is answered.

    Attributes:
        buckets: how many there are.
        has_secret: whether ids are hashed with one.
        is_cached: whether the server is asked by a scrape in 60 s, or by each.
        commands: sent to the server.
        server_us: microseconds of commands.
        cpu_us: microseconds of the server's processor.
        slowest_us: microseconds of the slowest command of all.
        scrape_ms: milliseconds until a scrape is answered.
        kilobytes: size of what is answered.
    """

    buckets: int
    has_secret: bool
    is_cached: bool
    commands: float
    server_us: float
    cpu_us: float
    slowest_us: int
    scrape_ms: float
    kilobytes: float


def load(server: Server, plan: Plan, names: Sequence[str], secret: str | None) -> ActivityTracker:
    """A tracker of buckets that have counts of the last periods, and sketches of the running ones."""
    server.flush()
    made = tracker(server, KINDS, timezone="UTC", buckets=names, secret=secret)
    today = datetime.now(UTC).date()
    last = (today.replace(day=1) - timedelta(days=1), today - timedelta(days=7), today - timedelta(days=1))
    for number, name in enumerate(names):
        ids = range(number * plan.ids, (number + 1) * plan.ids)
        for date in (*last, today):
            made.track_many(ids, bucket=name, date=date)
    made.collapse()
    return made


def measured(server: Server, counts: ActivityTracker, plan: Plan, *, is_cached: bool) -> tuple[float, ...]:
    """Scrape; what that costs, in the order of :class:`Cost`."""
    now = time()
    registry = CollectorRegistry()
    refresh = REFRESH_S if is_cached else 1
    limit = len(counts.buckets or ())
    registry.register(CountsCollector(counts, refresh=refresh, timeout=60, limit=limit, clock=lambda: now))
    server.client.slowlog_reset()
    commands, before, cpu = sent(server), server_us(server), processor_us(server)
    text, begin = b"", perf_counter()
    for _ in range(plan.scrapes):
        text = generate_latest(registry)
        now += SCRAPED_EVERY_S
    took = perf_counter() - begin
    spent = (processor_us(server) - cpu, server_us(server) - before, sent(server) - commands)
    cpu_us, commands_us, number = (total / plan.scrapes for total in spent)
    if text.count(b"active_users{") != 2 * limit * len(KINDS):
        raise click.ClickException("a scrape failed")
    return number, commands_us, cpu_us, slowest(server)[0], took / plan.scrapes * 1000, len(text) / 1000


def sent(server: Server) -> int:
    """How many commands the server has executed for others than this benchmark."""
    stats: Any = server.client.info("commandstats")
    own = ("cmdstat_info", "cmdstat_slowlog", "cmdstat_config")
    return sum(entry["calls"] for name, entry in stats.items() if not name.startswith(own))


def processor_us(server: Server) -> float:
    """Microseconds that the server's process has run."""
    info: Any = server.client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6


def costs(server: Server, plan: Plan) -> list[Cost]:
    """For each number of buckets, with and without a secret, cached and not."""
    found = []
    for number in plan.buckets:
        names = [f"bucket-{index}" for index in range(number)]
        for secret in (None, "secret"):
            with load(server, plan, names, secret) as counts:
                for is_cached in (False, True):
                    values = measured(server, counts, plan, is_cached=is_cached)
                    found.append(Cost(number, secret is not None, is_cached, *values))  # type: ignore[arg-type]
    return found


def shown(found: Sequence[Cost], plan: Plan) -> Table:
    """The results."""
    result = table(
        f"A scrape of live and collapsed counts of {len(KINDS)} kinds of period, each {SCRAPED_EVERY_S} s",
        "buckets",
        "the server is asked",
        "commands",
        "server, us",
        "server's processor, us",
        "of its time, %",
        "slowest command, us",
        "scrape, ms",
        "KB",
        caption=f"Means of {plan.scrapes} scrapes; {plan.ids:,} ids in each bucket and period.",
    )
    for cost in found:
        result.add_row(
            f"{cost.buckets:,}{', with a secret' if cost.has_secret else ''}",
            f"each {REFRESH_S} s" if cost.is_cached else "by every scrape",
            f"{cost.commands:,.1f}",
            f"{cost.server_us:,.0f}",
            f"{cost.cpu_us:,.0f}",
            f"{cost.cpu_us / SCRAPED_EVERY_S / 1e4:.4f}",
            f"{cost.slowest_us:,}",
            f"{cost.scrape_ms:.1f}",
            f"{cost.kilobytes:,.1f}",
        )
    return result


@click.command(help="What scrapes of counts cost the server.")
@options
def main(*, server: str, quick: bool, file: Path | None, plot: Path | None) -> None:
    """Measure and print."""
    plan = QUICK if quick else FULL
    canvas = axes(plot)
    with serve(server, "prometheus_client") as running:
        running.client.config_set("slowlog-log-slower-than", 0)
        running.client.config_set("slowlog-max-len", 1000)
        found = costs(running, plan)
        show(running.environment, shown(found, plan))
        save_json(file, running.environment, costs=[asdict(cost) for cost in found])
        if canvas is not None and plot is not None:
            figure, drawn = canvas
            names = [
                f"{cost.buckets:,}{', a secret' * cost.has_secret}{', cached' * cost.is_cached}"
                for cost in found
            ]
            drawn.barh(names, [cost.server_us for cost in found])
            drawn.set_xlabel("microseconds of the server a scrape")
            drawn.set_xscale("log")
            figure.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
