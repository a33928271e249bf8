"""Ids of all kinds and in all containers: what is accepted, what is not, and what bytes are counted."""

import enum
import uuid

import numpy as np
from hypothesis import strategies as st

from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError

T, V = ArgumentTypeError, ArgumentValueError

SLICES = [slice(None), slice(None, None, 2), slice(None, None, -1), slice(1, None, 3)]

# The separator inside is a line end, numpy's padding is NUL.
AWKWARD = "\n\0\r\x7f\x80\xff\u0301é日\u2028\U0001f600\U0010ffff"

TEXT = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from(AWKWARD), min_size=1, max_size=40)

BYTES = st.binary(min_size=1, max_size=40) | st.text("\n\0\xff", min_size=1).map(lambda s: s.encode("latin1"))

LONG = st.integers(1, 1024).map(lambda size: b"\n\xff" * (size // 2) + b"x" * (size % 2))

INTS = st.integers() | st.integers(-(2**64), 2**64) | st.integers(-(10**300), 10**300)


class Name(enum.StrEnum):
    ANN = "ann"


class Number(enum.IntEnum):
    SEVEN = 7


class Text(str):
    __slots__ = ()

    def encode(self, *_):
        raise AssertionError  # what it holds counts, not what it says


class Bytes(bytes):
    pass


SCALARS = st.sampled_from(
    [
        Name.ANN,
        Number.SEVEN,
        Text("a\nb"),
        Bytes(b"a\0"),
        np.str_("日本"),
        np.str_("a\0"),
        np.bytes_(b"\xff\n"),
        np.int8(-128),
        np.uint64(2**64 - 1),
        np.longlong(-7),
    ]
)

KINDS = {
    "str": TEXT,
    "plain str": st.text("abc", min_size=1, max_size=40),
    "str of one size": st.text("abc", min_size=9, max_size=9),
    "bytes": BYTES,
    "bytes of one size": st.binary(min_size=9, max_size=9),
    "long": LONG | LONG.map(lambda text: text.replace(b"\xff", b"x").decode()),
    "int": INTS,
    "int of a word": st.integers(0, 2**63 - 1),
    "UUID": st.uuids(),
    "scalars": SCALARS,
}

MIXED = st.one_of(*KINDS.values())


def bytes_of(id):
    """What is counted: bytes are, text is UTF-8, numbers are decimal."""
    if isinstance(id, bytes):
        return bytes(id)
    if isinstance(id, str):
        return b"".join(str.encode(letter) for letter in "".join(id))
    return str(id if isinstance(id, uuid.UUID) else int(id)).encode()


INTEGERS = [order + kind + size for order in "<>" for kind in "iu" for size in "1248"]

CONTAINERS = {
    "list of int": list,
    "tuple of int": tuple,
    "range": lambda ids: ids,
    "generator": lambda ids: (id for id in ids),
    "keys": lambda ids: dict.fromkeys(ids).keys(),
    "list of str": lambda ids: list(map(str, ids)),
    "generator of str": lambda ids: map(str, ids),
    "list of str of one size": lambda ids: [f"{id:017}" for id in ids],
    "list of bytes": lambda ids: [b"%d" % id for id in ids],
    "mixed": lambda ids: [str(id) if id % 2 else id for id in ids],
    "S": lambda ids: np.arange(ids.start, ids.stop).astype("S12"),
    "S of one size": lambda ids: np.array([b"%017d" % id for id in ids], "S17"),
    "S reversed": lambda ids: np.arange(ids.start, ids.stop).astype("S12")[::-1],
    "U": lambda ids: np.arange(ids.start, ids.stop).astype("U12"),
    "int64": lambda ids: np.arange(ids.start, ids.stop),
    ">u4": lambda ids: np.arange(ids.start, ids.stop, dtype=">u4"),
    "negative": lambda ids: -np.arange(ids.start, ids.stop),
    "object": lambda ids: np.array(ids, object),
}

BAD = {
    "None": (None, T, "must be a str, bytes, int or UUID, got None"),
    "bool": (True, T, "must be .*got True"),
    "numpy bool": (np.True_, T, "must be .*bool"),
    "float": (1.5, T, r"must be .*got float 1\.5"),
    "nan": (np.float64("nan"), T, "must be .*float64"),
    "list": ([1], T, r"must be .*got list \[1\]"),
    "tuple": (("a",), T, r"must be .*got tuple \('a',\)"),
    "bytearray": (bytearray(b"x"), T, "must be .*bytearray"),
    "object": (object(), T, "must be .*got object"),
    "set": ({"a"}, T, "must be .*got set"),
    "empty str": ("", V, "must not be empty, got ''"),
    "empty bytes": (b"", V, "must not be empty, got b''"),
    "long str": ("x" * 1025, V, "must be at most 1024 bytes, got 1025: 'xxx"),
    "long bytes": (b"x" * 1025, V, "must be at most 1024 bytes, got 1025: b'xxx"),
    "long in UTF-8": ("é" * 513, V, "must be at most 1024 bytes, got 1026"),
    "lone surrogate": ("a\ud800", V, "cannot be encoded"),
    "long int": (10**1024, V, "must be at most 1024 bytes, got 1025"),
    "huge int": (10**5000, V, "cannot be encoded"),
}
