"""Questions about many keys at once, in commands that are short enough for others not to wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

from ..backends.base import Command
from .base import Operation, unwrap

__all__ = ["commands_for", "existing", "values"]

_KEYS_PER_COMMAND = 4000
"""A server looks up as many in about a millisecond."""


def existing(groups: Iterable[Sequence[str]]) -> Operation[list[int]]:
    """How many keys of each group exist.

    Raises:
        BackendError: the server does not tell.
    """
    groups = list(groups)
    replies = yield from _asked("EXISTS", groups)
    return [sum(islice(replies, -(-len(keys) // _KEYS_PER_COMMAND))) for keys in groups]


def values(groups: Iterable[Sequence[str]]) -> Operation[list[list[Any]]]:
    """What the keys of each group hold, if they are strings; None for any other, and where there is none.

    Raises:
        BackendError: the server does not tell.
    """
    groups = list(groups)
    replies = chain.from_iterable((yield from _asked("MGET", groups)))
    return [list(islice(replies, len(keys))) for keys in groups]


def commands_for(command: str, keys: Sequence[str]) -> list[Command]:
    """The commands that ask one thing about all keys."""
    return [
        (command, *keys[start : start + _KEYS_PER_COMMAND])
        for start in range(0, len(keys), _KEYS_PER_COMMAND)
    ]


def _asked(command: str, groups: Sequence[Sequence[str]]) -> Operation[Any]:
    commands = [each for keys in groups for each in commands_for(command, keys)]
    return iter(unwrap((yield commands)) if commands else ())
