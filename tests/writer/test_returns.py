"""Ids that move and return, in a writer: the newest event holds, whatever was pushed when."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from activity_tracker_hll import ActivityTracker, BackendConnectionError
from activity_tracker_hll.errors import BackendResponseError
from helpers.faults import DROP, FORWARD, Proxy
from helpers.moments import NOON, TODAY, YESTERDAY, day
from helpers.servers import eventually
from helpers.still import KINDS, SECOND, Still, wait


@pytest.mark.parametrize("command", ["ZRANGEBYSCORE", "EVALSHA"])
def test_a_return_that_cannot_be_told_is_told_later(real_server, command, monkeypatch):
    """Neither is it forgotten who was out."""
    writer = Still(real_server)
    writer.tracker.track(old_id="s", old_bucket="b")
    writer.track(id="u", bucket="b")
    writer.wait(1)
    writer.push()
    assert writer.left("b") == {b"s"}
    execute = writer.line.execute

    def refuse(commands, shard=0):
        refused = [sent[0] == command and (command != "EVALSHA" or b"s" in sent) for sent in commands]
        replies = execute([("PING",) if no else sent for no, sent in zip(refused, commands, strict=True)])
        oom = BackendResponseError("OOM")
        return [oom if no else reply for no, reply in zip(refused, replies, strict=True)]

    writer.tracker.track(old_id="s2", old_bucket="b")  # since the table was read
    writer.wait(1)
    writer.drain()
    writer.track(id="s", bucket="b")
    writer.track(id="s2", bucket="b")
    monkeypatch.setattr(writer.line, "execute", refuse)
    assert isinstance(writer.push(), BackendResponseError)
    monkeypatch.undo()
    assert writer.left("b") >= {b"s"}
    assert writer.push() is None
    assert writer.back("b") == {b"s", b"s2"}


def test_ids_that_return_are_back(server):
    writer = Still(server)
    for n in range(10):
        writer.track(id=n, bucket="b")
    for n in range(5):
        writer.track(id=n, bucket="c", old_id=n, old_bucket="b")
    writer.push()
    assert len(writer.left("b")) == 5
    for n in (0, 1):
        writer.track(id=n, bucket="b")
    writer.push()
    assert writer.left("b") == {b"2", b"3", b"4"}
    assert writer.back("b") == {b"0", b"1"}


def test_a_push_that_comes_after_a_move_does_not_undo_it(real_server):
    """Two workers: what the one saw before the other moved the id is no return, however late it is pushed."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    wait(1, one, other)
    other.track(id="ann", bucket="member", old_id="s", old_bucket="anon")
    other.push()
    one.push()
    assert one.left("anon") == {b"s"}
    one.drain()
    wait(1, one, other)
    one.track(id="s", bucket="anon")  # signed out
    one.push()
    assert one.back("anon") == {b"s"}


def test_a_return_that_was_pushed_before_the_move_it_follows(real_server):
    """Two workers: the one that moved the id could not push in time."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    one.push()
    other.track(id="ann", bucket="member", old_id="s", old_bucket="anon")
    wait(1, one, other)
    one.drain()
    one.track(id="s", bucket="anon")
    one.push()
    other.push()
    assert one.left("anon") == {b"s"}
    one.track(id="another", bucket="anon")
    one.push()
    assert one.back("anon") == {b"s"}


@pytest.mark.parametrize("off", [-90_000_000, -3000, -50, 50, 3000, 90_000_000])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_process_did_itself_keeps_its_order(real_server, when, off):
    """However well the server's clock is known: each reply says that it is off by so many microseconds."""
    writer = Still(real_server)
    clock = writer.planner.data_set(0).clock

    def learn(_commands):
        ticks = clock.ticks()
        clock.sample(ticks, divmod(clock.stamp(ticks) + off, SECOND))

    for n in range(5):
        writer.track(id=n, bucket="b")
    writer.drain()
    for n in range(5):
        writer.track(old_id=n, old_bucket="b")
        if when == "after":
            writer.track(id=n, bucket="b")
            writer.track(old_id=n, old_bucket="b")
    writer.line.meanwhile = learn
    assert writer.push() is None
    writer.line.meanwhile = lambda commands: None
    if when == "after":
        for n in range(5):
            writer.track(id=n, bucket="b")
    else:
        writer.track(id="another", bucket="b")
    assert writer.push() is None
    everyone = {b"%d" % n for n in range(5)}
    assert writer.left("b") == (everyone if when == "before" else set())
    assert writer.back("b") == (everyone if when == "after" else set())


@pytest.mark.parametrize("days", [0.001, 1000])
@pytest.mark.parametrize("buffered", [True, False])
def test_a_move_of_an_older_moment(server, days, buffered):
    """Whatever the time since the machine was started: a clock that is never set begins there."""
    writer = Still(server)
    writer.now = time.time()
    target = writer if buffered else writer.tracker
    moment = datetime.fromtimestamp(writer.now - days * 86400, UTC)
    target.track(old_id="s", old_bucket="b", date=moment)
    target.track(id="t", bucket="b", date=moment)
    writer.push()
    date = moment.date()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == ({b"s"}, set())
    target.track(id="s", bucket="b", date=moment - timedelta(seconds=1))
    writer.push()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == ({b"s"}, set())
    target.track(id="s", bucket="b", date=moment + timedelta(seconds=1))
    writer.push()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == (set(), {b"s"})
    target.track(old_id="s", old_bucket="b", date=moment)
    writer.push()
    assert (writer.left("b", date=date), writer.back("b", date=date)) == (set(), {b"s"})


def test_a_return_just_after_a_move_that_a_drain_has_taken_along(server):
    """The move came after the drainer had looked at the clock and before it took the queue."""
    writer = Still(server)
    writer.track(id="s", bucket="b")
    writer.drain()
    intake = writer.buffer.intake
    take, left = intake.take, iter(["s"])

    def take_later():
        for id in left:
            writer.track(old_id=id, old_bucket="b")
        return take()

    intake.take = take_later
    writer.drain()
    writer.track(id="s", bucket="b")
    writer.push()
    assert (writer.left("b"), writer.back("b")) == (set(), {b"s"})


@pytest.mark.parametrize("buffered", [True, False])
def test_a_move_is_as_old_as_it_is(real_server, buffered):
    """Pushed after an outage, a move counts from when it was made, not from when it was pushed."""
    one, other = Still(real_server), Still(real_server)
    one.track(id="s", bucket="anon")
    one.push()
    wait(100, one, other)
    if buffered:
        other.track(old_id="s", old_bucket="anon")
        wait(100, one, other)
        one.drain()
        one.track(id="s", bucket="anon")
        other.push()
        one.push()
        assert one.back("anon") == {b"s"}
    else:
        one.track(id="s", bucket="anon")
        one.drain()
        wait(100, one, other)
        other.tracker.track(old_id="s", old_bucket="anon")
        one.push()
        assert one.left("anon") == {b"s"}


def test_a_return_after_a_move_of_long_ago_that_the_server_has_just_heard_of(real_server):
    """Nothing but that it is announced tells: as many are out as there were, as another has come back."""
    one, other = Still(real_server, kinds=["yearly"]), Still(real_server, kinds=["yearly"])
    long_ago = [datetime.now(UTC) - timedelta(seconds=seconds) for seconds in (60, 50, 40, 30)]
    other.tracker.track(id="s", bucket="b", date=long_ago[0])
    other.tracker.track(old_id="t", old_bucket="b", date=long_ago[1])
    other.tracker.track(old_id="u", old_bucket="b")
    one.track(id="v", bucket="b")
    one.push()
    assert one.left("b", kind="yearly") == {b"t", b"u"}
    wait(1, one, other)
    other.tracker.track(id="t", bucket="b", date=long_ago[2])
    other.tracker.track(old_id="s", old_bucket="b", date=long_ago[3])
    assert one.left("b", kind="yearly") == {b"s", b"u"}
    one.track(id="s", bucket="b")
    one.push()
    assert one.back("b", kind="yearly") == {b"s", b"t"}


@pytest.mark.parametrize("limit", [0, 5])
@pytest.mark.parametrize("buffered", [True, False])
def test_how_many_moves_the_server_keeps_is_bounded(real_server, limit, buffered):
    writer = Still(real_server, moved_limit=limit)
    for n in range(20):
        (writer if buffered else writer.tracker).track(old_id=n, old_bucket="b")
    writer.push()
    keys = writer.keys("b")
    assert len(writer.left("b")) == limit
    assert real_server.client.exists(keys.moves) == (limit > 0)
    assert real_server.client.pfcount(keys.moved) == real_server.client.pfcount(keys.hll) == 20


@pytest.mark.parametrize("room", [2, 3])
def test_a_move_to_where_there_is_no_room_leaves_nothing(real_server, room):
    """In none of the periods, or in one of two: there the id counts where it was."""
    writer = Still(real_server, max_sketches=room)
    writer.track(id="before", bucket="b")
    assert writer.push() is None
    writer.track(id="after", bucket="c", old_id="before", old_bucket="b")
    assert writer.push() is None
    moved = [kind for kind in KINDS if real_server.client.exists(writer.keys("c", kind).hll)]
    assert len(moved) == room - 2
    assert {kind: writer.left("b", kind=kind) for kind in KINDS} == {
        kind: {b"before"} if kind in moved else set() for kind in KINDS
    }
    statistics = writer.statistics
    assert (statistics.tracked, statistics.pushed, statistics.dropped) == (6, 2 * room - 2, 8 - 2 * room)


def test_moves_that_found_no_room_hurry_nobody(real_server):
    writer = Still(real_server, kinds=["daily"], max_moves=1)
    for id, found in ((1, True), (2, False)):
        writer.track(id=id, old_id=id, old_bucket="b")
        writer.drain()
        assert writer.buffer.found_moves() is found
    assert writer.statistics.dropped == 1


def test_what_was_in_flight_at_a_fork_is_sent_by_the_child(real_server):
    """The parent may end before it is."""
    writer = Still(real_server)
    for n in range(20):
        writer.track(id=n, bucket="b")
    writer.track(id=5, bucket="c", old_id=5, old_bucket="b")
    writer.track(id=1, bucket="d", date=YESTERDAY)
    writer.drain()
    pushing = writer.pushing()
    batch = next(pushing)
    while batch[0][0] != "EVALSHA":
        batch = pushing.send(writer.line.execute(batch))
    writer.after_fork(os.getppid())  # and the parent's push, of which this is a copy, never goes on
    writer.buffer.take_over(writer.now)
    assert writer.push() is None
    assert real_server.client.pfcount(writer.keys("b").hll) == 20
    assert real_server.client.pfcount(writer.keys("c").hll) == 1
    assert real_server.client.pfcount(writer.keys("d", date=YESTERDAY).hll) == 1
    assert writer.left("b") == {b"5"}


@pytest.mark.parametrize("pushes_too", [True, False], ids=["a parent that goes on", "one that ends"])
def test_what_a_child_does_with_what_it_inherits(real_server, pushes_too):
    """It pushes it: what the parent pushes too does no harm twice. But it counts as the parent's."""
    writer, parent = Still(real_server), Still(real_server)
    for process in (writer, parent):
        for n in range(20):
            process.track(id=n, bucket="b")
        process.drain()
        process.track(id=5, bucket="c", old_id=5, old_bucket="b")
        process.track(id=6, bucket="c", old_id=6, old_bucket="b")
        process.track(id=20, bucket="b")
    writer.after_fork(os.getppid())
    assert writer.statistics.tracked == 0
    writer.buffer.take_over(writer.now)
    writer.track(id=21, bucket="b")
    wait(1, writer, parent)
    parent.drain()
    parent.track(id=6, bucket="b")  # after the fork
    if pushes_too:
        parent.push()
    assert writer.push() is None
    assert real_server.client.pfcount(writer.keys("b").hll) == 22
    assert writer.left("b") == ({b"5"} if pushes_too else {b"5", b"6"})
    assert writer.back("b") == ({b"6"} if pushes_too else set())
    statistics = writer.statistics
    assert statistics.tracked == statistics.pushed == 2
    assert statistics.pending == 0


def test_a_child_that_begins_in_the_next_period(real_server):
    """What its parent left belongs to the period of the parent, and nothing of its own does."""
    writer = Still(real_server, kinds=["daily"])
    writer.track(id="parent")
    writer.drain()
    writer.track(id="not drained")
    writer.after_fork(os.getppid())
    writer.now += 86400
    writer.buffer.take_over(writer.now)
    for n in range(10):
        writer.track(id=n)
    assert writer.push() is None
    counts = [real_server.client.pfcount(writer.keys(date=date).hll) for date in (TODAY, day(-1))]
    assert counts == [2, 10]


@pytest.mark.parametrize("why", ["an error", "a refresh", "another server"])
def test_a_return_that_another_process_saw_is_not_undone(real_server, why):
    """However soon all is sent again: by an error, where the server does not tell who it is, or ..."""
    writer = Still(real_server, refresh_interval=30)
    if why == "an error":
        writer.line.info = b""
    for id in ("kept", "lost"):
        writer.track(old_id=id, old_bucket="b")
    writer.push()
    writer.tracker.track(id="kept", bucket="b")
    keys = writer.keys("b")
    real_server.client.zrem(keys.moves, "lost")
    writer.track(id="z", bucket="c")
    if why == "an error":
        assert isinstance(writer.push(1), BackendConnectionError)
    elif why == "a refresh":
        writer.wait(46)
    else:
        writer.line.info = b"run_id:another"
        writer.wait(1)
    assert writer.push() is None
    assert writer.back("b") == {b"kept"}
    assert writer.left("b") == {b"lost"}


def test_what_is_written_again_is_not_ahead_of_the_rest(real_server):
    """An id is added where it goes before it leaves where it was, also if moves are sent once more."""
    writer = Still(real_server, kinds=["daily"])
    writer.track(old_id="other", old_bucket="b")
    writer.push()
    real_server.client.delete(writer.keys("b").moves)
    moving = iter([("u", "c", "s", "b")])

    def move(commands):
        if commands[0][0] == "EVALSHA":
            for id, bucket, old_id, old_bucket in moving:
                writer.track(id=id, bucket=bucket, old_id=old_id, old_bucket=old_bucket)
                writer.drain()

    writer.line.meanwhile = move
    writer.track(id="another", bucket="b")
    writer.push()
    assert next(moving, None) is None
    assert b"other" in writer.left("b")
    assert b"s" not in writer.left("b") or writer.registers("c").any()
    writer.push()
    assert writer.left("b") == {b"other", b"s"}
    assert writer.registers("c").any()


def test_the_returns_that_are_remembered_are_bounded(real_server):
    writer = Still(real_server, kinds=["daily"], max_moves=10)
    for n in range(50):
        writer.tracker.track(old_id=n, old_bucket="b")
    writer.wait(1)
    for n in range(50):
        writer.track(id=n, bucket="b")
    writer.push()
    assert len(writer.back("b")) == 50
    assert sum(len(state.moves) for state in writer.buckets.values()) <= 10


def test_the_moves_that_are_remembered_are_bounded(real_server):
    writer = Still(real_server, max_moves=10)
    for n in range(3):
        for id in range(8):
            writer.track(old_id=8 * n + id, old_bucket=f"b{n}")
        writer.push()
    remembered = [len(state.moves) for state in writer.buckets.values()]
    assert 0 < sum(remembered) <= 10
    writer.wait(100)  # all is sent again, and is remembered still
    writer.push()
    assert [len(state.moves) for state in writer.buckets.values()] == remembered
    writer.now += 32 * 86400  # both periods end
    writer.drain()
    writer.track(["daily"], id=1)
    writer.push()
    assert [bucket for _, bucket in writer.buckets] == [None]


def live(tracker, bucket):
    """The count of the running day."""
    return tracker.lookup("daily", live=True, buckets=[bucket])[-1][1][bucket]


def moved_and_seen_again(server, writer):
    """20 ids tracked, 10 of them moved by the writer, these seen again by somebody else."""
    other = server.tracker()
    for n in range(20):
        other.track(id=n, bucket="b")
    for n in range(10):
        writer.track(old_id=n, old_bucket="b")
    assert writer.flush().pending == 0
    assert live(other, "b") == 10
    for n in range(10):
        other.track(id=n, bucket="b")
    assert live(other, "b") == 20
    return other


def test_a_writer_does_not_undo_what_others_did_to_ids_it_moved(real_server):
    with real_server.tracker().buffered() as writer:
        other = moved_and_seen_again(real_server, writer)
        writer.track(id="one more", bucket="b")
        assert writer.flush().pending == 0
        assert live(other, "b") == 21


def test_a_refresh_does_not_undo_what_others_did_to_ids_it_moved(real_server):
    with real_server.tracker().buffered(flush_interval=0.05, refresh_interval=0.1) as writer:
        other = moved_and_seen_again(real_server, writer)
        before = writer.statistics.bytes
        eventually(lambda: writer.statistics.bytes > before + 2000)  # several times all that it has
        assert live(other, "b") == 20


def test_a_push_that_fails_does_not_undo_what_others_did_to_ids_it_moved(real_server, tmp_path):
    fails = threading.Event()

    def decide(_number, command):
        return DROP if fails.is_set() and command[0] in {b"EVALSHA", b"EVAL"} else FORWARD

    with Proxy(tmp_path / "p", real_server.options["unix_socket_path"], decide) as proxy:
        tracker = ActivityTracker(["daily"], unix_socket_path=proxy.path, timezone="UTC", clock=lambda: NOON)
        with tracker, tracker.buffered(flush_interval=0.05) as writer:
            other = moved_and_seen_again(real_server, writer)
            fails.set()
            writer.track(id="one more", bucket="b")
            eventually(lambda: writer.statistics.last_error is not None)
            fails.clear()
            assert writer.flush().pending == 0
            assert live(other, "b") == 21
