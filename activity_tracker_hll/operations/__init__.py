"""Operations: what each asks of the server, and what it makes of the replies.

No sockets, clocks or threads in here. An operation is a generator: it yields batches of commands,
is sent their replies, and returns its result, so that one description serves every driver. A batch
is one round trip.
"""

from .base import Context, Operation, run, run_awaiting
from .counting import Collapsed, Row, RowWithGaps, collapse, lookup
from .data_set import DataSet
from .due import Wanted, collapse_due
from .inventory import Entry, inventory
from .server import Examination, examine
from .tracking import Event, Imported, Tracking

__all__ = [
    "Collapsed",
    "Context",
    "DataSet",
    "Entry",
    "Event",
    "Examination",
    "Imported",
    "Operation",
    "Row",
    "RowWithGaps",
    "Tracking",
    "Wanted",
    "collapse",
    "collapse_due",
    "examine",
    "inventory",
    "lookup",
    "run",
    "run_awaiting",
]
