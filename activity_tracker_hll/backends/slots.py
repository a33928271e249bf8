"""The slots of a cluster that a command belongs to.

A command whose keys lie in several slots is sent in parts, and their replies are joined: that is so for the
commands that this library sends, which are listed here. Scripts for several buckets are sent for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..errors import BackendDataError, BackendResponseError, MalformedSketchError, UnknownEncodingError
from ..hll import codec
from ..hll.estimators import cardinality
from ..hll.registers import empty
from ..scripts.calls import SCRIPTS
from .base import NODES, Command

__all__ = ["ANYWHERE", "EVERYWHERE", "THERE", "Split", "has_keys", "is_for_all", "slot_of", "split"]

EVERYWHERE, ANYWHERE, THERE = -1, -2, -3
"""Instead of a slot: for each master, for any of them, or for a node that is named."""
_SCRIPTS = {script.sha: script for script in SCRIPTS}


class Split(NamedTuple):
    """How a command is sent.

    Attributes:
        parts: commands, each with its slot.
        join: makes the reply of theirs; None = there is one part.
    """

    parts: list[tuple[int, Command]]
    join: Callable[[list[Any]], Any] | None = None


def split(command: Command) -> Split:
    """How a command is sent.

    Raises:
        BackendResponseError: its keys lie in several slots, and it cannot be sent in parts.
    """
    name = command[0]
    if name == "EVALSHA":
        return _split_script(command)
    if name in _WITHOUT_KEYS:
        return Split([(ANYWHERE, command)])
    if name in _OF_MANY and len(command) > 2:
        slots = [slot_of(key) for key in command[1:]]
        if slots.count(slots[0]) != len(slots):
            by_slot: dict[int, list[int]] = {}
            for index, slot in enumerate(slots):
                by_slot.setdefault(slot, []).append(index)
            return _OF_MANY[str(name)](command, by_slot)
        return Split([(slots[0], command)])
    return Split([(slot_of(command[2 if name == "MEMORY" else 1]), command)])


def has_keys(command: Command) -> bool:
    """Whether a command asks for what keys hold, which a replica can tell as well."""
    return command[0] not in _WITHOUT_KEYS and command[0] not in _OF_MASTERS


def is_for_all(command: Command) -> bool:
    """Whether a command is for each master."""
    return command[0] == "INFO" or command == NODES


def _split_script(command: Command) -> Split:
    _, sha, count, *rest = command
    size = int(count)
    keys, arguments = [str(key) for key in rest[:size]], rest[size:]
    slots = {slot_of(key) for key in keys}
    if len(slots) == 1:
        return Split([(slots.pop(), command)])
    script = _SCRIPTS[str(sha)]
    if not script.each:
        raise BackendResponseError(f"the script {script.name} is for keys of one slot, got {len(slots)}")
    per_bucket, per_call, each = len(script.keys), len(script.arguments), len(script.each)
    common, own = arguments[:per_call], arguments[per_call:]
    parts: list[tuple[int, Command]] = []
    for index in range(size // per_bucket):
        bucket = keys[per_bucket * index : per_bucket * (index + 1)]
        parts.append(
            (slot_of(bucket[0]), script.call(bucket, *common, *own[each * index : each * (index + 1)]))
        )
    return Split(parts, lambda replies: list(chain.from_iterable(replies)))


def _sum(command: Command, by_slot: Mapping[int, list[int]]) -> Split:
    keys = command[1:]
    parts = [(slot, (command[0], *(keys[at] for at in indexes))) for slot, indexes in by_slot.items()]
    return Split(parts, sum)


def _values(command: Command, by_slot: Mapping[int, list[int]]) -> Split:
    keys = command[1:]

    def join(replies: list[Any]) -> list[Any]:
        result: list[Any] = [None] * len(keys)
        for indexes, reply in zip(by_slot.values(), replies, strict=True):
            for at, value in zip(indexes, reply, strict=True):
                result[at] = value
        return result

    return Split([(slot, ("MGET", *(keys[at] for at in indexes))) for slot, indexes in by_slot.items()], join)


def _union(command: Command, _by_slot: object) -> Split:
    """The union of sketches of several slots is made here: as good as the server's, to the last digit."""

    def join(replies: list[Any]) -> int:
        union = empty()
        try:
            for sketch in replies:
                if sketch is not None:
                    np.maximum(union, codec.decode(sketch), out=union)
        except MalformedSketchError as error:
            kind = BackendResponseError if isinstance(error, UnknownEncodingError) else BackendDataError
            raise kind(f"sketches in several slots cannot be united: {error}") from error
        return cardinality(union)

    return Split([(slot_of(key), ("GET", key)) for key in command[1:]], join)


_OF_MANY: Mapping[str, Callable[[Command, Mapping[int, list[int]]], Split]] = {
    "EXISTS": _sum,
    "DEL": _sum,
    "MGET": _values,
    "PFCOUNT": _union,
}
_OF_MASTERS = {"INFO", "SCAN", "SSCAN", "HSCAN"}
"""Commands that no replica is asked for: a cursor is one server's, no other can go on with it."""
_WITHOUT_KEYS = {"CLUSTER", "TIME", "PING", "CONFIG"}
"""Commands for any master, but the same one for all processes as long as it is up: clocks differ."""


@lru_cache(maxsize=65_536)  # the same few buckets with every event
def slot_of(key: str | bytes | float) -> int:
    """The slot of a key."""
    from redis.crc import key_slot  # noqa: PLC0415 (sketches are used where there is no client)

    return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))
