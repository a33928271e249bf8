"""The trials in this process: what is counted, how often, and the errors next to those expected.

No server is used here and nothing is printed. Every trial has new random ids from a seed of its own, so that
a run can be repeated. Results for different sizes or shares are not independent: each trial covers all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, reduce
from itertools import pairwise
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track as progress

from activity_tracker_hll import Estimate, HyperLogLog
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.estimators import cardinality, standard_error
from activity_tracker_hll.hll.from_counts import difference
from activity_tracker_hll.hll.registers import MAX_RANK, REGISTERS, Registers
from activity_tracker_hll.hll.unions import union_of_remainders

__all__ = [
    "Cell",
    "Goal",
    "Ids",
    "Plan",
    "Setting",
    "differences",
    "new_ids",
    "plain_counts",
    "seeds",
    "sketch_of",
    "unions",
]

Ids = NDArray[np.int64]
Part = tuple[int, int, int]
"""A range of the ids of one source: the source's index, the range's start and its end."""

CONFIDENCE = 0.95
_CHANCE = 3  # standard errors that a result may be off by chance


class Goal(NamedTuple):
    """The range in which a column of the results should be."""

    column: str
    low: float
    high: float

    def missed(self, row: dict[str, Any]) -> str:
        """Empty if reached; with a question mark if it may be missed by chance."""
        beyond = max(self.low - row[self.column], row[self.column] - self.high)
        if beyond <= 0:
            return ""
        return self.column + ("?" if beyond <= _CHANCE * row[f"{self.column}_error"] else "")


@dataclass(slots=True)
class Cell:
    """The trials of one setting; errors and standard errors are relative to the truth, in per cent."""

    setting: dict[str, Any]
    goals: Sequence[Goal] = ()
    errors: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=dict)
    covered: int = 0

    def add(self, truth: int, estimate: Estimate, **others: int) -> None:
        """One trial; `others` is what simpler estimates give."""
        self.errors.append(100 * (estimate - truth) / truth)
        self.reported.append(100 * estimate.stderr / truth)
        low, high = estimate.interval(CONFIDENCE)
        self.covered += low <= truth <= high
        for name, other in others.items():
            self.others.setdefault(name, []).append(100 * (other - truth) / truth)

    def as_json(self) -> dict[str, Any]:
        """For the file of results and for the tables; X_error is the standard error of X."""
        trials = len(self.errors)
        rmse, reported, bias = rms(self.errors), rms(self.reported), sum(self.errors) / trials
        bias_error = sqrt(max(0.0, rmse**2 - bias**2) / (trials - 1))
        row = {
            **self.setting,
            "trials": trials,
            "rmse": rmse,
            "rmse_error": rmse / sqrt(2 * trials),
            "bias": bias,
            "bias_error": bias_error,
            "bias_is_significant": abs(bias) > _CHANCE * bias_error,
            "reported": reported,
            "bias_to_reported": bias / reported,
            "bias_to_reported_error": bias_error / reported,
            "coverage": 100 * self.covered / trials,
            "coverage_error": 100 * sqrt(CONFIDENCE * (1 - CONFIDENCE) / trials),
            "others": {name: rms(errors) for name, errors in self.others.items()},
        }
        missed = [miss for goal in self.goals if (miss := goal.missed(row))]
        return {**row, "goals": [goal._asdict() for goal in self.goals], "missed": missed}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried, and how often.

    Args:
        seeds: the trials of the most expensive sizes.
        plain: the sizes of plain counts.
        real_ids: above this size, registers are drawn at random instead of hashing ids.
        moves: the sizes of buckets out of which ids are moved.
        source: the own ids of each bucket of an aggregate.
        server_moves: as `moves`, on the server.
        server_source: as `source`, on the server.
    """

    seeds: int
    plain: Sequence[int] = (
        *(1, 10, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        *(300_000, 1_000_000, 3_000_000, 10_000_000),
    )
    real_ids: int = 100_000
    moves: Sequence[int] = (10_000, 100_000, 1_000_000)
    source: int = 100_000
    server_moves: Sequence[int] = (10_000,)
    server_source: int = 10_000

    def trials(self, ids: int) -> int:
        """The number of trials for this number of ids; few trials would not show a small bias."""
        return self.seeds * (10 if ids <= self.real_ids else 2)

    @property
    def server_trials(self) -> int:
        """The number of trials on the server, which is slow, and only has to show the same results."""
        return max(2, self.seeds // 10)


@dataclass(frozen=True, slots=True)
class Setting:
    """Buckets of one size, of which the first few lose some of their ids.

    Every bucket has ids of its own. Some of the ids that are moved out of a bucket are alive in the next one;
    the last bucket is followed by the first.

    Args:
        sources: the number of buckets.
        moving: how many of them have moves.
        out: the share of a bucket's own ids that are moved out of it, in per cent.
        shared: the share of these that are alive in the next bucket, in per cent.
    """

    sources: int
    moving: int
    out: int
    shared: int

    @classmethod
    def every(cls) -> list[Setting]:
        """All settings that are tried."""
        return [
            cls(sources, moving, out, shared)
            for sources in (2, 3)
            for moving in (sources - 1, sources)
            for out in (50, 90)
            for shared in (0, 10, 50, 100)
        ]

    def moved(self, size: int) -> int:
        """The number of distinct ids that are moved, if each bucket has `size` ids of its own."""
        return self.moving * (size * self.out // 100)

    def alive(self, size: int) -> int:
        """The number of distinct ids that are alive anywhere; those shared are distinct from all others."""
        lost = size * self.out // 100
        return self.sources * size - self.moved(size) + self.moving * (lost * self.shared // 100)

    def parts(self, size: int) -> Iterator[tuple[list[Part], list[Part]]]:
        """For each bucket the parts tracked in it and those moved out of it."""
        lost = size * self.out // 100
        for source_index in range(self.sources):
            tracked, before = [(source_index, 0, size)], (source_index - 1) % self.sources
            if before < self.moving and self.shared:
                tracked.append((before, 0, lost * self.shared // 100))
            yield tracked, [(source_index, 0, lost)] if source_index < self.moving else []


def rms(values: Sequence[float]) -> float:
    """Root mean square."""
    return sqrt(sum(value * value for value in values) / len(values))


def new_ids(source: np.random.Generator, count: int) -> Ids:
    """Distinct ids: among 2^63 numbers, practically none is drawn twice."""
    return source.integers(1, 2**63 - 1, count)


def seeds(trials: int, what: str) -> Iterable[tuple[int, np.random.Generator]]:
    """The number and the random generator of each trial; a terminal shows the progress."""
    console = Console(stderr=True)
    shown = progress(range(trials), what, console=console, transient=True, disable=not console.is_terminal)
    return ((seed, np.random.default_rng([*what.encode(), seed])) for seed in shown)


def sketch_of(ids: Ids) -> Registers:
    """The registers of the library's sketch."""
    return codec.decode(HyperLogLog(ids).to_bytes())


def plain_counts(plan: Plan) -> list[Cell]:
    """One sketch per trial, counted whenever it has grown to the next size."""
    cells = {size: Cell({"ids": size, "theory": theory(size)}, plain_goals(size)) for size in plan.plain}
    for _, source in seeds(plan.trials(1), "plain counts"):
        sketch, done = HyperLogLog(), 0
        for size, cell in cells.items():
            if size <= plan.real_ids:
                sketch.update(new_ids(source, size - done))
            else:
                sketch |= drawn_sketch(source, size - done)
            done = size
            cell.add(size, sketch.count())
    return list(cells.values())


def drawn_sketch(source: np.random.Generator, ids: int) -> HyperLogLog:
    """A sketch of random ids, in a time that does not depend on their number.

    The ids fall evenly on the registers. The probability that none of c ids on one ranks above k is
    (1 - 2^-k)^c, which is solved for k.
    """
    fallen = source.multinomial(ids, np.full(REGISTERS, 1 / REGISTERS))
    with np.errstate(divide="ignore"):  # where none fell
        rank = np.ceil(-np.log2(-np.expm1(-source.exponential(size=REGISTERS) / fallen)))
    ranks = np.where(fallen == 0, 0, np.clip(rank, 1, MAX_RANK))
    return HyperLogLog.from_bytes(codec.encode(ranks.astype(np.uint8)))


def theory(size: int) -> float:
    """Standard error of a plain count, in per cent."""
    return 100 * standard_error(size) / size


def plain_goals(size: int) -> list[Goal]:
    """The goals for a count of this size."""
    goals = [(100, Goal("rmse", 0, 0.82)), (1000, Goal("bias", -0.05, 0.05)), (300, Goal("coverage", 93, 97))]
    return [goal for least, goal in goals if size >= least]


def differences(
    plan: Plan, tracked: int, shares: Sequence[int], simulated: dict[tuple[int, int], tuple[float, ...]]
) -> list[Cell]:
    """One bucket per trial, out of which more and more ids are moved.

    Args:
        plan: the number of trials.
        tracked: the ids in the bucket.
        shares: the shares that are moved out, in per cent.
        simulated: the expected errors, by ids and share; the last one is that of the library's estimate, and
            the goal is at most a tenth more.
    """
    bounds = np.array([0, *shares, 100]) * tracked // 100
    cells = []
    for share in shares:
        expected = simulated.get((tracked, share))
        goals = [Goal("coverage", 93, 97)]
        if expected:
            goals.append(Goal("rmse", 0, 1.1 * expected[-1]))
        cells.append(Cell({"ids": tracked, "out": share, "simulated": expected}, goals))
    for _, source in seeds(plan.trials(tracked), f"moves out of {tracked:,}"):
        ids = new_ids(source, tracked)
        pieces = [HyperLogLog(ids[start:end]) for start, end in pairwise(bounds)]
        everyone, moved = reduce(HyperLogLog.__or__, pieces), HyperLogLog()
        count = everyone.count()
        for cell, piece, gone in zip(cells, pieces, bounds[1:].tolist(), strict=False):
            moved |= piece
            by_counts, _ = difference(count, moved.count(), 0)
            cell.add(tracked - gone, everyone.difference(moved), counts=by_counts, minus_exact=count - gone)
    return cells


def unions(plan: Plan) -> list[Cell]:
    """The union of some buckets, in every setting; a trial has the same ids in all settings.

    The other estimate ignores that a moved id can be alive elsewhere: the count of all less that of moved.
    """
    cells = {
        setting: Cell(
            {
                **asdict(setting),
                "alive": setting.alive(plan.source),
                "moved": setting.moved(plan.source),
            },
            union_goals(setting, plan.source),
        )
        for setting in Setting.every()
    }
    for _, source in seeds(plan.seeds, "aggregates"):
        ids = new_ids(source, 3 * plan.source).reshape(3, -1)
        one_part = cache(lambda source_index, start, stop, ids=ids: sketch_of(ids[source_index, start:stop]))
        for setting, cell in cells.items():
            sketches = [
                tuple(merged([one_part(*part) for part in parts]) for parts in bucket)
                for bucket in setting.parts(plan.source)
            ]
            everyone, gone = (
                cardinality(merged(sketches_of_kind)) for sketches_of_kind in zip(*sketches, strict=True)
            )
            estimate = Estimate(*union_of_remainders(None, [(tracked, moved) for tracked, moved in sketches]))
            cell.add(setting.alive(plan.source), estimate, ignoring=everyone - gone)
    return list(cells.values())


def merged(sketches: Sequence[Registers]) -> Registers:
    """The union of any number of sketches."""
    return reduce(np.maximum, sketches, codec.decode(HyperLogLog().to_bytes()))


def union_goals(setting: Setting, size: int) -> list[Goal]:
    """The goals for a setting."""
    goals = [Goal("bias_to_reported", -0.25, 0.25)]
    if setting.alive(size) >= setting.moved(size):
        goals.append(Goal("rmse", 0, 1.1))
    return goals
