"""What a cluster costs next to one server, and what it does while one of its nodes hangs.

Calls: the same calls on one server and on a cluster of three masters, in turns. All of it runs on one
machine, so this is what routing costs; what several machines gain is not seen here.

Collapse: of buckets with dense sketches, out of a tenth of which ids were moved, and aggregates of a hundred
buckets each: what a bucket costs, and the slowest command, during which a server answers nobody else.

Hang: how many buckets a second a writer pushes to the other nodes while one hangs that has no replica.

    python benchmarks/cluster.py --server redis --only collapse
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import click
from _cluster import Servers, serve_cluster
from _common import Ratio, Server, axes, cell, options, quotient, save_json, serve, show, table
from moves import load
from rich.table import Table

from activity_tracker_hll import ActivityTracker, BufferedTracker, HyperLogLog
from activity_tracker_hll.scripts.calls import SCRIPTS

PARTS = ("calls", "collapse", "hang")
SECRET = "with one, nobody has chosen the ids"  # noqa: S105 (of nothing)
TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
SOURCES = 100
"""Of an aggregate."""
PER_BATCH = 200
SLOW_US = 100
CONFIG = {"slowlog-log-slower-than": str(SLOW_US), "slowlog-max-len": "100000"}
MOST_TO_MANY, SLOWEST_MS, LEAST_WHILE_HUNG = 1.2, 10, 0.7
"""What is to be kept: the cost of a bucket among many to that among few, the slowest command, the rate of
pushes to that before."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is; the second set of numbers is that of --quick."""

    calls: int = 1000
    ids: int = 100_000
    buckets: int = 1000
    ids_a_bucket: int = 100
    lookup_days: int = 365
    lookup_buckets: int = 50
    collapsed: tuple[int, ...] = (1000, 10_000)
    ids_a_sketch: int = 20_000
    sketches: int = 50
    moved: int = 200
    hang_buckets: int = 300
    events_per_s: int = 20_000
    hang_s: float = 20

    @classmethod
    def quick(cls) -> Sizes:
        """For a smoke run."""
        return cls(50, 1000, 20, 10, 5, 2, (100, 200), 4000, 3, 20, 30, 2000, 1.5)


# Calls


class Call(NamedTuple):
    """A call on one server or on a cluster; `prepare` is called before each run, and not timed."""

    prepare: Callable[[], object]
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds of a call on one server and on the cluster, and how many times as long it takes there."""

    what: str
    one_s: float
    cluster_s: float
    ratio: Ratio

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return {**asdict(self), "ratio": self.ratio._asdict()}


def track(counter: ActivityTracker, _servers: Servers, sizes: Sizes) -> Call:
    """One event a call."""
    source = random.Random(1)
    buckets = [f"b{index}" for index in range(sizes.buckets)]

    def run() -> None:
        for _ in range(sizes.calls):
            counter.track(id=source.getrandbits(64), bucket=source.choice(buckets))

    return Call(lambda: None, run)


def track_many(counter: ActivityTracker, _servers: Servers, sizes: Sizes) -> Call:
    """Many ids of a bucket."""
    ids = [f"u{number:016x}" for number in range(sizes.ids)]
    return Call(lambda: None, lambda: counter.track_many(ids, bucket="b"))


def lookup(counter: ActivityTracker, _servers: Servers, sizes: Sizes) -> Call:
    """Stored counts."""
    days = [TODAY - timedelta(days=back) for back in range(sizes.lookup_days, 0, -1)]
    buckets = [f"b{index}" for index in range(sizes.lookup_buckets)]
    for day in days:
        period = f"daily-{day:%Y%m%d}"
        counter.backend.execute(
            [("SET", counter.backend.keys.bucket(period, bucket).counted, 1) for bucket in buckets]
        )

    def run() -> None:
        rows = counter.lookup("daily", start=days[0], end=TODAY, buckets=buckets)
        if sum(sum(counts.values()) for _, counts in rows) != len(days) * len(buckets):
            raise click.ClickException("lookup did not find what there is")

    return Call(lambda: None, run)


def collapse_few(counter: ActivityTracker, servers: Servers, sizes: Sizes) -> Call:
    """The collapse of the second part, of as few buckets as there."""
    sketches = sketches_of(sizes)
    names = buckets_of(sizes.collapsed[0])

    def prepare() -> None:
        servers.flush()
        fill(counter, names, sketches, sizes)

    return Call(prepare, lambda: counter.collapse(buckets=names, aggregate_buckets=aggregates_of(names)))


def flush(counter: ActivityTracker, servers: Servers, sizes: Sizes) -> Call:
    """All buckets of a writer have new ids."""
    writer = counter.buffered(flush_interval=3600, refresh_interval=3600)
    source = random.Random(1)

    def prepare() -> None:
        servers.flush()
        for number in range(sizes.buckets):
            writer.track_many(
                [source.getrandbits(62) for _ in range(sizes.ids_a_bucket)], bucket=f"b{number}"
            )

    def run() -> None:
        if writer.flush().pending:
            raise click.ClickException("a flush left something behind")

    return Call(prepare, run)


def compare(sides: Sequence[Servers], sizes: Sizes, rounds: int) -> list[Compared]:
    """Each call on both sides, in turns, after a round to warm up."""
    few = sizes.collapsed[0]
    shown: dict[str, Callable[[ActivityTracker, Servers, Sizes], Call]] = {
        "track": track,
        f"track_many, {sizes.ids:,} ids": track_many,
        f"lookup, {sizes.lookup_days} days of {sizes.lookup_buckets} buckets": lookup,
        f"collapse, {few:,} buckets and {few // SOURCES} aggregates": collapse_few,
        f"flush, {sizes.buckets:,} buckets": flush,
    }
    compared = []
    for what, make in shown.items():
        with ExitStack() as stack:
            calls = []
            for servers in sides:
                servers.flush()
                counter = stack.enter_context(servers.tracker(timezone="UTC"))
                calls.append((servers, make(counter, servers, sizes)))
            seconds: dict[str, list[float]] = {servers.name: [] for servers in sides}
            for _ in range(rounds + 1):
                for servers, call in calls:
                    call.prepare()
                    begin = perf_counter()
                    call.run()
                    seconds[servers.name].append(perf_counter() - begin)
                calls.reverse()
        one, cluster = (values[1:] for values in seconds.values())
        each = sizes.calls if make is track else 1
        rates = [[1 / value for value in values] for values in (one, cluster)]
        compared.append(Compared(what, median(one) / each, median(cluster) / each, Ratio.of_rates(*rates)))
    return compared


# Collapse


@dataclass(frozen=True, slots=True)
class Collapse:
    """A collapse of many buckets: medians of the rounds, and the slowest command of any node.

    CPU time, of this process and of the servers, depends less on what else the machine does.
    """

    servers: str
    has_secret: bool
    buckets: int
    aggregates: int
    seconds: float
    cpu_s: float
    slowest_us: int
    slowest: str

    @property
    def bucket_us(self) -> float:
        """What a bucket costs in CPU time; aggregates count as none."""
        return 1e6 * self.cpu_s / self.buckets


def buckets_of(count: int) -> list[str]:
    """Names of buckets."""
    return [f"b{index}" for index in range(count)]


def aggregates_of(buckets: Sequence[str]) -> dict[str, list[str]]:
    """Each bucket is in one."""
    return {
        f"all{start}": list(buckets[start : start + SOURCES]) for start in range(0, len(buckets), SOURCES)
    }


def sketches_of(sizes: Sizes, secret: str | None = None) -> list[bytes]:
    """Dense sketches, each of other ids."""
    made = []
    for number in range(sizes.sketches):
        ids = range(number * sizes.ids_a_sketch, (number + 1) * sizes.ids_a_sketch)
        made.append(HyperLogLog(ids, secret=secret).to_bytes())
    return made


def fill(counter: ActivityTracker, buckets: Sequence[str], sketches: Sequence[bytes], sizes: Sizes) -> None:
    """Sketches of yesterday in each bucket; some ids have left each tenth, and a few of them are back."""
    backend, name = counter.backend, f"daily-{YESTERDAY:%Y%m%d}"
    counter.track(id="anyone", bucket=buckets[0])
    commands: list[tuple[str, str, bytes | str]] = [("SADD", backend.keys.open, name)]
    # The night before all was counted, so it is not looked back any further.
    before = backend.keys.counts(
        f"daily-{YESTERDAY - timedelta(days=1):%Y%m%d}", (*buckets, *aggregates_of(buckets))
    )
    commands += [("SET", key, "1") for key in before]
    for index, bucket in enumerate(buckets):
        commands.append(("SET", backend.keys.bucket(name, bucket).hll, sketches[index % len(sketches)]))
    for start in range(0, len(commands), PER_BATCH):
        backend.execute(commands[start : start + PER_BATCH])
    for bucket in buckets[::10]:
        load(counter, bucket, range(sizes.moved), sizes.moved // 10, YESTERDAY)


def slow(servers: Servers) -> dict[str, int]:
    """Microseconds of the slow commands of all nodes, except for our own queries, by their first words."""
    found: dict[str, int] = {}
    for node in servers.nodes:
        entries: Any = node.client.slowlog_get(-1)
        for entry in entries:
            words = " ".join(entry["command"].decode("utf-8", "replace").split(" ")[:4])
            if not words.upper().startswith(("SLOWLOG", "INFO", "FLUSHDB")):
                found[words] = max(found.get(words, 0), entry["duration"])
    return found


def slowest(rounds: Sequence[Mapping[str, int]]) -> tuple[int, str]:
    """Microseconds and name of the slowest command; of each, its fastest round counts.

    A command during which the machine does something else, of which there are some in each round, would
    otherwise be the slowest.
    """
    common = set.intersection(*map(set, rounds))
    fastest = {words: min(each[words] for each in rounds) for words in common}
    if not fastest:
        return SLOW_US, "none as slow"
    worst = max(fastest, key=lambda words: fastest[words])
    name, first, *_ = [*worst.split(" "), ""]
    scripts = {script.sha: script.name for script in SCRIPTS}
    return fastest[worst], f"{scripts[first]}.lua" if name == "EVALSHA" else name


def collapses(sides: Sequence[Servers], sizes: Sizes, rounds: int) -> list[Collapse]:
    """Few and many buckets, without a secret (each sketch is read) and with one; all find the same."""
    rows = []
    for secret in (None, SECRET):
        sketches = sketches_of(sizes, secret)
        for count in sizes.collapsed:
            found = [_collapse(servers, sizes, sketches, secret, count, rounds) for servers in sides]
            if any(counts != found[0][1] for _, counts in found):
                raise click.ClickException("counts of one server and of the cluster differ")
            rows += [row for row, _ in found]
    return rows


def _collapse(
    servers: Servers, sizes: Sizes, sketches: Sequence[bytes], secret: str | None, count: int, rounds: int
) -> tuple[Collapse, Mapping[str | None, tuple[int, float]]]:
    buckets = buckets_of(count)
    aggregates = aggregates_of(buckets)
    seconds: list[float] = []
    of_cpu: list[float] = []
    slow_ones: list[dict[str, int]] = []
    for _ in range(rounds + 1):
        servers.flush()
        with servers.tracker(timezone="UTC", secret=secret) as counter:
            fill(counter, buckets, sketches, sizes)
            for node in servers.nodes:
                node.client.slowlog_reset()
            begin, spent = perf_counter(), cpu_s(servers)
            done = counter.collapse(buckets=buckets, aggregate_buckets=aggregates)
            seconds.append(perf_counter() - begin)
            of_cpu.append(cpu_s(servers) - spent)
        slow_ones.append(slow(servers))
    counts = {each.bucket: (int(each.count), each.count.stderr) for each in done}
    if len(counts) != len(buckets) + len(aggregates):
        raise click.ClickException("collapse did not count what is due")
    duration, name = slowest(slow_ones)
    medians = median(seconds[1:]), median(of_cpu[1:])
    row = Collapse(servers.name, secret is not None, count, len(aggregates), *medians, duration, name)
    return row, counts


def cpu_s(servers: Servers) -> float:
    """Seconds of CPU that this process and the servers have used."""
    used: list[Any] = [node.client.info("cpu") for node in servers.nodes]
    return process_time() + float(sum(each["used_cpu_user"] + each["used_cpu_sys"] for each in used))


# Hang


@dataclass(frozen=True, slots=True)
class Hang:
    """What the others get before and while a node hangs: buckets pushed a second, and the longest silence."""

    before: float
    while_hung: float
    longest_before_s: float
    longest_while_hung_s: float

    @property
    def ratio(self) -> float | None:
        """Of the rates; None if nothing was pushed before."""
        return quotient(self.while_hung, self.before)


@contextmanager
def loaded(writer: BufferedTracker, sizes: Sizes) -> Iterator[None]:
    """Meanwhile a thread tracks events, evenly in time and over buckets."""
    source, stop = random.Random(1), threading.Event()
    buckets = buckets_of(sizes.hang_buckets)

    def work() -> None:
        done, began = 0, perf_counter()
        while not stop.wait(0.005):
            until = int((perf_counter() - began) * sizes.events_per_s)
            for _ in range(until - done):
                writer.track(id=source.getrandbits(62), bucket=source.choice(buckets))
            done = until

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def pushed(nodes: Sequence[Server], seconds: float) -> tuple[float, float]:
    """Buckets that are pushed to nodes in a second, in the mean, and the longest time without any."""
    first = before = _pushes(nodes)
    began = last = now = perf_counter()
    longest = 0.0
    while now < began + seconds:
        time.sleep(0.05)
        count, now = _pushes(nodes), perf_counter()
        if count > before:
            longest, last = max(longest, now - last), now
        before = count
    return (before - first) / (now - began), max(longest, now - last)


def _pushes(nodes: Sequence[Server]) -> int:
    """A push to a bucket with a dense sketch is a script, or PFADD if few registers rose."""
    stats: list[Any] = [node.client.info("commandstats") for node in nodes]
    names = ("cmdstat_evalsha", "cmdstat_pfadd")
    return sum(each[name]["calls"] for each in stats for name in names if name in each)


def hang(cluster: Servers, sizes: Sizes) -> Hang:
    """A writer under load, before and while a node hangs; in the end nothing is missing."""
    cluster.flush()
    hung, *others = cluster.nodes
    with cluster.tracker(timezone="UTC") as counter, counter.buffered(refresh_interval=3600) as writer:
        for bucket in buckets_of(sizes.hang_buckets):
            counter.track_many(range(sizes.ids_a_sketch), bucket=bucket)
        with loaded(writer, sizes):
            time.sleep(sizes.hang_s / 4)
            before, longest_before = pushed(others, sizes.hang_s)
            with cluster.hanging(hung):
                during, longest = pushed(others, sizes.hang_s)
        if writer.flush(60).pending:
            raise click.ClickException("the node that hung did not get what it missed")
    return Hang(before, during, longest_before, longest)


# Tables


def call_table(rows: Sequence[Compared], rounds: int) -> Table:
    """Calls on both sides."""
    made = table(
        "Calls",
        "",
        "one server, ms",
        "cluster, ms",
        "times as long",
        caption=f"Medians of {rounds} rounds, and the quartiles of the ratios of single rounds.",
    )
    for row in rows:
        made.add_row(row.what, f"{1000 * row.one_s:,.2f}", f"{1000 * row.cluster_s:,.2f}", str(row.ratio))
    return made


def collapse_table(rows: Sequence[Collapse]) -> Table:
    """What a bucket costs among few and among many."""
    made = table(
        "Collapse",
        "",
        "aggregates",
        "seconds",
        "CPU us a bucket",
        "to few",
        "slowest command, ms",
        "which",
        caption=f"To be kept: to few {MOST_TO_MANY}, slowest command {SLOWEST_MS} ms.",
    )
    for row in rows:
        made.add_row(
            f"{row.servers}{', secret' if row.has_secret else ''}, {row.buckets:,} buckets",
            f"{row.aggregates:,}",
            f"{row.seconds:.2f}",
            f"{row.bucket_us:,.0f}",
            f"{row.bucket_us / few_of(row, rows).bucket_us:.2f}",
            f"{row.slowest_us / 1000:.2f}",
            row.slowest,
        )
    return made


def few_of(row: Collapse, rows: Sequence[Collapse]) -> Collapse:
    """The collapse of fewest buckets on the same servers."""
    alike = [other for other in rows if (other.servers, other.has_secret) == (row.servers, row.has_secret)]
    return min(alike, key=lambda other: other.buckets)


def hang_table(row: Hang, sizes: Sizes) -> Table:
    """Rates of pushes."""
    made = table(
        f"One node of three hangs, {sizes.hang_buckets} buckets, {sizes.events_per_s:,} events/s",
        "what the two others get",
        "before",
        "while it hangs",
        "ratio",
        caption=f"For {sizes.hang_s:g} s each. To be kept: a ratio of {LEAST_WHILE_HUNG}.",
    )
    made.add_row(
        "buckets pushed a second", f"{row.before:,.0f}", f"{row.while_hung:,.0f}", cell(row.ratio, ".2f")
    )
    made.add_row(
        "longest time without any, s", f"{row.longest_before_s:.2f}", f"{row.longest_while_hung_s:.2f}", ""
    )
    return made


@click.command(help="A cluster next to one server, much to collapse, and a node that hangs.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, help="Only this part; repeatable.")
def main(
    server: str, quick: bool, file: Path | None, plot: Path | None, rounds: int, parts: tuple[str, ...]
) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    sizes, rounds = (Sizes.quick(), 2) if quick else (Sizes(), rounds)
    chosen = parts or PARTS
    with serve(server, config=CONFIG) as one, serve_cluster(server, config=CONFIG) as cluster:
        sides = [Servers("one server", [one]), cluster]
        compared = compare(sides, sizes, rounds) if "calls" in chosen else []
        collapsed = collapses(sides, sizes, min(rounds, 3)) if "collapse" in chosen else []
        hung = hang(cluster, sizes) if "hang" in chosen else None
    tables = [call_table(compared, rounds)] if compared else []
    tables += [collapse_table(collapsed)] if collapsed else []
    tables += [hang_table(hung, sizes)] if hung else []
    show(one.environment, *tables)
    save_json(
        file,
        one.environment,
        calls=[row.as_json() for row in compared],
        collapses=[
            {
                **asdict(row),
                "us_a_bucket": row.bucket_us,
                "to_few": row.bucket_us / few_of(row, collapsed).bucket_us,
            }
            for row in collapsed
        ],
        hang=hung and {**asdict(hung), "ratio": hung.ratio},
    )
    if canvas is not None and plot is not None:
        figure, subplot = canvas
        subplot.barh([row.what for row in compared], [row.ratio.median for row in compared])
        subplot.axvline(1, color="grey", linewidth=0.8)
        subplot.invert_yaxis()
        subplot.set_xlabel("times as long on the cluster as on one server")
        figure.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
