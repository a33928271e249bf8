"""Lookups of buckets whose keys hold what does not belong there: the error tells all of them, so that the
others can be asked for at once."""

import asyncio
import pickle
from importlib import import_module

import pytest

from activity_tracker_hll import (
    Archive,
    ArchiveError,
    BackendAuthError,
    BackendDataError,
    MissingSketchesError,
)
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.archives import ArchiveFile, Head, Record
from activity_tracker_hll.keys import Keys
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day

GOOD = {"good": 3, "fine": 5}
KEYS = Keys()


def keys(bucket, when=YESTERDAY):
    return KEYS.bucket(f"daily-{when:%Y%m%d}", bucket)


def count_of_text(client, bucket):
    client.set(keys(bucket).counted, "seven")


def count_that_is_absurd(client, bucket):
    client.set(keys(bucket).counted, "9" * 20)


def count_of_another_type(client, bucket):
    client.rpush(keys(bucket).counted, 7)


def error_of_text(client, bucket):
    client.set(keys(bucket).counted, 7)
    client.set(keys(bucket).stderr, "about two")


def sketch_of_another_type(client, bucket):
    client.rpush(keys(bucket).hll, "x")


def sketch_of_text(client, bucket):
    client.set(keys(bucket).hll, "no sketch")


def raw_set_of_another_type(client, bucket):
    client.rpush(keys(bucket).raw, "x")


def moved_of_text(client, bucket):
    client.pfadd(keys(bucket).hll, 1, 2)
    client.set(keys(bucket).moved, "no sketch")


STORED = [count_of_text, count_that_is_absurd, count_of_another_type, error_of_text]
SKETCHES = [sketch_of_another_type, sketch_of_text, raw_set_of_another_type, moved_of_text]
DAMAGE = {each.__name__: each for each in STORED + SKETCHES}


@pytest.fixture(params=[None, "pepper"])
def tracker(request, real_server):
    """Of buckets two of which can be read, as can the aggregate of these."""
    names = [*GOOD, *DAMAGE]
    unions = {
        "sum": [*GOOD],
        "worse": ["good", "sketch_of_text"],
        "as bad": ["fine", "count_of_another_type"],
    }
    tracker = real_server.tracker(buckets=names, aggregate_buckets=unions, secret=request.param)
    for bucket, size in GOOD.items():
        tracker.track_many(range(size), bucket=bucket, date=YESTERDAY)
    for bucket, damage in DAMAGE.items():
        damage(real_server.client, bucket)
    return tracker


def test_all_that_is_bad_is_told_and_nothing_else(tracker):
    names = [*DAMAGE, "worse", *GOOD, "sum", "as bad"]
    with raises(
        BackendDataError, "count_of_text", "and 5 more .live=False reads stored counts alone."
    ) as caught:
        tracker.lookup(start=day(3), buckets=names)
    failures = caught.value.failures
    yesterday = f"daily-{YESTERDAY:%Y%m%d}"
    assert [failure[:2] for failure in failures] == [
        (yesterday, name) for name in [*DAMAGE, "worse", "as bad"]
    ]
    assert all(isinstance(why, BackendDataError) for _, _, why in failures)
    assert all(len(str(why)) < 200 for _, _, why in failures)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert [failure[:2] for failure in copy.failures] == [failure[:2] for failure in failures]
    bad = {bucket for _, bucket, _ in failures}
    rest = [name for name in names if name not in bad]
    assert tracker.lookup(start=YESTERDAY, buckets=rest) == [(YESTERDAY, {**GOOD, "sum": 5})]


def test_stored_counts_alone(tracker):
    with raises(BackendDataError, "count_of_text") as caught:
        tracker.lookup(start=day(3), live=False)
    assert [bucket for _, bucket, _ in caught.value.failures] == [each.__name__ for each in STORED]
    assert "live=False" not in str(caught.value)


async def awaited(server, call, **arguments):
    """The answer of the twin for asyncio."""
    options = {**server.options, "timezone": "UTC", "clock": lambda: NOON}
    async with AsyncActivityTracker(["daily"], **options) as tracker:
        return await getattr(tracker, call)(**arguments)


def test_an_error_of_another_type_is_none_that_is_absent(real_server, tmp_path):
    """MGET says nil of both; a sound one beside it, and one without a count, change nothing."""
    client = real_server.client
    tracker = real_server.tracker(buckets=["good", "bad", "alone"])
    for bucket in ("good", "bad"):
        tracker.track_many(range(9), bucket=bucket, date=YESTERDAY)
    tracker.track(old_id=1, old_bucket="good", date=YESTERDAY)
    tracker.collapse()
    for bucket in ("bad", "alone"):
        client.rpush(keys(bucket).stderr, 2)
    assert client.exists(keys("good").stderr)
    for live in (None, False):
        with raises(BackendDataError, "^daily.*'bad': .*:stderr: .*WRONGTYPE[^;]*$") as caught:
            tracker.lookup(start=YESTERDAY, live=live)
        assert [bucket for _, bucket, _ in caught.value.failures] == ["bad"]
    [(_, counts)] = tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["good", "alone"])
    assert counts == {"good": 8, "alone": 0}
    assert not counts["good"].is_plain
    with raises(BackendDataError, "'bad': .*WRONGTYPE"):
        asyncio.run(awaited(real_server, "lookup", start=YESTERDAY, buckets=["good", "bad"]))
    with raises(ArchiveError, "1 not archived", "'bad'.*WRONGTYPE"):
        tracker.archive(tmp_path / "activity.archive", buckets=["good", "bad"])
    tracker.collapse(recount=True)  # which stores another
    assert tracker.lookup(start=YESTERDAY, end=TODAY, buckets=["bad"])[0][1] == {"bad": 9}


def test_of_several_periods_each_is_told(real_server, monkeypatch):
    monkeypatch.setattr(
        import_module("activity_tracker_hll.operations.counting.lookup"), "_COUNTS_PER_BATCH", 2
    )
    tracker = real_server.tracker(buckets=["a", "b"])
    for before in (1, 3):
        real_server.raise_on("a", day(before))
    real_server.client.set(keys("b", day(2)).counted, "x")
    real_server.client.set(keys("b", day(4)).counted, 4)
    with raises(BackendDataError) as caught:
        tracker.lookup(start=day(5))
    assert [failure[:2] for failure in caught.value.failures] == [
        (f"daily-{day(before):%Y%m%d}", bucket) for before, bucket in ((3, "a"), (2, "b"), (1, "a"))
    ]


def test_the_message_of_one_names_it(real_server):
    real_server.raise_on("a")
    with raises(BackendDataError, f"^daily-{YESTERDAY:%Y%m%d} bucket 'a': .*WRONGTYPE") as caught:
        real_server.tracker().lookup(start=YESTERDAY, buckets=["a", "b"])
    assert "more" not in str(caught.value)


def test_what_other_calls_cannot_read_is_told_alike(real_server):
    tracker = real_server.tracker(buckets=["a", "b"])
    tracker.track_many(range(9), bucket="b", date=YESTERDAY)
    sketch_of_text(real_server.client, "a")
    for call in (
        lambda: tracker.sketch("daily", YESTERDAY, "a"),
        lambda: tracker.retention("daily", start=YESTERDAY, end=TODAY, bucket="a", cohorts="active"),
    ):
        with raises(BackendDataError) as caught:
            call()
        assert [failure[:2] for failure in caught.value.failures] == [(f"daily-{YESTERDAY:%Y%m%d}", "a")]


def test_what_is_not_of_a_bucket_is_raised_at_once(real_server):
    """Rights are of the whole server: no bucket is to blame."""
    real_server.raise_on("a")
    real_server.tracker().track(id=1, bucket="b", date=YESTERDAY)
    rules = ["reset", "on", ">secret", "+@all", "-pfcount", "allkeys"]
    real_server.client.execute_command("ACL", "SETUSER", "user", *rules)
    try:
        tracker = real_server.tracker(username="user", password="secret")
        with raises(BackendAuthError, "pfcount"):
            tracker.lookup(start=YESTERDAY, buckets=["a", "b"])
    finally:
        real_server.client.execute_command("ACL", "DELUSER", "user")


def test_for_asyncio(real_server):
    client = real_server.client
    for bucket in ("count_of_text", "sketch_of_text"):
        DAMAGE[bucket](client, bucket)
    names = ["good", "count_of_text", "sketch_of_text"]
    with raises(BackendDataError, "count_of_text.*; .*sketch_of_text") as caught:
        asyncio.run(awaited(real_server, "lookup", start=YESTERDAY, buckets=names))
    assert len(caught.value.failures) == 2


# Archives


def test_an_archive_of_them_has_all_others(tracker, tmp_path):
    path = tmp_path / "activity.archive"
    with raises(ArchiveError, "not archived .all others were."):
        tracker.archive(path)
    archive = Archive(path, buckets=[*GOOD, *DAMAGE])
    [(_, counts)] = archive.lookup("daily", start=YESTERDAY, missing=None)
    assert counts == {**GOOD, **dict.fromkeys(DAMAGE)}
    with raises(MissingSketchesError, "not in the archive"):
        archive.lookup("daily", start=YESTERDAY)


def test_a_count_in_an_archive_that_makes_no_sense(tmp_path):
    """Its digest is right: whoever wrote it meant it so."""
    file = ArchiveFile(tmp_path / "activity.archive")
    with file.writing(Head("active", 0, has_tables=True, archived_at=NOON)) as changes:
        changes.put(Record(f"daily-{YESTERDAY:%Y%m%d}", "a", 7, "nan"))
        changes.put(Record(f"daily-{YESTERDAY:%Y%m%d}", "b", 7))
        changes.put(Record(f"daily-{day(2):%Y%m%d}", "c", 2**60))
    archive = Archive(file.path, timezone="UTC")
    with raises(BackendDataError, "nan", f"impossible cardinality {2**60}") as caught:
        archive.lookup("daily", start=day(2), buckets=["a", "b", "c"], missing=None)
    assert [bucket for _, bucket, _ in caught.value.failures] == ["c", "a"]
    assert archive.lookup("daily", start=YESTERDAY, buckets=["b"], missing=None)[0][1] == {"b": 7}
