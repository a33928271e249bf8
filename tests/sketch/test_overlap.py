"""What two sketches have in common, from a user's side; tests/hll/test_joint.py has errors and intervals."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields
from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll import ArgumentTypeError, Estimate, HyperLogLog, Share
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.registers import REGISTERS

SIZES = st.integers(0, 4000)


def two(only_a, only_b, both):
    ids = range(only_a + only_b + both)
    return HyperLogLog(ids[: only_a + both]), HyperLogLog(ids[only_a:])


def truths(only_a, only_b, both):
    a, b, either = only_a + both, only_b + both, only_a + only_b + both
    return {
        "a": a,
        "b": b,
        "both": both,
        "either": either,
        "only_a": only_a,
        "only_b": only_b,
        "share_of_a": both / a,
        "share_of_b": both / b,
        "jaccard": both / either,
    }


def test_an_overlap_as_the_readme_shows_it():
    found = two(50_000, 30_000, 20_000)
    overlap = found[0].overlap(found[1])
    for name, truth in truths(50_000, 30_000, 20_000).items():
        value = getattr(overlap, name)
        low, high = value.interval(0.999)
        assert low <= truth <= high, name
        assert value == pytest.approx(truth, rel=0.05), name
        assert not value.suspect
        assert 0 < value.stderr < 0.05 * truth
        assert isinstance(value, Share if name.startswith("share") or name == "jaccard" else Estimate)
    assert overlap.a == found[0].count()
    assert overlap.b == found[1].count()
    assert found[0].jaccard(found[1]) == overlap.jaccard


def numbers(overlap):
    return [field for field in fields(overlap) if field.name != "complete"]


@given(SIZES, SIZES, SIZES)
@settings(max_examples=8)
def test_values_lie_in_their_intervals_which_grow_with_confidence(only_a, only_b, both):
    first, second = two(only_a, only_b, both)
    overlap = first.overlap(second)
    for field in numbers(overlap):
        value = getattr(overlap, field.name)
        if isnan(value):
            assert value.interval() == (0, 1)
            continue
        bounds = [value.interval(confidence) for confidence in (0.5, 0.95, 0.999)]
        for low, high in bounds:
            assert 0 <= low <= value <= high
        assert bounds[0][1] <= bounds[2][1] + 1e-9
        assert bounds[0][0] >= bounds[2][0] - 1e-9


def test_nobody_has_no_share():
    overlap = HyperLogLog().overlap(HyperLogLog())
    assert (overlap.a, overlap.both, overlap.either) == (0, 0, 0)
    assert isnan(overlap.jaccard)
    assert isnan(overlap.share_of_a)
    assert overlap.jaccard.interval() == (0, 1)


def test_a_sketch_and_itself():
    sketch = HyperLogLog(range(10_000))
    overlap = sketch.overlap(sketch)
    assert overlap.only_a == overlap.only_b == 0
    assert overlap.jaccard == pytest.approx(1)
    assert overlap.jaccard.interval()[1] == 1
    assert overlap.both == pytest.approx(10_000, rel=0.03)


def test_what_somebody_chose_is_suspect_in_all_that_is_made_of_it():
    """Random ids would not leave all registers alike."""
    fair = HyperLogLog(range(10_000))
    forged = HyperLogLog.from_bytes(codec.encode(np.full(REGISTERS, 7, np.uint8)))
    overlap = fair.overlap(forged)
    assert not overlap.a.suspect
    for field in numbers(overlap):
        value = getattr(overlap, field.name)
        if field.name != "a":
            assert value.suspect, field.name
            assert value.stderr == inf


def test_an_overlap_is_a_value():
    first, second = two(100, 100, 100)
    overlap = first.overlap(second)
    with pytest.raises(FrozenInstanceError):
        overlap.both = 3
    for other in (pickle.loads(pickle.dumps(overlap)), copy.deepcopy(overlap)):
        assert other == overlap
        assert other.both.interval(0.8) == overlap.both.interval(0.8)


@pytest.mark.parametrize("other", [None, 7, b"HYLL", {1, 2}])
@pytest.mark.parametrize("call", ["overlap", "jaccard"])
def test_only_sketches_overlap(call, other):
    with pytest.raises(ArgumentTypeError, match="other must be a HyperLogLog"):
        getattr(HyperLogLog(), call)(other)
