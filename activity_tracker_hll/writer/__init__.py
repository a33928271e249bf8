"""The high-volume writer: calls append, one thread folds, another pushes."""

from .statistics import Statistics
from .tracker import BaseWriter, BufferedTracker

__all__ = ["BaseWriter", "BufferedTracker", "Statistics"]
