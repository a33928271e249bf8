"""Tracking: from events to the commands that record them."""

from .events import Event, Imported, Tracking

__all__ = ["Event", "Imported", "Tracking"]
