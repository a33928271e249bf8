"""The only place where keys and hash tags are built, and taken apart again.

Everything of one bucket and period that a sketch needs shares a hash tag, so that it is in one
cluster slot. Counts and raw sets keep the names activity-tracker 0.0.5 gave them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .errors import ArgumentTypeError, ArgumentValueError

__all__ = ["DEFAULT_NAMESPACE", "BucketKeys", "Found", "Keys", "check_bucket", "check_name"]

DEFAULT_NAMESPACE = "active"
MAX_NAME_BYTES = 200
_FORBIDDEN = re.compile(r"[{}\x00-\x1f\x7f-\x9f]")
_SKETCH_PARTS = ("hll", "moved", "out", "back")


class BucketKeys(NamedTuple):
    """The keys of one bucket in one period."""

    counted: str
    """string: the collapsed count"""
    hll: str
    """H: every id tracked"""
    moved: str
    """V: every id ever moved out"""
    out: str
    """set: ids that are out, exactly"""
    back: str
    """set: ids that were out and came back, exactly"""
    raw: str
    """set: ids tracked by activity-tracker"""


class Found(NamedTuple):
    """What a key is about."""

    part: str
    """``count``, ``raw``, ``stderr``, or a part of a sketch: ``hll``, ``moved``, ``out``, ``back``"""
    period: str
    bucket: str | None


class Keys:
    """Builds the keys of one namespace.

    Raises:
        ArgumentTypeError, ArgumentValueError: a namespace that cannot be part of a key.
    """

    def __init__(self, namespace: str = DEFAULT_NAMESPACE) -> None:
        self.namespace = check_name(namespace, "namespace")
        self.meta = f"{namespace}:{{meta}}"

    def bucket(self, period: str, bucket: str | None) -> BucketKeys:
        """Every key of a bucket in the period of that name."""
        tagged = self.tagged(period, bucket)
        name = f"{self.namespace}:{period}"
        suffix = "" if bucket is None else f":{bucket}"
        return BucketKeys(
            counted=name + suffix,
            hll=f"{tagged}:hll",
            moved=f"{tagged}:moved",
            out=f"{tagged}:out",
            back=f"{tagged}:back",
            raw=f"{name}:raw{suffix}",
        )

    def tagged(self, period: str, bucket: str | None) -> str:
        """What the keys of a bucket's sketch begin with, up to the last colon."""
        tag = period if bucket is None else f"{period}:{bucket}"
        return f"{self.namespace}:{{{tag}}}"

    def counts(self, period: str, suffixes: list[str]) -> list[str]:
        """Count keys of many buckets; suffixes as made by :meth:`suffix`."""
        name = f"{self.namespace}:{period}"
        return [name + suffix for suffix in suffixes]

    @staticmethod
    def suffix(bucket: str | None) -> str:
        """What a bucket adds to the name of a count."""
        return "" if bucket is None else f":{bucket}"

    def stderr(self, period: str) -> str:
        """Hash of standard errors that are not the plain formula's, by :meth:`field`."""
        return f"{self.namespace}:{{{period}}}:stderr"

    @staticmethod
    def field(bucket: str | None) -> str:
        """A bucket's field in a period's hash."""
        return bucket or ""

    def temporary(self, period: str, bucket: str | None, purpose: str) -> str:
        """A key that lives within one script, or under an expiry set first."""
        return f"{self.tagged(period, bucket)}:tmp:{purpose}"

    def pattern(self) -> str:
        """A SCAN pattern for every key of the namespace."""
        escaped = "".join(f"\\{char}" if char in "*?[]\\^" else char for char in self.namespace)
        return f"{escaped}:*"

    def parse(self, key: str) -> Found | None:
        """What a key is about; None for foreign and temporary keys."""
        prefix = f"{self.namespace}:"
        if not key.startswith(prefix):
            return None
        rest = key[len(prefix) :]
        if rest.startswith("{"):
            tag, _, part = rest[1:].partition("}:")
            period, colon, bucket = tag.partition(":")
            if part not in (*_SKETCH_PARTS, "stderr"):
                return None
            return Found(part, period, bucket if colon else None)
        period, colon, bucket = rest.partition(":")
        if bucket == "raw" or bucket.startswith("raw:"):
            return Found("raw", period, bucket[4:] or None)
        return Found("count", period, bucket if colon else None)


def check_name(name: object, argument: str) -> str:
    """A str that can be part of a key: not empty, at most 200 bytes, no control characters or braces.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the argument and what is wrong with it.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"{argument} must be a str, got {name!r}")
    name = str.__str__(name)
    if not name:
        raise ArgumentValueError(f"{argument} must not be empty")
    if _FORBIDDEN.search(name):
        raise ArgumentValueError(f"{argument} must not contain braces or control characters, got {name!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ArgumentValueError(f"{argument} cannot be encoded as UTF-8: {name!r}") from error
    if size > MAX_NAME_BYTES:
        raise ArgumentValueError(
            f"{argument} must be at most {MAX_NAME_BYTES} bytes, got {size}: {name[:40]!r}..."
        )
    return name


def check_bucket(bucket: object, argument: str = "bucket") -> str | None:
    """A bucket's name, or None for the unnamed bucket.

    Raises:
        ArgumentTypeError, ArgumentValueError: see :func:`check_name`; also for ``raw`` and
            ``raw:...``, whose counts would bear the names of activity-tracker's raw sets.
    """
    if bucket is None:
        return None
    if not isinstance(bucket, str):
        raise ArgumentTypeError(f"{argument} must be a str, got {bucket!r}")
    # Of a str that is also an Enum, a key would show the member's name; and it is equal to the plain one.
    return _check_bucket_name(bucket if type(bucket) is str else str.__str__(bucket), argument)


@lru_cache(maxsize=4096)  # the same few buckets with every event
def _check_bucket_name(bucket: str, argument: str) -> str:
    name = check_name(bucket, argument)
    if name == "raw" or name.startswith("raw:"):
        raise ArgumentValueError(
            f"{argument} must not be 'raw' or begin with 'raw:' (activity-tracker's raw sets bear"
            f" these names), got {name!r}"
        )
    return name
