"""A writer whose threads stand still: a test drains and pushes where it wants to."""

import time
from collections import Counter

from hypothesis import strategies as st

from activity_tracker_hll import BackendConnectionError
from activity_tracker_hll.backends.base import Shared
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import empty
from activity_tracker_hll.tracker import ActivityTracker
from helpers.moments import NOON, TODAY
from helpers.servers import back, left
from helpers.stopped import Stopped

KINDS = ("daily", "monthly")

BUCKETS = ("b", "c", None)

SECOND = 1_000_000


class Line(Shared):
    """The way to the server: a test cuts it, sets the server's clock, or lets another server answer.

    Attributes:
        fail_at: number of the batch that fails; None = none does.
        fail_after: whether the server executes that one first.
        meanwhile: called while the server works on a batch.
        ahead: seconds by which the server's clock is put forward.
        info: what the server answers to INFO, unless it is its own.
    """

    def __init__(self, backend, **settings):
        super().__init__(backend, **settings)
        self.batches, self.sent = 0, Counter()
        self.fail_at, self.fail_after = None, False
        self.meanwhile = lambda commands: None
        self.ahead, self.info = 0, None

    def execute(self, commands, shard=0):
        self.batches += 1
        if self.fail_at == self.batches and not self.fail_after:
            raise BackendConnectionError("cut before")
        replies = super().execute(commands, shard)
        self.sent.update(command[0] for command in commands)
        self.meanwhile(commands)
        if self.fail_at == self.batches:
            raise BackendConnectionError("cut after")
        return [self.told(*pair) for pair in zip(commands, replies, strict=True)]

    def told(self, command, reply):
        if command[0] == "TIME":
            return [b"%d" % (int(reply[0]) + self.ahead), reply[1]]
        return reply if command[0] != "INFO" or self.info is None else self.info


class Timed(ActivityTracker):
    """A tracker that measures time as it is told, and shows its planner: a writer can be made with it.

    Args:
        ticks: microseconds of a clock that is never set.
    """

    def __init__(self, periods, backend, *, ticks, **options):
        super().__init__(periods, backend, **options)
        self.planner = self._planner
        self.planner.ticks = ticks


class Still(Stopped):
    """A writer whose threads are the test."""

    def __init__(self, server, namespace="written", kinds=KINDS, **options):
        self.now, self.later = NOON, 0
        data = {name: options.pop(name) for name in ("secret", "moved_limit") if name in options}
        data["namespace"] = namespace
        self.server, self.real = server, server.name != "fakeredis"
        self.line = Line(server.tracker(kinds, **data).backend, **data)
        self.tracker = Timed(kinds, self.line, timezone="UTC", clock=lambda: self.now, ticks=self.ticks)
        self.planner = self.tracker.planner
        super().__init__(self.planner, self.line, **options)

    def ticks(self):
        return time.monotonic_ns() // 1000 + self.later * SECOND

    @property
    def buckets(self):
        return self.buffer.buckets

    def wait(self, seconds):
        """Time passes, for this process and for the server as it sees it."""
        self.later += seconds
        self.line.ahead += seconds

    def drain(self):
        self.buffer.takes_sketches = self.real
        self.drain_buffer()

    def push(self, fail_at=None, *, after=False):
        self.line.batches, self.line.fail_at, self.line.fail_after = 0, fail_at, after
        self.line.sent.clear()
        return next(iter(self.push_all()), None)

    def keys(self, bucket=None, kind="daily", date=TODAY):
        calendar = self.tracker.calendar
        period = calendar.containing(kind, calendar.moment(date, "date"))
        return self.tracker.backend.keys.bucket(period.name, bucket)

    def registers(self, *bucket, **period):
        blob = self.server.client.get(self.keys(*bucket, **period).hll)
        return empty() if blob is None else codec.decode(blob)

    def left(self, *bucket, **period):
        return left(self.server.client, self.keys(*bucket, **period))

    def back(self, *bucket, **period):
        return back(self.server.client, self.keys(*bucket, **period))


def held(server, tracker, bucket, kind):
    """What the server has of a bucket: registers (or the counts, of a stand-in), who is out, who is back."""
    calendar = tracker.calendar
    period = calendar.containing(kind, calendar.local(NOON))
    keys = tracker.backend.keys.bucket(period.name, bucket)
    if server.name == "fakeredis":
        sketches = [server.client.pfcount(key) for key in (keys.hll, keys.moved)]
    else:
        blobs = server.client.mget(keys.hll, keys.moved)
        sketches = [None if blob is None else codec.decode(blob).tobytes() for blob in blobs]
    return *sketches, left(server.client, keys), back(server.client, keys)


def wait(seconds, *writers):
    """Time passes for all of them."""
    for writer in writers:
        writer.wait(seconds)


IDS = st.sampled_from([f"u{n}" for n in range(6)])

SOME_BUCKETS = st.sampled_from(BUCKETS)

EVENTS = st.one_of(
    st.tuples(st.just("track"), IDS, SOME_BUCKETS),
    st.tuples(st.just("dated"), IDS, SOME_BUCKETS),
    st.tuples(st.just("move"), IDS, SOME_BUCKETS, IDS, SOME_BUCKETS),
    st.tuples(st.just("remove"), IDS, SOME_BUCKETS),
    st.just(("drain",)),
    st.tuples(st.just("push"), st.none() | st.integers(1, 9), st.booleans()),
)

NAMES = {
    "track": ("id", "bucket"),
    "dated": ("id", "bucket"),
    "move": ("id", "bucket", "old_id", "old_bucket"),
    "remove": ("old_id", "old_bucket"),
}


def play(writer, plain, events):
    for what, *parts in events:
        if what == "drain":
            writer.drain()
        elif what == "push":
            fail_at, after = parts
            writer.push(fail_at, after=after)
        else:
            names = NAMES[what]
            event = dict(zip(names, parts, strict=True)) | ({"date": TODAY} if what == "dated" else {})
            writer.track(**event)
            plain.track(**event)
