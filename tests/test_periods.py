from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.periods import LONGEST, PERIODS, Calendar, Period

moments = st.datetimes(datetime(1001, 1, 1), datetime(9997, 12, 31))
kinds = st.sampled_from(PERIODS)
weeks = st.integers(0, 6)


@given(kinds, moments, weeks)
def test_a_moment_lies_in_its_period_and_nowhere_else(kind, moment, week_start):
    calendar = Calendar("UTC", week_start)
    period = calendar.containing(kind, moment)
    assert period.start <= moment < period.next().start
    assert period.next().start - period.start <= LONGEST[kind]
    assert calendar.containing(kind, period.start) == period
    assert calendar.containing(kind, period.next().start) == period.next()


@given(kinds, moments, weeks)
def test_next_and_previous_are_inverse_and_names_are_parsed_back(kind, moment, week_start):
    calendar = Calendar("UTC", week_start)
    period = calendar.containing(kind, moment)
    assert period.next().previous() == period == period.previous().next()
    assert calendar.parse(period.name) == period
    assert period.name != period.next().name


@given(moments, weeks)
def test_weeks_begin_on_the_chosen_day(moment, week_start):
    period = Calendar("UTC", week_start).containing("weekly", moment)
    assert period.start.weekday() == week_start


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("hourly", "hourly-2026112315"),
        ("daily", "daily-20261123"),
        ("weekly", "weekly-20261123"),
        ("monthly", "monthly-202611"),
        ("quarterly", "quarterly-2026Q4"),
        ("yearly", "yearly-2026"),
    ],
)
def test_names(kind, name):
    assert Calendar().containing(kind, datetime(2026, 11, 23, 15, 59)).name == name


@pytest.mark.parametrize(
    "name",
    ["daily-20261301", "daily-2026", "monthly-202600", "quarterly-2026Q5", "x", "", "daily-20261123x"],
)
def test_what_is_no_name_is_not_parsed(name):
    assert Calendar().parse(name) is None


def test_week_across_the_new_year_has_the_name_of_its_first_day():
    assert Calendar().containing("weekly", datetime(2027, 1, 1)).name == "weekly-20261228"


def test_aware_datetimes_are_converted_naive_ones_are_not():
    calendar = Calendar("Asia/Tokyo")
    aware = datetime(2026, 1, 31, 20, tzinfo=UTC)
    assert calendar.moment(aware, "date") == datetime(2026, 2, 1, 5)
    assert calendar.moment(aware.replace(tzinfo=None), "date") == datetime(2026, 1, 31, 20)
    assert calendar.moment(date(2026, 1, 31), "date") == datetime(2026, 1, 31)


def test_daylight_saving_days_are_23_and_25_hours_long():
    calendar = Calendar("Europe/Berlin")

    def hours(day):
        period = Period("daily", day)
        return (calendar.timestamp(period.next().start) - calendar.timestamp(period.start)) / 3600

    assert [hours(datetime(2026, 3, 29)), hours(datetime(2026, 10, 25)), hours(datetime(2026, 7, 1))] == [
        23,
        25,
        24,
    ]


@given(st.floats(0, 4e9))
def test_local_time_and_timestamps_are_inverse_where_unambiguous(timestamp):
    calendar = Calendar("UTC")
    assert abs(calendar.timestamp(calendar.local(timestamp)) - timestamp) < 1e-3


def test_zones_that_behave_alike_have_one_fingerprint():
    fingerprints = {
        zone: Calendar(zone).zone_fingerprint
        for zone in ("UTC", "Etc/UTC", UTC, "Europe/Berlin", "America/New_York", timezone(timedelta(hours=1)))
    }
    assert fingerprints["UTC"] == fingerprints["Etc/UTC"] == fingerprints[UTC]
    assert len(set(fingerprints.values())) == 4
    assert Calendar("Europe/Berlin").zone_fingerprint == Calendar("Europe/Rome").zone_fingerprint


def test_local_time_follows_the_machine(move_to):
    move_to("Asia/Tokyo")
    assert Calendar().zone_fingerprint == Calendar("Asia/Tokyo").zone_fingerprint
    assert Calendar().local(0) == datetime(1970, 1, 1, 9)
    assert Calendar().timestamp(datetime(1970, 1, 1, 9)) == 0
    assert Calendar().moment(datetime(2026, 1, 1, tzinfo=UTC), "date") == datetime(2026, 1, 1, 9)


def test_before_and_between():
    calendar = Calendar("UTC")
    moment = datetime(2026, 3, 15)
    assert [p.name for p in calendar.before("monthly", moment, 3)] == [
        "monthly-202602",
        "monthly-202601",
        "monthly-202512",
    ]
    rows = calendar.between("monthly", datetime(2025, 12, 2), moment)
    assert [p.name for p in rows] == ["monthly-202601", "monthly-202602"]
    assert list(calendar.between("daily", moment, moment)) == []
    assert len(list(calendar.before("yearly", datetime(1002, 1, 1), 50))) == 2


@given(kinds, moments, weeks, st.integers(0, 2))
def test_names_before_a_period_are_those_of_the_periods(kind, moment, week_start, years):
    calendar = Calendar("UTC", week_start)
    period, first = calendar.containing(kind, moment), max(1001, moment.year - years)
    wanted = calendar.before(kind, moment, 1000)
    names = list(islice(calendar.names_before(period, first), 1000))
    assert names == [each.name for each in wanted if each.start.year >= first]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        *((zone, 26) for zone in ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York")),
        ("Pacific/Chatham", 27 - 30),
    ],
)
@pytest.mark.parametrize("kind", PERIODS)
def test_a_running_period_runs_for_as_long_as_is_said(kind, zone, day):
    """Also where the clocks change: what is sure stays so, to the second."""
    calendar = Calendar(zone)
    begin = (datetime(2025, 10, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=-1)).timestamp()
    for step in range(100):
        now = begin + step * 1237
        running = calendar.running(kind, now)
        assert running.period == calendar.containing(kind, calendar.local(now))
        assert now < running.sure_until <= running.ends
        assert calendar.containing(kind, calendar.local(running.sure_until - 1)) == running.period
        assert running.sure_until - now <= 900


CLOCKS_FORWARD = {  # from there on for three hours; the hours that there are
    ("Europe/Berlin", datetime(2026, 3, 29, 0, tzinfo=UTC)): [1, 3, 4],
    ("Pacific/Chatham", datetime(2026, 9, 26, 13, 15, tzinfo=UTC)): [2, 3, 4, 5],
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 14, 30, tzinfo=UTC)): [1, 2, 3, 4],
    ("Antarctica/Troll", datetime(2026, 3, 29, 0, tzinfo=UTC)): [0, 3, 4],
    ("Africa/Cairo", datetime(2026, 4, 23, 21, tzinfo=UTC)): [23, 1, 2],
}


@pytest.mark.parametrize(("zone", "begin"), CLOCKS_FORWARD)
def test_an_hour_is_skipped_if_no_moment_lies_in_it(zone, begin):
    calendar, begins = Calendar(zone), begin.timestamp()
    minutes = [begins + 60 * minute for minute in range(180)]
    seen = dict.fromkeys(calendar.containing("hourly", calendar.local(minute)) for minute in minutes)
    assert [period.start.hour for period in seen] == CLOCKS_FORWARD[zone, begin]
    first, last = calendar.local(begins).replace(minute=0), calendar.local(minutes[-1])
    assert list(calendar.between("hourly", first, last)) == list(seen)[:-1]
    assert list(calendar.before("hourly", last, len(seen) - 1)) == list(seen)[-2::-1]
    for period, following in pairwise(seen):
        starts = next(minute for minute in minutes if calendar.local(minute) >= following.start)
        assert calendar.timestamp(following.start) == starts
        assert calendar.timestamp(period.next().start) == starts  # one ends where the next begins
        assert calendar.running("hourly", starts - 60).ends == starts


def test_a_day_that_a_country_gave_up_is_none():
    calendar = Calendar("Pacific/Apia")
    first, last = datetime(2011, 12, 29), datetime(2012, 1, 1)
    assert [period.start.day for period in calendar.between("daily", first, last)] == [29, 31]
    assert calendar.timestamp(datetime(2011, 12, 30, 9)) == calendar.timestamp(datetime(2011, 12, 31))


def test_hours_that_come_twice_are_told_apart_from_those_that_do_not():
    calendar = Calendar("Antarctica/Troll")
    begin = datetime(2025, 10, 25, 22, tzinfo=UTC).timestamp()
    for quarter in range(4 * 10):
        now = begin + quarter * 900
        for moment in (now, now + 450, now + 899.9):
            running = calendar.running("hourly", moment)
            assert running.period == calendar.containing("hourly", calendar.local(moment))
            assert moment < running.sure_until <= running.ends
            last = calendar.containing("hourly", calendar.local(running.sure_until - 0.001))
            assert last == running.period


def test_moments_are_microseconds_since_1970():
    calendar = Calendar("Asia/Tokyo")
    moment = datetime(2026, 1, 1, 9, 0, 0, 123_457)
    expected = 1_767_225_600_123_457
    assert calendar.microseconds(moment) == expected
    assert calendar.microseconds(moment.replace(hour=0, tzinfo=UTC)) == expected
    assert calendar.microseconds(moment.replace(tzinfo=timezone(timedelta(hours=9)))) == expected
    for early in (datetime(1970, 1, 1, 9), datetime(1965, 3, 2), datetime(1001, 1, 1)):
        assert calendar.microseconds(early) == 1  # a stamp of 0 would be no event, a negative one a leaving
    twice = datetime(2025, 10, 26, 2, 30)
    first, second = (Calendar("Europe/Berlin").microseconds(twice.replace(fold=fold)) for fold in (0, 1))
    assert second - first == 3_600_000_000
