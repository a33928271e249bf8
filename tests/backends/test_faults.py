"""Faults: processes killed and stopped, replies lost, scripts forgotten, servers that refuse."""

import os
import secrets
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta

import pytest
import redis

from activity_tracker_hll import (
    ActivityTracker,
    BackendAuthError,
    BackendConnectionError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
)
from activity_tracker_hll.backends.embedded import EmbeddedServer
from helpers.collapses import AGGREGATES, BUCKETS, ends, restore, scenario, snapshot, state
from helpers.errors import raises
from helpers.faults import CUT_REPLY, DROP, FORWARD, HOLD, LOSE_REPLY, Proxy
from helpers.moments import NOON, TODAY, YESTERDAY
from helpers.servers import free_port, program


@pytest.fixture
def proxied(real_server, tmp_path):
    """A proxy before a real server, and a way to make trackers that go through it."""
    with Proxy(tmp_path / "p.sock", real_server.options["unix_socket_path"]) as proxy:

        def tracker(**options):
            return ActivityTracker(
                ["daily"], timezone="UTC", clock=lambda: NOON, unix_socket_path=proxy.path, **options
            )

        yield proxy, tracker


COLLAPSER = textwrap.dedent(
    f"""
    import os, sys
    from activity_tracker_hll import ActivityTracker

    def collapse():
        with ActivityTracker(
            ["daily"], unix_socket_path=sys.argv[1], timezone="UTC", clock=lambda: float(sys.argv[2]),
            buckets={BUCKETS}, aggregate_buckets={AGGREGATES}, retries=0,
        ) as tracker:
            tracker.collapse(max_periods=4)

    # Where many are killed, each is a fork: a new interpreter would take most of the time.
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            collapse()
            os._exit(0)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)
    """
)


@pytest.fixture
def collapsers():
    """Starts programs that collapse in a process of their own with each line they read."""
    programs = []

    def start(path):
        command = [sys.executable, "-c", COLLAPSER, path, repr(NOON)]
        programs.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return programs[-1]

    yield start
    for started in programs:
        started.communicate(timeout=60)
        assert started.returncode == 0


def begin(collapser):
    """The id of the process that collapses."""
    collapser.stdin.write("\n")
    collapser.stdin.flush()
    return int(collapser.stdout.readline())


def status(collapser):
    """How it ended."""
    return int(collapser.stdout.readline())


@pytest.mark.extended
def test_kill_9_of_a_collapse_after_each_command(real_server, collapsers, tmp_path):
    """The server sees the first n commands, the process is killed, the next collapse completes it.

    Every other n, and each of them as often as the others in the long run.
    """
    tracker = scenario(real_server)
    before = snapshot(real_server)
    with Proxy(tmp_path / "p.sock", real_server.options["unix_socket_path"]) as proxy:
        collapser = collapsers(proxy.path)

        def relevant():
            return sum(c[0] not in (b"HELLO", b"CLIENT") for c in proxy.commands)

        for _ in range(2):  # the second time the server knows all scripts
            restore(real_server, before)
            proxy.commands.clear()
            begin(collapser)
            assert status(collapser) == 0
        expected = state(real_server)
        names = [c[0].decode() for c in proxy.commands if c[0] not in (b"HELLO", b"CLIENT")]
        cuts = [end for end in ends([(name,) for name in names]) if end < len(names)]
        assert len(cuts) >= 30
        for allowed in cuts[secrets.randbelow(2) :: 2]:
            restore(real_server, before)
            proxy.commands.clear()
            ready = threading.Event()

            def decide(_number, _command, allowed=allowed, ready=ready):
                if relevant() <= allowed:
                    return FORWARD
                ready.set()
                return HOLD

            proxy.decide = decide
            pid = begin(collapser)
            try:
                assert ready.wait(60)
            finally:
                os.kill(pid, signal.SIGKILL)
            assert status(collapser) == signal.SIGKILL
            proxy.decide = lambda _number, _command: FORWARD
            tracker.collapse(max_periods=4)
            assert state(real_server) == expected, f"killed after {allowed} commands, before {names[allowed]}"


@pytest.mark.extended
def test_two_collapsing_processes_at_once(real_server, collapsers):
    scenario(real_server)
    before = snapshot(real_server)
    two = [collapsers(real_server.options["unix_socket_path"]) for _ in range(2)]
    begin(two[0])
    assert status(two[0]) == 0
    expected = state(real_server)
    for _ in range(4):
        restore(real_server, before)
        for collapser in two:
            begin(collapser)
        assert [status(collapser) for collapser in two] == [0, 0]
        assert state(real_server) == expected


@pytest.mark.parametrize("fault", [DROP, LOSE_REPLY, CUT_REPLY])
def test_a_broken_connection_is_retried_and_changes_no_count(proxied, real_server, fault):
    proxy, make = proxied
    tracker = make()
    tracker.track(id="x", bucket="a")
    faults = iter([fault, FORWARD, fault] + [FORWARD] * 100)
    proxy.decide = lambda _number, command: (
        next(faults) if command[0] in (b"PFADD", b"ZADD", b"EVALSHA", b"EVAL") else FORWARD
    )
    tracker.track(id="y", bucket="b", old_id="x", old_bucket="a")
    tracker.track(id="x", bucket="a")
    tracker.track(id="y", bucket="b", old_id="x", old_bucket="a")
    assert real_server.tracker().lookup(buckets=["a", "b"], live=True)[-1][1] == {"a": 0, "b": 1}
    tracker.close()


def test_when_every_retry_fails_the_error_says_so_and_the_next_call_works(proxied):
    proxy, make = proxied
    tracker = make(retries=1)
    tracker.track(id=1)
    proxy.decide = lambda _number, _command: DROP
    with pytest.raises(BackendConnectionError) as caught:
        tracker.track(id=2)
    assert isinstance(caught.value.__cause__, redis.ConnectionError)
    proxy.decide = lambda _number, _command: FORWARD
    tracker.track(id=3)
    assert tracker.lookup(live=True)[-1][1] == {None: 2}
    tracker.close()


def test_a_server_that_does_not_answer_is_given_up(proxied):
    proxy, make = proxied
    tracker = make(socket_timeout=0.05, retries=1)
    tracker.track(id=1)
    proxy.decide = lambda _number, _command: HOLD
    with pytest.raises(BackendTimeoutError):
        tracker.track(id=2)
    proxy.decide = lambda _number, _command: FORWARD
    tracker.track(id=3)
    assert tracker.lookup(live=True)[-1][1] == {None: 2}
    tracker.close()


def test_scripts_the_server_forgot_are_brought_again(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    for step in range(3):
        tracker.track(id=step, bucket="b", old_id=step, old_bucket="a", date=YESTERDAY)
        server.client.script_flush()
    tracker.collapse()
    assert tracker.lookup(start=YESTERDAY, buckets=["a", "b", "t"])[0][1] == {"a": 0, "b": 3, "t": 3}


def test_out_of_memory_is_an_error_and_reading_goes_on(real_server):
    tracker = real_server.tracker()
    tracker.track_many(range(100))
    real_server.client.config_set("maxmemory", 1)
    try:
        with raises(BackendResponseError, "memory"):
            tracker.track(id=1000)
        assert tracker.lookup(live=True)[-1][1][None] == pytest.approx(100, abs=3)
    finally:
        real_server.client.config_set("maxmemory", 0)


def test_wrong_password_and_missing_permission(real_server):
    client = real_server.client
    client.acl_setuser(
        "reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+@connection", "+pfcount"]
    )
    try:
        real_server.tracker().track(id=1)
        with raises(BackendAuthError, "password"):
            real_server.tracker(username="reader", password="wrong", retries=0).track(id=1)
        reader = real_server.tracker(username="reader", password="pw")
        with raises(BackendAuthError, "permission"):
            reader.track(id=2)
        assert reader.lookup(live=True)[-1][1] == {None: 1}
    finally:
        client.acl_deluser("reader")


@pytest.mark.extended
def test_a_read_only_replica(real_server, tmp_path):
    """A replica refuses writes and can be read from."""
    replica = EmbeddedServer(executable=program(real_server.name))
    replica.open()
    at_once = {"repl-diskless-sync-delay": 0}
    master = EmbeddedServer(executable=program(real_server.name), port=free_port(), config=at_once)
    master.open()
    try:
        with ActivityTracker(["daily"], port=master.port, timezone="UTC") as writer:
            writer.track_many(range(10))
        client = redis.Redis(unix_socket_path=str(replica.socket))
        client.replicaof("127.0.0.1", str(master.port))
        while client.info("replication")["master_link_status"] != "up" or not client.keys():
            pass
        with ActivityTracker(
            ["daily"], unix_socket_path=str(replica.socket), timezone="UTC", retries=0
        ) as reader:
            assert reader.lookup(live=True)[-1][1] == {None: 10}
            with pytest.raises(BackendError, match=r"(?i)read.?only"):
                reader.track(id=1)
        client.close()
    finally:
        master.close()
        replica.close()


def test_a_server_that_is_stopped_and_goes_on(real_server):
    """SIGSTOP: time-outs while it is stopped, and what was sent meanwhile counts once."""
    server = EmbeddedServer(executable=program(real_server.name))
    server.open()
    pid = server.process_id()
    with ActivityTracker(
        ["daily"], unix_socket_path=str(server.socket), timezone="UTC", socket_timeout=0.05, retries=1
    ) as tracker:
        tracker.track(id=1)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(BackendTimeoutError):
                tracker.track(id=2)
        finally:
            os.kill(pid, signal.SIGCONT)
        with ActivityTracker(["daily"], unix_socket_path=str(server.socket), timezone="UTC") as patient:
            patient.track(id=2)
            assert patient.lookup(live=True)[-1][1] == {None: 2}
    server.close()


def test_nobody_listens(tmp_path):
    with ActivityTracker(["daily"], unix_socket_path=str(tmp_path / "none.sock"), retries=0) as tracker:
        with pytest.raises(BackendConnectionError):
            tracker.track(id=1)


def test_sketches_that_are_not_kept_lose_nothing_that_was_acknowledged(real_server):
    """Writers and a collapse at once: what is not in the count was refused."""
    accepted, refused, go = [], [], threading.Event()

    def write(number):
        tracker = real_server.tracker(keep_sketches=timedelta(0))
        go.wait()
        for n in range(300):
            id = f"{number}-{n}"
            try:
                tracker.track(id=id, date=YESTERDAY)
                accepted.append(id)
            except Exception:
                refused.append(id)

    real_server.tracker().track(id="first", date=YESTERDAY)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    go.set()
    while len(accepted) < 100 and any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
    real_server.tracker(keep_sketches=timedelta(0)).collapse()
    for thread in threads:
        thread.join()
    count = real_server.tracker().lookup(start=YESTERDAY, end=TODAY)[0][1][None]
    assert len(accepted) + len(refused) == 900
    assert refused
    # As of a Poisson variable, whose tail is longer than that of a normal one.
    assert abs(count - len(accepted) - 1) <= 6 * count.stderr + 3
