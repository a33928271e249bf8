"""What a collapse is about: the buckets and aggregates that it counts, and those that it has to heed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..base import Context
from ..settings import Aggregates

__all__ = ["Scope", "sources_of", "stored"]

Buckets = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a collapse is about.

    Attributes:
        buckets: to count.
        aggregates: to count, each with its sources.
        named: aggregates that the call itself gives: that one cannot be counted any more is an error.
        elsewhere: aggregates that other calls count: their sources' sketches are kept until that was done.
    """

    buckets: Buckets
    aggregates: Aggregates = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    elsewhere: Aggregates = field(default_factory=dict)

    @classmethod
    def of(
        cls, context: Context, known: Buckets | None, buckets: Buckets | None, given: Aggregates | None
    ) -> Scope:
        """The scope of a call: its own buckets and aggregates, else the tracker's and those of the data.

        Args:
            context: has the aggregates of the tracker and of the data.
            known: the tracker's buckets; None = it was given none.
            buckets, given: the call's own.
        """
        unions = context.aggregates
        own = context.given.aggregates if given is None else stored(context, given)
        if buckets is None:
            chosen = sources_of(own) if known is None else known
            wanted = unions if given is None else own
            aggregates = {name: of for name, of in wanted.items() if given or set(chosen).issuperset(of)}
        else:
            chosen = tuple(bucket for bucket in buckets if bucket not in unions)
            named = {str(name): unions[str(name)] for name in buckets if name in unions}
            whole = {name: of for name, of in unions.items() if set(chosen).issuperset(of)}
            aggregates = {**named, **(whole if given is None else own)}
        elsewhere = {name: of for name, of in unions.items() if name not in aggregates}
        return cls(chosen, aggregates, frozenset(given or ()), elsewhere)


def stored(context: Context, given: Aggregates) -> dict[str, Buckets]:
    """A call's aggregates, but as the data know them; where that differs, it is logged."""
    context.compare(given)
    return {name: context.agreed.aggregate_buckets.get(name, of) for name, of in given.items()}


def sources_of(aggregates: Aggregates) -> Buckets:
    """The sources of all of them; without any, the unnamed bucket."""
    return tuple(dict.fromkeys(source for of in aggregates.values() for source in of)) or (None,)
