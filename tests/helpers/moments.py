"""When the tests live: today, at noon.

Servers expire keys by their own clock, so the tests live today; at noon, far from any boundary
that a slow run could cross.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pytest

# Servers expire keys by their own clock, so the tests live today; at noon, far from any boundary
# that a slow run could cross.
TODAY = datetime.now(UTC).date()

NOON = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC).timestamp()

AHEAD = NOON - time.time()
"""How far clocks of other processes are put ahead, so that it is noon for them too when the tests begin."""

YESTERDAY = TODAY - timedelta(days=1)


def day(before: int) -> date:
    """The day that many days before today."""
    return TODAY - timedelta(days=before)


def skip_if_tomorrow() -> None:
    """For tests of what the server's clock says of today, which has ended if they began before midnight."""
    if datetime.now(UTC).date() != TODAY:
        pytest.skip("another day has begun since the tests did")
