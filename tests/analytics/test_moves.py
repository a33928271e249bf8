"""Errors and intervals where ids move: what is said of many ids, against the truth about each of them."""

from collections import defaultdict
from itertools import product
from math import sqrt

import numpy as np
import pytest

from activity_tracker_hll.analytics.cohorts import retention
from activity_tracker_hll.analytics.lifecycle import lifecycle
from activity_tracker_hll.analytics.overlap import overlap_of
from activity_tracker_hll.analytics.spans import ALL
from activity_tracker_hll.analytics.windows import stickiness
from helpers.crowds import Crowd
from helpers.spans import span

LEAST, MOST = 0.92, 0.99
EXCESS = 1.15
"""As many times its predicted error a number may be off, by root mean square."""
AT_THE_END = 3
"""Periods and cohorts of which something is asked."""


def numbers(crowd, days):
    """What is said, and the truth: (name, number, truth)."""
    whole = span(crowd.history())
    yield "unique", whole.unique(range(days)), crowd.alive(*range(days)).sum()
    yield from _overlaps(crowd, whole, days)
    first = days - AT_THE_END
    for day, row in enumerate(lifecycle(whole, first, ALL), first):
        now, before = crowd.alive(day), crowd.alive(day - 1)
        known, left = crowd.seen(*range(day)), crowd.seen(day) & ~now
        yield "active", row.active, now.sum()
        yield "new", row.new, (now & ~known).sum()
        yield "retained", row.retained, (now & before).sum()
        yield "resurrected", row.resurrected, (now & known & ~before).sum()
        yield "churned", row.churned, (before & ~now & ~left).sum()
        yield "moved", row.moved, (before & left).sum()
    for look_back in (None, 2):
        rows, _ = retention(whole, first, look_back, "on")
        for day, row in enumerate(rows, first):
            members = crowd.alive(day) & ~crowd.seen(*range(day - (look_back or 0), day))
            yield "cohort" + " (new)" * bool(look_back), row.size, members.sum()
            for other, cell in enumerate(row.cells[1:], day + 1):
                back = (members & crowd.alive(other)).sum()
                yield "retention" + " (new)" * bool(look_back), cell.ids, back
                yield "retention, share" + " (new)" * bool(look_back), cell.share, back / members.sum()
    [share] = stickiness(whole, [range(days)])
    users = crowd.alive(*range(days))
    active = sum((users & crowd.alive(day)).sum() for day in range(days))
    yield "stickiness", share, active / days / users.sum()


def _overlaps(crowd, whole, days):
    half = days // 2
    for name, first, other in (
        ("days", range(half, half + 1), range(days - 1, days)),
        ("ranges", range(half), range(half, days)),
    ):
        found = overlap_of(*(span(whole.history[part.start : part.stop]) for part in (first, other)))
        a, b = crowd.alive(*first), crowd.alive(*other)
        for what, truth in (
            ("both", (a & b).sum()),
            ("only_a", (a & ~b).sum()),
            ("share_of_a", (a & b).sum() / a.sum()),
            ("jaccard", (a & b).sum() / (a | b).sum()),
        ):
            yield f"{what} of {name}", getattr(found, what), truth


def check(buckets, days, moved, trials):
    said = defaultdict(list)
    for trial in range(trials):
        crowd = Crowd(np.random.default_rng([trial, buckets, days]), 100_000, days, buckets, moved)
        for name, number, truth in numbers(crowd, days):
            low, high = number.interval()
            said[name].append((number - truth, number.stderr, low <= truth <= high, truth))
    print(f"\nbuckets {buckets}, days {days}, moved {moved:.0%}, trials {trials}")
    for name, found in said.items():
        error, predicted, inside, truth = np.array(found, float).T
        rms, expected = sqrt(np.mean(error**2)), sqrt(np.mean(predicted**2))
        print(
            f"{name:24} {truth.mean():10.4g} rms {rms:9.4g} predicted {expected:9.4g}"
            f" ratio {rms / expected:.3f} bias {error.mean():9.3g} inside {inside.mean():.1%}"
        )
        # Numbers of one trial share its sketches: as many trials as there are tell how far it may be off.
        assert rms <= EXCESS * expected * (1 + 3.5 / sqrt(2 * trials)), name
        slack = 3.5 * sqrt(LEAST * (1 - LEAST) / trials)
        assert inside.mean() >= LEAST - slack, name
        if trials > 100:
            assert inside.mean() <= MOST + 3.5 * sqrt(MOST * (1 - MOST) / trials), name


@pytest.mark.extended
@pytest.mark.parametrize("buckets", [1, pytest.param(3, marks=pytest.mark.long)])
def test_errors_and_intervals(buckets):
    check(buckets, 7, 0.5, 5)


@pytest.mark.long
@pytest.mark.parametrize(("buckets", "days", "moved"), [*product((1, 3), (7, 30), (0.1, 0.5))])
def test_errors_and_intervals_of_all_settings(buckets, days, moved):
    check(buckets, days, moved, 400)
