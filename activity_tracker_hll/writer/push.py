"""A push: what a buffer has unsent goes through the one push protocol, and what became of it comes back."""

from __future__ import annotations

import re

from ..errors import BackendError
from ..operations import Access, DataSet, Operation
from ..operations.tracking.unite import unite
from .buffer import Buffer

__all__ = ["ServerIdentity", "push"]

_RUN_ID = re.compile(rb"run_id:(\w+)")


class ServerIdentity:
    """Identity of the server that the last push went to. The pusher's."""

    def __init__(self) -> None:
        self._run_id: bytes | None = None

    def has_changed(self, reply: object) -> bool:
        """Whether a reply to INFO comes from another server than the last one, or one that was restarted."""
        found = _RUN_ID.search(reply) if isinstance(reply, bytes) else None
        if found is None:  # not permitted, say: what vanished is noticed one bucket at a time
            return False
        before, self._run_id = self._run_id, found[1]
        return before not in (None, found[1])


def push(
    buffer: Buffer, data: DataSet, server: ServerIdentity, running: set[str]
) -> Operation[list[BackendError]]:
    """Send registers that rose and ids that moved.

    Closed before its end, for instance because the server does not answer, it puts everything back.

    Args:
        running: names of periods that are not over.

    Returns:
        What went wrong, one error a bucket.
    """
    if not buffer.has_unsent():
        return []
    sent = data.clock.ticks()
    info, time = yield [("INFO", "server"), ("TIME",)]
    if server.has_changed(info):
        # It may lack what the last one acknowledged, and have another clock.
        data.forget()
        buffer.resend()
        yield from data.agree(Access.TRACK)
    data.clock.sample(sent, time)
    loads = buffer.take_unsent()
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
