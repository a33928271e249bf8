"""Collapsing aggregates: the union of buckets, counted and stored under a name of its own.

First everything is looked at: the aggregate's own count, then its sources. Where none of these had moves, the
server can unite and count them in one step. Everything else is read, united here, and stored if the
aggregate's own count is still what it was; then it is looked whether the sources are, too.
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
from ..base import UNCOUNTED, Aggregates, Context, Operation, PeriodBucket, number, unwrap
from ..tracking.side_table import ACTIVE
from .legacy import fold
from .outcomes import Again, Done, Nothing, Outcome, Target, stderr_text, stored
from .sketches import Union, union_by_server, union_of

__all__ = ["MOST_UNITED", "count_aggregates"]

MOST_UNITED = 32
"""Sources that the server unites at once: in less than about 5 ms, whatever their encoding."""
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class _Source:
    """What there is of a source: its count, a sketch, moves, a set of activity-tracker."""

    count: bytes | None
    sketch: bool
    moves: bool
    raw: bool

    @property
    def is_gone(self) -> bool:
        """Whether it was counted, and its sketch is gone: a union would be too small."""
        return not self.sketch and self.count not in UNCOUNTED


@dataclass(frozen=True, slots=True)
class _Own:
    """What there is of an aggregate itself."""

    sketch: bool
    count: bytes | None


def count_aggregates(
    context: Context, targets: Sequence[Target], aggregates: Aggregates, *, recount: bool
) -> Operation[dict[Target, Outcome]]:
    """One attempt at some aggregates."""
    counting = _Counting(context, aggregates, recount=recount)
    yield from counting.look(targets)
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

    def look(self, targets: Sequence[Target]) -> Operation[None]:
        """Ask what there is.

        Of the aggregates before their sources: so no older count is stored over a newer.
        """
        commands: list[Command] = []
        for target in targets:
            keys = self._keys(target)
            commands += [("EXISTS", keys.hll), ("GET", keys.counted)]
        replies = iter((yield commands))
        for target in targets:
            self._own[target] = _made(_Own, [next(replies) for _ in range(2)])
        sources = list(
            dict.fromkeys(
                (target.period.name, source) for target in targets for source in self._sources(target)
            )
        )
        commands = []
        for source in sources:
            keys = self._context.keys.bucket(*source)
            commands += [
                ("GET", keys.counted),
                *(("EXISTS", key) for key in (keys.hll, keys.moved, keys.raw)),
            ]
        replies = iter((yield commands))
        for source in sources:
            self._found[source] = _made(_Source, [next(replies) for _ in range(4)])

    def count(self, target: Target) -> Operation[Outcome]:
        """Count one, if that is to be done and can be.

        Raises:
            BackendError: it cannot.
        """
        own = _known(self._own[target])
        found = {
            source: _known(self._found[target.period.name, source])
            for source in dict.fromkeys(self._sources(target))
        }
        gone = [source for source, of in found.items() if of.is_gone]
        raws = [source for source, of in found.items() if of.raw and not of.is_gone]
        if raws:
            yield from self._fold(target, raws)
            return Again()
        if own.count is not None:
            number(own.count, self._keys(target).counted)
            # A source that is not counted came later, or the collapse that counted this was cut short.
            if gone or not (self._recount or any(map(_is_uncounted, found.values()))):
                answer((yield [call_expire(self._keys(target), target.expiry)])[0])
                return Done()
        elif own.sketch:
            raise BackendResponseError("ids are tracked in a bucket of this name")
        if gone:
            raise BackendResponseError(f"the sketches of {gone} are gone, a union would be too small")
        held = [source for source, of in found.items() if of.sketch]
        if not held:
            return Nothing()
        moves = any(of.moves for of in found.values())
        return (yield from self._unite(target, own.count or b"", held, moves=moves))

    def _unite(
        self, target: Target, seen: bytes, held: Sequence[str | None], *, moves: bool
    ) -> Operation[Outcome]:
        keys = self._keys(target)
        sources = [self._context.keys.bucket(target.period.name, source) for source in held]
        look = not self._context.ids.has_secret
        if not moves and not look and len(sources) <= MOST_UNITED:
            return (yield from self._by_server(target, seen, sources))
        for _ in range(_LOOKS):
            before = yield from _state(sources)
            union = yield from union_of(sources, look=look)
            if union is None and not moves:
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
        call = call_aggregate(self._keys(target), self._temporary(target), sources, seen, target.expiry)
        state, rest = answer((yield [call])[0])
        return Again() if state == b"CHANGED" else Estimate(rest[0])

    def _fold(self, target: Target, raws: Sequence[str | None]) -> Operation[None]:
        own = self._keys(target)
        for source in raws:
            keys = self._context.keys.bucket(target.period.name, source)
            yield from fold(self._context, keys)
        unwrap((yield [("DEL", own.counted, own.stderr, own.hll)]))

    def _sources(self, target: Target) -> tuple[str | None, ...]:
        return self._aggregates[str(target.bucket)]

    def _keys(self, target: Target) -> BucketKeys:
        return self._context.keys.bucket(target.period.name, target.bucket)

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


def _is_uncounted(source: _Source) -> bool:
    return source.sketch and source.count in UNCOUNTED


def _made(kind: Any, replies: Sequence[Any]) -> Any:
    """A value of what was found; the error if there is one."""
    for reply in replies:
        if isinstance(reply, BackendError):
            return reply
    return kind(*(reply if reply is None or isinstance(reply, bytes) else bool(reply) for reply in replies))


def _known(found: Any) -> Any:
    if isinstance(found, BackendError):
        raise found
    return found
