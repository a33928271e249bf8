"""Events of one call, gathered by bucket and period: as registers, or as ids where they are few.

A sketch costs the server the same however many ids are in it, so many ids are cheaper as a sketch and few as
PFADD.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from ...errors import BackendError
from ...hll.compact import CompactRegisters
from ...hll.registers import Hashes
from ..base import Context, Operation, PeriodBucket
from .open_periods import OpenPeriods
from .side_table import Seen, SideTable, Stamps
from .unite import Load, unite

__all__ = ["FEW", "Gathered"]

FEW = 128
"""Fewer events of one bucket and period than this are kept as ids: adding them takes the server no longer
than a small sketch would, which has to be read, united here and written back."""

_MOST_SKETCHES = 2048  # of up to 16 KiB
_MOST_NUMBERS = 1 << 20  # of 8 bytes, kept to find returning ids; beyond that a push costs next to nothing
_NUMBERS_PER_ID = 8  # an id and its stamp are three objects


@dataclass(slots=True)
class _Bucket:
    """What is gathered for one bucket and period; registers in parts, of which others may have some, too."""

    parts: list[CompactRegisters] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    ids: list[tuple[bytes, int]] = field(default_factory=list)

    @property
    def events(self) -> int:
        return len(self.ids) + sum(len(part.hashes) for part in self.seen)

    def registers(self) -> CompactRegisters | None:
        """All of its registers, which must not be changed."""
        if len(self.parts) < 2:
            return self.parts[0] if self.parts else None
        united = CompactRegisters()
        for part in self.parts:
            united.raise_to(part)
        return united


class Gathered:
    """Events of one call that are not sent yet.

    Args:
        open_periods: marks periods as holding uncounted data.
        running: returns the names of periods that are not over.

    Attributes:
        numbers: how many are kept: hashes, each once for all periods; stamps; and ids, as several each.
        past: what the last push sent of periods that were over.
    """

    def __init__(
        self, context: Context, open_periods: OpenPeriods, running: Callable[[], Collection[str]]
    ) -> None:
        self._context = context
        self._open_periods = open_periods
        self._running = running
        self._buckets: dict[PeriodBucket, _Bucket] = {}
        self._parts: dict[tuple[PeriodBucket, ...], CompactRegisters] = {}
        self._tables: dict[PeriodBucket, SideTable] = {}  # of buckets that ids have moved out of
        self.past: list[PeriodBucket] = []
        self.numbers = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to push."""
        return not self._buckets

    @property
    def full(self) -> bool:
        """Whether it is time to push: more events would take too much memory."""
        return self.numbers >= _MOST_NUMBERS or len(self._buckets) >= _MOST_SKETCHES

    def add_ids(self, target: PeriodBucket, ids: Iterable[tuple[bytes, int]]) -> None:
        """Keep encoded ids with their stamps."""
        gathered = self._buckets.setdefault(target, _Bucket()).ids
        before = len(gathered)
        gathered += ids
        self.numbers += _NUMBERS_PER_ID * (len(gathered) - before)

    def add_hashes(self, hashes: Hashes, since: Mapping[PeriodBucket, int | Stamps]) -> None:
        """Fold hashes into registers of several buckets and periods; the array is kept, and must not change.

        Args:
            since: for each bucket and period stamps, one for all ids or one for each.
        """
        targets = tuple(since)
        if targets not in self._parts:
            # Folded once for all: a month's registers are made of its days' when they are sent.
            self._parts[targets] = CompactRegisters()
            for target in targets:
                self._buckets.setdefault(target, _Bucket()).parts.append(self._parts[targets])
        self._parts[targets].fold(hashes)
        for target, stamps in since.items():
            self._buckets[target].seen.append(Seen(hashes, stamps))
        self.numbers += len(hashes) * (1 + sum(not isinstance(stamps, int) for stamps in since.values()))

    def has_sketch(self, target: PeriodBucket) -> bool:
        """Whether a sketch is sent anyway, so that more hashes cost the server nothing."""
        return target in self._buckets and bool(self._buckets[target].parts)

    def few_ids(self, target: PeriodBucket) -> int:
        """How many ids are kept as such."""
        return len(self._buckets[target].ids) if target in self._buckets else 0

    def has_table(self, target: PeriodBucket) -> bool:
        """Whether a push found that ids have moved out of the bucket."""
        return target in self._tables

    def push(self) -> Operation[dict[str, int]]:
        """Send everything; returns how many events each late period refused.

        Raises:
            BackendError: the first error; what else could be sent was sent.
        """
        buckets, self._buckets, self._parts, self.numbers = self._buckets, {}, {}, 0
        loads = {
            target: Load(
                gathered.registers(),
                gathered.ids,
                gathered.seen,
                table=self._tables.get(target) or SideTable(),
            )
            for target, gathered in buckets.items()
        }
        running = self._running()
        self.past = sorted((target for target in loads if target[0] not in running), key=itemgetter(0))
        sent = yield from unite(self._context, loads, self._open_periods, running)
        late: dict[str, int] = {}
        errors: list[BackendError] = []
        for target, outcome in sent.outcomes.items():
            if outcome.table.members:
                self._tables[target] = loads[target].table
            if outcome.error is not None:
                errors.append(outcome.error)
            elif outcome.late:
                late[target[0]] = late.get(target[0], 0) + buckets[target].events
        if sent.mark_error is not None:
            errors.append(sent.mark_error)
        if errors:
            raise errors[0]
        return late
