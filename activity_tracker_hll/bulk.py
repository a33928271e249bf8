"""Hashes of many ids at once: the counterpart of :mod:`.ids` for batches.

What counts as an id, and its bytes, is decided in :mod:`.ids`. Here the common kinds of batch are hashed as a
whole, with numpy; uncommon or invalid ones are handed to that module, one id at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Coded, Texts
from .errors import ActivityTrackerError
from .hll.hashing import SLACK, Hasher, Offsets
from .hll.registers import STEP, Hashes
from .ids import COLLECTIONS, MAX_ID_BYTES, IdEncoder, check_batch

__all__ = ["CHUNK", "CodedHashes", "Hashes", "all_hashes", "are_texts", "hashes", "hashes_of_bytes"]

CHUNK = STEP
"""Ids hashed together."""

_TEXTS_TOGETHER = 65_536  # looked at together: of many, the last are copied if no SLACK is behind them
_JOINED_BYTES = 512 * 1024
_SHORTEST_CHUNK = 1024
_TEXTS = (str, bytes)
_PADDING = "\0" * SLACK
_END = "\n" + _PADDING
_SEPARATOR = ord("\n")
_WORD = 8  # bytes; shorter ids of equal size need as many behind them
_WITH_LENGTH = (*COLLECTIONS, np.ndarray)  # the len() of others may be wrong

# glibc gets a large block from the system page by page, and returns it as soon as it is freed, unless a
# larger block was freed before. This one is never touched, but after it, batches of lists take half the time.
_raise_threshold_of_malloc = np.empty(2 << 20, np.uint8)
del _raise_threshold_of_malloc


def hashes(encoder: IdEncoder, ids: object, argument: str = "ids") -> Iterator[Hashes]:
    """The hashes of ids, chunk by chunk, in order; an iterator is consumed once.

    Each array is overwritten when the next one is asked for.

    Args:
        encoder: encodes ids, with a secret if it has one.
        ids: the ids, as callers give them.
        argument: the argument's name, for errors.

    Raises:
        ArgumentTypeError, ArgumentValueError: a bad id, naming its index.
    """
    batch = check_batch(ids, argument)
    if isinstance(batch, Texts) and not encoder.has_secret and _are_valid(batch.sizes):
        yield from _hashes_of_texts(batch)
        return
    hasher = Hasher(min(CHUNK, len(batch)) if isinstance(batch, _WITH_LENGTH) else CHUNK)
    coded = CodedHashes(encoder)
    first = 0
    for chunk in _chunks(batch):
        if isinstance(chunk, Coded):
            yield coded.of(chunk, argument, first)
        else:
            yield _hash_chunk(hasher, encoder, chunk, argument, first)
        first += len(chunk)


def all_hashes(encoder: IdEncoder, ids: Sized, out: Hashes | None = None) -> Hashes:
    """The hashes of ids in one array, shape (n,), which may be given; see :func:`hashes`."""
    result = np.empty(len(ids), np.uint64) if out is None else out
    filled = 0
    for chunk in hashes(encoder, ids):
        result[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return result


class CodedHashes:
    """Hashes of values that repeat: each is hashed once, as long as the values stay the same object.

    Args:
        encoder: see :func:`hashes`.
    """

    def __init__(self, encoder: IdEncoder) -> None:
        self._encoder = encoder
        self._values: Any = None
        self._hashes = np.empty(0, np.uint64)
        self._known = np.empty(0, np.bool_)

    def of(self, ids: Coded, argument: str = "ids", first: int = 0) -> Hashes:
        """The hash of each id; a value that none of them has need not be valid.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, naming its index; `first` is that of the first.
        """
        if ids.values is not self._values or len(ids.values) > len(self._known):
            self._values = ids.values
            self._hashes, self._known = (
                np.empty(len(ids.values), np.uint64),
                np.zeros(len(ids.values), np.bool_),
            )
        codes = ids.codes.astype(np.intp, copy=False)  # once, and not at each use
        known = self._known.take(codes)
        if not known.all():
            new = np.unique(codes[~known])
            try:
                self._hashes[new] = all_hashes(self._encoder, _chosen(ids.values, new))
            except ActivityTrackerError:
                self._encoder.many(ids, argument, first)
                raise
            self._known[new] = True
        return self._hashes.take(codes)


def _chosen(values: Any, indexes: NDArray[Any]) -> Any:
    return [values[index] for index in indexes.tolist()] if isinstance(values, Sequence) else values[indexes]


def hashes_of_bytes(encoded: Sequence[bytes]) -> Hashes:
    """The hashes of ids as they are sent: encoded, and hashed with the secret if there is one."""
    return _hash_bytes(Hasher(len(encoded)), encoded)


def are_texts(ids: Sequence[Any]) -> bool:
    """Whether ids are all str and valid, as far as that can be seen in little time.

    True also where one with a line end in it is too long: to count line ends would tell, and take a fifth of
    the time more. False also for some with line ends that are valid. Without numpy, which would let other
    threads have the interpreter's lock at each of its steps.
    """
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK] if len(ids) > CHUNK else ids
        try:
            lines = "\n".join(part)
            encoded = lines if lines.isascii() else lines.encode()
        except (TypeError, UnicodeEncodeError):
            return False
        # The ids themselves are asked nothing: those of a subclass may answer what they like. To search from
        # the end takes half the time.
        if f"\n{lines}\n".rfind("\n\n") >= 0 or not _are_short(encoded):
            return False
    return True


def _are_short(lines: str | bytes) -> bool:
    """Whether no line is longer than an id may be."""
    separator: Any = "\n" if isinstance(lines, str) else b"\n"
    end = -1
    while len(lines) - end > MAX_ID_BYTES + 1:
        end = lines.rfind(separator, end + 1, end + MAX_ID_BYTES + 2)
        if end < 0:
            return False
    return True


def _hash_chunk(hasher: Hasher, encoder: IdEncoder, chunk: Any, argument: str, first: int) -> Hashes:
    """Hash a list or array of up to CHUNK ids; `first` is the index of the first one, for errors.

    Texts are here only if there is a secret, or if one is not valid.
    """
    if not encoder.has_secret and not isinstance(chunk, Texts):
        if isinstance(chunk, np.ndarray) and chunk.dtype.kind not in "OT":
            hashed = _hash_array(hasher, chunk)
        else:
            hashed = _hash_list(hasher, chunk.tolist() if isinstance(chunk, np.ndarray) else chunk)
        if hashed is not None:
            return hashed
    return _hash_bytes(hasher, encoder.many(chunk, argument, first))


def _chunks(batch: Iterable[Any]) -> Iterator[Any]:
    """Divide a batch into slices if it is an array or list, otherwise into lists."""
    size = CHUNK
    if isinstance(batch, (list, tuple)):
        if batch and type(batch[0]) in _TEXTS:
            size = _ids_to_join(batch)
        for start in range(0, len(batch), size):
            yield batch[start : start + size]
    elif isinstance(batch, (np.ndarray, Texts, Coded)):
        for start in range(0, len(batch), size):
            yield batch[start : start + size]
    else:
        iterator = iter(batch)
        while chunk := list(islice(iterator, size)):
            yield chunk


def _ids_to_join(batch: Sequence[Any]) -> int:
    """How many of these texts to join at a time, judging by the first few."""
    sample = [text for text in batch[:64] if type(text) in _TEXTS]
    size = sum(map(len, sample)) // len(sample) + 1
    return max(_SHORTEST_CHUNK, min(CHUNK, _JOINED_BYTES // size))


def _hash_list(hasher: Hasher, ids: Sequence[Any]) -> Hashes | None:
    """Hash a list; None if the ids are not all of one common type, or one is not valid."""
    kind = type(ids[0]) if ids else str
    try:
        if kind is str:
            return _hash_lines(hasher, ("\n".join(ids) + _END).encode(), len(ids))
        is_uniform = list(map(type, ids)).count(kind) == len(ids)
        if is_uniform and kind is bytes:
            return _hash_lines(hasher, b"\n".join(ids) + _END.encode(), len(ids))
        if is_uniform and kind is int:
            # Half the time of np.fromiter.
            return _hash_integers(hasher, np.frombuffer(struct.pack(f"{len(ids)}q", *ids), np.int64))
    except (TypeError, UnicodeEncodeError, struct.error):
        pass
    return None


def _hash_lines(hasher: Hasher, text: bytes, count: int) -> Hashes | None:
    """Hash ids joined by line ends, with SLACK bytes behind; None if one has a line end or is invalid."""
    buffer = np.frombuffer(text, np.uint8)
    ends = buffer == _SEPARATOR
    if np.count_nonzero(ends) != count:
        return None
    size = int(ends.argmax())
    if len(text) == count * (size + 1) + SLACK and ends[size :: size + 1].sum() == count:
        return hasher.equal(buffer, count, size, size + 1) if 0 < size <= MAX_ID_BYTES else None
    stops = _line_ends(ends, count)
    starts = np.empty_like(stops)
    starts[:1] = 0
    np.add(stops[:-1], 1, out=starts[1:])
    sizes = np.subtract(stops, starts, out=stops)
    return _hash_sizes(hasher, buffer, starts, sizes)


def _line_ends(ends: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """The positions of `count` line ends, in half the time of flatnonzero if no word of 8 bytes has two.

    The last bytes, which may not fill a word, are padding.
    """
    words = ends[: len(ends) // 8 * 8].view(np.uint64)
    positions = np.flatnonzero(words != 0)  # three times as fast for booleans as for words
    if len(positions) < count:
        return np.flatnonzero(ends)
    # A line end in byte k is a one bit with 8 k zero bits below it.
    below = np.bitwise_count(words[positions] - np.uint64(1))
    positions *= 8
    positions += below >> 3
    return positions


def _are_valid(sizes: Offsets) -> bool:
    """Whether no id is empty or too long."""
    return not len(sizes) or bool(0 < sizes.min() <= sizes.max() <= MAX_ID_BYTES)


def _hashes_of_texts(texts: Texts) -> Iterator[Hashes]:
    """The hashes of valid texts where they stand, chunk by chunk."""
    hasher = Hasher(min(CHUNK, len(texts)))
    for first in range(0, len(texts), _TEXTS_TOGETHER):
        some = texts[first : first + _TEXTS_TOGETHER].padded()
        distance = some.distance()
        for start in range(0, len(some), CHUNK):
            part = some[start : start + CHUNK]
            if distance:
                begin, size = int(part.starts[0]), int(part.sizes[0])
                yield hasher.equal(part.buffer[begin:], len(part), size, distance)
            else:
                yield hasher.ragged(part.buffer, part.starts, part.sizes)


def _hash_sizes(hasher: Hasher, buffer: NDArray[np.uint8], starts: Offsets, sizes: Offsets) -> Hashes | None:
    if not _are_valid(sizes):
        return None
    return hasher.ragged(buffer, starts, sizes)


def _hash_bytes(hasher: Hasher, encoded: Sequence[bytes]) -> Hashes:
    """Hash encoded ids, whatever they contain."""
    texts = Texts.of(encoded)
    return hasher.ragged(texts.buffer, texts.starts, texts.sizes)


def _hash_array(hasher: Hasher, ids: NDArray[Any]) -> Hashes | None:
    if ids.dtype.kind in "iu":
        return _hash_integers(hasher, ids)
    if not ids.dtype.itemsize:
        return None
    if ids.dtype.kind == "U":
        points = np.ascontiguousarray(ids, ids.dtype.newbyteorder("=")).view(np.uint32)
        if points.max(initial=0) > 127:
            return None
        ids = points.astype(np.uint8).view(f"S{ids.dtype.itemsize // 4}")
    return _hash_padded(hasher, np.ascontiguousarray(ids)) if ids.dtype.kind == "S" else None


def _hash_padded(hasher: Hasher, ids: NDArray[np.bytes_]) -> Hashes | None:
    """Hash numpy's byte strings, which are padded with zeros."""
    width = ids.dtype.itemsize
    buffer = ids.view(np.uint8)
    if buffer[width - 1 :: width].all() and width <= MAX_ID_BYTES:
        padded = buffer if width >= _WORD else np.concatenate([buffer, np.zeros(_WORD, np.uint8)])
        return hasher.equal(padded, len(ids), width, width)
    sizes = np.strings.str_len(ids).astype(np.int64)
    buffer = np.concatenate([buffer, np.zeros(SLACK, np.uint8)])
    return _hash_sizes(hasher, buffer, np.arange(0, len(buffer) - SLACK, width), sizes)


def _hash_integers(hasher: Hasher, numbers: NDArray[Any]) -> Hashes | None:
    """Hash integers; None if one is negative, as its text begins with a sign."""
    if numbers.dtype.kind == "i" and numbers.min(initial=0) < 0:
        return None
    return hasher.decimals(np.ascontiguousarray(numbers, np.uint64))
