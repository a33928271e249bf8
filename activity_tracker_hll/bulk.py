"""Hashes of many ids at once: the counterpart of ids.py for batches.

What is an id, and its bytes, is decided in :mod:`.ids`. Here the common kinds of batch are taken
together, with numpy, and whatever is not common or not valid is handed back to that module, an id at
a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hll.hashing import SLACK, Hasher
from .hll.registers import Hashes
from .ids import MAX_ID_BYTES, IdEncoder, check_batch

__all__ = ["CHUNK", "Hashes", "all_hashes", "hashes", "hashes_of_bytes"]

CHUNK = 20_480
"""Ids hashed together: the arrays of a step fit in the processor's second cache."""

_JOINED_BYTES = 512 * 1024
_SHORTEST_CHUNK = 1024
_PADDING = "\0" * SLACK
_END = "\n" + _PADDING
_SEPARATOR = ord("\n")
_COUNTED = (list, tuple, set, frozenset, range, np.ndarray)  # others may only guess their length

# glibc takes a large block from the system page by page, and gives it back at once, unless the process
# gave back a larger one before. This one is never touched; all batches of lists take half the time after it.
_raise_threshold_of_malloc = np.empty(2 << 20, np.uint8)
del _raise_threshold_of_malloc


def hashes(encoder: IdEncoder, ids: object, argument: str = "ids") -> Iterator[Hashes]:
    """Hashes of ids, chunk by chunk, in their order; an iterator is consumed once.

    Each array is overwritten when the next is asked for.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the place of the first bad id.
    """
    batch = check_batch(ids, argument)
    hasher = Hasher(min(CHUNK, len(batch)) if isinstance(batch, _COUNTED) else CHUNK)
    done = 0
    for chunk in _chunks(batch):
        yield _of_chunk(hasher, encoder, chunk, argument, done)
        done += len(chunk)


def all_hashes(encoder: IdEncoder, ids: Sized) -> Hashes:
    """Hashes of ids, all at once; see :func:`hashes`."""
    result = np.empty(len(ids), np.uint64)
    done = 0
    for chunk in hashes(encoder, ids):
        result[done : done + len(chunk)] = chunk
        done += len(chunk)
    return result


def hashes_of_bytes(encoded: Sequence[bytes]) -> Hashes:
    """Hashes of ids as they are sent: encoded, and under the secret if there is one."""
    return _of_bytes(Hasher(len(encoded)), encoded)


def _of_chunk(hasher: Hasher, encoder: IdEncoder, chunk: Any, argument: str, first: int) -> Hashes:
    """Of a list or array of up to CHUNK ids, the first of which stands at that place."""
    if not encoder.has_secret:
        found = _of_array(hasher, chunk) if isinstance(chunk, np.ndarray) else _of_list(hasher, chunk)
        if found is not None:
            return found
    return _of_bytes(hasher, encoder.many(chunk, argument, first))


def _chunks(batch: Iterable[Any]) -> Iterator[Any]:
    """Slices of an array or list, lists of whatever else is iterable."""
    size = CHUNK
    if isinstance(batch, (list, tuple)):
        if batch and isinstance(batch[0], (str, bytes)):
            size = _joined(batch)
        for start in range(0, len(batch), size):
            yield batch[start : start + size]
    elif isinstance(batch, np.ndarray):
        for start in range(0, len(batch), size):
            yield batch[start : start + size]
    else:
        iterator = iter(batch)
        while chunk := list(islice(iterator, size)):
            yield chunk


def _joined(batch: Sequence[Any]) -> int:
    """How many of these texts to join at a time, by the first few."""
    sample = [text for text in batch[:64] if isinstance(text, (str, bytes))]
    size = sum(map(len, sample)) // len(sample) + 1
    return max(_SHORTEST_CHUNK, min(CHUNK, _JOINED_BYTES // size))


def _of_list(hasher: Hasher, ids: Sequence[Any]) -> Hashes | None:
    """None where the ids are not all of one common type, or one is not valid."""
    kind = type(ids[0]) if ids else str
    try:
        if kind is str:
            return _of_lines(hasher, ("\n".join(ids) + _END).encode(), len(ids))
        same = list(map(type, ids)).count(kind) == len(ids)
        if same and kind is bytes:
            return _of_lines(hasher, b"\n".join(ids) + _END.encode(), len(ids))
        if same and kind is int:
            # Half the time np.fromiter takes.
            return _of_integers(hasher, np.frombuffer(struct.pack(f"{len(ids)}q", *ids), np.int64))
    except (TypeError, UnicodeEncodeError, struct.error):
        pass
    return None


def _of_lines(hasher: Hasher, text: bytes, count: int) -> Hashes | None:
    """Of ids joined by line ends, SLACK bytes behind them; None if ids contain such, or are not valid."""
    buffer = np.frombuffer(text, np.uint8)
    ends = buffer == _SEPARATOR
    if np.count_nonzero(ends) != count:
        return None
    size = int(ends.argmax())
    if len(text) == count * (size + 1) + SLACK and ends[size :: size + 1].sum() == count:
        return hasher.equal(buffer, count, size, size + 1) if 0 < size <= MAX_ID_BYTES else None
    places = _places(ends, count)
    starts = np.empty_like(places)
    starts[:1] = 0
    np.add(places[:-1], 1, out=starts[1:])
    places -= starts
    return _of_sizes(hasher, buffer, starts, places)


def _places(ends: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Where so many line ends are; half the time of flatnonzero, where no word of 8 bytes has two.

    The last bytes, which may be less than a word, are padding.
    """
    words = ends[: len(ends) // 8 * 8].view(np.uint64)
    hit = np.flatnonzero(words != 0)  # of booleans: three times as fast as of words
    if len(hit) < count:
        return np.flatnonzero(ends)
    # An end in byte k is a one bit with 8 k zero bits below it.
    below = np.bitwise_count(words[hit] - np.uint64(1))
    hit *= 8
    hit += below >> 3
    return hit


def _of_sizes(
    hasher: Hasher, buffer: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Hashes | None:
    if len(sizes) and not 0 < sizes.min() <= sizes.max() <= MAX_ID_BYTES:
        return None
    return hasher.ragged(buffer, starts, sizes)


def _of_bytes(hasher: Hasher, encoded: Sequence[bytes]) -> Hashes:
    """Of valid ids, whatever is in them."""
    sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
    buffer = np.frombuffer(b"".join([*encoded, _PADDING.encode()]), np.uint8)
    return hasher.ragged(buffer, np.cumsum(sizes) - sizes, sizes)


def _of_array(hasher: Hasher, ids: NDArray[Any]) -> Hashes | None:
    if ids.dtype.kind in "iu":
        return _of_integers(hasher, ids)
    if not ids.dtype.itemsize:
        return None
    if ids.dtype.kind == "U":
        points = np.ascontiguousarray(ids, ids.dtype.newbyteorder("=")).view(np.uint32)
        if points.max(initial=0) > 127:
            return None
        ids = points.astype(np.uint8).view(f"S{ids.dtype.itemsize // 4}")
    return _of_padded(hasher, np.ascontiguousarray(ids)) if ids.dtype.kind == "S" else None


def _of_padded(hasher: Hasher, ids: NDArray[np.bytes_]) -> Hashes | None:
    """Of numpy's strings of bytes, which are padded with zeros."""
    width = ids.dtype.itemsize
    buffer = ids.view(np.uint8)
    if buffer[width - 1 :: width].all() and width <= MAX_ID_BYTES:
        padded = buffer if width >= SLACK else np.concatenate([buffer, np.zeros(SLACK, np.uint8)])
        return hasher.equal(padded, len(ids), width, width)
    sizes = np.strings.str_len(ids).astype(np.int64)
    buffer = np.concatenate([buffer, np.zeros(SLACK, np.uint8)])
    return _of_sizes(hasher, buffer, np.arange(0, len(buffer) - SLACK, width), sizes)


def _of_integers(hasher: Hasher, numbers: NDArray[Any]) -> Hashes | None:
    """None if one is negative: its text begins with a sign."""
    if numbers.dtype.kind == "i" and numbers.min(initial=0) < 0:
        return None
    return hasher.decimals(np.ascontiguousarray(numbers, np.uint64))
