"""Small numbers for the buckets and periods of events, so that numpy can sort events by them.

A column of buckets or of moments goes in, an array of numbers comes out; what a number stands for is
kept. A column that is not plain gets no numbers: its events have to be looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import bulk
from ...errors import ArgumentValueError
from ...ids import IdEncoder
from ..base import Context

__all__ = ["BucketCodes", "Cells", "Codes"]

Codes = NDArray[np.int64]

_UNIX_EPOCH = date(1970, 1, 1).toordinal()
# No zone's clock changes within a quarter of an hour, but for a few before 1972; those are noticed.
_QUARTER_S = 900
_WIDEST_TABLE = 1 << 20
_FAR = 10**9
_EXACT_S = 2.0**32  # seconds that a float tells apart to the microsecond
_PLAIN = IdEncoder()


class BucketCodes(dict[Any, int]):
    """Small numbers for buckets, in the order in which they are first seen."""

    def __init__(self, check: Callable[[object], str | None]) -> None:
        super().__init__()
        self._check = check
        self.names: list[str | None] = []
        # Of those seen in arrays: their hashes, sorted, with their numbers and names.
        self._hashes = np.empty(0, np.uint64)
        self._known = np.empty(0, np.int64)
        self._texts = np.empty(0, "U1")

    def __missing__(self, bucket: object) -> int:
        self.names.append(self._check(bucket))
        code = self[bucket] = len(self.names) - 1
        return code

    def of(self, buckets: Any) -> Codes:
        """The numbers of a column of buckets; of one for all, shape ().

        Raises:
            TypeError, ActivityTrackerError: one is none.
        """
        if buckets is None or isinstance(buckets, str):
            return np.array(self[buckets])
        if isinstance(buckets, np.ndarray) and buckets.dtype.kind == "U":
            return self._of_texts(buckets)
        listed = buckets.tolist() if isinstance(buckets, np.ndarray) else buckets
        return self._of_list(listed)

    def _of_list(self, buckets: Sequence[Any]) -> Codes:
        try:
            if len(buckets) > 1:  # of one, itemgetter makes no tuple
                return np.frombuffer(bytes(itemgetter(*buckets)(self)), np.uint8).astype(np.int64)
        except ValueError:  # more than 256 buckets
            pass
        return np.fromiter(map(self.__getitem__, buckets), np.int64, len(buckets))

    def _of_texts(self, buckets: NDArray[np.str_]) -> Codes:
        """By their hashes; that two names never share one is checked."""
        hashes = bulk.all_hashes(_PLAIN, buckets)
        at = self._find(hashes)
        if at is None:
            for place in np.unique(hashes, return_index=True)[1].tolist():
                self[str(buckets[place])]  # a name gets its number when it is asked for
            texts = np.array([name for name in self.names if name is not None])
            known = bulk.all_hashes(_PLAIN, texts)
            order = np.argsort(known)
            self._hashes, self._texts = known[order], texts[order]
            self._known = np.array([self[str(text)] for text in self._texts])
            at = self._find(hashes)
        if at is None or not (self._texts[at] == buckets).all():
            raise ArgumentValueError("buckets cannot be told apart by their hashes")
        return self._known[at]

    def _find(self, hashes: bulk.Hashes) -> Codes | None:
        if not len(self._hashes):
            return None
        at = np.searchsorted(self._hashes, hashes)
        np.minimum(at, len(self._hashes) - 1, out=at)
        return at if (self._hashes[at] == hashes).all() else None


class Cells:
    """Small numbers for the combinations of periods, one of each kind, that moments lie in."""

    def __init__(self, context: Context, kinds: Sequence[str]) -> None:
        self._calendar = context.calendar
        self._kinds = kinds
        self._hourly = "hourly" in kinds
        self.names: list[tuple[str, ...]] = []
        self._numbers: dict[tuple[str, ...], int] = {}
        self._of_day: dict[tuple[int, int], tuple[str, ...]] = {}
        self._of_slot: dict[tuple[Any, int], int | None] = {}

    def periods(self, moment: datetime) -> tuple[str, ...]:
        """Names of the periods that contain a naive moment."""
        day = moment.toordinal(), moment.hour
        if day not in self._of_day:
            containing = (self._calendar.containing(kind, moment) for kind in self._kinds)
            self._of_day[day] = tuple(period.name for period in containing)
        return self._of_day[day]

    def of(self, dates: Any) -> Codes | None:
        """The numbers of a column of dates; None where they are not plain."""
        if isinstance(dates, date):
            dates = [dates]
        if isinstance(dates, np.ndarray) and dates.dtype.kind == "M":
            return self._of_times(dates)
        listed = dates.tolist() if isinstance(dates, np.ndarray) else dates
        count = len(listed)
        types = list(map(type, listed))  # twice as fast as a set of them
        if types.count(datetime) != count:
            plain = types.count(date) == count and not self._hourly
            return self._numbered(_ordinals(listed) * 24, self._of_hour) if plain else None
        naive = list(map(attrgetter("tzinfo"), listed)).count(None)
        if naive < count:
            return None if naive else self._of_aware(listed)
        hours = _ordinals(listed) * 24
        if self._hourly:
            hours += np.fromiter(map(attrgetter("hour"), listed), np.int64, count)
        return self._numbered(hours, self._of_hour)

    def _of_times(self, dates: NDArray[np.datetime64]) -> Codes | None:
        """Of numpy's datetimes, which are naive."""
        unit = np.datetime_data(dates.dtype)[0]
        if np.isnat(dates).any() or (self._hourly and unit in "YMWD"):
            return None
        numbers = dates.astype(np.int64)
        if unit in "YMWDh" and not -_FAR < numbers.min() <= numbers.max() < _FAR:
            return None  # hours would overflow
        wanted = "h" if self._hourly else "D"
        hours = dates.astype(f"datetime64[{wanted}]").astype(np.int64) * (1 if self._hourly else 24)
        return self._numbered(hours + _UNIX_EPOCH * 24, self._of_hour)

    def _of_aware(self, dates: Sequence[datetime]) -> Codes | None:
        try:
            seconds = np.fromiter(map(datetime.timestamp, dates), np.float64, len(dates))
        except (OverflowError, ValueError):
            return None
        if not -_EXACT_S < seconds.min() <= seconds.max() < _EXACT_S:
            return None
        return self._numbered(np.floor_divide(seconds, _QUARTER_S).astype(np.int64), self._of_quarter)

    def _numbered(self, slots: Codes, find: Callable[[int], int | None]) -> Codes | None:
        first, last = int(slots.min()), int(slots.max())
        if last - first >= _WIDEST_TABLE:
            return None
        slots -= first
        table = np.zeros(last - first + 1, np.int64)
        for slot in np.flatnonzero(np.bincount(slots)).tolist():
            key = find, first + slot
            if key not in self._of_slot:
                self._of_slot[key] = find(first + slot)
            number = self._of_slot[key]
            if number is None:
                return None
            table[slot] = number
        return table[slots]

    def _of_hour(self, hour: int) -> int | None:
        """By hours since the day before 0001-01-01, in the calendar's zone."""
        try:
            day = date.fromordinal(hour // 24)
            moment = datetime(day.year, day.month, day.day, hour % 24)
            return self._number(self.periods(self._calendar.moment(moment, "date")))
        except (OverflowError, ValueError):
            return None

    def _of_quarter(self, quarter: int) -> int | None:
        """By quarters of an hour since 1970 in UTC."""
        try:
            edges = (self._calendar.local(quarter * _QUARTER_S + second) for second in (0, _QUARTER_S - 1))
            first, last = (self.periods(self._calendar.moment(edge, "date")) for edge in edges)
        except (OverflowError, ValueError, OSError):
            return None
        return self._number(first) if first == last else None

    def _number(self, names: tuple[str, ...]) -> int:
        if names not in self._numbers:
            self._numbers[names] = len(self.names)
            self.names.append(names)
        return self._numbers[names]


def _ordinals(dates: Sequence[date]) -> Codes:
    return np.fromiter(map(date.toordinal, dates), np.int64, len(dates))
