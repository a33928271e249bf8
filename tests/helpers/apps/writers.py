"""The writer of the services, made when it is imported, on the server that the test names."""

import os

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.writer import worker

_kind = AsyncActivityTracker if os.environ.get("APP_WRITER") == "async" else ActivityTracker
_now = float(os.environ["APP_NOW"])

tracker = _kind(["daily", "monthly"], url=os.environ["APP_URL"], timezone="UTC", clock=lambda: _now)
_interval = float(os.environ["APP_FLUSH_INTERVAL"])
worker._SHORTEST_INTERVAL_S = _interval  # noqa: SLF001 (pushes come no sooner)
writer = tracker.buffered(flush_interval=_interval)
