"""The threads of a writer, and what they do when.

- The *folder* takes queues into registers, so that they stay short, and does so exactly where the window
  ends; it never waits for the network.
- The *pusher* sends what changed, again and again until the server has acknowledged it.

Whoever tracks starts them when there is a first event, and never waits for them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from ..backends.base import BaseBackend, Command, Reply
from ..errors import BackendAuthError, BackendDataError, DroppedEventsError
from ..operations import Operation, run
from ..planner import Planner
from .buffer import Buffer
from .push import ServerIdentity, push

__all__ = ["Worker"]

_LOG = logging.getLogger("activity_tracker_hll")
_MANY_EVENTS = 65_536
_LONGEST_NAP_S = 0.25
_SHORT_NAP_S = 0.02
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 5.0
_PATIENCE_S = 1.0
"""Who does not say within this whether it takes sketches is a real server that is down, no stand-in for
tests."""


class Worker:
    """Folds and pushes the buffers of one writer.

    Args:
        backend: what is sent with; given back when the worker ends.
        buffers: by shard; others add to it.
        flush_interval: seconds between pushes.
        on_error: called with each new problem.

    Attributes:
        bytes: size of what was sent.
        last_error: what went wrong last.
        random: spreads load over time.
    """

    def __init__(
        self,
        planner: Planner,
        backend: BaseBackend,
        buffers: dict[int, Buffer],
        flush_interval: float,
        on_error: Callable[[Exception], object] | None,
    ) -> None:
        self._planner = planner
        self._backend = backend
        self._buffers = buffers
        self._flush_interval = flush_interval
        self._on_error = on_error
        self.random = Random()  # noqa: S311 (spreads load, keeps no secret)
        self.bytes = 0
        self.last_error: Exception | None = None
        self._dropped = 0
        self._reported = ""
        self._forked = False
        self._arm()

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
        self._servers: dict[int, ServerIdentity] = {}

    @property
    def has_started(self) -> bool:
        """Whether the threads run, or have run."""
        return self._pusher is not None

    def start(self) -> None:
        """Start the threads unless they run; never waits, for a signal handler may have come in between."""
        if self._pusher is not None or not self._starting.acquire(blocking=False):
            return
        try:
            if self._pusher is None:
                if self._forked:
                    for buffer in self._buffers.values():
                        buffer.adopt(self._planner.clock())
                folder = threading.Thread(target=self._fold_on, name="activity-tracker-hll fold", daemon=True)
                pusher = threading.Thread(target=self._push_on, name="activity-tracker-hll push", daemon=True)
                folder.start()
                pusher.start()
                self._folder, self._pusher = folder, pusher
        except RuntimeError:
            # The interpreter is ending and starts no threads any more: the events stay pending.
            _LOG.exception("cannot start the threads of the writer")
        finally:
            self._starting.release()

    def flush(self, limit: float) -> None:
        """Push what was tracked before, and wait for it so many seconds at most."""
        if threading.current_thread() is self._pusher:  # in on_error: the pusher cannot wait for itself
            return
        self.start()
        with self._progress:
            self._wanted += 1
            wanted = self._wanted
            self._kick.set()
            self._progress.wait_for(lambda: self._done >= wanted, limit)

    def stop(self, deadline: float) -> None:
        """End the threads, the last of which gives back the connections.

        Args:
            deadline: by the monotonic clock, until when to wait for the threads.
        """
        self._stop.set()
        self._kick.set()
        for thread in (self._folder, self._pusher):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0))
        if self._pusher is None:
            self._backend.close()

    def after_fork(self) -> None:
        """In the child, which has no threads yet."""
        self.random.seed()
        self.bytes = self._dropped = 0
        self.last_error, self._reported = None, ""
        self._forked = True
        self._arm()

    # Threads

    def _fold_on(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._nap())
            try:
                for buffer in list(self._buffers.values()):
                    if buffer.sketches is None and time.monotonic() > self._started + _PATIENCE_S:
                        buffer.sketches = True
                    self.fold(buffer)
                    if buffer.has_news:
                        buffer.has_news = False
                        self._kick.set()
            except Exception as error:  # noqa: BLE001 (the thread must not end)
                self._report(error)

    def _nap(self) -> float:
        """Seconds until the queues should be looked at, but not past the end of a window."""
        if sum(buffer.intake.events for buffer in list(self._buffers.values())) > _MANY_EVENTS:
            return _SHORT_NAP_S
        nap = min(self._flush_interval / 2, _LONGEST_NAP_S)
        now = self._planner.clock()
        ends = [buffer.until - now for buffer in list(self._buffers.values()) if buffer.until is not None]
        return max(min([nap, *ends]), 0.001)

    def fold(self, buffer: Buffer) -> None:
        """Fold once, and report what was wrong."""
        for error in buffer.fold(self._planner.clock()):
            self._report(error)
        dropped = sum(buffer.dropped for buffer in list(self._buffers.values()))
        if dropped > self._dropped:
            more, self._dropped = dropped - self._dropped, dropped
            self._report(DroppedEventsError(f"{more} events were dropped: too many buckets or moves at once"))

    def _push_on(self) -> None:
        try:
            self._push_until_stopped()
        finally:
            self._backend.close()

    def _push_until_stopped(self) -> None:
        failures = 0
        while not self._stop.is_set() or self._wanted > self._done:
            delay = self._flush_interval
            if failures:
                delay = min(delay / 2, _FIRST_DELAY_S * 2.0 ** min(failures, 10), _LONGEST_DELAY_S)
            # Not all processes of a service at once.
            self._kick.wait(delay * self.random.uniform(0.8, 1.0))
            self._kick.clear()
            wanted, problems = self._wanted, self.push()
            if problems:
                failures += 1
                self._report(problems[0])
            else:
                failures = 0
                self.last_error, self._reported = None, ""
            # What a key holds that does not belong there stays so, however long a flush waits for it.
            if all(isinstance(problem, BackendDataError) for problem in problems):
                with self._progress:
                    self._done = wanted
                    self._progress.notify_all()
            elif self._stop.is_set():
                return

    def push(self) -> list[Exception]:
        """One push of every data set; returns what went wrong."""
        problems: list[Exception] = []
        for shard, buffer in list(self._buffers.items()):
            try:
                operation = self._planner.agreeing(self._push_one(buffer, shard), shard, write=True)
                problems += run(operation, partial(self._execute, shard))
            except Exception as error:  # noqa: BLE001 (the thread must not end)
                # Whoever lost it all lost the settings too.
                buffer.doubt()
                self._planner.data_set(shard).forget()
                problems.append(error)
        return problems

    def _push_one(self, buffer: Buffer, shard: int) -> Operation[list[Any]]:
        data = self._planner.data_set(shard)
        if buffer.sketches is None:
            buffer.sketches = yield from data.takes_sketches()
        self.fold(buffer)
        server = self._servers.setdefault(shard, ServerIdentity())
        return (yield from push(buffer, self._planner.context, data, server, self._planner.running()))

    def _execute(self, shard: int, commands: list[Command]) -> list[Reply]:
        self.bytes += sum(
            len(part) if isinstance(part, (bytes, str)) else len(str(part))
            for command in commands
            for part in command
        )
        return self._backend.execute(commands, shard)

    def _report(self, error: Exception) -> None:
        """Log a problem, and hand it to the caller, unless it is the one that was reported last."""
        self.last_error = error
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
