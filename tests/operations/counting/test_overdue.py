"""collapse() without max_periods: everything that is over and not counted, however old."""

import pytest

from activity_tracker_hll import BackendDataError, CollapseError
from activity_tracker_hll.periods import PERIODS
from helpers.collapses import YNAME, rows
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY, day


def marks(server):
    return {name.decode() for name in server.client.smembers("active:{open}")}


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


def test_a_collapse_that_is_cut_short_leaves_marks_of_what_it_found(server, monkeypatch):
    """A count in the newest period would else hide what lies before it, which nobody marked."""
    tracker = server.tracker(buckets=["a", "b"])
    for n in (3, 2, 1):
        server.client.sadd(tracker.backend.keys.bucket(name(n), "a").raw, "x")
    execute = tracker.backend.execute

    def dies(commands, shard=0):
        if any(command[0] == "EVALSHA" for command in commands):
            raise KeyboardInterrupt
        return execute(commands, shard)

    with monkeypatch.context() as patch:
        patch.setattr(tracker.backend, "execute", dies)
        with pytest.raises(KeyboardInterrupt):
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


def test_nothing_due_costs_two_round_trips(server, monkeypatch):
    """The marks, and counts, sketches and raw sets of the newest period."""
    tracker = server.tracker(buckets=[f"b{n}" for n in range(30)])
    tracker.track(id=1, bucket="b7", date=YESTERDAY)
    tracker.collapse()
    sent = watched(monkeypatch, tracker)
    assert tracker.collapse() == []
    assert [len(batch) for batch in sent] == [1, 3]


def test_many_marks_that_a_tracker_cannot_judge_are_looked_into_by_scan(server):
    """Without a list of buckets it does not know what else there is; but marks must not heap up for ever."""
    tracker = server.tracker()
    for n in range(1, 70):
        tracker.track(id=1, date=day(n))
    tracker.track(id=1, bucket="a", date=day(9))
    assert len(tracker.collapse()) == 69
    assert marks(server) == {name(9)}
    tracker.track(id=1, date=TODAY)
    tracker.track(id=2, date=day(4))
    tracker.collapse()
    assert marks(server) == {name(0), name(4), name(9)}  # few: not worth a scan


def test_open_marks_that_cannot_be_read_are_an_error_by_name(server):
    tracker = server.tracker(buckets=["a"])
    server.client.set("active:{open}", "no set")
    with raises(BackendDataError, r"active:\{open\}"):
        tracker.collapse()
    server.client.pfadd(tracker.backend.keys.bucket(YNAME, "a").hll, "x")
    with raises(CollapseError, r"active:\{open\}") as caught:
        tracker.collapse()
    assert [c.count for c in caught.value.collapsed] == [1]
