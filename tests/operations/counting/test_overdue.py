"""collapse() without max_periods: everything that is over and not counted, however old."""

import pytest

from activity_tracker_hll import BackendDataError, CollapseError
from activity_tracker_hll.periods import PERIODS
from helpers.collapses import YNAME, interrupted, marks, rows
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY, day


def name(before):
    return f"daily-{day(before):%Y%m%d}"


def watched(monkeypatch, tracker):
    """The batches that a tracker sends from now on."""
    execute, sent = tracker.backend.execute, []
    monkeypatch.setattr(
        tracker.backend,
        "execute",
        lambda commands, shard=0: sent.append(commands) or execute(commands, shard),
    )
    return sent


def test_nights_without_a_collapse_leave_no_holes(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    for n in range(1, 8):
        tracker.track_many(range(n), bucket="ab"[n % 2], date=day(n))
    tracker.collapse(date=day(4))  # and none in the nights after
    assert {c.period.date for c in tracker.collapse()} == {day(n) for n in (1, 2, 3, 4)}
    assert [counts["t"] for counts in rows(tracker, day(7), "t", live=False)] == [7, 6, 5, 4, 3, 2, 1]
    assert tracker.collapse() == []


def test_however_many_buckets_there_are_no_command_asks_about_all(real_server, monkeypatch):
    """Nobody else is answered meanwhile."""
    buckets = [f"b{n}" for n in range(4500)]
    tracker = real_server.tracker(buckets=buckets, aggregate_buckets={"t": buckets[:2]})
    tracker.track(id=1, bucket="b7", date=YESTERDAY)
    real_server.client.set(f"active:{name(2)}:b7", 1)  # so it is not looked back further
    sent = watched(monkeypatch, tracker)
    assert [c.bucket for c in tracker.collapse()] == ["b7"]
    assert tracker.lookup(start=YESTERDAY)[0][1]["b7"] == 1
    assert not tracker.rolling(1, start=YESTERDAY, buckets=buckets).gaps
    questions = [command for batch in sent for command in batch if command[0] in ("EXISTS", "MGET")]
    assert max(len(keys) for _, *keys in questions) == 4000


def test_what_is_years_old_is_found_by_its_mark(server):
    tracker = server.tracker(list(PERIODS), buckets=["a"])
    tracker.collapse()
    tracker.track(["daily", "monthly", "yearly"], id=1, bucket="a", date=day(1500))
    tracker.track(["daily"], id=1, bucket="a", date=YESTERDAY)
    found = {c.period.name for c in tracker.collapse()}
    moment = day(1500)
    assert found == {
        YNAME, f"daily-{moment:%Y%m%d}", f"monthly-{moment:%Y%m}", f"yearly-{moment:%Y}",
    }  # fmt: skip
    assert marks(server) == set()


@pytest.mark.parametrize("kinds", [["daily"], ["monthly"]])
def test_only_the_kinds_that_are_asked_for(server, kinds):
    tracker = server.tracker(["daily", "monthly"], buckets=["a"])
    tracker.track(id=1, bucket="a", date=day(70))
    assert {c.period.kind for c in tracker.collapse(kinds)} == set(kinds)


@pytest.mark.parametrize("writer", ["raw", "another language"])
def test_what_nobody_marked_is_found_back_to_the_newest_counted_period(server, writer):
    tracker = server.tracker(buckets=["a", "b"])
    tracker.track(id=1, bucket="b", date=day(20))
    tracker.collapse()
    for n in (30, 19, 5, 1):
        keys = tracker.backend.keys.bucket(name(n), "a")
        if writer == "raw":
            server.client.sadd(keys.raw, "x", "y")
        else:
            server.client.pfadd(keys.hll, "x", "y")
    assert {c.period.date for c in tracker.collapse()} == {day(n) for n in (19, 5, 1)}
    assert marks(server) == set()


def test_without_any_count_it_is_looked_back_as_far_as_sketches_are_kept_by_default(server):
    tracker = server.tracker(buckets=["a"])
    for n in (62, 64):
        server.client.pfadd(tracker.backend.keys.bucket(name(n), "a").hll, "x")
    assert {c.period.date for c in tracker.collapse()} == {day(62)}


def test_a_collapse_that_is_cut_short_leaves_marks_of_what_it_found(server):
    """A count in the newest period would else hide what lies before it, which nobody marked."""
    tracker = server.tracker(buckets=["a", "b"])
    for n in (3, 2, 1):
        server.client.sadd(tracker.backend.keys.bucket(name(n), "a").raw, "x")
    with interrupted(tracker, at="EVALSHA"):
        tracker.collapse()
    assert marks(server) == {name(n) for n in (1, 2, 3)}
    server.client.set(f"active:{YNAME}:b", 5)
    assert {c.period.date for c in tracker.collapse() if c.bucket == "a"} == {day(n) for n in (1, 2, 3)}
    assert marks(server) == set()


def test_raw_sets_that_came_after_a_count_are_found(server):
    tracker = server.tracker(buckets=["a"])
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.collapse()
    server.client.sadd(f"active:{YNAME}:raw:a", "late")
    assert [c.count for c in tracker.collapse()] == [2]


def test_the_period_of_the_date_and_those_after_it_are_left_alone(server):
    tracker = server.tracker(buckets=["a"])
    for n in (0, 1, 2, 3):
        tracker.track(id=1, bucket="a", date=day(n))
    assert {c.period.date for c in tracker.collapse(date=day(2))} == {day(3)}
    assert marks(server) == {name(n) for n in (0, 1, 2)}
    assert {c.period.date for c in tracker.collapse(date=TODAY)} == {day(1), day(2)}


def test_a_recount_counts_all_whose_sketches_are_kept(server):
    tracker = server.tracker(buckets=["a"])
    for n in (1, 5, 60):
        tracker.track(id=1, bucket="a", date=day(n))
    tracker.collapse()
    for n in (1, 60):
        tracker.track(id=2, bucket="a", date=day(n))
    assert tracker.collapse() == []
    assert {c.period.date: c.count for c in tracker.collapse(recount=True)} == {
        day(1): 2,
        day(5): 1,
        day(60): 2,
    }


def test_marks_that_are_no_periods_do_no_harm(server):
    tracker = server.tracker(buckets=["a"])
    server.client.sadd("active:{open}", "daily-20261399", "\x1b[2J", b"\xff", "daily", "hourly-2020010100")
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    assert [c.period.name for c in tracker.collapse()] == [YNAME]


def test_nothing_due_costs_three_commands(server, monkeypatch):
    """The marks; the counts of the newest period; what there is beside them."""
    tracker = server.tracker(buckets=[f"b{n}" for n in range(30)])
    tracker.track(id=1, bucket="b7", date=YESTERDAY)
    tracker.collapse()
    sent = watched(monkeypatch, tracker)
    assert tracker.collapse() == []
    assert [len(batch) for batch in sent] == [1, 1, 1]


def test_a_tracker_without_a_list_of_buckets_knows_what_others_there_are(server):
    """Else marks would heap up for ever, or be taken from those that others have to count."""
    tracker = server.tracker()
    for n in range(1, 70):
        tracker.track(id=1, date=day(n))
    tracker.track(id=1, bucket="a", date=day(9))
    assert len(tracker.collapse()) == 69
    assert marks(server) == {name(9)}
    tracker.track(id=1, date=TODAY)
    tracker.track(id=2, date=day(4))
    tracker.collapse()
    assert marks(server) == {name(0), name(4), name(9)}  # only a recount counts what came after a count
    tracker.collapse(recount=True)
    assert marks(server) == {name(0), name(9)}


def test_open_marks_that_cannot_be_read_are_an_error_by_name(server):
    tracker = server.tracker(buckets=["a"])
    server.client.set("active:{open}", "no set")
    with raises(BackendDataError, r"active:\{open\}"):
        tracker.collapse()
    server.client.pfadd(tracker.backend.keys.bucket(YNAME, "a").hll, "x")
    with raises(CollapseError, r"active:\{open\}") as caught:
        tracker.collapse()
    assert [c.count for c in caught.value.collapsed] == [1]


def test_a_collapse_leaves_the_marks_of_buckets_that_it_does_not_know(server):
    """Two services with lists of their own: each counts its buckets, whoever comes first."""
    one, other = server.tracker(buckets=["a", "b"]), server.tracker(buckets=["a", "b", "c"])
    for n in (4, 3, 2, 1):
        for bucket in "abc":
            other.track(id=1, bucket=bucket, date=day(n))
    for n in (3, 2, 1, 0):  # nightly
        one.collapse(date=day(n))
        assert [c.bucket for c in other.collapse(date=day(n))] == ["c"]
    assert marks(server) == set()
    other.track_many(range(9), bucket="c", date=day(30))  # and what comes late
    assert one.collapse() == []
    assert marks(server) == {name(30)}
    assert [c.count for c in other.collapse()] == [9]


def test_what_is_not_marked_is_found_beside_what_others_counted(server):
    """activity-tracker's raw sets of one bucket, in nights in which another one was counted."""
    one, other = server.tracker(buckets=["a"]), server.tracker(buckets=["b"])
    for n in (3, 2, 1):
        one.track(id=1, bucket="a", date=day(n))
        one.collapse(date=day(n - 1))
        server.client.sadd(one.backend.keys.bucket(name(n), "b").raw, "x")
    assert {c.period.date for c in other.collapse()} == {day(n) for n in (1, 2, 3)}


def test_a_misspelled_bucket_takes_no_marks(server):
    tracker = server.tracker(buckets=["a"])
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    assert tracker.collapse(buckets=["typo"]) == []
    assert marks(server) == {YNAME}
    assert [c.count for c in tracker.collapse()] == [1]


def test_a_new_aggregate_is_counted_where_it_can_be_and_fails_nothing(server):
    tracker = server.tracker(buckets=["a", "b"])
    for n in (5, 4, 3, 2, 1):
        tracker.track(id=n, bucket="a", date=day(n))
        tracker.track(id=9, bucket="b", date=day(n))
    tracker.collapse()
    for n in (5, 4):
        server.client.delete(*(tracker.backend.keys.bucket(name(n), bucket).hll for bucket in "ab"))
    new = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    assert {(c.period.date, c.bucket): c.count for c in new.collapse()} == {
        (day(n), "t"): 2 for n in (1, 2, 3)
    }
    assert new.collapse() == []
    with raises(CollapseError, "sketches of", "are gone"):  # but where it is asked for by name
        new.collapse(aggregate_buckets={"u": ["a", "b"]}, date=day(3))


def test_an_aggregate_among_the_buckets_is_counted_as_such(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    tracker.track(id=2, bucket="b", date=YESTERDAY)
    assert {c.bucket: c.count for c in tracker.collapse(buckets=["t"])} == {"t": 2}
    assert {c.bucket: c.count for c in tracker.collapse(buckets=["a", "b", "t"])} == {"a": 1, "b": 1, "t": 2}


def test_what_is_kept_for_an_aggregate_of_others_is_no_foreign_count(server):
    """Ids that come late are not the count of another program."""
    service = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    service.track_many(range(5), bucket="a", date=YESTERDAY)
    service.track(id=1, bucket="b", date=YESTERDAY)
    server.tracker(buckets=["a"]).collapse()
    service.track_many(range(10, 20), bucket="a", date=YESTERDAY)
    assert {c.bucket: c.count for c in service.collapse()} == {"b": 1, "t": 15}
    assert {c.bucket: c.count for c in service.collapse(recount=True)} == {"a": 15, "b": 1, "t": 15}
    assert all(0 < server.client.ttl(key) < 90 * 86400 for key in server.client.keys("*:hll"))
