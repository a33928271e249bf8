"""A Redis or Valkey Cluster, as one server to those who send: addresses, what is down, the exchange.

Of a cluster client that is handed in, only addresses and the settings of connections are used: its pipelines
refuse commands that are sent here, and one dead node fails them all. What goes where is decided in
:mod:`.routing`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import redis
from redis.backoff import NoBackoff

from ..driving import run
from ..errors import ArgumentTypeError
from .base import Command
from .connection_options import servers_of
from .exchange import lane, pool_arguments, read_only
from .marks import Marks
from .routing import Routing, Wait, route
from .topology import Learning, Node, Sent, Topology, learn
from .trouble import is_denied

__all__ = ["BaseCluster", "Cluster", "ClusterSettings", "cluster_settings", "is_cluster"]

_PATIENCE_S = 5.0
_OF_CONNECTIONS = (
    *("username", "password", "credential_provider", "client_name", "protocol", "max_connections"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"),
    *("health_check_interval", "ssl", "ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs"),
    *("ssl_ca_path", "ssl_ca_data", "ssl_check_hostname", "ssl_password", "ssl_min_version", "ssl_ciphers"),
)
"""Settings that are taken over from a cluster client."""
_FROM_REPLICAS = ("read_from_replicas", "load_balancing_strategy")
"""Attributes of one that asks replicas; the newer one has several ways to choose among them."""


def is_cluster(client: Any) -> bool:
    """Whether a client is one of a cluster, of whatever library."""
    return hasattr(client, "nodes_manager")


def cluster_settings(
    options: Mapping[str, Any],
    make: Callable[..., Any],
    make_retry: Callable[..., Any],
    writer_patience: float | None,
) -> ClusterSettings | None:
    """What is known of the cluster that options lead to; None if they lead to a single server.

    Args:
        options: of a shard, checked.
        make: makes a client from connection options.
        make_retry: makes what tells a client how often to try again.
        writer_patience: what a writer, which tries again by itself, waits for a reply; None = this is none's.
    """
    patience = None if writer_patience is None else 0.0
    client = options.get("client")
    if client is not None:
        if not is_cluster(client):
            return None
        return ClusterSettings.of(
            client, patience, **({} if writer_patience is None else {"socket_timeout": writer_patience})
        )
    servers = servers_of(options["url"]) if options.get("url") is not None else None
    if servers is None or servers.kind != "cluster":
        return None
    wanted = {**servers.options, **options, "retry": make_retry(NoBackoff(), 0, ())}
    for name in ("url", "retries", "retry_on_error", "read_from_replicas"):
        wanted.pop(name, None)
    return ClusterSettings(
        [Node(*address) for address in servers.addresses],
        make,
        wanted,
        patience,
        reads_from_replicas=options.get("read_from_replicas", False),
    )


class ClusterSettings:
    """What is known of a cluster, and how its nodes are connected to.

    Args:
        nodes: the addresses given.
        make: makes the client of a node from connection options.
        options: those, without an address.
        patience: seconds for which what the cluster cannot do for the moment is tried again; None = as long
            as it is waited for a reply.
        reads_from_replicas: whether replicas are asked by who only reads.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        make: Callable[..., Any],
        options: Mapping[str, Any],
        patience: float | None = None,
        *,
        reads_from_replicas: bool = False,
    ) -> None:
        self.reads_from_replicas = reads_from_replicas
        self.topology = Topology(nodes=list(nodes))
        self._make, self._options = make, dict(options)
        timeout = self._options.setdefault("socket_timeout", _PATIENCE_S)
        self._options.setdefault("socket_connect_timeout", timeout)
        self.patience = (timeout or _PATIENCE_S) if patience is None else patience
        self._given = list(nodes)
        self._clients: dict[Node, Any] = {}
        self._pools: dict[Node, tuple[Any, tuple[str, ...]]] = {}
        self._marks = Marks()
        self._denials: dict[Node, Exception] = {}

    @classmethod
    def of(cls, client: Any, patience: float | None = None, **replaced: Any) -> ClusterSettings:
        """What a cluster client knows.

        Raises:
            ArgumentTypeError: it knows no address.
        """
        manager = client.nodes_manager
        known = getattr(client, "connection_kwargs", None) or manager.connection_kwargs
        nodes = [Node(str(node.host), int(node.port)) for node in manager.startup_nodes.values()]
        if not nodes:
            raise ArgumentTypeError("client: the cluster client knows no address")
        options = {name: known[name] for name in _OF_CONNECTIONS if known.get(name) is not None}
        library = type(client).__module__.split(".")
        asynchronous = "asyncio" in library
        module = import_module(f"{library[0]}.asyncio" if asynchronous else library[0])
        if "SSL" in getattr(known.get("connection_class"), "__name__", ""):
            options["ssl"] = True
        retry = import_module(f"{library[0]}{'.asyncio' if asynchronous else ''}.retry").Retry
        options["retry"] = retry(import_module(f"{library[0]}.backoff").NoBackoff(), 0)
        return cls(
            nodes,
            getattr(module, "Valkey", None) or module.Redis,
            {**options, **replaced},
            patience,
            reads_from_replicas=any(getattr(client, name, None) for name in _FROM_REPLICAS),
        )

    @property
    def address(self) -> str:
        """The addresses given, for messages."""
        return ",".join(node.address for node in self._given)

    def pool(self, node: Node, read_only: Callable[[Any], Any]) -> tuple[Any, tuple[str, ...]]:
        """The pool of a node, and what getting a connection from it wants.

        Threads that come at the same time each make a client, and the first is kept.

        Args:
            read_only: what a new connection to a replica begins with.
        """
        found = self._pools.get(node)
        if found is None:
            made = self._make(host=node.host, port=node.port, **self._options)
            pool = self._clients.setdefault(node, made).connection_pool
            if node.is_replica:
                library = pool.connection_class.__module__.partition(".")[0]
                pool.connection_kwargs[f"{library}_connect_func"] = read_only
            found = self._pools[node] = pool, pool_arguments(pool)
        return found

    def clients(self) -> list[Any]:
        """All clients that were made."""
        return list(self._clients.values())

    def taken(self) -> list[Any]:
        """All clients, which are not used here any more: to be closed, or left to a parent process."""
        clients, self._clients, self._pools = self._clients, {}, {}
        return list(clients.values())

    # Nodes that are down

    def is_down(self, node: Node) -> bool:
        """Whether a node gave no answer a moment ago, so that nobody should wait for it now.

        Who is patient tries a master each second again; a writer, which would lose a reply's time with each
        push, less and less often, and so does everybody a replica, as its master answers as well.
        """
        return self._marks.is_down(node, is_patient=bool(self.patience) and not node.is_replica)

    def failed(self, node: Node, error: Exception) -> None:
        """A node gave no answer; one that refuses connections costs no time, and only a replica is spared.

        So is who denies access: it would log each attempt, and perhaps lock the user out.
        """
        self._denials.pop(node, None)
        if is_denied(error):
            self._denials[node] = error.with_traceback(None)
        if node in self._denials or node.is_replica or "Timeout" in type(error).__name__:
            self._marks.mark(node)

    def answered(self, node: Node) -> None:
        """A node answered."""
        self._denials.pop(node, None)
        self._marks.unmark(node)

    def denials(self) -> dict[Node, Exception]:
        """The nodes that denied access a moment ago, and how."""
        return {node: error for node, error in list(self._denials.items()) if self.is_down(node)}

    def candidates(self) -> list[Node]:
        """Whom to ask for the topology, best first."""
        nodes = list(dict.fromkeys([*self.topology.nodes, *self._given]))
        return sorted(nodes, key=self.is_down)


class BaseCluster:
    """What stands for a client where the server is a cluster: what is decided, whoever exchanges it."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings

    def routing(self, commands: Sequence[Command], *, reads: bool) -> Routing:
        """What to send for a batch, step by step."""
        settings = self.settings
        return route(
            commands,
            settings.topology,
            patience=settings.patience,
            clock=time.monotonic,
            is_down=settings.is_down,
            from_replicas=reads and settings.reads_from_replicas,
        )

    def absent(self, nodes: Iterable[Node]) -> dict[Node, Any]:
        """The answers of those nodes that nobody waits for."""
        denials = self.settings.denials()
        return {
            node: denials.get(node) or redis.ConnectionError(f"{node.address} gave no answer a moment ago")
            for node in nodes
            if self.settings.is_down(node)
        }

    def learning(self) -> Learning:
        """Whom to ask for the topology; also who gave no answer a moment ago, unless it denied access."""
        return learn(self.settings.topology, self.settings.candidates(), self.settings.denials())


class Cluster(BaseCluster):
    """Exchanges batches with a cluster, for synchronous callers; threads may share it."""

    def __init__(self, settings: ClusterSettings) -> None:
        super().__init__(settings)
        self._learning = threading.Lock()

    def execute(self, commands: Sequence[Command], *, reads: bool = False) -> list[Any]:
        """The replies to commands; a :class:`.routing.Failed` or a BackendError where one failed.

        Args:
            reads: the commands only read, and may be answered by replicas.

        Raises:
            UnknownTopologyError: no node can be reached, or access is denied by all.
        """
        return run(self.routing(commands, reads=reads), self._step)

    def _step(self, step: Sent | Wait) -> dict[Node, Any] | None:
        if not isinstance(step, Wait):
            return self._exchange(step)
        time.sleep(step.seconds)
        with self._learning:
            run(self.learning(), self._ask)
        return None

    def _exchange(self, sent: Sent) -> dict[Node, Any]:
        """What nodes answer to what is sent to each; nobody waits for those that are down."""
        absent = self.absent(sent)
        return absent | self._ask({node: sent[node] for node in sent if node not in absent})

    def _ask(self, sent: Sent) -> dict[Node, Any]:
        """Send to all nodes first, and then read: the replies of each, or why it failed."""
        answers: dict[Node, Any] = {}
        lanes = {
            node: lane(*self.settings.pool(node, read_only), commands) for node, commands in sent.items()
        }
        try:
            while lanes:
                for node, steps in list(lanes.items()):
                    try:
                        next(steps)
                    except StopIteration as stop:
                        answers[node] = stop.value
                        self.settings.answered(node)
                    except Exception as error:  # noqa: BLE001 (of the client, the system: one node's)
                        answers[node] = error
                        self.settings.failed(node, error)
                    else:
                        continue
                    del lanes[node]
        finally:
            for steps in lanes.values():
                steps.close()
        return answers

    def close(self) -> None:
        """Close all connections."""
        for client in self.settings.taken():
            client.close()
