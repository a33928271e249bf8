"""Events of one call, gathered by bucket and period: as registers, or as ids where they are few.

A sketch costs the server the same however many ids are in it, so many ids are cheaper as a sketch and few as
PFADD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ...errors import BackendError
from ...hll.registers import Hashes, Registers, empty, fold
from ..base import Context, Operation, PeriodBucket
from .open_periods import OpenPeriods
from .side_table import Seen, SideTable, Stamps
from .unite import Load, unite

__all__ = ["FEW", "Gathered"]

FEW = 128
"""Fewer events of one bucket and period than this are kept as ids: the server adds these in the time it takes
to read a small sketch, unite it here and write it back."""

_MOST_SKETCHES = 2048  # of 16 KiB
_MOST_EVENTS = 1 << 20  # of 8 bytes, kept to find returning ids; beyond that a push costs next to nothing


@dataclass(slots=True)
class _Bucket:
    """What waits for one bucket and period."""

    registers: Registers | None = None
    seen: list[Seen] = field(default_factory=list)
    ids: list[tuple[bytes, int]] = field(default_factory=list)

    @property
    def events(self) -> int:
        return len(self.ids) + sum(len(part.hashes) for part in self.seen)


class Gathered:
    """What is not sent yet.

    Args:
        open_periods: marks periods.
        running: names of those that are not over.
    """

    def __init__(
        self, context: Context, open_periods: OpenPeriods, running: Callable[[], Iterable[str]]
    ) -> None:
        self._context = context
        self._open_periods = open_periods
        self._running = running
        self._buckets: dict[PeriodBucket, _Bucket] = {}
        self._tables: dict[PeriodBucket, SideTable] = {}
        self._moving: set[PeriodBucket] = set()
        self.events = 0

    @property
    def full(self) -> bool:
        """Whether more would take too much memory."""
        return self.events >= _MOST_EVENTS or len(self._buckets) >= _MOST_SKETCHES

    def add_ids(self, target: PeriodBucket, ids: Iterable[tuple[bytes, int]]) -> None:
        """Keep encoded ids with their stamps."""
        kept = self._buckets.setdefault(target, _Bucket()).ids
        before = len(kept)
        kept += ids
        self.events += len(kept) - before

    def add_hashes(self, target: PeriodBucket, hashes: Hashes, since: int | Stamps) -> None:
        """Fold hashes, which must not change any more.

        Args:
            since: stamps, one for all or one for each.
        """
        waiting = self._buckets.setdefault(target, _Bucket())
        if waiting.registers is None:
            waiting.registers = empty()
        fold(waiting.registers, hashes)
        waiting.seen.append(Seen(hashes, since))
        self.events += len(hashes)

    def has_sketch(self, target: PeriodBucket) -> bool:
        """Whether there is a sketch that more can be folded into."""
        return target in self._buckets and self._buckets[target].registers is not None

    def has_table(self, target: PeriodBucket) -> bool:
        """Whether the last push heard of ids that moved out of the bucket."""
        return target in self._moving

    def push(self) -> Operation[dict[str, int]]:
        """Send everything; returns how many events each late period refused.

        Raises:
            BackendError: the first one; what else could be sent was.
        """
        buckets, self._buckets, self.events = self._buckets, {}, 0
        loads = {
            target: Load(
                waiting.registers,
                waiting.ids,
                waiting.seen,
                table=self._tables.setdefault(target, SideTable()),
            )
            for target, waiting in buckets.items()
        }
        sent = yield from unite(self._context, loads, self._open_periods, self._running())
        late: dict[str, int] = {}
        errors: list[BackendError] = []
        for target, outcome in sent.outcomes.items():
            if outcome.table.members:
                self._moving.add(target)
            if outcome.error is not None:
                errors.append(outcome.error)
            elif outcome.late:
                late[target[0]] = late.get(target[0], 0) + buckets[target].events
        if sent.unmarked is not None:
            errors.append(sent.unmarked)
        if errors:
            raise errors[0]
        return late
