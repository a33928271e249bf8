"""MurmurHash64A and the fold, in loops written from Appleby's source and from hyperloglog.c."""

import struct
from functools import cache

import numpy as np

WORD = 2**64 - 1

SIZES = [*range(1, 71), *range(1000, 1025)]


def murmur64a(data, seed):
    """As in MurmurHash2.cpp: whole blocks, then the switch over the tail, then the last mix."""
    m, r = 0xC6A4A7935BD1E995, 47
    h = seed ^ (len(data) * m & WORD)
    for block in struct.unpack_from(f"<{len(data) // 8}Q", data):
        k = block * m & WORD
        k = (k ^ k >> r) * m & WORD
        h = (h ^ k) * m & WORD
    tail = data[len(data) & ~7 :]
    for place in reversed(range(len(tail))):
        h ^= tail[place] << 8 * place
    if tail:
        h = h * m & WORD
    h = (h ^ h >> r) * m & WORD
    return h ^ h >> r


@cache
def murmur(data):
    """As the servers call it."""
    return murmur64a(data, 0xADC83B19)


def place_and_rank(hashed):
    """As hllPatLen in hyperloglog.c: zeros that follow the 14 lowest bits, and one."""
    place, bits, rank = hashed & 0x3FFF, hashed >> 14 | 1 << 50, 1
    while not bits & 1:
        bits >>= 1
        rank += 1
    return place, rank


def folded(hashes, start=None):
    """Registers that have seen these hashes, one at a time."""
    result = [0] * 16384 if start is None else list(start)
    for hashed in hashes:
        place, rank = place_and_rank(hashed)
        result[place] = max(result[place], rank)
    return np.array(result, np.uint8)
