"""Collapsing aggregates: the union of buckets, counted and stored under a name of its own.

First the server is asked about everything: the aggregate's own count, then its sources. If none of these had
moves, the server can unite and count them in one step. All others are read and united here, and the result is
stored if the aggregate's own count is still what it was; then the sources are looked at once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...backends.base import Command
from ...errors import BackendError, BackendResponseError
from ...estimates import Estimate
from ...keys import BucketKeys
from ...scripts.calls import answer, call_aggregate, call_expire, call_store_union
from ..base import Context, Operation, PeriodBucket, batched, number, unwrap
from ..many_keys import without_zeros
from ..settings import Aggregates, field_of
from ..tracking.side_table import ACTIVE
from .legacy import absorb
from .outcomes import Again, Done, Nothing, Outcome, Target, stderr_text, stored
from .sketches import Union, union_by_server, union_of

__all__ = ["MOST_UNITED", "count_aggregates"]

MOST_UNITED = 32
"""The most sources that the server unites in one step: that takes less than 5 ms, whatever their encoding."""
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class _Source:
    """What the server has of a source: its count, if it is one, and whether sketch, moves, raw set exist."""

    count: bytes | None
    sketch: bool
    moves: bool
    raw: bool

    @property
    def is_gone(self) -> bool:
        """Whether it was counted and its sketch is gone, so that a union would be too small."""
        return not self.sketch and self.count is not None

    @property
    def is_uncounted(self) -> bool:
        """Whether there is something to count."""
        return self.sketch and self.count is None


@dataclass(frozen=True, slots=True)
class _Own:
    """What the server has of an aggregate itself, and whether anything was ever tracked by its name.

    `seen` is what is stored as its count, `count` the same if it is one.
    """

    sketch: bool
    seen: bytes | None
    registered: bytes | None
    count: bytes | None


def count_aggregates(
    context: Context, targets: Sequence[Target], aggregates: Aggregates, *, recount: bool
) -> Operation[dict[Target, Outcome]]:
    """Try to collapse each of some aggregates, and return the outcomes."""
    counting = _Counting(context, aggregates, recount=recount)
    yield from counting.read(targets)
    outcomes: dict[Target, Outcome] = {}
    for target in targets:
        try:
            outcomes[target] = yield from counting.count(target)
        except BackendError as error:
            outcomes[target] = error
    return outcomes


class _Counting:
    def __init__(self, context: Context, aggregates: Aggregates, *, recount: bool) -> None:
        self._context = context
        self._aggregates = aggregates
        self._recount = recount
        self._own: dict[Target, _Own | BackendError] = {}
        self._found: dict[PeriodBucket, _Source | BackendError] = {}

    def read(self, targets: Sequence[Target]) -> Operation[None]:
        """Ask what the server has.

        Aggregates are read before their sources, so that no older count is stored over a newer one.
        """
        commands: list[Command] = []
        for target in targets:
            keys = target.keys
            registered = ("HGET", self._context.keys.meta, field_of(target.bucket))
            # The sketch first: one that another collapse stores meanwhile has a count by then.
            commands += [("EXISTS", keys.hll), ("GET", keys.counted), registered]
        replies = list(batched((yield commands), 3))
        keys_of_counts = [target.keys.counted for target in targets]
        counts = yield from without_zeros(keys_of_counts, [stored for _, stored, _ in replies])
        for target, count, own in zip(targets, counts, replies, strict=True):
            self._own[target] = _value_or_error(_Own, [*own, count])
        sources = list(
            dict.fromkeys(
                (target.period.name, source) for target in targets for source in self._sources(target)
            )
        )
        commands = []
        keys_of = [self._context.keys.bucket(*source) for source in sources]
        for keys in keys_of:
            commands += [
                ("GET", keys.counted),
                *(("EXISTS", key) for key in (keys.hll, keys.moved, keys.raw)),
            ]
        replies = list(batched((yield commands), 4))
        keys_of_counts = [keys.counted for keys in keys_of]
        counts = yield from without_zeros(keys_of_counts, [stored for stored, *_ in replies])
        for source, count, (_, *there) in zip(sources, counts, replies, strict=True):
            self._found[source] = _value_or_error(_Source, [count, *there])

    def count(self, target: Target) -> Operation[Outcome]:
        """Count one aggregate, unless it is counted already or has no sources.

        Raises:
            BackendError: it cannot be counted.
        """
        own = _unwrapped(self._own[target])
        found = {
            source: _unwrapped(self._found[target.period.name, source])
            for source in dict.fromkeys(self._sources(target))
        }
        gone = [source for source, state in found.items() if state.is_gone]
        raws = [source for source, state in found.items() if state.raw and not state.is_gone]
        if (own.sketch and own.seen is None) or own.registered is not None:
            raise BackendResponseError("ids are tracked in a bucket of this name")
        if raws:
            for source in raws:  # their counts go with it: the aggregate is counted again
                keys = self._context.keys.bucket(target.period.name, source)
                yield from absorb(self._context, keys, target.expiry, recount=self._recount)
            return Again()
        if own.count is not None:
            number(own.count, target.keys.counted)
            # An uncounted source came later, or the collapse that counted this aggregate was interrupted.
            if gone or not (self._recount or any(state.is_uncounted for state in found.values())):
                answer((yield [call_expire(target.keys, target.expiry)])[0])
                return Done()
        if gone:
            raise BackendResponseError(f"the sketches of {gone} are gone, a union would be too small")
        present = [source for source, state in found.items() if state.sketch]
        if not present:
            return Nothing()
        moves = any(state.moves for state in found.values())
        return (yield from self._unite(target, own.seen or b"", present, moves=moves))

    def _unite(
        self, target: Target, seen: bytes, present: Sequence[str | None], *, moves: bool
    ) -> Operation[Outcome]:
        keys = target.keys
        sources = [self._context.keys.bucket(target.period.name, source) for source in present]
        inspect = self._context.are_ids_chosen
        by_server = not self._context.is_cluster
        if by_server and not moves and not inspect and len(sources) <= MOST_UNITED:
            return (yield from self._by_server(target, seen, sources))
        for _ in range(_LOOKS):
            before = yield from _state(sources)
            union = yield from union_of(sources, inspect=inspect)
            if union is None and by_server and not moves:
                return (yield from self._by_server(target, seen, sources))
            if union is None:
                union = Union((yield from union_by_server(sources, self._temporary(target))), b"")
            # A sketch that ended meanwhile was read as an empty one.
            if not all(unwrap((yield [("EXISTS", source.hll) for source in sources]))):
                return Again()
            count = union.count
            number(int(count), "the union")
            store = call_store_union(keys, seen, int(count), stderr_text(count), union.sketch, target.expiry)
            outcome = stored((yield [store])[0], count)
            # What came until it was stored belongs to it. Its sources are counted after it: if this is cut
            # short, the next collapse counts it again.
            if not isinstance(outcome, Estimate) or (yield from _state(sources)) == before:
                return outcome
            seen = b"%d" % outcome
        return outcome  # true of a moment ago, for buckets that are always written to

    def _by_server(self, target: Target, seen: bytes, sources: Sequence[BucketKeys]) -> Operation[Outcome]:
        call = call_aggregate(target.keys, self._temporary(target), sources, seen, target.expiry)
        state, values = answer((yield [call])[0])
        return Again() if state == b"CHANGED" else Estimate(values[0])

    def _sources(self, target: Target) -> tuple[str | None, ...]:
        return self._aggregates[str(target.bucket)]

    def _temporary(self, target: Target) -> str:
        return self._context.keys.temporary(target.period.name, target.bucket, "union")


def _state(sources: Sequence[BucketKeys]) -> Operation[list[str]]:
    """What changes with each id that comes, leaves or returns.

    The server keeps what it has counted: asked again, it answers at once.
    """
    replies = yield [
        command
        for keys in sources
        for command in (("PFCOUNT", keys.hll), ("PFCOUNT", keys.moved), ("ZCOUNT", keys.moves, *ACTIVE))
    ]
    return list(map(str, replies))


def _value_or_error(kind: Any, replies: Sequence[Any]) -> Any:
    """A `kind` of the replies, or the first error among them."""
    for reply in replies:
        if isinstance(reply, BackendError):
            return reply
    return kind(*(reply if reply is None or isinstance(reply, bytes) else bool(reply) for reply in replies))


def _unwrapped(found: Any) -> Any:
    if isinstance(found, BackendError):
        raise found
    return found
