"""Results: what they are as tables of text, HTML, dicts and data frames."""

import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from datetime import date, datetime
from math import inf, nan

import pandas as pd
import pytest

from activity_tracker_hll import (
    Cell,
    Counts,
    Estimate,
    Gap,
    HyperLogLog,
    Lifecycle,
    LifecycleRow,
    Retention,
    RetentionRow,
    Rows,
    Series,
    SeriesRow,
    Share,
)
from activity_tracker_hll.result import ByBucket
from helpers.moments import TODAY, YESTERDAY

JANUARY, FEBRUARY = date(2026, 1, 1), date(2026, 2, 1)
GAP = Gap(JANUARY, "monthly-202601", "b", "expired")

COUNTS = Counts(
    JANUARY,
    FEBRUARY,
    "daily",
    {"a": Estimate(12_345), None: None, "<b>": Estimate(5, inf)},
    complete=True,
    gaps=(GAP,),
)
SERIES = Series(
    "unique",
    "daily",
    7,
    (
        SeriesRow(JANUARY, {"a": Estimate(1000), None: None}, complete=True),
        SeriesRow(date(2026, 1, 2), {"a": Estimate(0), None: Estimate(7)}, complete=False),
    ),
    (GAP,),
)
SHARES = Series(
    "stickiness", "hourly", 24, (SeriesRow(datetime(2026, 1, 1, 3), {"a": Share(0.25, 0.01)}, complete=True),)
)
RETENTION = Retention(
    "monthly",
    "a",
    "new",
    "on",
    3,
    (
        RetentionRow(
            JANUARY,
            Estimate(1000),
            (
                Cell(Estimate(1000), Share(1), complete=True),
                Cell(Estimate(250), Share(0.25, 0.01), complete=False),
            ),
            complete=True,
        ),
        RetentionRow(FEBRUARY, None, (None,), complete=False),
    ),
    (Share(1), Share(0.25, 0.01)),
)
LIFECYCLE = Lifecycle(
    "monthly",
    None,
    3,
    (
        LifecycleRow(JANUARY, *map(Estimate, (60, 10, 20, 30, 40, 0)), complete=True),
        LifecycleRow(
            FEBRUARY, Estimate(5), None, Estimate(3), None, Estimate(1), Estimate(2), complete=False
        ),
    ),
)
RESULTS = {
    "counts": COUNTS,
    "series": SERIES,
    "shares": SHARES,
    "retention": RETENTION,
    "lifecycle": LIFECYCLE,
}
EMPTY = {
    "series": Series("unique", "daily", 7, ()),
    "retention": Retention("daily", "a", "active", "on", None, (), ()),
    "lifecycle": Lifecycle("daily", "a", 1, ()),
    "counts": Counts(JANUARY, FEBRUARY, "daily", {}, complete=True),
}

TEXTS = {
    "counts": """
ids from 2026-01-01 to before 2026-02-01
bucket      ids            95 %
(all)         -               -
<b>          5?               -
a        12,345   12,197-12,493
""",
    "series": """
unique over 7 daily periods (* not complete)
until               a   (all)
2026-01-01      1,000       -
2026-01-02 *        0       7
""",
    "shares": """
stickiness over 24 hourly periods
until                     a
2026-01-01 03:00:00   25.0%
""",
    "retention": """
monthly retention of ids new in 3 periods, on the offset (* not complete)
cohort           ids       +0        +1
2026-01-01     1,000   100.0%   25.0% *
2026-02-01 *       -        -
mean                   100.0%     25.0%
""",
    "lifecycle": """
monthly lifecycle, new in 3 periods (* not complete)
period         active   new   retained   resurrected   churned   moved
2026-01-01         60    10         20            30        40       0
2026-02-01 *        5     -          3             -         1       2
""",
}


def without_rules(text):
    """The lines of a table that have words, however wide blanks are."""
    return [" ".join(line.split()) for line in text.strip().splitlines() if line.strip("─- ")]


@pytest.mark.parametrize("name", RESULTS)
def test_as_text(name):
    assert sorted(without_rules(str(RESULTS[name]))) == sorted(without_rules(TEXTS[name]))


@pytest.mark.parametrize("name", RESULTS)
def test_as_text_without_rich(name):
    """In a process that cannot import it."""
    program = "import pickle, sys; sys.modules['rich'] = None\nprint(pickle.loads(sys.stdin.buffer.read()))"
    printed = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(RESULTS[name]),
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert "─" not in printed
    assert sorted(without_rules(printed)) == sorted(without_rules(TEXTS[name]))


@pytest.mark.parametrize("name", RESULTS)
def test_as_html(name):
    shown = RESULTS[name]._repr_html_()
    assert shown.startswith("<table><caption>")
    assert shown.count("<tr>") == shown.count("</tr>") == len(str(RESULTS[name]).splitlines()) - 2
    assert "<b>" not in shown


def test_what_a_bucket_is_called_does_not_reach_the_terminal():
    escaped = Counts(JANUARY, FEBRUARY, "daily", {"\x1b[31mred": Estimate(1)}, complete=True)
    assert "\x1b" not in str(escaped)


@pytest.mark.parametrize("name", [*RESULTS])
def test_as_dicts(name):
    records = RESULTS[name].to_dicts()
    assert json.loads(json.dumps(records, default=str))
    assert all(list(record) == list(records[0]) for record in records)


def test_dicts():
    assert COUNTS.to_dicts()[:2] == [
        {"bucket": "a", "count": 12_345, "low": 12_197, "high": 12_493, "suspect": False, "complete": True},
        {"bucket": None, "count": None, "low": None, "high": None, "suspect": False, "complete": True},
    ]
    assert SHARES.to_dicts() == [
        {
            "date": datetime(2026, 1, 1, 3),
            "bucket": "a",
            "value": 0.25,
            "low": pytest.approx(0.2304, abs=1e-4),
            "high": pytest.approx(0.2696, abs=1e-4),
            "suspect": False,
            "complete": True,
        }
    ]
    assert [record["offset"] for record in RETENTION.to_dicts()] == [0, 1, 0]
    assert RETENTION.to_dicts()[1]["share"] == 0.25
    assert RETENTION.to_dicts()[2] == {
        "cohort": FEBRUARY,
        "offset": 0,
        "ids": None,
        "ids_low": None,
        "ids_high": None,
        "share": None,
        "share_low": None,
        "share_high": None,
        "suspect": False,
        "complete": False,
    }


def test_frames():
    """The index and types that users of pandas expect."""
    counts = COUNTS.to_frame()
    assert list(counts.index) == ["a", "(all)", "<b>"]
    assert isinstance(counts.index.dtype, pd.CategoricalDtype)
    assert list(counts.columns) == ["count", "low", "high", "suspect", "complete"]
    assert counts["count"].tolist() == [12_345, pd.NA, 5]
    assert str(counts["count"].dtype) == "Int64"
    series = SERIES.to_frame()
    assert isinstance(series.index, pd.DatetimeIndex)
    assert isinstance(series["bucket"].dtype, pd.CategoricalDtype)
    wide = series.pivot_table("value", "date", "bucket", observed=True)
    assert list(wide.columns) == ["a", "(all)"]
    triangle = RETENTION.to_frame().pivot_table("share", "cohort", "offset", dropna=False)
    assert triangle.shape == (2, 2)
    assert triangle.loc["2026-01-01", 1] == 0.25
    lives = LIFECYCLE.to_frame()
    assert lives.loc["2026-01-01", "resurrected"] == 30
    assert lives["new"].isna().tolist() == [False, True]


def test_types_of_a_frame_depend_on_no_value():
    """Neither on a share of 1 or of nobody, nor on what is not known, or as large as can be."""
    for values in ([Share(1)], [Share(0.5, 0.1)], [Share(nan)], [None], [Share(1), None]):
        rows = tuple(SeriesRow(JANUARY, {"a": value}, complete=True) for value in values)
        types = Series("stickiness", "daily", 7, rows).to_frame().dtypes
        assert types[["value", "low", "high"]].astype(str).tolist() == ["Float64"] * 3
        cells = tuple(value if value is None else Cell(Estimate(1), value, complete=True) for value in values)
        row = RetentionRow(JANUARY, None, cells, complete=True)
        retention = replace(RETENTION, rows=(row,)).to_frame()
        assert retention.dtypes.equals(RETENTION.to_frame().dtypes)
        assert retention.index.dtypes.equals(RETENTION.to_frame().index.dtypes)
    for count in (None, Estimate(5), Estimate(5, inf)):
        frame = replace(COUNTS, counts={"a": count, "b": None}).to_frame()
        assert frame[["count", "low", "high"]].dtypes.astype(str).tolist() == ["Int64"] * 3
    assert frame["high"].tolist() == [2**63 - 1, pd.NA]
    for ids in ([1], [1, 2], []):
        overlap = HyperLogLog(ids).overlap(HyperLogLog([1])).to_frame()
        assert overlap[["value", "low", "high"]].dtypes.astype(str).tolist() == ["Float64"] * 3


@pytest.mark.parametrize("name", EMPTY)
def test_empty_results(name):
    result = EMPTY[name]
    assert len(result) == len(result.to_dicts()) == len(result.to_frame()) == 0
    assert str(result)
    assert result._repr_html_()


def test_nobody_has_no_share():
    nobody = Series("stickiness", "daily", 7, (SeriesRow(JANUARY, {"a": Share(nan)}, complete=True),))
    assert str(nobody).splitlines()[-1].split() == ["2026-01-01", "-"]


def test_they_are_sequences_and_mappings():
    assert COUNTS["a"] == 12_345
    assert dict(COUNTS) == {"a": 12_345, None: None, "<b>": 5}
    assert len(SERIES) == 2
    assert SERIES[0].date == JANUARY
    assert SERIES[:1] == SERIES.rows[:1]
    assert [day for day, _, _ in SERIES] == [JANUARY, date(2026, 1, 2)]
    assert RETENTION[1] == RETENTION.rows[1]
    assert RETENTION[-1:] == RETENTION.rows[-1:]
    assert list(LIFECYCLE) == list(LIFECYCLE.rows)
    assert LIFECYCLE[:] == LIFECYCLE.rows


@pytest.mark.parametrize("name", RESULTS)
def test_they_are_values(name):
    result = RESULTS[name]
    again = pickle.loads(pickle.dumps(result))
    assert again == result or name == "shares"
    assert repr(again) == repr(result)
    with pytest.raises(FrozenInstanceError):
        result.period = "x"


def test_rows_of_a_lookup_are_a_list_that_prints_as_a_table(server):
    tracker = server.tracker(buckets=["a", "b"])
    tracker.track(id=1, bucket="a", date=YESTERDAY)
    rows = tracker.lookup(start=YESTERDAY)
    assert isinstance(rows, list)
    assert isinstance(rows, Rows)
    assert rows == [(YESTERDAY, {"a": 1, "b": 0})]
    assert repr(rows) == repr(list(rows))
    assert without_rules(str(rows)) == ["counts", "date a b", f"{YESTERDAY} 1 0"]
    about = {"suspect": False, "complete": True}
    assert rows.to_dicts()[1] == {"date": YESTERDAY, "bucket": "b", "count": 0, "low": 0, "high": 0} | about
    assert rows.to_frame()["count"].tolist() == [1, 0]
    assert rows._repr_html_().count("<tr>") == 2
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_the_running_day_of_a_lookup_is_marked(server):
    tracker = server.tracker()
    tracker.track(id=1)
    rows = tracker.lookup(start=YESTERDAY, live=True)
    assert [record["complete"] for record in rows.to_dicts()] == [True, False]
    assert without_rules(str(rows))[-1] == f"{TODAY} * 1"
    assert "(* not complete)" in str(rows)


def test_numbers_by_bucket_stay_as_they_are():
    numbers = ByBucket({"a": Estimate(1), None: None})
    assert numbers == {"a": 1, None: None}
    assert hash(numbers) == hash(ByBucket({None: None, "a": Estimate(1)}))
    assert repr(numbers) == "{'a': 1, None: None}"
    assert pickle.loads(pickle.dumps(numbers)) == numbers
    with pytest.raises(TypeError):
        numbers["a"] = 2


def test_an_overlap_prints_as_a_table():
    found = HyperLogLog(range(10)).overlap(HyperLogLog(range(5, 10)))
    low, high = found.share_of_b.interval()
    assert ["share of b", "100.0%", f"{low:.1%}-{high:.1%}"] in found.table()[2]
    assert list(found.to_frame().index[:3]) == ["a", "b", "both"]
    assert found.to_dicts()[2]["value"] == 5
    assert "not complete" in str(replace(found, complete=False))
    assert "<table>" in found._repr_html_()
