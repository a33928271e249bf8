"""Settings that live with the data: who stores them, who adopts them, who heeds them, who changes them."""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from activity_tracker_hll import ActivityTracker, BackendError, CollapseError, SettingsMismatchError
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.operations import DataSettings
from helpers.collapses import YNAME
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day

META = "active:{meta}"
MONTH = timedelta(days=31)


def tracker_of(server, kinds=("daily",), **options):
    """A tracker that is given no time zone, unless it is among the options."""
    tracker = ActivityTracker(list(kinds), **{"clock": lambda: NOON, **server.options, **options})
    server.trackers.append(tracker)
    return tracker


def lives_of(server, *buckets):
    return [server.client.ttl(f"{{active:{YNAME}:{bucket}}}:hll") for bucket in buckets]


# Time zone and first day of the week


@pytest.mark.parametrize(
    "zone", ["Asia/Tokyo", "America/New_York", timezone(timedelta(hours=-9, minutes=-30)), UTC]
)
def test_what_is_not_given_is_adopted(server, zone):
    given = tracker_of(server, ["daily", "weekly"], timezone=zone, week_start=6)
    given.track(id=1)
    now = datetime.fromtimestamp(NOON, given.calendar.zone)
    other = tracker_of(server, ["daily", "weekly"])
    other.track(id=2, date=now)
    other.track_many([3], date=now)
    other.import_events([(4, None, now)])
    assert (other.calendar.zone_fingerprint, other.calendar.week_start) == (
        given.calendar.zone_fingerprint,
        6,
    )
    for tracker in (given, other, tracker_of(server)):
        assert tracker.lookup("daily", live=True)[-1] == (now.date(), {None: 4})
        assert tracker.lookup("weekly", live=True)[-1][1] == {None: 4}


@pytest.mark.parametrize("is_known", [False, True], ids=["new data", "data of another"])
def test_local_time_that_changes_once_a_tracker_is_made(server, move_to, is_known):
    """As Django changes it, which makes the trackers of its settings before it sets its own zone."""
    if is_known:
        tracker_of(server, timezone="UTC").track(id=1)
    move_to("UTC")
    tracker = tracker_of(server)
    move_to("Pacific/Kiritimati")  # tomorrow at two
    tracker.track(id=2)
    expected, today = ("UTC", TODAY) if is_known else ("Pacific/Kiritimati", day(-1))
    assert tracker.settings.timezone == expected
    move_to("Pacific/Pago_Pago")  # today at one
    tracker.track(id=3)
    assert tracker.calendar.zone_name == expected
    for each in (tracker, tracker_of(server)):
        assert each.lookup(live=True)[-1] == (today, {None: 2 + is_known})


def test_a_first_call_with_a_date_finds_the_period_of_the_data(server):
    """The zone is known only by the handshake, which comes first."""
    tracker_of(server, timezone="Asia/Tokyo").track(id=1, date=date(2026, 3, 1))
    late = datetime(2026, 3, 1, 20, tzinfo=UTC)  # 2 March there
    for act in (
        lambda tracker: tracker.track(id="a", date=late),
        lambda tracker: tracker.track_many(iter(["b"]), date=late),
        lambda tracker: tracker.import_events(iter([("c", None, late)])),
    ):
        act(tracker_of(server))
    assert tracker_of(server).lookup(start=date(2026, 3, 2), end=late) == []
    rows = tracker_of(server).lookup(start=date(2026, 3, 1), end=date(2026, 3, 3))
    assert rows == [(date(2026, 3, 1), {None: 1}), (date(2026, 3, 2), {None: 3})]
    collapsed = tracker_of(server).collapse(date=datetime(2026, 3, 2, 16, tzinfo=UTC))  # the 3rd
    assert {c.period.date: c.count for c in collapsed} == {date(2026, 3, 1): 1, date(2026, 3, 2): 3}


def test_a_writer_finds_the_period_of_the_data_with_its_first_event(real_server):
    tracker_of(real_server, timezone="Pacific/Kiritimati").track(id=1)  # 14 hours ahead: it is tomorrow there
    with tracker_of(real_server).buffered() as writer:
        writer.track(id=2)
        writer.track(["daily"], id=3)
    assert tracker_of(real_server).lookup(live=True)[-1] == (day(-1), {None: 3})


def test_a_writer_for_asyncio_does_too(real_server):
    tracker_of(real_server, timezone="Pacific/Kiritimati").track(id=1)

    async def main():
        async with AsyncActivityTracker(["daily"], clock=lambda: NOON, **real_server.options) as tracker:
            writer = tracker.buffered()  # not entered: it asks when it first pushes
            writer.track(id=2)
            assert (await writer.close()).pushed == 1
            async with tracker.buffered() as writer:
                writer.track(id=3)
            assert (await tracker.lookup(live=True))[-1] == (day(-1), {None: 3})

    asyncio.run(main())


def test_a_writer_whose_server_comes_late_goes_on_in_its_periods(real_server):
    """What waits in the queues by then belongs to its periods too."""
    tracker = tracker_of(real_server)
    refused = []

    def refuse(commands, shard=0):
        refused.append(commands)
        raise BackendError("not there")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tracker.backend), "execute", lambda _backend, *arguments: refuse(*arguments))
        writer = tracker.buffered(flush_interval=0.05)
        writer.track(id="early")
        assert refused
    tracker_of(real_server, timezone="Pacific/Kiritimati").track(id=1)
    writer.flush()
    writer.track(id="late")
    writer.flush()
    assert writer.close().pending == 0
    counts = dict(tracker_of(real_server).lookup(start=TODAY, live=True))
    assert counts == {TODAY: {None: 0}, day(-1): {None: 3}}


def test_what_cannot_be_adopted_is_refused(server):
    tracker_of(server, timezone="UTC").track(id=1)
    for zone, rules in (("Mars/Olympus", "0" * 16), ("Asia/Tokyo", "0" * 16)):
        server.client.hset(META, mapping={"timezone": zone, "timezone_rules": rules})
        with raises(SettingsMismatchError, f"timezone '{zone}' there"):
            tracker_of(server).track(id=1)


def test_local_time_is_stored_by_a_name_that_others_know(server, move_to):
    move_to("Asia/Tokyo")
    tracker_of(server).track(id=1)
    move_to("UTC")
    assert server.client.hget(META, "timezone") == b"Asia/Tokyo"
    tracker = tracker_of(server)
    tracker.track(id=2)
    assert tracker.calendar.zone_name == "Asia/Tokyo"


# The secret


def test_counts_can_be_read_and_made_without_the_secret(real_server):
    knowing = real_server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]}, secret="pepper")
    knowing.track_many(range(100), bucket="a", date=YESTERDAY)
    knowing.track(id="x", bucket="b", old_id=5, old_bucket="a", date=YESTERDAY)
    knowing.track(id=5, bucket="a", date=YESTERDAY)
    knowing.track_many(range(50), bucket="a", date=day(2))
    knowing.collapse(date=YESTERDAY)
    reading = tracker_of(real_server, buckets=["a", "b"])
    names = ["a", "b", "t"]
    for _ in range(2):
        rows = reading.lookup(start=day(2), buckets=names)
        assert rows == knowing.lookup(start=day(2), buckets=names)
        assert not any(count.suspect for _, counts in rows for count in counts.values())
        for act in (
            lambda: reading.track(id=1, bucket="a"),
            lambda: reading.track_many([1], bucket="a"),
            lambda: reading.import_events([(1, "a", TODAY)]),
        ):
            with raises(
                SettingsMismatchError, "secret", "only be tracked with it", "counts can be read without"
            ):
                act()
    assert {c.bucket: c.count for c in reading.collapse()} == rows[-1][1]
    assert reading.settings.has_secret
    with raises(SettingsMismatchError, "secret"):
        tracker_of(real_server, secret="salt").lookup()


def test_a_raw_set_needs_the_secret_by_name(real_server):
    real_server.tracker(secret="pepper").track(id=1)
    real_server.client.sadd(f"active:{YNAME}:raw:a", "x")
    reading = tracker_of(real_server, buckets=["a"])
    for act in (lambda: reading.lookup(start=YESTERDAY), reading.collapse):
        with raises(BackendError, YNAME, "'a'", "only be counted with the secret"):
            act()
    assert real_server.client.smembers(f"active:{YNAME}:raw:a") == {b"x"}


def test_who_only_collapses_decides_nothing_about_the_secret(server):
    server.client.sadd(f"active:{YNAME}:raw", "x")  # of activity-tracker
    tracker_of(server).collapse()
    with_secret = tracker_of(server, secret="pepper")
    with_secret.track(id=1)
    assert with_secret.settings.has_secret


# How long sketches are kept


@pytest.mark.parametrize("cron", [{}, {"keep_sketches": timedelta(0)}, {"keep_sketches": MONTH}])
@pytest.mark.parametrize("keep", [None, timedelta(days=999)])
def test_who_collapses_deletes_nothing_that_somebody_wants_to_keep(server, cron, keep):
    tracker_of(server, buckets=["a"], keep_sketches=keep).track(id=1, bucket="a", date=YESTERDAY)
    tracker_of(server, buckets=["a"], **cron).collapse()
    [life] = lives_of(server, "a")
    assert life == -1 if keep is None else abs(life - keep.total_seconds()) < 2 * 86400


def test_the_longest_is_kept_in_any_order(server):
    lengths = [timedelta(days=days) for days in (40, 400, 0, 62)]
    for length in lengths:
        tracker_of(server, keep_sketches={"daily": length}).track(id=1)
    assert tracker_of(server).settings.keep_sketches == {"daily": timedelta(days=400)}
    tracker_of(server, keep_sketches={"daily": None, "weekly": MONTH}).track(id=1)
    tracker_of(server, keep_sketches={"daily": MONTH}).track(id=1)
    assert tracker_of(server).settings.keep_sketches == {"daily": None, "weekly": MONTH}


def test_only_on_purpose_it_becomes_shorter(server):
    tracker_of(server, keep_sketches=timedelta(days=400)).track(id=1)
    operator = tracker_of(server, buckets=["a"])
    changed = operator.change_settings(keep_sketches={"daily": MONTH})
    assert changed == operator.settings == tracker_of(server).settings
    assert changed.keep_sketches["daily"] == MONTH
    assert changed.keep_sketches["weekly"] == timedelta(days=400)
    operator.track(id=1, bucket="a", date=YESTERDAY)
    operator.collapse()
    [life] = lives_of(server, "a")
    assert 29 * 86400 < life < 33 * 86400


def test_one_length_for_all_is_that_of_the_kinds_it_fits(server):
    tracker_of(server, keep_sketches=timedelta(days=40)).track(id=1)
    kept = dict.fromkeys(["hourly", "daily", "weekly", "monthly"], timedelta(days=40))
    assert tracker_of(server).settings.keep_sketches == kept


# Aggregates


def test_aggregates_are_known_to_all_who_collapse(server):
    service = tracker_of(server, buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    service.track(id=1, bucket="a", date=YESTERDAY)
    service.track(id=2, bucket="b", date=YESTERDAY)
    cron = tracker_of(server, buckets=["a", "b"])
    assert {(c.bucket, c.count) for c in cron.collapse()} == {("a", 1), ("b", 1), ("t", 2)}
    with raises(ValueError, "'t' is one of the aggregate_buckets"):
        cron.track(id=1, bucket="t")


def test_a_collapse_of_one_source_leaves_an_aggregate_what_it_needs(server):
    """Sketches that end with their collapse, and an aggregate that others count."""
    service = tracker_of(
        server, buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]}, keep_sketches=timedelta(0)
    )
    service.track(id=1, bucket="a", date=YESTERDAY)
    service.track(id=2, bucket="b", date=YESTERDAY)
    other = tracker_of(server, buckets=["a"])
    assert [c.bucket for c in other.collapse()] == ["a"]
    assert {c.bucket: c.count for c in service.collapse()} == {"b": 1, "t": 2}
    assert not [name for name in server.names() if name.endswith(":hll")]
    assert server.client.smembers("active:{open}") == set()


def test_of_two_aggregates_by_one_name_the_stored_one_stands(server, caplog):
    tracker_of(server, buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]}).track(
        id=1, bucket="a", date=YESTERDAY
    )
    with caplog.at_level(logging.WARNING):
        other = tracker_of(server, buckets=["a", "b"], aggregate_buckets={"t": ["a"], "u": ["b"]})
        other.track(id=2, bucket="b", date=YESTERDAY)
        other.track(id=2, bucket="b", date=YESTERDAY)
    assert [record.getMessage() for record in caplog.records] == [
        "the data know the aggregate 't' as ['a', 'b'], which stands; here it was given as ['a']"
    ]
    assert {c.bucket: c.count for c in other.collapse()} == {"a": 1, "b": 1, "t": 2, "u": 1}
    assert other.settings.aggregate_buckets == {"t": ("a", "b"), "u": ("b",)}


def test_aggregates_are_changed_and_removed_on_purpose(server):
    tracker_of(server, buckets=["a", "b"], aggregate_buckets={"t": ["a"], "u": ["b"]}).track(id=1, bucket="a")
    changed = tracker_of(server).change_settings(
        aggregate_buckets={"t": ["a", None], "u": None, "never": None}
    )
    assert changed.aggregate_buckets == {"t": ("a", None)}
    assert json.loads(server.client.hget(META, "aggregate:t")) == ["a", None]


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregate_buckets": {"t": ["t"]}},
        {"aggregate_buckets": {"t": []}},
        {"aggregate_buckets": {"": None}},
        {"aggregate_buckets": ["t"]},
        {"keep_sketches": 5},
        {"keep_sketches": {"daily": timedelta(hours=3)}},
        {"keep_sketches": {"dayly": MONTH}},
        {"shard": 3},
    ],
)
def test_bad_changes_are_refused_before_anything_is_sent(server, changes):
    with raises((TypeError, ValueError), next(iter(changes))):
        tracker_of(server).change_settings(**changes)
    assert server.client.keys() == []


# What others wrote there


def test_entries_that_make_no_sense_are_named_and_nothing_is_deleted_for_them(server, caplog):
    server.tracker().track(id=1, date=YESTERDAY)
    nonsense = {
        "keep_sketches:daily": "soon",
        "aggregate:t": "[]",
        "aggregate:{": '["a"]',
        "aggregate:u": "\x1b[2J",
    }
    server.client.hset(META, mapping=nonsense)
    tracker = tracker_of(server)
    with caplog.at_level(logging.WARNING):
        tracker.collapse()
    assert server.client.ttl(f"{{active:{YNAME}}}:hll") == -1  # on the safe side
    settings = tracker.settings
    assert settings.aggregate_buckets == {}
    assert len(settings.problems) == len(caplog.records) == 4
    for name in nonsense:
        assert any(META in problem and name in problem for problem in settings.problems)
    assert "\x1b" not in "".join(settings.problems) + caplog.text
    assert tracker.examine().warnings[-4:] == settings.problems


def test_settings_are_read_without_the_buckets_that_are_registered_among_them(server, monkeypatch):
    """More than one command reads, as a service has them after years."""
    tracker_of(server, timezone="Asia/Tokyo", aggregate_buckets={"t": ["b1"]}).track(id=1, bucket="b0")
    server.client.hset(META, mapping={f"bucket:b{n}": "" for n in range(12_000)})
    server.client.hset(META, "keep_sketches:daily", "forever")
    tracker = tracker_of(server, aggregate_buckets={"t": ["b1"], "u": ["b2"], "b3": ["b1"]})
    execute, heard = tracker.backend.execute, []

    def noting(commands, shard=0):
        replies = execute(commands, shard)
        heard.append(str(replies))
        return replies

    monkeypatch.setattr(tracker.backend, "execute", noting)
    tracker.track(id=1, bucket="b0")
    assert tracker.calendar.zone_name == "Asia/Tokyo"
    assert tracker.settings.keep_sketches == {"daily": None}
    assert tracker.settings.aggregate_buckets == {"t": ("b1",), "u": ("b2",)}  # ids are tracked in the third
    with raises(SettingsMismatchError, "'b9999'"):
        tracker.change_settings(aggregate_buckets={"b9999": ["b1"]})
    assert not any("bucket:" in replies for replies in heard)


def test_settings_of_nothing(server):
    assert tracker_of(server).settings == DataSettings()
    assert server.client.keys() == []


def test_settings_for_asyncio(real_server):
    async def main():
        async with AsyncActivityTracker(["daily"], timezone="UTC", **real_server.options) as tracker:
            await tracker.track(id=1)
            assert (await tracker.settings).timezone == "UTC"
            changed = await tracker.change_settings(keep_sketches=None)
            assert changed == await tracker.settings
            assert changed.keep_sketches["daily"] is None

    asyncio.run(main())


def test_an_aggregate_bears_no_name_of_a_bucket_nor_of_an_aggregate(server):
    service = tracker_of(server, buckets=["shop", "blog"], aggregate_buckets={"all": ["shop", "blog"]})
    service.track(id=1, bucket="shop", date=YESTERDAY)
    service.collapse()
    for aggregates in ({"shop": ["blog"]}, {"x": ["all"]}, {"blog": ["x"]}):
        with raises(SettingsMismatchError, "aggregate '(shop|x|blog)'"):
            tracker_of(server).change_settings(aggregate_buckets=aggregates)
    with raises(CollapseError, "'shop'", "ids are tracked in a bucket of this name"):
        tracker_of(server).collapse(aggregate_buckets={"shop": ["blog"]}, max_periods=1)
    other = tracker_of(server, aggregate_buckets={"shop": ["blog"]})
    other.lookup()
    assert other.settings.aggregate_buckets == {"all": ("shop", "blog")}
    service.track(id=2, bucket="shop", date=YESTERDAY)  # and goes on
    assert service.lookup(start=YESTERDAY, buckets=["shop"])[0][1] == {"shop": 1}


def test_threads_that_adopt_at_once_adopt_the_same(server):
    tracker_of(server, timezone="Asia/Tokyo").track(id=1)
    for _ in range(20):
        tracker = tracker_of(server)
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda _, t=tracker: t.lookup(start=YESTERDAY), range(16))
            assert {len(rows) for rows in found} == {1}
        assert tracker.calendar.zone_name == "Asia/Tokyo"


def test_lengths_that_are_given_at_once(server, monkeypatch):
    """The longest holds, also if it comes between another's look and its answer."""
    tracker_of(server, keep_sketches={"daily": MONTH}).track(id=1)
    tracker, longest = tracker_of(server, keep_sketches={"daily": timedelta(days=90)}), timedelta(days=400)
    execute = tracker.backend.execute

    def interrupted(commands, shard=0):
        if commands[0][0] == "EVALSHA":
            tracker_of(server, keep_sketches={"daily": longest}).track(id=2)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    tracker.track(id=3)
    assert tracker_of(server).settings.keep_sketches == {"daily": longest}
    assert tracker.settings.keep_sketches == {"daily": longest}


def test_what_was_changed_on_purpose_is_not_undone_by_who_changed_it(server):
    tracker = tracker_of(
        server, buckets=["a"], keep_sketches={"daily": timedelta(days=90)}, aggregate_buckets={"t": ["a"]}
    )
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.change_settings(keep_sketches={"daily": MONTH})
    changed = tracker.change_settings(aggregate_buckets={"t": None})
    assert changed.keep_sketches == {"daily": MONTH}
    assert changed.aggregate_buckets == {}
    assert [c.bucket for c in tracker.collapse()] == ["a"]
    assert lives_of(server, "a")[0] < 33 * 86400
    assert tracker.settings == changed


def test_a_client_without_the_secret_deletes_no_count_beside_a_raw_set(real_server):
    knowing = real_server.tracker(buckets=["a"], secret="pepper")
    knowing.track_many(range(50), bucket="a", date=YESTERDAY)
    knowing.collapse()
    real_server.client.sadd(f"active:{YNAME}:raw:a", "late")
    for act in (lambda t: t.collapse(), lambda t: t.collapse_due()):
        with raises(CollapseError, "'a'", "secret"):
            act(tracker_of(real_server, buckets=["a"]))
    assert tracker_of(real_server).lookup(start=YESTERDAY, buckets=["a"], live=False)[0][1] == {"a": 50}
    assert [c.count for c in knowing.collapse()] == [51]
