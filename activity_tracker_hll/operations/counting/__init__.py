"""Counting: from sketches to counts, stored or live, and reading stored counts."""

from .collapse import Collapsed, collapse
from .lookup import Row, RowWithGaps, lookup
from .outgrown import outgrown
from .overdue import overdue
from .scope import Scope, stored

__all__ = ["Collapsed", "Row", "RowWithGaps", "Scope", "collapse", "lookup", "outgrown", "overdue", "stored"]
