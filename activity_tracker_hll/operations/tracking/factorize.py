"""Factorizing the buckets and dates of events: small indexes by which numpy can sort the events.

A column of buckets or dates goes in, an array of indexes into a list of distinct values comes out. A column
with unusual values is not factorized: its events have to be handled one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import bulk
from ...columns import PER_SECOND, Coded, Instants
from ...errors import ArgumentValueError
from ...ids import IdEncoder
from ...periods import QUARTER_S
from ..base import Context

__all__ = ["BucketFactorizer", "Indexes", "PeriodFactorizer"]

Indexes = NDArray[np.int64]

_UNIX_EPOCH = date(1970, 1, 1).toordinal()
_WIDEST_TABLE = 1 << 20
_FAR = 10**9
_NO_TIME = np.iinfo(np.int64).min  # NaT as a number: less than any time
_EXACT_S = 2.0**32  # below this, a float of seconds is exact to the microsecond
_PLAIN = IdEncoder()


class BucketFactorizer(dict[Any, int]):
    """Factorizes buckets: their indexes in :attr:`names`, in the order in which they are first seen.

    Args:
        check: returns a bucket as it is tracked, or raises.
    """

    def __init__(self, check: Callable[[object], str | None]) -> None:
        super().__init__()
        self._check = check
        self.names: list[str | None] = []
        # Of the buckets seen in arrays: their hashes, sorted, with their indexes and names.
        self._hashes = np.empty(0, np.uint64)
        self._indexes = np.empty(0, np.int64)
        self._texts = np.empty(0, "U1")
        # The values that repeat in columns, as long as they stay the same object, and their indexes or -1.
        self._values: Any = None
        self._index_of_value = np.empty(0, np.int64)

    def __missing__(self, bucket: object) -> int:
        self.names.append(self._check(bucket))
        index = self[bucket] = len(self.names) - 1
        return index

    def factorize(self, buckets: Any) -> Indexes:
        """The indexes of a column of buckets; of a single bucket for all events, shape ().

        Raises:
            TypeError, ActivityTrackerError: a bad bucket.
        """
        if buckets is None or isinstance(buckets, str):
            return np.array(self[buckets])
        if isinstance(buckets, Coded):
            return self._factorize_coded(buckets)
        if isinstance(buckets, np.ndarray) and buckets.dtype.kind == "U":
            return self._factorize_texts(buckets)
        values = buckets.tolist() if isinstance(buckets, np.ndarray) else buckets
        return self._factorize_list(values)

    def _factorize_list(self, buckets: Sequence[Any]) -> Indexes:
        try:
            if len(buckets) > 1:  # for a single one, itemgetter returns no tuple
                return np.frombuffer(bytes(itemgetter(*buckets)(self)), np.uint8).astype(np.int64)
        except ValueError:  # more than 256 buckets
            pass
        return np.fromiter(map(self.__getitem__, buckets), np.int64, len(buckets))

    def _factorize_coded(self, buckets: Coded) -> Indexes:
        """Look up each name that is there once."""
        # Names may have been added to those that were seen.
        if buckets.values is not self._values or len(buckets.values) > len(self._index_of_value):
            self._values, self._index_of_value = buckets.values, np.full(len(buckets.values), -1)
        codes = buckets.codes.astype(np.intp, copy=False)  # once, and not at each use
        indexes = self._index_of_value.take(codes)
        if indexes.min(initial=0) < 0:
            unknown = codes[indexes < 0]
            # np.unique takes ten times as long, which is less only where many values are not there.
            few = len(self._values) <= len(unknown)
            new = np.flatnonzero(np.bincount(unknown)) if few else np.unique(unknown)
            self._index_of_value[new] = [self[name] for name in Coded(buckets.values, new)]
            indexes = self._index_of_value.take(codes)
        return indexes

    def _factorize_texts(self, buckets: NDArray[np.str_]) -> Indexes:
        """Factorize by hashes, and check that no two names share one."""
        hashes = bulk.all_hashes(_PLAIN, buckets)
        positions = self._find(hashes)
        if positions is None:
            for first in np.unique(hashes, return_index=True)[1].tolist():
                self[str(buckets[first])]  # looking a name up gives it an index
            texts = np.array([name for name in self.names if name is not None])
            known = bulk.all_hashes(_PLAIN, texts)
            order = np.argsort(known)
            self._hashes, self._texts = known[order], texts[order]
            self._indexes = np.array([self[str(text)] for text in self._texts])
            positions = self._find(hashes)
        if positions is None or not (self._texts[positions] == buckets).all():
            raise ArgumentValueError("buckets cannot be told apart by their hashes")
        return self._indexes[positions]

    def _find(self, hashes: bulk.Hashes) -> Indexes | None:
        if not len(self._hashes):
            return None
        positions = np.searchsorted(self._hashes, hashes)
        np.minimum(positions, len(self._hashes) - 1, out=positions)
        return positions if (self._hashes[positions] == hashes).all() else None


class PeriodFactorizer:
    """Factorizes dates by the periods, one of each kind, that contain them.

    Args:
        kinds: the kinds of period. :attr:`names` lists the combinations of periods, by their names.
    """

    def __init__(self, context: Context, kinds: Sequence[str]) -> None:
        self._calendar = context.calendar
        self._kinds = kinds
        self._hourly = "hourly" in kinds
        self.names: list[tuple[str, ...]] = []
        self._indexes: dict[tuple[str, ...], int] = {}
        self._names_by_hour: dict[tuple[int, int], tuple[str, ...]] = {}
        self._index_by_slot: dict[tuple[Any, int], int | None] = {}

    def __len__(self) -> int:
        """How much is remembered."""
        return len(self._names_by_hour) + len(self._index_by_slot)

    def periods(self, moment: datetime) -> tuple[str, ...]:
        """Names of the periods that contain a naive moment."""
        hour_key = moment.toordinal(), moment.hour
        if hour_key not in self._names_by_hour:
            containing = (self._calendar.containing(kind, moment) for kind in self._kinds)
            self._names_by_hour[hour_key] = tuple(period.name for period in containing)
        return self._names_by_hour[hour_key]

    def factorize(self, dates: Any) -> Indexes | None:
        """The indexes of a column of dates; None if some are unusual."""
        if isinstance(dates, date):
            dates = [dates]
        if isinstance(dates, Instants):
            return self._factorize_instants(dates.moments)
        if isinstance(dates, Coded):
            return self._factorize_coded(dates)
        if isinstance(dates, np.ndarray) and dates.dtype.kind == "M":
            return self._factorize_datetime64(dates)
        values = dates.tolist() if isinstance(dates, np.ndarray) else dates
        count = len(values)
        types = list(map(type, values))  # twice as fast as making a set
        if types.count(datetime) != count:
            plain = types.count(date) == count and not self._hourly
            return self._factorize_slots(_ordinals(values) * 24, self._index_of_hour) if plain else None
        naive = list(map(attrgetter("tzinfo"), values)).count(None)
        if naive < count:
            return None if naive else self._factorize_aware(values)
        hours = _ordinals(values) * 24
        if self._hourly:
            hours += np.fromiter(map(attrgetter("hour"), values), np.int64, count)
        return self._factorize_slots(hours, self._index_of_hour)

    def _factorize_datetime64(self, dates: NDArray[np.datetime64]) -> Indexes | None:
        """Factorize numpy's datetimes, which are naive."""
        unit = np.datetime_data(dates.dtype)[0]
        if self._hourly and unit in "YMWD":
            return None
        find = self._index_of_unix_hour if self._hourly else self._index_of_unix_day
        if unit in PER_SECOND:
            slot_s = 3600 if self._hourly else 86_400
            return self._factorize_slots(dates.view(np.int64), find, slot_s * PER_SECOND[unit])
        values = dates.astype(np.int64)
        if unit in "YMWDh" and not -_FAR < values.min() <= values.max() < _FAR:
            return None  # hours would overflow
        wanted = "h" if self._hourly else "D"
        return self._factorize_slots(dates.astype(f"datetime64[{wanted}]").astype(np.int64), find)

    def _factorize_aware(self, dates: Sequence[datetime]) -> Indexes | None:
        try:
            seconds = np.fromiter(map(datetime.timestamp, dates), np.float64, len(dates))
        except (OverflowError, ValueError):
            return None
        if not -_EXACT_S < seconds.min() <= seconds.max() < _EXACT_S:
            return None
        return self._factorize_slots(seconds.astype(np.int64), self._index_of_quarter, QUARTER_S)

    def _factorize_instants(self, moments: NDArray[np.datetime64]) -> Indexes | None:
        per_quarter = QUARTER_S * PER_SECOND[np.datetime_data(moments.dtype)[0]]
        return self._factorize_slots(moments.view(np.int64), self._index_of_quarter, per_quarter)

    def _factorize_coded(self, dates: Coded) -> Indexes | None:
        values, codes = np.unique(dates.codes, return_inverse=True)
        indexes = self.factorize(Coded(dates.values, values).tolist())
        return None if indexes is None else indexes[codes]

    def _factorize_slots(
        self, times: Indexes, find: Callable[[int], int | None], per_slot: int = 1
    ) -> Indexes | None:
        """The index of each time, or shape () if it is the same for all; None if one has none.

        Args:
            times: whole numbers of some unit.
            find: the index of a slot of time, by its number.
            per_slot: the units of a slot.
        """
        earliest, latest = int(times.min()), int(times.max())
        if earliest == _NO_TIME:
            return None
        first, last = earliest // per_slot, latest // per_slot
        if last - first <= 1:  # as in most batches of events in the order of time
            indexes = self._indexes_of([first, last], find)
            if indexes is None:
                return None
            is_first = True if first == last else times < last * per_slot
            found: Indexes = np.where(is_first, indexes[0], indexes[1])
            return found
        slots = times // per_slot
        if last - first >= _WIDEST_TABLE:
            # So far apart are but stray ones among many.
            distinct, which = np.unique(slots, return_inverse=True)
            indexes = self._indexes_of(distinct.tolist(), find)
            return None if indexes is None else indexes.take(which)
        slots -= first
        present = np.flatnonzero(np.bincount(slots))
        indexes = self._indexes_of((present + first).tolist(), find)
        if indexes is None:
            return None
        table = np.zeros(last - first + 1, np.int64)
        table[present] = indexes
        return table.take(slots)

    def _indexes_of(self, slots: Sequence[int], find: Callable[[int], int | None]) -> Indexes | None:
        """The index of each distinct slot, remembered from one batch to the next; None if one has none."""
        indexes = []
        for slot in slots:
            key = find, slot
            if key not in self._index_by_slot:
                self._index_by_slot[key] = find(slot)
            index = self._index_by_slot[key]
            if index is None:
                return None
            indexes.append(index)
        return np.array(indexes, np.int64)

    def _index_of_unix_day(self, day: int) -> int | None:
        return self._index_of_unix_hour(day * 24)

    def _index_of_unix_hour(self, hour: int) -> int | None:
        """The index of an hour, counted from 1970 in the calendar's zone."""
        return self._index_of_hour(hour + _UNIX_EPOCH * 24)

    def _index_of_hour(self, hour: int) -> int | None:
        """The index of an hour, counted from the day before 0001-01-01 in the calendar's zone."""
        try:
            day = date.fromordinal(hour // 24)
            moment = datetime(day.year, day.month, day.day, hour % 24)
            return self._index(self.periods(self._calendar.moment(moment, "date")))
        except (OverflowError, ValueError):
            return None

    def _index_of_quarter(self, quarter: int) -> int | None:
        """The index of a quarter of an hour, counted from 1970 in UTC."""
        try:
            edges = (self._calendar.local(quarter * QUARTER_S + second) for second in (0, QUARTER_S - 1))
            first, last = (self.periods(self._calendar.moment(edge, "date")) for edge in edges)
        except (OverflowError, ValueError, OSError):
            return None
        return self._index(first) if first == last else None

    def _index(self, names: tuple[str, ...]) -> int:
        if names not in self._indexes:
            self._indexes[names] = len(self.names)
            self.names.append(names)
        return self._indexes[names]


def _ordinals(dates: Sequence[date]) -> Indexes:
    return np.fromiter(map(date.toordinal, dates), np.int64, len(dates))
