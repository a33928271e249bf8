"""The hashes of groups of events, told apart when they are sent: folded into registers, or made ids again.

A group is numbered, from 1 on. Large groups, which are few, are folded together; the hashes of small ones are
sorted by group first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...hll import hashing
from ...hll.compact import MOST_PACKED, CompactRegisters
from ...hll.registers import REGISTERS, Hashes, fold, fold_each
from .side_table import Seen
from .stamps import Stamps

__all__ = ["FEW", "NO_GROUP", "Column", "Grouped", "Groups"]

FEW = 128
"""Fewer events of one bucket and period than this are sent as ids: adding them takes the server no longer
than a small sketch would, which has to be read, united here and written back."""

NO_GROUP = 0

_MOST_DENSE = 64
"""So few groups are all folded into registers that are not packed, where that takes less time."""

Groups = NDArray[np.uint32]
"""Shape (n,): the number of the group of each event, or NO_GROUP."""


class Column(NamedTuple):
    """Events of groups.

    Attributes:
        hashes: shape (n,).
        groups: the group of each.
        present: groups that there are any of, and maybe NO_GROUP.
        counts: of the events of each of these.
        stamps: returns the stamp of each, shape (n,): seldom called, as it takes long.
    """

    hashes: Hashes
    groups: Groups
    present: Groups
    counts: NDArray[np.int64]
    stamps: Callable[[], Stamps]

    @classmethod
    def of_one(cls, group: int, hashes: Hashes, stamp: int) -> Column:
        """Events of one group and time."""
        of_each = np.broadcast_to(np.uint32(group), hashes.shape)
        stamps = np.broadcast_to(np.int64(stamp), hashes.shape)
        return cls(hashes, of_each, np.array([group], np.uint32), np.array([len(hashes)]), lambda: stamps)


class Grouped:
    """Events of groups, told apart when they are sent.

    Args:
        columns: the events.
        count: how many groups there are.
    """

    def __init__(self, columns: Sequence[Column], count: int) -> None:
        self._columns = columns
        counts = np.zeros(count + 1, np.int64)
        for column in columns:
            np.add.at(counts, column.present, column.counts)
        self._counts: list[int] = counts.tolist()
        self._is_large = counts > (MOST_PACKED if count > _MOST_DENSE else FEW)
        self._is_large[NO_GROUP] = False
        self._registers: dict[int, CompactRegisters] = {}  # of large groups
        if self._is_large.any():
            self._fold_large()

    def _fold_large(self) -> None:
        large = np.flatnonzero(self._is_large)
        rows = np.zeros(len(self._counts), np.int64)  # that of row 0 is what belongs to no large group
        rows[large] = np.arange(1, len(large) + 1)
        registers = np.zeros((len(large) + 1, REGISTERS), np.uint8)
        for column in self._columns:
            of_present = rows[column.present]
            if len(of_present) > 1:
                fold_each(registers, column.hashes, column.groups, rows)
            elif of_present.any():
                fold(registers[of_present[0]], column.hashes)
        self._registers = {
            group: CompactRegisters.of(registers[row]) for row, group in enumerate(large.tolist(), 1)
        }

    @cached_property
    def _small(self) -> tuple[Hashes, NDArray[np.int64]]:
        """The hashes of all groups that are not large, sorted by group; and where those of each end."""
        is_small = ~self._is_large
        is_small[NO_GROUP] = False
        chosen = [np.flatnonzero(is_small.take(column.groups)) for column in self._columns]
        columns = list(zip(self._columns, chosen, strict=True))
        hashes = np.concatenate([column.hashes.take(some) for column, some in columns])
        order = self._order(np.concatenate([column.groups.take(some) for column, some in columns]))
        return hashes.take(order), np.cumsum(np.where(is_small, self._counts, 0))

    @cached_property
    def _all(self) -> tuple[Hashes, Stamps, NDArray[np.int64]]:
        """All hashes and stamps, sorted by group; and where those of each end."""
        order = self._order(np.concatenate([column.groups for column in self._columns]))
        hashes = np.concatenate([column.hashes for column in self._columns]).take(order)
        stamps = np.concatenate([column.stamps() for column in self._columns]).take(order)
        return hashes, stamps, np.cumsum(self._counts)

    def _order(self, groups: Groups) -> NDArray[np.intp]:
        # numpy sorts 16-bit numbers by radix.
        kind = np.uint16 if len(self._counts) <= 1 << 16 else np.uint32
        return np.argsort(groups.astype(kind), kind="stable")

    def _hashes(self, group: int) -> Hashes:
        """Those of a small group."""
        hashes, ends = self._small
        return hashes[ends[group - 1] : ends[group]]

    def seen(self, groups: Sequence[int]) -> list[Seen]:
        """The hashes of several groups, with their stamps."""
        if not groups:
            return []
        hashes, stamps, ends = self._all
        parts = [slice(ends[group - 1], ends[group]) for group in groups]
        return [Seen(hashes[part], stamps[part]) for part in parts]

    def registers(self, groups: Sequence[int]) -> list[CompactRegisters]:
        """Parts of those of several groups; they must not be changed."""
        parts = [self._registers[group] for group in groups if group in self._registers]
        small = [self._hashes(group) for group in groups if group not in self._registers]
        if small:
            folded = CompactRegisters()
            folded.fold(np.concatenate(small))
            parts.append(folded)
        return parts

    def events(self, groups: Sequence[int]) -> int:
        """How many events several groups have."""
        return sum(map(self._counts.__getitem__, groups))

    def ids(self, groups: Sequence[int]) -> Iterator[bytes]:
        """Ids made for the hashes of several small groups, in this order."""
        return iter(
            hashing.ids_of(np.concatenate([self._hashes(group) for group in groups])) if groups else ()
        )
