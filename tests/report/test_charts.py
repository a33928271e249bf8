"""Numbers to points."""

import re
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll import Estimate, Share
from activity_tracker_hll.report import wording
from activity_tracker_hll.report.charts import (
    Axis,
    Band,
    area,
    band,
    dots,
    hatches,
    line,
    means,
    short,
    time_ticks,
    weekly,
)


@given(st.floats(1e-6, 1e15))
def test_an_axis_ends_little_above_the_largest_number(most):
    axis = Axis.up_to(most)
    assert most <= axis.top * (1 + 1e-9) <= 2.5 * most + 1e-9
    ticks = axis.ticks(short)
    assert 3 <= len(ticks) <= 5
    assert (ticks[0].at, ticks[-1].at) == (100, 0)
    assert 0 <= axis.y(most) <= 100


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, ["0", "1"]),
        (3, ["0", "1", "2", "3"]),
        (158_000, ["0", "50k", "100k", "150k", "200k"]),
        (2_070, ["0", "1k", "2k", "3k"]),
        (738_000, ["0", "250k", "500k", "750k"]),
        (1e6, ["0", "250k", "500k", "750k", "1M"]),
        (0.124, ["0", "0.05", "0.1", "0.15"]),
    ],
)
def test_axes(most, labels):
    assert [tick.label for tick in Axis.up_to(most).ticks(short)] == labels


def test_lines_are_never_drawn_over_what_is_not_known():
    axis = Axis(100, 50)
    values = [0, 50, None, 100, None]
    assert line(values, axis, range(5)) == "M0 100 1 50M3 0h0"
    assert line(values, axis, [0, 3]) == "M0 100 3 0"  # only these were asked for
    assert dots(values, axis) == "M0 100h0M1 50h0M3 0h0"
    bands = [None if value is None else Band(value, value, value + 10) for value in values]
    assert band(bands, axis, range(5)) == "M0 90 1 40 1 50 0 100ZM3 -10 3 0Z"
    assert area([10, 5, None, 0]) == "M0 100 0 0 1 50 1 100ZM3 100 3 100 3 100Z"
    assert area([0, None]) == "M0 100 0 100 0 100Z"


def test_hatches():
    assert hatches(["", "x", "x", "", "y"]) == [(12.5, 50.0, "x"), (87.5, 12.5, "y")]
    assert hatches(["x"]) == [(0.0, 50.0, "x")]
    assert hatches([""] * 3) == []
    assert hatches(["", "x", "x", ""], bars=True) == [(25.0, 50.0, "x")]


def test_means_have_the_mean_error():
    days = [Band(10 * n, 10 * n - 2, 10 * n + 3) for n in range(8)]
    assert means(days)[:6] == [None] * 6
    assert means(days)[6:] == [(30, 28, 33), (40, 38, 43)]
    assert means([*days[:3], None, *days[4:]]) == [None] * 8


@given(st.dates(date(1990, 1, 1), date(2050, 1, 1)), st.integers(1, 4000))
def test_time_ticks(first, days):
    found = time_ticks([first + timedelta(each) for each in range(days)])
    assert len(found) <= 5
    assert found or days < 400
    assert all(0 <= tick.at <= 100 for tick in found)
    assert [tick.at for tick in found] == sorted(tick.at for tick in found)


# Words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (7, "7"),
        (956, "956"),
        (9321, "9,320"),
        (737_912, "738,000"),
        (1.2345, "1.23"),
        (0.5, "0.500"),
    ],
)
def test_rounded(number, text):
    assert wording.rounded(number) == text


def test_shares():
    assert wording.percents(Share(0.5, 0.01)) == ("50", "48", "52")
    assert wording.percents(Share(0.988, 0.001)) == ("98.8", "98.6", "99.0")
    assert (wording.percent(0.046), wording.percent(0), wording.percent(1)) == ("4.6", "0", "100")
    assert wording.full(Share()) == "-"
    assert wording.limits(Share(0.5, float("inf"))) == ""
    assert wording.limits(Estimate(101_000)) == "99,500 to 102,000"


def test_dates_speak_english_wherever_they_are():
    assert wording.weekday(date(2026, 11, 23)) == "Mon, 23 Nov 2026"
    assert wording.long_day(date(2026, 1, 2)) == "2 January 2026"
    assert wording.period("weekly", date(2026, 9, 7), like=date(2026, 1, 1)) == "the week of 7 Sep"
    assert [wording.until(days) for days in (365, 337, 14, 7, 5)] == [
        "a year",
        "48 weeks",
        "2 weeks",
        "a week",
        "5 days",
    ]


@settings(max_examples=30)
@given(st.text())
def test_nothing_that_turns_or_hides_text_is_left(text):
    safe = wording.safe(text)
    assert len(safe) == len(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", safe)
    safe.encode()


def test_a_week_of_which_nothing_is_known_is_no_week_of_nobody():
    days = [*[None] * 7, *[None] * 5, Estimate(8), Estimate(4), *[Estimate(0)] * 7]
    assert weekly([Estimate(1), *days], 52) == [None, 6, 0]
    assert weekly(days, 2) == [6, 0]
