"""manage.py collapse_activity: what it stores, says and fails of."""

import io
import subprocess
import sys

import pytest

pytest.importorskip("django")

from django.core.management import CommandError, call_command
from django.test import override_settings

import helpers.django_project  # noqa: F401 (configures Django)
from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.moments import TODAY, YESTERDAY, day

BUCKETS = ["anonymous", "member"]


def run(tracker, *options):
    """What the command prints."""
    out = io.StringIO()
    with override_settings(ACTIVITY_TRACKER={"tracker": tracker}):
        try:
            call_command("collapse_activity", *options, stdout=out)
        except CommandError as error:
            error.printed = out.getvalue().splitlines()
            raise
    return out.getvalue().splitlines()


def failing(tracker, *options):
    """What the command says of why it failed, and what it printed before."""
    with pytest.raises(CommandError) as caught:
        run(tracker, *options)
    return str(caught.value), caught.value.printed


@pytest.fixture
def tracker(server):
    tracker = server.tracker(["weekly", "daily"], buckets=[None, *BUCKETS])
    for date in (day(400), day(2), YESTERDAY, TODAY):
        tracker.track_many(["ann", "bob"], ["daily"], bucket="member", date=date)
    tracker.track_many(range(3), ["daily"], date=YESTERDAY)
    tracker.track(["weekly"], id="ann", bucket="member", date=day(7))
    return tracker


def test_all_that_is_over(tracker):
    week = day(7 + TODAY.weekday())
    assert run(tracker) == [
        f"daily (unnamed): 1 count, the last 3 ({YESTERDAY})",
        f"daily member: 3 counts, the last 2 ({YESTERDAY})",
        f"weekly member: 1 count, the last 1 ({week})",
    ]
    assert tracker.lookup("daily", live=False)[-1][1] == {None: 3, "anonymous": 0, "member": 2}
    assert run(tracker) == ["Nothing to collapse in the tracker's buckets."]


def test_some_kinds_of_period_and_recounting(tracker):
    assert len(run(tracker, "--period", "weekly")) == 1
    assert len(run(tracker, "--period", "weekly", "--period", "daily")) == 2
    tracker.track(["daily"], id="eve", bucket="member", date=YESTERDAY)
    assert f"daily member: 2 counts, the last 3 ({YESTERDAY})" in run(tracker, "--recount")


def test_saying_nothing(tracker):
    assert run(tracker, "--verbosity", "0") == []
    assert run(tracker, "--verbosity", "0") == []
    assert tracker.collapse() == []


@pytest.mark.parametrize("options", [(), ("--verbosity", "0")])
def test_a_bucket_that_fails(server, options):
    tracker = server.tracker(buckets=BUCKETS)
    tracker.track(id="ann", bucket="member", date=YESTERDAY)
    server.raise_on("anonymous")
    failure, done = failing(tracker, *options)
    assert done == ([] if options else [f"daily member: 1 count, the last 1 ({YESTERDAY})"])
    assert f"daily-{YESTERDAY:%Y%m%d} bucket 'anonymous'" in failure
    assert tracker.lookup(live=False)[-1][1]["member"] == 1


def test_a_tracker_without_periods(server):
    message, _ = failing(server.tracker(None))
    assert message.startswith("periods must be given")
    assert run(server.tracker(None), "--period", "daily") == ["Nothing to collapse in the tracker's buckets."]


def test_an_unknown_kind_of_period(tracker):
    with pytest.raises(CommandError, match=r"--period.*invalid choice: 'daly'"):
        call_command("collapse_activity", "--period", "daly")


@pytest.mark.parametrize("tracker", ["no.such.module.tracker", None, 7, AsyncActivityTracker])
def test_no_tracker(tracker):
    tracker = tracker(["daily"]) if isinstance(tracker, type) else tracker
    message, _ = failing(tracker)
    assert message.startswith("ACTIVITY_TRACKER['tracker'] ")


@pytest.mark.parametrize("setting", [None, {}, {"writer": 1, "identify": 2}])
def test_the_setting_is_missing(setting):
    with override_settings(ACTIVITY_TRACKER=setting):
        with pytest.raises(CommandError, match="ACTIVITY_TRACKER must be a dict with tracker, got"):
            call_command("collapse_activity")


def test_a_server_that_is_away():
    tracker = ActivityTracker(["daily"], port=1, retries=0)
    message, _ = failing(tracker)
    assert "127.0.0.1:1" in message or "localhost:1" in message


def test_as_a_process(real_server, tmp_path):
    """With the app in INSTALLED_APPS and nothing else of Django."""
    tracker = real_server.tracker(buckets=BUCKETS)
    tracker.track(id="ann", bucket="member", date=YESTERDAY)
    real_server.raise_on("anonymous")
    (tmp_path / "project.py").write_text(
        "from activity_tracker_hll import ActivityTracker\n"
        "INSTALLED_APPS = ['activity_tracker_hll.web.django']\n"
        "ACTIVITY_TRACKER = {'tracker': 'project.tracker'}\n"
        f"tracker = ActivityTracker(['daily'], buckets={BUCKETS}, **{real_server.options})\n"
    )
    command = [sys.executable, "-m", "django", "collapse_activity", "--settings", "project"]
    command += ["--pythonpath", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stdout == f"daily member: 1 count, the last 1 ({YESTERDAY})\n"
    assert found.stderr.startswith("CommandError: 1 not collapsed (all others were): daily-")
    assert "Traceback" not in found.stderr
