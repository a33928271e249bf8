"""Bytes that are no sketch: refused with what and where, whatever they are."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    MalformedSketchError,
    UnknownEncodingError,
)
from activity_tracker_hll.hll.codec import (
    HEADER_BYTES,
    decode,
    encode,
    encode_dense,
    encode_sparse,
)
from helpers.errors import raises
from helpers.sketch_bytes import (
    CORRUPTED,
    DENSE,
    SAMPLES,
    SPARSE,
    M,
    check,
    corrupted,
    few,
    header,
    same,
    slow_decode,
    slow_dense,
)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation(name):
    sketch = SAMPLES[name]
    for length in range(len(sketch)):
        with pytest.raises(MalformedSketchError):
            decode(sketch[:length])
    for more in (b"\x00", b"\x40", b"\x80", b"\x40\x00", sketch):
        with pytest.raises(MalformedSketchError):
            decode(sketch + more)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_value_of_every_header_byte(name):
    sketch, registers = bytearray(SAMPLES[name]), decode(SAMPLES[name])
    for place in range(HEADER_BYTES):
        right = sketch[place]
        for value in range(256):
            sketch[place] = value
            if value == right or place > 4:
                same(decode(sketch), registers)
            elif place == 4 and value > 1:
                with raises(UnknownEncodingError, f"encoding {value} "):
                    decode(sketch)
            else:
                with pytest.raises(MalformedSketchError) as caught:
                    decode(sketch)
                assert type(caught.value) is MalformedSketchError
        sketch[place] = right


@pytest.mark.parametrize("cache", [0, 1, 12345, 1 << 63, (1 << 63) - 1, (1 << 64) - 1])
def test_a_forged_cache_changes_nothing(cache):
    for encoding in (SAMPLES["dense"], SAMPLES["sparse of 700"]):
        same(decode(header(encoding[4], cache) + encoding[16:]), decode(encoding))


@pytest.mark.parametrize("place", [0, 1, 2, 3, 8191, M - 1])
def test_ranks_that_no_hash_has(place):
    for rank in range(52):
        same(decode(slow_dense(few({place: rank}))), few({place: rank}))
    for rank in range(52, 64):
        with raises(MalformedSketchError, f"register {place} ", f"rank {rank},"):
            decode(slow_dense(few({place: rank})))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ("0 bytes",)),
        (b"HYLL", ("4 bytes", "16")),
        (header(SPARSE)[:15], ("15 bytes",)),
        (b"1234567890123456789", ("begins with b'1234'", "b'HYLL'")),
        (b"hyll" + header(SPARSE)[4:] + b"\x7f\xff", ("begins with b'hyll'",)),
        (header(DENSE), ("dense", "16 bytes", "12304")),
        (header(DENSE) + bytes(12287), ("12303 bytes",)),
        (header(DENSE) + bytes(12289), ("12305 bytes",)),
        (header(SPARSE), ("sparse", "stop at register 0")),
        (header(SPARSE) + b"\x7f\xfe", ("stop at register 16383",)),
        (header(SPARSE) + b"\x7f\xff\x00", ("byte 18 passes",)),
        (header(SPARSE) + b"\x00\x7f\xff", ("byte 17 passes",)),
        (header(SPARSE) + b"\x7f\xfd\x82\x80", ("byte 18 passes",)),
        (header(SPARSE) + b"\x7f\xff\x7f", ("XZERO at byte 18", "second byte")),
        (header(SPARSE) + b"\x7f", ("XZERO at byte 16", "second byte")),
        (header(SPARSE) + b"\x7f\x7f\x7f", ("XZERO at byte 18", "second byte")),
        (header(SPARSE) + b"\x7f" * 1_000_000, ("1000016 bytes", "more than any")),
    ],
)
def test_messages_say_what_and_where(data, words):
    assert slow_decode(data) is None
    with raises(MalformedSketchError, *words):
        decode(data)


@pytest.mark.parametrize("data", [None, "HYLL", 7, [72, 89], np.zeros(M, np.uint8), object()])
def test_wrong_types_to_decode(data):
    with raises(ArgumentTypeError, "^data must be bytes", type(data).__name__):
        decode(data)


@pytest.mark.parametrize("encoder", [encode, encode_dense, encode_sparse])
def test_what_is_no_registers(encoder):
    for registers, word in (
        (None, "NoneType"),
        ([0] * M, "list"),
        (np.zeros(M, np.int8), "int8"),
        (np.zeros(M, np.int64), "int64"),
        (np.zeros(M - 1, np.uint8), "16383"),
        (np.zeros((128, 128), np.uint8), r"\(128, 128\)"),
        (np.zeros((), np.uint8), r"\(\)"),
    ):
        with raises(ArgumentTypeError, "^registers must be", word):
            encoder(registers)
    with raises(ArgumentValueError, "^registers must be at most 51, got 52"):
        encoder(few({M - 1: 52}))


def test_what_sparse_cannot_say():
    with raises(ArgumentValueError, "^registers must be at most 32 to be sparse, got 33"):
        encode_sparse(few({5: 33}))


@pytest.mark.parametrize(
    "part",
    [
        0,
        pytest.param(1, marks=pytest.mark.extended),
        *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 10)),
    ],
)
def test_ten_thousand_corruptions(part):
    dice, whole = random.Random(part), 0
    for number in range(10_000):
        sketch = corrupted(SAMPLES[CORRUPTED[number % 5]], dice)
        whole += check(sketch, slowly=number % 100 < 5) is not None
    assert 500 < whole < 9500


@given(st.sampled_from([DENSE, SPARSE]), st.binary(max_size=400))
def test_any_bytes_after_a_header(encoding, body):
    check(header(encoding) + body)


@given(st.binary(max_size=100))
def test_any_bytes(data):
    check(data)
