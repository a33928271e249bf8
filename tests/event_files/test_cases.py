"""Small files as people have them, each with what it says: every one is read right, or refused aloud."""

from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("apachelogs")

from activity_tracker_hll.event_files.layout import LayoutError
from activity_tracker_hll.periods import Calendar
from helpers.event_files import events

CASES = Path(__file__).parent / "cases"


def by_day(found):
    days = defaultdict(set)
    for id, _, time in found:
        days[f"{time:%m-%d}"].add(id.decode())
    return dict(days)


def read_case(name, zone="UTC", **options):
    return events((CASES / name).read_bytes(), name=name, calendar=Calendar(zone), **options)


FIRST_THREE = {"01-10": {"192.0.2.1", "192.0.2.2", "2001:db8::3"}}
AGENTS = {"01-10": {"curl/8.4.0", "Mozilla/5.0 (X11)"}}
MAIN = {"log_format": '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
        '"$http_referer" "$http_user_agent" "$http_x_forwarded_for"'}  # fmt: skip
FORWARDED = {"id": "X-Forwarded-For", "id_fallback": "remote_host"}
CLIENTS = {"01-10": {"172.17.0.1", "203.0.113.7", "203.0.113.8"}}
ANN_BOB = {"01-02": {"ann", "bob"}}
ON_THE_FIRST = {"01-01": {"ann", "bob"}}
IN_LISTS = {"id": "request.headers.X-Forwarded-For", "time": "ts", "time_format": "epoch"}


@pytest.mark.parametrize(
    ("name", "options", "expected", "bad"),
    [
        ("syslog_prefix.log", {}, FIRST_THREE, 0),
        ("compose_prefix.log", {}, FIRST_THREE, 0),
        ("journal_prefix.log", {}, {"01-10": {"192.0.2.1"}}, 0),
        ("kubernetes_cri_prefix.log", {}, {"01-10": {"192.0.2.1", "192.0.2.2"}}, 0),
        ("two_fields_before.log", {}, {}, 3),
        (
            "two_fields_before.log",
            {"log_format": '%v %p %h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"'},
            FIRST_THREE,
            0,
        ),
        ("vhost_combined.log", {"log_format": "vhost_combined"}, FIRST_THREE, 0),
        ("vhost_combined.log", {}, {}, 3),
        ("forwarded_in_front.log", {}, {"01-10": {"203.0.113.9"}}, 0),
        (
            "forwarded_in_front.log",
            {"address": "last"},
            {"01-10": {"203.0.113.9", "10.0.0.1", "10.0.0.2"}},
            0,
        ),
        ("nginx_main.log", {}, {"01-10": {"172.17.0.1", "172.17.0.2"}}, 0),
        ("nginx_main.log", FORWARDED, CLIENTS, 0),
        ("nginx_main.log", FORWARDED | {"log_format": "nginx"}, CLIENTS, 0),
        ("nginx_main.log", MAIN | {"id": "http_x_forwarded_for", "id_fallback": "remote_addr"}, CLIENTS, 0),
        ("nginx_main.log", {"id": "X-Forwarded-For"}, {"01-10": {"203.0.113.7", "203.0.113.8"}}, 1),
        ("mixed_common_combined.log", {"id": "User-Agent"}, AGENTS, 1),
        ("five_odd_lines_first.log", {}, {"01-10": {f"198.51.100.{n}" for n in range(50)}}, 5),
        (
            "w3c_iis.log",
            {"hourly": True},
            {"01-10": {"192.0.2.1", "192.0.2.2"}, "01-11": {"192.0.2.2", "2001:db8::3"}},
            0,
        ),
        (
            "w3c_iis.log",
            {"zone": "Asia/Tokyo"},
            {"01-11": {"192.0.2.1", "192.0.2.2"}, "01-12": {"192.0.2.2", "2001:db8::3"}},
            0,
        ),
        ("cloudfront.log", {}, {"01-10": {"192.0.2.1", "192.0.2.2"}, "01-11": {"192.0.2.2"}}, 0),
        ("alb.log", {}, {"01-10": {"192.0.2.1", "2001:db8::3"}}, 0),
        ("alb.log", {"log_format": "alb"}, {"01-10": {"192.0.2.1", "2001:db8::3"}}, 0),
        ("utc_suffix.csv", {"zone": "America/New_York"}, {"01-01": {"ann", "bob"}, "01-02": {"cid"}}, 0),
        ("microseconds.csv", {"time_format": "epoch_us"}, {"01-02": {"ann"}, "01-03": {"bob"}}, 0),
        ("array.json", {}, ON_THE_FIRST, 0),
        ("array_one_line.json", {}, ON_THE_FIRST, 0),
        ("pretty.json", {}, ON_THE_FIRST, 0),
        ("excel_semicolon.csv", {"time_format": "%d.%m.%Y"}, ANN_BOB, 0),
        ("excel_utf16.csv", {}, {"01-02": {"änn", "bob"}}, 0),
        ("carriage_returns.csv", {}, ANN_BOB, 0),
        ("space_after_comma.csv", {}, ANN_BOB, 0),
        ("nulls.csv", {}, {"01-02": {"ann", "\\N", "NULL", "ann "}}, 1),
        ("nulls.csv", {"nulls": ("NULL", "\\N")}, {"01-02": {"ann", "ann "}}, 3),
        ("list_in_json.jsonl", IN_LISTS, {"01-02": {"203.0.113.9"}}, 0),
        ("list_in_json.jsonl", IN_LISTS | {"address": "last"}, {"01-02": {"203.0.113.9", "10.0.0.1"}}, 0),
    ],
)
def test_a_file_from_the_field(name, options, expected, bad):
    found, rejected = read_case(name, **options)
    assert by_day(found) == expected
    assert rejected.count == bad, rejected.first


@pytest.mark.parametrize("name", ["two_fields_before.log", "vhost_combined.log"])
def test_a_format_that_is_not_guessed_is_said_to_need_a_name(name):
    assert all("--log-format" in reason for reason in read_case(name)[1].first)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "seconds_for_ms.csv",
            {"time_format": "epoch_ms"},
            "in seconds (time format epoch) it is 2026-01-02",
        ),
        ("microseconds.csv", {}, "in microseconds (time format epoch_us) it is 2026-01-02"),
        ("microseconds.csv", {"time_format": "epoch"}, "time format epoch_us"),
        ("list_in_json.jsonl", IN_LISTS | {"time_format": "iso"}, "time format epoch"),
        ("list_in_json.jsonl", IN_LISTS | {"id": "request.headers.Host"}, "has: request, ts"),
        ("w3c_iis.log", {"id": "cs-host"}, "has: date, time, s-ip"),
    ],
)
def test_what_fits_no_line_of_a_file_is_an_error_that_says_what_would(name, options, says):
    with pytest.raises(LayoutError) as caught:
        read_case(name, **options)
    assert says in str(caught.value)
