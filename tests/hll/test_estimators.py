"""Estimators: against both servers, and by laws."""

from math import exp, expm1, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll import Estimate
from activity_tracker_hll.hll.estimators import (
    ABOVE,
    CHANCE,
    LARGEST,
    cardinalities_of,
    cardinality,
    remainder,
    standard_error,
)
from activity_tracker_hll.hll.registers import MAX_RANK, REGISTERS, empty, histogram
from helpers.registers import dice, drawn, odd, sketches

# Counts of one sketch


def dense(registers) -> bytes:
    """The server's dense form, whose cached count is stale."""
    bits = np.unpackbits(registers[:, None], axis=1, count=6, bitorder="little")
    return b"HYLL" + bytes(11) + b"\x80" + np.packbits(bits, bitorder="little").tobytes()


def check_server(client, trials: int):
    dice = np.random.default_rng(1)
    made = [odd(dice, kind) for kind in range(10)] + [odd(dice, trial) for trial in range(trials)]
    pipeline = client.pipeline(transaction=False)
    for index, registers in enumerate(made):
        pipeline.set(f"s{index}", dense(registers))
        pipeline.pfcount(f"s{index}")
    answers = pipeline.execute()[1::2]
    for index, (registers, answer) in enumerate(zip(made, answers, strict=True)):
        # Above 2^63 the server's number overflows.
        assert cardinality(registers) == (answer if answer >= 0 else LARGEST), index
    counts = cardinalities_of(np.array([histogram(registers) for registers in made]))
    assert counts == [answer if answer >= 0 else LARGEST for answer in answers]
    assert 0 < answers.count(-(2**63)) < len(answers) / 2


def test_counts_are_the_server_s(real_server):
    check_server(real_server.client, 300)


@pytest.mark.long
def test_counts_are_the_server_s_20000_times(real_server):
    for _ in range(10):
        check_server(real_server.client, 2000)


def test_counts_of_special_registers():
    assert cardinality(empty()) == 0
    one = empty()
    one[5] = 3
    assert cardinality(one) == 1
    assert cardinality(np.full(REGISTERS, MAX_RANK, np.uint8)) == LARGEST


@given(sketches, sketches)
def test_a_union_counts_at_least_as_much_as_its_parts(first, second):
    assert cardinality(first) <= cardinality(np.maximum(first, second)) <= LARGEST


def test_chances_of_ranks():
    """Ranks 1 to 51 are all there is; above a rank is what the later ones sum up to."""
    assert CHANCE[1:].sum() == 1
    assert [CHANCE[rank + 1 :].sum() for rank in range(MAX_RANK + 1)] == list(ABOVE)


# What remains


@given(sketches, sketches)
def test_remainders_of_any_registers(tracked, moved):
    """Whatever two programs wrote; V need not be part of H."""
    remaining, stderr = remainder(tracked, moved)
    assert 0 <= remaining <= LARGEST
    assert 0 <= stderr < float("inf")
    if moved.any():
        assert remainder(np.maximum(tracked, moved), moved) == (remaining, stderr)
    Estimate(remaining, stderr).interval()


@given(sketches, sketches, sketches)
def test_remainders_grow_with_what_is_tracked(tracked, more, moved):
    grown = remainder(np.maximum(tracked, more), moved)[0]
    assert grown >= remainder(tracked, moved)[0] * (1 - 1e-9) - 1


@given(sketches)
def test_without_moves_the_remainder_is_the_plain_count(tracked):
    count = cardinality(tracked)
    assert remainder(tracked, empty()) == (count, standard_error(count))


@given(sketches)
def test_if_all_moved_nothing_remains_but_doubt(tracked):
    remaining, stderr = remainder(tracked, tracked)
    assert remaining == 0
    if cardinality(tracked) > 10**4:
        assert stderr > cardinality(tracked) / REGISTERS
    assert stderr > 0 or not tracked.any()


@given(dice, st.integers(1, 10**5), st.integers(1, 10**5))
def test_remainders_solve_the_equation_of_the_docstring(dice, stayed, gone):
    moved = drawn(dice, gone)
    tracked = np.maximum(moved, drawn(dice, stayed))
    a = sum(2.0 ** -int(rank) for rank in tracked)
    b = [int(rank) for rank in tracked[tracked > moved]]
    remaining, stderr = remainder(tracked, moved)
    if not b:
        assert remaining == 0
        return

    def score(ids: float) -> float:
        return sum(2.0**-rank / expm1(2.0**-rank * ids / REGISTERS) for rank in b) - a

    assert remaining == 0 or score(remaining - 0.51) > 0
    assert score(remaining + 0.51) < 0
    if remaining > 1000:
        y = [(2.0**-rank, 2.0**-rank * remaining / REGISTERS) for rank in b]
        variance = REGISTERS**2 / sum(c * c * exp(x) / expm1(x) ** 2 for c, x in y) - remaining
        assert stderr >= sqrt(max(0, variance - 1)) * (1 - 1e-3)  # 1: the remainder is rounded
