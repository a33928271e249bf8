"""Estimate: an approximate count that knows its standard error.

Only the value type lives here; the formulas are in :mod:`activity_tracker_hll.hll.estimators`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, expm1, floor, inf, log1p
from statistics import NormalDist
from typing import Self

from .errors import ArgumentTypeError, ArgumentValueError
from .hll.estimators import LARGEST, standard_error
from .hll.registers import REGISTERS
from .messages import shown

__all__ = ["Estimate"]

# With a smaller standard error than this (plain counts below about 290 ids) an interval has so few whole
# numbers that one more or less matters: half an id is added on both sides.
_FEW_NUMBERS_BELOW = 1.6
# Plain counts below this depend on little more than the number of registers in use: see _unrounded.
_LINEAR_BELOW = 1000


class Estimate(int):
    """A count of distinct ids, with its standard error.

    It is an ``int``: it prints, compares, adds and JSON-encodes as one; the result of arithmetic is
    a plain ``int``.

    Args:
        value: the estimated number of distinct ids, not negative.
        stderr: the standard error in ids. None stands for that of a plain HyperLogLog count
            (:func:`activity_tracker_hll.hll.estimators.standard_error`). Infinite means that random ids would
            not produce such registers, so that nothing is known about the error.

    Raises:
        ArgumentValueError: a negative value or standard error.
    """

    _stderr: float | None = None

    def __new__(cls, value: int = 0, stderr: float | None = None) -> Self:  # noqa: D102 (the class says)
        try:
            self = super().__new__(cls, value)
        except Exception as error:
            raise ArgumentTypeError(f"value must be an int, got {shown(value)}") from error
        if self < 0:
            raise ArgumentValueError(f"value must not be negative, got {shown(value)}")
        if stderr is not None:
            try:
                self._stderr = float(stderr)
            except Exception as error:
                raise ArgumentTypeError(f"stderr must be a number, got {shown(stderr)}") from error
            if not self._stderr >= 0:
                raise ArgumentValueError(f"stderr must not be negative, got {shown(stderr)}")
        return self

    @classmethod
    def plain(cls, values: Iterable[int | bytes | None]) -> list[Self | None]:
        """Many counts at once, each with the error of the plain formula; None stays None.

        Args:
            values: numbers or their decimal text.

        Raises:
            ArgumentValueError: something that is no number, or a negative one.
        """
        # Like the constructor, without the cost of a call for each: a year of 50 buckets has 18,250 counts.
        make = int.__new__
        try:
            counts = [None if value is None else make(cls, value) for value in values]
        except Exception as error:
            raise ArgumentValueError(f"values must be numbers or their text, got {shown(values)}") from error
        if min(filter(None, counts), default=0) < 0:
            raise ArgumentValueError(f"values must not be negative, got {shown(counts)}")
        return counts

    @property
    def stderr(self) -> float:
        """The standard error of the count, in ids."""
        return standard_error(int(self)) if self._stderr is None else self._stderr

    @property
    def is_plain(self) -> bool:
        """Whether the standard error is that of the plain formula."""
        return self._stderr is None

    @property
    def suspect(self) -> bool:
        """Whether random ids would not produce such registers, so that someone has apparently chosen ids.

        Of a million buckets of random ids, at most 9 are suspect. A count that is not suspect proves nothing,
        as whoever imitates the registers of random ids goes unnoticed. A ``secret`` prevents choosing ids.
        """
        return self.stderr == inf

    @property
    def relative_error(self) -> float:
        """The standard error as a share of the count; 0 if there is none, else infinite for a count of 0."""
        if self.stderr == 0:
            return 0.0
        return self.stderr / self if self else float("inf")

    def interval(self, confidence: float = 0.95) -> tuple[int, int]:
        """Whole numbers (low, high) between which the true count lies with this confidence.

        It is a normal approximation around the estimate before rounding. With a standard error below 1.6
        (plain counts below about 290 ids) it is half an id wider on both sides.

        In 20,000 simulations of plain counts for each number of ids up to 2500, the interval for 95 %
        contained the true count in 95-100 % of the cases below 300 ids, and in 93-98 % from there on, 95 % on
        average. For a suspect count it is (0, 2^63 - 1).

        Args:
            confidence: probability that the interval contains the true count, between 0 and 1.

        Raises:
            ArgumentTypeError, ArgumentValueError: confidence is not a number between 0 and 1.
        """
        if isinstance(confidence, bool) or not isinstance(confidence, (int, float)):
            raise ArgumentTypeError(f"confidence must be a number between 0 and 1, got {shown(confidence)}")
        confidence = (
            float.__float__(confidence) if isinstance(confidence, float) else int.__index__(confidence)
        )
        if not 0 < confidence < 1:
            raise ArgumentValueError(f"confidence must lie between 0 and 1, got {shown(confidence)}")
        if not self.stderr:
            return int(self), int(self)
        if self.suspect:
            return 0, LARGEST
        # By the lower tail, because 1 + confidence can be rounded to 2.
        half = -NormalDist().inv_cdf((1 - confidence) / 2) * self.stderr
        if self.stderr < _FEW_NUMBERS_BELOW:
            half += 0.5
        center = self._unrounded()
        # The estimate itself is always included, however low the confidence.
        return max(0, min(int(self), ceil(center - half))), max(int(self), floor(center + half))

    def _unrounded(self) -> float:
        """The estimate before it was rounded, where that can be inferred.

        Plain counts of few ids skip some whole numbers, because ids share registers. If k registers are not
        empty, they practically are the linear count, -m log(1 - k / m) (Whang 1990); ranks hardly matter.
        """
        if self._stderr is not None or self >= _LINEAR_BELOW:
            return int(self)
        used = round(-REGISTERS * expm1(-self / REGISTERS))
        return -REGISTERS * log1p(-used / REGISTERS)
