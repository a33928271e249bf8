"""Every public call from a user's side, with the type of its result; nothing here is run."""

# pyright: strict

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import redis

from activity_tracker_hll import (
    ActivityTracker,
    Archive,
    Archived,
    BufferedTracker,
    Cell,
    Collapsed,
    Counts,
    DataSettings,
    Entry,
    Estimate,
    Examination,
    Gap,
    HyperLogLog,
    Id,
    Imported,
    Lifecycle,
    LifecycleRow,
    Overlap,
    PeriodKind,
    Restored,
    Retention,
    RetentionRow,
    Row,
    Rows,
    RowWithGaps,
    Selection,
    Series,
    SeriesRow,
    Share,
    Sketch,
    Statistics,
)
from activity_tracker_hll.aio import AsyncActivityTracker, AsyncBufferedTracker
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.redis import RedisBackend

DAY = dt.date(2026, 1, 1)
CHOSEN: tuple[PeriodKind, ...] = ("daily", "monthly")
DECLARED: list[PeriodKind] = [ActivityTracker.PERIOD_DAILY, ActivityTracker.PERIOD_MONTHLY]
CONSTANTS = (ActivityTracker.PERIOD_DAILY, ActivityTracker.PERIOD_MONTHLY)


def constructors() -> None:
    """Every kind of backend, and the options of each."""
    ActivityTracker()
    ActivityTracker({"daily"}, "redis", url="redis://localhost/1", secret="s", retries=1)
    ActivityTracker(DECLARED)
    ActivityTracker(CONSTANTS)
    ActivityTracker([ActivityTracker.PERIOD_DAILY, "yearly"], host="localhost", port=6379, db=1, password="p")
    ActivityTracker(CHOSEN, buckets=["a", None], aggregate_buckets={"total": ("a", "b")}, timezone="UTC")
    ActivityTracker(buckets=(name for name in "ab"), week_start=6, timezone=dt.UTC, clock=lambda: 0.0)
    ActivityTracker(
        ["daily"], client=redis.Redis(), keep_sketches={"daily": dt.timedelta(62), "hourly": None}
    )
    ActivityTracker(["daily"], shards=[{}, {"db": 1}], namespace="n", moved_limit=100, ssl=True)
    ActivityTracker(["daily"], "embedded", path="data", keep_sketches=dt.timedelta(90))
    ActivityTracker(backend="embedded", start_timeout=5.0, keep_sketches=None)
    ActivityTracker(backend="package.module.Class", namespace="n")
    ActivityTracker(["daily"], RedisBackend(host="localhost", anything=1))
    AsyncActivityTracker(["daily"], url="redis://localhost")
    AsyncActivityTracker(backend="embedded", path="data")
    AsyncActivityTracker(backend=AsyncRedisBackend(host="localhost"), timezone="UTC")


def events() -> Iterator[tuple[Id, str | None, dt.date]]:
    """As a log is read."""
    yield 1, None, DAY
    yield "a", "b", dt.datetime(2026, 1, 1, 12)


def calls(tracker: ActivityTracker) -> None:
    """Those that wait."""
    tracker.track(id=1, bucket="a", old_id="s", old_bucket="b", date=DAY)
    tracker.track(CHOSEN, id=UUID(int=1), shard=1)
    tracker.track(["daily"], id=b"x")
    tracker.track(id=np.int64(3))
    tracker.track(id=np.str_("s"))
    tracker.track(id=None, old_id=3)
    tracker.track_many([1, "2"], bucket="a")
    tracker.track_many(np.arange(3), ["hourly"], date=dt.datetime(2026, 1, 1, 12))
    tracker.track_many({b"a", b"b"}, shard=1)
    assert_type(tracker.import_events([(1, None, DAY)], progress=print), Imported)
    assert_type(tracker.import_events(events(), ["daily"], shard=1), Imported)
    tracker.import_events((np.array(["a", "b"]), "bucket", DAY))
    tracker.import_events((np.arange(2), ["a", None], np.array(["2026-01-01"] * 2, "M8[D]")))
    frame = pl.DataFrame({"user": ["a"], "at": [DAY]})
    assert_type(tracker.import_events(frame, id_column="user", time_column="at"), Imported)
    tracker.import_events(
        pd.DataFrame({"user": ["a"], "at": [DAY], "site": ["b"]}),
        ["daily"],
        id_column="user",
        time_column="at",
        bucket_column="site",
        timezone="UTC",
    )
    tracker.import_events((pd.Series(["a"]), pd.Series(["b"]), pd.Series([DAY])))
    tracker.track_many(pd.Series(["a"]))
    tracker.track_many(frame["user"], bucket="b")
    HyperLogLog(pd.array(["a"], dtype="string"))
    assert_type(tracker.collapse(buckets=["a", None], aggregate_buckets={"t": ["a"]}), list[Collapsed])
    assert_type(tracker.collapse(CHOSEN, date=DAY, max_periods=3, recount=True, shard=1), list[Collapsed])
    due = tracker.collapse_due(["daily"], date=DAY, max_periods=None, buckets={"a"}, progress=print)
    assert_type(due, list[Collapsed])
    assert_type(tracker.inventory(shard=1), list[Entry])
    assert_type(tracker.examine(shard=1, archive="a.archive"), Examination)
    assert_type(tracker.archive("a.archive", periods=CHOSEN, start=DAY, moves=False), Archived)
    assert_type(tracker.restore(Path("a.archive"), buckets=["a", None], keep=dt.timedelta(7)), Restored)
    assert_type(tracker.settings, DataSettings)
    assert_type(tracker.read_settings(shard=1), DataSettings)
    changed = tracker.change_settings(
        keep_sketches={"daily": dt.timedelta(days=90), "yearly": None},
        aggregate_buckets={"t": ["a"], "u": None},
    )
    assert_type(changed, DataSettings)
    tracker.change_settings(keep_sketches=None, shard=1)
    with tracker as same:
        assert_type(same, ActivityTracker)
    tracker.close()


def archives() -> None:
    """They read, and do nothing else."""
    with Archive(Path("a.archive"), periods=["daily"], buckets=["a"], secret="s") as archive:
        assert_type(archive, Archive)
        assert_type(archive.rolling(7), Series[Estimate])
        assert_type(archive.lookup("daily"), Rows[Row])
        assert_type(archive.lookup("daily", missing=None), Rows[RowWithGaps])
        assert_type(archive.settings, DataSettings)
        assert_type(archive.read_settings(), DataSettings)
        assert_type(archive.archived_at, dt.datetime)


def lookups(tracker: ActivityTracker, absent: int | None) -> None:
    """What stands for absent data decides the type of the counts."""
    for when, counts in tracker.lookup("daily", start=DAY, end=dt.datetime(2026, 2, 1), live=True):
        assert_type(when, dt.date)
        assert_type(counts["a"] + 1, int)
        assert_type(counts[None], Estimate)
    assert_type(tracker.lookup(buckets=["a"], missing=3, shard=1), Rows[Row])
    assert_type(tracker.lookup(missing=None), Rows[RowWithGaps])
    assert_type(tracker.lookup(missing=absent), Rows[Row] | Rows[RowWithGaps])


def analytics(tracker: ActivityTracker) -> None:
    """Every result of what sketches tell."""
    counts = tracker.unique(DAY, dt.date(2026, 2, 1), buckets=["a"], aggregate_buckets={"t": ["a", "b"]})
    assert_type(counts, Counts)
    assert_type(counts["a"], Estimate | None)
    assert_type(counts.gaps, tuple[Gap, ...])
    assert_type(counts.gaps[0].bucket, str | None)
    rolling = tracker.rolling(7, start=DAY, missing="none", shard=1)
    assert_type(rolling, Series[Estimate])
    for when, estimates, complete in rolling:
        assert_type(when, dt.date)
        assert_type(estimates, Mapping[str | None, Estimate | None])
        assert_type(complete, bool)
    assert_type(rolling[0], SeriesRow[Estimate])
    assert_type(rolling[1:], tuple[SeriesRow[Estimate], ...])
    sticky = tracker.stickiness(28, period="daily", end=DAY, aggregate_buckets={"all": ["a", "b"]})
    assert_type(sticky[0].estimates, Mapping[str | None, Share | None])
    january = Selection("a", DAY, dt.date(2026, 2, 1))
    assert_type(tracker.overlap(january, Selection(["a", None], DAY, DAY, "daily")), Overlap)
    retention = tracker.retention("weekly", start=DAY, end=DAY, bucket="a", cohorts="new", when="on or after")
    assert_type(retention, Retention)
    assert_type(retention[0], RetentionRow)
    assert_type(retention[0].cells, tuple[Cell | None, ...])
    assert_type(retention.means, tuple[Share | None, ...])
    cell = retention[0].cells[0]
    if cell is not None:
        assert_type(cell.ids, Estimate)
        assert_type(cell.share.interval(0.9), tuple[float, float])
    lifecycle = tracker.lifecycle(start=DAY, end=DAY, bucket=None, look_back=3)
    assert_type(lifecycle, Lifecycle)
    assert_type(lifecycle[-1], LifecycleRow)
    assert_type(lifecycle[0].churned, Estimate | None)
    assert_type(tracker.report("page.html", buckets=["a", None], bucket="a", progress=print), Path)
    sketch = tracker.sketch("monthly", DAY, "a")
    assert_type(sketch, Sketch)
    assert_type(sketch.tracked, HyperLogLog)
    assert_type(sketch.remainder(), Estimate)
    for result in (counts, rolling, sticky, retention, lifecycle, tracker.lookup("daily")):
        assert_type(result.to_dicts()[0]["complete"], Any)
        assert_type(result.to_frame(), pd.DataFrame)
        print(result)


def shorthands(tracker: ActivityTracker) -> None:
    """Without the period."""
    tracker.track_hourly(id=1)
    tracker.track_daily(id=1, bucket="a")
    tracker.track_weekly(id=1, old_id=2, old_bucket="b")
    tracker.track_monthly(id=1, date=DAY)
    tracker.track_quarterly(id=1, shard=1)
    tracker.track_yearly(id=1)
    assert_type(tracker.collapse_hourly(), list[Collapsed])
    assert_type(tracker.collapse_daily(date=DAY), list[Collapsed])
    assert_type(tracker.collapse_weekly(max_periods=3), list[Collapsed])
    assert_type(tracker.collapse_monthly(buckets=["a"]), list[Collapsed])
    assert_type(tracker.collapse_quarterly(aggregate_buckets={"t": ["a"]}), list[Collapsed])
    assert_type(tracker.collapse_yearly(recount=True, shard=1), list[Collapsed])
    assert_type(tracker.lookup_hourly(live=True), Rows[Row])
    assert_type(tracker.lookup_daily(start=DAY, end=DAY), Rows[Row])
    assert_type(tracker.lookup_weekly(buckets=["a"]), Rows[Row])
    assert_type(tracker.lookup_monthly(missing=0), Rows[Row])
    assert_type(tracker.lookup_quarterly(missing=None), Rows[RowWithGaps])
    assert_type(tracker.lookup_yearly(shard=1), Rows[Row])


def writer(tracker: ActivityTracker) -> None:
    """Those that do not wait."""
    options = tracker.buffered(
        flush_interval=1,
        close_timeout=1.5,
        refresh_interval=60,
        max_sketches=1,
        max_moves=1,
        on_error=print,
    )
    with options as writer:
        assert_type(writer, BufferedTracker)
        writer.track(id="a")
        writer.track(["daily"], id=1, bucket="a", old_id="s", old_bucket="b", date=DAY, shard=1)
        writer.track_many([1, 2], CHOSEN, bucket="a", date=DAY, shard=1)
        writer.track_hourly(id=1)
        writer.track_daily(id=1, bucket="a")
        writer.track_weekly(id=1)
        writer.track_monthly(id=1)
        writer.track_quarterly(id=1)
        writer.track_yearly(id=1)
        assert_type(writer.flush(timeout=3), Statistics)
        assert_type(writer.statistics, Statistics)
    assert_type(writer.close(), Statistics)


async def awaited(tracker: AsyncActivityTracker) -> None:
    """The same calls for asyncio."""
    await tracker.track(CHOSEN, id=1, bucket="a", old_id="s", old_bucket="b", date=DAY, shard=1)
    await tracker.track_many([1, "2"], ["daily"], bucket="a", date=DAY, shard=1)
    assert_type(await tracker.import_events([(1, None, DAY)], ["daily"], progress=print), Imported)
    assert_type(await tracker.collapse(["daily"], max_periods=3), list[Collapsed])
    assert_type(await tracker.collapse_due(date=DAY, progress=print), list[Collapsed])
    assert_type(await tracker.lookup("daily", buckets=["a"], live=True), Rows[Row])
    assert_type(await tracker.lookup(missing=None), Rows[RowWithGaps])
    assert_type(await tracker.inventory(), list[Entry])
    assert_type(await tracker.examine(), Examination)
    assert_type(await tracker.archive("a.archive", shard=1), Archived)
    assert_type(await tracker.restore("a.archive", end=DAY), Restored)
    assert_type(await tracker.settings, DataSettings)
    assert_type(await tracker.read_settings(shard=1), DataSettings)
    assert_type(await tracker.change_settings(keep_sketches=dt.timedelta(days=90)), DataSettings)
    await tracker.track_hourly(id=1)
    await tracker.track_daily(id=1, bucket="a")
    await tracker.track_weekly(id=1)
    await tracker.track_monthly(id=1)
    await tracker.track_quarterly(id=1)
    await tracker.track_yearly(id=1)
    assert_type(await tracker.collapse_hourly(), list[Collapsed])
    assert_type(await tracker.collapse_daily(), list[Collapsed])
    assert_type(await tracker.collapse_weekly(), list[Collapsed])
    assert_type(await tracker.collapse_monthly(max_periods=2), list[Collapsed])
    assert_type(await tracker.collapse_quarterly(), list[Collapsed])
    assert_type(await tracker.collapse_yearly(), list[Collapsed])
    assert_type(await tracker.lookup_hourly(), Rows[Row])
    assert_type(await tracker.lookup_daily(live=True), Rows[Row])
    assert_type(await tracker.lookup_weekly(), Rows[Row])
    assert_type(await tracker.lookup_monthly(missing=None), Rows[RowWithGaps])
    assert_type(await tracker.lookup_quarterly(), Rows[Row])
    assert_type(await tracker.lookup_yearly(), Rows[Row])
    async with tracker as same, tracker.buffered(flush_interval=0.5) as writer:
        assert_type(same, AsyncActivityTracker)
        assert_type(writer, AsyncBufferedTracker)
        writer.track(id="a")
        await writer.track(["daily"], id=1, old_id=2)
        writer.track_many([1, 2], bucket="a")
        writer.track_hourly(id=1)
        writer.track_daily(id=1)
        writer.track_weekly(id=1)
        writer.track_monthly(id=1)
        await writer.track_quarterly(id=1)
        writer.track_yearly(id=1)
        assert_type(await writer.flush(), Statistics)
        assert_type(writer.statistics, Statistics)
        assert_type(await writer.close(timeout=3), Statistics)
    await tracker.close()


async def awaited_analytics(tracker: AsyncActivityTracker) -> None:
    """The same, awaited."""
    assert_type(await tracker.unique(DAY, DAY), Counts)
    assert_type(await tracker.rolling(7), Series[Estimate])
    assert_type(await tracker.stickiness(), Series[Share])
    assert_type(await tracker.overlap(Selection("a", DAY, DAY), Selection("b", DAY, DAY)), Overlap)
    assert_type(await tracker.retention(start=DAY, end=DAY), Retention)
    assert_type(await tracker.lifecycle(start=DAY, end=DAY), Lifecycle)
    assert_type(await tracker.report(Path("page.html"), start=DAY, title="Users"), Path)
    assert_type(await tracker.sketch("daily", DAY), Sketch)


def estimates(count: Estimate) -> None:
    """An Estimate is an int."""
    number: int = count
    assert_type(count.stderr, float)
    assert_type(count.relative_error, float)
    assert_type(count.suspect, bool)
    assert_type(count.interval(0.99), tuple[int, int])
    assert_type(count + number, int)


def sketches() -> None:
    """A sketch of one's own."""
    sketch = HyperLogLog(["a", 1])
    sketch.add(b"x")
    sketch.update(np.arange(3))
    sketch.merge(HyperLogLog(), sketch.copy())
    sketch |= HyperLogLog({1})
    assert_type(sketch | HyperLogLog(), HyperLogLog)
    assert_type(sketch.count(), Estimate)
    assert_type(sketch.difference(HyperLogLog()), Estimate)
    overlap = sketch.overlap(HyperLogLog())
    assert_type(overlap, Overlap)
    assert_type(overlap.only_a, Estimate)
    assert_type(overlap.share_of_b, Share)
    assert_type(sketch.jaccard(HyperLogLog()).interval(0.8), tuple[float, float])
    assert_type(HyperLogLog.from_bytes(sketch.to_bytes(), secret="s"), HyperLogLog)
    HyperLogLog(secret=b"s").add(1)
