"""Operations: what each asks of the server, and what it makes of the replies.

No sockets, clocks or threads in here. An operation is a generator: it yields batches of commands,
is sent their replies, and returns its result, so that one description serves every driver. A batch
is one round trip.
"""

from ..driving import run, run_awaiting
from .archiving import Archived, Chosen, Restored, archive, restore, unarchived
from .base import Context, Operation
from .counting import Collapsed, Row, RowWithGaps, Scope, collapse, lookup, outgrown, overdue, stored
from .data_set import DataSet
from .due import Wanted, collapse_due, uncounted_by_scan
from .inventory import Entry, inventory
from .server import Examination, examine
from .settings import Access, DataSettings, Given
from .tracking import Event, Ids, Import, Imported, Tracking, awaited_batches

__all__ = [
    "Access",
    "Archived",
    "Chosen",
    "Collapsed",
    "Context",
    "DataSet",
    "DataSettings",
    "Entry",
    "Event",
    "Examination",
    "Given",
    "Ids",
    "Import",
    "Imported",
    "Operation",
    "Restored",
    "Row",
    "RowWithGaps",
    "Scope",
    "Tracking",
    "Wanted",
    "archive",
    "awaited_batches",
    "collapse",
    "collapse_due",
    "examine",
    "inventory",
    "lookup",
    "outgrown",
    "overdue",
    "restore",
    "run",
    "run_awaiting",
    "stored",
    "unarchived",
    "uncounted_by_scan",
]
