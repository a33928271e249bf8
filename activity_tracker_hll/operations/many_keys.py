"""Questions about many keys at once, in commands that are short enough for others not to wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

from ..backends.base import Command
from .base import Operation, batched, unwrap

__all__ = ["ask_again", "commands_for", "existing", "values"]

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

    Which of these it is, :func:`ask_again` tells.

    Raises:
        BackendError: the server does not tell.
    """
    groups = list(groups)
    replies = chain.from_iterable((yield from _asked("MGET", groups)))
    return [list(islice(replies, len(keys))) for keys in groups]


def ask_again(keys: Sequence[str], found: list[Any]) -> Operation[None]:
    """Put the error of a key that holds no string in the place of its None in what :func:`values` found.

    To be asked only where a key exists that has no value, as it takes a command for each.
    """
    absent = [index for index, value in enumerate(found) if value is None]
    for batch in batched(absent, _KEYS_PER_COMMAND):
        replies = yield [("GET", keys[index]) for index in batch]
        for index, reply in zip(batch, replies, strict=True):
            found[index] = reply


def commands_for(command: str, keys: Sequence[str]) -> list[Command]:
    """The commands that ask one thing about all keys."""
    return [
        (command, *keys[start : start + _KEYS_PER_COMMAND])
        for start in range(0, len(keys), _KEYS_PER_COMMAND)
    ]


def _asked(command: str, groups: Sequence[Sequence[str]]) -> Operation[Any]:
    commands = [each for keys in groups for each in commands_for(command, keys)]
    return iter(unwrap((yield commands)) if commands else ())
