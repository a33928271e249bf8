"""What all operations share: the functions that run them, the settings they plan with, reading replies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from ..backends.base import Command, Reply
from ..errors import ArgumentValueError, BackendDataError, BackendError
from ..ids import IdEncoder
from ..keys import Keys
from ..messages import shown
from ..periods import Calendar, Period

__all__ = [
    "MARGIN_S",
    "UNCOUNTED",
    "Aggregates",
    "Context",
    "Operation",
    "PeriodBucket",
    "batched",
    "items",
    "named",
    "number",
    "run",
    "run_awaiting",
    "unwrap",
    "unwrap_of",
]

T = TypeVar("T")
Operation = Generator[list[Command], list[Reply], T]
PeriodBucket = tuple[str, str | None]
"""A period's name and a bucket."""

MARGIN_S = 60
"""How far clocks may differ, and how long commands may take to arrive.

Until this long before its end, a running period is written to without asking whether it was collapsed; and a
sketch is kept for at least this long after its period's end.
"""
UNCOUNTED = (None, b"0")
"""Stored counts of periods that may still be counted: none at all, and activity-tracker's count of nobody."""
# As in the scripts, whose numbers are exact only below this.
_IMPOSSIBLE = 2**53
_MOST_DIGITS = 20
_SHOWN = 40
Aggregates = dict[str, tuple[str | None, ...]]


@dataclass(frozen=True, slots=True)
class Context:
    """What operations are planned with.

    Attributes:
        keys: builds keys.
        calendar: finds periods.
        ids: encodes ids.
        moved_limit: the most members that the side table of a bucket may have.
        keep: period -> how long its sketches are kept after its end; None = for ever.
        reserved: the names of aggregates, in which nothing can be tracked.
    """

    keys: Keys
    calendar: Calendar
    ids: IdEncoder
    moved_limit: int
    keep: Callable[[Period], timedelta | None]
    reserved: frozenset[str] = frozenset()

    def trackable(self, bucket: str | None) -> str | None:
        """The bucket, unless it is an aggregate: a collapse would overwrite what was tracked there.

        Raises:
            ArgumentValueError: it is an aggregate.
        """
        if bucket in self.reserved:
            raise ArgumentValueError(f"bucket {shown(bucket)} is one of the tracker's aggregate_buckets")
        return bucket


def run(operation: Operation[T], execute: Callable[[list[Command]], list[Reply]]) -> T:
    """Run an operation to its end and return its result; it is closed even if a batch fails."""
    try:
        batch = next(operation)
        while True:
            batch = operation.send(execute(batch))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        operation.close()


async def run_awaiting(
    operation: Operation[T], execute: Callable[[list[Command]], Awaitable[list[Reply]]]
) -> T:
    """:func:`run` for asyncio."""
    try:
        batch = next(operation)
        while True:
            batch = operation.send(await execute(batch))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        operation.close()


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` values."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def unwrap(replies: list[Reply]) -> list[Any]:
    """Return the replies, or raise the first error among them."""
    for reply in replies:
        if isinstance(reply, BackendError):
            raise reply
    return replies


def items(reply: Any) -> list[Any]:
    """The items of a list reply; of a map, its keys and values in turn, as the older protocol sends them."""
    if isinstance(reply, dict):
        return [part for pair in reply.items() for part in pair]
    return list(reply)


def number(reply: Any, what: str) -> int:
    """A count from a reply, checked, because manipulated sketches give absurd ones.

    Raises:
        BackendDataError: not a possible count; the message begins with `what`.
    """
    if isinstance(reply, bytes) and not (reply.isdigit() and len(reply) <= _MOST_DIGITS):
        raise BackendDataError(f"{what} holds {reply[:_SHOWN]!r}, not a count")
    value = int(reply)
    if not 0 <= value < _IMPOSSIBLE:
        raise BackendDataError(f"{what} is corrupt: impossible cardinality {value}")
    return value


def unwrap_of(key: str, replies: list[Reply]) -> list[Any]:
    """Return the replies to commands about one key, or raise the first error among them, naming the key."""
    for reply in replies:
        if isinstance(reply, BackendError):
            error = type(reply)(f"{key}: {reply}")
            raise error from reply.__cause__ or reply
    return replies


def named(error: BackendError, target: PeriodBucket) -> BackendError:
    """The same error, with a message that names the bucket it is about."""
    period, bucket = target
    result = type(error)(f"{period} bucket {bucket!r}: {error}")
    result.__cause__ = error.__cause__ or error
    return result
