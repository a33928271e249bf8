"""A push: what a buffer has to send, through the one push protocol, and what becomes of it."""

from __future__ import annotations

import re

from ..errors import BackendError
from ..operations import Context, DataSet, Operation
from ..operations.tracking.unite import unite
from .buffer import Buffer

__all__ = ["ServerIdentity", "push"]

_RUN_ID = re.compile(rb"run_id:(\w+)")


class ServerIdentity:
    """Which server the last push went to."""

    def __init__(self) -> None:
        self._run_id: bytes | None = None

    def is_another(self, reply: object) -> bool:
        """Whether an answer to INFO comes from another server than the last, or one started again."""
        found = _RUN_ID.search(reply) if isinstance(reply, bytes) else None
        if found is None:  # not permitted, say: what vanished is noticed a bucket at a time
            return False
        before, self._run_id = self._run_id, found[1]
        return before not in (None, found[1])


def push(
    buffer: Buffer, context: Context, data: DataSet, server: ServerIdentity, running: set[str]
) -> Operation[list[BackendError]]:
    """Send what rose and who moved.

    Closed before its end, for instance because the server does not answer, it gives everything back.

    Args:
        running: names of periods that are not over.

    Returns:
        What went wrong, a bucket at a time.
    """
    if not buffer.has_departures():
        return []
    sent = data.clock.ticks()
    info, time = yield [("INFO", "server"), ("TIME",)]
    if server.is_another(info):
        # It may lack what the last one acknowledged, and have another clock.
        data.forget()
        buffer.doubt()
        yield from data.agree(write=True)
    data.clock.sample(sent, time)
    loads = buffer.depart()
    try:
        outcomes, unmarked = yield from unite(context, loads, data.open_periods, running)
        for outcome in outcomes.values():
            data.clock.observe(outcome.table.newest)
        errors = buffer.arrive(outcomes)
        if buffer.is_refreshed or any(outcome.lost for outcome in outcomes.values()):
            yield from data.agree(write=True)  # whoever may have lost sketches may have lost settings
        if unmarked is not None:
            errors.append(unmarked)
        return errors
    finally:
        buffer.give_back()
