"""Keys: nothing but this module builds keys and hash tags, or parses them.

The hash tag of everything that belongs to one bucket and period is the full name of its count, so that count,
standard error, sketch and side table are in one cluster slot. This works because no name may contain braces.
Counts and raw sets keep the names that activity-tracker 0.0.5 gave them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .errors import ActivityTrackerError, ArgumentTypeError, ArgumentValueError
from .messages import plain_text, shown

__all__ = [
    "DEFAULT_NAMESPACE",
    "BucketKeys",
    "Column",
    "Found",
    "Keys",
    "check_bucket",
    "check_name",
    "is_bucket",
]

DEFAULT_NAMESPACE = "active"
MAX_NAME_BYTES = 200
# Braces would end a hash tag; control characters, line separators and bidirectional marks would change what
# people see.
_FORBIDDEN = re.compile(r"[{}\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_REMEMBERED = 1024  # the same few buckets and periods with every event
# The same few questions again, each of them looked at more than once; of two months at most, many are small.
_REMEMBERED_COLUMNS, _REMEMBERED_LONG_COLUMNS, _LONG = 512, 16, 62
_TAGGED_PARTS = ("stderr", "hll", "moved", "moves")


_BEGINNINGS = ("", "{")
"""Of keys: before the namespace."""


class BucketKeys(NamedTuple):
    """The keys of one bucket in one period."""

    counted: str
    """string: the collapsed count"""
    stderr: str
    """string: its standard error, where that is not the plain formula's"""
    hll: str
    """H: every id tracked"""
    moved: str
    """V: every id ever moved out"""
    moves: str
    """T, sorted set: ids that ever left, each with the stamp of its newest event: positive active, negative
    left"""
    raw: str
    """set: ids tracked by activity-tracker; in a slot of its own"""
    announced: str
    """string, for a day: changes with each leaving that T hears of"""


class Column(NamedTuple):
    """The keys of one bucket in many periods, in the order of these; see :class:`BucketKeys`.

    It is remembered, so nobody may change the lists.
    """

    counted: list[str]
    stderr: list[str]
    hll: list[str]
    moved: list[str]
    raw: list[str]


class Found(NamedTuple):
    """What a key holds, and for which period and bucket."""

    part: str
    """``count``, ``raw``, ``stderr``, or a part of a sketch: ``hll``, ``moved``, ``moves``"""
    period: str
    bucket: str | None


class Keys:
    """Builds the keys of one namespace.

    Raises:
        ArgumentTypeError, ArgumentValueError: a namespace that cannot be part of a key.
    """

    def __init__(self, namespace: str = DEFAULT_NAMESPACE) -> None:
        self.namespace = check_name(namespace, "namespace")
        self.meta = f"{self.namespace}:{{meta}}"
        """hash: the settings that all clients share"""
        self.open = f"{self.namespace}:{{open}}"
        """set: names of the periods that hold uncounted data"""
        self.bucket = lru_cache(maxsize=_REMEMBERED)(self._bucket)
        """All keys of a bucket in the period of that name: ``bucket(period, bucket)``."""
        self._short_column = lru_cache(maxsize=_REMEMBERED_COLUMNS)(self._column)
        self._long_column = lru_cache(maxsize=_REMEMBERED_LONG_COLUMNS)(self._column)

    def _bucket(self, period: str, bucket: str | None) -> BucketKeys:
        name = f"{self.namespace}:{period}"
        suffix = "" if bucket is None else f":{bucket}"
        counted = name + suffix
        return BucketKeys(
            counted,
            f"{{{counted}}}:stderr",
            f"{{{counted}}}:hll",
            f"{{{counted}}}:moved",
            f"{{{counted}}}:moves",
            f"{name}:raw{suffix}",
            f"{{{counted}}}:tmp:announced",
        )

    def counts(self, period: str, buckets: Iterable[str | None]) -> list[str]:
        """The keys of the counts of many buckets."""
        name = f"{self.namespace}:{period}"
        return [name if bucket is None else f"{name}:{bucket}" for bucket in buckets]

    def sketches(self, period: str, buckets: Iterable[str | None]) -> list[str]:
        """The keys of the sketches of many buckets."""
        return [f"{{{count}}}:hll" for count in self.counts(period, buckets)]

    def counts_and_sketches(self, periods: Sequence[str], buckets: Iterable[str | None]) -> list[str]:
        """The keys of the counts and the sketches of many buckets and periods, those of a slot together."""
        counts = [count for bucket in buckets for count in self._counted(periods, bucket)]
        return [key for count in counts for key in (count, f"{{{count}}}:hll")]

    def _counted(self, periods: Sequence[str], bucket: str | None) -> list[str]:
        suffix = "" if bucket is None else f":{bucket}"
        return [f"{self.namespace}:{period}{suffix}" for period in periods]

    def column(self, periods: tuple[str, ...], bucket: str | None) -> Column:
        """The keys of a bucket in the periods of those names."""
        remembered = self._short_column if len(periods) <= _LONG else self._long_column
        return remembered(periods, bucket)

    def _column(self, periods: tuple[str, ...], bucket: str | None) -> Column:
        counted = self._counted(periods, bucket)
        return Column(
            counted,
            self.stderrs(counted),
            [f"{{{count}}}:hll" for count in counted],
            [f"{{{count}}}:moved" for count in counted],
            self._counted([f"{period}:raw" for period in periods], bucket),
        )

    def all_of(self, period: str, buckets: Iterable[str | None]) -> Iterator[str]:
        """The keys that say whether there is anything of many buckets."""
        for count, raw in zip(self.counts(period, buckets), self.raws(period, buckets), strict=True):
            yield from (count, f"{{{count}}}:hll", f"{{{count}}}:moved", raw)

    def raws(self, period: str, buckets: Iterable[str | None]) -> list[str]:
        """The keys of the raw sets of many buckets."""
        name = f"{self.namespace}:{period}:raw"
        return [name if bucket is None else f"{name}:{bucket}" for bucket in buckets]

    @staticmethod
    def stderrs(counts: Iterable[str]) -> list[str]:
        """The keys of standard errors, from the keys of their counts."""
        return [f"{{{count}}}:stderr" for count in counts]

    def temporary(self, period: str, bucket: str | None, purpose: str) -> str:
        """A temporary key: deleted by the script that writes it, or given an expiry."""
        [counted] = self.counts(period, [bucket])
        return f"{{{counted}}}:tmp:{purpose}"

    def pattern(self) -> str:
        """A SCAN pattern for all keys of the namespace; it matches some others too, as tags have a brace."""
        return f"*{self._escaped()}:*"

    def patterns(self) -> list[str]:
        """The rights to all keys of the namespace, as ``ACL SETUSER`` takes them."""
        return [f"~{begin}{self._escaped()}:*" for begin in _BEGINNINGS]

    def unused(self) -> list[str]:
        """A key of each of :meth:`patterns` that nobody uses."""
        return [f"{begin}{self.namespace}:rights" for begin in _BEGINNINGS]

    def _escaped(self) -> str:
        return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in self.namespace)

    def owns(self, key: str) -> bool:
        """Whether a key belongs to the namespace; temporary keys and settings do, too."""
        return key.removeprefix("{").startswith(f"{self.namespace}:")

    def parse(self, key: str) -> Found | None:
        """What a key holds; None for foreign and temporary keys."""
        tagged = key.startswith("{")
        counted, _, part = key[1:].partition("}:") if tagged else (key, "", "count")
        prefix = f"{self.namespace}:"
        if not counted.startswith(prefix) or (tagged and part not in _TAGGED_PARTS):
            return None
        period, colon, bucket = counted[len(prefix) :].partition(":")
        if not tagged and (bucket == "raw" or bucket.startswith("raw:")):
            return Found("raw", period, bucket[4:] or None)
        return Found(part, period, bucket if colon else None)


def check_name(name: object, argument: str) -> str:
    """Check a name that is to be part of a key.

    It must be a str, not empty, of at most 200 bytes, without braces and control characters.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the argument and what is wrong with it.
    """
    text = plain_text(name)
    if text is None:
        raise ArgumentTypeError(f"{argument} must be a str, got {shown(name)}")
    if not text:
        raise ArgumentValueError(f"{argument} must not be empty")
    if _FORBIDDEN.search(text):
        raise ArgumentValueError(
            f"{argument} must not contain braces or control characters, got {shown(name)}"
        )
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ArgumentValueError(f"{argument} cannot be encoded as UTF-8: {shown(name)}") from error
    if size > MAX_NAME_BYTES:
        raise ArgumentValueError(
            f"{argument} must be at most {MAX_NAME_BYTES} bytes, got {size}: {shown(name)}"
        )
    return text


def check_bucket(bucket: object, argument: str = "bucket") -> str | None:
    """Check a bucket's name; None stands for the unnamed bucket.

    Raises:
        ArgumentTypeError, ArgumentValueError: see :func:`check_name`; also for ``raw`` and
            ``raw:...``, whose counts would bear the names of activity-tracker's raw sets.
    """
    if bucket is None:
        return None
    # The key of a str that is also an Enum would show the member's name, although the two are equal.
    name = plain_text(bucket)
    if name is None:
        raise ArgumentTypeError(f"{argument} must be a str, got {shown(bucket)}")
    return _check_bucket_name(name, argument)


@lru_cache(maxsize=4096)  # the same few buckets with every event
def _check_bucket_name(bucket: str, argument: str) -> str:
    name = check_name(bucket, argument)
    if name == "raw" or name.startswith("raw:"):
        raise ArgumentValueError(
            f"{argument} must not be 'raw' or begin with 'raw:' (activity-tracker's raw sets bear"
            f" these names), got {shown(name)}"
        )
    return name


def is_bucket(name: str | None) -> bool:
    """Whether a bucket is one that calls accept; other programs' keys may look like counts of others."""
    try:
        check_bucket(name)
    except ActivityTrackerError:
        return False
    return True
