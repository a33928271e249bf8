"""The handshake: a check that all clients of a namespace agree on what its keys mean."""

from __future__ import annotations

from ..errors import SettingsMismatchError
from .base import Context, Operation, items, unwrap_of
from .tracking.stamps import ServerClock

__all__ = ["LAYOUT", "check_settings"]

_OLDER_LAYOUTS = ("0", "1")
_SHOWN = 40
LAYOUT = "2"
"""Version of the keys and of their contents."""


def check_settings(context: Context, clock: ServerClock, write: bool) -> Operation[bool]:
    """Compare this client's settings with those on the server, and read the server's clock.

    Args:
        context: has the settings.
        clock: is given a sample.
        write: store the settings if there are none. Readers do not, as they may be on a replica.

    Returns:
        Whether there were settings to agree with.

    Raises:
        SettingsMismatchError: naming what differs.
    """
    calendar = context.calendar
    ours = {
        "layout": LAYOUT,
        "timezone_rules": calendar.zone_fingerprint,
        "week_start": str(calendar.week_start),
        "secret": context.ids.fingerprint,
    }
    meta = context.keys.meta
    # The zone's name is only shown to people: "UTC" and "Etc/UTC" agree.
    wanted = {**ours, "timezone": calendar.zone_name}
    sent = clock.ticks()
    found, time = yield [("HGETALL", meta), ("TIME",)]
    clock.sample(sent, time)
    theirs = _fields(unwrap_of(meta, [found])[0])
    if theirs.get("layout", LAYOUT) != LAYOUT:
        raise SettingsMismatchError(_other_layout_message(meta, theirs["layout"]))
    if write and not theirs.keys() >= wanted.keys():
        commands = [("HSETNX", meta, field, value) for field, value in wanted.items()]
        theirs = _fields(unwrap_of(meta, (yield [*commands, ("HGETALL", meta)]))[-1])
    if all(theirs.get(field, value) == value for field, value in ours.items()):
        return bool(theirs)
    raise SettingsMismatchError(
        f"{meta} was written with other settings: " + "; ".join(_differences(theirs, wanted))
    )


def _other_layout_message(meta: str, layout: str) -> str:
    if layout in _OLDER_LAYOUTS:
        return (
            f"{meta}: the data have layout {layout}, of an older version of this library, which this one does"
            f" not read (layout {LAYOUT}). Stop what uses the older version, let it collapse the periods that"
            f" are over, and delete {meta}: stored counts stay, and new periods begin with the new layout"
        )
    return (
        f"{meta}: the data have layout {layout[:_SHOWN]!r}, which this version does not know (it has layout"
        f" {LAYOUT}); a newer version of this library wrote them"
    )


def _fields(reply: object) -> dict[str, str]:
    flat = [part.decode("utf-8", "replace") for part in items(reply)]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _differences(theirs: dict[str, str], wanted: dict[str, str]) -> list[str]:
    shown = [
        f"{field} {_shown(theirs[field])} there, {wanted[field]} here"
        for field in ("week_start",)
        if theirs.get(field, wanted[field]) != wanted[field]
    ]
    if theirs.get("timezone_rules", wanted["timezone_rules"]) != wanted["timezone_rules"]:
        shown.append(f"timezone {str(theirs.get('timezone'))[:_SHOWN]!r} there, {wanted['timezone']!r} here")
    if theirs.get("secret", wanted["secret"]) != wanted["secret"]:
        # Fingerprints tell another secret from none, and do not give the secret away.
        there, here = _shown(theirs["secret"]) or "none", wanted["secret"] or "none"
        shown.append(f"secret (fingerprint) {there} there, {here} here")
    return shown


def _shown(value: str) -> str:
    """The beginning of what others stored, without what terminals obey."""
    return value[:_SHOWN] if value.isprintable() else repr(value[:_SHOWN])
