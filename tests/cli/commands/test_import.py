"""The command import, and what becomes of it up to lookup."""

import random

import pytest

from helpers.command_line import counts, invoke, near, write_log


def test_a_log_from_import_to_lookup(run, tmp_path):
    exact = write_log(tmp_path / "access.log")
    result = run("import", tmp_path / "access.log")
    assert "3,000 events, 0 bad lines, " in result.stderr
    assert "late" not in result.stderr
    assert "\nNext:\n" in result.stderr  # sketches of this store are kept for ever, so nothing is warned of
    assert "collapse" in result.stderr
    assert result.stdout == ""
    assert "No daily counts." in run("lookup", "--no-live").stdout
    assert "3 periods that are over are not collapsed yet, and left out" in run("lookup", "--no-live").stderr
    assert "3 periods that are over are not collapsed yet, and counted just now" in run("lookup").stderr
    live = counts(run)
    assert "4 counts stored" in run("collapse").stdout
    found = counts(run)
    assert found == live
    assert list(found) == [(day, None) for day in exact]
    assert all(near(found[day, None], len(ids)) for day, ids in exact.items())
    assert "Nothing to collapse" in run("collapse").stdout


def test_an_import_of_which_all_is_late_counts_nothing_and_fails(run, tmp_path):
    write_log(tmp_path / "access.log")
    run("import", tmp_path / "access.log", "--keep-sketches", "366")
    run("collapse")
    before = counts(run)
    result = run("import", tmp_path / "access.log", status=1)
    assert "3,000 events" in result.stderr
    assert "Nothing was counted, every event is late: " in result.stderr
    assert "Next" not in result.stderr
    assert counts(run) == before


def test_what_is_late_is_said_by_event_and_period(run, tmp_path):
    write_log(tmp_path / "access.log")
    run("import", tmp_path / "access.log", "--period", "daily", "--keep-sketches", "1000")
    run("collapse")
    result = run("import", tmp_path / "access.log", "--period", "daily", "--period", "yearly", status=3)
    assert "Late: 3,000 of 6,000 (an event counts once in each kind of period) were refused" in result.stderr
    assert "Next, once all is imported" in result.stderr
    assert sum(counts(run, "--live", "--period", "yearly").values()) > 0
    # Lines that are bad do not make what is late any better.
    more = (tmp_path / "access.log").read_text() + "bad\n"
    run("import", "--format", "log", "--period", "daily", input=more, status=1)


def test_help_of_import_says_what_a_second_import_does():
    shown = " ".join(invoke(["import", "--help"]).stdout.split())
    assert "Until its periods are collapsed, importing the same file again changes nothing." in shown
    assert "are refused, and reported as late" in shown


@pytest.mark.usefixtures("tracker")  # whose server stays from one command to the next
def test_no_file_is_a_traceback(run, tmp_path):
    path = tmp_path / "lat.txt"
    path.write_bytes(b"us\xe9r time\na 2015-05-17\n")
    assert "1 event, 0 bad lines" in run("import", path, "--id", "1", "--time", "time").stderr
    refused = run("import", path, status=1).stderr
    assert "no field 'id' in the header, which has: us\\udce9r, time" in refused
    for seed in range(30):
        path.write_bytes(random.Random(seed).randbytes(3000))
        assert run("import", path, status=1).stderr
        run("import", path, "--id", "1", "--time", "2", "--no-header", "--format", "csv", status=1)


def test_importing_twice_changes_nothing(run, tmp_path):
    write_log(tmp_path / "access.log")
    run("import", tmp_path / "access.log")
    once = counts(run, "--live")
    run("import", tmp_path / "access.log", tmp_path / "access.log")
    assert counts(run, "--live") == once


def test_standard_input_periods_and_buckets(run):
    text = "user,site,when\n" + "".join(
        f"u{n},site{n % 2 + 1},2020-02-{n % 9 + 1:02}T1{n % 10}:00\n" for n in range(90)
    )
    fields = ("--format", "csv", "--id", "user", "--bucket-field", "site", "--time", "when")
    run("import", *fields, "--period", "hourly", "--period", "yearly", input=text)
    assert run("collapse").stdout.count("yearly") == 2
    assert counts(run, "--period", "yearly") == {("2020-01-01", "site1"): 45, ("2020-01-01", "site2"): 45}
    assert sum(n or 0 for n in counts(run, "--period", "hourly").values()) == 90
    assert counts(run) == {}


def test_bad_lines_are_shown_and_the_status_says_whether_all_were(run, tmp_path):
    (tmp_path / "a.csv").write_text("id,time\n" + "x,never\n" * 8 + "y,2020-01-01\n")
    shown = run("import", tmp_path / "a.csv", status=3).stderr.splitlines()
    assert [line.split(":")[0].rpartition(",")[2] for line in shown[:5]] == [
        f" line {n}" for n in range(2, 7)
    ]
    assert shown[5] == "... and 3 more bad lines"
    assert shown[6].startswith("1 event, 8 bad lines")
    run("import", "--format", "csv", input="id,time\nx,never\n", status=1)
    run("import", "--format", "csv", input="id,time\n")
    run("import", input="")
