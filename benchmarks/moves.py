"""What moved ids cost the server: pushes to a bucket with a full side table, aggregates of such buckets.

Server time is taken from INFO commandstats for all commands that were sent, the slowest command from SLOWLOG.
Neither depends much on what else the machine does. Compare the rows.

    python benchmarks/moves.py --server redis
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import click
from _common import Server, axes, options, save_json, serve, show, table, tracker
from rich.table import Table

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.scripts.calls import answer, call_write

MOST = 100_000
PER_CALL = 500
CALLS_PER_BATCH = 50
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
UNCOUNTED = ("cmdstat_info", "cmdstat_slowlog", "cmdstat_config")


class Plan(NamedTuple):
    """Sizes.

    Attributes:
        tables: the members of the side tables of the buckets that are pushed to.
        pushes: the number of pushes.
        events: the events of each push.
        sources: the sources of an aggregate.
        ids: the ids of each source.
        members: the members of its side table.
    """

    tables: Sequence[int]
    pushes: int
    events: int
    sources: int
    ids: int
    members: int


FULL = Plan((0, 10_000, MOST), 40, 1000, 60, 150_000, MOST)
QUICK = Plan((0, 100), 3, 100, 3, 1500, 1000)


@dataclass(frozen=True, slots=True)
class Push:
    """Pushes to one bucket: microseconds of the server for each (median), and of the slowest command."""

    members: int
    moving: bool
    server_us: float
    slowest_us: int


@dataclass(frozen=True, slots=True)
class Collapse:
    """A collapse of an aggregate whose sources all have full tables."""

    sources: int
    members: int
    back: int
    seconds: float
    server_ms: float
    slowest_us: int
    slowest: str
    megabytes: float
    off: float


def load(counter: ActivityTracker, bucket: str, ids: range, back: int, when: Any = None) -> None:
    """Move ids out of a bucket, and the last `back` of them in again, like track() but many at a time."""
    period = f"daily-{(when or datetime.now(UTC)):%Y%m%d}"
    backend = counter.backend
    keys = backend.keys.bucket(period, bucket)
    encoded = backend.ids.many(list(ids))
    now = time.time_ns() // 1000 - 60_000_000
    moves = [(id, -(now + index)) for index, id in enumerate(encoded)]
    moves += [(id, now + len(ids) + index) for index, id in enumerate(encoded[len(ids) - back :])]
    calls = [
        call_write(keys, backend.moved_limit, (), moves[start : start + PER_CALL])
        for start in range(0, len(moves), PER_CALL)
    ]
    for start in range(0, len(calls), CALLS_PER_BATCH):
        for reply in backend.execute(calls[start : start + CALLS_PER_BATCH]):
            answer(reply)


def server_us(server: Server) -> float:
    """Microseconds that the server has spent on commands so far."""
    stats: Any = server.client.info("commandstats")
    return float(sum(entry["usec"] for name, entry in stats.items() if not name.startswith(UNCOUNTED)))


def slowest(server: Server) -> tuple[int, str]:
    """Microseconds and name of the slowest command since the log was emptied, except for our own queries."""
    log: Any = server.client.slowlog_get(1000)
    entries = [entry for entry in log if not entry["command"].upper().startswith((b"INFO", b"SLOWLOG"))]
    worst = max(entries, key=lambda entry: entry["duration"], default=None)
    return (worst["duration"], worst["command"].split(b" ")[0].decode()) if worst else (0, "")


def pushes(server: Server, plan: Plan, members: int, *, moving: bool) -> Push:
    """Measure a writer that pushes new ids repeatedly.

    Args:
        server: the server.
        plan: the sizes.
        members: the members of the bucket's side table.
        moving: whether another process moves an id out of the bucket before each push.
    """
    server.flush()
    spent: list[float] = []
    with tracker(server, moved_limit=MOST, timezone="UTC") as counter:
        counter.track_many(range(2 * MOST), bucket="b")
        load(counter, "b", range(members), 0)
        with counter.buffered(flush_interval=3600, refresh_interval=3600) as writer:
            for push in range(plan.pushes + 2):
                for number in range(plan.events):
                    writer.track(id=f"{push}-{number}", bucket="b")
                if moving:
                    counter.track(old_id=MOST + push, old_bucket="b")
                if push == 2:  # the first reads the table
                    server.client.slowlog_reset()
                before = server_us(server)
                if writer.flush().pending:
                    raise click.ClickException("a push failed")
                spent.append(server_us(server) - before)
    return Push(members, moving, median(spent[2:]), slowest(server)[0])


def collapse(server: Server, plan: Plan, back: int) -> Collapse:
    """An aggregate of buckets that share half of their ids with the next."""
    server.flush()
    sources = [f"s{number}" for number in range(plan.sources)]
    settings: dict[str, Any] = {"buckets": sources, "aggregate_buckets": {"all": sources}, "secret": "s"}
    with tracker(server, moved_limit=MOST, timezone="UTC", **settings) as counter:
        remain: set[int] = set()
        for number, source in enumerate(sources):
            ids = range(number * plan.ids // 2, number * plan.ids // 2 + plan.ids)
            counter.track_many(ids, bucket=source, date=YESTERDAY)
            load(counter, source, ids[: plan.members], back, YESTERDAY)
            remain |= set(ids[plan.members - back :])
        server.client.slowlog_reset()
        before, memory, begin = server_us(server), peak_megabytes(), perf_counter()
        done = {collapsed.bucket: collapsed.count for collapsed in counter.collapse()}
        seconds = perf_counter() - begin
        spent = (server_us(server) - before) / 1000
        duration, command = slowest(server)
        off = abs(done["all"] - len(remain)) / done["all"].stderr
        grown = peak_megabytes() - memory
        return Collapse(plan.sources, plan.members, back, seconds, spent, duration, command, grown, off)


def peak_megabytes() -> float:
    """The peak of this process's memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tables(of_pushes: Sequence[Push], of_collapses: Sequence[Collapse], plan: Plan) -> list[Table]:
    """The results."""
    first = table(
        f"A push of {plan.events:,} new ids to a bucket",
        "ids in the side table",
        "server, us",
        "to none",
        "slowest command, us",
        caption="moving: another process moves an id before each push. Slow: at least 1 ms, else 0.",
    )
    for row in of_pushes:
        name = f"{row.members:,}{', moving' if row.moving else ''}"
        ratio = row.server_us / of_pushes[0].server_us
        first.add_row(name, f"{row.server_us:,.0f}", f"{ratio:.2f}", f"{row.slowest_us:,}")
    second = table(
        f"Collapse of {plan.sources} buckets and their union",
        "ids in each side table, back",
        "seconds",
        "server, ms",
        "slowest command, us",
        "which",
        "peak memory, MB",
        "off, standard errors",
        caption="Everything, the buckets' own counts included; memory above that of the process before.",
    )
    for result in of_collapses:
        second.add_row(
            f"{result.members:,}, {result.back:,}",
            f"{result.seconds:.2f}",
            f"{result.server_ms:,.0f}",
            f"{result.slowest_us:,}",
            result.slowest,
            f"{result.megabytes:,.0f}",
            f"{result.off:.1f}",
        )
    return [first, second]


@click.command(help="What ids that moved cost the server.")
@options
def main(*, server: str, quick: bool, file: Path | None, plot: Path | None) -> None:
    """Measure and print."""
    plan = QUICK if quick else FULL
    canvas = axes(plot)
    with serve(server) as running:
        running.client.config_set("slowlog-log-slower-than", 1000)
        running.client.config_set("slowlog-max-len", 1000)
        of_pushes = [
            pushes(running, plan, members, moving=moving)
            for moving in (False, True)
            for members in plan.tables
        ]
        # Those with few ids back come first, as the peak of memory never falls.
        of_collapses = [collapse(running, plan, back) for back in (plan.members // 10, plan.members)]
        show(running.environment, *tables(of_pushes, of_collapses, plan))
        save_json(
            file,
            running.environment,
            pushes=[asdict(row) for row in of_pushes],
            collapses=[asdict(row) for row in of_collapses],
        )
        if canvas is not None and plot is not None:
            figure, drawn = canvas
            names = [f"{row.members:,}{', moving' if row.moving else ''}" for row in of_pushes]
            drawn.barh(names, [row.server_us for row in of_pushes])
            drawn.set_xlabel("microseconds of the server a push")
            figure.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
