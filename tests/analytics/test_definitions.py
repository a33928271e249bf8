"""What each number is of, against sets: with so few ids that sketches are all but exact."""

from math import isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll.analytics.cohorts import retention
from activity_tracker_hll.analytics.lifecycle import lifecycle
from activity_tracker_hll.analytics.overlap import overlap_of
from activity_tracker_hll.analytics.windows import stickiness, unique
from helpers.sets import IDS, World
from helpers.spans import span


@st.composite
def worlds(draw, fewest_periods=1):
    """Worlds of a few ids in up to three buckets; in some nobody leaves."""
    count, leaves = draw(st.integers(1, 3)), draw(st.booleans())
    active = st.sampled_from([True, False] if leaves else [True])
    events = st.lists(st.tuples(st.integers(0, IDS - 1), active), max_size=15)
    periods = range(draw(st.integers(fewest_periods, 5)))
    return World(count, [[draw(events) for _ in range(count)] for _ in periods])


def near(estimate, truth) -> bool:
    """Within an id, and within the interval, in which there are whole ids."""
    low, high = estimate.interval()
    return abs(estimate - len(truth)) <= 1 and low - 1 <= len(truth) <= high + 1


@given(worlds(), st.integers(1, 5))
def test_unique(world, window):
    windows = [range(end - window, end) for end in range(window, len(world.periods) + 1)]
    for found, periods in zip(unique(span(world.history()), windows), windows, strict=True):
        assert near(found, world.alive(*periods))


@given(worlds(), st.integers(1, 5))
def test_stickiness(world, window):
    windows = [range(end - window, end) for end in range(window, len(world.periods) + 1)]
    for found, periods in zip(stickiness(span(world.history()), windows), windows, strict=True):
        users = world.alive(*periods)
        if not users:
            assert isnan(found) or found == 0
            continue
        active = sum(len(users & world.alive(period)) for period in periods)
        assert found == pytest.approx(active / len(periods) / len(users), abs=0.03)
        low, high = found.interval()
        assert low <= active / len(periods) / len(users) <= high


@given(worlds(), st.none() | st.integers(1, 3), st.sampled_from(["on", "on or after"]), st.data())
@settings(max_examples=25)
def test_retention(world, look_back, when, data):
    first = data.draw(st.integers(0, len(world.periods) - 1))
    found, means = retention(span(world.history()), first, look_back, when)
    assert len(found) == len(means) == len(world.periods) - first
    for index, cohort in enumerate(found, first):
        past = range(max(0, index - look_back), index) if look_back else range(0)
        members = world.alive(index) - world.seen(*past)
        assert near(cohort.size, members)
        assert len(cohort.cells) == len(world.periods) - index
        for other, (ids, share, complete) in enumerate(cohort.cells, index):
            assert complete
            until = len(world.periods) if when == "on or after" else other + 1
            back = members & set().union(*(world.alive(each) for each in range(other, until)))
            assert near(ids, back)
            if members:
                assert share == pytest.approx(len(back) / len(members), abs=0.08)
                low, high = share.interval()
                assert low - 0.02 <= len(back) / len(members) <= high + 0.02
            else:
                assert isnan(share) or share == 0


@given(worlds(2), st.integers(1, 4), st.data())
@settings(max_examples=25)
def test_lifecycle(world, look_back, data):
    first = data.draw(st.integers(1, len(world.periods) - 1))
    for index, found in enumerate(lifecycle(span(world.history()), first, look_back), first):
        now, before = world.alive(index), world.alive(index - 1)
        known = world.seen(*range(max(0, index - look_back), index))
        left = world.seen(index) - now
        assert near(found.active, now)
        assert near(found.new, now - known)
        assert near(found.retained, now & before)
        assert near(found.resurrected, (now & known) - before)
        assert near(found.churned, before - now - left)
        assert near(found.moved, before & left)


@given(worlds(), worlds())
@settings(max_examples=25)
def test_overlap(world, other):
    found = overlap_of(span(world.history()), span(other.history()))
    a, b = world.alive(*range(len(world.periods))), other.alive(*range(len(other.periods)))
    truths = {"a": a, "b": b, "both": a & b, "either": a | b, "only_a": a - b, "only_b": b - a}
    for name, truth in truths.items():
        assert near(getattr(found, name), truth), name
    for name, whole in {"share_of_a": a, "share_of_b": b, "jaccard": a | b}.items():
        share = getattr(found, name)
        if whole:
            assert share == pytest.approx(len(a & b) / len(whole), abs=0.08)
            low, high = share.interval()
            assert low - 0.02 <= len(a & b) / len(whole) <= high + 0.02
        else:
            assert isnan(share) or share == 0
