"""Findings: what each panel says first, a sentence made of the data. Pure.

A difference is only told if the intervals do not touch; what is not over is not told at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from ..estimates import Estimate, Share
from ..result import Number
from .changes import Change, compared_days
from .facts import Facts, Groups, Point, Reach, Shares
from .wording import (
    Interval,
    Named,
    Sentence,
    difference,
    long_day,
    percent,
    percents,
    period,
    rounded,
    until,
)

__all__ = ["newest", "of_buckets", "of_lifecycle", "of_overlap", "of_reach", "of_retention", "root_sum"]

_UNTOLD_WIDTH = 0.5  # a share whose interval is wider is as good as not known


def of_buckets(facts: Facts, changes: Mapping[str | None, Change]) -> Sentence:
    """Which bucket grew most, and which lost most."""
    compared = compared_days(facts.whole)
    names = [name for name in facts.counts if name not in facts.aggregates] or list(facts.counts)
    told = {name: changes[name] for name in names if name in changes}
    if not told:
        return ("There are too few whole days to compare.",)
    length = until(facts.whole - compared)
    clear = {name: change for name, change in told.items() if change.direction}
    grown = {name: change for name, change in clear.items() if change.direction > 0}
    fallen = {name: change for name, change in clear.items() if change.direction < 0}
    if not clear:
        return (f"No clear change in {length}.",)
    if len(facts.counts) == 1:
        [change] = clear.values()
        return (f"A day's users {'grew' if change.direction > 0 else 'fell'} {_by(change)} in {length}.",)
    most = " most" if len(told) > 1 else ""
    words: list[str] = []
    if grown:
        best = max(grown, key=lambda name: grown[name].share)
        words += [f"Grew{most} in {length}: ", Named.of(best), f", {_by(grown[best])}."]
    if fallen:
        worst = min(fallen, key=lambda name: fallen[name].share)
        words += [f" Lost{most}: " if grown else f"Lost{most} in {length}: ", Named.of(worst)]
        words += [f", {_by(fallen[worst])}."]
    return tuple(words)


def _by(change: Change) -> str:
    return f"by {percent(abs(change.share))} %" if change.first else "from nothing"


# Reach


def newest(facts: Facts, at: Sequence[int], points: Sequence[Point]) -> tuple[int, Number] | None:
    """The last day of which a number is known and complete, by its index, and the number."""
    told = _told(facts, at, points)
    return told[-1] if told else None


def _told(facts: Facts, at: Sequence[int], points: Sequence[Point]) -> list[tuple[int, Number]]:
    return [
        (index, number)
        for index, (number, complete) in zip(at, points, strict=False)
        if number is not None and complete and index < facts.whole and not isnan(number)
    ]


def of_reach(facts: Facts, reach: Reach) -> Sentence:
    """How many came in 28 days, and how many of them on a day."""
    where = () if reach.together or len(facts.counts) == 1 else ("Of ", Named.of(reach.bucket), ": ")
    found = newest(facts, reach.at, reach.month)
    if found is None:
        return (
            *where,
            "how many came in 28 days is not known." if where else "How many came in 28 days is not known.",
        )
    index, users = found
    up_to = (
        "the last 28 days" if index == facts.whole - 1 else f"the 28 days up to {long_day(facts.days[index])}"
    )
    words = (*where, f"{'about ' if users.suspect else ''}{rounded(users)} users came in {up_to}")
    shares = _told(facts, reach.at, reach.stickiness)
    if not shares or shares[-1][1].suspect:
        return (*words, ".")
    (began, first), (_, now) = shares[0], shares[-1]
    differ = not first.suspect and difference(first.interval(), now.interval())
    then = f", {percent(first)} % on {long_day(facts.days[began])}" if differ else ""
    return (*words, f"; on an average day {percent(now)} % of them were there{then}.")


# Retention


def of_retention(groups: Groups) -> Sentence:
    """How many of the newest cohort came back, and of the oldest."""
    if groups.retention is None:
        return ("Who came back is not known.",)
    if not groups.told:
        return ("There are too few whole periods to say who came back.",)
    (first, then), (last, now) = groups.told[0], groups.told[-1]
    users = "new users" if groups.retention.cohorts == "new" else "users"
    later = "a month later" if groups.kind == "monthly" else "a week later"
    share, low, high = percents(now.share)
    words = (
        f"Of the {users} of {period(groups.kind, last.date)}, {share} % ({low} to {high}) came back {later}"
    )
    if first is last:
        return (f"{words}.",)
    since = period(groups.kind, first.date, like=last.date)
    if not difference(then.share.interval(), now.share.interval()):
        return (f"{words}; no clear change since {since}.",)
    return (f"{words}; of those of {since} {percent(then.share)} %.",)


# Lifecycle


def root_sum(*numbers: Estimate | None) -> tuple[int, Interval] | None:
    """A sum with its interval, by the root of the sum of squares; None if a part is not known."""
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or any(number.suspect for number in known):
        return None
    total = sum(map(int, known))
    low = sum((number - number.interval()[0]) ** 2 for number in known) ** 0.5
    high = sum((number.interval()[1] - number) ** 2 for number in known) ** 0.5
    return total, (max(0.0, total - low), total + high)


def of_lifecycle(groups: Groups) -> Sentence:
    """How many came for each that stayed away."""
    if groups.lifecycle is None:
        return ("Who came and who stayed away is not known.",)
    sums = [
        (row, came, left)
        for row in groups.passed
        if (came := root_sum(row.new, row.resurrected)) and (left := root_sum(row.churned))
    ]
    if not sums and groups.passed:
        return ("Who came and who stayed away is not known, as sketches have expired or are suspect.",)
    if not sums:
        return ("There are too few whole periods to say who came and who stayed away.",)
    row, (arrived, came_limits), (gone, left_limits) = sums[-1]
    words = f"In {period(groups.kind, row.date)}, {rounded(arrived)} users came or came back"
    words += f" and {rounded(gone)} stayed away"
    if not difference(came_limits, left_limits):
        return (f"{words}: no clear difference.",)
    if not gone:
        return (f"{words}.",)
    return (f"{words}: {rounded(float(f'{arrived / gone:.2g}'))} came for each that left.",)


# Overlap


def of_overlap(shares: Shares) -> Sentence:
    """The largest overlap that can be told."""
    told = [
        (share.interval()[0], name, other, share)
        for name in shares.buckets
        for other in shares.buckets
        if name != other and (share := shares.share(name, other)) is not None and is_told(share)
    ]
    if not told:
        return ("No overlap of two buckets can be told for sure.",)
    _, name, other, share = max(told, key=lambda each: each[0])
    value, low, high = percents(share)
    words = (f"{value} % ({low} to {high}) of ", Named.of(name), " are in ", Named.of(other))
    return (*words, " too: the largest overlap that can be told for sure.")


def is_told(share: Share) -> bool:
    """Whether a share is known well enough to be told: its interval neither reaches zero nor is all of it."""
    low, high = share.interval()
    return not isnan(share) and not share.suspect and low > 0 and high - low <= _UNTOLD_WIDTH
