import copy
import json
import pickle
from statistics import NormalDist

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activity_tracker_hll import Estimate
from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError
from activity_tracker_hll.hll.estimators import standard_error

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


@given(st.integers(100, 10**9), st.floats(1.6, 1e6), st.floats(0.01, 0.999))
def test_an_interval_has_as_many_whole_numbers_as_it_is_long(n, stderr, confidence):
    low, high = Estimate(n + 10**7, stderr).interval(confidence)
    length = 2 * NormalDist().inv_cdf((1 + confidence) / 2) * stderr
    assert high - low + 1 == pytest.approx(max(1, length), abs=0.5001)
    assert n + 10**7 - low - (high - n - 10**7) in {0, 1}


@given(st.integers(0, 290), st.floats(0.01, 0.999))
def test_of_few_ids_both_ends_are_rounded_outwards(n, confidence):
    low, high = Estimate(n).interval(confidence)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * standard_error(n)
    if standard_error(n) < 1.6:
        assert high - n >= half
        assert n - low >= min(n, half)


@given(counts, st.floats(0.01, 0.99))
def test_exact_counts_have_no_width(n, confidence):
    assert Estimate(n, 0.0).interval(confidence) == (n, n)


def test_intervals():
    assert Estimate(10_000).interval() == (9882, 10118)
    assert Estimate(0).interval() == (0, 0)
    assert Estimate(0, 3.0).interval() == (0, 7)
    assert Estimate(50).interval(0.5)[0] == 49
    assert Estimate(1000, 2.0).interval() == (996, 1003)  # 7.84 are 8 whole numbers


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
