"""Collapsing: from sketches to stored counts.

A bucket without moves is counted and stored by the server in one step; if someone may have chosen ids it is
suspect until its sketch has been looked at. One with moves is read, estimated here (so that any estimator
can be used), and stored if it is still as it was read. Either way a collapse can be killed anywhere and run
again, or run twice at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from math import ceil, inf
from typing import Any, NamedTuple

from ..backends.base import Command
from ..backends.scripts import AGGREGATE, COLLAPSE, SOUND, STORE
from ..errors import BackendError, BackendResponseError, CollapseError
from ..estimates import Estimate
from ..keys import BucketKeys
from ..periods import Period
from .base import MARGIN_S, Aggregates, Context, Operation, batched, items, unwrap
from .legacy import fold
from .sketches import Moved, are_suspect, estimate_buckets, estimate_union, suspects, union_from_counts

__all__ = ["Collapsed", "aggregate_call", "collapse"]

_TARGETS_PER_BATCH = 1000
_BUCKETS_PER_CALL = 50  # at some 10 us each, 20 for a sketch that was not counted since it changed
# Only a race changes a bucket while it is collapsed; one that always changes is still in use.
_ATTEMPTS = 20


class Collapsed(NamedTuple):
    """A count that a collapse stored."""

    period: Period
    bucket: str | None
    count: Estimate  # type: ignore[assignment]  # shadows tuple.count, which nobody needs here


class _Target(NamedTuple):
    """A bucket or aggregate of a period, and when its sketch is to end."""

    period: Period
    bucket: str | None
    expiry: str


class _Again:
    """Stands for a target that changed while it was collapsed."""


_Outcome = Estimate | BackendError | _Again | None


def collapse(
    context: Context,
    periods: Sequence[Period],
    buckets: Sequence[str | None],
    aggregates: Aggregates,
    recount: bool,
) -> Operation[list[Collapsed]]:
    """Store the counts of some buckets and aggregates of some periods.

    Aggregates come first: they need the sketches of their sources, which may end with the sources'
    own collapse.

    Raises:
        CollapseError: after all that could be collapsed was.
    """
    collapser = _Collapser(context, aggregates, recount)
    wanted = [collapser.target(period, name) for period in periods for name in aggregates]
    yield from collapser.attempt(wanted, collapser.aggregates_once)
    # What an aggregate still needs is kept until that can be mended.
    held = {
        (target.period, source) for target in collapser.failed for source in aggregates[str(target.bucket)]
    }
    wanted = [collapser.target(period, bucket) for period in periods for bucket in buckets]
    wanted = [target._replace(expiry="keep") if target[:2] in held else target for target in wanted]
    yield from collapser.attempt(wanted, collapser.buckets_once)
    if collapser.failed:
        failures = [(target.period.name, target.bucket, error) for target, error in collapser.failed.items()]
        raise CollapseError(failures, collapser.done)
    return collapser.done


class _Collapser:
    """One run of a collapse."""

    def __init__(self, context: Context, aggregates: Aggregates, recount: bool) -> None:
        self._context = context
        self._aggregates = aggregates
        self._recount = recount
        self._expiries: dict[Period, str] = {}
        self._suspects: set[_Target] = set()
        self.done: list[Collapsed] = []
        self.failed: dict[_Target, BackendError] = {}

    def target(self, period: Period, bucket: str | None) -> _Target:
        """With the expiry as the scripts take it: 'keep' or a unix time, which may be in the past."""
        if period not in self._expiries:
            retention = self._context.retention(period)
            end = self._context.calendar.timestamp(period.next().start)
            self._expiries[period] = (
                "keep" if retention is None else str(ceil(end + max(MARGIN_S, retention.total_seconds())))
            )
        return _Target(period, bucket, self._expiries[period])

    def attempt(
        self,
        targets: Sequence[_Target],
        once: Callable[[Sequence[_Target]], Operation[dict[_Target, _Outcome]]],
    ) -> Operation[None]:
        """Collapse targets batch by batch; those that change meanwhile again."""
        for batch in batched(targets, _TARGETS_PER_BATCH):
            left = batch
            for _ in range(_ATTEMPTS):
                outcome = yield from once(left)
                self._record(outcome)
                left = [target for target, result in outcome.items() if isinstance(result, _Again)]
                if not left:
                    break
            self.failed |= {target: BackendError("is still being written to") for target in left}

    def _record(self, outcome: dict[_Target, _Outcome]) -> None:
        for target, result in outcome.items():
            if isinstance(result, BackendError):
                self.failed[target] = result
            elif isinstance(result, Estimate):
                self.done.append(Collapsed(target.period, target.bucket, result))

    def buckets_once(self, targets: Sequence[_Target]) -> Operation[dict[_Target, _Outcome]]:
        """One attempt at buckets; None where there was nothing to do."""
        calls = list(batched(targets, _BUCKETS_PER_CALL))
        replies: list[Any] = []
        for call, reply in zip(calls, (yield [self._collapse_call(call) for call in calls]), strict=True):
            replies += [reply] * len(call) if isinstance(reply, BackendError) else items(reply)
        yield from self._check(targets, replies)
        return (yield from self._finished(targets, replies, self._buckets_read, self._store_call))

    def _check(self, targets: Sequence[_Target], replies: Sequence[Any]) -> Operation[None]:
        """Look at the sketches that the script handed out, and clear those that are sound."""
        told = zip(targets, map(_state, replies), strict=True)
        sketches = [(target, tuple(parts)) for target, (_, parts) in told if _has_sketch(parts)]
        found = are_suspect([([sketch], count) for _, (count, sketch) in sketches])
        self._suspects.update(compress((target for target, _ in sketches), found))
        sound: dict[str, list[str]] = {}
        for (target, _), suspect in zip(sketches, found, strict=True):
            if not suspect:
                key = self._context.keys.stderr(target.period.name)
                sound.setdefault(key, []).append(self._context.keys.field(target.bucket))
        if sound:
            unwrap((yield [SOUND.call((key,), *fields) for key, fields in sound.items()]))

    def aggregates_once(self, targets: Sequence[_Target]) -> Operation[dict[_Target, _Outcome]]:
        """One attempt at aggregates; as :meth:`buckets_once`."""
        replies = yield [self._aggregate_call(target) for target in targets]
        return (yield from self._finished(targets, replies, self._aggregates_read, self._aggregate_call))

    def _finished(
        self,
        targets: Sequence[_Target],
        replies: Sequence[Any],
        read: Callable[[dict[_Target, list[int]]], Operation[dict[_Target, _Outcome]]],
        store: Callable[[_Target, Sequence[int], Estimate], Command],
    ) -> Operation[dict[_Target, _Outcome]]:
        """What the server counted is stored; what has moves is estimated here and stored after."""
        outcome: dict[_Target, _Outcome] = {}
        moves: dict[_Target, list[int]] = {}
        for target, reply in zip(targets, replies, strict=True):
            state, numbers = _state(reply)
            outcome[target] = None
            if isinstance(reply, BackendError):
                outcome[target] = reply
            elif state == b"COUNTED":
                outcome[target] = Estimate(numbers[0], inf if target in self._suspects else None)
            elif state in {b"MOVES", b"CHECK"}:
                moves[target] = numbers
            elif state == b"RAW":
                outcome[target] = yield from self._folded(target, numbers)
            elif state == b"FOREIGN":
                outcome[target] = _foreign(*numbers)
            elif state == b"FAILED":
                outcome[target] = BackendResponseError(reply[1].decode("utf-8", "replace"))
            elif state == b"GONE" and numbers:
                outcome[target] = self._sources_gone(target, numbers)
        estimates = (yield from read(moves)) if moves else {}
        outcome |= estimates
        made = {target: of for target, of in estimates.items() if isinstance(of, Estimate)}
        if made:
            replies = yield [store(target, moves[target], of) for target, of in made.items()]
            for (target, of), reply in zip(made.items(), replies, strict=True):
                outcome[target] = _stored(reply, of)
        return outcome

    def _buckets_read(self, moves: dict[_Target, list[int]]) -> Operation[dict[_Target, _Outcome]]:
        doubted = not self._context.ids.has_secret
        buckets = [
            Moved(self._keys(target), tracked, moved, back, doubted)
            for target, (tracked, moved, back) in moves.items()
        ]
        estimates: dict[_Target, _Outcome] = {}
        estimates.update(zip(moves, (yield from estimate_buckets(buckets)), strict=True))
        return estimates

    def _aggregates_read(self, moves: dict[_Target, list[int]]) -> Operation[dict[_Target, _Outcome]]:
        estimates: dict[_Target, _Outcome] = {}
        doubted = not self._context.ids.has_secret
        for target, numbers in moves.items():
            sources = self._source_keys(target)
            if len(numbers) == 2:  # without moves
                [suspect] = yield from suspects(self._context, [[of.hll for of in sources]], numbers[:1])
                estimates[target] = Estimate(numbers[0], inf if suspect else None)
                continue
            try:
                estimates[target] = yield from estimate_union(sources, doubted=doubted)
                if estimates[target] is None:
                    [reply] = unwrap((yield [self._aggregate_call(target, detailed=True)]))
                    state, details = _state(reply)
                    estimates[target] = union_from_counts(details) if state == b"MOVES" else _Again()
            except BackendError as error:
                estimates[target] = error
        return estimates

    def _folded(self, target: _Target, places: Sequence[int]) -> Operation[_Outcome]:
        """Fold raw sets: the bucket's own, or those of an aggregate's sources at these places."""
        own = self._keys(target)
        folds = [own] if not places else [self._source_keys(target)[place] for place in places]
        try:
            for keys in folds:
                stale = {keys.counted, own.counted} | ({own.hll} if places else set())
                yield from fold(self._context, keys, *sorted(stale))
        except BackendError as error:
            return error
        return _Again()

    def _sources(self, target: _Target) -> tuple[str | None, ...]:
        return self._aggregates[str(target.bucket)]

    def _source_keys(self, target: _Target) -> list[BucketKeys]:
        return [self._context.keys.bucket(target.period.name, source) for source in self._sources(target)]

    def _sources_gone(self, target: _Target, places: Sequence[int]) -> BackendError:
        gone = [self._sources(target)[place] for place in places]
        return BackendResponseError(f"the sketches of {gone} are gone, a union would be too small")

    def _keys(self, target: _Target) -> BucketKeys:
        return self._context.keys.bucket(target.period.name, target.bucket)

    def _collapse_call(self, targets: Sequence[_Target]) -> Command:
        keys: list[str] = []
        arguments: list[str] = []
        for target in targets:
            keys += (*self._keys(target), self._context.keys.stderr(target.period.name))
            arguments += (target.expiry, self._context.keys.field(target.bucket))
        check = not self._context.ids.has_secret
        return COLLAPSE.call(tuple(keys), int(self._recount), int(check), *arguments)

    def _store_call(self, target: _Target, seen: Sequence[int], estimate: Estimate) -> Command:
        *sketch, _raw = self._keys(target)
        return STORE.call(
            (*sketch, self._context.keys.stderr(target.period.name)),
            *seen,
            int(estimate),
            repr(estimate.stderr),
            target.expiry,
            self._context.keys.field(target.bucket),
        )

    def _aggregate_call(
        self,
        target: _Target,
        seen: Sequence[int] = (),
        estimate: Estimate | None = None,
        *,
        detailed: bool = False,
    ) -> Command:
        name = target.period.name
        sources = self._source_keys(target)
        mode = "recount" if self._recount else "collapse"
        made: tuple[str | int, ...] = ()
        if estimate is not None:
            plain = len(seen) == 2 and not estimate.suspect
            made = (*seen[:2], int(estimate), "" if plain else repr(estimate.stderr))
        detail = "1" if detailed else "0" if self._context.ids.has_secret else "check"
        return aggregate_call(
            self._context, name, target.bucket, sources, mode, target.expiry, *made, detail=detail
        )


def aggregate_call(
    context: Context,
    period: str,
    aggregate: str | None,
    sources: Sequence[BucketKeys],
    mode: str,
    expiry: str = "keep",
    *made: str | int,
    detail: str = "0",
) -> Command:
    """A call of the aggregate script, which says what its modes are."""
    own = context.keys.bucket(period, aggregate)
    temporary = [context.keys.temporary(period, aggregate, purpose) for purpose in ("plain", "gone")]
    return AGGREGATE.call(
        (
            *(own.counted, own.hll, context.keys.stderr(period), *temporary),
            *(key for of in sources for key in (of.counted, of.hll, of.moved, of.back, of.raw)),
        ),
        *(mode, expiry, context.keys.field(aggregate), detail, *made),
    )


def _state(reply: Any) -> tuple[bytes, list[int]]:
    """What a script says of a bucket, and its numbers."""
    if isinstance(reply, BackendError):
        return b"", []
    if isinstance(reply, bytes):
        return reply, []
    state, *numbers = items(reply)
    return state, numbers


def _has_sketch(parts: Sequence[Any]) -> bool:
    return len(parts) == 2 and isinstance(parts[1], bytes)


def _foreign(stored: int, tracked: int) -> BackendError:
    return BackendResponseError(
        f"the stored count, {stored}, was not made from the sketch at hand, which counts {tracked}: another"
        " program's collapse, or writes by a clock far behind? The sketch is kept; "
        + ("recount=True stores its count" if tracked > stored else "delete the one that is wrong")
    )


def _stored(reply: Any, estimate: Estimate) -> _Outcome:
    if isinstance(reply, BackendError):
        return reply
    return _Again() if _state(reply)[0] == b"CHANGED" else estimate
