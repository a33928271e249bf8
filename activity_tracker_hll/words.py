"""Words of messages: numbers of things, and names that were probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from .messages import shown

__all__ = ["did_you_mean", "many"]


def many(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things: '1 line', '2,000 lines', '1 period that is over'."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def did_you_mean(name: str | None, names: Iterable[str | None]) -> str:
    """A question after the name that was probably meant, to go on a sentence; empty if none is near."""
    nearest = get_close_matches(name or "", [known for known in names if known is not None], n=1)
    return f", did you mean {shown(nearest[0])}?" if nearest else ""
