"""What type checkers must refuse, a line each, marked as such; nothing here is run."""

from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from web_client import of_environ, of_scope

from activity_tracker_hll import ActivityTracker, BufferedTracker, Estimate
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.metrics import CountsCollector, WriterCollector
from activity_tracker_hll.web import asgi, wsgi


def constructors() -> None:
    """Kinds of period, options, buckets."""
    ActivityTracker("daily")  # refused
    ActivityTracker(["dayly"])  # refused
    ActivityTracker(["daily"], hostt="localhost")  # refused
    ActivityTracker(["daily"], backend="redis", port="6379")  # refused
    ActivityTracker(["daily"], backend="embedded", host="localhost")  # refused
    ActivityTracker(["daily"], path="data")  # refused
    ActivityTracker(["daily"], buckets="member")  # refused
    ActivityTracker(["daily"], aggregate_buckets={"total": "member"})  # refused
    ActivityTracker(["daily"], keep_sketches={"dayly": timedelta(62)})  # refused
    AsyncActivityTracker(["daily"], backend=ActivityTracker().backend)  # refused


async def calls(tracker: ActivityTracker, other: AsyncActivityTracker, writer: BufferedTracker) -> None:
    """Arguments, and what becomes of results."""
    tracker.track("daily", id=1)  # refused
    tracker.track(["daily"], "id")  # refused
    tracker.track(id=3.5)  # refused
    tracker.track(id=1, bucket=7)  # refused
    tracker.track_many(7)  # refused
    tracker.track_many([1, None])  # refused
    tracker.import_events([("id", "bucket", "2026-01-01")])  # refused
    tracker.track_daily(id=1, bukcet="x")  # refused
    tracker.track_daily(["daily"], id=1)  # refused
    tracker.collapse(max_periods="3")  # refused
    tracker.collapse(buckets="member")  # refused
    tracker.lookup(["daily"])  # refused
    tracker.lookup("daily", start="2026-01-01")  # refused
    tracker.lookup_daily(start=3)  # refused
    tracker.lookup("daily", missing=None)[-1][1]["member"] + 1  # refused
    print(tracker.lookup_daily(missing=None)[-1][1]["member"].stderr)  # refused
    tracker.lookup_daily()[-1]["member"]  # refused
    tracker.buffered(flush_interval="1")  # refused
    writer.track(id=3.5)  # refused
    writer.track_weekly(3)  # refused
    await tracker.track(id=1)  # refused
    other.track(id=1)  # refused
    len(other.lookup_daily())  # refused
    (await other.lookup(missing=None))[-1][1]["member"] + 1  # refused
    count: Estimate = tracker.lookup_daily()[-1][1]["member"] + 1  # refused
    del count


def adapters(
    writer: BufferedTracker, other: AsyncActivityTracker, app: Starlette, environ: dict[str, Any]
) -> None:
    """Adapters of web services."""
    asgi.ActivityMiddleware(app, print, of_scope)  # refused
    asgi.ActivityMiddleware(app, writer, "identify")  # refused
    wsgi.ActivityMiddleware(app, writer, of_environ)  # refused
    WriterCollector({"web": print})  # refused
    CountsCollector(other)  # refused
