"""Data of every kind, what readers say of them, and what a server holds: to be compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np

from activity_tracker_hll import ActivityTracker, ActivityTrackerError, Estimate, Selection, Sketch
from activity_tracker_hll.hll import codec
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.result import Result
from helpers.moments import TODAY, day

DAYS = 9
BUCKETS = (None, "a", "b", "é:x")
AGGREGATES = {"both": ["a", "b"]}
TOMORROW = TODAY + timedelta(days=1)
KEYS = Keys()
Call = Callable[..., Any]


def keys_of(before: int, bucket: str | None) -> Any:
    """The keys of a bucket on the day that many days ago."""
    return KEYS.bucket(f"daily-{day(before):%Y%m%d}", bucket)


def fill(tracker: ActivityTracker, client: Any, seed: int) -> None:
    """Plain buckets and such with moves, counted and not, expired, imported, suspect, of activity-tracker."""
    dice = random.Random(seed)
    for before in range(DAYS, -1, -1):
        for bucket in BUCKETS:
            size = dice.choice((0, 5, 300, 4000))
            if size:
                tracker.track_many(range(before * 7, before * 7 + size), bucket=bucket, date=day(before))
        for minute in range(dice.randrange(25)):
            moved = {"id": f"u{minute}", "bucket": "b", "old_id": minute + before * 7, "old_bucket": "a"}
            when = datetime.combine(day(before), time(1, minute))
            tracker.track(**moved, date=when)
            if dice.random() < 0.4:
                tracker.track(id=moved["old_id"], bucket="a", date=when.replace(hour=2))
    tracker.collapse(date=day(3))
    for before in (DAYS - 2, DAYS - 3):  # of buckets without moves, whose sketches have expired
        for bucket in (None, "é:x"):
            client.delete(keys_of(before, bucket).hll)
    client.set(keys_of(DAYS + 5, "a").counted, 123)  # imported
    client.set(keys_of(DAYS + 6, "a").counted, 0)  # activity-tracker's count of nobody
    chosen = np.full(16384, dice.randrange(3, 9), np.uint8)
    client.set(keys_of(2, "é:x").hll, codec.encode(chosen))
    if not tracker.settings.has_secret:
        client.sadd(keys_of(1, "a").raw, *range(40))
        client.sadd(keys_of(DAYS + 4, "b").raw, *range(20))


def calls(*, thorough: bool = False) -> Iterator[tuple[str, Call]]:
    """All calls that read; thorough: of more buckets and longer, which takes many seconds."""
    names = [*BUCKETS, "both"]
    since = {"start": day(5 if thorough else 2), "end": TOMORROW, "missing": "none"}
    for kind in ("daily", "monthly"):
        for live in (None, True, False):
            yield (
                f"lookup {kind} {live}",
                lambda r, kind=kind, live=live: r.lookup(
                    kind, start=day(40), end=TOMORROW, buckets=names, live=live, missing=None
                ),
            )
    yield "lookup", lambda r: r.lookup("daily", buckets=names)
    for missing in ("raise", "none"):
        for window, first in ((1, DAYS + 2), (3, DAYS if thorough else 2)):
            yield (
                f"rolling {window} {missing}",
                lambda r, window=window, first=first, missing=missing: r.rolling(
                    window, buckets=names, start=day(first), end=TOMORROW, missing=missing
                ),
            )
        yield (
            f"unique {missing}",
            lambda r, missing=missing: r.unique(
                day(DAYS if thorough else 4), TOMORROW, buckets=names, period="daily", missing=missing
            ),
        )
    for bucket in ("a", None, "both") if thorough else ("a",):
        yield (
            f"retention {bucket}",
            lambda r, b=bucket: r.retention("daily", bucket=b, cohorts="new", **since),
        )
        yield f"lifecycle {bucket}", lambda r, b=bucket: r.lifecycle("daily", bucket=b, look_back=1, **since)
        yield f"stickiness {bucket}", lambda r, b=bucket: r.stickiness(2, buckets=[b], **since)
    yield "unique of unions", lambda r: r.unique(day(5), TODAY, aggregate_buckets={"x": ["a", "é:x"]})
    yield "rolling from the start", lambda r: r.rolling(2, buckets=names[:3])
    yield "monthly", lambda r: r.rolling(1, period="monthly", buckets=names, end=TOMORROW)
    yield "unknown", lambda r: r.unique(day(5), TODAY, buckets=["nobody"], period="daily")
    yield (
        "overlap",
        lambda r: r.overlap(Selection(["a", "b"], day(4), TODAY), Selection("é:x", day(4), TODAY)),
    )
    for bucket in names:
        for before in (0, 2, 5, DAYS - 2):
            yield (
                f"sketch {bucket} {before}",
                lambda r, b=bucket, at=before: r.sketch("daily", day(at), b),
            )
    yield "inventory", lambda r: [(e.period, e.bucket, _without_raw(e.parts)) for e in r.inventory()]
    yield "settings", lambda r: r.settings


def _without_raw(parts: frozenset[str]) -> frozenset[str]:
    """An archive has sketches instead."""
    return parts - {"raw"} | {"hll"} if "raw" in parts else parts


def answers(reader: Any, *, thorough: bool = False) -> dict[str, Any]:
    """What a reader says, in full; errors too."""
    return {name: _plain(call, reader) for name, call in calls(thorough=thorough)}


def _plain(call: Call, reader: Any) -> Any:
    try:
        result = call(reader)
    except ActivityTrackerError as error:
        return type(error), str(error)
    if isinstance(result, Sketch):
        return result.tracked.to_bytes(), result.moved.to_bytes(), _told(result.remainder())
    if isinstance(result, Result) and not isinstance(result, list):
        return str(result), [
            {name: repr(value) for name, value in each.items()} for each in result.to_dicts()
        ]
    if isinstance(result, list) and result and isinstance(result[0][1], dict):
        return [(date, {name: _told(count) for name, count in counts.items()}) for date, counts in result]
    return result


def _told(count: Estimate | None) -> Any:
    return None if count is None else (int(count), count.stderr, count.interval())


def distinct(reader: Any, bucket: str, start: date, end: date) -> int:
    """How many ids a bucket has; also for another process, which knows no module of tests but these."""
    return int(reader.unique(start, end, buckets=[bucket])[bucket])


def state(client: Any) -> dict[str, Any]:
    """All that a server holds: of sketches the registers, as encodings differ."""
    held: dict[str, Any] = {}
    for key in sorted(client.scan_iter(count=10_000)):
        name, kind = key.decode(), client.type(key)
        if ":tmp:" in name:
            continue
        if kind == b"zset":
            held[name] = dict(client.zrange(key, 0, -1, withscores=True))
        elif kind == b"hash":
            held[name] = client.hgetall(key)
        elif kind == b"set":
            held[name] = client.smembers(key)
        else:
            value = client.get(key)
            held[name] = codec.decode(value).tobytes() if value.startswith(b"HYLL") else value
    return held
