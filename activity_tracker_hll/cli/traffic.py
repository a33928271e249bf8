"""Simulated traffic of a few web sites, and its exact counts. Pure, and reproducible by its seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import numpy as np

__all__ = ["ANONYMOUS", "MEMBERS", "SITES", "Exact", "Move", "Traffic", "Visits"]

SITES = ("shop", "blog", "forum")
MEMBERS, ANONYMOUS = "members", "anonymous"

# The share of users that each site has, drawn independently, so that sites have users in common.
_SHARE_OF_SITE = (0.7, 0.4, 0.15)
_WEEKDAYS = (1.0, 1.02, 1.0, 0.97, 0.9, 0.62, 0.55)
_MEAN_ACTIVITY = 0.18
# The share of a day's active users of the first site who come without being logged in.
_SESSIONS = 0.25
_LOGS_IN, _LOGS_OUT, _COMES_BACK = 0.5, 0.3, 0.4


@dataclass(frozen=True, slots=True)
class Visits:
    """Plain visits: the ids seen in one bucket on a day."""

    moment: datetime
    bucket: str
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Move:
    """A move, by which an id becomes another one: a session that logs in, a user who logs out."""

    moment: datetime
    id: str
    bucket: str
    old_id: str
    old_bucket: str


class Traffic:
    """The events of some days.

    Args:
        first: the first day.
        days: the number of days.
        users: the number of users; a few come every day, most of them rarely.
        seed: the same seed gives the same events.
    """

    def __init__(self, first: date, days: int, users: int, seed: int) -> None:
        self._first, self._days, self._users = first, days, users
        self._random = np.random.default_rng(seed)
        # Most users are rare visitors, a few come daily.
        spread = self._random.beta(0.6, 2.0, users)
        self._activity = spread * (_MEAN_ACTIVITY / spread.mean())
        self._belongs = [self._random.random(users) < share for share in _SHARE_OF_SITE]

    def by_day(self) -> Iterator[list[Visits | Move]]:
        """The events of each day, in order."""
        for day in range(self._days):
            moment = datetime.combine(self._first + timedelta(days=day), time(12))
            active = self._random.random(self._users) < self._activity * _WEEKDAYS[moment.weekday()]
            events: list[Visits | Move] = []
            for site, belongs in zip(SITES, self._belongs, strict=True):
                # Not everyone who is active looks at every site of theirs.
                seen = np.flatnonzero(active & belongs & (self._random.random(self._users) < 0.8))
                events.append(Visits(moment, site, [f"user-{user}" for user in seen]))
            events += self._sessions(day, moment, np.flatnonzero(active & self._belongs[0]))
            yield events

    def _sessions(self, day: int, moment: datetime, visitors: np.ndarray) -> Iterator[Visits | Move]:
        arriving = visitors[self._random.random(len(visitors)) < _SESSIONS]
        sessions = [f"session-{day}-{number}" for number in range(len(arriving))]
        yield Visits(moment, ANONYMOUS, sessions)
        for session, visitor, chance in zip(
            sessions, arriving, self._random.random((len(arriving), 3)), strict=True
        ):
            user = f"user-{visitor}"
            logs_in, logs_out, comes_back = chance < (_LOGS_IN, _LOGS_OUT, _COMES_BACK)
            # Each later than the one before, since at the same time activity would prevail over leaving.
            first, second, third = (moment + timedelta(minutes=minutes) for minutes in (1, 2, 3))
            if logs_in:
                yield Move(first, user, MEMBERS, session, ANONYMOUS)
            if logs_in and logs_out:
                yield Move(second, session, ANONYMOUS, user, MEMBERS)
            if logs_in and logs_out and comes_back:
                yield Move(third, user, MEMBERS, session, ANONYMOUS)


class Exact:
    """The exact counts: sets of the ids of each period and bucket, without those that left."""

    def __init__(self) -> None:
        self.days: defaultdict[tuple[date, str], set[str]] = defaultdict(set)
        self.months: defaultdict[tuple[date, str], set[str]] = defaultdict(set)

    def add(self, event: Visits | Move) -> None:
        """Update the sets with an event."""
        day = event.moment.date()
        for sets, start in ((self.days, day), (self.months, day.replace(day=1))):
            if isinstance(event, Visits):
                sets[start, event.bucket].update(event.ids)
            else:
                sets[start, event.bucket].add(event.id)
                sets[start, event.old_bucket].discard(event.old_id)

    def unite(self, name: str, buckets: tuple[str, ...]) -> None:
        """Count the union of some buckets under a name."""
        for sets in (self.days, self.months):
            for start in {start for start, _ in sets}:
                sets[start, name] = set().union(*(sets[start, bucket] for bucket in buckets))
