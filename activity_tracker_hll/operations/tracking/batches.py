"""Batches of incoming events: rows from an iterable, or slices of three columns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, ClassVar

import numpy as np

from ...columns import Coded, EventColumns, Instants, Texts, as_python, is_single, times
from ...errors import ArgumentTypeError, ArgumentValueError
from ...ids import check_batch, is_masked
from ...messages import shown
from ...tables import as_buckets, as_dates, is_column

__all__ = ["EVENTS_PER_BATCH", "Batch", "Columns", "Part", "Rows", "awaited_batches", "batches"]

EVENTS_PER_BATCH = 65_536

_COLUMNS = (Texts, Coded, Instants)
_MOST_PER_STEP = 4096
_NUMBERS_PER_HELD, _NUMBERS_PER_MADE = 3, 8  # of an event whose date is in memory anyway, or is not
_LOOK_EVERY_S = 0.1  # whether events that wait are due
_EVENTS_PER_PART = 8192  # with the objects they refer to, these fit in the processor's second-level cache

Part = tuple[Any, Any, Any]
"""Ids, buckets and dates: sequences or arrays. In columns, one bucket or date may stand for all events."""

_NO_EVENTS: Part = (np.empty(0, np.int64), None, None)
_END = object()


@dataclass(frozen=True, slots=True)
class Rows:
    """Events as rows.

    Attributes:
        events: tuples (id, bucket, date), unless they are bad.
        error: what the iterable raised after these events, if anything.
        numbers_per_event: how many numbers of 8 bytes take as much memory as a hash, a group and a date.
    """

    events: list[Any]
    error: Exception | None
    numbers_per_event: int

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.events)

    def first(self) -> Iterator[Any]:
        """The first event, if there is one."""
        return iter(self.events[:1])

    def parts(self) -> Iterator[Part]:
        """The events as columns.

        zip(*events) would take five times as long, because so many iterators set off the garbage collector.
        Other things that can be unpacked into three, such as "xyz", fail later for their dates.

        Raises:
            TypeError, ValueError, LookupError: not every event has three parts.
        """
        for start in range(0, len(self), _EVENTS_PER_PART):
            part = self.events[start : start + _EVENTS_PER_PART]
            yield [id for id, _, _ in part], [event[1] for event in part], [event[2] for event in part]


@dataclass(frozen=True, slots=True)
class Columns:
    """Events as three columns; see :data:`Part`."""

    numbers_per_event: ClassVar[int] = 2

    columns: Part
    error: Exception | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[Any]:
        return EventColumns(*self.columns).rows()

    def first(self) -> Iterator[Any]:
        """The first event, if there is one."""
        ids, *others = self.columns
        return EventColumns(ids[:1], *(other if is_single(other) else other[:1] for other in others)).rows()

    def parts(self) -> Iterator[Part]:
        """All three columns in one part."""
        yield self.columns


Batch = Rows | Columns


def batches(events: Any, due: Callable[[], bool] = lambda: False) -> Iterator[Batch]:
    """Divide events, given as an iterable, also of columns, or as a tuple of three columns, into batches.

    Of columns without events a batch is made, too: that of a stream which pauses.

    Args:
        events: the iterable or the columns.
        due: whether events have waited long enough; if so, a batch of a slow iterable ends early.

    Raises:
        ArgumentTypeError, ArgumentValueError: columns of different lengths, or no columns.
    """
    if isinstance(events, tuple):
        events = tuple(tuple.__iter__(events))
        if len(events) == 3 and (isinstance(events[0], np.ndarray) or is_column(events[0])):
            ids, buckets, dates = events
            yield from _column_batches(
                check_batch(ids, "events: ids"),
                as_buckets(buckets, "events: buckets"),
                as_dates(dates, "events: dates"),
            )
            return
    try:
        rows = iter(events)
    except Exception as error:
        raise ArgumentTypeError(f"events cannot be iterated over, got {shown(events)}") from error
    first = next(rows, _END)
    if isinstance(first, EventColumns):
        yield from _batches_of_columns(chain([first], rows))
        return
    # A subclass may make them on the way.
    numbers = _NUMBERS_PER_HELD if type(events) in (list, tuple) else _NUMBERS_PER_MADE
    yield from _row_batches(rows if first is _END else chain([first], rows), due, numbers)


async def awaited_batches(
    events: AsyncIterable[object], due: Callable[[], bool]
) -> AsyncGenerator[Batch, None]:
    """:func:`batches` of an iterable that is awaited: of events, of columns, or of both.

    It is awaited in a task of its own, so that what it has brought is handed on while it pauses.
    """
    arrived = _Arrived()
    filling = asyncio.create_task(arrived.fill(events))
    try:
        while not filling.done() or arrived.items:
            await asyncio.wait({filling, arrived.some}, return_when=asyncio.FIRST_COMPLETED)
            while not (filling.done() or arrived.full.done() or due()):
                either = {filling, arrived.full}
                await asyncio.wait(either, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            for batch in arrived.take():
                yield batch
        if filling.cancelled():
            raise asyncio.CancelledError
        error = filling.exception()
        if isinstance(error, Exception):
            yield Columns(_NO_EVENTS, error)
        elif error is not None:
            raise error
    finally:
        filling.cancel()
        await asyncio.wait({filling})


class _Arrived:
    """What an iterable that is awaited has brought, and has to be taken.

    Attributes:
        items: events, or columns as the last one.
        some: done when there are any.
        full: done when they are enough; then no more come before they are taken.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.items: list[Any] = []
        self.some, self.full, self._taken = (asyncio.get_running_loop().create_future() for _ in range(3))

    async def fill(self, events: AsyncIterable[object]) -> None:
        """Await all events."""
        async for event in events:
            self.items.append(event)
            if len(self.items) == 1:
                self.some.set_result(None)
            if len(self.items) == EVENTS_PER_BATCH or isinstance(event, EventColumns):
                self.full.set_result(None)
                await self._taken

    def take(self) -> list[Batch]:
        """The items as batches; more may come."""
        items, taken = self.items, self._taken
        self._begin()
        taken.set_result(None)
        columns = [items.pop()] if items and isinstance(items[-1], EventColumns) else []
        rows: list[Batch] = [Rows(items, None, _NUMBERS_PER_MADE)] if items else []
        return [*rows, *_batches_of_columns(iter(columns))]


def _batches_of_columns(parts: Iterator[object]) -> Iterator[Columns]:
    while True:
        try:
            part = next(parts, _END)
        except Exception as raised:  # noqa: BLE001 (the caller's own are raised too, after the events before)
            yield Columns(_NO_EVENTS, raised)
            return
        if part is _END:
            return
        if not isinstance(part, EventColumns):
            error = ArgumentTypeError(f"events must be EventColumns like the first ones, got {shown(part)}")
            yield Columns(_NO_EVENTS, error)
            return
        if not len(part):
            yield Columns(_NO_EVENTS)
        yield from _column_batches(part.ids, part.buckets, part.dates)


def _row_batches(events: Iterator[Any], due: Callable[[], bool], numbers_per_event: int) -> Iterator[Rows]:
    while True:
        rows: list[Any] = []
        error, more, step = None, True, 1
        while more and len(rows) < EVENTS_PER_BATCH and not (rows and due()):
            # Each step takes about as long as all steps before it, so a slow iterable is never late by more.
            wanted = len(rows) + step
            try:
                rows.extend(islice(events, step))
            except Exception as raised:  # noqa: BLE001 (the caller's own are raised too, after the events before)
                error = raised
            more = len(rows) == wanted
            step = min(2 * step, _MOST_PER_STEP)
        yield Rows(rows, error, numbers_per_event)
        if not more:
            return


def _column_batches(ids: Any, buckets: Any, dates: Any) -> Iterator[Columns]:
    buckets_of, dates_of = _slicer(buckets, "buckets", len(ids)), _slicer(dates, "dates", len(ids))
    for start in range(0, len(ids), EVENTS_PER_BATCH):
        part = slice(start, start + EVENTS_PER_BATCH)
        yield Columns((ids[part], buckets_of(part), dates_of(part)))


def _slicer(values: Any, name: str, count: int) -> Callable[[slice], Any]:
    """A function that takes a slice of a column, or of one value that stands for all."""
    if isinstance(values, np.datetime64):
        [values] = as_python(np.array([values]))
    if is_single(values):
        return lambda _part: values
    if is_masked(values):
        raise ArgumentTypeError(f"events: {name} must not be a masked array")
    is_array = isinstance(values, np.ndarray) and values.ndim == 1
    if not is_array and not isinstance(values, (list, tuple, *_COLUMNS)):
        raise ArgumentTypeError(f"events: {name} must be an array, a list or one value, got {shown(values)}")
    # A subclass may hand out what it likes.
    if type(values) not in (list, tuple, np.ndarray, *_COLUMNS):
        kind: Any = next(kind for kind in (list, tuple, np.ndarray) if isinstance(values, kind))
        values = np.asarray(values) if kind is np.ndarray else list(kind.__iter__(values))
    if len(values) != count:
        raise ArgumentValueError(f"events: {count} ids but {len(values)} {name}")
    if isinstance(values, Instants) or (isinstance(values, np.ndarray) and values.dtype.kind == "M"):
        return lambda part: times(values[part])
    take: Callable[[slice], Any] = values.__getitem__
    return take
