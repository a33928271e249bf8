"""Counts of aggregates in an archive: those of the server, unless it lost what they were made of."""

from datetime import datetime, timedelta

import pytest

from activity_tracker_hll import Archive
from helpers.archives import AGGREGATES, keys_of
from helpers.moments import TODAY, day

BEFORE = 2
MORNING = datetime.combine(day(BEFORE), datetime.min.time()) + timedelta(hours=5)
NAMES = ["a", "b", "both"]
FIRST = {"a": 10, "b": 10, "both": 15}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activity.archive"


@pytest.fixture
def tracker(real_server):
    return real_server.tracker(["daily"], buckets=["a", "b"], aggregate_buckets=AGGREGATES)


def fill(tracker, ids=10):
    tracker.track_many(range(ids), bucket="a", date=MORNING)
    tracker.track_many(range(5, 5 + ids), bucket="b", date=MORNING)


def leave(tracker, hours=2):
    tracker.track(id=None, old_id=0, old_bucket="a", date=MORNING + timedelta(hours=hours))


def told(reader):
    [(_, counts)] = reader.lookup("daily", start=day(BEFORE), end=day(BEFORE - 1), buckets=NAMES)
    return dict(counts)


def archived(tracker, path):
    tracker.archive(path)
    with Archive(path, periods=["daily"]) as archive:
        counts = told(archive)
        assert archive.unique(day(BEFORE), day(BEFORE - 1), buckets=["both"])["both"] == counts["both"]
    return counts


def expire(client, *buckets):
    for bucket in buckets:
        client.delete(*keys_of(BEFORE, bucket)[1:])


def test_a_recount_after_the_first_move_is_taken_over(tracker, real_server, path):
    fill(tracker)
    tracker.collapse()
    assert archived(tracker, path) == told(tracker) == FIRST
    tracker.track_many(range(100, 120), bucket="a", date=MORNING)
    leave(tracker)
    tracker.collapse(recount=True)
    recounted = told(tracker)
    assert recounted == {"a": 29, "b": 10, "both": 34}
    assert archived(tracker, path) == archived(tracker, path) == recounted
    real_server.client.flushall()
    tracker.restore(path)
    assert tracker.collapse() == []
    assert told(tracker) == recounted


@pytest.mark.parametrize("has_moves", [False, True])
def test_what_the_server_lost_overwrites_nothing(tracker, real_server, path, has_moves):
    fill(tracker)
    if has_moves:
        leave(tracker)
    tracker.collapse()
    known = archived(tracker, path)
    fill(tracker, 20)
    leave(tracker)
    tracker.collapse(recount=True)
    expire(real_server.client, *NAMES)
    assert archived(tracker, path) == known
    real_server.client.flushall()
    fill(tracker, 7)
    leave(tracker, 3)
    tracker.collapse()
    tracker.archive(path)
    with Archive(path, periods=["daily"]) as archive:
        assert told(archive)["both"] == known["both"]


def test_a_union_whose_sources_were_never_archived_is_kept(tracker, real_server, path):
    fill(tracker)
    tracker.collapse()
    expire(real_server.client, "a", "b")
    assert archived(tracker, path) == FIRST
    expire(real_server.client, "both")
    assert archived(tracker, path) == FIRST


def test_the_sources_of_other_days_do_not_matter(tracker, path):
    fill(tracker)
    leave(tracker)
    tracker.track_many(range(3), bucket="a", date=TODAY)
    tracker.collapse()
    assert archived(tracker, path) == {"a": 9, "b": 10, "both": 14}
