"""Questions about many keys at once, in commands that are short enough for others not to wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

from ..backends.base import Command
from ..errors import BackendError
from ..keys import Keys
from .base import Operation, batched, items, unwrap, unwrap_each

__all__ = ["NOBODY", "ask_again", "commands_for", "existing", "stored_counts", "values", "without_zeros"]

NOBODY = b"0"
"""A stored count: of a sketch whose ids have all left, or activity-tracker's, see :func:`without_zeros`."""
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


def stored_counts(groups: Iterable[Sequence[str]]) -> Operation[list[list[Any]]]:
    """What is stored as counts, of the keys of each group; None where that may still be counted.

    Raises:
        BackendError: the server does not tell.
    """
    groups = list(groups)
    found = yield from values(groups)
    if not any(NOBODY in counts for counts in found):
        return found
    keys = list(chain.from_iterable(groups))
    counts = yield from without_zeros(keys, list(chain.from_iterable(found)))
    rest = iter(unwrap(counts))
    return [list(islice(rest, len(keys))) for keys in groups]


def without_zeros(keys: Sequence[str], found: Sequence[Any]) -> Operation[list[Any]]:
    """What keys of counts hold; None for activity-tracker's counts of nobody, which may still be counted.

    It stored zeros where it saw nothing. Those of a sketch, whose ids have all left, have a standard error
    beside them, which is asked for only where there are zeros.

    Args:
        keys: of counts.
        found: what they hold.

    Returns:
        The same; where the server does not tell what a zero is, its error.
    """
    counts = list(found)
    zeros = [index for index, value in enumerate(found) if value == NOBODY]
    replies = (yield commands_for("MGET", Keys.stderrs(keys[index] for index in zeros))) if zeros else []
    for batch, reply in zip(batched(zeros, _KEYS_PER_COMMAND), replies, strict=True):
        stderrs = [reply] * len(batch) if isinstance(reply, BackendError) else items(reply)
        for index, stderr in zip(batch, stderrs, strict=True):
            if stderr is None or isinstance(stderr, BackendError):
                counts[index] = stderr
    return counts


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
    return iter(unwrap_each(commands, (yield commands)) if commands else ())
