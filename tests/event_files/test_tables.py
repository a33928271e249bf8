"""Reading Parquet and Arrow files into events, with rows among them that are none; no server."""

import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from activity_tracker_hll.event_files import table_files
from activity_tracker_hll.event_files.layout import FieldError, Layout, LayoutError, TimeFormatError
from activity_tracker_hll.event_files.lines import Rejected
from activity_tracker_hll.event_files.sources import read_events
from activity_tracker_hll.event_files.tables import read_table, table_format
from activity_tracker_hll.ids import encode as encode_id
from activity_tracker_hll.operations.tracking.batches import batches
from activity_tracker_hll.periods import Calendar
from helpers.tables import usual

BERLIN, UTC_CALENDAR = Calendar("Europe/Berlin"), Calendar("UTC")
LAYOUT = Layout(id="user_id", time="ts", bucket_field="platform")
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def written(path, table, **options):
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path, **options)
    return str(path)


def read(path, layout=LAYOUT, calendar=UTC_CALENDAR, **options):
    """The events of a file, and its bad rows."""
    rejected = Rejected()
    parts = batches(read_table(path, layout, calendar, rejected, **options))
    events = []
    for part in parts:
        if part.error is not None:
            raise part.error
        events += [(*event[:2], calendar.moment(event[2], "time")) for event in part]
    return events, rejected


def parquet(table, path):
    pq.write_table(table, path, row_group_size=300)


def feather_file(table, path):
    feather.write_feather(table, path, chunksize=300)


@pytest.mark.parametrize("write", [parquet, feather_file])
def test_a_file_has_the_events_in_it_and_its_nulls_are_bad_rows(tmp_path, write):
    table, events = usual()
    write(table, tmp_path / "events")
    steps = []
    found, rejected = read(str(tmp_path / "events"), calendar=BERLIN, on_read=steps.append)
    assert found == events
    assert rejected.count == 11
    assert [line.rpartition("row ")[2] for line in rejected.first] == [
        f"{number}: id is missing" for number in (1, 98, 195, 292, 389)
    ]
    assert sum(steps) == (tmp_path / "events").stat().st_size
    assert len(steps) > 1


def test_kinds_of_tables_are_seen_in_their_first_bytes(tmp_path):
    table, _ = usual(10)
    for write, kind in ((parquet, "Parquet"), (feather_file, "Arrow")):
        write(table, tmp_path / "events")
        assert table_format((tmp_path / "events").read_bytes()[:6]) == kind
    assert table_format(b"PAR,1\n") is None


@pytest.mark.parametrize("encode", [pa.array, lambda *values: pa.array(*values).dictionary_encode()])
@pytest.mark.parametrize("digits", [18, 38])
def test_decimals_without_fractions_are_integers(tmp_path, encode, digits):
    """As warehouses export columns of whole numbers."""
    kind = pa.decimal128(digits, 0)
    largest = 10 ** (digits - 1)
    columns = {
        "user_id": [Decimal(7), Decimal(largest)],
        "platform": [Decimal(1), Decimal(22)],
        "ts": [Decimal(1_767_268_800), Decimal(1_767_268_801)],
    }
    path = written(tmp_path / "events", {name: encode(values, kind) for name, values in columns.items()})
    layout = Layout(id="user_id", time="ts", time_format="epoch", bucket_field="platform")
    found, rejected = read(path, layout)
    assert [(encode_id(id).decode(), bucket) for id, bucket, _ in found] == [("7", "1"), (str(largest), "22")]
    assert [time.replace(tzinfo=UTC) for _, _, time in found] == [MOMENT, MOMENT + timedelta(seconds=1)]
    assert rejected.count == 0


BAD = {
    "user_id": (["", "a" * 1025, "é"], ["must not be empty", "at most 1024 bytes"]),
    "platform": (["", "a{b", "web"], ["must not be empty", "bucket"]),
    "ts": (["soon", "", "2026-01-01T12:00:00Z"], ["time 'soon' is not", "time '' is not"]),
}


@pytest.mark.parametrize("encode", [pa.array, lambda values: pa.array(values).dictionary_encode()])
@pytest.mark.parametrize("column", BAD)
def test_what_is_no_event_is_a_bad_row_with_number_and_reason(tmp_path, column, encode):
    values, reasons = BAD[column]
    columns = {"user_id": ["x"] * 4, "ts": [MOMENT.isoformat()] * 4, "platform": ["app"] * 4}
    columns[column] = [None, *values]
    path = written(tmp_path / "events", {name: encode(values) for name, values in columns.items()})
    found, rejected = read(path)
    assert len(found) == 1
    [(id, bucket, time)] = found
    last = {"user_id": "é".encode(), "platform": "web", "ts": MOMENT.replace(tzinfo=None)}[column]
    assert last in (id, bucket, time)
    assert rejected.count == 3
    assert "row 1" in rejected.first[0]
    assert "is missing" in rejected.first[0]
    for number, reason in enumerate(reasons, 2):
        assert f"row {number}: " in rejected.first[number - 1]
        assert reason in rejected.first[number - 1]


def test_times_in_years_that_a_calendar_has_not_are_bad_rows(tmp_path):
    times = pa.array([0, 10**14, -(10**13), 253_402_300_799], pa.int64()).cast(pa.timestamp("s"))
    for kind in (times, times.cast(pa.timestamp("s", "UTC"))):
        path = written(tmp_path / "events", {"id": [1, 2, 3, 4], "time": kind})
        found, rejected = read(path, Layout())
        assert found == [(1, None, datetime(1970, 1, 1))]
        assert rejected.count == 3


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_are_times_and_what_is_none_is_a_bad_row(tmp_path, unit, zone):
    times = pa.array(
        [*np.array(["2026-01-01T12"], f"datetime64[{unit}]").view(np.int64), np.iinfo(np.int64).min],
        pa.int64(),
    )
    path = tmp_path / "events"
    feather.write_feather(pa.table({"id": [1, 2], "time": times.cast(pa.timestamp(unit, zone))}), path)
    found, rejected = read(str(path), Layout())
    assert found == [(1, None, datetime(2026, 1, 1, 12))]
    assert rejected.count == 1
    assert "row 2" in rejected.first[0]


@pytest.mark.parametrize(
    ("times", "format", "wanted"),
    [
        ([1_767_268_800, 1_767_268_801], "epoch", [MOMENT, MOMENT + timedelta(seconds=1)]),
        ([1_767_268_800_000, 1_767_268_801_000], "epoch_ms", [MOMENT, MOMENT + timedelta(seconds=1)]),
        ([1_767_268_800.0, 1_767_268_801.5], "epoch", [MOMENT, MOMENT + timedelta(seconds=1.5)]),
        (["01.01.2026 12:00", "01.01.2026 13:00"], "%d.%m.%Y %H:%M", [MOMENT, MOMENT + timedelta(hours=1)]),
        (["2026-01-01T12:00:00+00:00", "2026-01-01T12:00:00"], "iso", [MOMENT, MOMENT]),
        ([date(2026, 1, 1), date(2026, 1, 2)], "iso", [datetime(2026, 1, 1), datetime(2026, 1, 2)]),
    ],
)
def test_the_format_of_times_is_as_in_other_files(tmp_path, times, format, wanted):
    path = written(tmp_path / "events", {"id": [1, 2], "time": times})
    found, rejected = read(path, Layout(time_format=format))
    assert [time for _, _, time in found] == [time.replace(tzinfo=None) for time in wanted]
    assert rejected.count == 0


def test_an_epoch_out_of_range_is_one_bad_row(tmp_path):
    path = written(tmp_path / "events", {"id": [1, 2], "time": [1_767_268_800, 10**17]})
    found, rejected = read(path, Layout(time_format="epoch"))
    assert [id for id, _, _ in found] == [1]
    assert "row 2" in rejected.first[0]


def test_a_field_may_lie_in_a_struct_or_be_given_by_its_number(tmp_path):
    users = pa.array([{"id": "a", "x": 1}, {"id": None, "x": 2}, None])
    path = written(tmp_path / "events", {"user": users, "when": [MOMENT] * 3, "a.b": ["web"] * 3})
    found, rejected = read(path, Layout(id="user.id", time="2", bucket_field="a.b"))
    assert found == [(b"a", "web", datetime(2026, 1, 1, 12))]
    assert rejected.count == 2


CHAINS = [b"10.0.0.1:80, 10.0.0.2", b"unknown", b"[::1]:443", b"\xff", b"", b"10.0.0.1"]


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("field", ["x_forwarded_for", "http.client_ip", "id"])
@pytest.mark.parametrize(
    "encode", [pa.array, lambda values: pa.array([b"?", *values]).dictionary_encode()[1:]]
)
def test_addresses_are_told_from_chains_and_ports_as_in_text(tmp_path, encode, field, which):
    ids, times = encode(CHAINS), [f"2026-01-01T12:00:0{number}" for number in range(len(CHAINS))]
    path = written(tmp_path / "events", {field: ids, "time": times})
    lines = [b'"%s",%s\n' % (id, time.encode()) for id, time in zip(CHAINS, times, strict=True)]
    (tmp_path / "events.csv").write_bytes(b"%s,time\n%s" % (field.encode(), b"".join(lines)))
    layout = Layout(id=field, address=which)
    found, rejected = read(path, layout)
    of_text, bad_lines = [], Rejected()
    for part in read_events(tmp_path / "events.csv", layout, UTC_CALENDAR, rejected=bad_lines):
        of_text += part.rows()
    assert sorted(found) == sorted(of_text)
    assert rejected.count == bad_lines.count > 0


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_a_bad_bucket_that_comes_late_is_a_bad_row(tmp_path, kind):
    """Where names were seen before, which are looked at once."""
    names = [*["a", "b"] * 35, *["", "{}", "new", "a", "b", "", "a"], *["x" * 300, "c" * 40], *["a", ""] * 9]
    table = pa.table(
        {"user_id": [str(row) for row in range(len(names))], "ts": [MOMENT] * len(names), "platform": names}
    )
    table = table.set_column(2, "platform", table.column("platform").cast(kind))
    with pa.OSFile(str(tmp_path / "events"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    found, rejected = read(str(tmp_path / "events"))
    good = [row for row, name in enumerate(names) if name in {"a", "b", "new", "c" * 40}]
    assert [id for id, *_ in found] == [str(row).encode() for row in good]
    assert [bucket for _, bucket, _ in found] == [names[row] for row in good]
    assert rejected.count == len(names) - len(good)


@pytest.mark.parametrize("write", [parquet, feather_file])
@pytest.mark.parametrize("encode", [pa.array, lambda values: pa.array(values).dictionary_encode()])
def test_numbers_as_buckets_are_their_text(tmp_path, encode, write):
    columns = {"id": [1, 2], "time": [MOMENT] * 2, "site": encode([7, 8])}
    write(pa.table(columns), tmp_path / "events")
    found, _ = read(str(tmp_path / "events"), Layout(bucket_field="site"))
    assert [bucket for _, bucket, _ in found] == ["7", "8"]


def ipc_file(table, path):
    """As feather.write_feather does, which takes no two columns of one name."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


@pytest.mark.parametrize("write", [parquet, ipc_file])
@pytest.mark.parametrize(("number", "wanted"), [("1", b"a"), ("2", b"b"), ("4", b"c")])
def test_of_columns_of_one_name_each_has_its_number(tmp_path, number, wanted, write):
    columns = [pa.array([id] * 700) for id in ("a", "b", "c")]
    columns.insert(2, pa.array([MOMENT] * 700))
    write(pa.Table.from_arrays(columns, names=["id", "id", "time", "id"]), tmp_path / "events")
    found, _ = read(str(tmp_path / "events"), Layout(id=number))
    assert found == [(wanted, None, datetime(2026, 1, 1, 12))] * 700
    with pytest.raises(FieldError, match="several columns are called 'id'"):
        read(str(tmp_path / "events"), Layout())


@pytest.mark.parametrize("write", [parquet, feather_file])
def test_a_bucket_may_lie_in_a_struct(tmp_path, write):
    deep = pa.array([{"a": number, "b": {"c": "ab"[number % 2]}} for number in range(700)])
    write(pa.table({"id": range(700), "time": [MOMENT] * 700, "s": deep}), tmp_path / "events")
    found, _ = read(str(tmp_path / "events"), Layout(bucket_field="s.b.c"))
    assert [(id, bucket) for id, bucket, _ in found] == [(number, "ab"[number % 2]) for number in range(700)]


@pytest.mark.parametrize("use_dictionary", [False, ["platform"], ["user_id", "u.user_id"]], ids=str)
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
@pytest.mark.parametrize("field", ["user_id", "u.user_id"])
def test_text_of_any_encoding(tmp_path, monkeypatch, field, encoding, use_dictionary):
    """Those by differences Arrow cannot read as dictionaries."""
    monkeypatch.setattr(table_files, "ROWS", 500)
    ids = [f"user-{number % 90}" for number in range(3000)]
    times = [(MOMENT + timedelta(seconds=number % 70)).isoformat() for number in range(3000)]
    names = ["web", "app"] * 1500
    users = pa.array([{"user_id": id} if number % 7 else None for number, id in enumerate(ids)])
    table = pa.table({"user_id": ids, "u": users, "ts": times, "platform": names})
    encodings = {
        path: encoding
        for path in ("user_id", "u.user_id", "ts", "platform")
        if not use_dictionary or path not in use_dictionary
    }
    pq.write_table(
        table,
        tmp_path / "events",
        row_group_size=700,
        use_dictionary=use_dictionary,
        column_encoding=encodings,
    )
    layout = Layout(id=field, time="ts", bucket_field="platform")
    found, rejected = read(str(tmp_path / "events"), layout)
    wanted = [number for number in range(3000) if field == "user_id" or number % 7]
    assert [(id, bucket) for id, bucket, _ in found] == [
        (ids[number].encode(), names[number]) for number in wanted
    ]
    assert [f"{time.isoformat()}+00:00" for _, _, time in found] == [times[number] for number in wanted]
    assert rejected.count == 3000 - len(wanted)


LIMITS = {"as they are": {}, "few rows at once": {"_BYTES": 100_000}, "no dictionary": {"_CODED_BYTES": 1}}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("use_dictionary", [True, False, ["id"]])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
def test_long_text_in_some_rows_changes_nothing_in_others(
    tmp_path, monkeypatch, kind, use_dictionary, limits
):
    for name, value in limits.items():
        monkeypatch.setattr(table_files, name, value)
    ids = [f"user-{number % 90}" for number in range(3000)]
    times = [(MOMENT + timedelta(seconds=number % 70)).isoformat() for number in range(3000)]
    names = ["web", "app"] * 1500
    for number in range(1000, 1500):
        (ids, times, names)[number % 3][number] = "x" * 2000
    table = pa.table({"user_id": pa.array(ids).cast(kind), "ts": times, "platform": names})
    if pa.types.is_string_view(kind) and int(pa.__version__.split(".")[0]) < 21:
        pytest.skip("this version of Arrow writes no views to Parquet")
    pq.write_table(
        table, tmp_path / "events", row_group_size=700, use_dictionary=use_dictionary, compression="zstd"
    )
    found, rejected = read(str(tmp_path / "events"))
    assert [number for number in range(3000) if not 1000 <= number < 1500] == [
        number
        for number, (id, bucket, time) in zip([*range(1000), *range(1500, 3000)], found, strict=True)
        if (id.decode(), bucket, time.replace(tzinfo=UTC).isoformat())
        == (ids[number], names[number], times[number])
    ]
    assert rejected.count == 500
    assert all(f"row {1001 + place}: " in line for place, line in enumerate(rejected.first))


@pytest.mark.parametrize(
    ("layout", "hourly", "kind", "problem"),
    [
        (
            Layout(id="user"),
            False,
            FieldError,
            "no column 'user' in this table, which has: id, time, day, score",
        ),
        (Layout(id="user.id"), False, FieldError, "no column 'user.id'"),
        (Layout(id="id", time="9"), False, FieldError, "no column '9'"),
        (Layout(id="score"), False, LayoutError, "got double, which integers become where some are missing"),
        (Layout(bucket_field="time"), False, LayoutError, "buckets must be text, got timestamp"),
        (Layout(time="day"), True, TimeFormatError, "dates without a time of day, which hourly periods need"),
        (Layout(time="id"), False, TimeFormatError, "no time has the format 'iso'; one, for example"),
        (
            Layout(time="flag"),
            False,
            TimeFormatError,
            "times must be timestamps, dates, text or numbers, got bool",
        ),
    ],
)
def test_a_file_laid_out_otherwise_is_an_error_with_a_reason(tmp_path, layout, hourly, kind, problem):
    columns = {"id": [1], "time": [MOMENT], "day": [date(2026, 1, 1)], "score": [1.5], "flag": [True]}
    with pytest.raises(kind, match=problem):
        read(written(tmp_path / "events", columns), layout, hourly=hourly)


@pytest.mark.parametrize("write", [parquet, feather_file])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_damaged_file_is_an_error_with_a_reason(tmp_path, write, keep):
    write(usual()[0], tmp_path / "events")
    content = (tmp_path / "events").read_bytes()
    (tmp_path / "events").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(LayoutError, match="damaged or cut short"):
        read(str(tmp_path / "events"))


@pytest.mark.parametrize("write", [parquet, feather_file])
@pytest.mark.parametrize("encode", [lambda array: array, lambda array: array.dictionary_encode()])
def test_text_that_is_not_in_utf_8_is_a_bad_row_but_for_ids_which_are_bytes(tmp_path, write, encode):
    """Arrow writes and reads such text: it looks at it nowhere."""
    texts = [b"web", b"a\xff", b"app"] * 100
    broken = pa.array(texts, pa.binary()).view(pa.string())
    moments = pa.array([f"2026-01-02T03:04:{second % 60:02}" for second in range(300)])
    layout = Layout(id="user_id", time="ts", bucket_field="platform")
    write(pa.table({"user_id": encode(broken), "ts": moments, "platform": ["x"] * 300}), tmp_path / "ids")
    events, rejected = read(str(tmp_path / "ids"), layout)
    assert {id for id, _, _ in events} == set(texts)
    assert not rejected.count
    for column in ("platform", "ts"):
        columns = {"user_id": range(300), "platform": ["x"] * 300, "ts": moments}
        write(pa.table({**columns, column: encode(broken)}), tmp_path / column)
        if column == "ts":
            with pytest.raises(TimeFormatError, match="no time has the format"):
                read(str(tmp_path / column), layout)
            continue
        events, rejected = read(str(tmp_path / column), layout)
        assert len(events) == 200
        assert rejected.count == 100
        assert rejected.first[0].endswith("row 2: bucket cannot be encoded as UTF-8: 'a\\udcff'")


@pytest.mark.parametrize(
    ("made", "found", "patched"),
    [
        ("text", [0, 3, 6, 9, 12], [0, 6, 3, 9, 12]),
        ("text", [0, 3, 6, 9, 12], [0, 3, 6, 9, 1000]),
        ("text", [0, 3, 6, 9, 12], [0, 3, 6, 9, 2_000_000_000]),
        ("text", [0, 3, 6, 9, 12], [-3, 3, 6, 9, 12]),
        ("dictionary", [0, 1, 2, 1], [0, 1, 2, -1]),
        ("dictionary", [0, 1, 2, 1], [0, 77, 2, 1]),
        ("dictionary", [0, 3, 6, 9], [0, 6, 3, 9]),
    ],
)
@pytest.mark.parametrize("column", ["user_id", "platform"])
def test_offsets_and_indices_that_lead_nowhere_are_damage(tmp_path, made, found, patched, column):
    texts = pa.array(["aaa", "bbb", "ccc", "bbb"])
    columns = {"user_id": range(4), "platform": ["x"] * 4, "ts": [MOMENT] * 4}
    table = pa.table({**columns, column: texts.dictionary_encode() if made == "dictionary" else texts})
    feather.write_feather(table, tmp_path / "events", compression="uncompressed")
    content = (tmp_path / "events").read_bytes()
    assert len(read(str(tmp_path / "events"))[0]) == 4
    before, after = (np.array(numbers, np.int32).tobytes() for numbers in (found, patched))
    assert content.count(before) == 1
    (tmp_path / "events").write_bytes(content.replace(before, after))
    with pytest.raises(LayoutError, match="damaged or cut short"):
        read(str(tmp_path / "events"))


def test_a_dictionary_of_nothing_but_nulls_is_as_nulls_are(tmp_path):
    """Asked which are missing, Arrow itself would end the process."""
    nothing = pa.nulls(3).dictionary_encode(null_encoding="encode")
    columns = {"user_id": nothing, "ts": [MOMENT] * 3, "platform": ["x"] * 3}
    feather.write_feather(pa.table(columns), tmp_path / "events")
    with pytest.raises(LayoutError, match=r"ids must be .*, got null"):
        read(str(tmp_path / "events"))


def test_a_name_of_a_column_that_is_not_in_utf_8_is_damage(tmp_path):
    feather.write_feather(usual()[0], tmp_path / "events")
    content = (tmp_path / "events").read_bytes()
    (tmp_path / "events").write_bytes(content.replace(b"platform", b"pl\xfftform"))
    with pytest.raises(LayoutError, match="the name of a column is not in UTF-8"):
        read(str(tmp_path / "events"))


@pytest.mark.parametrize("id", ["u.id", "1"])
def test_a_name_with_a_dot_that_a_struct_has_too_is_not_guessed_in_parquet(tmp_path, id):
    columns = {"u.id": ["a", "b"], "u": [{"id": "x"}] * 2, "ts": [MOMENT] * 2}
    layout = Layout(id=id, time="ts")
    with pytest.raises(FieldError, match=r"several columns are called 'u\.id'"):
        read(written(tmp_path / "events", columns), layout)
    feather.write_feather(pa.table(columns), tmp_path / "feather")
    assert [id for id, *_ in read(str(tmp_path / "feather"), layout)[0]] == [b"a", b"b"]


WITHOUT_PANDAS = """
    import sys
    from activity_tracker_hll.event_files.layout import Layout
    from activity_tracker_hll.event_files.lines import Rejected
    from activity_tracker_hll.event_files.tables import read_table
    from activity_tracker_hll.periods import Calendar

    layout = Layout(id="user_id", time="ts", bucket_field="platform")
    print(sum(map(len, read_table(sys.argv[1], layout, Calendar("UTC"), Rejected()))))
    assert "pandas" not in sys.modules
"""


@pytest.mark.extended
def test_pandas_is_not_imported_which_takes_longer_than_many_a_file(tmp_path):
    table, events = usual()
    parquet(table, tmp_path / "events")
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_PANDAS), str(tmp_path / "events")]
    assert int(subprocess.run(command, capture_output=True, check=True).stdout) == len(events)
