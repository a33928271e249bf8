"""The string in which Redis and Valkey keep a sketch: bytes to registers and back.

Only the layout of these bytes lives here. A sketch is a header and 16384 registers, dense or sparse
(``src/hyperloglog.c`` of either server). Bytes are numbered from 0, bits from the lowest.

Header, 16 bytes::

    0   "HYLL"
    4   encoding: 0 dense, 1 sparse; a server calls any other corrupt
    5   3 reserved bytes: written as zeros, never looked at, copied when a server makes a sketch dense
    8   cached cardinality, 64 bits little-endian; the top bit (of byte 15) says that it is stale

Dense, 12288 bytes. Register i holds bits 6i to 6i + 5 of the body read as one little-endian number,
so that 3 bytes are 4 registers, a b c d::

    bbaaaaaa ccccbbbb ddddddcc

Sparse, runs that must fill the 16384 registers exactly::

    00nnnnnn            ZERO    n + 1 registers are 0, at most 64
    01nnnnnn nnnnnnnn   XZERO   n + 1 registers are 0, at most 16384; the high bits come first
    1vvvvvnn            VAL     n + 1 registers are v + 1, from 1 to 32

An example: registers 3, 4 and 5 hold 7, 7 and 1, and all others 0. The runs are 3 zeros, 2 sevens, a one
and 16378 zeros, and the body takes 5 bytes instead of 12288::

    00000010            ZERO    3                                   02
    10011001            VAL     7, 2                                99
    10000000            VAL     1, 1                                80
    01111111 11111001   XZERO   16378 (16377 = 63 * 256 + 249)      7f f9

Decoding accepts what the servers accept, except for two things that none of them writes: ranks above 51,
which no hash has and no estimator understands; and an XZERO cut off after its first byte, for whose second
byte a server reads the NUL that ends its string.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError, MalformedSketchError, UnknownEncodingError
from .registers import MAX_RANK, REGISTERS, Registers, histogram

__all__ = [
    "DENSE_BYTES",
    "HEADER_BYTES",
    "SPARSE_MAX_BYTES",
    "SPARSE_MAX_RANK",
    "decode",
    "decode_many",
    "encode",
    "encode_dense",
    "encode_many",
    "encode_sparse",
    "tallies",
]

HEADER_BYTES: Final = 16
"""Bytes before the registers."""

DENSE_BYTES: Final = HEADER_BYTES + REGISTERS * 6 // 8
"""Bytes of a dense sketch, header included."""

SPARSE_MAX_BYTES: Final = 3000
"""Bytes, header included, above which a sparse sketch becomes dense: default of hll-sparse-max-bytes."""

SPARSE_MAX_RANK: Final = 32
"""The highest rank a sparse sketch can hold."""

_MAGIC: Final = b"HYLL"
_DENSE: Final = 0
_SPARSE: Final = 1
# Reserved bytes, and a cache marked stale: a server then counts the registers instead of trusting it.
_STALE_CACHE: Final = bytes(3) + (1 << 63).to_bytes(8, "little")
_DENSE_HEADER: Final = _MAGIC + bytes([_DENSE]) + _STALE_CACHE
_SPARSE_HEADER: Final = _MAGIC + bytes([_SPARSE]) + _STALE_CACHE

# Registers that one ZERO spans.
_ZERO_MAX: Final = 64
# An opcode spans at least one register: no body is longer than one XZERO for each. Bodies of far more
# than SPARSE_MAX_BYTES occur, where a server is told to keep them.
_SPARSE_BODY_MAX: Final = 2 * REGISTERS

# Unsigned words, four registers each. Little-endian by name: the bytes come out right anywhere.
_WORD: Final = np.dtype("<u4")
_WORDS: Final = REGISTERS // 4

# By the value of an opcode's (first) byte: registers it spans, and their rank.
_BYTES: Final = np.arange(256)
_SPANS: Final = np.select(
    [_BYTES < 0x40, _BYTES < 0x80], [_BYTES + 1, ((_BYTES & 0x3F) << 8) + 1], (_BYTES & 3) + 1
)
_RANKS: Final = np.where(_BYTES < 0x80, 0, (_BYTES >> 2 & 0x1F) + 1).astype(np.uint8)
_RUN_LENGTHS: Final = np.arange(1, 5)  # of the four VAL opcodes of a rank
_SPARSE_RANKS: Final = 32
_SEPARATOR: Final = b"\x80"  # looks like no XZERO
_TOGETHER: Final = 16  # sketches whose runs fit in the processor's second-level cache
_FIELDS: Final = 64


def encode(registers: Registers) -> bytes:
    """A sketch as a server would store it: sparse if that is possible and short, otherwise dense.

    Args:
        registers: shape (16384,), ranks of at most 51.

    Returns:
        At most 3000 bytes sparse, or 12304 dense; the cached cardinality is marked stale.

    Raises:
        ArgumentTypeError: not an array of 16384 bytes.
        ArgumentValueError: a rank is above 51.
    """
    if _highest(registers) <= SPARSE_MAX_RANK:
        [opcodes] = _opcodes(registers[np.newaxis], SPARSE_MAX_BYTES - HEADER_BYTES)
        if opcodes is not None:
            return _SPARSE_HEADER + opcodes
    return _pack(registers)


def encode_many(registers: NDArray[np.uint8]) -> list[bytes]:
    """:func:`encode` for many sketches at once; in a fraction of the time each, where they are sparse.

    Args:
        registers: shape (sketches, 16384), ranks of at most 51.

    Raises:
        ArgumentTypeError, ArgumentValueError: no such array.
    """
    bodies: dict[int, bytes | None] = {}  # None is too long
    may_be_sparse = [number for number, row in enumerate(registers) if _highest(row) <= SPARSE_MAX_RANK]
    for begin in range(0, len(may_be_sparse), _TOGETHER):
        some = may_be_sparse[begin : begin + _TOGETHER]
        bodies |= zip(some, _opcodes(registers[some], SPARSE_MAX_BYTES - HEADER_BYTES), strict=True)
    return [
        _pack(row) if (opcodes := bodies.get(number)) is None else _SPARSE_HEADER + opcodes
        for number, row in enumerate(registers)
    ]


def encode_dense(registers: Registers) -> bytes:
    """The dense form, 12304 bytes; arguments and errors are those of :func:`encode`."""
    _highest(registers)
    return _pack(registers)


def encode_sparse(registers: Registers) -> bytes:
    """The shortest sparse form, even if it takes more than 3000 bytes.

    Arguments and errors are those of :func:`encode`; a rank above 32 raises ArgumentValueError, too.
    """
    highest = _highest(registers)
    opcodes = None
    if highest <= SPARSE_MAX_RANK:
        [opcodes] = _opcodes(registers[np.newaxis], _SPARSE_BODY_MAX)
    if opcodes is None:
        raise ArgumentValueError(f"registers must be at most {SPARSE_MAX_RANK} to be sparse, got {highest}")
    return _SPARSE_HEADER + opcodes


def decode(data: bytes | bytearray | memoryview) -> Registers:
    """The registers of a sketch that a server or :func:`encode` has written.

    The cached cardinality is ignored. The registers say the same, and anyone who may SET a string can write
    any number there, which a server would then repeat.

    Args:
        data: the whole string, as GET returns it.

    Returns:
        New and writable, shape (16384,), ranks of at most 51.

    Raises:
        ArgumentTypeError: not bytes, bytearray or memoryview.
        UnknownEncodingError: neither dense nor sparse.
        MalformedSketchError: anything else that is not a sketch; the message says what is wrong and where.
    """
    if type(data) is not bytes:
        data = _as_bytes(data)
    if len(data) < HEADER_BYTES:
        raise MalformedSketchError(f"sketch of {len(data)} bytes: its header alone takes {HEADER_BYTES}")
    if not data.startswith(_MAGIC):
        raise MalformedSketchError(f"no sketch: it begins with {data[:4]!r}, not {_MAGIC!r}")
    encoding = data[4]
    if encoding == _DENSE:
        return _unpack(data)
    if encoding == _SPARSE:
        return _expand(data)
    raise UnknownEncodingError(f"sketch in encoding {encoding} (byte 4): known are 0, dense, and 1, sparse")


def decode_many(sketches: Sequence[bytes]) -> list[Registers | MalformedSketchError]:
    """:func:`decode` for many sketches at once, in less time each where they are sparse and small.

    Returns:
        The registers of each, or what is wrong with it.
    """
    result: list[Registers | MalformedSketchError] = []
    for begin in range(0, len(sketches), _TOGETHER):
        some = sketches[begin : begin + _TOGETHER]
        for data, registers in zip(some, _expand_many(some), strict=True):
            try:
                result.append(decode(data) if registers is None else registers)
            except MalformedSketchError as error:
                result.append(error)
    return result


def tallies(sketches: Sequence[bytes]) -> NDArray[np.int64]:
    """Histograms of many sketches: how many registers of each hold each rank, shape (sketches, 52).

    That is all a count needs, and much faster than decoding. A row that does not add up to 16384 stands for a
    sketch that :func:`decode` would refuse.
    """
    result = np.zeros((len(sketches), MAX_RANK + 1), np.int64)
    sparse = [index for index, data in enumerate(sketches) if _is_sparse(data)]
    if sparse:
        result[sparse] = _tally_sparse([sketches[index] for index in sparse])
    for index in (result.sum(axis=1) != REGISTERS).nonzero()[0].tolist():
        data = sketches[index]
        if data[:5] == _DENSE_HEADER[:5] and len(data) == DENSE_BYTES:
            result[index] = _tally_dense(data)
        else:
            with contextlib.suppress(MalformedSketchError):
                result[index] = histogram(decode(data))
    return result


def _is_sparse(sketch: bytes) -> bool:
    return sketch[:5] == _SPARSE_HEADER[:5]


def _tally_dense(data: bytes) -> NDArray[np.int64]:
    """Shape (52,); it does not add up to 16384 where ranks are out of range."""
    # Two registers at a time halve the numbers to count.
    pairs = np.bincount(_pairs(data).view(np.uint16), minlength=_FIELDS**2).reshape(_FIELDS, _FIELDS)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts[: MAX_RANK + 1]


def _tally_sparse(sketches: Sequence[bytes]) -> NDArray[np.int64]:
    """Shape (number of sketches, 52); the rows of damaged ones do not add up to 16384."""
    bodies = [data[HEADER_BYTES:] + _SEPARATOR for data in sketches]
    opcodes = np.frombuffer(b"".join(bodies), np.uint8)
    separators = np.cumsum([len(body) for body in bodies]) - 1
    by_opcode = np.array([np.bincount(np.frombuffer(body, np.uint8), minlength=256) for body in bodies])
    by_opcode[:, _SEPARATOR[0]] -= 1
    zeros: NDArray[Any] = np.zeros(len(bodies))
    heads = _xzero_heads(opcodes)
    if heads.size:
        of = separators.searchsorted(heads)
        seconds = opcodes[heads + 1]
        np.subtract.at(by_opcode, (of, seconds), 1)
        zeros = np.bincount(of, seconds.astype(np.float64), len(bodies))
        zeros[of[heads + 1 == separators[of]]] = 2 * REGISTERS  # the last XZERO lacks its second byte
    # Sums of integers: a matrix product would wake the threads of BLAS, which then spin for a while.
    result = np.zeros((len(bodies), MAX_RANK + 1), np.int64)
    result[:, 0] = (by_opcode[:, :128] * _SPANS[:128]).sum(axis=1) + zeros.astype(np.int64)
    runs = by_opcode[:, 128:].reshape(-1, _SPARSE_RANKS, len(_RUN_LENGTHS))
    result[:, 1 : _SPARSE_RANKS + 1] = (runs * _RUN_LENGTHS).sum(axis=2)
    return result


def _as_bytes(data: object) -> bytes:
    """A copy, because the original may be strided and may change while it is read."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ArgumentTypeError(f"data must be bytes, bytearray or memoryview, got {type(data).__name__}")
    return memoryview(data).tobytes()


def _highest(registers: Registers) -> int:
    """The highest rank; raises if these are not valid registers."""
    if not isinstance(registers, np.ndarray):
        raise ArgumentTypeError(f"registers must be a numpy array, got {type(registers).__name__}")
    if registers.shape != (REGISTERS,) or registers.dtype != np.uint8:
        raise ArgumentTypeError(
            f"registers must be uint8 of shape ({REGISTERS},), got {registers.dtype} of {registers.shape}"
        )
    highest = int(registers.max())
    if highest > MAX_RANK:
        raise ArgumentValueError(f"registers must be at most {MAX_RANK}, got {highest}")
    return highest


def _pack(registers: Registers) -> bytes:
    """A dense sketch of registers that were checked: the inverse of :func:`_unpack`."""
    fields = np.ascontiguousarray(registers).view(_WORD)
    # x - 3 (x >> 2) of a field alone moves it two bits down.
    shifted = fields & 0x3F003F00
    shifted >>= 2
    shifted *= 3
    words = fields - shifted
    np.bitwise_and(words, 0x0FFF0000, out=shifted)
    shifted >>= 4
    shifted *= 15
    words -= shifted
    # Each word has 24 used bits and is stored every 3 bytes, so that stores of 4 bytes overlap. The fourth
    # byte is set to what the word's right neighbour stores there, so the order of stores does not matter.
    np.left_shift(words[1:], 24, out=shifted[1:])
    words[:-1] |= shifted[1:]
    sketch = bytearray(DENSE_BYTES + 1)  # the last word has no neighbour: its fourth byte is cut off
    sketch[:HEADER_BYTES] = _DENSE_HEADER
    np.ndarray(_WORDS, _WORD, sketch, HEADER_BYTES, (3,))[:] = words
    return bytes(memoryview(sketch)[:DENSE_BYTES])


def _unpack(data: bytes) -> Registers:
    """Registers of a dense sketch."""
    if len(data) != DENSE_BYTES:
        raise MalformedSketchError(f"dense sketch of {len(data)} bytes: it takes exactly {DENSE_BYTES}")
    words = _pairs(data)
    # Two fields of 12 bits to four of 6, each alone at the bottom of its 8 bits.
    shifted = words & 0x0FC00FC0
    shifted *= 3
    words += shifted
    registers = words.view(np.uint8)
    if registers.max() > MAX_RANK:
        where = int((registers > MAX_RANK).argmax())
        raise MalformedSketchError(
            f"dense sketch: register {where} holds rank {registers[where]}, above {MAX_RANK}"
        )
    return registers


def _pairs(data: bytes) -> NDArray[np.uint32]:
    """Two registers in each 16 bits, at the bottom 12 of them."""
    # 4 bytes from every 3rd, beginning with the header's last: the shift drops what belongs to the
    # left neighbour, and nothing is read past the end.
    words: NDArray[np.uint32] = np.ndarray(_WORDS, _WORD, data, HEADER_BYTES - 1, (3,)).copy()
    words >>= 8
    # 15 x + x moves a field 4 bits up, 3 x + x moves it 2: one step less than mask, shift and merge.
    shifted = words & 0xFFF000
    shifted *= 15
    words += shifted
    return words


def _opcodes(registers: NDArray[np.uint8], most: int) -> list[bytes | None]:
    """The fewest opcodes for ranks of at most 32; of a sketch that takes more than `most` bytes, None.

    Each run of equal registers is a VAL for every 4 of them, or one ZERO or XZERO.

    Args:
        registers: shape (sketches, 16384).
    """
    is_last = np.ones(registers.shape, np.bool_)  # in its run, which ends at the last register of a sketch
    np.not_equal(registers[:, 1:], registers[:, :-1], out=is_last[:, :-1])
    runs = [int(np.count_nonzero(row)) for row in is_last]
    # A run takes at least a byte; most sketches that must be dense end here.
    few = [sketch for sketch, count in enumerate(runs) if count <= most]
    result: list[bytes | None] = [None] * len(registers)
    if not few:
        return result
    if len(few) < len(registers):
        registers, is_last = registers[few], is_last[few]
    last = np.flatnonzero(is_last)
    rank = registers.reshape(-1)[last]
    span = last.copy()
    span[0] += 1
    span[1:] -= last[:-1]
    # In bytes: a run of 1 to 4, 5 to 8, ... equal ranks takes 1, 2, ...; one of zeros 1 or 2.
    size = np.where(rank, (span + 3) >> 2, 1 + (span > _ZERO_MAX))
    end = size.cumsum()
    # A run's last byte holds the remainder of its length: modulo 4 for VALs, the low byte for an XZERO.
    # All bytes before it are equal: VALs of 4 registers, or the one head of an XZERO.
    span -= 1
    value = 0x7C + 4 * rank.astype(np.intp)  # the VAL opcode of one register
    head = np.where(rank, value | 3, 0x40 | span >> 8)
    tail = np.where(rank, value | span & 3, span & 0xFF)
    opcodes = head.astype(np.uint8).repeat(size)
    opcodes[end - 1] = tail
    data, begin, run = opcodes.tobytes(), 0, -1
    for sketch in few:
        run += runs[sketch]
        stop = int(end[run])
        result[sketch] = data[begin:stop] if stop - begin <= most else None
        begin = stop
    return result


def _expand(data: bytes) -> Registers:
    """Registers of a sparse sketch."""
    size = len(data) - HEADER_BYTES
    if size > _SPARSE_BODY_MAX:  # before anything of that size is allocated
        raise MalformedSketchError(f"sparse sketch of {len(data)} bytes: more than any 16384 registers take")
    opcodes = np.frombuffer(data[HEADER_BYTES:] + _SEPARATOR, np.uint8)
    span, heads = _spans(opcodes, np.array([size]))
    if heads.size and heads[-1] == size - 1:
        raise MalformedSketchError(f"sparse sketch: XZERO at byte {len(data) - 1} lacks its second byte")
    total = int(span.sum())
    if total > REGISTERS:
        where = HEADER_BYTES + int(span.cumsum().searchsorted(REGISTERS, "right"))
        raise MalformedSketchError(f"sparse sketch: the run at byte {where} passes register {REGISTERS - 1}")
    if total < REGISTERS:
        raise MalformedSketchError(f"sparse sketch: its {size} bytes of runs stop at register {total}")
    return _RANKS[opcodes].repeat(span)


def _expand_many(sketches: Sequence[bytes]) -> list[Registers | None]:
    """Registers of sparse sketches; None in place of any other, or a damaged one."""
    result: list[Registers | None] = [None] * len(sketches)
    most = HEADER_BYTES + _SPARSE_BODY_MAX
    chosen = [number for number, data in enumerate(sketches) if _is_sparse(data) and len(data) <= most]
    if not chosen:
        return result
    bodies = [sketches[number][HEADER_BYTES:] + _SEPARATOR for number in chosen]
    sizes = np.fromiter(map(len, bodies), np.intp, len(bodies))
    separators = sizes.cumsum() - 1
    opcodes = np.frombuffer(b"".join(bodies), np.uint8)
    span, heads = _spans(opcodes, separators)
    whole = np.add.reduceat(span, separators - sizes + 1) == REGISTERS
    whole &= ~np.isin(separators - 1, heads)  # the last XZERO lacks its second byte
    span *= whole.repeat(sizes)
    rows = _RANKS[opcodes].repeat(span).reshape(-1, REGISTERS)
    for row, place in zip(rows, np.flatnonzero(whole).tolist(), strict=True):
        result[chosen[place]] = row
    return result


def _spans(opcodes: NDArray[np.uint8], separators: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The registers that each byte spans, and the positions of the first bytes of XZEROs.

    Args:
        opcodes: bodies, with a separator behind each, so that none is read on into the next one.
        separators: their positions.
    """
    span, heads = _SPANS[opcodes], _xzero_heads(opcodes)
    span[heads] += opcodes[heads + 1]
    span[heads + 1] = 0  # whatever this byte looks like, it is not an opcode and spans nothing
    span[separators] = 0
    return span, heads


def _xzero_heads(opcodes: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions of the first bytes of XZEROs.

    A second byte can look like a first one. But of adjacent bytes that look like one, the first really is,
    because the byte before it is not a first byte; hence the second is not, the third is, and so on.
    """
    alike = np.flatnonzero(opcodes >> 6 == 1)
    number = np.arange(alike.size)
    # Adjacent bytes share this difference, and it grows with every gap: a search finds the first.
    group = alike - number
    return np.compress((number - group.searchsorted(group)) % 2 == 0, alike)
