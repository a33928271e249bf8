"""What the fast paths have in common: a block of lines goes in, and what is plain in it comes out.

A fast path understands lines that can be read in one way only, and makes of them what the careful reader
would. All others it leaves to that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..columns import Coded, EventColumns, Texts
from ..keys import check_bucket
from .blocks import Block
from .delimited import text_of

__all__ = ["FastPath", "Part", "bucket_of", "merged"]


@dataclass(frozen=True, slots=True)
class Part:
    """What a fast path makes of a block.

    Attributes:
        ids: the id of each line.
        buckets: the bucket of each line; None = all have the layout's.
        dates: the time of each line, datetime64[us].
        plain: which lines are events as said here. The others are of any value, and to be read carefully.
    """

    ids: list[bytes] | Texts
    buckets: Coded | None
    dates: NDArray[np.datetime64]
    plain: NDArray[np.bool_]

    def of(self, chosen: NDArray[np.bool_]) -> Part:
        """Some of the lines."""
        if chosen.all():
            return self
        places = np.flatnonzero(chosen)
        ids = self.ids[places] if isinstance(self.ids, Texts) else list(compress(self.ids, chosen.tolist()))
        buckets = None if self.buckets is None else self.buckets[places]
        return Part(ids, buckets, self.dates[places], self.plain[places])


class FastPath(Protocol):
    """Reads blocks of one file.

    Attributes:
        block_size: the bytes of a block with which it is fastest.
    """

    block_size: int

    @property
    def fields(self) -> Sequence[str]:
        """What it looks for in each line."""

    def read(self, block: Block) -> Part:
        """Understand what is plain in a block."""


def bucket_of(value: str | bytes) -> str | None:
    """The bucket of a field; ValueError or an ActivityTrackerError if there is none."""
    return check_bucket(text_of(value))


def merged(parts: list[Part], bucket: str | None) -> list[EventColumns]:
    """The events of parts as few columns, so that each is long enough to be worth its cost."""
    columns: list[EventColumns] = []
    run: list[Part] = []
    for part in [*parts, None]:
        if run and (part is None or not _fit(run[-1], part)):
            columns.append(_joined(run, bucket))
            run = []
        if part is not None:
            run.append(part)
    return columns


def _fit(one: Part, other: Part) -> bool:
    """Whether two parts can be joined: texts stay in their buffer, codes with their values."""
    if isinstance(one.ids, Texts) or isinstance(other.ids, Texts):
        return False
    return one.buckets is other.buckets is None or (
        one.buckets is not None and other.buckets is not None and one.buckets.values is other.buckets.values
    )


def _joined(parts: list[Part], bucket: str | None) -> EventColumns:
    ids = [part.ids for part in parts]
    texts = ids[0] if isinstance(ids[0], Texts) else Texts.of([id for part in ids for id in part])
    buckets: Any = bucket
    if parts[0].buckets is not None:
        codes = [part.buckets.codes for part in parts if part.buckets is not None]
        buckets = Coded(parts[0].buckets.values, np.concatenate(codes))
    return EventColumns(texts, buckets, np.concatenate([part.dates for part in parts]))
