import uuid
from enum import IntEnum, StrEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError
from activity_tracker_hll.ids import IdEncoder

plain = IdEncoder()


class Name(StrEnum):
    ANN = "ann"


class Number(IntEnum):
    SEVEN = 7


@pytest.mark.parametrize(
    "value", [7, "7", b"7", np.int8(7), np.uint64(7), np.str_("7"), np.bytes_(b"7"), Number.SEVEN]
)
def test_one_id_whatever_its_type(value):
    assert plain.one(value) == b"7"


@given(st.integers())
def test_integers_are_their_decimal_text(value):
    if len(str(value)) <= 1024:
        assert plain.one(value) == str(value).encode()


@given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=200))
def test_text_is_utf8_unchanged(value):
    assert plain.one(value) == value.encode() == plain.one(value.encode())


def test_uuids_and_enums():
    value = uuid.UUID(int=5)
    assert plain.one(value) == str(value).encode()
    assert plain.one(Name.ANN) == b"ann"


@pytest.mark.parametrize("value", ["\x00", "a\r\nb", "日本", "x" * 1024, b"\xff\x00"])
def test_unusual_ids_are_fine(value):
    assert plain.one(value)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, ArgumentTypeError, "None"),
        (True, ArgumentTypeError, "True"),
        (np.True_, ArgumentTypeError, "bool"),
        (1.5, ArgumentTypeError, "float"),
        (float("nan"), ArgumentTypeError, "float"),
        (object(), ArgumentTypeError, "object"),
        ([1], ArgumentTypeError, "list"),
        (bytearray(b"x"), ArgumentTypeError, "bytearray"),
        ("", ArgumentValueError, "empty"),
        (b"", ArgumentValueError, "empty"),
        ("x" * 1025, ArgumentValueError, "1024 bytes"),
        ("ü" * 513, ArgumentValueError, "1024 bytes"),
        ("\ud800", ArgumentValueError, "cannot be encoded"),
        pytest.param(10**5000, ArgumentValueError, "cannot be encoded", id="huge"),
    ],
)
def test_bad_ids(value, error, words):
    with pytest.raises(error, match=rf"^id .*{words}"):
        plain.one(value)
    with pytest.raises(error, match=r"^ids\[1\] "):
        plain.many([1, value])


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2"],
        ("1", b"2"),
        {"1": None, "2": None}.keys(),
        iter([1, 2]),
        (value for value in (1, 2)),
        np.array([b"1", b"2"]),
        np.array(["1", "2"]),
        np.array([1, 2], dtype=np.uint8),
        np.array([1, 2], dtype=np.int64),
        np.array(["1", 2], dtype=object),
    ],
)
def test_collections(values):
    assert plain.many(values) == [b"1", b"2"]


def test_empty_collections():
    assert plain.many([]) == plain.many(np.array([], dtype="S3")) == plain.many(iter(())) == []


@pytest.mark.parametrize(
    "values",
    [
        "abc",
        b"abc",
        bytearray(b"abc"),
        7,
        None,
        {"a": 1},
        np.array([1.5]),
        np.array([True]),
        np.zeros((2, 2)),
    ],
)
def test_what_is_no_collection_of_ids(values):
    with pytest.raises(ArgumentTypeError, match="ids must be"):
        plain.many(values)


def test_a_secret_hides_ids_and_keeps_them_distinct():
    one, other = IdEncoder("secret"), IdEncoder(b"other")
    assert len(one.one("x")) == 16
    assert one.one(7) == one.one("7") == IdEncoder(b"secret").one(b"7")
    assert len({plain.one("x"), one.one("x"), other.one("x"), one.one("y")}) == 4
    assert len({plain.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert plain.fingerprint == ""


@pytest.mark.parametrize(
    ("secret", "error"), [("", ArgumentValueError), (b"", ArgumentValueError), (7, ArgumentTypeError)]
)
def test_bad_secrets(secret, error):
    with pytest.raises(error, match="secret"):
        IdEncoder(secret)


def test_a_long_secret_is_used_whole():
    assert IdEncoder("a" * 100 + "b").one(1) != IdEncoder("a" * 100 + "c").one(1)
