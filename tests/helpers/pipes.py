"""A pipe whose reader waits for what it brings, and not for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import BinaryIO

__all__ = ["pipe"]

_PATIENCE_S = 30


@contextmanager
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Both ends: to read, and to write without a buffer; the latter is closed after a while at the latest."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", 0) as sink:
        patience = Timer(_PATIENCE_S, sink.close)
        patience.start()
        try:
            yield stream, sink
        finally:
            patience.cancel()
