"""Counts of buckets and aggregates with moves: from the registers, which are read, or from counts.

Registers say more than counts do. Where the server does not hand them out in a form that is known
here (another encoding, a stand-in for tests), its own counts have to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from math import inf
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from .. import bulk
from ..backends.base import Command
from ..errors import BackendError, BackendResponseError, MalformedSketchError, UnknownEncodingError
from ..estimates import Estimate
from ..hll import codec, from_counts
from ..hll.estimators import remainder
from ..hll.randomness import are_random, is_random, is_random_remainder, of_histogram
from ..hll.registers import Registers, empty, fold, histogram
from ..hll.unions import union_of_remainders
from ..keys import BucketKeys
from .base import Context, Operation, batched, items

__all__ = ["Moved", "are_suspect", "estimate_buckets", "estimate_union", "suspects", "union_from_counts"]

_BUCKETS_PER_BATCH = 100  # two sketches of 12 KiB each


class Moved(NamedTuple):
    """A bucket with moves, what the server counts in it, and whether someone may have chosen its ids."""

    keys: BucketKeys
    tracked: int
    moved: int
    back: int
    doubted: bool


def estimate_buckets(buckets: Sequence[Moved]) -> Operation[list[Estimate | BackendError]]:
    """The counts of buckets; an error takes the place of one whose sketches are corrupt."""
    made: list[Estimate | BackendError] = []
    for batch in batched(buckets, _BUCKETS_PER_BATCH):
        commands: list[Command] = [
            command for of in batch for command in (("GET", of.keys.hll), ("GET", of.keys.moved))
        ]
        replies = yield commands
        for place, of in enumerate(batch):
            try:
                made.append(_estimate(of, *replies[2 * place : 2 * place + 2]))
            except BackendError as error:
                made.append(error)
    return made


def suspects(
    context: Context, sketches: Sequence[Sequence[str]], counts: Sequence[int]
) -> Operation[list[bool]]:
    """Which unions of sketches random ids would not leave behind; by keys of sketches and counts of unions.

    None under a secret, with which nobody can choose hashes.
    """
    if context.ids.has_secret:
        return [False] * len(sketches)
    found: list[bool] = []
    for batch in batched(zip(sketches, counts, strict=True), _BUCKETS_PER_BATCH):
        replies = iter((yield [("GET", key) for keys, _ in batch for key in keys]))
        found += are_suspect([([next(replies) for _ in keys], count) for keys, count in batch])
    return found


def are_suspect(unions: Sequence[tuple[Sequence[Any], int]]) -> list[bool]:
    """The same of what GET of the sketches returned. What cannot be read is not suspected."""
    single = [place for place, (replies, _) in enumerate(unions) if len(replies) == 1]
    found: dict[int, NDArray[np.int64] | None] = {
        place: None if len(replies) == 1 else _union_tally(replies)
        for place, (replies, _) in enumerate(unions)
    }
    sketches = [reply if isinstance(reply := unions[place][0][0], bytes) else b"" for place in single]
    found.update(zip(single, codec.tallies(sketches), strict=True))
    known = [place for place, tally in found.items() if tally is not None]
    random = are_random([of_histogram(cast("Any", found[place]), unions[place][1]) for place in known])
    suspected = set(compress(known, (~random).tolist()))
    return [place in suspected for place in range(len(unions))]


def _union_tally(replies: Sequence[Any]) -> NDArray[np.int64] | None:
    """How many registers of a union hold each rank; None if a sketch cannot be read."""
    try:
        registers = [_registers(reply) for reply in replies]
    except BackendResponseError:
        return None
    known = [of for of in registers if of is not None]
    return histogram(np.maximum.reduce(known)) if known and len(known) == len(registers) else None


def estimate_union(sources: Sequence[BucketKeys], *, doubted: bool) -> Operation[Estimate | None]:
    """The count of an aggregate of these buckets; None where one's sketch cannot be read.

    Args:
        doubted: whether someone may have chosen ids; their registers are looked at then.

    Raises:
        BackendResponseError: a sketch is corrupt.
    """
    commands: list[Command] = [
        command
        for keys in sources
        for command in (("GET", keys.hll), ("GET", keys.moved), ("SMEMBERS", keys.back))
    ]
    replies = yield commands
    plain, moving, sound = empty(), [], True
    for place in range(0, len(replies), 3):
        hll, moved, back = replies[place : place + 3]
        tracked, out = _registers(hll), _registers(moved)
        if tracked is None or out is None or isinstance(back, BackendError):
            return None
        if doubted and not (is_random(tracked) and is_random(out)):
            sound = False
        if not out.any():
            np.maximum(plain, tracked, out=plain)
            continue
        moving.append((tracked, out))
        fold(plain, bulk.hashes_of_bytes(items(back)))  # as good as never moved
    count, error = union_of_remainders(plain, moving)
    return Estimate(count, error if sound else inf)


def union_from_counts(numbers: Sequence[int]) -> Estimate:
    """The same from the numbers that the aggregate script returns."""
    union, gone, plain, moving, *rest = numbers
    sources, pairs = rest[: 3 * moving], rest[3 * moving :]
    return Estimate(
        *from_counts.union_of_differences(union, gone, plain, _tuples(sources, 3), _tuples(pairs, 5))
    )


def _estimate(of: Moved, hll: Any, moved: Any) -> Estimate:
    tracked, out = _registers(hll), _registers(moved)
    if tracked is None or out is None:
        return Estimate(*from_counts.difference(of.tracked, of.moved, of.back))
    stayed, error = remainder(tracked, out)
    sound = not of.doubted or is_random_remainder(tracked, out, stayed)
    return Estimate(stayed + of.back, error if sound else inf)


def _registers(reply: Any) -> Registers | None:
    """What a GET of a sketch returned; None if it cannot be read here."""
    if reply is None:
        return empty()
    if not isinstance(reply, bytes):
        return None
    try:
        return codec.decode(reply)
    except UnknownEncodingError:
        return None
    except MalformedSketchError as error:
        raise BackendResponseError(f"corrupt sketch: {error}") from error


def _tuples(numbers: Sequence[int], size: int) -> list[Any]:
    return list(zip(*(numbers[place::size] for place in range(size)), strict=True))
