"""Data as they are stored, pinned: what one version has written, every later one must read, and write alike.

`golden/layout_2.json` holds every key of two small data sets, one of them under a secret, and the counts that
were read from them. After a change of the layout that is meant, it is made anew::

    python tests/test_golden.py
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.hll import codec

FILE = Path(__file__).parent / "golden" / "layout_2.json"
KINDS = ["hourly", "daily", "weekly", "monthly", "quarterly", "yearly"]
SECRET = "a secret that is pinned"  # noqa: S105 (of nothing)
NOW = datetime(2026, 2, 10, 12, tzinfo=UTC).timestamp()
DAY = datetime(2026, 2, 3, 9)
IDS = ["user-1", "7", "ünïcode ☃", "a" * 1024, UUID(int=7), 2**70, -5, b"\x00\xff", *range(100, 400)]
BUCKETS = ["anonymous", "members", "a:b c"]
UNION = {"everyone": ["anonymous", "members"]}
OPTIONS: dict[str, Any] = {
    "timezone": "Europe/Berlin",
    "week_start": 6,
    "keep_sketches": None,
    "buckets": [None, *BUCKETS],
    "aggregate_buckets": UNION,
    "clock": lambda: NOW,
}


def write(tracker: ActivityTracker) -> None:
    """Events with moments of their own, so that stamps are the same each time."""
    for number, id in enumerate(IDS):
        tracker.track(id=id, bucket=BUCKETS[number % 3], date=DAY + timedelta(seconds=number))
    tracker.track_many(range(1000, 4000), bucket="members", date=DAY)
    tracker.track(id="no bucket", date=DAY)
    later = DAY + timedelta(hours=2)
    for number in range(100, 160):  # each third of them was in the bucket it leaves
        move: dict[str, Any] = {"id": f"m{number}", "bucket": "members", "old_id": number}
        tracker.track(**move, old_bucket="anonymous", date=later + timedelta(seconds=number))
    tracker.track(id=100, bucket="anonymous", date=later + timedelta(hours=1))
    tracker.collapse(["weekly", "daily"], max_periods=7)


def read(tracker: ActivityTracker) -> dict[str, Any]:
    """All counts, live ones too, with their errors."""
    read: dict[str, Any] = {}
    for kind in KINDS:
        span = (
            {"start": date(2025, 1, 1), "end": date(2027, 1, 1)}
            if kind != "hourly"
            else {"start": DAY, "end": DAY + timedelta(days=1)}
        )
        for start, counts in tracker.lookup(kind, **span, buckets=[None, *BUCKETS], live=True, missing=None):
            for bucket, count in counts.items():
                if count is not None:
                    read[f"{kind} {start} {bucket}"] = [int(count), round(count.stderr, 6)]
    for start, counts in tracker.lookup(
        "daily", start=DAY, end=DAY + timedelta(days=1), buckets=["everyone"]
    ):
        read[f"daily {start} everyone"] = [int(counts["everyone"]), round(counts["everyone"].stderr, 6)]
    return read


def stored(client: Any) -> dict[str, Any]:
    """Every key: its type, and what it holds."""
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": lambda key: base64.b64encode(client.get(key)).decode(),
        b"set": lambda key: sorted(member.decode() for member in client.smembers(key)),
        b"hash": lambda key: {
            name.decode(): value.decode() for name, value in sorted(client.hgetall(key).items())
        },
        b"zset": lambda key: {
            base64.b64encode(member).decode(): int(score)
            for member, score in client.zrange(key, 0, -1, withscores=True)
        },
    }
    found = {}
    for key in sorted(client.scan_iter(count=10_000)):
        if b":tmp:" in key:
            continue
        kind = client.type(key)
        assert client.ttl(key) == -1, key
        found[key.decode()] = [kind.decode(), readers[kind](key)]
    return found


def restore(client: Any, data: dict[str, Any]) -> None:
    """Put back what `stored` returned."""
    for key, (kind, value) in data.items():
        if kind == "string":
            client.set(key, base64.b64decode(value))
        elif kind == "set":
            client.sadd(key, *value)
        elif kind == "hash":
            client.hset(key, mapping=value)
        else:
            client.zadd(key, {base64.b64decode(member): score for member, score in value.items()})


def comparable(data: dict[str, Any]) -> dict[str, Any]:
    """Sketches by their registers: how the server encodes them depends on its version."""
    return {
        key: [
            kind,
            codec.decode(base64.b64decode(value)).tobytes() if key.endswith((":hll", ":moved")) else value,
        ]
        for key, (kind, value) in data.items()
    }


def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


SECRETS = {"plain": None, "secret": SECRET}


@pytest.mark.parametrize("which", SECRETS)
def test_what_was_written_once_is_written_still(real_server, which):
    tracker = real_server.tracker(KINDS, secret=SECRETS[which], **OPTIONS)
    write(tracker)
    assert comparable(stored(real_server.client)) == comparable(golden()[which]["data"])


@pytest.mark.parametrize("which", SECRETS)
def test_what_was_written_once_is_read_still(real_server, which):
    restore(real_server.client, golden()[which]["data"])
    tracker = real_server.tracker(KINDS, secret=SECRETS[which], **OPTIONS)
    assert read(tracker) == golden()[which]["counts"]


def test_every_kind_of_key_is_there():
    data = golden()["secret"]["data"]
    assert {key.rpartition("}:")[2] for key in data if key.startswith("{")} == {
        "hll",
        "moved",
        "moves",
        "stderr",
    }
    assert {"active:{meta}", "active:{open}"} <= data.keys()
    assert {key.partition(":")[2].partition("-")[0] for key in data if key[0] == "{"} == {*KINDS}


def _make() -> None:
    made = {}
    for which, secret in SECRETS.items():
        with ActivityTracker(KINDS, "embedded", secret=secret, **OPTIONS) as tracker:
            write(tracker)
            client = tracker.backend.client()
            made[which] = {"data": stored(client), "counts": read(tracker)}
    FILE.write_text(json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _make()
