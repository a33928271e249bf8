"""When the tests live: today, at noon.

Servers expire keys by their own clock, so the tests live today; at noon, far from any boundary
that a slow run could cross.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

# Servers expire keys by their own clock, so the tests live today; at noon, far from any boundary
# that a slow run could cross.
TODAY = datetime.now(UTC).date()

NOON = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC).timestamp()

YESTERDAY = TODAY - timedelta(days=1)


def day(before: int) -> date:
    """The day that many days before today."""
    return TODAY - timedelta(days=before)
