"""A push: what a buffer has unsent goes through the one push protocol, and what became of it comes back."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..backends.base import OF_NODE
from ..errors import BackendError
from ..operations import Access, DataSet, Operation
from ..operations.base import PeriodBucket
from ..operations.tracking.unite import unite
from .buffer import Buffer

__all__ = ["ServerIdentity", "push"]

_IDENTITY = re.compile(rb"(?:run_id|master_replid):(\w+)")
"""What a server that was restarted has anew, and one that was a replica for a while and is a master again."""


_ASK_EVERY_US = 1_000_000
_SETTLED_US = 60_000_000
"""So long after a change it may yet be learned which bucket is on which of the servers."""

_Ids = frozenset[bytes]


class ServerIdentity:
    """Identity of the servers that pushes go to: one, or the masters of a cluster. The pusher's.

    Args:
        node_of: the server that has a bucket's keys, see :meth:`.BackendSettings.node_of`.
        has_forked: whether this is a child, whose parent may have pushed to others.
    """

    def __init__(self, node_of: Callable[[PeriodBucket], str], *, has_forked: bool = False) -> None:
        self._node_of = node_of
        self._has_forked = has_forked
        self._last: dict[str, _Ids] = {}
        self._ask_at: int | None = None
        self._settled_at: int | None = None

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
        found = _identities(replies)
        if not found:  # not permitted, say: what vanished is noticed one bucket at a time
            return False
        before, self._last = self._last, found
        known = frozenset[bytes]().union(*before.values())
        changed = bool(before) and any(not ids <= known for ids in found.values())
        if changed or (self._has_forked and not before):
            self._settled_at = now + _SETTLED_US
        return changed

    def is_unsettled(self, now: int) -> bool:
        """Whether some have changed of late, so that it should be looked which buckets they have."""
        return self._settled_at is not None and now < self._settled_at

    def of(self, target: PeriodBucket) -> _Ids | None:
        """Identity of the server that has a bucket; None if it is not known."""
        only = self._last.get("")
        return self._last.get(self._node_of(target)) if only is None else only


def _identities(replies: tuple[object, ...]) -> dict[str, _Ids]:
    """By address, which is empty if there is but one server."""
    found: dict[str, _Ids] = {}
    for reply in replies:
        of_nodes = reply.split(OF_NODE.encode()) if isinstance(reply, bytes) else []
        for number, of_node in enumerate(of_nodes):
            address = of_node.partition(b"\r\n")[0].decode() if number else ""
            if ids := _IDENTITY.findall(of_node):
                found[address] = found.get(address, frozenset()).union(ids)
    return found


def push(
    buffer: Buffer, data: DataSet, server: ServerIdentity, running: set[str], *, everything: bool
) -> Operation[list[BackendError]]:
    """Send registers that rose and ids that moved.

    Closed before its end, for instance because the server does not answer, it puts everything back.

    Args:
        running: names of periods that are not over.
        everything: whether nothing is left for later, see :meth:`.Buffer.take_unsent`, nor is it taken on
            trust that the server still is the one that has the rest.

    Returns:
        What went wrong, one error a bucket.
    """
    if not (everything or buffer.has_unsent(everything=False) or data.open_periods.owes):
        return []
    sent = data.clock.ticks()
    if everything or server.is_due(sent):
        of_server, of_replication, time = yield [("INFO", "server"), ("INFO", "replication"), ("TIME",)]
        changed = server.has_changed(sent, of_server, of_replication)
        if server.is_unsettled(sent):  # noted before anything can fail: it is not told twice
            buffer.resend_to_others(server.of)
        if changed:
            # It may lack what the last one acknowledged, and have another clock.
            data.forget()
            yield from data.agree(Access.TRACK)
        data.clock.sample(sent, time)
    try:
        loads = buffer.take_unsent(everything=everything)
        outcomes, mark_error = yield from unite(data.context, loads, data.open_periods, running)
        for outcome in outcomes.values():
            data.clock.observe(outcome.table.newest)
        errors = buffer.acknowledge(outcomes, server.of)
        if buffer.refreshes or any(outcome.lost_sketch for outcome in outcomes.values()):
            yield from data.agree(Access.TRACK)  # whoever may have lost sketches may have lost settings
        if mark_error is not None:
            errors.append(mark_error)
        return errors
    finally:
        buffer.put_back()
