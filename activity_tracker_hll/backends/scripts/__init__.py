"""The Lua scripts, each run on the server in one atomic step.

The files beside this one open by saying what they do; ``common.lua`` is put before each.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AGGREGATE", "COLLAPSE", "MERGE", "SOUND", "SOURCES", "STORE", "WRITE", "Script"]

_FOLDER = Path(__file__).parent
_COMMON = (_FOLDER / "common.lua").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server knows it: by the digest of its source."""

    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """The script of that name in this folder."""
        source = _COMMON + (_FOLDER / f"{name}.lua").read_text("utf-8")
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    def call(self, keys: tuple[str, ...], *arguments: str | bytes | float) -> tuple[str | bytes | float, ...]:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


WRITE = Script.load("write")
COLLAPSE = Script.load("collapse")
STORE = Script.load("store")
AGGREGATE = Script.load("aggregate")
MERGE = Script.load("merge")
SOUND = Script.load("sound")

SOURCES = {script.sha: script.source for script in (WRITE, COLLAPSE, STORE, AGGREGATE, MERGE, SOUND)}
"""Source by digest, for a server that does not know a script yet."""
