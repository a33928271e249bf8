"""A push: what a buffer has unsent goes through the one push protocol, and what became of it comes back."""

from __future__ import annotations

import re

from ..errors import BackendError
from ..operations import Access, DataSet, Operation
from ..operations.tracking.unite import unite
from .buffer import Buffer

__all__ = ["ServerIdentity", "push"]

_IDENTITY = re.compile(rb"(?:run_id|master_replid):(\w+)")
"""What a server that was restarted has anew, and one that was a replica for a while and is a master again."""


_ASK_EVERY_US = 1_000_000


class ServerIdentity:
    """Identity of the servers that pushes go to: one, or the masters of a cluster. The pusher's."""

    def __init__(self) -> None:
        self._last: set[bytes] = set()
        self._ask_at: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether they tell it."""
        return bool(self._last)

    def is_due(self, now: int) -> bool:
        """Whether to ask for it again at these ticks: once a second, and after whatever went wrong."""
        return self._ask_at is None or self._ask_at <= now

    def ask_again(self) -> None:
        """Something went wrong: it may be another server that answers next."""
        self._ask_at = None

    def has_changed(self, now: int, *replies: object) -> bool:
        """Whether replies to INFO come from other servers than the last ones, or some that were restarted.

        It is compared with the last reply, not with all that there ever were: a server that is back may have
        missed what went to the one in between.
        """
        self._ask_at = now + _ASK_EVERY_US
        found = {id for reply in replies if isinstance(reply, bytes) for id in _IDENTITY.findall(reply)}
        if not found:  # not permitted, say: what vanished is noticed one bucket at a time
            return False
        before, self._last = self._last, found
        return bool(before) and not found <= before


def push(
    buffer: Buffer, data: DataSet, server: ServerIdentity, running: set[str], *, everything: bool
) -> Operation[list[BackendError]]:
    """Send registers that rose and ids that moved.

    Closed before its end, for instance because the server does not answer, it puts everything back.

    Args:
        running: names of periods that are not over.
        everything: whether nothing is left for later; see :meth:`.Buffer.take_unsent`.

    Returns:
        What went wrong, one error a bucket.
    """
    if not buffer.has_unsent(everything=everything):
        return []
    sent = data.clock.ticks()
    if server.is_due(sent):
        of_server, of_replication, time = yield [("INFO", "server"), ("INFO", "replication"), ("TIME",)]
        if server.has_changed(sent, of_server, of_replication):
            # It may lack what the last one acknowledged, and have another clock.
            data.forget()
            buffer.resend()
            yield from data.agree(Access.TRACK)
        data.clock.sample(sent, time)
    loads = buffer.take_unsent(everything=everything)
    try:
        outcomes, mark_error = yield from unite(data.context, loads, data.open_periods, running)
        for outcome in outcomes.values():
            data.clock.observe(outcome.table.newest)
        errors = buffer.acknowledge(outcomes)
        if buffer.refreshes or any(outcome.lost_sketch for outcome in outcomes.values()):
            yield from data.agree(Access.TRACK)  # whoever may have lost sketches may have lost settings
        if mark_error is not None:
            errors.append(mark_error)
        return errors
    finally:
        buffer.put_back()
