"""Counts as metrics, in a scrape or in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.registry import Collector

from ..estimates import Estimate
from ..result import named
from .answers import Answer, OfKind
from .families import Family, gauge

__all__ = ["Exposition"]

_LABELS = ("period", "bucket", "state")


@dataclass(frozen=True, slots=True)
class Exposition(Collector):
    """What a scrape shows.

    Attributes:
        answer: the newest that there is; None = the server never answered.
        now: POSIX timestamp. No live counts are shown of periods that are over by then.
        limit: how many buckets are shown of each kind of period.
        is_up: whether the server answered when it was last asked.
        is_stale: whether the counts of the answer are too old to be shown.
    """

    answer: Answer | None
    now: float
    limit: int
    is_up: bool
    is_stale: bool = False

    def collect(self) -> list[Family]:
        """All metrics, also those without values."""
        return [*self._of_server(), *self._of_counts()]

    def _of_server(self) -> list[Family]:
        up = gauge("up", "1 if the server answered when it was last asked for counts, else 0.")
        updated = gauge("counts_updated_timestamp_seconds", "When the server last told the counts.")
        up.add_metric([], self.is_up)
        if self.answer is not None:
            updated.add_metric([], self.answer.asked)
        return [up, updated]

    def _of_counts(self) -> list[Family]:
        """What is known of the largest buckets, and how many others there are."""
        by_state, by_bucket, by_kind = _LABELS, _LABELS[:2], _LABELS[:1]
        counts = gauge(
            "active_users",
            "Distinct ids, estimated: of the running period (live), and of the newest collapsed one.",
            by_state,
        )
        low = gauge("active_users_low", "Lower limit of the interval of 95 %; none if suspect.", by_state)
        high = gauge("active_users_high", "Upper limit of the interval of 95 %; none if suspect.", by_state)
        suspect = gauge("active_users_suspect", "1 if someone has apparently chosen ids, else 0.", by_state)
        until = gauge("collapsed_until_timestamp_seconds", "End of the newest collapsed period.", by_bucket)
        left_out = gauge("buckets_left_out", "Buckets beyond the largest, which are shown.", by_kind)
        unreadable = gauge("buckets_unreadable", "Buckets of which a key holds what it should not.", by_kind)
        for each in self.answer.kinds if self.answer and not self.is_stale else ():
            sizes = _sizes(each)
            shown = sorted(sizes, key=lambda name: (-sizes[name], name or ""))[: self.limit]
            for name, state, count in self._rows(each, shown):
                labels = [each.kind, named(name), state]
                counts.add_metric(labels, count)
                suspect.add_metric(labels, count.suspect)
                if not count.suspect:  # as anything is possible then
                    for family, value in zip((low, high), count.interval(), strict=True):
                        family.add_metric(labels, value)
            for name in shown:
                if name in each.collapsed:
                    until.add_metric([each.kind, named(name)], each.collapsed[name].until)
            left_out.add_metric([each.kind], len(sizes) - len(shown))
            unreadable.add_metric([each.kind], len(each.unreadable))
        return [counts, low, high, suspect, until, left_out, unreadable]

    def _rows(self, each: OfKind, names: Iterable[str | None]) -> Iterator[tuple[str | None, str, Estimate]]:
        for name in names:
            if name in each.live and self.now < each.ends:
                yield name, "live", each.live[name]
            if name in each.collapsed:
                yield name, "collapsed", each.collapsed[name].estimate


def _sizes(each: OfKind) -> dict[str | None, int]:
    """The larger of the live and the collapsed count of each bucket: buckets seldom change places by that."""
    sizes: dict[str | None, int] = {**each.live}
    for name, (count, _) in each.collapsed.items():
        sizes[name] = max(count, sizes.get(name, 0))
    if None in sizes:
        sizes.pop(named(None), None)  # two series of the same labels make Prometheus refuse them all
    return sizes
