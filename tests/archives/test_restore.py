"""Restoring: what was archived is there again, and what is there stays."""

import itertools
import time
from datetime import timedelta

import numpy as np
import pytest

from activity_tracker_hll import (
    ActivityTracker,
    Archive,
    ArchiveError,
    ArgumentValueError,
    HyperLogLog,
    SettingsMismatchError,
)
from activity_tracker_hll.hll import codec
from helpers.archives import AGGREGATES, fill, keys_of, state
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.registers import drawn

OPEN = "active:{open}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activity.archive"


def without_raw(held):
    """Raw sets come back as sketches."""
    return {key: value for key, value in held.items() if ":raw" not in key}


def make(server, **options):
    return server.tracker(["daily", "monthly"], aggregate_buckets=AGGREGATES, **options)


def test_all_is_as_it_was(real_server, path):
    client, tracker = real_server.client, make(real_server)
    fill(tracker, client, 5)
    for before, bucket in ((1, "a"), (13, "b")):
        client.delete(keys_of(before, bucket).raw)
    before, said = state(client), tracker.rolling(2, buckets=["a"]).to_dicts()
    with_expiry = {key for key in before if client.ttl(key) > 0}
    done = tracker.archive(path)
    client.flushall()
    restored = make(real_server).restore(path)
    after = state(client)
    assert after.pop(OPEN) >= before.pop(OPEN)
    assert after == before
    assert {key for key in after if client.ttl(key) > 0} == with_expiry
    assert restored.written == done.held == done.read == done.changed > 30
    assert make(real_server).rolling(2, buckets=["a"]).to_dicts() == said


def test_again_and_in_any_order(real_server, path):
    """Two archives of two servers that share some ids, tables and all."""
    client, tracker = real_server.client, make(real_server)
    paths = [path, path.with_name("other")]
    for seed, each in enumerate(paths):
        client.flushall()
        tracker = make(real_server)
        for id in range(40):
            tracker.track(id=f"u{id}", bucket="b", old_id=id + 20 * seed, old_bucket="a")
        tracker.track_many(range(50 * seed, 50 * seed + 30), bucket="a")
        tracker.archive(each)
    held = []
    for order in itertools.product(paths, repeat=3):
        if len(set(order)) > 1:
            client.flushall()
            for each in order:
                make(real_server).restore(each)
            held.append(state(client))
    assert len(held) == 6
    assert all(each == held[0] for each in held)


def test_nothing_that_is_counted_is_without_an_end(real_server, path):
    client, tracker = real_server.client, make(real_server, keep_sketches=timedelta(31))
    for before in (40, 3, 0):
        tracker.track_many(range(before, before + 200), bucket="a", date=day(before))
    tracker.track(old_id=5, old_bucket="a", date=day(3))
    tracker.archive(path)  # nothing is counted yet
    tracker.collapse(["daily"])
    assert not client.exists(keys_of(40, "a").hll)  # it has expired at once
    tracker.archive(path)
    assert Archive(path).sketch("daily", day(40), "a").tracked == HyperLogLog(range(40, 240))
    client.flushall()
    make(real_server).restore(path)
    keep, now = timedelta(31).total_seconds(), time.time()
    left = {before: client.ttl(keys_of(before, "a").hll) for before in (40, 3, 0)}
    assert left[0] == -1  # it is not counted
    end = NOON - 43_200 - 2 * 86_400 + keep
    assert abs(now + left[3] - end) < 60
    assert abs(left[40] - keep) < 43_200 + 60  # from now on, and the tests live at noon
    assert client.ttl(keys_of(3, "a").moved) == client.ttl(keys_of(3, "a").moves) == left[3]
    make(real_server).restore(path, keep=timedelta(90))
    assert client.ttl(keys_of(3, "a").hll) > 89 * 86_400 - 43_200
    make(real_server).restore(path, keep=timedelta(1))
    assert client.ttl(keys_of(3, "a").hll) > 89 * 86_400 - 43_200  # none ends sooner


@pytest.mark.parametrize("keep", [None, timedelta(7)])
def test_what_is_kept_for_no_time_is_restored_if_somebody_says_for_how_long(real_server, path, keep):
    client, tracker = real_server.client, make(real_server)
    tracker.track_many(range(200), bucket="a", date=day(3))
    tracker.collapse(["daily"])
    tracker.archive(path)
    client.delete(keys_of(3, "a").hll)
    tracker.change_settings(keep_sketches={"daily": timedelta(0)})
    tracker.restore(path, keep=keep)
    assert client.exists(keys_of(3, "a").hll) == (keep is not None)
    assert client.get(keys_of(3, "a").counted) is not None


def test_kept_for_ever(real_server, path):
    client, tracker = real_server.client, make(real_server, keep_sketches=None)
    tracker.track_many(range(200), bucket="a", date=day(3))
    tracker.collapse(["daily"])
    tracker.archive(path)
    client.flushall()
    make(real_server).restore(path)
    assert client.ttl(keys_of(3, "a").hll) == -1


def test_a_count_of_the_servers_own_stands_and_what_it_lacks_is_said(real_server, path):
    client, tracker = real_server.client, make(real_server)
    tracker.track_many(range(200), bucket="a", date=day(3))
    tracker.collapse(["daily"])
    tracker.archive(path)
    client.flushall()
    tracker = make(real_server)
    tracker.track_many(range(150, 400), bucket="a", date=day(3))
    tracker.collapse(["daily"])
    restored = tracker.restore(path, periods=["daily"])
    [(_, counts)] = tracker.lookup("daily", start=day(3), end=day(2), buckets=["a"])
    assert counts["a"] == 250
    assert restored.open == (f"daily-{day(3):%Y%m%d}",)
    tracker.collapse(["daily"], recount=True)
    [(_, counts)] = tracker.lookup("daily", start=day(3), end=day(2), buckets=["a"])
    assert counts["a"] == HyperLogLog(range(400)).count()


def test_sketches_without_a_count_of_the_server_are_counted_anew(real_server, path):
    tracker = make(real_server)
    tracker.track_many(range(200), bucket="a", date=day(3))
    tracker.collapse(["daily"])
    tracker.archive(path)
    real_server.client.flushall()
    tracker = make(real_server)
    tracker.track_many(range(100, 300), bucket="a", date=day(3))
    tracker.restore(path, periods=["daily"])
    assert tracker.collapse(["daily"])[0].count == HyperLogLog(range(300)).count()


def test_a_part_of_it(real_server, path):
    client, tracker = real_server.client, make(real_server)
    for before, bucket in itertools.product(range(6), ("a", "b", "c")):
        tracker.track_many(range(20), bucket=bucket, date=day(before))
    tracker.collapse(["daily"])
    tracker.archive(path)
    client.flushall()
    make(real_server).restore(path, periods=["daily"], start=day(4), end=day(2), buckets=["both"])
    found = {name for name in real_server.names() if name.endswith(":hll")}
    assert found == {keys_of(before, bucket).hll for before in (4, 3) for bucket in ("a", "b", "both")}


def test_settings_come_first(real_server, path):
    """A server without any gets those of the archive, whatever zone this machine is in; others stay."""
    tracker = real_server.tracker(
        aggregate_buckets=AGGREGATES, timezone="Asia/Tokyo", week_start=6, keep_sketches=timedelta(70)
    )
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.archive(path)
    before = tracker.settings
    real_server.client.flushall()
    new = ActivityTracker(["daily"], clock=lambda: NOON, **real_server.options)
    new.restore(path)
    assert new.settings == before
    assert new.calendar.zone_name == "Asia/Tokyo"
    new.change_settings(keep_sketches=timedelta(40), aggregate_buckets={"both": None})
    new.restore(path)
    assert new.settings.keep_sketches["daily"] == timedelta(40)
    assert new.settings.aggregate_buckets == {}
    new.close()


OTHERS = {
    "timezone": ({"timezone": "Asia/Tokyo"}, "timezone"),
    "week": ({"week_start": 3}, "week_start"),
    "secret": ({"secret": "pepper"}, "secret"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_data_of_other_settings_are_refused_both_ways(real_server, path, other):
    options, named = OTHERS[other]
    tracker = real_server.tracker()
    tracker.track(id=1)
    tracker.archive(path)
    real_server.client.flushall()
    with raises(SettingsMismatchError, named if other != "secret" else "settings"):
        different = real_server.tracker(**options)
        different.track(id=2)
        before = state(real_server.client)
        different.restore(path)
    assert state(real_server.client) == before
    with raises(SettingsMismatchError, named):
        different.archive(path)
    with ActivityTracker(["daily"], clock=lambda: NOON, **real_server.options) as given_nothing:
        with raises(SettingsMismatchError, named):
            given_nothing.restore(path)
    assert Archive(path).unique(TODAY, day(-1))[None] == 1


def test_a_damaged_key_is_named_and_all_others_are_restored(real_server, path):
    tracker = make(real_server)
    for bucket in ("a", "b"):
        tracker.track_many(range(50), bucket=bucket, date=YESTERDAY)
    tracker.archive(path)
    real_server.client.flushall()
    real_server.raise_on("a")
    with raises(ArchiveError, "not restored .all others were.: daily-.* bucket 'a'") as caught:
        make(real_server).restore(path)
    assert [failure[1] for failure in caught.value.failures] == ["a"]
    assert real_server.client.exists(keys_of(1, "b").hll)


def test_into_another_namespace(real_server, path):
    tracker = make(real_server)
    tracker.track_many(range(50), bucket="a", date=YESTERDAY)
    tracker.archive(path)
    other = make(real_server, namespace="other")
    other.restore(path)
    assert other.unique(YESTERDAY, TODAY, buckets=["a"])["a"] == 50
    with raises(ArgumentValueError, "namespace 'active', shard 0: not of 'other'"):
        other.archive(path)


def test_large_tables_are_restored_in_parts_within_the_limit(real_server, path):
    client, ids = real_server.client, [str(id).encode() for id in range(2500)]
    keys = keys_of(1, "a")
    client.pfadd(keys.hll, *ids)
    client.pfadd(keys.moved, *ids)
    client.zadd(keys.moves, {id: (-1) ** number * (number + 1) for number, id in enumerate(ids)})
    make(real_server).archive(path)
    for limit in (10_000, 100):
        client.flushall()
        make(real_server, moved_limit=limit).restore(path)
        assert client.zcard(keys.moves) == min(limit, 2500)
        assert HyperLogLog.from_bytes(client.get(keys.moved)) == HyperLogLog(ids)


def test_without_tables_what_is_restored_tells_the_same(real_server, path):
    tracker = make(real_server)
    ids = {f"user-{id}".encode() for id in range(300)}
    for id in ids:
        tracker.track(id=id, bucket="b", old_id=id, old_bucket="a")
    back = sorted(ids)[:100]
    for id in back:
        tracker.track(id=id, bucket="a")
    before = tracker.sketch("daily", TODAY, "a")
    tracker.archive(path, moves=False)
    assert not any(id in path.read_bytes() for id in ids)
    real_server.client.flushall()
    restored = make(real_server)
    for _ in range(2):
        restored.restore(path)
        sketch = restored.sketch("daily", TODAY, "a")
        assert sketch.remainder() == before.remainder()
        assert (sketch.tracked, sketch.moved) == (before.tracked, before.moved)
        restored.archive(path)
    members = real_server.client.zrange(keys_of(0, "a").moves, 0, -1)
    assert len(members) == 100
    assert {len(member) for member in members} == {8}


def archived_while_it_ran(server, path):
    """The day before: the server has a count of all, the archive half of its ids."""
    now = [NOON - 86_400]
    tracker = server.tracker(["daily"], clock=lambda: now[0])
    tracker.track_many(range(50), bucket="a")
    tracker.track(old_id=7, old_bucket="a")
    tracker.archive(path)
    tracker.track_many(range(50, 200), bucket="a")
    now[0] = NOON
    tracker.track(id=1, bucket="b")
    tracker.collapse(buckets=["a"])
    server.client.delete(*(key for key in keys_of(1, "a")[2:5]))  # as if it had expired
    return tracker


@pytest.mark.parametrize("again", [False, True])
def test_a_sketch_of_half_a_day_is_not_put_beside_the_count_of_all(real_server, path, again):
    tracker = archived_while_it_ran(real_server, path)
    if again:  # the count of all is in the archive, too
        tracker.archive(path)
        real_server.client.flushall()
    restored = real_server.tracker(["daily"])
    restored.restore(path)
    restored.collapse(buckets=["a"], recount=True)
    [(_, counts)] = restored.lookup(start=YESTERDAY, end=TODAY, buckets=["a"])
    assert counts["a"] == HyperLogLog(range(200)).count() - 1
    assert restored.rolling(1, start=YESTERDAY, end=TODAY, buckets=["a"], missing="none").rows[
        0
    ].estimates == {"a": None}
    assert not real_server.client.exists(*keys_of(1, "a")[2:5])


def test_half_a_day_comes_back_where_nothing_is_left_of_it(real_server, path):
    tracker = archived_while_it_ran(real_server, path)
    real_server.client.flushall()
    tracker.archive(path)
    restored = real_server.tracker(["daily"])
    restored.restore(path)
    assert restored.unique(YESTERDAY, TODAY, buckets=["a"])["a"] == 49


@pytest.mark.long
def test_a_year_of_twenty_buckets(real_server, path):
    client, dice = real_server.client, np.random.default_rng(1)
    tracker = real_server.tracker(["daily"], keep_sketches=None)
    tracker.track(id=1, date=YESTERDAY)
    for before, bucket in itertools.product(range(1, 366), range(20)):
        keys = keys_of(before, str(bucket))
        client.set(keys.hll, codec.encode(drawn(dice, int(10 ** dice.uniform(1, 6)))))
        if bucket % 4 == 0:
            ids = [b"%d" % id for id in range(bucket, bucket + 30)]
            client.pfadd(keys.hll, *ids)
            client.pfadd(keys.moved, *ids)
            client.zadd(keys.moves, {id: (-1) ** number * (number + 1) for number, id in enumerate(ids)})
    tracker.collapse(buckets=list(map(str, range(20))))
    before, said = state(client), tracker.rolling(28, buckets=["0", "1"]).to_dicts()
    done = tracker.archive(path)
    assert done.held == 365 * 20 + 1
    archive = Archive(path, periods=["daily"])
    assert archive.rolling(28, buckets=["0", "1"]).to_dicts() == said
    client.flushall()
    real_server.tracker(["daily"], keep_sketches=None).restore(path)
    after = state(client)
    assert after.pop(OPEN) >= before.pop(OPEN)
    assert after == before
