"""track, track_many, import_events and live lookups, on every server."""

import uuid
from datetime import UTC, date, datetime

import numpy as np
import pytest

from activity_tracker_hll import (
    ActivityTracker,
)
from activity_tracker_hll.columns import EventColumns
from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.sources import read_events
from activity_tracker_hll.operations.tracking import batches
from activity_tracker_hll.periods import PERIODS
from helpers.moments import NOON, TODAY, day
from helpers.pipes import pipe
from helpers.writes import live

NOW = datetime.fromtimestamp(NOON, UTC).replace(tzinfo=None)


def test_one_id_counts_once_whatever_its_type(server):
    tracker = server.tracker()
    for id in (7, "7", b"7", np.int64(7), 7):
        tracker.track(id=id)
    assert live(tracker) == 1
    for id in (8, uuid.UUID(int=8), "日本", "a\r\nb", b"\x00"):
        tracker.track(id=id)
    assert live(tracker) == 6


def test_all_periods_in_one_call(server):
    tracker = server.tracker(PERIODS)
    tracker.track(id=1)
    tracker.track(id=2, periods=["yearly"])
    assert [live(tracker, kind) for kind in PERIODS] == [1, 1, 1, 1, 1, 2]


def test_shorthands(server):
    tracker = server.tracker(None)
    for kind in PERIODS:
        getattr(tracker, f"track_{kind}")(id=kind, bucket="b")
        rows = getattr(tracker, f"lookup_{kind}")(buckets=["b"], live=True)
        assert rows[-1][1] == {"b": 1}
        period = tracker.calendar.containing(kind, NOW)
        done = getattr(tracker, f"collapse_{kind}")(buckets=["b"], date=period.next().start)
        assert done == [(period, "b", 1)]
    assert ActivityTracker.PERIOD_MONTHLY == "monthly"


def test_buckets_are_apart(server):
    tracker = server.tracker()
    tracker.track(id=1)
    tracker.track(id=1, bucket="a")
    tracker.track(id=2, bucket="a:b")
    tracker.track_many([1, 2, 3], bucket="日本")
    names = [None, "a", "a:b", "日本", "unheard of"]
    assert tracker.lookup(buckets=names, live=True)[-1] == (
        TODAY,
        dict(zip(names, [1, 1, 1, 3, 0], strict=True)),
    )


def test_dates(server):
    tracker = server.tracker(["daily", "monthly"], timezone="Asia/Tokyo")
    tracker.track(id=1, date=date(2026, 1, 31))
    tracker.track(id=2, date=datetime(2026, 1, 31, 23, 59))
    tracker.track(id=3, date=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))  # 1 February there
    rows = tracker.lookup("daily", start=date(2026, 1, 30), end=date(2026, 2, 3), live=True)
    assert rows == [
        (date(2026, 1, 30), {None: 0}),
        (date(2026, 1, 31), {None: 2}),
        (date(2026, 2, 1), {None: 1}),
        (date(2026, 2, 2), {None: 0}),
    ]
    rows = tracker.lookup("monthly", start=date(2026, 1, 1), end=date(2026, 3, 1), live=True)
    assert rows == [(date(2026, 1, 1), {None: 2}), (date(2026, 2, 1), {None: 1})]


def test_the_day_changes_while_running(server):
    now = [NOON]
    tracker = server.tracker(["hourly", "daily"], clock=lambda: now[0])
    for hours in (0, 11, 12, 36):
        now[0] = NOON + hours * 3600 + 1799
        tracker.track(id=hours)
    rows = tracker.lookup("daily", start=TODAY, live=True)
    assert [count[None] for _, count in rows] == [2, 1, 1]
    assert sum(count[None] for _, count in tracker.lookup("hourly", start=NOW, live=True)) == 4
    assert tracker.lookup("hourly", start=NOW, live=True)[0] == (NOW, {None: 1})


def test_track_many_is_track_of_each(server):
    tracker = server.tracker(["daily", "monthly"])
    ids = [f"user{n}" for n in range(2500)]
    for form in (ids, set(ids), iter(ids), np.array(ids), np.array(ids, dtype="S")):
        tracker.track_many(form, bucket="many")
    before = live(tracker, bucket="many")
    for id in ids[:200]:
        tracker.track(id=id, bucket="many")
    assert live(tracker, bucket="many") == before == pytest.approx(2500, rel=0.03)
    tracker.track_many([], bucket="none")
    assert live(tracker, bucket="none", missing=None) is None


def test_import_in_any_order(server):
    tracker = server.tracker(["daily", "monthly"])
    events = [(n % 100, f"b{n % 3}", day(1 + n % 5)) for n in range(3000)]
    seen = []
    result = tracker.import_events(iter(events[::-1]), progress=seen.append)
    assert (result.events, result.late) == (3000, 0)
    assert seen[-1] == 3000
    expected = {
        (when, bucket): len({id for id, b, d in events if (b, d) == (bucket, when)})
        for _, bucket, when in events
    }
    buckets = ["b0", "b1", "b2"]
    rows = tracker.lookup("daily", start=day(5), buckets=buckets, live=True)[:-1]
    found = {(when, bucket): count for when, counts in rows for bucket, count in counts.items()}
    assert found == expected
    tracker.import_events(events)
    assert tracker.lookup("daily", start=day(5), buckets=buckets, live=True)[:-1] == rows


def test_import_of_nothing_and_of_more_than_a_batch(server, monkeypatch):
    monkeypatch.setattr(batches, "EVENTS_PER_BATCH", 1000)  # fakeredis takes minutes for two real ones
    tracker = server.tracker()
    assert tracker.import_events([]).events == 0
    seen = []
    events = ((n % 50, None, TODAY) for n in range(2500))
    assert tracker.import_events(events, progress=seen.append).events == 2500
    assert seen == [1, 2500]
    assert live(tracker) == 50


@pytest.mark.parametrize("every_s", [1e-4, 0.1, 3])
def test_import_of_a_slow_stream_sends_what_there_is_each_second(server, every_s):
    now, sent = NOON, []
    tracker = server.tracker(clock=lambda: now)
    number = 20_000 if every_s < 0.01 else 60

    def events():
        nonlocal now
        for n in range(number):
            yield n, None, TODAY
            waiting = n + 1 - (sent[-1] if sent else 0)
            assert waiting <= max(1, 2.1 / every_s)
            now += every_s

    assert tracker.import_events(events(), progress=sent.append).events == number
    assert sent[0] == 1
    assert len(sent) <= 2 + number * max(every_s, 1e-9)
    assert live(server.tracker()) == pytest.approx(number, rel=0.03)


def test_import_of_a_stream_that_pauses_sends_what_there_is(server):
    """Columns without events say that it does."""
    tracker, sent = server.tracker(clock=lambda: NOON), []

    def events():
        for n in range(3):
            for id in (2 * n, 2 * n + 1):
                yield EventColumns(np.array([id]), None, TODAY)
            yield EventColumns(np.empty(0, np.int64), None, TODAY)
            assert live(server.tracker()) == sent[-1] == 2 * n + 2
            yield EventColumns(np.empty(0, np.int64), None, TODAY)

    assert tracker.import_events(events(), progress=sent.append).events == 6
    assert sent == [1, 2, 4, 6]


def test_import_of_a_pipe_that_pauses_sends_what_it_brought(server):
    """Who writes to it waits until what it wrote was counted."""
    tracker, sent = server.tracker(clock=lambda: NOON), []
    with pipe() as (stream, sink):

        def write(count):
            sent.append(count)
            if count < 6:
                sink.write(b"".join(b"u%d,%s\n" % (id, str(TODAY).encode()) for id in (count, count + 1)))
            else:
                sink.close()

        sink.write(b"id,time\n")
        write(0)
        events = read_events(stream, Layout(format="csv"), tracker.calendar)
        tracker.import_events(events, progress=write)
    assert sent == [0, 2, 4, 6]
    assert live(server.tracker()) == 6


def test_a_secret_keeps_ids_off_the_server(server):
    tracker = server.tracker(secret="pepper")
    tracker.track(id="alice@example.com", bucket="a")
    tracker.track(id="alice@example.com", bucket="b", old_id="alice@example.com", old_bucket="a")
    tracker.track(id="alice@example.com", bucket="a", old_id="alice@example.com", old_bucket="b")
    tracker.track_many(["alice@example.com", "bob"], bucket="b")
    tracker.import_events([("alice@example.com", "b", TODAY)])
    assert live(tracker, bucket="a") == 1
    assert live(tracker, bucket="b") == 2
    tables = [key for key in server.names() if key.endswith(":moves")]
    assert len(tables) == 2
    members = [member for key in tables for member in server.client.zrange(key, 0, -1)]
    assert members
    assert all(len(member) == 16 and b"alice" not in member for member in members)
    if server.name != "fakeredis":  # where a sketch is a set of what was added
        assert not any(b"alice" in (server.client.dump(key) or b"") for key in server.client.scan_iter())


def test_namespaces_are_apart(server):
    one, other = server.tracker(namespace="one"), server.tracker(namespace="other", week_start=6)
    one.track(id=1)
    assert (live(one), live(other)) == (1, 0)
    keys = [key.decode() for key in server.client.scan_iter()]
    assert {one.backend.keys.meta, one.backend.keys.open} < set(keys)
    assert all(one.backend.keys.owns(key) and not other.backend.keys.owns(key) for key in keys)
    assert all(key.startswith(("one:", "{one:")) for key in keys)
