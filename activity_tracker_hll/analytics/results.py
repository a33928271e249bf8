"""The results of analytics: frozen, typed rows that print as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Generic, Literal, NamedTuple, TypeVar, overload

from ..estimates import Estimate, Share
from ..result import Gap, N, Record, Result, Table, dated, displayed, interval, marked, named, record
from ..words import many

__all__ = [
    "Cell",
    "Counts",
    "Lifecycle",
    "LifecycleRow",
    "Retention",
    "RetentionRow",
    "Rows",
    "Series",
    "SeriesRow",
]

R = TypeVar("R", bound=tuple[date, Mapping[str | None, Estimate | None]])


class Rows(list[R], Result):
    """The rows of a lookup: a list of (date, {bucket: count}), which prints as a table.

    Attributes:
        running: the date of the period that was running: its row is not complete.
    """

    _INDEX = ("date",)

    def __init__(self, rows: Iterable[R] = (), running: date | None = None) -> None:
        super().__init__(rows)
        self.running = running

    def to_dicts(self) -> list[Record]:
        """A dict for each row and bucket: date, bucket, count, low, high, suspect, complete."""
        return [
            {"date": day, "bucket": bucket, **record("count", count), "complete": day != self.running}
            for day, counts in self
            for bucket, count in counts.items()
        ]

    __str__ = Result.__str__

    def table(self) -> Table:
        """A title, headers, and rows of text."""
        buckets = list(self[0][1]) if self else []
        is_whole = all(day != self.running for day, _ in self)
        rows = [
            [dated(day, complete=day != self.running), *(displayed(counts[bucket]) for bucket in buckets)]
            for day, counts in self
        ]
        return f"counts{marked(is_whole)}", ["date", *map(named, buckets)], rows


@dataclass(frozen=True, slots=True, repr=False)
class Counts(Result, Mapping[str | None, Estimate | None]):
    """Distinct ids over a range, by bucket: a mapping.

    Attributes:
        start: where the range begins.
        end: what it is in does not belong to the range.
        period: the kind of period whose sketches were united.
        counts: by bucket; None where a sketch is missing.
        complete: False if the range reaches beyond now or before the first data ever tracked.
        gaps: what is missing.
    """

    start: date
    end: date
    period: str
    counts: Mapping[str | None, Estimate | None]
    complete: bool
    gaps: tuple[Gap, ...] = ()

    _INDEX = ("bucket",)

    def __getitem__(self, bucket: str | None) -> Estimate | None:
        return self.counts[bucket]

    def __iter__(self) -> Iterator[str | None]:
        return iter(self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __repr__(self) -> str:
        return f"Counts({dict(self.counts)})"

    def to_dicts(self) -> list[Record]:
        """A dict for each bucket: bucket, count, low, high, suspect, complete."""
        return [
            {"bucket": bucket, **record("count", count), "complete": self.complete}
            for bucket, count in self.counts.items()
        ]

    def table(self) -> Table:
        """A title, headers, and rows of text."""
        title = f"ids from {self.start} to before {self.end}{'' if self.complete else ', not complete'}"
        rows = [[named(bucket), displayed(count), interval(count)] for bucket, count in self.counts.items()]
        return title, ["bucket", "ids", "95 %"], rows


class SeriesRow(NamedTuple, Generic[N]):
    """A window of a :class:`Series`.

    Attributes:
        date: the first day of its last period; of an hour, its datetime.
        estimates: by bucket; None where a sketch is missing.
        complete: False if the last period is still running, or the window reaches before the first data ever
            tracked.
    """

    date: date
    estimates: Mapping[str | None, N | None]
    complete: bool


@dataclass(frozen=True, slots=True, repr=False)
class Series(Result, Sequence[SeriesRow[N]], Generic[N]):
    """Trailing windows, oldest first: a sequence of rows.

    Attributes:
        what: what the values are.
        period: the kind of period.
        window: how many of them are in a window.
        rows: a row for each window.
        gaps: the sketches that are missing.
    """

    what: Literal["unique", "stickiness"]
    period: str
    window: int
    rows: tuple[SeriesRow[N], ...]
    gaps: tuple[Gap, ...] = ()

    _INDEX = ("date",)

    @property
    def _shares(self) -> tuple[str, ...]:
        return ("value", "low", "high") if self.what == "stickiness" else ()

    @overload
    def __getitem__(self, index: int) -> SeriesRow[N]: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[SeriesRow[N], ...]: ...

    def __getitem__(self, index: int | slice) -> SeriesRow[N] | tuple[SeriesRow[N], ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<Series of {self.what} over {self.window} {self.period} periods, {len(self)} rows>"

    def to_dicts(self) -> list[Record]:
        """A dict for each row and bucket: date, bucket, value, low, high, suspect, complete."""
        return [
            {"date": row.date, "bucket": bucket, **record("value", value), "complete": row.complete}
            for row in self.rows
            for bucket, value in row.estimates.items()
        ]

    def table(self) -> Table:
        """A title, headers, and rows of text."""
        buckets = list(self.rows[0].estimates) if self.rows else []
        is_whole = all(row.complete for row in self.rows)
        title = f"{self.what} over {many(self.window, f'{self.period} period')}{marked(is_whole)}"
        rows = [
            [
                dated(row.date, complete=row.complete),
                *(displayed(row.estimates[bucket]) for bucket in buckets),
            ]
            for row in self.rows
        ]
        return title, ["until", *map(named, buckets)], rows


class Cell(NamedTuple):
    """A cohort some periods later.

    Attributes:
        ids: how many of its ids came back.
        share: their share of the cohort.
        complete: False while the period of the offset runs.
    """

    ids: Estimate
    share: Share
    complete: bool


class RetentionRow(NamedTuple):
    """A cohort.

    Attributes:
        date: the first day of its period; of an hour, its datetime.
        size: how many ids it has; None where a sketch is missing.
        cells: by offset, from the cohort's own period on; None where a sketch is missing, or the period has
            not begun.
        complete: False while its own period runs, before the first data ever tracked, or where new ids cannot
            be told from old ones, as there are no data of the time before.
    """

    date: date
    size: Estimate | None
    cells: tuple[Cell | None, ...]
    complete: bool


@dataclass(frozen=True, slots=True, repr=False)
class Retention(Result, Sequence[RetentionRow]):
    """Cohorts, oldest first, and how many of their ids came back: a sequence of rows.

    Attributes:
        period: the kind of period.
        bucket: the bucket.
        cohorts: ``"active"``: all ids of a period; ``"new"``: those in none of the `look_back` before.
        when: ``"on"``: active in the period of the offset; ``"on or after"``: in it or a later one.
        look_back: how many periods before the first cohort were looked back at; None for cohorts of the
            active.
        since: where that was all that is kept, the first day of it: later cohorts look back as far.
        rows: a row for each cohort.
        means: the mean share for each offset, weighted by the cohorts' sizes, over the complete cells of
            complete rows. Its interval allows for ids that are in several cohorts.
        gaps: the sketches that are missing.
    """

    period: str
    bucket: str | None
    cohorts: Literal["active", "new"]
    when: Literal["on", "on or after"]
    look_back: int | None
    rows: tuple[RetentionRow, ...]
    means: tuple[Share | None, ...]
    gaps: tuple[Gap, ...] = ()
    since: date | None = None

    _INDEX = ("cohort", "offset")

    @property
    def _shares(self) -> tuple[str, ...]:
        return "share", "share_low", "share_high"

    @overload
    def __getitem__(self, index: int) -> RetentionRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[RetentionRow, ...]: ...

    def __getitem__(self, index: int | slice) -> RetentionRow | tuple[RetentionRow, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<Retention of {len(self)} {self.period} cohorts of {named(self.bucket)}>"

    def to_dicts(self) -> list[Record]:
        """A dict for each cell: cohort, offset, ids and share with their limits, suspect, complete."""
        return [
            {
                "cohort": row.date,
                "offset": offset,
                **record("ids", cell.ids if cell else None, "ids_"),
                **record("share", cell.share if cell else None, "share_"),
                "suspect": bool(cell and cell.ids.suspect),
                "complete": bool(cell and cell.complete and row.complete),
            }
            for row in self.rows
            for offset, cell in enumerate(row.cells)
        ]

    def table(self) -> Table:
        """A title, headers, and rows of text."""
        of = f"ids new {_new_in(self.look_back, self.since)}" if self.cohorts == "new" else "active ids"
        is_whole = all(
            row.complete and all(cell and cell.complete for cell in row.cells) for row in self.rows
        )
        title = f"{self.period} retention of {of}, {self.when} the offset{marked(is_whole)}"
        offsets = max((len(row.cells) for row in self.rows), default=0)
        rows = [
            [
                dated(row.date, complete=row.complete),
                displayed(row.size),
                *(
                    "-" if cell is None else displayed(cell.share, complete=cell.complete)
                    for cell in row.cells
                ),
                *[""] * (offsets - len(row.cells)),
            ]
            for row in self.rows
        ]
        rows.append(["mean", "", *map(displayed, self.means)])
        return title, ["cohort", "ids", *(f"+{offset}" for offset in range(offsets))], rows


class LifecycleRow(NamedTuple):
    """What became of ids from one period to the next.

    Attributes:
        date: the first day of the period; of an hour, its datetime.
        active: ids of the period.
        new: those that were in none of the periods looked back at.
        retained: those that were active in the period before, too.
        resurrected: those that were not, but in an earlier one.
        churned: ids of the period before that are not active in this one, and did not move.
        moved: ids of the period before that left the bucket in this one.
        complete: False while the period runs, or where there are no data of the time before.

    Each is None where a sketch is missing. Each is estimated for itself: active is new + retained +
    resurrected up to their errors.
    """

    date: date
    active: Estimate | None
    new: Estimate | None
    retained: Estimate | None
    resurrected: Estimate | None
    churned: Estimate | None
    moved: Estimate | None
    complete: bool


_CLASSES = ("active", "new", "retained", "resurrected", "churned", "moved")


@dataclass(frozen=True, slots=True, repr=False)
class Lifecycle(Result, Sequence[LifecycleRow]):
    """What became of a bucket's ids, period by period, oldest first: a sequence of rows.

    Attributes:
        period: the kind of period.
        bucket: the bucket.
        look_back: how many periods before the first one were looked back at; ids are new in these.
        since: where that was all that is kept, the first day of it: later periods look back as far.
        rows: a row for each period.
        gaps: the sketches that are missing.
    """

    period: str
    bucket: str | None
    look_back: int
    rows: tuple[LifecycleRow, ...]
    gaps: tuple[Gap, ...] = ()
    since: date | None = None

    _INDEX = ("date",)

    @overload
    def __getitem__(self, index: int) -> LifecycleRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[LifecycleRow, ...]: ...

    def __getitem__(self, index: int | slice) -> LifecycleRow | tuple[LifecycleRow, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<Lifecycle of {named(self.bucket)} over {len(self)} {self.period} periods>"

    def to_dicts(self) -> list[Record]:
        """A dict for each row: date, each class with its limits, suspect, complete."""
        return [
            {
                "date": row.date,
                **{
                    key: value
                    for name in _CLASSES
                    for key, value in record(name, getattr(row, name), f"{name}_").items()
                },
                "suspect": any(number.suspect for number in row if isinstance(number, Estimate)),
                "complete": row.complete,
            }
            for row in self.rows
        ]

    def table(self) -> Table:
        """A title, headers, and rows of text."""
        rows = [
            [dated(row.date, complete=row.complete), *(displayed(getattr(row, name)) for name in _CLASSES)]
            for row in self.rows
        ]
        is_whole = all(row.complete for row in self.rows)
        new = _new_in(self.look_back, self.since)
        title = f"{self.period} lifecycle, new {new}{marked(is_whole)}"
        return title, ["period", *_CLASSES], rows


def _new_in(look_back: int | None, since: date | None) -> str:
    return f"since {since}" if since else f"in {many(look_back or 0, 'period')}"
