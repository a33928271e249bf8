"""Intervals of windows of few ids."""

from math import sqrt

import numpy as np
import pytest

from activity_tracker_hll.analytics.windows import stickiness
from helpers.spans import span_of_active

TRIALS = 100
LEAST = 0.93


@pytest.mark.parametrize(("ids", "active"), [(30, 0.02), (300, 0.02), (300, 0.3), (1000, 1)])
def test_stickiness_of_few_ids(ids, active):
    inside = []
    for trial in range(TRIALS):
        dice = np.random.default_rng(trial)
        hashes = dice.integers(0, 2**64, ids, np.uint64)
        days = dice.random((7, ids)) < active
        days[0, 0] = True  # somebody is there
        [share] = stickiness(span_of_active(hashes, days), [range(7)])
        low, high = share.interval()
        inside.append(low <= days.sum() / 7 / days.any(0).sum() <= high)
    assert np.mean(inside) >= LEAST - 3.5 * sqrt(LEAST * (1 - LEAST) / TRIALS)
