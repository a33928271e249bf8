"""The command metrics."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers.command_line import invoke

pytest.importorskip("prometheus_client")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

USERS = "activity_tracker_hll_active_users"
DOWN = ("--url", "redis://localhost:1/0")


def samples(text, parse=parse):
    """{(metric, label, ...): value}."""
    return {
        (
            sample.name,
            *[sample.labels[name] for name in ("period", "bucket", "state") if name in sample.labels],
        ): (sample.value)
        for family in parse(text)
        for sample in family.samples
    }


def test_counts_are_shown(run, tracker):
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    tracker.track_many(range(50), bucket="shop", date=yesterday)
    tracker.track_many(range(30), ["daily", "monthly"], bucket="blog")
    run("collapse", "--aggregate", "all=shop,blog")
    found = samples(run("metrics").stdout)
    assert found[USERS, "daily", "shop", "collapsed"] == 50
    assert found[USERS, "daily", "all", "collapsed"] == 50
    assert found[USERS, "monthly", "blog", "live"] == 30
    assert found["activity_tracker_hll_up",] == 1
    assert samples(run("metrics", "--openmetrics").stdout, parse_openmetrics).keys() == found.keys()
    chosen = samples(run("metrics", "--period", "daily", "--bucket", "blog", "--bucket", "none yet").stdout)
    assert {key[1:]: value for key, value in chosen.items() if key[0] == USERS} == {
        ("daily", "blog", "live"): 30,
        ("daily", "none yet", "live"): 0,
    }
    largest = samples(run("metrics", "--limit", "1", "--period", "daily").stdout)
    assert largest["activity_tracker_hll_buckets_left_out", "daily"] == 2


def test_the_unnamed_bucket(run, tracker):
    tracker.track(id=1)
    for options in ((), ("--bucket", "(all)", "--period", "daily")):
        assert samples(run("metrics", *options).stdout)[USERS, "daily", "(all)", "live"] == 1


def test_no_data(run):
    assert samples(run("metrics").stdout).keys() == {
        ("activity_tracker_hll_up",),
        ("activity_tracker_hll_counts_updated_timestamp_seconds",),
    }


def test_a_file_is_replaced_in_one_step(run, tracker, tmp_path, monkeypatch):
    file = tmp_path / "users.prom"
    tracker.track(id=1)
    assert run("metrics", "--output", file).output == ""
    before = file.read_text()
    assert samples(before)[USERS, "daily", "(all)", "live"] == 1
    tracker.track(id=2)

    def broken(source, target):
        # What comes in place is whole, and nothing that node_exporter would read.
        assert samples(Path(source).read_text())[USERS, "daily", "(all)", "live"] == 2
        assert not source.endswith(".prom")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", broken)
    failed = run("metrics", "--output", file, status=1)
    assert failed.stderr == f"Error: '{file}' cannot be written: the disk is full\n"
    assert (file.read_text(), list(tmp_path.glob("*.prom"))) == (before, [file])


@pytest.mark.parametrize("options", [(), ("--openmetrics",)])
def test_the_server_is_down(options):
    done = invoke([*DOWN, "metrics", *options])
    assert done.exit_code == 1
    assert "Error: localhost:1/0 cannot be reached" in done.stderr
    assert samples(done.stdout, parse_openmetrics if options else parse) == {("activity_tracker_hll_up",): 0}


def test_a_file_says_that_the_server_is_down(tmp_path):
    file = tmp_path / "users.prom"
    file.write_text(f"{USERS} 5\n")
    assert invoke([*DOWN, "metrics", "--output", str(file)]).exit_code == 1
    assert samples(file.read_text()) == {("activity_tracker_hll_up",): 0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output", "users.txt"], "node_exporter reads *.prom alone, not users.txt"),
        (["--output", "users.prom", "--openmetrics"], "exclude each other"),
        (["--limit", "0"], "0 is not in the range"),
        (["--bucket", "{"], "braces"),
        (
            ["--output", "nowhere/users.prom"],
            "'nowhere/users.prom' cannot be written: there is no directory 'nowhere'",
        ),
    ],
)
def test_bad_options(run, options, words):
    done = run("metrics", *options, status=1 if "nowhere" in words or "braces" in words else 2)
    assert words in done.stderr


def test_the_extra_is_named(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("activity_tracker_hll.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert "activity-tracker-hll[metrics]" in run("metrics", status=1).stderr
