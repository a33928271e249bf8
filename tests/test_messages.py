"""How messages show what others gave: short, whatever it is; nothing that a terminal obeys; no password."""

import datetime as dt
import decimal
import enum
import pathlib
import uuid
from unittest import mock

import numpy as np
import pytest
import redis

from activity_tracker_hll.messages import printable, shown, type_of


class Color(enum.Enum):
    RED = 1


class Lied(str):
    __slots__ = ()

    def __str__(self):
        raise AssertionError  # what it holds counts

    __repr__ = __getitem__ = __iter__ = __str__


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Nameless(type):
    def __getattribute__(cls, name):
        raise RuntimeError(name)


RECURSIVE = [1]
RECURSIVE.append(RECURSIVE)
NO_ZONE = dt.datetime(2026, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {"__repr__": lambda _: 1 / 0})())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (1.5, "1.5"),
        ("abc", "'abc'"),
        (Lied("abc"), "'abc'"),
        (b"\xff\0", r"b'\xff\x00'"),
        (bytearray(b"x"), "b'x'"),
        (10**5000, "an int of many digits"),
        (True, "True"),
        ([1, "a"], "[1, 'a']"),
        ((1,), "(1,)"),
        ({"a"}, "{'a'}"),
        (frozenset(), "{}"),
        ({}, "{}"),
        ([[1], []], "[[...], []]"),
        (RECURSIVE, "[1, [...]]"),
        (list(range(1000)), "[0, 1, 2, 3, 4, ...]"),
        ({"id": 1, "password": "canary"}, "{'id': 1, 'password': ...}"),
        (decimal.Decimal(1), "Decimal('1')"),
        (uuid.UUID(int=0), "UUID('00000000-0000-0000-0000-000000000000')"),
        (pathlib.PurePosixPath("/a"), "PurePosixPath('/a')"),
        (Color.RED, "<Color.RED: 1>"),
        (dt.date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
        (NO_ZONE, "<datetime.datetime>"),
        (np.float64("nan"), "np.float64(nan)"),
        (np.arange(3), "<numpy.ndarray>"),
        (dict, "<class dict>"),
        (len, "<builtin_function_or_method>"),
        (Hostile(), f"<{__name__}.Hostile>"),
        (mock.Mock(spec=str), "<unittest.mock.Mock>"),
        (redis.Redis(password="canary"), "<redis.client.Redis>"),
        ("redis://:canary@host", "'redis://...'"),
        (b"redis://:canary@host", "b'redis://...'"),
        (["redis://:canary@host"], "['redis://...']"),
        ("\x1b[31m\u202e\ud800\n", r"'\x1b[31m\u202e\ud800\n'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "value", ["x" * 10**6, b"x" * 10**6, [["x" * 100] * 100] * 100, 10**250, {"y" * 99: 1}]
)
def test_nothing_is_long(value):
    assert len(shown(value)) <= 80


def test_texts_of_others():
    assert printable("as it is: é日 'x' \\") == "as it is: é日 'x' \\"
    assert printable("a\x1b]0;title\x07b\u202ec\u2028d\r\n") == r"a\x1b]0;title\x07b\u202ec\u2028d\r\n"
    assert printable("see redis://user:p@ss@host:1 there") == "see redis://***@host:1 there"
    assert printable("x" * 1000) == f"{'x' * 297}..."


def test_a_class_that_does_not_tell_its_name():
    assert shown(Nameless("Nameless", (), {})()) == "<object>"


def test_types_alone():
    assert [*map(type_of, ("canary", {"password": "canary"}, 1))] == ["<str>", "<dict>", "<int>"]
