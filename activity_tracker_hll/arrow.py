"""Arrow's arrays as columns of ids, buckets and times, without an object for each value. Needs ``arrow``.

Values stay in Arrow's buffers where they can be hashed there. Nothing is guessed: a type that could stand for
several things is refused by an error that says what is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import tzinfo
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coder import Coder, words_of
from .columns import Coded, Instants, Texts
from .errors import ArgumentTypeError, ArgumentValueError, MissingExtraError
from .messages import WHY_FLOATS, shown

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise MissingExtraError(
        "tables and Arrow's columns, also those of polars and DuckDB, need pyarrow, of the extra 'arrow':"
        " pip install 'activity-tracker-hll[arrow]'"
    ) from error

__all__ = [
    "ColumnReader",
    "array_of",
    "as_integers",
    "check",
    "is_text",
    "is_whole",
    "listed",
    "nulls",
    "stream_of",
]

Array = Any
"""A pyarrow.Array."""

_DATE_LENGTH = len("2026-01-31")
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)
_VIEW_BYTES = 16
_LONGEST_VIEWED = 12
_HALF = np.uint64(32)  # bits of a word
_MOST_NAMES = 1024
_FEW = 1024
_UUID_BYTES = 16
_UUID_PARTS = ((0, 4, 0), (4, 6, 9), (6, 8, 14), (8, 10, 19), (10, 16, 24))  # from, to, place in the text
_UUID_LENGTH = 36


def stream_of(table: Any) -> Any:
    """A pyarrow.RecordBatchReader of what has ``__arrow_c_stream__``."""
    return pa.RecordBatchReader.from_stream(table)


def array_of(column: Any, argument: str) -> Array:
    """One array of a column with ``__arrow_c_array__``, ``__arrow_c_stream__`` or ``__arrow_array__``.

    Raises:
        ArgumentTypeError: it is a table, or nothing that Arrow has.
    """
    try:
        array = _array_of(column)
    except Exception as error:  # of Arrow, or of who made the column
        raise ArgumentTypeError(f"{argument} cannot be read as a column: {shown(str(error))}") from error
    if pa.types.is_struct(array.type):
        raise ArgumentTypeError(f"{argument} must be one column, got {type(column).__name__} of {array.type}")
    return _in_one_chunk(array) if isinstance(array, pa.ChunkedArray) else array


def _array_of(column: Any) -> Any:
    """An array, in one chunk or several."""
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    is_array = hasattr(column, "__arrow_c_array__") or hasattr(column, "__arrow_array__")
    return pa.array(column) if is_array and not hasattr(column, "schema") else pa.chunked_array(column)


def _in_one_chunk(chunked: Any) -> Array:
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.unify_dictionaries()
    elif chunked.type in (pa.string(), pa.binary()):  # the offsets of which may not reach as far as all do
        chunked = chunked.cast(pa.large_string() if chunked.type == pa.string() else pa.large_binary())
    return chunked.combine_chunks()


def nulls(array: Array) -> NDArray[np.int64]:
    """The places of values that are missing."""
    # Of dictionaries and runs a value may be what is missing. Arrow before 26 does not see that, or fails.
    if pa.types.is_dictionary(array.type):
        none, missing = nulls(array.indices), nulls(array.dictionary)
        if not len(missing):
            return none
        codes = _numbers(array.indices).copy()
        codes[none] = missing[0]  # any number may stand there
        return np.flatnonzero(_at(missing, len(array.dictionary)).take(codes))
    if pa.types.is_run_end_encoded(array.type):
        missing = nulls(array.values)
        if not len(missing):
            return missing
        return np.flatnonzero(_at(missing, len(array.values)).take(_numbers(_runs(array))))
    if not array.null_count:
        return np.empty(0, np.int64)
    mask = array.is_null()
    bits = np.unpackbits(np.frombuffer(mask.buffers()[1], np.uint8), bitorder="little")
    return np.flatnonzero(bits[mask.offset : mask.offset + len(mask)])


def _at(places: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Whether each of so many places is one of these."""
    flags = np.zeros(count, np.bool_)
    flags[places] = True
    return flags


def _runs(array: Array) -> Array:
    """Of each value of a run-end encoded array, the place in its values."""
    runs = pa.RunEndEncodedArray.from_arrays(array.run_ends, pa.array(range(len(array.values))))
    return pc.run_end_decode(runs.slice(array.offset, len(array)))


def _plain(array: Array) -> Array:
    """The same values in a layout that is one of those below."""
    kind = array.type
    if pa.types.is_run_end_encoded(kind):
        return _plain(array.values).take(_runs(array))
    if pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return array.cast(pa.large_binary())
    return array


def is_whole(kind: Any) -> bool:
    """Whether values of a type are integers, also as the decimals that warehouses export them as."""
    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))


def as_integers(array: Array) -> Array:
    """Decimals that are whole as integers, or as the text of these if one has too many digits."""
    if pa.types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(array.indices, as_integers(array.dictionary))
    if not pa.types.is_decimal(array.type) or not is_whole(array.type):
        return array
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid:
        return array.cast(pa.string())


class ColumnReader:
    """Reads the arrays of a column, without missing values; a dictionary that they share is read once.

    Args:
        argument: what the column is called, for errors.
    """

    def __init__(self, argument: str) -> None:
        self._argument = argument
        self._dictionary: Array = None
        self._values: Any = None
        self._names: _Names | None = None

    def ids(self, array: Array) -> Texts | Coded | NDArray[Any]:
        """The ids of an array.

        Raises:
            ArgumentTypeError: ids are of no such type.
        """
        array = _plain(array)
        if pa.types.is_dictionary(array.type):
            return self._coded(array, self._ids)
        return self._ids(array)

    def _ids(self, array: Array) -> Texts | NDArray[Any]:
        array = as_integers(array)
        kind = array.type
        if pa.types.is_integer(kind):
            return _numbers(array)
        if is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return _texts(array)
        if pa.types.is_fixed_size_binary(kind):
            return _equal_texts(_fixed_size(array))
        if isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid":
            return _equal_texts(_texts_of_uuids(_fixed_size(array.storage)))
        raise ArgumentTypeError(
            f"{self._argument} must be text, bytes, integers or UUIDs, got {kind}"
            f"{WHY_FLOATS if pa.types.is_floating(kind) else ''}"
        )

    def buckets(self, array: Array) -> Coded:
        """The buckets of an array.

        Raises:
            ArgumentTypeError: buckets are of no such type.
        """
        if not is_text(array.type):
            array = _plain(array)
        if pa.types.is_dictionary(array.type):
            return self._coded(array, self._listed)
        self._check_text(array.type)
        self._names = self._names or _Names()
        return self._names.coded(array)

    def _listed(self, array: Array) -> list[Any]:
        self._check_text(array.type)
        return listed(array)

    def _check_text(self, kind: Any) -> None:
        if not is_text(kind):
            raise ArgumentTypeError(f"{self._argument} must be text, got {kind}")

    def _coded(self, array: Array, read: Callable[[Array], Any]) -> Coded:
        dictionary = array.dictionary
        if self._dictionary is None or not _is_same(dictionary, self._dictionary):
            self._values = read(_plain(dictionary))
            self._dictionary = dictionary  # kept, so that nothing else comes to lie where it does
        return Coded(self._values, _numbers(array.indices))

    def dates(self, array: Array, zone: tzinfo | None, first: int = 0) -> Instants | NDArray[np.datetime64]:
        """The times of an array: as instants, where the column or the caller has a zone.

        Args:
            array: timestamps, dates, or text that has the form of ISO 8601.
            zone: of times without one; None = the tracker's.
            first: the place of the first one, for errors.

        Raises:
            ArgumentTypeError, ArgumentValueError: times are of no such type, or text is no time, or it is not
                certain which one.
        """
        array = _plain(array)
        if pa.types.is_dictionary(array.type) and is_text(array.type.value_type):
            # Text may be long, and stand for all.
            used, begins, codes = np.unique(_numbers(array.indices), return_index=True, return_inverse=True)
            texts = _plain(array.dictionary).take(pa.array(used))
            array = _parsed(texts, self._argument, first + begins).take(pa.array(codes))
        elif pa.types.is_dictionary(array.type):
            array = _plain(array.dictionary_decode())
        if is_text(array.type):
            array = _parsed(array, self._argument, range(first, first + len(array)))
        kind = array.type
        if pa.types.is_date32(kind):
            return _numbers(array.view(pa.int32())).astype("datetime64[D]")
        if pa.types.is_date64(kind):
            return _numbers(array.view(pa.int64())).view("datetime64[ms]").astype("datetime64[D]")
        if not pa.types.is_timestamp(kind):
            raise ArgumentTypeError(
                f"{self._argument} must be timestamps, dates or ISO 8601 text, got {kind}"
            )
        moments = _numbers(array.view(pa.int64())).view(f"datetime64[{kind.unit}]")
        if kind.tz is not None:
            return Instants(moments)
        return moments if zone is None else Instants.of_naive(moments, zone)


class _Names:
    """Encodes texts that repeat, in a fraction of the time that Arrow takes where they are few and short."""

    def __init__(self) -> None:
        self._coder = Coder(lambda text: text)
        self._are_few: bool | None = None

    def coded(self, array: Array) -> Coded:
        """The texts of an array, none of which is missing. To what is handed out, more may be added."""
        if self._are_few and len(array):
            if (codes := self._codes(array)) is not None and len(self._coder.values) <= _MOST_NAMES:
                return Coded(self._coder.values, codes)
            self._are_few = False
        encoded = _plain(array).dictionary_encode()
        if self._are_few is None and len(array):
            self._are_few = len(encoded.dictionary) <= _MOST_NAMES
        return Coded(listed(encoded.dictionary), _numbers(encoded.indices))

    def _codes(self, array: Array) -> NDArray[np.int64] | None:
        """The codes of texts; None if one is long."""
        if pa.types.is_string_view(array.type):
            views = _words_of_views(array)
            if views is None:
                return None
            return self._coder.codes_of_words(
                *views, lambda places: listed(_plain(array).take(pa.array(places)))
            )
        texts = _texts(array)
        words = words_of(texts)
        if words is None:
            return None
        return self._coder.codes_of_words(
            words, texts.sizes, lambda places: list(map(_decoded, texts[places].tolist()))
        )


def _words_of_views(array: Array) -> tuple[list[NDArray[np.uint64]], NDArray[np.int32]] | None:
    """The words and the sizes of texts; None if one is too long to be in its view.

    Source: https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
    """
    views = _in_buffer(array, f"V{_VIEW_BYTES}", len(array))  # of each text 4 bytes of size, and itself
    first, second = views.view("<u8").reshape(-1, 2).T
    sizes = views.view("<i4")[:: _VIEW_BYTES // 4]
    longest = sizes.max()
    if longest > _LONGEST_VIEWED:
        return None
    words = [first >> _HALF | second << _HALF]
    return ([*words, second >> _HALF] if longest > 8 else words), sizes


def listed(texts: Array) -> list[Any]:
    """Texts as objects; what is not in UTF-8, which Arrow does not look at, as os.fsdecode() has it."""
    return [None if text is None else _decoded(text) for text in _as_bytes(_plain(texts)).to_pylist()]


def _as_bytes(texts: Array) -> Array:
    """The same bytes as no text, so that nothing asks whether they are UTF-8."""
    if pa.types.is_string_view(texts.type):
        return texts.view(pa.binary_view())
    return texts.view(pa.large_binary() if pa.types.is_large_string(texts.type) else pa.binary())


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def check(array: Array, checked: Array = None) -> None:
    """Look at what nobody vouches for: that offsets and indices lead to where there is something.

    Args:
        array: of any type.
        checked: a dictionary that was looked at before.

    Raises:
        pyarrow.ArrowInvalid: they do not.
    """
    if pa.types.is_dictionary(array.type):
        if checked is None or not _lies_where(array.dictionary, checked):
            check(array.dictionary)
        found = pc.min_max(array.indices).as_py()
        if found["max"] is not None and not 0 <= found["min"] <= found["max"] < len(array.dictionary):
            raise pa.ArrowInvalid("an index leads to no value of the dictionary")
        return
    (_as_bytes(array) if is_text(array.type) else array).validate(full=True)


def _is_same(dictionary: Array, other: Array) -> bool:
    """Whether two dictionaries lie in the same memory, or are equal and have few values."""
    if dictionary.type != other.type or len(dictionary) != len(other):
        return False
    if len(dictionary) <= _FEW:
        return bool(dictionary.equals(other))
    return _lies_where(dictionary, other)


def _lies_where(array: Array, other: Array) -> bool:
    same = len(array) == len(other) and array.offset == other.offset
    return same and _addresses(array) == _addresses(other)


def _addresses(array: Array) -> list[tuple[int, int] | None]:
    return [None if buffer is None else (buffer.address, buffer.size) for buffer in array.buffers()]


def is_text(kind: Any) -> bool:
    """Whether values of a type are text, in any layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _offset_type(array: Array) -> np.dtype[Any]:
    """The type of the offsets of an array of texts that are no views."""
    return np.dtype(np.int64 if array.type in (pa.large_string(), pa.large_binary()) else np.int32)


def _texts(array: Array) -> Texts:
    ends: NDArray[Any] = np.empty(0, np.int64)
    if len(array):
        ends = _in_buffer(array, _offset_type(array), len(array) + 1)
    data = array.buffers()[2]
    buffer = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return Texts(buffer, ends[:-1], np.diff(ends), adjoin=True)


def _fixed_size(array: Array) -> NDArray[np.uint8]:
    """Shape (values, bytes of each)."""
    width = array.type.byte_width
    if not width:
        return np.empty((len(array), width), np.uint8)
    return _in_buffer(array, f"V{width}", len(array)).view(np.uint8).reshape(-1, width)


def _equal_texts(bytes_of_each: NDArray[np.uint8]) -> Texts:
    count, size = bytes_of_each.shape
    return Texts(bytes_of_each.reshape(-1), np.arange(count) * size, np.full(count, size), adjoin=True)


def _texts_of_uuids(uuids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As ``str()`` writes them."""
    texts = np.full((len(uuids), _UUID_LENGTH), ord("-"), np.uint8)
    for start, end, place in _UUID_PARTS:
        texts[:, place : place + 2 * (end - start)] = _HEX[uuids[:, start:end]].view(np.uint8)
    return texts


def _numbers(array: Array) -> NDArray[Any]:
    """The integers of an array. Its type's to_pandas_dtype() would import pandas before Arrow 20."""
    return _in_buffer(array, str(array.type), len(array))


def _in_buffer(array: Array, kind: Any, count: int) -> NDArray[Any]:
    """What lies in an array's buffer of data. Arrow's to_numpy() would import pandas, which takes long."""
    kind = np.dtype(kind)
    if not count:  # then there need not be a buffer
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, count, array.offset * kind.itemsize)


def _parsed(array: Array, argument: str, places: Sequence[int] | NDArray[np.int64]) -> Array:
    """Dates or timestamps of text, all with offsets from UTC or all without; its places are for errors."""
    lengths = pc.min_max(pc.binary_length(array)).as_py()
    if lengths["max"] == _DATE_LENGTH == lengths["min"]:
        kinds = [pa.date32()]
    elif lengths["min"] is not None and lengths["min"] <= _DATE_LENGTH < lengths["max"]:
        short = pc.index(pc.less_equal(pc.binary_length(array), _DATE_LENGTH), value=True).as_py()
        text = shown(listed(array.slice(short, 1))[0])
        raise ArgumentValueError(
            f"{argument} must be all dates or all times, got {text} at [{places[short]}] among longer ones"
        )
    else:
        kinds = [pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in (None, "UTC")]
    for kind in kinds:
        with suppress(pa.ArrowInvalid):
            return array.cast(kind)
    bad = max(_first_bad(array, kind) for kind in kinds)
    raise ArgumentValueError(
        f"{argument} must be text of the form 2026-01-31T23:59:59, all with an offset from UTC or all"
        f" without, got {shown(listed(array.slice(bad, 1))[0])} at [{places[bad]}]"
    )


def _first_bad(array: Array, kind: Any) -> int:
    """The place of the first text that cannot be cast, where one cannot."""
    sound, bad = 0, len(array) - 1  # what is before the one can be cast, and what is up to the other cannot
    while sound < bad:
        middle = (sound + bad) // 2
        try:
            array.slice(sound, middle + 1 - sound).cast(kind)
            sound = middle + 1
        except pa.ArrowInvalid:
            bad = middle
    return sound
