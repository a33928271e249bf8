"""Archives: what was counted, in a file. Knows no server, and nothing of who asks."""

from .backend import ArchiveBackend
from .coverage import ALWAYS
from .file import ArchiveFile, Changes, Head, Held
from .records import Record, stand_ins, united, with_members

__all__ = [
    "ALWAYS",
    "ArchiveBackend",
    "ArchiveFile",
    "Changes",
    "Head",
    "Held",
    "Record",
    "stand_ins",
    "united",
    "with_members",
]
