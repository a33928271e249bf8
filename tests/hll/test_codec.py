"""The bytes of a sketch, against a scalar reference: what is encoded, and what is read."""

import random
import re
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activity_tracker_hll.errors import (
    MalformedSketchError,
)
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.codec import (
    DENSE_BYTES,
    HEADER_BYTES,
    SPARSE_MAX_BYTES,
    decode,
    decode_many,
    encode,
    encode_dense,
    encode_many,
    encode_sparse,
    tallies,
)
from activity_tracker_hll.hll.registers import empty, histogram
from helpers.errors import raises
from helpers.sketch_bytes import (
    DENSE,
    SPARSE,
    M,
    at_random,
    check,
    few,
    header,
    in_runs,
    same,
    slow_decode,
    slow_dense,
    slow_sparse,
    stairs,
    sum_of,
)

places, seeds = st.integers(0, M - 1), st.integers(0, 2**32)
lengths = st.one_of(st.integers(1, 12), st.sampled_from([63, 64, 65, 255, 256, 257, 5000, M]))


def any_registers(highest=51):
    ranks = st.one_of(st.integers(0, highest), st.sampled_from([0, 1, min(32, highest), min(33, highest)]))
    return st.one_of(
        st.builds(few, st.dictionaries(places, ranks, max_size=40)),
        st.builds(in_runs, st.lists(st.tuples(lengths, ranks), min_size=1, max_size=40)),
        st.builds(lambda rank: np.full(M, rank, np.uint8), ranks),
        st.builds(at_random, seeds, st.integers(1, highest), st.sampled_from([0.001, 0.04, 0.1, 0.5, 1])),
        st.builds(lambda seed: np.random.default_rng(seed).integers(0, highest + 1, M, np.uint8), seeds),
    )


@given(any_registers())
@example(np.zeros(M, np.uint8))
@example(np.full(M, 51, np.uint8))
@example(np.arange(M).astype(np.uint8) % 52)
def test_what_is_encoded_decodes(registers):
    before = registers.copy()
    sketch = encode(registers)
    same(decode(sketch), registers)
    same(decode(encode_dense(registers)), registers)
    assert sketch in (encode_dense(registers), slow_sparse(registers))
    assert (sketch[4] == SPARSE) == (registers.max() <= 32 and len(slow_sparse(registers)) <= 3000)
    np.testing.assert_array_equal(registers, before)


@given(any_registers(32))
def test_sparse_is_the_shortest_there_is(registers):
    sketch = encode_sparse(registers)
    assert sketch == slow_sparse(registers)
    same(decode(sketch), registers)


@given(any_registers())
def test_dense_is_one_number_of_6_bits_a_register(registers):
    assert encode_dense(registers) == slow_dense(registers)


def test_the_example_of_the_docstring():
    registers = few({3: 7, 4: 7, 5: 1})
    assert encode(registers)[16:] == bytes([0x02, 0x99, 0x80, 0x7F, 0xF9])
    same(decode(encode(registers)), registers)


def test_the_header():
    for sketch, encoding in ((encode(few({})), SPARSE), (encode(few({0: 51})), DENSE)):
        assert sketch[:HEADER_BYTES] == header(encoding)


@pytest.mark.parametrize(("rank", "encoding"), [(32, SPARSE), (33, DENSE), (51, DENSE)])
def test_dense_from_rank_33_on(rank, encoding):
    registers = few({100: rank})
    assert encode(registers)[4] == encoding
    same(decode(encode(registers)), registers)


def test_dense_above_3000_bytes():
    most = SPARSE_MAX_BYTES - HEADER_BYTES - 2
    assert len(encode(stairs(most))) == 3000
    assert len(encode(stairs(most + 1))) == DENSE_BYTES == 12304
    assert len(encode_sparse(stairs(most + 1))) == 3001
    same(decode(encode_sparse(stairs(M))), stairs(M))


def test_strided_and_read_only_registers():
    registers = at_random(1, 51, 1)
    wide = np.repeat(registers, 2)
    registers.flags.writeable = False
    for encoder in (encode, encode_dense):
        assert encoder(registers) == encoder(wide[::2]) == slow_dense(registers)
    thin = at_random(1, 32, 0.01)
    assert encode(np.repeat(thin, 2)[::2]) == slow_sparse(thin)


def test_bytes_like():
    for registers in (few({9: 3}), at_random(2, 51, 1)):
        sketch = encode(registers)
        doubled = memoryview(bytes(byte for byte in sketch for _ in "ab"))
        for form in (sketch, bytearray(sketch), memoryview(sketch), doubled[::2]):
            same(decode(form), registers)
    view = memoryview(bytearray(sketch))
    found = decode(view)
    view[HEADER_BYTES:] = bytes(len(sketch) - HEADER_BYTES)
    same(found, registers)


def runs_that_fill(dice):
    """A valid body that no server would write: any opcodes in any order."""
    body, left = bytearray(), M
    while left:
        kind = dice.randrange(4)
        most = min(left, (64, 4, M, 300)[kind])
        length = dice.randint(1, most) if kind != 2 or dice.random() < 0.02 else dice.randint(1, min(left, 9))
        if kind == 0:
            body.append(length - 1)
        elif kind == 1:
            body.append(0x80 | dice.randrange(32) << 2 | length - 1)
        else:
            body += bytes([0x40 | (length - 1) >> 8, (length - 1) & 0xFF])
        left -= length
    return bytes(body)


@pytest.mark.parametrize("seed", range(20))
def test_valid_runs_that_no_server_writes(seed):
    sketch = header(SPARSE) + runs_that_fill(random.Random(seed))
    same(decode(sketch), slow_decode(sketch))


def test_second_bytes_that_look_like_first_ones():
    dice = random.Random(5)
    for _ in range(300):
        body = bytes(dice.choice([0x40, 0x41, 0x42, 0x4F, 0x00, 0x80]) for _ in range(dice.randrange(1, 40)))
        left = M - sum_of(body)
        if left > 0:
            body += bytes([0x40 | (left - 1) >> 8, (left - 1) & 0xFF])
        check(header(SPARSE) + body)


def test_the_longest_sparse_sketch():
    registers = np.zeros(M, np.uint8)
    same(decode(header(SPARSE) + b"\x40\x00" * M), registers)
    same(decode(header(SPARSE) + b"\x00" * M), registers)
    with raises(MalformedSketchError, "more than any"):
        decode(header(SPARSE) + b"\x40\x00" * M + b"\x00")


def sketch_of(pairs):
    registers = empty()
    for place, rank in pairs:
        registers[place] = rank
    return encode(registers)


RANKS = st.tuples(st.integers(0, M - 1), st.integers(1, 51))
BODIES = st.binary(max_size=40).map(lambda body: header(SPARSE) + body)
DENSE_ONES = st.integers(0, 63).map(lambda rank: header(DENSE) + bytes([rank]) * (DENSE_BYTES - HEADER_BYTES))


SKETCHES = st.lists(RANKS, max_size=40).map(sketch_of)
CUT_OFF = st.tuples(SKETCHES, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]])
LAST_CHANGED = st.tuples(SKETCHES, st.sampled_from([b"", b"\x7f", b"\x40", b"\x80"])).map(
    lambda changed: changed[0][:-1] + changed[1]
)
ANY = st.lists(
    st.one_of(SKETCHES, CUT_OFF, LAST_CHANGED, BODIES, DENSE_ONES, st.binary(max_size=20)), max_size=6
)


@given(ANY, st.sampled_from([2, 16]))
def test_many_are_read_as_one_by_one(sketches, together):
    with patch.object(codec, "_TOGETHER", together):
        found = decode_many(sketches)
    for data, one in zip(sketches, found, strict=True):
        if isinstance(one, MalformedSketchError):
            with pytest.raises(type(one), match=re.escape(str(one))):
                decode(data)
        else:
            same(one, decode(data))


def test_no_sketch_is_read_on_into_the_next():
    whole = header(SPARSE) + b"\x7f\xff"
    lacks_a_byte, lacks_a_register = header(SPARSE) + b"\x7f", header(SPARSE) + b"\x7f\xfe"
    # With what follows it would have 16384 registers.
    nearly = header(SPARSE) + b"\x7f\x7e\x40"
    for bad in (lacks_a_byte, lacks_a_register, nearly, header(SPARSE), whole + b"\x7f"):
        found = decode_many([whole, bad, whole])
        assert [isinstance(each, MalformedSketchError) for each in found] == [False, True, False]
        assert not found[0].any()
        assert not found[2].any()


@given(st.lists(any_registers(), max_size=5), st.sampled_from([2, 16]))
def test_many_are_encoded_as_one_by_one(registers, together):
    rows = np.array(registers, np.uint8).reshape(-1, M)
    with patch.object(codec, "_TOGETHER", together):
        assert encode_many(rows) == [encode(row) for row in registers]


@given(ANY)
def test_tallies_are_histograms_of_what_is_read(sketches):
    for data, tally in zip(sketches, tallies(sketches), strict=True):
        try:
            expected = histogram(decode(data)).tolist()
        except MalformedSketchError:
            assert tally.sum() != M
        else:
            assert tally.tolist() == expected
