"""What all results have, and what they are made of.

They are frozen, and print as tables. Where a number is wanted that nobody can know any more, there stands
None, and `gaps` says why.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import date
from math import isnan
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from .estimates import Estimate, Share
from .tabulate import html, text

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "UNNAMED",
    "ByBucket",
    "Gap",
    "N",
    "Number",
    "Reason",
    "Record",
    "Result",
    "Table",
    "dated",
    "displayed",
    "interval",
    "marked",
    "named",
    "record",
]

UNNAMED = "(all)"
"""What people read for the unnamed bucket."""

Record = dict[str, Any]
Number = Estimate | Share
N = TypeVar("N", bound=Estimate | Share)
Table = tuple[str, list[str], list[list[str]]]
Reason = Literal["expired", "never tracked", "not archived"]


class Gap(NamedTuple):
    """Why a number is not known.

    Attributes:
        date: the first day of the period whose sketch is missing; of an hour, its datetime.
        period: its name.
        bucket: the bucket; of an aggregate, the source.
        reason: ``"expired"``: it was counted, and its sketch is gone since. ``"never tracked"``: nothing was
            ever tracked in the bucket in this kind of period. ``"not archived"``: an archive does not
            have it.
    """

    date: date
    period: str
    bucket: str | None
    reason: Reason


class Result(ABC):
    """What all results have: they print as a table, also in a notebook, and become dicts or a data frame."""

    @abstractmethod
    def to_dicts(self) -> list[Record]:
        """The numbers, each in a dict with its limits, ready for JSON but for dates."""

    @abstractmethod
    def table(self) -> Table:
        """A title, headers, and rows of text; the first column is a label."""

    def to_frame(self) -> DataFrame:
        """The numbers and their limits of 95 % as a pandas DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from .frames import frame  # noqa: PLC0415 (an extra)

        records = self.to_dicts()
        for each in records:
            if "bucket" in each:  # a category cannot be None
                each["bucket"] = named(each["bucket"])
        return frame(records, self._INDEX, self._shares)

    _INDEX: tuple[str, ...] = ()

    @property
    def _shares(self) -> tuple[str, ...]:
        """The columns of a data frame that are shares; all other numbers are of ids."""
        return ()

    def __str__(self) -> str:
        return text(*self.table())

    def _repr_html_(self) -> str:
        return html(*self.table())


class ByBucket(Mapping[str | None, N | None]):
    """Numbers by bucket: a mapping that stays as it is."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Mapping[str | None, N | None]) -> None:
        self._numbers = dict(numbers)

    def __getitem__(self, bucket: str | None) -> N | None:
        return self._numbers[bucket]

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __hash__(self) -> int:
        return hash(frozenset(self._numbers.items()))

    def __repr__(self) -> str:
        return repr(self._numbers)


def record(name: str, value: Number | None, prefix: str = "") -> Record:
    """A number and its limits; without a prefix it is alone in its record, and says whether it is suspect."""
    low, high = (None, None) if value is None else value.interval()
    plain = int(value) if isinstance(value, int) else value if value is None else float(value)
    record: Record = {name: plain, f"{prefix}low": low, f"{prefix}high": high}
    return record if prefix else record | {"suspect": value is not None and value.suspect}


def marked(is_whole: bool) -> str:
    """What a title has beside it where something is not complete."""
    return "" if is_whole else " (* not complete)"


def named(bucket: str | None) -> str:
    """A bucket, as people read it."""
    return UNNAMED if bucket is None else bucket


def dated(day: date, *, complete: bool) -> str:
    """A date, with a mark where its row is not complete."""
    return f"{day}{'' if complete else ' *'}"


def displayed(value: Number | None, *, complete: bool = True) -> str:
    """A number as people read it: "-" where it is not known, "?" beside it where it is suspect."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return "-"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.1%}"
    return f"{shown}{'?' if value.suspect else ''}{'' if complete else ' *'}"


def interval(value: Number | None) -> str:
    """The limits of 95 % as people read them."""
    if value is None or value.suspect:
        return "-"
    low, high = value.interval()
    return f"{low:,}-{high:,}" if isinstance(value, int) else f"{low:.1%}-{high:.1%}"
