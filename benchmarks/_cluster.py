"""One server or a cluster, for benchmarks of both: masters on the loopback, without replicas."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import click
from _common import HOST, Server, free_port, serve, tracker

from activity_tracker_hll import ActivityTracker, PeriodKind

__all__ = ["Servers", "serve_cluster"]

_SLOTS = 16384
_PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Servers:
    """One server, or the masters of a cluster."""

    name: str
    nodes: list[Server]

    def tracker(self, periods: Iterable[PeriodKind] = ("daily",), **settings: Any) -> ActivityTracker:
        """A tracker."""
        if len(self.nodes) == 1:
            return tracker(self.nodes[0], periods, **settings)
        url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        return ActivityTracker(periods, "redis", url=url, **settings)

    def flush(self) -> None:
        """Empty all; scripts stay loaded."""
        for node in self.nodes:
            node.flush()

    @contextmanager
    def hanging(self, node: Server) -> Iterator[None]:
        """A node is stopped meanwhile: it takes connections, and answers nothing."""
        info: Any = node.client.info("server")
        process = int(info["process_id"])
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)


@contextmanager
def serve_cluster(kind: str, masters: int = 3, config: Mapping[str, str] | None = None) -> Iterator[Servers]:
    """Run a cluster of so many masters, each of which serves as many slots.

    Args:
        kind: valkey or redis.
        masters: how many.
        config: further configuration of each.

    Raises:
        click.ClickException: it cannot be started.
    """
    with ExitStack() as stack:
        nodes, buses = [], []
        for index in range(masters):
            buses.append(free_port())
            of_cluster = {
                "cluster-enabled": "yes",
                "cluster-port": str(buses[-1]),
                "cluster-require-full-coverage": "no",
            }
            nodes.append(stack.enter_context(serve(kind, config={**of_cluster, **(config or {})})))
            _ask(nodes[-1], "SET-CONFIG-EPOCH", index + 1)
        bounds = [_SLOTS * index // masters for index in range(masters + 1)]
        for node, (first, end) in zip(nodes, pairwise(bounds), strict=True):
            _ask(node, "ADDSLOTSRANGE", first, end - 1)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            _ask(nodes[0], "MEET", HOST, node.port, bus)
        deadline = time.monotonic() + _PATIENCE_S
        while not all(_is_whole(node, masters) for node in nodes):
            if time.monotonic() > deadline:
                raise click.ClickException("the cluster does not form: run it again")
            time.sleep(0.02)
        yield Servers(f"cluster of {masters}", nodes)


def _is_whole(node: Server, masters: int) -> bool:
    """Whether a node knows what all serve, and is ready to serve itself."""
    return len(_ask(node, "SLOTS")) == masters and "cluster_state:ok" in str(_ask(node, "INFO"))


def _ask(node: Server, *words: str | int) -> Any:
    client: Any = node.client
    return client.execute_command("CLUSTER", *words)
