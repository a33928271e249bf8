"""Which node of a cluster serves which slot, and asking for it.

Nothing here touches a connection: :func:`learn` says whom to ask, and is told the answers.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from .base import SLOTS, Command
from .slots import slot_of
from .trouble import is_denied

__all__ = ["Learning", "Node", "Sent", "Topology", "UnknownTopologyError", "learn", "told"]


class Node(NamedTuple):
    """The address of a node, and for what it is asked.

    Attributes:
        is_replica: it is asked as a replica, for what its master holds.
    """

    host: str
    port: int
    is_replica: bool = False

    @property
    def address(self) -> str:
        """As messages have it, and the lines that begin with OF_NODE."""
        return f"{self.host}:{self.port}"


@dataclass(slots=True)
class Topology:
    """Which node serves which slot, as far as it is known.

    Attributes:
        owners: the node of each slot; None = nobody's.
        masters: the nodes that serve slots, in an order that all processes agree on.
        replicas: those of each master, in the order in which they are asked, which each process has for
            itself and keeps, as what one replica has told another may not know yet.
        nodes: all that were ever heard of, newest knowledge first: whom to ask again. Of those, whoever told
            it comes last: if it leads nowhere, it is asked of another.
        told_by: who told all this.
        fresh_until: when to learn it anew for its replicas, by the clock of :func:`route`.
    """

    owners: list[Node | None] = field(default_factory=lambda: [None] * SLOTS)
    masters: list[Node] = field(default_factory=list)
    replicas: dict[Node, list[Node]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    told_by: Node | None = None
    fresh_until: float = -inf
    _salt: float = field(default_factory=random.random)

    def learn(self, reply: Any, asked: Node) -> None:
        """Take over a reply to CLUSTER SLOTS.

        Args:
            asked: who gave it: a node that does not know its own name leaves it out.
        """
        owners: list[Node | None] = [None] * SLOTS
        replicas: dict[Node, set[Node]] = {}
        for first, last, *served_by in reply:
            those = [_node(each, asked) for each in served_by]
            owners[int(first) : int(last) + 1] = [those[0]] * (int(last) - int(first) + 1)
            replicas.setdefault(those[0], set()).update(
                Node(node.host, node.port, is_replica=True) for node in those[1:]
            )
        self.owners, self.masters, self.told_by = owners, sorted(replicas), asked
        self.replicas = {
            master: sorted(those, key=lambda node: hash((self._salt, node)))
            for master, those in replicas.items()
        }
        nodes = self.serving
        after = nodes.index(asked) + 1 if asked in nodes else 0
        nodes = [*nodes[after:], *nodes[:after]]
        self.nodes = list(dict.fromkeys([*nodes, *self.nodes]))[: 4 * len(nodes) + 16]

    @property
    def serving(self) -> list[Node]:
        """The masters and their replicas, each asked for itself."""
        replicas = (Node(each.host, each.port) for those in self.replicas.values() for each in those)
        return [*self.masters, *sorted(replicas)]

    def address_of(self, key: str) -> str:
        """The node that has a key, as the lines that begin with OF_NODE name it; empty if nobody does."""
        node = self.owners[slot_of(key)]
        return "" if node is None else node.address

    def about_gap(self, slot: int) -> str:
        """What to say of a slot that nobody serves; where none is served, of commands without one, too."""
        if self.told_by is None:
            known = ", ".join(node.address for node in self.nodes)
            return f"no node of the cluster serves any slot, as {known} tells: is it one of its nodes?"
        found = f"no node of the cluster serves slot {slot}, as {self.told_by.address} tells"
        return f"{found}: redis-cli --cluster fix gives it to one"

    def move(self, slot: int, node: Node) -> None:
        """A slot is known to be another node's."""
        self.owners[slot] = node
        self.masters = sorted({*self.masters, node})
        if node not in self.nodes:
            self.nodes.insert(0, node)


def _node(served_by: Any, asked: Node) -> Node:
    host, port = served_by[:2]
    return told(host.decode() if isinstance(host, bytes) else host, int(port), asked)


def told(host: str | None, port: int, asked: Node) -> Node:
    """A node that another one tells of.

    Args:
        host: empty, None or ``?`` = not known there, or not told (``cluster-preferred-endpoint-type
            unknown-endpoint``): it is the host of whoever tells.
        asked: who tells.
    """
    return Node(host if host and host != "?" else asked.host, port)


Sent = Mapping[Node, Sequence[Command]]
"""What to send to each node."""

Learning = Generator[Sent, Mapping[Node, Any], None]
"""Yields whom to ask what, and is sent the replies of each, or the exception by which it failed."""


class UnknownTopologyError(Exception):
    """No node tells where slots are.

    Attributes:
        error: why; that access is denied, if it is by any, as the others may yet answer.
        address: those of the nodes of which this is true.
    """

    def __init__(self, problems: Mapping[Node, Exception]) -> None:
        denials = {node: error for node, error in problems.items() if is_denied(error)}
        of = denials or problems
        self.error = list(of.values())[-1]
        self.address = ",".join(node.address for node in of)
        super().__init__(self.address)


def learn(
    topology: Topology, candidates: Iterable[Node], denials: Mapping[Node, Exception] | None = None
) -> Learning:
    """Ask for the topology; a node that knows whose all slots are is enough.

    A node that knows less may be a new one, or was taken out of the cluster. While nodes answer, the next is
    asked as well, and who knows of most slots is believed.

    Args:
        candidates: whom to ask, best first.
        denials: by whom access was denied a moment ago, who are not asked again so soon.

    Raises:
        UnknownTopologyError: nobody tells, and nothing is known yet.
    """
    problems = dict(denials or {})
    best: tuple[Any, Node] | None = None
    most = 0
    for node in candidates:
        if node in problems:
            continue
        answer = (yield {node: [("CLUSTER", "SLOTS")]})[node]
        reply = answer if isinstance(answer, Exception) else answer[0]
        if isinstance(reply, Exception):
            problems[node] = reply
            if best is not None:  # what lacks some slots will do before anybody waits for a dead node
                break
            continue
        served = sum(int(last) - int(first) + 1 for first, last, *_ in reply)
        if served > most:
            best, most = (reply, node), served
        if most == SLOTS:
            break
    if best is not None:
        topology.learn(*best)
    elif problems and not topology.masters:
        raise UnknownTopologyError(problems)
