"""The buffer: what a writer keeps of one data set between two pushes, and how it is handed to the pusher.

No sockets and no threads of its own. Callers append to the queues of the :mod:`.intake`; :meth:`Buffer.drain`
moves their events into :mod:`.buckets`; :meth:`Buffer.take_unsent` hands out what has to be sent,
:meth:`Buffer.acknowledge` and :meth:`Buffer.put_back` note what became of it.

Invariant established here: ``tracked == pushed + pending + dropped + late`` at any moment. Events go from one
number to the next under the lock.

Threads: callers append, and may open the window before there is another thread. The drainer's thread and the
pusher drain; the pusher takes, acknowledges and puts back. All but the intake's appends is done under the
lock, which is never held while anybody waits for the network. The side tables in the loads belong to the
pusher alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import NamedTuple, ParamSpec, TypeVar

from ..errors import BackendError
from ..operations import DataSet
from ..operations.base import PeriodBucket
from ..operations.tracking.unite import Load, Outcome
from .bucket_state import BucketState
from .buckets import Buckets, Limits
from .drainer import Drainer
from .intake import Append, Intake, Queue

__all__ = ["Buffer", "Counts"]

P = ParamSpec("P")
T = TypeVar("T")


class Counts(NamedTuple):
    """Numbers of events, see :class:`~.statistics.Statistics`."""

    tracked: int
    pushed: int
    pending: int
    dropped: int
    late: int


class Buffer:
    """Events of one data set on their way to the server.

    Args:
        data: what is known of it and of the server.
        kinds: kinds of period of events that do not name theirs.
        random: spreads refreshes over time.
        open_queue: called for a bucket that has no queue.

    Attributes:
        lock: see above.
        intake: what callers append to.
        buckets: what was drained.
        refreshes: whether some became due with the push under way, without a reason. The pusher's.
    """

    def __init__(
        self,
        data: DataSet,
        kinds: Sequence[str],
        limits: Limits,
        random: Random,
        open_queue: Callable[[str | None], Append],
    ) -> None:
        self.lock = threading.RLock()
        self.intake = Intake(limits.sketches, open_queue)
        self.buckets = Buckets(data.context.calendar, kinds, limits, random)
        self.refreshes = False
        self._clock = data.clock
        self._kinds = len(kinds)
        self._drainer = Drainer(self.intake, self.buckets, data.context.ids, data.clock, self._kinds)
        self._in_flight: dict[PeriodBucket, BucketState] = {}
        self._pushed = self._late = 0
        self._is_inherited = False
        self._parents_events: list[tuple[str | None, Queue]] = []

    @property
    def takes_sketches(self) -> bool | None:
        """Whether the server takes sketches; else ids are sent. None = not known: nothing can be drained."""
        return self.buckets.takes_sketches

    @takes_sketches.setter
    def takes_sketches(self, value: bool) -> None:
        self.buckets.takes_sketches = value

    # Numbers

    @property
    def window_ends(self) -> float | None:
        """When periods may have ended, in seconds since the epoch; None before the first event."""
        window = self.buckets.window
        return None if window is None else window.until

    @property
    def pushed(self) -> int:
        """Number of events that were acknowledged."""
        return self._pushed

    @property
    def dropped(self) -> int:
        """Number of events that were dropped."""
        return self._drainer.dropped

    def counts(self) -> Counts:
        """What became of the events."""
        with self.lock:
            queued = self.intake.events_by_period(self._kinds)
            pending = sum(state.pending for state in self.buckets.values())
            drained, dropped = self._drainer.drained, self._drainer.dropped
            return Counts(drained + queued, self._pushed, pending + queued, dropped, self._late)

    # Draining

    def open(self, now: float) -> None:
        """There is a first event: its periods are those that run now.

        Takes no lock, as callers call it: whoever comes second finds the same periods.
        """
        self._drainer.open(now)

    def drain(self, now: float) -> list[Exception]:
        """Drain the queues; returns what was wrong with events."""
        if self.takes_sketches is None:
            if not self._is_past_window(now):
                return []
            self.takes_sketches = True  # as servers do: two periods must not be mixed while one is down
        with self.lock:
            return self._drainer.drain(now)

    def _is_past_window(self, now: float) -> bool:
        return self.window_ends is not None and self.window_ends <= now

    def catch_up(self, now: float) -> None:
        """Before there are threads: what is appended from now on has to count where it belongs."""
        with self.lock:
            if self._is_inherited:
                self.take_over(now)
            elif self._is_past_window(now):
                self.drain(now)

    def found_moves(self) -> bool:
        """Whether ids left since this was last asked: other processes should hear of it soon."""
        with self.lock:
            found, self._drainer.found_moves = self._drainer.found_moves, False
            return found

    # Pushing

    def resend(self) -> None:
        """Send everything again: the server may have lost what it acknowledged."""
        with self.lock:
            self.buckets.resend()

    def resend_to_others(self, server_of: Callable[[PeriodBucket], object]) -> None:
        """Send again what was acknowledged by another server than the one that has it now."""
        with self.lock:
            self.buckets.resend_to_others(server_of)

    def has_unsent(self, *, everything: bool) -> bool:
        """Whether there is something to send now; see :meth:`take_unsent`."""
        with self.lock:
            return self.buckets.has_unsent(self._clock.ticks(), everything=everything)

    def take_unsent(self, *, everything: bool) -> dict[PeriodBucket, Load]:
        """Put what is unsent in flight; returns what is to be sent.

        What is not acknowledged has to be put back before the next call.

        Args:
            everything: also all that a server may have lost, of which otherwise little at a time is sent.
        """
        with self.lock:
            self._in_flight, self.refreshes = self.buckets.take(self._clock.ticks(), everything=everything)
            loads = {target: self._load(state) for target, state in self._in_flight.items()}
            self.buckets.recount(self._in_flight)
            return loads

    def _load(self, state: BucketState) -> Load:
        load = state.take_unsent(self._clock, sketches=bool(self.takes_sketches))
        # Called amid a push, when the lock is not held.
        load.all_moves = self._locked(partial(state.all_moves, self._clock))
        load.note_returned = self._locked(partial(state.note_returned, clock=self._clock))
        return load

    def _locked(self, call: Callable[P, T]) -> Callable[P, T]:
        def locked(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.lock:
                return call(*args, **kwargs)

        return locked

    def acknowledge(
        self, outcomes: Mapping[PeriodBucket, Outcome], server_of: Callable[[PeriodBucket], object]
    ) -> list[BackendError]:
        """Note what became of what was in flight, and put back what went wrong; returns the errors.

        Args:
            server_of: identity of the server that has a bucket now.
        """
        errors: list[BackendError] = []
        with self.lock:
            now, room = self._clock.ticks(), self.buckets.room_for_moves()
            for target, outcome in outcomes.items():
                state = self._in_flight.pop(target)
                if outcome.error is not None:
                    errors.append(outcome.error)
                    state.put_back(all_in_doubt=outcome.is_in_doubt)
                    self.buckets.return_state(target, state)
                    continue
                if outcome.late:
                    self._late += state.refuse()
                    self.buckets.return_state(target, state)  # ids found to be back are refused in their turn
                    continue
                new_moves = state.moves.new if state.has_moves else 0
                keep = new_moves <= room
                room -= new_moves if keep else 0
                self._pushed += state.acknowledge(outcome, now, keep_moves=keep)
                state.server = server_of(target)
                self.buckets.acknowledged(target, state)
                if outcome.lost_meanwhile:
                    self.buckets.resend_state(target, state)
            self.buckets.release_ended(outcomes)
        return errors

    def put_back(self) -> None:
        """Whatever is in flight still was abandoned, and is to be sent again."""
        with self.lock:
            for target, state in self._in_flight.items():
                state.put_back(all_in_doubt=True)
                self.buckets.return_state(target, state)
            self.buckets.recount(self._in_flight)
            self._in_flight = {}

    # Forks

    def after_fork(self) -> None:
        """In a forked child, which has no other threads yet: what there is counts as the parent's."""
        self.lock = threading.RLock()
        self._is_inherited = True
        self._parents_events += self.intake.reset()
        for state in self.buckets.values():
            state.forget_counts()
        self._reset_counts()

    def take_over(self, now: float) -> None:
        """Send what was there before the fork.

        The parent may send it too; that it is sent twice does no harm.
        """
        with self.lock:
            if self.takes_sketches is None:
                self.takes_sketches = True
            self.put_back()
            self._drainer.inherit(self._parents_events, now)
            self._is_inherited, self._parents_events = False, []
            for state in self.buckets.values():
                state.forget_counts()
            self._reset_counts()

    def _reset_counts(self) -> None:
        self._drainer.reset_counts()
        self._pushed = self._late = 0
