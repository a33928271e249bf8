"""activity-tracker's raw sets: folding them into sketches, and reading along with them."""

from __future__ import annotations

from ...keys import BucketKeys
from ..base import Context, Operation, items, unwrap

__all__ = ["copy_with_raw", "fold"]

_IDS_PER_SCAN = 1000
_LIFETIME_S = 600  # after each thousand ids anew


def fold(context: Context, keys: BucketKeys) -> Operation[None]:
    """Move a raw set into the bucket's sketch, without losing what arrives meanwhile.

    Each id is in the sketch before it leaves the set, so this can stop anywhere and begin again,
    and two can do it at once. The count, which was stored without these ids, is
    withdrawn first, so that it is made again.
    """
    # Without its count the sketch counts for itself again, so it must not end.
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
    """Make a sketch of the bucket and its raw set under another key, which ends by itself if need be."""
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
