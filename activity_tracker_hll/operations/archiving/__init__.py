"""Archiving: from what a server holds to records of an archive, and back.

Both unite with what is there, so that each can be killed, run again, and done in any order. Of an archive all
is written at once, in the end.
"""

from .chosen import Chosen
from .from_file import Restored, restore
from .to_file import Archived, archive
from .unarchived import unarchived

__all__ = ["Archived", "Chosen", "Restored", "archive", "restore", "unarchived"]
