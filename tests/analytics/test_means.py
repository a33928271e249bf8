"""Errors and intervals of the mean retention of cohorts that have ids in common, or differ in size."""

from math import sqrt

import numpy as np
import pytest

from activity_tracker_hll.analytics.cohorts import retention
from activity_tracker_hll.analytics.spans import ALL
from helpers.spans import span_of_active

TRIALS = 40
LEAST = 0.93
EXCESS = 1.15
"""As many times its predicted error a number may be off, by root mean square."""
WIDEST = 1.6
"""As many times the actual error may be predicted."""


def launch(dice):
    """All come on the first day, and the same fifth of them on all others."""
    ids = np.arange(50_000)
    return np.array([ids < (10_000 if day else 50_000) for day in range(6)])


def passers_by(dice):
    """Each day some of all."""
    return dice.random((6, 20_000)) < 0.2


def newcomers(dice):
    """Many come on the second day, and few of them again; fewer on each day after it, and more of these."""
    born = np.repeat(np.arange(7), [100, 30_000, *[6000] * 5])
    days = np.arange(7)[:, None]
    return (born == days) | ((born < days) & (dice.random((7, len(born))) < np.where(born == 1, 0.1, 0.6)))


@pytest.mark.parametrize(
    ("crowd", "first", "look_back"),
    [(launch, 0, None), (passers_by, 0, None), (passers_by, 1, 1), (newcomers, 1, ALL)],
)
def test_means(crowd, first, look_back):
    errors, predicted, inside = [], [], []
    for trial in range(TRIALS):
        dice = np.random.default_rng(trial)
        days = crowd(dice)
        hashes = dice.integers(0, 2**64, days.shape[1], np.uint64)
        _, means = retention(span_of_active(hashes, days), first, look_back, "on")
        truths = list(true_means(days, first, look_back or 0))
        # The last ones are of a cohort or two.
        for mean, truth in zip(means[1:-2], truths[1:-2], strict=True):
            low, high = mean.interval()
            errors.append(mean - truth)
            predicted.append(mean.stderr)
            inside.append(low <= truth <= high)
    rms, expected = sqrt(np.mean(np.square(errors))), sqrt(np.mean(np.square(predicted)))
    print(f"rms {rms:.3g} predicted {expected:.3g} ratio {rms / expected:.3f} inside {np.mean(inside):.1%}")
    # Those of one trial share its sketches: as many trials as there are tell how far these may be off.
    slack = 3.5 / sqrt(2 * TRIALS)
    assert rms <= EXCESS * expected * (1 + slack)
    assert expected <= WIDEST * rms * (1 + slack)
    assert np.mean(inside) >= LEAST - 3.5 * sqrt(LEAST * (1 - LEAST) / TRIALS)


def true_means(days, first, look_back):
    """By offset, the share of all cohorts' ids that came back."""
    indexes = range(first, len(days))
    cohorts = {day: days[day] & ~days[max(0, day - look_back) : day].any(0) for day in indexes}
    for offset in range(len(indexes)):
        used = indexes[: len(indexes) - offset]
        yield sum((cohorts[day] & days[day + offset]).sum() for day in used) / sum(
            cohorts[day].sum() for day in used
        )
