"""Registers in little memory are those of plain arrays, whatever is done to them in whatever order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.compact import CompactRegisters
from activity_tracker_hll.hll.hashing import hash_one, ids_of
from activity_tracker_hll.hll.registers import (
    MAX_RANK,
    REGISTERS,
    empty,
    fold,
    fold_each,
    hashes_of,
    positions,
)

SIZES = st.sampled_from([0, 1, 2, 30, 900, 2_100, 40_000])
SEEDS = st.integers(0, 2**32)


def hashes(seed, size):
    """Some with high ranks, and some twice."""
    random = np.random.default_rng(seed)
    made = random.integers(2**64, size=size, dtype=np.uint64)
    made <<= random.integers(40, size=size, dtype=np.uint64)
    return np.concatenate((made, made[: size // 3] ^ np.uint64(1 << 63)))


def both(parts):
    """The same hashes folded into both kinds."""
    compact, plain = CompactRegisters(), empty()
    for seed, size in parts:
        compact.fold(hashes(seed, size))
        fold(plain, hashes(seed, size))
    return compact, plain


PARTS = st.lists(st.tuples(SEEDS, SIZES), max_size=4)


@given(PARTS, PARTS)
def test_they_are_what_arrays_are(some, others):
    (one, a), (other, b) = both(some), both(others)
    assert (one.dense() == a).all()
    assert len(one) == np.count_nonzero(a)
    assert (CompactRegisters(a).dense() == a).all()
    assert (one.above(other).dense() == np.where(a > b, a, 0)).all()
    united = one.copy()
    united.raise_to(other)
    assert (united.dense() == np.maximum(a, b)).all()
    again = empty()
    fold(again, united.hashes())
    assert (again == united.dense()).all()
    assert (one.dense() == a).all()  # nothing was done to these
    assert (other.dense() == b).all()
    united.fold(hashes(1, 5_000))
    assert (one.dense() == a).all()


@given(PARTS)
def test_what_is_known_may_be_there_as_well(parts):
    known = both([(3, 20_000)])[1]
    compact, plain = CompactRegisters(), empty()
    for seed, size in parts:
        compact.fold(hashes(seed, size), lambda: known)
        fold(plain, hashes(seed, size))
    found = compact.dense()
    assert (found >= plain).all()
    assert (found <= np.maximum(plain, known)).all()
    assert (np.where(found > known, found, 0) == np.where(plain > known, plain, 0)).all()


@given(PARTS, st.lists(st.integers(1, 60_000), min_size=1, max_size=3))
def test_hashes_raise_the_same_in_one_step_and_in_any(parts, sizes):
    (compact, plain), alone = both(parts), both(parts)[0]
    more = hashes(5, 70_000)
    places, ranks = positions(more)
    compact.raise_at(places, ranks)
    start = 0
    for stop in np.cumsum([*sizes, len(more)]).tolist():
        alone.fold(more[start:stop])
        start = stop
    np.maximum.at(plain, places, ranks)
    assert (compact.dense() == plain).all()
    assert (alone.dense() == plain).all()


def test_few_take_little_memory():
    for size in (0, 1, 1_000, 1_500):
        compact = both([(1, size)])[0]
        assert compact.nbytes == 4 * len(compact)
    assert both([(1, 100_000)])[0].nbytes == REGISTERS


@pytest.mark.parametrize("rank", [1, 2, 50, MAX_RANK])
def test_a_hash_has_the_register_and_the_rank_it_is_made_for(rank):
    index = np.array([0, 1, REGISTERS - 1])
    ranks = np.full(3, rank, np.uint8)
    found = positions(hashes_of(index, ranks))
    assert found[0].tolist() == index.tolist()
    assert found[1].tolist() == ranks.tolist()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30))
def test_there_is_an_id_of_each_hash(wanted):
    ids = ids_of(np.array(wanted, np.uint64))
    assert [len(id) for id in ids] == [8] * len(wanted)
    assert list(map(hash_one, ids)) == wanted


@given(st.binary(min_size=8, max_size=8))
def test_and_it_is_the_only_one(id):
    assert ids_of(np.array([hash_one(id)], np.uint64)) == [id]


@pytest.mark.parametrize("rank", range(1, MAX_RANK + 1))
def test_a_server_agrees(real_server, rank):
    """To the highest rank, which no id that anybody has will ever have."""
    compact = CompactRegisters()
    compact.fold(hashes_of(np.arange(0, REGISTERS, 997), np.full(17, rank)))
    real_server.client.pfadd("made", *ids_of(compact.hashes()))
    assert (codec.decode(real_server.client.get("made")) == compact.dense()).all()


@given(st.lists(st.tuples(st.integers(0, 4), SEEDS, SIZES), max_size=5))
def test_hashes_are_folded_each_into_registers_of_its_own(parts):
    registers, wanted = np.zeros((5, REGISTERS), np.uint8), [empty() for _ in range(5)]
    made = [(np.full(len(hashes(seed, size)), row), hashes(seed, size)) for row, seed, size in parts]
    for rows, some in made:
        for row in rows[:1]:
            fold(wanted[row], some)
    if made:
        order = np.random.default_rng(1).permutation(sum(len(rows) for rows, _ in made))
        rows, together = (np.concatenate(columns)[order] for columns in zip(*made, strict=True))
        fold_each(registers, together, 4 - rows, np.arange(5)[::-1])
    assert (registers == wanted).all()
