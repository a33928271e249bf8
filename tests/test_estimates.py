import copy
import json
import pickle
from dataclasses import dataclass
from math import ceil, floor, inf, isnan, log1p, nan
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activity_tracker_hll import Estimate, Share
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


@dataclass(frozen=True)
class Fixed:
    """Limits that are the same for every confidence."""

    low: float
    high: float

    def limits(self, confidence):
        assert 0 < confidence < 1
        return self.low, self.high


def test_limits_need_not_be_symmetric():
    assert Estimate(100, 9, Fixed(70.2, 103.2)).interval() == (70, 104)
    assert Estimate(100, 9, Fixed(-3, 1e30)).interval() == (0, 2**63 - 1)
    assert Estimate(100, 0, Fixed(70, 103)).interval() == (70, 103)
    assert Share(0.5, 0.1, Fixed(0.2, 0.6)).interval() == (0.2, 0.6)
    assert Share(0.5, 0.1, Fixed(-1, 3)).interval() == (0, 1)


def test_limits_hold_the_value():
    """A value that the likelihood had a little beside them."""
    assert Estimate(100, 9, Fixed(101, 103)).interval() == (100, 103)
    assert Share(0.5, 0.1, Fixed(0.51, 0.6)).interval() == (0.5, 0.6)


def test_nothing_is_known_of_what_is_suspect():
    assert Estimate(100, inf, Fixed(99, 101)).interval() == (0, 2**63 - 1)
    assert Share(0.5, inf, Fixed(0.4, 0.6)).interval() == (0, 1)
    assert Share(0.5, inf).suspect


def test_a_share_is_a_float():
    share = Share(0.25, 0.01)
    assert share == 0.25
    assert f"{share:.0%} {share!r}" == "25% 0.25"
    assert json.dumps([share]) == "[0.25]"
    assert type(share * 2) is float
    assert (share.stderr, share.relative_error, share.suspect) == (0.01, 0.04, False)


@given(st.floats(0, 1) | st.just(nan), st.floats(0, 10))
def test_copies_of_a_share_keep_the_error(value, stderr):
    share = Share(value, stderr, Fixed(0.1, 0.2))
    for other in (pickle.loads(pickle.dumps(share)), copy.copy(share), copy.deepcopy(share)):
        assert repr(other) == repr(share)
        assert (other.stderr, other.interval()) == (share.stderr, share.interval())


@given(st.floats(0, 1), st.floats(0, 2), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_an_interval_of_a_share_holds_it_and_stays_between_0_and_1(value, stderr, confidence):
    low, high = Share(value, stderr).interval(confidence)
    assert 0 <= low <= value <= high <= 1
    if stderr < 0.01 and 0.1 < value < 0.9 and confidence < 0.999:
        width = 2 * stderr * NormalDist().inv_cdf((1 + confidence) / 2)
        assert high - low == pytest.approx(width)


def test_the_share_of_nobody():
    for share in (Share(), Share(nan, 0.3)):
        assert isnan(share)
        assert share.interval() == (0, 1)
        assert not share.suspect


@pytest.mark.parametrize("share", [Share(0), Share(0.5)])
def test_the_relative_error_of_an_exact_share_is_0(share):
    assert share.relative_error == 0
    assert Share(0, 0.1).relative_error == inf


@pytest.mark.parametrize("confidence", [0, 1, -1, 1.5, nan, inf])
def test_a_share_refuses_a_confidence_out_of_range(confidence):
    with pytest.raises(ArgumentValueError, match="confidence must lie between 0 and 1"):
        Share(0.5, 0.1).interval(confidence)


@pytest.mark.parametrize("arguments", [(-0.1,), (1.1,), (inf,), (0.5, -1), (0.5, nan)])
def test_impossible_shares(arguments):
    with pytest.raises(ArgumentValueError):
        Share(*arguments)


@pytest.mark.parametrize("arguments", [("x",), (None,), (0.5, "x"), (0.5, None), ([],)])
def test_what_is_no_share(arguments):
    with pytest.raises(ArgumentTypeError, match="value and stderr must be numbers"):
        Share(*arguments)
