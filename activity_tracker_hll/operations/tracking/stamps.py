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

S = TypeVar("S", int, NDArray[np.int64], int | NDArray[np.int64])
_SAMPLES = 32
_MOST_LIFT_US = 60_000_000
"""No clock is set back further than this by those who keep it: a stamp further ahead is somebody's mistake,
which all others must not follow."""


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


class ServerClock:
    """The clock of one server, as far as this process can know it.

    Args:
        ticks: microseconds of a clock that is never set.
        guess: microseconds since 1970 by a clock of our own: for as long as the server was not asked.
    """

    def __init__(self, ticks: Callable[[], int], guess: Callable[[], int]) -> None:
        self.ticks = ticks
        self._guess = guess
        self._samples: tuple[_Sample, ...] = ()  # made anew each time: threads share it
        self._ahead: int | None = None
        self._newest = self._last = 0

    def stamp(self, ticks: S) -> S:
        """The stamp of an event that happened at these ticks; of many, shape (n,), as well."""
        offset = self._offset
        ahead = self._newest + 1 - (self.ticks() + offset)
        return ticks + offset + (ahead if 0 < ahead <= _MOST_LIFT_US else 0)

    def now(self) -> int:
        """The stamp of an event that happens now: greater than any of these before."""
        self._last = max(self.stamp(self.ticks()), self._last + 1)
        return self._last

    def ticks_of(self, stamp: int) -> int:
        """The ticks at which an event of that stamp happened."""
        return stamp - self._offset

    def ticks_at(self, microseconds: int) -> int:
        """The ticks at a moment by the clock on the wall; not later than now."""
        return min(microseconds - self._offset, self.ticks())

    def sample(self, sent: int, reply: Any) -> None:
        """Take in an answer to TIME that has just come; who may not ask is left with the guess.

        Args:
            sent: ticks before it was asked for.
        """
        if isinstance(reply, BackendError):
            return
        seconds, microseconds = items(reply)
        time = int(seconds) * 1_000_000 + int(microseconds)
        newest = _Sample(time - self.ticks(), time - sent)
        if self._samples and self._ahead is not None and newest.least <= self._ahead <= newest.most:
            self._samples = (*self._samples, newest)[-_SAMPLES:]
            return  # as good as can be told; stamps that were made stay comparable to the microsecond
        # What contradicts the newest was taken before one of the clocks was set, or the process stood still.
        kept = (old for old in self._samples if newest.least <= old.middle <= newest.most)
        self._samples = samples = (*kept, newest)[-_SAMPLES:]
        self._ahead = min(samples, key=lambda sample: sample.width).middle

    def observe(self, newest: int) -> None:
        """Take in the newest stamp of a side table: what happens after it must not seem older.

        It may be ahead of the server's clock when that was set back, or another server took its place.
        """
        if newest <= self.ticks() + self._offset + _MOST_LIFT_US:
            self._newest = max(self._newest, newest)

    def reset(self) -> None:
        """Forget everything: this may be another server."""
        self._samples = ()
        self._newest = 0

    @property
    def _offset(self) -> int:
        return self._guess() - self.ticks() if self._ahead is None else self._ahead
