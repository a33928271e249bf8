"""Columns and tables of other libraries, made of the same values."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from activity_tracker_hll.periods import Calendar

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")


def _polars():
    return pytest.importorskip("polars")


def _sliced(array):
    """In the middle of a longer array, with what is outside of it missing."""
    longer = pa.concat_arrays([pa.nulls(3, array.type), array, pa.nulls(5, array.type)])
    return longer.slice(3, len(array))


def _chunked(array):
    third = len(array) // 3
    return pa.chunked_array([array[:third], array[third:third], array[third:]], array.type)


COLUMNS = {
    "pyarrow": pa.array,
    "slice": lambda values: _sliced(pa.array(values)),
    "chunks": lambda values: _chunked(pa.array(values)),
    "dictionary": lambda values: pa.array(values).dictionary_encode(),
    "slice of a dictionary": lambda values: _sliced(pa.array(values).dictionary_encode()),
    "chunks of two dictionaries": lambda values: pa.chunked_array(
        [pa.array(values[:70]).dictionary_encode(), pa.array(values[70:]).dictionary_encode()]
    ),
    "runs": lambda values: pa.compute.run_end_encode(pa.array(values)),
    "pandas": pd.Series,
    "pandas, objects": lambda values: pd.Series(values, dtype=object),
    "pandas, categories": lambda values: pd.Series(values).astype("category"),
    "pandas, Arrow": lambda values: pd.Series(pd.array(values, pd.ArrowDtype(pa.array(values).type))),
    "pandas, index": pd.Index,
}
"""By library and layout, of any values."""

EXTENDED_COLUMNS = {
    "polars": lambda values: _polars().Series(values),
    "polars, slice": lambda values: _polars().Series([values[0], *values, values[0]])[1:-1],
}

TEXT_COLUMNS = {
    "large": lambda texts: pa.array(texts, pa.large_string()),
    "view": lambda texts: pa.array(texts, pa.string_view()),
    "binary": lambda texts: pa.array(texts, pa.binary()),
    "large binary": lambda texts: _sliced(pa.array(texts, pa.large_binary())),
    "pandas, StringArray": lambda texts: pd.array(texts, dtype="string[python]"),
    "pandas, str": lambda texts: pd.Series(texts, dtype="str"),
}

POLARS_TEXT = {
    "polars, categories": lambda texts: _polars().Series(texts, dtype=_polars().Categorical),
}

INTEGER_COLUMNS = {
    **{
        f"{sign}int{bits}": lambda numbers, name=f"{sign}int{bits}": _sliced(pa.array(numbers, name))
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "pandas, Int64": lambda numbers: pd.Series(numbers, dtype="Int64"),
    "pandas, UInt8": lambda numbers: pd.array(numbers, dtype="UInt8"),
}


def uuids(count):
    """So many of them."""
    return [UUID(int=number * 0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF1 % 2**128) for number in range(count)]


def table_of(events):
    """Events (id, bucket, time) as columns "user", "platform" and "at", with one that nobody asks for."""
    ids, buckets, times = zip(*events, strict=True)
    return pa.table(
        {
            "other": pa.array([{"a": 1}] * len(events)),
            "at": pa.array(times, pa.timestamp("us", times[0].tzinfo and "Europe/Berlin")),
            "user": pa.array(ids),
            "platform": pa.array(buckets),
        }
    )


NAMES = {"id_column": "user", "time_column": "at", "bucket_column": "platform"}


def _duckdb(table):
    duckdb = pytest.importorskip("duckdb")
    return duckdb.from_arrow(table, connection=duckdb.connect())


TABLES = {
    "pyarrow": lambda table: table,
    "reader": lambda table: table.to_reader(max_chunksize=700),
    "batch": lambda table: table.combine_chunks().to_batches()[0],
    "pandas": lambda table: table.to_pandas(),
    "pandas, Arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda table: _polars().from_arrow(table),
    "duckdb": _duckdb,
}
"""What can be imported as a table, made of one of pyarrow."""


def usual(count=1000):
    """A nullable integer as id, times with a zone, buckets in a dictionary; and the events in it."""
    ids = [None if number % 97 == 0 else 10**12 + number % 300 for number in range(count)]
    times = [datetime(2026, 1, 1, 22, tzinfo=UTC) + timedelta(minutes=number) for number in range(count)]
    buckets = ["web" if number % 3 else "app" for number in range(count)]
    table = pa.table(
        {
            "user_id": pa.array(ids, pa.int64()),
            "ts": pa.array(times, pa.timestamp("us", "Europe/Berlin")),
            "platform": pa.array(buckets).dictionary_encode(),
        }
    )
    berlin = Calendar("Europe/Berlin")
    events = [
        (id, bucket, berlin.moment(time, "time"))
        for id, bucket, time in zip(ids, buckets, times, strict=True)
        if id is not None
    ]
    return table, events


def write_example(path):
    """A file for the examples of the command line."""
    rows = {"user_id": ["ann"], "ts": [datetime(2026, 1, 2, tzinfo=UTC)], "platform": ["web"]}
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(rows), path)
