"""Reading logs, delimited text and JSON lines into events; no server."""

import gzip
import io
import time
from datetime import datetime

import pytest

pytest.importorskip("apachelogs")

from activity_tracker_hll.event_files.formats import resolve
from activity_tracker_hll.event_files.layout import FieldError, Layout, TimeFormatError
from activity_tracker_hll.event_files.lines import LONGEST_LINE, Rejected
from activity_tracker_hll.event_files.readers import read_stream
from activity_tracker_hll.periods import Calendar
from helpers.event_files import COMBINED, COMMON, events, ids, read_opened

UTC = Calendar("UTC")


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.csv", [b"x y\n"], "csv"),
        ("a.CSV.gz", [b"x y\n"], "csv"),
        ("a.tsv", [b"x,y\n"], "tsv"),
        ("a.ndjson", [b"x,y\n"], "jsonl"),
        ("a.json", [b"[\n"], "json"),
        ("a.log", [b'{"id": 1}\n'], "jsonl"),
        ("access.log.1", [COMBINED], "log"),
        ("stdin", [b"junk\n", COMMON], "log"),
        ("stdin", [b"\n", b'  {"id": 1}\n'], "jsonl"),
        ("stdin", [b"id\ttime\n"], "tsv"),
        ("stdin", [b"id,time\n"], "csv"),
        ("stdin", [b" id  time\r\n"], "whitespace"),
        ("stdin", [], "whitespace"),
    ],
)
def test_detects_the_format(name, head, expected):
    assert resolve(Layout(), name, head).format == expected


def test_a_long_line_without_a_moment_is_no_log_and_is_not_tried_for_long():
    start = time.process_time()
    assert resolve(Layout(), "in", [b"\xff " * 10_000]).format == "whitespace"
    assert time.process_time() - start < 1  # apachelogs would take a minute


def test_logs_of_both_formats_in_one_file_are_converted_to_the_zone():
    found, rejected = events(COMBINED + COMMON)
    assert found == [
        (b"10.0.0.1", None, datetime(2015, 5, 17, 8, 5, 3)),
        (b"10.0.0.2", None, datetime(2015, 5, 18, 1, 59, 59)),
    ]
    assert rejected.count == 0
    berlin, _ = events(COMBINED, calendar=Calendar("Europe/Berlin"))
    assert berlin[0][2] == datetime(2015, 5, 17, 10, 5, 3)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("remote_host", b"10.0.0.1"),
        ("ip", b"10.0.0.1"),
        ("user", b"ann"),
        ("User-Agent", b"Agent 1.0"),
        ("user-agent", b"Agent 1.0"),
        ("headers_in.Referer", b"http://x/"),
        ("final_status", b"200"),
    ],
)
def test_fields_of_a_log(field, expected):
    assert ids(COMBINED, id=field) == [expected]


def test_bytes_of_a_log_that_are_no_ascii_are_kept():
    raw = COMBINED.replace(b"Agent 1.0", b"caf\xc3\xa9 \xff")
    escaped = COMBINED.replace(b"Agent 1.0", rb"caf\xc3\xa9 \xff")
    assert ids(raw, id="User-Agent") == ids(escaped, id="User-Agent") == [b"caf\xc3\xa9 \xff"]


def test_a_virtual_host_is_not_taken_for_a_part_of_the_address():
    text = b"example.org " + COMMON
    for line in (text, b"example.org " + COMBINED):
        assert events(line, format="log")[1].count == 1
    [event], _ = events(text, format="log", log_format="vhost_common", bucket_field="vhost")
    assert event[:2] == (b"10.0.0.2", "example.org")


def test_a_log_format_of_ones_own():
    text = b"[17/May/2015:10:05:03 +0000] 10.0.0.9\n"
    assert ids(text, format="log", log_format="%t %h") == [b"10.0.0.9"]


def test_an_absent_user_is_a_bad_line_and_an_unknown_field_an_error():
    found, rejected = events(COMBINED + COMMON, id="remote_user")
    assert [id for id, _, _ in found] == [b"ann"]
    assert rejected.first == ["in, line 2: no remote_user"]
    with pytest.raises(FieldError, match=r"a field 'usr'.*remote_host.*User-Agent"):
        events(COMBINED, id="usr")


def test_the_header_that_begins_with_a_space():
    text = b" customer_id  date number_of_cds  dollar_value\r\n 00001 19970101  1   11.77\r\n"
    expected = [(b"00001", None, datetime(1997, 1, 1))]
    assert events(text, id="customer_id", time="date")[0] == expected
    assert events(text, id="1", time="2")[0] == expected
    assert events(text.splitlines(keepends=True)[1], id="1", time="2")[0] == expected


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b"id,time\nx,2026-01-02\n", {}),
        (b"\xef\xbb\xbfid,time\nx,2026-01-02\n", {}),
        (b"time\tid\n2026-01-02\tx\n", {}),
        (b"x,2026-01-02\n", {"id": "1", "time": "2"}),
        (b"x,2026-01-02\n", {"id": "1", "time": "2", "header": False}),
        (b"a;b\nx;20260102\n", {"id": "a", "time": "b", "format": "csv", "delimiter": ";"}),
        (b'"id","time"\n"x","2026-01-02T00:00:00"\n', {}),
        (b'{"id": "x", "time": "2026-01-02"}\n', {}),
        (b'\n{"id": "x", "time": 20260102}\n\n', {}),
        (b'{"u": {"id": "x"}, "a.b": "2026-01-02"}\n', {"id": "u.id", "time": "a.b"}),
        (b"id,time\nx,02.01.2026\n", {"time_format": "%d.%m.%Y"}),
        (b"id,time\nx,1767312000\n", {"time_format": "epoch"}),
        (b'{"id": "x", "time": 1767312000000}', {"time_format": "epoch_ms"}),
        (b"id,time\nx,2026-01-02T01:00:00+01:00\n", {}),
    ],
)
def test_one_event_in_many_forms(text, fields):
    assert events(text, **fields)[0] == [(b"x", None, datetime(2026, 1, 2))]


def test_csv_fields_may_hold_line_breaks_and_bytes_that_are_no_utf8():
    assert ids(b'id,time\n"a\nb",2026-01-02\n\xff\xfe,2026-01-02\n', format="csv") == [b"a\nb", b"\xff\xfe"]


def test_numbers_and_names_as_ids_in_json():
    assert ids(b'{"id": 7, "time": "2026-01-02"}\n{"id": "7", "time": "2026-01-02"}\n') == [b"7", b"7"]


BAD_LINES = [
    (b"id,time\n,2026-01-02\n", "id must not be empty"),
    (b"id,time\nx\n", "only 1 field: "),
    (b"id,time\nx,yesterday\n", "not an ISO 8601"),
    (b"id,time\nx,0001-01-01\n", "must lie in the years"),
    (b"id,time\n" + b"x" * 2000 + b",2026-01-02\n", "at most 1024 bytes"),
    (b'id,time\n"' + b"x" * 200_000 + b'",2026-01-02\n', "field larger than"),
    (b'{"id": "x", "time": "2026-01-02"\n', "delimiter"),
    (b'{"id": "\xff", "time": "2026-01-02"}\n', "codec"),
    (rb'{"id": "\ud800", "time": "2026-01-02"}' + b"\n", "cannot be encoded"),
    (b'{"id": 1.5, "time": "2026-01-02"}\n', "must be a str"),
    (b'{"id": true, "time": "2026-01-02"}\n', "must be a str"),
    (b'{"id": null, "time": "2026-01-02"}\n', "no id"),
    (b'{"id": "x"}\n', "no field 'time'"),
    (b'{"id": "x", "time": [1]}\n', "is not a time"),
    (b'{"id": "x", "time": true}\n', "is not a time"),
    (b"{" * 10_000 + b"\n", ""),
    (b'{"a": ' * 200_000 + b"\n", ""),
    (b"[" * 200_000 + b"\n", ""),
]


@pytest.mark.parametrize(("text", "reason"), BAD_LINES)
def test_bad_lines_are_counted_and_do_not_end_the_reading(text, reason):
    name = "in.jsonl" if text[:1] in b"{[" else "in.csv"
    good = b'{"id": "y", "time": "2026-01-02"}\n' if name == "in.jsonl" else b"y,2026-01-02\n"
    found, rejected = events(text + good, name=name)
    assert [id for id, _, _ in found] == [b"y"]
    assert rejected.count == 1
    assert reason in rejected.first[0]


@pytest.mark.parametrize("value", ["nan", "inf", "1e300", "x", ""])
def test_bad_seconds(value):
    found, rejected = events(f"id,time\nx,{value}\ny,1767312000\n".encode(), time_format="epoch")
    assert [id for id, _, _ in found] == [b"y"]
    assert "seconds since 1970" in rejected.first[0]


@pytest.mark.parametrize(
    ("text", "fields", "shown"),
    [
        (b"id,time\nx,23.11.2025\x1b\n", {}, ["'iso'", "line 2", "x,23.11.2025\\x1b", "ISO 8601"]),
        (b"id,time\nx,23.11.2025\n", {"time_format": "%d/%m/%Y"}, ["'%d/%m/%Y'", "'x,23.11.2025'"]),
        (b'{"id": 7, "time": "soon"}\n', {"time_format": "epoch"}, ["'epoch'", "soon", "seconds since 1970"]),
        (COMBINED, {"time": "remote_host"}, ["10.0.0.1 - ann"]),
        (b"x y" * 500 + b" soon\n", {"id": "1", "time": "2", "header": False}, ["x yx y", "..."]),
    ],
)
def test_a_time_format_that_fits_no_line_is_said_once_with_a_line(text, fields, shown):
    with pytest.raises(TimeFormatError) as caught:
        events(text, **fields)
    message = str(caught.value)
    assert [part for part in shown if part not in message] == [], message
    assert message.isprintable()
    assert len(message) < 700


def test_a_time_format_that_fits_no_line_is_said_at_once():
    text = io.BytesIO(b"id,time\n" + b"x,never\n" * 1_000_000)
    stream = io.BufferedReader(text)
    with pytest.raises(TimeFormatError):
        list(read_stream(stream, "in", Layout(), UTC, Rejected()))
    assert text.tell() < 1 << 20


def test_where_one_time_fits_others_are_bad_lines():
    text = b"id,time\n" + b"x,never\n" * 900 + b"y,2026-01-02\n" + b"x,never\n" * 2000
    found, rejected = events(text)
    assert len(found) == 1
    assert rejected.count == 2900


def test_a_day_is_no_hour():
    text = b"id,time\nx,2026-01-02\ny,2026-01-02T15:00\n"
    found, rejected = events(text, hourly=True)
    assert found == [(b"y", None, datetime(2026, 1, 2, 15))]
    assert "hourly" in rejected.first[0]


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        ('"site1"', "site1"),
        ("3", "3"),
        ('""', None),
        ("null", None),
        ("[1]", None),
        ('"a{b"', None),
        ("true", None),
    ],
)
def test_buckets_from_a_field(value, bucket):
    text = f'{{"id": "x", "time": "2026-01-02", "site": {value}}}\n'.encode()
    found, rejected = events(text, bucket_field="site")
    assert [event[1] for event in found] == ([bucket] if bucket else [])
    assert rejected.count == (0 if bucket else 1)


def test_a_bucket_that_is_no_utf8_is_refused():
    for name in ("in.csv", "in.txt"):
        text = b"id time site\nx 2026-01-02 \xff\n".replace(b" ", b"," if name == "in.csv" else b" ")
        found, rejected = events(text, name=name, bucket_field="site")
        assert (found, rejected.count) == ([], 1)


@pytest.mark.parametrize(
    ("text", "fields", "match"),
    [
        (b"a,b\nx,2026-01-02\n", {}, "no field 'id' in the header, which has: a, b"),
        (b"x,2026-01-02\n", {"id": "a", "time": "2", "header": False}, "needs a header"),
        (b"x,2026-01-02\n", {"id": "0", "time": "2", "header": False}, "needs a header"),
    ],
)
def test_fields_that_the_whole_file_lacks(text, fields, match):
    with pytest.raises(FieldError, match=match):
        events(text, **fields)


def test_only_the_first_reasons_are_kept_with_their_lines():
    _, rejected = events(b"id,time\n" + b"x,never\n" * 100 + b"y,2026-01-02\n")
    assert rejected.count == 100
    assert [line.split(":")[0] for line in rejected.first] == [f"in, line {n}" for n in range(2, 7)]


def test_a_line_without_end_is_skipped():
    text = b"id,time\n" + b"x" * (3 * LONGEST_LINE) + b"\ny,2026-01-02\n"
    found, rejected = events(text)
    assert [id for id, _, _ in found] == [b"y"]
    assert rejected.first == [f"in, line 2: longer than {LONGEST_LINE:,} bytes"]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"id,time\n", b"\r\n"])
@pytest.mark.parametrize("format", ["csv", "log", "jsonl", "whitespace", "auto"])
def test_nothing_to_read(text, format):
    found, _ = events(text if format in ("csv", "auto") else text.replace(b"id,time", b""), format=format)
    assert found == []


def test_gzip_by_its_first_bytes_whatever_the_name(tmp_path):
    packed = gzip.compress(b"a\nb\n")
    for name in ("x.gz", "x.log"):
        (tmp_path / name).write_bytes(packed)
        lines, size, rejected = read_opened(tmp_path / name)
        assert (lines, size, rejected.count) == ([b"a\n", b"b\n"], len(packed), 0)
    (tmp_path / "plain.gz").write_bytes(b"a\n")
    assert read_opened(tmp_path / "plain.gz")[0] == [b"a\n"]
    assert read_opened("-", packed + packed)[0] == [b"a\n", b"b\n", b"a\n", b"b\n"]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:-8] + b"01234567"])
def test_damaged_gzip_is_a_bad_line_after_what_could_be_read(damage):
    text = b"".join(b"line %d\n" % number for number in range(50_000))
    lines, _, rejected = read_opened("-", damage(gzip.compress(text)))
    assert lines[:1] == [b"line 0\n"]
    assert rejected.count == 1
    assert "damaged or cut short" in rejected.first[0]


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.tsv"])
def test_a_header_that_is_no_utf8(name):
    text = b"us\xe9r time\na 2015-05-17\n".replace(b" ", {"in.csv": b",", "in.tsv": b"\t"}.get(name, b" "))
    expected = [(b"a", None, datetime(2015, 5, 17))]
    assert events(text, name=name, id="1")[0] == expected
    # As a command line hands on an argument that is no UTF-8.
    assert events(text, name=name, id="us\udce9r")[0] == expected
    with pytest.raises(FieldError, match=r"which has: us\\udce9r, time$"):
        events(text, name=name)


def test_reasons_hold_nothing_that_a_terminal_obeys_or_that_is_endless():
    with pytest.raises(FieldError) as caught:
        events(b"\x1b[31m,time," + b"x" * 100_000 + b"\n", format="csv")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    _, rejected = events(b"id,time\nx,20200101\x1b\ny,20200101\n", time_format="%Y%m%d", format="csv")
    assert rejected.count == 1
    assert rejected.first[0].isprintable()


def test_equal_values_of_different_types_are_not_the_same_in_json():
    lines = [b'{"id": "x", "time": "2026-01-02", "site": %s}\n' % value for value in (b"1", b"true", b"1.0")]
    found, rejected = events(b"".join(lines), bucket_field="site")
    assert [event[1] for event in found] == ["1"]
    assert rejected.count == 2
