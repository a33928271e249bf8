"""The hashes of groups, told apart, are what was put in, however large the groups and however many parts."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.hll.hashing import hash_one
from activity_tracker_hll.hll.registers import empty, fold
from activity_tracker_hll.operations.tracking import groups
from activity_tracker_hll.operations.tracking.groups import NO_GROUP, Grouped

GROUPS = 5
COLUMNS = st.lists(
    st.tuples(st.integers(0, 2**32), st.sampled_from([0, 1, 7, 300, 6000])), min_size=1, max_size=4
)
CHOSEN = st.lists(st.integers(1, GROUPS), unique=True)


def columns_of(sizes):
    """Hashes, and groups of very different sizes, one of them empty; some are of none."""
    for seed, size in sizes:
        source = np.random.default_rng(seed)
        numbers = source.choice([NO_GROUP, 1, 2, 3, 5], size, p=[0.1, 0.5, 0.3, 0.09, 0.01])
        yield source.integers(2**64, size=size, dtype=np.uint64), numbers.astype(np.uint32)


@given(COLUMNS, CHOSEN, st.sampled_from([0, 10, 500, 10**6]))
def test_they_are_told_apart(sizes, chosen, largest_small):
    columns = list(columns_of(sizes))
    with patch.object(groups, "MOST_PACKED", largest_small):
        grouped = Grouped(columns, GROUPS)
    wanted = {
        group: [hash for hashes, numbers in columns for hash in hashes[numbers == group].tolist()]
        for group in chosen
    }
    for group in chosen:
        assert grouped.hashes(group).tolist() == wanted[group]
    together = [hash for group in chosen for hash in wanted[group]]
    assert grouped.events(chosen) == len(together)
    assert [hash_one(id) for id in grouped.ids(chosen)] == together
    registers, united = empty(), empty()
    fold(registers, np.array(together, np.uint64))
    for part in grouped.registers(chosen):
        united = np.maximum(united, part.dense())
    assert (united == registers).all()
