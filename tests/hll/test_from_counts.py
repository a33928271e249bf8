"""Differences and unions from counts alone."""

from collections import Counter
from itertools import product
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.errors import ArgumentValueError
from activity_tracker_hll.hll.estimators import (
    standard_error,
)
from activity_tracker_hll.hll.from_counts import MOST_SOURCES, difference, terms, union
from helpers.registers import counts


@given(counts)
def test_without_moves_the_difference_is_the_plain_count(n):
    assert difference(n, 0, 0) == (n, standard_error(n))


@given(counts, counts, st.integers(0, 10_000))
def test_differences_are_never_negative(tracked, moved, back):
    remaining, stderr = difference(tracked, moved, back)
    assert remaining >= back
    assert stderr >= 0


@pytest.mark.parametrize("n", [1, 5, 300])
def test_where_all_left_the_error_is_the_resolution_alone(n):
    """The counts say the same, so that nothing grew: about n / m ids pass before registers show anything."""
    resolution = n / 16384
    assert difference(n, n, 0) == (0, pytest.approx(resolution * sqrt(1 + resolution / 2)))


def test_the_error_of_a_difference_is_that_of_the_design_table():
    """RMS error in per cent by simulation, DESIGN section 3, 'PFCOUNT difference'."""
    table = {10_000: (1.05, 2.7, 8.8), 100_000: (1.35, 3.6, 11.5), 1_000_000: (1.37, 3.7, 11.6)}
    for n, row in table.items():
        for share, percent in zip((0.5, 0.9, 0.99), row, strict=True):
            remaining, stderr = difference(n, round(n * share), 0)
            assert stderr / remaining * 100 == pytest.approx(percent, rel=0.11)


def recursion(sources, dead: frozenset[str] = frozenset()) -> Counter[frozenset[str]]:
    """The formula of hll/unions.py with R(H, V) = |H u V| - |V|."""
    result = Counter()
    if sources:
        (tracked, moved), *others = sources
        result[dead | {tracked, moved}] += 1
        result[dead | {moved}] -= 1
        result.update(recursion(others, dead | {tracked, moved}))
        result.update(recursion(others, dead))
        result.subtract(recursion(others, dead | {moved}))
    return result


def check_terms(plain, sets, sources) -> None:
    """With exact set sizes instead of estimates the sum is exact."""
    alive = plain.union(*(sets[tracked] - sets[moved] for tracked, moved in sources))
    counted = {keys: len(plain.union(*(sets[key] for key in keys))) for keys in terms(sources)}
    assert sum(factor * counted[keys] for keys, factor in terms(sources).items()) == len(alive)
    assert union((factor, counted[keys]) for keys, factor in terms(sources).items())[0] == len(alive)


@given(st.data())
def test_the_terms_of_a_union_are_exact(data):
    """Keys are those of one bucket or of several, and V need not be part of H."""
    ids, keys = st.sets(st.integers(0, 30)), st.sampled_from("abcdefghijkl")
    sets = {key: data.draw(ids) for key in "abcdefghijkl"}
    check_terms(data.draw(ids), sets, data.draw(st.lists(st.tuples(keys, keys), max_size=6)))


@pytest.mark.parametrize(
    "sources",
    [
        [("a", "j"), ("f", "a"), ("j", "f")],
        [("a", "j"), ("a", "k"), ("b", "j")],
    ],
)
def test_the_union_of_everything_bounds_even_where_its_factor_is_zero(sources):
    """Where the H of one source is the V of another, the factors of that union may cancel."""
    everything = frozenset("".join(map("".join, sources)))
    assert terms(sources)[everything] == 0
    sets = {key: {index} for index, key in enumerate(sorted(everything))}
    check_terms(set(), sets, sources)


def test_the_terms_of_a_union_are_exact_for_all_that_ids_can_do():
    """Absent, alive or dead in each of three sources, plain or not: one id of each, and two."""
    for repeated in (1, 2):
        ids = [
            (state, copy)
            for state in product(range(3), range(3), range(3), range(2))
            for copy in range(repeated)
        ]
        sets = {f"h{i}": {id for id in ids if id[0][i]} for i in range(3)}
        sets |= {f"v{i}": {id for id in ids if id[0][i] == 2} for i in range(3)}
        check_terms({id for id in ids if id[0][3]}, sets, [(f"h{i}", f"v{i}") for i in range(3)])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=6), st.data())
def test_the_terms_of_a_union_are_those_of_the_recursion(sources, data):
    factors = {keys: factor for keys, factor in recursion(sources).items() if factor}
    everything = frozenset(key for pair in sources for key in pair)
    assert terms(sources) == {everything: 0} | factors | {frozenset(): 1}
    assert terms(data.draw(st.permutations([*sources, *sources]))) == terms(sources)


@pytest.mark.parametrize("sources", range(MOST_SOURCES + 1))
def test_of_each_source_nothing_or_one_or_both(sources):
    assert len(terms([(f"h{i}", f"v{i}") for i in range(sources)])) == 3**sources


def test_the_terms_of_one_source():
    assert terms([("h", "v")]) == {frozenset("hv"): 1, frozenset("v"): -1, frozenset(): 1}


def test_too_many_terms_are_refused():
    sources = [(f"h{i}", f"v{i}") for i in range(MOST_SOURCES + 1)]
    assert terms([*sources[1:], *sources[1:]])
    with pytest.raises(ArgumentValueError, match="union of 7 buckets with moves takes 2,187 counts"):
        terms(sources)


@given(counts)
def test_a_union_without_moves_is_the_plain_count(n):
    assert terms([]) == {frozenset(): 1}
    assert union([(1, n)]) == (n, standard_error(n))


@given(st.lists(st.tuples(st.integers(-3, 3), counts), min_size=1))
def test_a_union_is_between_the_plain_count_and_that_of_all(counted):
    alive, stderr = union(counted)
    assert min(count for _, count in counted) <= alive <= max(count for _, count in counted)
    assert union(counted[::-1]) == (alive, stderr)
    assert stderr >= max(abs(factor) * standard_error(count) for factor, count in counted) * (1 - 1e-9)
