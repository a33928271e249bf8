"""activity-tracker's raw sets: absorbing them into sketches, and reading them along with sketches."""

from __future__ import annotations

from ... import bulk
from ...hll.estimators import standard_error
from ...hll.registers import Registers, empty, fold
from ...keys import BucketKeys
from ...scripts.calls import Due, answer, answers, call_absorb, call_collapse
from ..base import Context, Operation, items, number, unwrap
from ..many_keys import without_zeros
from ..scans import scan
from .outcomes import awaited, foreign

__all__ = ["absorb", "registers_of_raw"]

_IDS_PER_SCAN = 1000
_MARGIN = 5  # standard errors


def absorb(context: Context, keys: BucketKeys, expiry: str, *, recount: bool = False) -> Operation[bool]:
    """Move a raw set into the bucket's sketch, without losing ids that arrive meanwhile.

    Each id is in the sketch before it leaves the set, so this may be interrupted anywhere and run again, or
    run twice at once. A stored count does not include these ids: it is deleted, to be made again. So nothing
    is done where that cannot be: the sketch it was made from is gone, or it was made from another.

    Args:
        context: how keys and ids are made.
        keys: of the bucket.
        expiry: of its sketch, see :func:`.outcomes.expiry_of`.
        recount: whether a count that is too small is made anew.

    Returns:
        Whether all is done; if not, the bucket was counted meanwhile: try again.

    Raises:
        BackendError: the count is not one of the sketch; or what a key holds makes no sense.
    """
    context.conceal(())  # or nothing is done, where the secret is needed and not known
    found, sketch = unwrap((yield [("GET", keys.counted), ("EXISTS", keys.hll)]))
    [counted] = unwrap((yield from without_zeros([keys.counted], [found])))
    if counted is not None:
        if not sketch:
            return True
        stored = number(counted, keys.counted)
        # The sketch is needed below, even if it should have expired by now.
        call = call_collapse([Due(keys, awaited(expiry))], recount=False)
        state, _ = answer(answers((yield [call])[0], 1)[0])
        [tracked] = unwrap((yield [("PFCOUNT", keys.hll)]))
        # What is kept for ever has no expiry to tell by; but no count of a sketch is larger than that.
        is_foreign = state == b"FOREIGN" or stored > tracked + _MARGIN * (1 + standard_error(tracked))
        if is_foreign and not (recount and tracked > stored):
            raise foreign(stored, tracked)
    seen = found or b""
    cursor = 0
    while True:
        cursor, members = items(unwrap((yield [_scan(keys.raw, cursor)]))[0])
        if members:
            state, _ = answer((yield [call_absorb(keys, seen, context.conceal(members))])[0])
            if state == b"CHANGED":
                return False
            seen = b""
            unwrap((yield [("SREM", keys.raw, *members)]))
        if int(cursor) == 0 and not unwrap((yield [("EXISTS", keys.raw)]))[0]:
            return True


def registers_of_raw(context: Context, key: str) -> Operation[Registers]:
    """The registers of a raw set's ids, read without writing anything.

    Raises:
        BackendError: the key holds something else, or a secret is needed.
    """
    registers = empty()

    def take(members: list[bytes]) -> None:
        if members:
            fold(registers, bulk.hashes_of_bytes(context.conceal(members)))

    yield from scan(lambda cursor: _scan(key, cursor), take, is_cluster=context.is_cluster, key=key)
    return registers


def _scan(key: str, cursor: int) -> tuple[str | int, ...]:
    return ("SSCAN", key, cursor, "COUNT", _IDS_PER_SCAN)
