"""A scenario of collapses, and one taken command by command."""

from contextlib import contextmanager

import pytest

from activity_tracker_hll.planner import Planner
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.servers import Server

BUCKETS = ["a", "b", "c", "d"]

AGGREGATES = {"ab": ["a", "b"], "abc": ["a", "b", "c"], "cd": ["c", "d"]}


def scenario(server: Server, secret=None):
    """Days with plain, moved, empty and legacy buckets, aggregates, and a gap."""
    tracker = server.tracker(buckets=BUCKETS, aggregate_buckets=AGGREGATES, secret=secret)
    for n in (1, 2, 3):
        tracker.track_many(range(10 * n), bucket="a", date=day(n))
        tracker.track(id=1, bucket="b", old_id=1, old_bucket="a", date=day(n))
        tracker.track_many(range(20, 20 + n), bucket="d", date=day(n))
    tracker.track(id=1, bucket="a", date=day(3))
    server.client.sadd(f"active:daily-{day(1):%Y%m%d}:raw:c", *range(5, 25))
    server.client.sadd(f"active:daily-{day(3):%Y%m%d}:raw:a", "x", "y")
    tracker.collapse(date=day(1), max_periods=1)
    return tracker


@contextmanager
def interrupted(tracker, at):
    """What is called in here is interrupted before it sends a command of this name."""
    execute = tracker.backend.execute

    def dies(commands, shard=0):
        if any(command[0] == at for command in commands):
            raise KeyboardInterrupt
        return execute(commands, shard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker.backend, "execute", dies)
        with pytest.raises(KeyboardInterrupt):
            yield


def marks(server: Server):
    """Names of the periods that are marked as holding uncounted data."""
    return {name.decode() for name in server.client.smembers("active:{open}")}


def state(server: Server):
    """Counts, errors, expiries and marks."""
    found = {"marks": server.client.smembers("active:{open}")}
    for name in server.names():
        if name.endswith(":stderr"):
            found[name] = server.client.get(name), server.client.ttl(name)
        elif "{" in name:
            found[name] = server.client.expiretime(name)
        else:
            found[name] = server.client.get(name) if ":raw" not in name else None
    return found


def restore(server: Server, snapshot):
    server.client.flushall()
    for key, ttl, dump in snapshot:
        server.client.restore(key, ttl, dump, absttl=True)


def snapshot(server: Server):
    return [
        (key, max(0, server.client.pexpiretime(key)), server.client.dump(key))
        for key in server.client.scan_iter()
    ]


def operation(tracker):
    aggregates = {name: tuple(sources) for name, sources in AGGREGATES.items()}
    planner = Planner(tracker.backend, tracker.calendar, ("daily",), tuple(BUCKETS), aggregates, lambda: NOON)
    return planner.collapse(None, TODAY, 4, None, None, 0, recount=False)


def steps(tracker):
    """The operation with each command a step of its own, which is yielded before it is taken."""
    running = operation(tracker)
    try:
        batch = next(running)
        while True:
            replies = []
            for command in batch:
                yield command
                replies += tracker.backend.execute([command])
            batch = running.send(replies)
    except StopIteration:
        return


READING = {"EXISTS", "GET", "HGET", "HSCAN", "PFCOUNT", "SSCAN", "TIME", "ZCOUNT", "ZRANGEBYSCORE"}


def ends(commands):
    """After how many of these commands a collapse can end with different things done."""
    return [0, *(number for number, command in enumerate(commands, 1) if command[0] not in READING)]


YNAME = f"daily-{YESTERDAY:%Y%m%d}"


def rows(tracker, start, *buckets, period="daily", live=None):
    return [counts for _, counts in tracker.lookup(period, start=start, buckets=buckets or [None], live=live)]
