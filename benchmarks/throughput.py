"""Speed and memory next to activity-tracker 0.0.5 and next to plain commands through redis-py.

All contestants use one server, over TCP, in the same run and in turns (A B C, B C A, ...), so that what else
the machine does hits all alike. Compare ratios, not absolute rates. A ratio is one of medians; the two
numbers after it are the quartiles of the ratios of single rounds.

    python benchmarks/throughput.py --server redis --plot throughput.png
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any, NamedTuple

import click
from _common import HOST, Server, axes, options, save_json, serve, show, table, tracker
from activity_tracker.tracker import ActivityTracker as ExactTracker
from rich.table import Table

from activity_tracker_hll import PeriodKind

OURS, EXACT, PLAIN = "activity-tracker-hll", "activity-tracker", "plain"
BUCKET = "site"
# The sets of activity-tracker keep the usual name; a tracker of ours in that namespace would count them.
NAMESPACE = "bench"
PER_CALL = 1000


class Entry(NamedTuple):
    """What one contestant does in a round, and the number of calls or ids in it."""

    run: Callable[[], object]
    amount: int


@dataclass(frozen=True, slots=True)
class Contest:
    """Contestants that do the same; `prepare` is called before each run and not timed."""

    what: str
    unit: str
    entries: dict[str, Entry]
    prepare: Callable[[], object]
    target: float | None = None

    def measure(self, rounds: int) -> Result:
        """Rates of all contestants, in turns; the first round is for warming up."""
        rates: dict[str, list[float]] = {name: [] for name in self.entries}
        order = list(self.entries.items())
        for number in range(rounds + 1):
            for name, entry in order:
                self.prepare()
                begin = perf_counter()
                entry.run()
                rates[name].append(entry.amount / (perf_counter() - begin))
            order.append(order.pop(0))
            if not number:
                rates = {name: [] for name in self.entries}
        return Result(self.what, self.unit, rates, self.target)


@dataclass(frozen=True, slots=True)
class Result:
    """The rate of each contestant in each round, or its bytes, of which less is better."""

    what: str
    unit: str
    values: dict[str, list[float]]
    target: float | None = None

    def ratio(self, other: str) -> float | None:
        """How many times better this library is than another; None if that one did not take part."""
        if other not in self.values:
            return None
        ours, theirs = median(self.values[OURS]), median(self.values[other])
        return theirs / ours if self.unit == "bytes" else ours / theirs

    def spread(self, other: str) -> tuple[float, float] | None:
        """Quartiles of the ratios of single rounds."""
        pairs = zip(self.values[OURS], self.values.get(other, ()), strict=False)
        ratios = [ours / theirs for ours, theirs in pairs]
        if len(ratios) < 2:
            return None
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        return low, high

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return {
            "what": self.what,
            "unit": self.unit,
            "medians": {name: median(values) for name, values in self.values.items()},
            "rounds": len(self.values[OURS]),
            "ratio": self.ratio(EXACT),
            "ratio_quartiles": self.spread(EXACT),
            "ratio_to_plain": self.ratio(PLAIN),
            "target": self.target,
        }


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done in a round; the second set of numbers is that of --quick."""

    calls: int = 1000
    ids: int = 100_000
    single_ids: int = 4000
    memory_ids: int = 1_000_000
    buckets: int = 1000
    ids_per_bucket: int = 1000
    lookup_buckets: int = 50
    lookup_days: int = 365

    @classmethod
    def quick(cls) -> Sizes:
        """For a smoke run."""
        return cls(100, 3000, 200, 20_000, 20, 100, 5, 30)


def make_ids(count: int, seed: int = 1) -> list[str]:
    """Ids of 17 characters: 'u' and 16 hex digits."""
    source = random.Random(seed)
    return [f"u{source.getrandbits(64):016x}" for _ in range(count)]


def exact_tracker(server: Server, periods: Sequence[str] = ("daily",)) -> Any:
    """activity-tracker 0.0.5."""
    return ExactTracker(periods, "redis", host=HOST, port=server.port)


def track(server: Server, sizes: Sizes, periods: Sequence[PeriodKind], target: float) -> Contest:
    """One event a call, in the running period."""
    ours, exact = tracker(server, periods, namespace=NAMESPACE), exact_tracker(server, periods)
    ids, client = make_ids(sizes.calls), server.client
    keys = [f"plain:{period}" for period in periods]

    def tracked(library: Any) -> Callable[[], None]:
        def run() -> None:
            for id in ids:
                library.track(id=id, bucket=BUCKET)

        return run

    def plain() -> None:
        for id in ids:
            for key in keys:
                client.pfadd(key, id)

    runs = {OURS: tracked(ours), EXACT: tracked(exact), PLAIN: plain}
    entries = {name: Entry(run, sizes.calls) for name, run in runs.items()}
    named = "one period" if len(periods) == 1 else f"{' + '.join(periods)}"
    return Contest(f"track, {named}", "calls/s", entries, server.flush, target)


def track_many(server: Server, sizes: Sizes) -> Contest:
    """A list of ids; activity-tracker takes them one by one."""
    ours, exact = tracker(server, namespace=NAMESPACE), exact_tracker(server)
    ids = make_ids(sizes.ids)

    def one_by_one() -> None:
        for id in ids[: sizes.single_ids]:
            exact.track(id=id, bucket=BUCKET)

    entries = {
        OURS: Entry(lambda: ours.track_many(ids, bucket=BUCKET), sizes.ids),
        EXACT: Entry(one_by_one, sizes.single_ids),
        PLAIN: Entry(lambda: variadic(server, ids), sizes.ids),
    }
    return Contest("track_many", "ids/s", entries, server.flush)


def import_events(server: Server, sizes: Sizes) -> Contest:
    """Events of a week and four buckets, ordered by time; plain PFADD is given the ids of a single key."""
    ours, exact = tracker(server, namespace=NAMESPACE), exact_tracker(server)
    ids = make_ids(sizes.ids)
    begin = datetime.combine(date.today() - timedelta(days=7), time())
    step = timedelta(days=7) / len(ids)
    events = [(id, f"{BUCKET}{index % 4}", begin + index * step) for index, id in enumerate(ids)]

    def one_by_one() -> None:
        for id, bucket, moment in events[: sizes.single_ids]:
            exact.track(id=id, bucket=bucket, date=moment)

    entries = {
        OURS: Entry(lambda: ours.import_events(events), sizes.ids),
        EXACT: Entry(one_by_one, sizes.single_ids),
        PLAIN: Entry(lambda: variadic(server, ids), sizes.ids),
    }
    return Contest("import_events", "ids/s", entries, server.flush)


def variadic(server: Server, ids: Sequence[str]) -> None:
    """Plain PFADD of 1000 ids a call."""
    for start in range(0, len(ids), PER_CALL):
        server.client.pfadd("plain", *ids[start : start + PER_CALL])


def memory(server: Server, sizes: Sizes) -> Result:
    """All keys of one bucket; the set is filled as activity-tracker would, only faster."""
    server.flush()
    ids = make_ids(sizes.memory_ids)
    ours = tracker(server, namespace=NAMESPACE)
    ours.track_many(ids, bucket=BUCKET)
    exact_key = f"active:daily-{date.today():%Y%m%d}:raw:{BUCKET}"
    pipeline = server.client.pipeline(transaction=False)
    for start in range(0, len(ids), PER_CALL):
        pipeline.sadd(exact_key, *ids[start : start + PER_CALL])
        if not start % (100 * PER_CALL):
            pipeline.execute()
    pipeline.execute()
    keys = ours.backend.keys.bucket(f"daily-{date.today():%Y%m%d}", BUCKET)
    size = {OURS: [memory_of(server, *keys)], EXACT: [memory_of(server, exact_key)]}
    return Result(f"memory of {len(ids):,} ids", "bytes", size, 1000)


def memory_of(server: Server, *keys: str) -> float:
    """The bytes of some keys, counting every member."""
    sizes: list[Any] = [server.client.memory_usage(key, samples=0) for key in keys]
    return float(sum(size or 0 for size in sizes))


def collapse(server: Server, sizes: Sizes, secret: str | None = None) -> Contest:
    """Collapse buckets of yesterday as track() left them: ours lets sketches expire, theirs deletes its sets.

    Args:
        server: the server.
        sizes: the number of buckets and ids.
        secret: without one, every sketch is tested for chosen ids.
    """
    today = date.today()
    period = f"daily-{today - timedelta(days=1):%Y%m%d}"
    buckets = [f"b{index}" for index in range(sizes.buckets)]
    ours, exact = tracker(server, namespace=NAMESPACE, secret=secret), exact_tracker(server)
    sketches = [ours.backend.keys.bucket(period, bucket).hll for bucket in buckets]
    sets = [f"active:{period}:raw:{bucket}" for bucket in buckets]
    plain_sketches = [f"plain:{bucket}" for bucket in buckets]
    seed_collapse(server, sizes, "seed:hll", "seed:set")

    def refill() -> None:
        for pattern in (f"{NAMESPACE}:*", "active:*", "plain:*"):
            for found in batches(list(server.client.scan_iter(pattern, count=PER_CALL))):
                server.client.delete(*found)
        pipeline = server.client.pipeline(transaction=False)
        for index, (ours_key, set_key, plain_key) in enumerate(
            zip(sketches, sets, plain_sketches, strict=True)
        ):
            pipeline.copy(f"seed:hll:{index}", ours_key)
            pipeline.copy(f"seed:hll:{index}", plain_key)
            pipeline.copy(f"seed:set:{index}", set_key)
        pipeline.execute()

    def plain() -> None:
        pipeline = server.client.pipeline(transaction=False)
        for key in plain_sketches:
            pipeline.pfcount(key)
        counts = pipeline.execute()
        for key, count in zip(plain_sketches, counts, strict=True):
            pipeline.set(f"{key}:count", count)
            pipeline.expire(key, timedelta(days=35))
        pipeline.execute()

    runs: dict[str, Callable[[], object]] = {
        OURS: lambda: check_counts(ours.collapse(date=today, buckets=buckets, max_periods=1), sizes),
        EXACT: lambda: exact.collapse(date=today, buckets=buckets),
        PLAIN: plain,
    }
    entries = {name: Entry(run, sizes.buckets) for name, run in runs.items()}
    what = f"collapse, {sizes.ids_per_bucket:,} ids each" + (", with a secret" if secret else "")
    return Contest(what, "buckets/s", entries, refill, 3)


def seed_collapse(server: Server, sizes: Sizes, sketch: str, exact: str) -> None:
    """Sketches and sets that are copied before each round, and never counted themselves."""
    server.flush()
    pipeline = server.client.pipeline(transaction=False)
    for index in range(sizes.buckets):
        ids = make_ids(sizes.ids_per_bucket, seed=index)
        pipeline.pfadd(f"{sketch}:{index}", *ids)
        pipeline.sadd(f"{exact}:{index}", *ids)
        if index % 100 == 99:
            pipeline.execute()
    pipeline.execute()


def check_counts(collapsed: Sequence[Any], sizes: Sizes) -> None:
    """Check that a collapse did its work: one that did not would be fast."""
    total, expected = sum(row.count for row in collapsed), sizes.buckets * sizes.ids_per_bucket
    if len(collapsed) != sizes.buckets or not 0.98 < total / expected < 1.02:
        raise click.ClickException(f"collapse counted {total} ids in {len(collapsed)} buckets")


def lookup(server: Server, sizes: Sizes) -> Contest:
    """Look up stored counts, which all contestants read from the same keys."""
    server.flush()
    today = date.today()
    days = [today - timedelta(days=back) for back in range(sizes.lookup_days, 0, -1)]
    buckets = [f"b{index}" for index in range(sizes.lookup_buckets)]
    keys = [f"active:daily-{day:%Y%m%d}:{bucket}" for day in days for bucket in buckets]
    source = random.Random(1)
    pipeline = server.client.pipeline(transaction=False)
    for key in keys:
        pipeline.set(key, source.randrange(1_000_000))
    pipeline.execute()
    ours, exact = tracker(server), exact_tracker(server)
    ours.track(id="anyone")  # stores the settings: readers ask for them until there are some
    chosen: dict[str, Any] = {"start": days[0], "end": today, "buckets": buckets}
    if ours.lookup(**chosen) != exact.lookup(period="daily", **chosen):
        raise click.ClickException("the two libraries read different rows")

    def plain() -> None:
        values: Any = server.client.mget(keys)
        [int(value) for value in values]

    entries = {
        OURS: Entry(lambda: ours.lookup(**chosen), 1),
        EXACT: Entry(lambda: exact.lookup(period="daily", **chosen), 1),
        PLAIN: Entry(plain, 1),
    }
    what = f"lookup, {len(days)} days of {len(buckets)} buckets"
    return Contest(what, "calls/s", entries, lambda: None, 1)


def batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Slices of up to a thousand."""
    return (values[start : start + PER_CALL] for start in range(0, len(values), PER_CALL))


def measure_all(server: Server, sizes: Sizes, rounds: int) -> list[Result]:
    """Every measurement, one after the other."""
    many = rounds * 3  # these are short
    return [
        track(server, sizes, ["daily"], 0.85).measure(many),
        track(server, sizes, ["daily", "monthly"], 1.5).measure(many),
        track_many(server, sizes).measure(rounds),
        import_events(server, sizes).measure(rounds),
        memory(server, sizes),
        collapse(server, sizes).measure(rounds),
        collapse(server, sizes, "secret").measure(rounds),
        lookup(server, sizes).measure(rounds),
    ]


def as_table(results: Sequence[Result]) -> Table:
    """All results."""
    caption = (
        "Medians. Ratios: how many times better activity-tracker-hll is, the quartiles of single rounds after"
        " it.\nPlain: PFADD one id a call; for many ids 1000 a call; PFCOUNT, SET, EXPIRE in two pipelines;"
        " MGET.\nIds: 'u' and 16 hex digits."
    )
    columns = ("", "unit", "hll", EXACT, PLAIN, "ratio", "quartiles", "to plain", "target", "met")
    made = table("Throughput and memory", *columns, caption=caption)
    for result in results:
        medians = [f"{median(result.values[name]):,.0f}" if name in result.values else "" for name in
                   (OURS, EXACT, PLAIN)]  # fmt: skip
        ratio, spread, plain = result.ratio(EXACT), result.spread(EXACT), result.ratio(PLAIN)
        assert ratio is not None  # noqa: S101 (activity-tracker is in every contest)
        made.add_row(
            result.what,
            result.unit,
            *medians,
            f"{ratio:,.2f}",
            f"{spread[0]:.2f}-{spread[1]:.2f}" if spread else "",
            f"{plain:.2f}" if plain else "",
            f"{result.target:g}" if result.target else "",
            ("yes" if ratio >= result.target else "NO") if result.target else "",
        )
    return made


def draw(
    figure: Any, subplot: Any, results: Sequence[Result], environment: dict[str, str], plot: Path
) -> None:
    """Bars of the ratios, with marks at the targets."""
    names = [result.what for result in results]
    beyond = [(result.ratio(EXACT) or 1) - 1 for result in results]
    subplot.barh(names, beyond, left=1, color="#4477aa")
    aims = [(index, result.target) for index, result in enumerate(results) if result.target]
    subplot.scatter([aim for _, aim in aims], [index for index, _ in aims], marker="|", s=400, color="k")
    subplot.set_xscale("log")
    subplot.axvline(1, color="grey", linewidth=0.8)
    subplot.invert_yaxis()
    subplot.set_xlabel(f"times better than activity-tracker 0.0.5 (| target), {environment['server']}")
    figure.savefig(plot, dpi=120)


@click.command(help="Speed and memory next to activity-tracker 0.0.5 and plain commands, on one server.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
def main(server: str, quick: bool, file: Path | None, plot: Path | None, rounds: int) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    with serve(server) as running:
        results = measure_all(running, Sizes.quick() if quick else Sizes(), 2 if quick else rounds)
    show(running.environment, as_table(results))
    save_json(file, running.environment, results=[result.as_json() for result in results])
    if canvas is not None and plot is not None:
        draw(*canvas, results, running.environment, plot)


if __name__ == "__main__":
    main()
