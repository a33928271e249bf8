"""The possible outcomes of one attempt to collapse a bucket or an aggregate."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from ...errors import BackendError, BackendResponseError
from ...estimates import Estimate
from ...keys import BucketKeys
from ...periods import Period
from ...scripts.calls import AWAITED, answer
from ..base import MARGIN_S, Context

__all__ = [
    "Again",
    "Done",
    "Nothing",
    "Outcome",
    "Target",
    "awaited",
    "expiry_of",
    "foreign",
    "stderr_text",
    "stored",
]


@dataclass(slots=True, eq=False)  # by identity: each is looked up some ten times
class Target:
    """A bucket or aggregate of a period, and when its sketch is to expire, see :func:`expiry_of`."""

    period: Period
    bucket: str | None
    keys: BucketKeys
    expiry: str


class Again:
    """It changed meanwhile: try again."""


class Done:
    """It is counted already."""


class Nothing:
    """There is nothing to count."""


Outcome = Estimate | BackendError | Again | Done | Nothing


def expiry_of(context: Context, period: Period) -> str:
    """When the sketches of a period expire, for scripts: 'keep', or a Unix time, which may be in the past."""
    keep = context.keep(period.kind)
    end = context.calendar.timestamp(period.next().start)
    return "keep" if keep is None else str(ceil(end + max(MARGIN_S, keep.total_seconds())))


def awaited(expiry: str) -> str:
    """When sketches expire that are still needed once they are counted, from when they do otherwise."""
    return expiry if expiry == "keep" else str(AWAITED)


def stderr_text(estimate: Estimate) -> str:
    """A standard error as it is stored: an empty text for the plain formula's."""
    return "" if estimate.is_plain else repr(estimate.stderr)


def stored(reply: Any, estimate: Estimate) -> Outcome:
    """The outcome of a script that was to store a count, from its reply."""
    try:
        state, _ = answer(reply)
    except BackendError as error:
        return error
    return Again() if state == b"CHANGED" else estimate


def foreign(stored: int, tracked: int) -> BackendError:
    """The error of a stored count that was not made from the sketch beside it.

    Args:
        stored: the count.
        tracked: what the sketch counts.
    """
    return BackendResponseError(
        f"the stored count, {stored}, was not made from the sketch at hand, which counts {tracked}: another"
        " program's collapse, or writes by a clock far behind? The sketch is kept; "
        + ("recount=True stores its count" if tracked > stored else "delete the one that is wrong")
    )
