"""Tracking: from events to the commands that record them."""

from .events import Event, Ids, Imported, Tracking

__all__ = ["Event", "Ids", "Imported", "Tracking"]
