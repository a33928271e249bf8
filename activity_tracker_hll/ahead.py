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
    """The same values, and the same error in its turn, if they raise one; none of them is None.

    The first two are made here, so that few need no thread.
    """
    value = next(values, None)
    if value is None:
        return
    yield value
    value = next(values, None)
    with ThreadPoolExecutor(1) as thread:
        while value is not None:
            try:
                coming = thread.submit(next, values, None)
            except RuntimeError:  # the interpreter ends: no thread can be started any more
                yield value
                yield from values
                return
            yield value
            value = coming.result()
