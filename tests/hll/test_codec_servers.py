"""The bytes of a sketch against both real servers: what they write we read, what we write they read."""

import random

import numpy as np
import pytest

from activity_tracker_hll.errors import (
    MalformedSketchError,
)
from activity_tracker_hll.hll.codec import (
    SPARSE_MAX_BYTES,
    decode,
    encode,
    encode_dense,
    encode_sparse,
)
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
    ids,
    registers_of,
    same,
    slow_dense,
    slow_ranks,
    stairs,
    sum_of,
)

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
