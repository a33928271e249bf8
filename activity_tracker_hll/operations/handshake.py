"""The handshake: all clients of a namespace agree on what its keys mean, and hear what others were given."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from .. import zones
from ..backends.base import Command, Reply
from ..errors import ArgumentValueError, SettingsMismatchError
from ..messages import printable, shown
from ..periods import Calendar
from ..scripts.calls import answer, call_lengthen
from .base import Context, Operation, items, unwrap_of
from .scans import scan
from .settings import (
    LAYOUT,
    NO_BUCKETS,
    Access,
    Aggregates,
    DataSettings,
    Given,
    KeptFor,
    field_of,
    longest,
    redefinitions,
)
from .tracking.stamps import ServerClock

__all__ = ["agree", "change", "checked", "fields_of", "read_fields"]

_LOG = logging.getLogger("activity_tracker_hll")
_LEAVE_OUT = " (without the argument theirs is used)"
_OLDER_LAYOUTS = ("0", "1")
_SHOWN = 40
_FIELDS_PER_SCAN = 10_000
"""Half a millisecond of the server's time; what has no more is read by one command."""


def agree(context: Context, clock: ServerClock, access: Access) -> Operation[bool]:
    """Compare this client's settings with those of the data, adopt what it was not given, read the clock.

    Args:
        context: has what was given; is told what is stored.
        clock: is given a sample.
        access: who only reads stores nothing, as it may be on a replica.

    Returns:
        Whether there were settings to agree with.

    Raises:
        SettingsMismatchError: naming what differs.
    """
    meta = context.keys.meta
    sent = clock.ticks()
    found, time = yield [_scan(meta), ("TIME",)]
    clock.sample(sent, time)
    theirs = checked(context, (yield from _scanned(context, [found])), access)
    if access is not Access.READ:
        theirs = yield from _offer(context, theirs, access)
    before, context.agreed = context.agreed, DataSettings.read(meta, theirs)
    if context.agreed != before:
        _tell(context)
    return bool(theirs)


def change(
    context: Context,
    clock: ServerClock,
    keep: KeptFor,
    aggregates: Mapping[str, tuple[str | None, ...] | None],
) -> Operation[DataSettings]:
    """Store settings on purpose, shorter ones too.

    Args:
        context: what operations are planned with.
        clock: is given a sample.
        keep: how long sketches are kept, by kind of period.
        aggregates: by name; None = this one is removed.

    Returns:
        What is stored then.

    Raises:
        SettingsMismatchError: this client does not agree with what is stored.
    """
    yield from agree(context, clock, Access.COUNT)
    wanted_aggregates = {name: of for name, of in aggregates.items() if of is not None}
    wanted = Given(keep, wanted_aggregates).fields()
    removed = Given({}, {name: () for name, of in aggregates.items() if of is None}).fields()
    others = {name: of or () for name, of in aggregates.items()}
    redefined = redefinitions(context.agreed, others, clock.now() / 1e6)
    meta, given = context.keys.meta, context.given
    yield from _check_names(context, wanted_aggregates)
    # What this client itself was given is changed with it, or it would undo it.
    context.given = Given(
        {kind: length for kind, length in given.keep_sketches.items() if kind not in keep},
        {name: of for name, of in given.aggregates.items() if name not in aggregates},
    )
    commands: list[Command] = [("HSET", meta, field, value) for field, value in (redefined | wanted).items()]
    commands += [("HDEL", meta, field) for field in removed]
    replies = yield [*commands, _scan(meta)]
    context.agreed = DataSettings.read(meta, (yield from _scanned(context, replies)))
    return context.agreed


def read_fields(context: Context) -> Operation[dict[str, str]]:
    """The fields of settings, without those that register buckets."""
    return (yield from _scanned(context, (yield [_scan(context.keys.meta)])))


def _scan(meta: str, cursor: int = 0) -> Command:
    """Begins to read the settings, or goes on; buckets, of which there may be millions, are left out."""
    return ("HSCAN", meta, cursor, "MATCH", NO_BUCKETS, "COUNT", _FIELDS_PER_SCAN)


def _scanned(context: Context, replies: list[Reply]) -> Operation[dict[str, str]]:
    """The fields, of which the last reply has the first ones; no reply may be an error."""
    meta = context.keys.meta
    cursor, found = items(unwrap_of(meta, replies)[-1])
    if int(cursor) == 0:
        return fields_of(found)
    fields: dict[str, str] = {}
    yield from scan(
        lambda cursor: _scan(meta, cursor),
        lambda found: fields.update(fields_of(found)),
        is_cluster=context.is_cluster,
        key=meta,
    )
    return fields


def _check_names(context: Context, aggregates: Aggregates) -> Operation[None]:
    """Refuse aggregates of tracked names, and of other aggregates.

    Raises:
        SettingsMismatchError: naming it.
    """
    known = {**context.agreed.aggregate_buckets, **aggregates}
    united = {source for sources in known.values() for source in sources}
    tracked = yield from _tracked(context.keys.meta, aggregates)
    for name in aggregates:
        if name in tracked:
            raise SettingsMismatchError(
                f"aggregate {shown(name)} bears the name of a bucket with ids of its own"
            )
        if name in united or not known.keys().isdisjoint(source or "" for source in aggregates[name]):
            raise SettingsMismatchError(f"aggregate {shown(name)}: one of an aggregate cannot be counted")


def _tracked(meta: str, names: Collection[str]) -> Operation[set[str]]:
    """Those of some names that are buckets in which anything was ever tracked."""
    if not names:
        return set()
    fields = unwrap_of(meta, (yield [("HGET", meta, field_of(name)) for name in names]))
    return {name for name, field in zip(names, fields, strict=True) if field is not None}


def _offer(context: Context, theirs: Mapping[str, str], access: Access) -> Operation[Mapping[str, str]]:
    """Store what nobody said before, and for how long sketches are kept if that is longer here.

    Returns:
        What is stored then.
    """
    meta = context.keys.meta
    if "timezone_rules" not in theirs:
        context.calendar.fix_local_time()
    # The zone's name is for people and for those that adopt it: "UTC" and "Etc/UTC" agree.
    aggregates = context.given.aggregates
    new = sorted(aggregates.keys() - DataSettings.read(meta, theirs).aggregate_buckets.keys())
    tracked = yield from _tracked(meta, new)
    given = Given(
        context.given.keep_sketches,
        {name: of for name, of in aggregates.items() if name not in tracked},
    )
    wanted = {**_ours(context), "timezone": context.calendar.zone_name, **given.fields()}
    if access is not Access.TRACK:
        del wanted["secret"]  # who adds no ids need not know it
    if not theirs.keys() >= wanted.keys():
        commands = [("HSETNX", meta, field, value) for field, value in wanted.items()]
        replies = yield [*commands, _scan(meta)]
        # Others may have come first.
        theirs = checked(context, (yield from _scanned(context, replies)), access)
    _adopt(context.calendar, theirs)
    lengths, kept = context.given.keep_sketches, DataSettings.read(meta, theirs).keep_sketches
    longer = Given(
        {kind: keep for kind, keep in lengths.items() if longest(keep, kept[kind]) != kept[kind]}
    ).fields()
    if longer:
        # Others may be given longer ones at the same time.
        replies = yield [call_lengthen(meta, longer), _scan(meta)]
        answer(unwrap_of(meta, replies)[0])
        theirs = yield from _scanned(context, replies)
    return theirs


def _ours(context: Context) -> dict[str, str]:
    return {
        "layout": LAYOUT,
        "timezone_rules": context.calendar.zone_fingerprint,
        "week_start": str(context.calendar.week_start),
        "secret": context.ids.fingerprint,
    }


def checked(
    context: Context, theirs: Mapping[str, str], access: Access, where: str | None = None
) -> Mapping[str, str]:
    """What is stored, if this client agrees with it; what it was not given, it adopts.

    Args:
        context: has what was given, and adopts the rest.
        theirs: the fields.
        access: what they are wanted for.
        where: they are stored; None = with the data.

    Raises:
        SettingsMismatchError: naming what differs.
    """
    meta = where or context.keys.meta
    if theirs.get("layout", LAYOUT) != LAYOUT:
        raise SettingsMismatchError(_other_layout_message(meta, theirs["layout"]))
    _adopt(context.calendar, theirs)
    ours = _ours(context)
    if not ours["secret"] and access is not Access.TRACK:
        del ours["secret"]  # counts can be read, and made, without it
    if any(theirs.get(field, value) != value for field, value in ours.items()):
        differences = "; ".join(_differences(context.calendar, ours, theirs))
        raise SettingsMismatchError(f"{meta} was written with other settings: {differences}")
    return theirs


def _adopt(calendar: Calendar, theirs: Mapping[str, str]) -> None:
    """Take over time zone and first day of the week where they were not given, if they are known here."""
    week_start, rules = theirs.get("week_start"), theirs.get("timezone_rules")
    if not calendar.gives_week_start and week_start in tuple("0123456"):
        calendar.adopt_week_start(int(week_start))
    if calendar.gives_zone or rules is None:
        return
    try:
        named = zones.load(theirs.get("timezone"))
    except ArgumentValueError:
        named = None
    for zone in (named, calendar.zone):
        if zones.fingerprint(zone) == rules:
            calendar.adopt_zone(zone, rules)
            return


def _tell(context: Context) -> None:
    """Log what people should know of the stored settings."""
    for problem in context.agreed.problems:
        _LOG.warning("%s", problem)
    context.compare(context.given.aggregates)


def _other_layout_message(meta: str, layout: str) -> str:
    if layout in _OLDER_LAYOUTS:
        return (
            f"{meta}: the data have layout {layout}, of an older version of this library, which this one does"
            f" not read (layout {LAYOUT}). Stop what uses the older version, let it collapse the periods that"
            f" are over, and delete {meta}: stored counts stay, and new periods begin with the new layout"
        )
    return (
        f"{meta}: the data have layout {shown(layout)}, which this version does not know (it has layout"
        f" {LAYOUT}); a newer version of this library wrote them"
    )


def fields_of(reply: object) -> dict[str, str]:
    """The fields of settings, from a reply that has names and values in turn."""
    flat = [part.decode("utf-8", "replace") for part in items(reply)]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _differences(calendar: Calendar, ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    differing = []
    if theirs.get("week_start", ours["week_start"]) != ours["week_start"]:
        there = printable(theirs["week_start"], _SHOWN)
        differing.append(f"week_start {there} there, {ours['week_start']} here{_LEAVE_OUT}")
    if theirs.get("timezone_rules", ours["timezone_rules"]) != ours["timezone_rules"]:
        there = printable(theirs.get("timezone", "unknown"), _SHOWN)
        differing.append(f"timezone {there!r} there, {calendar.zone_name!r} here{_LEAVE_OUT}")
    if "secret" in ours and theirs.get("secret", ours["secret"]) != ours["secret"]:
        # Fingerprints tell another secret from none, and do not give the secret away.
        there, here = printable(theirs["secret"], _SHOWN) or "none", ours["secret"] or "none"
        hint = "" if ours["secret"] else ": ids can only be tracked with it; counts can be read without"
        differing.append(f"secret (fingerprint) {there} there, {here} here{hint}")
    return differing
