"""The high-volume writer: a call costs an append to a list, threads do the rest.

What is kept between two pushes, and how, is decided in :mod:`.commands.buffer`. Here are the threads and
the clock, and what happens when a process forks or ends:

- the *folder* takes lanes into registers, so that they stay short, and does so exactly where a period
  ends; it never waits for the network;
- the *pusher* sends what changed, again and again until the server has acknowledged it.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import logging
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from functools import cache, partial
from multiprocessing import util
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import arguments
from .commands import Operation, run
from .commands.buffer import Buffer, Marker, Statistics
from .errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BackendAuthError,
    DroppedEventsError,
    WriterClosedError,
)
from .ids import check_batch, encode
from .keys import check_bucket
from .shorthands import of

if TYPE_CHECKING:
    from .tracker import ActivityTracker

__all__ = ["BaseWriter", "BufferedTracker", "Statistics"]

_LOG = logging.getLogger("activity_tracker_hll")
_MANY_EVENTS = 65_536
_LONGEST_NAP_S = 0.25
_SHORT_NAP_S = 0.02
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 5.0
_PATIENCE_S = 1.0
_LASTING = ("WRONGTYPE", "INVALIDOBJ", "corrupt")

_writers: weakref.WeakSet[BaseWriter] = weakref.WeakSet()


class _Appends(dict[str | None, Callable[[Any], None]]):
    """How to append to the lane of a bucket; made, and the threads started, when one is first asked for."""

    def __init__(self, make: Callable[[str | None], Callable[[Any], None]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, bucket: str | None) -> Callable[[Any], None]:
        return self._make(bucket)


class BaseWriter:
    """The writer but for how one waits for it."""

    _ticks = staticmethod(time.monotonic)

    def __init__(
        self,
        tracker: ActivityTracker,
        *,
        flush_interval: float = 1.0,
        close_timeout: float = 10.0,
        refresh_interval: float = 60.0,
        max_sketches: int = 8192,
        max_moves: int = 100_000,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        if on_error is not None and not callable(on_error):
            raise ArgumentTypeError(f"on_error must be callable, got {on_error!r}")
        self._tracker = tracker
        self._flush_interval = arguments.seconds(flush_interval, "flush_interval")
        self._close_timeout = arguments.seconds(close_timeout, "close_timeout")
        self._refresh_interval = arguments.seconds(refresh_interval, "refresh_interval")
        self._max_sketches = arguments.integer(max_sketches, "max_sketches", minimum=1)
        self._max_moves = arguments.integer(max_moves, "max_moves", minimum=1)
        self._on_error = on_error
        self._backend = tracker.backend.for_writer(max(self._flush_interval, _PATIENCE_S))
        self._kinds = tracker._periods or ()  # noqa: SLF001 (this, below too: a part of the tracker)
        self._random = Random()  # noqa: S311 (spreads load, keeps no secret)
        self._buffers = {0: self._buffer()}
        self._append = _Appends(self._open)
        self._closed = False
        self._bytes = self._dropped = 0
        self._error: Exception | None = None
        self._reported = ""
        self._forked_from: tuple[int, float] | None = None
        self._arm()
        _writers.add(self)
        _close_at_exit()

    @property
    def statistics(self) -> Statistics:
        """What became of the events so far, in this process."""
        buffers = list(self._buffers.values())
        folded = pushed = dropped = late = pending = held = 0
        for buffer in buffers:
            with buffer.lock:
                folded, pushed = folded + buffer.folded, pushed + buffer.pushed
                dropped, late = dropped + buffer.dropped, late + buffer.late
                pending += buffer.pending
                held += buffer.held_events
        return Statistics(folded + held, pushed, pending + held, dropped, late, self._bytes, self._error)

    def _flush(self, limit: float) -> Statistics:
        if threading.current_thread() is not self._pusher:  # in on_error: the pusher cannot wait for itself
            self._start()
            with self._progress:
                self._wanted += 1
                wanted = self._wanted
                self._kick.set()
                self._progress.wait_for(lambda: self._done >= wanted, limit)
        return self.statistics

    def _close(self, limit: float | None = None) -> Statistics:
        deadline = time.monotonic() + (self._close_timeout if limit is None else limit)
        if self._closed:
            return self.statistics
        self._closed = True
        self._append = _Appends(_refuse)
        _writers.discard(self)
        statistics = self.statistics
        parent = self._forked_from[0] if self._forked_from is not None else None
        if statistics.pending or self._pusher is not None or parent not in (None, os.getppid()):
            statistics = self._flush(max(deadline - time.monotonic(), 0.001))
        self._stop.set()
        self._kick.set()
        for thread in (self._folder, self._pusher):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0))
        if statistics.pending:
            _LOG.error("%d events were not pushed in time and are lost: %s", statistics.pending, self._error)
        return statistics

    def _limit(self, timeout: float | None) -> float:
        return self._close_timeout if timeout is None else arguments.seconds(timeout, "timeout")

    # Lanes

    def _open(self, bucket: str | None) -> Callable[[Any], None]:
        name = self._tracker._context.open(check_bucket(bucket))  # noqa: SLF001
        if not self._kinds:
            raise ArgumentValueError("periods must be given, here or to the tracker's constructor")
        self._start()
        buffer = self._buffers[0]
        lane = buffer.lane(name)
        if lane is not buffer.overflow:
            self._append[name] = lane.append
        return lane.append

    def _track(
        self,
        periods: Iterable[str] | None,
        id: object,
        bucket: str | None,
        old_id: object,
        old_bucket: str | None,
        date: dt.date | None,
        shard: int,
    ) -> None:
        """Everything that is not the common case."""
        if self._closed:
            _refuse(None)
        if periods is None and date is None and old_id is None and shard == 0 and id is not None:
            self._append[bucket](_plain(id, "id"))
            return
        tracker = self._tracker
        kinds = tracker._kinds(periods)  # noqa: SLF001
        now, moment = tracker._clock(), tracker._moment(date, kinds)  # noqa: SLF001
        bucket, old_bucket = check_bucket(bucket), check_bucket(old_bucket, "old_bucket")
        planned = tracker._tracking.events(kinds, now, moment, id, bucket, old_id, old_bucket)  # noqa: SLF001
        names: tuple[str, ...] | None
        names, added, removed = planned
        if periods is None and moment is None:
            names = None
        buffer = self._buffers.get(shard) or self._new_buffer(shard)
        self._start()
        buffer.marked = True
        addition, when = None, self._ticks()
        lane = old_lane = buffer.overflow
        if added is not None:
            addition = Marker(added, when, names)
            lane = buffer.lane(bucket)
            lane.append(addition)
        if removed is not None:
            old_lane = buffer.lane(old_bucket) if added is None or lane is not buffer.overflow else lane
            old_lane.append(Marker(removed, when, names, removes=True, after=addition))

    def _buffer(self) -> Buffer:
        return Buffer(
            self._tracker._context,  # noqa: SLF001
            self._kinds,
            most_sketches=self._max_sketches,
            most_ids=self._max_moves,
            refresh_interval=self._refresh_interval,
            random=self._random,
            retire=self._retire,
            ticks=self._ticks,
        )

    def _retire(self, bucket: str | None) -> None:
        self._append.pop(bucket, None)

    def _new_buffer(self, shard: int) -> Buffer:
        self._tracker.backend.check_shard(shard)
        return self._buffers.setdefault(shard, self._buffer())

    # Threads

    def _arm(self) -> None:
        """No threads, and nobody waits for them: at first, and after a fork."""
        self._starting = threading.Lock()
        self._stop, self._kick = threading.Event(), threading.Event()
        self._progress = threading.Condition()
        self._wanted: int = 0
        self._done: int = 0
        self._started = time.monotonic()
        self._folder: threading.Thread | None = None
        self._pusher: threading.Thread | None = None

    def _start(self) -> None:
        """Start the threads unless they run; never waits, for a signal handler may have come in between."""
        if self._pusher is not None or not self._starting.acquire(blocking=False):
            return
        try:
            if self._pusher is None:
                self._inherit()
                folder = threading.Thread(target=self._fold, name="activity-tracker-hll fold", daemon=True)
                pusher = threading.Thread(target=self._push, name="activity-tracker-hll push", daemon=True)
                folder.start()
                pusher.start()
                self._folder, self._pusher = folder, pusher
        except RuntimeError:
            # The interpreter is ending and starts no threads any more: the events stay pending.
            _LOG.exception("cannot start the threads of the writer")
        finally:
            self._starting.release()

    def _fold(self) -> None:
        while not self._stop.is_set():
            held = sum(buffer.held for buffer in self._buffers.values())
            self._stop.wait(self._nap(held))
            try:
                for buffer in list(self._buffers.values()):
                    if buffer.sketches is None and time.monotonic() > self._started + _PATIENCE_S:
                        buffer.sketches = True  # a real server that is down, not a stand-in for tests
                    self._fold_one(buffer)
            except Exception as error:  # noqa: BLE001 (the thread must not end)
                self._report(error)

    def _nap(self, held: int) -> float:
        """Until the lanes should be looked at, but not past the end of a period."""
        if held > _MANY_EVENTS:
            return _SHORT_NAP_S
        nap = min(self._flush_interval / 2, _LONGEST_NAP_S)
        now = self._tracker._clock()  # noqa: SLF001
        ends = [buffer.until - now for buffer in self._buffers.values() if buffer.until is not None]
        return max(min([nap, *ends]), 0.001)

    def _fold_one(self, buffer: Buffer) -> None:
        for error in buffer.fold(self._tracker._clock()):  # noqa: SLF001
            self._report(error)
        dropped = sum(buffer.dropped for buffer in self._buffers.values())
        if dropped > self._dropped:
            more, self._dropped = dropped - self._dropped, dropped
            self._report(DroppedEventsError(f"{more} events were dropped: too many buckets or moves at once"))

    def _push(self) -> None:
        failures = 0
        while not self._stop.is_set() or self._wanted > self._done:
            delay = self._flush_interval
            if failures:
                delay = min(delay / 2, _FIRST_DELAY_S * 2.0 ** min(failures, 10), _LONGEST_DELAY_S)
            # Not all processes of a service at once.
            self._kick.wait(delay * self._random.uniform(0.8, 1.0))
            self._kick.clear()
            wanted, problems = self._wanted, self._push_all()
            if problems:
                failures += 1
                self._report(problems[0])
            else:
                failures = 0
                self._error, self._reported = None, ""
            # A bucket that is no sketch stays so, however long a flush waits for it.
            if all(any(word in str(problem) for word in _LASTING) for problem in problems):
                with self._progress:
                    self._done = wanted
                    self._progress.notify_all()
            elif self._stop.is_set():
                return

    def _push_all(self) -> list[Exception]:
        """One push of every data set; returns what went wrong."""
        problems: list[Exception] = []
        try:
            self._settle()
        except Exception as error:  # noqa: BLE001 (the thread must not end)
            problems.append(error)
        for shard, buffer in list(self._buffers.items()):
            operation = self._counted(self._push_one(buffer, shard))
            try:
                agreeing = self._tracker._agreeing(operation, shard, write=True)  # noqa: SLF001
                problems += run(agreeing, partial(self._backend.execute, shard=shard))
            except Exception as error:  # noqa: BLE001 (the thread must not end)
                operation.close()
                buffer.doubt()
                self._tracker._agreed.discard(shard)  # noqa: SLF001 (a server that lost all lost the settings too)
                problems.append(error)
        return problems

    def _push_one(self, buffer: Buffer, shard: int) -> Operation[list[Any]]:
        if buffer.sketches is None:
            buffer.sketches = yield from self._tracker._tracking.takes_sketches(shard)  # noqa: SLF001
        self._fold_one(buffer)
        return (yield from buffer.push(self._tracker._clock()))  # noqa: SLF001

    def _counted(self, operation: Operation[Any]) -> Operation[Any]:
        """The same, adding up the bytes."""
        reply: Any = None
        with contextlib.closing(operation):
            try:
                while True:
                    commands = operation.send(reply)
                    self._bytes += sum(
                        len(part) if isinstance(part, (bytes, str)) else len(str(part))
                        for command in commands
                        for part in command
                    )
                    reply = yield commands
            except StopIteration as stop:
                return stop.value

    def _report(self, error: Exception) -> None:
        """Log a problem, and hand it to the caller, unless it is the one that was reported last."""
        self._error = error
        shown = f"{type(error).__name__}: {error}"
        problem = type(error).__name__ if isinstance(error, BackendAuthError) else shown
        if problem == self._reported:
            return
        self._reported = problem
        _LOG.error("cannot push, and will try again: %s", shown)
        if self._on_error is not None:
            try:
                self._on_error(error)
            except Exception:  # noqa: BLE001 (the caller's own must not end the thread)
                _LOG.exception("on_error raised")

    # Forks and exits

    def _after_fork(self, parent: int) -> None:
        for buffer in self._buffers.values():
            buffer.reset_after_fork()
        self._backend.after_fork()
        self._random.seed()
        self._append = _Appends(_refuse if self._closed else self._open)
        self._bytes = self._dropped = 0
        self._error, self._reported = None, ""
        self._forked_from = parent, time.monotonic()
        self._arm()

    def _inherit(self) -> None:
        if self._forked_from is not None:
            now = self._tracker._clock()  # noqa: SLF001
            for buffer in self._buffers.values():
                buffer.inherit(now)

    def _settle(self) -> None:
        """A parent that ends as soon as it has forked, as daemons' do, leaves its moves to the child."""
        if self._forked_from is None:
            return
        parent, when = self._forked_from
        heir = os.getppid() != parent
        if heir or time.monotonic() - when > self._flush_interval:
            self._forked_from = None
            for buffer in self._buffers.values():
                buffer.settle(heir=heir)


class BufferedTracker(BaseWriter):
    """Tracks without waiting; made by :meth:`.ActivityTracker.buffered`.

    Calls may come from any thread, from signal handlers, and from the garbage collector. None of them
    waits for the network or raises because of it.
    """

    def track(
        self,
        periods: Iterable[str] | None = None,
        *,
        id: object = None,
        bucket: str | None = None,
        old_id: object = None,
        old_bucket: str | None = None,
        date: dt.date | None = None,
        shard: int = 0,
    ) -> None:
        """Record that an id was active; arguments as of :meth:`.ActivityTracker.track`.

        Raises:
            ArgumentTypeError, ArgumentValueError: bad arguments. (A str that is too long or cannot be encoded
                is found later: it is dropped, counted, and reported to `on_error`.)
            WriterClosedError: after close().
        """
        # The common case, with nothing in it that is not needed; it is a tenth of a microsecond.
        if (
            periods is date is old_id  # type: ignore[comparison-overlap]
            and not shard
            and type(id) is str
            and id
        ):
            try:
                self._append[bucket](id)
            except TypeError:
                check_bucket(bucket)  # one that cannot be hashed
                raise
        else:
            self._track(periods, id, bucket, old_id, old_bucket, date, shard)

    def track_many(
        self,
        ids: Iterable[object],
        periods: Iterable[str] | None = None,
        *,
        bucket: str | None = None,
        date: dt.date | None = None,
        shard: int = 0,
    ) -> None:
        """Record that many ids were active; see :meth:`.ActivityTracker.track_many`."""
        batch: Any = check_batch(ids, "ids")
        plain = [
            _plain(id, f"ids[{place}]")
            for place, id in enumerate(batch.tolist() if isinstance(batch, np.ndarray) else batch)
        ]
        if periods is None and date is None and shard == 0:
            append = self._append[bucket]
            for id in plain:
                append(id)
        else:
            for id in plain:
                self._track(periods, id, bucket, None, None, date, shard)

    track_hourly = of(track, ["hourly"])
    track_daily = of(track, ["daily"])
    track_weekly = of(track, ["weekly"])
    track_monthly = of(track, ["monthly"])
    track_quarterly = of(track, ["quarterly"])
    track_yearly = of(track, ["yearly"])

    def flush(self, timeout: float | None = None) -> Statistics:
        """Push everything that was tracked before, and wait until the server has it.

        Args:
            timeout: seconds to wait; None = as long as close() does.

        Returns:
            The statistics; where `pending` is not 0, time was up.
        """
        return self._flush(self._limit(timeout))

    def close(self, timeout: float | None = None) -> Statistics:
        """Push everything and end the threads; what is still pending then is lost, and logged.

        Args and returns: see :meth:`flush`.
        """
        return self._close(self._limit(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _plain(id: object, argument: str) -> str | bytes:
    """An id as a lane holds it."""
    encoded = encode(id, argument)
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded


def _refuse(_event: object) -> Any:
    raise WriterClosedError("the buffered tracker is closed")


_held: list[Any] = []
_parent = 0


def _before_fork() -> None:
    """No lock of a writer may be held by a thread that the child will not have."""
    global _parent  # noqa: PLW0603 (what these three share)
    _parent = os.getpid()
    for writer in list(_writers):
        for buffer in list(writer._buffers.values()):  # noqa: SLF001
            buffer.lock.acquire()
            _held.append(buffer.lock)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _held.clear()
    for writer in list(_writers):
        writer._after_fork(_parent)  # noqa: SLF001


def _close_all() -> None:
    for writer in list(_writers):
        writer._close()  # noqa: SLF001


@cache
def _close_at_exit() -> None:
    """Close every writer when the process ends.

    Processes of multiprocessing do not run what atexit has, only finalizers of their own, and those that are
    forked forget the ones of their parent.
    """
    atexit.register(_close_all)

    def finalize(_set: object = None) -> None:
        util.Finalize(None, _close_all, exitpriority=0)

    if multiprocessing.parent_process() is not None:
        finalize()
    util.register_after_fork(_writers, finalize)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
