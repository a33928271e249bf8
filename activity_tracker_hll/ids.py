"""Encoding ids: from whatever callers use as ids to the bytes that are counted.

Only the outermost layer calls this; everything below accepts bytes or hashes only. 7, "7" and b"7" are one
id. Strings are not normalized: two spellings are two ids.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import numpy as np

from .columns import Coded, Texts
from .errors import ActivityTrackerError, ArgumentTypeError, ArgumentValueError
from .messages import WHY_FLOATS, plain_text, shown, type_of
from .tables import as_ids

__all__ = ["COLLECTIONS", "MAX_ID_BYTES", "Id", "IdEncoder", "check_batch", "encode", "is_masked"]

Id = str | bytes | int | UUID | np.integer[Any]
"""What can be an id; numpy's strings are included. A bool is an int, but is refused all the same."""

MAX_ID_BYTES = 1024
_ACCEPTED = "str, bytes, int or UUID"
_ENCODERS: dict[type, Callable[..., bytes]] = {
    str: str.encode,
    bytes: bytes,
    int: lambda value: b"%d" % value,
    UUID: lambda value: str(value).encode(),
}
COLLECTIONS = (list, tuple, set, frozenset, range, Texts, Coded)
"""What iterating over cannot fail; of others, iter() may raise whatever it likes."""


class IdEncoder:
    """Encodes ids; with a secret, as keyed BLAKE2b of 16 bytes.

    The server's hash has a public seed, so whoever chooses ids can choose registers; with a secret, no
    outsider can. With 16 bytes, a collision among 10^12 ids has a probability of 10^-15.

    Args:
        secret: str or bytes, not empty; None = ids are sent as they are.

    Raises:
        ArgumentTypeError, ArgumentValueError: a secret of another type, or an empty one.
    """

    def __init__(self, secret: str | bytes | None = None) -> None:
        self._key = None if secret is None else _derive_key(secret)

    @property
    def fingerprint(self) -> str:
        """A digest that tells secrets apart without revealing them; empty without a secret."""
        if self._key is None:
            return ""
        return hashlib.blake2b(b"fingerprint", key=self._key, digest_size=8, person=b"meta").hexdigest()

    @property
    def has_secret(self) -> bool:
        """Whether ids are hashed with a secret."""
        return self._key is not None

    def one(self, value: object, argument: str = "id") -> bytes:
        """The bytes that are counted for an id.

        Raises:
            ArgumentTypeError: not a str, bytes, int, UUID, numpy integer or numpy string.
            ArgumentValueError: empty, over 1 KiB, or not encodable as UTF-8.
        """
        return self.conceal(encode(value, argument))

    def many(self, values: object, argument: str = "ids", first: int = 0) -> list[bytes]:
        """The bytes that are counted for each id of an iterable, which is consumed once.

        Args:
            values: the ids.
            argument: the argument's name, for errors.
            first: the index of the first id, for errors.

        Raises:
            ArgumentTypeError, ArgumentValueError: a bad id, naming its index.
        """
        batch = check_batch(values, argument)
        if isinstance(batch, (np.ndarray, Texts, Coded)):
            batch = batch.tolist()
        if self._key is None and isinstance(batch, (list, tuple)) and (encoded := _encode_strings(batch)):
            return encoded
        return [self.one(value, f"{argument}[{index}]") for index, value in enumerate(batch, first)]

    def conceal(self, encoded: bytes) -> bytes:
        """An encoded id, hashed with the secret if there is one."""
        if self._key is None:
            return encoded
        return hashlib.blake2b(encoded, key=self._key, digest_size=16).digest()


def encode(value: object, argument: str = "id") -> bytes:
    """The bytes of an id, without any secret; errors are those of :meth:`IdEncoder.one`."""
    try:
        encoder = _ENCODERS.get(type(value))
        encoded = encoder(value) if encoder is not None else _encode_subclass(value, argument)
    except ActivityTrackerError:
        raise
    except Exception as error:
        # Lone surrogates, integers beyond the interpreter's digit limit, half-made UUIDs.
        raise ArgumentValueError(f"{argument} cannot be encoded: {shown(value)}") from error
    if not 0 < len(encoded) <= MAX_ID_BYTES:
        if not encoded:
            raise ArgumentValueError(f"{argument} must not be empty, got {shown(value)}")
        raise ArgumentValueError(
            f"{argument} must be at most {MAX_ID_BYTES} bytes, got {len(encoded)}: {shown(value)}"
        )
    return encoded


def _encode_strings(values: Sequence[Any]) -> list[bytes] | None:
    """Encode all ids at once if all are strings and none is bad; otherwise None."""
    try:
        encoded = list(map(str.encode, values))
    except (TypeError, ValueError):
        return None
    sizes = {len(id) for id in encoded}
    return encoded if sizes and min(sizes) > 0 and max(sizes) <= MAX_ID_BYTES else None


def _encode_subclass(value: object, argument: str) -> bytes:
    """Encode instances of subclasses (numpy's strings, enums) and numpy integers; bool is refused."""
    if isinstance(value, bool) or value is None:
        raise ArgumentTypeError(f"{argument} must be a {_ACCEPTED}, got {value}")
    if isinstance(value, str):
        return str.encode(value)
    if isinstance(value, bytes):
        return memoryview(value).tobytes()
    if isinstance(value, int):
        return b"%d" % int.__index__(value)
    if isinstance(value, np.integer) and not isinstance(value, np.timedelta64):
        return b"%d" % int(value)
    if isinstance(value, UUID):
        return UUID.__str__(value).encode()
    raise ArgumentTypeError(f"{argument} must be a {_ACCEPTED}, got {type(value).__name__} {shown(value)}")


def check_batch(values: object, argument: str) -> Iterable[Any]:
    """Check that something can be a batch of ids, and return it, or an iterator of it.

    What that raises when it is asked for ids is the caller's own, and passes as it is.

    Raises:
        ArgumentTypeError: not an iterable, or rather a single id or a mapping; an array of another shape or
            type.
    """
    if type(values) in COLLECTIONS:
        return cast("Iterable[Any]", values)
    values = as_ids(values, argument)
    if isinstance(values, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(values, Iterable):
        raise ArgumentTypeError(
            f"{argument} must be a list, tuple, set, iterator, array or column of ids,"
            f" got {type(values).__name__} {shown(values)}"
        )
    if is_masked(values):
        raise ArgumentTypeError(f"{argument} must not be a masked array; its compressed() has the ids")
    if isinstance(values, np.ndarray) and (values.ndim != 1 or values.dtype.kind not in "SUTiuO"):
        raise ArgumentTypeError(
            f"{argument} must be a one-dimensional array of S, U, T or integer type,"
            f" got {values.ndim} dimensions of {values.dtype}"
            f"{WHY_FLOATS if values.dtype.kind == 'f' else ''}"
        )
    if isinstance(values, np.ndarray):
        return np.asarray(values)
    if type(values) in COLLECTIONS:
        return values
    try:
        return iter(values)
    except Exception as error:
        raise ArgumentTypeError(f"{argument} cannot be iterated over, got {shown(values)}") from error


def is_masked(values: object) -> bool:
    """Whether something is a masked array of numpy.

    Nobody has one who has not imported numpy.ma, which numpy itself puts off: the first batch should not pay
    for that. Another thread may be importing it just now.
    """
    kind = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    return kind is not None and isinstance(values, kind)


def _derive_key(secret: object) -> bytes:
    text = plain_text(secret)
    if text is None and not issubclass(type(secret), bytes):
        raise ArgumentTypeError(f"secret must be a str, bytes or None, got {type_of(secret)}")
    try:
        encoded = memoryview(cast("bytes", secret)).tobytes() if text is None else text.encode()
    except UnicodeEncodeError:
        # Without that error, which holds the secret.
        raise ArgumentValueError("secret cannot be encoded as UTF-8") from None
    if not encoded:
        raise ArgumentValueError("secret must not be empty")
    return hashlib.blake2b(encoded, person=b"activity-hll").digest()
