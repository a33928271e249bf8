"""How registers get into what the server holds: missing, sparse, dense, collapsed and broken sketches."""

from datetime import timedelta

import pytest

from activity_tracker_hll import (
    BackendDataError,
    BackendError,
    BackendResponseError,
    CollapseError,
    HyperLogLog,
)
from activity_tracker_hll.hll.codec import DENSE_BYTES
from helpers.errors import raises
from helpers.imports import expected
from helpers.moments import TODAY, YESTERDAY
from helpers.servers import sketches_on


def test_two_lots_are_united_with_what_is_there(real_server):
    """Missing, sparse and dense sketches on the server, small and large lots."""
    tracker = real_server.tracker()
    for start, size in [(0, 300), (200, 300), (0, 40_000), (0, 300), (40_000, 300)]:
        tracker.track_many(range(start, start + size))
    assert sketches_on(real_server) == expected(
        real_server, tracker, [(id, None, TODAY) for id in range(40_300)], ["daily"]
    )


def test_a_small_bucket_stays_sparse(real_server):
    tracker = real_server.tracker()
    key = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "b").hll
    for lot in range(3):
        tracker.track_many(range(lot * 100, lot * 100 + 300), bucket="b")
        assert real_server.client.strlen(key) < 1500
    real_server.client.pfadd(key, "and the server goes on with it")
    assert (
        real_server.client.pfcount(key)
        == HyperLogLog([*range(500), "and the server goes on with it"]).count()
    )
    tracker.track_many(range(5000), bucket="b")
    assert real_server.client.strlen(key) == DENSE_BYTES


def test_what_another_client_adds_meanwhile_is_kept(real_server):
    """Between reading a sparse sketch and writing the union."""
    tracker = real_server.tracker()
    tracker.track_many(range(300))
    key = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", None).hll
    execute = tracker.backend.execute

    adding = iter(range(10_000, 10_100, 50))

    def interrupted(commands, shard=0):
        replies = execute(commands, shard)
        first = next(adding, None)
        if first is not None:  # not after the last write, which would hide that it lost them
            real_server.client.pfadd(key, *range(first, first + 50))
        return replies

    tracker.backend.execute = interrupted
    tracker.track_many(range(300, 600))
    assert sketches_on(real_server)[key.encode()] == HyperLogLog([*range(600), *range(10_000, 10_100)])


@pytest.mark.parametrize("held", ["nothing", "sparse", "dense"])
def test_no_temporary_key_is_left(real_server, held):
    tracker = real_server.tracker()
    if held != "nothing":
        tracker.track_many(range(200 if held == "sparse" else 10_000))
    tracker.track_many(range(10_000, 20_000))
    assert not [name for name in real_server.names() if "tmp" in name]
    [sketch] = sketches_on(real_server).values()
    assert sketch.count() > 9_000


@pytest.mark.parametrize("value", [b"x" * 12_304, HyperLogLog(range(9000)).to_bytes()[:-9], b"HYLL", b""])
def test_what_cannot_be_united_is_reported_and_leaves_no_temporary_key(real_server, value):
    tracker = real_server.tracker()
    tracker.track(id=1, bucket="a")
    key = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "a").hll
    real_server.client.set(key, value)
    if value:
        with pytest.raises(BackendResponseError, match="'a'"):
            tracker.track_many(range(5000), bucket="a")
        assert real_server.client.get(key) == value
    assert not [name for name in real_server.names() if "tmp" in name]


def test_a_server_that_could_not_say_is_asked_again(real_server):
    """Whether it takes sketches; here it is out of memory."""
    tracker = real_server.tracker()
    tracker.track(id=1)
    before = real_server.client.config_get("maxmemory")["maxmemory"]
    real_server.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BackendResponseError, match="maxmemory"):
            tracker.track_many(range(5000))
    finally:
        real_server.client.config_set("maxmemory", before)
    real_server.client.config_resetstat()
    tracker.track_many(range(5000))
    assert "cmdstat_pfadd" not in real_server.client.info("commandstats")


def test_a_sketch_that_was_collapsed_keeps_its_expiry(real_server):
    tracker = real_server.tracker(keep_sketches=timedelta(days=2))
    tracker.track_many(range(100), date=YESTERDAY)
    tracker.collapse()
    key = tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", None).hll
    ends = real_server.client.expiretime(key)
    assert ends > 0
    for size in (300, 400, 5000, 6000):
        tracker.track_many(range(size), date=YESTERDAY)
        assert real_server.client.expiretime(key) == ends


def test_one_broken_bucket_does_not_keep_the_others_out(real_server):
    tracker = real_server.tracker()
    real_server.raise_on("broken", TODAY)
    corrupt = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "corrupt").hll
    real_server.client.set(corrupt, b"HYLL\x01" + bytes(20))
    events = [(id, bucket, TODAY) for id in range(500) for bucket in ("a", "broken", "b", "corrupt", "c")]
    with raises(BackendError, "broken"):
        tracker.import_events(events)
    good = {key: sketch for key, sketch in readable(real_server).items() if b"broken" not in key}
    assert [sketch == HyperLogLog(range(500)) for sketch in good.values()] == [True] * 3
    with raises(BackendError, "corrupt"):
        tracker.track_many(range(500), bucket="corrupt")


def readable(server):
    found = {}
    for key in server.client.scan_iter(match="*:hll"):
        if server.client.type(key) == b"string" and b"corrupt" not in key:
            found[key] = HyperLogLog.from_bytes(server.client.get(key))
    return found


def test_counts_of_corrupt_sketches_after_moves_are_errors_by_name(real_server):
    tracker = real_server.tracker(buckets=["a", "b"])
    for bucket in ("a", "b"):
        tracker.track_many(range(2000), bucket=bucket, date=YESTERDAY)
        tracker.track(old_id=1, old_bucket=bucket, date=YESTERDAY)
    key = tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", "a").hll
    sketch = bytearray(real_server.client.get(key))
    sketch[16:19] = b"\xff\xff\xff"  # ranks of 63
    real_server.client.set(key, bytes(sketch))
    with raises(CollapseError, "bucket 'a'", "corrupt"):
        tracker.collapse()
    [(_, counts)] = tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["b"])
    assert counts["b"] == pytest.approx(1999, rel=0.03)
    with raises(BackendDataError, "bucket 'a'", "corrupt"):
        tracker.lookup(start=YESTERDAY, end=TODAY)
