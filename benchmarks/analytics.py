"""What sketches tell beyond counts: how exact it is, and what it costs.

Accuracy: ids in both of two sets, by the library, by inclusion and exclusion of its counts, and by a theta
sketch of DataSketches (extra ``bench``), which may take 16 KiB where ours takes 12. Root mean square errors
over trials with other ids each time.

Speed: windows, months and unions of a year next to the same questions by hand, PFCOUNT in a pipeline, and
next to chdb, which merges states of uniqCombined64(14) with window functions; on one server, in one run and
in turns. A matrix of retention. How time, memory and round trips grow with the number of buckets.

    python benchmarks/analytics.py --server redis --plot analytics.png
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import click
import numpy as np
from _common import (
    HOST,
    Goal,
    Ratio,
    Server,
    axes,
    cell,
    draw_goals,
    in_turns,
    options,
    quotient,
    save_json,
    serve,
    show,
    table,
    tracker,
)
from moves import load
from rich.table import Table

from activity_tracker_hll import ActivityTracker, HyperLogLog
from activity_tracker_hll.backends.base import Command, Reply
from activity_tracker_hll.backends.redis import RedisBackend
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import MAX_RANK, REGISTERS, Registers

try:
    from datasketches import theta_intersection, update_theta_sketch
except ImportError:
    HAS_THETA = False
else:
    HAS_THETA = True

PARTS = ("accuracy", "by hand", "chdb", "retention", "scale")
LG_K = 11  # hashes of 8 bytes: 16 KiB
OURS, INCLUSION, THETA = "activity-tracker-hll", "inclusion-exclusion", "theta, 16 KiB"
BY_HAND, CHDB = "PFCOUNT by hand", "chdb"
AS_FAST_AS_HAND, FASTER_THAN_CHDB, MATRIX_S, TRIPS = 0.9, 5.0, 0.3, 2.0
"""What is to be reached: ratios, seconds of a matrix of retention, round trips per 1,000 sketches."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is; the second set of numbers is that of --quick."""

    ids: tuple[int, ...] = (10_000, 100_000)
    jaccard: tuple[float, ...] = (0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 1)
    trials: int = 60
    days: int = 365
    buckets: int = 10
    windows: tuple[int, ...] = (1, 7, 28, 30)
    chdb_windows: tuple[int, ...] = (7, 28, 30)
    cohorts: int = 30
    ids_a_day: int = 100_000
    many_buckets: tuple[int, ...] = (10, 100, 1000)
    window: int = 28
    reading_buckets: tuple[int, ...] = (1, 10)
    moving_buckets: tuple[int, ...] = (1, 3)

    @classmethod
    def quick(cls) -> Sizes:
        """For a smoke run; two months have a whole one among them."""
        return cls((1000,), (0, 0.5), 3, 62, 2, (1, 3), (3,), 4, 1000, (2, 4), 3, (1, 2), (1, 2))


# Accuracy


@dataclass(frozen=True, slots=True)
class Errors:
    """Root mean square errors of the number of ids in both of two sets, in ids, by method."""

    ids: int
    jaccard: float
    trials: int
    errors: dict[str, float]
    coverage: float
    """How often the library's interval of 95 % held the number."""


def overlaps(sizes: Sizes) -> list[Errors]:
    """The errors for each number of ids and Jaccard index."""
    return [_overlap(ids, jaccard, sizes.trials) for ids in sizes.ids for jaccard in sizes.jaccard]


def _overlap(ids: int, jaccard: float, trials: int) -> Errors:
    dice = np.random.default_rng([ids, round(1000 * jaccard)])
    both = round(2 * ids * jaccard / (1 + jaccard))
    found: dict[str, list[float]] = {OURS: [], INCLUSION: [], **({THETA: []} if HAS_THETA else {})}
    held = 0
    for _ in range(trials):
        drawn = dice.integers(0, 2**62, 2 * ids - both)
        of_a, of_b = drawn[:ids], drawn[ids - both :]
        a, b = HyperLogLog(of_a), HyperLogLog(of_b)
        overlap = a.overlap(b)
        low, high = overlap.both.interval()
        held += low <= both <= high
        found[OURS].append(overlap.both)
        found[INCLUSION].append(a.count() + b.count() - (a | b).count())
        if HAS_THETA:
            found[THETA].append(_theta(of_a, of_b))
    errors = {
        name: float(np.sqrt(np.mean((np.array(numbers) - both) ** 2))) for name, numbers in found.items()
    }
    return Errors(ids, jaccard, trials, errors, held / trials)


def _theta(of_a: Any, of_b: Any) -> float:
    sketches = []
    for ids in (of_a, of_b):
        sketch = update_theta_sketch(LG_K)
        for id in ids.tolist():
            sketch.update(id)
        sketch.trim()  # to the size it is named by: until then it is up to twice as large
        sketches.append(sketch)
    both = theta_intersection()
    for sketch in sketches:
        both.update(sketch)
    estimate: float = both.get_result().get_estimate()
    return estimate


def error_table(errors: Sequence[Errors]) -> Table:
    """Errors in ids, and how often the interval held the number."""
    names = list(errors[0].errors)
    title = "Ids in both sets: root mean square error, ids; ours has 12 KiB a set"
    if HAS_THETA:
        title += ", theta 16 KiB, the next power of two above 12 KiB"
    shown = table(title, "ids each", "Jaccard", *names, "95 % held")
    for row in errors:
        cells = [f"{row.errors[name]:,.0f}" for name in names]
        shown.add_row(f"{row.ids:,}", f"{row.jaccard:g}", *cells, f"{row.coverage:.0%}")
    return shown


# A year


def simulated(dice: np.random.Generator, ids: int) -> Registers:
    """The registers of so many random ids, drawn one by one."""
    fallen = dice.multinomial(ids, np.full(REGISTERS, 1 / REGISTERS))
    with np.errstate(divide="ignore"):  # P(rank <= k) = (1 - 2^-k)^fallen
        rank = np.ceil(-np.log2(-np.expm1(-dice.exponential(size=REGISTERS) / fallen)))
    return np.where(fallen == 0, 0, np.clip(rank, 1, MAX_RANK)).astype(np.uint8)


def last_days(count: int) -> list[date]:
    """So many days, until yesterday."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=back) for back in range(count, 0, -1)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of the library, and of another way, in the same rounds."""

    what: str
    other: str
    seconds: dict[str, list[float]]
    goal: float

    @property
    def reached(self) -> Goal:
        """How many times faster the library is."""
        rates = ([1 / spent for spent in self.seconds[name]] for name in (OURS, self.other))
        return Goal(f"{self.what}, to {self.other}", Ratio.of_rates(*rates), self.goal)

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        medians = {name: median(spent) for name, spent in self.seconds.items()}
        return {"other": self.other, "seconds": medians, **self.reached.as_json(), "what": self.what}


class Year:
    """A year of some buckets on a server, each day collapsed, and each month that is over.

    The month in which the year begins is there as well, as it is where a tracker began with both.
    """

    def __init__(self, server: Server, sizes: Sizes, rounds: int) -> None:
        server.flush()
        self.server, self.sizes, self.rounds = server, sizes, rounds
        self.days = last_days(sizes.days)
        self.today = self.days[-1] + timedelta(days=1)
        firsts = [day for day in (*self.days, self.today) if day.day == 1]
        self.months = list(pairwise(firsts))
        self.buckets = [f"b{index}" for index in range(sizes.buckets)]
        self.ours = tracker(
            server, ["daily", "monthly"], buckets=self.buckets, timezone="UTC", keep_sketches=None
        )
        self.ours.track(id="anyone", bucket=self.buckets[0])
        self._fill()

    def _fill(self) -> None:
        dice = np.random.default_rng(1)
        by_month: dict[tuple[str, str], list[Registers]] = {}
        for day in self.days:
            for bucket in self.buckets:
                registers = simulated(dice, self.sizes.ids_a_day)
                self._set(f"daily-{day:%Y%m%d}", bucket, registers)
                by_month.setdefault((f"monthly-{day:%Y%m}", bucket), []).append(registers)
        running = f"monthly-{self.today:%Y%m}"
        for (name, bucket), of_days in by_month.items():
            if name != running:
                self._set(name, bucket, reduce(np.maximum, of_days))

    def _set(self, period: str, bucket: str, registers: Registers) -> None:
        keys = self.ours.backend.keys.bucket(period, bucket)
        self.server.client.mset({keys.hll: codec.encode(registers), keys.counted: self.sizes.ids_a_day})

    def by_hand(self) -> Iterator[Comparison]:
        """All questions next to PFCOUNT in a pipeline."""
        for size in self.sizes.windows:
            yield self._windows(
                f"rolling({size}), {len(self.days)} days, {len(self.buckets)} buckets", size, self.days
            )
        yield self._windows(f"DAU, rolling(1), 90 days, {len(self.buckets)} buckets", 1, self.days[-90:])
        yield from (self._months(period) for period in ("daily", "monthly"))
        yield self._all_months()
        yield self._unions()

    def _compare(
        self, what: str, ours: Callable[[], list[Any]], by_hand: Callable[[], list[Any]]
    ) -> Comparison:
        if ours() != by_hand():
            raise click.ClickException(f"{what}: the library and PFCOUNT differ")
        seconds = in_turns({OURS: ours, BY_HAND: by_hand}, self.rounds, lambda: None)
        return Comparison(what, BY_HAND, seconds, AS_FAST_AS_HAND)

    def rolling(self, size: int, days: Sequence[date]) -> list[list[Any]]:
        """Trailing windows by the library: the counts of each bucket."""
        series = self.ours.rolling(size, start=days[size - 1], end=self.today)
        return [[row.estimates[bucket] for row in series] for bucket in self.buckets]

    def _windows(self, what: str, size: int, days: Sequence[date]) -> Comparison:
        def by_hand() -> list[list[int]]:
            pipeline = self.server.client.pipeline(transaction=False)
            for bucket in self.buckets:
                keys = _keys(days, bucket)
                for end in range(size, len(keys) + 1):
                    pipeline.pfcount(*keys[end - size : end])
            counts = pipeline.execute()
            rows = len(days) - size + 1
            return [counts[start : start + rows] for start in range(0, len(counts), rows)]

        return self._compare(what, lambda: self.rolling(size, days), by_hand)

    def _months(self, period: Any) -> Comparison:
        """A call for each month; by days, or by the months' own sketches, which the library has to choose."""
        chosen = {"period": period} if period == "daily" else {}

        def by_hand() -> list[list[int]]:
            found = []
            for first, end in self.months:
                pipeline = self.server.client.pipeline(transaction=False)
                days = [first + timedelta(days=past) for past in range((end - first).days)]
                for bucket in self.buckets:
                    keys = _keys(days, bucket) if chosen else _monthly([first], bucket)
                    pipeline.pfcount(*keys)
                found.append(pipeline.execute())
            return found

        def ours() -> list[list[Any]]:
            return [list(self.ours.unique(*month, **chosen).values()) for month in self.months]

        how = 'unique(month, period="daily")' if chosen else "unique(month)"
        return self._compare(f"MAU, {how}, {len(self.months)} calls", ours, by_hand)

    def _all_months(self) -> Comparison:
        def by_hand() -> list[list[int]]:
            pipeline = self.server.client.pipeline(transaction=False)
            for first, _ in self.months:
                for bucket in self.buckets:
                    pipeline.pfcount(*_monthly([first], bucket))
            counts = pipeline.execute()
            return [
                counts[start : start + len(self.buckets)]
                for start in range(0, len(counts), len(self.buckets))
            ]

        def ours() -> list[list[Any]]:
            series = self.ours.rolling(1, period="monthly", start=self.months[0][0], end=self.months[-1][1])
            return [list(row.estimates.values()) for row in series]

        return self._compare(f'MAU, rolling(1, period="monthly"), {len(self.months)} months', ours, by_hand)

    def _unions(self) -> Comparison:
        def by_hand() -> list[int]:
            pipeline = self.server.client.pipeline(transaction=False)
            columns = [_keys(self.days, bucket) for bucket in self.buckets]
            for keys in zip(*columns, strict=True):
                pipeline.pfcount(*keys)
            counts: list[int] = pipeline.execute()
            return counts

        def ours() -> list[Any]:
            series = self.ours.rolling(
                1, start=self.days[0], end=self.today, aggregate_buckets={"all": self.buckets}
            )
            return [row.estimates["all"] for row in series]

        return self._compare(
            f"union of {len(self.buckets)} buckets, each of {len(self.days)} days", ours, by_hand
        )

    def chdb(self) -> Iterator[Comparison]:
        """Trailing windows next to chdb in this process; nothing where it is not installed."""
        with _session() as query:
            if query is None:
                click.echo("chdb is missing: its part is left out (pip install chdb, or the extra 'bench')")
                return
            query(
                "CREATE TABLE a.days (bucket UInt16, day Date, ids AggregateFunction(uniqCombined64(14),"
                " UInt64)) ENGINE = MergeTree ORDER BY (bucket, day)"
            )
            # The states of a day are the same in all buckets: they take as long to merge.
            query(
                f"INSERT INTO a.days SELECT arrayJoin(range({len(self.buckets)})), day, ids FROM (SELECT"  # noqa: S608
                f" toDate('{self.days[0]}') + number % {len(self.days)} AS day,"
                " uniqCombined64State(14)(rand64()) AS ids"
                f" FROM numbers({len(self.days) * self.sizes.ids_a_day}) GROUP BY day)"
            )
            for size in self.sizes.chdb_windows:
                yield self._to_chdb(query, size)

    def _to_chdb(self, query: Callable[[str], bytes], size: int) -> Comparison:
        """A window function, which keeps no copies: as fast as arrays of states, 5 % faster than any join."""
        sql = (
            "SELECT bucket, day, uniqCombined64Merge(14)(ids) OVER (PARTITION BY bucket ORDER BY day"  # noqa: S608
            f" ROWS BETWEEN {size - 1} PRECEDING AND CURRENT ROW) AS count FROM a.days"
        )
        rows = [line.split(b",") for line in query(f"{sql} ORDER BY bucket, day FORMAT CSV").splitlines()]
        counts = np.array([int(row[2]) for row in rows]).reshape(len(self.buckets), -1)[:, size - 1 :]
        mine = np.array(self.rolling(size, self.days), dtype=np.int64)
        if counts.shape != mine.shape or abs(counts / mine - 1).max() > 0.1:
            raise click.ClickException(f"chdb counts other windows of {size} days than the library")
        runs = {OURS: lambda: self.rolling(size, self.days), CHDB: lambda: query(f"{sql} FORMAT Native")}
        what = f"rolling({size}), {len(self.days)} days, {len(self.buckets)} buckets"
        return Comparison(what, CHDB, in_turns(runs, min(self.rounds, 3), lambda: None), FASTER_THAN_CHDB)


def _keys(days: Sequence[date], bucket: str) -> list[str]:
    """The sketches of some days, as who asks by hand writes them."""
    return [f"{{active:daily-{day:%Y%m%d}:{bucket}}}:hll" for day in days]


def _monthly(firsts: Sequence[date], bucket: str) -> list[str]:
    return [f"{{active:monthly-{first:%Y%m}:{bucket}}}:hll" for first in firsts]


@contextmanager
def _session() -> Iterator[Callable[[str], bytes] | None]:
    """What runs SQL in an empty database, a; None where chdb is not installed."""
    try:
        module = import_module("chdb.session")
    except ImportError:
        yield None
        return
    with TemporaryDirectory() as directory:
        session = module.Session(directory)
        try:
            session.query("CREATE DATABASE a ENGINE = Atomic")
            yield lambda sql: bytes(session.query(sql).bytes())
        finally:
            session.close()


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Medians and ratios."""
    shown = table(
        "A year of days",
        *("what", "next to", "ours, ms", "theirs, ms", "ratio (quartiles)", "best rounds", "goal", "reached"),
        caption="ratio: how many times faster ours is, median of the rounds",
    )
    for one in comparisons:
        spent = (f"{1000 * median(one.seconds[name]):,.1f}" for name in (OURS, one.other))
        shown.add_row(one.what, one.other, *spent, *one.reached.cells())
    return shown


# What it takes


class Counting(RedisBackend):
    """Counts round trips, and the sketches that come back."""

    trips = 0
    sketches = 0

    def execute(self, commands: Sequence[Command], shard: int = 0) -> list[Reply]:
        """See :meth:`.BaseBackend.execute`."""
        replies = super().execute(commands, shard)
        self.trips += 1
        for command, reply in zip(commands, replies, strict=True):
            is_sketch = command[0] == "GET" and str(command[1]).endswith((":hll", ":moved"))
            self.sketches += is_sketch and reply is not None
        return replies


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call takes.

    Attributes:
        what: the call.
        buckets: how many it asks for.
        seconds: median.
        trips: round trips to the server.
        sketches: how many were read, and not counted by the server.
        result: bytes of what is returned.
        besides: bytes that were in use at once, beyond that.
        goal: of the seconds, if there is one.
    """

    what: str
    buckets: int
    seconds: float
    trips: int
    sketches: int
    result: int
    besides: int
    goal: float | None = None

    @property
    def trips_per_1000(self) -> float | None:
        """Round trips per 1,000 sketches that were read."""
        return quotient(1000 * self.trips, self.sketches)


def cost(
    what: str,
    server: Server,
    call: Callable[[ActivityTracker], object],
    buckets: Sequence[str],
    rounds: int,
    goal: float | None = None,
) -> Cost:
    """Time a call; then count its round trips and bytes, in another run, as that takes time, too.

    Bytes are those that Python and numpy allocate: unlike the size of the process they are the same each
    time. The round trips are those of a new client, which asks for the settings that are stored.
    """
    ours = tracker(server, buckets=buckets, timezone="UTC")
    seconds: list[float] = []
    if rounds > 1:
        call(ours)  # to warm up
    for _ in range(rounds):
        begin = perf_counter()
        call(ours)
        seconds.append(perf_counter() - begin)
    backend = Counting(host=HOST, port=server.port)
    counted = ActivityTracker(["daily"], backend, buckets=buckets, timezone="UTC")
    gc.collect()
    tracemalloc.start()
    result = call(counted)
    gc.collect()
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return Cost(what, len(buckets), median(seconds), backend.trips, backend.sketches, size, peak - size, goal)


def retention(server: Server, sizes: Sizes, rounds: int) -> list[Cost]:
    """Matrices of retention of one bucket, each of whose days has most ids in common with the next.

    Nobody moved; a tenth of each day's ids did; a tenth of these came back on the same day.
    """
    server.flush()
    ours = tracker(server, timezone="UTC", keep_sketches=None)
    days = last_days(sizes.cohorts)
    moved = sizes.ids_a_day // 10
    buckets = {"nobody moved": 0, "10 % moved": 1, "10 % moved, 1 % back": 2}
    for index, day in enumerate(days):
        first = index * sizes.ids_a_day // sizes.cohorts
        ids = range(first, first + sizes.ids_a_day)
        for bucket, kind in buckets.items():
            ours.track_many(np.array(ids), bucket=bucket, date=day)
            if kind:
                load(ours, bucket, ids[:moved], moved // 10 if kind > 1 else 0, day)
    if len(ours.collapse(buckets=list(buckets))) != len(days) * len(buckets):
        raise click.ClickException("not all days were collapsed")

    def call(bucket: str) -> Callable[[ActivityTracker], object]:
        return lambda ours: ours.retention(
            "daily", start=days[0], end=datetime.now(UTC).date(), bucket=bucket
        )

    what = f"retention, {len(days)} x {len(days)}"
    return [
        cost(f"{what}, {bucket}", server, call(bucket), [bucket], rounds, None if kind else MATRIX_S)
        for bucket, kind in buckets.items()
    ]


class Many:
    """Many buckets of few ids a day: with more, only the server would have more to do.

    Attributes:
        quiet: buckets in which nobody moved.
        moving: those in which some did, each day.
        back: those in which one of these came back, each day.
    """

    def __init__(self, server: Server, sizes: Sizes) -> None:
        server.flush()
        self.server, self.sizes = server, sizes
        self.days = last_days(sizes.days + sizes.window - 1)
        self.quiet = [f"b{index}" for index in range(max(sizes.many_buckets))]
        self.moving = [f"m{index}" for index in range(max(sizes.moving_buckets))]
        self.back = [f"r{index}" for index in range(min(sizes.moving_buckets))]
        self._ours = tracker(server, timezone="UTC", keep_sketches=None)
        self._ours.track(id="anyone", bucket=self.quiet[0])
        self._fill()

    def _fill(self) -> None:
        some = [HyperLogLog(range(seed, seed + 20)).to_bytes() for seed in range(0, 2000, 20)]
        left = [HyperLogLog(range(seed, seed + 2)).to_bytes() for seed in range(0, 2000, 20)]
        for index, day in enumerate(self.days):
            values: dict[str, Any] = {}
            pipeline = self.server.client.pipeline(transaction=False)
            for number, bucket in enumerate((*self.quiet, *self.moving, *self.back)):
                keys = self._ours.backend.keys.bucket(f"daily-{day:%Y%m%d}", bucket)
                which = (index + number) % len(some)
                values[keys.hll], values[keys.counted] = some[which], 20
                if number >= len(self.quiet):
                    values[keys.moved] = left[which]
                if bucket in self.back:
                    pipeline.zadd(keys.moves, {str(20 * which): 1})
            self.server.client.mset(values)
            pipeline.execute()

    def costs(self, rounds: int) -> list[Cost]:
        """Windows of more and more buckets."""
        size = self.sizes.window
        found: list[Cost] = []
        for what, names, amounts in (
            (f"rolling({size})", self.quiet, self.sizes.many_buckets),
            (f"stickiness({size})", self.quiet, self.sizes.reading_buckets),
            (f"rolling({size}), moves", self.moving, self.sizes.moving_buckets),
            (f"rolling({size}), returns", self.back, (len(self.back),)),
        ):
            call = ActivityTracker.stickiness if what.startswith("stickiness") else ActivityTracker.rolling
            found += [
                self._cost(what, call, names[:amount], rounds if names is self.quiet and amount < 100 else 1)
                for amount in amounts
            ]
        return found

    def _cost(self, what: str, call: Callable[..., object], buckets: Sequence[str], rounds: int) -> Cost:
        size, start = self.sizes.window, self.days[self.sizes.window - 1]
        return cost(
            f"{what}, {self.sizes.days} days",
            self.server,
            lambda ours: call(ours, size, start=start, end=datetime.now(UTC).date()),
            buckets,
            rounds,
        )


def cost_table(title: str, costs: Sequence[Cost]) -> Table:
    """Time, round trips and memory."""
    shown = table(
        title,
        *("what", "buckets", "s", "ms a bucket", "goal, s", "reached"),
        *("trips", "read", "per 1,000", "MB", "more MB"),
        caption="trips: to the server and back; read: sketches that the server did not count; per 1,000:"
        f" trips for so many of them (goal {TRIPS:g});\nMB: of the result; more MB: at the peak, besides it",
    )
    for one in costs:
        goal = ("", "") if one.goal is None else (f"{one.goal:g}", "yes" if one.seconds <= one.goal else "NO")
        spent = (f"{one.seconds:.3f}", f"{1000 * one.seconds / one.buckets:,.1f}")
        read = (f"{one.trips:,}", f"{one.sketches:,}", cell(one.trips_per_1000, ".2f"))
        memory = (f"{size / 1e6:,.1f}" for size in (one.result, one.besides))
        shown.add_row(one.what, f"{one.buckets:,}", *spent, *goal, *read, *memory)
    return shown


class Measured(NamedTuple):
    """All results; empty where a part was left out."""

    errors: Sequence[Errors]
    comparisons: Sequence[Comparison]
    matrices: Sequence[Cost]
    growth: Sequence[Cost]


def measure(server: Server, sizes: Sizes, rounds: int, parts: Sequence[str]) -> Measured:
    """Measure what is asked for."""
    comparisons: list[Comparison] = []
    if {"by hand", "chdb"} & {*parts}:
        year = Year(server, sizes, rounds)
        comparisons += year.by_hand() if "by hand" in parts else ()
        comparisons += year.chdb() if "chdb" in parts else ()
    return Measured(
        overlaps(sizes) if "accuracy" in parts else (),
        comparisons,
        retention(server, sizes, rounds) if "retention" in parts else (),
        Many(server, sizes).costs(min(rounds, 3)) if "scale" in parts else (),
    )


@click.command(
    help="What sketches tell: accuracy next to other ways, speed next to PFCOUNT by hand and chdb."
)
@options
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, help="Only this part; repeatable.")
def main(
    server: str, quick: bool, file: Path | None, plot: Path | None, rounds: int, parts: tuple[str, ...]
) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    with serve(server, "datasketches", "chdb") as running:
        sizes, rounds = (Sizes.quick(), 2) if quick else (Sizes(), rounds)
        found = measure(running, sizes, rounds, parts or PARTS)
    tables = [error_table(found.errors)] if found.errors else []
    tables += [comparison_table(found.comparisons)] if found.comparisons else []
    tables += [cost_table("A matrix of retention", found.matrices)] if found.matrices else []
    tables += [cost_table("More and more buckets", found.growth)] if found.growth else []
    show(running.environment, *tables)
    save_json(
        file,
        running.environment,
        overlaps=[asdict(row) for row in found.errors],
        comparisons=[row.as_json() for row in found.comparisons],
        retention=[_as_json(row) for row in found.matrices],
        scale=[_as_json(row) for row in found.growth],
    )
    if canvas is not None and plot is not None:
        draw(canvas, found, running.environment, plot)


def _as_json(one: Cost) -> dict[str, Any]:
    return {**asdict(one), "trips_per_1000": one.trips_per_1000}


def draw(canvas: tuple[Any, Any], found: Measured, environment: Mapping[str, str], plot: Path) -> None:
    """The errors of the largest sets by their Jaccard index; if these were left out, the ratios."""
    if not found.errors:
        goals = [one.reached for one in found.comparisons]
        draw_goals(canvas, goals, f"times faster than others, {environment['server']}", plot)
        return
    figure, axis = canvas
    largest = max(row.ids for row in found.errors)
    rows = [row for row in found.errors if row.ids == largest]
    for name in rows[0].errors:
        axis.plot([row.jaccard for row in rows], [row.errors[name] for row in rows], marker="o", label=name)
    axis.set_xlabel("Jaccard index")
    axis.set_ylabel("error of the ids in both sets (rms), ids")
    axis.set_title(f"Two sets of {largest:,} ids, {environment['server']}")
    axis.legend()
    figure.savefig(plot, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
