"""Words: numbers, shares and days as the report says them, and whether two numbers differ.

Names stay as they are, and apart from the words round them: a sentence is a sequence of texts and
:class:`Named`.
"""

from __future__ import annotations

import re
from datetime import date
from math import floor, isnan, log10

from ..estimates import Estimate, Share
from ..periods import PeriodKind
from ..result import Number, named

__all__ = [
    "Interval",
    "Named",
    "Sentence",
    "difference",
    "full",
    "limits",
    "long_day",
    "month_ticks",
    "percent",
    "percents",
    "period",
    "rounded",
    "safe",
    "short_day",
    "until",
    "weekday",
]

Interval = tuple[float, float]

# Not by strftime, which speaks the language of the process.
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Control characters, and all that turns the direction of writing or breaks lines (Unicode 15.1, UAX 9).
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_FINE = 0.1  # shares below this are told with a decimal
_NARROW = 0.012  # as are those whose interval is no wider


class Named(str):
    """A name that somebody gave."""

    __slots__ = ()

    @classmethod
    def of(cls, bucket: str | None) -> Named:
        """A bucket's name, as it can be shown."""
        return cls(safe(named(bucket)))


Sentence = tuple[str, ...]
"""Texts, some of which are :class:`Named`."""


def safe(text: str) -> str:
    """A text of others with U+FFFD for what is not seen and could turn what stands round it."""
    return _HIDDEN.sub("\ufffd", text)


# Numbers


def rounded(number: float) -> str:
    """To three significant digits: 738,000; 9,320; 1.23."""
    if not number:
        return "0"
    digits = 2 - floor(log10(abs(number)))
    return f"{round(number, digits):,.{max(0, digits if number < 1000 and number != int(number) else 0)}f}"


def full(count: Number | None) -> str:
    """All digits of a count, or a decimal of the per cent of a share; a dash where there is none."""
    if count is None or (isinstance(count, Share) and isnan(count)):
        return "-"
    return f"{count:,}" if isinstance(count, Estimate) else f"{100 * count:.1f} %"


def limits(value: Number | None, *, whole: bool = False) -> str:
    """The limits of 95 %: "726,000 to 749,000"; empty where there are none, and where it is suspect.

    Args:
        whole: with all digits.
    """
    if value is None or value.suspect or (isinstance(value, Share) and isnan(value)):
        return ""
    low, high = value.interval()
    if isinstance(value, Share):
        return f"{100 * low:.1f} to {100 * high:.1f}"
    return f"{low:,} to {high:,}" if whole else f"{rounded(low)} to {rounded(high)}"


def percent(share: float, *, fine: bool = False) -> str:
    """A share in per cent, without the sign: "50", "7.3".

    Args:
        fine: with a decimal however large it is.
    """
    return f"{100 * share:.1f}" if fine or 0 < share < _FINE else f"{100 * share:.0f}"


def percents(share: Share) -> tuple[str, str, str]:
    """A share and its limits in per cent, with a decimal where these would look alike without."""
    low, high = share.interval()
    fine = high - low < _NARROW
    return percent(share, fine=fine), percent(low, fine=fine), percent(high, fine=fine)


def difference(before: Interval, after: Interval) -> int:
    """-1, 0 or 1: after is less, cannot be told from before, or is more, as their intervals do not touch."""
    return (after[0] > before[1]) - (after[1] < before[0])


# Days


def long_day(day: date) -> str:
    """23 November 2026."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def short_day(day: date) -> str:
    """23 Nov."""
    return f"{day.day} {_MONTHS[day.month - 1][:3]}"


def weekday(day: date) -> str:
    """Mon, 23 Nov 2026."""
    return f"{_DAYS[day.weekday()]}, {short_day(day)} {day.year}"


def month_ticks(day: date, *, year: bool) -> str:
    """Nov, or Nov 2026."""
    return _MONTHS[day.month - 1][:3] + (f" {day.year}" if year else "")


def period(kind: PeriodKind, day: date, *, like: date | None = None, short: bool = False) -> str:
    """A month or a week in a sentence: "September 2026", "the week of 7 September".

    Args:
        like: another day beside which the year need not be said.
    """
    year = "" if like is not None and like.year == day.year else f" {day.year}"
    if kind == "weekly":
        return f"{short_day(day)}{year}" if short else f"the week of {short_day(day)}{year}"
    name = _MONTHS[day.month - 1]
    return f"{name[:3] if short else name}{year}"


def until(days: int) -> str:
    """A length of time: "a year", "8 weeks", "5 days"."""
    if days >= 350:
        return "a year"
    weeks = days // 7
    return f"{weeks} weeks" if weeks > 1 else "a week" if weeks else f"{days} days"
