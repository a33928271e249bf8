"""Questions to a reader as values, so that one description of a report serves who waits and who awaits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import (
    ActivityTrackerError,
    ArgumentValueError,
    BackendResponseError,
    MalformedSketchError,
    MissingSketchesError,
)

__all__ = ["Question", "put", "put_awaiting"]

# What a page can say about a part of the data, while it shows the others. That there is no server is another
# matter: then there is no page.
_TOLD: tuple[type[ActivityTrackerError], ...] = (
    ArgumentValueError,
    MissingSketchesError,
    MalformedSketchError,
    BackendResponseError,
)


@dataclass(frozen=True, slots=True)
class Question:
    """A public call.

    Attributes:
        about: what is asked about, as people are told.
        call: its name.
        arguments, options: what it is given.
    """

    about: str
    call: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def put(reader: Any, question: Question) -> Any:
    """The answer; an error that is about a part of the data is one."""
    try:
        return getattr(reader, question.call)(*question.arguments, **question.options)
    except _TOLD as error:
        return error


async def put_awaiting(reader: Any, question: Question) -> Any:
    """:func:`put` for asyncio."""
    try:
        return await getattr(reader, question.call)(*question.arguments, **question.options)
    except _TOLD as error:
        return error
