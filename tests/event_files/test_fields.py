"""What an event is made of: ids of several fields, addresses, nothings, filters, missing fields."""

import io
import re

import pytest

pytest.importorskip("apachelogs")

from activity_tracker_hll.event_files.addresses import address, is_address_field
from activity_tracker_hll.event_files.layout import FieldError, Filter, Layout
from activity_tracker_hll.event_files.lines import Rejected
from activity_tracker_hll.event_files.readers import read_stream
from helpers.event_files import COMBINED, COMMON, UTC, events, ids

XFF = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("field", "value", "first", "last"),
    [
        (XFF, "203.0.113.9", "203.0.113.9", None),
        (XFF, "203.0.113.9, 10.0.0.1", "203.0.113.9", "10.0.0.1"),
        (XFF, "203.0.113.9:4711,[2001:db8::1]:80", "203.0.113.9", "2001:db8::1"),
        (XFF, "unknown, 203.0.113.9", "203.0.113.9", None),
        (XFF, "203.0.113.9,%2010.0.0.1", "203.0.113.9", "10.0.0.1"),
        (XFF, "203.0.113.9,+10.0.0.1", "203.0.113.9", "10.0.0.1"),
        (XFF, "", None, None),
        (XFF, "-", None, None),
        (XFF, "<script>", None, None),
        (XFF, "1.2.3.4.5, 300.1.1.1", None, None),
        ("request.headers.x-forwarded-for", "203.0.113.9, 10.0.0.1", "203.0.113.9", "10.0.0.1"),
        ("http_x_real_ip", "203.0.113.9", "203.0.113.9", None),
        ("cs(X-Forwarded-For)", "203.0.113.9, 10.0.0.1", "203.0.113.9", "10.0.0.1"),
        ("remote_host", "crawler.example.org", "crawler.example.org", None),
        ("remote_addr", "192.0.2.1:4711", "192.0.2.1", None),
        ("remote_addr", "2001:db8::1", "2001:db8::1", None),
        ("remote_addr", "[2001:db8::1]:4711", "2001:db8::1", None),
        ("remote_host", "a, b", None, None),
    ],
)
def test_the_address_in_a_field(field, value, first, last):
    assert is_address_field(field)
    assert address(field, value, "first") == first
    assert address(field, value, "last") == (last or first)


@pytest.mark.parametrize("field", ["id", "User-Agent", "user.id", "1", "cs(Cookie)", "x", "site"])
def test_other_fields_are_taken_as_they_are(field):
    assert not is_address_field(field)


def test_an_id_with_a_comma_is_no_chain():
    assert ids(b'{"id": "10.0.0.1, 10.0.0.2", "time": "2026-01-02"}\n') == [b"10.0.0.1, 10.0.0.2"]


def test_an_id_of_several_fields():
    two = COMBINED + COMBINED.replace(b"Agent 1.0", b"Agent 2.0") + COMBINED.replace(b"Agent 1.0", b"-")
    found, rejected = events(two, id=("remote_host", "User-Agent"))
    assert [id for id, _, _ in found] == [b"10.0.0.1\tAgent 1.0", b"10.0.0.1\tAgent 2.0"]
    assert rejected.first == ["in, line 3: no User-Agent"]
    assert ids(b'{"a": 7, "b": "x", "time": "2026-01-02"}\n', id=("a", "b")) == [b"7\tx"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"user": "ann", "session": "s1", "time": "2026-01-02"}\n', b"ann"),
        (b'{"user": null, "session": "s1", "time": "2026-01-02"}\n', b"s1"),
        (b'{"user": "", "session": "s1", "time": "2026-01-02"}\n', b"s1"),
        (b'{"user": "NULL", "session": "s1", "time": "2026-01-02"}\n', b"s1"),
        (b'{"session": "s1", "time": "2026-01-02"}\n', b"s1"),
        (b'{"user": null, "session": "NULL", "time": "2026-01-02"}\n', None),
    ],
)
def test_a_fallback_of_the_id(line, expected):
    good = b'{"user": "eve", "session": "s", "time": "2026-01-02"}\n'
    found, rejected = events(good + line, id="user", id_fallback="session", nulls=("NULL",))
    assert [id for id, _, _ in found[1:]] == ([expected] if expected else [])
    assert rejected.count == (expected is None)


def test_what_stands_for_nothing_is_no_bucket():
    text = b"id,time,site\nx,2026-01-02,a\ny,2026-01-02,NULL\nz,2026-01-02,\n"
    found, rejected = events(text, bucket_field="site", nulls=("NULL",))
    assert [event[:2] for event in found] == [(b"x", "a")]
    assert rejected.count == 2
    assert events(b'{"id": 0, "time": "2026-01-02"}\n', nulls=("0",))[1].count == 1


def test_a_date_and_a_time_in_two_columns():
    text = b"id,day,clock\nx,02.01.2026,10:30\ny,02.01.2026,\n"
    found, rejected = events(text, time=("day", "clock"), time_format="%d.%m.%Y %H:%M", hourly=True)
    assert [time.hour for _, _, time in found] == [10]
    assert rejected.count == 1
    assert len(events(b"x,2026-01-02,10:30\n", format="csv", id="1", time=("2", "3"))[0]) == 1


def keep(field, pattern):
    return Filter(field, re.compile(pattern, re.IGNORECASE), keeps=True)


def drop(field, pattern):
    return Filter(field, re.compile(pattern, re.IGNORECASE), keeps=False)


@pytest.mark.parametrize(
    ("filters", "passing", "filtered"),
    [
        ([keep("status", "2..")], [b"10.0.0.1"], 1),
        ([drop("status", "2..")], [b"10.0.0.2"], 1),
        ([keep("path", "^/shop/$")], [b"10.0.0.2"], 1),
        ([keep("method", "^POST$")], [b"10.0.0.2"], 1),
        ([keep("remote_user", "^$")], [b"10.0.0.2"], 1),
        ([drop("User-Agent", "agent")], [b"10.0.0.2"], 1),  # which the common format lacks
        ([keep("User-Agent", "AGENT")], [b"10.0.0.1"], 1),
        ([keep("status", "[24]"), drop("user", "ann")], [b"10.0.0.2"], 1),
        ([keep("status", "5")], [], 2),
        ([keep("request", "GET|POST")], [b"10.0.0.1", b"10.0.0.2"], 0),
    ],
)
def test_filters(filters, passing, filtered):
    text = COMBINED + COMMON.replace(b"GET /", b"POST http://x/shop/?a=/b")
    found, rejected = events(text, filters=tuple(filters))
    assert [id for id, _, _ in found] == passing
    assert (rejected.filtered, rejected.count) == (filtered, 0)


def test_filters_of_json_and_csv():
    text = (
        b'{"id": "x", "time": "2026-01-02", "bot": false}\n{"id": "y", "time": "2026-01-02", "bot": true}\n'
    )
    assert ids(text, filters=(drop("bot", "true"),)) == [b"x"]
    assert ids(b"id,time,n\nx,2026-01-02,7\ny,2026-01-02,8\n", filters=(keep("n", "7"),)) == [b"x"]


def test_a_filter_by_a_field_that_is_not_there_is_an_error():
    with pytest.raises(FieldError, match="'Stauts'"):
        events(COMBINED, filters=(keep("Stauts", "2.."),))
    with pytest.raises(FieldError, match="'stauts'"):
        events(b"id,time\nx,2026-01-02\n", filters=(drop("stauts", "2.."),))


def test_lines_that_are_filtered_need_not_be_events():
    text = b'{"id": "x", "time": "2026-01-02"}\n{"type": "health"}\n'
    found, rejected = events(text, filters=(drop("type", "health"),))
    assert (len(found), rejected.count, rejected.filtered) == (1, 0, 1)


@pytest.mark.parametrize("good", [0, 1])
def test_a_field_that_some_lines_lack_makes_these_bad_and_one_that_all_lack_is_an_error(good):
    lines = [b'{"id": "x", "time": "2026-01-02"}\n'] * good + [b'{"uid": "y", "time": "2026-01-02"}\n'] * 2000
    if good:
        assert events(b"".join(lines))[1].count == 2000
    else:
        with pytest.raises(FieldError, match=r"no line has a field 'id'; the first one has: uid, time"):
            events(b"".join(lines))


def test_a_field_that_all_lines_lack_is_said_at_once():
    text = io.BytesIO(b'{"uid": "x", "time": "2026-01-02"}\n' * 100_000)
    stream = io.BufferedReader(text)
    with pytest.raises(FieldError):
        list(read_stream(stream, "in", Layout(), UTC, Rejected()))
    assert text.tell() < 1 << 17


@pytest.mark.parametrize(
    ("layout", "is_plain"),
    [
        (Layout(), True),
        (Layout(id="user", time="when", bucket_field="site", time_format="epoch"), True),
        (Layout(id=("a", "b")), False),
        (Layout(time=("a", "b")), False),
        (Layout(id="remote_host"), False),
        (Layout(id=XFF), False),
        (Layout(id_fallback="x"), False),
        (Layout(nulls=("NULL",)), False),
        (Layout(filters=(keep("a", "b"),)), False),
        (Layout(timezone="UTC"), False),
        (Layout(prefix="cri"), False),
    ],
)
def test_what_a_fast_reader_may_do(layout, is_plain):
    assert layout.is_plain is is_plain


def test_a_tab_in_a_part_of_an_id_makes_it_no_other_id():
    text = b'{"a": "x\\ty", "b": "z", "time": "2026-01-02"}\n{"a": "x", "b": "y\\tz", "time": "2026-01-02"}\n'
    found, rejected = events(text, id=("a", "b"))
    assert [id for id, _, _ in found] == [b"x\ty\tz"]
    assert "tab in a part of the id" in rejected.first[0]


def test_a_line_that_kubernetes_has_split_and_that_does_not_end_is_bad():
    line = b'2024-01-10T10:00:00Z stdout %s {"id": "x", "time": "2026-01-02"%s\n'
    found, rejected = events(line % (b"F", b"}") + line % (b"P", b","))
    assert len(found) == 1
    assert rejected.first == ["in, line 2: a line that was split does not end"]
