"""Collapsing: from sketches to stored counts.

A bucket without moves is counted and stored by the server in one step; without a secret its sketch is looked
at before, so that chosen ids are noticed. A bucket with moves is read, estimated here (so that any estimator
can be used), and its count is stored if the bucket is still as it was read. Either way a collapse may be
interrupted anywhere and run again, or run twice at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, NamedTuple

from ...backends.base import Command
from ...errors import BackendDataError, BackendError, CollapseError
from ...estimates import Estimate
from ...keys import BucketKeys
from ...periods import Period
from ...scripts.calls import UNKNOWN, Count, Due, Readings, answer, answers, call_collapse, call_store
from ..base import Context, Failures, Operation, about_failures, batched
from ..many_keys import stored_counts, without_zeros
from ..settings import Aggregates
from .aggregates import count_aggregates
from .legacy import absorb
from .marks import take_marks, uncounted_of_known
from .outcomes import Again, Done, Nothing, Outcome, Target, awaited, expiry_of, foreign, stderr_text, stored
from .scope import Scope
from .sketches import are_suspect, estimates

__all__ = ["Collapsed", "collapse"]

_TARGETS_PER_BATCH = 500
_KEYS_PER_COMMAND = 50  # sketches have up to 12 KiB
_BUCKETS_PER_CALL = 20  # at about 10 us each; 100 us for a large sketch whose cached count is stale
# A bucket of a past period changes during a collapse only in a race; one that keeps changing is still in use.
_ATTEMPTS = 20


class Collapsed(NamedTuple):
    """A count that a collapse stored.

    Attributes:
        period: the period.
        bucket: the bucket; None = the unnamed one.
        count: the estimate.
    """

    period: Period
    bucket: str | None
    count: Estimate  # type: ignore[assignment]  # shadows tuple.count, which nobody needs here


def collapse(
    context: Context,
    periods: Sequence[Period],
    scope: Scope,
    *,
    recount: bool,
    idle: Sequence[str] | None = (),
) -> Operation[list[Collapsed]]:
    """Store counts in the given periods.

    Aggregates come first, because they need the sketches of their sources, which may expire with the sources'
    own collapse.

    Args:
        context: what operations are planned with.
        periods: the periods.
        scope: the buckets and aggregates to count.
        recount: also count what was counted before.
        idle: names of other periods whose marks are to be removed if nothing is left there; None = no marks
            are removed.

    Raises:
        CollapseError: something could not be collapsed; everything else was.
    """
    buckets, aggregates = scope.buckets, scope.aggregates
    expiries = {period: expiry_of(context, period) for period in periods}
    outcomes: dict[Target, Outcome] = {}

    def target_of(period: Period, bucket: str | None, expiry: str) -> Target:
        return Target(period, bucket, context.keys.bucket(period.name, bucket), expiry)

    unions = [target_of(period, name, expiries[period]) for period in periods for name in aggregates]

    def unite(targets: Sequence[Target]) -> Operation[dict[Target, Outcome]]:
        return count_aggregates(context, targets, aggregates, recount=recount)

    def count(targets: Sequence[Target]) -> Operation[dict[Target, Outcome]]:
        return _Counting(context, recount=recount).attempt(targets)

    yield from _attempt(unions, unite, outcomes)
    # Sketches that a failed aggregate still needs are kept, so that it can be collapsed later; so are those
    # of one that others count.
    needed = {
        (target.period, source)
        for target, outcome in outcomes.items()
        if isinstance(outcome, BackendError)
        for source in aggregates[str(target.bucket)]
    }
    needed_elsewhere = yield from _needed_by(context, periods, buckets, scope.elsewhere)
    needed |= needed_elsewhere
    singles = [
        target_of(
            period,
            bucket,
            awaited(expiries[period]) if needed and (period, bucket) in needed else expiries[period],
        )
        for period in periods
        for bucket in buckets
    ]
    yield from _attempt(singles, count, outcomes)
    done = [
        Collapsed(target.period, target.bucket, outcome)
        for target, outcome in outcomes.items()
        if isinstance(outcome, Estimate)
    ]
    failures: Failures = [
        (target.period.name, target.bucket, outcome)
        for target, outcome in outcomes.items()
        if isinstance(outcome, BackendError)
    ]
    failed = {name for name, _, _ in failures}

    try:
        waiting = failed | {
            target.period.name
            for target, outcome in (outcomes.items() if needed_elsewhere else ())
            if (target.period, target.bucket) in needed_elsewhere and not isinstance(outcome, Nothing)
        }
        names = [period.name for period in periods if period.name not in waiting]
        if idle is not None:
            yield from take_marks(context, [*names, *idle], uncounted_of_known(context, scope))
    except BackendError as error:
        failures.append((context.keys.open, None, error))
    if failures:
        raise CollapseError(about_failures(failures, "collapsed"), failures, done)
    return done


def _needed_by(
    context: Context, periods: Sequence[Period], buckets: Sequence[str | None], aggregates: Aggregates
) -> Operation[set[tuple[Period, str | None]]]:
    """The buckets of periods that uncounted aggregates list."""
    own = set(buckets)
    aggregates = {name: of for name, of in aggregates.items() if not own.isdisjoint(of)}
    needed: set[tuple[Period, str | None]] = set()
    for batch in batched(periods if aggregates else (), _TARGETS_PER_BATCH):
        counted = yield from stored_counts(context.keys.counts(period.name, aggregates) for period in batch)
        for period, counts in zip(batch, counted, strict=True):
            for count, sources in zip(counts, aggregates.values(), strict=True):
                if count is None:
                    needed |= {(period, source) for source in sources}
    return needed


def _attempt(
    targets: Iterable[Target],
    once: Callable[[Sequence[Target]], Operation[dict[Target, Outcome]]],
    outcomes: dict[Target, Outcome],
) -> Operation[None]:
    """Collapse targets batch by batch, and repeat for those that changed meanwhile."""
    for batch in batched(targets, _TARGETS_PER_BATCH):
        remaining = batch
        for _ in range(_ATTEMPTS):
            outcomes |= yield from once(remaining)
            remaining = [target for target in remaining if isinstance(outcomes[target], Again)]
            if not remaining:
                break
        outcomes |= {target: BackendError("is still being written to") for target in remaining}


class _Look(NamedTuple):
    """What was found when a sketch was looked at.

    Attributes:
        stored: the count that was stored.
        suspect: whether random ids would not have made the sketch; None = there was none.
    """

    stored: bytes | None
    suspect: bool | None


class _Counting:
    """One attempt at some buckets."""

    def __init__(self, context: Context, *, recount: bool) -> None:
        self._context = context
        self._recount = recount
        self._inspect = context.are_ids_chosen
        self._per_call = 1 if context.is_cluster else _BUCKETS_PER_CALL
        self._per_command = 1 if context.is_cluster else _KEYS_PER_COMMAND
        self._outcomes: dict[Target, Outcome] = {}
        self._looked_at: dict[Target, _Look] = {}

    def attempt(self, targets: Sequence[Target]) -> Operation[dict[Target, Outcome]]:
        """Try to collapse each target, and return the outcomes."""
        yield from self._absorb_raw_sets(targets)
        if self._inspect:
            yield from self._look_at(self._open(targets))
        readings: dict[Target, Readings] = {}
        calls = list(batched(self._open(targets), self._per_call))
        replies = (yield [self._call(call) for call in calls]) if calls else []
        for call, call_reply in zip(calls, replies, strict=True):
            for target, reply in zip(call, answers(call_reply, len(call)), strict=True):
                try:
                    self._note(target, readings, *answer(reply))
                except BackendError as error:
                    self._outcomes[target] = error
        yield from self._store(readings)
        return self._outcomes

    def _absorb_raw_sets(self, targets: Sequence[Target]) -> Operation[None]:
        """Absorb activity-tracker's raw sets first, except those whose sketch is gone."""
        raws = [target.keys.raw for target in targets]
        [count] = yield [("EXISTS", *raws)]
        if count == 0:
            return
        found = yield [("EXISTS", raw) for raw in raws]
        for target in [target for target, exists in zip(targets, found, strict=True) if exists]:
            keys = target.keys
            try:
                expiry = expiry_of(self._context, target.period)
                if not (yield from absorb(self._context, keys, expiry, recount=self._recount)):
                    self._outcomes[target] = Again()
            except BackendError as error:
                self._outcomes[target] = error

    def _open(self, targets: Iterable[Target]) -> list[Target]:
        """Those that have no outcome yet."""
        return [target for target in targets if target not in self._outcomes]

    def _look_at(self, targets: Sequence[Target]) -> Operation[None]:
        """Look at the sketches that are to be counted, unless there were moves."""
        stored = yield from self._values(targets, lambda keys: keys.counted)
        counts = yield from without_zeros([target.keys.counted for target in stored], list(stored.values()))
        asked = [
            target for target, count in zip(stored, counts, strict=True) if self._recount or count is None
        ]
        sketches = yield from self._values(asked, lambda keys: keys.hll)
        suspect = are_suspect(list(sketches.values()))
        for (target, sketch), is_suspect in zip(sketches.items(), suspect, strict=True):
            self._looked_at[target] = _Look(stored[target], None if sketch is None else is_suspect)

    def _values(
        self, targets: Sequence[Target], key: Callable[[BucketKeys], str]
    ) -> Operation[dict[Target, Any]]:
        """What a key of each holds; where that is not known, the error is the outcome."""
        groups = list(batched(targets, self._per_command))
        commands: list[Command] = [("MGET", *(key(target.keys) for target in group)) for group in groups]
        found: dict[Target, Any] = {}
        replies: Sequence[Any] = (yield commands) if commands else ()
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, BackendError):
                self._outcomes.update(dict.fromkeys(group, reply))
            else:
                found.update(zip(group, reply, strict=True))
        return found

    def _note(
        self, target: Target, readings: dict[Target, Readings], state: bytes, values: list[Any]
    ) -> None:
        outcome: Outcome = Done()
        look = self._looked_at.get(target)
        # A count that was not there a moment ago is of a lost reply, or of a collapse at the same time.
        if state == b"COUNTED" or (state == b"DONE" and look and look.stored != values[0]):
            outcome = Estimate(int(values[0]), inf if look and look.suspect else None)
        elif state == b"CHANGED":
            outcome = Again()
        elif state == b"READ":
            readings[target] = Readings(*values)
        elif state == b"NONE":
            outcome = Nothing()
        elif state == b"TEXT":
            shown = values[0][:40].decode("utf-8", "replace")
            outcome = BackendDataError(f"{target.keys.counted} holds {shown!r}, not a count")
        elif state == b"FOREIGN":
            outcome = foreign(int(values[0]), values[1])
        self._outcomes[target] = outcome

    def _store(self, readings: dict[Target, Readings]) -> Operation[None]:
        """Store the counts that were estimated here."""
        estimated = zip(readings, estimates(list(readings.values()), inspect=self._inspect), strict=True)
        counts: dict[Target, Estimate] = {}
        for target, count in estimated:
            if isinstance(count, BackendError):
                self._outcomes[target] = count
            else:
                counts[target] = count
        calls = list(batched(counts.items(), self._per_call))
        commands = [
            call_store(
                [
                    Count(target.keys, readings[target], int(count), stderr_text(count), target.expiry)
                    for target, count in call
                ]
            )
            for call in calls
        ]
        for call, call_reply in zip(calls, (yield commands) if commands else (), strict=True):
            for (target, count), reply in zip(call, answers(call_reply, len(call)), strict=True):
                self._outcomes[target] = stored(reply, count)

    def _call(self, targets: Sequence[Target]) -> Command:
        due = [Due(target.keys, target.expiry, self._error(target)) for target in targets]
        return call_collapse(due, recount=self._recount)

    def _error(self, target: Target) -> str:
        if not self._inspect:
            return ""
        look = self._looked_at.get(target)
        return UNKNOWN if look is None or look.suspect is None else repr(inf) if look.suspect else ""
