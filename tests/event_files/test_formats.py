"""Formats that are seen, named or described: what fits whole is read, anything else is refused aloud."""

import json
import time

import pytest

pytest.importorskip("apachelogs")

from activity_tracker_hll.event_files.formats import check_layout, resolve
from activity_tracker_hll.event_files.layout import FieldError, Layout, LayoutError, TimeFormatError
from activity_tracker_hll.event_files.lines import LONGEST_LINE
from activity_tracker_hll.event_files.logs import LOG_FORMATS
from helpers.event_files import COMBINED, COMMON, events, ids

REST = '[10/Jan/2024:10:00:00 +0000] "GET /a HTTP/1.1" 200 615 "-" "curl"'
V6 = "2001:db8::9"


@pytest.mark.parametrize(
    ("front", "id"),
    [
        ("192.0.2.1 - -", "192.0.2.1"),
        ("192.0.2.1 - ann", "192.0.2.1"),
        ("192.0.2.1 - ann smith", "192.0.2.1"),
        ("192.0.2.1 ident ann", "192.0.2.1"),
        ("192.0.2.1:5555 - -", "192.0.2.1"),
        (f"{V6} - -", V6),
        (f"[{V6}]:443 - -", V6),
        ("host-1.example.org - -", "host-1.example.org"),
        ("203.0.113.9,10.0.0.1 - ann", "203.0.113.9"),
        (f"unknown, {V6}, 10.0.0.1 - -", V6),
        ("shop.example 443 192.0.2.1 - -", None),
        ("shop.example 192.0.2.1 - -", None),
        ("shop.example:443 192.0.2.1 - -", None),
        ("shop.example:443 - -", None),
        ("192.0.2.9 192.0.2.1 - ann", None),
        ("192.0.2.9 192.0.2.1 ann", None),
        ("192.0.2.9 - 192.0.2.1", None),
        ("shop.example ann bob", None),
        ("shop.example - 192.0.2.1 -", None),
        ("- 192.0.2.1 - -", None),
        ("1704880800.123 192.0.2.1 - -", None),
        ("INFO 192.0.2.1 - -", None),
        ("unix: - -", None),
        ("a, b - -", None),
        ("192.0.2.1 -", None),
    ],
)
def test_what_stands_before_the_time_is_a_client_or_the_line_is_bad(front, id):
    found, rejected = events(f"{front} {REST}\n".encode())
    assert [one.decode() for one, _, _ in found] == ([id] if id else [])
    assert rejected.count == (id is None)


PREFIXES = [
    "Jan  5 03:02:01 web1 nginx: ",
    "<190>Jan 15 03:02:01 web1 nginx[77]: ",
    "2024-01-10T10:00:00+0000 web1 httpd[1]: ",
    "<134>1 2024-01-10T10:00:00.003Z web1 nginx 77 - - ",
    '<134>1 2024-01-10T10:00:00Z web1 nginx 77 ID [meta a="x"][b] ',
    "2024-01-10T10:00:00.1Z stderr F ",
    "2024-01-10T10:00:00.123+02:00 stdout F ",
    "web_1     | ",
    "web-1  | 2024-01-10T10:00:00.123456789Z ",
    "2024-01-10T10:00:00.123456789Z ",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "line", [COMBINED, COMMON, b'{"ip": "10.0.0.1", "time": "2015-05-17"}\n', COMMON.replace(b"-02", b"+02")]
)
def test_prefixes_before_logs_and_json(prefix, line):
    fields = {"id": "ip"} if line.startswith(b"{") else {}
    assert events(b"starting\n" + prefix.encode() + line, **fields)[0] == events(line, **fields)[0] != []


def test_a_prefix_does_not_keep_a_format_from_being_named():
    line = b"web-1 | shop.example:443 " + COMBINED
    assert ids(line, log_format="vhost_combined", bucket_field="vhost") == [b"10.0.0.1"]


@pytest.mark.parametrize("log_format", ["%h %t", "common", "$remote_addr [$time_local]"])
def test_a_prefix_is_no_part_of_a_host(log_format):
    rest = b"" if "%" in log_format or "$" in log_format else COMMON.partition(b"]")[2].rstrip()
    user = b"- ann " if rest else b""
    text = b"web-1  | 192.0.2.1 " + user + b"[17/May/2015:10:05:03 +0200]" + rest + b"\n"
    assert ids(text, log_format=log_format) == [b"192.0.2.1"]
    assert events(text.replace(b"|", b"!"), log_format=log_format)[1].count == 1


def test_lines_that_kubernetes_has_split_are_put_together():
    stamp = b"2024-01-10T10:00:00.1Z "
    text = stamp + b"stdout F " + COMBINED
    text += stamp + b"stdout P 10.0.0.7 - - [10/Jan/2024:10:00:00 +0000] \n" + stamp + b"stderr F oops\n"
    text += stamp + b'stdout F "GET / HTTP/1.1" 200 5\n'
    found, rejected = events(text)
    assert [id for id, _, _ in found] == [b"10.0.0.1", b"10.0.0.7"]
    assert rejected.count == 1


@pytest.mark.parametrize(
    ("log_format", "line", "options", "id"),
    [
        (
            "$remote_addr $msec",
            "192.0.2.1 1704880800.123",
            {"time": "msec", "time_format": "epoch"},
            "192.0.2.1",
        ),
        ("[$time_iso8601] ${remote_addr}", "[2024-01-10T10:00:00+00:00] 192.0.2.1", {}, "192.0.2.1"),
        (
            "$time_local|$http_x_real_ip",
            "10/Jan/2024:10:00:00 +0000|192.0.2.7",
            {"id": "X-Real-IP"},
            "192.0.2.7",
        ),
        (
            "log_format main '$host $remote_addr [$time_local] '\n  '\"$request\" \"$cookie_sid\"';",
            'shop 192.0.2.1 [10/Jan/2024:10:00:00 +0000] "GET / HTTP/1.1" "s%1"',
            {"id": "cookies.sid", "bucket_field": "vhost"},
            "s%1",
        ),
        (
            "%t %{X-Forwarded-For}i",
            "[10/Jan/2024:10:00:00 +0000] 192.0.2.8",
            {"id": "X-Forwarded-For"},
            "192.0.2.8",
        ),
        ("common", COMMON.decode().strip(), {}, "10.0.0.2"),
        ("vhost_common", f"shop {COMMON.decode().strip()}", {}, "10.0.0.2"),
        ("nginx", f'192.0.2.1 - - {REST} "192.0.2.5:80, 10.0.0.1"', {"id": "X-Forwarded-For"}, "192.0.2.5"),
    ],
)
def test_formats_of_ones_own(log_format, line, options, id):
    assert ids(line.encode() + b"\n", log_format=log_format, **options) == [id.encode()]


@pytest.mark.parametrize(
    ("format", "time", "has"),
    [
        ("%Y-%m-%d", b"2026-01-02", "year, mon, mday"),
        ("%H:%M:%S", b"10:11:12", "hour, min, sec"),
        ("%Y-%m-%d %H:%M", b"2026-01-02 10:11", "year, mon, mday, hour, min"),
    ],
)
def test_a_format_with_a_part_of_the_time_says_which(format, time, has):
    with pytest.raises(TimeFormatError, match=f"says only {has}, and is needed to the second"):
        events(b"10.0.0.1 " + time + b"\n", log_format=f"%h %{{{format}}}t")
    assert ids(b"10.0.0.1 " + time + b" 2026-01-02\n", log_format=f"%h %{{{format}}}t %{{X}}i", time="X")


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_each_name_of_a_log_format_is_known(log_format):
    check_layout(Layout(log_format=log_format))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"log_format": "combind"}, "log_format: no log format 'combind'; there are combined"),
        ({"log_format": "%Q"}, "log_format: "),
        ({"log_format": "common", "format": "csv"}, "log_format is of logs, and format is csv"),
        ({"time_format": "seconds"}, "time_format: a time format is one of iso, epoch"),
        ({"delimiter": "ab"}, "delimiter is one character"),
        ({"format": "xml"}, "format is one of auto"),
    ],
)
def test_layouts_that_fit_nothing_are_refused(options, says):
    with pytest.raises(LayoutError) as caught:
        check_layout(Layout(**options))
    assert says in str(caught.value)


def test_fields_of_w3c_logs_may_change_and_other_lines_are_bad():
    text = (
        b"2024-01-10 10:00:00 192.0.2.9\n#Fields: date time c-ip x-forwarded-for\n"
        b"2024-01-10 10:00:00 192.0.2.1 -\n2024-01-10 10:00:01 192.0.2.1\n"
        b"#Fields: time date x-forwarded-for c-ip\n10:00:02 2024-01-10 203.0.113.5:80,+10.0.0.1 192.0.2.2\n"
    )
    found, rejected = events(text, id="x-forwarded-for", id_fallback="ip")
    assert [id for id, _, _ in found] == [b"192.0.2.1", b"203.0.113.5"]
    assert [reason.partition(":")[0] for reason in rejected.first] == ["in, line 1", "in, line 4"]


CLASSIC = (
    "2024-01-10T10:00:00.1Z lb 192.0.2.1:2817 10.0.0.1:80 0.000073 0.001048 0.000057 200 200 0 29"
    ' "GET http://shop.example:80/x?y HTTP/1.1" "curl \\"x\\"" - -'
)


def test_logs_of_a_classic_load_balancer():
    assert ids(CLASSIC.encode() + b"\n", bucket_field="elb") == [b"192.0.2.1"]
    assert ids(CLASSIC.encode() + b"\n", log_format="elb", id="client:port") == [b"192.0.2.1:2817"]
    assert events(CLASSIC.replace(" 200 ", " x ", 1).encode() + b"\n", log_format="elb")[1].count == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"id;time\nx;2026-01-02\n", [b"x"]),
        (b"id\ttime\nx\t2026-01-02\n", [b"x"]),
        (b'"id;a";time;id\n1;2026-01-02;"x, y"\n', [b"x, y"]),
        (b"sep=|\nid|time\nx|2026-01-02\n", [b"x"]),
        (b"id, time\nx, 2026-01-02\n", [b"x"]),
        (b'id, time\n"x; y", "2026-01-02"\n', [b"x; y"]),
        (b"time,id\n2026-01-02,x;y\n", [b"x;y"]),
        ("id;time\nä;2026-01-02\n".encode("utf-16"), ["ä".encode()]),
        ("id,time\n😀,2026-01-02\n".encode("utf-16"), ["😀".encode()]),
        (b"\xfe\xff" + "id\ttime\r\nx\t2026-01-02\r\n".encode("utf-16-be"), [b"x"]),
        (b'id,time\r"a\rb",2026-01-02\r', [b"a\nb"]),
    ],
)
@pytest.mark.parametrize("name", ["in.csv", "stdin"])
def test_delimiters_and_encodings_are_seen(text, expected, name):
    assert ids(text, name=name) == expected


DECIMAL = b"2026-01-02 10:00:00,123;ann\n2026-01-02 10:00:00,124;bob\n"
AMBIGUOUS = [
    (DECIMAL, "stdin", "',' or ';': say which with --delimiter"),
    (DECIMAL, "in.csv", "',' or ';': say which with --delimiter"),
    (DECIMAL.replace(b";", b"\t"), "stdin", r"'\\t' or ','"),
    (b"time, UTC;id\n" + DECIMAL, "in.csv", "',' or ';'"),
    (b"2026-01-02;10;ann, x\n2026-01-02;ann\n2026-01-02,bob\n", "in.csv", "',' or ';'"),
    (DECIMAL.replace(b";", b" "), "stdin", "--format csv or --format whitespace"),
]


@pytest.mark.parametrize(("text", "name", "says"), AMBIGUOUS)
def test_a_delimiter_that_may_be_another_is_asked_for(text, name, says):
    with pytest.raises(LayoutError, match=says):
        events(text, name=name, id="2", time="1")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (DECIMAL, {"delimiter": ";"}),
        (DECIMAL + b"2026-01-02 10:00:01;eve\n", {"id": "2"}),
        (DECIMAL.replace(b";", b"\t"), {"name": "in.tsv"}),
        (DECIMAL.replace(b";", b"\t"), {"format": "tsv"}),
        (b"time;id\n" + DECIMAL, {"id": "id", "time": "time"}),
        (b'2026-01-02;ann;"a,\n,b"\n2026-01-02;bob;""\n', {}),
        (b"2026-01-02,ann,X (Y; Z)\n2026-01-02,bob,W\n", {}),
    ],
)
def test_a_delimiter_that_alone_fits_the_first_lines_is_taken(text, options):
    assert ids(text, **({"name": "in.csv", "id": "2", "time": "1"} | options))[:2] == [b"ann", b"bob"]


def test_a_few_bad_lines_do_not_hide_the_delimiter():
    text = b"2026-01-02,ann,X (Y; Z)\n2026-01-02,bob,W\n" * 10 + b"junk\n"
    found, rejected = events(text, name="in.csv", id="2", time="1")
    assert (len(found), rejected.count) == (20, 1)


def test_a_column_that_is_there_twice_is_not_guessed():
    with pytest.raises(FieldError, match="several columns are called 'id'"):
        events(b"id,id,time\nx,y,2026-01-02\n", name="in.csv")
    assert ids(b"id,id,time\nx,y,2026-01-02\n", name="in.csv", id="2") == [b"y"]


ROWS = b"6,1,2026-01-02\n7,1,2026-01-02\n"


@pytest.mark.parametrize("header", [b"id,n,time\n", b",Site no.,@timestamp\n", b"# user,utm_5,day (UTC)\n"])
def test_a_first_line_of_names_is_a_header(header):
    assert ids(header + ROWS, id="1", time="3") == [b"6", b"7"]


FIRST_ROWS = [
    b"5,1,n/a",
    b"ann,x,NULL",
    b"ann,x,",
    b"ann,x,-",
    b"ann,10.0.0.1,soon",
    b"ann,fe80::1,soon",
    b"ann,ann@example.org,soon",
    b"ann,5b1f9c2e-0b7c-4a51,soon",
    b"ann,x,02.01.2026",
    b"ann,x,Jan 2 2026",
    b"ann,x",
]


@pytest.mark.parametrize("first", FIRST_ROWS)
def test_a_first_line_that_may_be_a_bad_one_is_told(first):
    found, rejected = events(first + b"\n" + ROWS, name="in.csv", id="1", time="3")
    assert [id for id, _, _ in found] == [b"6", b"7"]
    assert rejected.count == 1
    assert "line 1" in rejected.first[0]


def test_a_zero_instead_of_a_first_time_is_a_bad_line():
    found, rejected = events(
        b"0,5,0\n1767348672,6,1\n", name="in.csv", id="2", time="1", time_format="epoch", bucket_field="3"
    )
    assert ([(id, bucket) for id, bucket, _ in found], rejected.count) == ([(b"6", "1")], 1)


def test_a_number_that_is_also_the_name_of_another_column_is_not_guessed():
    text, fields = b"id,2,1,time\nx,a,b,2026-01-02\n", {"time": "time", "bucket_field": "1"}
    with pytest.raises(FieldError, match="'1' is the number of a column and the name of another"):
        events(text, name="in.csv", **fields)
    [(_, bucket, _)] = events(text, name="in.csv", header=True, **fields)[0]
    assert bucket == "b"


def test_names_of_columns_that_the_lines_do_not_have():
    assert ids(b"2026-01-02,x\n", format="csv", names=("time", "id")) == [b"x"]


# JSON

RECORDS = [
    {"id": f"u{n}", "time": "2026-01-02", "note": '}]{["\\', "more": [{"id": n}, []]} for n in range(3)
]
IDS = [b"u0", b"u1", b"u2"]
BROKEN = '{"id": "x", "time": "2026-01-02"'


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        "\n".join(json.dumps(record, indent=4) for record in RECORDS),
        "".join(map(json.dumps, RECORDS)),
        "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
        "[" + json.dumps(RECORDS[0]) + "\n, " + json.dumps(RECORDS[1]) + "]\n" + json.dumps(RECORDS[2:]),
        "\n".join(map(json.dumps, RECORDS)),
        json.dumps(RECORDS, indent=0),
        json.dumps([{"in": {"x": {"y": 1}}} | record for record in RECORDS], indent=0).replace(": ", ":\n"),
    ],
)
@pytest.mark.parametrize("name", ["in.json", "stdin"])
def test_json_in_all_shapes(text, name):
    assert ids(text.encode(), name=name) == IDS


@pytest.mark.parametrize(
    ("text", "found", "bad"),
    [
        ("[" + ",\n".join([json.dumps(RECORDS[0]), BROKEN, json.dumps(RECORDS[1])]) + "]", [b"u0", b"u1"], 1),
        ("[" + ", ".join([BROKEN, json.dumps(RECORDS[1])]) + "]", [b"u1"], 1),
        (json.dumps(RECORDS, indent=2).replace('"u1"', '"u1'), [b"u0", b"u2"], 1),
        (json.dumps(RECORDS, indent=2).replace("    }", "    ", 1), [b"u1", b"u2"], 1),
        ("\n".join([json.dumps(RECORDS[0]), BROKEN, json.dumps(RECORDS[1])]), [b"u0", b"u1"], 1),
        (json.dumps(RECORDS)[:-1], IDS, 1),
        (json.dumps(RECORDS)[:-2], IDS[:2], 1),
        (json.dumps(RECORDS) + "]", IDS, 1),
        ("[1, " + json.dumps(RECORDS)[1:], IDS, 1),
        ('{"a":\n{"b": 1}' + json.dumps(RECORDS[0]), [b"u0"], 1),
        ('{"id": "x\n', [], 1),
        ('{"id": "x\n' + json.dumps(RECORDS[0]), [b"u0"], 1),
        ('{"id": x}\n' + json.dumps(RECORDS[0]), [b"u0"], 1),
    ],
)
def test_json_that_is_broken_is_bad_where_it_is(text, found, bad):
    events_of, rejected = events(text.encode(), format="json")
    assert [id for id, _, _ in events_of] == found
    assert rejected.count == bad, rejected.first


def test_bad_json_is_named_by_its_first_line():
    text = b'[\n{"id": "a", "time": "2026-01-02"},\n{"id":\n7.5,\n"time": "2026-01-02"}\n]'
    found, rejected = events(text, name="in.json")
    assert len(found) == 1
    assert rejected.first[0].startswith("in.json, line 3: ")


def test_a_long_line_of_json_is_read_in_pieces():
    padding = "}" * 1000
    records = [
        {"id": f"user {n}", "pad": padding, "time": "2026-01-02"} for n in range(2 * LONGEST_LINE // 1000)
    ]
    text = json.dumps(records).encode()
    assert len(text) > 2 * LONGEST_LINE
    assert len(set(ids(text, name="in.json"))) == len(records)


@pytest.mark.parametrize("open_end", ['{"id": "', '{"id": ['])
def test_an_object_without_end_is_given_up(open_end):
    text = open_end.encode() + b"x " * LONGEST_LINE + b"\n" + json.dumps(RECORDS[0]).encode()
    found, rejected = events(text, format="json")
    assert [id for id, _, _ in found] == [b"u0"]
    assert "or not closed" in rejected.first[0]


# Lines that would take a parser of the usual kind very long

HANDSHAKE = rb"\x16\x03\x01" * 60


@pytest.mark.parametrize(
    "line",
    [
        b'10.0.0.1 - - [17/May/2015:10:05:03 +0200] "' + HANDSHAKE + b'" 400 0 x\n',
        b'10.0.0.1 - - [17/May/2015:10:05:03 +0200] "' + b"\\" * 2001 + b'" 400 0\n',
        b"a " * 100_000 + COMBINED,
        b"10.0.0.1 - - " + b"[17/May/2015:10:" * 10_000 + b"\n",
        b"10.0.0.1, " * 50_000 + COMBINED,
    ],
)
def test_a_line_that_is_no_entry_is_refused_at_once(line):
    before = time.process_time()
    assert events(line, format="log")[1].count == 1
    assert time.process_time() - before < 5  # or for ever


def test_a_handshake_on_the_wrong_port_is_an_entry_of_a_log():
    line = COMMON.replace(b"GET / HTTP/1.1", HANDSHAKE)
    assert ids(line, id="remote_host") == [b"10.0.0.2"]
    assert ids(line, id="request") == [HANDSHAKE.decode("unicode_escape").encode("latin-1")]


def test_every_escape_of_a_log_is_the_byte_that_it_stands_for():
    agent = "".join(f"\\x{byte:02x}" for byte in range(256)) + r"\t\"\\"
    assert ids(COMBINED.replace(b"Agent 1.0", agent.encode()), id="User-Agent") == [
        bytes(range(256)) + b'\t"\\'
    ]


def test_what_is_resolved_stays_as_it_is():
    for name, head in [("a.csv", [b"a;b\n"]), ("in", [b"web-1 | " + COMBINED]), ("a.json", [b"["])]:
        layout = resolve(Layout(), name, head)
        assert layout.format != "auto"
        assert resolve(layout, name, head) == layout
