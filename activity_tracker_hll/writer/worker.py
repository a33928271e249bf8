"""The threads of a writer, and what they do when.

- The *drainer* drains the queues into registers, so that they stay short, and does so exactly where the
  window ends; it never waits for the network.
- The *pusher* sends what changed, again and again until the server has acknowledged it. A process that is
  killed loses what it has not pushed. So pushes follow soon where they are cheap, and the less often the more
  they take, be it because of many buckets or of a busy server.

Whoever tracks starts them when there is a first event, and never waits for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from typing import Any

from ..backends.base import BaseBackend, Command, Reply
from ..errors import (
    ActivityTrackerError,
    BackendAuthError,
    BackendConnectionError,
    BackendDataError,
    BackendTimeoutError,
    DroppedEventsError,
)
from ..operations import Access, Operation, run
from ..planner import Planner
from .buffer import Buffer
from .push import ServerIdentity, push
from .threads import Bell, Duty

__all__ = ["Worker"]

_LOG = logging.getLogger("activity_tracker_hll")
_UNREACHABLE = BackendConnectionError, BackendTimeoutError
_MANY_EVENTS = 65_536
_DRAIN_INTERVAL_S = 0.25
_BUSY_DRAIN_INTERVAL_S = 0.02
_SHORTEST_INTERVAL_S = 0.03
_REST, _REST_FROM_WORK = 4, 10
"""A push is followed by a rest of so many times what it took, and what its thread worked: at most a fifth of
the time is spent on pushes, and a tenth of a core, also on looking for what there is to push."""
_IDLE_S = 0.1
"""How soon it is looked whether there is something to push, where there was nothing the last time."""
_LOOK_EVERY_S = 0.1
"""How often who waits for a flush looks whether the threads still run."""
_FIRST_RETRY_S = 0.05
_LONGEST_RETRY_S = 5.0
_PATIENCE_S = 1.0
"""A server that does not answer within this whether it takes sketches is a real one that is down, no stand-in
for tests."""


class Worker:
    """Drains and pushes the buffers of one writer.

    Args:
        backend: what is sent with; closed when the worker ends.
        buffers: by shard; others add to it.
        flush_interval: seconds between pushes, at most.
        on_error: called with each new problem.

    Attributes:
        random: spreads load over time.
        bytes: size of what was sent. The pusher's.
        last_error: what went wrong last; None once all is well again. Both threads set it.
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
        self._has_forked = False
        self._reset_threads()

    def _reset_threads(self) -> None:
        """No threads, and nobody waits for them: at first, and after a fork."""
        self._starting: list[object] = []
        """Those who start them; the first one does."""
        self._is_ending = False
        self._drainers_bell, self._pushers_bell = Bell(), Bell()
        self._flushes: list[Bell] = []
        """Of who waits until all is pushed."""
        self._reset_at = time.monotonic()
        self._drainer = Duty("activity-tracker-hll drain", self._drain_repeatedly)
        self._pusher = Duty("activity-tracker-hll push", self._push_repeatedly)
        self._servers: dict[int, ServerIdentity] = {}

    @property
    def has_started(self) -> bool:
        """Whether the threads run, or have run."""
        return self._pusher.is_started

    @property
    def runs(self) -> bool:
        """Whether the threads do: what is appended now will be pushed."""
        return self._drainer.is_done and self._pusher.is_done

    def start(self) -> None:
        """Start the threads unless they run; never waits, for it may be a signal handler that calls.

        Where the system has no thread to give, or the interpreter is ending, the events stay pending, and the
        next call tries again.
        """
        if self.runs or self._is_ending:
            return
        starting, me = self._starting, object()
        try:
            # No lock: an exception that comes when one was just taken would leave it so.
            starting.append(me)
            if starting[0] is me:
                self._start()
        finally:
            starting.remove(me)

    def _start(self) -> None:
        now = self._planner.clock()
        for buffer in list(self._buffers.values()):
            buffer.catch_up(now)
        try:
            self._drainer.start()
            self._pusher.start()
        except RuntimeError as error:
            # Not to `on_error`, which is called by the threads of the writer.
            if self._is_news(error):
                with suppress(Exception):  # of a handler of logging: track does not raise
                    _LOG.error("cannot start the threads of the writer, and will try again: %s", error)

    def settle(self) -> None:
        """Compare settings once, and let the pusher report what is wrong."""
        with suppress(ActivityTrackerError):
            run(self._planner.settings(0), partial(self._execute, 0))

    def flush(self, limit: float) -> None:
        """Push what was tracked before, and wait for it so many seconds at most."""
        if self._pusher.is_mine:  # in on_error: it cannot wait for itself
            return
        deadline = time.monotonic() + limit
        done = Bell()
        self._flushes.append(done)
        try:
            self._pushers_bell.ring()
            while (left := deadline - time.monotonic()) > 0:
                if not self.runs:
                    if self._is_ending:
                        return
                    self.start()
                    self._pushers_bell.ring()
                if done.wait(min(left, _LOOK_EVERY_S)):
                    return
        finally:
            with suppress(ValueError):  # the pusher has taken it out
                self._flushes.remove(done)

    def stop(self, deadline: float) -> None:
        """End the threads; the pusher closes the connections when it ends.

        Args:
            deadline: by the monotonic clock, until when to wait for the threads.
        """
        self._is_ending = True
        self._drainers_bell.ring()
        self._pushers_bell.ring()
        self._drainer.join(deadline)
        self._pusher.join(deadline)
        if not self._pusher.is_done:
            self._backend.close()

    def after_fork(self) -> None:
        """In a forked child, which has no threads yet."""
        self.random.seed()
        self.bytes = self._dropped = 0
        self.last_error, self._reported = None, ""
        self._has_forked = True
        self._reset_threads()

    # Draining

    def _drain_repeatedly(self) -> None:
        while not self._is_ending:
            self._drainers_bell.wait(self._drain_delay())
            try:
                for buffer in list(self._buffers.values()):
                    if buffer.takes_sketches is None and time.monotonic() > self._reset_at + _PATIENCE_S:
                        buffer.takes_sketches = True
                    self.drain(buffer)
                    if buffer.found_moves():
                        self._pushers_bell.ring()
            except Exception as error:  # noqa: BLE001 (the thread must not end)
                self._report(error)

    def _drain_delay(self) -> float:
        """Seconds until the queues should be drained, but not past the end of a window."""
        buffers = list(self._buffers.values())
        if sum(buffer.intake.events for buffer in buffers) > _MANY_EVENTS:
            return _BUSY_DRAIN_INTERVAL_S
        now = self._planner.clock()
        ends = [buffer.window_ends - now for buffer in buffers if buffer.window_ends is not None]
        return max(min([self._flush_interval / 2, _DRAIN_INTERVAL_S, *ends]), 0.001)

    def drain(self, buffer: Buffer) -> None:
        """Drain a buffer's queues once, and report what was wrong."""
        for error in buffer.drain(self._planner.clock()):
            self._report(error)
        dropped = sum(buffer.dropped for buffer in list(self._buffers.values()))
        if dropped > self._dropped:
            more, self._dropped = dropped - self._dropped, dropped
            self._report(DroppedEventsError(f"{more} events were dropped: too many buckets or moves at once"))

    # Pushing

    def _push_repeatedly(self) -> None:
        try:
            self._push_until_stopped()
        finally:
            if self._is_ending:  # else another thread takes its place
                self._backend.close()

    def _push_until_stopped(self) -> None:
        rest = retry = 0.0
        in_vain = 0
        while not self._is_ending or self._flushes:
            delay = min(retry or max(rest, _SHORTEST_INTERVAL_S), self._flush_interval)
            # Not all processes of a service at once.
            self._pushers_bell.wait(delay * self.random.uniform(0.8, 1.0))
            sent, pushed, flushes = self.bytes, self._pushed, list(self._flushes)
            began, worked = time.monotonic(), time.thread_time()
            problems = self.push(everything=bool(flushes))
            took, worked = time.monotonic() - began, time.thread_time() - worked
            rest = max(_REST * took if self.bytes > sent else _IDLE_S, _REST_FROM_WORK * worked)
            retry = 0.0
            if problems:
                self._report(problems[0])
                in_vain = in_vain + 1 if self._pushed == pushed else 0
                # One server of several that is down holds up no other.
                retry = _FIRST_RETRY_S * 2.0 ** min(in_vain, 10) if in_vain else max(rest, _IDLE_S)
                retry = min(retry, self._flush_interval / 2, _LONGEST_RETRY_S)
            else:
                in_vain = 0
                self.last_error, self._reported = None, ""
            # What a key holds that does not belong there stays so, however long a flush waits for it.
            if all(isinstance(problem, BackendDataError) for problem in problems):
                for done in flushes:
                    with suppress(ValueError):  # nobody waits any more
                        self._flushes.remove(done)
                    done.ring()
            elif self._is_ending:
                return

    @property
    def _pushed(self) -> int:
        """Number of events that were acknowledged."""
        return sum(buffer.pushed for buffer in list(self._buffers.values()))

    def push(self, *, everything: bool = False) -> list[Exception]:
        """Push every data set once; returns what went wrong.

        Args:
            everything: whether nothing is left for later; see :meth:`.Buffer.take_unsent`.
        """
        problems: list[Exception] = []
        for shard, buffer in list(self._buffers.items()):
            of_data_set: list[Exception] = []
            try:
                pushing = self.pushing(buffer, shard, everything=everything)
                of_data_set += run(pushing, partial(self._execute, shard))
            except Exception as error:  # noqa: BLE001 (the thread must not end)
                if everything and isinstance(error, _UNREACHABLE) and self._has_all(buffer, shard):
                    self._server(shard).ask_again()
                    continue
                if not self._server(shard).is_known:
                    buffer.resend()  # nothing would tell that it has lost all
                self._planner.data_set(shard).forget()
                of_data_set.append(error)
            if of_data_set:
                self._server(shard).ask_again()
            problems += of_data_set
        return problems

    def _has_all(self, buffer: Buffer, shard: int) -> bool:
        """Whether the server has taken all: that it is down then is nothing that a flush could wait for."""
        is_owed = self._planner.data_set(shard).open_periods.owes
        return not (buffer.counts().pending or buffer.has_unsent(everything=True) or is_owed)

    def _server(self, shard: int) -> ServerIdentity:
        if shard not in self._servers:
            keys = self._planner.data_set(shard).context.keys.bucket
            self._servers[shard] = ServerIdentity(
                lambda target: self._backend.node_of(keys(*target).hll, shard), has_forked=self._has_forked
            )
        return self._servers[shard]

    def pushing(self, buffer: Buffer, shard: int, *, everything: bool = False) -> Operation[list[Any]]:
        """One push of a data set; settings are compared before the first."""
        return self._planner.agreeing(
            self._drain_and_push(buffer, shard, everything=everything), shard, Access.TRACK
        )

    def _drain_and_push(self, buffer: Buffer, shard: int, *, everything: bool) -> Operation[list[Any]]:
        data = self._planner.data_set(shard)
        if buffer.takes_sketches is None:
            takes_sketches = yield from data.takes_sketches()
            if buffer.takes_sketches is None:
                buffer.takes_sketches = takes_sketches
        self.drain(buffer)
        running = self._planner.running()
        return (yield from push(buffer, data, self._server(shard), running, everything=everything))

    def _execute(self, shard: int, commands: list[Command]) -> list[Reply]:
        self.bytes += sum(
            len(part) if isinstance(part, (bytes, str)) else len(str(part))
            for command in commands
            for part in command
        )
        return self._backend.execute(commands, shard)

    def _report(self, error: Exception) -> None:
        """Log a problem and hand it to `on_error`, unless it is the one that was reported last."""
        with _surviving():
            if not self._is_news(error):
                return
            with _surviving():
                _LOG.error("cannot push, and will try again: %s: %s", type(error).__name__, error)
            if self._on_error is not None:
                self._on_error(error)

    def _is_news(self, error: Exception) -> bool:
        """Note a problem; returns whether it is another than the last one."""
        self.last_error = error
        name = type(error).__name__
        problem = name if isinstance(error, BackendAuthError) else f"{name}: {error}"
        before, self._reported = self._reported, problem
        return problem != before


@contextmanager
def _surviving() -> Iterator[None]:
    """Whatever the caller's own raises must not end the thread: `on_error`, and handlers of logging."""
    try:
        yield
    except BaseException:  # noqa: BLE001
        with suppress(BaseException):
            _LOG.exception("on_error or a handler of logging raised")
