"""A line of a file taken apart, whatever its format: what all careful readers hand on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["Record"]


class Record(Protocol):
    """A line, with fields that have names.

    Attributes:
        default_id: the field with the id unless another one is said.
        default_time: the fields with the time unless others are said.
    """

    default_id: str
    default_time: tuple[str, ...]

    def value(self, field: str) -> Any:
        """A field as it stands in the line; None if it is empty.

        Raises:
            MissingFieldError: there is no such field in this line.
        """

    def names(self) -> Sequence[str]:
        """The names of its fields."""
