"""Every call that reads says the same of an archive as of the server it was made from."""

import pytest

from activity_tracker_hll import Archive
from helpers.archives import AGGREGATES, answers, fill
from helpers.moments import day
from helpers.pages import Page


def compare(server, path, seed, *, moves=True, secret=None, thorough=False):
    tracker = server.tracker(["daily", "monthly"], aggregate_buckets=AGGREGATES, secret=secret)
    fill(tracker, server.client, seed)
    tracker.archive(path, moves=moves)
    with Archive(path, periods=["daily", "monthly"], secret=secret) as archive:
        of_server, of_archive = answers(tracker, thorough=thorough), answers(archive, thorough=thorough)
    if not moves:  # a table of which nobody came back is none
        for told in (of_server, of_archive):
            told["inventory"] = [(*entry, parts - {"moves"}) for *entry, parts in told["inventory"]]
    assert [name for name, told in of_server.items() if told != of_archive[name]] == []
    errors = [told for told in of_server.values() if isinstance(told, tuple) and isinstance(told[0], type)]
    assert 0 < len(errors) < len(of_server) / 2


@pytest.mark.parametrize(
    ("moves", "secret"), [(False, None), pytest.param(True, "pepper", marks=pytest.mark.extended)]
)
def test_of_data_of_every_kind(real_server, tmp_path, moves, secret):
    compare(real_server, tmp_path / "a", 1, moves=moves, secret=secret)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2])
def test_of_more_of_them(real_server, tmp_path, seed):
    compare(real_server, tmp_path / "a", seed, moves=seed % 2 == 0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4, 12))
@pytest.mark.parametrize("secret", [None, "pepper"])
def test_of_much_more(real_server, tmp_path, seed, secret):
    compare(real_server, tmp_path / "a", seed, moves=seed % 2 == 0, secret=secret, thorough=True)


def test_with_buckets_of_its_own(real_server, tmp_path):
    tracker = real_server.tracker(["daily"], buckets=["a", "b"])
    fill(tracker, real_server.client, 3)
    tracker.archive(tmp_path / "a")
    archive = Archive(tmp_path / "a", periods=["daily"], buckets=["a", "b"])
    assert archive.lookup() == tracker.lookup()
    assert set(archive.rolling(2).rows[0].estimates) == {"a", "b"}


def test_reports_say_the_same(real_server, tmp_path):
    pytest.importorskip("jinja2")
    tracker = real_server.tracker(["daily", "weekly"], buckets=["a", "b"])
    for before in range(20):
        for bucket, ids in {"a": range(before, before + 60), "b": range(20)}.items():
            tracker.track_many(ids, bucket=bucket, date=day(before))
    tracker.archive(tmp_path / "a")
    archive = Archive(tmp_path / "a", periods=["daily", "weekly"], buckets=["a", "b"])
    pages = [Page(each.report(tmp_path / "page.html").read_text("utf-8")) for each in (tracker, archive)]
    assert pages[0].tables == pages[1].tables
    assert pages[0].findings == pages[1].findings
    assert pages[0].tables["days"]
