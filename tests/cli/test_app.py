"""What all commands share: options, errors, help, and where the data are."""

import json
import socket
import subprocess
from datetime import datetime

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from helpers.command_line import invoke, near, write_log
from helpers.servers import program


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("import", "/nowhere/x.log"), 1, "/nowhere/x.log: No such file"),
        (("import", ""), 2, "the name of a file is empty"),
        (("import", "--format", "xml"), 2, "xml"),
        (("import", "--bucket", "a", "--bucket-field", "b"), 2, "exclude each other"),
        (("import", "--delimiter", "ab"), 2, "one character"),
        (("import", "--delimiter", '"'), 2, "no quote"),
        (("import", "--log-format", "%Q"), 2, "--log-format"),
        (("import", "--bucket", "a{b"), 2, "--bucket must not contain braces"),
        (
            ("import", "--format", "csv", "--id", "x"),
            1,
            "stdin: no field 'x' in the header, which has: id, time",
        ),
        (("track",), 2, "give an ID"),
        (("track", "x", "--old-bucket", "b"), 2, "needs --old-id"),
        (("track", ""), 1, "id must not be empty"),
        (("track", "x", "--date", "tomorrow"), 2, "not a date such as"),
        (("track", "x", "--period", "daylight"), 2, "daylight"),
        (("track", "x", "--period", "hourly", "--date", "2020-01-01"), 1, "datetime for hourly"),
        (("collapse", "--aggregate", "total"), 2, "total=site1,site2"),
        (("collapse", "--aggregate", "total=a"), 1, "no such bucket 'a'"),
        (("collapse", "--max-periods", "0"), 2, "max-periods"),
        (
            ("lookup", "--start", "2020-02-01", "--last", "2020-01-31", "--bucket", "b"),
            2,
            "--start must not be after --last",
        ),
        (("lookup", "--json", "--csv"), 2, "--json and --csv exclude each other"),
        (("lookup", "--bucket", ""), 1, "bucket must not be empty"),
        (("demo", "--days", "0"), 2, "days"),
    ],
)
def test_bad_arguments_are_one_clear_line(run, arguments, status, message):
    result = run(*arguments, input="id,time\nx,2020-01-01\n", status=status)
    assert message in result.stderr
    assert len(result.stderr.split("Error: ")[-1].strip().splitlines()) <= (1 if status == 1 else 3)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--url", "redis://127.0.0.1:1"), 2, "give one of them"),
        (("--timezone", "Mars/Base"), 1, "IANA name"),
        (("--week-start", "7"), 2, "week-start"),
        (("--namespace", "a{b"), 1, "namespace must not contain"),
        (("--keep-sketches", "soon"), 2, "'forever'"),
        (("--keep-sketches", "1e9"), 2, "'forever'"),
        (("--keep-sketches", "99999999999"), 2, "'forever'"),
        (("--keep-sketches", "-1"), 1, "keep_sketches must not be negative"),
        (("--keep-sketches", "3"), 1, "keep_sketches must be at least 31 days"),
        (("--retention", "3"), 2, "--retention"),
    ],
)
def test_bad_options_are_named(run, options, status, message):
    assert message in run("track", "x", options=options, status=status).stderr


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("lookup", "--start", "0001-01-01"), "got 0001-01-01"),
        (("lookup", "--start", "0001-01-01T15:30"), "got 0001-01-01T15:30:00"),
        (
            ("report", "r.html", "--start", "2020-02-01", "--last", "2020-01-01"),
            "got 2020-02-01 and 2020-01-02",
        ),
        (("settings", "--keep", "daily=-1"), "got -1 days"),
    ],
)
def test_dates_in_messages_are_as_they_are_typed(run, arguments, shown):
    result = run(*arguments, status=1)
    assert shown in result.stderr
    assert "datetime" not in result.stderr


def test_a_server_that_is_not_there():
    result = invoke(["--url", "redis://127.0.0.1:1", "doctor"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1


def test_where_the_data_are(tracker, tmp_path):
    tracker.track(id="x", date=datetime(2020, 1, 1))
    url = f"unix://{tracker.backend.server.socket}"
    found = invoke(["--timezone", "UTC", "lookup", "--live", "--csv"], env={"ACTIVITY_TRACKER_URL": url})
    assert "2020-01-01,,1," in found.stdout
    # What is typed goes before the environment.
    (tmp_path / "other").mkdir()
    other = ["--data", str(tmp_path / "other"), "lookup", "--live", "--csv"]
    found = invoke(other, env={"ACTIVITY_TRACKER_URL": url})
    assert found.stdout == "date,bucket,count,low,high,suspect,complete\n"


@pytest.mark.parametrize("command", ["lookup", "collapse", "import"])
@pytest.mark.parametrize("name", ["url", "data", "secret"])
def test_an_empty_option_is_none_of_the_defaults(tmp_path, name, command):
    for options in ([f"--{name}", "", command], [command, f"--{name}="]):
        result = invoke(options, env={"HOME": str(tmp_path)})
        assert result.exit_code == 2
        assert f"--{name} is empty" in result.stderr
    assert not [*tmp_path.iterdir()]


def test_an_empty_variable_is_none_of_the_defaults(run, tmp_path):
    run("archive", tmp_path / "archive")
    home = {"HOME": str(tmp_path / "home")}
    lookup = ["--data", str(tmp_path / "data"), "lookup"]
    from_archive = ["lookup", "--archive", str(tmp_path / "archive")]
    empty_url, empty_secret = ({**home, f"ACTIVITY_TRACKER_{name}": ""} for name in ("URL", "SECRET"))
    for arguments, env in (
        (["collapse"], empty_url),
        (["collapse"], empty_secret),
        (lookup, empty_secret),
        (from_archive, empty_secret),
    ):
        result = invoke(arguments, env=env)
        assert result.exit_code == 2
        assert "is set, but empty" in result.stderr
    assert not (tmp_path / "home").exists()
    for arguments in (lookup, from_archive):  # what is typed goes before the environment
        assert invoke(arguments, env=empty_url).exit_code == 0


@pytest.mark.parametrize("given_by", ["option", "environment"])
def test_another_secret_is_refused(run, given_by, monkeypatch):
    run("track", "x")
    if given_by == "environment":
        monkeypatch.setenv("ACTIVITY_TRACKER_SECRET", "s")
        options = ("--timezone", "UTC")
    else:
        options = ("--timezone", "UTC", "--secret", "s")
    assert "secret (fingerprint)" in run("track", "x", options=options, status=1).stderr
    result = run("doctor", options=options)
    assert "Warning: active:{meta} was written with other settings" in result.stdout


def test_a_redis_server_over_tcp(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "access.log"
    exact = write_log(log)
    url = f"redis://127.0.0.1:{port}/0"

    def run(*arguments):
        result = invoke(["--url", url, "--timezone", "UTC", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    command = [
        program("redis"),
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--dir",
        str(tmp_path),
        "--save",
        "",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(
                port=port, retry=Retry(ConstantBackoff(0.1), 100, (OSError, redis.ConnectionError))
            ) as client:
                client.ping()
            run("import", log)
            assert "Redis " in run("doctor")
            assert "4 counts stored" in run("collapse")
            assert "2015-05-17" in run("lookup")
            found = {row["date"]: row["count"] for row in json.loads(run("lookup", "--json"))}
            assert found.keys() == exact.keys()
            assert all(near(found[day], len(ids)) for day, ids in exact.items())
            assert "persistence" in run("doctor")
        finally:
            process.terminate()


def test_help_and_version():
    assert "doctor" in invoke(["--help"]).stdout
    for name in ("track", "import", "collapse", "lookup", "doctor", "demo"):
        assert invoke([name, "--help"]).exit_code == 0
    assert invoke(["--version"]).exit_code == 0
