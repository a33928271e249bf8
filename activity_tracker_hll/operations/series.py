"""Reading the sketches that a survey found: the server counts windows of what has no moves, or they are read.

At most 1,000 sketches are read in two round trips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np

from .. import bulk
from ..backends.base import Command, Reply
from ..errors import BackendError, BackendResponseError
from ..hll.layers import Layer
from ..hll.randomness import is_random
from ..hll.registers import empty, fold
from ..keys import BucketKeys
from ..periods import Period
from .base import Context, Operation, batched, named, number, unwrap
from .counting.legacy import registers_of_raw
from .counting.sketches import UNREADABLE, registers_of
from .survey import Found, Name, sketch_keys
from .tracking.side_table import ACTIVE, Range, read_members

__all__ = ["count_windows", "guess", "guessed", "inspect", "is_slow_to_count", "read_layers"]

_KEYS_PER_BATCH = 40_000
_SKETCHES_PER_BATCH = 500
_MOST_GUESSED = 5000  # keys
_FEW_KEYS = 20_000  # for the server to unite, whatever it costs
_SAMPLE = 500  # keys
_READING_US = 200
"""About what it costs to fetch a sketch and to unite it here, on a network that is no slower than usual."""

Windows = Sequence[range]
"""Indexes of periods."""


def inspect(context: Context, found: Found) -> Operation[None]:
    """Look which sketches random ids would not have made, where someone may have chosen the ids.

    What is counted was looked at by who counted it; only the others are read, once.
    """
    for batch in batched(found.unproven, _SKETCHES_PER_BATCH):
        keys = [context.keys.bucket(found.periods[index].name, bucket) for index, bucket in batch]
        commands: list[Command] = [("GET", key) for each in keys for key in (each.hll, each.moved)]
        replies = batched((yield commands), 2)
        for (index, bucket), sketches in zip(batch, replies, strict=True):
            try:
                registers = [registers_of(reply) for reply in sketches]
            except BackendError as error:
                raise named(error, (found.periods[index].name, bucket)) from error
            if not all(each is None or is_random(each) for each in registers):
                found.suspects |= {index}
    found.unproven = ()


def count_windows(context: Context, asked: Sequence[tuple[Found, Windows]]) -> Operation[list[list[int]]]:
    """PFCOUNT of the union of each window of some names without moves and raw sets; a list for each name."""
    counts: list[int] = []
    for batch in _up_to(_keys(context, asked), _KEYS_PER_BATCH):
        commands: list[Command] = [("PFCOUNT", *part) for part in batch if part]
        replies = iter(unwrap((yield commands)) if commands else ())
        counts += [number(next(replies), "a union") if part else 0 for part in batch]
    ends = list(accumulate((len(windows) for _, windows in asked), initial=0))
    return [counts[first:end] for first, end in pairwise(ends)]


def guess(
    context: Context, names: Sequence[Name], periods: Sequence[Period], windows: Windows
) -> Operation[dict[str | None, list[Reply]]]:
    """PFCOUNT of windows of which it is not known yet whether it tells: a round trip less, if it does.

    Nothing is guessed of many keys, nor of data in which it did not tell the last time.
    """
    buckets = sum(len(name.buckets) for name in names)
    if (
        context.is_cluster
        or not (windows and context.guesses)
        or buckets * sum(map(len, windows)) > _MOST_GUESSED
    ):
        return {}
    labels = tuple(period.name for period in periods)
    commands: list[Command] = []
    for name in names:
        columns = [context.keys.column(labels, bucket).hll for bucket in name.buckets]
        many = len(columns)
        own = columns[0] if many == 1 else list(chain.from_iterable(zip(*columns, strict=True)))
        commands += [("PFCOUNT", *own[many * each.start : many * each.stop]) for each in windows]
    return dict(zip((name.name for name in names), batched((yield commands), len(windows)), strict=True))


def guessed(found: Found, replies: Sequence[Reply]) -> list[int] | None:
    """The counts, if it turned out that a guess tells them."""
    if found.has_moves or found.raw or found.gone:
        return None
    if len(found.present) > len(found.name.buckets) and found.present[-1].any():
        return None  # the union stands for sources that are gone
    return [number(reply, "a union") for reply in unwrap(replies)]


def is_slow_to_count(context: Context, asked: Sequence[tuple[Found, Windows]]) -> Operation[bool]:
    """Whether the server would take so long for windows that it is quicker to read the sketches.

    It does not hold up others either: PFCOUNT of 30 keys takes Redis 7 a millisecond and a half.
    """
    if context.is_cluster:
        return True
    total, distinct = 0, 0
    for found, windows in asked:
        until = np.cumsum(np.sum([[False, *there] for there in found.present], axis=0)).tolist()
        distinct += until[-1]
        total += sum(until[window.stop] - until[window.start] for window in windows)
    return total > _FEW_KEYS and (yield from _cost_us(_keys(context, asked))) * total > _READING_US * distinct


def _keys(context: Context, asked: Sequence[tuple[Found, Windows]]) -> Iterator[list[str]]:
    """The keys of each window of each name."""
    for found, windows in asked:
        keys = sketch_keys(context, found)
        ends = list(accumulate(map(len, keys), initial=0))
        flat = list(chain.from_iterable(keys))
        for window in windows:
            yield flat[ends[window.start] : ends[window.stop]]


def _up_to(windows: Iterable[list[str]], size: int) -> Iterator[list[list[str]]]:
    """Windows in batches of about so many keys."""
    batch: list[list[str]] = []
    keys = 0
    for window in windows:
        batch.append(window)
        keys += len(window)
        if keys >= size:
            yield batch
            batch, keys = [], 0
    if batch:
        yield batch


def _cost_us(windows: Iterable[list[str]]) -> Operation[float]:
    """What it costs this server to unite a key, in microseconds; 0 if sketches cannot be read from it."""
    sample = next(_up_to((window for window in windows if len(window) > 1), _SAMPLE), None)
    if not sample:
        return 0.0
    commands: list[Command] = [("PFCOUNT", *part) for part in sample]
    first, *_, last, sketch = unwrap((yield [("TIME",), *commands, ("TIME",), ("GET", sample[0][0])]))
    if not isinstance(sketch, bytes) or not sketch.startswith(b"HYLL"):
        return 0.0
    began, ended = (int(seconds) * 1_000_000 + int(micros) for seconds, micros in (first, last))
    return max(0, ended - began) / sum(map(len, sample))


def read_layers(context: Context, found: Found) -> Operation[list[list[Layer | None]]]:
    """The registers of each period and bucket, see :data:`.hll.layers.History`; buckets are `found.columns`.

    Raises:
        BackendError: a sketch that makes no sense, by name, or one that only the server can read.
    """
    columns = {bucket: column for column, bucket in enumerate(found.columns)}
    history: list[list[Layer | None]] = [[None] * len(columns) for _ in found.periods]
    wanted = [
        (index, bucket)
        for bucket, there in zip(found.columns, found.present, strict=True)
        for index in np.flatnonzero(there).tolist()
    ]
    for batch in batched(wanted, _SKETCHES_PER_BATCH):
        keys = [context.keys.bucket(found.periods[index].name, bucket) for index, bucket in batch]
        commands: list[Command] = [
            command
            for each in keys
            for command in (("GET", each.hll), ("GET", each.moved), ("ZCOUNT", each.moves, *ACTIVE))
        ]
        replies = batched((yield commands[:: 1 if found.has_moves else 3]), 3 if found.has_moves else 1)
        layers: list[Layer] = []
        for (index, bucket), own, reply in zip(batch, keys, replies, strict=True):
            period = found.periods[index]
            try:
                layers.append((yield from _layer(context, own, reply, has_raw=(period, bucket) in found.raw)))
            except BackendError as error:
                raise named(error, (period.name, bucket)) from error
        yield from _read_returned([each.moves for each in keys], layers)
        for (index, bucket), layer in zip(batch, layers, strict=True):
            history[index][columns[bucket]] = layer
    return history


def _layer(context: Context, keys: BucketKeys, replies: Sequence[Any], *, has_raw: bool) -> Operation[Layer]:
    """A layer, of which the ids that returned are only counted yet."""
    tracked_reply, moved_reply, back_reply = replies if len(replies) > 1 else (replies[0], None, 0)
    tracked = registers_of(tracked_reply)
    moved = None if moved_reply is None else registers_of(moved_reply)
    if tracked is None or (moved is None and moved_reply is not None):
        # Of a key that holds something else the server says so; a stand-in keeps a set there and counts it.
        unwrap((yield [("PFCOUNT", keys.hll), ("PFCOUNT", keys.moved)]))
        raise BackendResponseError(f"{UNREADABLE}, and a count alone does not tell this")
    if has_raw:
        tracked = np.maximum(tracked, (yield from registers_of_raw(context, keys.raw)))
    if moved is None:
        return Layer(tracked)
    return Layer(tracked, moved, back=number(unwrap([back_reply])[0], keys.moves))


def _read_returned(tables: Sequence[str], layers: list[Layer]) -> Operation[None]:
    """Add the ids that returned to some layers, from their side tables."""
    with_some = [index for index, layer in enumerate(layers) if layer.back]
    returned = [empty() for _ in with_some]
    yield from read_members(
        [Range(tables[index], *ACTIVE) for index in with_some],
        lambda number, ids, _scores: fold(returned[number], bulk.hashes_of_bytes(ids)),
    )
    for index, registers in zip(with_some, returned, strict=True):
        layers[index] = layers[index]._replace(returned=registers)
