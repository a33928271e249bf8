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

from activity_tracker_hll import ArgumentValueError
from activity_tracker_hll.columns import EventColumns
from activity_tracker_hll.hll import codec, compact
from activity_tracker_hll.operations.tracking import batches, gathered, groups, importing, memory
from activity_tracker_hll.operations.tracking.groups import FEW
from helpers.imports import COUNT, FORMS, expected, sample
from helpers.moments import NOON, TODAY, YESTERDAY
from helpers.peaks import peak_of
from helpers.servers import back, left, sketches_on

HUSHED = ("mixed", "columns of bytes")
SMALL = [
    (importing, "_MOST_REMEMBERED", 2),
    (importing, "_GROUPS_PER_STEP", 2),
    (importing, "_WIDEST_TABLE", 40),
    (gathered, "_LOADS_PER_PUSH", 4),
    (compact, "MOST_PACKED", 20),
    (groups, "MOST_PACKED", 20),
    (groups, "_MOST_DENSE", 0),
    (memory, "_SMALL", 0),
]


@pytest.mark.parametrize(
    ("form", "secret"),
    [
        *((form, None) for form in FORMS),
        *(
            pytest.param(form, "hush", marks=pytest.mark.extended if form in HUSHED else pytest.mark.long)
            for form in FORMS
        ),
    ],
)
def test_every_form_makes_the_sketches_that_pfadd_makes(real_server, form, secret, monkeypatch):
    monkeypatch.setattr(memory, "_SMALL", 0)
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


@pytest.mark.parametrize("form", ["generator", "columns"])
@pytest.mark.parametrize(("targets", "room", "parts"), [(7, 1 << 20, 3), (40, 1 << 20, 9), (40, 10_000, 9)])
def test_more_buckets_and_periods_than_are_remembered(real_server, form, targets, room, parts, monkeypatch):
    """Forgetting what was sent, at every batch and within them, changes nothing."""
    for module, name, value in [*SMALL, (gathered, "_MOST_TARGETS", targets), (memory, "_SIZE", room)]:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(batches, "EVENTS_PER_BATCH", COUNT // parts)
    kinds = ["hourly", "daily", "monthly"]
    tracker = real_server.tracker(kinds)
    events = sample(form)
    wanted = expected(real_server, tracker, events, kinds)
    assert tracker.import_events(FORMS[form](events)).events == COUNT
    assert sketches_on(real_server) == wanted


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


@pytest.mark.parametrize("unit", ["Y", "D", "s", "ns"])
def test_one_moment_of_numpy_for_all(real_server, unit):
    tracker = real_server.tracker()
    moment = np.datetime64("1970-01-01").astype(f"M8[{unit}]")
    for date_ in (moment, np.repeat(moment, 200)):
        assert tracker.import_events((np.arange(200), "a", date_)).events == 200
    assert [*sketches_on(real_server)] == [b"{active:daily-19700101:a}:hll"]


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


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 257, 45_000])
@pytest.mark.parametrize("make", [np.arange, range, lambda n: iter(range(n)), lambda n: set(range(n))])
def test_track_many_makes_the_sketch_that_pfadd_makes(real_server, size, make):
    tracker = real_server.tracker(["daily", "weekly"])
    tracker.track_many(make(size), bucket="b")
    events = [(id, "b", TODAY) for id in range(size)]
    assert sketches_on(real_server) == expected(real_server, tracker, events, ["daily", "weekly"])


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


def test_many_events_are_sent_as_sketches(real_server, monkeypatch):
    """Which cost the server the same however many ids are in them."""
    tracker = real_server.tracker(["daily", "monthly"])
    execute, sent = tracker.backend.execute, []

    def noting(commands, shard=0):
        sent.extend(commands)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", noting)
    tracker.import_events([(n, "b", YESTERDAY) for n in range(20_000)])
    assert not [command for command in sent if command[0] == "PFADD"]
    assert sum(command[0] == "EVALSHA" for command in sent) == 2


def test_what_waits_to_be_sent_is_bounded(real_server, monkeypatch):
    """In events, and in buckets and periods, also if no second has passed."""
    tracker = real_server.tracker(clock=lambda: NOON)
    sent = []
    tracker.import_events((np.arange(1_200_000), "a", TODAY), progress=sent.append)
    assert len(sent) >= 2
    assert max(b - a for a, b in pairwise([0, *sent])) <= (1 << 20) + 65_536
    sent.clear()
    monkeypatch.setattr(gathered, "_MOST_TARGETS", 2000)
    for each in (1, FEW):
        sent.clear()
        buckets = np.repeat(np.array([f"b{n}" for n in range(4500)]), each)
        tracker.import_events((np.arange(len(buckets)), buckets, TODAY), progress=sent.append)
        assert len(sent) >= 2


def test_pushes_that_take_long_are_made_seldom(server, monkeypatch):
    """They take a fifth of the time, or less; but what is there is sent after half a minute."""
    now = [NOON]

    def events():
        for number in range(400):
            now[0] += 1
            yield number, "b", YESTERDAY

    def pushes(each_takes):
        sent = []
        tracker = server.tracker(clock=lambda: now[0])
        execute = tracker.backend.execute

        def slowly(commands, shard):
            now[0] += each_takes * any(command[0] == "EVALSHA" for command in commands)
            return execute(commands, shard)

        monkeypatch.setattr(tracker.backend, "execute", slowly)
        tracker.import_events(events(), progress=sent.append)
        return sent

    assert len(pushes(0)) > 300
    assert 40 < len(pushes(1)) < 110
    assert 10 < len(pushes(300)) < 18


@pytest.mark.parametrize("form", ["rows", "columns"])
@pytest.mark.parametrize("others", [1, FEW, 5000])
def test_an_id_that_leaves_while_it_waits_to_be_sent_is_back_by_its_next_event(
    real_server, form, others, monkeypatch
):
    """Another process moves it after events of the bucket were read and before they are sent."""
    monkeypatch.setattr(memory, "_SMALL", 0)
    tracker, other = (real_server.tracker(["daily", "monthly"]) for _ in range(2))
    moments = [datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, hour) for hour in (1, 2, 3)]

    def events():
        """Some events of the bucket; a move out of it; and the same again, an hour later."""
        for moment in (moments[0], moments[2]):
            part = [*((f"y{n}", "rare", moment) for n in range(others)), ("X", "rare", moment)]
            part += [(f"z{n}", "busy", moment) for n in range(FEW)]
            if form == "rows":
                yield from part
            else:
                ids, buckets, dates = zip(*part, strict=True)
                yield EventColumns(np.array(ids, "S"), np.array(buckets), np.array(dates, "M8[us]"))
            for id in ("X", "gone"):
                other.track(id=id, bucket="rare", date=moments[0])
                other.track(old_id=id, old_bucket="rare", date=moments[1])

    tracker.import_events(events() if form == "columns" else [*events()])
    for period in (f"daily-{YESTERDAY:%Y%m%d}", f"monthly-{YESTERDAY:%Y%m}"):
        keys = tracker.backend.keys.bucket(period, "rare")
        assert (back(real_server.client, keys), left(real_server.client, keys)) == ({b"X"}, {b"gone"})


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "m", "h", "object"])
def test_moments_in_columns_and_in_rows_bring_the_same_ids_back(real_server, unit, zone):
    tracker = real_server.tracker(timezone=zone)
    source = np.random.default_rng(1)
    moments = np.datetime64(YESTERDAY, "us") + source.integers(0, 86_400 * 10**6, 1000).astype("m8[us]")
    left = datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, 12, 30)
    for bucket in ("rows", "columns"):
        for id in range(0, 1000, 10):
            tracker.track(id=id, bucket=bucket, date=YESTERDAY)
            tracker.track(old_id=id, old_bucket=bucket, date=left)
    column = moments.astype(object if unit == "object" else f"M8[{unit}]")
    rows = column.astype("M8[us]").tolist()
    tracker.import_events(list(zip(range(1000), ["rows"] * 1000, rows, strict=True)))
    tracker.import_events((np.arange(1000), "columns", column))
    tables = [
        real_server.client.zrange(
            tracker.backend.keys.bucket(f"daily-{YESTERDAY:%Y%m%d}", bucket).moves, 0, -1, withscores=True
        )
        for bucket in ("rows", "columns")
    ]
    assert sum(score > 0 for _, score in tables[0]) > 20
    assert tables[0] == tables[1]


def test_progress_is_told_of_all_pushes_also_within_a_batch(real_server, monkeypatch):
    monkeypatch.setattr(gathered, "_MOST_TARGETS", 100)
    monkeypatch.setattr(importing, "_GROUPS_PER_STEP", 50)
    tracker, sent = real_server.tracker(clock=lambda: NOON), []
    buckets = np.array([f"b{n // 2}" for n in range(1000)])
    tracker.import_events((np.arange(len(buckets)), buckets, TODAY), progress=sent.append)
    assert sent[:5] == [200, 400, 600, 800, 1000]


@pytest.mark.parametrize("secret", [None, pytest.param("hush", marks=pytest.mark.extended)])
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


@pytest.mark.parametrize(
    ("form", "secret"),
    [
        *((form, None) for form in ("tuples", "columns", "aware, elsewhere", "columns, objects", "mixed")),
        ("columns", "hush"),
        ("mixed", "hush"),
    ],
)
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


@pytest.mark.extended
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
            (f"user-{{n % 7001}}", f"b{{n % 3}}", first + timedelta(minutes=n % 7000)) for n in range(60_000)
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
    assert [run(pushes) for pushes in (2, 4, 6)] == [-9] * 3
    assert sketches_on(real_server) != {}
    assert run(0) == 0
    assert sketches_on(real_server) == wanted
    assert not [name for name in real_server.names() if "tmp" in name]


@pytest.mark.parametrize("bad", [100_000, 149_999])
@pytest.mark.parametrize("column", [0, 1])
def test_a_bad_event_late_in_columns_is_named_and_what_is_before_is_counted(real_server, column, bad):
    columns = [
        np.array([f"id{n}" for n in range(150_000)], object),
        np.array(["a"] * 150_000, object),
        np.full(150_000, np.datetime64("2026-01-05")),
    ]
    columns[column][bad] = ""
    tracker = real_server.tracker(["daily"])
    with pytest.raises(ArgumentValueError, match=rf"events\[{bad}\]"):
        tracker.import_events(tuple(columns))
    whole = real_server.tracker(["monthly"])
    whole.import_events(tuple(column[:bad] for column in columns))
    daily, monthly = (
        real_server.client.get(f"{{active:{name}:a}}:hll") for name in ("daily-20260105", "monthly-202601")
    )
    assert codec.decode(daily).tolist() == codec.decode(monthly).tolist()


IMPORT_ROWS = """
import sys
from datetime import datetime, timedelta
from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.operations.tracking import events as tracking

tracking._PUSH_EVERY_S = 1e9  # they are sent for the memory that they take only

def rows(count):
    for n in range(count):
        moment = datetime(2026, 6, 1) + timedelta(seconds=n * 104_729 % 2_592_000)
        yield f"user{n * 7919 % 500_000}", f"site{n * 31 % 20}", moment

url, form, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
tracker = ActivityTracker(["daily"], url=url, timezone="UTC")
class MadeOnTheWay(list):
    def __iter__(self):
        return rows(count)

# Most of a list refer to a few, so that it is small itself.
events = MadeOnTheWay() if form == "made on the way" else list(rows(1000)) * (count // 1000)
print(tracker.import_events(events).events)
"""


@pytest.mark.extended
@pytest.mark.parametrize(("form", "rows"), [("made on the way", 2_000_000), ("list", 6_000_000)])
def test_rows_that_wait_take_little_memory(real_server, form, rows):
    url = f"unix://{real_server.options['unix_socket_path']}"
    sizes = []
    for count in (1000, rows):
        peak = peak_of([sys.executable, "-c", IMPORT_ROWS, url, form, str(count)])
        assert (peak.status, peak.output) == (0, f"{count}\n")
        sizes.append(peak.size)
    assert sizes[1] - sizes[0] < 120 << 20
