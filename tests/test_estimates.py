import copy
import json
import pickle
from itertools import combinations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll import Estimate
from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError
from activity_tracker_hll.hll import difference, standard_error, union_of_remainders

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


@given(counts, st.floats(0.01, 0.99))
def test_intervals_hold_the_count_and_grow_with_confidence(n, confidence):
    low, high = Estimate(n).interval(confidence)
    assert 0 <= low <= n <= high
    wide_low, wide_high = Estimate(n).interval((1 + confidence) / 2)
    assert wide_low <= low <= high <= wide_high


def test_intervals():
    assert Estimate(10_000).interval() == (9881, 10119)
    assert Estimate(0).interval() == (0, 0)
    assert Estimate(0, 3.0).interval() == (0, 7)
    assert Estimate(50).interval(0.5)[0] == 49


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


@given(counts)
def test_without_moves_the_difference_is_the_plain_count(n):
    assert difference(n, 0, 0) == (n, standard_error(n))


@given(counts, counts, st.integers(0, 10_000))
def test_differences_are_never_negative(tracked, moved, back):
    remaining, stderr = difference(tracked, moved, back)
    assert remaining >= back
    assert stderr >= 0


def test_the_error_of_a_difference_is_that_of_the_design_table():
    """RMS error in per cent by simulation, DESIGN section 3, 'PFCOUNT difference'."""
    table = {10_000: (1.05, 2.7, 8.8), 100_000: (1.35, 3.6, 11.5), 1_000_000: (1.37, 3.7, 11.6)}
    for n, row in table.items():
        for share, percent in zip((0.5, 0.9, 0.99), row, strict=True):
            remaining, stderr = difference(n, round(n * share), 0)
            assert stderr / remaining * 100 == pytest.approx(percent, rel=0.11)


@given(st.data())
def test_unions_of_remainders_from_exact_counts(data):
    """With exact set sizes instead of estimates: exact for up to three sources, else within the bounds."""
    ids = st.sets(st.integers(0, 30))
    plain = data.draw(ids)
    sources = [(h | v, v) for h, v in data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=6))]
    gone = plain.union(*(v for _, v in sources))
    singles = [(len(h | plain), len(v | plain), len(h | gone)) for h, v in sources]
    pairs = [
        (len(h | w | plain), len(v | i | plain), len(h | i | plain), len(v | w | plain), len(h | i | gone))
        for (h, v), (i, w) in combinations(sources, 2)
    ]
    union = len(plain.union(*(h for h, _ in sources)))
    alive = len(plain.union(*(h - v for h, v in sources)))
    count, stderr = union_of_remainders(union, len(gone), len(plain), singles, pairs)
    if len(sources) <= 3:
        assert count == alive
    else:  # the error of a uniform distribution between the bounds
        assert abs(count - alive) <= sqrt(3) * stderr + 0.5
    if len(sources) == 2:
        assert union_of_remainders(union, len(gone), len(plain), singles)[0] == alive
    without, wide = union_of_remainders(union, len(gone), len(plain), singles)
    assert abs(without - alive) <= sqrt(3) * wide + 0.5


def test_a_union_without_moves_has_the_plain_error():
    assert union_of_remainders(1000, 0, 0, [])[0] == 1000
    assert union_of_remainders(1000, 400, 400, [])[1] == pytest.approx(
        sqrt(standard_error(1000) ** 2 + (1000 / 16384) ** 2)
    )
