"""The commands archive and restore, and --archive of those that read."""

import json
from datetime import timedelta

import pytest

from activity_tracker_hll import Archive
from helpers.command_line import invoke
from helpers.moments import TODAY, day

RANGE = ["--start", day(4), "--last", day(1)]
READING = [
    ["lookup"],
    ["lookup", "--live", "--json"],
    ["unique", *RANGE, "--period", "daily"],
    ["rolling", "--window", "2", "--json"],
    ["stickiness", "--window", "2"],
    ["retention", "--period", "daily", "--bucket", "a", *RANGE],
    ["lifecycle", "--period", "daily", "--bucket", "a", *RANGE],
    ["overlap", "--bucket", "a", *RANGE, "--with-bucket", "b"],
    ["settings"],
]


@pytest.fixture
def path(tmp_path, tracker):
    for before in range(6):
        for bucket in "ab":
            tracker.track_many(range(10 * before, 10 * before + 40), bucket=bucket, date=day(before))
    tracker.track(id="x", bucket="b", old_id="y", old_bucket="a", date=day(2))
    return tmp_path / "activity.archive"


def on_archive(path, *arguments, status=0):
    result = invoke([*map(str, arguments), "--archive", str(path)])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def test_all_that_read_say_the_same_of_it(run, path):
    shown = run("archive", path).stdout
    assert shown == "12 buckets of periods read, 12 of them new or changed; 12 in the archive.\n"
    assert run("archive", path, "--quiet").stdout == ""
    for command in READING:
        assert on_archive(path, *command).stdout == run(*command).stdout != ""
    page = path.with_suffix(".html")
    shown = on_archive(path, "report", page).stdout.replace("\n", "")
    assert shown == f"{page}: {page.stat().st_size:,} bytes"


def test_what_writes_refuses_it(path, run):
    run("archive", path)
    for command in (["collapse"], ["track", "x"], ["doctor"], ["archive", path], ["restore", path]):
        assert "--archive is only read: this command needs --url or --data" in (
            on_archive(path, *command, status=2).stderr
        )
    result = on_archive(path, "settings", "--keep", "daily=90", status=2)
    assert "--archive is only read" in result.stderr
    result = on_archive(path, "--url", "redis://localhost", "lookup", status=2)
    assert "--archive and --url are two places for the data: give one of them" in result.stderr
    result = on_archive(path.with_name("none"), "lookup", status=1)
    assert "cannot be used: there is no such file or directory" in " ".join(result.stderr.split())


def test_a_part_and_back(run, path, tracker):
    run(
        "archive",
        path,
        "--start",
        day(3),
        "--last",
        day(2),
        "--bucket",
        "a",
        "--no-moves",
        "--period",
        "daily",
    )
    assert len(Archive(path).inventory()) == 2
    misspelled = run("archive", path.with_name("other"), "--bucket", "A", status=1).stderr
    assert "no such bucket 'A' (there are: a, b)" in misspelled
    assert not path.with_name("other").exists()
    tracker.backend.execute([("FLUSHALL",)])
    result = run("restore", path, "--start", day(2), "--keep", 30)
    assert "1 bucket of periods restored." in result.stdout
    assert f"Not counted, or not all of it: daily-{day(2):%Y%m%d}." in result.stdout
    assert "collapse" in result.stdout
    [row] = json.loads(run("lookup", "--json").stdout)
    assert (row["date"], row["bucket"]) == (str(day(2)), "a")
    assert "moves=True: the archive was made without tables" in run(
        "archive", path, "--moves", status=1
    ).stderr.replace("\n", " ")


def test_doctor_warns_of_what_expires_and_is_nowhere_else(run, path, tracker):
    for command in (["collapse"], ["archive", path, "--start", day(2), "--last", TODAY]):
        run(*command)
    for bucket in "ab":
        for before in (5, 4, 1):
            key = tracker.backend.keys.bucket(f"daily-{day(before):%Y%m%d}", bucket).hll
            left = timedelta(days=3 if before != 4 else 30)
            tracker.backend.execute([("EXPIRE", key, int(left.total_seconds()))])
    shown = run("doctor", "--archived", path, "--strict", status=1).stdout.replace("\n", " ")
    assert (
        "2 sketches expire within 7 days that the archive does not have, or not with all later events,"
        f" such as daily-{day(5):%Y%m%d}"
    ) in shown
    run("archive", path)
    assert "the archive does not have" not in run("doctor", "--archived", path).stdout
    result = run("doctor", "--archived", path.with_name("none"), status=1)
    assert "there is no such file" in result.stderr


def test_keeping_for_ever_is_for_the_settings_to_say(path, run):
    run("archive", path)
    assert "'forever' is no number of days" in run("restore", path, "--keep", "forever", status=2).stderr
