"""Collapses that are disturbed: by writes, by each other, by an end after any command."""

import threading
from datetime import timedelta
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import (
    BackendResponseError,
    CollapseError,
)
from helpers.collapses import AGGREGATES, YNAME, ends, restore, rows, scenario, snapshot, state, steps
from helpers.errors import raises
from helpers.moments import YESTERDAY, day


def test_a_bucket_written_to_while_it_is_collapsed_is_counted_with_that(server, monkeypatch):
    tracker = server.tracker(buckets=["a"], keep_sketches=timedelta(0))
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track(old_id=0, old_bucket="a", date=YESTERDAY)
    other = server.tracker()
    execute, calls = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        replies = execute(commands, shard)
        calls.append(commands)
        if len(calls) <= 3:
            other.track(id=100 + len(calls), bucket="a", date=YESTERDAY)
        return replies

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    [done] = tracker.collapse()
    assert done.count == 7 == rows(tracker, YESTERDAY, "a")[0]["a"]


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_a_bucket_without_moves_is_counted_however_often_it_is_written_to(server, monkeypatch, secret):
    tracker = server.tracker(buckets=["a"], secret=secret)
    other = server.tracker(secret=secret)
    other.track_many(range(5), bucket="a", date=YESTERDAY)
    execute, calls = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        calls.append(commands)
        other.track_many(range(1000 * len(calls), 1000 * len(calls) + 50), bucket="a", date=YESTERDAY)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    [done] = tracker.collapse()
    assert done.count >= 50
    assert not done.count.suspect


def test_a_bucket_that_never_comes_to_rest_is_reported(server, monkeypatch):
    tracker = server.tracker(buckets=["a", "calm"], aggregate_buckets={"t": ["a", "calm"]})
    tracker.track_many(range(5), bucket="a", date=YESTERDAY)
    tracker.track(id=1, bucket="calm", old_id=0, old_bucket="a", date=YESTERDAY)
    other = server.tracker()
    execute, calls = tracker.backend.execute, []

    def interrupted(commands, shard=0):
        calls.append(commands)
        other.track_many(range(1000 * len(calls), 1000 * len(calls) + 50), bucket="a", date=YESTERDAY)
        return execute(commands, shard)

    monkeypatch.setattr(tracker.backend, "execute", interrupted)
    with raises(CollapseError, "'a': is still being written to"):
        tracker.collapse()
    assert rows(tracker, YESTERDAY, "calm") == [{"calm": 1}]


@pytest.fixture(params=[None, "pepper"], ids=["no secret", "secret"])
def undisturbed(request, real_server):
    tracker = scenario(real_server, request.param)
    before = snapshot(real_server)
    tracker.collapse(max_periods=4)
    return tracker, before, state(real_server)


@pytest.mark.parametrize("secret", [None, "pepper"])
def test_the_scenario_is_counted_right(server, secret):
    tracker = scenario(server, secret)
    marks = {f"daily-{day(n):%Y%m%d}".encode() for n in (1, 3)}
    assert server.client.smembers("active:{open}") == marks
    tracker.collapse(max_periods=4)
    assert server.client.smembers("active:{open}") == set()
    found = tracker.lookup(start=day(3), buckets=["a", "b", "c", "d", *AGGREGATES], missing=None)
    assert [counts for _, counts in found] == [
        {"a": 32, "b": 1, "c": None, "d": 3, "ab": 32, "abc": 32, "cd": 3},
        {"a": 19, "b": 1, "c": None, "d": 2, "ab": 20, "abc": 20, "cd": 2},
        {"a": 9, "b": 1, "c": 20, "d": 1, "ab": 10, "abc": 25, "cd": 20},
    ]


def test_a_collapse_that_ends_after_any_command_is_completed_by_the_next(real_server, undisturbed):
    tracker, before, expected = undisturbed
    restore(real_server, before)
    commands = list(steps(tracker))
    assert len(ends(commands)) > 25
    for end in ends(commands):
        restore(real_server, before)
        running = steps(tracker)
        assert [command[0] for command in islice(running, end + 1)] == [c[0] for c in commands[: end + 1]]
        running.close()
        tracker.collapse(max_periods=4)
        assert state(real_server) == expected, f"ended after {commands[:end][-1:]}, the {end}th command"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.booleans(), max_size=120))
def test_two_collapses_at_once_in_any_interleaving(real_server, undisturbed, turns):
    tracker, before, expected = undisturbed
    restore(real_server, before)
    both = [steps(tracker), steps(tracker)]
    for turn in turns:
        next(both[turn], None)
    for running in both:
        for _ in running:
            pass
    assert state(real_server) == expected


def test_two_collapses_at_once_in_two_threads(real_server):
    tracker = scenario(real_server)
    before = snapshot(real_server)
    tracker.collapse(max_periods=4)
    expected = state(real_server)
    for _ in range(10):
        restore(real_server, before)
        gate = threading.Barrier(2)
        failures = []

        def work(gate=gate, failures=failures):
            gate.wait()
            try:
                tracker.collapse(max_periods=4)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert state(real_server) == expected


def test_temporary_keys_have_an_end_from_the_beginning(server, monkeypatch):
    """Whenever a process is killed, none stays for ever; and while it lives, none outlasts the call."""
    tracker = server.tracker(buckets=["plain", "a"], aggregate_buckets={"t": ["plain", "a"]})
    tracker.track(id=1, bucket="plain", date=YESTERDAY)
    tracker.track(id=1, bucket="a", old_id=2, old_bucket="a", date=YESTERDAY)
    tracker.track(id=2, bucket="a", date=YESTERDAY)
    execute, lives = tracker.backend.execute, []

    def watched(commands, shard=0):
        replies = execute(commands, shard)
        lives.extend(server.client.ttl(name) for name in temporary())
        return replies

    def temporary():
        return [name for name in server.names() if ":tmp:" in name]

    monkeypatch.setattr(tracker.backend, "execute", watched)
    assert tracker.lookup(start=YESTERDAY, buckets=["plain", "a", "t"])[0][1] == {"plain": 1, "a": 2, "t": 2}
    # Only where sketches cannot be read; a server's are, and nothing is written.
    assert bool(lives) == (server.name == "fakeredis")
    server.client.delete(f"{{active:{YNAME}:a}}:moves")
    server.client.set(f"{{active:{YNAME}:a}}:moves", "no sorted set")
    with raises(CollapseError, "'t'"):
        tracker.collapse()
    with raises(BackendResponseError, "'t'"):
        tracker.lookup(start=YESTERDAY, buckets=["t"], live=True)
    assert temporary() == []
    assert all(0 < life <= 600 for life in lives), lives
