"""Writes to buckets whose keys hold what does not belong there, and servers that refuse: each is named."""

import pytest

from activity_tracker_hll import (
    BackendDataError,
    BackendError,
    BackendResponseError,
)
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY
from helpers.writes import WRITES


def test_an_error_at_one_bucket_names_it_and_the_others_are_written(server):
    tracker = server.tracker()
    server.raise_on("bad")
    with raises(BackendResponseError, f"daily-{YESTERDAY:%Y%m%d}", "'bad'"):
        tracker.import_events([(1, "bad", YESTERDAY), (1, "good", YESTERDAY)])
    assert tracker.lookup(start=YESTERDAY, buckets=["good"], live=True)[0][1] == {"good": 1}


def damaged(server, part, value, bucket="bad", when=YESTERDAY):
    """Put something else where a part of a bucket should be."""
    name = f"active:daily-{when:%Y%m%d}:{bucket}"
    key = name if part == "count" else f"{{{name}}}:{part}"
    server.client.delete(key)
    if value == "list":
        server.client.rpush(key, "x")
    else:
        server.client.set(key, value)


@pytest.mark.parametrize(
    ("part", "value"),
    [("count", "list"), *((part, value) for part in ("hll", "moved", "moves") for value in ("list", "x"))],
)
@pytest.mark.parametrize("how", ["track", "track_many", "large", "move", "import", "large import"])
def test_what_does_not_belong_in_a_bucket_is_named_and_others_are_written(real_server, how, part, value):
    tracker = real_server.tracker(buckets=["bad", "good"])
    tracker.track(id=0, bucket="bad", date=YESTERDAY)
    tracker.track(id="old", bucket="good", old_id="old", old_bucket="bad", date=YESTERDAY)
    damaged(real_server, part, value)
    many = [(n, bucket, YESTERDAY) for n in range(300 if "large" in how else 3) for bucket in ("bad", "good")]
    write = {
        "track": lambda: tracker.track(id=1, bucket="bad", date=YESTERDAY),
        "track_many": lambda: tracker.track_many(range(3), bucket="bad", date=YESTERDAY),
        "large": lambda: tracker.track_many(range(300), bucket="bad", date=YESTERDAY),
        "move": lambda: tracker.track(id=1, bucket="good", old_id=0, old_bucket="bad", date=YESTERDAY),
        "import": lambda: tracker.import_events(many),
        "large import": lambda: tracker.import_events(many),
    }[how]
    if part == "moved" and how != "move":
        write()  # who is active has nothing to do with it
    else:
        with raises(BackendDataError, f"daily-{YESTERDAY:%Y%m%d}", "'bad'"):
            write()
    count = tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["good"], live=True)[0][1]["good"]
    expected = {"move": 2, "import": 4, "large import": 301}.get(how, 1)
    assert abs(count - expected) <= 4 * count.stderr


def test_an_error_that_may_pass_is_told_from_one_that_stays(real_server):
    tracker = real_server.tracker()
    tracker.track(id=1, bucket="WRONGTYPE corrupt")
    real_server.client.config_set("maxmemory", 1)
    try:
        for write in (
            *WRITES.values(),
            lambda t, _: t.track(id=2, bucket="WRONGTYPE corrupt", date=YESTERDAY),
        ):
            with raises(BackendError, "memory") as caught:
                write(tracker, YESTERDAY)
            assert not isinstance(caught.value, BackendDataError)
    finally:
        real_server.client.config_set("maxmemory", 0)
