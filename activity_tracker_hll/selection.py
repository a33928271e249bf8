"""What reading calls ask for: a selection, as a user gives it, and names, as they are read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from . import arguments
from .errors import ArgumentValueError
from .messages import shown
from .operations import Context
from .operations.settings import Aggregates
from .operations.survey import Name
from .periods import PeriodKind

__all__ = ["Asked", "Missing", "Selection"]

Missing = Literal["raise", "none"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Ids of a bucket, or of several together, over a range.

    Args:
        buckets: the name of a bucket or aggregate, None = the unnamed bucket, or several names.
        start: where the range begins; it is made of whole periods.
        end: what it is in does not belong to the range.
        period: the kind of period whose sketches are united; None = the coarsest that covers it exactly.
    """

    buckets: str | arguments.Buckets | None
    start: dt.date
    end: dt.date
    period: PeriodKind | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asks for, checked: names become known with the aggregates that are stored with the data.

    Attributes:
        context: what operations are planned with.
        buckets, aggregates: the names.
        missing: what becomes of what is missing.
        together: whether all of it is one name.
        can_be_none: whether the call has the argument `missing`.
    """

    context: Context
    buckets: tuple[str | None, ...]
    aggregates: Mapping[str, tuple[str | None, ...]]
    missing: Missing
    together: bool
    can_be_none: bool = True

    def names(self) -> list[Name]:
        """The names asked for; if together, all in one.

        Raises:
            ArgumentValueError: an aggregate that bears the name of a bucket.
        """
        known = self.context.aggregates
        names = [self._name(bucket, known) for bucket in self.buckets]
        for name, sources in self.aggregates.items():
            if name in self.buckets or (name in (self.context.known or ()) and name not in known):
                raise ArgumentValueError(f"aggregate_buckets[{shown(name)}] bears the name of a bucket")
            united = self._united(self._name(source, known) for source in sources)
            names.append(Name(name, united, union=set(known.get(name, ())) == set(united)))
        if not self.together or len(names) == 1:
            return names
        return [Name(None, self._united(names), union=False)]

    def _name(self, bucket: str | None, known: Aggregates) -> Name:
        """A bucket, or an aggregate by its name."""
        if bucket in known:
            return Name(bucket, known[str(bucket)], union=True)
        self.context.note(bucket, "is it misspelled?")
        return Name(bucket, (bucket,), union=False)

    @staticmethod
    def _united(names: Iterable[Name]) -> tuple[str | None, ...]:
        return tuple(dict.fromkeys(bucket for name in names for bucket in name.buckets))
