"""Overlap: what two sets have in common.

Only the value type lives here, and how it is made of the registers of two sketches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import inf
from typing import get_args

import numpy as np

from .estimates import Estimate, Share
from .hll.estimators import LARGEST, cardinality
from .hll.joint import fit, observe
from .hll.joint_limits import DISPLAYED, PairLimits, What, Whole, limits_of, shares
from .hll.randomness import is_random
from .hll.registers import Registers
from .result import Record, Result, Table, displayed, interval, record

__all__ = ["Overlap", "overlap"]


@dataclass(frozen=True, slots=True)
class Overlap(Result):
    """What two sets of ids have in common.

    Attributes:
        a: how many ids are in the first one.
        b: how many ids are in the second one.
        both: how many are in both.
        either: how many are in at least one.
        only_a: how many are in the first one alone.
        only_b: how many are in the second one alone.
        share_of_a: the share of the first one that is in both.
        share_of_b: the share of the second one that is in both.
        jaccard: the share of those in at least one that are in both.
        complete: False if a range reaches beyond now or before the first data ever tracked.

    Each is estimated for itself, so sums differ by a part of the standard error.
    """

    a: Estimate
    b: Estimate
    both: Estimate
    either: Estimate
    only_a: Estimate
    only_b: Estimate
    share_of_a: Share
    share_of_b: Share
    jaccard: Share
    complete: bool = True

    _INDEX = ("of",)

    @property
    def _shares(self) -> tuple[str, ...]:
        return "value", "low", "high"  # some of them

    def to_dicts(self) -> list[Record]:
        """A dict for each number and share: of (its name), value, low, high, suspect, complete."""
        return [
            {"of": name, **record("value", value), "complete": self.complete} for name, value in self._items()
        ]

    def table(self) -> Table:
        """A title, headers, and rows of text."""
        title = f"overlap{'' if self.complete else ', not complete'}"
        rows = [[name.replace("_", " "), displayed(value), interval(value)] for name, value in self._items()]
        return title, ["of", "ids or share", "95 %"], rows

    def _items(self) -> Iterator[tuple[str, Estimate | Share]]:
        for name in _NUMBERS:
            yield name, getattr(self, name)


_NUMBERS = tuple(field.name for field in fields(Overlap) if field.name != "complete")


def overlap(a: Registers, b: Registers, sound: tuple[bool, bool] | None = None) -> Overlap:
    """What two sets have in common, by :func:`.joint.fit`; suspect if either sketch is.

    Args:
        a, b: registers, shape (16384,).
        sound: whether random ids can have made each; None = look.
    """
    joint = fit(observe([(a, b, None)]))
    found = limits_of(joint, get_args(What))
    sound_a, sound_b = sound or (is_random(a), is_random(b))
    both_sound = sound_a and sound_b
    observed = joint.likelihood.observed

    def limits(what: What) -> tuple[float, PairLimits]:
        low, high = (float(side[0]) for side in found[what])
        return (high - low) / DISPLAYED if both_sound else inf, PairLimits(observed, (what,), (low, high))

    def plain(registers: Registers, *, sound: bool) -> Estimate:
        return Estimate(cardinality(registers), None if sound else inf)

    def count(ids: float, what: What) -> Estimate:
        return Estimate(min(LARGEST, round(ids)), *limits(what))

    def share(of: Whole, what: What) -> Share:
        return Share(float(shares(joint, of)[0]), *limits(what))

    only_a, only_b, both = joint.ids[0].tolist()
    return Overlap(
        a=plain(a, sound=sound_a),
        b=plain(b, sound=sound_b),
        both=count(both, "both"),
        either=plain(np.maximum(a, b), sound=both_sound),
        only_a=count(only_a, "only_a"),
        only_b=count(only_b, "only_b"),
        share_of_a=share("a", "share_of_a"),
        share_of_b=share("b", "share_of_b"),
        jaccard=share("either", "jaccard"),
    )
