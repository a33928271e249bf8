"""From sketches to counts, stored and live, and reading them."""

from .collapse import Collapsed, collapse
from .lookup import Row, RowWithGaps, lookup

__all__ = ["Collapsed", "Row", "RowWithGaps", "collapse", "lookup"]
