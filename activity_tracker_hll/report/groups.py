"""Retention, lifecycle and overlap as the page shows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil, isnan

from ..analytics.results import Cell, LifecycleRow
from ..estimates import Estimate, Share
from .charts import Axis, Hatch, Tick, hatches, short
from .days import NO_COUNT
from .facts import Facts
from .findings import is_told, of_lifecycle, of_overlap, of_retention, root_sum
from .tables import Row, Table, link, records
from .wording import Named, Sentence, full, percent, percents, period, rounded

__all__ = ["Bar", "HeatRow", "LifecycleView", "Matrix", "lifecycle", "overlap", "retention"]

_FINE = 0.95  # half widths below are told with a decimal
_CLASSES = ("new", "resurrected", "retained", "churned", "moved")


@dataclass(frozen=True, slots=True)
class Heat:
    """A cell of a matrix.

    Attributes:
        text, half: "35" and "±2".
        title: all of it, for those who point at it.
        heat: how much of the colour, 0 to 100.
        mark: "", "unfinished", "gone" or "blank".
    """

    text: str = ""
    half: str = ""
    title: str = ""
    heat: int = 0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A row of a matrix."""

    label: str
    size: str
    cells: Sequence[Heat]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix with its finding."""

    finding: Sentence
    headers: Sequence[str] = ()
    rows: Sequence[HeatRow] = ()
    means: Sequence[Heat] = ()
    csv: str = ""
    problem: str = ""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar, in per cent of the height."""

    kind: str
    at: int
    top: float
    height: float
    pale: bool


@dataclass(frozen=True, slots=True)
class LifecycleView:
    """The section of lifecycle."""

    finding: Sentence
    bars: Sequence[Bar] = ()
    errors: Sequence[tuple[float, float, float]] = ()
    zero: float = 50.0
    width: int = 1
    up: Sequence[Tick] = ()
    across: Sequence[Tick] = ()
    hatches: Sequence[Hatch] = ()
    legend: Sequence[tuple[str, str, str]] = ()
    table: Table | None = None
    selected: int = 0
    shown: str = ""
    problem: str = ""
    word: str = "month"


# Retention


def retention(facts: Facts) -> Matrix:
    """Cohorts by offset, without the offset 0, of which all are there."""
    found = facts.groups.retention
    finding = of_retention(facts.groups)
    if found is None:
        return Matrix(finding, problem=facts.groups.problem)
    first = next((at for at, row in enumerate(found) if row.size), 0)
    rows = found.rows[first:]
    shares = [cell.share for row in rows for cell in row.cells[1:] if cell and not isnan(cell.share)]
    most = max(map(float, shares), default=0.0)
    offsets = max((len(row.cells) for row in rows), default=1)
    kind = facts.groups.kind
    whole = {row.date for row in rows if row.complete and row.date != facts.groups.partial}
    shown = [
        HeatRow(
            period(kind, row.date, short=True),
            full(row.size),
            [
                _heat(cell, most, complete=row.date in whole and bool(cell and cell.complete))
                for cell in row.cells[1:]
            ]
            + [Heat(mark="blank")] * (offsets - len(row.cells)),
            row.date in whole,
        )
        for row in rows
    ]
    means = [_mean(share, most) for share in found.means[1:offsets]]
    return Matrix(
        finding,
        [f"+{offset}" for offset in range(1, offsets)],
        shown,
        means,
        records(found.to_dicts()),
        words=(
            "new users" if found.cohorts == "new" else "users",
            "new in" if found.cohorts == "new" else "active in",
            "month" if kind == "monthly" else "week",
        ),
    )


def _heat(cell: Cell | None, most: float, *, complete: bool) -> Heat:
    if cell is None:
        return Heat(title="no count: a sketch has expired", mark="gone")
    found = _share(cell.share, most)
    return Heat(found.text, found.half, found.title, found.heat, "" if complete else "unfinished")


def _mean(share: Share | None, most: float) -> Heat:
    return Heat(mark="blank") if share is None or isnan(share) else _share(share, most)


def _share(share: Share, most: float) -> Heat:
    if isnan(share):
        return Heat("-", title="of nobody")
    heat = round(100 * share / most) if most else 0
    if share.suspect:
        return Heat(percent(share), "?", "suspect: its error is not known", heat)
    lowest, highest = share.interval()
    half = 50 * (highest - lowest)
    _, low, high = percents(share)
    text = f"{half:.0f}" if half >= _FINE else f"{half:.1f}"
    return Heat(percent(share), f"\u00b1{text}", f"{low} to {high} %", heat)


# Lifecycle


def lifecycle(facts: Facts) -> LifecycleView:
    """Bars: who is active above the line, who is not any more below it."""
    finding = of_lifecycle(facts.groups)
    found = facts.groups.lifecycle
    word = "month" if facts.groups.kind == "monthly" else "week"
    if found is None:
        return LifecycleView(finding, problem=facts.groups.problem, word=word)
    first = next((at for at, row in enumerate(found) if row.active), 0)
    rows = found.rows[first:]
    up = Axis.up_to(max((_sum(row, _CLASSES[:3]) for row in rows), default=0))
    down = Axis.up_to(max((_sum(row, _CLASSES[3:]) for row in rows), default=0))
    has_left = any(_sum(row, _CLASSES[3:]) for row in rows)
    below = -(-down.top // up.step) * up.step if has_left else 0.0
    total = up.top + below

    def y(value: float) -> float:
        return round(100 * (up.top - value) / total, 2)

    whole = {row.date for row in facts.groups.passed}
    bars: list[Bar] = []
    errors: list[tuple[float, float, float]] = []
    for at, row in enumerate(rows):
        height = 0.0
        for kind in ("retained", "resurrected", "new"):
            if part := getattr(row, kind):
                bars.append(
                    Bar(kind, at, y(height + part), round(100 * part / total, 2), row.date not in whole)
                )
                height += part
        depth = 0.0
        for kind in ("churned", "moved"):
            if part := getattr(row, kind):
                bars.append(Bar(kind, at, y(-depth), round(100 * part / total, 2), row.date not in whole))
                depth += part
        for sign, summed in (
            (1, root_sum(row.new, row.resurrected, row.retained)),
            (-1, root_sum(row.churned, row.moved)),
        ):
            if summed and summed[0]:
                errors.append((at + 0.5, y(sign * summed[1][0]), y(sign * summed[1][1])))
    selected = max((at for at, row in enumerate(rows) if row.date in whole), default=len(rows) - 1)
    moved = any(row.moved for row in rows)
    classes = _CLASSES if moved else _CLASSES[:-1]
    kind_ = facts.groups.kind
    table = Table(
        "lifecycle",
        f"What became of users, {word} by {word}",
        word,
        ("active", *classes),
        [
            Row(
                period(kind_, row.date, short=True),
                row.date.isoformat(),
                [getattr(row, name) for name in ("active", *classes)],
                row.date in whole,
            )
            for row in rows
        ],
    )
    legend = [(name, *_legend(getattr(rows[selected], name))) for name in classes] if rows else []
    every = max(1, -(-len(rows) // 13))
    steps = round(total / up.step)
    return LifecycleView(
        finding,
        bars,
        errors,
        y(0),
        len(rows),
        [Tick(round(100 * at / steps, 2), _signed(up.top - at * up.step)) for at in range(steps + 1)],
        [
            Tick(round(100 * (at + 0.5) / len(rows), 2), _mark(facts, row.date))
            for at, row in enumerate(rows)
            if at % every == 0
        ],
        hatches([NO_COUNT if None in row else "" for row in rows], bars=True),
        legend,
        table,
        selected,
        table.rows[selected].label if rows else "",
        word=word,
    )


def _mark(facts: Facts, day: date) -> str:
    return period(facts.groups.kind, day, like=day, short=True)


def _sum(row: LifecycleRow, classes: Sequence[str]) -> float:
    return float(sum(getattr(row, name) or 0 for name in classes))


def _signed(number: float) -> str:
    return short(number) if number >= 0 else f"\u2212{short(-number)}"


def _legend(number: Estimate | None) -> tuple[str, str]:
    if number is None:
        return "no count", ""
    low, high = number.interval()
    return rounded(number), "suspect" if number.suspect else f"{rounded(low)} to {rounded(high)}"


# Overlap


def overlap(facts: Facts) -> Matrix:
    """Which part of a row's users are in a column's bucket, too."""
    found = facts.shares
    finding = of_overlap(found)
    if not found.pairs:
        return Matrix(finding, problem=found.problem)
    told = [
        each for pair in found.pairs.values() for each in (pair.share_of_a, pair.share_of_b) if is_told(each)
    ]
    most = max(map(float, told), default=0.0)
    rows = [
        HeatRow(
            Named.of(name),
            full(found.size(name)),
            [
                Heat(mark="blank") if name == other else _common(found.share(name, other), most)
                for other in found.buckets
            ],
        )
        for name in found.buckets
    ]
    cells = [
        (*map(Named.of, (a, b)), *(round(float(x), 5) for x in (share, *share.interval())))
        for (a, b), pair in found.pairs.items()
        for a, b, share in ((a, b, pair.share_of_a), (b, a, pair.share_of_b))
    ]
    return Matrix(
        finding,
        [Named.of(name) for name in found.buckets],
        rows,
        csv=link(["of", "are in", "share", "low", "high"], cells),
        problem=found.problem,
    )


def _common(share: Share | None, most: float) -> Heat:
    if share is None:
        return Heat(title="no count: a sketch has expired", mark="gone")
    value, low, high = percents(share)
    title = f"{low} to {high} %"
    if is_told(share):
        return Heat(value, f"{low}\u2013{high}", title, round(100 * share / most))
    lowest, highest = share.interval()
    if lowest > 0 or highest > 0.5 or isnan(share):
        return Heat("?", "", title)
    least = f"{ceil(100 * highest)}" if highest >= 0.01 else f"{ceil(1000 * highest) / 10}"
    return Heat(f"\u2264 {least}", "", title)
