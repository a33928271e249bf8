"""Columns of dates and buckets as indexes: the way of whole columns, without looking at single events."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from activity_tracker_hll.backends.base import DEFAULT_KEEP
from activity_tracker_hll.columns import Coded, EventColumns, Instants
from activity_tracker_hll.ids import IdEncoder
from activity_tracker_hll.keys import Keys, check_bucket
from activity_tracker_hll.operations import Context
from activity_tracker_hll.operations.tracking.batches import batches
from activity_tracker_hll.operations.tracking.factorize import BucketFactorizer, PeriodFactorizer
from activity_tracker_hll.periods import PERIODS, Calendar

KINDS = [kind for kind in PERIODS if kind != "hourly"]
MOMENTS = [datetime(2026, 1, 1, 5) + timedelta(hours=7 * n) for n in range(400)]


def context(zone="UTC"):
    return Context(Keys(), Calendar(zone), IdEncoder(), 10, dict(DEFAULT_KEEP))


def expected(calendar, kinds, moments):
    return [tuple(calendar.containing(kind, moment).name for kind in kinds) for moment in moments]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("kinds", [KINDS, ["hourly"], ["hourly", "daily"]])
@pytest.mark.parametrize(
    "form", ["naive", "reversed", "aware", "datetime64[s]", "datetime64[ns]", "datetime64[h]"]
)
def test_moments_of_any_form_are_factorized_at_once(zone, kinds, form):
    given, calendar = context(zone), Calendar(zone)
    factorizer = PeriodFactorizer(given, kinds)
    moments = MOMENTS[::-1] if form == "reversed" else MOMENTS
    column = moments
    if form == "aware":
        column = [moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=3))) for moment in moments]
        moments = [calendar.moment(moment, "date") for moment in column]
    elif form.startswith("datetime64"):
        column = np.array(moments, form)
    for part in (slice(0, 100), slice(90, 400)):  # the second time some are known
        indexes = factorizer.factorize(column[part])
        assert indexes is not None
        assert [factorizer.names[index] for index in indexes] == expected(calendar, kinds, moments[part])


@pytest.mark.parametrize("hold", [lambda times: times, Instants, lambda times: Coded(times, np.arange(400))])
@pytest.mark.parametrize("unit", ["s", "us", "ns", "30m", "2h", "25s", "10ms", "25ns"])
@pytest.mark.parametrize("order", "<>")
def test_times_of_any_byte_order_and_of_several_units_at_once_are_their_moments(order, unit, hold):
    times = np.array(MOMENTS, "datetime64[us]").astype(f"{order}M8[{unit}]")
    [batch] = batches(iter([EventColumns(np.arange(400), None, hold(times))]))
    factorizer = PeriodFactorizer(context(), ["hourly"])
    moments = times.astype("datetime64[us]").tolist()
    indexes = factorizer.factorize(batch.columns[2])
    assert [factorizer.names[index] for index in indexes] == expected(Calendar("UTC"), ["hourly"], moments)
    assert [Calendar("UTC").moment(time, "time") for _, _, time in batch] == moments


def test_several_units_at_once_may_reach_further_than_single_ones():
    """numpy makes 1970 of such a time in single units."""
    times = np.array([2**62, 0], np.int64).view("datetime64[25s]")
    [batch] = batches((np.arange(2), None, times))
    assert batch.columns[2] == [times[0], datetime(1970, 1, 1)]


@pytest.mark.parametrize("form", [list, lambda dates: np.array(dates, "datetime64[D]"), np.array])
def test_dates_are_factorized_unless_hours_are_wanted(form):
    dates = [moment.date() for moment in MOMENTS]
    factorizer = PeriodFactorizer(context(), KINDS)
    indexes = factorizer.factorize(form(dates))
    assert [factorizer.names[index] for index in indexes] == expected(Calendar("UTC"), KINDS, MOMENTS)
    assert PeriodFactorizer(context(), ["hourly"]).factorize(form(dates)) is None


@pytest.mark.parametrize(
    "column",
    [
        np.array(["2026-01-01", "NaT"], "datetime64[s]"),
        [datetime(2026, 1, 1), date(2026, 1, 1)],
        [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)],
        ["2026-01-01"],
        [date(1, 1, 1), date(9999, 1, 1)],
        np.array([2**60, -(2**60)], "datetime64[s]"),
    ],
)
def test_what_is_unusual_is_left_to_be_looked_at_one_by_one(column):
    assert PeriodFactorizer(context(), KINDS).factorize(column) is None


@pytest.mark.parametrize("form", [list, np.array])
def test_buckets_are_factorized_in_any_lot(form):
    factorizer = BucketFactorizer(check_bucket)
    lots = [["a"], ["b", "a", "b"], ["zz", "a"], [f"b{n}" for n in range(400)], ["a", "b399", "new"]]
    for lot in lots:
        indexes = factorizer.factorize(form(lot))
        assert [factorizer.names[index] for index in indexes] == lot
    assert len(set(factorizer.names)) == len(factorizer.names)


def test_names_may_be_added_to_those_that_codes_stand_for():
    factorizer, names = BucketFactorizer(check_bucket), ["a"]
    for name in ("b", "c", "a"):
        codes = np.array([0, len(names) - 1])
        indexes = factorizer.factorize(Coded(names, codes))
        assert [factorizer.names[index] for index in indexes] == ["a", names[-1]]
        names.append(name)
