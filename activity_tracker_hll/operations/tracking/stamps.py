"""Stamps: when events happened, by the server's clock, as all processes agree on it.

A stamp is a number of microseconds since 1970. A process tells time by its *ticks*, microseconds of a clock
that is never set and has no meaning to others; how far the server's clock is ahead of them is measured with
what is sent anyway. Pure but for the ticks it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError
from ..base import items

__all__ = ["ServerClock"]

Stamps = NDArray[np.int64]
S = TypeVar("S", int, Stamps, int | Stamps)
_SAMPLES = 32
_MOST_BACK_US = 60_000_000
"""No clock is set back further than this by those who keep it: a stamp further ahead is somebody's mistake,
which all others must not follow."""
_SLOWER = 128
"""Processes notice up to a minute apart that the server's clock was set back. At this rate they then differ
by less than half a second, while they return to it."""


class _Sample(NamedTuple):
    """The server's clock was ahead of our ticks by no less than `least` and no more than `most`."""

    least: int
    most: int

    @property
    def width(self) -> int:
        return self.most - self.least

    @property
    def middle(self) -> int:
        return (self.least + self.most) // 2


class _Held(NamedTuple):
    """A clock that does not go back: it was `ahead` of the ticks at `since`, and runs slower from then on."""

    ahead: int
    since: int


class ServerClock:
    """The clock of one server, as far as this process can know it.

    It never goes back, or events that come later would seem older. Where the server's clock is behind it (it
    was set back, or told badly at first, or another server took its place), it runs slower until both agree.

    Args:
        ticks: microseconds of a clock that is never set.
        guess: microseconds since 1970 by a clock of our own: for as long as the server was not asked.
    """

    def __init__(self, ticks: Callable[[], int], guess: Callable[[], int]) -> None:
        self.ticks = ticks
        self._guess = guess
        self._samples: tuple[_Sample, ...] = ()  # made anew each time: threads share it
        self._measured: int | None = None
        self._held: _Held | None = None
        self._last = 0

    def stamp(self, ticks: S) -> S:
        """The stamp of an event that happened at these ticks; of many, shape (n,), as well."""
        measured, held = self._ahead, self._held
        if held is None:
            return ticks + measured
        if isinstance(ticks, np.ndarray):
            ahead: Stamps = held.ahead - np.maximum(ticks - held.since, 0) // _SLOWER
            return ticks + np.maximum(ahead, measured)
        return ticks + max(held.ahead - max(ticks - held.since, 0) // _SLOWER, measured)

    def now(self) -> int:
        """The stamp of an event that happens now: greater than any of these before."""
        self._last = max(self.stamp(self.ticks()), self._last + 1)
        return self._last

    def ticks_of(self, stamp: int) -> int:
        """The ticks at which an event of that stamp happened; not later than now."""
        ticks = self.ticks()
        return min(stamp - self.stamp(ticks), 0) + ticks

    def sample(self, sent: int, reply: Any) -> None:
        """Take in an answer to TIME that has just come; who may not ask is left with the guess.

        Args:
            sent: ticks before it was asked for.
        """
        if isinstance(reply, BackendError):
            return
        seconds, microseconds = items(reply)
        time = int(seconds) * 1_000_000 + int(microseconds)
        ticks = self.ticks()
        newest = _Sample(time - ticks, time - sent)
        if self._samples and self._measured is not None and newest.least <= self._measured <= newest.most:
            self._samples = (*self._samples, newest)[-_SAMPLES:]
            return  # as good as can be told; stamps that were made stay comparable to the microsecond
        # What contradicts the newest was taken before one of the clocks was set, or the process stood still.
        kept = (old for old in self._samples if newest.least <= old.middle <= newest.most)
        self._samples = samples = (*kept, newest)[-_SAMPLES:]
        measured = min(samples, key=lambda sample: sample.width).middle
        if self._measured is not None or self._held is not None:
            ahead = self.stamp(ticks) - ticks
            self._held = _Held(ahead, ticks) if measured < ahead <= measured + _MOST_BACK_US else None
        self._measured = measured

    def observe(self, newest: int) -> None:
        """Take in the newest stamp of a side table: what happens after it must not seem older.

        It may be ahead of the server's clock when that was set back, or another server took its place.
        """
        ticks = self.ticks()
        if self.stamp(ticks) <= newest <= ticks + self._ahead + _MOST_BACK_US:
            self._held = _Held(newest + 1 - ticks, ticks)

    def reset(self) -> None:
        """Forget what was measured: this may be another server."""
        self._samples = ()

    @property
    def _ahead(self) -> int:
        return self._guess() - self.ticks() if self._measured is None else self._measured
