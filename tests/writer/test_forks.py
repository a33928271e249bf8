"""Writers in processes that fork: counts right, nothing hangs.

Each test runs a service in processes of its own, and compares the registers on the server with those of all
ids that were tracked.
"""

import subprocess
import sys
import textwrap
import time

import pytest

from helpers.services import START, STRICT, counts, held, registers, run

pytestmark = pytest.mark.on_redis("long")  # a fork is no matter of the server


@pytest.mark.extended
def test_forks_while_the_threads_are_busy(real_server):
    """200 forks from under a writer at full load; children use theirs, and end with os._exit."""
    out = run(
        """
        writer = tracker.buffered(flush_interval=0.005)
        ended = threading.Event()

        def load():
            n = 0
            while not ended.is_set():
                for _ in range(200):
                    writer.track(id=f"p{n}")
                    n += 1
                time.sleep(0.0005)
            print(n)

        loads = threading.Thread(target=load)
        loads.start()
        for child in range(200):
            pid = os.fork()
            if pid == 0:
                try:
                    signal.alarm(60)
                    assert the_writers_threads() == []
                    for n in range(20):
                        writer.track(id=f"c{child}-{n}")
                    assert len(the_writers_threads()) == 2
                    assert writer.close().pending == 0
                    assert the_writers_threads() == []
                    os._exit(0)
                finally:
                    os._exit(1)
            _, status = os.waitpid(pid, 0)
            assert status == 0, (child, status)
        ended.set()
        loads.join()
        assert writer.close().pending == 0
        assert the_writers_threads() == []
        """,
        real_server,
    )
    ids = [f"p{n}" for n in range(int(out))] + [f"c{child}-{n}" for child in range(200) for n in range(20)]
    assert held(real_server.client) == registers(ids)


def test_a_fork_while_a_thread_holds_the_lock_of_the_pool(real_server):
    """redis-py takes it as soon as it notices the fork, and in the child nobody gives it back."""
    run(
        """
        for_writer, backends = tracker.backend.for_writer, []
        tracker.backend.for_writer = lambda patience: backends.append(for_writer(patience)) or backends[0]
        writer = unhurried_writer()
        writer.track(id="p")
        assert writer.flush().pending == 0
        lock = backends[0].client().connection_pool._lock  # redis-py's own, and private
        held, go_on = threading.Event(), threading.Event()

        def hold():
            with lock:
                held.set()
                go_on.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            writer.track(id="c")
            os._exit(writer.close(20).pending)
        go_on.set()
        holder.join()
        assert os.waitpid(pid, 0)[1] == 0
        """,
        real_server,
    )
    assert held(real_server.client) == registers(["p", "c"])


def test_threads_that_fork_at_once(real_server):
    """None releases the locks of another, nor waits for ever for one."""
    out = run(
        """
        writers = [tracker.buffered(), tracker.buffered()]
        for writer in writers:
            writer.track(id="before")

        class Lock:
            "What is done with it is followed by a turn of the other threads, as may always happen."

            def __init__(self, lock):
                self.lock = lock

            def acquire(self):
                self.lock.acquire()
                time.sleep(0.001)
                return True

            def release(self):
                self.lock.release()
                time.sleep(0.001)

        def locks(of_writer):
            return lambda: [Lock(lock) for lock in of_writer()]

        for writer in writers:
            writer.locks = locks(writer.locks)
        together = threading.Barrier(4)

        def fork():
            for _ in range(10):
                together.wait()
                pid = os.fork()
                if pid == 0:
                    signal.alarm(15)
                    for writer in writers:
                        writer.track(id="child")
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0

        threads = [threading.Thread(target=fork) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(sum(writer.close().pushed for writer in writers))
        """,
        real_server,
        # They hold locks during a fork, too, but for this behind those of writers.
        setup="import concurrent.futures.thread, logging\n",
    )
    assert out == "2\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_push_before_they_end(real_server, tmp_path, method):
    module = tmp_path / "service.py"
    module.write_text(
        START
        + textwrap.dedent(
            """
            import multiprocessing

            writer = unhurried_writer()

            def work(number):
                for n in range(100):
                    writer.track(id=f"{number}-{n}")

            if __name__ == "__main__":
                writer.track(id="of the parent")
                context = multiprocessing.get_context(sys.argv[2])
                children = [context.Process(target=work, args=(number,)) for number in range(4)]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
                    assert child.exitcode == 0
            """
        )
    )
    command = [sys.executable, *STRICT, str(module), real_server.options["unix_socket_path"], method]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    ids = [f"{number}-{n}" for number in range(4) for n in range(100)] + ["of the parent"]
    assert held(real_server.client) == registers(ids)


@pytest.mark.parametrize("parent", ["ends", "goes on"])
def test_a_daemon_that_its_parent_leaves_behind(real_server, tmp_path, parent):
    """Forked twice, as daemons are; a parent that just ends leaves its moves to the daemon."""
    log = tmp_path / "log"
    run(
        """
        writer = tracker.buffered(flush_interval=0.1)
        writer.track(id="s1", bucket="anon")
        writer.track(id="u1", bucket="member", old_id="s1", old_bucket="anon")
        writer.track(id="s2", bucket="anon")
        if os.fork():
            if sys.argv[3] == "ends":
                os._exit(0)
            writer.track(id="of the parent", bucket="member")
            writer.close()
            sys.exit()
        os.setsid()
        if os.fork():
            os._exit(0)
        for handle in (0, 1, 2):
            os.close(handle)
        os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)
        os.dup2(0, 1)
        os.dup2(0, 2)
        signal.alarm(60)
        writer.track(id="of the daemon", bucket="member")
        time.sleep(0.5)
        writer.track(id="later", bucket="member")
        print("lost", writer.close().pending, flush=True)
        """,
        real_server,
        log,
        parent,
    )
    until = time.monotonic() + 60
    while not (log.exists() and log.read_text().startswith("lost")) and time.monotonic() < until:
        time.sleep(0.01)
    assert log.read_text() == "lost 0\n"
    assert counts(real_server, "anon", "member") == {"anon": 1, "member": 3 + (parent == "goes on")}


@pytest.mark.parametrize("parent", ["ends", "goes on"])
def test_a_child_that_tracks_nothing(real_server, tmp_path, parent):
    """It sends nothing and counts nothing, unless nobody else can send what was tracked before the fork."""
    log = tmp_path / "log"
    run(
        """
        writer = unhurried_writer()
        writer.track(id="s1", bucket="anon")
        writer.track(id="u1", bucket="member", old_id="s1", old_bucket="anon")
        parent = os.getpid()
        if os.fork():
            if sys.argv[3] == "ends":
                os._exit(0)
            os.wait()
            writer.close()
            sys.exit()
        signal.alarm(60)
        os.dup2(os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY), 1)
        os.dup2(1, 2)
        assert writer.statistics.tracked == writer.statistics.pending == 0
        while sys.argv[3] == "ends" and os.getppid() == parent:
            time.sleep(0.001)
        statistics = writer.close()
        print(statistics.tracked, statistics.pending, statistics.bytes > 0, flush=True)
        """,
        real_server,
        log,
        parent,
    )
    until = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    assert log.read_text() == f"0 0 {parent == 'ends'}\n"
    assert counts(real_server, "anon", "member") == {"anon": 0, "member": 1}


@pytest.mark.parametrize("server", ["up", pytest.param("down", marks=pytest.mark.extended)])
def test_threads_import_nothing(real_server, server):
    """A child that is forked amid another thread's import waits for ever where it imports the same.

    What it finds of it is not whole, either.
    """
    run(
        """
        import logging, uuid
        import numpy as np

        logging.disable()  # of a server that is down
        socket = SOCKET if sys.argv[2] == "up" else SOCKET + "-none"
        tracker = ActivityTracker(["daily"], unix_socket_path=socket, timezone="UTC", retries=0)
        writer = tracker.buffered(flush_interval=0.01, close_timeout=0.1)
        before = set(sys.modules)
        ids = [7, "seven", b"seven", uuid.UUID(int=7), np.int64(8)]
        for n in range(3):
            for id in ids:
                writer.track(id=id)
                writer.track(id=f"u{id}", bucket="member", old_id=f"s{id}", old_bucket="anon")
            writer.track_many(ids=ids)
            writer.track_many(ids=np.arange(20_000), bucket=f"{n}")
            writer.track_many(ids=np.array(["a", "b"]))
            writer.track_many(ids=np.array([b"a", b"b"]))
            writer.flush(0.5)
            for id in ids:
                writer.track(id=f"s{id}", bucket="anon")  # it comes back
            writer.flush(0.5)
        assert bool(writer.statistics.last_error) == (sys.argv[2] == "down")
        assert sorted(set(sys.modules) - before) == []
        """,
        real_server,
        server,
    )
