"""What is asked of a tracker for its metrics, by its public calls, and the answer.

Which time it is, and when to ask, is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ..errors import BackendDataError
from ..estimates import Estimate
from ..periods import Period, PeriodKind
from ..tracker import ActivityTracker
from ..words import of_bucket

__all__ = ["Answer", "Collapsed", "OfKind", "Question"]

_LOG = logging.getLogger("activity_tracker_hll")
_LOOK_BACK = (0, 1, 7, 32)
"""Periods back, in steps: the newest has counts as a rule, and only where it has none more are asked for."""


class Collapsed(NamedTuple):
    """The newest stored count of a bucket, and the POSIX timestamp at which its period ended."""

    estimate: Estimate
    until: float


@dataclass(frozen=True, slots=True)
class OfKind:
    """The counts of one kind of period.

    Attributes:
        kind: the kind.
        ends: POSIX timestamp at which the running period ends.
        live: the counts of the running period, 0 where nothing was tracked.
        collapsed: the newest stored counts, of the last 32 periods.
        unreadable: the buckets of which a key holds what does not belong there.
    """

    kind: PeriodKind
    ends: float
    live: Mapping[str | None, Estimate]
    collapsed: Mapping[str | None, Collapsed]
    unreadable: frozenset[str | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """All counts.

    Attributes:
        asked: POSIX timestamp of the question.
        kinds: the counts of each kind of period.
    """

    asked: float
    kinds: tuple[OfKind, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Which counts are wanted.

    Attributes:
        tracker: who is asked.
        kinds: the kinds of period.
        buckets: buckets and aggregates; None = the tracker's, and the aggregates of these.
        shard: the data set.
    """

    tracker: ActivityTracker
    kinds: tuple[PeriodKind, ...]
    buckets: tuple[str | None, ...] | None
    shard: int = 0
    _warned: set[str] = field(default_factory=set)

    def ask(self, now: float) -> Answer:
        """Ask the server, which takes some round trips for each kind of period.

        Args:
            now: POSIX timestamp.

        Raises:
            BackendError: it failed.
        """
        settings = self.tracker.read_settings(shard=self.shard)  # by then the zone of the data is known
        buckets = self.buckets
        if buckets is None:
            own = (None,) if self.tracker.buckets is None else self.tracker.buckets
            unions = settings.aggregate_buckets.items()
            buckets = (*own, *(name for name, sources in unions if set(sources) <= set(own)))
        return Answer(now, tuple(self._of_kind(kind, buckets, now) for kind in self.kinds))

    def _of_kind(self, kind: PeriodKind, buckets: Sequence[str | None], now: float) -> OfKind:
        calendar = self.tracker.calendar
        running = calendar.running(kind, now)
        unreadable: set[str | None] = set()
        counted = self._newest(kind, [running.period], buckets, unreadable, live=True)
        live = {
            name: counted[name][0] if name in counted else Estimate(0)
            for name in buckets
            if name not in unreadable
        }
        past = list(calendar.before(kind, running.period.start, _LOOK_BACK[-1]))
        stored: dict[str | None, tuple[Estimate, Period]] = {}
        for first, last in pairwise(_LOOK_BACK):
            wanted = [name for name in buckets if name not in stored and name not in unreadable]
            if wanted and past[first:last]:
                stored |= self._newest(kind, past[first:last], wanted, unreadable, live=False)
        collapsed = {
            name: Collapsed(count, calendar.timestamp(period.next().start))
            for name, (count, period) in stored.items()
        }
        return OfKind(kind, running.ends, live, collapsed, frozenset(unreadable))

    def _newest(
        self,
        kind: PeriodKind,
        periods: Sequence[Period],
        buckets: Sequence[str | None],
        unreadable: set[str | None],
        *,
        live: bool,
    ) -> dict[str | None, tuple[Estimate, Period]]:
        """The count of each bucket in the newest of some periods that has one.

        Args:
            kind: of the periods.
            periods: adjacent ones, newest first.
            buckets: of which.
            unreadable: takes those that cannot be read; the others are asked for without them.
            live: whether what is not collapsed is counted.
        """
        try:
            rows = self.tracker.lookup(
                kind,
                start=periods[-1].start,
                end=periods[0].next().start,
                buckets=buckets,
                live=live,
                missing=None,
                shard=self.shard,
            )
        except BackendDataError as error:
            for period_name, bucket, why in error.failures:
                unreadable.add(bucket)
                self._warn(of_bucket(period_name, bucket, why))
            readable = [bucket for bucket in buckets if bucket not in unreadable]
            if len(readable) == len(buckets):  # it is about none of them
                raise
            return self._newest(kind, periods, readable, unreadable, live=live) if readable else {}
        newest: dict[str | None, tuple[Estimate, Period]] = {}
        for period, (_, counts) in zip(periods, reversed(rows), strict=True):
            for bucket, count in counts.items():
                if count is not None:
                    newest.setdefault(bucket, (count, period))
        return newest

    def _warn(self, message: str) -> None:
        """Log, once, what is wrong with a key."""
        if message not in self._warned:
            self._warned.add(message)
            _LOG.warning("a count is left out of the metrics: %s", message)
