"""Everything at once, against exact sets: after whatever happened a server holds what it must.

Two trackers and two writers, each in a process of its own with a clock that is wrong, track, move, remove and
import ids, of now and of the past, through connections that are cut and on a server that is killed. Then
registers, side tables, counts, standard errors, expiries and marks are compared with the truth.

A run goes in rounds. In a round each id belongs to one process, and a second lies between two rounds, so that
conflicting events of different processes lie that far apart.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.backends.base import DEFAULT_KEEP
from activity_tracker_hll.ids import IdEncoder
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.operations.tracking import Imported
from activity_tracker_hll.periods import Calendar
from helpers.faults import Node, TcpProxy
from helpers.processes import Process
from helpers.servers import program
from helpers.truth import Truth

SEEDS = [
    0,
    *(pytest.param(seed, marks=pytest.mark.extended) for seed in (1, 3)),
    *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, *range(4, 30))),
]
EVENTS = 120
"""Of a round; 20,640 in all runs."""

IDS = range(400)
BUCKETS = ("a", "b", None)
AGGREGATES = {"all": ("a", "b", None), "ab": ("a", "b")}
KINDS = ("daily", "monthly")

NOON = timezone(timedelta(hours=12 - datetime.now(UTC).hour))
"""A zone where it is just after noon, so that no period ends during a test."""

AHEAD = (-10, 10, 10, -10)
"""Seconds by which the clocks of the processes are wrong: of trackers, then of writers."""

APART_S = 1.05
REFRESH_S = 1.0


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Process]]:
    processes = [Process() for _ in AHEAD]
    yield processes
    for process in processes:
        process.end()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_server_holds_the_truth(seed, processes, tmp_path):
    run = Run(seed, processes, tmp_path)
    try:
        rounds = 4 if seed < 4 else 6
        for number in range(1, rounds + 1):
            run.round()
            if number % 2 == 0:
                run.check(last=number == rounds)
    finally:
        run.close()


class Run:
    """One run.

    Of every five, one loses data. There are but writers in it, and nothing of the past: these send all of the
    running periods again. Of three, one keeps no sketches of days that are counted: what comes later is late.
    """

    def __init__(self, seed: int, processes: Sequence[Process], path: Any) -> None:
        self.rng = random.Random(seed)
        self.loses = seed % 5 == 3
        self.forgets = seed % 3 == 1 and not self.loses
        name, secret = ("valkey", "redis")[seed % 2], (None, "a secret")[seed // 2 % 2]
        self.node = Node(program(name), path, appendonly="yes", appendfsync="always")
        self.node.start()
        self.data = path / "appendonlydir"
        self.proxies = [TcpProxy(self.node.port) for _ in AHEAD]
        self.keys, self.calendar, self.encoder = Keys(), Calendar(NOON), IdEncoder(secret)
        keep = DEFAULT_KEEP | ({"daily": timedelta(0)} if self.forgets else {})
        seconds = {kind: kept.total_seconds() for kind, kept in keep.items()}
        self.truth = Truth(self.calendar, seconds, AGGREGATES, look=secret is None)
        options: dict[str, Any] = {"periods": KINDS, "buckets": BUCKETS, "aggregate_buckets": AGGREGATES}
        options |= {"timezone": NOON, "secret": secret, "keep_sketches": keep, "host": "127.0.0.1"}
        self.tracker = ActivityTracker(port=self.node.port, **options)
        buffered = {"flush_interval": 0.2, "refresh_interval": REFRESH_S if self.loses else 60.0}
        everybody = list(zip(processes, (False, False, True, True), AHEAD, self.proxies, strict=True))
        for process, is_writer, ahead, proxy in everybody:
            process.ask("open", options | {"port": proxy.port}, ahead, buffered if is_writer else None)
            process.answer()
        self.opened = list(processes)
        self.writers = {process: {"tracked": 0, "late": 0} for process in processes[2:]}
        self.members = list(self.writers) if self.loses else self.opened
        self.pauses: list[datetime] = []
        self.raced = False
        self.stamp = 0

    def close(self) -> None:
        for process in self.opened:
            process.ask("close")
        for process in self.opened:
            process.answer()
        self.tracker.close()
        for proxy in self.proxies:
            proxy.__exit__()
        self.node.close()

    # Rounds

    def round(self) -> None:
        self.flush()
        owners = {id: self.rng.choice(self.members) for id in IDS}
        self.stamp = time.time_ns() // 1000
        plans: dict[Process, Plan] = {}
        for process in self.members:
            plan = Plan(self, process, [id for id in IDS if owners[id] is process])
            plan.events = [plan.event() for _ in range(EVENTS // len(self.members))]
            plans[process] = plan
            process.ask("do", plan.events)
        for _ in range(self.rng.randrange(3)):
            time.sleep(self.rng.uniform(0, 0.05))
            self.fail()
        for proxy in self.proxies:
            proxy.heal()
        for process, plan in plans.items():
            for event, result, wanted in zip(plan.events, process.answer(), plan.results, strict=True):
                # What was counted before is not modelled.
                known = replace(result, outgrown=()) if isinstance(result, Imported) else result
                assert known == wanted, event
        if not self.forgets:  # what is late must not be, and a count of nobody is no count
            self.everybody("replay", self.rng.random())
        time.sleep(APART_S / 2)
        self.pauses.append(datetime.now(UTC))
        time.sleep(APART_S / 2)

    def fail(self) -> None:
        """Something happens to the network or to the server."""
        what = self.rng.random()
        proxy = self.rng.choice(self.proxies)
        if what < 0.3:
            proxy.cut()
        elif what < 0.6:
            proxy.cut_replies(self.rng.randrange(30))
            proxy.cut()
        elif what < 0.8:
            proxy.refuses = True
            proxy.cut()
        else:
            self.node.kill()
            self.node.start()

    def everybody(self, name: str, *arguments: object) -> list[Any]:
        """Ask all writers at once."""
        for process in self.writers:
            process.ask(name, *arguments)
        return [process.answer() for process in self.writers]

    def flush(self) -> None:
        """All that was tracked is on the server."""
        for statistics, wanted in zip(self.everybody("flush"), self.writers.values(), strict=True):
            pushed = wanted["tracked"] - wanted["late"]
            assert statistics == wanted | {"pushed": pushed, "pending": 0, "dropped": 0}

    # Checks

    def check(self, *, last: bool) -> None:
        self.flush()
        if self.loses:
            self.lose()
        self.settle()
        self.collapse(recount=False)
        self.compare()
        # What is counted and then lost is not to be had again.
        if last or (not self.loses and self.rng.random() < 0.5):
            tomorrow = datetime.now(NOON).date() + timedelta(days=1)
            self.collapse(recount=self.rng.random() < 0.5, date=tomorrow)
            self.compare()

    def settle(self) -> None:
        """Count again what was counted while it was written to."""
        if self.raced:
            self.collapse(recount=True)
        self.raced = False
        assert self.truth.differences(self.node.client, self.keys) == []

    def compare(self) -> None:
        assert self.truth.differences(self.node.client, self.keys) == []
        today = datetime.now(NOON).date()
        for kind, start in (("daily", today - timedelta(days=3)), ("monthly", today.replace(day=1))):
            for live in (False, True):
                rows = self.tracker.lookup(kind, start=start, buckets=[*BUCKETS, *AGGREGATES], live=live)
                for first, counts in rows:
                    period = self.calendar.containing(kind, datetime(first.year, first.month, first.day))
                    for bucket, count in counts.items():
                        wanted = self.truth.lookup(period.name, bucket, live=live)
                        assert shown(count) == shown(wanted), (period.name, bucket, live)

    def collapse(self, *, recount: bool, date: date | None = None) -> None:
        """Collapse, and compare what is stored."""
        stored = self.tracker.collapse(recount=recount, date=date, max_periods=2)
        moment = datetime.now(NOON).replace(tzinfo=None)
        if date is not None:
            moment = datetime(date.year, date.month, date.day)
        periods = [period for kind in KINDS for period in self.calendar.before(kind, moment, 2)]
        wanted = self.truth.collapse(periods, BUCKETS, recount=recount)
        assert {(period.name, bucket): shown(count) for period, bucket, count in stored} == {
            target: shown(count) for target, count in wanted.items()
        }

    def lose(self) -> None:
        """Lose data; the writers send all again in their own time."""
        self.refresh()  # who came back is told before: later nobody could know
        what = self.rng.randrange(3)
        if what == 0:
            self.node.client.flushall()
        elif what == 1:
            self.node.kill()
            shutil.rmtree(self.data)
            self.node.start()
        else:
            keys = sorted(self.node.client.scan_iter("{*"))
            self.node.client.delete(*self.rng.sample(keys, len(keys) // 2))
        self.refresh()

    def refresh(self) -> None:
        time.sleep(1.5 * REFRESH_S)
        self.flush()
        self.flush()


def shown(count: Any) -> tuple[int, float]:
    return int(count), count.stderr


class Plan:
    """What a process does in a round, and what must come of it."""

    def __init__(self, run: Run, process: Process, own: Sequence[int]) -> None:
        self.run = run
        self.rng = run.rng
        self.own = own
        self.statistics = run.writers.get(process)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.results: list[object] = []

    def event(self) -> tuple[str, dict[str, Any]]:
        """The next call."""
        kinds: list[tuple[float, Callable[[], tuple[str, dict[str, Any]]]]] = [
            (10, self.track),
            (6, self.move),
            (3, self.leave),
            (1, self.track_many),
        ]
        if self.statistics is None:
            kinds += [(0.5, self.import_rows), (0.5, self.import_columns), (0.3, self.look)]
            if not self.run.forgets:
                kinds.append((0.1, self.collapse))
        weights, calls = zip(*kinds, strict=True)
        [call] = self.rng.choices(calls, weights)
        return call()

    # Calls

    def track(self) -> tuple[str, dict[str, Any]]:
        return self._track(self.rng.choice(self.own), None)

    def move(self) -> tuple[str, dict[str, Any]]:
        id = self.rng.choice(self.own)
        return self._track(id, self.rng.choice((id, self.rng.choice(self.own))))

    def leave(self) -> tuple[str, dict[str, Any]]:
        return self._track(None, self.rng.choice(self.own))

    def _track(self, id: int | None, old_id: int | None) -> tuple[str, dict[str, Any]]:
        bucket, old_bucket = self.rng.choice(BUCKETS), self.rng.choice(BUCKETS)
        kinds, when = self._kinds(), self._when()
        if id == old_id and bucket == old_bucket:
            old_id = None
        added = [] if id is None else [(bucket, id)]
        removed = [] if old_id is None else [(old_bucket, old_id)]
        if not self._fits(kinds or KINDS, when, added, removed):
            when = None
        late = self._note(kinds or KINDS, when, added, active=True)
        late += self._note(kinds or KINDS, when, removed, active=False)
        self.results.append("late" if late and self.statistics is None else None)
        arguments: dict[str, Any] = {"id": self._shape(id), "bucket": bucket}
        if old_id is not None:
            arguments |= {"old_id": self._shape(old_id), "old_bucket": old_bucket}
        return "track", arguments | {"periods": kinds, "date": when}

    def track_many(self) -> tuple[str, dict[str, Any]]:
        ids = self.rng.sample(self.own, min(self.rng.choice((1, 5, 20, 200)), len(self.own)))
        bucket, kinds, when = self.rng.choice(BUCKETS), self._kinds(), self._when()
        events = [(bucket, id) for id in ids]
        if not self._fits(kinds or KINDS, when, events, ()):
            when = None
        late = self._note(kinds or KINDS, when, events, active=True)
        self.results.append("late" if late and self.statistics is None else None)
        shape = self.rng.choice((list, tuple, set, np.array, lambda ids: np.array(ids).astype("S")))
        return "track_many", {"ids": shape(ids), "bucket": bucket, "periods": kinds, "date": when}

    def import_rows(self) -> tuple[str, dict[str, Any]]:
        rows = [self._row(self.rng.choice(BUCKETS)) for _ in range(self.rng.choice((3, 50, 300)))]
        late = sum(self._note(KINDS, when, [(bucket, id)], active=True) for id, bucket, when in rows)
        self.results.append(Imported(len(rows), late))
        return "import_events", {"events": [(self._shape(id), bucket, when) for id, bucket, when in rows]}

    def import_columns(self) -> tuple[str, dict[str, Any]]:
        bucket = self.rng.choice(BUCKETS)
        rows = [self._row(bucket) for _ in range(self.rng.choice((3, 50, 300)))]
        ids, _, dates = zip(*rows, strict=True)
        if self.rng.random() < 0.3:  # one day for all
            dates = [self._day()] * len(rows)
        late = sum(
            self._note(KINDS, when, [(bucket, id)], active=True) for id, when in zip(ids, dates, strict=True)
        )
        self.results.append(Imported(len(rows), late))
        column: Any = list(dates) if len(set(dates)) > 1 else dates[0]
        return "import_events", {"events": (np.array(ids), bucket, column)}

    def _row(self, bucket: str | None) -> tuple[int, str | None, date]:
        id, when = self.rng.choice(self.own), self._when()
        if when is None or not self._fits(KINDS, when, [(bucket, id)], ()):
            when = self._day()
        return id, bucket, when

    def look(self) -> tuple[str, dict[str, Any]]:
        """Somebody reads meanwhile; what he finds is true of some moment."""
        self.results.append(None)
        return "lookup", {"period": self.rng.choice(KINDS), "live": True}

    def collapse(self) -> tuple[str, dict[str, Any]]:
        """Somebody collapses while others write; it is to be counted again."""
        self.results.append(None)
        self.run.raced = True
        return "collapse", {"max_periods": 2}

    # Parts of calls

    def _shape(self, id: int | None) -> Any:
        """7, "7" and b"7" are one id."""
        return id if id is None else self.rng.choice((id, str(id), str(id).encode()))

    def _kinds(self) -> list[str] | None:
        """None: those of the tracker."""
        return self.rng.choice((None, None, None, None, ["daily"], ["monthly"]))

    def _day(self) -> date:
        today = datetime.now(NOON).date()
        return today - timedelta(days=self.rng.choice((0, 1, 1, 2)))

    def _when(self) -> date | None:
        """None: now. A day: so too, but maybe of a period that is over. A datetime: then."""
        if self.run.loses or self.rng.random() < 0.6:
            return None
        kind = self.rng.randrange(3)
        if kind == 0:
            return self._day()
        if kind == 1 and self.run.pauses:
            return self.rng.choice(self.run.pauses)
        yesterday = datetime.now(NOON).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        moment = yesterday + timedelta(seconds=self.rng.randrange(86400))
        return self.rng.choice((moment, moment.replace(tzinfo=None), moment.astimezone(UTC)))

    def _names(self, kinds: Sequence[str], when: date | None) -> list[str]:
        moment = self.run.calendar.moment(datetime.now(NOON) if when is None else when, "date")
        return [self.run.calendar.containing(kind, moment).name for kind in kinds]

    def _stamp(self, when: date | None) -> int:
        if isinstance(when, datetime):
            return self.run.calendar.microseconds(when)
        self.run.stamp += 1
        return self.run.stamp

    def _fits(self, kinds: Sequence[str], when: date | None, added: Any, removed: Any) -> bool:
        """Whether a moment is a second away from all else that happened to the ids.

        And a leaving must be the newest event: to put it before an activity that left no trace would need
        what no table keeps.
        """
        if not isinstance(when, datetime):
            return True
        stamp = self._stamp(when)
        for events, active in ((added, True), (removed, False)):
            for bucket, id in events:
                for name in self._names(kinds, when):
                    place = self.run.truth.places[name, bucket]
                    for other, _ in place.events.get(self.run.encoder.one(id), ()):
                        if abs(other - stamp) < 1_500_000 or (not active and other > stamp):
                            return False
        return True

    def _note(self, kinds: Sequence[str], when: date | None, events: Any, *, active: bool) -> int:
        """The events happen; how often they are too late."""
        late = 0
        for bucket, id in events:
            encoded, stamp = self.run.encoder.one(id), self._stamp(when)
            for name in self._names(kinds, when):
                late += self.run.truth.note((name, bucket), encoded, stamp, active)
                if self.statistics is not None:
                    self.statistics["tracked"] += 1
        if self.statistics is not None:
            self.statistics["late"] += late
        return late
