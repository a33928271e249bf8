"""Values that callers give by mistake or in malice, for every argument there is."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import itertools
import pathlib
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np
import redis
import redis.asyncio

CANARY = "canary7f3a"
"""In everything that may be a password or holds one: it must show nowhere."""

DUNDERS = (
    *("repr", "str", "eq", "hash", "iter", "bool", "len", "index", "int", "float", "contains", "getitem"),
    *("format", "lt", "gt", "fspath", "bytes", "call", "getattr", "array", "next", "enter"),
)


class ObjectionError(Exception):
    """What hostile objects raise; no call may let it out."""


class RaisedError(Exception):
    """What an iterator raises when it is asked for the next item: the caller's own, it may come out."""


def _object(*_: object, **__: object) -> Any:
    raise ObjectionError(CANARY)


def hostile(base: type, dunders: tuple[str, ...] = DUNDERS) -> type:
    """A subclass, some methods of which raise."""
    return type(f"Hostile{base.__name__}", (base,), {f"__{name}__": _object for name in dunders})


class Zone(dt.tzinfo):
    """Answers with whatever it is given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def utcoffset(self, _when: dt.datetime | None) -> Any:
        return self.answer()

    dst = tzname = utcoffset


class NotATime(dt.datetime):
    """As pandas' NaT is."""

    year = month = day = property(lambda _: float("nan"))  # type: ignore[assignment]

    def timestamp(self) -> float:
        return float("nan")


class OddMapping(Mapping[Any, Any]):
    """Whatever its items are."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __getitem__(self, _key: object) -> Any:
        raise ObjectionError

    def __iter__(self) -> Any:
        return iter([key for key, _ in self._items])

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> Any:
        return self._items


def _raising() -> Any:
    yield "daily"
    raise RaisedError(CANARY)


def _full(value: Any) -> Any:
    array = np.empty(1, object)
    array[0] = value
    return array


def _same(value: Any) -> Callable[[], Any]:
    return lambda: value


class Color(enum.Enum):
    RED = "daily"


class Text(enum.StrEnum):
    ODD = "\x1b"


CALM = hostile(str, ("repr", "str", "eq", "hash", "iter", "bool", "len", "format", "contains"))
SUBCLASSES = [
    lambda: hostile(str)("daily"),
    lambda: CALM("x"),
    lambda: hostile(bytes)(b"x"),
    lambda: hostile(int)(1),
    lambda: hostile(float)(1.0),
    lambda: hostile(list)(["daily"]),
    lambda: hostile(tuple)(["daily"]),
    lambda: hostile(dict)(a=["b"]),
    lambda: hostile(set)({"daily"}),
    lambda: hostile(dt.datetime)(2026, 1, 1),
    lambda: hostile(dt.date)(2026, 1, 1),
    lambda: hostile(dt.timedelta)(days=40),
    lambda: hostile(uuid.UUID, ("repr", "str", "eq", "hash", "int"))(int=1),
]
NUMPY = [
    lambda: np.int64(1),
    lambda: np.float64("nan"),
    lambda: np.bool_(1),
    lambda: np.str_("x"),
    lambda: np.bytes_(b"\xff"),
    lambda: np.datetime64("NaT", "us"),
    lambda: np.datetime64("2026-01-01"),
    lambda: np.datetime64(2**62, "s"),
    lambda: np.timedelta64(1, "D"),
    lambda: np.array(1),
    lambda: np.array("x"),
    lambda: np.zeros((2, 2), int),
    lambda: np.array([[b"x"]]),
    lambda: np.array([None, object(), "x"], object),
    lambda: _full(hostile(object)()),
    lambda: np.ma.array([1, 2], mask=[True, False]),
    lambda: np.array([(1, "x")], [("a", "i4"), ("b", "U1")]),
    lambda: np.array([1.5, np.nan]),
    lambda: np.array(["2026-01-01", "NaT"], "M8[D]"),
    lambda: np.array([2**62], "M8[s]"),
    lambda: np.array([], "U0"),
    lambda: np.array(["\ud800"]),
]
TIMES = [
    lambda: dt.datetime(1, 1, 1),
    lambda: dt.datetime(9999, 12, 31, 23, 59, 59, 999_999),
    lambda: dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=23))),
    lambda: dt.datetime(9999, 12, 31, tzinfo=dt.timezone(-dt.timedelta(hours=23))),
    lambda: dt.date.min,
    lambda: dt.date.max,
    lambda: dt.time(1),
    lambda: dt.timedelta.max,
    lambda: dt.timedelta.min,
    lambda: NotATime(2026, 1, 1),
    lambda: dt.datetime(2026, 1, 1, tzinfo=Zone(_object)),
    lambda: dt.datetime(2026, 1, 1, tzinfo=Zone(lambda: None)),
    lambda: dt.datetime(2026, 1, 1, tzinfo=Zone(lambda: 7)),
    lambda: dt.datetime(2026, 1, 1, tzinfo=Zone(lambda: dt.timedelta(999_999))),
    lambda: Zone(_object),
    lambda: Zone(lambda: None),
    hostile(dt.tzinfo, ("repr", "str", "eq", "hash")),
]
TEXTS = [
    "",
    " ",
    "x",
    "\ud800",
    "a\0b",
    "a\r\nb",
    "a\u202eb",
    "\x1b[31mred\x1b]0;title\x07",
    "{x}",
    "%s%n{0}",
    "x" * 70,
    "x" * 10_000,
    "1",
    "-1",
    "nan",
    "daily",
    "..",
    "../../etc/passwd",
    f"redis://user:{CANARY}@host/0",
    f"redis://:{CANARY[:3]}#{CANARY[3:]}@host",
]
ODD: list[Callable[[], Any]] = [
    *map(_same, (None, 0, 1, -1, 7, 2**63, 10**30, -(10**5000))),
    *map(_same, (0.0, -0.0, 1.5, float("nan"), float("inf"), 1e300, 1j)),
    *map(_same, TEXTS),
    *map(_same, (b"", b"x", b"\xff\0", bytearray(b"x"), memoryview(b"x"))),
    *map(_same, (..., NotImplemented, int, object, type, Color, Color.RED)),
    *map(_same, (Text.ODD, len, print, redis, types, decimal.Decimal("NaN"))),
    list,
    dict,
    set,
    lambda: [[]],
    lambda: [{}],
    lambda: {"a": 1},
    lambda: {"t": ["a", []]},
    lambda: {1: {}},
    lambda: {("a",): ["b"]},
    lambda: {None: None},
    lambda: {"x"},
    lambda: frozenset([1]),
    lambda: range(3),
    lambda: (x for x in [[]]),
    _raising,
    lambda: itertools.islice(itertools.count(), 5),
    lambda: OddMapping(([], ["a"])),
    lambda: OddMapping(1),
    lambda: OddMapping(("t", hostile(object)())),
    lambda: lambda *_, **__: None,
    lambda: _object,
    lambda: True,
    lambda: False,
    lambda: decimal.Decimal(1),
    lambda: fractions.Fraction(1, 3),
    lambda: pathlib.Path("x"),
    lambda: uuid.UUID.__new__(uuid.UUID),
    lambda: mock.Mock(spec=str),
    lambda: mock.Mock(spec=dt.datetime),
    lambda: types.SimpleNamespace(connection_pool=None),
    lambda: redis.Redis(password=CANARY, port=1),
    lambda: redis.asyncio.Redis(password=CANARY, port=1),
    *([lambda name=name: hostile(object, (name,))() for name in DUNDERS]),
    hostile(object),
    hostile(Exception),
]
NASTY = ODD + SUBCLASSES + NUMPY + TIMES
