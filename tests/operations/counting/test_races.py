"""What is counted while others write: what was read is stored only if it is as it was read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import numpy as np
import pytest

from activity_tracker_hll import BackendError, CollapseError
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import REGISTERS
from activity_tracker_hll.operations.counting import collapse
from activity_tracker_hll.scripts import calls
from helpers.moments import YESTERDAY, day

HOSTILE = codec.encode((40 * (np.arange(REGISTERS) < 200)).astype(np.uint8))

# Of two moments that are said, no clock of two trackers can mistake the order.
YESTERDAY_AT_10, YESTERDAY_AT_11 = (datetime.combine(YESTERDAY, time(hour)) for hour in (10, 11))

Act = Callable[[Any], object]

CHANGES: dict[str, tuple[Act, int]] = {
    "nothing happens": (lambda other: None, 9),
    "an id comes": (lambda other: other.track(id="new", bucket="a", date=YESTERDAY), 10),
    "an id leaves": (lambda other: other.track(old_id=5, old_bucket="a", date=YESTERDAY), 8),
    "an id comes back": (lambda other: other.track(id=0, bucket="a", date=YESTERDAY_AT_11), 10),
}


def before(
    monkeypatch: pytest.MonkeyPatch, tracker: Any, script: calls.Script, act: Callable[[], object]
) -> list[Any]:
    """Do something before the first call of a script; returns a list that is not empty once it was done."""
    execute, done = tracker.backend.execute, []

    def interrupted(commands: Sequence[Any], shard: int = 0) -> Any:
        if not done and any(script.sha in command for command in commands):
            done.append(act())
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    return done


@pytest.mark.parametrize("secret", [None, "pepper"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_bucket_with_moves_that_changed_since_it_was_read_is_read_again(
    real_server, monkeypatch, change, secret
):
    tracker, other = (real_server.tracker(buckets=["a"], secret=secret) for _ in range(2))
    tracker.track_many(range(10), bucket="a", date=YESTERDAY)
    tracker.track(old_id=0, old_bucket="a", date=YESTERDAY_AT_10)
    act, count = CHANGES[change]
    done = before(monkeypatch, tracker, calls.STORE, lambda: act(other))
    assert [item.count for item in tracker.collapse()] == [count]
    assert done


def test_a_bucket_that_lost_its_sketch_since_it_was_read_is_not_counted_as_if_it_had_not(
    real_server, monkeypatch
):
    """Without a secret all are looked at; what is stored is the server's own count of what is there then."""
    tracker = real_server.tracker(buckets=["a"])
    tracker.track_many(range(100), bucket="a", date=YESTERDAY)

    def lose() -> None:
        real_server.client.flushall()
        tracker.track_many(range(10), bucket="a", date=YESTERDAY)

    done = before(monkeypatch, tracker, calls.COLLAPSE, lose)
    assert [item.count for item in tracker.collapse()] == [10]
    assert done


@pytest.mark.parametrize("secret", [None, "pepper"])
@pytest.mark.parametrize("moves", [False, True])
def test_an_older_union_is_not_stored_over_a_newer(real_server, monkeypatch, secret, moves):
    """Two collapses at once: what the slower one had read is no longer the truth."""
    union = {"t": ["a", "b"]}
    slow, quick = (
        real_server.tracker(
            buckets=["a", "b"], aggregate_buckets=union, secret=secret, keep_sketches=timedelta(days=9)
        )
        for _ in range(2)
    )
    slow.track_many(range(10), bucket="a", date=YESTERDAY)
    slow.track_many(range(5, 15), bucket="b", date=YESTERDAY)
    if moves:
        slow.track(old_id=0, old_bucket="a", date=YESTERDAY_AT_10)

    def overtake() -> None:
        quick.track_many(range(100, 150), bucket="b", date=YESTERDAY)
        quick.collapse()

    script = calls.AGGREGATE if secret and not moves else calls.STORE_UNION
    done = before(monkeypatch, slow, script, overtake)
    slow.collapse()
    assert done
    [(_, counts)] = quick.lookup(start=YESTERDAY, buckets=["t", "a", "b"])
    left = 1 if moves else 0
    assert counts == {"t": 65 - left, "a": 10 - left, "b": 60}


@pytest.mark.parametrize("secret", [None, "pepper"])
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_union_of_sources_that_change_meanwhile_is_made_again(
    real_server, monkeypatch, secret, moves, change
):
    union = {"t": ["a", "b"]}
    tracker, other = (
        real_server.tracker(buckets=["a", "b"], aggregate_buckets=union, secret=secret) for _ in range(2)
    )
    tracker.track_many(range(10), bucket="a", date=YESTERDAY)
    tracker.track_many(range(20, 30), bucket="b", date=YESTERDAY)
    if moves:
        tracker.track(old_id=0, old_bucket="a", date=YESTERDAY_AT_10)
    script = calls.AGGREGATE if secret and not moves else calls.STORE_UNION
    act, count = CHANGES[change]
    count += not moves and change != "an id comes back"
    done = before(monkeypatch, tracker, script, lambda: act(other))
    assert {item.bucket: item.count for item in tracker.collapse()} == {"a": count, "b": 10, "t": 10 + count}
    assert done


def loses_its_count(server: Any, keys: Any) -> None:
    """As where another process absorbs a raw set of the bucket."""
    server.client.persist(keys.hll)
    server.client.delete(keys.counted, keys.stderr)


def gets_a_sketch(server: Any, keys: Any) -> None:
    server.client.set(keys.hll, HOSTILE)


@pytest.mark.parametrize("change", [loses_its_count, gets_a_sketch])
def test_what_nobody_looked_at_is_not_counted(real_server, monkeypatch, change):
    tracker = real_server.tracker(buckets=["a"])
    keys = tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", "a")
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    if change is loses_its_count:
        real_server.client.set(keys.hll, HOSTILE)
        assert tracker.collapse()[0].count.suspect
    else:
        real_server.client.delete(keys.hll)
    done = before(monkeypatch, tracker, calls.COLLAPSE, lambda: change(real_server, keys))
    [row] = tracker.collapse(max_periods=1)
    assert done
    assert row.count.suspect
    assert real_server.client.get(keys.stderr) == b"inf"


def test_a_count_of_nobody_that_is_old_is_no_row_of_a_collapse(real_server):
    tracker = real_server.tracker(buckets=["a", "b"])
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    real_server.client.set(f"active:daily-{YESTERDAY:%Y%m%d}:b", 0)
    assert [row.bucket for row in tracker.collapse()] == ["a"]
    assert tracker.collapse(max_periods=2) == []


def test_a_look_that_fails_is_told_as_a_failed_count_is(real_server, monkeypatch):
    """As where one node of a cluster is away: all that is elsewhere is counted."""
    tracker = real_server.tracker(buckets=["a", "b", "c"])
    for bucket in ("a", "b", "c"):
        tracker.track(id=1, bucket=bucket, date=YESTERDAY)
    execute = tracker.backend.execute
    away = tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", "b").hll

    def partly(commands: Sequence[Any], shard: int = 0) -> Any:
        replies = execute(commands, shard)
        return [
            BackendError("it is away") if command[0] == "MGET" and away in command else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    monkeypatch.setattr(tracker.backend, "execute", partly)
    monkeypatch.setattr(sys.modules[collapse.__module__], "_KEYS_PER_COMMAND", 1)
    with pytest.raises(CollapseError, match="it is away") as caught:
        tracker.collapse()
    assert [row.bucket for row in caught.value.collapsed] == ["a", "c"]


@pytest.mark.parametrize("ids", [("x", "y"), (1, 2)])
@pytest.mark.parametrize("aggregates", [{}, {"t": ["a"]}])
def test_a_raw_set_that_another_collapse_absorbs_at_the_same_time_is_counted_once(
    server, monkeypatch, aggregates, ids
):
    """The other one is through, and its sketch has expired, when this one adds the ids it has read."""
    slow = server.tracker(buckets=["a"], keep_sketches=None, aggregate_buckets=aggregates)
    quick = server.tracker(buckets=["a"], aggregate_buckets=aggregates)
    slow.track_many(range(10), bucket="a", date=day(100))
    [name] = {done.period.name for done in slow.collapse()}
    slow.change_settings(keep_sketches=timedelta(days=62))
    keys = slow.backend.keys.bucket(name, "a")
    server.client.sadd(keys.raw, *ids)
    done = before(monkeypatch, slow, calls.ABSORB, quick.collapse_due)
    assert slow.collapse_due() == []
    count = 10 + len({*ids} - {*range(10)})
    assert [{item.bucket: item.count for item in items} for items in done] == [
        dict.fromkeys([*aggregates, "a"], count)
    ]
    assert not server.client.exists(keys.hll)
    assert not server.client.exists(keys.raw)
    assert server.client.get(keys.counted) == b"%d" % count
