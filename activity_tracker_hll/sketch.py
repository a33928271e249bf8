"""HyperLogLog: a sketch in this process, register by register the one the server keeps.

Only the public class lives here; the work is done by :mod:`.bulk`, :mod:`.ids` and :mod:`.hll`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import inf
from typing import Any, Self

import numpy as np

from . import bulk, estimates, overlaps
from .errors import ArgumentTypeError, ArgumentValueError
from .hll import codec, estimators, randomness, registers
from .hll.hashing import hash_one
from .hll.layers import Layer, everything
from .ids import Id, IdEncoder
from .messages import shown

__all__ = ["HyperLogLog", "Sketch"]

_ENCODER = IdEncoder()
_DIFFERENT = "sketches of ids that were hashed with different secrets, or with a secret and without one"


class HyperLogLog:
    """A sketch of a set of ids, which knows only how many they are, approximately: 16384 registers of 6 bits.

    Hash, registers and format are those of Redis and Valkey: `PFADD` of the same ids makes an equal sketch,
    `from_bytes` reads what `GET` returns, and `SET` stores what `to_bytes` returns. It is not thread-safe:
    threads that share a sketch must take turns.

    Sketches of ids that were hashed with different secrets have nothing in common: to unite or compare them
    is refused, where it is known with what they were hashed. Pickled, a sketch forgets its secret, and takes
    no more ids then; that it was another one is still known.

    Args:
        ids: the first ids, as in :meth:`update`.
        secret: hash ids with it, as trackers do that have a `secret`; None = they are taken as they are.

    Raises:
        ArgumentTypeError, ArgumentValueError: a bad id, naming its index, or a bad secret.
    """

    __slots__ = ("_encoder", "_fingerprint", "_registers")
    __hash__ = None  # type: ignore[assignment]  # it can change

    def __init__(self, ids: Iterable[Id] = (), secret: str | bytes | None = None) -> None:
        self._registers = registers.empty()
        self._know(_ENCODER if secret is None else IdEncoder(secret))
        self.update(ids)

    def _know(self, encoder: IdEncoder | None, fingerprint: str | None = None) -> None:
        """Set what its ids were hashed with.

        Args:
            encoder: for further ids; None = there are to be none.
            fingerprint: of the secret, "" = there was none; None = what the encoder has, which is not known
                of one without a secret until it has hashed an id.
        """
        self._encoder = encoder
        known = encoder.fingerprint if encoder is not None and encoder.has_secret else None
        self._fingerprint: str | None = known if fingerprint is None else fingerprint

    def _encoder_of_more(self) -> IdEncoder:
        if self._encoder is None:
            raise ArgumentValueError("ids of this sketch are hashed with a secret, which is not known here")
        if self._fingerprint is None:
            self._fingerprint = self._encoder.fingerprint
        return self._encoder

    def _inside(
        self, other: object, argument: str
    ) -> tuple[registers.Registers, IdEncoder | None, str | None]:
        """The registers of another sketch, and what its ids were hashed with.

        Raises:
            ArgumentTypeError: not a HyperLogLog.
            ArgumentValueError: its ids are known to be hashed with another secret.
        """
        if not isinstance(other, HyperLogLog):
            raise ArgumentTypeError(f"{argument} must be a HyperLogLog, got {shown(other)}")
        inside = other._registers, other._encoder, other._fingerprint  # of this class itself
        if None not in {self._fingerprint, inside[2]} and self._fingerprint != inside[2]:
            raise ArgumentValueError(_DIFFERENT)
        return inside

    def add(self, id: Id) -> None:
        """Add one id.

        Args:
            id: str, bytes, int or UUID; 7, "7" and b"7" are one id.

        Raises:
            ArgumentTypeError, ArgumentValueError: something else, an empty id or one over 1 KiB.
        """
        registers.fold_one(self._registers, hash_one(self._encoder_of_more().one(id)))

    def update(self, ids: Iterable[Id]) -> None:
        """Add many ids, or none of them if one is bad.

        Args:
            ids: a list, tuple, set, iterator, one-dimensional numpy array (S, U, T, integer), or a column of
                pandas, polars or pyarrow; arrays, columns and lists of one type are the fastest. What an
                iterator raises is raised as it is.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, naming its index.
        """
        raised = self._registers.copy()
        encoder = self._encoder
        for hashes in bulk.hashes(encoder or _ENCODER, ids):
            encoder = encoder or self._encoder_of_more()
            registers.fold(raised, hashes)
        if (raised > self._registers).any():
            self._encoder_of_more()
        # In place, as an iterator of ids may itself have added some.
        np.maximum(self._registers, raised, out=self._registers)

    def merge(self, *others: HyperLogLog) -> None:
        """Add all ids of other sketches, so that this one becomes the union.

        Args:
            *others: sketches, which stay as they are.

        Raises:
            ArgumentTypeError: not a HyperLogLog.
            ArgumentValueError: ids that were hashed with different secrets.
        """
        inside = [self._inside(other, "others") for other in others]
        if len({fingerprint for *_, fingerprint in inside if fingerprint is not None}) > 1:
            raise ArgumentValueError(_DIFFERENT)
        for own, encoder, fingerprint in inside:
            if self._fingerprint is None:
                self._know(encoder, fingerprint)
            np.maximum(self._registers, own, out=self._registers)

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
            ArgumentValueError: ids that were hashed with different secrets.
        """
        registers_of_moved, *_ = self._inside(moved, "moved")
        count, error = estimators.remainder(self._registers, registers_of_moved)
        sound = randomness.is_random_remainder(self._registers, registers_of_moved, count)
        return estimates.Estimate(count, error if sound else inf)

    def overlap(self, other: HyperLogLog) -> overlaps.Overlap:
        """What this sketch and another one have in common, each number with an interval.

        Below a Jaccard index of 0.01 to 0.02 it is uncertain: exact sets or theta sketches know more there.

        Args:
            other: the other sketch.

        Raises:
            ArgumentTypeError: not a HyperLogLog.
            ArgumentValueError: ids that were hashed with different secrets.
        """
        registers_of_other, *_ = self._inside(other, "other")
        return overlaps.overlap(self._registers, registers_of_other)

    def jaccard(self, other: HyperLogLog) -> estimates.Share:
        """The share of the ids in either sketch that are in both.

        Args:
            other: the other sketch.

        Raises:
            ArgumentTypeError, ArgumentValueError: as :meth:`overlap` does.
        """
        return self.overlap(other).jaccard

    def to_bytes(self) -> bytes:
        """The sketch as Redis and Valkey store it: sparse if that is short, else dense (12,304 bytes)."""
        return codec.encode(self._registers)

    @classmethod
    def from_bytes(cls, data: bytes, secret: str | bytes | None = None) -> Self:
        """Make a sketch from the string in which Redis or Valkey store one.

        Args:
            data: the whole string.
            secret: what its ids were hashed with; None = with none, or it is not known.

        Raises:
            ArgumentTypeError: not bytes, or a bad secret.
            MalformedSketchError: not a sketch, or a damaged one.
            UnknownEncodingError: neither dense nor sparse.
        """
        return cls._from_registers(codec.decode(data), _ENCODER if secret is None else IdEncoder(secret))

    def copy(self) -> Self:
        """An independent copy."""
        result = type(self)._from_registers(self._registers.copy(), self._encoder, self._fingerprint)
        _set_attributes(result, getattr(self, "__dict__", {}))
        return result

    __copy__ = copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HyperLogLog):
            return NotImplemented
        return np.array_equal(self._registers, other._registers)

    def __getstate__(self) -> tuple[bytes, dict[str, Any], str | None]:
        return self.to_bytes(), getattr(self, "__dict__", {}), self._fingerprint

    def __setstate__(self, state: tuple[bytes, dict[str, Any], str | None]) -> None:
        data, attributes, fingerprint = state
        self._registers = codec.decode(data)
        self._know(None if fingerprint else _ENCODER, fingerprint)
        _set_attributes(self, attributes)

    @classmethod
    def _from_registers(
        cls, own: registers.Registers, encoder: IdEncoder | None = _ENCODER, fingerprint: str | None = None
    ) -> Self:
        result = cls.__new__(cls)
        result._registers = own  # of this class itself
        result._know(encoder, fingerprint)
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {int(self.count())} ids>"


@dataclass(frozen=True, slots=True)
class Sketch:
    """What a server keeps of a bucket in a period.

    Attributes:
        tracked: every id that was active.
        moved: every id that ever left the bucket.
        back: how many of these were active again after they left.
    """

    tracked: HyperLogLog
    moved: HyperLogLog
    back: int

    @classmethod
    def of(cls, layers: Iterable[Layer | None], ids: IdEncoder, fingerprint: str) -> Self:
        """From what was read; of several buckets without moves it is the union.

        Args:
            layers: of the buckets.
            ids: hashes ids.
            fingerprint: of the secret with which they were hashed; where `ids` does not know that one, the
                sketches take no more.
        """
        encoder = ids if ids.fingerprint == fingerprint else None
        known = [layer for layer in layers if layer]
        moved = [layer.moved for layer in known if layer.moved is not None]
        return cls(
            HyperLogLog._from_registers(everything(known), encoder, fingerprint),
            HyperLogLog._from_registers(reduce(np.maximum, moved, registers.empty()), encoder, fingerprint),
            sum(layer.back for layer in known),
        )

    def remainder(self) -> estimates.Estimate:
        """The number of ids that are in the bucket: those that did not leave, and those that came back."""
        stayed = self.tracked.difference(self.moved)
        if stayed.suspect or not self.back:
            return stayed
        return estimates.Estimate(stayed + self.back, stayed.stderr)


def _set_attributes(sketch: HyperLogLog, attributes: dict[str, Any]) -> None:
    """Set the further attributes of a subclass."""
    for name, value in attributes.items():
        setattr(sketch, name, value)
