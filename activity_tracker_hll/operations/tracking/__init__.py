"""Tracking: from events to the commands that record them."""

from .batches import awaited_batches
from .events import Event, Ids, Tracking
from .imports import Import, Imported

__all__ = ["Event", "Ids", "Import", "Imported", "Tracking", "awaited_batches"]
