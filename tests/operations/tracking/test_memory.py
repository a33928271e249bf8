"""Memory that is used again: no two arrays share any before all are given up."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.operations.tracking import memory
from activity_tracker_hll.operations.tracking.memory import Memory

KINDS = st.sampled_from([np.uint8, np.uint32, np.uint64, "M8[us]", object])


@given(st.integers(0, 5000), st.lists(st.tuples(st.integers(0, 700), KINDS, st.booleans()), max_size=30))
def test_arrays_keep_what_is_written_to_them_until_all_are_given_up(size, wanted):
    with patch.object(memory, "_SMALL", 0), patch.object(memory, "_SIZE", size):
        made, kept = Memory(), []
        for number, (count, kind, ends) in enumerate(wanted):
            content = np.full(count, number).astype(kind)
            array = made.copy(content) if number % 2 else made.empty(count, kind)
            array[:] = content
            assert (array.dtype, array.shape) == (content.dtype, (count,))
            kept.append((array, content))
            assert all((array == content).all() for array, content in kept)
            if ends:
                made.clear()
                kept.clear()


@pytest.mark.parametrize("small", [0, 10**6])
def test_only_large_arrays_are_made_in_it(small):
    with patch.object(memory, "_SMALL", small):
        made = Memory()
        first = made.empty(1000, np.int64)
        made.clear()
        assert np.shares_memory(first, made.empty(1000, np.int64)) == (small == 0)
