"""The handshake: all clients of a namespace agree on what its keys mean, and hear what others were given."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .. import zones
from ..backends.base import Command
from ..errors import ArgumentValueError, SettingsMismatchError
from ..messages import printable, shown
from ..periods import Calendar
from ..scripts.calls import answer, call_lengthen
from .base import Context, Operation, items, unwrap_of
from .settings import LAYOUT, Access, Aggregates, DataSettings, Given, KeptFor, field_of, longest
from .tracking.stamps import ServerClock

__all__ = ["agree", "change", "checked", "fields_of"]

_LOG = logging.getLogger("activity_tracker_hll")
_LEAVE_OUT = " (without the argument theirs is used)"
_OLDER_LAYOUTS = ("0", "1")
_SHOWN = 40


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
    found, time = yield [("HGETALL", meta), ("TIME",)]
    clock.sample(sent, time)
    theirs = checked(context, fields_of(unwrap_of(meta, [found])[0]), access)
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
    meta, given = context.keys.meta, context.given
    _check_names(context.agreed, wanted_aggregates)
    # What this client itself was given is changed with it, or it would undo it.
    context.given = Given(
        {kind: length for kind, length in given.keep_sketches.items() if kind not in keep},
        {name: of for name, of in given.aggregates.items() if name not in aggregates},
    )
    commands: list[Command] = [("HSET", meta, field, value) for field, value in wanted.items()]
    commands += [("HDEL", meta, field) for field in removed]
    stored = unwrap_of(meta, (yield [*commands, ("HGETALL", meta)]))[-1]
    context.agreed = DataSettings.read(meta, fields_of(stored))
    return context.agreed


def _check_names(agreed: DataSettings, aggregates: Aggregates) -> None:
    """Refuse aggregates of tracked names, and of other aggregates.

    Raises:
        SettingsMismatchError: naming it.
    """
    known = {**agreed.aggregate_buckets, **aggregates}
    united = {source for sources in known.values() for source in sources}
    for name in aggregates:
        if name in agreed.buckets:
            raise SettingsMismatchError(
                f"aggregate {shown(name)} bears the name of a bucket with ids of its own"
            )
        if name in united or not known.keys().isdisjoint(source or "" for source in aggregates[name]):
            raise SettingsMismatchError(f"aggregate {shown(name)}: one of an aggregate cannot be counted")


def _offer(context: Context, theirs: Mapping[str, str], access: Access) -> Operation[Mapping[str, str]]:
    """Store what nobody said before, and for how long sketches are kept if that is longer here.

    Returns:
        What is stored then.
    """
    meta = context.keys.meta
    if "timezone_rules" not in theirs:
        context.calendar.fix_local_time()
    # The zone's name is for people and for those that adopt it: "UTC" and "Etc/UTC" agree.
    given = Given(
        context.given.keep_sketches,
        {name: of for name, of in context.given.aggregates.items() if field_of(name) not in theirs},
    )
    wanted = {**_ours(context), "timezone": context.calendar.zone_name, **given.fields()}
    if access is not Access.TRACK:
        del wanted["secret"]  # who adds no ids need not know it
    if not theirs.keys() >= wanted.keys():
        commands = [("HSETNX", meta, field, value) for field, value in wanted.items()]
        stored = unwrap_of(meta, (yield [*commands, ("HGETALL", meta)]))[-1]
        theirs = checked(context, fields_of(stored), access)  # others may have come first
    _adopt(context.calendar, theirs)
    lengths, kept = context.given.keep_sketches, DataSettings.read(meta, theirs).keep_sketches
    longer = Given(
        {kind: keep for kind, keep in lengths.items() if longest(keep, kept[kind]) != kept[kind]}
    ).fields()
    if longer:
        # Others may be given longer ones at the same time.
        done, stored = unwrap_of(meta, (yield [call_lengthen(meta, longer), ("HGETALL", meta)]))
        answer(done)
        theirs = fields_of(stored)
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
    """The fields of settings, from a reply to HGETALL."""
    flat = [part.decode("utf-8", "replace") for part in items(reply)]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _differences(calendar: Calendar, ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    differing = [
        f"{field} {printable(theirs[field], _SHOWN)} there, {ours[field]} here{_LEAVE_OUT}"
        for field in ("week_start",)
        if theirs.get(field, ours[field]) != ours[field]
    ]
    if theirs.get("timezone_rules", ours["timezone_rules"]) != ours["timezone_rules"]:
        there = printable(theirs.get("timezone", "unknown"), _SHOWN)
        differing.append(f"timezone {there!r} there, {calendar.zone_name!r} here{_LEAVE_OUT}")
    if "secret" in ours and theirs.get("secret", ours["secret"]) != ours["secret"]:
        # Fingerprints tell another secret from none, and do not give the secret away.
        there, here = printable(theirs["secret"], _SHOWN) or "none", ours["secret"] or "none"
        hint = "" if ours["secret"] else ": ids can only be tracked with it; counts can be read without"
        differing.append(f"secret (fingerprint) {there} there, {here} here{hint}")
    return differing
