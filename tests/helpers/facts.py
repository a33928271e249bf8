"""Facts of reports without a tracker."""

from datetime import date, datetime, timedelta

from activity_tracker_hll import Estimate, Share
from activity_tracker_hll.report.facts import Facts, Reach

FIRST = date(2026, 1, 1)


def days(number):
    return tuple(FIRST + timedelta(each) for each in range(number))


def facts(counts, *, running=False, title="Users", **more):
    """Facts of counts by bucket, each a list of numbers."""
    number = len(next(iter(counts.values()))) if counts else 0
    known = {name: [each if each is None else Estimate(each) for each in by] for name, by in counts.items()}
    found = days(number)
    last = found[-1] if running else None
    return Facts(title, datetime(2026, 5, 1, 9, 30), "UTC", found, last, known, **more)


def reach(number, *, users=1000, share=0.2, **more):
    """The same numbers each day."""
    points = [(Estimate(users), True)] * number
    sticky = [(Share(share, 0.001), True)] * number
    windows = {"week": points, "month": points, "stickiness": sticky}
    return Reach(bucket=None, together=True, a_day=points, at=range(number), **windows, **more)
