"""Small worlds in which ids are active in buckets and leave them: their layers, and the truth about them."""

from dataclasses import dataclass, field

import numpy as np

from activity_tracker_hll.hll.layers import Layer
from activity_tracker_hll.hll.registers import REGISTERS, empty, fold

IDS = 31
_DICE = np.random.default_rng(5)
# Ids that do not meet in any register: sketches of them are all but exact.
HASHES = _DICE.permutation(REGISTERS)[:IDS].astype(np.uint64)
HASHES |= _DICE.integers(0, 2**50, IDS, np.uint64) << np.uint64(14)


@dataclass
class World:
    """What happened to ids, period by period, in the order of the events.

    Attributes:
        periods: by period and bucket, the ids in the order of their events, each with whether it was active
            (or left).
    """

    buckets: int
    periods: list[list[list[tuple[int, bool]]]] = field(default_factory=list)

    def alive(self, *periods: int) -> set[int]:
        """Ids whose newest event in some bucket, over these periods, is activity."""
        found = set()
        for bucket in range(self.buckets):
            newest = {id: active for period in periods for id, active in self.periods[period][bucket]}
            found |= {id for id, active in newest.items() if active}
        return found

    def seen(self, *periods: int) -> set[int]:
        """Ids of which anything is known."""
        return {id for period in periods for bucket in self.periods[period] for id, _ in bucket}

    def history(self, hashes=HASHES) -> list[list[Layer | None]]:
        """The sketches of each period and bucket."""
        return [[layer(events, hashes) for events in period] for period in self.periods]


def layer(events, hashes) -> Layer | None:
    """The sketches of a bucket in a period."""
    if not events:
        return None
    newest = dict(events)
    left = {id for id, active in events if not active}
    returned = {id for id in left if newest[id]}
    return Layer(
        sketched(newest, hashes),
        sketched(left, hashes) if left else None,
        sketched(returned, hashes) if returned else None,
        len(returned),
    )


def sketched(ids, hashes):
    registers = empty()
    if ids:
        fold(registers, hashes[sorted(ids)])
    return registers
