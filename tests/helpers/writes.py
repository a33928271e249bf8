"""Every call that writes, and what is counted of it."""

import numpy as np

from helpers.moments import TODAY


def live(tracker, period="daily", bucket=None, **options):
    """The count of the running period."""
    return tracker.lookup(period, buckets=[bucket], live=True, **options)[-1][1][bucket]


WRITES = {
    "track": lambda tracker, date: tracker.track(id=1, date=date),
    "move": lambda tracker, date: tracker.track(id=1, bucket="b", old_id=1, date=date),
    "removal": lambda tracker, date: tracker.track(old_id=1, date=date),
    "track_many": lambda tracker, date: tracker.track_many(range(3), date=date),
    "large track_many": lambda tracker, date: tracker.track_many(range(300), date=date),
    "import_events": lambda tracker, date: tracker.import_events([(1, None, date or TODAY)]),
    "columns": lambda tracker, date: tracker.import_events((np.arange(300), "b", date or TODAY)),
}
