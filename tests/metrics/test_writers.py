"""Statistics of writers as Prometheus reads them."""

import asyncio

import pytest

from activity_tracker_hll import ArgumentTypeError
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from activity_tracker_hll.metrics import WriterCollector

PREFIX = "activity_tracker_hll_"


def scraped(registry):
    """{(metric, writer): value}, of what a scrape answers."""
    text = generate_latest(registry).decode()
    return {
        (sample.name.removeprefix(PREFIX), sample.labels["writer"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_the_statistics(server, unhurried):
    registry = CollectorRegistry()
    tracker = server.tracker(["daily", "monthly"])
    with tracker.buffered(flush_interval=3600) as web, tracker.buffered(flush_interval=3600) as jobs:
        registry.register(WriterCollector({"web": web, "jobs": jobs}))
        for n in range(3):
            web.track(id=n)
        web.track(id="\ud800")  # no valid id, which is found later
        found = scraped(registry)
        assert {name for name, _ in found} == {
            "events_tracked_total",
            "events_pushed_total",
            "events_dropped_total",
            "events_late_total",
            "sent_bytes_total",
            "events_pending",
            "healthy",
        }
        assert (found["events_tracked_total", "web"], found["events_tracked_total", "jobs"]) == (8, 0)
        assert (found["events_pending", "web"], found["events_pushed_total", "web"]) == (8, 0)
        web.flush(20)
        found = scraped(registry)
        assert (found["events_pending", "web"], found["events_pushed_total", "web"]) == (0, 6)
        assert found["events_dropped_total", "web"] == 2
        assert found["sent_bytes_total", "web"] == web.statistics.bytes > 0
        assert found["healthy", "jobs"] == 1


def test_late_events_and_health(server, unhurried):
    registry = CollectorRegistry()
    server.raise_on("b", TODAY)
    tracker = server.tracker()
    with tracker.buffered(flush_interval=3600) as writer:
        registry.register(WriterCollector({"w": writer}))
        writer.track(id=1, bucket="b")
        writer.flush(0.5)
        assert scraped(registry)["healthy", "w"] == 0
        server.client.flushdb()
        server.client.set(f"active:daily-{YESTERDAY:%Y%m%d}:c", 5)  # counted, and its sketch is gone
        writer.track(id=1, bucket="c", date=YESTERDAY)
        writer.flush(20)
        found = scraped(registry)
        assert (found["events_late_total", "w"], found["events_pushed_total", "w"]) == (1, 1)
        assert found["healthy", "w"] == 1


def test_writers_of_asyncio(real_server):
    async def count():
        options = {"timezone": "UTC", "clock": lambda: NOON, **real_server.options}
        registry = CollectorRegistry()
        async with AsyncActivityTracker(["daily"], **options) as tracker, tracker.buffered() as writer:
            registry.register(WriterCollector({"w": writer}))
            writer.track(id=1)
            await writer.flush()
            return scraped(registry)["events_pushed_total", "w"]

    assert asyncio.run(count()) == 1


def test_one_collector_has_all_writers(server):
    registry = CollectorRegistry(auto_describe=True)  # as the default one
    with server.tracker().buffered() as writer:
        registry.register(WriterCollector({"w": writer}))
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(WriterCollector({"other": writer}))


@pytest.mark.parametrize("writers", [None, [], "w", {1: None}, {"w": print}])
def test_what_is_no_mapping_of_writers(writers):
    with raises(ArgumentTypeError, "writers"):
        WriterCollector(writers)
