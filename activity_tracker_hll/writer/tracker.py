"""The high-volume writer as users see it: a call costs an append to a list, threads do the rest.

``track`` takes no lock, waits for nothing, and raises only for bad arguments. What is kept between two pushes
belongs to the :mod:`.buffer`, threads to the :mod:`.worker`, forks and ends to the :mod:`.lifecycle`.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from .. import arguments, bulk
from ..backends.base import BaseBackend
from ..errors import ArgumentTypeError, ArgumentValueError, WriterClosedError
from ..ids import Id, check_batch, encode
from ..keys import check_bucket
from ..periods import PeriodKind
from ..planner import Planner
from ..shorthands import of_kind
from ..words import many
from . import lifecycle
from .buckets import Limits
from .buffer import Buffer
from .intake import Append, Appends, ExplicitEvent, extend
from .statistics import Statistics
from .worker import Worker

__all__ = ["BaseWriter", "BufferedTracker"]

_LOG = logging.getLogger("activity_tracker_hll")
_PATIENCE_S = 1.0
_FIRST_SHARD = 0
"""`is` tells it from 0.0 and False, and asks no array; whatever is not this very object is checked."""


class BaseWriter:
    """What the writers for threads and for asyncio share: all but how one waits for them.

    Args:
        planner: of the tracker it belongs to.
        backend: of the tracker; the writer makes one of its own from it.

    The other arguments: see :meth:`.ActivityTracker.buffered`.
    """

    def __init__(
        self,
        planner: Planner,
        backend: BaseBackend,
        *,
        flush_interval: float = 1.0,
        close_timeout: float = 10.0,
        refresh_interval: float = 60.0,
        max_sketches: int = 8192,
        max_moves: int = 100_000,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        arguments.check_callable(on_error, "on_error")
        interval = arguments.seconds(flush_interval, "flush_interval")
        self._planner = planner
        self._close_timeout = arguments.seconds(close_timeout, "close_timeout")
        self._limits = Limits(
            arguments.integer(max_sketches, "max_sketches", minimum=1),
            arguments.integer(max_moves, "max_moves", minimum=1),
            round(arguments.seconds(refresh_interval, "refresh_interval") * 1_000_000),
        )
        self._buffers: dict[int, Buffer] = {}
        self._worker = Worker(
            planner,
            backend.for_writer(max(interval, _PATIENCE_S)),
            self._buffers,
            interval,
            on_error,
        )
        self._buffer(0)
        self._append = Appends(self._open_queue)
        """Where `track` looks up how to append: in the table of the intake once the threads run, and nowhere
        before, so that each call gets to start them."""
        self._closed = self._has_ended = False
        self._forked_from: lifecycle.ForkedFrom | None = None
        lifecycle.register(self)

    def __repr__(self) -> str:
        # Without the statistics: they take a lock, which may be held where this is called for.
        return f"<{type(self).__name__} {'closed' if self._closed else 'open'} {self._planner.described()}>"

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise ArgumentTypeError(
            f"a {name} cannot be pickled, as it holds events of this process: pickle its tracker, and call"
            " buffered() in the other one"
        )

    @property
    def statistics(self) -> Statistics:
        """What became of the events so far, in this process."""
        counts = [buffer.counts() for buffer in list(self._buffers.values())]
        tracked, pushed, pending, dropped, late = map(sum, zip(*counts, strict=True))
        sent, error = self._worker.bytes, self._worker.last_error
        return Statistics(tracked, pushed, pending, dropped, late, sent, error)

    def flush_within(self, limit: float) -> Statistics:
        """Push everything, within so many seconds."""
        self._worker.flush(limit)
        return self.statistics

    def close_within(self, limit: float | None = None) -> Statistics:
        """Push everything and end, within so many seconds; None = `close_timeout`."""
        deadline = time.monotonic() + (self._close_timeout if limit is None else limit)
        if self._has_ended:
            return self.statistics
        self._closed = True
        self._append = Appends(_refuse)
        statistics = self.statistics
        orphaned = self._forked_from is not None and self._forked_from.has_ended
        if statistics.pending or self._worker.has_started or orphaned:
            statistics = self.flush_within(max(deadline - time.monotonic(), 0.001))
        self._worker.stop(deadline)
        # Not before: where SIGTERM ends this process while it waits here, it is closed when the process ends.
        self._has_ended = True
        lifecycle.unregister(self)
        if statistics.pending:
            _LOG.error(
                "%s: %s",
                many(
                    statistics.pending,
                    "event was not pushed in time and is lost",
                    "events were not pushed in time and are lost",
                ),
                statistics.last_error,
            )
        return statistics

    @property
    def is_settled(self) -> bool:
        """Whether it is known where periods begin, or was given."""
        calendar, kinds = self._planner.calendar, self._planner.periods or ()
        return calendar.gives_zone and (calendar.gives_week_start or "weekly" not in kinds)

    def settle(self) -> None:
        """Ask the server where periods begin, if that was not given.

        Where it does not answer soon, events belong to the periods of local time until it does.
        """
        if not self.is_settled:
            self._worker.settle()

    def limit(self, timeout: float | None) -> float:
        """Seconds to wait, checked."""
        return self._close_timeout if timeout is None else arguments.seconds(timeout, "timeout")

    # Forks

    def locks(self) -> list[Any]:
        """Locks that have to be held during a fork."""
        return [buffer.lock for buffer in list(self._buffers.values())]

    def after_fork(self, parent: int) -> None:
        """In a forked child."""
        for buffer in self._buffers.values():
            buffer.after_fork()
        self._worker.after_fork()
        self._append = Appends(_refuse if self._closed else self._open_queue)
        self._forked_from = lifecycle.ForkedFrom(parent)

    # Events

    def _open_queue(self, bucket: str | None) -> Append:
        """Make a queue for a bucket that has none; returns how to append to it."""
        name = self._planner.data_set(0).context.trackable(check_bucket(bucket))
        if not self._planner.periods:
            raise ArgumentValueError("periods must be given, here or to the tracker's constructor")
        self._worker.start()
        buffer = self._buffers[0]
        buffer.open(self._planner.clock())
        if self._worker.runs:
            self._append = buffer.intake.appends
            if self._closed:  # meanwhile
                self._append = Appends(_refuse)
        return buffer.intake.append_to(name)

    def _append_to(self, bucket: str | None) -> Append:
        try:
            return self._append[bucket]
        except Exception:
            if bucket is None or type(bucket) is str:
                raise
            return self._append[check_bucket(bucket)]  # one that cannot be hashed, or compared

    def _track(
        self,
        periods: Iterable[PeriodKind] | None,
        id: object,
        bucket: str | None,
        old_id: object,
        old_bucket: str | None,
        date: dt.date | None,
        shard: int,
    ) -> None:
        """Track what is not the common case: a move, a date, periods, a shard, an id that is no str."""
        if self._closed:
            _refuse(None)
        if periods is None and date is None and old_id is None and shard is _FIRST_SHARD and id is not None:
            self._append_to(bucket)(_plain(id, "id"))
            return
        kinds, data = self._planner.kinds(periods), self._planner.data_set(shard)
        event = self._planner.event(data, kinds, id, bucket, old_id, old_bucket, date)
        names = None if periods is None and date is None else self._planner.names(kinds, event)
        ticks = data.clock.ticks()
        buffer = self._buffers.get(shard) or self._buffer(shard)
        self._worker.start()
        buffer.open(self._planner.clock())
        intake = buffer.intake
        intake.has_explicit = True
        addition, append = None, None
        if event.id is not None:
            addition = ExplicitEvent(event.id, ticks, names, event.stamp)
            append = intake.append_to(event.bucket)
            append(addition)
        if event.old_id is not None:
            if append is None or not intake.overflows(append):
                append = intake.append_to(event.old_bucket)
            append(ExplicitEvent(event.old_id, ticks, names, event.stamp, leaves=True, after=addition))

    def _buffer(self, shard: int) -> Buffer:
        data = self._planner.data_set(shard)
        buffer = Buffer(
            data,
            self._planner.periods or (),
            self._limits,
            self._worker.random,
            self._open_queue,
        )
        return self._buffers.setdefault(shard, buffer)


class BufferedTracker(BaseWriter):
    """Tracks without waiting; made by :meth:`.ActivityTracker.buffered`.

    Calls may come from any thread, from signal handlers, and from the garbage collector. None of them
    waits for the network or raises because of it.
    """

    def track(
        self,
        periods: Iterable[PeriodKind] | None = None,
        *,
        id: Id | None = None,
        bucket: str | None = None,
        old_id: Id | None = None,
        old_bucket: str | None = None,
        date: dt.date | None = None,
        shard: int = 0,
    ) -> None:
        """Record that an id was active, without waiting for the server.

        Args:
            periods: kinds of period; None = the tracker's.
            id: str, bytes, int or UUID; 7, "7" and b"7" are one id.
            bucket: the bucket the id is in; None = the unnamed bucket.
            old_id: what the id was until now: it is moved. With id=None it is only removed.
            old_bucket: the bucket it was in.
            date: date or datetime of the event; None = now. Hourly periods need a datetime.
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            ArgumentTypeError, ArgumentValueError: bad arguments. (A str that is too long or cannot be encoded
                is found later: it is dropped, counted, and reported to `on_error`.)
            WriterClosedError: after close().
        """
        # The common case, with nothing in it that is not needed; it is a tenth of a microsecond.
        if (
            periods is date is old_id  # type: ignore[comparison-overlap]
            and shard is _FIRST_SHARD
            and type(id) is str
            and id
        ):
            try:
                self._append[bucket](id)
            except Exception:
                if bucket is None or type(bucket) is str:
                    raise
                self._append_to(bucket)(id)
        else:
            self._track(periods, id, bucket, old_id, old_bucket, date, shard)

    def track_many(
        self,
        ids: Iterable[Id],
        periods: Iterable[PeriodKind] | None = None,
        *,
        bucket: str | None = None,
        date: dt.date | None = None,
        shard: int = 0,
    ) -> None:
        """Record that many ids were active in one bucket at one moment, without waiting for the server.

        Args:
            ids: list, tuple, set, iterator, one-dimensional numpy array (S, U, T, integer), or a column of
                pandas, polars or pyarrow; all are checked before the first is taken, except that a str over
                1 KiB with a line end in it is found later, as by `track`. What an iterator raises is raised
                as it is.
            periods: kinds of period; None = the tracker's.
            bucket: the bucket the ids are in; None = the unnamed bucket.
            date: date or datetime of the events; None = now. Hourly periods need a datetime.
            shard: the data set, by its place in the backend's `shards` option.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, by its place, or another bad argument.
            WriterClosedError: after close().
        """
        listed = _listed(ids)
        if periods is None and date is None and shard is _FIRST_SHARD:
            plain = listed if bulk.are_texts(listed) else _all_plain(listed)
            extend(self._append_to(bucket), plain)
        else:
            for id in _all_plain(listed):
                self._track(periods, id, bucket, None, None, date, shard)

    track_hourly = of_kind("hourly")(track)
    track_daily = of_kind("daily")(track)
    track_weekly = of_kind("weekly")(track)
    track_monthly = of_kind("monthly")(track)
    track_quarterly = of_kind("quarterly")(track)
    track_yearly = of_kind("yearly")(track)

    def flush(self, timeout: float | None = None) -> Statistics:
        """Push everything that was tracked before, and wait until the server has it.

        Args:
            timeout: seconds to wait; None = as long as close() does.

        Returns:
            The statistics; where `pending` is not 0, time was up, or what is left waits for somebody to mend
            what `last_error` names.

        Raises:
            ArgumentTypeError, ArgumentValueError: a timeout that is not a positive number.
        """
        return self.flush_within(self.limit(timeout))

    def close(self, timeout: float | None = None) -> Statistics:
        """Push everything and end the threads; what is still pending then is lost, and logged.

        Args:
            timeout: seconds to wait; None = the writer's `close_timeout`.

        Returns:
            The statistics; where `pending` is not 0, time was up.

        Raises:
            ArgumentTypeError, ArgumentValueError: a timeout that is not a positive number.
        """
        return self.close_within(self.limit(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _listed(ids: object) -> Sequence[Any]:
    """Many ids as they were given; an iterator is consumed once."""
    batch: Any = check_batch(ids, "ids")
    if isinstance(batch, np.ndarray):
        batch = batch.tolist()
    return batch if isinstance(batch, (list, tuple)) else list(batch)


def _all_plain(ids: Sequence[Any]) -> list[str | bytes]:
    """Many ids as a queue holds them."""
    return [_plain(id, f"ids[{index}]") for index, id in enumerate(ids)]


def _plain(id: object, argument: str) -> str | bytes:
    """An id as a queue holds it."""
    encoded = encode(id, argument)
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded


def _refuse(_event: object) -> Any:
    raise WriterClosedError("the buffered tracker is closed")
