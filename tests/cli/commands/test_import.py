"""The command import, and what becomes of it up to lookup."""

import random
import re
import sys
from collections import defaultdict
from datetime import datetime
from functools import partial

import pytest

from activity_tracker_hll.columns import EventColumns, Texts
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


def test_a_parquet_file_beside_a_text_file(run, tmp_path):
    """Nulls are bad rows, and days those of the zone."""
    tables = pytest.importorskip("helpers.tables")
    table, events = tables.usual()
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "events.parquet")
    (tmp_path / "more.csv").write_text("user_id,platform,ts\nann,web,2026-01-02T12:00:00\n")
    berlin = partial(run, options=("--timezone", "Europe/Berlin"))
    files = (tmp_path / "events.parquet", tmp_path / "more.csv")
    options = ("--id", "user_id", "--time", "ts", "--bucket-field", "platform")
    assert "2026-01-01 23:01:00" in berlin("import", *files, *options, "--dry-run", status=3).stdout
    result = berlin("import", *files, *options, status=3)
    assert "events.parquet, row 98: id is missing" in result.stderr
    assert "990 events, 11 bad lines, " in result.stderr
    exact = defaultdict(set)
    for id, bucket, time in [*events, ("ann", "web", events[-1][2])]:
        exact[f"{time:%Y-%m-%d}", bucket].add(id)
    found = counts(berlin, "--live", "--bucket", "web", "--bucket", "app", "--start", "2026-01-01")
    assert {place: count for place, count in found.items() if count} == {
        place: pytest.approx(len(ids), abs=3) for place, ids in exact.items()
    }


def test_parquet_is_not_read_from_standard_input(run, tmp_path):
    tables = pytest.importorskip("helpers.tables")
    pytest.importorskip("pyarrow.parquet").write_table(tables.usual(10)[0], tmp_path / "events")
    result = run("import", input=(tmp_path / "events").read_bytes(), status=1)
    assert "Parquet is read from a file itself, neither piped nor compressed" in result.stderr


NGINX = '172.17.0.{} - - [10/Jan/2024:10:00:00 +0000] "GET {} HTTP/1.1" {} 615 "-" "{}" "{}"\n'


def test_options_of_import_reach_the_reader(run, tmp_path):
    lines = [
        NGINX.format(1, "/a", 200, "curl", "203.0.113.1, 10.0.0.1"),
        NGINX.format(2, "/a", 200, "curl", "-"),
        NGINX.format(3, "/a", 200, "GoogleBot", "203.0.113.3"),
        NGINX.format(4, "/a", 404, "curl", "203.0.113.4"),
        NGINX.format(5, "/robots.txt", 200, "curl", "203.0.113.5"),
    ]
    (tmp_path / "access.log").write_text("".join(lines))
    shown = run(
        *("import", tmp_path / "access.log", "--id", "X-Forwarded-For", "--id-fallback", "remote_host"),
        *(
            "--address",
            "last",
            "--where",
            "status=2..",
            "--exclude",
            "User-Agent=bot",
            "--exclude",
            "path=robots",
        ),
    ).stderr
    assert "2 events, 0 bad lines, 3 lines left out by filters" in shown
    assert counts(run, "--live") == {("2024-01-10", None): 2}


def test_a_dry_run_shows_events_and_touches_no_server(run, tmp_path):
    text = "user;day;clock;site\nann;02.01.2026;23:30;a\n;02.01.2026;10:00;a\nNULL;02.01.2026;10:00;a\n"
    (tmp_path / "in.csv").write_text(text + "bob;03.01.2026;10:00;b\n" * 20)
    shown = run(
        *("import", tmp_path / "in.csv", "--dry-run", "--id", "user", "--time", "day", "--time", "clock"),
        *("--time-format", "%d.%m.%Y %H:%M", "--file-timezone", "America/New_York", "--null", "NULL"),
        *("--bucket-field", "site"),
        status=3,
    ).stdout
    assert "in.csv, with times in UTC:" in shown
    assert "2026-01-03 04:30:00" in shown
    assert shown.count("bob") == 9
    assert "line 3" in shown
    assert "line 4: no user" in shown
    assert not list((tmp_path / "data").iterdir())
    assert "no field 'id'" in run("import", tmp_path / "in.csv", "--dry-run", status=1).stdout


GOOD, BAD = "ann,2026-01-02\n", "ann,soon\n"


@pytest.mark.parametrize(
    ("texts", "options", "status"),
    [
        ([""], (), 0),
        (["id,time\n"], (), 0),
        (["id,time\n" + GOOD], ("--where", "id=bob"), 0),
        (["id,time\n" + GOOD + BAD], (), 3),
        (["id,time\n" + BAD], (), 1),
        (["name,time\n" + GOOD], (), 1),
        ([None], (), 1),
        (["id,time\n" + GOOD, None], (), 3),
        (["id,time\n", None], (), 1),
    ],
)
def test_a_dry_run_ends_as_the_import_would(run, tmp_path, texts, options, status):
    files = [tmp_path / f"{number}.csv" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        if text is not None:
            file.write_text(text)
    run("import", *files, *options, "--dry-run", status=status)
    run("import", *files, *options, status=status)


def test_the_name_of_a_file_makes_no_line_of_its_own(run, tmp_path):
    path = tmp_path / "a\nb.csv: 9 events\x1b[1m"
    path.write_text("id,time\nann,2020-01-01\n")
    shown = run("import", path, path).stderr
    assert f"\n{tmp_path}/a\\nb.csv: 9 events\\x1b[1m: 1 event, 0 bad lines" in f"\n{shown}"
    assert "\nb.csv" not in shown


def test_a_file_that_cannot_be_read_does_not_keep_the_next_from_being_read(run, tmp_path):
    (tmp_path / "a.csv").write_text("id,time\nann,2020-01-01\nbad\n")
    (tmp_path / "b.csv").write_text("name,time\nann,2020-01-01\n")
    (tmp_path / "c.csv").write_text("id,time\nbob,2020-01-01\n")
    (tmp_path / "folder").mkdir()
    files = [tmp_path / name for name in ("a.csv", "none.csv", "folder", "b.csv", "c.csv")]
    shown = run("import", *files, status=3).stderr
    for line in (
        f"{files[0]}: 1 event, 1 bad line",
        f"{files[1]}: No such file or directory",
        f"{files[2]}: Is a directory",
        f"{files[3]}: no field 'id' in the header",
        f"{files[4]}: 1 event, 0 bad lines",
        "2 events, 1 bad line, ",
    ):
        assert f"\n{line}" in f"\n{shown}"
    assert counts(run, "--live") == {("2020-01-01", None): 2}
    run("import", files[4])
    run("import", files[1], files[3], status=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--time-format", "seconds"), "--time-format: a time format is one of iso, epoch, epoch_ms"),
        (("--time-format", "%H:%M"), "--time-format: time format '%H:%M' does not say year, month and day"),
        (("--log-format", "combind"), "--log-format: no log format 'combind'"),
        (("--log-format", "common", "--format", "csv"), "--log-format is of logs"),
        (("--where", "status"), "is not of the form FIELD=PATTERN"),
        (("--exclude", "status=("), "is no regular expression"),
        (("--file-timezone", "Mars"), "--file-timezone must be an IANA name"),
        (("--file-timezone", ""), "--file-timezone must be an IANA name"),
        (("--bucket", "{x"), "--bucket must"),
        (("--bucket", ""), "--bucket must"),
        (("--id", ""), "--id is the name or the number of a field, got ''"),
        (("--id", "a", "--id", ""), "--id is the name"),
        (("--id-fallback", ""), "--id-fallback is the name"),
        (("--time", ""), "--time is the name"),
        (("--bucket-field", ""), "--bucket-field is the name"),
    ],
)
def test_options_that_fit_no_line_are_refused(run, options, says):
    refused = run("import", *options, status=2, input="")
    assert says in " ".join(refused.stderr.split())


def test_what_was_read_before_an_interrupt_is_counted(run, monkeypatch):
    def interrupted(sources, *_, **__):
        for number in range(1, 4):
            yield EventColumns(Texts.of([b"x"]), None, datetime(2026, 1, number))
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["activity_tracker_hll.cli.commands.import_"], "read_sources", interrupted)
    run("import", status=130, input="")
    assert [found for (_, bucket), found in counts(run, "--live").items() if bucket is None] == [1, 1, 1]


def test_an_import_that_is_interrupted_is_completed_by_a_second_one(run, tmp_path, monkeypatch):
    exact = write_log(tmp_path / "access.log")
    module = sys.modules["activity_tracker_hll.cli.commands.import_"]

    def stopped(*arguments, **options):
        yield next(read_sources(*arguments, **options))
        raise KeyboardInterrupt

    read_sources = module.read_sources
    with monkeypatch.context() as patched:
        patched.setattr(module, "read_sources", stopped)
        shown = run("import", tmp_path / "access.log", status=130).stderr
    assert re.search(r"[1-9][\d,]* events were read", shown)
    assert "Running the same command again is harmless" in " ".join(shown.split())
    run("import", tmp_path / "access.log")
    found = counts(run, "--live")
    assert all(near(found[day, None], len(ids)) for day, ids in exact.items())


def cp1252_csv(path, at, events):
    """A CSV with one id that is not UTF-8; if it is small, so is another column in each row."""
    name = b"J\xf6rg" if events < 1000 else b"Joerg"
    ids = [b"M\xfcller" if number == at else b"%d" % number for number in range(events)]
    path.write_bytes(b"id,time,name\n" + b"".join(b"%s,2020-01-01,%s\n" % (id, name) for id in ids))


@pytest.mark.parametrize(
    ("at", "options"),
    [(0, ()), (0, ("--dry-run",)), (9, ("--where", "name=.")), (150_000, ())],
    ids=["fast", "dry run", "careful", "late"],
)
def test_ids_in_another_encoding_are_told_of_once(run, tmp_path, at, options):
    cp1252_csv(tmp_path / "odd.csv", at, at + 9)
    other = tmp_path / "other.csv"
    other.write_text("id,time,name\nMüller,2020-01-01,Jörg\n", "utf-8")
    done = run("import", tmp_path / "odd.csv", other, *options)
    told = [line for line in done.output.splitlines() if "not UTF-8" in line]
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'odd.csv'}: ids that are not UTF-8, such as M\\xfcller, ")


def test_other_columns_may_be_in_another_encoding(run, tmp_path):
    cp1252_csv(tmp_path / "fine.csv", -1, 9)
    assert "UTF-8" not in run("import", tmp_path / "fine.csv").output
