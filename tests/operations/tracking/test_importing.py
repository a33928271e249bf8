"""import_events and track_many as sketches: every form of input against plain PFADD, on the real servers.

What small imports do on every server is in test_track.py and test_moves.py.
"""

import random
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from activity_tracker_hll import (
    BackendError,
    BackendResponseError,
    CollapseError,
    HyperLogLog,
)
from activity_tracker_hll.hll.codec import DENSE_BYTES
from activity_tracker_hll.ids import IdEncoder
from activity_tracker_hll.operations.tracking.gathered import FEW
from activity_tracker_hll.periods import Calendar
from helpers.errors import raises
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.servers import sketches_on

BUCKETS = ["anon", "member", None, "é"]
COUNT = 5000


def sample(seed, count=COUNT, days=4):
    """Events of several buckets, at any second of a few days."""
    source = random.Random(seed)
    first = datetime.combine(day(days), datetime.min.time())
    return [
        (
            f"user-{source.randrange(2000)}",
            source.choice(BUCKETS),
            first + timedelta(seconds=source.randrange(days * 86400)),
        )
        for _ in range(count)
    ]


def expected(server, tracker, events, kinds, zone="UTC", secret=None):
    """The sketches that PFADD makes of each event, by key."""
    calendar, encoder = Calendar(zone), IdEncoder(secret)
    ids = {}
    for id, bucket, moment in events:
        for kind in kinds:
            period = calendar.containing(kind, calendar.moment(moment, "date")).name
            key = tracker.backend.keys.bucket(period, bucket).hll.encode()
            ids.setdefault(key, set()).add(encoder.one(id))
    result = {}
    for key, members in ids.items():
        server.client.delete("oracle")
        server.client.pfadd("oracle", *members)
        result[key] = HyperLogLog.from_bytes(server.client.get("oracle"))
    server.client.delete("oracle")
    return result


def columns(events, unit="s"):
    ids, buckets, moments = zip(*events, strict=True)
    return np.array(ids), list(buckets), np.array(moments, f"datetime64[{unit}]")


FORMS = {
    "tuples": lambda events: events,
    "lists": lambda events: [list(event) for event in events],
    "generator": lambda events: (event for event in events),
    "columns": columns,
    "columns of bytes": lambda events: (columns(events)[0].astype("S"), *columns(events)[1:]),
    "columns, nanoseconds": lambda events: columns(events, "ns"),
    "columns, list of moments": lambda events: (*columns(events)[:2], [event[2] for event in events]),
    "columns, objects": lambda events: tuple(
        np.array(column, object) for column in zip(*events, strict=True)
    ),
    "aware, UTC": lambda events: [(id, bucket, moment.replace(tzinfo=UTC)) for id, bucket, moment in events],
    "aware, elsewhere": lambda events: [
        (id, bucket, moment.replace(tzinfo=UTC).astimezone(ZoneInfo("Asia/Kathmandu")))
        for id, bucket, moment in events
    ],
    "mixed": lambda events: [
        (id.encode() if place % 2 else id, bucket, moment.replace(tzinfo=UTC) if place % 3 else moment)
        for place, (id, bucket, moment) in enumerate(events)
    ],
}


@pytest.mark.parametrize("secret", [None, "hush"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_makes_the_sketches_that_pfadd_makes(real_server, form, secret):
    kinds = ["hourly", "daily", "monthly"]
    tracker = real_server.tracker(kinds, secret=secret)
    events = sample(form)
    wanted = expected(real_server, tracker, events, kinds, secret=secret)
    imported = tracker.import_events(FORMS[form](events))
    assert (imported.events, imported.late) == (COUNT, 0)
    assert sketches_on(real_server) == wanted
    tracker.import_events(FORMS[form](events))
    assert sketches_on(real_server) == wanted
    assert not [name for name in real_server.names() if "tmp" in name]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Australia/Lord_Howe", "Africa/Monrovia", "America/New_York"]
)
def test_moments_are_put_in_the_trackers_zone(real_server, zone):
    """Over changes of the clocks, half hours among them, and an offset of 44:30 minutes until 1972."""
    tracker = real_server.tracker(["hourly", "daily"], timezone=zone)
    source = random.Random(zone)
    first = datetime(1972, 1, 5, tzinfo=UTC) if "Monrovia" in zone else datetime(2025, 3, 28, tzinfo=UTC)
    moments = [first + timedelta(seconds=source.randrange(14 * 86400)) for _ in range(2000)]
    events = [(source.randrange(500), "b", moment) for moment in moments]
    wanted = expected(real_server, tracker, events, ["hourly", "daily"], zone)
    tracker.import_events(events)
    assert sketches_on(real_server) == wanted


def test_dates_and_single_values_for_a_column(server):
    tracker = server.tracker(["daily", "monthly"], buckets=["b"])
    ids = np.arange(3000)
    tracker.import_events((ids, "b", YESTERDAY))
    tracker.import_events((ids, None, np.full(3000, YESTERDAY, "datetime64[D]")))
    tracker.import_events([(id, "b", YESTERDAY) for id in range(3000)])
    [(_, counts)] = tracker.lookup("daily", start=YESTERDAY, end=TODAY, buckets=["b", None], live=True)
    bound = 5 * counts["b"].stderr
    assert counts["b"] == counts[None] == pytest.approx(3000, abs=0 if server.name == "fakeredis" else bound)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 257, 20_000])
@pytest.mark.parametrize("make", [np.arange, range, lambda n: iter(range(n)), lambda n: set(range(n))])
def test_track_many_makes_the_sketch_that_pfadd_makes(real_server, size, make):
    tracker = real_server.tracker(["daily", "weekly"])
    tracker.track_many(make(size), bucket="b")
    events = [(id, "b", TODAY) for id in range(size)]
    assert sketches_on(real_server) == expected(real_server, tracker, events, ["daily", "weekly"])


def test_two_lots_are_united_with_what_is_there(real_server):
    """Missing, sparse and dense sketches on the server, small and large lots."""
    tracker = real_server.tracker()
    for start, size in [(0, 300), (200, 300), (0, 40_000), (0, 300), (40_000, 300)]:
        tracker.track_many(range(start, start + size))
    assert sketches_on(real_server) == expected(
        real_server, tracker, [(id, None, TODAY) for id in range(40_300)], ["daily"]
    )


def test_a_small_bucket_stays_sparse(real_server):
    tracker = real_server.tracker()
    key = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "b").hll
    for lot in range(3):
        tracker.track_many(range(lot * 100, lot * 100 + 300), bucket="b")
        assert real_server.client.strlen(key) < 1500
    real_server.client.pfadd(key, "and the server goes on with it")
    assert (
        real_server.client.pfcount(key)
        == HyperLogLog([*range(500), "and the server goes on with it"]).count()
    )
    tracker.track_many(range(5000), bucket="b")
    assert real_server.client.strlen(key) == DENSE_BYTES


def test_what_another_client_adds_meanwhile_is_kept(real_server):
    """Between reading a sparse sketch and writing the union."""
    tracker = real_server.tracker()
    tracker.track_many(range(300))
    key = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", None).hll
    execute = tracker.backend.execute

    adding = iter(range(10_000, 10_100, 50))

    def interrupted(commands, shard=0):
        replies = execute(commands, shard)
        first = next(adding, None)
        if first is not None:  # not after the last write, which would hide that it lost them
            real_server.client.pfadd(key, *range(first, first + 50))
        return replies

    tracker.backend.execute = interrupted
    tracker.track_many(range(300, 600))
    assert sketches_on(real_server)[key.encode()] == HyperLogLog([*range(600), *range(10_000, 10_100)])


@pytest.mark.parametrize("held", ["nothing", "sparse", "dense"])
def test_no_temporary_key_is_left(real_server, held):
    tracker = real_server.tracker()
    if held != "nothing":
        tracker.track_many(range(200 if held == "sparse" else 10_000))
    tracker.track_many(range(10_000, 20_000))
    assert not [name for name in real_server.names() if "tmp" in name]
    [sketch] = sketches_on(real_server).values()
    assert sketch.count() > 9_000


@pytest.mark.parametrize("value", [b"x" * 12_304, HyperLogLog(range(9000)).to_bytes()[:-9], b"HYLL", b""])
def test_what_cannot_be_united_is_reported_and_leaves_no_temporary_key(real_server, value):
    tracker = real_server.tracker()
    tracker.track(id=1, bucket="a")
    key = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "a").hll
    real_server.client.set(key, value)
    if value:
        with pytest.raises(BackendResponseError, match="'a'"):
            tracker.track_many(range(5000), bucket="a")
        assert real_server.client.get(key) == value
    assert not [name for name in real_server.names() if "tmp" in name]


def test_a_server_that_could_not_say_is_asked_again(real_server):
    """Whether it takes sketches; here it is out of memory."""
    tracker = real_server.tracker()
    tracker.track(id=1)
    before = real_server.client.config_get("maxmemory")["maxmemory"]
    real_server.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BackendResponseError, match="maxmemory"):
            tracker.track_many(range(5000))
    finally:
        real_server.client.config_set("maxmemory", before)
    real_server.client.config_resetstat()
    tracker.track_many(range(5000))
    assert "cmdstat_pfadd" not in real_server.client.info("commandstats")


def test_what_waits_to_be_sent_is_bounded(real_server):
    """In events and in sketches, also if no second has passed."""
    tracker = real_server.tracker(clock=lambda: NOON)
    sent = []
    tracker.import_events((np.arange(1_200_000), "a", TODAY), progress=sent.append)
    assert len(sent) >= 2
    assert max(b - a for a, b in pairwise([0, *sent])) <= (1 << 20) + 65_536
    sent.clear()
    buckets = np.repeat(np.array([f"b{n}" for n in range(2500)]), FEW)
    tracker.import_events((np.arange(len(buckets)), buckets, TODAY), progress=sent.append)
    assert len(sent) >= 2


@pytest.mark.parametrize("secret", [None, "hush"])
def test_ids_that_return_in_a_large_lot_are_back(server, secret):
    tracker = server.tracker(["daily", "monthly"], secret=secret)
    for id in range(50):
        tracker.track(id=id, bucket="a")
        tracker.track(old_id=id, old_bucket="a")
    ids = tracker.backend.ids.many(range(50))

    def back_and_out():
        """Of the day and the month."""
        for period in (f"daily-{TODAY:%Y%m%d}", f"monthly-{TODAY:%Y%m}"):
            table = tracker.backend.keys.bucket(period, "a").moves
            for scores in (("(0", "+inf"), ("-inf", "(0")):
                yield set(server.client.zrangebyscore(table, *scores))

    assert [*back_and_out()] == [set(), set(ids)] * 2
    tracker.track_many(range(40, 5000), bucket="a")
    assert [*back_and_out()] == [set(ids[40:]), set(ids[:40])] * 2
    tracker.import_events([(id, "a", TODAY) for id in range(30, 5000)])
    assert [*back_and_out()] == [set(ids[30:]), set(ids[:30])] * 2
    tracker.import_events((np.arange(20, 5000), "a", TODAY))
    assert [*back_and_out()] == [set(ids[20:]), set(ids[:20])] * 2
    for id in range(10, 30):
        tracker.track(old_id=id, old_bucket="a")
    tracker.track_many(range(15, 5000), bucket="a")
    assert [*back_and_out()] == [set(ids[15:]), set(ids[:15])] * 2


@pytest.mark.parametrize("secret", [None, "hush"])
@pytest.mark.parametrize("form", ["tuples", "columns", "aware, elsewhere", "columns, objects", "mixed"])
def test_a_log_that_is_imported_again_undoes_no_move(server, form, secret):
    """Its events are as old as they were; only what came after a move is a return."""
    tracker = server.tracker(["daily"], secret=secret, buckets=["anon"])
    first = datetime.combine(YESTERDAY, datetime.min.time())
    events = [(f"user-{n % 600}", "anon", first + timedelta(minutes=n % 600)) for n in range(3000)]
    tracker.import_events(FORMS[form](events))
    for n in range(0, 600, 10):  # at noon; those of user-540 on came again in the evening
        moment = first + timedelta(hours=12)
        tracker.track(old_id=f"user-{n}", old_bucket="anon", date=moment if n < 300 else first)
    [count] = [counts["anon"] for _, counts in tracker.lookup(start=YESTERDAY, end=TODAY, live=True)]
    tracker.import_events(FORMS[form](events))
    [again] = [counts["anon"] for _, counts in tracker.lookup(start=YESTERDAY, end=TODAY, live=True)]
    key = tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", "anon").moves
    left = set(server.client.zrangebyscore(key, "-inf", "(0"))
    assert left == {tracker.backend.ids.one(f"user-{n}") for n in range(0, 300, 10)}
    assert server.client.zcard(key) == 60
    assert abs(again - count - 30) <= 4 * again.stderr


def test_a_sketch_that_was_collapsed_keeps_its_expiry(real_server):
    tracker = real_server.tracker(keep_sketches=timedelta(days=2))
    tracker.track_many(range(100), date=YESTERDAY)
    tracker.collapse()
    key = tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", None).hll
    ends = real_server.client.expiretime(key)
    assert ends > 0
    for size in (300, 400, 5000, 6000):
        tracker.track_many(range(size), date=YESTERDAY)
        assert real_server.client.expiretime(key) == ends


def test_late_events_are_counted_each_and_make_no_key(real_server):
    tracker = real_server.tracker(["daily", "monthly"], keep_sketches=timedelta(0))
    gone = date(2020, 1, 15)
    tracker.track(id=1, date=gone)
    tracker.collapse(date=date(2020, 2, 15), max_periods=40, periods=["daily", "monthly"])
    before = real_server.names()
    events = [(id % 1000, None, gone if id % 2 else YESTERDAY) for id in range(10_000)]
    imported = tracker.import_events(events)
    assert (imported.events, imported.late) == (10_000, 10_000)  # 5,000 in each of two periods
    made = set(real_server.names()) - set(before)
    assert made
    assert not [name for name in made if "2020" in name]


def test_one_broken_bucket_does_not_keep_the_others_out(real_server):
    tracker = real_server.tracker()
    real_server.raise_on("broken", TODAY)
    corrupt = tracker.backend.keys.bucket(f"daily-{TODAY:%Y%m%d}", "corrupt").hll
    real_server.client.set(corrupt, b"HYLL\x01" + bytes(20))
    events = [(id, bucket, TODAY) for id in range(500) for bucket in ("a", "broken", "b", "corrupt", "c")]
    with raises(BackendError, "broken"):
        tracker.import_events(events)
    good = {key: sketch for key, sketch in _readable(real_server).items() if b"broken" not in key}
    assert [sketch == HyperLogLog(range(500)) for sketch in good.values()] == [True] * 3
    with raises(BackendError, "corrupt"):
        tracker.track_many(range(500), bucket="corrupt")


def _readable(server):
    found = {}
    for key in server.client.scan_iter(match="*:hll"):
        if server.client.type(key) == b"string" and b"corrupt" not in key:
            found[key] = HyperLogLog.from_bytes(server.client.get(key))
    return found


@pytest.mark.either_server
def test_an_import_that_is_killed_and_run_again_gives_the_same_counts(real_server, tmp_path):
    """kill -9 after a few pushes; each time the rest of the work is left undone."""
    script = textwrap.dedent(
        f"""
        import itertools, os, sys
        from datetime import datetime, timedelta
        from activity_tracker_hll import ActivityTracker

        pushes = int(sys.argv[1])
        tracker = ActivityTracker(
            ["daily"], unix_socket_path={real_server.options["unix_socket_path"]!r}, timezone="UTC",
            clock=({NOON} + call / 8 for call in itertools.count()).__next__,  # some hundred events a push
        )
        execute = tracker.backend.execute

        def counted(commands, shard=0):
            global pushes
            replies = execute(commands, shard)
            pushes -= 1
            if not pushes:
                os.kill(os.getpid(), 9)
            return replies

        tracker.backend.execute = counted
        first = datetime({TODAY.year}, {TODAY.month}, {TODAY.day}) - timedelta(days=5)
        tracker.import_events(
            (f"user-{{n % 7001}}", f"b{{n % 3}}", first + timedelta(minutes=n % 7000)) for n in range(200_000)
        )
        """
    )
    file = tmp_path / "importing.py"
    file.write_text(script, "utf-8")

    def run(pushes):
        done = subprocess.run(
            [sys.executable, file, str(pushes)], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, -9), done.stderr
        return done.returncode

    assert run(0) == 0
    wanted = sketches_on(real_server)
    assert len(wanted) == 15
    real_server.client.flushall()
    assert [run(pushes) for pushes in (2, 3, 4, 5, 6)] == [-9] * 5
    assert sketches_on(real_server) != {}
    assert run(0) == 0
    assert sketches_on(real_server) == wanted
    assert not [name for name in real_server.names() if "tmp" in name]


def test_counts_of_corrupt_sketches_after_moves_are_errors_by_name(real_server):
    tracker = real_server.tracker(buckets=["a", "b"])
    for bucket in ("a", "b"):
        tracker.track_many(range(2000), bucket=bucket, date=YESTERDAY)
        tracker.track(old_id=1, old_bucket=bucket, date=YESTERDAY)
    key = tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", "a").hll
    sketch = bytearray(real_server.client.get(key))
    sketch[16:19] = b"\xff\xff\xff"  # ranks of 63
    real_server.client.set(key, bytes(sketch))
    with raises(CollapseError, "bucket 'a'", "corrupt"):
        tracker.collapse()
    [(_, counts)] = tracker.lookup(start=YESTERDAY, end=TODAY)
    assert counts["b"] == pytest.approx(1999, rel=0.03)


@pytest.mark.parametrize("unit", ["Y", "D", "s", "ns"])
def test_one_moment_of_numpy_for_all(real_server, unit):
    tracker = real_server.tracker()
    moment = np.datetime64("1970-01-01").astype(f"M8[{unit}]")
    for date_ in (moment, np.repeat(moment, 200)):
        assert tracker.import_events((np.arange(200), "a", date_)).events == 200
    assert [*sketches_on(real_server)] == [b"{active:daily-19700101:a}:hll"]


class Site(str, Enum):  # noqa: UP042 (a StrEnum shows its value)
    SHOP = "shop"


def test_a_bucket_that_is_a_member_of_an_enum_is_its_text(server):
    tracker = server.tracker()
    tracker.track(id=1, bucket=Site.SHOP)
    tracker.track_many([2], bucket=Site.SHOP)
    tracker.import_events([(3, Site.SHOP, TODAY), *((n, "shop", TODAY) for n in range(4, 400))])
    tracker.track(id=0, bucket="shop")
    tracker.track(id=5, bucket="blog", old_id=5, old_bucket=Site.SHOP)
    assert not [name for name in server.names() if "Site" in name or "SHOP" in name]
    assert tracker.lookup(buckets=["shop"], live=True)[-1][1]["shop"] == pytest.approx(398, abs=12)


@pytest.mark.parametrize(
    ("zone", "moment"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))),
        ("Europe/Berlin", datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)),
        ("America/Sao_Paulo", datetime(2018, 11, 4, 0, 30, tzinfo=ZoneInfo("America/Sao_Paulo"), fold=1)),
        ("UTC", datetime(2999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_moment_is_in_the_same_periods_in_any_lot(real_server, zone, moment):
    tracker = real_server.tracker(["hourly", "daily"], timezone=zone)
    tracker.track(id=1, date=moment)
    names = real_server.names()
    for count in (10, 5000):
        tracker.import_events([(n, None, moment) for n in range(count)])
    assert real_server.names() == names


def test_an_iterable_may_only_guess_its_length():
    class Lazy:
        def __iter__(self):
            return iter(range(3000))

        def __len__(self):
            return 50

    assert HyperLogLog(Lazy()) == HyperLogLog(range(3000))
