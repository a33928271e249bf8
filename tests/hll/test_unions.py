"""Unions of what remains, from registers."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll import Estimate
from activity_tracker_hll.hll.estimators import (
    ABOVE,
    LARGEST,
    cardinality,
    remainder,
    resolution,
    standard_error,
)
from activity_tracker_hll.hll.registers import REGISTERS, empty
from activity_tracker_hll.hll.unions import alive_in_any, union_of_remainders
from helpers.registers import dice, drawn, sketch, sketches


@settings(max_examples=30)
@given(st.none() | sketches, st.lists(st.tuples(sketches, sketches), max_size=6))
def test_unions_of_any_registers(plain, sources):
    alive, stderr = union_of_remainders(plain, sources)
    assert 0 <= alive <= LARGEST
    assert 0 <= stderr < float("inf")
    together = [
        empty() if plain is None else plain,
        *(registers for source in sources for registers in source),
    ]
    most = cardinality(reduce(np.maximum, together))
    distinct = {(tracked.tobytes(), moved.tobytes()) for tracked, moved in sources}
    if len(distinct) != 1 or plain is not None:  # a remainder has its own bounds
        assert alive <= most + 2 * standard_error(most) + 1
    Estimate(alive, stderr).interval()


@settings(max_examples=30)
@given(st.data())
def test_unions_of_few_ids_are_exact(data):
    """Ids that do not meet in any register; from one to seven sources."""
    hashes = np.random.default_rng(5).permutation(REGISTERS)[:31].astype(np.uint64)
    hashes |= np.random.default_rng(6).integers(0, 2**50, 31, np.uint64) << np.uint64(14)
    ids = st.sets(st.integers(0, 30))
    plain = data.draw(ids)
    sources = [(h | v, v) for h, v in data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=7))]
    alive = plain.union(*(h - v for h, v in sources))
    count, stderr = union_of_remainders(
        sketch(plain, hashes), [(sketch(h, hashes), sketch(v, hashes)) for h, v in sources]
    )
    assert count == pytest.approx(len(alive), abs=1)
    assert stderr < 2


@given(dice, st.integers(0, 5))
def test_sources_without_moves_are_plain(dice, sources):
    made = [drawn(dice, 5000) for _ in range(sources)]
    count = cardinality(reduce(np.maximum, made, empty()))
    expected = count, standard_error(count)
    assert union_of_remainders(None, [(registers, empty()) for registers in made]) == expected
    if made:
        assert union_of_remainders(made[0], [(registers, empty()) for registers in made[1:]]) == expected


@given(dice, st.integers(1, 10**5), st.integers(1, 10**5))
def test_a_single_source_has_the_remainder(dice, stayed, gone):
    moved = drawn(dice, gone)
    tracked = np.maximum(moved, drawn(dice, stayed))
    assert union_of_remainders(None, [(tracked, moved)]) == remainder(tracked, moved)
    assert union_of_remainders(empty(), [(tracked, moved)]) == remainder(tracked, moved)


def rolled(registers, dice: np.random.Generator):
    """Other registers of the same sum."""
    return np.roll(registers, dice.integers(1, REGISTERS))


def some_of(registers, dice: np.random.Generator):
    return np.where(dice.random(REGISTERS) < dice.random(), registers, 0).astype(np.uint8)


def disguised(source, plain, dice: np.random.Generator):
    """Says the same beside plain: a part of plain is in it, and of H a part of what V has too."""
    tracked, moved = source
    tracked = np.where(tracked > moved, tracked, some_of(tracked, dice))
    return np.maximum(tracked, some_of(plain, dice)), np.maximum(moved, some_of(plain, dice))


def drawn_source(dice: np.random.Generator, moved=None):
    moved = drawn(dice, int(10 ** dice.uniform(1, 5))) if moved is None else moved
    return np.maximum(moved, drawn(dice, int(10 ** dice.uniform(1, 5)))), moved


def drawn_sources(dice: np.random.Generator, count: int):
    """Some have the same V, or one of the same sum."""
    sources = [drawn_source(dice)]
    while len(sources) < count:
        moved = sources[dice.integers(len(sources))][1]
        sources.append(drawn_source(dice, (None, moved, rolled(moved, dice))[dice.integers(3)]))
    return sources


plains = st.none() | st.builds(empty) | st.builds(drawn, dice, st.sampled_from([1, 1000, 30_000]))


@settings(max_examples=20)
@given(dice, st.integers(2, 9), plains, st.data())
def test_neither_order_nor_repetition_of_sources_matters(dice, count, plain, data):
    sources = drawn_sources(dice, count)
    expected = union_of_remainders(plain, sources)
    assert union_of_remainders(plain, data.draw(st.permutations(sources))) == expected
    again = data.draw(st.lists(st.sampled_from(sources), max_size=6))
    again = [disguised(source, empty() if plain is None else plain, dice) for source in again]
    assert union_of_remainders(plain, data.draw(st.permutations([*sources, *again]))) == expected


@settings(max_examples=30)
@given(st.none() | sketches, st.lists(st.tuples(sketches, sketches), min_size=1, max_size=4), st.data())
def test_neither_order_nor_repetition_of_any_registers_matters(plain, sources, data):
    again = data.draw(st.permutations([*sources, *data.draw(st.lists(st.sampled_from(sources), max_size=4))]))
    assert union_of_remainders(plain, again) == union_of_remainders(plain, sources)


@settings(max_examples=20)
@given(dice, st.integers(1, 8), st.sampled_from([1, 1000, 30_000]), st.integers(1, 3), st.data())
def test_a_source_in_what_is_plain_adds_nothing(dice, count, ids, covered, data):
    plain, sources = drawn(dice, ids), drawn_sources(dice, count)
    expected = union_of_remainders(plain, sources)
    for _ in range(covered):
        tracked = some_of(plain, dice)
        sources = data.draw(st.permutations([*sources, (tracked, some_of(tracked, dice))]))
    assert union_of_remainders(plain, sources) == expected


@settings(max_examples=20)
@given(dice, st.integers(2, 8), plains, st.integers(1, 3))
def test_a_source_without_anybody_alive_adds_only_doubt(dice, count, plain, empty_ones):
    """Whom its registers could hide, and nothing else; nor does it count for which method is used."""
    sources = drawn_sources(dice, count)
    dead = [(registers, registers) for registers in (drawn(dice, 20_000) for _ in range(empty_ones))]

    def hidden(sources) -> float:
        registers = (*(tracked for tracked, _ in sources), empty() if plain is None else plain)
        return resolution(float(ABOVE[reduce(np.maximum, registers)].sum()))

    alive, stderr = union_of_remainders(plain, sources)
    again, doubt = union_of_remainders(plain, [*dead, *sources])
    assert again == alive
    assert doubt**2 - hidden([*dead, *sources]) == pytest.approx(stderr**2 - hidden(sources), rel=1e-6)


def check_formula(sources, others) -> None:
    """The recursion says the same of both, but for the last bits."""
    (alive, influence), (again, influenced) = alive_in_any(sources), alive_in_any(others)
    assert again == pytest.approx(alive, rel=1e-9, abs=1e-6)
    assert np.allclose(influenced, influence, rtol=1e-6, atol=1e-6)


@settings(max_examples=15)
@given(dice, st.integers(1, 4), st.data())
def test_sources_may_be_left_out_at_any_place_of_the_formula(dice, count, data):
    """Those where nobody is seen alive, and those that were there before."""
    sources = drawn_sources(dice, count)
    index = data.draw(st.integers(0, count))
    dead = drawn(dice, 20_000)
    check_formula(sources, [*sources[:index], (dead, dead), *sources[index:]])
    index = data.draw(st.integers(1, count))
    again = data.draw(st.sampled_from(sources[:index]))
    check_formula(sources, [*sources[:index], again, *sources[index:]])
