"""Routing in a cluster: which commands go to which node, and what an answer means for the next attempt.

Nothing here touches a connection or waits: :func:`route` is a generator that says what to send, and is told
what came of it. So the synchronous and the asyncio backend share every decision. Which slots a command
belongs to is found in :mod:`.slots`, which nodes serve them in :mod:`.topology`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import BackendError, BackendResponseError
from ..scripts.calls import SOURCES
from .base import AT_NODE, NODES, OF_DENIAL, OF_FAILURE, OF_NODE, Command
from .batch import PASSING
from .slots import ANYWHERE, EVERYWHERE, THERE, has_keys, is_for_all, split
from .topology import Node, Sent, Topology, told
from .trouble import code_of, is_denied

__all__ = ["Failed", "Routing", "Wait", "route"]

_REDIRECTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.25
_FRESH_S = 60.0
"""How long what is known of replicas is used: no answer tells of those that are new, or masters by now."""
_REDIRECT = re.compile(r"(?:MOVED |ASK )?(\d+) (\S*):(\d+)$")


class Failed(NamedTuple):
    """The reply to a command that failed: the client's exception, and the node."""

    error: Exception
    node: Node


class Wait(NamedTuple):
    """A step of :func:`route`: wait so long, then :func:`.topology.learn` the topology anew."""

    seconds: float


@dataclass(slots=True)
class _Part:
    """A command for one node, and what came of it."""

    command: Command
    slot: int
    node: Node | None = None
    asking: bool = False
    reply: Any = None
    is_open: bool = True
    from_replica: bool = False
    failed_at: set[Node] = field(default_factory=set)
    denied_by: set[Node] = field(default_factory=set)


Routing = Generator[Sent | Wait, Any, list[Any]]
"""Yields what to send, and is sent the replies of each node, or the exception by which that failed."""


def route(
    commands: Sequence[Command],
    topology: Topology,
    *,
    patience: float,
    clock: Callable[[], float],
    is_down: Callable[[Node], bool],
    from_replicas: bool = False,
) -> Routing:
    """Route a batch.

    Args:
        patience: for so many seconds what the cluster cannot do yet is tried again; what only has to go to
            another node is, whatever this is.
        clock: seconds, never set back.
        is_down: whether nobody waits for a node at the moment.
        from_replicas: what keys hold is asked of a replica first, and of its master if that cannot answer.

    Returns:
        The replies; a :class:`Failed` or a BackendError where a command failed.
    """
    deadline = clock() + patience
    if not any(topology.owners) or (from_replicas and clock() >= topology.fresh_until) or NODES in commands:
        topology.fresh_until = clock() + _FRESH_S
        yield Wait(0)
    plans: list[tuple[list[_Part], Callable[[list[Any]], Any] | None] | BackendError] = []
    for command in commands:
        try:
            plans.append(_planned(command, topology))
        except BackendError as error:
            plans.append(error)
    waiting = [part for plan in plans if not isinstance(plan, BackendError) for part in plan[0]]
    for part in waiting:
        part.from_replica = from_replicas and has_keys(part.command)
    wait = _FIRST_WAIT_S
    attempts = 0
    while waiting:
        attempts += 1
        by_node: dict[Node, list[_Part]] = {}
        for part in waiting:
            node = part.node or _node_of(part, topology, is_down)
            if node is None:
                part.reply = BackendResponseError(topology.about_gap(part.slot))
            elif node in part.denied_by:
                part.is_open = False  # it stays its error, unless the slot turned out to be another's
            else:
                by_node.setdefault(node, []).append(part)
        answers = (yield {node: list(_sent(parts)) for node, parts in by_node.items()}) if by_node else {}
        redirected = False
        for node, parts in by_node.items():
            redirected |= _take(answers[node], node, parts, topology)
        # What others tell does not wait for a node that does not.
        waiting = [part for part in waiting if part.is_open and (attempts == 1 or part.slot != EVERYWHERE)]
        if not waiting:
            break
        redirected = redirected and attempts <= _REDIRECTS
        if attempts > 1 and clock() + wait > deadline and not redirected:
            break
        # A slot that was given away is seldom the only one.
        yield Wait(0 if redirected or attempts == 1 else wait)
        wait = min(2 * wait, _LONGEST_WAIT_S)
    return [plan if isinstance(plan, BackendError) else _joined(*plan) for plan in plans]


def _node_of(part: _Part, topology: Topology, is_down: Callable[[Node], bool]) -> Node | None:
    if part.slot != ANYWHERE:
        master = topology.owners[part.slot]
        if not part.from_replica or master is None:
            return master
        replicas = topology.replicas.get(master, ())
        return next((replica for replica in replicas if not is_down(replica)), master)
    untried = [node for node in topology.masters if node not in part.failed_at]
    return min(
        untried or topology.masters, key=lambda node: (node in part.denied_by, is_down(node)), default=None
    )


def _planned(command: Command, topology: Topology) -> tuple[list[_Part], Callable[[list[Any]], Any] | None]:
    if command[0] == AT_NODE:
        return [_Part(command[2:], THERE, _node_at(str(command[1])))], None
    if command[0] == "SCAN":
        raise BackendResponseError("SCAN is of one node of a cluster, and has to name it")
    if not topology.masters and (is_for_all(command) or _has_no_key(command)):
        raise BackendResponseError(topology.about_gap(EVERYWHERE))
    everywhere = topology.masters if is_for_all(command) else []
    if _has_no_key(command):
        everywhere = topology.serving
    if everywhere:
        return [_Part(command, EVERYWHERE, node) for node in everywhere], None
    parts, join = split(command)
    return [_Part(part, slot) for slot, part in parts], join


def _has_no_key(command: Command) -> bool:
    """Whether it is a script about the server itself; replicas are to answer too, as masters to be."""
    return command[0] in ("EVAL", "EVALSHA") and command[2] == 0


def _node_at(address: str) -> Node:
    host, _, port = address.rpartition(":")
    return Node(host, int(port))


def _sent(parts: Iterable[_Part]) -> Iterable[Command]:
    for part in parts:
        if not part.asking:
            yield part.command
        elif part.command[0] == "EVALSHA":
            # With its source: a node that is only just given the slot need not know the script, and what is
            # sent once more would have to ask again.
            yield from (("ASKING",), ("EVAL", SOURCES[str(part.command[1])], *part.command[2:]))
        else:
            yield from (("ASKING",), part.command)


def _take(answer: Any, node: Node, parts: Sequence[_Part], topology: Topology) -> bool:
    """Take what a node answered; returns whether something has to go to another one."""
    if isinstance(answer, Exception):
        for part in parts:
            part.reply, part.asking = Failed(answer, node), False
            part.node = part.node if part.slot in (EVERYWHERE, THERE) else None
            if is_denied(answer):
                part.denied_by.add(node)
        return _is_left_to_others(node, parts, topology)
    replies = iter(answer)
    redirected = False
    for part in parts:
        refused = None
        if part.asking:
            refused = next(replies)
            part.asking, part.node = False, None
        reply = next(replies)
        if isinstance(refused, Exception):  # to be asked: it can only say that it is another's
            reply = refused
        part.reply = reply
        part.is_open = False
        if isinstance(reply, Exception):
            part.reply = Failed(reply, node)
            to = _redirect(reply, node)
            if to is not None:
                slot, owner, is_moved = to
                part.is_open = redirected = True
                part.node, part.asking = owner, not is_moved
                if is_moved:
                    topology.move(slot, owner)
            else:
                part.is_open = code_of(reply) in PASSING
    return redirected | _is_left_to_others(node, [part for part in parts if part.is_open], topology)


def _is_left_to_others(node: Node, parts: Sequence[_Part], topology: Topology) -> bool:
    """Whether some of what a node did not do is for any master, and there is another one to try.

    What a replica did not do is for its master from now on.
    """
    movable = [part for part in parts if part.slot == ANYWHERE]
    for part in parts:
        part.from_replica = False
        part.failed_at.add(node)
    return any(not part.failed_at.issuperset(topology.masters) for part in movable)


def _redirect(error: Exception, asked: Node) -> tuple[int, Node, bool] | None:
    """The slot, its node, and whether it is there for good; clients differ in whether they leave the word."""
    kind, text = type(error).__name__, str(error)
    is_moved = kind == "MovedError" or text.startswith("MOVED ")
    if not (is_moved or kind == "AskError" or text.startswith("ASK ")):
        return None
    found = _REDIRECT.match(text)
    return None if found is None else (int(found[1]), told(found[2], int(found[3]), asked), is_moved)


def _joined(parts: Sequence[_Part], join: Callable[[list[Any]], Any] | None) -> Any:
    replies = [part.reply for part in parts]
    failed = [reply for reply in replies if isinstance(reply, Failed | BackendError)]
    if (
        parts[0].slot == EVERYWHERE
        and join is None
        and (len(failed) < len(replies) or _has_no_key(parts[0].command))
    ):
        return b"".join(_told(part) for part in parts)
    if failed:
        return failed[0]
    if join is None:
        return replies[0]
    try:
        return join(replies)
    except BackendError as error:
        return error


def _told(part: _Part) -> bytes:
    """What a node told of itself, or why it did not, below its address."""
    assert part.node is not None  # noqa: S101 (for the type checker)
    reply = part.reply
    if isinstance(reply, Failed):
        reply = f"{OF_DENIAL if is_denied(reply.error) else OF_FAILURE}{reply.error}".encode()
    lines: bytes = reply
    end = b"" if lines.endswith(b"\n") else b"\r\n"
    return f"{OF_NODE}{part.node.address}\r\n".encode() + lines + end
