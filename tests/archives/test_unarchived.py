"""What examine() says of an archive: which sketches expire soon, and are not in it as they are."""

from datetime import datetime, time

import pytest

from helpers.archives import keys_of
from helpers.moments import TODAY, day

OLD = 60
"""Days back: with 62 days of keeping, the sketches of that day expire within a week."""
WARNING = "that the archive does not have, or not with all later events"


@pytest.fixture
def tracker(real_server):
    """An old day of three buckets, counted, with ids that moved."""
    tracker = real_server.tracker(buckets=["a", "b", None])
    for bucket in ("a", "b", None):
        tracker.track_many(range(3000), bucket=bucket, date=day(OLD))
        tracker.track_many(range(30), bucket=bucket, date=day(20))
    tracker.track(id=1, bucket="b", old_id=1, old_bucket="a", date=at(1))
    tracker.track(id=2, bucket="b", old_id=2, old_bucket="a", date=at(1))
    tracker.track(id=2, bucket="a", date=at(2))
    tracker.collapse()
    return tracker


def at(hour):
    return datetime.combine(day(OLD), time(hour))


@pytest.fixture(params=[None, False], ids=["tables", "no tables"])
def path(request, tracker, tmp_path):
    """The archive of all that."""
    tracker.archive(tmp_path / "activity.archive", moves=request.param)
    return tmp_path / "activity.archive"


def warnings(tracker, path):
    return [warning for warning in tracker.examine(archive=path).warnings if "the archive" in warning]


LATE = {
    "an event": lambda tracker: tracker.track(id="late", bucket="a", date=at(3)),
    "an import": lambda tracker: tracker.import_events([(f"late {n}", "a", at(4)) for n in range(9)]),
    "who moved": lambda tracker: tracker.track(old_id=5, old_bucket="a", date=at(5)),
    "who came back": lambda tracker: tracker.track(id=1, bucket="a", date=at(6)),
    "who left again": lambda tracker: tracker.track(old_id=2, old_bucket="a", date=at(7)),
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_what_came_after_a_day_was_archived(tracker, path, late):
    assert warnings(tracker, path) == []
    late(tracker)
    [warning] = warnings(tracker, path)
    assert warning.startswith(
        f"1 sketch expires within 7 days {WARNING}, such as daily-{day(OLD):%Y%m%d} bucket a:"
    )
    tracker.archive(path)
    assert warnings(tracker, path) == []


def test_events_that_were_there_before_are_none(tracker, path):
    tracker.track(id=7, bucket="a", date=at(3))
    tracker.import_events([(number, "b", at(3)) for number in range(100)])
    assert warnings(tracker, path) == []


def test_what_does_not_expire_soon(tracker, path):
    tracker.track(id="late", bucket="a", date=day(20))
    tracker.track(id="late", bucket="a", date=TODAY)
    assert warnings(tracker, path) == []


def test_an_archive_may_have_more(tracker, path, real_server):
    """As after the server lost what it had."""
    keys = keys_of(OLD, None)
    real_server.client.delete(keys.hll, keys.counted)
    tracker.track_many(range(5), date=day(OLD))
    tracker.collapse()
    assert warnings(tracker, path) == []


def test_a_sketch_that_the_server_cannot_count_is_no_more(tracker, path, real_server):
    key = keys_of(OLD, "b").hll
    left = real_server.client.ttl(key)
    real_server.client.set(key, "no sketch", ex=left)
    assert warnings(tracker, path) == []


def test_what_was_never_archived(tracker, tmp_path):
    tracker.archive(tmp_path / "x", start=day(30), end=TODAY)
    [warning] = warnings(tracker, tmp_path / "x")
    assert warning.startswith(f"3 sketches expire within 7 days {WARNING}")
