"""Checks of arguments that several calls share: numbers, durations, lists of periods and buckets.

Each returns the value to use, or raises an error that names the argument and what was expected.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, Protocol, TypeVar

import numpy as np

from .errors import ArgumentTypeError, ArgumentValueError
from .keys import check_bucket
from .messages import plain_text, shown
from .periods import PeriodKind, check_kind

__all__ = [
    "MOST_PERIODS",
    "AggregateBuckets",
    "Buckets",
    "aggregate_name",
    "aggregates",
    "attribute",
    "bucket_list",
    "check_callable",
    "check_clock",
    "default_buckets",
    "duration",
    "entries",
    "flag",
    "integer",
    "kinds",
    "number_of_periods",
    "one_of",
    "picklable",
    "seconds",
]


T = TypeVar("T")
MOST_PERIODS = 100_000
"""Nobody means more: that are eleven years of hours."""
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
        raise ArgumentTypeError(f"{argument} must be an int of at least {minimum}, got {shown(value)}")
    number = int.__index__(value)  # of a subclass, which may compare as it likes
    if number < minimum:
        raise ArgumentValueError(f"{argument} must be at least {minimum}, got {shown(value)}")
    if number > maximum:
        raise ArgumentValueError(f"{argument} must be at most {maximum}, got {shown(value)}")
    return number


def number_of_periods(value: object, argument: str) -> int:
    """So many periods, at least one."""
    return integer(value, argument, minimum=1, maximum=MOST_PERIODS)


def flag(value: object, argument: str) -> bool:
    """True or False: the str "no" would count as true, and an array as neither."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{argument} must be True or False, got {shown(value)}")
    return bool(value)


def seconds(value: object, argument: str) -> float:
    """A positive, finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentTypeError(f"{argument} must be a number of seconds, got {shown(value)}")
    number = int.__index__(value) if isinstance(value, int) else float.__float__(value)
    if not 0 < number <= _MOST_SECONDS:
        raise ArgumentValueError(
            f"{argument} must be a positive number of seconds, {_MOST_SECONDS} at most, got {shown(value)}"
        )
    return float(number)


def check_clock(value: Any, argument: str) -> None:
    """Refuse what does not tell seconds since the epoch."""
    try:
        now = value()
        datetime.fromtimestamp(now, UTC)
        told = isinstance(now, (int, float))
    except Exception as error:
        raise ArgumentTypeError(
            f"{argument} must be a function that returns seconds since the epoch, got {shown(value)}"
        ) from error
    if not told:
        raise ArgumentTypeError(f"{argument} must return seconds since the epoch, got {shown(now)}")


def check_callable(value: object, argument: str) -> None:
    """Refuse what is neither callable nor None."""
    if value is not None and not callable(value):
        raise ArgumentTypeError(f"{argument} must be callable, got {shown(value)}")


def attribute(value: object, name: str) -> Any:
    """An attribute of a value that may be anything; None where there is none to be had."""
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 (as many kinds as there are values)
        return None


def duration(value: object, argument: str) -> timedelta:
    """A timedelta that is not negative."""
    if not isinstance(value, timedelta):
        raise ArgumentTypeError(f"{argument} must be a timedelta or None, got {shown(value)}")
    plain = timedelta.__add__(timedelta(), value)
    if plain < timedelta():
        raise ArgumentValueError(f"{argument} must not be negative, got {shown(value)}")
    return plain


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


def one_of(value: object, argument: str, names: Sequence[str]) -> str:
    """A name that is one of a few."""
    name = plain_text(value)
    if name is not None and name in names:
        return name
    error = ArgumentTypeError if name is None else ArgumentValueError
    raise error(f"{argument} must be one of {', '.join(map(repr, names))}, got {shown(value)}")


def bucket_list(buckets: object, argument: str = "buckets") -> tuple[str | None, ...]:
    """Distinct buckets, at least one, in the order given; None in the list is the unnamed bucket.

    A list that happens to be empty may be meant as none or as all, so it is neither.
    """
    found = default_buckets(buckets, argument)
    if found is None:
        raise ArgumentValueError(f"{argument} lists no buckets: name one, or leave it out")
    return found


def default_buckets(buckets: object, argument: str = "buckets") -> tuple[str | None, ...] | None:
    """The same of a setting, which may list none: that is None."""
    found = dict.fromkeys(check_bucket(bucket, argument) for bucket in _items(buckets, argument))
    return tuple(found) or None


def aggregate_name(given: object) -> str:
    """The name of an aggregate."""
    name = check_bucket(given, "aggregate_buckets")
    if name is None:
        raise ArgumentTypeError("aggregate_buckets: an aggregate needs a name, got None")
    return name


def aggregates(given: object, buckets: tuple[str | None, ...] | None) -> dict[str, tuple[str | None, ...]]:
    """Aggregate buckets and their sources.

    Args:
        given: mapping of name to list of bucket names.
        buckets: the buckets known; None = whatever the aggregates list.
    """
    checked: dict[str, tuple[str | None, ...]] = {}
    for given_name, sources in entries(given, "aggregate_buckets", "a dict of name: [bucket, ...]"):
        argument = f"aggregate_buckets[{shown(given_name)}]"
        name = aggregate_name(given_name)
        checked[name] = bucket_list(sources, argument)
    known = set(buckets) if buckets is not None else {s for sources in checked.values() for s in sources}
    for name, sources in checked.items():
        if name in known:
            raise ArgumentValueError(f"aggregate_buckets[{shown(name)}] bears the name of a bucket")
        unknown = [source for source in sources if source not in known]
        if unknown:
            raise ArgumentValueError(
                f"aggregate_buckets[{shown(name)}] lists unknown buckets: {shown(unknown)}"
            )
    return checked


def entries(given: object, argument: str, expected: str) -> list[tuple[Any, Any]]:
    """The keys and values of a mapping."""
    if not isinstance(given, Mapping):
        raise ArgumentTypeError(f"{argument} must be {expected}, got {shown(given)}")
    try:
        return [(key, value) for key, value in given.items()]
    except Exception as error:
        raise ArgumentTypeError(f"{argument} cannot be read, got {shown(given)}") from error


def _items(values: Any, argument: str) -> Iterator[object]:
    if isinstance(values, (str, bytes, bytearray, Mapping)) or not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{argument} must be a list, got {shown(values)}")
    try:
        yield from values
    except Exception as error:
        raise ArgumentTypeError(f"{argument} cannot be iterated over, got {shown(values)}") from error
