"""Archiving under asyncio: the same, in a thread beside the event loop."""

import asyncio
import threading

import pytest

from activity_tracker_hll import Archive, ArchiveError
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.archives import ArchiveFile
from helpers.archives import AGGREGATES, fill, state
from helpers.moments import NOON

KINDS = ["daily", "monthly"]


@pytest.fixture
def tracker(real_server):
    tracker = real_server.tracker(KINDS, aggregate_buckets=AGGREGATES, secret="pepper")
    fill(tracker, real_server.client, 8)
    return tracker


def asynchronous(server):
    return AsyncActivityTracker(KINDS, timezone="UTC", clock=lambda: NOON, **server.options)


def test_it_is_the_same(real_server, tracker, tmp_path):
    tracker.archive(tmp_path / "one")
    before = state(real_server.client)

    async def main():
        async with asynchronous(real_server) as twin:
            done = await twin.archive(tmp_path / "two")
            assert (await twin.examine(archive=tmp_path / "two")).agrees
            real_server.client.flushall()
            assert (await twin.restore(tmp_path / "two")).written == done.held
            with pytest.raises(ArchiveError, match="no such file"):
                await twin.restore(tmp_path / "none")

    asyncio.run(main())
    assert state(real_server.client) == before
    one, two = Archive(tmp_path / "one"), Archive(tmp_path / "two")
    assert one.inventory() == two.inventory()
    assert one.settings == two.settings == tracker.settings


def test_the_event_loop_waits_for_no_disk(real_server, tracker, tmp_path, monkeypatch):
    threads = set()
    original = ArchiveFile._connected  # noqa: SLF001

    def noted(self, **options):
        threads.add(threading.current_thread())
        return original(self, **options)

    monkeypatch.setattr(ArchiveFile, "_connected", noted)

    async def main():
        async with asynchronous(real_server) as twin:
            await twin.archive(tmp_path / "a")
            await twin.restore(tmp_path / "a")

    asyncio.run(main())
    assert threads
    assert threading.main_thread() not in threads
