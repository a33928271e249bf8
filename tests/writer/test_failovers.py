"""Whatever fails, forks or takes over from whom: in the end the server has what a plain tracker sent it."""

import os
import random

import pytest

from activity_tracker_hll.hll import codec
from helpers.servers import back, left
from helpers.still import Still

SEEDS = [
    *range(2),
    *(pytest.param(seed, marks=pytest.mark.extended) for seed in range(2, 20)),
    *(pytest.param(seed, marks=pytest.mark.long) for seed in range(20, 400)),
]
BUCKETS = ("a", "c", "x", "y", None)
STEPS = 70


@pytest.mark.parametrize("seed", SEEDS)
def test_in_the_end_the_server_has_everything(real_server, seed):
    run = Run(real_server, seed)
    for _ in range(STEPS):
        run.step()
        run.check_numbers()
    run.end()


class Run:
    """One writer, and one tracker beside it that nothing happens to.

    The server plays two nodes. It loses data by a failover, to a replica that has nothing or what there was a
    while ago, or by eviction, which is noticed at the next event of the bucket.
    """

    def __init__(self, server, seed):
        self.random = random.Random(seed)
        choose = self.random.choice
        self.server, self.kinds = server, choose([["hourly"], ["daily", "monthly"], ["hourly", "daily"]])
        self.moves, self.is_cluster, self.evicts = (choose([True, False]) for _ in range(3))
        self.writer = Still(server, kinds=self.kinds, refresh_interval=choose([20, 10**6]))
        self.writer.seed(seed)
        clock = lambda: self.writer.now  # noqa: E731
        self.plain = server.tracker(self.kinds, namespace="plain", clock=clock, timezone="UTC")
        self.replica: dict[bytes, bytes] = {}
        self.elections = 0
        self.run_ids, self.addresses = {"a": 0, "z": 0}, {"a": "a", "z": "z"}
        if self.is_cluster:
            self.writer.line.node_of = lambda key, _shard: self.addresses[self.node(key)]
        self.tell()
        self.abandoned = []

    def node(self, key):
        return "a" if self.is_cluster and key.partition("}")[0].rpartition(":")[2] < "n" else "z"

    def tell(self):
        nodes = self.run_ids if self.is_cluster else ["z"]
        texts = [f"# Node {self.addresses[node]}\r\nrun_id:{node}{self.run_ids[node]}\r\n" for node in nodes]
        self.writer.line.info = (
            "".join(texts) if self.is_cluster else texts[0].partition("\r\n")[2]
        ).encode()

    def keys(self):
        return self.server.client.keys("{written:*")

    # What happens

    def step(self):
        happens = [self.track, self.writer.drain, self.push, self.wait, self.fail_over, self.replicate]
        happens += [self.next_window, self.fork, self.evict]
        self.random.choices(happens, [45, 10, 30, 5, 3, 2, 1, 2, 2])[0]()

    def track(self):
        for _ in range(self.random.randrange(1, 8)):
            self.event()

    def event(self):
        choose, number = self.random.choice, self.random.randrange
        bucket, id = choose(BUCKETS), f"u{number(12)}"
        moved = {"old_id": id, "old_bucket": bucket} if self.moves else {"id": id, "bucket": bucket}
        event = choose(
            [
                {"id": id, "bucket": bucket},
                {"id": f"v{number(5000)}", "bucket": bucket},
                {"id": f"e{number(40)}", "bucket": bucket, "periods": [choose(self.kinds)]},
                moved,
                {"id": id, "bucket": choose(BUCKETS)} | (moved if self.moves else {}),
                None,
            ]
        )
        first = 2000 * number(3)
        many = range(first, first + choose([30, 900, 3000]))
        for tracker in (self.writer, self.plain):
            if event is None:
                tracker.track_many(many, bucket=bucket)
            else:
                tracker.track(**event)

    def push(self):
        if self.random.random() < 0.3:
            self.writer.line.meanwhile = self.meanwhile
        if self.random.random() < 0.07:
            self.fork_amid_a_push()
        else:
            fail_at = self.random.choice([None, None, 1, 2, 3, 4, 5, 6])
            self.writer.push(fail_at, after=self.random.random() < 0.5)
        self.writer.line.meanwhile, self.writer.line.fail_at = lambda _commands: None, None

    def meanwhile(self, _commands):
        for chance, happens in ((0.3, self.event), (0.2, self.writer.drain), (0.1, self.evict)):
            if self.random.random() < chance:
                happens()
        if self.random.random() < 0.07:
            self.fail_over()

    def fork_amid_a_push(self):
        """The child, which goes on here, has nobody who would close what the pusher was doing."""
        pushing = self.writer.pushing()
        self.abandoned.append(pushing)
        try:
            commands = next(pushing)
            for _ in range(self.random.randrange(8)):
                commands = pushing.send(self.writer.line.execute(commands))
        except StopIteration:
            pass
        self.fork()

    def fork(self):
        self.writer.after_fork(os.getppid())
        self.writer.buffer.take_over(self.writer.now)

    def wait(self):
        self.writer.wait(self.random.choice([1, 3, 30]))

    def next_window(self):
        self.writer.drain()
        self.writer.now += self.random.choice([3600, 86400])
        self.writer.drain()

    def replicate(self):
        self.replica = {key: self.server.client.dump(key) for key in self.keys()}

    def fail_over(self):
        node, lags = self.random.choice("az") if self.is_cluster else "z", self.random.random() < 0.5
        for key in self.keys():
            if self.node(key.decode()) == node:
                self.server.client.delete(key)
                if lags and self.replica.get(key):
                    self.server.client.restore(key, 0, self.replica[key])
        self.elections += 1
        self.run_ids[node] = self.elections
        if self.random.random() < 0.5:
            self.addresses[node] = f"{node}{self.elections}"
        self.tell()

    def evict(self):
        if self.evicts and (keys := self.keys()):
            self.server.client.delete(self.random.choice(keys))

    # Checks

    def check_numbers(self):
        numbers = self.writer.statistics
        assert numbers.tracked == numbers.pushed + numbers.pending + numbers.dropped + numbers.late

    def end(self):
        for id in ("last", "very last"):  # what was evicted is noticed; and what was amid that
            for bucket in BUCKETS:
                for tracker in (self.writer, self.plain):
                    tracker.track(id=id, bucket=bucket)
            self.writer.wait(2)
            assert self.writer.push_all(everything=True) == []
        self.check_numbers()
        assert self.writer.statistics.pending == 0
        assert all(state.is_idle for state in self.writer.buckets.values())
        for period in self.writer.buckets.window.periods:
            for bucket in BUCKETS:
                found, wanted = (
                    self.held(tracker, period, bucket) for tracker in (self.writer.tracker, self.plain)
                )
                assert found == wanted, (period, bucket)

    def held(self, tracker, period, bucket):
        keys = tracker.backend.keys.bucket(period, bucket)
        blobs = self.server.client.mget(keys.hll, keys.moved)
        sketches = [None if blob is None else codec.decode(blob).tobytes() for blob in blobs]
        return *sketches, left(self.server.client, keys), back(self.server.client, keys)
