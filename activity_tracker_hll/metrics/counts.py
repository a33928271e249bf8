"""Counts of active users: what a scrape shows of the last answer, and when the server is asked again.

A scrape asks in another thread, for which it waits only so long; so a server that is slow or down delays no
scrape, nor the event loop that may make it, by more than that. Only one thread asks at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from threading import Lock, Thread

from prometheus_client.registry import Collector

from .. import arguments
from ..arguments import Buckets
from ..errors import ArgumentTypeError, ArgumentValueError
from ..messages import shown
from ..periods import PeriodKind
from ..tracker import ActivityTracker
from .answers import Answer, Question
from .exposition import Exposition
from .families import Family

__all__ = ["CountsCollector"]

_LOG = logging.getLogger("activity_tracker_hll")


class CountsCollector(Collector):
    """Exports counts of active users: of the periods that run, and of the newest that are collapsed.

    The server is asked by the first scrape after `refresh` seconds, or after the end of a period; other
    scrapes show the last answer. Where the server fails, its last answer is shown until it is stale. Several
    collectors need a registry each, as their metrics bear the same names.

    Args:
        tracker: who is asked. Not one for asyncio: make another one for this. It is asked in a thread, so no
            event loop waits for it if timeout is 0.
        periods: kinds of period; None = the tracker's.
        buckets: buckets and aggregates; None = the tracker's, and the aggregates of these.
        refresh: seconds for which an answer is shown before the server is asked again.
        timeout: the most seconds that a scrape waits for the server; 0 = it shows the last answer, and the
            next one what the server has said since.
        stale_after: seconds after which the counts of a server that is down are no longer shown.
        limit: how many buckets are shown of each kind of period, those with the largest counts.
        shard: the data set, by its place in the backend's `shards` option.
        clock: seconds since the epoch; for tests.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the argument.
    """

    def __init__(
        self,
        tracker: ActivityTracker,
        periods: Iterable[PeriodKind] | None = None,
        *,
        buckets: Buckets | None = None,
        refresh: float = 60.0,
        timeout: float = 2.0,
        stale_after: float = 600.0,
        limit: int = 100,
        shard: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not issubclass(type(tracker), ActivityTracker):
            raise ArgumentTypeError(
                f"tracker must be an ActivityTracker (also where asyncio is used), got {shown(tracker)}"
            )
        kinds = tracker.periods if periods is None else arguments.kinds(periods)
        if not kinds:
            raise ArgumentValueError("periods must be given, here or to the tracker")
        tracker.backend.check_shard(shard)
        arguments.check_clock(clock, "clock")
        names = None if buckets is None else arguments.bucket_list(buckets)
        self._question = Question(tracker, kinds, names, shard)
        self._refresh_s = arguments.seconds(refresh, "refresh")
        no_wait = type(timeout) in (int, float) and timeout == 0
        self._timeout_s = 0.0 if no_wait else arguments.seconds(timeout, "timeout")
        self._stale_after_s = arguments.seconds(stale_after, "stale_after")
        self._limit = arguments.integer(limit, "limit", minimum=1)
        self._clock = clock
        self._lock = Lock()
        self._answer: Answer | None = None
        self._asked: float | None = None
        self._has_failed = False
        self._asking: Thread | None = None

    def describe(self) -> Iterable[Family]:
        """The metrics without values."""
        return Exposition(None, 0, self._limit, is_up=False).collect()

    def collect(self) -> Iterable[Family]:
        """The metrics with the values of the last answer, for which the server may be asked now."""
        asking, is_mine = self._ask_if_due(self._clock())
        if asking is not None and (is_mine or self._answer is None):
            asking.join(self._timeout_s)
        now, answer = self._clock(), self._answer
        is_stale = answer is None or now - answer.asked >= self._stale_after_s
        is_up = not (is_stale or self._has_failed)
        return Exposition(answer, now, self._limit, is_up=is_up, is_stale=is_stale).collect()

    def _ask_if_due(self, now: float) -> tuple[Thread | None, bool]:
        """The thread that asks, if there is one, and whether it was started for this scrape."""
        with self._lock:
            # In a forked child the thread of the parent is none that is alive.
            if self._asking is not None and self._asking.is_alive():
                return self._asking, False
            if not self._is_due(now):
                return None, False
            self._asked = now
            self._asking = Thread(target=self._ask, args=(now,), name="activity-tracker-metrics", daemon=True)
            self._asking.start()
            return self._asking, True

    def _is_due(self, now: float) -> bool:
        if self._asked is None or not 0 <= now - self._asked < self._refresh_s:
            return True
        # A period has ended since, unless the server was asked for that already and failed.
        return self._answer is not None and any(self._asked < each.ends <= now for each in self._answer.kinds)

    def _ask(self, now: float) -> None:
        try:
            self._answer = self._question.ask(now)
            self._has_failed = False
        except Exception as error:  # noqa: BLE001 (a thread has nobody to raise it to; the metric `up` says so)
            if not self._has_failed:
                _LOG.warning("the counts for metrics could not be read: %s", error)
            self._has_failed = True
