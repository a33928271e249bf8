"""Sketches to compare with, and ids to put in."""

import numpy as np
from hypothesis import strategies as st

from activity_tracker_hll import HyperLogLog
from helpers.ids import MIXED

IDS = st.lists(MIXED, max_size=12)


def numbers(low, high=None):
    """A sketch of the numbers in a range."""
    return HyperLogLog(np.arange(*((0, low) if high is None else (low, high))))
