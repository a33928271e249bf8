"""From events to what is sent of them."""

from .events import Event, Imported, Tracking

__all__ = ["Event", "Imported", "Tracking"]
