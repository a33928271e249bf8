"""The fast paths say of every line what the careful reader says."""

import io
import json
from collections import Counter

import pytest

pytest.importorskip("apachelogs")

from activity_tracker_hll.coder import Coder
from activity_tracker_hll.event_files import events
from activity_tracker_hll.event_files.events import read_columns
from activity_tracker_hll.event_files.fast_logs import LogPath
from activity_tracker_hll.event_files.json_records import MOST_NESTED
from activity_tracker_hll.event_files.layout import Layout, LayoutError
from activity_tracker_hll.event_files.lines import Lines, Rejected
from activity_tracker_hll.event_files.logs import LONGEST_ENTRY
from activity_tracker_hll.event_files.opening import Stream, opened
from activity_tracker_hll.event_files.readers import read_stream
from activity_tracker_hll.periods import Calendar
from helpers import odd_lines
from helpers.event_files import COMBINED, rows

BERLIN = Calendar("Europe/Berlin")
DELIMITED = {"id": "1", "bucket_field": "2", "time": "3"}
NAMED = {"id": "id", "bucket_field": "site"}
KINDS = {
    "common": {"format": "log"},
    "combined": {"format": "log"},
    "users": {"format": "log", "id": "user", "bucket_field": "host"},
    "agents": {"format": "log", "log_format": "combined", "id": "User-Agent", "bucket_field": "Referer"},
    "nginx": {"format": "log"},
    "vhost_common": {"log_format": "vhost_common", "format": "log", "bucket_field": "vhost"},
    "vhost_combined": {"log_format": "vhost_combined", "format": "log"},
    "csv": {"format": "csv", "header": False, **DELIMITED},
    "tsv": {"format": "tsv", "header": False, **DELIMITED},
    "semicolons": {"format": "csv", "delimiter": ";", "header": False, "id": "1", "time": "3"},
    "seconds": {"format": "csv", "time_format": "epoch", "header": False, **DELIMITED},
    "milliseconds": {"format": "csv", "time_format": "epoch_ms", "header": False, **DELIMITED},
    "days": {"format": "csv", "time_format": "%d.%m.%Y", "header": False, **DELIMITED},
    "jsonl": {"format": "jsonl", **NAMED},
    "jsonl nested": {"format": "jsonl", "id": "user.name"},
    "jsonl seconds": {"format": "jsonl", "time_format": "epoch", **NAMED},
    "jsonl milliseconds": {"format": "jsonl", "time_format": "epoch_ms", **NAMED},
}
OF_KIND = {"users": "combined", "agents": "combined"}
FIRST = {
    "log": b'10.0.0.1 - ann [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 5 "http://x/" "Agent"\n',
    "jsonl": b'{"id": "x", "site": "a", "time": TIME, "user": {"name": "y"}}\n',
}
TIMES = {
    "iso": b"2026-01-02",
    "epoch": b"1767348672",
    "epoch_ms": b"1767348672123",
    "%d.%m.%Y": b"02.01.2026",
}


USUAL = {
    "vhost_common": b'a.example 10.0.0.1 - - [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 5\n',
    "vhost_combined": b'a.example:80 ::1 - - [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 5 "-" "-"\n',
    "agents": FIRST["log"],
}


class All(Rejected):
    """All bad lines with their numbers and reasons, in their order."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def add(self, name, number, reason):
        self.lines.append((number, reason))


def text_of(kind, count, seed):
    """A good line, so that a time fits, and many that are made by chance."""
    layout = Layout(**KINDS[kind])
    delimiter = {"tsv": b"\t"}.get(layout.format, (layout.delimiter or ",").encode())
    time = TIMES[layout.time_format]
    if layout.format == "log":
        made = odd_lines.make(layout.log_format or OF_KIND.get(kind, kind), count, seed)
        first = b"" if layout.log_format else FIRST["log"]
    elif layout.format == "jsonl":
        made = odd_lines.make("jsonl", count, seed, time_format=layout.time_format)
        first = FIRST["jsonl"].replace(b"TIME", b'"%s"' % time)
    else:
        made = odd_lines.make("csv", count, seed, delimiter=delimiter, time_format=layout.time_format)
        first = delimiter.join([b"x", b"a", time]) + b"\n"
    return first + made


def both(text, layout, *, hourly=False):
    """What is found and what is bad, or why nothing can be read: fast and carefully."""
    results = []
    for reading in (
        lambda stream, bad: rows(
            read_columns(stream, layout, BERLIN, name="in", rejected=bad, hourly=hourly)
        ),
        lambda stream, bad: read_stream(stream, "in", layout, BERLIN, bad, hourly=hourly),
    ):
        bad = All()
        try:
            with opened("-", io.BytesIO(text), lambda _: None) as stream:
                found = Counter(reading(stream, bad))
        except LayoutError as error:
            results.append(str(error))
        else:
            results.append((found, bad.lines))
    return results


class Counting(Lines):
    """Counts the lines that are read carefully."""

    taken = 0

    def __iter__(self):
        for line in super().__iter__():
            Counting.taken += 1
            yield line


def compare(kind, count, seed, *, hourly=False):
    fast, careful = both(text_of(kind, count, seed), Layout(**KINDS[kind]), hourly=hourly)
    if isinstance(careful, str) or isinstance(fast, str):
        assert fast == careful
        return 0
    assert fast[1] == careful[1]
    assert fast[0] == careful[0]
    return len(fast[1])


OTHERS = [kind for kind in KINDS if "jsonl" not in kind]
JSON = [kind for kind in KINDS if "jsonl" in kind]


@pytest.mark.parametrize("kind", OTHERS)
def test_mutated_lines_are_what_the_careful_reader_says(kind):
    assert compare(kind, 400, 0, hourly=kind == "csv") > 50


@pytest.mark.usefixtures("parser_of_json")
@pytest.mark.parametrize("kind", JSON)
def test_mutated_lines_of_json_are_what_the_careful_reader_says(kind):
    assert compare(kind, 400, 0, hourly=kind == "jsonl") > 50


@pytest.mark.parametrize("kind", KINDS)
def test_usual_lines_are_not_read_one_by_one(kind, monkeypatch):
    [first, *_] = text_of(kind, 0, 0).splitlines(keepends=True) or [USUAL[kind]]
    monkeypatch.setattr(events, "Lines", Counting)
    Counting.taken = 0
    fast, careful = both(first * 500, Layout(**KINDS[kind]))
    assert fast == careful
    assert sum(fast[0].values()) == 500
    assert Counting.taken <= 3


@pytest.mark.long
@pytest.mark.usefixtures("parser_of_json")
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("kind", JSON)
def test_many_mutated_lines_of_json_are_what_the_careful_reader_says(kind, seed):
    assert compare(kind, 100_000, seed, hourly=bool(seed % 2)) > 5000


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("kind", OTHERS)
def test_many_mutated_lines_are_what_the_careful_reader_says(kind, seed):
    hourly = bool(seed % 2) and kind != "days"  # which have no hours
    assert compare(kind, 100_000, seed, hourly=hourly) > 5000


LINES = {
    "log": COMBINED,
    "csv": b"ann,2026-01-02\n",
    "jsonl": b'{"id": "ann", "time": "2026-01-02"}\n',
    "json": b'{"id": "ann",\n "time": "2026-01-02"}\n',
}


@pytest.mark.parametrize("options", [{}, {"timezone": "UTC"}])
@pytest.mark.parametrize("format", LINES)
def test_events_of_a_stream_are_handed_on_before_more_is_waited_for(format, options):
    fields = {"id": "1", "time": "2", "header": False} if format == "csv" else {}
    events, told = 0, []
    left = [LINES[format] * 3] * 3

    def read(_size):
        told.append(events)
        return left.pop() if left else b""

    stream = Stream(read, lambda _seconds: False)
    for part in read_columns(stream, Layout(format=format, **fields, **options), BERLIN, name="in"):
        events += len(part)
    assert told == [0, 3, 6, 9]


def test_few_events_do_not_keep_many_blocks_in_memory(monkeypatch):
    monkeypatch.setattr(LogPath, "block_size", 4 * len(COMBINED))
    with opened("-", io.BytesIO(COMBINED * 1000), lambda _: None) as stream:
        parts = [len(part) for part in read_columns(stream, Layout(format="log"), BERLIN)]
    assert sum(parts) == 1000
    assert max(parts[:-1]) <= 4 * 32  # the last are those that were read carefully


@pytest.mark.parametrize("more", [-1, 0, 1, LONGEST_ENTRY])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_entries_of_more_than_servers_let_through_are_bad(more, place):
    """Where one begins in its block decides which halves of blocks have ends of lines."""
    size = LONGEST_ENTRY + more - len(COMBINED)
    long = COMBINED.replace(b"GET /", b"GET /" + b"x" * size)
    lines = [COMBINED] * 300 * place + [long] + [COMBINED] * 200
    fast, careful = both(b"".join(lines), Layout(format="log"))
    assert fast == careful
    found, bad = fast
    assert (found.total(), len(bad)) == (len(lines) - (more > 0), int(more > 0))
    assert all("longer than 65,536 bytes" in str(line) for line in bad)


def test_long_values_that_differ_do_not_fill_the_memory():
    coder = Coder(len)
    sizes = []
    for number in range(8):
        codes = coder.codes([f"{number}" * (1 << 19), "short"])
        assert [coder.values[code] for code in codes.tolist()] == [1 << 19, 5]
        sizes.append(len(coder.values))
    assert max(sizes) <= 4


@pytest.mark.parametrize("form", ["{},{},{}\n", '"{}",{},{}\n'])
def test_a_row_longer_than_the_header_has_its_fields_elsewhere(form):
    good = form.format("2026-01-02", "Doe", "1")
    odd = ["2026-01-02,Smith, John,7\n", form.format("2026-01-02", "Roe", "2,"), "2026-01-02,Poe,3, \n"]
    text = ("time,name,id\n" + good * 3 + "".join(odd) + good * 3).encode()
    for found, bad in both(text, Layout(format="csv")):
        assert sorted(id for id, _, _ in found) == [b"1", b"2", b"3"]
        assert [(number, reason[:31]) for number, reason in bad] == [(5, "4 fields, and the header has 3:")]


def test_the_mark_of_a_file_that_was_put_behind_another_is_no_part_of_an_id():
    mark = b"\xef\xbb\xbf"
    text = mark + b"ann,2026-01-02\n" + mark + b"bob,2026-01-02\nbob,2026-01-02\n"
    for found, bad in both(text, Layout(format="csv", header=False, id="1", time="2")):
        assert {id for id, _, _ in found} == {b"ann", b"bob"}
        assert bad == []


@pytest.mark.parametrize(
    "fields",
    [{"id": "request_time"}, {"bucket_field": "request_time"}, {"id": "request_time", "time": "remote_host"}],
)
def test_the_time_of_a_log_is_neither_id_nor_bucket(fields):
    fast, careful = both(COMBINED * 3, Layout(format="log", **fields))
    assert fast == careful


@pytest.mark.usefixtures("parser_of_json")
@pytest.mark.parametrize("id", ["time", 'a"b', "a\\b", "a\nb", "\u00e9", "\udcff"])
def test_any_name_of_a_field_is_one(id):
    record = {"time": "2026-01-02", id: "2026-01-02"}
    fast, careful = both(json.dumps(record).encode() + b"\n", Layout(format="jsonl", id=id))
    assert fast == careful
    assert fast[0].total() == 1 or id == "\udcff"  # which is no text in JSON, and no name either


@pytest.mark.usefixtures("parser_of_json")
@pytest.mark.parametrize(("more", "events"), [(0, 3), (1, 2), (1000, 2)])
def test_what_is_nested_too_deep_does_not_depend_on_who_reads_it(more, events):
    depth = MOST_NESTED - 1 + more  # within the object itself
    line = b'{"id": "x", "time": "2026-01-02", "deep": %s}\n'
    text = (
        line % b"[[{}]]"
        + line % (b"[" * depth + b"]" * depth)
        + line % (b"[]," * 2000)[:-1].join([b"[", b"]"])
    )
    for found, bad in both(text, Layout(format="jsonl")):
        assert found.total() == events
        assert bad == [(2, "more than 500 objects and arrays within each other")] * (3 - events)


@pytest.mark.parametrize("time", ["1e13", "-1e17", "1e300", "NaN", "1700000000.5"])
def test_floats_that_are_no_times_are_told_and_nothing_else(time):
    line = b'{"id": "x", "time": %s}\n'
    fast, careful = both(
        line % b"1700000000" + line % time.encode(), Layout(format="jsonl", time_format="epoch")
    )
    assert fast == careful
