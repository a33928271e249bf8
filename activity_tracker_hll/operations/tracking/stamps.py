"""Stamps: when events happened, by the server's clock, on which all processes agree.

A stamp is a number of microseconds since 1970. A process measures time in *ticks*: microseconds of a clock
that is never set and means nothing to other processes. The offset of the server's clock from the ticks is
measured along with what is sent anyway. Everything here is pure, except for the ticks it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError
from ..base import items

__all__ = ["ServerClock", "Stamps"]

Stamps = NDArray[np.int64]
"""Stamps of several events."""
S = TypeVar("S", int, Stamps, int | Stamps)
_SAMPLES = 32
_MAX_STEP_BACK_US = 60_000_000
"""No server's clock is expected to be set back by more: a stamp further ahead of it is the mistake of some
process, which all others must not follow."""
_SLEW_RATIO = 128
"""How much slower the clock runs while it is slewed. Processes notice up to a minute apart that the server's
clock was set back; at this rate their clocks then differ by less than half a second."""


class _Sample(NamedTuple):
    """A measurement: the server's clock was ahead of the ticks by at least `least` and at most `most`."""

    least: int
    most: int

    @property
    def width(self) -> int:
        return self.most - self.least

    @property
    def middle(self) -> int:
        return (self.least + self.most) // 2


class _Slew(NamedTuple):
    """A slew: from the ticks `since`, with this `offset`, the clock runs slower instead of going back."""

    offset: int
    since: int


class ServerClock:
    """The clock of one server, as far as this process can know it.

    It does not go back, or later events would seem older than earlier ones. Where it is ahead of the server's
    clock by up to a minute (which was set back, or measured badly at first, or is another server's by now),
    it is slewed: it runs slower until both agree. A process that begins meanwhile learns the others' time
    from the side tables it writes to by scripts; until then its events are the older ones.

    Args:
        ticks: microseconds of a clock that is never set.
        guess: microseconds since 1970 by this machine's clock, used until the server has been asked.
    """

    def __init__(self, ticks: Callable[[], int], guess: Callable[[], int]) -> None:
        self.ticks = ticks
        self._guess = guess
        self._samples: tuple[_Sample, ...] = ()  # replaced, never changed, as threads share it
        self._measured_offset: int | None = None
        self._slew: _Slew | None = None
        self._last = 0

    def stamp(self, ticks: S) -> S:
        """The stamp of an event that happened at these ticks; an array of ticks gives an array of stamps."""
        measured, slew = self._offset, self._slew
        if slew is None:
            return ticks + measured
        if isinstance(ticks, np.ndarray):
            slewed: Stamps = slew.offset - np.maximum(ticks - slew.since, 0) // _SLEW_RATIO
            return ticks + np.maximum(slewed, measured)
        return ticks + max(slew.offset - max(ticks - slew.since, 0) // _SLEW_RATIO, measured)

    def now(self) -> int:
        """The stamp of an event that happens now: greater than any before in this thread.

        A clock that was wrong by more than a minute is set right at once, and stamps with it.
        """
        now = self.stamp(self.ticks())
        self._last = now if self._last > now + _MAX_STEP_BACK_US else max(now, self._last + 1)
        return self._last

    def ticks_of(self, stamp: int) -> int:
        """The ticks at which an event with that stamp happened; never later than now."""
        ticks = self.ticks()
        return min(stamp - self.stamp(ticks), 0) + ticks

    def sample(self, sent: int, reply: Any) -> None:
        """Use a reply to TIME that has just arrived; a client that may not ask keeps to the guess.

        Args:
            sent: the ticks just before TIME was sent.
            reply: the reply, or an error.
        """
        if isinstance(reply, BackendError):
            return
        seconds, microseconds = items(reply)
        time = int(seconds) * 1_000_000 + int(microseconds)
        ticks = self.ticks()
        latest = _Sample(time - ticks, time - sent)
        if (
            self._samples
            and self._measured_offset is not None
            and latest.least <= self._measured_offset <= latest.most
        ):
            self._samples = (*self._samples, latest)[-_SAMPLES:]
            return  # no better measurement; with the same offset, stamps stay comparable to the microsecond
        # A sample that contradicts the latest was taken before a clock was set, or the process was suspended.
        consistent = (old for old in self._samples if latest.least <= old.middle <= latest.most)
        self._samples = samples = (*consistent, latest)[-_SAMPLES:]
        measured = min(samples, key=lambda sample: sample.width).middle
        if self._measured_offset is not None or self._slew is not None:
            slewed = self.stamp(ticks) - ticks
            self._slew = _Slew(slewed, ticks) if measured < slewed <= measured + _MAX_STEP_BACK_US else None
        self._measured_offset = measured

    def observe(self, newest: int) -> None:
        """Use the newest stamp of a side table: events after it must not seem older.

        It can be ahead of the server's clock if that was set back, or if another server took over.
        """
        ticks = self.ticks()
        if self.stamp(ticks) <= newest <= ticks + self._offset + _MAX_STEP_BACK_US:
            self._slew = _Slew(newest + 1 - ticks, ticks)

    def reset(self) -> None:
        """Forget the measurements: this may be another server."""
        self._samples = ()

    @property
    def _offset(self) -> int:
        return self._guess() - self.ticks() if self._measured_offset is None else self._measured_offset
