"""Making values ahead: the next one in another thread, while one is in use.

It is for what numpy and Arrow do with large arrays, as they let go of the interpreter's lock meanwhile; not
for what may wait for others, as whoever stops early waits for the value that is being made.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


def ahead(values: Iterator[T]) -> Generator[T, None, None]:
    """The same values, and the same error in its turn, if they raise one; none of them is None."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, values, None)
        while (value := coming.result()) is not None:
            coming = thread.submit(next, values, None)
            yield value
