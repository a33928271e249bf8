"""Routing in a cluster: which commands go to which node, and what an answer means for the next attempt.

Nothing here touches a connection or waits: :func:`route` is a generator that says what to send, and is told
what came of it. So the synchronous and the asyncio backend share every decision.

A command whose keys lie in several slots is sent in parts, and their replies are joined: that is so for the
commands that this library sends, which are listed here. Scripts for several buckets are sent for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from redis.crc import key_slot

from ..errors import BackendError, BackendResponseError, MalformedSketchError, UnknownEncodingError
from ..hll import codec
from ..hll.estimators import cardinality
from ..hll.registers import empty
from ..scripts.calls import SCRIPTS, SOURCES
from .base import OF_FAILURE, OF_NODE, SLOTS, Command
from .trouble import code_of

__all__ = ["Failed", "Node", "Routing", "Topology", "Wait", "route", "split"]

_REDIRECTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.25
_REDIRECT = re.compile(r"(?:MOVED |ASK )?(\d+) (\S*):(\d+)$")
_PASSING = {"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"}
"""What a cluster answers while it changes."""
_SCRIPTS = {script.sha: script for script in SCRIPTS}
_EVERYWHERE = -1


class Node(NamedTuple):
    """The address of a node."""

    host: str
    port: int


@dataclass(slots=True)
class Topology:
    """Which node serves which slot, as far as it is known.

    Attributes:
        owners: the node of each slot; None = nobody's.
        masters: the nodes that serve slots, in an order that all processes agree on.
        serving: these and their replicas.
        nodes: all that were ever heard of, newest knowledge first: whom to ask again.
    """

    owners: list[Node | None] = field(default_factory=lambda: [None] * SLOTS)
    masters: list[Node] = field(default_factory=list)
    serving: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)

    def learn(self, reply: Any, asked: Node) -> None:
        """Take over a reply to CLUSTER SLOTS.

        Args:
            asked: who gave it: a node that does not know its own name leaves it out.
        """
        owners: list[Node | None] = [None] * SLOTS
        nodes: list[Node] = []
        masters: set[Node] = set()
        for first, last, *served_by in reply:
            those = [_node(each, asked) for each in served_by]
            owners[int(first) : int(last) + 1] = [those[0]] * (int(last) - int(first) + 1)
            nodes += those
            masters.add(those[0])
        if nodes:
            self.owners, self.masters, self.serving = owners, sorted(masters), sorted(set(nodes))
            self.nodes = list(dict.fromkeys([*nodes, *self.nodes]))[: 4 * len(set(nodes)) + 16]

    def move(self, slot: int, node: Node) -> None:
        """A slot is known to be another node's."""
        self.owners[slot] = node
        self.masters = sorted({*self.masters, node})
        if node not in self.nodes:
            self.nodes.insert(0, node)


def _node(served_by: Any, asked: Node) -> Node:
    host, port = served_by[:2]
    name = host.decode() if isinstance(host, bytes) else host
    return Node(name if name and name != "?" else asked.host, int(port))


@lru_cache(maxsize=65_536)  # the same few buckets with every event
def _slot(key: str) -> int:
    return int(key_slot(key.encode()))


class Failed(NamedTuple):
    """The reply to a command that failed: the client's exception, and the node."""

    error: Exception
    node: Node


class Split(NamedTuple):
    """How a command is sent.

    Attributes:
        parts: commands, each with its slot.
        join: makes the reply of theirs; None = there is one part.
    """

    parts: list[tuple[int, Command]]
    join: Callable[[list[Any]], Any] | None = None


def split(command: Command) -> Split:
    """How a command is sent.

    Raises:
        BackendResponseError: its keys lie in several slots, and it cannot be sent in parts.
    """
    name = command[0]
    if name == "EVALSHA":
        return _split_script(command)
    if name in _WITHOUT_KEYS:
        return Split([(0, command)])
    if name in _OF_MANY and len(command) > 2:
        slots = [_slot(str(key)) for key in command[1:]]
        if slots.count(slots[0]) != len(slots):
            by_slot: dict[int, list[int]] = {}
            for index, slot in enumerate(slots):
                by_slot.setdefault(slot, []).append(index)
            return _OF_MANY[str(name)](command, by_slot)
        return Split([(slots[0], command)])
    return Split([(_slot(str(command[2 if name == "MEMORY" else 1])), command)])


def _split_script(command: Command) -> Split:
    _, sha, count, *rest = command
    size = int(count)
    keys, arguments = [str(key) for key in rest[:size]], rest[size:]
    slots = {_slot(key) for key in keys}
    if len(slots) == 1:
        return Split([(slots.pop(), command)])
    script = _SCRIPTS[str(sha)]
    if not script.each:
        raise BackendResponseError(f"the script {script.name} is for keys of one slot, got {len(slots)}")
    per_bucket, per_call, each = len(script.keys), len(script.arguments), len(script.each)
    common, own = arguments[:per_call], arguments[per_call:]
    parts: list[tuple[int, Command]] = []
    for index in range(size // per_bucket):
        bucket = keys[per_bucket * index : per_bucket * (index + 1)]
        parts.append(
            (_slot(bucket[0]), script.call(bucket, *common, *own[each * index : each * (index + 1)]))
        )
    return Split(parts, lambda replies: list(chain.from_iterable(replies)))


def _sum(command: Command, by_slot: Mapping[int, list[int]]) -> Split:
    keys = command[1:]
    parts = [(slot, (command[0], *(keys[at] for at in indexes))) for slot, indexes in by_slot.items()]
    return Split(parts, sum)


def _values(command: Command, by_slot: Mapping[int, list[int]]) -> Split:
    keys = command[1:]

    def join(replies: list[Any]) -> list[Any]:
        result: list[Any] = [None] * len(keys)
        for indexes, reply in zip(by_slot.values(), replies, strict=True):
            for at, value in zip(indexes, reply, strict=True):
                result[at] = value
        return result

    return Split([(slot, ("MGET", *(keys[at] for at in indexes))) for slot, indexes in by_slot.items()], join)


def _union(command: Command, _by_slot: object) -> Split:
    """The union of sketches of several slots is made here: as good as the server's, to the last digit."""

    def join(replies: list[Any]) -> int:
        union = empty()
        try:
            for sketch in replies:
                if sketch is not None:
                    np.maximum(union, codec.decode(sketch), out=union)
        except (MalformedSketchError, UnknownEncodingError) as error:
            raise BackendResponseError(f"sketches in several slots cannot be united: {error}") from error
        return cardinality(union)

    return Split([(_slot(str(key)), ("GET", key)) for key in command[1:]], join)


_OF_MANY: Mapping[str, Callable[[Command, Mapping[int, list[int]]], Split]] = {
    "EXISTS": _sum,
    "DEL": _sum,
    "MGET": _values,
    "PFCOUNT": _union,
}
_WITHOUT_KEYS = {"CLUSTER", "TIME", "PING", "CONFIG"}
"""Commands for any node, but the same one for all processes: clocks differ."""
_NO_NODE = "the cluster has no node that serves this slot"


class Wait(NamedTuple):
    """A step of :func:`route`: wait so long, then learn the topology anew."""

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


Sent = Mapping[Node, Sequence[Command]]
"""What to send to each node."""

Routing = Generator[Sent | Wait, Any, list[Any]]
"""Yields what to send, and is sent the replies of each node, or the exception by which that failed."""


def route(
    commands: Sequence[Command], topology: Topology, *, patience: float, clock: Callable[[], float]
) -> Routing:
    """Route a batch.

    Args:
        patience: for so many seconds what the cluster cannot do yet is tried again; what only has to go to
            another node is, whatever this is.
        clock: seconds, never set back.

    Returns:
        The replies; a :class:`Failed` or a BackendError where a command failed.
    """
    deadline = clock() + patience
    if not any(topology.owners):
        yield Wait(0)
    plans: list[tuple[list[_Part], Callable[[list[Any]], Any] | None] | BackendError] = []
    for command in commands:
        try:
            plans.append(_planned(command, topology))
        except BackendError as error:
            plans.append(error)
    waiting = [part for plan in plans if not isinstance(plan, BackendError) for part in plan[0]]
    wait = _FIRST_WAIT_S
    attempts = 0
    while waiting:
        attempts += 1
        by_node: dict[Node, list[_Part]] = {}
        for part in waiting:
            node = part.node or (topology.owners[part.slot] if part.slot >= 0 else None)
            if node is None:
                part.reply = BackendResponseError(_NO_NODE)
            else:
                by_node.setdefault(node, []).append(part)
        answers = (yield {node: list(_sent(parts)) for node, parts in by_node.items()}) if by_node else {}
        redirected = False
        for node, parts in by_node.items():
            redirected |= _take(answers[node], node, parts, topology)
        waiting = [part for part in waiting if part.is_open]
        if not waiting:
            break
        redirected = redirected and attempts <= _REDIRECTS
        if attempts > 1 and clock() + wait > deadline and not redirected:
            break
        # A slot that was given away is seldom the only one.
        yield Wait(0 if redirected or attempts == 1 else wait)
        wait = min(2 * wait, _LONGEST_WAIT_S)
    return [plan if isinstance(plan, BackendError) else _joined(*plan) for plan in plans]


def _planned(command: Command, topology: Topology) -> tuple[list[_Part], Callable[[list[Any]], Any] | None]:
    everywhere = (
        topology.masters if command[0] == "INFO" else topology.serving if _has_no_key(command) else []
    )
    if command[0] in ("SCAN", "INFO") and not topology.masters:
        raise BackendResponseError(_NO_NODE)
    if command[0] == "SCAN":
        return _scan(command, topology)
    if everywhere:
        return [_Part(command, _EVERYWHERE, node) for node in everywhere], None
    parts, join = split(command)
    return [_Part(part, slot) for slot, part in parts], join


def _has_no_key(command: Command) -> bool:
    """Whether it is a script about the server itself; replicas are to answer too, as masters to be."""
    return command[0] in ("EVAL", "EVALSHA") and command[2] == 0


def _scan(command: Command, topology: Topology) -> tuple[list[_Part], Callable[[list[Any]], Any]]:
    """SCAN of one master after the other: the cursor tells of which."""
    masters = topology.masters
    cursor, index = divmod(int(command[1]), len(masters))

    def join(replies: list[Any]) -> list[Any]:
        found, keys = replies[0]
        after = int(found)
        if after:
            return [after * len(masters) + index, keys]
        return [index + 1 if index + 1 < len(masters) else 0, keys]

    return [_Part(("SCAN", cursor, *command[2:]), _EVERYWHERE, masters[index])], join


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
            part.node = part.node if part.slot < 0 else None
        return False
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
            to = _redirect(reply)
            if to is not None:
                slot, owner, is_moved = to
                part.is_open = redirected = True
                part.node, part.asking = owner, not is_moved
                if is_moved:
                    topology.move(slot, owner)
            else:
                part.is_open = code_of(reply) in _PASSING
    return redirected


def _redirect(error: Exception) -> tuple[int, Node, bool] | None:
    """The slot, its node, and whether it is there for good; clients differ in whether they leave the word."""
    kind, text = type(error).__name__, str(error)
    is_moved = kind == "MovedError" or text.startswith("MOVED ")
    if not (is_moved or kind == "AskError" or text.startswith("ASK ")):
        return None
    found = _REDIRECT.match(text)
    return None if found is None else (int(found[1]), Node(found[2], int(found[3])), is_moved)


def _joined(parts: Sequence[_Part], join: Callable[[list[Any]], Any] | None) -> Any:
    replies = [part.reply for part in parts]
    failed = [reply for reply in replies if isinstance(reply, Failed | BackendError)]
    if (
        parts[0].slot == _EVERYWHERE
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
    failed = f"{OF_FAILURE}{part.reply.error}" if isinstance(part.reply, Failed) else ""
    told: bytes = failed.encode() if failed else part.reply
    end = b"" if told.endswith(b"\n") else b"\r\n"
    return f"{OF_NODE}{part.node.host}:{part.node.port}\r\n".encode() + told + end
