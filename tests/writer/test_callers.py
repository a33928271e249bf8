"""Writers with odd callers: signal handlers, finalizers, greenlets, and workers that a web server forks."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.servers import free_port
from helpers.services import START, counts, held, registers, run

pytestmark = pytest.mark.on_redis("long")  # who calls is no matter of the server


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
        until = time.monotonic() + 1.5
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


@pytest.mark.parametrize("handler", ["raises", "flushes"])
def test_a_signal_at_any_moment_of_a_flush(real_server, handler):
    """It leaves nothing locked, and waits for nothing that is."""
    out = run(
        """
        import itertools

        class Interruption(BaseException):
            pass

        def handle(*_):
            if sys.argv[2] == "raises":
                raise Interruption
            writer.track(id=f"h{moment}")
            writer.flush(0.1)  # in vain amid the statistics, as it is this thread that has the lock

        signal.signal(signal.SIGUSR1, handle)
        signal.alarm(60)
        writer = unhurried_writer()
        writer.track(id="first")
        writer.flush()
        for moment in itertools.count():
            writer.track(id=f"i{moment}")
            moments = itertools.count()

            def tracing(frame, event, argument):
                # Where lines begin it may be traced, but no signal comes.
                if event != "line" and next(moments) == moment:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGUSR1)
                return tracing

            try:
                sys.settrace(tracing)
                writer.flush(20)
            except Interruption:
                pass
            finally:
                sys.settrace(None)
            if next(moments) <= moment:
                break
            assert writer.flush(20).pending == 0
        assert writer.close(20).pending == 0
        print(moment)
        """,
        real_server,
        handler,
    )
    moments = int(out)
    assert moments > 20
    ids = ["first", *(f"i{n}" for n in range(moments + 1))]
    assert held(real_server.client) == registers(
        ids + [f"h{n}" for n in range(moments) if handler == "flushes"]
    )


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
import faulthandler
faulthandler.register(signal.SIGRTMIN)
writer = tracker.buffered(flush_interval=0.05)

def application(environ, start_response):
    writer.track(id=environ["PATH_INFO"][1:])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
)


@pytest.mark.parametrize(
    "preload", [pytest.param(False, marks=pytest.mark.extended), True], ids=["workers load it", "preloaded"]
)
def test_gunicorn_with_four_workers(real_server, tmp_path, preload):
    (tmp_path / "service.py").write_text(
        APPLICATION.replace("sys.argv[1]", repr(real_server.options["unix_socket_path"]))
        + ("writer.track(id='of the master')\n" if preload else "")
    )
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "service:application", "--workers", "4"]
    command += ["--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "--log-level", "warning"]
    command += ["--no-control-socket"]
    process = subprocess.Popen(
        [*command, *(["--preload"] if preload else [])], stderr=subprocess.PIPE, text=True
    )
    pids, tracked = set(), 0
    try:
        wait_for_port(port, process)
        until = time.monotonic() + 60
        with ThreadPoolExecutor(8) as pool:
            # A worker that is told to end before it has begun never hears of it.
            while tracked < 2000 or (len(pids) < 4 and time.monotonic() < until):
                pids.update(pool.map(lambda n: int(get(port, f"/v{n}")), range(tracked, tracked + 500)))
                tracked += 500
    finally:
        problems = problems_of(process, pids)
    assert (process.returncode, problems) == (0, "")
    assert len(pids) == 4
    ids = [f"v{n}" for n in range(tracked)] + (["of the master"] if preload else [])
    assert held(real_server.client) == registers(ids)


def problems_of(process, pids):
    """What a service says until it has ended; of workers that do not, where their threads stand."""
    process.terminate()
    try:
        return process.communicate(timeout=20)[1]
    except subprocess.TimeoutExpired:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGRTMIN)
        return process.communicate(timeout=60)[1]


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
