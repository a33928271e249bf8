"""Packed registers: what comes out is what went in, and whatever else is refused."""

import random
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll import MalformedSketchError
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.packed import pack, unpack
from activity_tracker_hll.hll.registers import MAX_RANK, REGISTERS, empty
from helpers.registers import drawn, odd


@given(st.integers(0, 2**32), st.integers(0, 4))
def test_lossless(seed, kind):
    registers = odd(np.random.default_rng(seed), kind)
    found = unpack(pack(registers))
    assert np.array_equal(found, registers)
    assert found.flags.writeable


@pytest.mark.parametrize(
    ("ids", "most"),
    [(0, 20), (10, 60), (1000, 1250), (3000, 2800), (30_000, 5750), (10**6, 6000), (10**8, 6000)],
)
def test_small(ids, most):
    """A full sketch takes less than half of a server's 12304 bytes, and within 4 % of its entropy."""
    registers = drawn(np.random.default_rng(1), ids)
    size = len(pack(registers))
    assert size <= min(most, len(codec.encode(registers)))
    if ids > 10_000:
        share = np.bincount(registers) / REGISTERS
        share = share[share > 0]
        assert size < 1.04 * -(share * np.log2(share)).sum() * REGISTERS / 8


def deflated(data):
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


BAD = {
    "nothing": b"",
    "only a form": b"\0",
    "unknown form": b"\2" + deflated(bytes(REGISTERS)),
    "cut off": pack(drawn(np.random.default_rng(1), 10**5))[:-1],
    "too few": b"\0" + deflated(bytes(REGISTERS - 1)),
    "too many": b"\0" + deflated(bytes(REGISTERS + 1)),
    "a bomb": b"\0" + deflated(bytes(10**7)),
    "a rank that no hash has": b"\0" + deflated(bytes([MAX_RANK + 1] * REGISTERS)),
    "runs that stop": b"\1" + deflated(codec.encode_sparse(empty())[codec.HEADER_BYTES : -1]),
    "no stream": b"\0\xff\xff",
}


@pytest.mark.parametrize("kind", BAD)
def test_all_else_is_refused(kind):
    with pytest.raises(MalformedSketchError):
        unpack(BAD[kind])


def test_no_bytes_raise_anything_else():
    dice = random.Random(1)
    good = pack(drawn(np.random.default_rng(1), 500))
    for _ in range(500):
        data = bytearray(good)
        data[dice.randrange(len(data))] = dice.randrange(256)
        with suppress(MalformedSketchError):
            assert unpack(bytes(data)).max() <= MAX_RANK
