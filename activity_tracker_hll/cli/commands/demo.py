"""The command `demo`: a month of simulated traffic, counted by this library and exactly."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from math import sqrt
from statistics import fmean
from typing import Any

import click
from rich.console import Console

from ...driving import run
from ...estimates import Estimate
from ...operations.scans import scan_keys
from ...periods import Calendar, PeriodKind
from ...tracker import ActivityTracker
from ...words import many
from ..display import console, count_cell, progress_bar, show_command
from ..options import Command, examples
from ..settings import Settings
from ..tables import show_courses, show_table
from ..traffic import ANONYMOUS, MEMBERS, SITES, Exact, Traffic, Visits

__all__ = ["demo"]

_PERIODS: tuple[PeriodKind, ...] = ("daily", "monthly")
_AGGREGATES = {"all sites": SITES, "everyone": (MEMBERS, ANONYMOUS)}
_BUCKETS = (*SITES, MEMBERS, ANONYMOUS)
_SHOWN = (*SITES, "all sites", MEMBERS, ANONYMOUS, "everyone")

_Counts = Mapping[tuple[date, str], Estimate]
_Sets = Mapping[tuple[date, str], set[str]]


@click.command(
    cls=Command,
    epilog=examples("activity-tracker-hll demo", "activity-tracker-hll demo --days 60 --users 100000"),
)
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True)
@click.option("--users", type=click.IntRange(1, 2_000_000), default=20_000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.pass_obj
def demo(settings: Settings, *, days: int, users: int, seed: int) -> None:
    """Count simulated traffic, and compare with exact counts.

    Runs on a temporary server of its own; with --url or --data on that, in a namespace of its own
    that is deleted in the end.
    """
    display = console()
    # All periods are in the past, so that all can be collapsed.
    end = Calendar(settings.timezone).local(settings.clock()).date().replace(day=1)
    first = end - timedelta(days=days)
    exact = Exact()
    with _tracker(settings) as tracker:
        _track(tracker, Traffic(first, days, users, seed), days, exact)
        end_of_all = datetime(end.year, end.month, end.day)
        tracker.collapse(
            _PERIODS, date=end_of_all, max_periods=days, buckets=_BUCKETS, aggregate_buckets=_AGGREGATES
        )
        daily = _counts(tracker, "daily", first, end)
        monthly = _counts(tracker, "monthly", first.replace(day=1), end)
    for name, sources in _AGGREGATES.items():
        exact.unite(name, sources)
    display.print(
        f"{many(users, 'user')}, {many(days, 'day')} up to {end - timedelta(days=1)}, seed {seed}."
        f" {_EXPLAINED}\n"
    )
    _show_months(display, monthly, exact.months)
    _show_days(display, daily, exact.days)
    display.print("\nNext, with a log of yours:")
    for words in (("import", "access.log"), ("collapse",), ("lookup",)):
        show_command(display, settings.command(*words))


_EXPLAINED = (
    "Sessions are 'anonymous' until they log in, then their user is one of the 'members'; some log out"
    " and come back. 'all sites' and 'everyone' are unions of buckets."
)


@contextmanager
def _tracker(settings: Settings) -> Iterator[ActivityTracker]:
    """A tracker kept apart from real data: on a temporary server, or in a namespace of its own."""
    changes: dict[str, Any] = {"namespace": f"demo-{secrets.token_hex(6)}"}
    if not settings.is_explicit:
        with ActivityTracker(
            backend="embedded", timezone=settings.timezone, clock=settings.clock, **changes
        ) as tracker:
            yield tracker
        return
    with settings.tracker(creates=True, **changes) as tracker:
        try:
            yield tracker
        finally:
            _delete(tracker)


def _delete(tracker: ActivityTracker) -> None:
    backend = tracker.backend

    def unlink(keys: list[bytes]) -> None:
        own = [key for key in keys if backend.keys.owns(key.decode("utf-8", "replace"))]
        if own:
            backend.execute([("UNLINK", key) for key in own])

    run(scan_keys(backend.keys.pattern(), unlink, is_cluster=backend.is_cluster(0)), backend.execute)


def _track(tracker: ActivityTracker, traffic: Traffic, days: int, exact: Exact) -> None:
    with progress_bar() as bar:
        for events in bar.track(traffic.by_day(), total=days, description="Simulating"):
            # The plain visits of a day all at once, as they would come from a log.
            views = [event for event in events if isinstance(event, Visits)]
            tracker.import_events(
                ((id, event.bucket, event.moment) for event in views for id in event.ids), _PERIODS
            )
            for event in events:
                exact.add(event)
                if not isinstance(event, Visits):
                    tracker.track(
                        _PERIODS,
                        id=event.id,
                        bucket=event.bucket,
                        old_id=event.old_id,
                        old_bucket=event.old_bucket,
                        date=event.moment,
                    )


def _counts(tracker: ActivityTracker, kind: PeriodKind, start: date, end: date) -> _Counts:
    rows = tracker.lookup(kind, start=start, end=end, buckets=_SHOWN)
    return {(day, bucket): count for day, counts in rows for bucket, count in counts.items() if bucket}


def _show_months(display: Console, counts: _Counts, exact: _Sets) -> None:
    rows = []
    for (start, bucket), count in counts.items():
        exact_count = len(exact[start, bucket])
        off = (count - exact_count) / count.stderr if count.stderr else 0.0
        errors = (
            _percent(count - exact_count, exact_count),
            _percent(count.stderr, exact_count, sign=""),
            f"{off:+.1f}",
        )
        rows.append((f"{start:%Y-%m}", bucket, f"{exact_count:,}", count_cell(count, display), *errors))
    numbers = ("exact", "counted", "error\n%", "standard\nerror %", "off by\n(standard\nerrors)")
    show_table(display, "Months", ("month", "bucket"), numbers, rows)


def _show_days(display: Console, counts: _Counts, exact: _Sets) -> None:
    rows, courses = [], {}
    for bucket in _SHOWN:
        pairs = [(count, len(exact[key])) for key, count in counts.items() if key[1] == bucket and exact[key]]
        if not pairs:
            continue
        errors = [(count - exact_count) / exact_count for count, exact_count in pairs]
        near = sum(abs(count - exact_count) <= 2 * count.stderr + 0.5 for count, exact_count in pairs)
        numbers = (
            f"{fmean(exact_count for _, exact_count in pairs):,.0f}",
            f"{100 * fmean(errors):+.2f}",
            f"{100 * sqrt(fmean(error * error for error in errors)):.2f}",
            f"{100 * sqrt(fmean((count.stderr / exact_count) ** 2 for count, exact_count in pairs)):.2f}",
            f"{near} of {len(pairs)}",
        )
        rows.append((bucket, *numbers))
        courses[bucket] = [count for key, count in counts.items() if key[1] == bucket]
    headers = (
        "mean\nexact",
        "mean\nerror %",
        "RMS\nerror %",
        "standard\nerror %",
        "within 2\nstandard errors",
    )
    show_table(display, "Days", ("bucket",), headers, rows)
    show_courses(display, courses)


def _percent(part: float, total: int, sign: str = "+") -> str:
    return f"{100 * part / total:{sign}.2f}" if total else "-"
