"""Checks of arguments that several calls share: numbers, durations, lists of periods and buckets.

Each returns the value to use, or raises an error that names the argument and what was expected.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from math import inf
from typing import Any, Protocol, TypeVar

from .errors import ArgumentTypeError, ArgumentValueError
from .keys import check_bucket
from .periods import PeriodKind, check_kind

__all__ = [
    "AggregateBuckets",
    "Buckets",
    "aggregates",
    "bucket_list",
    "check_callable",
    "duration",
    "integer",
    "kinds",
    "picklable",
    "seconds",
]


T = TypeVar("T")
_MOST_SECONDS = 365 * 86_400
"""Longer waits are mistakes, and the operating system takes no such numbers."""


class _Names(Protocol):
    """Names of buckets, but in a str: that is iterable too, and its letters would be taken for names.

    Type checkers tell by ``in``, which a list answers for any object and a str for a str alone.
    """

    def __iter__(self) -> Iterator[str | None]: ...

    def __contains__(self, value: object, /) -> bool: ...


Buckets = _Names | Iterator[str | None]
"""A list, tuple, set, iterator... of buckets; None in it is the unnamed bucket."""

AggregateBuckets = Mapping[str, Buckets]
"""Names of aggregates, and the buckets each unites."""


def integer(value: object, argument: str, *, minimum: int, maximum: float = inf) -> int:
    """An int between the bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"{argument} must be an int of at least {minimum}, got {value!r}")
    if value < minimum:
        raise ArgumentValueError(f"{argument} must be at least {minimum}, got {shown(value)}")
    if value > maximum:
        raise ArgumentValueError(f"{argument} must be at most {maximum}, got {shown(value)}")
    return value


def seconds(value: object, argument: str) -> float:
    """A positive, finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentTypeError(f"{argument} must be a number of seconds, got {value!r}")
    if not 0 < value <= _MOST_SECONDS:
        raise ArgumentValueError(
            f"{argument} must be a positive number of seconds, {_MOST_SECONDS} at most, got {shown(value)}"
        )
    return float(value)


def check_callable(value: object, argument: str) -> None:
    """Refuse what is neither callable nor None."""
    if value is not None and not callable(value):
        raise ArgumentTypeError(f"{argument} must be callable, got {value!r}")


def shown(value: object) -> str:
    """A value as messages show it; Python refuses to write out numbers of many thousand digits."""
    try:
        return repr(value)
    except ValueError:
        return f"{type(value).__name__} of many digits"


def duration(value: object, argument: str) -> timedelta:
    """A timedelta that is not negative."""
    if not isinstance(value, timedelta):
        raise ArgumentTypeError(f"{argument} must be a timedelta or None, got {value!r}")
    if value < timedelta():
        raise ArgumentValueError(f"{argument} must not be negative, got {value!r}")
    return value


def picklable(value: T, argument: str) -> T:
    """What can be handed to another process."""
    try:
        pickle.dumps(value)
    except Exception as error:
        raise ArgumentTypeError(
            f"{argument} cannot be pickled, nor can a tracker with it ({type(value).__name__})"
        ) from error
    return value


def kinds(periods: object, argument: str = "periods") -> tuple[PeriodKind, ...]:
    """Distinct kinds of period, in the order given."""
    return tuple(dict.fromkeys(check_kind(kind, argument) for kind in _items(periods, argument)))


def bucket_list(buckets: object, argument: str = "buckets") -> tuple[str | None, ...]:
    """Distinct buckets, in the order given; None in the list is the unnamed bucket."""
    return tuple(dict.fromkeys(check_bucket(bucket, argument) for bucket in _items(buckets, argument)))


def aggregates(given: object, buckets: tuple[str | None, ...] | None) -> dict[str, tuple[str | None, ...]]:
    """Aggregate buckets and their sources.

    Args:
        given: mapping of name to list of bucket names.
        buckets: the buckets known; None = whatever the aggregates list.
    """
    if not isinstance(given, Mapping):
        raise ArgumentTypeError(f"aggregate_buckets must be a dict of name: [bucket, ...], got {given!r}")
    checked: dict[str, tuple[str | None, ...]] = {}
    for name, sources in given.items():
        argument = f"aggregate_buckets[{name!r}]"
        if check_bucket(name, "aggregate_buckets") is None:
            raise ArgumentTypeError("aggregate_buckets: an aggregate needs a name, got None")
        checked[name] = bucket_list(sources, argument)
        if not checked[name]:
            raise ArgumentValueError(f"{argument} lists no buckets")
    known = set(buckets) if buckets is not None else {s for sources in checked.values() for s in sources}
    for name, sources in checked.items():
        if name in known:
            raise ArgumentValueError(f"aggregate_buckets[{name!r}] bears the name of a bucket")
        unknown = [source for source in sources if source not in known]
        if unknown:
            raise ArgumentValueError(f"aggregate_buckets[{name!r}] lists unknown buckets: {unknown}")
    return checked


def _items(values: Any, argument: str) -> Iterable[object]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{argument} must be a list, got {values!r}")
    return values
