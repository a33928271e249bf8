"""All buckets and periods of a writer, within bounds: no server, no threads."""

from random import Random

import numpy as np
import pytest

from activity_tracker_hll.operations.tracking.side_table import Seen
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.writer.buckets import Buckets, Limits

NOON = 20_000 * 86_400 + 43_200


@pytest.fixture
def buckets():
    made = Buckets(Calendar("UTC"), ["daily", "monthly"], Limits(6, 10, 1), Random(1))
    made.takes_sketches = True
    made.open_window(NOON)
    return made


@pytest.mark.parametrize("seed", range(10))
def test_of_too_many_hashes_each_is_kept_once_with_its_latest_time(buckets, seed, monkeypatch):
    monkeypatch.setattr("activity_tracker_hll.writer.buckets.MAX_HASHES", 100)
    random = np.random.default_rng(seed)
    latest: dict[int, int] = {}
    for _ in range(5):
        hashes = random.integers(50, size=60).astype(np.uint64)
        when = int(random.integers(1000)) if random.random() < 0.5 else random.integers(1000, size=60)
        for hash, ticks in zip(hashes.tolist(), np.broadcast_to(when, 60).tolist(), strict=True):
            latest[hash] = max(latest.get(hash, 0), ticks)
        assert buckets.add(None, None, Seen(hashes, when), ()) == 0
    buckets.limit_hashes()
    for state in buckets.values():
        [kept] = state.unsent.seen
        assert dict(zip(kept.hashes.tolist(), kept.since.tolist(), strict=True)) == latest
        assert len(kept.hashes) == len(latest)


def test_what_does_not_fit_is_said(buckets):
    one = Seen(np.array([7], np.uint64), 1)
    rooms = [buckets.add(bucket, None, one, ()) for bucket in ("a", "b", "c", "d")]
    assert rooms == [0, 0, 0, 2]
    assert {bucket for _, bucket in buckets} == {"a", "b", "c"}
