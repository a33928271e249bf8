"""Importing: from events of any bucket and moment, in any order, to sketches of each place.

A batch of events is taken as columns: hashes of its ids, a small number for each one's place, and a
sort by these. A batch that is not plain (a bad event, moments of an unusual type) goes event by event,
which is slower, finds what is wrong, and says where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import bulk
from ..errors import ActivityTrackerError, ArgumentTypeError, ArgumentValueError
from ..ids import IdEncoder
from ..keys import check_bucket
from .base import Context
from .pending import FEW, Pending

__all__ = ["Batch", "Importing", "batches"]

_EVENTS_PER_BATCH = 65_536
_UNIX_EPOCH = date(1970, 1, 1).toordinal()
# No zone's clock changes within a quarter of an hour, but for a few before 1972; those are noticed.
_QUARTER_S = 900
_WIDEST_TABLE = 1 << 20
_PLAIN = IdEncoder()

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events, as columns of equal length; a bucket or date may be one for all.

    Attributes:
        ids, buckets, dates: list, tuple or array; `count` of each.
        count: how many events.
        error: what the iterable raised after them, if anything.
        rows: the events themselves, where they came as such.
    """

    ids: Any
    buckets: Any
    dates: Any
    count: int
    error: Exception | None = None
    rows: Sequence[Any] | None = None


def batches(events: Any) -> Iterator[Batch]:
    """The batches of an iterable of events, or of a tuple of three columns.

    Raises:
        ArgumentTypeError, ArgumentValueError: columns of different lengths, or of no length.
    """
    if isinstance(events, tuple) and len(events) == 3 and isinstance(events[0], np.ndarray):
        yield from _column_batches(*events)
    else:
        yield from _event_batches(events)


def _event_batches(events: Iterable[Any]) -> Iterator[Batch]:
    iterator = iter(events)
    while True:
        rows: list[Any] = []
        error = None
        try:
            rows.extend(islice(iterator, _EVENTS_PER_BATCH))
        except Exception as raised:  # noqa: BLE001 (the caller's own are raised too, after the events before)
            error = raised
        columns = _transposed(rows)
        yield Batch(*columns, len(rows), error, rows)
        if error is not None or len(rows) < _EVENTS_PER_BATCH:
            return


def _transposed(rows: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Ids, buckets, dates; None where not every event is a tuple or list of three."""
    if not set(map(type, rows)) <= {tuple, list} or not set(map(len, rows)) <= {3}:
        return None, None, None
    # zip(*rows) takes five times as long: as many iterators as rows set off the garbage collector.
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _column_batches(ids: NDArray[Any], buckets: Any, dates: Any) -> Iterator[Batch]:
    def column(values: Any, name: str) -> Callable[[slice], Any]:
        if values is None or isinstance(values, (str, date)):
            return lambda _part: values
        if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, bytes):
            raise ArgumentTypeError(
                f"events: {name} must be an array, a list or one value, got {values!r:.60}"
            )
        if len(values) != len(ids) or np.ndim(ids) != 1:
            raise ArgumentValueError(f"events: {len(ids)} ids but {len(values)} {name}")
        whole: Callable[[slice], Any] = values.__getitem__
        return whole

    of_buckets, of_dates = column(buckets, "buckets"), column(dates, "dates")
    for start in range(0, len(ids), _EVENTS_PER_BATCH):
        part = slice(start, start + _EVENTS_PER_BATCH)
        yield Batch(ids[part], of_buckets(part), of_dates(part), len(ids[part]))


class Importing:
    """Puts the events of one import into what is pending.

    Args:
        kinds: kinds of period to count in.
        pending: where to.
        sketches: whether the server takes sketches; if not, all are kept as ids.
    """

    def __init__(self, context: Context, kinds: Sequence[str], pending: Pending, sketches: bool) -> None:
        self._context = context
        self._kinds = kinds
        self._hourly = "hourly" in kinds
        self._pending = pending
        self._sketches = sketches
        self._buckets = _BucketCodes(self._open)
        self._cells = _Cells(context, kinds)
        self.done = 0

    def add(self, batch: Batch) -> Exception | None:
        """Take in the events of a batch; returns what was wrong with the first bad one, if one is."""
        if self._sketches and batch.ids is not None and batch.count >= FEW and self._add_columns(batch):
            self.done += batch.count
            return batch.error
        return self._add_rows(batch) or batch.error

    def check(self, batch: Batch) -> Exception | None:
        """What is wrong with the first event, if it is."""
        try:
            self._checked(next(_rows(batch)), self.done)
        except (ActivityTrackerError, StopIteration) as error:
            return error if isinstance(error, ActivityTrackerError) else batch.error
        return None

    def _add_columns(self, batch: Batch) -> bool:
        """False, and nothing is done, if the events are not plain."""
        try:
            hashes = bulk.all_hashes(self._context.ids, batch.ids)
            buckets = self._buckets.of(batch.buckets)
        except (ActivityTrackerError, TypeError):
            return False
        cells = self._cells.of(batch.dates)
        if cells is None:
            return False
        width = len(self._cells.names)
        codes = np.broadcast_to(buckets * width + cells, batch.count)
        most = len(self._buckets.names) * width
        # A sort of 16-bit numbers is a radix sort.
        order = np.argsort(codes.astype(np.uint16 if most <= 1 << 16 else np.int64), kind="stable")
        hashes = hashes[order]
        counts = np.bincount(codes, minlength=most)
        ends = np.cumsum(counts)
        for code in np.flatnonzero(counts).tolist():
            part = slice(ends[code] - counts[code], ends[code])
            bucket = self._buckets.names[code // width]
            self._add_group(batch, bucket, self._cells.names[code % width], hashes[part], order[part])
        return True

    def _add_group(
        self, batch: Batch, bucket: str | None, names: Sequence[str], hashes: Any, rows: NDArray[np.int64]
    ) -> None:
        """Events of one bucket and one period of each kind."""
        encoded: list[bytes] = []
        for name in names:
            place = name, bucket
            if len(rows) >= FEW or self._pending.has_sketch(place):
                self._pending.add_hashes(place, hashes)
                continue
            if not encoded:
                encoded = self._context.ids.many([batch.ids[row] for row in rows.tolist()])
            self._pending.add_ids(place, encoded)

    def _add_rows(self, batch: Batch) -> Exception | None:
        for event in _rows(batch):
            try:
                id, bucket, moment = self._checked(event, self.done)
            except ActivityTrackerError as error:
                return error
            for name in self._cells.periods(moment):
                self._pending.add_ids((name, bucket), (id,))
            self.done += 1
        return None

    def _checked(self, event: object, place: int) -> tuple[bytes, str | None, datetime]:
        argument = f"events[{place}]"
        if not isinstance(event, (tuple, list)) or len(event) != 3:
            raise ArgumentTypeError(f"{argument} must be a tuple (id, bucket, datetime), got {event!r}")
        id, bucket, moment = event
        return (
            self._context.ids.one(id, f"{argument} id"),
            self._open(bucket, f"{argument} bucket"),
            self._context.calendar.moment(moment, f"{argument} date", needs_hour=self._hourly),
        )

    def _open(self, bucket: object, argument: str = "bucket") -> str | None:
        return self._context.open(check_bucket(bucket, argument))


class _BucketCodes(dict[Any, int]):
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
        return np.fromiter(map(self.__getitem__, listed), np.int64, len(listed))

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


class _Cells:
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
        types = set(map(type, listed))
        if types == {date} and not self._hourly:
            return self._numbered(_ordinals(listed) * 24, self._of_hour)
        if types != {datetime}:
            return None
        zones = set(map(attrgetter("tzinfo"), listed))
        if zones == {None}:
            hours = _ordinals(listed) * 24
            if self._hourly:
                hours += np.fromiter(map(attrgetter("hour"), listed), np.int64, len(listed))
            return self._numbered(hours, self._of_hour)
        return None if None in zones else self._of_aware(listed)

    def _of_times(self, dates: NDArray[np.datetime64]) -> Codes | None:
        """Of numpy's datetimes, which are naive."""
        unit = np.datetime_data(dates.dtype)[0]
        if np.isnat(dates).any() or (self._hourly and unit in "YMWD"):
            return None
        wanted = "h" if self._hourly else "D"
        hours = dates.astype(f"datetime64[{wanted}]").astype(np.int64) * (1 if self._hourly else 24)
        return self._numbered(hours + _UNIX_EPOCH * 24, self._of_hour)

    def _of_aware(self, dates: Sequence[datetime]) -> Codes | None:
        try:
            seconds = np.fromiter(map(datetime.timestamp, dates), np.float64, len(dates))
        except (OverflowError, ValueError):
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


def _rows(batch: Batch) -> Iterator[Any]:
    """The events one by one."""
    if batch.rows is not None:
        return iter(batch.rows)
    columns = (_listed(column, batch.count) for column in (batch.ids, batch.buckets, batch.dates))
    return zip(*columns, strict=True)


def _listed(column: Any, count: int) -> list[Any]:
    if column is None or isinstance(column, (str, date)):
        return [column] * count
    if isinstance(column, np.ndarray):
        # Finer than microseconds tolist() would give numbers.
        fine = column.dtype.kind == "M"
        listed: list[Any] = (column.astype("datetime64[us]") if fine else column).tolist()
        return listed
    return list(column)
