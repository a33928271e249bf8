"""What each number is of, in small cases that were counted by hand.

A period is a text of events in their order: "+1" is that the id 1 was active, "-1" that it left. Of several
buckets it is a tuple of such texts.
"""

import pytest

from activity_tracker_hll.analytics.cohorts import retention
from activity_tracker_hll.analytics.lifecycle import lifecycle
from activity_tracker_hll.analytics.overlap import overlap_of
from activity_tracker_hll.analytics.spans import ALL
from activity_tracker_hll.analytics.windows import stickiness
from helpers.sets import World
from helpers.spans import span


def counted(*periods):
    rows = [(period,) if isinstance(period, str) else period for period in periods]
    events = [
        [[(int(word[1:]), word[0] == "+") for word in text.split()] for text in buckets] for buckets in rows
    ]
    return span(World(len(rows[0]), events).history())


@pytest.mark.parametrize(
    ("periods", "count"),
    [
        (["+1 +2", "+2 +3"], 3),
        (["+1 +2", "-1"], 1),  # the newest thing that happened to 1 is that it left
        (["+1", "-1", "+1"], 1),  # it came back
        (["+1 -1 +1"], 1),  # on the same day
        (["-1"], 0),  # what was never there
        (["+1 -1", "+2"], 1),
        ([("+1 -1", "+1")], 1),  # it moved from one bucket to the other: it is in one of them
        ([("+1", ""), ("-1", "+1"), ("", "-1")], 0),  # and left that one too
        ([("+1", ""), ("", "-1")], 1),  # it left a bucket, but not the one that it is in
    ],
)
def test_unique(periods, count):
    assert counted(*periods).unique(range(len(periods))) == count


@pytest.mark.parametrize(
    ("periods", "look_back", "expected"),
    [
        (["", "+1"], ALL, {"new": 1, "active": 1}),
        (["+1", "+1"], ALL, {"retained": 1, "active": 1}),
        (["+1", ""], ALL, {"churned": 1}),
        (["+1", "", ""], ALL, {}),  # churned once, in the period after its last activity
        (["+1", "-1"], ALL, {"moved": 1}),
        (["+1", "+1 -1"], ALL, {"moved": 1}),  # active for a while, and then it left
        (["+1", "-1 +1"], ALL, {"retained": 1, "active": 1}),  # it left and came back on the same day
        (["+1", "", "+1"], ALL, {"resurrected": 1, "active": 1}),
        (["+1", "-1", "+1"], ALL, {"resurrected": 1, "active": 1}),  # who comes back after it moved
        (["+1", "", "+1"], 1, {"new": 1, "active": 1}),  # new in one period
        ([("+1", ""), ("-1", "+1")], ALL, {"retained": 1, "active": 1}),  # in another bucket, but still there
        ([("+1", ""), ("-1", "")], ALL, {"moved": 1}),
        (
            ["+1 +2 +3 +4", "+1 +2", "+1 +3 -2 +5"],
            ALL,
            {"active": 3, "new": 1, "retained": 1, "resurrected": 1, "moved": 1},
        ),
    ],
)
def test_lifecycle(periods, look_back, expected):
    *_, row = lifecycle(counted(*periods), 1, look_back)
    names = ("active", "new", "retained", "resurrected", "churned", "moved")
    assert {name: getattr(row, name) for name in names if getattr(row, name)} == expected


@pytest.mark.parametrize(
    ("periods", "look_back", "when", "expected"),
    [
        (["+1 +2", "+1", "+2"], None, "on", [[2, 1, 1], [1, 0], [1]]),
        (["+1 +2", "+1", "+2"], None, "on or after", [[2, 2, 1], [1, 0], [1]]),
        (["+1", "+1 +2", "+2"], ALL, "on", [[1, 1, 0], [1, 1], [0]]),  # of those who are new
        (["+1", "", "+1"], 1, "on", [[1, 0, 1], [0, 0], [1]]),
        (["+1 +2", "-1 +2"], None, "on", [[2, 1], [1]]),
        (["+1 -1 +2", "+1 +2"], None, "on", [[1, 1], [2]]),  # 1 is not of the first cohort, as it left
        (["+1", "-1", "+1"], None, "on or after", [[1, 1, 1], [0, 0], [1]]),
    ],
)
def test_retention(periods, look_back, when, expected):
    rows, _ = retention(counted(*periods), 0, look_back, when)
    assert [[cell.ids for cell in row.cells] for row in rows] == expected
    assert [row.size for row in rows] == [cells[0] for cells in expected]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (["+1 +2"], ["+2 +3"], (1, 1, 1, 3)),
        (["+1 +2 +3", "-3"], ["+2 +3 +4"], (1, 1, 2, 4)),
        (["+1 -1 +1"], ["+1", "-1"], (0, 1, 0, 1)),
        ([("+1", "+2")], [("-1", "+1")], (1, 1, 0, 2)),
    ],
)
def test_overlap(a, b, expected):
    found = overlap_of(counted(*a), counted(*b))
    assert (found.both, found.only_a, found.only_b, found.either) == expected


@pytest.mark.parametrize(
    ("periods", "share"),
    [
        (["+1 +2", "+1"], 0.75),  # 3 of 4 days of ids
        (["+1 +2", "-2 +1"], 1),  # 2 does not count in the window, so neither does its day
        ([("+1", ""), ("-1", "+1"), ("", "")], 2 / 3),
    ],
)
def test_stickiness(periods, share):
    whole = counted(*periods)
    [found] = stickiness(whole, [range(len(periods))])
    assert found == pytest.approx(share, abs=0.001)
