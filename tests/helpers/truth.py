"""All that must come of events, by exact sets, in plain Python."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from operator import itemgetter
from typing import Any

from activity_tracker_hll.estimates import Estimate
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.estimators import cardinality
from activity_tracker_hll.hll.registers import empty
from activity_tracker_hll.hll.unions import union_of_remainders
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.operations.counting.sketches import estimates
from activity_tracker_hll.periods import Calendar, Period
from activity_tracker_hll.scripts import calls
from helpers.model import registers_of


@dataclass
class Place:
    """A bucket or an aggregate of a period, as it must be.

    Attributes:
        events: by encoded id, stamps of what happened, and whether the id was active.
        counted: the stored count.
        expires: when its sketch ends, seconds since 1970.
        gone: whether that has happened.
        has_sketch: whether an aggregate has one.
    """

    events: dict[bytes, list[tuple[int, bool]]] = field(default_factory=dict)
    counted: Estimate | None = None
    expires: int | None = None
    gone: bool = False
    has_sketch: bool = False

    @property
    def held(self) -> bool:
        """Whether there is a sketch."""
        return bool(self.events) and not self.gone

    @property
    def late(self) -> bool:
        """Whether nothing more can be counted."""
        return self.gone and bool(self.counted)

    @property
    def uncounted(self) -> bool:
        """Whether something is left to count; that nobody is there may have been another's count."""
        return self.held and not self.counted

    @property
    def table(self) -> dict[bytes, bool]:
        """Of those who ever left, who is back."""
        return {
            id: max(reversed(events), key=itemgetter(0))[1]
            for id, events in self.events.items()
            if not all(active for _, active in events)
        }

    def estimate(self, *, look: bool) -> Estimate:
        """What the estimators say of the registers."""
        table = self.table
        sketches = [registers_of(self.events), registers_of(table)]
        counts = [cardinality(registers) for registers in sketches]
        readings = calls.Readings(*counts, sum(table.values()), *map(codec.encode, sketches))
        [made] = estimates([readings], inspect=look)
        assert isinstance(made, Estimate)
        return made


def union(places: Sequence[Place]) -> Estimate:
    """The same of the ids that remain in any."""
    moving = [place for place in places if place.table]
    plain = [id for place in places if not place.table for id in place.events]
    back = [id for place in moving for id, is_back in place.table.items() if is_back]
    registers = registers_of([*plain, *back])
    if not moving:
        return Estimate(cardinality(registers))
    sources = [(registers_of(place.events), registers_of(place.table)) for place in moving]
    return Estimate(*union_of_remainders(registers, sources))


class Truth:
    """All that a server must hold, by exact sets.

    Args:
        keep: seconds for which sketches are kept after the end of a period, by kind.
        aggregates: their sources.
        look: whether ids may have been chosen, as there is no secret.
    """

    def __init__(
        self,
        calendar: Calendar,
        keep: Mapping[str, float],
        aggregates: Mapping[str, Sequence[str | None]],
        *,
        look: bool,
    ) -> None:
        self._calendar = calendar
        self._keep = keep
        self._aggregates = aggregates
        self._look = look
        self.places: dict[tuple[str, str | None], Place] = defaultdict(Place)

    def note(self, target: tuple[str, str | None], id: bytes, stamp: int, active: bool) -> bool:
        """An event; returns whether it is too late."""
        place = self.places[target]
        if place.late:
            return True
        if place.gone:  # a count of nobody is no count
            self.places[target] = place = Place()
        place.events.setdefault(id, []).append((stamp, active))
        return False

    def collapse(self, periods: Sequence[Period], buckets: Sequence[str | None], *, recount: bool) -> Any:
        """What a collapse stores."""
        made: dict[tuple[str, str | None], Estimate] = {}
        for period in periods:
            for name, sources in self._aggregates.items():
                own, found = self.places[period.name, name], self._sources(period.name, sources)
                held = [place for place in found if place.held]
                again = recount or any(place.uncounted for place in held)
                done = own.counted is not None and (any(place.late for place in found) or not again)
                if held and not done:
                    own.has_sketch = not any(place.table for place in held)
                    made[period.name, name] = self._store(period, own, union(held))
            for bucket in buckets:
                place = self.places[period.name, bucket]
                if place.held and (recount or place.counted is None):
                    count = place.estimate(look=self._look)
                    made[period.name, bucket] = self._store(period, place, count)
        return made

    def _is_over(self, name: str) -> bool:
        period = self._calendar.parse(name)
        assert period is not None
        return self._calendar.timestamp(period.next().start) <= time.time()

    def _sources(self, period: str, sources: Sequence[str | None]) -> list[Place]:
        return [self.places[period, source] for source in sources]

    def _store(self, period: Period, place: Place, count: Estimate) -> Estimate:
        place.counted = count
        end = self._calendar.timestamp(period.next().start)
        place.expires = ceil(end + max(60, self._keep[period.kind]))
        place.gone = place.expires <= time.time()
        return count

    def lookup(self, period: str, bucket: str | None, *, live: bool) -> Estimate:
        """What a lookup finds."""
        place = self.places[period, bucket]
        if place.counted is not None:
            return place.counted
        if not live:
            return Estimate(0)
        if bucket not in self._aggregates:
            return place.estimate(look=self._look) if place.held else Estimate(0)
        found = self._sources(period, self._aggregates[bucket])
        held = [place for place in found if place.held]
        return union(held) if held and not any(place.late for place in found) else Estimate(0)

    def differences(self, client: Any, keys: Keys) -> list[str]:
        """Where a server holds something else."""
        found: list[str] = []

        def same(what: object, there: object, wanted: object) -> None:
            if there != wanted:
                found.append(f"{what}: {there!r:.300} instead of {wanted!r:.300}")

        wanted = {keys.meta}
        for (period, bucket), place in self.places.items():
            of = keys.bucket(period, bucket)
            if place.counted is not None:
                wanted.add(of.counted)
                same(of.counted, client.get(of.counted), b"%d" % place.counted)
                stderr = None if place.counted.is_plain else repr(place.counted.stderr).encode()
                same(of.stderr, client.get(of.stderr), stderr)
                wanted |= {of.stderr} if stderr else set()
            if place.has_sketch and not place.gone:
                wanted.add(of.hll)
                same(f"expiry of {of.hll}", client.expiretime(of.hll), place.expires)
            if place.held:
                table = place.table
                parts = {of.hll, of.moved, of.moves} if table else {of.hll}
                wanted |= parts
                for key, ids in ((of.hll, place.events), (of.moved, table)):
                    sketch = client.get(key)
                    registers = empty() if sketch is None else codec.decode(sketch)
                    same(key, int((registers != registers_of(ids)).sum()), 0)
                scores = client.zrange(of.moves, 0, -1, withscores=True)
                there = {id: score > 0 for id, score in scores}
                for id in table.keys() | there.keys():
                    history = (of.moves, id, place.events.get(id), dict(scores).get(id))
                    same(history, there.get(id), table.get(id))
                for key in parts:
                    same(f"expiry of {key}", client.expiretime(key), place.expires or -1)
                if place.counted is None and self._is_over(period):
                    same(f"mark of {period}", client.sismember(keys.open, period), 1)
        there = {key.decode() for key in client.scan_iter(count=10_000) if b"}:tmp:" not in key} - {keys.open}
        same("keys", sorted(there - wanted), [])
        same("missing keys", sorted(wanted - there), [])
        return found
