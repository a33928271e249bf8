"""How messages show what others gave: values of callers, texts of servers.

What is shown can neither raise nor be long. It has nothing that a terminal obeys or that turns the direction
of writing, and no password: of an address only the scheme is shown, and of objects that are no plain values
only the type, because clients print themselves with all their options.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np

__all__ = ["WHY_FLOATS", "plain_text", "printable", "shown", "type_of"]

WHY_FLOATS = ", which integers become where some are missing: load them as integers, such as pandas' Int64"
"""Why ids came to be floats: the end of a sentence."""

_LONGEST = 80
_LONGEST_TEXT = 300
_MOST_ITEMS = 5
_MOST_BITS = 1000  # Python refuses to write out longer numbers, or takes long to
_ADDRESS = re.compile(r"(?<=://).+", re.DOTALL)
_USERINFO = re.compile(r"(?<=://).*@", re.DOTALL)
_BRACKETS: dict[Any, tuple[str, str]] = dict.fromkeys((set, frozenset, dict), ("{", "}"))
_BRACKETS |= {list: ("[", "]"), tuple: ("(", ")")}
_PLAIN = (
    *(type(None), bool, float, complex, Decimal, UUID, PurePath, Enum, np.generic, range),
    *(dt.date, dt.time, dt.timedelta),
)


def shown(value: object) -> str:
    """A value as messages show it."""
    try:
        text = _written(value)
    except Exception:  # noqa: BLE001 (whatever the object raises must not hide what was wrong)
        text = type_of(value)
    return printable(text, _LONGEST)


def type_of(value: object) -> str:
    """The type of what may hold a password."""
    try:
        return printable(f"<{_name(type(value))}>", _LONGEST)
    except Exception:  # noqa: BLE001 (a class may be as hostile)
        return "<object>"


def plain_text(value: object) -> str | None:
    """The str in an instance of str or of a subclass; None of all else, whatever class it claims to be."""
    return str.__str__(value) if issubclass(type(value), str) else None


def printable(text: str, longest: int = _LONGEST_TEXT) -> str:
    """A text of others on one line: shortened, escaped where it cannot be printed, without a password."""
    safe = _USERINFO.sub("***@", text)
    cut = safe if len(safe) <= longest else f"{safe[: longest - 3]}..."
    return cut if cut.isprintable() else "".join(map(_escaped, cut))


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else repr(letter)[1:-1]


def _written(value: Any, *, nested: bool = False) -> str:
    # isinstance() would ask the object, which may be a mock, and methods may be overridden.
    kind = type(value)
    if issubclass(kind, (str, bytes, bytearray)):
        is_text = issubclass(kind, str)
        text = repr(str.__str__(value)[:_LONGEST] if is_text else bytes(memoryview(value)[:_LONGEST]))
        return _ADDRESS.sub("...", text[:-1]) + text[-1]
    if issubclass(kind, int) and not issubclass(kind, (bool, Enum)):
        number = int.__index__(value)
        return str(number) if number.bit_length() <= _MOST_BITS else "an int of many digits"
    for container, brackets in _BRACKETS.items():
        if issubclass(kind, container):
            return _items(value, container, brackets, nested=nested)
    if issubclass(kind, type):
        return f"<class {_name(value)}>"
    return repr(value) if issubclass(kind, _PLAIN) else type_of(value)


def _items(value: Any, container: Any, brackets: tuple[str, str], *, nested: bool) -> str:
    count, (opening, closing) = container.__len__(value), brackets
    if nested and count:
        return f"{opening}...{closing}"
    first = list(islice(container.__iter__(value), _MOST_ITEMS))
    items = [_written(item, nested=True) for item in first]
    if container is dict:  # perhaps of options: what is no number may be a password
        values = (dict.__getitem__(value, key) for key in first)
        numbers = (_written(each) if type(each) in (int, float) else "..." for each in values)
        items = [f"{key}: {number}" for key, number in zip(items, numbers, strict=True)]
    items += ["..."] if count > len(items) else []
    comma = "," if container is tuple and count == 1 else ""
    return f"{opening}{', '.join(items)}{comma}{closing}"


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
