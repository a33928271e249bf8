"""Counts of active users as Prometheus reads them: their values, and when the server is asked."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import fakeredis
import numpy as np
import pytest

from activity_tracker_hll import (
    ActivityTracker,
    ArgumentTypeError,
    ArgumentValueError,
    BackendConnectionError,
    Estimate,
)
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import REGISTERS
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.servers import eventually

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from activity_tracker_hll.metrics import CountsCollector

PREFIX = "activity_tracker_hll_"
MIDNIGHT = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC).timestamp()
DAY_S = 86_400


class Clock:
    """Seconds since the epoch, set by hand."""

    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


def scraped(collector):
    """{(metric, period, bucket, state): value}, of what a scrape answers; without those that it lacks."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name.removeprefix(PREFIX), *labels_of(sample)): sample.value
        for family in families
        for sample in family.samples
    }


def labels_of(sample):
    return [sample.labels[name] for name in ("period", "bucket", "state") if name in sample.labels]


@pytest.fixture
def clock():
    return Clock()


def of(found, metric="active_users"):
    """The samples of one metric, by their labels."""
    return {
        labels: value for (name, *rest), value in found.items() for labels in [tuple(rest)] if name == metric
    }


def test_values_are_those_of_lookup(server, clock):
    tracker = server.tracker(
        ["daily", "monthly"], buckets=["web", "app"], aggregate_buckets={"all": ["web", "app"]}
    )
    for number, bucket in enumerate(("web", "app"), 1):
        tracker.track_many(range(700 * number), bucket=bucket, date=YESTERDAY)
        tracker.track_many(range(900 * number), bucket=bucket)
    tracker.collapse(["daily"])
    found = scraped(CountsCollector(tracker, clock=clock))
    names = ["web", "app", "all"]
    [(_, stored)] = tracker.lookup("daily", start=YESTERDAY, buckets=names, live=False)
    expected = {("daily", "collapsed"): stored}
    for kind in ("daily", "monthly"):
        expected[kind, "live"] = tracker.lookup(kind, buckets=names, live=True)[-1][1]
    for (kind, state), counts in expected.items():
        for bucket, count in counts.items():
            low, high = count.interval()
            assert found["active_users", kind, bucket, state] == count > 0
            assert found["active_users_low", kind, bucket, state] == low
            assert found["active_users_high", kind, bucket, state] == high
            assert found["active_users_suspect", kind, bucket, state] == 0
    assert len(of(found)) == 9
    assert of(found, "collapsed_until_timestamp_seconds") == {("daily", name): MIDNIGHT for name in names}
    assert found["up",] == 1
    assert found["counts_updated_timestamp_seconds",] == NOON


def test_an_empty_server(server, clock):
    tracker = server.tracker(["daily"])
    found = scraped(CountsCollector(tracker, clock=clock))
    assert of(found) == {("daily", "(all)", "live"): 0}
    assert of(found, "collapsed_until_timestamp_seconds") == {}
    assert found["up",] == 1


def test_one_day_of_data(server, clock):
    tracker = server.tracker(["daily", "hourly"])
    tracker.track_many(range(10), ["daily"])
    found = scraped(CountsCollector(tracker, ["daily"], clock=clock))
    assert of(found) == {("daily", "(all)", "live"): 10}
    assert of(found, "active_users_low") == {("daily", "(all)", "live"): Estimate(10).interval()[0]}


@pytest.mark.parametrize(("before", "is_found"), [(1, True), (2, True), (7, True), (32, True), (33, False)])
def test_the_newest_collapsed_period_is_looked_for_a_while(server, clock, before, is_found):
    tracker = server.tracker(buckets=["a", "b"])
    tracker.track_many(range(5), bucket="a", date=day(before))
    tracker.track_many(range(4), bucket="a", date=day(40 if before > 32 else before + 2))
    tracker.track_many(range(6), bucket="b", date=YESTERDAY)
    tracker.collapse()
    found = scraped(CountsCollector(tracker, clock=clock))
    assert found["active_users", "daily", "b", "collapsed"] == 6
    ends = MIDNIGHT - DAY_S * (before - 1)
    until = of(found, "collapsed_until_timestamp_seconds").get(("daily", "a"))
    assert (found.get(("active_users", "daily", "a", "collapsed")), until) == (
        (5, ends) if is_found else (None, None)
    )


def test_the_zone_is_that_of_the_data(server, clock):
    with server.tracker(timezone="Pacific/Kiritimati") as writing:  # 14 hours ahead: it is tomorrow there
        writing.track(id=1)
    found = scraped(CountsCollector(server.tracker(timezone=None), clock=clock))
    assert of(found) == {("daily", "(all)", "live"): 1}


@pytest.mark.parametrize(
    ("zone", "evening"),
    [
        ("Europe/Berlin", datetime(2026, 3, 28, 22, 30)),
        ("Europe/Berlin", datetime(2026, 10, 24, 22, 30)),
        ("Pacific/Chatham", datetime(2026, 9, 26, 11, 5)),
    ],
)
def test_hours_that_clocks_skip_or_repeat(server, clock, zone, evening):
    """2:00 is no hour in Berlin one night in spring, and there are two in autumn; on Chatham one is short."""
    tracker = server.tracker(["hourly"], timezone=zone)
    collector = CountsCollector(tracker, clock=clock)
    for hours in range(8):
        clock.now = evening.replace(tzinfo=UTC).timestamp() + 3600 * hours
        [last] = tracker.calendar.before("hourly", tracker.calendar.local(clock.now), 1)
        server.client.set(f"active:{last.name}", hours + 1)
        found = scraped(collector)
        assert found["active_users", "hourly", "(all)", "collapsed"] == hours + 1
        until = found["collapsed_until_timestamp_seconds", "hourly", "(all)"]
        assert until == tracker.calendar.timestamp(last.next().start) <= clock.now


def test_the_largest_of_many_buckets(real_server, clock):
    names = [f"b{number:03}" for number in range(1000)]
    tracker = real_server.tracker(buckets=names)
    for number in (3, 700):
        tracker.track_many(range(number), bucket=names[number])
    tracker.track_many(range(50), bucket="b500", date=YESTERDAY)
    tracker.collapse()
    found = scraped(CountsCollector(tracker, limit=3, clock=clock))
    assert list(of(found)) == [
        ("daily", "b700", "live"),
        ("daily", "b500", "live"),
        ("daily", "b500", "collapsed"),
        ("daily", "b003", "live"),
    ]
    assert found["buckets_left_out", "daily"] == 997


HOSTILE = [
    '" 1\\',
    "<script>alert(1)</script>",
    "a,b='c'",
    "\\n",
    "שלום",
    "é" * 100,
    "(all)",
]


@pytest.mark.parametrize(
    ("generate", "parse"),
    [
        (generate_latest, text_string_to_metric_families),
        (generate_openmetrics, parse_openmetrics),
    ],
)
def test_hostile_names_of_buckets(server, clock, generate, parse):
    tracker = server.tracker(buckets=[*HOSTILE, None])
    tracker.track(id=1)
    registry = CollectorRegistry()
    registry.register(CountsCollector(tracker, clock=clock))
    samples = [sample for family in parse(generate(registry).decode()) for sample in family.samples]
    live = {s.labels["bucket"]: s.value for s in samples if s.name == f"{PREFIX}active_users"}
    # The unnamed bucket is called so; one that really is has to give way.
    assert live == dict.fromkeys(HOSTILE, 0) | {"(all)": 1}
    assert len(samples) == 2 + 4 * len(HOSTILE) + 2


@pytest.mark.parametrize("when", [TODAY, YESTERDAY])
def test_of_suspect_counts_there_are_no_limits(real_server, clock, when):
    tracker = real_server.tracker(buckets=["a"])
    tracker.track(id=1, bucket="a", date=when)
    key = f"{{active:daily-{when:%Y%m%d}:a}}:hll"
    real_server.client.set(key, codec.encode(np.full(REGISTERS, 7, np.uint8)))
    tracker.collapse()
    found = scraped(CountsCollector(tracker, clock=clock))
    state = "live" if when == TODAY else "collapsed"
    assert found["active_users_suspect", "daily", "a", state] == 1
    assert found["active_users", "daily", "a", state] > 0
    assert ("daily", "a", state) not in of(found, "active_users_low") | of(found, "active_users_high")


def test_a_bad_key_hides_no_other_bucket(server, clock, caplog, monkeypatch):
    names = list("abcdefg")
    tracker = server.tracker(buckets=names)
    for name in names:
        tracker.track(id=1, bucket=name)
        server.client.set(f"active:daily-{YESTERDAY:%Y%m%d}:{name}", 5 if name != "d" else "five")
    for name in ("b", "f"):
        server.client.delete(f"{{active:daily-{TODAY:%Y%m%d}:{name}}}:hll")
        server.raise_on(name, TODAY)
    lookup, asked = tracker.lookup, []
    monkeypatch.setattr(
        tracker, "lookup", lambda *args, **options: asked.append(options) or lookup(*args, **options)
    )
    collector = CountsCollector(tracker, clock=clock)
    found = scraped(collector)
    assert of(found) == {
        **{("daily", name, "live"): 1 for name in "acdeg"},
        **{("daily", name, "collapsed"): 5 for name in "aceg"},
    }
    assert found["buckets_unreadable", "daily"] == 3
    assert found["up",] == 1
    assert [len(options["buckets"]) for options in asked] == [7, 5, 5, 4]
    clock.now += 61
    scraped(collector)
    told = [record.message for record in caplog.records if "left out" in record.message]
    assert [message.split(": ")[1] for message in told] == [
        f"daily-{when:%Y%m%d} bucket '{name}'"
        for when, name in ((TODAY, "b"), (TODAY, "f"), (YESTERDAY, "d"))
    ]


def test_settings_that_cannot_be_read_are_of_no_bucket(server, clock):
    tracker = server.tracker(buckets=["a", "b"])
    server.client.set("active:{meta}", "x")
    assert scraped(CountsCollector(tracker, clock=clock)) == {("up",): 0}


def test_the_aggregates_are_those_of_the_shard(real_server, clock, caplog):
    tracker = real_server.tracker(buckets=["a"], shards=[{}, {"db": 1}])
    for shard, name in enumerate("zx"):
        tracker.track_many(range(3), bucket="a", shard=shard)
        tracker.change_settings(aggregate_buckets={name: ["a"]}, shard=shard)
    for shard, name in enumerate("zx"):
        found = of(scraped(CountsCollector(tracker, shard=shard, clock=clock)))
        assert found == {("daily", "a", "live"): 3, ("daily", name, "live"): 3}
    assert caplog.messages == []
    tracker.backend.client(1).flushdb()


# When the server is asked


class Watched(ActivityTracker):
    """Counts the questions; each waits until it may go on, and fails if it is to."""

    asked, error = 0, None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def read_settings(self, *, shard=0):
        self.asked += 1
        assert self.may_go_on.wait(30)
        if self.error is not None:
            raise self.error
        return super().read_settings(shard=shard)


@pytest.fixture
def watched(clock):
    with Watched(["daily"], client=fakeredis.FakeRedis(), timezone="UTC", clock=clock) as tracker:
        yield tracker


def asks(watched, collector):
    """Whether a scrape asks the server."""
    before = watched.asked
    scraped(collector)
    return watched.asked > before


def test_the_server_is_asked_now_and_then(watched, clock):
    collector = CountsCollector(watched, refresh=60, clock=clock)
    assert watched.asked == 0  # registering a collector asks nothing, and needs no server
    found = []
    for now in (0, 0, 59.9, 60, 60, 119, 120, 1000, -1000, -1000):  # a clock that is set back hides nothing
        clock.now = NOON + now
        found.append(asks(watched, collector))
    assert found == [True, False, False, True, False, False, True, True, True, False]


def test_a_period_that_ends_is_asked_about_at_once(watched, clock):
    clock.now = MIDNIGHT - 10
    watched.track(id=1)
    collector = CountsCollector(watched, clock=clock)
    assert of(scraped(collector)) == {("daily", "(all)", "live"): 1}
    clock.now = MIDNIGHT + 1
    watched.error = BackendConnectionError("gone")
    assert of(scraped(collector)) == {}  # no count of yesterday is shown as one of today
    assert watched.asked == 2
    assert not asks(watched, collector)
    clock.now = MIDNIGHT + 61
    watched.error = None
    assert of(scraped(collector)) == {("daily", "(all)", "live"): 0}


def test_a_server_that_is_down(watched, clock, caplog):
    collector = CountsCollector(watched, refresh=60, stale_after=300, clock=clock)
    watched.error = BackendConnectionError("gone")
    assert scraped(collector) == {("up",): 0}
    clock.now += 60
    watched.error = None
    watched.track(id=1)
    assert scraped(collector)["up",] == 1
    updated = clock.now
    watched.error = BackendConnectionError("gone again")
    for later, counts in ((60, 1), (120, 1), (299, 1), (300, 0)):
        clock.now = updated + later
        found = scraped(collector)
        assert (found["up",], found["counts_updated_timestamp_seconds",]) == (0, updated)
        assert len(of(found)) == counts
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["gone", "gone again"]
    clock.now += 60
    watched.error = None
    assert scraped(collector)["up",] == 1


def test_whatever_goes_wrong_no_scrape_fails(watched, clock):
    watched.error = RuntimeError("a bug")
    assert scraped(CountsCollector(watched, clock=clock)) == {("up",): 0}


def test_no_scrape_waits_long_nor_asks_a_second_time(watched, clock):
    collector = CountsCollector(watched, refresh=60, timeout=0.01, clock=clock)
    watched.track(id=1)
    watched.may_go_on.clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(scraped, [collector] * 8))
    assert found == [{("up",): 0}] * 8
    clock.now += 3600  # still under way
    assert scraped(collector) == {("up",): 0}
    assert watched.asked == 1
    clock.now = NOON
    watched.may_go_on.set()
    eventually(lambda: scraped(collector)["up",] == 1)
    assert of(scraped(collector)) == {("daily", "(all)", "live"): 1}
    assert watched.asked == 1


def test_the_first_scrapes_wait_for_one_answer(watched, clock):
    collector = CountsCollector(watched, timeout=30, clock=clock)
    watched.may_go_on.clear()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(scraped, collector)]
        eventually(lambda: watched.asked)
        found += [pool.submit(collector.collect) for _ in range(7)]
        assert not any(each.done() for each in found)
        watched.may_go_on.set()
        assert found[0].result()["up",] == 1
        assert [each.result()[0].samples[0].value for each in found[1:]] == [1] * 7
    assert watched.asked == 1


def test_who_does_not_wait_sees_the_answer_the_next_time(watched, clock):
    collector = CountsCollector(watched, timeout=0, clock=clock)
    watched.may_go_on.clear()
    assert scraped(collector) == {("up",): 0}
    watched.may_go_on.set()
    eventually(lambda: scraped(collector)["up",] == 1)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that forks have threads
def test_a_forked_child_waits_for_no_thread_of_its_parent(watched, clock):
    collector = CountsCollector(watched, timeout=0.01, clock=clock)
    watched.may_go_on.clear()
    scraped(collector)
    child = os.fork()
    if not child:
        signal.alarm(10)
        watched.may_go_on.set()
        clock.now += 60
        try:
            scraped(collector)
        finally:
            os._exit(0 if watched.asked == 2 else 1)
    watched.may_go_on.set()
    assert os.waitpid(child, 0)[1] == 0


# Arguments


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("periods", ["daily", "fortnightly"], ArgumentValueError),
        ("periods", [], ArgumentValueError),
        ("periods", "daily", ArgumentTypeError),
        ("buckets", "web", ArgumentTypeError),
        ("buckets", ["{"], ArgumentValueError),
        ("buckets", [], ArgumentValueError),
        ("refresh", 0, ArgumentValueError),
        ("refresh", "60", ArgumentTypeError),
        ("timeout", -1, ArgumentValueError),
        ("timeout", False, ArgumentTypeError),
        ("stale_after", float("nan"), ArgumentValueError),
        ("limit", 0, ArgumentValueError),
        ("limit", True, ArgumentTypeError),
        ("shard", 1, ArgumentValueError),
        ("clock", 5, ArgumentTypeError),
    ],
)
def test_bad_arguments(watched, argument, value, error):
    with raises(error, argument):
        CountsCollector(watched, **{argument: value})


def test_what_is_no_tracker(watched):
    with watched.buffered() as writer:
        for tracker in (None, "redis://localhost", AsyncActivityTracker(["daily"]), writer):
            with raises(ArgumentTypeError, "tracker must be"):
                CountsCollector(tracker)
    with raises(ArgumentValueError, "periods"):
        CountsCollector(ActivityTracker())
