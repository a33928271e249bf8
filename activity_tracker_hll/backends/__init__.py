"""Backends: where sketches are kept, a Redis or Valkey server, reached over the network or embedded."""

from .base import BaseBackend

__all__ = ["BaseBackend"]
