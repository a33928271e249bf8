"""An Archive in use: by threads, by forks, beside a writer, and what it does not do."""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from activity_tracker_hll import (
    ActivityTracker,
    Archive,
    ArchiveError,
    ArgumentValueError,
    BackendResponseError,
    SettingsMismatchError,
)
from helpers.archives import distinct
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activity.archive"


@pytest.fixture
def tracker(real_server):
    tracker = real_server.tracker(["daily"], secret="pepper")
    for before in range(5):
        tracker.track_many(range(50), bucket="a", date=day(before))
    return tracker


def ask(archive):
    return distinct(archive, "a", day(4), TODAY)


def test_by_threads_while_another_writes(tracker, path):
    tracker.archive(path)
    archive, done = Archive(path, periods=["daily"]), threading.Event()

    def write():
        for number in range(10):
            tracker.track(id=f"new {number}", bucket="a", date=TODAY)
            tracker.archive(path)
        done.set()

    def read():
        answers = set()
        while not done.is_set():
            answers.add(int(ask(archive)))
        return answers

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        write()
        assert set.union(*(reader.result() for reader in readers)) <= {50}
    assert archive.unique(TODAY, day(-1), buckets=["a"])["a"] == 60


def test_by_another_process(tracker, path):
    tracker.archive(path)
    archive = Archive(path, periods=["daily"])
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        assert pool.submit(distinct, archive, "a", day(4), TODAY).result() == ask(archive) == 50


def test_it_only_reads(tracker, path):
    tracker.archive(path)
    archive = Archive(path)
    assert not {"track", "collapse", "buffered", "archive", "restore", "change_settings"} & set(dir(archive))
    before = path.read_bytes()
    [reply] = archive.backend.execute([("SET", "x", "y")])
    assert isinstance(reply, BackendResponseError)
    assert "only read" in str(reply)
    with raises(ArgumentValueError, "shard must be 0: an archive is of one data set"):
        archive.inventory(shard=1)
    ask(archive)
    archive.close()
    assert path.read_bytes() == before


def test_its_now_is_when_it_was_archived(tracker, path):
    tracker.archive(path)
    archive = Archive(path, periods=["daily"])
    assert archive.archived_at == datetime.fromtimestamp(NOON, UTC)
    row = archive.rolling(1, buckets=["a"], end=day(-10), start=TODAY).rows[-1]
    assert (row.date, row.complete) == (TODAY, False)
    assert archive.lookup("daily", start=YESTERDAY, buckets=["a"], live=True)[-1][0] == TODAY


def test_of_another_secret_it_tells_counts_and_no_ids(tracker, path):
    tracker.archive(path)
    assert ask(Archive(path, periods=["daily"])) == 50
    sketch = Archive(path, secret="pepper").sketch("daily", TODAY, "a")
    assert sketch.tracked == tracker.sketch("daily", TODAY, "a").tracked
    with raises(SettingsMismatchError, "secret"):
        ask(Archive(path, periods=["daily"], secret="salt"))
    with raises(SettingsMismatchError, "timezone"):
        ask(Archive(path, periods=["daily"], timezone="Asia/Tokyo"))


def test_a_file_that_goes_is_an_error_by_name(tracker, path):
    tracker.archive(path)
    archive = Archive(path, periods=["daily"])
    path.unlink()
    with raises(ArchiveError, "there is no such file"):
        ask(archive)


def test_of_an_empty_server(real_server, path):
    tracker = real_server.tracker(["daily"])
    assert tracker.archive(path).held == 0
    archive = Archive(path, periods=["daily"])
    assert archive.inventory() == []
    with raises(LookupError, "nothing was ever tracked"):
        ask(archive)
    assert archive.lookup(start=YESTERDAY, end=TODAY) == [(YESTERDAY, {None: 0})]
    assert tracker.restore(path).written == 0


def test_a_range_that_is_none(real_server, path):
    tracker = real_server.tracker(["daily"])
    for call in (tracker.archive, tracker.restore):
        with raises(ArgumentValueError, "start must not be after end"):
            call(path, start=TODAY, end=YESTERDAY)
    with raises(ArgumentValueError, "keep must be positive"):
        tracker.restore(path, keep=timedelta(0))
    assert not path.exists()


def test_a_stand_in_for_a_server_has_nothing_to_archive(path):
    import fakeredis

    with ActivityTracker(["daily"], client=fakeredis.FakeRedis(), clock=lambda: NOON) as tracker:
        tracker.track(id=1)
        with raises(ArchiveError, "sketches cannot be read on this server"):
            tracker.archive(path)
        with raises(BackendResponseError, "sketches cannot be written to this server"):
            tracker.restore(path)
