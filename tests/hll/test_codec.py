"""The bytes of a sketch: against a scalar reference, against both real servers, and damaged.

The reference below is written from the servers' documentation, with loops: nothing of the package
is in it. Dice are seeded; what a random test found can be found again.
"""

import random
from functools import cache
from itertools import groupby

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activity_tracker_hll.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    MalformedSketchError,
    UnknownEncodingError,
)
from activity_tracker_hll.hll.codec import (
    DENSE_BYTES,
    HEADER_BYTES,
    SPARSE_MAX_BYTES,
    decode,
    encode,
    encode_dense,
    encode_sparse,
    tallies,
)
from activity_tracker_hll.hll.registers import empty, histogram
from helpers.errors import raises

M = 16384
DENSE, SPARSE = 0, 1
WORD = 0xFFFFFFFFFFFFFFFF


# The reference


def header(encoding, cache=1 << 63, reserved=b"\0\0\0"):
    return b"HYLL" + bytes([encoding]) + reserved + cache.to_bytes(8, "little")


def murmur(data, factor=0xC6A4A7935BD1E995):
    """MurmurHash64A (Austin Appleby), with the servers' seed."""
    value = 0xADC83B19 ^ (len(data) * factor & WORD)
    whole = len(data) & ~7
    for begin in range(0, whole, 8):
        block = int.from_bytes(data[begin : begin + 8], "little") * factor & WORD
        block = (block ^ block >> 47) * factor & WORD
        value = (value ^ block) * factor & WORD
    if data[whole:]:
        value = (value ^ int.from_bytes(data[whole:], "little")) * factor & WORD
    value = (value ^ value >> 47) * factor & WORD
    return value ^ value >> 47


def ids(n, prefix=b"user"):
    return [b"%s-%d" % (prefix, number) for number in range(n)]


@cache
def registers_of(n, prefix=b"user"):
    """Registers of `ids(n)`."""
    found = [0] * M
    for id in ids(n, prefix):
        value = murmur(id)
        rest = value >> 14 | 1 << 50
        found[value % M] = max(found[value % M], (rest & -rest).bit_length())
    return np.array(found, np.uint8)


def slow_dense(registers):
    bits = "".join(f"{rank:06b}" for rank in reversed(registers.tolist()))
    return header(DENSE) + int(bits, 2).to_bytes(12288, "little")


def slow_ranks(body):
    """All ranks, up to 63, of a dense body."""
    bits = f"{int.from_bytes(body, 'little'):098304b}"
    return [int(bits[end - 6 : end], 2) for end in range(6 * M, 0, -6)]


def slow_sparse(registers):
    """The fewest opcodes there can be."""
    body = bytearray()
    for rank, run in groupby(registers.tolist()):
        left = len(list(run))
        if rank == 0:
            body += bytes([left - 1] if left <= 64 else [0x40 | (left - 1) >> 8, (left - 1) & 0xFF])
        while rank and left > 0:
            body.append(0x80 | (rank - 1) << 2 | min(left, 4) - 1)
            left -= 4
    return header(SPARSE) + body


def slow_decode(data):
    """Registers, or None where the bytes are no sketch or none that is accepted."""
    if len(data) < 16 or data[:4] != b"HYLL" or data[4] > 1:
        return None
    found, body = [], data[16:]
    if data[4] == DENSE:
        found = slow_ranks(body) if len(body) == 12288 else []
    place = 0
    while data[4] == SPARSE and place < len(body) and len(found) <= M:
        byte = body[place]
        if byte < 0x40:
            found += [0] * (byte + 1)
        elif byte >= 0x80:
            found += [(byte >> 2 & 31) + 1] * ((byte & 3) + 1)
        elif place + 1 == len(body):
            return None
        else:
            place += 1
            found += [0] * (((byte & 63) << 8 | body[place]) + 1)
        place += 1
    return np.array(found, np.uint8) if len(found) == M and max(found) <= 51 else None


def same(found, expected):
    assert found.dtype == np.uint8
    assert found.shape == (M,)
    assert found.flags.writeable
    np.testing.assert_array_equal(found, expected)


# Laws


def few(ranks):
    """All zero but for some."""
    registers = np.zeros(M, np.uint8)
    for place, rank in ranks.items():
        registers[place] = rank
    return registers


def in_runs(runs):
    """Runs of (length, rank), over and over until the registers are full."""
    ranks = np.concatenate([np.full(length, rank, np.uint8) for length, rank in runs])
    return np.resize(ranks, M)


def at_random(seed, highest, share):
    dice = np.random.default_rng(seed)
    ranks = np.minimum(dice.geometric(0.5, M), highest).astype(np.uint8)
    return np.where(dice.random(M) < share, ranks, 0).astype(np.uint8)


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


def stairs(steps):
    """Registers that take so many bytes sparse, header and zeros (2 bytes) not counted."""
    registers = np.zeros(M, np.uint8)
    registers[:steps] = 1 + np.arange(steps) % 2
    return registers


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


def sum_of(body):
    """Registers that the runs of a body span; 2 M where it ends within one."""
    total, place = 0, 0
    while place < len(body):
        byte = body[place]
        if 0x40 <= byte < 0x80:
            place += 1
            if place == len(body):
                return 2 * M
            total += ((byte & 63) << 8 | body[place]) + 1
        else:
            total += (byte & (3 if byte >= 0x80 else 63)) + 1
        place += 1
    return total


def test_the_longest_sparse_sketch():
    registers = np.zeros(M, np.uint8)
    same(decode(header(SPARSE) + b"\x40\x00" * M), registers)
    same(decode(header(SPARSE) + b"\x00" * M), registers)
    with raises(MalformedSketchError, "more than any"):
        decode(header(SPARSE) + b"\x40\x00" * M + b"\x00")


# Damage


def check(sketch, *, slowly=True):
    """What is no sketch raises the one error; what is one gives its registers."""
    try:
        found = decode(sketch)
    except MalformedSketchError:
        found = None
    if slowly:
        expected = slow_decode(sketch)
        assert (found is None) == (expected is None), sketch.hex()
        if found is not None:
            same(found, expected)
    elif found is not None:
        assert found.dtype == np.uint8
        assert found.shape == (M,)
        assert found.max() <= 51
    return found


SAMPLES = {
    "dense": encode_dense(at_random(3, 51, 1)),
    "sparse of none": encode(few({})),
    "sparse of one": encode(few({77: 3})),
    "sparse of 30": encode(at_random(4, 32, 0.002)),
    "sparse of 700": encode(at_random(5, 32, 0.043)),
    "sparse of all": encode_sparse(at_random(6, 32, 1)),
}


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


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 8191, M - 4, M - 3, M - 2, M - 1])
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


def corrupted(sketch, dice):
    """One to four changes: bytes overwritten, inserted, deleted, or the end cut off."""
    damaged = bytearray(sketch)
    # Half of the damage near the header: most of a dense sketch is registers, which can hold anything.
    last = len(damaged) if dice.random() < 0.5 else 24
    for _ in range(dice.choice((1, 1, 2, 4))):
        place, change = dice.randrange(last), dice.randrange(8)
        if change < 4:
            damaged[place : place + 1] = bytes([dice.randrange(256)])
        elif change == 4:
            damaged[place:place] = dice.randbytes(dice.randint(1, 4))
        elif change == 5:
            del damaged[place : place + dice.randint(1, 4)]
        elif change == 6:
            # Another rank for a VAL: of all damage to a sparse sketch the one that leaves it valid.
            damaged[place : place + 1] = bytes(
                [damaged[place] ^ dice.randrange(32) << 2 if damaged[place:] else 0]
            )
        elif dice.random() < 0.3:
            del damaged[place:]
    return bytes(damaged)


CORRUPTED = ("dense", "sparse of one", "sparse of 30", "sparse of 700", "sparse of all")


@pytest.mark.parametrize("part", range(10))
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


# Both servers

SIZES = [0, 1, 2, 10, 100, 500, 1000, 1500, 2000, 3000, 10_000, 100_000]


def add(client, key, members):
    client.pfadd(key)  # without ids: an empty sketch
    for begin in range(0, len(members), 10_000):
        client.pfadd(key, *members[begin : begin + 10_000])


def read_by_server(client, sketch):
    """The registers that a server finds in a sketch."""
    client.set("copy", sketch)
    return np.array(client.execute_command("PFDEBUG", "GETREG", "copy"), np.uint8)


@pytest.mark.parametrize("n", SIZES)
def test_what_the_server_writes(real_server, n):
    client, expected = real_server.client, registers_of(n)
    add(client, "written", ids(n))
    written = client.get("written")
    assert written[4] == (SPARSE if n <= 1000 else DENSE if n >= 3000 else written[4])
    same(decode(written), expected)
    same(decode(encode(decode(written))), expected)
    if written[4] == SPARSE:
        assert len(encode(expected)) <= len(written)
    client.pfcount("written")  # fills the cache
    same(decode(client.get("written")), expected)


@pytest.mark.parametrize("n", SIZES)
def test_what_the_server_reads(real_server, n):
    client, registers = real_server.client, registers_of(n)
    add(client, "built", ids(n))
    forms = {encode(registers), encode_dense(registers), encode_sparse(registers)}
    for sketch in forms:
        client.set("set", sketch)
        assert client.pfcount("set") == client.pfcount("built")
        client.pfmerge("merged", "set")
        assert client.pfcount("merged") == client.pfcount("built")
        same(decode(client.get("merged")), registers)
        same(read_by_server(client, sketch), registers)
        client.delete("merged")


@pytest.mark.parametrize("n", SIZES)
def test_the_server_works_on_our_bytes(real_server, n):
    client = real_server.client
    more = np.maximum(registers_of(n), registers_of(500, b"more"))
    for sketch in (encode(registers_of(n)), encode_sparse(registers_of(n)), encode_dense(registers_of(n))):
        client.set("key", sketch)
        for id in ids(500, b"more"):
            client.pfadd("key", id)
        same(decode(client.get("key")), more)
        same(decode(encode(decode(client.get("key")))), more)


def test_dense_by_merging_dense(real_server):
    client = real_server.client
    client.set("dense", encode_dense(few({})))
    add(client, "key", ids(10))
    client.pfmerge("key", "dense")
    assert client.get("key")[4] == DENSE
    same(decode(client.get("key")), registers_of(10))


def test_one_id_after_another(real_server):
    """The server changes a sketch in place and merges few runs: ours is never longer."""
    client, members, promoted = real_server.client, ids(3000), None
    for begin in range(0, 3000, 25):
        client.pfadd("key", *members[begin : begin + 25])
        written = client.get("key")
        if written[4] == SPARSE:
            assert promoted is None
            assert len(encode_sparse(decode(written))) <= len(written) <= SPARSE_MAX_BYTES
        else:
            promoted = promoted or begin
    assert promoted


def test_the_server_draws_the_same_line_between_sparse_and_dense(real_server):
    """hll-sparse-max-bytes counts the header, and the limit itself is still sparse."""
    client = real_server.client
    assert client.config_get("hll-sparse-max-bytes") == {"hll-sparse-max-bytes": "3000"}
    for steps in range(2980, 2985):
        registers = stairs(steps)
        client.set("source", encode_sparse(registers))
        client.delete("merged")
        client.pfmerge("merged", "source")
        written = client.get("merged")
        same(decode(written), registers)
        assert (len(written), written[4]) == (len(encode(registers)), encode(registers)[4])


def test_the_server_ignores_and_keeps_reserved_bytes(real_server):
    client = real_server.client
    for sketch in (encode(registers_of(10)), encode_dense(registers_of(10))):
        client.set("key", header(sketch[4], reserved=b"abc") + sketch[16:])
        assert client.pfcount("key") == 10
        client.pfadd("key", "another")
        assert client.get("key")[5:8] == b"abc"
    client.set("key", header(SPARSE, reserved=b"abc") + encode(registers_of(10))[16:])
    client.pfadd("key", *ids(5000))
    assert client.get("key")[4:8] == b"\x00abc"
    same(decode(client.get("key")), registers_of(5000))


def test_the_server_believes_a_forged_cache(real_server):
    client = real_server.client
    forged = header(SPARSE, cache=4711) + encode(registers_of(10))[16:]
    client.set("key", forged)
    assert client.pfcount("key") == 4711
    client.set("key", encode(decode(forged)))
    assert client.pfcount("key") == 10


def accepted_by(client, sketches):
    """What a server counts in each of them; None where it calls it corrupt."""
    replies = []
    for begin in range(0, len(sketches), 250):
        pipeline = client.pipeline(transaction=False)
        for sketch in sketches[begin : begin + 250]:
            pipeline.set("key", sketch)
            pipeline.pfcount("key")
        replies += pipeline.execute(raise_on_error=False)[1::2]
    return [None if isinstance(reply, Exception) else reply for reply in replies]


def stale(sketch):
    """With the cache marked stale: else the server repeats it and does not look at the registers."""
    return sketch[:15] + bytes([sketch[15] | 0x80]) + sketch[16:] if len(sketch) > 15 else sketch


def stricter(sketch):
    """Is it one of the sketches that servers count, and this library refuses?"""
    if sketch[4] == DENSE:
        return max(slow_ranks(sketch[16:])) > 51
    return sum_of(sketch[16:]) != M and sum_of(sketch[16:] + b"\0") == M


def test_corruptions_as_the_server_sees_them(real_server):
    client, dice = real_server.client, random.Random(11)
    sketches = [stale(corrupted(SAMPLES[CORRUPTED[number % 5]], dice)) for number in range(4000)]
    counts = accepted_by(client, sketches)
    decoded = [check(sketch, slowly=False) for sketch in sketches]
    for sketch, count, registers in zip(sketches, counts, decoded, strict=True):
        if count is None:
            assert registers is None, sketch.hex()
        elif registers is None:
            assert stricter(sketch), sketch.hex()
    both = [
        (count, registers) for count, registers in zip(counts, decoded, strict=True) if registers is not None
    ]
    assert len(both) > 500
    assert counts.count(None) > 500
    assert accepted_by(client, [encode(registers) for _, registers in both]) == [count for count, _ in both]


@pytest.mark.parametrize(
    "sketch",
    [
        slow_dense(few({0: 52})),
        slow_dense(few({M - 1: 63})),
        # To a server the second byte of the last XZERO is the NUL after its string: 255 + 63 * 256 + 1.
        header(SPARSE) + b"\x40\xfe\x7f",
    ],
    ids=["rank 52", "rank 63", "XZERO cut"],
)
def test_where_we_are_stricter_than_the_server(real_server, sketch):
    assert accepted_by(real_server.client, [sketch]) != [None]
    assert stricter(sketch)
    with pytest.raises(MalformedSketchError):
        decode(sketch)


def sketch_of(pairs):
    registers = empty()
    for place, rank in pairs:
        registers[place] = rank
    return encode(registers)


RANKS = st.tuples(st.integers(0, M - 1), st.integers(1, 51))
BODIES = st.binary(max_size=40).map(lambda body: header(SPARSE) + body)
DENSE_ONES = st.integers(0, 63).map(lambda rank: header(DENSE) + bytes([rank]) * (DENSE_BYTES - HEADER_BYTES))


@given(
    sketches=st.lists(
        st.one_of(st.lists(RANKS, max_size=40).map(sketch_of), BODIES, DENSE_ONES, st.binary(max_size=20)),
        max_size=6,
    )
)
def test_tallies_are_histograms_of_what_is_read(sketches):
    for data, tally in zip(sketches, tallies(sketches), strict=True):
        try:
            expected = histogram(decode(data)).tolist()
        except MalformedSketchError:
            expected = None
        assert (None if tally is None else tally.tolist()) == expected
