"""All buckets and periods of a writer, within bounds: no server, no threads."""

import tracemalloc
from random import Random

import numpy as np
import pytest

from activity_tracker_hll.bulk import hashes_of_bytes
from activity_tracker_hll.operations.tracking.side_table import Seen
from activity_tracker_hll.operations.tracking.stamps import ServerClock
from activity_tracker_hll.operations.tracking.unite import Outcome
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.writer.bucket_state import BucketState
from activity_tracker_hll.writer.buckets import Buckets, Leaving, Limits

NOON = 20_000 * 86_400 + 43_200


@pytest.fixture
def buckets():
    made = Buckets(Calendar("UTC"), ["daily", "monthly"], Limits(6, 10, 1), Random(1))
    made.takes_sketches = True
    made.open_window(NOON)
    return made


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_of_too_many_hashes_each_is_kept_once_with_its_latest_time(buckets, seed, parts, monkeypatch):
    monkeypatch.setattr("activity_tracker_hll.writer.buckets.MAX_HASHES", 60)
    monkeypatch.setattr("activity_tracker_hll.writer.buckets._PART", 0)
    random = np.random.default_rng(seed)
    latest: dict[int, int] = {}
    for _ in range(parts):
        hashes = random.integers(50, size=600 // parts).astype(np.uint64)
        when = (
            int(random.integers(1000)) if random.random() < 0.5 else random.integers(1000, size=len(hashes))
        )
        for hash, ticks in zip(hashes.tolist(), np.broadcast_to(when, len(hashes)).tolist(), strict=True):
            latest[hash] = max(latest.get(hash, 0), ticks)
        assert buckets.add(None, None, Seen(hashes, when), ()) == []
    buckets.limit_hashes()
    for state in buckets.values():
        [kept] = state.unsent.seen
        since = np.broadcast_to(kept.since, len(kept.hashes)).tolist()
        assert dict(zip(kept.hashes.tolist(), since, strict=True)) == latest
        assert len(kept.hashes) == len(latest)


def test_hashes_that_come_one_by_one_are_bounded_too(buckets, monkeypatch):
    """Nothing is pushed in an outage, while the queues are drained several times a second."""
    monkeypatch.setattr("activity_tracker_hll.writer.buckets.MAX_HASHES", 1000)
    for number in range(500):
        buckets.add(None, None, Seen(np.array([number], np.uint64), number), ())
        buckets.limit_hashes()
    for state in buckets.values():
        assert len(state.unsent.seen) < 100
        assert sum(len(part.hashes) for part in state.unsent.seen) == 500


def test_what_does_not_fit_is_said(buckets):
    one = Seen(np.array([7], np.uint64), 1)
    no_room = [buckets.add(bucket, None, one, ()) for bucket in ("a", "b", "c", "d")]
    assert no_room == [[], [], [], list(buckets.names(None))]
    assert {bucket for _, bucket in buckets} == {"a", "b", "c"}


def test_room_is_not_made_of_what_is_about_to_be_added_to(buckets):
    one = Seen(np.array([7], np.uint64), 1)
    clock = ServerClock(lambda: 1, lambda: 1)
    for bucket in "abcde":
        buckets.add(bucket, ("daily-20241004",), one, ())
    taken, _ = buckets.take(1, everything=False)
    for state in taken.values():
        state.take_unsent(clock, sketches=True)
        state.acknowledge(Outcome(), 1, keep_moves=True)
    buckets.begin()
    assert buckets.add("f", None, one, ()) == []  # the second of its periods takes the place of the others
    assert list(buckets) == [(name, "f") for name in buckets.names(None)]
    assert [state.pending for state in buckets.values()] == [1, 1]


def test_an_id_that_is_sent_with_two_stamps_is_acknowledged():
    """As back, by this process, and as found to be back, by the time at which it was seen."""
    state, clock = BucketState(), ServerClock(lambda: 1, lambda: 1)
    state.moves.leave(b"u", 7, ticks=10)
    state.unsent.seen.append(Seen(np.array([7], np.uint64), 20))
    load = state.take_unsent(clock, sketches=True)
    stamp = load.moves[b"u"]
    state.acknowledge(Outcome(returned={b"u": stamp - 5}), 30, keep_moves=True)
    assert state.is_idle


@pytest.mark.parametrize("seed", range(20))
def test_moves_are_bounded_whatever_becomes_of_them(seed):
    """As if all were counted anew each time."""
    random = Random(seed)
    buckets = Buckets(Calendar("UTC"), ["daily"], Limits(30, 12, 10**15), Random(1))
    buckets.takes_sketches = True
    buckets.open_window(NOON)
    ticks = iter(range(1, 10**6))
    clock = ServerClock(lambda: next(ticks), lambda: 10**15)

    def count(which):
        return sum(which(state.moves) for state in buckets.values() if state.has_moves)

    for step in range(300):
        id, bucket = b"%d" % random.randrange(40), random.choice("abcd")
        [hash] = hashes_of_bytes([id]).tolist()
        [period] = buckets.names(None)
        before = count(lambda moves: moves.new)
        is_new = not any(state.moves.is_new(id) for target, state in buckets.items() if target[1] == bucket)
        if random.random() < 0.7:
            dropped = buckets.leave(bucket, period, [Leaving(id, hash, next(ticks))])
            assert dropped == (is_new and before >= 12)
        else:
            buckets.add(bucket, None, Seen(np.array([hash], np.uint64), next(ticks)), ())
        if not random.randrange(4):
            taken, _ = buckets.take(next(ticks), everything=False)
            for state in taken.values():
                state.take_unsent(clock, sketches=True)
            buckets.recount(taken)
            for target, state in taken.items():
                fate = random.randrange(4)
                if not fate:
                    state.put_back(all_in_doubt=bool(random.randrange(2)))
                    buckets.return_state(target, state)
                elif fate == 1:
                    state.refuse()
                    buckets.return_state(target, state)
                else:
                    returned = {b"returned %d" % random.randrange(9): next(ticks) for _ in range(fate - 2)}
                    state.note_returned(returned, clock)
                    state.acknowledge(Outcome(returned=returned), next(ticks), keep_moves=fate == 2)
                    buckets.acknowledged(target, state)
        if not random.randrange(60):
            buckets.update_window(NOON + 86_400 * (step + 1))
        assert buckets.room_for_moves() == 12 - count(lambda moves: len(moves) - moves.new)


def test_nothing_is_kept_of_hours_that_have_ended():
    """However seldom all is sent again."""
    buckets = Buckets(Calendar("UTC"), ["hourly"], Limits(6, 10, 10**15), Random(1))
    buckets.takes_sketches = True
    buckets.open_window(NOON)
    clock = ServerClock(lambda: 1, lambda: 1)

    def pass_hours(first, last):
        for hour in range(first, last):
            buckets.update_window(NOON + 3600 * hour)
            buckets.add("a", None, Seen(np.array([7], np.uint64), 1), ())
            taken, _ = buckets.take(hour, everything=False)
            for state in taken.values():
                state.take_unsent(clock, sketches=True)
                state.acknowledge(Outcome(), hour, keep_moves=True)
            buckets.recount(taken)
        assert len(buckets) == 1
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = pass_hours(0, 1200)  # more periods than are remembered
        assert pass_hours(1200, 4000) < before + 200_000
    finally:
        tracemalloc.stop()
