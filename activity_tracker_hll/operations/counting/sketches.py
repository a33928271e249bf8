"""From sketches to counts: of buckets, and of unions of buckets, with and without ids that moved out.

Registers tell more than counts do. Where the server does not return them in a form that can be read (an
unknown encoding, a test double), its own counts are used instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from math import inf
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ... import bulk
from ...backends.base import Command
from ...errors import (
    ArgumentValueError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    MalformedSketchError,
    UnknownEncodingError,
)
from ...estimates import Estimate
from ...hll import codec, from_counts
from ...hll.estimators import cardinalities_of, cardinality, remainder
from ...hll.randomness import are_random, is_random, is_random_remainder, tails_of_histograms
from ...hll.registers import REGISTERS, Registers, empty, fold, histogram
from ...hll.unions import union_of_remainders
from ...keys import BucketKeys
from ...scripts.calls import Readings
from ..base import Operation, number, unwrap
from ..tracking.side_table import ACTIVE, Range, read_members

__all__ = [
    "UNREADABLE",
    "Union",
    "are_suspect",
    "estimate",
    "estimates",
    "registers_of",
    "union_by_server",
    "union_of",
]


UNREADABLE = "sketches cannot be read on this server"

_NOBODY = histogram(empty())


class Union(NamedTuple):
    """The count of a union, and its sketch: empty if a source had moves, as a union cannot tell who left."""

    count: Estimate  # type: ignore[assignment]  # shadows tuple.count, which nobody needs here
    sketch: bytes


def estimates(readings: Sequence[Readings], *, inspect: bool) -> list[Estimate | BackendError]:
    """The counts of buckets.

    Args:
        readings: the data of each bucket.
        inspect: whether to test that random ids can have produced the registers, as someone may have chosen
            the ids.

    Returns:
        A count for each, or an error where a sketch is corrupt.
    """
    plain = [reading for reading in readings if not reading.moved]
    suspected = iter(are_suspect([reading.hll for reading in plain]) if inspect else [])
    result: list[Estimate | BackendError] = []
    for reading in readings:
        if reading.moved:
            result.append(estimate(reading, inspect=inspect))
        else:
            result.append(Estimate(reading.tracked, inf if next(suspected, False) else None))
    return result


def estimate(reading: Readings, *, inspect: bool) -> Estimate | BackendError:
    """The count of a bucket with moves."""
    try:
        tracked, moved = registers_of(reading.hll), registers_of(reading.moved_hll)
    except BackendDataError as error:
        return error
    if tracked is None or moved is None:
        return Estimate(*from_counts.difference(reading.tracked, reading.moved, reading.back))
    stayed, stderr = remainder(tracked, moved)
    sound = not inspect or is_random_remainder(tracked, moved, stayed)
    return Estimate(stayed + reading.back, stderr if sound else inf)


def are_suspect(sketches: Sequence[Any]) -> list[bool]:
    """Which sketches without moves random ids would not produce; False for one that cannot be read."""
    tallies = codec.tallies([sketch if isinstance(sketch, bytes) else b"" for sketch in sketches])
    tallies[tallies.sum(axis=1) != REGISTERS] = _NOBODY
    suspect: list[bool] = (~are_random(tails_of_histograms(tallies, cardinalities_of(tallies)))).tolist()
    return suspect


def union_of(
    sources: Sequence[BucketKeys], *, inspect: bool, raw: Mapping[str, Registers] = MappingProxyType({})
) -> Operation[Union | None]:
    """Read buckets and unite what remains in them; None if a sketch cannot be read here.

    A source whose sketch is gone counts as empty.

    Args:
        sources: the keys of each bucket.
        inspect: whether to test that random ids can have produced the registers.
        raw: registers to be added to a bucket's sketch, by that one's key.

    Raises:
        BackendError: a sketch is corrupt, or the server refused to return it.
    """
    commands: list[Command] = [
        command
        for keys in sources
        for command in (("GET", keys.hll), ("GET", keys.moved), ("ZCOUNT", keys.moves, *ACTIVE))
    ]
    replies = yield commands
    plain, moving, back, sound = empty(), [], [], True
    for index, keys in enumerate(sources):
        tracked, moved = (registers_of(reply) for reply in replies[3 * index : 3 * index + 2])
        if tracked is None or moved is None:
            return None
        if keys.hll in raw:
            np.maximum(tracked, raw[keys.hll], out=tracked)
        if inspect and not (is_random(tracked) and is_random(moved)):
            sound = False
        if not moved.any():
            np.maximum(plain, tracked, out=plain)
            continue
        moving.append((tracked, moved))
        if unwrap([replies[3 * index + 2]])[0]:
            back.append(Range(keys.moves, *ACTIVE))
    # An id that came back counts as if it had never moved.
    yield from read_members(back, lambda _number, ids, _scores: fold(plain, bulk.hashes_of_bytes(ids)))
    if not moving:
        count = cardinality(plain)
        sound = sound and (not inspect or is_random(plain))
        return Union(Estimate(count, None if sound else inf), codec.encode(plain))
    count, error = union_of_remainders(plain, moving)
    return Union(Estimate(count, error if sound else inf), b"")


def union_by_server(sources: Sequence[BucketKeys], temporary: str) -> Operation[Estimate]:
    """:func:`union_of` by the server's own counts, for sketches that cannot be read here.

    Args:
        sources: the keys of each bucket.
        temporary: a key for ids that came back, if any did.

    Raises:
        BackendError: a count makes no sense, or there are too many sources with moves.
    """
    replies = unwrap((yield [("EXISTS", keys.moved) for keys in sources]))
    moving = list(compress(sources, replies))
    plain = [keys.hll for keys in sources if keys not in moving]
    backs: list[bytes] = []
    yield from read_members(
        [Range(keys.moves, *ACTIVE) for keys in moving], lambda _number, ids, _scores: backs.extend(ids)
    )
    if backs:
        unwrap((yield [("PFADD", temporary, *backs), ("EXPIRE", temporary, 60)]))
    try:
        terms = from_counts.terms([(keys.hll, keys.moved) for keys in moving])
    except ArgumentValueError as error:
        raise BackendResponseError(str(error)) from error
    plain.append(temporary)  # whether it exists or not
    counted = unwrap((yield [("PFCOUNT", *plain, *sorted(keys)) for keys in terms]))
    counts = [number(count, "the union") for count in counted]
    if backs:
        unwrap((yield [("DEL", temporary)]))
    return Estimate(*from_counts.union(list(zip(terms.values(), counts, strict=True))))


def registers_of(reply: Any) -> Registers | None:
    """The registers in the reply to a GET; None if they cannot be read here.

    Raises:
        BackendDataError: it is corrupt.
        BackendError: the server refused it.
    """
    if reply is None:
        return empty()
    if isinstance(reply, BackendError) and not isinstance(reply, BackendDataError):
        raise reply
    if not isinstance(reply, bytes) or not reply:
        return None
    try:
        return codec.decode(reply)
    except UnknownEncodingError:
        return None
    except MalformedSketchError as error:
        raise BackendDataError(f"corrupt sketch: {error}") from error
