"""Scans find all there is, whatever happens to servers meanwhile; or they say that they cannot."""

from contextlib import closing

import pytest

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.backends.base import AT_NODE, NODES, OF_NODE
from activity_tracker_hll.driving import run
from activity_tracker_hll.errors import BackendConnectionError, BackendResponseError
from activity_tracker_hll.operations.scans import scan, scan_keys
from helpers.errors import raises
from helpers.faults import Node
from helpers.moments import NOON, YESTERDAY, day
from helpers.servers import program

MANY = 9000
PERIOD = f"daily-{YESTERDAY:%Y%m%d}"
OPTIONS = {"timezone": "UTC", "clock": lambda: NOON}


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.extended)])
def node(request, tmp_path):
    config = {"appendonly": "yes", "appendfsync": "always"}
    with closing(Node(program(request.param), tmp_path, **config)) as node:
        node.start()
        yield node


def amid(tracker, command, number, happens):
    """Let something happen after a page of a scan; returns a list of all commands that are read."""
    sent, read, execute = [], tracker.backend.read, tracker.backend.execute

    def watched(run):
        def watch(commands, shard=0):
            replies = run(commands, shard)
            for each in commands:
                sent.append(each)
                if command in each and sum(command in other for other in sent) == number:
                    happens()
            return replies

        return watch

    tracker.backend.read, tracker.backend.execute = watched(read), watched(execute)
    return sent


def restart(node):
    node.kill()
    node.start()


def test_keys_are_all_found_if_the_server_restarts_meanwhile(node):
    node.client.mset({f"active:{PERIOD}:b{number}": 5 for number in range(MANY)})
    with ActivityTracker(["daily"], url=f"redis://127.0.0.1:{node.port}", **OPTIONS) as tracker:
        amid(tracker, "SCAN", 2, lambda: restart(node))
        assert len(tracker.inventory()) == MANY


def test_members_are_all_found_if_the_server_restarts_meanwhile(node):
    node.client.sadd(f"active:{PERIOD}:raw:b", *range(20_000))
    with ActivityTracker(["daily"], url=f"redis://127.0.0.1:{node.port}", **OPTIONS) as tracker:

        def live():
            return tracker.lookup("daily", start=YESTERDAY, end=day(0), buckets=["b"])[0][1]["b"]

        undisturbed = live()
        amid(tracker, "SSCAN", 8, lambda: restart(node))
        assert live() == undisturbed


def test_settings_are_all_found_if_the_server_restarts_meanwhile(node):
    names = [f"aggregate:a{number}" for number in range(30_000)]
    node.client.hset("active:{meta}", mapping=dict.fromkeys(names, '["b"]'))
    with ActivityTracker(["daily"], url=f"redis://127.0.0.1:{node.port}", **OPTIONS) as tracker:
        amid(tracker, "HSCAN", 2, lambda: restart(node))
        assert len(tracker.settings.aggregate_buckets) == len(names)


def test_round_trips_on_one_server(real_server):
    with real_server.tracker() as tracker:
        trips, read = [], tracker.backend.read

        def count(commands, shard=0):
            trips.append(commands)
            return read(commands, shard)

        tracker.inventory()
        tracker.backend.read = count
        tracker.inventory()
        assert len(trips) == 1
        real_server.client.mset({f"active:{PERIOD}:b{number}": 5 for number in range(MANY)})
        trips.clear()
        tracker.inventory()
        pages = sum("SCAN" in command for commands in trips for command in commands)
        assert len(trips) == pages + 1


class MadeUp:
    """A cluster of nodes whose slots and keys change as a test says, before each batch."""

    def __init__(self, **owners):
        self.owners = owners
        """By the name of a node, its slots, as CLUSTER NODES tells."""
        self.keys = {name: set() for name in owners}
        self.runs = dict.fromkeys(owners, 1)
        self.down, self.silent, self.walks, self.changes, self.domain = set(), set(), [], [], ""

    def exchange(self, commands):
        if commands[0][0] == AT_NODE:
            self.walks.append({command[1] for command in commands})
        replies = [self._reply(command) for command in commands]
        if commands[0][0] == AT_NODE and self.changes:
            self.changes.pop(0)()
        return replies

    def _reply(self, command):
        if command[0] == AT_NODE:
            name = command[1].removesuffix(f"{self.domain}:1")
            if name in self.down:
                return BackendConnectionError(f"{name} is down")
            return [0, sorted(self.keys[name])]
        told = (f"{OF_NODE}{name}{self.domain}:1\r\n{self._told(name, command)}" for name in self._asked)
        return "".join(told).encode()

    def _at(self, name, number):
        return f"10.0.0.{number}:1@2,{name}{self.domain}" if self.domain else f"{name}:1@2"

    @property
    def _asked(self):
        return [name for name, slots in self.owners.items() if slots]

    def _told(self, name, command):
        if name in self.down or (name in self.silent and command == NODES):
            return "# Failed: no\r\n"
        if command != NODES:
            return f"run_id:{self.runs[name]}\r\n"
        return "".join(
            f"id{other} {self._at(other, epoch)} {'myself,' if other == name else ''}master"
            f" - 0 0 {epoch} connected"
            f" {' '.join(s for s in slots.split() if other == name or s[0] != '[')}\r\n"
            for epoch, (other, slots) in enumerate(self.owners.items())
        )

    def found(self, **options):
        found = set()
        run(scan_keys("*", found.update, is_cluster=True, **options), self.exchange)
        return found


def test_each_master_is_asked_once_if_nothing_changes():
    cluster = MadeUp(a="0-8000", b="8001-16383")
    cluster.keys = {"a": {b"1"}, "b": {b"2"}}
    assert cluster.found() == {b"1", b"2"}
    assert cluster.walks == [{"a:1", "b:1"}]


def test_who_was_given_slots_meanwhile_is_asked_and_others_are_not_again():
    cluster = MadeUp(a="0-8000", b="8001-16383", c="")
    cluster.keys = {"a": {b"1"}, "b": {b"2"}, "c": {b"3"}}
    cluster.changes = [lambda: cluster.owners.update(a="0-10", c="11-8000")]
    assert cluster.found() == {b"1", b"2", b"3"}
    assert cluster.walks == [{"a:1", "b:1"}, {"c:1"}]


def test_who_restarted_is_asked_again():
    cluster = MadeUp(a="0-8000", b="8001-16383")
    cluster.changes = [lambda: cluster.runs.update(b=2)]
    cluster.found()
    assert cluster.walks == [{"a:1", "b:1"}, {"b:1"}]


def test_a_master_without_slots_to_which_one_is_moved_is_asked_twice():
    cluster = MadeUp(a="0-8000 [7->-idc]", b="8001-16383", c="")
    cluster.keys = {"a": {b"1"}, "b": set(), "c": set()}

    def moves():
        cluster.keys = {"a": set(), "b": set(), "c": {b"1", b"2"}}

    cluster.changes = [moves]
    assert cluster.found() == {b"1", b"2"}
    assert cluster.walks == [{"a:1", "b:1", "c:1"}, {"a:1", "c:1"}]


def test_a_failover_meanwhile_heals():
    cluster = MadeUp(a="0-8000", b="8001-16383", c="")
    cluster.keys["c"] = {b"3"}
    cluster.down = {"b"}
    cluster.changes = [lambda: cluster.owners.update(b="", c="8001-16383")]
    assert cluster.found() == {b"3"}


def test_a_master_that_is_down_is_an_error_or_missing():
    cluster = MadeUp(a="0-8000", b="8001-16383")
    cluster.keys["a"] = {b"1"}
    cluster.down = {"b"}
    with raises(BackendConnectionError, "b is down"):
        cluster.found()
    missing = {}
    assert cluster.found(missing=missing) == {b"1"}
    assert list(missing) == ["b:1"]


def test_a_master_that_does_not_tell_which_slots_it_hands_on_is_an_error():
    cluster = MadeUp(a="0-8000 [7->-idc]", b="8001-16383", c="")
    cluster.keys["c"] = {b"1"}
    cluster.silent = {"a"}
    with raises(BackendResponseError, "a:1 does not tell where its keys go"):
        cluster.found()


def test_slots_that_nobody_serves_are_an_error():
    cluster = MadeUp(a="0-8000", b="8002-16383")
    with raises(BackendResponseError, "no node serves 1 slots of the cluster"):
        cluster.found()
    assert cluster.found(missing={}) == set()


def test_a_cluster_that_never_rests_is_an_error():
    cluster = MadeUp(a="0-16383")
    cluster.changes = [lambda n=n: cluster.runs.update(a=n) for n in range(2, 99)]
    with raises(BackendResponseError, "servers changed during each of 10 scans"):
        cluster.found()


def test_a_key_whose_slot_moves_meanwhile_is_read_again():
    key, pages, found = "{active:x}:raw", [], set()
    cluster = MadeUp(a="0-16383", b="")

    def exchange(commands):
        if commands[0][0] != "SSCAN":
            return cluster.exchange(commands)
        pages.append(commands[0][2])
        if len(pages) == 3:
            cluster.owners = {"a": "", "b": "0-16383"}
        return [[0, [b"1"]] if pages[-1] else [1, [b"2"]]]

    run(scan(lambda cursor: ("SSCAN", key, cursor), found.update, is_cluster=True, key=key), exchange)
    assert found == {b"1", b"2"}
    assert pages == [0, 0, 1, 0, 1]


def test_nodes_are_called_as_the_cluster_calls_them():
    """A master without slots is known by CLUSTER NODES alone, which tells addresses and names of hosts."""
    cluster = MadeUp(a="0-16383 [7->-idc]", c="")
    cluster.domain = ".example"
    cluster.keys["c"] = {b"1"}
    assert cluster.found() == {b"1"}
    assert cluster.walks[0] == {"a.example:1", "c.example:1"}
