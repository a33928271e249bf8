"""What became of the events of a writer, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Statistics"]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What became of the events of a writer.

    All numbers but `bytes` count an event once for each of its periods, a move once for each bucket:
    ``tracked == pushed + pending + dropped + late``.

    Attributes:
        tracked: taken by track and its kin.
        pushed: acknowledged by the server.
        pending: not acknowledged yet.
        dropped: lost: too many buckets or moves at once, or no valid id.
        late: refused by a period that was collapsed and whose sketches are gone.
        bytes: size of all that was sent, without the protocol's own overhead.
        last_error: what went wrong last; None once all is well again.
    """

    tracked: int
    pushed: int
    pending: int
    dropped: int
    late: int
    bytes: int
    last_error: Exception | None
