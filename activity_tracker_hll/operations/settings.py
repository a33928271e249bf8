"""Settings that live with the data, in the hash ``active:{meta}``, so that all clients know them.

What one client was given is :class:`Given`, what the data say is :class:`DataSettings`, and :mod:`.handshake`
brings them together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from math import ceil, inf
from types import MappingProxyType
from typing import Any

from ..errors import ActivityTrackerError
from ..keys import check_bucket, is_bucket
from ..messages import shown
from ..periods import LONGEST, PERIODS

__all__ = [
    "LAYOUT",
    "NO_BUCKETS",
    "REDEFINED",
    "Access",
    "Aggregates",
    "DataSettings",
    "Given",
    "KeptFor",
    "field_of",
    "longest",
    "redefinitions",
]

LAYOUT = "2"
"""Version of the keys and of their contents."""

Aggregates = Mapping[str, tuple[str | None, ...]]
"""Names of aggregates, and the buckets each unites."""

KeptFor = Mapping[str, timedelta | None]
"""By kind of period, how long sketches are kept after its end; None = for ever."""

_KEEP, _AGGREGATE, _BUCKET = "keep_sketches:", "aggregate:", "bucket:"
REDEFINED = "redefined:"
"""With the name of an aggregate, the field that says when it had other sources."""
_FOR_EVER = "forever"

NO_BUCKETS = "[^b]*"
"""The server's pattern of all fields but those that register buckets: no other begins so."""


class Access(IntEnum):
    """What an operation does with the data: each also does what those before it do."""

    READ = 1  # on a replica perhaps
    COUNT = 2  # stores counts
    TRACK = 3  # adds ids, and so has to know the secret


@dataclass(frozen=True, slots=True)
class Given:
    """What a client was given, beside what it must agree on with all others.

    Attributes:
        keep_sketches: for the kinds of period that it was given for.
        aggregates: its own.
    """

    keep_sketches: KeptFor = field(default_factory=dict)
    aggregates: Aggregates = field(default_factory=dict)

    def fields(self) -> dict[str, str]:
        """As they are stored."""
        kept = {f"{_KEEP}{kind}": _written(keep) for kind, keep in self.keep_sketches.items()}
        united = {f"{_AGGREGATE}{name}": json.dumps(of) for name, of in self.aggregates.items()}
        return kept | united


@dataclass(frozen=True, slots=True)
class DataSettings:
    """The settings of a data set, as they are stored with it.

    Attributes:
        timezone: name of the zone that days begin by; None = nothing is stored yet.
        week_start: 0 = Monday ... 6 = Sunday; None = nothing is stored yet.
        has_secret: whether ids are hashed with a secret.
        keep_sketches: by kind of period, how long sketches are kept after its end, where somebody said so;
            None = for ever.
        aggregate_buckets: names of aggregates, and the buckets each unites.
        redefined: by name of aggregates, when they had other sources for the last time, in seconds since
            1970: what is stored of earlier periods may be of those.
        problems: entries that make no sense, a sentence each.
        fingerprint: of the secret; empty if there is none.
    """

    timezone: str | None = None
    week_start: int | None = None
    has_secret: bool = False
    keep_sketches: KeptFor = field(default_factory=dict)
    aggregate_buckets: Aggregates = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    fingerprint: str = ""
    redefined: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def buckets_of(fields: Iterable[str]) -> list[str | None]:
        """The buckets that are registered by fields of the hash."""
        names = (field.removeprefix(_BUCKET) or None for field in fields if field.startswith(_BUCKET))
        return [name for name in names if is_bucket(name)]

    @classmethod
    def read(cls, key: str, stored: Mapping[str, str]) -> DataSettings:
        """From the fields of the hash; what makes no sense there is left out, on the safe side."""
        keep: dict[str, timedelta | None] = {}
        aggregates: dict[str, tuple[str | None, ...]] = {}
        redefined: dict[str, float] = {}
        problems: list[str] = []
        for name, value in sorted(stored.items()):
            try:
                if name.startswith(_KEEP) and name.removeprefix(_KEEP) in PERIODS:
                    keep[name.removeprefix(_KEEP)] = None  # unless it can be read
                    keep[name.removeprefix(_KEEP)] = _read_keep(value, name.removeprefix(_KEEP))
                elif name.startswith(_AGGREGATE):
                    aggregate = name.removeprefix(_AGGREGATE)
                    check_bucket(aggregate, "an aggregate")
                    aggregates[aggregate] = _read_sources(value)
                elif name.startswith(REDEFINED):
                    redefined[name.removeprefix(REDEFINED)] = inf  # unless it can be read
                    redefined[name.removeprefix(REDEFINED)] = int(value)
            except (ActivityTrackerError, ValueError, OverflowError, RecursionError):
                problems.append(f"{key}: {shown(name)} holds {shown(value)}, which makes no sense")
        week_start = stored.get("week_start", "")
        return cls(
            stored.get("timezone"),
            int(week_start) if week_start in tuple("0123456") else None,
            bool(stored.get("secret")),
            MappingProxyType(keep),
            MappingProxyType(aggregates),
            tuple(problems),
            stored.get("secret", ""),
            MappingProxyType(redefined),
        )


def field_of(bucket: str | None) -> str:
    """The field by which a bucket is registered: something was tracked in it."""
    return _BUCKET + (bucket or "")


def redefinitions(before: DataSettings, after: Aggregates, now: float) -> dict[str, str]:
    """The fields that say that aggregates get other sources than they had.

    Args:
        before: what was stored.
        after: aggregates as they will be; one without sources is removed.
        now: seconds since 1970.
    """
    known = before.aggregate_buckets
    changed = [name for name, of in after.items() if name in known and set(of) != set(known[name])]
    return {f"{REDEFINED}{name}": str(ceil(now)) for name in changed}


def longest(*lengths: timedelta | None) -> timedelta | None:
    """The longest of some lengths of time; None = for ever."""
    return None if None in lengths else max(length for length in lengths if length is not None)


def _written(keep: timedelta | None) -> str:
    return _FOR_EVER if keep is None else str(int(keep.total_seconds()))


def _read_keep(value: str, kind: str) -> timedelta | None:
    keep = None if value == _FOR_EVER else timedelta(seconds=int(value))
    if keep is not None and keep != timedelta() and keep < LONGEST[kind]:
        raise ValueError("shorter than a period")
    return keep


def _read_sources(value: str) -> tuple[str | None, ...]:
    sources: Any = json.loads(value)
    if not isinstance(sources, list) or not sources:
        raise ValueError("no list of buckets")
    return tuple(check_bucket(source, "a source") for source in sources)
