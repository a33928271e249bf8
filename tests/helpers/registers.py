"""Registers by simulation: drawn one by one, from how many ids fall on each, instead of from ids."""

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st

from activity_tracker_hll.hll.registers import MAX_RANK, REGISTERS, empty, fold


def drawn(dice: np.random.Generator, ids: int):
    """Registers of that many random ids."""
    if ids < 20 * REGISTERS:
        fallen = np.bincount(dice.integers(0, REGISTERS, ids), minlength=REGISTERS)
    else:
        fallen = dice.multinomial(ids, np.full(REGISTERS, 1 / REGISTERS))
    with np.errstate(divide="ignore"):  # P(rank <= k) = (1 - 2^-k)^fallen
        rank = np.ceil(-np.log2(-np.expm1(-dice.exponential(size=REGISTERS) / fallen)))
    return np.where(fallen == 0, 0, np.clip(rank, 1, MAX_RANK)).astype(np.uint8)


def odd(dice: np.random.Generator, kind: int):
    """Registers that ids make, and such that none do."""
    some = dice.random(REGISTERS) < dice.random()
    return (
        lambda: drawn(dice, int(10 ** dice.uniform(0, 7))),
        lambda: dice.integers(0, dice.integers(1, MAX_RANK + 2), REGISTERS),
        lambda: np.where(some, MAX_RANK, dice.integers(0, MAX_RANK + 1, REGISTERS)),
        lambda: np.where(some, MAX_RANK, dice.integers(40, MAX_RANK + 1, REGISTERS)),
        lambda: np.minimum(MAX_RANK, dice.geometric(0.5, REGISTERS) + dice.integers(0, 50)),
        lambda: np.where(some, dice.geometric(0.5, REGISTERS) % MAX_RANK, 0),
        lambda: np.full(REGISTERS, dice.integers(0, MAX_RANK + 1)),
        lambda: np.full(REGISTERS, MAX_RANK) - (dice.random(REGISTERS) < 1e-4),
        lambda: np.zeros(REGISTERS),
        lambda: np.full(REGISTERS, MAX_RANK),
    )[kind % 10]().astype(np.uint8)


dice = st.builds(np.random.default_rng, st.integers(0, 2**32))

sketches = st.builds(odd, dice, st.integers(0, 9))

counts = st.integers(0, 10**9)


def sketch(ids: Iterable[int], hashes):
    registers = empty()
    fold(registers, hashes[sorted(ids)])
    return registers
