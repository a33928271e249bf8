"""The bytes of a sketch, by loops that were written from the servers' documentation, and samples of them."""

from functools import cache
from itertools import groupby

import numpy as np

from activity_tracker_hll.errors import (
    MalformedSketchError,
)
from activity_tracker_hll.hll.codec import (
    decode,
    encode,
    encode_dense,
    encode_sparse,
)
from helpers.hashing import murmur

M = 16384

DENSE, SPARSE = 0, 1


def header(encoding, cache=1 << 63, reserved=b"\0\0\0"):
    return b"HYLL" + bytes([encoding]) + reserved + cache.to_bytes(8, "little")


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


def stairs(steps):
    """Registers that take so many bytes sparse, header and zeros (2 bytes) not counted."""
    registers = np.zeros(M, np.uint8)
    registers[:steps] = 1 + np.arange(steps) % 2
    return registers


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
