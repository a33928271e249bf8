"""Times of many lines at once: from their text, by arithmetic, to numpy's datetimes in the tracker's zone.

What a text means is decided by the careful parser alone. It is asked for the first and the last second of
each quarter of an hour that comes up; between them only the seconds change, as no clock is put
forward or back within a quarter of an hour. What is not plain is left out, and goes to the careful reader.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coder import BAD, LONGEST, Coder, blocks_of
from ..columns import Texts
from ..errors import ActivityTrackerError
from ..periods import QUARTER_S
from .timestamps import EPOCH_UNITS

__all__ = ["LogTimes", "Moments", "TextTimes"]

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]

_BLOCK = LONGEST  # bytes of a text that are looked at

_DAY_S = 86_400
_SPAN = 1 << 22
"""Quarters of an hour from 1970, until 2089: a table of them takes 4 MB, of memory that is touched."""

_MOST_TABLES = 4
_UNKNOWN, _REFUSED = 0, 1
_MOST_SHIFTS = 256  # a zone of many offsets has had twenty
_WIDEST_S = 1 << 24
_UNIX_EPOCH = datetime(1970, 1, 1)
_MICRO = 1_000_000
_LARGEST_FLOAT = 2.0**62  # nanoseconds until 2116; beyond it floats are more than half a microsecond apart
_UNSURE = 1e-3
"""So near to half the distance between floats, as a part of it, the careful parser decides."""

_ONES = 0x0101010101010101
_HIGH = np.uint64(0x80 * _ONES)
_MONTHS = np.arange("1000-01", "9999-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)
_FIRST_MONTH = 12_000
_NAMES = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"]
_BY_NAME = sorted((int.from_bytes(name, "little"), number) for number, name in enumerate(_NAMES, 1))
_NAME_KEYS = np.array([key for key, _ in _BY_NAME], np.uint64)
_NAME_NUMBERS = np.array([number for _, number in _BY_NAME], np.int64)


class Moments(NamedTuple):
    """Times as they were understood.

    Attributes:
        dates: shape (n,), datetime64[us], naive in the tracker's zone; of any value where not plain.
        plain: shape (n,), which times were understood.
    """

    dates: NDArray[np.datetime64]
    plain: Flags


class _Steps:
    """What the careful parser makes of seconds, found once for each step of time.

    Args:
        ask: the careful parser, for a second since 1970 of the clock in the text.
        step_s: the length of a step, within which no clock changes.
    """

    def __init__(self, ask: Callable[[int], datetime], step_s: int = QUARTER_S) -> None:
        self._ask = ask
        self._step = step_s
        # Of each step the place of its shift: what is added to its seconds.
        self._table = np.zeros(_SPAN * QUARTER_S // step_s, np.uint8)
        self._shifts = np.zeros(_MOST_SHIFTS, np.int64)
        self._places: dict[int, int] = {}

    def convert(self, seconds: Integers, micros: Integers | int, plain: Flags) -> Moments:
        """Convert seconds since 1970 of the clock in the texts."""
        steps = seconds // self._step
        plain = plain & (steps >= 0) & (steps < len(self._table))
        steps = np.where(plain, steps, 0)
        places = self._table.take(steps)
        unknown = plain & (places == _UNKNOWN)
        if unknown.any():
            for step in np.unique(steps[unknown]).tolist():
                self._table[step] = self._place(self._shift(step * self._step))
            places = self._table.take(steps)
        plain &= places != _REFUSED
        moved = (seconds + self._shifts.take(places)) * _MICRO + micros
        return Moments(moved.view("datetime64[us]"), plain)

    def _place(self, shift: int | None) -> int:
        if shift not in self._places:
            place = len(self._places) + _REFUSED + 1
            if shift is None or place == _MOST_SHIFTS:
                return _REFUSED
            self._places[shift] = place
            self._shifts[place] = shift
        return self._places[shift]

    def _shift(self, second: int) -> int | None:
        """The shift of the step that begins with a second; None if that is refused, or has several."""
        try:
            first = self._ask(second)
            # A step of a day has no time of day.
            last = self._ask(second + self._step - 1) if self._step < _DAY_S else None
        except (ValueError, ActivityTrackerError):
            return None
        if last is not None and last - first != timedelta(seconds=self._step - 1):
            return None
        shift = (first - _UNIX_EPOCH) // timedelta(seconds=1) - second
        return shift if abs(shift) < _WIDEST_S and not first.microsecond else None


class _Tables(dict[Any, _Steps]):
    """The tables of a file, one for each form of its times; few, so that no file fills the memory."""

    def find(self, key: Any, ask: Callable[[int], datetime], step_s: int = QUARTER_S) -> _Steps | None:
        """The table of a form; None if there are too many."""
        if key not in self:
            if len(self) >= _MOST_TABLES:
                return None
            self[key] = _Steps(ask, step_s)
        return self[key]


class TextTimes:
    """Reads the times of delimited text and JSON.

    Args:
        format: "iso", a unit of seconds since 1970, or a format for strptime.
        parse: the careful parser.
    """

    def __init__(self, format: str, parse: Callable[[Any], datetime]) -> None:
        self._parse = parse
        self._tables = _Tables()
        self._unit = EPOCH_UNITS.get(format)
        self._by_arithmetic = self._read_epochs if self._unit else self._read_iso if format == "iso" else None
        self._coder = Coder(lambda text: parse(text.decode()))

    def read(self, texts: Texts) -> Moments:
        """Convert texts; those of one size at a time."""
        if not len(texts):
            return _none(0)
        size = int(texts.sizes[0])
        if (texts.sizes == size).all():
            return self._read_equal(texts, size)
        result = _none(len(texts))
        for size in np.flatnonzero(np.bincount(np.minimum(texts.sizes, _BLOCK + 1))).tolist():
            chosen = np.flatnonzero(texts.sizes == size)
            found = self._read_equal(texts[chosen], size)
            result.dates[chosen], result.plain[chosen] = found
        return result

    def read_numbers(self, numbers: NDArray[Any]) -> Moments:
        """Convert numbers, int64 or float64, where times are seconds since 1970."""
        if self._unit is None:
            return _none(len(numbers))
        if numbers.dtype.kind == "f":
            return self._of_floats(numbers, self._unit)
        return self._of_units(numbers.astype(np.int64, copy=False), np.ones(len(numbers), np.bool_))

    def _of_floats(self, numbers: NDArray[np.float64], unit: int) -> Moments:
        """Convert floats as they are written: by the shortest text that is nearer to them than to any other.

        That has whole microseconds if such a number is within half the distance to the next float, and what
        is finer is cut off.
        """
        plain = np.abs(numbers) < _LARGEST_FLOAT
        numbers = np.where(plain, numbers, 0)
        seconds, rest = np.divmod(numbers, float(unit))
        micros = rest * 1e6 / unit
        nearest = np.rint(micros)
        distance, reach = np.abs(micros - nearest), np.spacing(numbers) * 5e5 / unit
        plain &= np.abs(distance - reach) > _UNSURE * reach
        micros = np.where(distance < reach, nearest, np.floor(micros))
        return self._of_epochs(seconds.astype(np.int64), micros.astype(np.int64), plain)

    def _read_equal(self, texts: Texts, size: int) -> Moments:
        if not 0 < size <= _BLOCK:
            return _none(len(texts))
        found = self._by_arithmetic(blocks_of(texts), size) if self._by_arithmetic else None
        return found if found is not None else self._read_repeated(texts)

    def _read_repeated(self, texts: Texts) -> Moments:
        """Texts of any other form, each once: days repeat."""
        codes = self._coder.codes_of_texts(texts)
        dates = np.array([*self._coder.values, _UNIX_EPOCH], "datetime64[us]")  # the last for BAD
        return Moments(dates[codes], codes != BAD)

    def _read_iso(self, words: Words, size: int) -> Moments | None:
        """Dates and times such as 2026-01-02T10:11:12.123Z; None if the first text is of another form."""
        if size not in (10, *range(19, _BLOCK + 1)):
            return None
        first = words[0].tobytes()
        date_digits, date_plain = _digits(words[:, 0], b"0000-00-")
        pairs = _pairs(date_digits)
        year = _byte(pairs, 0) * 100 + _byte(pairs, 2)
        month = _byte(pairs, 5)
        if size == 10:
            digits, plain = _digits(words[:, 1] & np.uint64(0xFFFF), b"00")
            days, in_month = _days(year, month, _byte(_pairs(digits), 0))
            table = self._tables.find(size, lambda second: self._parse(_iso(second)[:10]), _DAY_S)
            plain &= date_plain & in_month
            return table.convert(days * _DAY_S, 0, plain) if table else None
        separator = first[10:11]
        if separator not in (b"T", b" "):
            return None
        digits, time_plain = _digits(words[:, 1], b"00" + separator + b"00:00")
        pairs = _pairs(digits)
        days, plain = _days(year, month, _byte(pairs, 0))
        hour, minute = _byte(pairs, 3), _byte(pairs, 6)
        digits, second_plain = _digits(words[:, 2] & np.uint64(0xFFFFFF), b":00")
        second = _byte(_pairs(digits), 1)
        plain &= date_plain & time_plain & second_plain & (hour < 24) & (minute < 60) & (second < 60)
        seconds = days * _DAY_S + hour * 3600 + minute * 60 + second
        digits_behind = len(first[20:size]) - len(first[20:size].lstrip(b"0123456789"))
        fraction = digits_behind if first[19:20] == b"." else 0
        rest = 19 + (1 + fraction if fraction else 0)
        micros: Integers | int = 0
        if fraction:
            columns = words.view(np.uint8).reshape(-1, _BLOCK)
            micros, in_fraction = _fraction(columns[:, 19:rest])
            plain &= in_fraction
        form = separator.decode("ascii"), fraction
        return self._by_suffix(form, seconds, micros, plain, words, rest, size)

    def _by_suffix(
        self,
        form: tuple[str, int],
        seconds: Integers,
        micros: Integers | int,
        plain: Flags,
        words: Words,
        start: int,
        size: int,
    ) -> Moments | None:
        """Convert times by what follows the seconds: nothing, or an offset."""
        if size - start > 8:
            return None
        separator, fraction = form
        zeros = "." + "0" * fraction if fraction else ""

        def asking(suffix: str) -> Callable[[int], datetime]:
            return lambda second: self._parse(_iso(second).replace("T", separator) + zeros + suffix)

        return _convert_by_suffix(
            self._tables, form, asking, _suffixes(words, start, size), size - start, seconds, micros, plain
        )

    def _read_epochs(self, words: Words, size: int) -> Moments | None:
        """Whole numbers; None if these are too long, or the first is none."""
        columns = words.view(np.uint8).reshape(-1, _BLOCK)
        if size > 18 or not words[0].tobytes()[:size].isdigit():
            return None
        values = np.zeros(len(words), np.int64)
        plain = np.ones(len(words), np.bool_)
        for place in range(size):
            digit = columns[:, place] ^ np.uint8(ord("0"))
            plain &= digit < 10
            values = values * 10 + digit
        return self._of_units(values, plain)

    def _of_units(self, values: Integers, plain: Flags) -> Moments:
        unit = self._unit or 1
        seconds, rest = np.divmod(values, unit)
        return self._of_epochs(seconds, rest * _MICRO // unit, plain)

    def _of_epochs(self, seconds: Integers, micros: Integers, plain: Flags) -> Moments:
        unit = self._unit or 1
        table = self._tables.find("epoch", lambda second: self._parse(str(second * unit)))
        return table.convert(seconds, micros, plain) if table else _none(len(seconds))


class LogTimes:
    """Reads the times of access logs, such as 17/May/2015:10:05:03 +0200.

    Args:
        parse: the careful parser, of the text within the brackets.
    """

    SIZE = 26

    def __init__(self, parse: Callable[[str], datetime]) -> None:
        self._parse = parse
        self._tables = _Tables()

    def read(self, joined: bytes, count: int) -> Moments:
        """Convert texts of SIZE bytes each, joined."""
        words = np.ndarray((count, 4), "<u8", joined + bytes(_BLOCK), strides=(self.SIZE, 8))
        head, plain = _digits(words[:, 0] & np.uint64(0xFFFF000000FFFFFF), b"00/\0\0\0/0")
        keys = words[:, 0] >> np.uint64(24) & np.uint64(0xFFFFFF)
        places = np.minimum(np.searchsorted(_NAME_KEYS, keys), 11)
        plain &= _NAME_KEYS[places] == keys
        middle, middle_plain = _digits(words[:, 1], b"000:00:0")
        pairs = _pairs(middle)
        year = _byte(head, 7) * 1000 + _byte(middle, 0) * 100 + _byte(pairs, 1)
        hour = _byte(pairs, 4)
        tail, tail_plain = _digits(words[:, 2] & np.uint64(0xFFFFFFFF), b"0:00")
        minute = _byte(middle, 7) * 10 + _byte(tail, 0)
        second = _byte(_pairs(tail), 2)
        days, in_month = _days(year, _NAME_NUMBERS[places], _byte(_pairs(head), 0))
        plain &= middle_plain & tail_plain & in_month & (hour < 24) & (minute < 60) & (second < 60)
        seconds = days * _DAY_S + hour * 3600 + minute * 60 + second
        suffixes = _suffixes(words, 20, self.SIZE)
        return _convert_by_suffix(self._tables, "", self._asking, suffixes, 6, seconds, 0, plain)

    def _asking(self, suffix: str) -> Callable[[int], datetime]:
        def ask(second: int) -> datetime:
            moment = _UNIX_EPOCH + timedelta(seconds=second)
            month = _NAMES[moment.month - 1].decode()
            return self._parse(f"{moment:%d}/{month}/{moment.year:04}:{moment:%H:%M:%S}{suffix}")

        return ask


def _convert_by_suffix(
    tables: _Tables,
    form: Any,
    asking: Callable[[str], Callable[[int], datetime]],
    suffixes: Words,
    size: int,
    seconds: Integers,
    micros: Integers | int,
    plain: Flags,
) -> Moments:
    """Convert seconds by what follows them: suffixes of some bytes, each as a number."""
    distinct = suffixes[:1] if (suffixes == suffixes[:1]).all() else np.unique(suffixes)
    result: Moments | None = None
    for suffix in distinct[: 4 * _MOST_TABLES].tolist():
        text = int(suffix).to_bytes(8, "little")[:size]
        table = tables.find((form, text), asking(text.decode("ascii"))) if text.isascii() else None
        if table is None:
            continue
        if len(distinct) == 1:
            return table.convert(seconds, micros, plain)
        if result is None:
            result = _none(len(seconds))
        chosen = suffixes == suffix
        found = table.convert(seconds, micros, plain & chosen)
        np.copyto(result.dates, found.dates, where=chosen)
        np.copyto(result.plain, found.plain, where=chosen)
    return result or _none(len(seconds))


def _none(count: int) -> Moments:
    """No time is plain."""
    return Moments(np.zeros(count, "datetime64[us]"), np.zeros(count, np.bool_))


def _digits(words: Words, template: bytes) -> tuple[Words, Flags]:
    """The digits of words, as the values of their bytes, and which words fit a template: 0 is any digit."""
    digits = words ^ np.uint64(int.from_bytes(template, "little"))
    # Adding sets the high bit of a byte where a digit is above 9, or another character is not the template's.
    limits = bytes(0x76 if char == ord("0") else 0x7F for char in template.ljust(8, b"\0"))
    over = (digits + np.uint64(int.from_bytes(limits, "little"))) | digits
    return digits, (over & _HIGH) == 0


def _pairs(digits: Words) -> Words:
    """In each byte the number that its digit and the next one make."""
    return digits * np.uint64(10) + (digits >> np.uint64(8))


def _byte(words: Words, place: int) -> Integers:
    return (words >> np.uint64(8 * place) & np.uint64(0xFF)).view(np.int64)


def _days(year: Integers, month: Integers, day: Integers) -> tuple[Integers, Flags]:
    """Days since 1970, and which dates there are."""
    months = year * 12 + (month - 1) - _FIRST_MONTH
    plain = (month >= 1) & (month <= 12) & (months >= 0) & (months < len(_MONTHS) - 1) & (day >= 1)
    months = np.where(plain, months, 0)
    first = _MONTHS.take(months)
    days = first + day - 1
    return days, plain & (days < _MONTHS.take(months + 1))


def _fraction(columns: NDArray[np.uint8]) -> tuple[Integers, Flags]:
    """Microseconds from a point and digits; what is finer is cut off."""
    plain = columns[:, 0] == ord(".")
    micros = np.zeros(len(columns), np.int64)
    for place in range(1, columns.shape[1]):
        digit = columns[:, place] ^ np.uint8(ord("0"))
        plain &= digit < 10
        if place <= 6:
            micros += digit * np.int64(10 ** (6 - place))
    return micros, plain


def _suffixes(words: Words, start: int, end: int) -> Words:
    """The bytes from start to end, at most 8, as numbers."""
    word, place = divmod(start, 8)
    result = words[:, word] >> np.uint64(8 * place)
    if end > 8 * (word + 1):
        result |= words[:, word + 1] << np.uint64(64 - 8 * place)
    return result & np.uint64((1 << 8 * (end - start)) - 1)


def _iso(second: int) -> str:
    return (_UNIX_EPOCH + timedelta(seconds=second)).isoformat()
