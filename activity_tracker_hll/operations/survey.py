"""What there is of some buckets over a range of periods: which sketches, and which are gone.

Where a period has no sketch, two things are told apart: nothing was tracked; or it was counted, and the
sketch has expired since. An aggregate is read by its sources. Where no source had moves in the range, its
stored union stands for them: if it is equal to theirs, as it is less to read, and if one of them is gone,
unless the aggregate had other sources when it was made. A union cannot tell who left, nor what came after.

Only what exists is asked here, of many buckets at once; :mod:`.series` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice, takewhile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Command
from ..keys import Column
from ..periods import Period
from .base import Context, Operation, batched, together, unwrap, unwrap_each
from .many_keys import NOBODY, commands_for, existing, stored_counts, values

__all__ = ["Found", "Name", "has_begun", "have_begun", "kept", "sketch_keys", "survey"]

Bools = NDArray[np.bool_]
"""Of each period, shape (n,)."""

_KEYS_PER_BATCH = 40_000
_FIRST_KEYS_BACK = 1000
_MOST_KEYS_BACK = 60_000
_YEARS_BACK = 50
_AGREED_S = 300
"""By so long after an aggregate got other sources all clients know of them, and count by them."""
_SUSPECT = b"inf"
"""A stored standard error: random ids would not have made the sketch it is of."""


class Name(NamedTuple):
    """A bucket or an aggregate, as a caller asks for it.

    Attributes:
        name: the caller's.
        buckets: itself, or the sources of the aggregate.
        union: whether it is an aggregate, so that a union of its sources may be stored.
    """

    name: str | None
    buckets: tuple[str | None, ...]
    union: bool


@dataclass(slots=True)
class Found:
    """What there is of a name in n periods.

    Attributes:
        name: of what.
        periods: oldest first.
        columns: the buckets that are read; the last one may be the aggregate itself, for its union.
        present: for each of these, in which periods its sketch is to be read.
        is_gone: in which periods something was counted that has no sketch any more.
        has_data: in which there is something.
        gone: (period, bucket) of what has no sketch any more.
        lacking: those of which an archive has no knowledge at all.
        has_moves: whether anybody left a bucket.
        raw: (period, bucket) of what has a raw set of activity-tracker.
        suspects: indexes of periods with a sketch that random ids would not have made.
        unproven: (index of period, bucket) of sketches that nobody looked at, where ids may be chosen.
        unions: indexes of periods that have a stored union beside all sources.
        absent: buckets of which there is nothing in any of the periods.
        was_never_tracked: whether nothing was ever tracked in one of them.
    """

    name: Name
    periods: Sequence[Period]
    columns: tuple[str | None, ...]
    present: list[Bools]
    is_gone: Bools
    has_data: Bools
    gone: Sequence[tuple[Period, str | None]]
    has_moves: bool
    raw: frozenset[tuple[Period, str | None]] = frozenset()
    suspects: frozenset[int] = frozenset()
    unproven: Sequence[tuple[int, str | None]] = ()
    unions: Sequence[int] = ()
    absent: Sequence[str | None] = ()
    was_never_tracked: bool = False
    lacking: frozenset[tuple[Period, str | None]] = frozenset()

    def never(self, buckets: Iterable[str | None]) -> None:
        """Note that nothing was ever tracked in some of its buckets."""
        self.is_gone = np.ones(len(self.periods), bool)
        self.gone = [(self.periods[0], bucket) for bucket in buckets]
        self.was_never_tracked = True

    def use_union(self, index: int, *, is_proven: bool) -> None:
        """Let the stored union stand for the sources of a period."""
        for column in self.present[:-1]:
            column[index] = False
        self.present[-1][index] = True
        unproven = [entry for entry in self.unproven if entry[0] != index]
        self.unproven = unproven if is_proven else [*unproven, (index, self.name.name)]


class _There(NamedTuple):
    """What there is of a bucket.

    Attributes:
        here: whether there is a sketch, or a raw set.
        raw: whether there is a raw set.
        has_moves: whether anybody left in any period.
        counted: whether a count is stored; where there is a sketch, only if ids may be chosen.
        suspect: whether it says that random ids would not have made the sketch.
        is_plain: whether there is a sketch everywhere, and nothing else to know of any.
        lacking: of which nothing is known, which counts as counted and gone; None = of none.
    """

    here: Bools
    raw: Bools
    has_moves: bool
    counted: Bools
    suspect: Bools
    is_plain: bool = False
    lacking: Bools | None = None

    def without(self, lacking: Bools | None) -> _There:
        """The same, but for what nothing is known of."""
        if lacking is None or not lacking.any():
            return self
        here, counted = self.here & ~lacking, self.counted | lacking
        return self._replace(here=here, counted=counted, is_plain=False, lacking=lacking)

    def with_errors(self, stored: Bools, errors: Sequence[Any]) -> _There:
        """The same, with what stored standard errors say.

        A sketch beside one that is no string, of which there is None, is looked at as if it were not counted.
        """
        is_read = np.array([each is not None for each in errors], bool)
        suspect = np.array([each == _SUSPECT for each in errors], bool)
        return self._replace(suspect=suspect, counted=self.counted & ~(stored & ~is_read & self.here))


def survey(context: Context, periods: Sequence[Period], names: Sequence[Name]) -> Operation[list[Found]]:
    """What there is of each name: one to four round trips for 40,000 keys.

    Raises:
        BackendError: the server failed.
    """
    found: list[Found] = []
    per_name = max(1, 5 * len(periods))
    for batch in batched(names, max(1, _KEYS_PER_BATCH // per_name)):
        found += yield from _survey(context, periods, batch)
    return found


def _survey(context: Context, periods: Sequence[Period], names: Sequence[Name]) -> Operation[list[Found]]:
    buckets = _buckets(names)
    labels = tuple(period.name for period in periods)
    columns = {bucket: context.keys.column(labels, bucket) for bucket in buckets}
    there = yield from _look(context, list(columns.values()))
    by_bucket = {
        bucket: each.without(context.lacking(periods, bucket))
        for bucket, each in zip(buckets, there, strict=True)
    }
    ids_chosen = context.are_ids_chosen
    found = [
        _found(name, periods, by_bucket, _of_its_sources(context, name, periods), ids_chosen=ids_chosen)
        for name in names
    ]
    for each in found:
        if each.unions and not context.is_cluster:
            yield from _use_unions(each, columns, by_bucket[each.name.name])
    return found


def _of_its_sources(context: Context, name: Name, periods: Sequence[Period]) -> Bools:
    """In which periods a stored union is certainly of the sources that an aggregate has now."""
    since = context.agreed.redefined.get(name.name or "") if name.union else None
    if since is None:
        return np.ones(len(periods), bool)
    ends = (context.calendar.timestamp(period.next().start) for period in periods)
    return np.array([end > since + _AGREED_S for end in ends], bool)


def _buckets(names: Iterable[Name]) -> list[str | None]:
    """All buckets that tell of some names, each once."""
    asked = [(*name.buckets, name.name) if name.union else name.buckets for name in names]
    return list(dict.fromkeys(chain.from_iterable(asked)))


def _look(context: Context, columns: Sequence[Column]) -> Operation[list[_There]]:
    """What there is of each bucket; where all of them had all of it the last time, that is asked first."""
    if context.is_all_plain and not context.is_cluster:
        there = yield from _look_at_once(columns, ids_chosen=context.are_ids_chosen)
        if there:
            return there
    there = yield from _look_at_each(columns, ids_chosen=context.are_ids_chosen)
    context.is_all_plain = all(each.is_plain for each in there)
    return there


def _look_at_once(columns: Sequence[Column], *, ids_chosen: bool) -> Operation[list[_There]]:
    """What there is, if there is a sketch of each bucket in each period and nothing rare; else nothing.

    Three commands ask for it, however many buckets there are.
    """
    sketches: list[str] = []
    rare: list[str] = []
    counts: list[str] = []
    for column in columns:
        sketches += column.hll
        rare += column.moved
        rare += column.raw
        if ids_chosen:
            rare += column.stderr
            counts += column.counted
    asked = commands_for("EXISTS", sketches), commands_for("EXISTS", rare), commands_for("MGET", counts)
    replies = iter(unwrap((yield [*chain.from_iterable(asked)])))
    here, others, stored = ([*islice(replies, len(commands))] for commands in asked)
    if sum(here) < len(sketches) or any(others):
        return []
    if any(None in part or NOBODY in part for part in stored):
        return []
    everywhere = np.ones(len(columns[0].hll), bool)
    nowhere = ~everywhere
    plain = _There(everywhere, nowhere, has_moves=False, counted=everywhere, suspect=nowhere, is_plain=True)
    return [plain] * len(columns)


def _look_at_each(columns: Sequence[Column], *, ids_chosen: bool) -> Operation[list[_There]]:
    """What there is of each bucket. In most of them all sketches are there or none: a number tells.

    What is rare, moves, raw sets and odd errors, is asked for together, and only if there is any by kind.
    """
    sketches = [column.hll for column in columns]
    rare = [[column.moved, column.raw, column.stderr if ids_chosen else []] for column in columns]
    counts = [column.counted for column in columns] if ids_chosen else []
    numbers, stored = yield from together(
        existing([*sketches, *(list(chain.from_iterable(kinds)) for kinds in rare)]), stored_counts(counts)
    )
    some = [index for index, number in enumerate(numbers[len(columns) :]) if number]
    here, kinds = yield from together(
        _existing(sketches, numbers[: len(columns)]),
        _existing([group for index in some for group in rare[index]], None),
    )
    none = [np.zeros(len(column.hll), bool) for column in columns]
    known = {index: kinds[3 * at : 3 * at + 3] for at, index in enumerate(some)}
    there: list[_There] = []
    unclear: list[tuple[int, NDArray[np.intp]]] = []
    for index, (column, hll, nobody) in enumerate(zip(columns, here, none, strict=True)):
        moved, raw, odd = known.get(index, (nobody, nobody, nobody))
        counted = _are_counted(stored[index]) if ids_chosen else nobody.copy()
        if index not in known and hll.all() and (not ids_chosen or counted.all()):
            there.append(_There(hll, raw, has_moves=False, counted=counted, suspect=nobody, is_plain=True))
            continue
        there.append(_There(hll | raw, raw, bool(moved.any()), counted, nobody))
        if not ids_chosen and not there[-1].here.all():
            unclear.append((index, np.flatnonzero(~there[-1].here)))
        if odd.any():
            [errors] = yield from values([column.stderr])
            there[-1] = there[-1].with_errors(odd, errors)
    for index, count in unclear:
        keys = [columns[index].counted[each] for each in count]
        [found] = yield from stored_counts([keys])
        there[index].counted[count] = _are_counted(found)
    return there


def _are_counted(values: Sequence[Any]) -> Bools:
    return np.array([value is not None for value in values], bool)


def _existing(groups: Sequence[Sequence[str]], numbers: Sequence[int] | None) -> Operation[list[Bools]]:
    """Which keys exist, from the numbers of them; where these do not tell, each is asked."""
    if numbers is None:
        numbers = yield from existing(groups)
    found = [
        np.full(len(keys), bool(keys) and n == len(keys)) for keys, n in zip(groups, numbers, strict=True)
    ]
    unclear = [index for index, keys in enumerate(groups) if 0 < numbers[index] < len(keys)]
    keys = [(index, place) for index in unclear for place in range(len(groups[index]))]
    for batch in batched(keys, _KEYS_PER_BATCH):
        commands: list[Command] = [("EXISTS", groups[index][place]) for index, place in batch]
        replies = unwrap_each(commands, (yield commands))
        for (index, place), reply in zip(batch, replies, strict=True):
            found[index][place] = bool(reply)
    return found


def _found(
    name: Name,
    periods: Sequence[Period],
    there: Mapping[str | None, _There],
    of_its_sources: Bools,
    *,
    ids_chosen: bool,
) -> Found:
    sources = [there[bucket] for bucket in name.buckets]
    if not name.union and all(source.is_plain for source in sources):
        present = [source.here for source in sources]
        everywhere, nowhere = present[0], sources[0].suspect
        return Found(name, periods, name.buckets, present, nowhere, everywhere, (), has_moves=False)
    nowhere = np.zeros(len(periods), bool)
    has_moves = any(source.has_moves for source in sources)
    gone = [~source.here & source.counted for source in sources]
    is_gone = reduce(np.logical_or, gone, nowhere)
    columns, present = name.buckets, [source.here.copy() for source in sources]
    unions: list[int] = []
    if name.union and not has_moves:
        united = there[name.name]
        if not any(source.raw.any() for source in sources):
            several = sum(present, np.zeros(len(periods), int)) > 1
            unions = np.flatnonzero(united.here & ~is_gone & several).tolist()
        stands_in = united.here & is_gone & of_its_sources
        columns, present = (*columns, name.name), [*present, stands_in]
        is_gone = is_gone & ~stands_in
    found = Found(
        name, periods, columns, present, is_gone, reduce(np.logical_or, present, nowhere), [], has_moves
    )
    found.unions = unions
    found.gone = [
        (periods[index], bucket)
        for index in np.flatnonzero(is_gone).tolist()
        for bucket, lost in zip(name.buckets, gone, strict=True)
        if lost[index]
    ]
    for bucket, read in zip(columns, present, strict=True):
        of = there[bucket]
        found.suspects |= {*np.flatnonzero(read & of.counted & of.suspect).tolist()}
        if of.raw.any():
            found.raw |= {(periods[index], bucket) for index in np.flatnonzero(read & of.raw).tolist()}
        if ids_chosen and not (of.counted | ~read).all():
            unproven = [(index, bucket) for index in np.flatnonzero(read & ~of.counted).tolist()]
            found.unproven = [*found.unproven, *unproven]
    found.lacking = frozenset(
        (periods[index], bucket)
        for bucket in name.buckets
        if (unknown := there[bucket].lacking) is not None
        for index in np.flatnonzero(unknown & is_gone).tolist()
    )
    found.absent = [
        bucket
        for bucket, source, lost in zip(name.buckets, sources, gone, strict=True)
        if not (source.here.any() or lost.any())
    ]
    return found


def _use_unions(found: Found, columns: Mapping[str | None, Column], union: _There) -> Operation[None]:
    """Let stored unions stand for their sources where they are equal."""
    sources = [columns[bucket].hll for bucket in found.name.buckets]
    for batch in batched(found.unions, max(1, _KEYS_PER_BATCH // (2 * len(sources)))):
        commands: list[Command] = []
        for index in batch:
            own = columns[found.name.name].hll[index]
            keys = [hll[index] for hll, there in zip(sources, found.present, strict=False) if there[index]]
            commands += [("PFCOUNT", own), ("PFCOUNT", *keys), ("PFCOUNT", own, *keys)]
        counts = batched(unwrap((yield commands)), 3)
        for index, (of_union, of_sources, of_all) in zip(batch, counts, strict=True):
            if of_union == of_sources == of_all:
                if union.suspect[index]:
                    found.suspects |= {index}
                found.use_union(index, is_proven=bool(union.counted[index]) or not found.unproven)


def sketch_keys(context: Context, found: Found) -> list[list[str]]:
    """The keys of the sketches of each period that are to be read."""
    labels = tuple(period.name for period in found.periods)
    keys: list[list[str]] = [[] for _ in labels]
    for bucket, there in zip(found.columns, found.present, strict=True):
        if there.any():
            hll = context.keys.column(labels, bucket).hll
            for index in np.flatnonzero(there).tolist():
                keys[index].append(hll[index])
    return keys


def have_begun(context: Context, names: Sequence[Name], period: Period) -> Operation[bool]:
    """Whether there is something of each name in a period."""
    buckets = _buckets(names)
    counts, sketches = context.keys.counts(period.name, buckets), context.keys.sketches(period.name, buckets)
    numbers = yield from existing([counts, sketches])
    if len(buckets) in numbers:
        return True
    if not any(numbers):
        return False
    return all(
        (
            yield from existing(
                [*context.keys.counts(period.name, own), *context.keys.sketches(period.name, own)]
                for own in (_buckets([name]) for name in names)
            )
        )
    )


def has_begun(
    context: Context, names: Sequence[Name], before: Period, after: Period | None = None
) -> Operation[bool]:
    """Whether there is anything of the names in a period before one: counts stay when sketches go.

    Up to fifty years are looked back, fewer of many buckets or of hours.

    Args:
        context: what operations are planned with.
        names: of what.
        before: this period.
        after: and after this one; None = however early.
    """
    buckets = _buckets(names)
    per_period = 2 * len(buckets)
    least = "" if after is None else after.name
    earlier = takewhile(least.__lt__, context.calendar.names_before(before, _first_year(before)))
    asked = islice(earlier, _MOST_KEYS_BACK // per_period)
    size = _FIRST_KEYS_BACK
    while batch := list(islice(asked, max(1, size // per_period))):
        [number] = yield from existing([context.keys.counts_and_sketches(batch, buckets)])
        if number:
            return True
        size = min(4 * size, _KEYS_PER_BATCH)
    return False


def _first_year(period: Period) -> int:
    """The first year that is looked back to: no server has been asked for fifty years."""
    return period.start.year - _YEARS_BACK


def _earlier(context: Context, period: Period) -> Iterator[Period]:
    """The periods before one that are looked back to, newest first."""
    before = context.calendar.before(period.kind, period.start, _MOST_KEYS_BACK)
    return takewhile(lambda earlier: earlier.start.year >= _first_year(period), before)


def kept(context: Context, names: Sequence[Name], before: Period, least: int) -> Operation[list[Period]]:
    """The periods before one, oldest first, back to the first data ever tracked or the newest sketch gone.

    Args:
        least: so many are looked at at once, and then four times as many each time.
    """
    found: list[tuple[Period, bool]] = []
    earlier = _earlier(context, before)
    while part := list(islice(earlier, least)):
        surveyed = yield from survey(context, part, names)
        is_gone = reduce(np.logical_or, (each.is_gone for each in surveyed))
        has_data = reduce(np.logical_or, (each.has_data for each in surveyed))
        known = int(np.argmax(is_gone)) if is_gone.any() else len(part)
        found += zip(part[:known], has_data[:known].tolist(), strict=True)
        if known < len(part):
            break
        if not has_data.any() and not (yield from has_begun(context, names, part[-1])):
            break
        least *= 4
    while found and not found[-1][1]:
        found.pop()
    return [period for period, _ in reversed(found)]
