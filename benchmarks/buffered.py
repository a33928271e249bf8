"""The high-volume writer: the cost of a call next to its peers, and of what reaches the server.

Calls are timed under sustained load: millions in a row, while the writer's threads fold and push what came
before. All peers are called in a loop of the same shape, in turns in the same run.

    python benchmarks/buffered.py --server redis --plot buffered.png
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any, NamedTuple

import click
import numpy as np
import psutil
import redis
import redis.asyncio
from _common import (
    HOST,
    PER_CALL,
    Goal,
    Ratio,
    Server,
    axes,
    cell,
    draw_goals,
    in_turns,
    options,
    pfadd,
    quotient,
    save_json,
    serve,
    show,
    table,
)
from activity_tracker.tracker import ActivityTracker as ExactTracker
from rich.table import Table

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.hll import codec

PLAIN = "plain"
_SAMPLE_S = 0.1
_EVENTS_PER_STEP = 10_000
_UNIX, _TCP = "Unix socket", "TCP"
MANY, HAND_MADE = "buffered track_many", f"a list, PFADD of {PER_CALL}"
BUFFERED, FOUR, UNBUFFERED = "buffered track", "buffered track, 4 threads", "track"
ASYNC, AWAITED = "buffered track, asyncio", "buffered track, asyncio, awaited"
PFADD, ASYNC_PFADD, HLL, EXACT = "PFADD", "PFADD, asyncio, awaited", "HLL", "activity-tracker"


class Entry(NamedTuple):
    """What one contestant does in a round, and how many calls that is."""

    run: Callable[[], object]
    calls: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done in a round, and end to end."""

    calls: int = 3_000_000
    async_calls: int = 300_000
    trips: int = 5000
    events: int = 3_000_000
    users: int = 500_000

    @classmethod
    def quick(cls) -> Sizes:
        """For a smoke run."""
        return cls(20_000, 2000, 50, 20_000, 5000)


class Method:
    """HLL behind a method that takes the arguments of track()."""

    def __init__(self, module: Any) -> None:
        self._adds: dict[str | None, Callable[[str], object]] = {None: module.HyperLogLog(14).add}

    def track(
        self,
        periods: None = None,
        *,
        id: str = "",
        bucket: str | None = None,
        old_id: None = None,
        old_bucket: None = None,
        date: None = None,
        shard: int = 0,
    ) -> None:
        """Do only what such a method must do: look the bucket's sketch up. It checks nothing."""
        self._adds[bucket](id)


class HandMade:
    """What one writes in ten lines instead: a list, sent where it is full."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._ids: list[str] = []

    def track(self, *, id: str) -> None:
        """Keep it, or send all."""
        self._ids.append(id)
        if len(self._ids) >= PER_CALL:
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        if self._ids:
            self._client.pfadd(PLAIN, *self._ids)
            self._ids = []


def ids_of(count: int) -> list[str]:
    """Ids of 17 characters: 'u' and 16 hex digits."""
    source = np.random.default_rng(1)
    return [f"u{number:016x}" for number in source.integers(1 << 63, size=count).tolist()]


def repeated(call: Callable[..., object], ids: Sequence[str]) -> Callable[[], None]:
    """A loop of one call an id."""

    def run() -> None:
        for id in ids:
            call(id=id)

    return run


def repeated_many(call: Callable[..., object], ids: Sequence[str]) -> Callable[[], None]:
    """The same ids, so many a call."""
    lots = [ids[start : start + PER_CALL] for start in range(0, len(ids), PER_CALL)]

    def run() -> None:
        for lot in lots:
            call(lot)

    return run


def repeated_pfadd(client: redis.Redis, ids: Sequence[str]) -> Callable[[], None]:
    """The same with the client's own call."""

    def run() -> None:
        for id in ids:
            client.pfadd(PLAIN, id)

    return run


def in_threads(run: Callable[[], None], count: int) -> Callable[[], None]:
    """The same in several threads at once."""

    def together() -> None:
        threads = [Thread(target=run) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return together


@contextmanager
def contestants(server: Server, sizes: Sizes) -> Iterator[dict[str, Entry]]:
    """All contestants by name, with their way to the server if they have one."""
    users = ids_of(sizes.users)
    calls = list(islice(cycle(users), sizes.calls))
    quarter, trips = calls[: sizes.calls // 4], users[: sizes.trips]
    ways: dict[str, dict[str, Any]] = {
        _UNIX: {"unix_socket_path": server.socket},
        _TCP: {"host": HOST, "port": server.port},
    }
    entries: dict[str, Entry] = {}
    with ExitStack() as stack:
        for way, address in ways.items():
            tracker = stack.enter_context(ActivityTracker(["daily"], **address))
            writer = stack.enter_context(tracker.buffered())
            client = stack.enter_context(redis.Redis(**address))
            entries[f"{BUFFERED}, {way}"] = Entry(repeated(writer.track, calls), len(calls))
            entries[f"{PFADD}, {way}"] = Entry(repeated_pfadd(client, trips), len(trips))
            if way == _UNIX:
                entries[MANY] = Entry(repeated_many(writer.track_many, calls), len(calls))
                entries[FOUR] = Entry(in_threads(repeated(writer.track, quarter), 4), 4 * len(quarter))
                entries[f"{UNBUFFERED}, {way}"] = Entry(repeated(tracker.track, trips), len(trips))
        exact = ExactTracker(["daily"], "redis", **ways[_TCP])
        entries[f"{EXACT}, {_TCP}"] = Entry(repeated(exact.track, trips), len(trips))
        try:
            method = Method(import_module("HLL"))
        except ImportError:
            pass
        else:
            entries[HLL] = Entry(repeated(method.track, calls), len(calls))
        entries |= stack.enter_context(asynchronous(ways[_UNIX], calls[: sizes.async_calls], trips))
        yield entries


@contextmanager
def asynchronous(
    address: dict[str, Any], calls: Sequence[str], trips: Sequence[str]
) -> Iterator[dict[str, Entry]]:
    """Those of asyncio, on one event loop."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def enter() -> tuple[Any, Any]:
            tracker = await stack.enter_async_context(AsyncActivityTracker(["daily"], **address))
            writer = await stack.enter_async_context(tracker.buffered())
            return writer, await stack.enter_async_context(redis.asyncio.Redis(**address))

        writer, client = runner.run(enter())

        async def called() -> None:
            for id in calls:
                writer.track(id=id)

        async def awaited() -> None:
            for id in calls:
                await writer.track(id=id)

        async def one_a_trip() -> None:
            for id in trips:
                await client.pfadd(PLAIN, id)

        def entry(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> Entry:
            return Entry(lambda: runner.run(work()), count)

        yield {
            ASYNC: entry(called, len(calls)),
            AWAITED: entry(awaited, len(calls)),
            ASYNC_PFADD: entry(one_a_trip, len(trips)),
        }
        runner.run(stack.aclose())


def measure_calls(server: Server, sizes: Sizes, rounds: int) -> dict[str, list[float]]:
    """Calls a second of every contestant in every round."""
    with contestants(server, sizes) as entries:
        seconds = in_turns({name: entry.run for name, entry in entries.items()}, rounds, lambda: None)
        return {name: [entry.calls / spent for spent in seconds[name]] for name, entry in entries.items()}


def goals_of(rates: dict[str, list[float]]) -> list[Goal]:
    """The ratios that have goals, and some more."""

    def goal(ours: str, theirs: str, wanted: float | None) -> Goal:
        both = ours in rates and theirs in rates
        ratio = Ratio.of_rates(rates[ours], rates[theirs]) if both else None
        return Goal(f"{ours} / {theirs}", ratio, wanted)

    unix, tcp = f"{BUFFERED}, {_UNIX}", f"{BUFFERED}, {_TCP}"
    return [
        goal(unix, f"{PFADD}, {_UNIX}", 150),
        goal(tcp, f"{EXACT}, {_TCP}", 250),
        goal(unix, HLL, 1),
        goal(tcp, HLL, 1),
        goal(MANY, unix, 5),
        goal(FOUR, unix, 0.5),
        goal(ASYNC, ASYNC_PFADD, 100),
        goal(AWAITED, ASYNC_PFADD, 100),
        goal(tcp, f"{PFADD}, {_TCP}", None),
        goal(unix, f"{UNBUFFERED}, {_UNIX}", None),
    ]


@dataclass(frozen=True, slots=True)
class Streams:
    """The writer next to a list of one's own: rates until the server has all, and the longest calls.

    Attributes:
        rates: events a second in each round, by contestant.
        longest: seconds that the longest call of each round took, timed in a run of their own.
    """

    rates: dict[str, list[float]]
    longest: dict[str, list[float]]

    @property
    def goals(self) -> list[Goal]:
        """The writer's ratios: of rates, and of how much shorter the longest call is."""
        shorter = {name: [1 / each for each in seconds] for name, seconds in self.longest.items()}
        what = f"{BUFFERED} / {HAND_MADE}"
        return [
            Goal(f"{what}, end to end", Ratio.of_rates(self.rates[BUFFERED], self.rates[HAND_MADE]), 1.8),
            Goal(f"{what}, longest call", Ratio.of_rates(shorter[BUFFERED], shorter[HAND_MADE]), 1),
        ]


def measure_streams(server: Server, sizes: Sizes, rounds: int) -> Streams:
    """Send the same events by both, in turns."""
    users = ids_of(sizes.users)
    chosen = np.random.default_rng(2).integers(sizes.users, size=sizes.calls).tolist()
    events = [users[user] for user in chosen]
    with (
        ActivityTracker(["daily"], unix_socket_path=server.socket) as tracker,
        tracker.buffered() as writer,
        redis.Redis(unix_socket_path=server.socket) as client,
    ):
        contestants: dict[str, Any] = {BUFFERED: writer, HAND_MADE: HandMade(client)}

        def stream(contestant: Any) -> None:
            for id in events:
                contestant.track(id=id)
            contestant.flush()

        def longest_of(name: str) -> None:
            track, most = contestants[name].track, 0.0
            for id in events:
                begin = time.perf_counter()
                track(id=id)
                most = max(most, time.perf_counter() - begin)
            contestants[name].flush()
            longest[name].append(most)

        seconds = in_turns(
            {name: partial(stream, each) for name, each in contestants.items()}, rounds, server.flush
        )
        longest: dict[str, list[float]] = {name: [] for name in contestants}
        in_turns({name: partial(longest_of, name) for name in contestants}, rounds, server.flush)
    return Streams(
        {name: [len(events) / each for each in spent] for name, spent in seconds.items()},
        {name: most[1:] for name, most in longest.items()},
    )


def stream_table(streams: Streams) -> Table:
    """Rates end to end, and the longest calls."""
    made = table(
        "Streaming, Unix socket", "", "events/s", "longest call, ms", caption="Medians of the rounds."
    )
    for name, rates in streams.rates.items():
        made.add_row(name, f"{median(rates):,.0f}", f"{1000 * median(streams.longest[name]):.2f}")
    return made


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a way to send the same events.

    Attributes:
        what: the way.
        seconds: the time until the server had everything.
        server_us: the microseconds the server spent on commands, as it reports.
        bytes: the bytes that the server received.
    """

    what: str
    seconds: float
    server_us: float
    bytes: float


def cost(server: Server, what: str, send: Callable[[], object]) -> Cost:
    """Send events, and ask the server what that cost."""
    server.client.config_resetstat()
    begin = time.perf_counter()
    send()
    seconds = time.perf_counter() - begin
    commands: Any = server.client.info("commandstats")
    stats: Any = server.client.info("stats")
    spent = sum(row["usec"] for name, row in commands.items() if "config" not in name)
    return Cost(what, seconds, spent, stats["total_net_input_bytes"])


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """The costs of the ways, the writer's memory over time, and whether all sketches are equal."""

    costs: list[Cost]
    memory: list[float]
    equal: bool

    @property
    def growth(self) -> float:
        """By how many MB memory grew after the first third of the events."""
        return self.memory[-1] - self.memory[len(self.memory) // 3]


def end_to_end(server: Server, sizes: Sizes, seconds: float) -> EndToEnd:
    """Send the same events by the writer, paced and as fast as possible, and by PFADD."""
    users = ids_of(sizes.users)
    chosen = np.random.default_rng(2).integers(sizes.users, size=sizes.events).tolist()
    events = [users[user] for user in chosen]
    memory: list[float] = []
    server.flush()

    def send(namespace: str, pause: float) -> None:
        with (
            ActivityTracker(["daily"], host=HOST, port=server.port, namespace=namespace) as tracker,
            tracker.buffered() as writer,
        ):
            for start in range(0, len(events), _EVENTS_PER_STEP):
                for id in events[start : start + _EVENTS_PER_STEP]:
                    writer.track(id=id)
                time.sleep(pause)

    def one_by_one() -> None:
        pipeline = server.client.pipeline(transaction=False)
        for start in range(0, len(events), PER_CALL):
            for id in events[start : start + PER_CALL]:
                pipeline.pfadd(PLAIN, id)
            pipeline.execute()

    pause = max(seconds, 0) * _EVENTS_PER_STEP / len(events)
    with sampled(memory):
        paced = cost(server, f"buffered track, over {seconds:g} s and more", lambda: send("paced", pause))
    costs = [
        paced,
        cost(server, "buffered track, as fast as it goes", lambda: send("fast", 0)),
        cost(server, "PFADD, one id a command", one_by_one),
        cost(server, f"PFADD, {PER_CALL} ids a command", lambda: pfadd(server, [("variadic", events)])),
    ]
    written: Any = list(server.client.scan_iter("{*:daily-*}:hll"))
    sketches: Any = server.client.mget([*written, PLAIN, "variadic"])
    first, *others = [codec.decode(sketch) for sketch in sketches]
    equal = len(written) == 2 and all((first == other).all() for other in others)
    return EndToEnd(costs, memory, equal)


@contextmanager
def sampled(memory: list[float]) -> Iterator[None]:
    """Record this process's memory repeatedly, in MB."""
    stop, process = Event(), psutil.Process()

    def sample() -> None:
        while not stop.wait(_SAMPLE_S):
            memory.append(process.memory_info().rss / 1e6)

    thread = Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        memory.append(process.memory_info().rss / 1e6)


def call_tables(rates: dict[str, list[float]], goals: Sequence[Goal]) -> list[Table]:
    """Rates, and their ratios."""
    calls = table("Calls, ids of 17 characters", "", "calls/s", "us a call")
    for name, values in rates.items():
        calls.add_row(name, f"{median(values):,.0f}", f"{1e6 / median(values):,.2f}")
    caption = "Medians of the ratios of single rounds and their quartiles; the ratio of the best rounds."
    ratios = table("Ratios", "", "ratio", "of the best", "goal", "met", caption=caption)
    for goal in goals:
        ratios.add_row(goal.what, *goal.cells())
    return [calls, ratios]


def end_table(result: EndToEnd, sizes: Sizes) -> Table:
    """End to end; goals: a fiftieth of the time and a tenth of the bytes of one id a command."""
    caption = (
        f"Registers equal: {'yes' if result.equal else 'NO'}. Memory of the process after the first third:"
        f" {result.growth:+.1f} MB.\n"
        "Goals: 50 times less of the server's time, 10 times fewer bytes than one id a command."
    )
    columns = ("", "seconds", "server, ms", "times less", "bytes", "times less")
    title = f"End to end, {sizes.events:,} events of {sizes.users:,} users"
    made = table(title, *columns, caption=caption)
    single = result.costs[2]
    for row in result.costs:
        made.add_row(
            row.what,
            f"{row.seconds:.2f}",
            f"{row.server_us / 1000:,.1f}",
            cell(quotient(single.server_us, row.server_us), ",.0f"),
            f"{row.bytes:,.0f}",
            cell(quotient(single.bytes, row.bytes), ",.0f"),
        )
    return made


@click.command(help="The high-volume writer next to PFADD, HLL and activity-tracker, on one server.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True,
              help="What the events of the end-to-end run are spread over, at least.")  # fmt: skip
def main(server: str, quick: bool, file: Path | None, plot: Path | None, rounds: int, seconds: float) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    sizes = Sizes.quick() if quick else Sizes()
    with serve(server, "HLL") as running:
        rates = measure_calls(running, sizes, 2 if quick else rounds)
        streams = measure_streams(running, sizes, 2 if quick else rounds)
        result = end_to_end(running, sizes, 0.5 if quick else seconds)
    goals = [*goals_of(rates), *streams.goals]
    show(running.environment, *call_tables(rates, goals), stream_table(streams), end_table(result, sizes))
    save_json(
        file,
        running.environment,
        calls=[{"what": name, "calls_per_s": median(values)} for name, values in rates.items()],
        ratios=[goal.as_json() for goal in goals],
        longest_call_s={name: median(seconds) for name, seconds in streams.longest.items()},
        end_to_end=[
            {"what": row.what, "seconds": row.seconds, "server_us": row.server_us, "bytes": row.bytes}
            for row in result.costs
        ],
        registers_equal=result.equal,
        memory_growth_mb=result.growth,
    )
    if canvas is not None and plot is not None:
        draw_goals(canvas, goals, "times faster", plot)
    if not result.equal:
        raise click.ClickException("registers differ")


if __name__ == "__main__":
    main()
