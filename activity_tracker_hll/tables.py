"""Columns and tables of other libraries, as this one takes ids, buckets and dates.

pandas is looked for among what was imported, and pyarrow is imported only for what needs it: without it,
columns of pandas are taken as numpy has them, and others as any iterable is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import zones
from .columns import Coded, EventColumns, Instants, times
from .errors import ArgumentTypeError, ArgumentValueError, MissingExtraError
from .keys import check_bucket
from .messages import plain_text, printable, shown, type_of

__all__ = ["ArrowStream", "TableLayout", "as_buckets", "as_dates", "as_ids", "is_column", "is_table"]

_ROWS_PER_STEP = 65_536


class ArrowStream(Protocol):
    """A table or a column that hands out its data as Arrow's: of polars, pyarrow, DuckDB, pandas..."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A capsule of a C stream."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Where the events of a table are.

    Attributes:
        id_column, time_column: names of columns.
        bucket_column: the column with the buckets; None = all events are in `bucket`.
        bucket: a bucket, or None for the unnamed one.
        zone: of times that have none; None = the tracker's.
    """

    id_column: str
    time_column: str
    bucket_column: str | None = None
    bucket: str | None = None
    zone: tzinfo | None = None

    @classmethod
    def of(
        cls,
        events: object,
        id_column: str | None,
        time_column: str | None,
        bucket_column: str | None,
        bucket: str | None,
        timezone: str | tzinfo | None,
    ) -> TableLayout | None:
        """As it was said; None where events are no table.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the argument.
        """
        columns = {"id_column": id_column, "time_column": time_column, "bucket_column": bucket_column}
        given = [*columns.items(), ("bucket", bucket), ("timezone", timezone)]
        if not is_table(events):
            for argument, value in given:
                if value is not None:
                    raise ArgumentTypeError(f"{argument} is for events in a table, got {type_of(events)}")
            return None
        names = {argument: plain_text(name) for argument, name in columns.items()}
        for argument, name in columns.items():
            if names[argument] is None and (name is not None or argument != "bucket_column"):
                raise ArgumentTypeError(
                    f"{argument} must be the name of one of its columns, got {shown(name)}"
                )
        if bucket_column is not None and bucket is not None:
            raise ArgumentValueError("bucket and bucket_column exclude each other")
        return cls(
            str(names["id_column"]),
            str(names["time_column"]),
            names["bucket_column"],
            check_bucket(bucket),
            zones.load(timezone),
        )

    @property
    def columns(self) -> list[str]:
        """The names of those that are read."""
        names = [self.id_column, self.time_column]
        return names if self.bucket_column is None else [*names, self.bucket_column]

    def events(self, table: Any) -> Iterator[EventColumns]:
        """The events of a table.

        Raises:
            MissingExtraError: the table needs pyarrow.
            ArgumentTypeError, ArgumentValueError: there is no such column, it is of another type, or a value
                is missing.
        """
        return self._of_frame(table) if _is_frame(table) else self._of_stream(table)

    def _of_frame(self, frame: Any) -> Iterator[EventColumns]:
        self._check(list(frame.columns))
        columns = [frame[name].array for name in self.columns]
        converters = [_Converter(_called(name)) for name in self.columns]
        for start in range(0, len(frame), _ROWS_PER_STEP):
            id, time, *bucket = (column[start : start + _ROWS_PER_STEP] for column in columns)
            yield EventColumns(
                converters[0].ids(id, start),
                converters[2].buckets(bucket[0], start) if bucket else self.bucket,
                converters[1].dates(time, start, self.zone),
            )

    def _of_stream(self, table: Any) -> Iterator[EventColumns]:
        from . import arrow  # noqa: PLC0415 (needs the extra)

        try:
            reader = arrow.stream_of(table)
        except Exception as error:
            raise ArgumentTypeError(f"events cannot be read as a table: {error}") from error
        with reader:  # what it holds is given back, whatever becomes of the import
            self._check(reader.schema.names)
            for name in self.columns if _is_of("polars", table, "DataFrame") else []:
                _refuse_objects(table[name], _called(name))
            readers = [arrow.ColumnReader(_called(name)) for name in self.columns]
            done = 0
            for batch in reader:
                arrays = [batch.column(reader.schema.get_field_index(name)) for name in self.columns]
                for start in range(0, len(batch), _ROWS_PER_STEP):
                    parts = [array.slice(start, _ROWS_PER_STEP) for array in arrays]
                    missing = [int(found[0]) if len(found := arrow.nulls(part)) else None for part in parts]
                    sound = min((place for place in missing if place is not None), default=len(parts[0]))
                    id, time, *bucket = (part.slice(0, sound) for part in parts)
                    yield EventColumns(
                        readers[0].ids(id),
                        readers[2].buckets(bucket[0]) if bucket else self.bucket,
                        readers[1].dates(time, self.zone, done),
                    )
                    if sound < len(parts[0]):
                        raise _missing(_called(self.columns[missing.index(sound)]), done + sound)
                    done += len(parts[0])

    def _check(self, names: list[Any]) -> None:
        for name in self.columns:
            if names.count(name) != 1:
                has = printable(", ".join(map(str, names)))
                raise ArgumentValueError(
                    f"events must have one column {shown(name)}, got {names.count(name)}; all columns: {has}"
                )


def is_table(values: object) -> bool:
    """Whether events are given as a table."""
    return _is_frame(values) or hasattr(type(values), "__arrow_c_stream__")


def is_column(values: object) -> bool:
    """Whether something is a column, of pandas or Arrow."""
    return _is_arrow(values) or _is_of_pandas(values, "Series", "Index", "api.extensions.ExtensionArray")


def _called(column: str) -> str:
    return f"events[{shown(column)}]"


def _missing(argument: str, place: int) -> ArgumentTypeError:
    return ArgumentTypeError(f"{argument}[{place}] is missing: leave out or fill what has no value")


def as_ids(values: Any, argument: str) -> Any:
    """The ids of a column of pandas or Arrow; anything else as it is.

    Raises:
        ArgumentTypeError: ids are of no such type, or one is missing.
    """
    return _Converter(argument).ids(values)


def as_buckets(values: Any, argument: str) -> Any:
    """The same for buckets."""
    return _Converter(argument).buckets(values)


def as_dates(values: Any, argument: str) -> Any:
    """The same for dates.

    Raises:
        ArgumentTypeError, ArgumentValueError: dates are of no such type, one is missing, or text is no time.
    """
    return _Converter(argument).dates(values)


class _Converter:
    """Converts a column of pandas or Arrow, or parts of one; what these have in common, once.

    Args:
        argument: what it is called, for errors.
    """

    def __init__(self, argument: str) -> None:
        self._argument = argument
        self._reader: Any = None
        self._categories: Any = None
        self._values: Any = None

    def ids(self, values: Any, first: int = 0) -> Any:
        """See :func:`as_ids`; `first` is the place of the first value."""
        return self._converted(values, first, self.ids, lambda reader, array: reader.ids(array))

    def buckets(self, values: Any, first: int = 0) -> Any:
        """See :func:`as_buckets`."""
        return self._converted(values, first, self.buckets, lambda reader, array: reader.buckets(array))

    def dates(self, values: Any, first: int = 0, zone: tzinfo | None = None) -> Any:
        """See :func:`as_dates`; `zone` is that of times that have none, None = the tracker's."""
        found = self._converted(
            _as_strings(values),
            first,
            lambda categories: _Converter(f"{self._argument}.cat.categories").dates(categories, 0, zone),
            lambda reader, array: reader.dates(array, zone, first),
        )
        if zone is None or not isinstance(found, np.ndarray):
            return found
        moments = times(found) if found.dtype.kind == "M" else found.tolist()
        if not isinstance(moments, np.ndarray):
            return [_in_zone(moment, zone) for moment in moments]
        is_of_days = np.datetime_data(moments.dtype)[0] in "YMWD"
        return moments if is_of_days else Instants.of_naive(moments, zone)

    def _converted(
        self, values: Any, first: int, again: Callable[[Any], Any], read: Callable[[Any, Any], Any]
    ) -> Any:
        """A column of pandas or Arrow; anything else as it is.

        Args:
            values: the column.
            first: the place of its first value, for errors.
            again: converts the categories that its values are of.
            read: makes a column of Arrow's array; called with an :class:`.arrow.ColumnReader` and that.
        """
        if not is_column(values):
            return values
        if _is_of_pandas(values, "MultiIndex"):
            raise ArgumentTypeError(f"{self._argument} must be one column, got a MultiIndex")
        _refuse_objects(values, self._argument)
        if _is_of_pandas(values, "Series", "Index"):
            values = values.array
        if _is_of_pandas(values, "arrays.Categorical"):
            return self._of_categories(values, first, again)
        if _is_of_pandas(values, "arrays.DatetimeArray"):
            # In UTC, if it has a zone.
            moments: NDArray[Any] = np.asarray(values, f"datetime64[{values.unit}]")
            return moments if values.tz is None else Instants(moments)
        if _is_of_pandas(values, "arrays.NumpyExtensionArray", "arrays.SparseArray"):
            return np.asarray(values)
        try:
            from . import arrow  # noqa: PLC0415 (needs an extra)
        except MissingExtraError:
            if not isinstance(values, Collection):
                raise
            objects = np.empty(len(values), object)
            objects[:] = list(values)
            return objects
        array = arrow.array_of(values, self._argument)
        missing = arrow.nulls(array)
        if len(missing):
            raise _missing(self._argument, first + int(missing[0]))
        self._reader = self._reader or arrow.ColumnReader(self._argument)
        return read(self._reader, array)

    def _of_categories(self, values: Any, first: int, convert: Callable[[Any], Any]) -> Coded:
        codes = np.asarray(values.codes)
        if len(codes) and codes.min() < 0:
            raise _missing(self._argument, first + int((codes < 0).argmax()))
        if values.categories is not self._categories:
            # Few, and no part of the column: each as it is looked up.
            found = convert(values.categories)
            self._values = found.tolist() if isinstance(found, Coded) else found
            self._categories = values.categories
        return Coded(self._values, codes)


def _in_zone(moment: Any, zone: tzinfo) -> Any:
    is_naive = isinstance(moment, datetime) and moment.tzinfo is None
    return moment.replace(tzinfo=zone) if is_naive else moment


def _as_strings(values: Any) -> Any:
    """A column of pandas' objects all of which are text as a column of text, which can be read as times."""
    if _is_of_pandas(values, "Series", "Index") and not _is_of_pandas(values, "MultiIndex"):
        values = values.array
    if not _is_of_pandas(values, "arrays.NumpyExtensionArray"):
        return values
    pandas = sys.modules["pandas"]
    if pandas.api.types.infer_dtype(np.asarray(values), skipna=False) != "string":
        return values
    try:
        return pandas.array(values, "string[pyarrow]")
    except ImportError:
        return values


def _is_frame(values: object) -> bool:
    return _is_of_pandas(values, "DataFrame")


def _is_of_pandas(values: object, *names: str) -> bool:
    return _is_of("pandas", values, *names)


def _is_of(library: str, values: object, *names: str) -> bool:
    """Whether something is of one of a library's classes; nobody has one who has not imported it."""
    module = sys.modules.get(library)
    if module is None:
        return False
    try:
        return isinstance(values, tuple(attrgetter(name)(module) for name in names))
    except AttributeError:  # another thread is importing it just now
        return False


def _refuse_objects(values: Any, argument: str) -> None:
    """Refuse what polars hands out as the places of objects in memory.

    Raises:
        ArgumentTypeError: it is a series of such.
    """
    if _is_of("polars", values, "Series") and values.dtype == sys.modules["polars"].Object:
        raise ArgumentTypeError(
            f"{argument} must have a type of polars, got Object, which UUIDs become, too:"
            " make text of it, as by pl.Series(map(str, column))"
        )


def _is_arrow(values: object) -> bool:
    return any(hasattr(type(values), name) for name in ("__arrow_c_array__", "__arrow_c_stream__"))
