"""HyperLogLog: a sketch in this process, register by register the one the server keeps.

Only the public class lives here; the work is done by :mod:`.bulk`, :mod:`.ids` and :mod:`.hll`.
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
from .ids import Id, IdEncoder
from .messages import shown

__all__ = ["HyperLogLog"]

_ENCODER = IdEncoder()


class HyperLogLog:
    """A sketch of a set of ids, which knows only how many they are, approximately: 16384 registers of 6 bits.

    Hash, registers and format are those of Redis and Valkey: `PFADD` of the same ids makes an equal sketch,
    `from_bytes` reads what `GET` returns, and `SET` stores what `to_bytes` returns. It is not thread-safe:
    threads that share a sketch must take turns.

    Args:
        ids: the first ids, as in :meth:`update`.

    Raises:
        ArgumentTypeError, ArgumentValueError: a bad id, naming its index.
    """

    __slots__ = ("_registers",)
    __hash__ = None  # type: ignore[assignment]  # it can change

    def __init__(self, ids: Iterable[Id] = ()) -> None:
        self._registers = registers.empty()
        self.update(ids)

    def add(self, id: Id) -> None:
        """Add one id.

        Args:
            id: str, bytes, int or UUID; 7, "7" and b"7" are one id.

        Raises:
            ArgumentTypeError, ArgumentValueError: something else, an empty id or one over 1 KiB.
        """
        registers.fold_one(self._registers, hash_one(_ENCODER.one(id)))

    def update(self, ids: Iterable[Id]) -> None:
        """Add many ids, or none of them if one is bad.

        Args:
            ids: a list, tuple, set, iterator or one-dimensional numpy array (S, U, integer); arrays and lists
                of one type are the fastest. What an iterator raises is raised as it is.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, naming its index.
        """
        raised = self._registers.copy()
        for hashes in bulk.hashes(_ENCODER, ids):
            registers.fold(raised, hashes)
        # In place, as an iterator of ids may itself have added some.
        np.maximum(self._registers, raised, out=self._registers)

    def merge(self, *others: HyperLogLog) -> None:
        """Add all ids of other sketches, so that this one becomes the union.

        Args:
            *others: sketches, which stay as they are.

        Raises:
            ArgumentTypeError: not a HyperLogLog.
        """
        for registers_of_other in [_registers_of(other, "others") for other in others]:
            np.maximum(self._registers, registers_of_other, out=self._registers)

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
        """The number of distinct ids that were added, equal to the server's `PFCOUNT`.

        It is :attr:`~activity_tracker_hll.Estimate.suspect` if random ids would not produce such registers.
        """
        count = estimators.cardinality(self._registers)
        return estimates.Estimate(count, None if randomness.is_random(self._registers) else inf)

    def difference(self, moved: HyperLogLog) -> estimates.Estimate:
        """The number of ids in this sketch that are not in another one, whose ids must all be in this one.

        It is more accurate than the difference of two counts. If some ids are only in the other sketch, unite
        the two first: ``(a | b).difference(b)``.

        Args:
            moved: the other sketch.

        Raises:
            ArgumentTypeError: not a HyperLogLog.
        """
        registers_of_moved = _registers_of(moved, "moved")
        count, error = estimators.remainder(self._registers, registers_of_moved)
        sound = randomness.is_random_remainder(self._registers, registers_of_moved, count)
        return estimates.Estimate(count, error if sound else inf)

    def to_bytes(self) -> bytes:
        """The sketch as Redis and Valkey store it: sparse if that is short, else dense (12,304 bytes)."""
        return codec.encode(self._registers)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make a sketch from the string in which Redis or Valkey store one.

        Args:
            data: the whole string.

        Raises:
            ArgumentTypeError: not bytes.
            MalformedSketchError: not a sketch, or a damaged one.
            UnknownEncodingError: neither dense nor sparse.
        """
        return cls._from_registers(codec.decode(data))

    def copy(self) -> Self:
        """An independent copy."""
        result = type(self)._from_registers(self._registers.copy())
        _set_attributes(result, getattr(self, "__dict__", {}))
        return result

    __copy__ = copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HyperLogLog):
            return NotImplemented
        return np.array_equal(self._registers, _registers_of(other, "other"))

    def __getstate__(self) -> tuple[bytes, dict[str, Any]]:
        return self.to_bytes(), getattr(self, "__dict__", {})

    def __setstate__(self, state: tuple[bytes, dict[str, Any]]) -> None:
        data, attributes = state
        self._registers = codec.decode(data)
        _set_attributes(self, attributes)

    @classmethod
    def _from_registers(cls, own: registers.Registers) -> Self:
        result = cls.__new__(cls)
        result._registers = own  # of this class itself
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {int(self.count())} ids>"


def _registers_of(sketch: object, argument: str) -> registers.Registers:
    if not isinstance(sketch, HyperLogLog):
        raise ArgumentTypeError(f"{argument} must be a HyperLogLog, got {shown(sketch)}")
    return sketch._registers  # of this class itself


def _set_attributes(sketch: HyperLogLog, attributes: dict[str, Any]) -> None:
    """Set the further attributes of a subclass."""
    for name, value in attributes.items():
        setattr(sketch, name, value)
