import copy
import json
import pickle
from math import ceil, floor, log1p
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activity_tracker_hll import Estimate
from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError
from activity_tracker_hll.hll.estimators import cardinality, standard_error
from activity_tracker_hll.hll.registers import REGISTERS

counts = st.integers(0, 10**9)


def test_it_is_an_int():
    estimate = Estimate(341)
    assert estimate == 341
    assert f"{estimate} {estimate!r}" == "341 341"
    assert json.dumps({"n": estimate}) == '{"n": 341}'
    assert type(estimate + 1) is int
    assert sum([estimate, estimate]) == 682
    assert {341: "x"}[estimate] == "x"


@given(counts, st.none() | st.floats(0, 1e9))
def test_copies_keep_the_error(value, stderr):
    estimate = Estimate(value, stderr)
    for other in (pickle.loads(pickle.dumps(estimate)), copy.copy(estimate), copy.deepcopy(estimate)):
        assert (other, other.stderr) == (estimate, estimate.stderr)


@pytest.mark.parametrize(
    ("n", "percent"), [(100, 0.55308), (10_000, 0.604), (10**6, 0.80162), (10**9, 0.8119)]
)
def test_standard_error_of_a_plain_count(n, percent):
    assert standard_error(n) / n * 100 == pytest.approx(percent, rel=1e-3)
    assert Estimate(n).stderr == standard_error(n)
    assert Estimate(n).relative_error == pytest.approx(percent / 100, rel=1e-3)


@given(counts)
def test_standard_error_stays_between_its_bounds(n):
    assert 0.5 * n**2 / 16384 <= standard_error(n) ** 2 * (1 + 1e-9) <= 1.08 * n**2 / 16384 * (1 + 1e-6)


@given(counts, st.none() | st.floats(0, 1e9), st.floats(0, 1, exclude_min=True, exclude_max=True))
@example(5, 1e9, 1 - 2**-53)
@example(5, 2.0, 5e-324)
def test_intervals_hold_the_count_and_grow_with_confidence(n, stderr, confidence):
    low, high = Estimate(n, stderr).interval(confidence)
    assert type(low) is type(high) is int
    assert 0 <= low <= n <= high
    if confidence < 0.9:
        wide_low, wide_high = Estimate(n, stderr).interval((1 + confidence) / 2)
        assert wide_low <= low <= high <= wide_high


@given(st.integers(0, 10**9), st.floats(0, 1e6, exclude_min=True), st.floats(0.01, 0.999))
def test_an_interval_is_as_wide_as_a_normal_one(n, stderr, confidence):
    low, high = Estimate(n + 10**7, stderr).interval(confidence)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * stderr + (0.5 if stderr < 1.6 else 0)
    assert n + 10**7 - low == high - n - 10**7 == floor(half)


# Every estimate of few ids: what k registers give that are not empty; half have rank 1, a quarter 2, ...
RANKS = np.array([(k & -k).bit_length() for k in range(1, REGISTERS + 1)], np.uint8)
LINEAR = {
    cardinality(RANKS * (np.arange(REGISTERS) < k)): -REGISTERS * log1p(-k / REGISTERS) for k in range(1000)
}


@given(st.sampled_from([n for n in LINEAR if 290 < n < 990]), st.floats(0.01, 0.999))
def test_intervals_of_few_ids_stand_around_what_was_rounded(n, confidence):
    low, high = Estimate(n).interval(confidence)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * standard_error(n)
    assert abs(LINEAR[n] - n) < 1
    assert low == min(n, ceil(LINEAR[n] - half))
    assert high == max(n, floor(LINEAR[n] + half))


@given(counts, st.floats(0.01, 0.99))
def test_exact_counts_have_no_width(n, confidence):
    assert Estimate(n, 0.0).interval(confidence) == (n, n)


def test_intervals():
    assert Estimate(10_000).interval() == (9882, 10118)
    assert Estimate(0).interval() == (0, 0)
    assert Estimate(0, 3.0).interval() == (0, 5)
    assert Estimate(50).interval() == (50, 51)  # 50 registers are not empty
    assert Estimate(300).interval() == (297, 302)
    assert Estimate(1000, 2.0).interval() == (997, 1003)


@pytest.mark.parametrize("confidence", [0, 1, -1, 1.5, float("nan")])
def test_confidence_out_of_range(confidence):
    with pytest.raises(ArgumentValueError, match="confidence"):
        Estimate(5).interval(confidence)


@pytest.mark.parametrize("confidence", [True, "95", None])
def test_confidence_that_is_no_number(confidence):
    with pytest.raises(ArgumentTypeError, match="confidence"):
        Estimate(5).interval(confidence)


@pytest.mark.parametrize(("value", "stderr"), [(-1, None), (1, -0.5), (1, float("nan"))])
def test_impossible_estimates(value, stderr):
    with pytest.raises(ArgumentValueError, match="negative"):
        Estimate(value, stderr)


def test_relative_error_of_nothing():
    assert Estimate(0).relative_error == 0
    assert Estimate(0, 2.0).relative_error == float("inf")


def test_an_estimate_without_a_value_is_of_nobody():
    assert Estimate() == Estimate(0) == 0
