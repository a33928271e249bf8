"""A master that Sentinel knows: a failover is no error to a caller, and loses nothing of a writer's."""

import asyncio
from contextlib import closing

import pytest
import redis
import redis.sentinel

from activity_tracker_hll import ActivityTracker, HyperLogLog
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.moments import NOON, TODAY
from helpers.sentinels import SERVICE, Sentinels
from helpers.servers import eventually, program

OPTIONS = {"timezone": "UTC", "clock": lambda: NOON, "socket_timeout": 1.0}
KEY = f"{{active:daily-{TODAY:%Y%m%d}}}:hll"


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Sentinels that elect nobody, as each wants to lead, try again seconds later, whoever the client is."""
    monkeypatch.setattr("activity_tracker_hll.backends.redis._FAILOVER_S", 30.0)


@pytest.fixture(params=["valkey", "redis"])
def sentinels(request, tmp_path):
    with closing(Sentinels(program(request.param), tmp_path)) as sentinels:
        sentinels.start()
        yield sentinels


@pytest.mark.parametrize("hangs", [False, pytest.param(True, marks=pytest.mark.extended)])
def test_a_failover_is_no_error_to_a_caller(sentinels, hangs):
    with ActivityTracker(["daily"], url=sentinels.url, **OPTIONS) as tracker:
        tracker.track_many(range(100))
        sentinels.master.client.wait(1, 5000)
        sentinels.master.pause() if hangs else sentinels.master.kill()
        tracker.track(id="after")
        assert sentinels.replica.client.info("replication")["role"] == "master"
        assert tracker.lookup(live=True, start=TODAY)[-1][1] == {None: 101}


def test_a_failover_loses_nothing_of_a_writers(sentinels):
    with ActivityTracker(["daily"], url=sentinels.url, **OPTIONS) as tracker:
        with tracker.buffered(flush_interval=0.1, refresh_interval=3600) as writer:
            for id in range(500):
                writer.track(id=id)
            assert writer.flush(10).pending == 0
            sentinels.replica.pause()  # it misses what comes now
            for id in range(500, 1000):
                writer.track(id=id)
            assert writer.flush(10).pending == 0
            sentinels.master.kill()
            sentinels.replica.resume()
            for id in range(1000, 1500):
                writer.track(id=id)
            assert writer.flush(30).pending == 0
            expected = HyperLogLog(range(1500))
            eventually(lambda: HyperLogLog.from_bytes(sentinels.replica.client.get(KEY)) == expected)


def test_awaited(sentinels):
    async def main():
        async with AsyncActivityTracker(["daily"], url=sentinels.url, **OPTIONS) as tracker:
            await tracker.track_many(range(100))
            sentinels.master.client.wait(1, 5000)
            sentinels.master.kill()
            await tracker.track(id="after")
            return await tracker.lookup(live=True, start=TODAY)

    assert asyncio.run(main())[-1][1] == {None: 101}


def test_a_client_of_sentinel_that_is_handed_in(sentinels):
    sentinel = redis.sentinel.Sentinel([("127.0.0.1", port) for port in sentinels.ports])
    with ActivityTracker(["daily"], client=sentinel.master_for(SERVICE), timezone="UTC") as tracker:
        tracker.track(id=1)
    assert len(sentinels.master.client.keys("*}:hll")) == 1
