"""The writer in processes that fork, end and are ended, and with odd callers: counts right, nothing hangs.

Each test runs a service in processes of its own, with warnings as errors, and compares the registers on
the server with those of all ids that were tracked.
"""

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from activity_tracker_hll import bulk
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty, fold
from helpers.faults import Node
from helpers.moments import TODAY
from helpers.servers import free_port, program

pytestmark = pytest.mark.either_server

# Forks with threads are what is tested here; newer Pythons warn of them.
STRICT = ("-W", "error", "-W", "ignore:This process:DeprecationWarning", "-X", "faulthandler")
START = """
import os, signal, sys, threading, time
from activity_tracker_hll import ActivityTracker

SOCKET = sys.argv[1]
tracker = ActivityTracker(["daily"], unix_socket_path=SOCKET, timezone="UTC")

def the_writers_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("activity-tracker-hll")]

def wait_until_pushed(events):
    until = time.monotonic() + 60
    while writer.statistics.pushed < events and time.monotonic() < until:
        time.sleep(0.002)
    assert writer.statistics.pushed >= events, writer.statistics
"""


def service(body, address, *arguments, setup=""):
    """Start a script: the writer is made by it."""
    script = textwrap.dedent(setup) + START + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, *STRICT, "-c", script, str(address), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process, code=0, timeout=120):
    """What it printed, once it has ended."""
    try:
        out, problems = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler tells where each thread stands
        out, problems = process.communicate()
        pytest.fail(f"does not end: {problems}")
    assert process.returncode == code, problems
    return out, problems


def run(body, server, *arguments, **options):
    out, problems = finished(service(body, server.options["unix_socket_path"], *arguments, **options))
    assert problems == ""
    return out


def registers(ids):
    expected = empty()
    fold(expected, bulk.hashes_of_bytes([id.encode() for id in ids]))
    return expected.tolist()


def held(client, bucket=""):
    blob = client.get(f"{{active:daily-{TODAY:%Y%m%d}{bucket}}}:hll")
    return codec.decode(blob).tolist() if blob else empty().tolist()


def counts(server, *buckets):
    tracker = server.tracker(clock=time.time)
    return {
        bucket: int(n) for bucket, n in tracker.lookup(live=True, start=TODAY, buckets=buckets)[-1][1].items()
    }


# Forks


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
        writer = tracker.buffered(flush_interval=3600)
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

            writer = tracker.buffered(flush_interval=3600)

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
        writer = tracker.buffered(flush_interval=3600)
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


# Ends


def test_the_end_of_the_interpreter_pushes_what_is_left(real_server):
    run(
        """
        writer = tracker.buffered(flush_interval=3600)
        for n in range(5000):
            writer.track(id=f"i{n}")
        """,
        real_server,
    )
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


@pytest.mark.parametrize("how", ["raise SystemExit(0)", "signal.raise_signal(signal.SIGTERM)"])
def test_sigterm_that_ends_the_interpreter_loses_nothing(real_server, how):
    run(
        f"""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        writer = tracker.buffered(flush_interval=3600)
        for n in range(5000):
            writer.track(id=f"i{{n}}")
        {how}
        """,
        real_server,
    )
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


def test_sigterm_while_a_writer_is_closed_loses_nothing(real_server):
    """The server hangs; it is back before the end of the interpreter has waited for it in vain."""
    run(
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        writer = tracker.buffered(flush_interval=3600)
        for n in range(5000):
            writer.track(id=f"i{n}")
        flush_within = writer.flush_within

        def interrupted(limit):
            writer.flush_within = flush_within
            signal.raise_signal(signal.SIGTERM)

        writer.flush_within = interrupted
        writer.close()
        """,
        real_server,
    )
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_an_end_that_runs_nothing_keeps_what_was_pushed(real_server, end):
    process = service(
        f"""
        writer = tracker.buffered(flush_interval=0.02)
        for n in range(5000):
            writer.track(id=f"i{{n}}")
        wait_until_pushed(5000)
        {end}
        """,
        real_server.options["unix_socket_path"],
    )
    finished(process, 7 if "exit" in end else -signal.SIGKILL)
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


@pytest.mark.parametrize("way", ["exit", "close"])
def test_an_end_while_the_server_hangs(started, tmp_path, way):
    """It takes as long as it was told, and says how much is lost."""
    started("valkey")  # or skipped
    node = Node(program("valkey"), tmp_path)
    node.start()
    try:
        process = service(
            """
            tracker = ActivityTracker(["daily"], port=int(SOCKET), timezone="UTC")
            writer = tracker.buffered(flush_interval=0.02, close_timeout=1.5)
            for n in range(100):
                writer.track(id=f"i{n}")
            wait_until_pushed(100)
            print("ready", flush=True)
            sys.stdin.readline()
            for n in range(77):
                writer.track(id=f"late{n}")
            if sys.argv[2] == "close":
                statistics = writer.close()
                assert statistics.pending == 77
                assert statistics.last_error is not None
            """,
            node.port,
            way,
        )
        assert process.stdout.readline() == "ready\n"
        node.pause()
        start = time.monotonic()
        process.stdin.write("go\n")
        process.stdin.flush()
        _, problems = finished(process)
        assert time.monotonic() - start < 30
        assert "77 events were not pushed in time and are lost" in problems
    finally:
        node.resume()
        node.close()


# Odd callers


def test_signal_handlers_track(real_server):
    """A thousand times a second, in the middle of other calls of the same writer and of its start."""
    out = run(
        """
        import itertools

        numbers = itertools.count()

        def handle(*_):  # which may be interrupted by the next signal
            n = next(numbers)
            writer.track(id=f"s{n}")
            writer.track(id=f"m{n}", bucket="b", old_id=f"x{n}", old_bucket="a")

        writer = tracker.buffered(flush_interval=0.01)
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        n = 0
        until = time.monotonic() + 3
        while time.monotonic() < until:
            writer.track(id=f"i{n}")
            writer.track(id=f"i{n}", bucket=f"n{n % 50}")
            if n % 1000 == 0:
                writer.flush()
            n += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert writer.close().pending == 0
        print(n, next(numbers))
        """,
        real_server,
    )
    own, handled = map(int, out.split())
    assert handled > 100
    assert held(real_server.client) == registers(
        [f"i{n}" for n in range(own)] + [f"s{n}" for n in range(handled)]
    )
    assert held(real_server.client, ":b") == registers(f"m{n}" for n in range(handled))


def test_the_garbage_collector_tracks(real_server):
    out = run(
        """
        import gc

        class Session:
            def __init__(self, n):
                self.n, self.itself = n, self

            def __del__(self):
                global collected
                writer.track(id=f"g{self.n}")
                writer.track(id=f"g{self.n}", bucket="b", old_id=f"o{self.n}", old_bucket="a")
                collected += 1

        collected = 0
        writer = tracker.buffered(flush_interval=0.005)
        gc.set_threshold(50)
        for n in range(20_000):
            Session(n)
            writer.track(id=f"i{n}")
        while collected < 20_000:  # one that runs in another thread makes this one return at once
            gc.collect()
            time.sleep(0.001)
        assert writer.close().pending == 0
        print(collected)
        """,
        real_server,
    )
    assert int(out) == 20_000
    ids = [f"{kind}{n}" for kind in "gi" for n in range(20_000)]
    assert held(real_server.client) == registers(ids)


def test_gevent_that_patched_everything(real_server):
    pytest.importorskip("gevent")
    out = run(
        """
        writer = tracker.buffered(flush_interval=0.02)
        pushed = []

        def client(number):
            for n in range(500):
                writer.track(id=f"{number}-{n}")
                writer.track(id=number, bucket="member", old_id=f"s{number}", old_bucket="anon")
                gevent.sleep(0)

        gevent.joinall([gevent.spawn(client, number) for number in range(20)])
        wait_until_pushed(1)
        left = writer.flush(30)
        assert left.pending == 0, left
        writer.track(id="left to the end")
        """,
        real_server,
        setup="""
        import gevent.monkey
        gevent.monkey.patch_all()
        import gevent
        """,
    )
    assert out == ""
    ids = [f"{number}-{n}" for number in range(20) for n in range(500)] + ["left to the end"]
    assert held(real_server.client) == registers(ids)
    assert counts(real_server, "anon", "member") == {"anon": 0, "member": 20}


# Servers of web applications

APPLICATION = (
    START
    + """
writer = tracker.buffered(flush_interval=0.05)

def application(environ, start_response):
    writer.track(id=environ["PATH_INFO"][1:])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
)


@pytest.mark.parametrize("preload", [False, True], ids=["workers load it", "preloaded"])
def test_gunicorn_with_four_workers(real_server, tmp_path, preload):
    (tmp_path / "service.py").write_text(
        APPLICATION.replace("sys.argv[1]", repr(real_server.options["unix_socket_path"]))
        + ("writer.track(id='of the master')\n" if preload else "")
    )
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "service:application", "--workers", "4"]
    command += ["--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "--log-level", "warning"]
    process = subprocess.Popen(
        [*command, *(["--preload"] if preload else [])], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_port(port, process)
        with ThreadPoolExecutor(8) as pool:
            pids = set(pool.map(lambda n: get(port, f"/v{n}"), range(2000)))
    finally:
        process.terminate()
        _, problems = process.communicate(timeout=60)
    assert (process.returncode, problems) == (0, "")
    assert len(pids) == 4
    ids = [f"v{n}" for n in range(2000)] + (["of the master"] if preload else [])
    assert held(real_server.client) == registers(ids)


def wait_for_port(port, process):
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail("the application does not start")


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()
