"""The commands that ask sketches: unique, rolling, stickiness, overlap, retention, lifecycle."""

import csv
import io
import json
from datetime import date, timedelta

import pytest

from activity_tracker_hll import Selection

FIRST = date(2020, 1, 1)
RANGE = ["--start", "2020-01-01", "--last", "2020-01-05"]
COMMANDS = {
    "unique": ["unique", *RANGE],
    "rolling": ["rolling", "--window", "2", "--start", "2020-01-02", "--last", "2020-01-05"],
    "stickiness": ["stickiness", "--window", "2", "--start", "2020-01-02", "--last", "2020-01-05"],
    "retention": ["retention", "--period", "daily", "--bucket", "a", *RANGE],
    "lifecycle": ["lifecycle", "--period", "daily", "--bucket", "a", *RANGE],
}
OVERLAP = ["overlap", "--bucket", "a", "--start", "2020-01-01", "--last", "2020-01-02"]
OVERLAP += ["--with-start", "2020-01-03", "--with-last", "2020-01-05"]


def day(number):
    return FIRST + timedelta(days=number)


@pytest.fixture
def five_days(tracker):
    for number in range(5):
        for bucket in "ab":
            tracker.track_many(range(10 * number, 10 * number + 40), bucket=bucket, date=day(number))
    return tracker


def results(tracker):
    """What the commands ask for, asked of the library; the end does not belong to a range."""
    return {
        "unique": tracker.unique(FIRST, day(5), buckets=["a", "b"], period="daily"),
        "rolling": tracker.rolling(2, start=day(1), end=day(5), buckets=["a", "b"]),
        "stickiness": tracker.stickiness(2, start=day(1), end=day(5), buckets=["a", "b"]),
        "retention": tracker.retention("daily", start=FIRST, end=day(5), bucket="a"),
        "lifecycle": tracker.lifecycle("daily", start=FIRST, end=day(5), bucket="a"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_json_and_csv_have_what_the_library_says(run, five_days, command):
    expected = json.loads(json.dumps(results(five_days)[command].to_dicts(), default=str))
    assert json.loads(run(*COMMANDS[command], "--json").stdout) == expected
    rows = list(csv.DictReader(io.StringIO(run(*COMMANDS[command], "--csv").stdout)))
    assert len(rows) == len(expected)
    assert list(rows[0]) == list(expected[0])
    assert [list(row.values()) for row in rows] == [
        ["" if value is None else str(value) for value in row.values()] for row in expected
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_tables_have_what_the_library_prints(run, five_days, command):
    shown = run(*COMMANDS[command]).stdout
    for line in str(results(five_days)[command]).splitlines()[1:]:
        for word in line.split():
            assert word.strip("─") in shown


def test_overlap(run, five_days):
    a, b = Selection("a", FIRST, day(2), "daily"), Selection("a", day(2), day(5), "daily")
    expected = five_days.overlap(a, b)
    told = {row["of"]: row for row in json.loads(run(*OVERLAP, "--json").stdout)}
    low, high = expected.both.interval()
    assert told["both"] == {
        "of": "both",
        "value": expected.both,
        "low": low,
        "high": high,
        "suspect": False,
        "complete": True,
    }
    assert told["jaccard"]["value"] == pytest.approx(float(expected.jaccard))
    shown = run(*OVERLAP).stdout
    assert "share of a" in shown
    assert f"{expected.jaccard:.1%}" in shown
    same = list(
        csv.DictReader(
            run("overlap", "--bucket", "a", *RANGE, "--with-bucket", "b", "--csv").stdout.splitlines()
        )
    )
    assert [row["value"] for row in same if row["of"].startswith("only")] == ["0", "0"]


def test_all_buckets_and_known_aggregates_by_default(run, five_days):
    five_days.change_settings(aggregate_buckets={"both": ["a", "b"]})
    told = json.loads(run(*COMMANDS["unique"], "--json").stdout)
    assert [row["bucket"] for row in told] == ["a", "b", "both"]
    told = json.loads(run(*COMMANDS["unique"], "--json", "--bucket", "b", "--aggregate", "x=a,b").stdout)
    assert [row["bucket"] for row in told] == ["b", "x"]


@pytest.mark.parametrize("command", ["retention", "lifecycle"])
def test_which_bucket_if_there_are_several(run, five_days, command):
    refused = run(command, *RANGE, "--period", "daily", status=2)
    assert "--bucket must be given, as there are several: a, b" in refused.stderr


@pytest.mark.parametrize("command", [*COMMANDS, "overlap"])
def test_an_empty_store(run, command):
    arguments = OVERLAP if command == "overlap" else COMMANDS[command]
    arguments = [word for word in arguments if word not in {"--bucket", "a"}]
    refused = run(*arguments, status=1)
    assert refused.stdout == ""
    assert "nothing was ever tracked in the unnamed bucket" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_bucket_that_there_is_not(run, five_days):
    assert "no such bucket 'c' (there are: a, b)" in run("rolling", "--bucket", "c", status=1).stderr


def test_what_expired_is_named_and_shown_if_asked_for(run, five_days):
    run("settings", "--keep", "daily=forever")
    run("collapse", "--quiet")
    five_days.backend.execute([("DEL", "{active:daily-20200103:a}:hll")])
    refused = run(*COMMANDS["rolling"], status=1).stderr
    assert "1 sketch of bucket 'a' is gone, daily-20200103" in " ".join(refused.split())
    assert "(--missing none gives None there)" in " ".join(refused.split())
    told = json.loads(run(*COMMANDS["rolling"], "--missing", "none", "--json").stdout)
    assert [row["value"] for row in told if row["bucket"] == "a"] == [50, None, None, 50]


def test_one_day_of_data(run, tracker):
    tracker.track(id=1, date=FIRST)
    assert json.loads(run("rolling", "--window", "1", "--json").stdout)
    shown = run("retention", "--period", "daily", "--start", "2020-01-01", "--last", "2020-01-01").stdout
    assert "100.0%" in shown
    refused = run("lifecycle", "--start", "2020-01-01", "--last", "2020-01-01", status=1)
    assert "no whole monthly period" in refused.stderr


def test_json_and_csv_exclude_each_other(run, five_days):
    assert "exclude each other" in run(*COMMANDS["unique"], "--json", "--csv", status=2).stderr


def test_months_alone_need_no_option(run, tracker):
    tracker.track_many(range(30), ["monthly"], bucket="x", date=date(2020, 1, 5))
    range_ = ["--start", "2020-01-01", "--last", "2020-01-31"]
    [row] = json.loads(run("unique", *range_, "--json").stdout)
    assert (row["bucket"], row["count"]) == ("x", 30)
    assert "share of a" in run("overlap", *range_).stdout


@pytest.mark.parametrize("command", ["rolling", "stickiness"])
def test_fewer_days_than_a_window(run, tracker, command):
    tracker.track(id=1, date=FIRST)
    assert "2020-01-01 *" in run(command, "--window", "7").stdout
    [row] = json.loads(run(command, "--window", "7", "--json").stdout)
    assert row["complete"] is False


@pytest.mark.parametrize("command", [*COMMANDS, "overlap"])
def test_the_last_day_that_there_is(run, five_days, command):
    arguments = OVERLAP if command == "overlap" else COMMANDS[command]
    arguments = ["9999-12-31" if word == "2020-01-05" else word for word in arguments]
    assert "Traceback" not in run(*arguments, status=2).stderr


@pytest.mark.parametrize("command", ["rolling", "stickiness"])
def test_a_date_in_the_future_is_not_the_last_day(run, five_days, command):
    before = run(command, "--window", "2", "--csv").stdout
    five_days.track(id="x", bucket="a", date=date(2101, 1, 1))
    assert run(command, "--window", "2", "--csv").stdout == before


def test_a_union_of_the_command_itself(run, five_days):
    command = [*COMMANDS["stickiness"], "--json", "--bucket", "b", "--aggregate", "x=a,b"]
    told = {(row["date"], row["bucket"]): row["value"] for row in json.loads(run(*command).stdout)}
    window = {"start": day(1), "end": day(5)}
    rows = five_days.stickiness(2, buckets=["b"], aggregate_buckets={"x": ["a", "b"]}, **window)
    assert told == {(f"{row.date}", name): share for row in rows for name, share in row.estimates.items()}


def test_aggregates_are_checked(run, five_days):
    refused = run(*COMMANDS["unique"], "--aggregate", "x=a,bb", status=1).stderr
    assert "no such bucket 'bb', did you mean 'b'?" in " ".join(refused.split())
