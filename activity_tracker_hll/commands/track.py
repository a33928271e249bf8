"""Tracking: one event, many ids, streams of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from ..backends.base import Command, Reply
from ..backends.scripts import WRITE
from ..errors import ArgumentTypeError, ArgumentValueError, BackendError, LateEventError
from ..keys import check_bucket
from ..periods import Period
from .base import MARGIN_S, Context, Operation, batched, named

__all__ = ["Imported", "Tracking"]

_IDS_PER_CALL = 1000
_CALLS_PER_BATCH = 64
_EVENTS_PER_BATCH = 20_000
_Place = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        events: events read and sent.
        late: how often an event was refused by a period that was collapsed and whose sketches are
            gone; an event counts once for each such period.
    """

    events: int
    late: int


class Tracking:
    """Plans the operations that add and move ids; remembers the running period of each kind."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: dict[str, tuple[float, float, Period]] = {}

    def track(
        self,
        kinds: Sequence[str],
        now: float,
        moment: datetime | None,
        id: object,
        bucket: str | None,
        old_id: object,
        old_bucket: str | None,
    ) -> Operation[None]:
        """One event, in one round trip; every add comes before any removal."""
        added, removed = self._ids_of_event(id, self._open(bucket), old_id, self._open(old_bucket))
        periods = [self._locate(kind, now, moment) for kind in kinds]
        commands: list[Command] = []
        places: list[_Place] = []
        if added is not None:
            for period, running in periods:
                new = self._add(period, running, bucket, added)
                commands += new
                places += [(period.name, bucket)] * len(new)
        if removed is not None:
            for period, _ in periods:
                commands.append(self._write(period.name, old_bucket, [], [removed]))
                places.append((period.name, old_bucket))
        late, errors = _refusals(places, (yield commands))
        if errors:
            raise errors[0]
        if late:
            raise LateEventError(list(dict.fromkeys(period for period, _ in late)))

    def track_many(
        self, kinds: Sequence[str], now: float, moment: datetime | None, ids: object, bucket: str | None
    ) -> Operation[None]:
        """Many ids of one bucket and moment; all are checked before the first is sent."""
        encoded = self._context.ids.many(ids)
        names = [self._locate(kind, now, moment)[0].name for kind in kinds]
        late = yield from self._write_groups({(name, self._open(bucket)): encoded for name in names})
        if late:
            raise LateEventError(list(late))

    def import_events(
        self, kinds: Sequence[str], events: Iterable[object], progress: Callable[[int], object] | None
    ) -> Operation[Imported]:
        """Events of any bucket and moment, grouped before they are sent.

        A bad event ends the import with an error that names its place, as does an error of the
        iterable's own; the events before it are sent.
        """
        done = late = 0
        stream = enumerate(events)
        while True:
            groups, count, bad = self._group(kinds, islice(stream, _EVENTS_PER_BATCH))
            late += sum((yield from self._write_groups(groups)).values())
            done += count
            if progress is not None and count:
                progress(done)
            if bad is not None:
                raise bad
            if count < _EVENTS_PER_BATCH:
                return Imported(done, late)

    def _ids_of_event(
        self, id: object, bucket: str | None, old_id: object, old_bucket: str | None
    ) -> tuple[bytes | None, bytes | None]:
        if id is None and old_id is None:
            raise ArgumentTypeError("id must be a str, bytes, int or UUID, got None (and no old_id)")
        added = None if id is None else self._context.ids.one(id)
        removed = None if old_id is None else self._context.ids.one(old_id, "old_id")
        if added == removed and bucket == old_bucket:
            removed = None  # it was here and is here
        return added, removed

    def _open(self, bucket: str | None) -> str | None:
        """The bucket, unless it is an aggregate: a collapse would overwrite what is tracked in one."""
        if bucket in self._context.reserved:
            raise ArgumentValueError(f"bucket {bucket!r} is one of the tracker's aggregate_buckets")
        return bucket

    def _locate(self, kind: str, now: float, moment: datetime | None) -> tuple[Period, bool]:
        """The period of an event, and whether it is the running one and will be for a while."""
        running = self._running.get(kind)
        if running is None or not running[0] <= now < running[1]:
            calendar = self._context.calendar
            period = calendar.containing(kind, calendar.local(now))
            start, end = (calendar.timestamp(edge.start) for edge in (period, period.next()))
            running = self._running[kind] = start, end, period
        _, end, period = running
        lasts = now < end - MARGIN_S
        if moment is None:
            return period, lasts
        named_period = self._context.calendar.containing(kind, moment)
        return named_period, lasts and named_period == period

    def _add(self, period: Period, running: bool, bucket: str | None, id: bytes) -> list[Command]:
        if not running:
            return [self._write(period.name, bucket, [id])]
        tagged = self._context.keys.tagged(period.name, bucket)
        return [("PFADD", f"{tagged}:hll", id), ("SMOVE", f"{tagged}:out", f"{tagged}:back", id)]

    def _write(
        self, period: str, bucket: str | None, added: Sequence[bytes], removed: Sequence[bytes] = ()
    ) -> Command:
        keys = self._context.keys.bucket(period, bucket)
        return WRITE.call(
            (keys.counted, keys.hll, keys.moved, keys.out, keys.back),
            self._context.moved_limit,
            len(added),
            *added,
            *removed,
        )

    def _write_groups(self, groups: dict[_Place, list[bytes]]) -> Operation[dict[str, int]]:
        """Send ids by period and bucket; returns how many ids each late period refused."""
        late: dict[str, int] = {}
        errors: list[BackendError] = []
        parts = (
            (place, ids[start : start + _IDS_PER_CALL])
            for place, ids in groups.items()
            for start in range(0, len(ids), _IDS_PER_CALL)
        )
        for batch in batched(parts, _CALLS_PER_BATCH):
            replies = yield [self._write(*place, ids) for place, ids in batch]
            errors += _refusals([place for place, _ in batch], replies)[1]
            for (place, ids), reply in zip(batch, replies, strict=True):
                if reply == b"LATE":
                    late[place[0]] = late.get(place[0], 0) + len(ids)
        if errors:
            raise errors[0]
        return late

    def _group(
        self, kinds: Sequence[str], events: Iterator[tuple[int, object]]
    ) -> tuple[dict[_Place, list[bytes]], int, Exception | None]:
        """Ids by period and bucket, how many events there were, and what was wrong with the last."""
        groups: dict[_Place, list[bytes]] = {}
        names: dict[tuple[int, int], list[str]] = {}
        count = 0
        while True:
            try:
                place, event = next(events)
                id, bucket, moment = self._checked(event, place, hourly="hourly" in kinds)
            except StopIteration:
                return groups, count, None
            except Exception as error:  # noqa: BLE001 (the caller's own are raised too, after the write)
                return groups, count, error
            hour = moment.toordinal(), moment.hour
            if hour not in names:
                names[hour] = [self._context.calendar.containing(kind, moment).name for kind in kinds]
            for name in names[hour]:
                groups.setdefault((name, bucket), []).append(id)
            count += 1

    def _checked(self, event: object, place: int, *, hourly: bool) -> tuple[bytes, str | None, datetime]:
        argument = f"events[{place}]"
        if not isinstance(event, (tuple, list)) or len(event) != 3:
            raise ArgumentTypeError(f"{argument} must be a tuple (id, bucket, datetime), got {event!r}")
        id, bucket, date = event
        return (
            self._context.ids.one(id, f"{argument} id"),
            self._open(check_bucket(bucket, f"{argument} bucket")),
            self._context.calendar.moment(date, f"{argument} date", needs_hour=hourly),
        )


def _refusals(places: Sequence[_Place], replies: Sequence[Reply]) -> tuple[list[_Place], list[BackendError]]:
    """The places whose writes were late, and errors that name theirs."""
    late: list[_Place] = []
    errors: list[BackendError] = []
    for place, reply in zip(places, replies, strict=True):
        if reply == b"LATE":
            late.append(place)
        elif isinstance(reply, BackendError):
            errors.append(named(reply, *place))
    return late, errors
