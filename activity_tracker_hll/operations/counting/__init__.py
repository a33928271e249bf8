"""Counting: from sketches to counts, stored or live, and reading stored counts."""

from .collapse import Collapsed, collapse
from .lookup import Row, RowWithGaps, lookup
from .overdue import overdue

__all__ = ["Collapsed", "Row", "RowWithGaps", "collapse", "lookup", "overdue"]
