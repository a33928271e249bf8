"""Columns and tables of other libraries: the ids, buckets and times in them, against the same as objects."""

import asyncio
import subprocess
import sys
import textwrap
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from zoneinfo import ZoneInfo

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from activity_tracker_hll import ArgumentTypeError, ArgumentValueError, HyperLogLog
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.arrow import ColumnReader
from activity_tracker_hll.columns import Coded, Instants
from activity_tracker_hll.ids import IdEncoder
from activity_tracker_hll.operations.tracking.batches import batches
from activity_tracker_hll.operations.tracking.events import Ids
from activity_tracker_hll.periods import Calendar
from activity_tracker_hll.tables import TableLayout
from helpers.servers import sketches_on
from helpers.tables import (
    COLUMNS,
    EXTENDED_COLUMNS,
    INTEGER_COLUMNS,
    NAMES,
    POLARS_TEXT,
    TABLES,
    TEXT_COLUMNS,
    pa,
    pd,
    table_of,
    uuids,
)

NAIVE = [datetime(2026, 1, 1, 23, 30), datetime(2026, 1, 2, 4)]
IDS = {
    "text of one length": [f"user-{number % 90:03}" for number in range(200)],
    "text": ["é" * (number % 40 + 1) + str(number) for number in range(200)],
    "bytes": [b"\xff\0" * (number % 20 + 1) for number in range(200)],
    "integers": [number * 10**15 for number in range(200)],
}
MADE = [
    pytest.param(
        make, values, marks=[pytest.mark.extended] if name in EXTENDED_COLUMNS else [], id=f"{name}-{kind}"
    )
    for name, make in {**COLUMNS, **EXTENDED_COLUMNS}.items()
    for kind, values in IDS.items()
] + [
    pytest.param(
        make, values, marks=[pytest.mark.extended] if name in POLARS_TEXT else [], id=f"{name}-{kind}"
    )
    for name, make in {**TEXT_COLUMNS, **POLARS_TEXT}.items()
    for kind, values in list(IDS.items())[:2]
]


@pytest.mark.parametrize("secret", [None, "hush"])
@pytest.mark.parametrize(("make", "values"), MADE)
def test_a_column_has_the_ids_that_its_values_are(make, values, secret):
    assert HyperLogLog(make(values), secret=secret) == HyperLogLog(values, secret=secret)


@pytest.mark.parametrize("make", INTEGER_COLUMNS.values(), ids=INTEGER_COLUMNS.keys())
def test_integers_of_any_width_are_their_digits(make):
    values = [*range(0, 127, 2)] * 3
    assert HyperLogLog(make(values)) == HyperLogLog(map(str, values))


def test_negative_integers_are_their_digits():
    assert HyperLogLog(pa.array([-1, 7, -(2**63)])) == HyperLogLog(["-1", "7", str(-(2**63))])


@pytest.mark.parametrize("kind", [pa.decimal128(18, 0), pa.decimal128(38, 0), pa.decimal256(70, 0)], ids=str)
def test_decimals_without_fractions_are_their_digits(kind):
    values = [0, -1, 7, 10 ** (kind.precision - 1)]
    assert HyperLogLog(pa.array(values, kind)) == HyperLogLog(map(str, values))
    assert HyperLogLog(pa.array(values, kind).dictionary_encode()) == HyperLogLog(values)


def test_uuids_are_their_text():
    values = uuids(200)
    column = pa.array([value.bytes for value in values], pa.uuid())
    assert HyperLogLog(column) == HyperLogLog(column.slice(0, 200)) == HyperLogLog(values)
    assert HyperLogLog(column.slice(7, 100)) == HyperLogLog(map(str, values[7:107]))


def test_binary_of_a_fixed_size_is_its_bytes():
    values = [value.bytes for value in uuids(200)]
    column = pa.array([b"." * 16, *values], pa.binary(16)).slice(1)
    assert HyperLogLog(column) == HyperLogLog(values)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 31, 33, 1023, 1024])
def test_texts_at_the_end_of_a_buffer_are_hashed_to_their_end(size):
    """Where memory ends that may be read: what follows the last text in it is not part of that."""
    values = [b"x" * size, b"y" * size, b"z" * max(1, size - 1)]
    buffers = [None, np.cumsum([0, *map(len, values)]).astype(np.int32), b"".join(values)]
    column = pa.Array.from_buffers(
        pa.binary(), 3, [buffer if buffer is None else pa.py_buffer(buffer) for buffer in buffers]
    )
    assert HyperLogLog(column) == HyperLogLog(values)


def test_a_dictionary_is_hashed_once_and_only_where_it_is_used():
    column = pa.DictionaryArray.from_arrays(pa.array([0, 2, 0]), ["a", "", "b"])
    assert HyperLogLog(column) == HyperLogLog(["a", "b"])
    with pytest.raises(ArgumentValueError, match=r"ids\[2\] must not be empty"):
        HyperLogLog(pa.DictionaryArray.from_arrays(pa.array([0, 2, 1]), ["a", "", "b"]))


MISSING = {
    "text": pa.array(["a", "b", None]),
    "integers": pa.array([1, 2, None]),
    "index": pa.DictionaryArray.from_arrays(pa.array([0, 0, None]), ["a"]),
    "value": pa.DictionaryArray.from_arrays(pa.array([0, 0, 1]), pa.array(["a", None])),
    "run": pa.compute.run_end_encode(pa.array(["a", "a", None])),
    "run of integers": pa.compute.run_end_encode(pa.array([1, 1, None])),
    "part of runs": pa.compute.run_end_encode(pa.array(["a", None, "b", "b", None])).slice(2),
    "index where a value is none": pa.DictionaryArray.from_arrays(
        pa.array([0, 0, None]), pa.array([1, None])
    ),
    "Int64": pd.array([1, 2, None], dtype="Int64"),
    "category": pd.Categorical(["a", "b", None]),
    "str": pd.Series(["a", "b", None], dtype="string[pyarrow]"),
}


@pytest.mark.parametrize("column", MISSING.values(), ids=MISSING.keys())
def test_a_missing_id_is_named_by_its_place(column):
    with pytest.raises(ArgumentTypeError, match=r"ids\[2\] is missing"):
        HyperLogLog(column)


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pd.Series([1, 2, None]), "float64, which integers become where some are missing"),
        (pa.array([1.0, 2.0]), "got double, which integers become where some are missing"),
        (pd.array([1.5], dtype="Float64"), "got double"),
        (pa.array([True]), "got bool"),
        (pd.Series([True]), "bool"),
        (pa.array([[1]]), r"got list<"),
        (pa.array([datetime(2026, 1, 1)]), r"got timestamp"),
        (pd.Series(pd.period_range("2026", periods=2, freq="D")), "got extension<pandas.period"),
        (pd.Series([timedelta(1)]), "cannot be read as a column"),
        (pa.table({"a": [1]}), "must be one column, got Table"),
        (pa.record_batch({"a": [1]}), "must be one column, got RecordBatch"),
        (pd.DataFrame({"a": [1]}), "must be one column, got DataFrame"),
        (pd.MultiIndex.from_tuples([("a", 1)]), "must be one column, got a MultiIndex"),
    ],
)
def test_a_column_of_another_type_is_refused_with_a_reason(column, problem):
    with pytest.raises(ArgumentTypeError, match=problem):
        HyperLogLog(column)


def polars_objects():
    polars = pytest.importorskip("polars")
    return polars.Series("user", uuids(3), dtype=polars.Object)


@pytest.mark.extended
@pytest.mark.parametrize(
    "take",
    [
        HyperLogLog,
        lambda column: HyperLogLog().update(column),
        lambda column: Ids.check(column, IdEncoder()),
        lambda column: list(batches((column, None, NAIVE[0]))),
        lambda column: list(batches((np.arange(3), column, NAIVE[0]))),
        lambda column: list(batches((np.arange(3), None, column))),
        lambda column: list(TableLayout("user", "at").events(column.to_frame().with_columns(at=NAIVE[0]))),
        lambda column: list(TableLayout("at", "user").events(column.to_frame().with_columns(at=NAIVE[0]))),
        lambda column: list(
            TableLayout("at", "at", "user").events(column.to_frame().with_columns(at=NAIVE[0]))
        ),
    ],
)
def test_objects_of_polars_are_refused_as_all_it_hands_out_is_where_they_are(take):
    with pytest.raises(ArgumentTypeError, match=r"must have a type of polars, got Object.*: make text of it"):
        take(polars_objects())


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(IDS["text"], dtype=object),
        np.array(IDS["text"], object),
        np.array(IDS["text"], np.dtypes.StringDType()),
        np.array(IDS["integers"], ">i8"),
        np.array(IDS["text"], ">U50"),
        pd.Series(pd.arrays.SparseArray(IDS["integers"])),
        pd.Series(["a", *IDS["bytes"], 7], dtype=object),
    ],
)
@pytest.mark.parametrize("secret", [None, "hush"])
def test_ids_are_the_same_however_numpy_and_pandas_keep_them(column, secret):
    assert HyperLogLog(column, secret=secret) == HyperLogLog(column.tolist(), secret=secret)


@pytest.mark.parametrize("column", [np.array(["a", None]), np.array(["a", ""], np.dtypes.StringDType())])
def test_a_bad_id_is_named_by_its_place_however_numpy_keeps_it(column):
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=r"ids\[1\] must"):
        HyperLogLog(column)


def test_an_empty_column_has_no_ids():
    for column in (pa.array([], pa.string()), pa.chunked_array([], pa.int64()), pd.Series([], dtype="str")):
        assert HyperLogLog(column) == HyperLogLog()


# Tables


def rows(table, calendar, **names):
    """All events of a table, with the time of each in the calendar's zone."""
    layout = TableLayout.of(table, **{**dict.fromkeys(LAYOUT), **NAMES, **names})
    parts = list(batches(layout.events(table)))
    assert [part.error for part in parts] == [None] * len(parts)
    return [
        (id.decode() if isinstance(id, bytes) else id, bucket, calendar.moment(time, "time"))
        for id, bucket, time in chain.from_iterable(parts)
    ]


LAYOUT = ("id_column", "time_column", "bucket_column", "bucket", "timezone")
BERLIN = Calendar("Europe/Berlin")
# From an hour before clocks go back, at 01:00 UTC, to two hours after.
AUTUMN = datetime(2025, 10, 26, tzinfo=UTC)


def events(zone, count=1400):
    """Each with an id of its own, 8 s apart, as the clocks of a zone change."""
    return [
        (
            f"user-{number}",
            ("web", "app", "é")[number % 3],
            (AUTUMN + timedelta(seconds=8 * number)).astimezone(zone),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.extended] * (name in ("polars", "duckdb"))) for name in TABLES],
)
def test_every_table_has_the_events_in_it(name):
    made = events(ZoneInfo("Europe/Berlin"))
    wanted = [(id, bucket, BERLIN.moment(time, "time")) for id, bucket, time in made]
    found = rows(TABLES[name](table_of(made)), BERLIN)
    assert found == wanted
    assert len({time for _, _, time in found}) < len(found)  # an hour is there twice


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.extended] * (name in ("polars", "duckdb"))) for name in TABLES],
)
def test_times_without_a_zone_are_in_the_trackers_or_in_the_one_that_is_given(name):
    naive = [(id, bucket, time.replace(tzinfo=None)) for id, bucket, time in events(UTC)]
    table = table_of(naive)
    assert rows(TABLES[name](table), BERLIN) == naive
    utc = [(id, bucket, BERLIN.moment(time.replace(tzinfo=UTC), "time")) for id, bucket, time in naive]
    assert rows(TABLES[name](table), BERLIN, timezone="UTC") == utc


HELD = {
    "times": lambda: pd.Series(NAIVE),
    "big-endian": lambda: pd.Series(np.array(NAIVE, ">M8[us]")),
    "sparse": lambda: pd.Series(pd.arrays.SparseArray(np.array(NAIVE, "M8[ns]"))),
    "text": lambda: pd.Series(map(str, NAIVE), dtype="str"),
    "text of Python": lambda: pd.Series(map(str, NAIVE), dtype="string[python]"),
    "text as objects": lambda: pd.Series(map(str, NAIVE), dtype=object),
    "objects": lambda: pd.Series(NAIVE, dtype=object),
    "categories": lambda: pd.Series(NAIVE).astype("category"),
    "categories of ns": lambda: pd.Series(NAIVE).astype("datetime64[ns]").astype("category"),
    "categories of objects": lambda: pd.Series(pd.Categorical(NAIVE, pd.Index(NAIVE, dtype=object))),
    "categories of text": lambda: pd.Series(map(str, NAIVE)).astype("category"),
    "categories of Arrow's": lambda: pd.Series(NAIVE, dtype="timestamp[us][pyarrow]").astype("category"),
}


@pytest.mark.parametrize("hold", HELD.values(), ids=HELD.keys())
def test_the_zone_of_times_holds_however_pandas_keeps_them(hold):
    frame = pd.DataFrame({"user": ["a", "b"], "at": hold()})
    utc = Calendar("UTC")
    found = rows(frame, utc, bucket_column=None)
    assert [time for *_, time in found] == NAIVE
    zone = ZoneInfo("America/New_York")
    found = rows(frame, utc, bucket_column=None, timezone=zone)
    assert [time for *_, time in found] == [utc.moment(time.replace(tzinfo=zone), "time") for time in NAIVE]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Monrovia"]
)
def test_instants_of_naive_times_are_as_the_standard_library_has_them(zone):
    """Also where clocks skip an hour, have one twice, or were 44:30 minutes off."""
    seconds = np.arange(0, 60 * 366 * 86_400, 86_399 * 30)
    step = np.timedelta64(101, "s")
    transitions = np.arange(np.datetime64("2025-03-29T00", "s"), np.datetime64("2025-04-07T00", "s"), step)
    of_monrovia = np.arange(np.datetime64("1972-01-06T23", "s"), np.datetime64("1972-01-07T02", "s"), step)
    naive = np.concatenate([seconds.astype("datetime64[s]"), transitions, of_monrovia])
    found = Instants.of_naive(naive, ZoneInfo(zone)).tolist()
    assert found == [time.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for time in naive.tolist()]


TIMES = {
    "s": pa.timestamp("s"),
    "ms": pa.timestamp("ms"),
    "us": pa.timestamp("us"),
    "ns": pa.timestamp("ns"),
    "ns with a zone": pa.timestamp("ns", "UTC"),
    "date": pa.date32(),
    "date64": pa.date64(),
    "text": pa.string(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
}


@pytest.mark.parametrize("kind", TIMES.values(), ids=TIMES.keys())
def test_every_type_of_time_stands_for_its_moment(kind):
    column = pa.array([date(2026, 1, 2), date(1969, 12, 31)]).cast(pa.timestamp("s"))
    column = column.cast(pa.timestamp("us")).cast(kind.value_type if kind == TIMES["dictionary"] else kind)
    column = column.dictionary_encode() if kind == TIMES["dictionary"] else column
    table = pa.table({"user": ["a", "b"], "at": column})
    found = rows(table, Calendar("UTC"), bucket_column=None, bucket="x")
    assert found == [("a", "x", datetime(2026, 1, 2)), ("b", "x", datetime(1969, 12, 31))]


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["2026-01-02T03:04:05Z", "2026-01-02 03:04:05.5+02:00"], [(3, 4, 5, 0), (1, 4, 5, 500_000)]),
        (["2026-01-02 03:04:05", "2026-01-02T03:04"], [(3, 4, 5, 0), (3, 4, 0, 0)]),
        (["2026-01-02 03:04:05.123456789", "2026-01-02 00:00:00"], [(3, 4, 5, 123_456), (0, 0, 0, 0)]),
    ],
)
def test_text_of_iso_8601_is_a_time(texts, wanted):
    found = rows(pa.table({"user": [1, 2], "at": texts}), Calendar("UTC"), bucket_column=None)
    assert [time for _, _, time in found] == [datetime(2026, 1, 2, *parts) for parts in wanted]


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        (["2026-01-02T03:04:05Z", "2026-01-02T03:04:05"], "all with an offset from UTC or all without"),
        (["2026-01-02", "2026-01-02T03:04:05"], "must be all dates or all times"),
        (["01/02/2026", "01/03/2026"], "must be text of the form"),
        ([1_767_225_600, 1_767_225_600], "must be timestamps, dates or ISO 8601 text, got int64"),
        ([1.5, 2.5], "got double"),
    ],
)
def test_times_that_are_not_certain_are_refused(times, problem):
    table = pa.table({"user": [1, 2], "at": times})
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=rf"events\['at'\] .*{problem}"):
        list(TableLayout("user", "at").events(table))


@pytest.mark.parametrize("encode", [pa.array, lambda texts: pa.array(texts).dictionary_encode()])
@pytest.mark.parametrize("bad", ["soon and late", "2026-01-02T03:04:05Z", "2026-01-02T25:04:05"])
@pytest.mark.parametrize(
    "make", [lambda table: table.to_reader(max_chunksize=90), lambda table: table.to_pandas()]
)
def test_text_that_is_no_time_is_named_by_its_place(make, bad, encode):
    texts = [f"2026-01-02T03:04:{second:02}" for second in range(60)] * 5
    texts[200] = bad
    table = pa.table({"user": range(300), "at": encode(texts)})
    given = make(table)
    of_pandas = isinstance(given, pd.DataFrame) and isinstance(given["at"].dtype, pd.CategoricalDtype)
    named = r"\.cat\.categories" if of_pandas else ""
    place = list(given["at"].cat.categories).index(bad) if of_pandas else 200
    with pytest.raises(
        ArgumentValueError, match=rf"^events\['at'\]{named} must .*, got '{bad}' at \[{place}\]$"
    ):
        list(TableLayout("user", "at").events(given))


@pytest.mark.parametrize(
    ("kind", "binary", "encode"),
    [
        (pa.string(), pa.binary(), lambda array: array),
        (pa.string(), pa.binary(), lambda array: array.dictionary_encode()),
        (pa.large_string(), pa.large_binary(), lambda array: array),
        (pa.large_string(), pa.large_binary(), lambda array: array.dictionary_encode()),
        (pa.string_view(), pa.binary_view(), lambda array: array),  # of which Arrow makes no dictionary
    ],
)
@pytest.mark.parametrize(("column", "problem"), [("platform", "bucket cannot be encoded"), ("at", "must be")])
def test_text_that_is_not_in_utf_8_is_named(server, column, kind, binary, encode, problem):
    texts = ["2026-01-02T03:04:05"] * 300
    columns = {"user": range(300), "platform": ["web"] * 300, "at": texts}
    broken = [b"a" if column == "platform" else texts[0].encode()] * 300
    broken[200] = b"a\xff" if column == "platform" else b"2026-01-02T03:04:\xff5"
    table = pa.table({**columns, column: encode(pa.array(broken, binary).view(kind))})
    with pytest.raises(ArgumentValueError, match=rf"\[200\].*{problem}|{problem}.*udcff.*\[200\]"):
        server.tracker(timezone="UTC").import_events(table, **NAMES)


def test_a_time_that_is_shorter_than_the_others_is_named():
    texts = pa.array(["2026-01-02T03:04:05"] * 7 + ["soon"] + ["2026-01-02T03:04:05"])
    table = pa.table({"user": range(9), "at": texts})
    with pytest.raises(ArgumentValueError, match=r"all dates or all times, got 'soon' at \[7\]"):
        list(TableLayout("user", "at").events(table))


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary_view", "int32"])
def test_runs_of_values_of_any_type(kind):
    values = pa.array([1, 22, 333] if kind == "int32" else ["a", "bb", "ccc" * 9]).cast(getattr(pa, kind)())
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 5, 9], pa.int32()), values)
    wanted = np.repeat(values.cast(pa.string()).to_pylist(), [2, 3, 4]).tolist()
    ids = ColumnReader("ids").ids(runs.slice(1, 7))
    assert IdEncoder(None).many(ids) == [text.encode() for text in wanted[1:8]]


@pytest.mark.parametrize("column", ["user", "platform", "at"])
def test_what_is_missing_in_a_table_is_named_and_what_comes_before_counts(server, column):
    made = events(UTC, 300)
    table = table_of(made)
    values = table.column(column).to_pylist()
    values[200] = None
    index = table.schema.get_field_index(column)
    table = table.set_column(index, column, pa.array(values, table.schema.field(column).type))
    tracker = server.tracker(["daily"], timezone="UTC", buckets=["web", "app", "é"])
    with pytest.raises(ArgumentTypeError, match=rf"events\['{column}'\]\[200\] is missing"):
        tracker.import_events(table.to_reader(max_chunksize=90), **NAMES)
    [(_, counts)] = tracker.lookup("daily", start=AUTUMN, end=AUTUMN + timedelta(days=1), live=True)
    assert sum(counts.values()) == pytest.approx(200, abs=6)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"id_column": None}, "id_column must be the name of one of its columns, got None"),
        ({"time_column": None}, "time_column must be the name"),
        ({"bucket_column": 3}, "bucket_column must be the name"),
        (
            {"id_column": "User"},
            r"must have one column 'User', got 0; all columns: other, at, user, platform",
        ),
        ({"bucket": "x"}, "bucket and bucket_column exclude each other"),
        ({"timezone": "Mars"}, "timezone must be an IANA name"),
    ],
)
@pytest.mark.parametrize("name", ["pyarrow", "pandas"])
def test_a_table_is_checked_before_anything_is_sent(server, name, options, problem):
    tracker = server.tracker(["daily"])
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=problem):
        tracker.import_events(TABLES[name](table_of(events(UTC, 10))), **{**NAMES, **options})
    assert not server.names()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bucket_column": "at"}, r"events\['at'\] must be text, got timestamp"),
        ({"id_column": "other"}, r"events\['other'\] must be text, bytes, integers or UUIDs, got struct"),
    ],
)
def test_a_column_of_another_type_than_is_needed_is_refused(options, problem):
    table = table_of(events(UTC, 10))
    with pytest.raises(ArgumentTypeError, match=problem):
        list(TableLayout(**{**NAMES, **options}).events(table))


def test_a_relation_whose_import_failed_holds_its_connection_no_longer(server):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    relation = connection.sql("SELECT NULL::VARCHAR AS i, TIMESTAMP '2026-01-02 03:00' AS t")
    tracker = server.tracker()
    with suppress(ArgumentTypeError):  # pytest.raises would keep what it is about
        tracker.import_events(relation, id_column="i", time_column="t")
    assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("argument", LAYOUT)
def test_names_of_columns_are_for_tables(server, argument):
    with pytest.raises(ArgumentTypeError, match=f"{argument} is for events in a table, got <list>"):
        server.tracker().import_events([], **{argument: "x"})


def test_columns_of_other_libraries_stand_for_arrays_in_a_tuple_of_three():
    made = events(ZoneInfo("Europe/Berlin"), 100)
    ids, buckets, times = (list(column) for column in zip(*made, strict=True))
    for given in (
        (pd.Series(ids), pd.Series(buckets, dtype="category"), pd.Series(times)),
        (pa.array(ids), pa.array(buckets), pa.array(times)),
        (pd.array(ids), buckets, times),
        (np.array(ids), pd.Series(buckets), pd.DatetimeIndex(times)),
    ):
        [part] = batches(given)
        found = [(*event[:2], BERLIN.moment(event[2], "time")) for event in part]
        assert [(id.decode() if isinstance(id, bytes) else id, *others) for id, *others in found] == [
            (*event[:2], BERLIN.moment(event[2], "time")) for event in made
        ]


def test_a_dictionary_stays_one_object_in_all_parts_of_a_table():
    """So that it is hashed once, however many there are."""
    column = pa.array(["a", "b"] * 70_000).dictionary_encode()
    table = pa.table(
        {"user": column, "at": pa.array(np.full(140_000, np.datetime64(0, "s"))), "platform": column}
    )
    parts = list(TableLayout("user", "at", "platform").events(table.to_reader(max_chunksize=20_000)))
    assert len(parts) > 5
    assert all(isinstance(part.ids, Coded) for part in parts)
    assert (
        len({id(part.ids.values) for part in parts}) == len({id(part.buckets.values) for part in parts}) == 1
    )


NAMED = {
    "short": ["web", "app", "é"] * 5,
    "up to 12 bytes": ["x" * size for size in range(1, 13)],
    "longer": ["x" * size for size in range(1, 45)],
    "up to 32 bytes": ["x" * size for size in range(1, 33)],
    "equal at both ends": ["same" + middle + "-same" for middle in ("abcd", "abce", "bbcd", "abcdefgh")],
    "none": [],
    "empty": ["web", "", "web"],
    "nothing but empty": ["", ""],
    "many": [str(number) for number in range(3000)],
    "NUL": ["a", "a\0", "a\0\0", "\0"],
}
FIRST = ["web", "app"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize("names", NAMED.values(), ids=NAMED.keys())
def test_buckets_are_the_texts_that_they_are_whatever_was_read_before(names, kind):
    reader = ColumnReader("buckets")
    for texts in (FIRST, FIRST * 2, names, names[::-1] * 2, FIRST + names, names):
        array = pa.array(["left out", "left out, too", *texts, "left out"], kind)
        assert reader.buckets(array.slice(2, len(texts))).tolist() == texts


def test_what_stands_behind_a_short_text_in_its_view_does_not_count():
    """The format wants zeros there, but nobody looks."""
    views = np.zeros((2, 16), np.uint8)
    views[:, 4:12] = list(b"ab\0\0\0\0\0\1")
    views[:, 0] = 2, 1
    array = pa.Array.from_buffers(pa.string_view(), 2, [None, pa.py_buffer(views.tobytes())])
    reader = ColumnReader("buckets")
    reader.buckets(pa.array(FIRST, pa.string_view()))
    assert reader.buckets(array).tolist() == ["ab", "a"]


def test_buckets_that_were_read_before_are_the_same_object():
    """So that each is looked up once."""
    reader = ColumnReader("buckets")
    for names in (FIRST, FIRST, [*FIRST, "new"]):
        reader.buckets(pa.array(names))
    found = [reader.buckets(pa.array(names)).values for names in (FIRST, ["new", "web"], FIRST * 9)]
    assert found[0] is found[1] is found[2]
    assert sorted(found[0]) == ["app", "new", "web"]


def test_a_frame_of_pandas_comes_in_parts_whose_categories_are_one_object():
    count = 140_000
    at = pd.date_range("2026-01-01", periods=count, freq="s", tz="UTC")
    users = np.arange(count) % 1000
    frame = pd.DataFrame({"user": users, "at": at, "platform": pd.Categorical(users % 2)})
    frame["platform"] = frame["platform"].cat.rename_categories(["a", "b"])
    layout = TableLayout("user", "at", "platform")
    parts = list(layout.events(frame))
    assert len(parts) == 3
    assert len({id(part.buckets.values) for part in parts}) == 1
    found = [np.concatenate(column) for column in zip(*map(_columns, parts), strict=True)]
    assert (found[0] == users).all()
    assert (found[1] == users % 2).all()
    assert (found[2] == at.tz_localize(None).to_numpy()).all()
    frame["user"] = frame["user"].astype("Int64").mask(frame.index == count - 2)
    with pytest.raises(ArgumentTypeError, match=rf"\['user'\]\[{count - 2}\] is missing"):
        list(layout.events(frame))


def _columns(part):
    return part.ids, part.buckets.codes, part.dates.moments


def test_asyncio_takes_tables_and_a_writer_columns(real_server):
    made = events(UTC, 300)
    names = {**NAMES, "bucket_column": None, "bucket": "aio"}

    async def main():
        async with AsyncActivityTracker(["daily"], timezone="UTC", **real_server.options) as awaited:
            assert (await awaited.import_events(table_of(made), **names)).events == 300
            await awaited.track_many(pa.array(["a", "b"]), bucket="many")

    asyncio.run(main())
    with real_server.tracker(["daily"], timezone="UTC").buffered() as writer:
        for column in (pa.array(["b", "c"]), pd.Series([1, 2]), pd.Categorical(["c", "d"])):
            writer.track_many(column, bucket="many")
        with pytest.raises(ArgumentTypeError, match=r"ids\[1\] is missing"):
            writer.track_many(pa.array(["e", None]), bucket="many")
    assert {sketch.count() for sketch in sketches_on(real_server).values()} == {300, 6}


WITHOUT_PYARROW = """
    import sys
    sys.modules["pyarrow"] = None
    import numpy as np, pandas as pd
    from activity_tracker_hll import HyperLogLog, MissingExtraError
    from activity_tracker_hll.operations.tracking.batches import batches
    from activity_tracker_hll.tables import TableLayout

    ids = [f"user-{number}" for number in range(200)]
    for column in (
        pd.Series(ids, dtype=object),
        pd.Series(ids).astype("category"),
        pd.array(ids, dtype="string[python]"),
    ):
        assert HyperLogLog(column) == HyperLogLog(ids)
    assert HyperLogLog(pd.array(range(200), dtype="Int64")) == HyperLogLog(range(200))
    times = pd.date_range("2026-01-01", periods=200, freq="h", tz="Europe/Berlin")
    platforms = pd.Series(["a", "b"] * 100, dtype=object)
    frame = pd.DataFrame({"user": np.arange(200), "at": times, "platform": platforms})
    [part] = batches(TableLayout("user", "at", "platform").events(frame))
    assert [event[2] for event in part] == times.to_pydatetime().tolist()

    class Table:
        def __arrow_c_stream__(self, requested_schema=None):
            raise AssertionError

    try:
        list(TableLayout("user", "at").events(Table()))
    except MissingExtraError as error:
        print(error)
"""


@pytest.mark.extended
def test_without_pyarrow_pandas_is_taken_and_what_is_missing_is_named():
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_PYARROW)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "pip install 'activity-tracker-hll[arrow]'" in shown
