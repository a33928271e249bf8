"""activity-tracker's raw sets: absorbing them into sketches, and counting them along with sketches."""

from __future__ import annotations

from ...keys import BucketKeys
from ..base import Context, Operation, items, unwrap

__all__ = ["absorb", "copy_with_raw"]

_IDS_PER_SCAN = 1000
_LIFETIME_S = 600  # renewed with every thousand ids


def absorb(context: Context, keys: BucketKeys) -> Operation[None]:
    """Move a raw set into the bucket's sketch, without losing ids that arrive meanwhile.

    Each id is in the sketch before it leaves the set, so this may be interrupted anywhere and run again, or
    run twice at once. A stored count does not include these ids: it is deleted first, to be made again.
    """
    # Without the count, the sketch is all that is known again, so it must not expire.
    kept = (keys.hll, keys.moved, keys.moves)
    unwrap((yield [*(("PERSIST", key) for key in kept), ("DEL", keys.counted, keys.stderr)]))
    cursor = 0
    while True:
        cursor, members = items(unwrap((yield [_scan(keys.raw, cursor)]))[0])
        if members:
            unwrap((yield [("PFADD", keys.hll, *map(context.ids.conceal, members))]))
            unwrap((yield [("SREM", keys.raw, *members)]))
        if int(cursor) == 0 and not unwrap((yield [("EXISTS", keys.raw)]))[0]:
            return


def copy_with_raw(context: Context, keys: BucketKeys, copy: str) -> Operation[None]:
    """Write a sketch of the bucket and its raw set to another key, which expires if it is not deleted."""
    last = ("EXPIRE", copy, _LIFETIME_S)
    unwrap((yield [("PFMERGE", copy, keys.hll), last]))
    cursor = 0
    while True:
        cursor, members = items(unwrap((yield [_scan(keys.raw, cursor)]))[0])
        if members:
            unwrap((yield [("PFADD", copy, *map(context.ids.conceal, members)), last]))
        if int(cursor) == 0:
            return


def _scan(key: str, cursor: int) -> tuple[str | int, ...]:
    return ("SSCAN", key, cursor, "COUNT", _IDS_PER_SCAN)
