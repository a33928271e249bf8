"""Words of messages: numbers of things, the first of many, and names that were probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from difflib import get_close_matches

from .messages import shown

__all__ = ["did_you_mean", "duration", "first_of", "many", "of_bucket"]

_MOST_NAMED = 5


def many(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things: '1 line', '2,000 lines', '1 period that is over'."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def first_of(parts: Sequence[str], most: int = _MOST_NAMED, joint: str = "; ") -> str:
    """The first few of many sentences or names in one: 'a; b; and 2 more'."""
    more = [f"and {len(parts) - most:,} more"] if len(parts) > most else []
    return joint.join([*parts[:most], *more])


def of_bucket(period: str, bucket: str | None, what: object) -> str:
    """What is said of a bucket in a period: 'daily-20261123 bucket 'a': is corrupt'."""
    return f"{period} bucket {bucket!r}: {what}"


def duration(length: timedelta) -> str:
    """A length of time: '90 days', '36 hours'."""
    hours, odd = divmod(length, timedelta(hours=1))
    if odd:
        return str(length)
    return many(hours // 24, "day") if hours % 24 == 0 else many(hours, "hour")


def did_you_mean(name: str | None, names: Iterable[str | None]) -> str:
    """A question after the name that was probably meant, to go on a sentence; empty if none is near."""
    nearest = get_close_matches(name or "", [known for known in names if known is not None], n=1)
    return f", did you mean {shown(nearest[0])}?" if nearest else ""
