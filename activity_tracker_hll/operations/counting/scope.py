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
        others: other known buckets: a period in which one is uncounted stays marked as open. None = the other
            buckets are unknown.
        elsewhere: aggregates that other calls count: their sources' sketches are kept until that was done.
    """

    buckets: Buckets
    aggregates: Aggregates = field(default_factory=dict)
    others: Buckets | None = None
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
        chosen = buckets or known
        if given is None:
            own = context.given.aggregates if buckets is None else {}
            chosen = chosen or sources_of(own)
            whole = {name: of for name, of in context.aggregates.items() if set(chosen).issuperset(of)}
            aggregates = {**own, **whole}
        else:
            aggregates = stored(context, given)
            chosen = chosen or sources_of(aggregates)
        # Without a list of its own a tracker does not know what other buckets there are.
        others = None if known is None else tuple(bucket for bucket in known if bucket not in chosen)
        elsewhere = {name: of for name, of in context.aggregates.items() if name not in aggregates}
        return cls(chosen, aggregates, others, elsewhere)

    @property
    def known(self) -> Buckets:
        """All names that are known, aggregates included."""
        names = (*self.buckets, *(self.others or ()), *self.aggregates, *self.elsewhere)
        return tuple(dict.fromkeys(names))


def stored(context: Context, given: Aggregates) -> dict[str, Buckets]:
    """A call's aggregates, but as the data know them."""
    return {name: context.agreed.aggregate_buckets.get(name, of) for name, of in given.items()}


def sources_of(aggregates: Aggregates) -> Buckets:
    """The sources of all of them; without any, the unnamed bucket."""
    return tuple(dict.fromkeys(source for of in aggregates.values() for source in of)) or (None,)
