"""Real clusters: three masters and three replicas on ports of the loopback, up in about two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from helpers.faults import Node
from helpers.servers import free_port
from helpers.tls import Certificates

SLOTS = 16384
LEFT_OUT = {
    "test_a_union_of_sources_that_change_meanwhile_is_made_again": "overtakes the script of a single server",
    "test_an_older_union_is_not_stored_over_a_newer": "overtakes the script of a single server",
    "test_every_reply_is_one_that_is_declared": "calls all scripts by hand, that of a single server too",
    "test_every_declared_state_occurs": "calls all scripts by hand, that of a single server too",
    "test_what_does_not_belong_in_a_key_is_told_from_errors_that_pass": "calls all scripts by hand",
    "test_an_error_that_passes_is_told_from_what_stays": "calls all scripts by hand",
    "test_windows_without_moves_are_the_servers_count": "counts unions by hand, which no cluster can",
    "test_marks_are_of_a_namespace_and_of_a_data_set": "has two databases, and a cluster has one",
    "test_a_sketch_under_a_secret_is_not_handed_out": "the union of an aggregate is made of sketches read",
    "test_round_trips_of_a_lookup": "counts by hand, by one MGET",
    "test_intervals_hold_the_little_that_remains": "copies keys by hand; statistics do not depend on servers",
    "test_an_import_that_is_killed_and_run_again_gives_the_same_counts": "has a proxy before one server",
    "test_a_reader_needs_no_right_to_write": "a cluster wants one right more, +cluster|slots",
    "test_only_the_import_changes": "activity-tracker knows no cluster",
    "test_history_reads_the_same_in_both": "activity-tracker knows no cluster",
    "test_zeros_the_other_librarys_job_stored_are_counted_with_their_aggregates": "it knows no cluster",
    "test_sketches_and_tables": "renames keys by hand",
    "test_counts_are_the_servers": "unites sketches by hand",
    "test_a_client_that_was_handed_in_is_shared": "makes a client of one server",
    "test_intervals_hold": "makes a client of one server",
    "test_error_of_the_remainder": "copies keys by hand; statistics do not depend on servers",
    "test_codec_servers.py": "merges and reads keys by hand; the encoding does not depend on a cluster",
    "test_counts_are_the_server_s": "pipelines PFCOUNT by hand",
    "test_rights.py": "a cluster wants rights of its own, which are tested there beside those of one server",
    "test_wrong_password_and_missing_permission": "a cluster wants one right more, +cluster|slots",
    "test_a_writer_leaves_the_connections_of_others_open": "makes a client of one server",
    "test_shards": "has two databases, and a cluster has one",
    "test_the_aggregates_are_those_of_the_shard": "has two databases, and a cluster has one",
    "test_whether_there_are_data_is_asked_once_a_period": "counts the batches for a single server",
    "test_an_error_of_another_type_is_none_that_is_absent": "a cluster is not asked for it by a lookup",
    "test_a_server_that_is_slow_to_count_is_read": "changes the replies of a single server",
}
"""Tests of what asks servers that are not for a cluster, by their names or that of their file, and why."""
NODE_TIMEOUT_MS = 1000


class Client(redis.RedisCluster):
    """A client of the whole cluster, for tests that look at a server with it."""

    def execute_command(self, *arguments, **options):  # type: ignore[no-untyped-def]
        if str(arguments[0]).startswith("ACL"):
            options.setdefault("target_nodes", self.ALL_NODES)
        return super().execute_command(*arguments, **options)

    def keys(self, *arguments, **options):  # type: ignore[no-untyped-def]
        return super().keys(*arguments, target_nodes=self.PRIMARIES, **options)

    def mset(self, values):  # type: ignore[no-untyped-def]
        return super().mset_nonatomic(values)

    def mget(self, *keys):  # type: ignore[no-untyped-def]
        return super().mget_nonatomic(*keys)

    def config_set(self, *arguments, **options):  # type: ignore[no-untyped-def]
        return super().config_set(*arguments, target_nodes=self.ALL_NODES, **options)


class Options(dict[str, object]):
    """The options that lead to a cluster: there is no socket of all of it."""

    def __missing__(self, name: str) -> object:
        pytest.skip(f"needs the {name} of one server")


class Cluster:
    """Masters, each with a replica.

    Attributes:
        masters, replicas: as it was started; a replica's master is the one at its index.
        directory: each node's own are numbered in it, masters first.
    """

    def __init__(
        self,
        executable: str,
        directory: Path,
        masters: int = 3,
        tls: Certificates | None = None,
        **config: object,
    ) -> None:
        settings: dict[str, object] = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": NODE_TIMEOUT_MS,
            "cluster_require_full_coverage": "no",
            "repl_ping_replica_period": 1,  # before the first, Redis tells nobody of a replica without data
            "cluster_replica_validity_factor": 0,
            **config,
        }
        self.directory = directory
        nodes, self.buses = [], []
        for index in range(2 * masters):
            (directory / str(index)).mkdir(parents=True)
            self.buses.append(free_port())
            nodes.append(
                Node(executable, directory / str(index), tls, cluster_port=self.buses[-1], **settings)
            )
        self.masters, self.replicas = nodes[:masters], nodes[masters:]

    @property
    def nodes(self) -> list[Node]:
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.masters)

    def start(self) -> None:
        """Start all nodes, and wait until each knows what all serve."""
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait()
        count = len(self.masters)
        bounds = [SLOTS * index // count for index in range(count + 1)]
        for index, node in enumerate(self.masters):
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        first = self.masters[0]
        for node, bus in zip(self.nodes[1:], self.buses[1:], strict=True):
            first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        self.wait_until(lambda node: len(self.known(node)) == len(self.nodes))
        for master, replica in zip(self.masters, self.replicas, strict=True):
            replica.client.execute_command("CLUSTER", "REPLICATE", self.id_of(master))
        self.wait_until(
            lambda node: b"cluster_state:ok" in self.info(node) and len(self.served(node)) >= count
        )
        self.wait_until(
            lambda node: node in self.masters or node.client.info("replication")["master_link_status"] == "up"
        )
        self.wait_until(lambda node: all(len(of) > 3 for of in self.served(node)))

    def wait_until(self, holds: object, nodes: list[Node] | None = None, timeout: float = 30) -> None:
        """Wait until something holds of each node."""
        deadline = time.monotonic() + timeout
        for node in nodes or self.nodes:
            while not holds(node):  # type: ignore[operator]
                assert time.monotonic() < deadline, "the cluster does not form"
                time.sleep(0.02)

    @staticmethod
    def known(node: Node) -> list[bytes]:
        reply = node.client.execute_command("CLUSTER", "NODES")
        lines = reply if isinstance(reply, (list, dict)) else reply.decode().splitlines()
        return [line for line in lines if "handshake" not in str(line)]

    @staticmethod
    def info(node: Node) -> bytes:
        reply = node.client.execute_command("CLUSTER", "INFO")
        if isinstance(reply, dict):
            return "\n".join(f"{name}:{value}" for name, value in reply.items()).encode()
        return bytes(reply)

    @staticmethod
    def served(node: Node) -> Any:
        """The ranges of slots that a node knows of, and who serves them."""
        return node.client.execute_command("CLUSTER", "SLOTS")

    @staticmethod
    def id_of(node: Node) -> str:
        reply = node.client.execute_command("CLUSTER", "MYID")
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    def wait_for_master(self, node: Node, *, force: bool = False) -> None:
        """Wait until a node is a master, that all others know."""
        deadline = time.monotonic() + 30
        while node.client.info("replication")["role"] != "master":
            assert time.monotonic() < deadline, "it is not promoted"
            if force:
                node.client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
            time.sleep(0.05)

    def move_slots(self, source: Node, target: Node, slots: Iterable[int], open_for: float) -> None:
        """Move slots with their keys, as redis-cli does; they stay open for a while."""
        chosen = list(slots)
        self.open_slots(source, target, chosen)
        until = time.monotonic() + open_for
        while time.monotonic() < until:
            for slot in chosen:
                self.migrate(source, target, slot, 1)
            time.sleep(0.05)
        self.close_slots(source, target, chosen)

    def open_slots(self, source: Node, target: Node, slots: Iterable[int]) -> None:
        """From now on the source sends on what it does not have."""
        ids = {node: self.id_of(node) for node in (source, target)}
        for slot in slots:
            target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
            source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])

    def close_slots(self, source: Node, target: Node, slots: Iterable[int]) -> None:
        """Move the keys that are left, and give the slots to the target."""
        owner = self.id_of(target)
        for slot in slots:
            while self.migrate(source, target, slot, 100):
                pass
            for node in (target, source, *self.masters):
                node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", owner)

    @staticmethod
    def slots_in_use(node: Node) -> list[int]:
        """The slots of a node that hold keys."""
        return sorted({key_slot(key) for key in node.client.scan_iter(count=10_000)})

    @staticmethod
    def can_migrate_slots(node: Node) -> bool:
        """Whether a server moves slots by itself, as Valkey does since 9.0."""
        return any(b"MIGRATESLOTS" in line for line in node.client.execute_command("CLUSTER", "HELP"))

    def migrate_slots(self, source: Node, target: Node, first: int, last: int) -> None:
        """Let a server move slots by itself, and wait until they are the other's."""
        source.client.execute_command(
            "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", self.id_of(target)
        )
        self.wait_until(lambda node: self.owner(node, first) == target.port == self.owner(node, last))

    def owner(self, node: Node, slot: int) -> int:
        """The port of the master that serves a slot, as far as a node knows."""
        return next(
            int(master[1])
            for first, last, master, *_ in self.served(node)  # type: ignore[misc]
            if first <= slot <= last
        )

    @staticmethod
    def migrate(source: Node, target: Node, slot: int, count: int) -> bool:
        """Move some keys of a slot; returns whether there were any."""
        keys = source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            command = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "KEYS", *keys)
            source.client.execute_command(*command)
        return bool(keys)

    def flush(self) -> None:
        for node in self.masters:
            node.client.flushall()

    def keys(self) -> Iterator[bytes]:
        for node in self.masters:
            yield from node.client.scan_iter(count=10_000)

    def client(self) -> Client:
        """A client for tests to look with."""
        nodes = [redis.cluster.ClusterNode("127.0.0.1", node.port) for node in self.masters]
        return Client(startup_nodes=nodes, socket_timeout=30)

    def close(self) -> None:
        for node in self.nodes:
            node.close()
