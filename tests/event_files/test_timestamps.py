"""Times: right, or refused with what would be right."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll.errors import ActivityTrackerError
from activity_tracker_hll.event_files.quarters import TextTimes
from activity_tracker_hll.event_files.timestamps import (
    EPOCH_UNITS,
    BadTimestampError,
    check_time_format,
    timestamp_parser,
)
from activity_tracker_hll.periods import Calendar

TOKYO = Calendar("Asia/Tokyo")  # nine hours ahead of UTC, always
LONDON = Calendar("Europe/London")


def parse(value, format="iso", *, calendar=TOKYO, hourly=False, zone=None):
    return timestamp_parser(format, calendar, hourly=hourly, zone=zone)(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02", datetime(2026, 1, 2)),
        ("20260102", datetime(2026, 1, 2)),
        ("2026-01-02 03:04", datetime(2026, 1, 2, 3, 4)),
        ("2026-01-02T03:04:05.123456789", datetime(2026, 1, 2, 3, 4, 5, 123456)),
        ("2026-01-02T03:04:05,5", datetime(2026, 1, 2, 3, 4, 5, 500000)),
        ("20260102T030405", datetime(2026, 1, 2, 3, 4, 5)),
        ("2026-01-02t03:04:05z", datetime(2026, 1, 2, 12, 4, 5)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 12, 4, 5)),
        ("2026-01-02 03:04:05 UTC", datetime(2026, 1, 2, 12, 4, 5)),
        ("2026-01-02 03:04:05.5 utc", datetime(2026, 1, 2, 12, 4, 5, 500000)),
        ("2026-01-02 03:04:05 GMT", datetime(2026, 1, 2, 12, 4, 5)),
        ("2026-01-02 03:04:05+01", datetime(2026, 1, 2, 11, 4, 5)),
        ("2026-01-02 03:04:05 +0100", datetime(2026, 1, 2, 11, 4, 5)),
        ("2026-01-02 03:04:05 Europe/Berlin", datetime(2026, 1, 2, 11, 4, 5)),
        ("2026-01-02T03:04:05[Europe/Berlin]", datetime(2026, 1, 2, 11, 4, 5)),
        ("2026-01-02T03:04:05+01:00[Europe/Berlin]", datetime(2026, 1, 2, 11, 4, 5)),
        (" 2026-01-02 ", datetime(2026, 1, 2)),
        (20260102, datetime(2026, 1, 2)),
    ],
)
def test_iso(value, expected):
    assert parse(value) == expected
    if isinstance(value, str):
        assert parse(value.encode()) == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("2026-01-02 03:04:05 EST", "EST is neither UTC, an offset"),
        ("2026-01-02 03:04:05 IST", "IST is neither"),
        ("2026-01-02 03:04:05 PM", "PM is neither"),
        ("2026-01-02 03:04:05 Mars/Olympus", "Mars/Olympus is neither"),
        ("1711010112345", "in milliseconds (time format epoch_ms) it is 2024-03-21"),
        ("1767312000", "in seconds (time format epoch) it is 2026-01-02"),
        ("1767312000.25", "in seconds (time format epoch)"),
        ("1767312000000000000", "in nanoseconds (time format epoch_ns)"),
        ("2026-02-30", "ISO 8601"),
        ("2026-02-30T10:00", "ISO 8601"),
        ("2026-01-02X03:04", "ISO 8601"),
        ("12", "ISO 8601"),
        ("", "ISO 8601"),
        ("2026-01-02" + " " * 200, "too long"),
        ("x" * 10_000, "too long"),
        (20260102.0, "ISO 8601"),
        (True, "is not a time"),
        (None, "is not a time"),
    ],
)
def test_what_is_no_iso(value, says):
    with pytest.raises(BadTimestampError) as caught:
        parse(value)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("format", EPOCH_UNITS)
@settings(max_examples=25)
@given(moment=st.datetimes(datetime(1980, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)))
def test_numbers_of_each_unit_are_exact_and_no_other_unit_takes_them(format, moment):
    moment = moment.replace(microsecond=0)
    for other, per_second in EPOCH_UNITS.items():
        number = round(moment.timestamp()) * per_second
        if other == format:
            assert parse(number, format, calendar=Calendar("UTC")) == moment.replace(tzinfo=None)
            assert parse(str(number), format, calendar=Calendar("UTC")) == moment.replace(tzinfo=None)
        else:
            with pytest.raises(BadTimestampError, match=rf"\(time format {other}\) it is {moment:%Y-%m-%d}"):
                parse(number, format)


@pytest.mark.parametrize(
    "value", ["0", "20260102", "-1", "nan", "inf", "1e300", "1_7", "١٧٦٧٣١٢٠٠٠", "9" * 90, ""]
)
@pytest.mark.parametrize("format", EPOCH_UNITS)
def test_numbers_that_are_no_times(value, format):
    with pytest.raises(BadTimestampError, match="since 1970"):
        parse(value, format)


@pytest.mark.parametrize(
    ("value", "format"),
    [
        ("1767311999.9999999", "epoch"),
        ("1767311999.99999999999999999999", "epoch"),
        ("1767311999999.9999", "epoch_ms"),
        ("1767311999999999.9", "epoch_us"),
        ("1767311999999999999.5", "epoch_ns"),
        ("1.7673119999999999e9", "epoch"),
        (1767311999.9999998, "epoch"),
    ],
)
def test_the_last_moment_of_a_day_is_not_rounded_to_the_next(value, format):
    assert parse(value, format, calendar=LONDON) == datetime(2026, 1, 1, 23, 59, 59, 999999)


@pytest.mark.parametrize("unit", EPOCH_UNITS)
def test_floats_are_cut_off_alike_one_by_one_and_many_at_a_time(unit):
    random = np.random.default_rng(1)
    seconds = random.uniform(4e8, 3.7e9, 1000)
    numbers = np.concatenate([seconds, seconds.round(6), seconds.round(3), np.nextafter(seconds.round(), 0)])
    numbers *= EPOCH_UNITS[unit]
    parse_one = timestamp_parser(unit, LONDON, hourly=False)
    found = TextTimes(unit, parse_one).read_numbers(numbers)
    assert found.plain.mean() > 0.9
    some = found.plain
    assert found.dates[some].tolist() == list(map(parse_one, numbers[some].tolist()))


def test_fractions_of_seconds():
    assert parse("1767312000.75", "epoch").microsecond == 750_000
    assert parse(1767312000.5, "epoch") == datetime(2026, 1, 2, 9, 0, 0, 500_000)
    assert parse("1767311999999999999", "epoch_ns").second == 59  # not rounded up to the next day


@pytest.mark.parametrize(
    ("format", "value", "expected"),
    [
        ("%d.%m.%Y", "02.01.2026", datetime(2026, 1, 2)),
        ("%d/%b/%y %I:%M %p", "02/Jan/26 03:04 PM", datetime(2026, 1, 2, 15, 4)),
        ("%Y-%j", "2026-002", datetime(2026, 1, 2)),
        ("%Y-%m-%d %H:%M %z", "2026-01-02 03:04 +0100", datetime(2026, 1, 2, 11, 4)),
        ("%Y-%m-%d %H:%M %Z", "2026-01-02 03:04 UTC", datetime(2026, 1, 2, 12, 4)),
        ("%Y-%m-%d %H:%M %Z", "2026-01-02 03:04 Europe/Berlin", datetime(2026, 1, 2, 11, 4)),
    ],
)
def test_formats_of_strptime(format, value, expected):
    check_time_format(format)
    assert parse(value, format) == expected


@pytest.mark.parametrize(
    ("format", "says"),
    [
        ("seconds", "is one of iso, epoch, epoch_ms, epoch_us, epoch_ns or has directives"),
        ("", "is one of"),
        ("%H:%M", "does not say year, month and day"),
        ("%d/%b %H:%M:%S", "does not say year"),
        ("%Y-%m", "does not say"),
        ("%m/%d", "does not say"),
        ("%Y-%m-%d %I:%M", "has %I without %p"),
        ("%Y %Z %m-%d", "has to be last"),
        ("%Q %Y", "bad directive"),
    ],
)
def test_formats_by_which_a_time_would_be_a_wrong_one(format, says):
    with pytest.raises(ValueError) as caught:
        check_time_format(format)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("format", "good", "bad", "why"),
    [
        ("%Y%m%d", "20260102", "202612", "full width"),
        ("%y%m%d", "260102", "2612", "full width"),
        ("%Y-%m%d", "2026-0102", "2026-102", "full width"),
        ("%Y-%m-%dT%H%M", "2026-1-2T0000", "2026-1-2T000", "full width"),
        ("%Y%m%d%H%M%S%f", "20260102000000000", "2026010200000", "full width"),
        ("%b %Y%m%d %%%H.%M", "jan 20260102  %0.0", "Jan 202612 %0.0", "full width"),
        ("%Y-%j", "2026-002", "2025-366", "no such day in that year"),
        ("%y%j", "26002", "25366", "no such day in that year"),
        ("%y %Y %j", "26 2026 2", "25 2025 366", "no such day in that year"),
        ("%Y %W %w", "2026 00 5", "2026 00 1", "no such day in that year"),
    ],
)
def test_what_strptime_alone_would_take_for_another_day(format, good, bad, why):
    assert parse(good, format, calendar=LONDON) == datetime(2026, 1, 2)
    with pytest.raises(BadTimestampError, match=why):
        parse(bad, format)


def test_the_name_of_a_zone_is_not_passed_over():
    with pytest.raises(BadTimestampError, match="EST"):
        parse("2026-01-02 03:04 EST", "%Y-%m-%d %H:%M %Z")


def test_a_format_without_an_hour_gives_days():
    with pytest.raises(ActivityTrackerError, match="hourly"):
        parse("02.01.2026", "%d.%m.%Y", hourly=True)


def test_the_files_own_zone_is_that_of_times_which_say_none():
    assert parse("2026-01-02 20:00", zone="UTC") == datetime(2026, 1, 3, 5)
    assert parse("2026-01-02 20:00 Europe/Berlin", zone="UTC") == datetime(2026, 1, 3, 4)
    assert parse("02.01.2026 20:00", "%d.%m.%Y %H:%M", zone="America/New_York") == datetime(2026, 1, 3, 10)
    assert parse(datetime(2026, 1, 2, 20), zone="UTC") == datetime(2026, 1, 3, 5)
    assert parse("2026-01-02", zone="UTC") == datetime(2026, 1, 2)  # a day is that day
