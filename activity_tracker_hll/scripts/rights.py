"""Asking a server, from Redis 7.0 on, which rights its user lacks; to use ``ACL`` is a right, too.

One script tries commands and keys, and changes nothing; see ``rights.lua``. It is sent with its source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .calls import SCRIPTS, Call

__all__ = ["call_rights", "commands_of"]

_FOLDER = Path(__file__).parent
_SOURCE = (_FOLDER / "rights.lua").read_text("utf-8")
_COMMANDS = re.compile(r"(?:redis\.p?call|each_chunk)\('([A-Z]+)'")
_FUNCTIONS = dict(
    re.findall(
        r"^local function (\w+)(.*?)^end$",
        (_FOLDER / "common.lua").read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)
"""Bodies of the functions that all scripts begin with, by name."""
_ANY_KEY = "{rights}"


def call_rights(commands: Iterable[str], keys: Sequence[str] = (_ANY_KEY,)) -> Call:
    """Ask which of some commands and keys the user is not allowed.

    Args:
        commands: in lower case, with a subcommand as in ``cluster|slots``.
        keys: that nobody uses, to be tried with the commands.

    Replies: a line for each that is denied, a command behind ``+``, a key behind ``~``.
    """
    return ("EVAL", _SOURCE, 0, len(keys), *keys, *commands)


def _called_by(name: str) -> list[str]:
    """The commands that a script calls, itself and by the functions that it uses."""
    texts = [(_FOLDER / f"{name}.lua").read_text("utf-8")]
    used: set[str] = set()
    for text in texts:
        new = [each for each in _FUNCTIONS if each not in used and re.search(rf"\b{each}\(", text)]
        used.update(new)
        texts += [_FUNCTIONS[each] for each in new]
    return sorted({command.lower() for text in texts for command in _COMMANDS.findall(text)})


_CALLED = {key: _called_by(script.name) for script in SCRIPTS for key in (script.sha, script.source)}


def commands_of(script: object) -> list[str]:
    """The commands that a script calls, known by its digest or its source; none of any other."""
    return _CALLED.get(str(script), [])
