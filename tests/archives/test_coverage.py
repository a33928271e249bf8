"""What an archive does not have is said by name: zero is only what is known to have been none."""

from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from activity_tracker_hll import Archive, ArchiveError, MissingSketchesError
from activity_tracker_hll.archives import ArchiveFile, database
from activity_tracker_hll.archives.coverage import ALWAYS, Coverage
from activity_tracker_hll.operations import DataSettings
from activity_tracker_hll.operations.archiving import to_file
from activity_tracker_hll.operations.inventory import inventory
from helpers.archives import keys_of
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day

TOMORROW = TODAY + timedelta(days=1)


def at(number):
    return datetime(2026, 1, number)


def test_spans_are_joined_where_they_touch():
    coverage = Coverage().with_span("daily", None, at(1), at(3)).with_span("daily", None, at(3), at(5))
    coverage = coverage.with_span("daily", None, at(8), at(9))
    assert not coverage.lacks("daily", "a", at(1), at(5))
    assert not coverage.lacks("daily", None, at(8), at(9))
    for start, end in ((at(5), at(6)), (at(4), at(8)), (at(9), at(10)), (ALWAYS, at(2))):
        assert coverage.lacks("daily", "a", start, end)
    assert coverage.lacks("monthly", "a", at(1), at(2))
    assert not coverage.lacks("monthly", "a", at(2), at(2))
    assert Coverage.from_json(coverage.to_json()) == coverage


def test_of_some_buckets():
    coverage = Coverage().with_span("daily", ["a", None], at(1), at(3)).with_span("daily", None, at(3), at(5))
    assert not coverage.lacks("daily", "a", at(1), at(5))
    assert not coverage.lacks("daily", None, at(1), at(5))
    assert coverage.lacks("daily", "b", at(2), at(4))
    assert Coverage.from_json(coverage.to_json()) == coverage
    assert Coverage().with_span("daily", None, at(3), at(3)) == Coverage()


@pytest.fixture
def tracker(real_server):
    """Ids of eight days in two buckets, but for the third day."""
    tracker = real_server.tracker(["daily", "monthly"])
    for before in (7, 6, 5, 4, 2, 1, 0):
        for bucket in ("a", "b"):
            tracker.track_many(range(20), bucket=bucket, date=day(before))
    return tracker


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activity.archive"


def uniques(archive, first, last, bucket="a", **options):
    return archive.unique(first, last, buckets=[bucket], period="daily", **options)[bucket]


def test_of_a_part_of_time_the_rest_is_missing_and_no_zero(tracker, path):
    tracker.archive(path, start=day(5), end=day(2))
    archive = Archive(path)
    assert uniques(archive, day(5), day(2)) == 20
    assert uniques(archive, day(3), day(2)) == 0  # it was archived, and there was none
    name = f"daily-{YESTERDAY:%Y%m%d}"
    for first, last in ((YESTERDAY, TODAY), (day(6), day(4))):
        with raises(MissingSketchesError, "1 sketch of bucket 'a' is not in the archive, daily-") as caught:
            uniques(archive, first, last)
        assert {gap.reason for gap in caught.value.gaps} == {"not archived"}
    assert uniques(archive, YESTERDAY, TODAY, missing="none") is None
    with raises(MissingSketchesError, f"{name} of bucket 'a' is not in the archive .missing=None gives None"):
        archive.lookup("daily", start=YESTERDAY, end=TODAY, buckets=["a"])
    rows = archive.lookup("daily", start=day(6), end=TODAY, buckets=["a", "b"], missing=None)
    assert [counts["a"] for _, counts in rows] == [None, 20, 20, None, None, None]
    with raises(MissingSketchesError, "not in the archive"):
        archive.rolling(1, period="monthly", buckets=["a"], end=TOMORROW)


def test_what_ran_when_it_was_archived_is_no_whole_day(tracker, path):
    """The day that ran then is the one that runs; once others were archived, it is not known."""
    tracker.archive(path)
    archive = Archive(path)
    row = archive.rolling(1, buckets=["a"], start=TODAY, end=TOMORROW).rows[0]
    assert (row.estimates["a"], row.complete) == (20, False)
    later = [NOON + 3 * 86_400]
    tomorrow = type(tracker)(["daily"], backend=tracker.backend, timezone="UTC", clock=lambda: later[0])
    tomorrow.archive(path, start=day(-3))
    with raises(MissingSketchesError, "3 sketches of bucket 'a' are not in the archive"):
        uniques(archive, TODAY, day(-3))
    assert uniques(archive, YESTERDAY, TODAY) == 20
    tomorrow.archive(path)
    assert uniques(archive, TODAY, day(-3)) == 20


def test_rolling_begins_where_the_archive_does(tracker, path):
    tracker.archive(path, start=day(5))
    rows = Archive(path).rolling(2, buckets=["a"]).rows
    assert [row.date for row in rows] == [day(4), day(3), day(2), day(1)]
    assert [date for date, _ in Archive(path).lookup("daily", buckets=["a"])] == [
        day(before) for before in range(5, 0, -1)
    ]


def registered(path):
    with ArchiveFile(path).reading() as held:
        return sorted(DataSettings.buckets_of(held.head.settings))


def test_of_some_buckets_the_others_are_missing(tracker, path):
    tracker.archive(path, buckets=["a"])
    archive = Archive(path)
    assert uniques(archive, day(3), TODAY) == 20
    with raises(MissingSketchesError, "of bucket 'b' are not in the archive"):
        uniques(archive, day(3), TODAY, "b")
    assert registered(path) == ["a"]
    tracker.archive(path, buckets=["b"], start=day(4))
    assert uniques(archive, day(3), TODAY, "b") == 20
    with raises(MissingSketchesError, "1 sketch of bucket 'b' is not in the archive"):
        uniques(archive, day(5), TODAY, "b")
    assert registered(path) == ["a", "b"]


def test_day_by_day_it_outlives_the_server(tracker, path):
    for before in range(7, -1, -1):
        tracker.archive(path, start=day(before), end=day(before - 1))
        for bucket in "ab":
            tracker.backend.execute([("DEL", keys_of(before, bucket).hll)])
    archive = Archive(path)
    assert [row.estimates["a"] for row in archive.rolling(2, buckets=["a"]).rows] == [20] * 6
    assert uniques(archive, day(7), TODAY) == 20


def test_what_could_not_be_read_is_missing_and_named(tracker, path, real_server):
    real_server.client.delete(keys_of(2, "a").hll)
    real_server.raise_on("a", day(2))
    with raises(ArchiveError, "1 not archived .all others were.: daily-.* bucket 'a'") as caught:
        tracker.archive(path)
    assert [failure[:2] for failure in caught.value.failures] == [(f"daily-{day(2):%Y%m%d}", "a")]
    archive = Archive(path)
    assert uniques(archive, day(3), TODAY, "b") == 20
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is not in the archive"):
        uniques(archive, day(3), TODAY)
    real_server.client.delete(keys_of(2, "a").hll)
    tracker.track_many(range(20), bucket="a", date=day(2))
    tracker.archive(path)
    assert uniques(archive, day(3), TODAY) == 20
    real_server.client.delete(keys_of(2, "a").hll)
    real_server.raise_on("a", day(2))
    with raises(ArchiveError, "not archived"):
        tracker.archive(path)
    assert uniques(archive, day(3), TODAY) == 20  # as it was


def test_of_what_expired_before_only_the_count_is_known(tracker, path, real_server):
    tracker.collapse_due()
    real_server.client.delete(keys_of(2, "a").hll)
    tracker.archive(path)
    archive = Archive(path)
    assert archive.lookup("daily", start=day(2), end=YESTERDAY, buckets=["a"])[0][1]["a"] == 20
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is gone, .*kept for 62 days"):
        uniques(archive, day(3), TODAY)


def test_what_was_archived_while_it_ran_and_expired_since_is_no_whole_day(tracker, path, real_server):
    tracker.archive(path)
    tracker.track_many(range(100, 130), bucket="a", date=TODAY)
    later = [NOON + 2 * 86_400]
    after = type(tracker)(["daily"], backend=tracker.backend, timezone="UTC", clock=lambda: later[0])
    after.collapse(buckets=["a", "b"])
    real_server.client.delete(keys_of(0, "a").hll, keys_of(1, "a").hll)
    after.archive(path)
    archive = Archive(path)
    assert archive.lookup("daily", start=TODAY, end=TOMORROW, buckets=["a"])[0][1]["a"] == 50
    assert uniques(archive, YESTERDAY, TODAY) == 20  # that was over
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is not in the archive"):
        uniques(archive, TODAY, TOMORROW)
    after.restore(path)
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is gone"):
        uniques(after, TODAY, TOMORROW)


def test_what_was_archived_while_it_ran_and_could_not_be_read_since_is_no_whole_day(
    tracker, path, real_server
):
    tracker.archive(path)
    later = real_server.tracker(["daily"], clock=lambda: NOON + 86_400)
    real_server.client.delete(keys_of(0, "a").hll)
    real_server.raise_on("a", TODAY)
    with raises(ArchiveError, "1 not archived"):
        later.archive(path)
    with raises(MissingSketchesError, "1 sketch of bucket 'a' is not in the archive"):
        uniques(Archive(path), TODAY, TOMORROW)


def test_a_count_of_what_a_server_had_left_does_not_stand_when_its_sketch_has_expired(path, real_server):
    """A server that loses its data counts the rest of a day; the archive has all of it."""
    now = [NOON - 86_400]
    client, tracker = real_server.client, real_server.tracker(["daily"], clock=lambda: now[0])
    tracker.track_many(range(50), bucket="a")
    tracker.archive(path)
    client.delete(keys_of(1, "a").hll)
    tracker.track_many(range(80, 90), bucket="a")
    now[0] = NOON
    tracker.collapse(buckets=["a"])
    for _ in range(2):
        tracker.archive(path)
        archive = Archive(path)
        assert archive.lookup("daily", start=YESTERDAY, end=TODAY, buckets=["a"])[0][1]["a"] == 60
        assert uniques(archive, YESTERDAY, TODAY) == 60
        client.delete(keys_of(1, "a").hll)  # as if it had expired


def test_what_another_process_archives_meanwhile_is_not_taken_for_gone(tracker, path, monkeypatch):
    """A bucket that is new after one has looked at the server, and before its turn to write."""
    monkeypatch.setattr(database, "_PATIENCE_S", 0.01)
    tracker.archive(path)
    patched = pytest.MonkeyPatch()

    def slowly(context):
        found = yield from inventory(context)
        patched.undo()
        tracker.track_many(range(30), bucket="new", date=TODAY)
        with suppress(ArchiveError):  # it is the other's turn
            tracker.archive(path)
        return found

    patched.setattr(to_file, "inventory", slowly)
    tracker.archive(path)
    with ArchiveFile(path).reading() as held:
        assert all(entry.is_whole for entry in held.entries.values())
