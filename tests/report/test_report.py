"""Reports of trackers: what stands in the page is what the calls answer; what is missing is said."""

import asyncio
import csv
import io
import os
import subprocess
import sys
from datetime import date, timedelta

import fakeredis
import numpy as np
import pytest

from activity_tracker_hll import (
    ActivityTracker,
    Archive,
    ArchiveError,
    ArgumentTypeError,
    ArgumentValueError,
    BackendConnectionError,
    BackendResponseError,
    ReportError,
    Selection,
)
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.hll import codec
from helpers.errors import raises
from helpers.moments import NOON, TODAY, day
from helpers.pages import Page

pytest.importorskip("jinja2")

TOMORROW = TODAY + timedelta(days=1)

pytestmark = pytest.mark.parametrize("real_server", ["valkey"], indirect=True)


def made(tracker, folder, **options):
    """The page of a report."""
    return Page(tracker.report(folder / "report.html", **options).read_text("utf-8"))


def filled(server, days=46, **options):
    """A tracker that knows of some days: ids come for ten days each, so that a tenth of them is new."""
    options = {"buckets": ["a", "b"], "aggregate_buckets": {"all": ["a", "b"]}, **options}
    tracker = server.tracker(["daily", "weekly", "monthly"], keep_sketches=None, **options)
    for back in range(days - 1, -1, -1):
        for bucket, size in (("a", 400), ("b", 50)):
            tracker.track_many(
                range(back * size // 10, back * size // 10 + size), bucket=bucket, date=day(back)
            )
    return tracker


def shown(number):
    """A number as tables have it, with its limits."""
    if number is None:
        return "-"
    low, high = number.interval()
    if isinstance(number, int):
        return f"{number:,} | {low:,} to {high:,}"
    return f"{100 * number:.1f} % | {100 * low:.1f} to {100 * high:.1f}"


def test_numbers_are_those_of_the_calls(real_server, tmp_path):
    tracker = filled(real_server)
    page = made(tracker, tmp_path)
    options = {"start": day(45), "end": TOMORROW, "missing": "none"}

    header, *rows = page.tables["days"]
    names = ["all", "a", "b"]  # largest first
    assert header == ["day", *names]
    counts = tracker.lookup("daily", start=day(45), live=True, buckets=names)
    assert [row[1:] for row in rows] == [[shown(by_name[name]) for name in names] for _, by_name in counts]

    month, week = (tracker.rolling(window, buckets=["all"], **options) for window in (28, 7))
    sticky = tracker.stickiness(28, buckets=["all"], **options)
    expected = [
        [shown(each.estimates["all"]) if each.complete or each is rows_[-1] else "-" for each in rows_]
        for rows_ in (month, week, sticky)
    ]
    _, *rows = page.tables["reach"]
    assert [[row[1], row[2], row[4]] for row in rows] == [list(each) for each in zip(*expected, strict=True)]
    assert [row[3] for row in rows] == [shown(by_name["all"]) for _, by_name in counts]

    kind = page.findings["retention"].rpartition("came back a ")[2].split()[0]
    period = {"month": "monthly", "week": "weekly"}[kind]
    first, last = (tracker.calendar.containing(period, by.start) for by in span(tracker, period))
    span_ = {"start": first.date, "end": last.next().date, "bucket": "all"}
    csv_of = {name: list(csv.DictReader(io.StringIO(text))) for name, text in page.files.items()}
    cohorts = "new" if "new users" in page.findings["retention"] else "active"
    retention = tracker.retention(period, cohorts=cohorts, **span_)
    assert [(row["cohort"], int(row["offset"]), int(row["ids"])) for row in csv_of["retention.csv"]] == [
        (f"{row['cohort']}", row["offset"], row["ids"]) for row in retention.to_dicts()
    ]
    shares = [row.cells[1].share for row in retention if len(row.cells) > 1]
    cells = [row[2] for row in page.tables["Retention"][1:-1] if row[2]]
    assert [cell.partition(" | ")[0] for cell in cells] == [f"{100 * share:.0f}" for share in shares]

    lifecycle = tracker.lifecycle(period, **span_)
    classes = ("active", "new", "resurrected", "retained", "churned")
    assert [row[1:] for row in page.tables["lifecycle"][1:]] == [
        [shown(getattr(row, name)) for name in classes] for row in lifecycle
    ]

    both = tracker.overlap(*(Selection(name, day(28), TODAY, "daily") for name in ("a", "b")))
    assert [float(row["share"]) for row in csv_of["overlap.csv"]] == pytest.approx(
        [both.share_of_a, both.share_of_b], abs=1e-5
    )
    assert [row[1] for row in page.tables["Overlap"][1:]] == [f"{both.a:,}", f"{both.b:,}"]


def span(tracker, kind):
    """The first and the last period of 46 days, of weeks no more than 13."""
    now = tracker.calendar.local(NOON)
    periods = [*tracker.calendar.before(kind, now, 12)][::-1]
    begun = tracker.calendar.containing(kind, now - timedelta(days=45))
    return max([begun, periods[0]], key=lambda each: each.start), tracker.calendar.containing(kind, now)


def test_without_an_aggregate_reach_is_of_all_together(real_server, tmp_path):
    tracker = filled(real_server, days=30, aggregate_buckets={})
    page = made(tracker, tmp_path)
    options = {"start": day(1), "end": TODAY, "aggregate_buckets": {"x": ["a", "b"]}}
    users = tracker.rolling(28, **options)[0].estimates["x"]
    share = tracker.stickiness(28, **options)[0].estimates["x"]
    row = page.tables["reach"][-2]
    assert (row[1], row[4]) == (shown(users), shown(share))
    assert page.findings["reach-and-stickiness"].partition(" users")[0] == f"{round(users, -1):,}"
    assert "Retention: a\n" in page.text  # the largest


def test_the_csv_of_days(real_server, tmp_path):
    tracker = filled(real_server, days=9)
    page = made(tracker, tmp_path, buckets=["b"])
    rows = list(csv.DictReader(io.StringIO(page.files["days.csv"])))
    counts = tracker.lookup("daily", start=day(8), live=True, buckets=["b"])
    assert [(row["day"], int(row["b"]), int(row["b low"]), int(row["b high"])) for row in rows] == [
        (f"{each}", by_name["b"], *by_name["b"].interval()) for each, by_name in counts
    ]
    assert [row["complete"] for row in rows] == ["True"] * 8 + ["False"]


@pytest.mark.extended
def test_awaited_it_is_the_same(real_server, tmp_path):
    filled(real_server, days=31)
    plain = real_server.tracker(["daily"], buckets=["a", "b"])
    heard = []

    async def make():
        tracker = AsyncActivityTracker(
            ["daily"], buckets=["a", "b"], timezone="UTC", clock=lambda: NOON, **real_server.options
        )
        path = await tracker.report(tmp_path / "awaited.html", progress=heard.append)
        await tracker.close()
        return path

    path = asyncio.run(make())
    assert path.read_bytes() == plain.report(tmp_path / "plain.html").read_bytes()
    assert {"days", "reach", "stickiness", "retention", "lifecycle", "overlap"} <= set(heard)


def test_nothing_at_all(real_server, tmp_path):
    page = made(real_server.tracker(), tmp_path)
    assert page.findings[None] == "There are no counts of days to show."
    assert "activity-tracker-hll import" in page.text
    assert page.tables == {}


def test_where_other_periods_are_tracked_it_says_so(real_server, tmp_path):
    tracker = real_server.tracker(["hourly", "monthly"])
    tracker.track_many(range(100), bucket="a")
    text = made(tracker, tmp_path).text
    assert (
        'What is tracked is hourly, monthly: periods=["daily", "hourly", "monthly"] tracks days, too' in text
    )
    assert "What is tracked is" not in made(tracker, tmp_path, buckets=["b"]).text


def test_the_first_day(real_server, tmp_path):
    tracker = real_server.tracker(["daily", "monthly"])
    tracker.track_many(range(50))
    page = made(tracker, tmp_path)
    assert [row[1:] for row in page.tables["days"]] == [
        ["(all)"],
        [shown(tracker.lookup("daily", live=True)[-1][1][None])],
    ]
    assert page.findings["buckets"] == "There are too few whole days to compare."
    assert page.findings["reach-and-stickiness"] == "How many came in 28 days is not known."


def test_one_whole_day(real_server, tmp_path):
    tracker = real_server.tracker(["daily"])
    tracker.track_many(range(50), date=day(1))
    page = made(tracker, tmp_path)
    assert len(page.tables["days"]) == 2
    assert "Yesterday (DAU)50" in page.text.replace("\n", "")
    assert any(problem.startswith("Neither months nor weeks are tracked") for problem in page.problems)


@pytest.mark.long
def test_a_server_whose_sketches_cannot_be_read(real_server, tmp_path):
    with ActivityTracker(
        ["daily"], client=fakeredis.FakeRedis(), timezone="UTC", clock=lambda: NOON, buckets=["a", "b"]
    ) as tracker:
        for back in range(3):
            tracker.track_many(range(100), bucket="ab"[back % 2], date=day(back))
        page = made(tracker, tmp_path)
    assert len(page.tables["days"]) == 4
    assert "sketches cannot be read on this server" in " ".join(page.problems)
    assert page.findings["retention"] == "Who came back is not known."


def test_a_server_that_only_counts(real_server, tmp_path, monkeypatch):
    """The same, fast."""
    tracker = real_server.tracker(buckets=["a", "b"])
    for back in range(3):
        tracker.track_many(range(100), bucket="ab"[back % 2], date=day(back))

    def refuse(*_args, **_options):
        raise BackendResponseError("sketches cannot be read here")

    for call in ("stickiness", "overlap", "retention", "lifecycle", "sketch"):
        monkeypatch.setattr(tracker, call, refuse)
    page = made(tracker, tmp_path)
    assert len(page.tables["days"]) == 4
    assert page.problems.count("sketches cannot be read here") == 3
    assert page.findings["retention"] == "Who came back is not known."


def test_buckets_that_cannot_be_read_hide_no_others(real_server, tmp_path, monkeypatch):
    names = list("abcde")
    tracker = filled(real_server, 8, buckets=names)
    real_server.client.rpush(f"active:daily-{day(3):%Y%m%d}:c", 7)
    real_server.client.set(f"active:daily-{day(2):%Y%m%d}:d", "seven")
    real_server.client.delete(f"{{active:daily-{day(1):%Y%m%d}:e}}:hll")
    real_server.raise_on("e", day(1))
    lookup, asked = tracker.lookup, []
    monkeypatch.setattr(
        tracker,
        "lookup",
        lambda *args, **options: asked.append(options["buckets"]) or lookup(*args, **options),
    )
    page = made(tracker, tmp_path)
    assert page.tables["days"][0] == ["day", "all", "a", "b"]
    assert len(page.tables["days"]) == 9
    assert [list(buckets) for buckets in asked] == [names, ["a", "b"], ["all"]]
    told = [problem for problem in page.problems if ": daily-" in problem][:3]
    assert [problem.split(": ")[:2] for problem in told] == [
        ["c", f"daily-{day(3):%Y%m%d}"],
        ["d", f"daily-{day(2):%Y%m%d}"],
        ["e", f"daily-{day(1):%Y%m%d}"],
    ]
    path = tmp_path / "activity.archive"
    with raises(ArchiveError, "3 not archived"):
        tracker.archive(path)
    of_archive = made(Archive(path, periods=["daily"], buckets=names), tmp_path)
    assert of_archive.tables["days"][0][:4] == ["day", "all", "a", "b"]


def test_nothing_can_be_read(real_server, tmp_path):
    tracker = real_server.tracker(buckets=["a"])
    real_server.client.set(f"active:daily-{day(2):%Y%m%d}:a", "seven")
    page = made(tracker, tmp_path)
    assert "days" not in page.tables
    assert any("'seven'" in problem for problem in page.problems)


def test_counts_whose_sketches_have_expired(real_server, tmp_path):
    tracker = filled(real_server, days=36)
    tracker.collapse()
    keys = [key for key in real_server.client.scan_iter(count=1000) if key.endswith((b":hll", b":moved"))]
    real_server.client.delete(*keys)
    tracker.track_many(range(400), bucket="a")
    page = made(tracker, tmp_path)
    counts = tracker.lookup("daily", start=day(35), live=True, buckets=["all"])
    assert [row[1] for row in page.tables["days"][1:]][:-1] == [shown(each["all"]) for _, each in counts][:-1]
    assert {row[1] for row in page.tables["reach"][1:]} == {"-"}
    assert page.text.count("no count") >= 2  # hatched
    assert "are gone" in " ".join(page.problems)  # of the overlap


@pytest.mark.extended
def test_an_aggregate_that_nobody_counted(real_server, tmp_path):
    tracker = filled(real_server, days=20, aggregate_buckets={})
    tracker.collapse(date=day(5))
    keys = [
        key for key in real_server.client.scan_iter(count=1000) if key.endswith(b":hll") and b"daily" in key
    ]
    gone = [key for key in keys if key < f"{{active:daily-{day(9):%Y%m%d}".encode()]
    real_server.client.delete(*gone)
    late = real_server.tracker(["daily"], buckets=["a", "b"], aggregate_buckets={"all": ["a", "b"]})
    page = made(late, tmp_path)
    at = page.tables["days"][0].index("all")
    column = [row[at] for row in page.tables["days"][1:]]
    assert column[:10] == ["-"] * 10
    assert "-" not in column[10:]
    assert "no count" in page.text


def test_a_day_without_anything_is_no_zero(real_server, tmp_path):
    tracker = real_server.tracker(buckets=["a", "b"])
    for back in (9, 8, 5, 4):
        tracker.track_many(range(30), bucket="a", date=day(back))
    tracker.track_many(range(30), bucket="b", date=day(7))
    page = made(tracker, tmp_path)
    a, b = (page.tables["days"][0].index(name) for name in "ab")
    rows = page.tables["days"][1:]
    known = shown(tracker.lookup(start=day(9), buckets=["a"])[0][1]["a"])
    none = "0 | 0 to 0"
    assert [row[a] for row in rows] == [known, known, none, "-", known, known, "-", "-", "-", "-"]
    assert [row[b] for row in rows] == ["-", "-", known, "-", none, none, "-", "-", "-", "-"]
    assert "nothing tracked" in page.text


def test_the_running_day_is_left_out_until_there_is_something(real_server, tmp_path):
    tracker = real_server.tracker(buckets=["a"])
    tracker.track_many(range(30), bucket="a", date=day(2))
    tracker.track_many(range(30), bucket="a", date=day(1))
    assert len(made(tracker, tmp_path).tables["days"]) == 3
    tracker.track_many(range(9), bucket="a")
    assert len(made(tracker, tmp_path).tables["days"]) == 4


def test_suspect_counts_bear_a_flag_and_no_limits(real_server, tmp_path):
    tracker = filled(real_server, days=31, buckets=["a"], aggregate_buckets={})
    key = tracker.backend.keys.bucket(f"daily-{day(3):%Y%m%d}", "a").hll
    real_server.client.set(key, codec.encode(np.full(16384, 5, np.uint8)))
    page = made(tracker, tmp_path)
    [row] = [row for row in page.tables["days"] if row[1].endswith("suspect")]
    assert " to " not in row[1]
    assert "⚑ suspect" in page.text
    assert "about " in page.findings["reach-and-stickiness"]


def test_a_bucket_that_cannot_be_read_hides_no_other(real_server, tmp_path):
    tracker = real_server.tracker(buckets=["a", "b"])
    tracker.track_many(range(50), bucket="a", date=day(1))
    tracker.track_many(range(50), bucket="b", date=day(1))
    real_server.client.set(f"active:daily-{day(1):%Y%m%d}:b", "no number")
    page = made(tracker, tmp_path)
    assert page.tables["days"][0] == ["day", "a"]
    assert any(problem.startswith("b: ") and "no number" in problem for problem in page.problems)


@pytest.mark.extended
def test_moves_between_buckets(real_server, tmp_path):
    """Windows end with each seventh day, and are those of the calls there."""
    tracker = filled(real_server, days=35)
    for number in range(20):
        tracker.track(id=f"m{number}", bucket="b", old_id=number, old_bucket="a", date=day(1))
    page = made(tracker, tmp_path)
    _, *rows = page.tables["reach"]
    assert len(rows) == 5
    found = tracker.rolling(28, start=day(1), end=TODAY, buckets=["all"])[0].estimates["all"]
    assert rows[-1][1] == shown(found)


@pytest.mark.extended
def test_old_data_end_where_they_end(real_server, tmp_path):
    tracker = real_server.tracker(["daily", "monthly"])
    first = date(2001, 1, 1)
    for number in range(50):
        tracker.track_many(range(number, number + 90), date=first + timedelta(days=number))
    page = made(tracker, tmp_path)
    assert "1 January 2001 to 19 February 2001" in page.text
    assert "19 Feb 2001 (DAU)" in page.text
    assert len(page.tables["days"]) == 51
    part = made(tracker, tmp_path, start=date(2001, 2, 1), end=date(2001, 2, 11))
    assert len(part.tables["days"]) == 11


@pytest.mark.parametrize("ahead", [200, 400, 13_000])
@pytest.mark.parametrize("buckets", [None, ["a"]])
def test_a_date_in_the_future_changes_nothing(real_server, tmp_path, ahead, buckets):
    tracker = real_server.tracker(["daily", "monthly"], buckets=buckets)
    bucket = buckets and buckets[0]
    for back in (300, 1, 0):
        tracker.track_many(range(30), bucket=bucket, date=day(back))
    before = made(tracker, tmp_path).tables["days"]
    tracker.track(id="x", bucket=bucket, date=day(-ahead))
    assert made(tracker, tmp_path).tables["days"] == before
    assert len(before) == 302
    assert len(made(tracker, tmp_path, end=day(-ahead)).tables["days"]) == 302


def test_a_date_in_the_future_is_not_the_newest_of_old_data(real_server, tmp_path):
    tracker = real_server.tracker(["daily", "monthly"])
    for number in range(9):
        tracker.track_many(range(90), date=date(2001, 1, 1) + timedelta(days=number))
    tracker.track(id="x", date=day(-9))
    assert "1 January 2001 to 9 January 2001" in made(tracker, tmp_path).text


def test_only_dates_in_the_future(real_server, tmp_path):
    tracker = real_server.tracker()
    tracker.track(id="x", date=day(-9))
    assert "days" not in made(tracker, tmp_path).tables


@pytest.mark.extended
def test_many_buckets(real_server, tmp_path):
    names = [f"bucket {number}" for number in range(14)]
    tracker = real_server.tracker(buckets=names)
    for back in range(16):
        for number, name in enumerate(names):
            size = 100 + number if number != 3 else 100 * (16 - back)
            tracker.track_many(range(number * 5000, number * 5000 + size), bucket=name, date=day(back))
    page = made(tracker, tmp_path)
    panels = page.tables["days"][0][1:]
    assert panels[:3] == ["bucket 3", "bucket 13", "bucket 12"]
    assert len(panels) == 6
    assert len(page.tables["list"]) == 15
    assert page.findings["buckets"] == "Grew most in a week: bucket 3, by 199 %."
    assert len(page.tables["Overlap"][0]) == 2 + 8
    listed = list(csv.DictReader(io.StringIO(page.files["buckets.csv"])))
    counts = [row[1]["bucket 13"] for row in tracker.lookup(start=day(7), end=TODAY)]
    of_last = next(row for row in listed if row["bucket"] == "bucket 13")
    assert len(listed) == 14
    assert float(of_last["mean day"]) == pytest.approx(sum(counts) / 7, abs=1e-4)
    assert float(of_last["mean day low"]) < sum(counts) / 7 < float(of_last["mean day high"])
    assert (of_last["change"], of_last["clear"]) == ("0.0", "False")


# Files and arguments


def test_the_file_is_whole_or_not_there(real_server, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the one of yesterday")
    tracker = real_server.tracker()
    from activity_tracker_hll.report import making

    monkeypatch.setattr(making, "page", lambda facts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tracker.report(path)
    assert path.read_text() == "the one of yesterday"
    monkeypatch.undo()
    assert tracker.report(str(path)) == path
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_link_and_a_pipe_stay_what_they_are(real_server, tmp_path):
    tracker, link, pipe = real_server.tracker(), tmp_path / "link.html", tmp_path / "pipe"
    (tmp_path / "public").mkdir()
    link.symlink_to(tmp_path / "public" / "page.html")
    assert tracker.report(link) == link
    assert link.is_symlink()
    assert link.read_text().startswith("<!DOCTYPE html>")
    os.mkfifo(pipe)
    with pipe.open("r+b", buffering=0) as both_ends:
        tracker.report(pipe)
        assert pipe.is_fifo()
        assert both_ends.read(15) == b"<!DOCTYPE html>"


def test_where_it_cannot_be_written(real_server, tmp_path):
    tracker = real_server.tracker()
    for path, why in {
        tmp_path / "not there" / "x.html": "there is no directory '.*not there'",
        tmp_path: "it is a directory",
        tmp_path / ("x" * 300): "File name too long",
    }.items():
        with raises(ReportError, f"cannot be written to '.*: {why}"):
            tracker.report(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "given", "said"),
    [
        (ArgumentTypeError, {"path": 7}, "path must be a file"),
        (ArgumentTypeError, {"path": b"x.html"}, "path must be a file"),
        (ArgumentValueError, {"path": ""}, "path must not be empty: it is to name a file"),
        (ArgumentValueError, {"path": "a\0b"}, "path must be a file.*NUL"),
        (ArgumentTypeError, {"title": None}, "title must be a str, got None"),
        (ArgumentTypeError, {"start": "2026"}, "start must be a date"),
        (ArgumentTypeError, {"end": 7}, "end must be a date"),
        (ArgumentValueError, {"start": TODAY, "end": day(3)}, "start must not be after end"),
        (ArgumentTypeError, {"buckets": "shop"}, "buckets must be a list"),
        (ArgumentValueError, {"buckets": []}, "buckets lists no buckets"),
        (ArgumentValueError, {"bucket": "a{b"}, "bucket"),
        (ArgumentTypeError, {"progress": 7}, "progress must be callable"),
        (ArgumentValueError, {"shard": 1}, "shard"),
    ],
    ids=str,
)
def test_bad_arguments(real_server, tmp_path, error, given, said):
    with raises(error, said):
        real_server.tracker().report(**{"path": tmp_path / "x.html", **given})


def test_without_a_server_there_is_no_report(real_server, tmp_path):
    with ActivityTracker(["daily"], port=1, retries=0) as tracker, raises(BackendConnectionError):
        tracker.report(tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


def test_without_jinja2_the_extra_is_named(real_server):
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from activity_tracker_hll import ActivityTracker, MissingExtraError\n"
        "try: ActivityTracker(['daily'], port=1).report('x.html')\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'activity-tracker-hll[report]'" in done.stdout
