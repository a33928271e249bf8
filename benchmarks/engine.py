"""Speed of the local sketch: batches of ids next to other HyperLogLogs, and reading of what is stored.

Batches: each contestant makes a fresh sketch of the same ids. Ours takes the batch as it stands in the first
column; the others take one id a call from a list of str or bytes that was made beforehand, as their users
would have it, and so does plain PFADD, 1000 ids a call in pipelines of 50 calls. All run in turns in one
process, and a ratio is the median of the ratios to the C extension HLL of single rounds, with quartiles:
machines differ, and one machine differs from one second to the next.

The registers of every batch are compared with those of the server, to which PFADD sent the same ids in the
same run; a difference ends the run with exit code 1. Goals come from a feasibility study with plain numpy.

    python benchmarks/engine.py --ids 1000000 --plot engine.png
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from timeit import Timer
from typing import Any, NamedTuple

import click
import numpy as np
from _common import (
    PER_CALL,
    Goal,
    Ratio,
    Server,
    axes,
    draw_goals,
    in_turns,
    options,
    pfadd,
    save_json,
    serve,
    show,
    table,
)
from rich.table import Table

from activity_tracker_hll import HyperLogLog

OURS, HLL, SERVER = "ours", "HLL", "PFADD"
PRECISION = 14
KEY = "engine"
DOMAINS = ("example.com", "mail.example.org", "post.example", "a-somewhat-longer-name.example.net")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Batch:
    """Ids as this library is given them; `make` is called for each run, since a generator is used up."""

    what: str
    make: Callable[[], Any]
    goal: float | None = None

    def plain(self) -> list[Any]:
        """The same ids, in the same order, as a list of bytes or str."""
        ids = self.make()
        listed = ids.tolist() if isinstance(ids, np.ndarray) else ids
        return [id if isinstance(id, (str, bytes)) else str(id) for id in listed]


class Peer(NamedTuple):
    """How another library adds a list of ids; being slow, it is given only one of every `share` ids."""

    start: Callable[[Any, list[Any]], Callable[[], object]]
    share: int = 1


class Entry(NamedTuple):
    """What one contestant does in a round, and how many ids that is."""

    run: Callable[[], object]
    ids: int


@dataclass(frozen=True, slots=True)
class Result:
    """Ids a second that each contestant reached in each round."""

    batch: Batch
    rates: dict[str, list[float]]

    @property
    def goal(self) -> Goal:
        """Ours next to HLL."""
        theirs = self.rates.get(HLL)
        ratio = Ratio.of_rates(self.rates[OURS], theirs) if theirs else None
        return Goal(self.batch.what, ratio, self.batch.goal)

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return {
            **self.goal.as_json(),
            "ids_per_s": {name: median(rates) for name, rates in self.rates.items()},
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """Best time of something that is done with sketches, and what the study found."""

    what: str
    us: float
    study: str = ""


def hll(module: Any, ids: list[Any]) -> Callable[[], object]:
    """The C extension, whose hash is the same except for the seed."""
    return lambda: one_by_one(module.HyperLogLog(PRECISION).add, ids)


def datasketches(module: Any, ids: list[Any]) -> Callable[[], object]:
    """Apache DataSketches, which does not take bytes."""
    texts = decoded(ids)
    return lambda: one_by_one(module.hll_sketch(PRECISION).update, texts)


def rhll(module: Any, ids: list[Any]) -> Callable[[], object]:
    """In Rust, with one method for bytes and one for str."""
    method = "update" if isinstance(ids[0], bytes) else "update_str"
    return lambda: one_by_one(getattr(module.HyperLogLog(PRECISION), method), ids)


def pfutil(module: Any, ids: list[Any]) -> Callable[[], object]:
    """The server's own format in Rust; takes many str a call."""
    texts = decoded(ids)

    def run() -> None:
        add = module.HyperLogLog().pfadd
        for start in range(0, len(texts), PER_CALL):
            add(*texts[start : start + PER_CALL])

    return run


PEERS = {HLL: Peer(hll), "rhll": Peer(rhll), "datasketches": Peer(datasketches), "pfutil": Peer(pfutil, 50)}


def one_by_one(add: Callable[[Any], object], ids: list[Any]) -> None:
    """The way users of those libraries add ids, in a loop."""
    for id in ids:
        add(id)


def decoded(ids: list[Any]) -> list[str]:
    """As str."""
    return [id.decode() if isinstance(id, bytes) else id for id in ids]


def batches(count: int) -> Iterator[Batch]:
    """Every batch, made when its turn comes, with its goal if there is one."""
    source = random.Random(1)
    hexadecimal = [f"u{source.getrandbits(64):016x}" for _ in range(count)]
    uuids, addresses = list(make_uuids(source, count)), list(make_addresses(source, count))
    numbers = np.random.default_rng(1)
    yield kept("S17 array", np.array(hexadecimal, "S"), 6)
    yield kept("S36 array, UUID text", np.array(uuids, "S"), 3.5)
    yield kept("S array, e-mail addresses", np.array(addresses, "S"), 1.6)
    yield kept("int64 array, 8 digits", numbers.integers(10**7, 10**8, count), 5)
    yield kept("int64 array, below 2^63", numbers.integers(0, 2**63 - 1, count), 2)
    yield kept("list of str, 17 characters", hexadecimal, 2)
    yield kept("list of str, UUID text", uuids, 1.6)
    yield kept("list of str, e-mail addresses", addresses, 1.1)
    yield kept("list of int, below 1e9", numbers.integers(0, 10**9, count).tolist(), 1.4)
    yield kept("U17 array", np.array(hexadecimal))
    yield kept("list of bytes, 17 bytes", [id.encode() for id in hexadecimal])
    yield kept("set of str, 17 characters", set(hexadecimal))
    yield Batch("generator of str, 17 characters", lambda: (id for id in hexadecimal))


def kept(what: str, ids: Iterable[Any], goal: float | None = None) -> Batch:
    """A batch of which every run is given the same object."""
    return Batch(what, lambda: ids, goal)


def make_uuids(source: random.Random, count: int) -> Iterator[str]:
    """UUIDs as text."""
    for _ in range(count):
        text = f"{source.getrandbits(128):032x}"
        yield f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def make_addresses(source: random.Random, count: int) -> Iterator[str]:
    """Text of 19 to 53 characters."""
    for _ in range(count):
        name = "".join(source.choices(LETTERS, k=source.randint(3, 12)))
        yield f"{name}.{source.randrange(10**4, 10**6)}@{source.choice(DOMAINS)}"


def entries(server: Server, batch: Batch) -> dict[str, Entry]:
    """All contestants that are installed; the two that matter most run one after the other: less noise."""
    plain = batch.plain()
    found = {OURS: Entry(lambda: HyperLogLog().update(batch.make()), len(plain))}
    for name, peer in PEERS.items():
        some = plain[:: peer.share]
        try:
            found[name] = Entry(peer.start(import_module(name), some), len(some))
        except ImportError:
            continue
    found[SERVER] = Entry(lambda: pfadd(server, [(KEY, plain)]), len(plain))
    return found


def measure(server: Server, batch: Batch, rounds: int) -> Result:
    """Measure one batch.

    Raises:
        click.ClickException: the registers of this library differ from those of the server.
    """
    competing = entries(server, batch)
    seconds = in_turns({name: entry.run for name, entry in competing.items()}, rounds, lambda: None)
    ours = HyperLogLog(batch.make())
    if HyperLogLog.from_bytes(stored(server, KEY)) != ours:
        raise click.ClickException(f"{batch.what}: the registers differ from those of the server")
    server.flush()
    return Result(
        batch, {name: [competing[name].ids / each for each in spent] for name, spent in seconds.items()}
    )


def read(server: Server, repeats: int) -> list[Reading]:
    """Measure operations on sketches in this process, and round trips to the server for comparison."""
    ids = [f"user {number}" for number in range(100_000)]
    for key, some in (("dense", ids), ("moved", ids[::3]), ("sparse", ids[:400])):
        pfadd(server, [(key, some)])
    dense, sparse = (stored(server, key) for key in ("dense", "sparse"))
    full, few, moved = (HyperLogLog.from_bytes(stored(server, key)) for key in ("dense", "sparse", "moved"))
    client = server.client
    best = partial(best_us, repeats)
    return [
        Reading("from_bytes, dense", best(lambda: HyperLogLog.from_bytes(dense)), "7"),
        Reading(f"from_bytes, sparse of {len(sparse):,} bytes", best(lambda: HyperLogLog.from_bytes(sparse))),
        Reading("to_bytes, dense", best(full.to_bytes)),
        Reading("to_bytes, sparse", best(few.to_bytes)),
        Reading("merge (a |= b)", best(lambda: full.merge(moved)), "0.4"),
        Reading("count", best(full.count), "15-21"),
        Reading("difference", best(lambda: full.difference(moved))),
        Reading("server: PFCOUNT of one key, cached", best(lambda: client.pfcount("dense"))),
        Reading("server: PFCOUNT of two keys", best(lambda: client.pfcount("dense", "moved"))),
        Reading("server: PFMERGE of two keys", best(lambda: client.pfmerge("merged", "dense", "moved"))),
        Reading("server: GET of a dense key", best(lambda: client.get("dense"))),
    ]


def best_us(repeats: int, run: Callable[[], object]) -> float:
    """The least microseconds per call, by timeit."""
    timer = Timer(run)
    number = max(1, int(0.02 / timer.timeit(1)) if repeats > 1 else 1)
    return min(timer.repeat(repeats, number)) / number * 1e6


def stored(server: Server, key: str) -> bytes:
    """A sketch as the server stores it."""
    value: Any = server.client.get(key)
    return bytes(value)


def batch_table(results: Sequence[Result], count: int) -> Table:
    """All batches."""
    caption = (
        f"M ids/s of {count:,} ids, medians of the rounds. Ratio: ours to HLL, the median of single rounds"
        " (and quartiles);\nof best: of the best round of each. Others get lists of str or bytes, one id a"
        " call; pfutil 1000 a call, 1 of 50 ids;\nPFADD 1000 a call, pipelines of 50 calls. All batches:"
        " registers equal to the server's."
    )
    others = [name for name in PEERS if name != HLL]
    columns = ("batch", OURS, HLL, "ratio", "of best", "goal", "met", *others, SERVER)
    rows = table("Batches of ids", *columns, caption=caption)
    for result in results:
        ours, theirs, *others_rates = (
            million(result.rates.get(name)) for name in (OURS, HLL, *others, SERVER)
        )
        rows.add_row(result.batch.what, ours, theirs, *result.goal.cells(), *others_rates)
    return rows


def million(rates: Sequence[float] | None) -> str:
    """Millions a second, for a table."""
    return f"{median(rates) / 1e6:.3g}" if rates else "missing"


def reading_table(readings: Sequence[Reading]) -> Table:
    """All readings."""
    caption = "Microseconds, the best of some repetitions; the server's over TCP on the loopback."
    rows = table("Reading", "", "us", "study", caption=caption)
    for reading in readings:
        rows.add_row(reading.what, f"{reading.us:.2f}", reading.study)
    return rows


@click.command(help="Speed of the local sketch next to other libraries, registers checked by the server.")
@options
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--ids", "count", type=click.IntRange(min=1), default=1_000_000, show_default=True)
def main(server: str, quick: bool, file: Path | None, plot: Path | None, rounds: int, count: int) -> None:
    """Measure, print, save."""
    canvas = axes(plot)
    count, rounds, repeats = (5000, 2, 1) if quick else (count, rounds, 20)
    with serve(server, *PEERS) as running:
        results = [measure(running, batch, rounds) for batch in batches(count)]
        readings = read(running, repeats)
    show(running.environment, batch_table(results, count), reading_table(readings))
    save_json(
        file,
        running.environment,
        batches=[result.as_json() for result in results],
        reading=[asdict(reading) for reading in readings],
    )
    if canvas is not None and plot is not None:
        draw_goals(canvas, [result.goal for result in results], "times as fast as HLL", plot)


if __name__ == "__main__":
    main()
