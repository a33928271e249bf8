"""What each operation asks of the server, and what it makes of the answers.

No sockets, clocks or threads in here. An operation is a generator: it yields batches of commands,
is sent their replies, and returns its result, so that one description serves every driver. A batch
is one round trip.
"""

from .base import Context, Operation, run
from .collapse import Collapsed, collapse
from .inventory import Entry, inventory
from .lookup import Row, lookup
from .settings import check_settings
from .track import Imported, Tracking

__all__ = [
    "Collapsed",
    "Context",
    "Entry",
    "Imported",
    "Operation",
    "Row",
    "Tracking",
    "check_settings",
    "collapse",
    "inventory",
    "lookup",
    "run",
]
