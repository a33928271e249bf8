"""Ranges of days of which everything is known."""

from datetime import datetime

from activity_tracker_hll.analytics.spans import Span
from activity_tracker_hll.hll.layers import Layer
from activity_tracker_hll.hll.registers import empty, fold
from activity_tracker_hll.periods import Calendar


def span(history):
    """What was read of some days, all of them over."""
    count = len(history)
    days = list(Calendar("UTC").between("daily", datetime(2026, 1, 1), datetime(2026, 1, 1 + count)))
    yes = [True] * count
    return Span(days, history, yes, yes, yes, 0)


def span_of_active(hashes, days):
    """What was read of days on which ids were active, by a mask for each; nobody leaves."""
    return span([[_layer(hashes[mask])] for mask in days])


def _layer(hashes):
    registers = empty()
    fold(registers, hashes)
    return Layer(registers)
