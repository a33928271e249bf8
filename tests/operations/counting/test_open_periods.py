"""Which periods are marked as holding uncounted data, after collapses and writes at once."""

from datetime import timedelta

import pytest

from activity_tracker_hll import (
    CollapseError,
)
from helpers.collapses import YNAME, marks, rows
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY, day


@pytest.fixture(params=[1, 2], ids=["once", "every command twice"])
def repeat(request):
    """How often commands are executed: clients send again what lost only its reply."""
    return request.param


def between(monkeypatch, tracker, repeat, command, act):
    """Do something before the first batch that has a command."""
    execute, done = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        if not done and any(sent[0] == command for sent in commands):
            done.append(act())
        for _ in range(repeat):
            replies = execute(commands, shard)
        return replies

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    return done


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_a_collapse_that_leaves_nothing_takes_the_mark_away(server, secret):
    tracker = server.tracker(
        ["daily", "yearly"], buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]}, secret=secret
    )
    for n in range(4):
        tracker.track_many(range(5), ["daily"], bucket="ab"[n % 2], date=day(n))
    tracker.track(["daily"], id=1, bucket="b", old_id=1, old_bucket="a", date=day(2))
    name = "daily-{:%Y%m%d}".format
    assert marks(server) == {name(day(n)) for n in range(4)}
    tracker.collapse(date=day(1), max_periods=1)
    assert marks(server) == {name(day(n)) for n in (0, 1, 3)}
    tracker.collapse(max_periods=1)
    assert marks(server) == {name(day(n)) for n in (0, 3)}
    tracker.collapse(max_periods=9)
    assert marks(server) == {name(TODAY)}
    assert tracker.collapse(max_periods=9, recount=True) != []
    assert marks(server) == {name(TODAY)}


def test_a_period_that_a_collapse_counted_is_not_open_again_later(server):
    tracker = server.tracker(buckets=[None])
    tracker.track(id=1, date=YESTERDAY)
    marked = server.client.smembers("active:{open}")
    assert marked == {f"daily-{YESTERDAY:%Y%m%d}".encode()}
    tracker.collapse()
    assert server.client.smembers("active:{open}") == set()
    assert tracker.collapse(date=TODAY + timedelta(days=3)) == []


def test_a_mark_where_there_is_nothing_is_taken_away(server):
    tracker = server.tracker(buckets=["a", "b"])
    for n in range(9):
        server.client.sadd("active:{open}", f"daily-{day(n):%Y%m%d}")
    assert tracker.collapse(max_periods=5) == []
    assert marks(server) == {f"daily-{day(n):%Y%m%d}" for n in (0, 6, 7, 8)}


def test_a_collapse_that_fails_leaves_the_mark(server):
    tracker = server.tracker(buckets=["good", "bad"], aggregate_buckets={"t": ["bad"]})
    tracker.track(id=1, bucket="good", date=YESTERDAY)
    tracker.track(id=1, bucket="good", date=day(2))
    server.raise_on("bad")
    for _ in range(2):
        with raises(CollapseError, "'bad'"):
            tracker.collapse(max_periods=2)
        assert marks(server) == {YNAME}
    server.client.delete(f"{{active:{YNAME}:bad}}:hll")
    tracker.collapse(max_periods=2)
    assert marks(server) == set()


def test_a_collapse_of_some_buckets_leaves_the_mark_for_the_others(server):
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"], "just a": ["a"]})
    for bucket in ("a", "b"):
        tracker.track(id=1, bucket=bucket, date=YESTERDAY)
    tracker.collapse(buckets=["a"])
    assert marks(server) == {YNAME}
    tracker.collapse()
    assert marks(server) == set()


@pytest.mark.parametrize("how", ["track", "track_many", "raw"])
def test_a_write_that_comes_between_is_marked_again(server, monkeypatch, repeat, how):
    """Its own mark came before the collapse took it away."""
    tracker = server.tracker(buckets=["a", "b"], aggregate_buckets={"t": ["a", "b"]})
    other = server.tracker()
    other.track(id=1, bucket="a", date=YESTERDAY)
    other.track(id=1, bucket="a", date=day(2))
    write = {
        "track": lambda: other.track(id=2, bucket="b", date=YESTERDAY),
        "track_many": lambda: other.track_many(range(500), bucket="b", date=YESTERDAY),
        "raw": lambda: server.client.sadd(f"active:{YNAME}:raw:b", 2),
    }[how]
    done = between(monkeypatch, tracker, repeat, "SREM", write)
    assert {(c.period.date, c.bucket) for c in tracker.collapse(max_periods=2)} == {
        (date, bucket) for date in (YESTERDAY, day(2)) for bucket in ("a", "t")
    }
    assert done
    assert marks(server) == {YNAME}
    monkeypatch.undo()
    assert {c.bucket for c in tracker.collapse(max_periods=2)} == {"b", "t"}
    assert marks(server) == set()


def test_a_write_whose_mark_comes_after_the_collapse_is_marked(server, monkeypatch):
    """Between the writer's two steps, all of a collapse."""
    tracker, other = server.tracker(buckets=["a"]), server.tracker()
    tracker.track(id=1, bucket="a", date=day(2))
    done = between(monkeypatch, other, 1, "SADD", lambda: tracker.collapse(max_periods=2))
    other.track_many([1], bucket="a", date=YESTERDAY)
    assert [[c.count for c in collapsed] for collapsed in done] == [[1, 1]]
    assert marks(server) == {YNAME}  # for nothing, which does no harm
    assert tracker.collapse(max_periods=2) == []
    assert marks(server) == set()


def test_marks_that_cannot_be_taken_away_do_not_hide_what_was_collapsed(server):
    tracker = server.tracker(buckets=["good", "bad"])
    for n in (1, 2):
        tracker.track(id=1, bucket="good", date=day(n))
    server.client.delete("active:{open}")
    server.client.set("active:{open}", "no set")
    with raises(CollapseError, r"active:\{open\}") as caught:
        tracker.collapse()
    assert [item.bucket for item in caught.value.collapsed] == ["good"] * 2
    assert rows(tracker, YESTERDAY, "good") == [{"good": 1}]
    server.raise_on("bad")
    with raises(CollapseError, "'bad'"):
        tracker.collapse(max_periods=2)
