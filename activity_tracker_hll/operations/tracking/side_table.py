"""Reading side tables: which ids moved out of a bucket, and which came back.

A side table is a last-writer-wins set. Member = an id, score = the stamp of its newest event in the bucket:
positive, it was active; negative, it left. Merging a stamp keeps the newest by absolute value, active wins a
tie. So merging is commutative, associative and idempotent: stamps may be sent again, by several processes, in
any order, to a server that kept or lost an older state. Up to ``moved_limit`` members the newest event of
each id wins; beyond it any subset that got in is right: counts stay right, only the return of an id that did
not get in goes unseen.

A table may hold 100,000 ids. It is read in pages, so that no command takes the server more than a millisecond
or two, unless many thousand ids have one stamp; and what is remembered of it are hashes, not ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import bulk
from ...backends.base import Command
from ...hll.registers import Hashes
from ...scripts.calls import EMPTY_TABLE, TableState, read_stamp
from ..base import Operation, batched, items, unwrap
from .stamps import Stamps

__all__ = ["ACTIVE", "LEFT", "NEVER", "Range", "Seen", "SideTable", "last_seen", "read_members"]

_PAGE = 2000
_RANGES_PER_BATCH = 64


# Never changed in place: most of the many tables that a process knows are empty.
_NO_HASHES: Hashes = np.empty(0, np.uint64)
_NO_STAMPS: Stamps = np.empty(0, np.int64)


class Range(NamedTuple):
    """Members of a table, by their scores."""

    key: str
    low: str
    high: str


LEFT = ("-inf", "(0")
"""Scores of ids whose newest event is that they left."""

ACTIVE = ("(0", "+inf")
"""Scores of ids that left once and are back."""


def read_members(
    ranges: Sequence[Range], take: Callable[[int, list[bytes], list[int]], object]
) -> Operation[None]:
    """Read members in order of their scores, page by page.

    By scores and not by ranks, and each page begins with the last score of the one before: a member that
    changes meanwhile moves no other to where it is not seen.

    Args:
        take: called with the index of a range, ids of it, and their scores; with some ids more than once.

    Raises:
        BackendError: a range cannot be read.
    """
    for numbers in batched(range(len(ranges)), _RANGES_PER_BATCH):
        # From where on to read, and how many.
        open_at = {number: (ranges[number].low, _PAGE) for number in numbers}
        while open_at:
            commands: list[Command] = [
                ("ZRANGEBYSCORE", *ranges[number]._replace(low=low), "WITHSCORES", "LIMIT", 0, size)
                for number, (low, size) in open_at.items()
            ]
            replies = unwrap((yield commands))
            for (number, (low, size)), reply in zip(list(open_at.items()), replies, strict=True):
                del open_at[number]
                ids, scores = _pairs(reply)
                take(number, ids, scores)
                if len(ids) == size:
                    last = str(scores[-1])
                    # Where all have one score, the page is too small for them.
                    open_at[number] = (last, _PAGE) if last != low else (low, 2 * size)


def _pairs(reply: Any) -> tuple[list[bytes], list[int]]:
    """Members and scores: in one list, or in pairs as the newer protocol has them."""
    flat = items(reply)
    if flat and isinstance(flat[0], (list, tuple)):
        flat = [part for pair in flat for part in pair]
    return flat[::2], [read_stamp(score) for score in flat[1::2]]


class Seen(NamedTuple):
    """Activity of ids, as hashes; none of it was before `since`.

    Attributes:
        hashes: shape (n,).
        since: stamps in microseconds, one for all or one for each.
    """

    hashes: Hashes
    since: int | Stamps


NEVER = np.iinfo(np.int64).min
"""Of an id that was not seen; ticks may be negative, of what was before the machine was started."""


def last_seen(hashes: Hashes, seen: Sequence[Seen]) -> Stamps:
    """When each of some ids was seen last, or NEVER.

    Args:
        hashes: shape (n,), sorted.
    """
    last = np.full(len(hashes), NEVER)
    for part in seen if len(hashes) else ():
        at = np.searchsorted(hashes, part.hashes)
        np.minimum(at, len(hashes) - 1, out=at)
        hit = hashes[at] == part.hashes
        since = np.broadcast_to(np.asarray(part.since, np.int64), len(part.hashes))
        np.maximum.at(last, at[hit], since[hit])
    return last


class SideTable:
    """The ids that have left a bucket, as far as they were read, for a process that knows hashes but not ids.

    That an id has come back may go unnoticed. It does no harm: that it is active is sent once more.
    """

    __slots__ = ("_hashes", "_left", "_state")

    def __init__(self) -> None:
        self._state = EMPTY_TABLE
        self._hashes = _NO_HASHES  # of those that have left, sorted
        self._left = _NO_STAMPS  # when each of them left, in stamps

    def forget(self) -> None:
        """Read everything again the next time."""
        self.__init__()  # type: ignore[misc]

    def update(self, key: str, state: TableState) -> Operation[None]:
        """Read what is new: afterwards all are known who had left when a reply said so, and when they did.

        Args:
            key: of the table.
            state: as a reply has just given it.

        Raises:
            BackendError: it cannot be read.
        """
        if state.members < self._state.members:
            self.forget()  # the table was lost, or this is another server
        known = self._state
        if state.left and state != known:
            if known.since > 0 and not state.backdated_since(known):  # both ends: who left, and who came back
                yield from self._read(Range(key, f"({known.since}", "+inf"))
                yield from self._read(Range(key, "-inf", f"-{known.since}"))
            else:
                self.forget()  # so that all is read the next time if this fails
                yield from self._read(Range(key, *LEFT))
        self._state = state

    def _read(self, wanted: Range) -> Operation[None]:
        hashes, left = [self._hashes], [self._left]

        def take(_number: int, ids: list[bytes], scores: list[int]) -> None:
            hashes.append(bulk.hashes_of_bytes(ids))
            left.append(-np.array(scores, np.int64))

        yield from read_members([wanted], take)
        # What was read last holds; those that are active by it have not left.
        together, when = np.concatenate(hashes)[::-1], np.concatenate(left)[::-1]
        known, last = np.unique(together, return_index=True)
        when = when[last]
        self._hashes, self._left = known[when > 0], when[when > 0]

    def returned(self, seen: Sequence[Seen]) -> tuple[Hashes, Stamps, Stamps]:
        """Ids that have left and were active since: hashes, when they left, and since when they are back."""
        since = last_seen(self._hashes, seen)
        back = since >= self._left
        return self._hashes[back], self._left[back], since[back]

    def remove(self, hashes: Hashes) -> None:
        """Note that ids have come back."""
        keep = ~np.isin(self._hashes, hashes)
        self._hashes, self._left = self._hashes[keep], self._left[keep]
