"""Rows of Parquet and Arrow IPC files to columns of events. Knows no server and no click. Needs ``arrow``.

What is read of a file at a time is in :mod:`.table_files`. A row that is not a valid event is
recorded as bad, and reading goes on, as with lines; a column of a type that ids, buckets or times never have
is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import zones
from ..columns import PER_SECOND, Coded, EventColumns, Instants, Texts, as_python
from ..errors import ActivityTrackerError, ArgumentTypeError, MissingExtraError
from ..ids import MAX_ID_BYTES, encode
from ..keys import check_bucket
from ..periods import Calendar
from .addresses import address, is_address_field
from .delimited import text_of
from .layout import Layout, LayoutError, TimeFormatError
from .lines import Rejected, escape_unprintable
from .timestamps import EPOCH_UNITS, BadTimestampError, timestamp_parser

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise MissingExtraError(
        "Parquet and Arrow files need pyarrow, of the extra 'arrow':"
        " pip install 'activity-tracker-hll[arrow]'"
    ) from error

from ..arrow import ColumnReader, as_integers, is_text, is_whole, listed, nulls
from .table_files import ROWS, ahead, find_column, opened

__all__ = ["read"]

_MISFITS = 1000
_UNITS = {per_second: unit for unit, per_second in PER_SECOND.items()}
# Whatever the zone, what lies between is in years that a calendar has. Other times are looked at one by one.
_FIRST, _LAST = np.datetime64("1000-01-02"), np.datetime64("9998-12-30")

Reasons = dict[int, str]
"""What is wrong with a row, by its place."""


def read(
    path: str,
    layout: Layout,
    calendar: Calendar,
    rejected: Rejected,
    on_read: Callable[[int], object],
    *,
    hourly: bool,
) -> Iterator[EventColumns]:
    """See :func:`.tables.read_table`."""
    _check(layout)
    fields = [*layout.ids("id"), *filter(None, [layout.bucket_field]), *layout.times(("time",))]
    rows = _Rows(path, layout, calendar, rejected, hourly=hourly)
    done = 0
    try:
        with opened(path) as (schema, batches):
            columns = [find_column(field, schema) for field in fields]
            with closing(ahead(batches(columns))) as decoded:
                for batch, end in decoded:
                    arrays = [column.array(batch) for column in columns]
                    for start in range(0, len(batch), ROWS):
                        yield rows.events([array.slice(start, ROWS) for array in arrays])
                    on_read(end - done)
                    done = end
    except pa.ArrowNotImplementedError as error:
        raise LayoutError(f"pyarrow cannot read this file ({escape_unprintable(str(error))})") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise LayoutError(f"the file is damaged or cut short ({escape_unprintable(str(error))})") from error
    except UnicodeDecodeError as error:
        raise LayoutError("the file is damaged: the name of a column is not in UTF-8") from error
    rows.finish()


def _check(layout: Layout) -> None:
    """Refuse what is for text: rows and columns are better chosen by what writes tables."""
    asked = {
        "several id fields": len(layout.ids("id")) > 1,
        "several time fields": len(layout.times(("time",))) > 1,
        "id_fallback": layout.id_fallback,
        "null": layout.nulls,
        "filters": layout.filters,
    }
    for what, value in asked.items():
        if value:
            raise LayoutError(f"{what}: not for tables, only for text and JSON")


class _Rows:
    """Makes events of rows, without those that are none."""

    def __init__(
        self, name: str, layout: Layout, calendar: Calendar, rejected: Rejected, *, hourly: bool
    ) -> None:
        check_bucket(layout.bucket)
        self._name = name
        self._layout = layout
        self._calendar = calendar
        self._rejected = rejected
        self._hourly = hourly
        self._parse_time = timestamp_parser(layout.time_format, calendar, hourly=hourly, zone=layout.timezone)
        self._zone = zones.load(layout.timezone)
        self._ids, self._buckets, self._times = map(ColumnReader, ("ids", "buckets", "times"))
        self._names: Any = None
        self._known_names = 0
        self._bad_names: Reasons = {}
        self._rows = 0
        self._fits = False
        self._misfits = 0
        self._misfit = ""

    def events(self, arrays: list[Any]) -> EventColumns:
        """The events of arrays of ids, of buckets if the layout says so, and of times."""
        count = len(arrays[0])
        reasons: Reasons = {}
        for what, array in zip(
            ("id", "time") if len(arrays) == 2 else ("id", "bucket", "time"), arrays, strict=True
        ):
            reasons |= dict.fromkeys(nulls(array).tolist(), f"{what} is missing")
        rows: Any = range(count)
        if reasons:
            rows = np.delete(np.arange(count), list(reasons))
            places = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)])
            arrays = [array.take(places) for array in arrays]
        try:
            ids, no_address = self._addresses(self._ids.ids(arrays[0]))
            buckets: Any = self._layout.bucket
            if len(arrays) == 3:
                buckets = self._buckets.buckets(_as_text(arrays[1]))
            dates, bad_times = self._dates(arrays[-1])
        except ArgumentTypeError as error:
            raise LayoutError(str(error)) from error
        bad_ids = {**_bad_ids(ids), **no_address}
        bad = {**self._bad_buckets(buckets), **bad_times, **bad_ids} if len(ids) else {}
        self._note_misfits(bad_times, len(ids))
        for place, reason in bad.items():
            reasons[int(rows[place])] = reason
        for row in sorted(reasons):
            self._rejected.add(self._name, self._rows + row + 1, reasons[row], "row")
        self._rows += count
        if not bad:
            return EventColumns(ids, buckets, dates)
        sound = np.delete(np.arange(len(ids)), list(bad))
        return EventColumns(
            ids[sound], buckets[sound] if isinstance(buckets, Coded) else buckets, dates[sound]
        )

    def finish(self) -> None:
        """Note that there are no more rows.

        Raises:
            TimeFormatError: no time had the format.
        """
        if self._misfit and not self._fits:
            raise TimeFormatError(f"no time has the format {self._layout.time_format!r}; {self._misfit}")

    def _addresses(self, ids: Any) -> tuple[Any, Reasons]:
        """The address in each id where the field holds some, and rows that have none."""
        [field] = self._layout.ids("id")
        texts, codes = (ids.values, ids.codes) if isinstance(ids, Coded) else (ids, None)
        if not isinstance(texts, Texts) or not is_address_field(field):
            return ids, {}
        if codes is not None:  # a dictionary may be that of the whole file
            used, codes = np.unique(codes, return_inverse=True)
            texts = texts[used]
        listed = texts.tolist()
        found = {text: address(field, text_of(text), self._layout.address) for text in set(listed)}
        bare = [found[text] for text in listed]
        reasons = {place: f"no {field}" for place, text in enumerate(bare) if text is None}
        values = Texts.of([(text or "").encode("utf-8", "surrogateescape") for text in bare])
        return (values, reasons) if codes is None else (Coded(values, codes), _by_code(codes, reasons))

    def _bad_buckets(self, buckets: Any) -> Reasons:
        if not isinstance(buckets, Coded):
            return {}
        # Names may have been added to those that were seen.
        if buckets.values is not self._names or len(buckets.values) > self._known_names:
            self._names, self._known_names = buckets.values, len(buckets.values)
            self._bad_names = _reasons(buckets.values, check_bucket)
        return _by_code(buckets.codes, self._bad_names)

    def _note_misfits(self, bad_times: Reasons, count: int) -> None:
        self._fits = self._fits or count > len(bad_times)
        self._misfits += len(bad_times)
        if bad_times and not self._misfit:
            self._misfit = f"one, for example: {next(iter(bad_times.values()))}"
        if self._misfits >= _MISFITS:
            self.finish()

    def _dates(self, array: Any) -> tuple[Any, Reasons]:
        """Times, and what is wrong with some."""
        array = as_integers(array)
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        if pa.types.is_date(kind) and self._hourly:
            raise TimeFormatError("times are dates without a time of day, which hourly periods need")
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return self._in_range(self._times.dates(array, self._zone))
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_text(kind):
            fast = self._fast_dates(array, kind)
            return self._parsed(array) if fast is None else fast
        raise TimeFormatError(f"times must be timestamps, dates, text or numbers, got {kind}")

    def _fast_dates(self, array: Any, kind: Any) -> tuple[Any, Reasons] | None:
        """The same for a column all of which is plain; None if it may not be."""
        format = self._layout.time_format
        if pa.types.is_integer(kind) and format in EPOCH_UNITS and len(array):
            extremes = pc.min_max(array).as_py()
            try:
                for value in extremes.values():
                    self._parse_time(value)
            except (BadTimestampError, ActivityTrackerError):
                return None
            moments = array.cast(pa.int64()).to_numpy().view(f"datetime64[{_UNITS[EPOCH_UNITS[format]]}]")
            return Instants(moments), {}
        if is_text(kind) and format == "iso":
            try:
                dates = self._times.dates(array, self._zone)
            except ActivityTrackerError:
                return None
            is_day = isinstance(dates, np.ndarray) and dates.dtype == "datetime64[D]"
            return None if is_day and self._hourly else self._in_range(dates)
        return None

    def _in_range(self, dates: Any) -> tuple[Any, Reasons]:
        """Times, and which of them are in years that a calendar does not have."""
        moments = dates.moments if isinstance(dates, Instants) else dates
        numbers = moments.view(np.int64)  # what is no time is the least
        if not len(numbers) or not _are_odd(moments[[numbers.argmin(), numbers.argmax()]]).any():
            return dates, {}
        odd = np.flatnonzero(_are_odd(moments))
        values = dates[odd].tolist() if isinstance(dates, Instants) else as_python(dates[odd])
        bad: Reasons = {}
        for place, value in zip(odd.tolist(), values, strict=True):
            try:
                self._calendar.moment(value, "time")
            except ActivityTrackerError as error:
                bad[place] = str(error)
        return dates, bad

    def _parsed(self, array: Any) -> tuple[Coded, Reasons]:
        """Times that the layout's format is of; each is parsed once."""
        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        codes = encoded.indices.to_numpy()
        dictionary = encoded.dictionary
        values, reasons = listed(dictionary) if is_text(dictionary.type) else dictionary.to_pylist(), {}
        for code in np.unique(codes).tolist():
            try:
                values[code] = self._parse_time(values[code])
            except (BadTimestampError, ActivityTrackerError) as error:
                reasons[code] = str(error)
        return Coded(values, codes), _by_code(codes, reasons)


def _are_odd(moments: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Which are no times, or in years that a calendar may not have."""
    is_odd = np.isnat(moments)
    # Nanoseconds reach no further, and numpy cannot compare them with what does.
    return is_odd if moments.dtype == "datetime64[ns]" else is_odd | (moments < _FIRST) | (moments > _LAST)


def _as_text(buckets: Any) -> Any:
    """Buckets that are numbers are counted by their text, as in other files."""
    if pa.types.is_dictionary(buckets.type):
        return pa.DictionaryArray.from_arrays(buckets.indices, _as_text(buckets.dictionary))
    return buckets.cast(pa.string()) if is_whole(buckets.type) else buckets


def _bad_ids(ids: Texts | Coded | NDArray[Any]) -> Reasons:
    if isinstance(ids, Texts):
        if ids.sizes.min(initial=1) > 0 and ids.sizes.max(initial=1) <= MAX_ID_BYTES:
            return {}
        odd = np.flatnonzero((ids.sizes == 0) | (ids.sizes > MAX_ID_BYTES))
        return {
            place: _reason(encode, ids[[place]].tolist()[0]) for place in odd.tolist()
        }  # they may be long
    if isinstance(ids, Coded) and isinstance(ids.values, Texts):
        return _by_code(ids.codes, _bad_ids(ids.values))
    return {}


def _reasons(values: Iterable[Any], check: Callable[[Any], object]) -> Reasons:
    """What is wrong with some values, by their places."""
    found = {place: _reason(check, value) for place, value in enumerate(values)}
    return {place: reason for place, reason in found.items() if reason}


def _reason(check: Callable[[Any], object], value: Any) -> str:
    try:
        check(value)
    except ActivityTrackerError as error:
        return str(error)
    return ""


def _by_code(codes: NDArray[Any], reasons: Mapping[int, str]) -> Reasons:
    """What is wrong with rows, of what is wrong with their values."""
    if not reasons:
        return {}
    odd = np.flatnonzero(np.isin(codes, list(reasons)))
    return {place: reasons[code] for place, code in zip(odd.tolist(), codes[odd].tolist(), strict=True)}
