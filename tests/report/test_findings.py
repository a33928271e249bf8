"""Sentences: what they say, and above all what they do not say."""

import re
from dataclasses import replace
from datetime import date
from math import inf

import pytest

from activity_tracker_hll import Cell, Estimate, Lifecycle, LifecycleRow, Retention, RetentionRow, Share
from activity_tracker_hll.report.changes import changes, compared_days, mean_of
from activity_tracker_hll.report.facts import Groups, Shares
from activity_tracker_hll.report.findings import (
    of_buckets,
    of_lifecycle,
    of_overlap,
    of_reach,
    of_retention,
    root_sum,
)
from activity_tracker_hll.report.wording import Named
from activity_tracker_hll.sketch import HyperLogLog
from helpers.facts import facts, reach

LATER = "came back a month later"


def said(sentence):
    return "".join(sentence)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": [1000] * 20, "b": [1000] * 20}, "No clear change in a week."),
        ({"a": [1000] * 14, "b": [1000] * 14}, "No clear change in a week."),
        ({"a": [1000] * 13}, "There are too few whole days to compare."),
        ({"a": [1000] * 10 + [2000] * 10}, "A day's users grew by 100 % in a week."),
        ({"a": [1000] * 10 + [500] * 10}, "A day's users fell by 50 % in a week."),
        (
            {"a": [1000] * 10 + [2000] * 10, "b": [10] * 10 + [5] * 10, "c": [900] * 10 + [100] * 10},
            "Grew most in a week: a, by 100 %. Lost most: c, by 89 %.",
        ),
        ({"a": [1000] * 10 + [500] * 10, "b": [7] * 20}, "Lost most in a week: a, by 50 %."),
        ({"a": [0] * 10 + [500] * 10, "b": [7] * 20}, "Grew most in a week: a, from nothing."),
        ({"a": [1000] * 182 + [2000] * 183}, "A day's users grew by 100 % in 48 weeks."),
        ({"a": [1000] * 10 + [2000] * 8 + [None, 2000]}, "There are too few whole days to compare."),
    ],
)
def test_buckets(counts, expected):
    found = facts(counts)
    assert said(of_buckets(found, changes(found.counts))) == expected


def test_the_day_that_runs_is_no_drop():
    found = facts({"a": [1000] * 20 + [5]}, running=True)
    assert (
        said(of_buckets(found, changes({"a": found.counts["a"][: found.whole]})))
        == "No clear change in a week."
    )
    month = reach(21)
    late = replace(month, month=[*month.month[:-1], (Estimate(3), False)])
    assert said(of_reach(found, late)).startswith("1,000 users came in the last 28 days")


def test_names_are_apart_and_as_they_are():
    found = facts({"iOS app": [10] * 10 + [500] * 10, "b": [7] * 20})
    [name] = [part for part in of_buckets(found, changes(found.counts)) if isinstance(part, Named)]
    assert name == "iOS app"


def test_errors_of_days_go_together():
    """The mean of seven days is as uncertain as one of them: they share ids."""
    mean, (low, high) = mean_of([Estimate(10_000)] * 7)
    one = Estimate(10_000).stderr
    assert mean == 10_000
    assert (high - low) / 2 == pytest.approx(1.96 * one, rel=1e-3)
    assert (compared_days(13), compared_days(14), compared_days(84)) == (0, 7, 28)


def test_reach():
    found = facts({"a": [100] * 40, "b": [100] * 40})
    assert said(of_reach(found, reach(40))) == (
        "1,000 users came in the last 28 days; on an average day 20 % of them were there."
    )
    one = replace(reach(40), together=False, bucket="b")
    assert said(of_reach(found, one)).startswith("Of b: 1,000 users came")
    risen = [(Share(0.1, 0.001), True), *one.stickiness[1:]]
    assert said(of_reach(found, replace(one, stickiness=risen))).endswith(" there, 10 % on 1 January 2026.")
    unsure = [(Share(0.1, 0.1), True), *one.stickiness[1:]]
    assert said(of_reach(found, replace(one, stickiness=unsure))).endswith("20 % of them were there.")
    old = [*one.month[:30], *[(None, True)] * 10]
    assert "in the 28 days up to 30 January 2026" in said(of_reach(found, replace(one, month=old)))
    none = replace(one, month=[(None, True)] * 40)
    assert said(of_reach(found, none)) == "Of b: how many came in 28 days is not known."
    suspect = replace(one, month=[(Estimate(1000, inf), True)] * 40, together=True)
    assert said(of_reach(found, suspect)).startswith("about 1,000 users")


def cohorts(*shares, cohorts="new", complete=True):
    """Months from January on, with the share of each that came back in the next one."""
    rows = [
        RetentionRow(
            date=date(2026, 1 + at, 1),
            size=Estimate(1000),
            cells=(None, None if share is None else Cell(Estimate(1), Share(*share), complete)),
            complete=True,
        )
        for at, share in enumerate(shares)
    ]
    return Groups(retention=Retention("monthly", None, cohorts, "on", None, tuple(rows), ()))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (cohorts((0.5, 0.01)), f"Of the new users of January 2026, 50 % (48 to 52) {LATER}."),
        (
            cohorts((0.35, 0.01), (0.4, 0.01), (0.5, 0.01)),
            f"Of the new users of March 2026, 50 % (48 to 52) {LATER}; of those of January 35 %.",
        ),
        (
            cohorts((0.49, 0.01), (0.5, 0.01), cohorts="active"),
            f"Of the users of February 2026, 50 % (48 to 52) {LATER}; no clear change since January.",
        ),
        (
            cohorts((0.5, 0.001), (0.3, inf), (float("nan"), 0.0), None),
            f"Of the new users of January 2026, 50.0 % (49.8 to 50.2) {LATER}.",
        ),
        (cohorts((0.5, 0.01), complete=False), "There are too few whole periods to say who came back."),
        (
            replace(cohorts((0.5, 0.01)), partial=date(2026, 1, 1)),
            "There are too few whole periods to say who came back.",
        ),
        (Groups(), "Who came back is not known."),
    ],
    ids=str,
)
def test_retention(groups, expected):
    assert said(of_retention(groups)) == expected


def passing(*rows, partial=None):
    """Months from January on: (new, resurrected, churned), complete but for the last."""
    made = [
        LifecycleRow(date(2026, at, 1), *map(Estimate, (0, new, 0, back, gone, 0)), complete=at < len(rows))
        for at, (new, back, gone) in enumerate(rows, 1)
    ]
    return Groups(lifecycle=Lifecycle("monthly", None, 3, tuple(made)), partial=partial)


def test_lifecycle():
    assert said(of_lifecycle(passing((1, 1, 1), (3000, 1000, 2000), (0, 0, 9000)))) == (
        "In February 2026, 4,000 users came or came back and 2,000 stayed away: 2 came for each that left."
    )
    assert said(of_lifecycle(passing((3000, 1000, 3980), (0, 0, 0)))).endswith("away: no clear difference.")
    assert said(of_lifecycle(passing((3000, 1000, 0), (0, 0, 0)))).endswith("and 0 stayed away.")
    begun = passing((3000, 0, 0), (3000, 0, 10), (0, 0, 0), partial=date(2026, 1, 1))
    assert said(of_lifecycle(begun)).startswith("There are too few whole periods")
    row = begun.lifecycle[1]._replace(churned=Estimate(5, inf))
    gone = replace(begun, lifecycle=replace(begun.lifecycle, rows=(row,)), partial=None)
    assert said(of_lifecycle(gone)).endswith("as sketches have expired or are suspect.")
    assert said(of_lifecycle(Groups())) == "Who came and who stayed away is not known."
    assert root_sum(Estimate(1), None) is None
    assert root_sum(Estimate(1, inf)) is None
    assert root_sum(Estimate(100, 3.0), Estimate(100, 4.0)) == (200, pytest.approx((191.4, 208.6), abs=0.1))


def test_overlap():
    both = HyperLogLog(range(9000)).overlap(HyperLogLog(range(6000, 60_000)))
    found = said(of_overlap(Shares(("a", "b"), pairs={("a", "b"): both})))
    assert re.match(r"3\d % \(3\d to 3\d\)", found)
    assert found.endswith(") of a are in b too: the largest overlap that can be told for sure.")
    apart = HyperLogLog(range(20)).overlap(HyperLogLog(range(10**5, 2 * 10**5)))
    assert said(of_overlap(Shares(("a", "b"), pairs={("a", "b"): apart}))) == (
        "No overlap of two buckets can be told for sure."
    )
