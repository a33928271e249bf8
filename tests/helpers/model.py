"""What servers must hold, in plain Python; and processes that track, to compare with it.

- :class:`ModelServer`: the server's part of tracking, command by command.
- :class:`Truth`: all that must come of events, by exact sets.
- :class:`Process`: one that has a tracker or a writer.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import random
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from multiprocessing.connection import Connection
from operator import itemgetter
from typing import Any

import numpy as np

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.backends.base import BaseBackend
from activity_tracker_hll.bulk import hashes_of_bytes
from activity_tracker_hll.errors import BackendError, LateEventError
from activity_tracker_hll.estimates import Estimate
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.estimators import cardinality
from activity_tracker_hll.hll.registers import Registers, empty, fold
from activity_tracker_hll.hll.unions import union_of_remainders
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.operations.counting.sketches import estimates
from activity_tracker_hll.periods import Calendar, Period
from activity_tracker_hll.scripts import calls

Stamped = Iterable[tuple[bytes, int]]


def registers_of(ids: Iterable[bytes]) -> Registers:
    """The registers of encoded ids."""
    registers = empty()
    fold(registers, hashes_of_bytes(list(ids)))
    return registers


def newer(stamp: int, other: int) -> bool:
    """Whether a signed stamp takes the place of another: newest by absolute value, active wins a tie."""
    return abs(stamp) > abs(other) or stamp == -other > 0


class Bucket:
    """One bucket and period.

    Attributes:
        tracked: encoded ids that were added as ids; `united`: registers that were added.
        moved: encoded ids that ever left.
        table: of those who ever left, the signed stamp of the newest event.
    """

    def __init__(self) -> None:
        self.tracked: set[bytes] = set()
        self.united: Registers | None = None
        self.moved: set[bytes] = set()
        self.table: dict[bytes, int] = {}

    @property
    def registers(self) -> Registers:
        """H."""
        registers = registers_of(self.tracked)
        return registers if self.united is None else np.maximum(registers, self.united)

    @property
    def state(self) -> calls.TableState:
        """What scripts say of the side table."""
        left = sum(stamp < 0 for stamp in self.table.values())
        return calls.TableState(len(self.table), left, max(map(abs, self.table.values()), default=0))

    @property
    def remaining(self) -> int:
        """How many ids count, if no two share a register."""
        return len(self.tracked - self.moved) + sum(stamp > 0 for stamp in self.table.values())

    def raise_stamp(self, id: bytes, stamp: int) -> None:
        """ZADD XX GT."""
        if id in self.table:
            self.table[id] = max(self.table[id], stamp)

    def write(self, limit: int, actives: Stamped, moves: Stamped) -> tuple[int, int, int]:
        """As ``scripts/write.lua``; what there was before."""
        before = self.existed, int(bool(self.moved)), len(self.table)
        for id, stamp in actives:
            self.tracked.add(id)
            if id in self.table:
                self._merge(id, stamp)
        for id, stamp in moves:
            self.tracked.add(id)
            room = len(self.table) < limit
            if stamp < 0 or id in self.table or room:
                self.moved.add(id)
            if id in self.table or room:
                self._merge(id, stamp)
        return before

    @property
    def existed(self) -> int:
        """Whether there is a sketch."""
        return int(bool(self.tracked) or self.united is not None)

    def _merge(self, id: bytes, stamp: int) -> None:
        if newer(stamp, self.table.get(id, 0)):
            self.table[id] = stamp

    def unite(self, sketch: bytes) -> tuple[int, int]:
        """As ``scripts/unite.lua``; whether there was a sketch, and whether ids were moved out."""
        existed = self.existed
        if sketch:
            registers = codec.decode(sketch)
            self.united = registers if self.united is None else np.maximum(self.united, registers)
        return existed, int(bool(self.moved))


class ModelServer:
    """Executes what trackers and writers send while they track in one bucket and period.

    Args:
        now: microseconds since 1970.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._runs = 1
        self._meta: dict[str, str] = {}
        self.bucket = Bucket()

    def restart(self, *, empty: bool) -> None:
        """Another run, with the data or without."""
        self._runs += 1
        if empty:
            self.lose()

    def lose(self, *parts: str) -> None:
        """Parts of the data, or all."""
        if not parts:
            self.bucket, self._meta = Bucket(), {}
        if "hll" in parts:
            self.bucket.tracked, self.bucket.united = set(), None
        if "moved" in parts:
            self.bucket.moved = set()
        if "moves" in parts:
            self.bucket.table = {}

    def execute(self, commands: Sequence[Any]) -> list[Any]:
        """The replies to some commands."""
        return [getattr(self, f"_{command[0].lower()}")(*command[1:]) for command in commands]

    def _time(self) -> tuple[int, int]:
        return divmod(self._now(), 1_000_000)

    def _info(self, _section: str) -> bytes:
        return b"# Server\r\nrun_id:%040x\r\n" % self._runs

    def _exists(self, _key: str) -> int:
        return int(bool(self._meta))

    def _hgetall(self, _key: str) -> list[bytes]:
        return [part.encode() for field in self._meta.items() for part in field]

    def _hsetnx(self, _key: str, field: str, value: str) -> int:
        self._meta.setdefault(field, value)
        return 0

    def _set(self, _key: str, *_rest: Any) -> bytes:
        return b"OK"

    def _pfcount(self, _key: str) -> int:
        return 1

    def _del(self, _key: str) -> int:
        return 1

    def _sadd(self, _key: str, *names: str) -> int:
        return len(names)

    def _pfadd(self, _key: str, id: bytes) -> int:
        self.bucket.tracked.add(id)
        return 0

    def _zadd(self, _key: str, _xx: str, _gt: str, stamp: int, id: bytes) -> int:
        self.bucket.raise_stamp(id, stamp)
        return 0

    def _zrangebyscore(self, _key: str, low: str, high: str, *options: Any) -> list[Any]:
        _, _, offset, count = options
        least, most = _bound(low, -1), _bound(high, +1)
        found = sorted((stamp, id) for id, stamp in self.bucket.table.items() if least <= stamp <= most)
        return [part for stamp, id in found[offset : offset + count] for part in (id, b"%d" % stamp)]

    def _zcount(self, _key: str, low: str, high: str) -> int:
        least, most = _bound(low, -1), _bound(high, +1)
        return sum(least <= stamp <= most for stamp in self.bucket.table.values())

    def _evalsha(self, sha: str, keys: int, *rest: Any) -> list[Any]:
        arguments = rest[keys:]
        if sha == calls.UNITE.sha:
            return [b"OK", *self.bucket.unite(arguments[0]), *self.bucket.state]
        assert sha == calls.WRITE.sha
        limit, actives, *parts = arguments
        events = list(zip(parts[::2], parts[1::2], strict=True))
        before = self.bucket.write(limit, events[:actives], events[actives:])
        return [b"OK", *before, *self.bucket.state]


def _bound(text: str, inwards: int) -> float:
    """A bound of a range of integers; one that begins with a parenthesis is not in the range."""
    return float(text[1:]) - inwards if text.startswith("(") else float(text)


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


# Processes


class Process:
    """A process that tracks as it is told; see :func:`serve`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def ask(self, name: str, *arguments: object) -> None:
        """Begin."""
        self._pipe.send((name, arguments))

    def answer(self) -> Any:
        """What came of it."""
        assert self._pipe.poll(120), "no answer"
        error, result = self._pipe.recv()
        assert not error, error
        return result

    def end(self) -> None:
        self._pipe.close()
        self._process.join(30)


def serve(pipe: Connection) -> None:
    """The other side of a :class:`Process`."""
    logging.disable()  # of the library, which says what the network does
    process: Any = None
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            name, arguments = pipe.recv()
            try:
                if name == "open":
                    process, result = _Tracking(*arguments), None
                else:
                    result = getattr(process, name)(*arguments)
            except Exception:
                pipe.send((traceback.format_exc(), None))
            else:
                pipe.send((None, result))


class _Tracking:
    """A tracker, or a writer of one.

    Args:
        options: of the tracker.
        ahead: by how many seconds the clock on the wall is wrong.
        buffered: options of a writer, or None.
    """

    def __init__(self, options: dict[str, Any], ahead: float, buffered: dict[str, Any] | None) -> None:
        self._tracker = ActivityTracker(clock=lambda: time.time() + ahead, **options)
        self._for_writer = self._tracker.backend.for_writer
        self._tracker.backend.for_writer = self._recording  # type: ignore[method-assign]
        self._sent: list[Any] = []
        self._writer = None if buffered is None else self._tracker.buffered(**buffered)

    def _recording(self, patience: float) -> BaseBackend:
        backend = self._for_writer(patience)
        self._execute, backend.execute = backend.execute, self._recorded  # type: ignore[method-assign]
        return backend

    def _recorded(self, commands: Sequence[Any], shard: int = 0) -> Any:
        self._sent += [command for command in commands if command[0] == "EVALSHA"]
        return self._execute(commands, shard)

    def do(self, events: Sequence[tuple[str, dict[str, Any]]]) -> list[object]:
        """Make some calls in turn; their results, but for lists."""
        return [self._do(*event) for event in events]

    def _do(self, name: str, arguments: dict[str, Any]) -> object:
        target = self._tracker if self._writer is None else self._writer
        deadline = time.monotonic() + 60
        while True:
            try:
                result = getattr(target, name)(**arguments)
                return None if isinstance(result, list) else result
            except LateEventError:
                return "late"
            except BackendError:  # as an application would that wants its event counted
                if time.monotonic() > deadline:
                    raise

    def flush(self) -> dict[str, int]:
        """Push everything; the statistics."""
        assert self._writer is not None
        statistics = self._writer.flush(60)
        return {
            name: getattr(statistics, name) for name in ("tracked", "pushed", "pending", "dropped", "late")
        }

    def replay(self, seed: int) -> None:
        """Send again some of what was pushed, in any order, as a network would that held it up."""
        rng = random.Random(seed)
        if self._sent:
            self._tracker.backend.execute(rng.choices(self._sent, k=5))

    def close(self) -> None:
        self._tracker.close()
