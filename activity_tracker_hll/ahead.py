"""Doing the next thing while the one before is in use: Arrow decodes and converts without the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

_Result = TypeVar("_Result")


def ahead(calls: Iterable[Callable[[], _Result]]) -> Iterator[_Result]:
    """The results of some calls, in order, each made in another thread while the one before is in use.

    Args:
        calls: asked for the next one only once the result before it is wanted. The first is made here: of a
            single one there is no thread.

    Raises:
        Exception: what a call raises, in its place.
    """
    remaining = iter(calls)
    with ThreadPoolExecutor(1) as thread:
        for first in remaining:
            result = first()
            for call in remaining:
                coming = thread.submit(call)
                yield result
                result = coming.result()
            yield result
