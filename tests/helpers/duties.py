"""What the calls of the library ask of a server: everything that needs a right of its own, by role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

from activity_tracker_hll import ActivityTracker, Selection
from activity_tracker_hll.keys import Keys
from helpers.moments import NOON, TODAY, YESTERDAY, day

BUCKETS = ["a", "b", "c", "d"]
SETTINGS: dict[str, Any] = {"buckets": BUCKETS, "timezone": "UTC", "clock": lambda: NOON, "secret": "pepper"}
AGGREGATES = {"both": ["a", "b"], "plain": ["c", "d"]}
LENGTHS = [{"daily": timedelta(days=days)} for days in (90, 100, 110, 120)]
KEYS = Keys()
ARCHIVE = "prepared.archive"
Make = Callable[..., ActivityTracker]
"""Makes a tracker of the user, with these settings."""


def named(when: Any, bucket: str) -> Any:
    return KEYS.bucket(f"daily-{when:%Y%m%d}", bucket)


def prepare(client: Any, tracker: ActivityTracker, folder: Path) -> None:
    """The data that the calls need, and their archive, by a user with all rights: little of it is counted."""
    for when in (day(3), day(2), YESTERDAY):
        for index, bucket in enumerate(BUCKETS):
            tracker.track_many(range(100 * index, 100 * index + 150), bucket=bucket, date=when)
        client.sadd(named(when, "a").raw, "x", "y")
    for id in range(3):
        tracker.track(id=id, bucket="b", old_id=id, old_bucket="a", date=YESTERDAY)
    tracker.track(id=1, bucket="a")
    tracker.track(old_id=1, old_bucket="a")
    tracker.track(id=1, bucket="a")
    tracker.track(old_id=2, old_bucket="a")
    for when in (day(6), day(5)):
        tracker.track_many(range(50), bucket="d", date=when)
    tracker.track(old_id=7, old_bucket="d", date=day(6))
    tracker.collapse(date=day(4), buckets=["d"])
    tracker.change_settings(keep_sketches=LENGTHS[0])
    client.set(named(day(40), "a").counted, 0)  # activity-tracker's count of nobody
    tracker.archive(folder / ARCHIVE)


def writes(make: Make, folder: Path) -> Iterator[Callable[[], object]]:
    """Calls that track."""
    moment = datetime.combine(TODAY, time())
    yield lambda: make(namespace="active:new").track(id=1, bucket="a")
    yield lambda: make(keep_sketches=LENGTHS[1]).track(id=1, bucket="a")
    yield lambda: make().track(id=2, bucket="b", old_id=2, old_bucket="a")
    yield lambda: make().track(id=3, bucket="a", date=YESTERDAY)
    yield lambda: make().track(id=3, bucket="a", date=day(40))
    yield lambda: make().track(id=3, bucket="a", old_id=3, old_bucket="d", date=day(5))
    yield lambda: make().track_many(range(2000), bucket="a", date=YESTERDAY)
    yield lambda: make().track_many(range(20_000), bucket="b")
    yield lambda: make().import_events([(id, "a", moment) for id in range(50)])
    yield lambda: make().import_events([(id, "a", day(2)) for id in range(50)])

    def buffered() -> None:
        told: list[Exception] = []
        writer = make().buffered(flush_interval=60, refresh_interval=0.001, on_error=told.append)
        try:
            for _ in range(2):
                writer.track_many(range(100), bucket="a")
                writer.track(id=7, bucket="b", old_id=7, old_bucket="a")
                while writer.flush(0.2).pending and not told:
                    pass
        finally:
            writer.close(0.001)
        if told:
            raise told[0]

    yield buffered


def reads(make: Make, folder: Path) -> Iterator[Callable[[], object]]:
    """Calls that read."""
    span = {"start": day(3), "end": TODAY}
    few = Selection(["a", "b"], **span)
    yield lambda: make().lookup(start=day(3))
    yield lambda: make().lookup(start=day(3), buckets=[*BUCKETS, "both", "c", "unknown"], live=True)
    yield lambda: make().unique(period="daily", **span)
    yield lambda: make().unique(period="daily", buckets=["c"], **span)
    yield lambda: make().rolling(2, **span)
    yield lambda: make().stickiness(2, **span)
    yield lambda: make().overlap(few, Selection("c", **span))
    yield lambda: make().retention("daily", bucket="a", **span)
    yield lambda: make().lifecycle("daily", bucket="a", **span)
    yield lambda: make().sketch("daily", YESTERDAY, "a")
    yield lambda: make().settings
    yield lambda: make().inventory()
    yield lambda: make().examine(role="read")
    yield lambda: make().archive(folder / "new.archive")
    yield lambda: make().examine(role="read", archive=folder / ARCHIVE)


def counts(make: Make, folder: Path) -> Iterator[Callable[[], object]]:
    """Calls that count, and change settings."""
    options = {"aggregate_buckets": AGGREGATES, "keep_sketches": LENGTHS[2]}
    yield lambda: make().collapse(max_periods=1)
    yield lambda: make(**options).collapse()
    yield lambda: make().collapse_due()
    yield lambda: make().collapse(recount=True)
    yield lambda: make().change_settings(keep_sketches=LENGTHS[3], aggregate_buckets={"more": ["a"]})
    yield lambda: make().change_settings(aggregate_buckets={"more": None})


def restores(make: Make, folder: Path) -> Iterator[Callable[[], object]]:
    """Calls that restore: where there is nothing, and where there is all or part of it."""
    path = folder / ARCHIVE
    yield lambda: make(namespace="active:new").restore(path)
    yield lambda: make().restore(path)
    yield lambda: make(keep_sketches=LENGTHS[1]).restore(path, keep=timedelta(days=500))
    yield lambda: make(keep_sketches=None).restore(path, start=day(5))


CALLS = {"track": writes, "read": reads, "collapse": counts, "restore": restores}
