"""What all operations share: the settings they plan with, running several at once, reading replies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..backends.base import OF_FAILURE, OF_NODE, Command, Reply
from ..errors import ArgumentValueError, BackendDataError, BackendError, SettingsMismatchError
from ..ids import IdEncoder
from ..keys import Keys
from ..messages import printable, shown
from ..periods import Calendar, Period
from ..words import did_you_mean, first_of, many, of_bucket
from .settings import Aggregates, DataSettings, Given, KeptFor, longest

__all__ = [
    "MARGIN_S",
    "Aggregates",
    "Context",
    "Failures",
    "Operation",
    "PeriodBucket",
    "about_failures",
    "about_outgrown",
    "batched",
    "by_node",
    "called",
    "items",
    "named",
    "number",
    "together",
    "unreadable",
    "unwrap",
    "unwrap_each",
    "unwrap_of",
]

T = TypeVar("T")
Operation = Generator[list[Command], list[Reply], T]
Lacking = Callable[[Sequence[Period], str | None], NDArray[np.bool_] | None]
PeriodBucket = tuple[str, str | None]
"""A period's name and a bucket."""
Failures = list[tuple[str, str | None, Exception]]
"""A period's name, a bucket, and what was wrong."""

MARGIN_S = 60
"""How far clocks may differ, and how long commands may take to arrive.

Until this long before its end, a running period is written to without asking whether it was collapsed; and a
sketch is kept for at least this long after its period's end.
"""
# As in the scripts, whose numbers are exact only below this.
_IMPOSSIBLE = 2**53
_MOST_DIGITS = 20
_SHOWN = 40
_MOST_WARNINGS = 1000
_LOG = logging.getLogger("activity_tracker_hll")


@dataclass(slots=True)
class Context:
    """What the operations on one data set are planned with.

    Attributes:
        keys: builds keys.
        calendar: finds periods.
        ids: encodes ids.
        moved_limit: the most members that the side table of a bucket may have.
        keep_by_default: by kind of period, how long sketches are kept where nobody said so.
        given: what this client was given.
        agreed: what is stored with the data; the handshake replaces it.
        known: the buckets and aggregates there are to be; None = any.
        is_cluster: whether no command can use the keys of several buckets.
        is_all_plain: whether there was a sketch wherever one was looked for the last time, and no moves.
        lacking: see :meth:`.BackendSettings.lacking`.
        guesses: whether the server is asked for unions before it is known that they tell what is wanted.
    """

    keys: Keys
    calendar: Calendar
    ids: IdEncoder
    moved_limit: int
    keep_by_default: KeptFor
    given: Given = field(default_factory=Given)
    agreed: DataSettings = field(default_factory=DataSettings)
    known: frozenset[str | None] | None = None
    lacking: Lacking = field(default=lambda _periods, _bucket: None)
    guesses: bool = True
    is_all_plain: bool = False
    is_cluster: bool = False
    _warned: set[str | None] = field(default_factory=set)
    _tracked: set[str | None] = field(default_factory=set)
    _lost_unions: set[str] = field(default_factory=set)
    _outgrown: set[str] = field(default_factory=set)
    _compared: set[str] = field(default_factory=set)

    def keep(self, kind: str) -> timedelta | None:
        """How long sketches of this kind of period are kept after its end; None = for ever."""
        said = [kept[kind] for kept in (self.given.keep_sketches, self.agreed.keep_sketches) if kind in kept]
        return longest(*said) if said else self.keep_by_default[kind]

    @property
    def aggregates(self) -> Aggregates:
        """All known aggregates; of two by one name, the one that is stored with the data."""
        return {**self.given.aggregates, **self.agreed.aggregate_buckets}

    @property
    def are_ids_chosen(self) -> bool:
        """Whether someone outside may have chosen ids for their hashes, as no secret hides these."""
        return not (self.ids.has_secret or self.agreed.has_secret)

    def trackable(self, bucket: str | None) -> str | None:
        """The bucket, unless it is an aggregate: a collapse would overwrite what was tracked there.

        Raises:
            ArgumentValueError: it is an aggregate.
        """
        if bucket in self.given.aggregates or bucket in self.agreed.aggregate_buckets:
            raise ArgumentValueError(
                f"bucket {shown(bucket)} is one of the aggregate_buckets: nothing is tracked in it"
            )
        if self.known is not None and bucket not in self.known:
            self.note(bucket, "no collapse() counts it unless it is told to")
        return bucket

    def note(self, bucket: str | None, what: str) -> None:
        """Log, once, that a bucket is none of those that there are to be; it may be misspelled."""
        if self.known is None or bucket in self.known or bucket in self._warned:
            return
        if len(self._warned) >= _MOST_WARNINGS:
            return
        self._warned.add(bucket)
        meant = did_you_mean(bucket, self.known)
        _LOG.warning("%s is none of the tracker's buckets%s (%s)", called(bucket), meant, what)

    def lacks_news_of(self, buckets: Iterable[str | None]) -> list[str | None]:
        """The buckets in which perhaps nothing was ever tracked, which nobody was told yet."""
        if self.known is not None:
            return []
        heard_of = {*self.aggregates, *self._warned, *self._tracked}
        return [bucket for bucket in buckets if bucket not in heard_of]

    def warn_of_untracked(self, buckets: Iterable[str | None], tracked: Collection[str | None]) -> None:
        """Log, once for each, the buckets in which nothing was ever tracked; they may be misspelled.

        Args:
            tracked: those in which something was.
        """
        self._tracked.update(tracked)
        for bucket in buckets if tracked else ():
            if bucket not in tracked and len(self._warned) < _MOST_WARNINGS:
                self._warned.add(bucket)
                names = sorted(name for name in tracked if name is not None)
                there_are = first_of([*map(printable, names)], joint=", ")
                meant = did_you_mean(bucket, names) or f" (there are: {there_are})"
                _LOG.warning("nothing was ever tracked in %s%s", called(bucket), meant)

    def compare(self, given: Aggregates) -> None:
        """Log, once for each, the aggregates that the data know otherwise; what is stored stands."""
        for name, sources in given.items():
            known = self.agreed.aggregate_buckets.get(name, sources)
            if (
                set(known) != set(sources)
                and name not in self._compared
                and len(self._compared) < _MOST_WARNINGS
            ):
                self._compared.add(name)
                _LOG.warning(
                    "the data know the aggregate %r as %r, which stands; here it was given as %r",
                    name,
                    list(known),
                    list(sources),
                )

    def warn_of_lost_union(self, aggregate: str, period: str) -> None:
        """Log, once for an aggregate, that it cannot be counted any more."""
        if aggregate not in self._lost_unions and len(self._lost_unions) < _MOST_WARNINGS:
            self._lost_unions.add(aggregate)
            _LOG.warning(
                "aggregate %r was not counted in %s, and sketches of its sources are gone: nobody knows it",
                aggregate,
                period,
            )

    def warn_of_outgrown(self, periods: Iterable[str]) -> None:
        """Log, once for each period, that events came after it was counted."""
        new = sorted(set(periods) - self._outgrown)[: _MOST_WARNINGS - len(self._outgrown)]
        if new:
            self._outgrown.update(new)
            _LOG.warning("%s", about_outgrown(new))

    def conceal(self, members: Iterable[bytes]) -> list[bytes]:
        """Ids of another program as they are counted here.

        Raises:
            SettingsMismatchError: there is a secret, and it was not given.
        """
        if self.agreed.has_secret and not self.ids.has_secret:
            raise SettingsMismatchError("ids of activity-tracker can only be counted with the secret")
        return list(map(self.ids.conceal, members))


def called(bucket: str | None) -> str:
    """A bucket, in a message."""
    return "the unnamed bucket" if bucket is None else f"bucket {shown(bucket)}"


def about_outgrown(periods: Sequence[str]) -> str:
    """What is said of periods whose stored counts do not hold all of their events."""
    what = many(len(periods), "period has", "periods have")
    return (
        f"{what} events that came after the count was stored, such as {periods[0]}:"
        " collapse(recount=True), or collapse --recount at the command line, counts them"
    )


def together(*operations: Operation[Any]) -> Operation[list[Any]]:
    """Run operations at once that need not know of each other: what each sends next goes as one batch."""
    results: list[Any] = [None] * len(operations)
    wanted: dict[int, list[Command]] = {}

    def advance(index: int, replies: list[Reply] | None) -> None:
        try:
            wanted[index] = next(operations[index]) if replies is None else operations[index].send(replies)
        except StopIteration as stop:
            wanted.pop(index, None)
            results[index] = stop.value

    try:
        for index in range(len(operations)):
            advance(index, None)
        while wanted:
            replies = iter((yield [command for commands in wanted.values() for command in commands]))
            for index, commands in list(wanted.items()):
                advance(index, list(islice(replies, len(commands))))
        return results
    finally:
        for operation in operations:
            operation.close()


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` values."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def unwrap(replies: Sequence[Reply]) -> Sequence[Any]:
    """Return the replies, or raise the first error among them."""
    for reply in replies:
        if isinstance(reply, BackendError):
            raise reply
    return replies


def items(reply: Any) -> list[Any]:
    """The items of a list reply; of a map, its keys and values in turn, as the older protocol sends them."""
    if isinstance(reply, dict):
        return [part for pair in reply.items() for part in pair]
    return list(reply)


def by_node(reply: Any) -> dict[str, list[str]]:
    """The lines that each node of a cluster told, by its address; of a single server an empty one."""
    if not isinstance(reply, bytes):
        return {"": [f"{OF_FAILURE}{reply}"]}
    told: dict[str, list[str]] = {"": []}
    node = ""
    for line in reply.decode("utf-8", "replace").splitlines():
        if line.startswith(OF_NODE):
            node = line.removeprefix(OF_NODE)
        told.setdefault(node, []).append(line)
    if len(told) > 1 and not told[""]:
        del told[""]
    return told


def number(reply: Any, what: str) -> int:
    """A count from a reply, checked, because manipulated sketches give absurd ones.

    Raises:
        BackendDataError: not a possible count; the message begins with `what`.
    """
    if isinstance(reply, bytes) and not (reply.isdigit() and len(reply) <= _MOST_DIGITS):
        raise BackendDataError(f"{what} holds {reply[:_SHOWN]!r}, not a count")
    value = int(reply)
    if not 0 <= value < _IMPOSSIBLE:
        raise BackendDataError(f"{what} is corrupt: impossible cardinality {value}")
    return value


def unwrap_each(commands: Sequence[Command], replies: Sequence[Reply]) -> Sequence[Any]:
    """Return the replies to commands about keys, or raise the first error among them, naming the keys."""
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, BackendError):
            key, others = str(command[1]), len(command) - 2
            unwrap_of(f"{key} or {many(others, 'other')}" if others else key, [reply])
    return replies


def unwrap_of(key: str, replies: list[Reply]) -> list[Any]:
    """Return the replies to commands about one key, or raise the first error among them, naming the key."""
    for reply in replies:
        if isinstance(reply, BackendError):
            error = type(reply)(f"{key}: {reply}")
            raise error from reply.__cause__ or reply
    return replies


def named(error: BackendError, target: PeriodBucket) -> BackendError:
    """The same error, with a message that names the bucket it is about."""
    if isinstance(error, BackendDataError):
        return unreadable([(*target, error)])
    result = type(error)(of_bucket(*target, error))
    result.__cause__ = error.__cause__ or error
    return result


def about_failures(failures: Failures, done: str) -> str:
    """What is said of buckets that failed where all others did not."""
    return f"{len(failures):,} not {done} (all others were): {_first_of(failures)}"


def unreadable(failures: Sequence[tuple[str, str | None, Exception]], hint: str = "") -> BackendDataError:
    """The error of buckets that cannot be read, at least one: it tells all, and its message names the first.

    Args:
        failures: which, and why.
        hint: the end of the message.
    """
    result = BackendDataError(f"{_first_of(failures)}{hint}", failures)
    result.__cause__ = failures[0][2].__cause__ or failures[0][2]
    return result


def _first_of(failures: Sequence[tuple[str, str | None, Exception]]) -> str:
    return first_of([of_bucket(*failure) for failure in failures])
