"""The command lookup."""

import json
from datetime import datetime

import pytest

from helpers.command_line import counts


def test_lookup_shows_tables_and_spark_lines(run, tracker):
    for day in (1, 2, 4):
        tracker.track_many(range(1000 * day), bucket="[red]site", date=datetime(2020, 1, day))
    tracker.track_many(range(50), date=datetime(2020, 1, 4))
    run("collapse")
    shown = run("lookup").stdout
    assert "[red]site" in shown
    assert "(all)" in shown
    assert "±" in shown
    assert "2020-01-03" not in shown
    shown = run("lookup", "--fill").stdout
    assert "2020-01-03" in shown
    [line] = [line for line in shown.splitlines() if line.startswith("[red]site  ")]
    bars = line.removeprefix("[red]site  ")
    assert len(bars) == 4
    assert bars[0] < bars[1] < bars[3] == "█"
    assert bars[2] == " "
    part = run("lookup", "--start", "2020-01-02", "--last", "2020-01-02", "--csv").stdout.splitlines()
    assert [line.split(",")[:2] for line in part[1:]] == [["2020-01-02", ""], ["2020-01-02", "[red]site"]]
    assert part[1] == "2020-01-02,,,,,False,True"
    assert counts(run, "--start", "2020-01-04", "--bucket", "[red]site").keys() == {
        ("2020-01-04", "[red]site")
    }
    assert counts(run, "--last", "2020-01-01").keys() == {("2020-01-01", "[red]site"), ("2020-01-01", None)}
    assert counts(run, "--start", "2030-01-01") == counts(run, "--last", "2000-01-01") == {}


def test_lookup_of_an_aggregate_before_it_is_collapsed(run, tracker):
    tracker.track_many(range(10), bucket="a", date=datetime(2020, 1, 1))
    tracker.track_many(range(5, 15), bucket="b", date=datetime(2020, 1, 1))
    assert counts(run, "--live", "--aggregate", "both=a,b")["2020-01-01", "both"] == 15


def test_intervals_enclose_the_count(run, tracker):
    tracker.track_many(range(5000), date=datetime(2020, 1, 1))
    run("collapse")
    [row] = json.loads(run("lookup", "--json").stdout)
    assert row["low"] < row["count"] < row["high"]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 0.0058 * 5000, rel=0.1)
    assert row.keys() == tracker.lookup().to_dicts()[0].keys()


def test_all_that_cannot_be_read_is_named(run, tracker):
    tracker.track(id=1, bucket="good", date=datetime(2020, 1, 1))
    keys = tracker.backend.keys
    for number in range(7):
        counted = keys.bucket("daily-20200101", f"bad{number}").counted
        tracker.backend.execute([("SET", counted, "seven")])
    result = run("lookup", status=1)
    for number in range(5):
        assert f"daily-20200101 bucket 'bad{number}'" in " ".join(result.stderr.split())
    assert "and 2 more" in " ".join(result.stderr.split())
    assert counts(run, "--bucket", "good") == {("2020-01-01", "good"): 1}


def test_what_lies_in_the_future_is_shown_if_asked_for(run, tracker):
    tracker.track(id=1, date=datetime(2020, 1, 1))
    shown = run("lookup", "--live", "--csv").stdout
    tracker.track(id=2, date=datetime(2101, 1, 1))
    assert run("lookup", "--live", "--csv").stdout == shown
    there = counts(run, "--live", "--start", "2100-12-31", "--last", "2101-01-01", "--no-fill")
    assert there == {("2101-01-01", None): 1}


def test_what_reaches_beyond_the_last_day_is_not_shown(run, tracker):
    for month in (1, 2, 3):
        tracker.track(["monthly"], id=1, date=datetime(2020, month, 1))
    for last in ("2020-02-29", "2020-03-30"):
        shown = run("lookup", "--period", "monthly", "--last", last, "--csv")
        assert [line[:10] for line in shown.stdout.splitlines()[1:]] == ["2020-01-01", "2020-02-01"]
        assert "2 periods that are over are not collapsed" in shown.stderr
