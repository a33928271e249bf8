"""A service under load, a server that suffers behind a proxy, and an oracle in good health."""

import gc
import itertools
import random
import threading
import time
from pathlib import Path

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.hll import codec
from helpers.faults import Node, TcpProxy
from helpers.moments import NOON
from helpers.servers import back, left, program

FLUSH = 0.5
LIMIT = 0.4
PERIODS = ("daily", "monthly")
BUCKETS = ("anon", "member", None)


class Load:
    """A service: calls a writer from a thread of its own, and keeps what it said to it."""

    def __init__(self, writer, seed):
        self.writer, self.events, self.raised, self.worst = writer, [], [], (0.0, 0.0)
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        gc.collect()
        gc.freeze()  # or the longest call is the one in which Python looks through all that the tests made
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._stop.set()
        self._thread.join()
        gc.unfreeze()

    def go_on(self, events=400):
        """Wait until so many more events were tracked."""
        until = len(self.events) + events
        while len(self.events) < until and self._thread.is_alive():
            time.sleep(0.005)

    def go_on_for(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.go_on(10)

    def _work(self):
        while not self._stop.wait(0.005):
            for _ in range(5):
                user = self._random.randrange(3000)
                if self._random.random() < 0.2:
                    event = {"id": user, "bucket": "member", "old_id": f"s{user}", "old_bucket": "anon"}
                elif self._random.random() < 0.5:
                    event = {"id": f"s{user}", "bucket": "anon"}
                else:
                    event = {"id": user, "bucket": self._random.choice(("member", None))}
                self.events.append(event)
                queued, start = waited_for_a_processor(), time.perf_counter()
                try:
                    self.writer.track(**event)
                except Exception as error:
                    self.raised.append(error)
                took = time.perf_counter() - start
                self.worst = max(self.worst, (took - (waited_for_a_processor() - queued), took))


def waited_for_a_processor():
    """Seconds this thread could have run and others ran instead."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def keys_of(tracker, kind, bucket):
    calendar = tracker.calendar
    return tracker.backend.keys.bucket(calendar.containing(kind, calendar.local(NOON)).name, bucket)


def state(client, tracker, buckets=BUCKETS):
    """What a server holds: of each bucket and period the registers, of all ids and of those that ever left,
    who is out, and who is back."""
    held = {}
    for bucket, kind in itertools.product(buckets, PERIODS):
        keys = keys_of(tracker, kind, bucket)
        registers = [
            None if blob is None else codec.decode(blob).tobytes()
            for blob in client.mget(keys.hll, keys.moved)
        ]
        held[kind, bucket] = *registers, left(client, keys), back(client, keys)
    return held


class Scene:
    """A server process behind a proxy, a writer that sends through it, and an oracle."""

    def __init__(self, name, directory, oracle, *, start=True, **config):
        self.name, self.directory, self.oracle = name, directory, oracle
        self.node = Node(program(name), directory, **config)
        if start:
            self.node.start()
        self.proxy = TcpProxy(self.node.port)
        self.errors = []

    @property
    def client(self):
        return self.node.client

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.proxy.__exit__()
        self.node.close()

    def tracker(self, **options):
        settings = {
            "port": self.proxy.port,
            "timezone": "UTC",
            "clock": lambda: NOON,
            "socket_timeout": LIMIT,
        }
        return ActivityTracker(PERIODS, **settings | options)

    def wait_for(self, expected, read):
        """Until the server holds what it should, at most a minute."""
        until = time.monotonic() + 60
        while (found := read()) != expected and time.monotonic() < until:
            time.sleep(0.02)
        assert found == expected


def expected(scene, events):
    socket = scene.oracle.connection_pool.connection_kwargs["path"]
    with ActivityTracker(PERIODS, unix_socket_path=socket, timezone="UTC", clock=lambda: NOON) as plain:
        for event in events:
            plain.track(**event)
        return state(scene.oracle, plain)


def suffer(scene, fault, record_property, *, broken=(), **options):
    """Load before, during and after a fault; then nothing may be missing but of broken buckets.

    Returns the errors that the caller was told.
    """
    errors = []
    tracker = scene.tracker(**options)
    # All has to be noticed: nothing is sent again only because time has passed.
    writer = tracker.buffered(flush_interval=FLUSH, refresh_interval=3600, on_error=errors.append)
    with tracker, writer:
        with Load(writer, seed=7) as load:
            load.go_on()
            for _ in fault(scene, load):
                load.go_on()
            load.go_on(100)
        ended = time.monotonic()
        wanted = expected(scene, load.events)
        wanted = {of: held for of, held in wanted.items() if of[1] not in broken}
        buckets = [bucket for bucket in BUCKETS if bucket not in broken]
        scene.wait_for(wanted, lambda: state(scene.client, tracker, buckets))
        record_property("equal to the oracle after the load ended, s", f"{time.monotonic() - ended:.1f}")
        statistics = writer.flush(30)
        assert load.raised == []
        assert statistics.dropped == statistics.late == 0
        assert (statistics.pending == 0) == (statistics.last_error is None) == (not broken)
        assert statistics.tracked == statistics.pushed + statistics.pending
    own, whole = load.worst
    record_property(
        "longest call of track, ms", f"{own * 1000:.1f} ({whole * 1000:.1f} with other processes' turns)"
    )
    assert own < LIMIT  # no call waited for the network
    return errors
