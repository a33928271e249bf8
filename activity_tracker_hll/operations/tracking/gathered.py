"""Events of one call, gathered until they are sent.

The events of one bucket and one period of each kind are a *group*: hashes and times are kept, and hashes are
folded when they are sent. A sketch costs the server the same however many ids are in it, so many hashes are
cheaper as a sketch, and few as PFADD of ids made for the purpose. When they happened matters only where the
server then tells that ids have left the bucket. A few events are kept as ids, and so are all of them for a
server that takes no sketches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, repeat
from operator import itemgetter

from ...errors import BackendConnectionError, BackendError, BackendTimeoutError
from ...hll.compact import CompactRegisters
from ..base import Context, Operation, PeriodBucket, batched
from .groups import FEW, Column, Grouped
from .memory import Memory
from .open_periods import OpenPeriods
from .side_table import SideTable
from .unite import Load, unite

__all__ = ["Gathered"]

_ANY_TIME = 0
"""Older than any stamp: of ids that are made for hashes, as by these the ids that came back are found."""

_MOST_TARGETS = 1 << 16
_MOST_NUMBERS = 1 << 21  # of 8 bytes, kept to find returning ids; beyond that a push costs next to nothing
_NUMBERS_PER_ID = 16  # an id and its stamp are three objects
_LOADS_PER_PUSH = 1024


@dataclass(slots=True)
class _Bucket:
    """What is gathered for one bucket and period.

    Attributes:
        groups: numbers of groups; of which others have some, too: a month has those of its days.
        ids: encoded, with stamps, of events in no group; None = not any, as of most buckets.
    """

    groups: list[int] = field(default_factory=list)
    ids: list[tuple[bytes, int]] | None = None

    def events(self, grouped: Grouped) -> int:
        return len(self.ids or ()) + grouped.events(self.groups)

    def few(self, grouped: Grouped) -> list[int]:
        """The groups that are sent as ids."""
        return self.groups if grouped.events(self.groups) < FEW else []

    def registers(self, grouped: Grouped) -> CompactRegisters | None:
        """All of its registers, which must not be changed."""
        parts = grouped.registers(self.groups)
        if len(parts) < 2:
            return parts[0] if parts else None
        united = CompactRegisters()
        for part in parts:
            united.raise_to(part)
        return united


class Gathered:
    """Events of one call that are not sent yet.

    Args:
        open_periods: marks periods as holding uncounted data.
        running: returns the names of periods that are not over.
        memory: for the columns of groups.

    Attributes:
        groups: the numbers of groups, by whatever key the caller has for them.
        numbers: how many are kept: hashes, each once for all periods; stamps; and ids, as several each.
        past: what the last push sent of periods that were over.
    """

    def __init__(
        self,
        context: Context,
        open_periods: OpenPeriods,
        running: Callable[[], Collection[str]],
        memory: Memory,
    ) -> None:
        self._context = context
        self._open_periods = open_periods
        self._running = running
        self._tables: dict[PeriodBucket, SideTable] = {}  # of buckets that ids have moved out of
        self.past: list[PeriodBucket] = []
        self.memory = memory
        self._begin()

    def _begin(self) -> None:
        self._buckets: dict[PeriodBucket, _Bucket] = {}
        self._columns: list[Column] = []
        self._group_count = 0
        self.groups: dict[int, int] = {}
        self.numbers = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to push."""
        return not self._buckets

    @property
    def full(self) -> bool:
        """Whether it is time to push: more events would take too much memory."""
        return self.numbers >= _MOST_NUMBERS or len(self._buckets) >= _MOST_TARGETS

    def _bucket(self, target: PeriodBucket) -> _Bucket:
        if target not in self._buckets:
            self._buckets[target] = _Bucket()
        return self._buckets[target]

    def begin_batch(self) -> None:
        """To be called before the first array of a batch is made: what was sent may be written over."""
        if not self._columns:
            self.memory.clear()

    def new_group(self, key: int, targets: Iterable[PeriodBucket]) -> int:
        """The number of a new group, which is in :attr:`groups` until the next push.

        Args:
            targets: its bucket, with a period of each kind.
        """
        self._group_count += 1
        number = self.groups[key] = self._group_count
        for target in targets:
            self._bucket(target).groups.append(number)
        return number

    def add_to_groups(self, events: Column, numbers: int) -> None:
        """Keep events of groups, the arrays of which must not change; by that so many numbers are kept."""
        self._columns.append(events)
        self.numbers += numbers

    def add_ids(self, target: PeriodBucket, ids: Iterable[tuple[bytes, int]]) -> None:
        """Keep encoded ids with their stamps."""
        bucket = self._bucket(target)
        bucket.ids = bucket.ids or []
        before = len(bucket.ids)
        bucket.ids += ids
        self.numbers += _NUMBERS_PER_ID * (len(bucket.ids) - before)

    def push(self) -> Operation[dict[str, int]]:
        """Send everything; returns how many events each late period refused.

        Raises:
            BackendError: the first error; what else could be sent was sent, but a server that does not answer
                is not waited for again and again.
        """
        buckets, grouped = self._buckets, Grouped(self._columns, self._group_count)
        self._begin()
        running = self._running()
        self.past = sorted((target for target in buckets if target[0] not in running), key=itemgetter(0))
        late: dict[str, int] = {}
        errors: list[BackendError] = []
        for targets in batched(buckets, _LOADS_PER_PUSH):
            loads = self._loads({target: buckets[target] for target in targets}, grouped)
            sent = yield from unite(self._context, loads, self._open_periods, running)
            for target, outcome in sent.outcomes.items():
                if outcome.table.members:
                    self._tables[target] = loads[target].table
                if outcome.error is not None:
                    errors.append(outcome.error)
                elif outcome.late:
                    late[target[0]] = late.get(target[0], 0) + buckets[target].events(grouped)
            if sent.mark_error is not None:
                errors.append(sent.mark_error)
            if any(isinstance(error, (BackendConnectionError, BackendTimeoutError)) for error in errors):
                break
        if errors:
            raise errors[0]
        return late

    def _loads(self, buckets: Mapping[PeriodBucket, _Bucket], grouped: Grouped) -> dict[PeriodBucket, Load]:
        few = {target: bucket.few(grouped) for target, bucket in buckets.items()}
        ids = grouped.ids([group for groups in few.values() for group in groups])
        return {
            target: Load(
                registers=None if few[target] else bucket.registers(grouped),
                ids=[*(bucket.ids or ()), *zip(islice(ids, grouped.events(few[target])), repeat(_ANY_TIME))],
                seen=partial(grouped.seen, bucket.groups),
                table=self._tables.get(target) or SideTable(),
            )
            for target, bucket in buckets.items()
        }
