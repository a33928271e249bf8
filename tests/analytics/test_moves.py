"""Errors and intervals where ids move: what is said of many ids, against the truth about each of them."""

from collections import defaultdict
from functools import reduce
from itertools import product
from math import sqrt

import numpy as np
import pytest

from activity_tracker_hll.analytics.cohorts import retention
from activity_tracker_hll.analytics.lifecycle import lifecycle
from activity_tracker_hll.analytics.overlap import overlap_of
from activity_tracker_hll.analytics.spans import ALL
from activity_tracker_hll.analytics.windows import stickiness
from helpers.crowds import Crowd, RestlessCrowd
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
    for look_back, when in product((None, 2), ("on", "on or after")):
        rows, _ = retention(whole, first, look_back, when)
        kind = f"retention {when}" + " (new)" * bool(look_back)
        for day, row in enumerate(rows, first):
            members = crowd.alive(day) & ~crowd.seen(*range(max(0, day - (look_back or 0)), day))
            yield f"{kind}, cohort", row.size, members.sum()
            for other, cell in enumerate(row.cells[1:], day + 1):
                until = days if when == "on or after" else other + 1
                later = reduce(np.logical_or, map(crowd.alive, range(other, until)))
                back = (members & later).sum()
                yield kind, cell.ids, back
                yield f"{kind}, share", cell.share, back / members.sum()
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


def check(crowd_of, days, trials):
    """What is said of many crowds.

    Args:
        crowd_of: makes one of a generator of random numbers.
        days: that it has.
        trials: how many.
    """
    said = defaultdict(list)
    for trial in range(trials):
        crowd = crowd_of(np.random.default_rng([trial, days]))
        for name, number, truth in numbers(crowd, days):
            low, high = number.interval()
            said[name].append((number - truth, number.stderr, low <= truth <= high, truth))
    for name, found in said.items():
        error, predicted, inside, truth = np.array(found, float).T
        rms, expected = sqrt(np.mean(error**2)), sqrt(np.mean(predicted**2))
        print(
            f"{name:36} {truth.mean():10.4g} rms {rms:9.4g} predicted {expected:9.4g}"
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
    check(lambda dice: Crowd(dice, 100_000, 7, buckets, 0.5), 7, 5)


@pytest.mark.long
@pytest.mark.parametrize(("buckets", "days", "moved"), [*product((1, 3), (7, 30), (0.1, 0.5))])
def test_errors_and_intervals_of_all_settings(buckets, days, moved):
    check(lambda dice: Crowd(dice, 100_000, days, buckets, moved), days, 400)


@pytest.mark.parametrize(
    ("active", "leaving", "returning"), [((0.6,), (0.7,), 0.6), ((0.9, 0.1), (0.9, 0), 0.5)]
)
def test_errors_and_intervals_where_many_return(active, leaving, returning):
    check(lambda dice: RestlessCrowd(dice, 20_000, 4, active, leaving, returning), 4, 8)


@pytest.mark.long
@pytest.mark.parametrize(
    ("active", "leaving"), [((0.6,), (0.7,)), ((0.9, 0.1), (0.9, 0)), ((0.5, 0.01, 0.1), (0.9, 0.1, 0.5))]
)
@pytest.mark.parametrize("returning", [0.05, 0.2, 0.6])
def test_errors_and_intervals_where_many_return_of_all_settings(active, leaving, returning):
    check(lambda dice: RestlessCrowd(dice, 30_000, 4, active, leaving, returning), 4, 200)
