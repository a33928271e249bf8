"""Events of groups, told apart, are what was put in, however large the groups and however many parts."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.hll.hashing import hash_one
from activity_tracker_hll.hll.registers import empty, fold
from activity_tracker_hll.operations.tracking import groups
from activity_tracker_hll.operations.tracking.groups import FEW, NO_GROUP, Column, Grouped

GROUPS = 5
SIZES = st.sampled_from([0, 1, 7, 300, 6000])
COLUMNS = st.lists(st.tuples(st.integers(0, 2**32), SIZES), min_size=1, max_size=4)
CHOSEN = st.lists(st.integers(1, GROUPS), unique=True)


def columns_of(sizes):
    """Hashes, and groups of very different sizes, one of them empty; some are of none; or of one group."""
    for seed, size in sizes:
        source = np.random.default_rng(seed)
        if seed % 3 == 0:
            yield Column.of_one(1 + seed % GROUPS, source.integers(2**64, size=size, dtype=np.uint64), seed)
            continue
        numbers = source.choice([NO_GROUP, 1, 2, 3, 5], size, p=[0.1, 0.5, 0.3, 0.09, 0.01])
        stamps = source.integers(2**50, size=size)
        yield Column(
            source.integers(2**64, size=size, dtype=np.uint64),
            numbers.astype(np.uint32),
            *np.unique(numbers, return_counts=True),
            lambda it=stamps: it,
        )


@given(COLUMNS, CHOSEN, st.sampled_from([0, 10, FEW, 500, 10**6]))
def test_they_are_told_apart(sizes, chosen, largest_small):
    columns = list(columns_of(sizes))
    with (
        patch.object(groups, "MOST_PACKED", largest_small),
        patch.object(groups, "_MOST_DENSE", GROUPS if largest_small == FEW else 0),
    ):
        grouped = Grouped(columns, GROUPS)
    wanted = {
        group: [
            event
            for column in columns
            for event in zip(
                column.hashes.tolist(), column.groups.tolist(), column.stamps().tolist(), strict=True
            )
            if event[1] == group
        ]
        for group in chosen
    }
    seen = [
        list(zip(part.hashes.tolist(), part.since.tolist(), strict=True)) for part in grouped.seen(chosen)
    ]
    assert seen == [[(hash, stamp) for hash, _, stamp in wanted[group]] for group in chosen]
    together = [hash for group in chosen for hash, _, _ in wanted[group]]
    assert grouped.events(chosen) == len(together)
    small = [group for group in chosen if len(wanted[group]) <= largest_small]
    assert [hash_one(id) for id in grouped.ids(small)] == [
        hash for group in small for hash, _, _ in wanted[group]
    ]
    registers, united = empty(), empty()
    fold(registers, np.array(together, np.uint64))
    for part in grouped.registers(chosen):
        united = np.maximum(united, part.dense())
    assert (united == registers).all()
