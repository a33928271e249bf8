"""HyperLogLog: a sketch in this process, register by register the one the server keeps.

Only the public class lives here; it puts together what the modules beside it do.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, Self

import numpy as np

from . import bulk, estimates
from .errors import ArgumentTypeError
from .hll import codec, estimators, randomness, registers
from .hll.hashing import hash_one
from .ids import IdEncoder

__all__ = ["HyperLogLog"]

_ENCODER = IdEncoder()


class HyperLogLog:
    """A set of ids of which only the number is known, approximately: 16384 registers of 6 bits.

    Hash, registers and format are those of Redis and Valkey: what `PFADD` makes of the same ids is
    equal, `from_bytes` reads what `GET` returns, and what `to_bytes` writes can be `SET`. Threads that
    share one must take turns.

    Args:
        ids: what it holds to begin with, as in :meth:`update`.

    Raises:
        ArgumentTypeError, ArgumentValueError: a bad id, by its place.
    """

    __slots__ = ("_registers",)
    __hash__ = None  # type: ignore[assignment]  # it can change

    def __init__(self, ids: Iterable[object] = ()) -> None:
        self._registers = registers.empty()
        self.update(ids)

    def add(self, id: object) -> None:
        """Add one id.

        Args:
            id: str, bytes, int or UUID; 7, "7" and b"7" are one id.

        Raises:
            ArgumentTypeError, ArgumentValueError: something else, an empty id or one over 1 KiB.
        """
        registers.fold_one(self._registers, hash_one(_ENCODER.one(id)))

    def update(self, ids: Iterable[object]) -> None:
        """Add many ids, or none of them if one is bad.

        Args:
            ids: list, tuple, set, iterator or one-dimensional numpy array (S, U, integer); arrays
                and lists of one type are the fastest.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, by its place.
        """
        raised = self._registers.copy()
        for hashes in bulk.hashes(_ENCODER, ids):
            registers.fold(raised, hashes)
        # In place: an iterator of ids may have added some itself.
        np.maximum(self._registers, raised, out=self._registers)

    def merge(self, *others: HyperLogLog) -> None:
        """Add everything that is in other sketches: the union.

        Args:
            others: sketches, which stay as they are.

        Raises:
            ArgumentTypeError: not a HyperLogLog.
        """
        for other in others:
            _check(other, "others")
        for other in others:
            np.maximum(self._registers, other._registers, out=self._registers)

    def __or__(self, other: object) -> HyperLogLog:
        if not isinstance(other, HyperLogLog):
            return NotImplemented
        result = self.copy()
        result.merge(other)
        return result

    def __ior__(self, other: object) -> Self:
        if not isinstance(other, HyperLogLog):
            return NotImplemented
        self.merge(other)
        return self

    def count(self) -> estimates.Estimate:
        """How many different ids were added; the same number as the server's `PFCOUNT`.

        It is :attr:`~activity_tracker_hll.Estimate.suspect` if random ids would not leave such registers.
        """
        count = estimators.cardinality(self._registers)
        return estimates.Estimate(count, None if randomness.is_random(self._registers) else inf)

    def difference(self, moved: HyperLogLog) -> estimates.Estimate:
        """How many ids are in this sketch and not in another, all of whose ids are in this one too.

        More accurate than the difference of two counts. Where the other sketch may hold ids that are not in
        this one, unite the two first: ``(a | b).difference(b)``.

        Args:
            moved: the other sketch.

        Raises:
            ArgumentTypeError: not a HyperLogLog.
        """
        _check(moved, "moved")
        count, error = estimators.remainder(self._registers, moved._registers)
        sound = randomness.is_random_remainder(self._registers, moved._registers, count)
        return estimates.Estimate(count, error if sound else inf)

    def to_bytes(self) -> bytes:
        """The sketch as Redis and Valkey store it: sparse while that is short, else dense (12,304 bytes)."""
        return codec.encode(self._registers)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The sketch that Redis or Valkey stored.

        Args:
            data: what `GET` returns.

        Raises:
            ArgumentTypeError: not bytes.
            MalformedSketchError: not a sketch, or a damaged one.
            UnknownEncodingError: neither dense nor sparse.
        """
        result = cls.__new__(cls)
        result._registers = codec.decode(data)
        return result

    def copy(self) -> Self:
        """A sketch of its own that holds the same."""
        result = type(self).__new__(type(self))
        result._registers = self._registers.copy()
        result._set_attributes(getattr(self, "__dict__", {}))
        return result

    __copy__ = copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HyperLogLog):
            return NotImplemented
        return np.array_equal(self._registers, other._registers)

    def __getstate__(self) -> tuple[bytes, dict[str, Any]]:
        return self.to_bytes(), getattr(self, "__dict__", {})

    def __setstate__(self, state: tuple[bytes, dict[str, Any]]) -> None:
        data, attributes = state
        self._registers = codec.decode(data)
        self._set_attributes(attributes)

    def _set_attributes(self, attributes: dict[str, Any]) -> None:
        """Those that a subclass has besides."""
        for name, value in attributes.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {int(self.count())} ids>"


def _check(other: object, argument: str) -> None:
    if not isinstance(other, HyperLogLog):
        raise ArgumentTypeError(f"{argument} must be a HyperLogLog, got {other!r:.60}")
