"""What mypy infers and pyright does not: of items of a list, Literals are kept. Nothing here is run."""

from activity_tracker_hll import ActivityTracker

DAILY = [ActivityTracker.PERIOD_DAILY]
KINDS = [ActivityTracker.PERIOD_DAILY, ActivityTracker.PERIOD_MONTHLY]


def constants_in_lists() -> None:
    tracker = ActivityTracker(periods=DAILY)
    tracker.track(KINDS, id=1)
    for kind in KINDS:
        tracker.lookup(kind)
