"""Many ids that are active in buckets over some days and move among them: their layers, and the truth.

As :mod:`.sets`, for statistics: what happens to an id is an entry of an array.
"""

from functools import reduce

import numpy as np

from activity_tracker_hll.hll.layers import Layer
from activity_tracker_hll.hll.registers import empty, fold


class Crowd:
    """Ids that are active on some days, in the bucket that they are in; some leave it for the next one.

    Where there is only one bucket, they leave it for good. Of those who leave, a quarter is back in the old
    bucket on the same day, and another quarter some days later.
    """

    def __init__(self, dice, ids, days, buckets, moved, active=0.3):
        self.hashes = dice.integers(0, 2**64, ids, np.uint64)
        home = dice.integers(0, buckets, ids)
        leaves = np.where(dice.random(ids) < moved, dice.integers(0, days, ids), days)
        away = np.where(
            (fate := dice.random(ids)) < 0.25,
            0,
            np.where(fate < 0.5, dice.integers(1, days + 1, ids), 2 * days),
        )
        self.tracked, self.left, self.alive_at_end = [], [], []
        for day in range(days):
            is_active = dice.random(ids) < active
            goes, returns = leaves == day, (leaves + away == day) & (leaves < days)
            outside = (leaves <= day) & (day < leaves + away) & ~goes
            now = np.where(outside | (goes & ~returns), (home + 1) % buckets, home)
            rows = [], [], []
            for bucket in range(buckets):
                was_here = home == bucket
                leaving = goes & was_here
                if buckets > 1:
                    leaving |= returns & ~goes & (np.where(home + 1 == buckets, 0, home + 1) == bucket)
                    arriving = (goes | returns) & (now == bucket)
                    here = now == bucket
                else:
                    arriving, here = returns, ~outside & ~(goes & ~returns)
                # Half of those who leave were active before, on the same day.
                before = leaving & is_active
                after = (is_active & here & ~leaving) | arriving
                rows[0].append(before | after)
                rows[1].append(leaving)
                rows[2].append(after)
            for mine, row in zip((self.tracked, self.left, self.alive_at_end), rows, strict=True):
                mine.append(row)

    def alive(self, *days):
        """Who is alive at the end of these days, as an array of bools."""
        found = []
        for bucket in range(len(self.tracked[0])):
            state = np.zeros(len(self.hashes), bool)
            for day in days:
                known = self.tracked[day][bucket] | self.left[day][bucket]
                state = np.where(known, self.alive_at_end[day][bucket], state)
            found.append(state)
        return reduce(np.logical_or, found)

    def seen(self, *days):
        """Of whom anything is known."""
        nobody = np.zeros(len(self.hashes), bool)
        return reduce(np.logical_or, (row for day in days for row in self._rows(day)), nobody)

    def _rows(self, day):
        return (*self.tracked[day], *self.left[day])

    def history(self):
        """The sketches of each day and bucket."""
        return [
            [
                self._layer(*masks)
                for masks in zip(self.tracked[day], self.left[day], self.alive_at_end[day], strict=True)
            ]
            for day in range(len(self.tracked))
        ]

    def _layer(self, tracked, left, alive):
        returned = left & alive
        return Layer(
            self._sketched(tracked | left),
            self._sketched(left) if left.any() else None,
            self._sketched(returned) if returned.any() else None,
            int(returned.sum()),
        )

    def _sketched(self, mask):
        registers = empty()
        fold(registers, self.hashes[mask])
        return registers


class RestlessCrowd(Crowd):
    """Ids of which many leave day by day, each bucket for itself, and many of these return on the same day.

    Args:
        active: for each bucket, the share of the ids that are active there on a day.
        leaving: for each bucket, the share of these that leave it.
        returning: the share of those who left that return.
    """

    def __init__(self, dice, ids, days, active, leaving, returning):
        self.hashes = dice.integers(0, 2**64, ids, np.uint64)
        shape = days, len(active), ids
        self.tracked = dice.random(shape) < np.array(active)[:, None]
        self.left = self.tracked & (dice.random(shape) < np.array(leaving)[:, None])
        self.alive_at_end = self.tracked & (~self.left | (dice.random(shape) < returning))
