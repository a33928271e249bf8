"""Routing without a cluster: which node is asked, what is asked again, and what a caller gets in the end."""

import pytest
import redis

from activity_tracker_hll import bulk
from activity_tracker_hll.backends.base import AT_NODE, NODES, OF_DENIAL, OF_FAILURE, OF_NODE, SLOTS
from activity_tracker_hll.backends.cluster import BaseCluster, ClusterSettings
from activity_tracker_hll.backends.routing import Failed, Wait, route
from activity_tracker_hll.backends.slots import split
from activity_tracker_hll.backends.topology import Node, Topology, UnknownTopologyError, learn
from activity_tracker_hll.driving import run
from activity_tracker_hll.errors import BackendDataError, BackendResponseError
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.estimators import cardinality
from activity_tracker_hll.hll.registers import empty, fold
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.scripts import calls

A, B, C = (Node("10.0.0.1", port) for port in (1, 2, 3))
KEYS = Keys()
BUCKETS = [KEYS.bucket("daily-20260101", name) for name in "abcdefgh"]


class Play:
    """A cluster that is made up: a function answers for each node, and time passes as it is waited."""

    def __init__(self, answer, nodes=(A, B, C), patience=0.0):
        self.topology = Topology()
        bounds = [-(-SLOTS * index // len(nodes)) for index in range(len(nodes) + 1)]
        ranges = zip(bounds, bounds[1:], nodes, strict=False)
        self.topology.learn([[first, end - 1, [*node]] for first, end, node in ranges], nodes[0])
        self.now, self.patience, self.answer = 0.0, patience, answer
        self.sent, self.waits, self.down, self.from_replicas = [], [], set(), False
        self.slots = {}

    def run(self, *commands):
        routing = route(
            commands,
            self.topology,
            patience=self.patience,
            clock=lambda: self.now,
            is_down=self.down.__contains__,
            from_replicas=self.from_replicas,
        )
        return run(routing, self.step)

    def step(self, step):
        if isinstance(step, Wait):
            self.waits.append(step.seconds)
            self.now += step.seconds
            if self.slots:
                asked = lambda sent: {node: [self.slots[node]] for node in sent}  # noqa: E731
                run(learn(self.topology, list(self.topology.nodes)), asked)
            return None
        self.sent.append({node: list(sent) for node, sent in step.items()})
        return {node: self.answer(node, list(sent)) for node, sent in step.items()}


def echo(node, commands):
    return [(node.port, *command) for command in commands]


def owner_of(key, nodes=3):
    [(slot, _)] = split(("GET", key)).parts
    return slot * nodes // SLOTS + 1


def test_each_command_goes_to_the_node_of_its_key_in_one_batch():
    play = Play(echo)
    keys = [keys.hll for keys in BUCKETS]
    assert play.run(*(("GET", key) for key in keys)) == [(owner_of(key), "GET", key) for key in keys]
    assert len(play.sent) == 1
    assert len(play.sent[0]) == 3


def test_keys_of_a_bucket_are_in_one_slot():
    for bucket in BUCKETS:
        assert len({slot for key in bucket[:5] for slot, _ in split(("GET", key)).parts}) == 1


@pytest.mark.parametrize("name", ["GET", "UNLINK", "EXISTS", "PFCOUNT"])
def test_a_key_may_be_bytes(name):
    keys = ["k", "é", "{a}b"]
    for key in keys:
        [(slot, _)] = split((name, key)).parts
        assert [part for part, _ in split((name, key.encode())).parts] == [slot]
    several = [(name, *keys), (name, *(key.encode() for key in keys))]
    assert [slot for slot, _ in split(several[0]).parts] == [slot for slot, _ in split(several[1]).parts]


def test_what_has_keys_in_several_slots_is_sent_in_parts_and_joined():
    held = {keys.counted: b"%d" % number for number, keys in enumerate(BUCKETS) if number % 2}

    def answer(_node, commands):
        return [
            [held.get(key) for key in keys] if name == "MGET" else sum(key in held for key in keys)
            for name, *keys in commands
        ]

    names = [keys.counted for keys in BUCKETS]
    assert Play(answer).run(("MGET", *names), ("EXISTS", *names), ("DEL", *names)) == [
        [held.get(name) for name in names],
        len(held),
        len(held),
    ]


def test_unions_of_several_slots_are_the_servers_to_the_digit():
    sketches, union = {}, empty()
    for number, keys in enumerate(BUCKETS[:-1]):
        registers = empty()
        fold(registers, bulk.hashes_of_bytes([f"{number} {n}".encode() for n in range(100 * number)]))
        fold(union, bulk.hashes_of_bytes([f"{number} {n}".encode() for n in range(100 * number)]))
        sketches[keys.hll] = codec.encode(registers)
    answer = lambda _node, commands: [sketches.get(key) for _, key in commands]  # noqa: E731
    assert Play(answer).run(("PFCOUNT", *(keys.hll for keys in BUCKETS))) == [cardinality(union)]


def test_scripts_for_several_buckets_are_called_for_each():
    call = calls.call_collapse([calls.Due(keys, str(n)) for n, keys in enumerate(BUCKETS)], recount=True)

    def answer(_node, commands):
        return [[[b"DONE", *command[3:]]] for command in commands]

    [reply] = Play(answer).run(call)
    assert reply == [[b"DONE", *keys[:5], 1, "", str(n)] for n, keys in enumerate(BUCKETS)]


@pytest.mark.parametrize(
    ("sketch", "kind"),
    [
        (b"no sketch", BackendDataError),
        (b"HYLL\x07\x00\x00\x00" + bytes(8), BackendResponseError),  # perhaps a newer server's
    ],
)
def test_a_corrupt_sketch_among_several_slots_is_about_data(sketch, kind):
    [reply] = Play(lambda _node, commands: [sketch] * len(commands)).run(
        ("PFCOUNT", *(keys.hll for keys in BUCKETS))
    )
    assert type(reply) is kind
    assert "cannot be united" in str(reply)


def test_a_script_whose_keys_do_not_belong_together_is_refused_and_others_are_not():
    call = calls.call_aggregate(BUCKETS[0], "{x}t", BUCKETS[1:3], b"", "keep")
    refused, reply = Play(echo).run(call, ("GET", "k"))
    assert isinstance(refused, BackendResponseError)
    assert reply[1:] == ("GET", "k")


def test_all_masters_tell_of_themselves_below_their_addresses():
    answer = lambda node, _commands: [b"run_id:%d\r\n" % node.port]  # noqa: E731
    [told] = Play(answer).run(("INFO", "server"))
    assert told.decode() == "".join(f"{OF_NODE}10.0.0.1:{n}\r\nrun_id:{n}\r\n" for n in (1, 2, 3))


def test_of_masters_that_do_not_answer_the_others_tell():
    def answer(node, _commands):
        return redis.TimeoutError("no") if node == B else [b"run_id:%d\r\n" % node.port]

    [told] = Play(answer).run(("INFO", "server"))
    assert b"run_id:1" in told
    assert b"run_id:2" not in told


def test_a_command_for_one_node_goes_there_and_nowhere_else():
    play = Play(echo)
    new = Node("10.0.0.9", 7)  # without slots
    replies = play.run(*((AT_NODE, node.address, "SCAN", node.port) for node in (A, new)))
    assert replies == [(1, "SCAN", 1), (7, "SCAN", 7)]
    assert play.sent == [{A: [("SCAN", 1)], new: [("SCAN", 7)]}]


def test_a_command_for_one_node_waits_for_it():
    play = Play(lambda node, _commands: redis.ConnectionError("no"), patience=1)
    [reply] = play.run((AT_NODE, A.address, "SCAN", 0))
    assert isinstance(reply, Failed)
    assert sum(play.waits) > 0.5
    assert all(set(sent) == {A} for sent in play.sent)


def test_a_scan_that_names_no_node_is_refused():
    [reply] = Play(echo).run(("SCAN", 0))
    assert isinstance(reply, BackendResponseError)


def test_who_serves_what_is_asked_of_all_masters_as_they_are_now():
    play = Play(lambda node, _commands: [b"%d\n" % node.port])
    [told] = play.run(NODES)
    assert told.decode() == "".join(f"{OF_NODE}10.0.0.1:{n}\r\n{n}\n" for n in (1, 2, 3))
    assert play.waits == [0]


def test_nobody_waits_for_what_one_of_many_does_not_tell():
    def answer(node, _commands):
        return redis.ConnectionError("no") if node == B else [b"run_id:%d\r\n" % node.port]

    play = Play(answer, patience=5)
    [told] = play.run(("INFO", "server"))
    assert f"{OF_NODE}{B.address}\r\n{OF_FAILURE}" in told.decode()
    assert sum(play.waits) == 0


MOVED = (
    lambda slot, node: redis.ResponseError(f"MOVED {slot} {node.host}:{node.port}"),
    lambda slot, node: type("MovedError", (redis.ResponseError,), {})(f"{slot} {node.host}:{node.port}"),
)


@pytest.mark.parametrize("moved", MOVED)
def test_a_slot_that_moved_is_asked_elsewhere_without_patience_and_remembered(moved):
    [(slot, _)] = split(("GET", "k")).parts
    here = slot * 3 // SLOTS
    elsewhere = (A, B, C)[(here + 1) % 3]

    def answer(node, commands):
        return [command if node == elsewhere else moved(slot, elsewhere) for command in commands]

    play = Play(answer)
    assert play.run(("GET", "k")) == [("GET", "k")]
    assert play.waits == [0]  # in which the topology is learned
    play.run(("GET", "k"))
    assert play.sent[-1] == {elsewhere: [("GET", "k")]}


@pytest.mark.parametrize("moved", MOVED)
@pytest.mark.parametrize("name", ["", "?"])
def test_a_node_without_a_name_is_at_the_host_of_whoever_tells_of_it(moved, name):
    """As of CLUSTER SLOTS."""
    [(slot, _)] = split(("GET", "k")).parts
    elsewhere = Node(A.host, 6381)

    def answer(node, commands):
        return [command if node == elsewhere else moved(slot, Node(name, 6381)) for command in commands]

    play = Play(answer)
    assert play.run(("GET", "k")) == [("GET", "k")]
    assert play.topology.owners[slot] == elsewhere


def test_a_slot_that_is_moving_is_asked_for_with_the_source_of_its_script():
    call = calls.call_expire(BUCKETS[0], "keep")
    [(slot, _)] = split(call).parts
    target = (A, B, C)[(slot * 3 // SLOTS + 1) % 3]

    def answer(node, commands):
        if node != target:
            return [redis.ResponseError(f"ASK {slot} {target.host}:{target.port}")]
        assert commands[0] == ("ASKING",)
        assert commands[1][:2] == ("EVAL", calls.EXPIRE.source)
        return [b"OK", b"done"]

    play = Play(answer)
    assert play.run(call) == [b"done"]
    assert play.topology.owners[slot] != target


PASSING = {
    "TRYAGAIN": "TryAgainError",
    "CLUSTERDOWN": "ClusterDownError",
    "LOADING": "BusyLoadingError",
    "READONLY": "ReadOnlyError",
    "MASTERDOWN": "MasterDownError",
}


@pytest.mark.parametrize(
    "error",
    [
        *(redis.ResponseError(f"{code} wait") for code in PASSING),
        # What a client makes of them that has a class for the code.
        *(getattr(redis.exceptions, name)("wait") for name in PASSING.values()),
    ],
    ids=[*PASSING, *PASSING.values()],
)
def test_what_passes_is_tried_again_for_as_long_as_one_is_patient(error):
    times = []

    def answer(_node, commands):
        times.append(play.now)
        return [error if play.now < 2 else b"done" for _ in commands]

    play = Play(answer, patience=5)
    assert play.run(("GET", "k")) == [b"done"]
    assert len(times) < 20

    play = Play(answer, patience=1)
    [failed] = play.run(("GET", "k"))
    assert isinstance(failed, Failed)
    assert failed.error is error
    assert play.now <= 1


def test_only_what_failed_is_sent_again():
    lost = []

    def answer(node, commands):
        if node == B and not lost:
            lost.append(commands)
            return redis.ConnectionError("reset")
        return echo(node, commands)

    play = Play(answer)
    replies = play.run(*(("GET", keys.hll) for keys in BUCKETS))
    assert [reply[2] for reply in replies] == [keys.hll for keys in BUCKETS]
    assert play.sent[1:] == [{B: lost[0]}]


def test_a_node_that_is_down_is_an_error_in_the_places_of_its_own_commands():
    answer = lambda node, sent: redis.TimeoutError("no") if node == B else echo(node, sent)  # noqa: E731
    replies = Play(answer).run(*(("GET", keys.hll) for keys in BUCKETS))
    for keys, reply in zip(BUCKETS, replies, strict=True):
        assert isinstance(reply, Failed) == (owner_of(keys.hll) == B.port)


def test_what_any_master_may_answer_is_asked_of_one_that_is_up():
    play = Play(echo)
    assert play.run(("TIME",), ("PING",)) == [(A.port, "TIME"), (A.port, "PING")]
    play.down = {A}
    assert play.run(("TIME",)) == [(B.port, "TIME")]
    play.down = {A, B, C}  # as far as is known: somebody has to be asked
    assert play.run(("TIME",)) == [(A.port, "TIME")]
    assert play.waits == []


@pytest.mark.parametrize(
    "failure",
    [
        lambda _sent: redis.TimeoutError("no"),
        lambda sent: [redis.ResponseError("LOADING wait") for _ in sent],
    ],
)
def test_what_one_master_did_not_answer_the_next_is_asked(failure):
    answer = lambda node, sent: echo(node, sent) if node == C else failure(sent)  # noqa: E731
    play = Play(answer)
    assert play.run(("TIME",)) == [(C.port, "TIME")]
    assert [list(sent) for sent in play.sent] == [[A], [B], [C]]
    assert play.waits == [0, 0]
    play.answer = lambda _node, sent: failure(sent)
    [failed] = play.run(("TIME",))
    assert isinstance(failed, Failed)


def test_the_topology_is_asked_of_one_node_after_the_other():
    topology = Topology(nodes=[A, B, C])
    asked = []

    def answer(sent):
        [(node, commands)] = sent.items()
        assert commands == [("CLUSTER", "SLOTS")]
        asked.append(node)
        if node == A:
            return {node: redis.TimeoutError("no")}
        return {node: [redis.ResponseError("LOADING wait") if node == B else [[0, SLOTS - 1, [*C]]]]}

    run(learn(topology, topology.nodes), answer)
    assert asked == [A, B, C]
    assert topology.masters == [C]


def told(topology, answers):
    """Learn of nodes what they answer to CLUSTER SLOTS; returns whom it was asked of."""
    asked = []

    def answer(sent):
        [node] = sent
        asked.append(node)
        reply = answers[node]
        return {node: reply if isinstance(reply, Exception) else [reply]}

    run(learn(topology, topology.nodes), answer)
    return asked


def test_who_knows_of_no_slots_or_of_few_is_not_believed_if_another_knows_more():
    all_slots = thirds()
    few = [[0, 99, [*A]]]
    topology = Topology(nodes=[A, B, C])
    assert told(topology, {A: [], B: few, C: all_slots}) == [A, B, C]
    assert topology.masters == [A, B, C]
    topology.nodes = [A, B, C]
    assert told(topology, {A: [], B: [], C: []}) == [A, B, C]
    assert topology.masters == [A, B, C]
    assert topology.owners[0] == A
    # As far as it is known; nobody waits for a dead node to tell more.
    assert told(topology, {A: few, B: redis.TimeoutError("no"), C: all_slots}) == [A, B]
    assert topology.owners[0] == A
    assert topology.owners[100] is None
    topology.nodes = [A, B, C]
    assert told(topology, {A: redis.TimeoutError("no"), B: [], C: few}) == [A, B, C]


def test_the_topology_is_asked_of_another_node_each_time():
    """Who is cut off from the others goes on telling what was so before."""
    topology = Topology(nodes=[A])
    answers = dict.fromkeys((A, B, C), thirds())
    assert [told(topology, answers) for _ in range(5)] == [[A], [B], [C], [A], [B]]


def test_what_is_learned_of_a_node_that_is_cut_off_leads_to_one_that_is_not():
    promoted = Node(A.host, 4)
    bounds = [(first, last) for first, last, _ in thirds()]
    now = [[*each, node] for each, node in zip(bounds, (promoted, B, C), strict=True)]
    answer = lambda node, sent: [redis.ResponseError("CLUSTERDOWN no")] if node == A else echo(node, sent)  # noqa: E731
    play = Play(answer)
    play.topology = Topology(nodes=[A, B, C])
    play.slots = {A: thirds(), B: now}
    key = next(keys.hll for keys in BUCKETS if owner_of(keys.hll) == A.port)
    assert play.run(("GET", key)) == [(promoted.port, "GET", key)]
    assert [list(sent) for sent in play.sent] == [[A], [promoted]]


def test_a_topology_that_nobody_tells_is_an_error_unless_one_is_known():
    def silent(sent):
        return dict.fromkeys(sent, redis.TimeoutError("no"))

    with pytest.raises(UnknownTopologyError) as caught:
        run(learn(Topology(nodes=[A, B]), [A, B]), silent)
    assert isinstance(caught.value.error, redis.TimeoutError)
    assert caught.value.address == "10.0.0.1:1,10.0.0.1:2"
    run(learn(Play(echo).topology, [A]), silent)


DENIED = redis.AuthenticationError("no such user")


def test_who_denies_access_is_asked_for_the_topology_once_and_others_are_too():
    topology = Topology(nodes=[A, B, C])
    assert told(topology, {A: DENIED, B: thirds(), C: thirds()}) == [A, B]
    assert topology.masters == [A, B, C]

    asked = []
    answers = {A: redis.TimeoutError("no"), B: DENIED}
    with pytest.raises(UnknownTopologyError) as caught:
        run(
            learn(Topology(), [A, B, C], {C: DENIED}),
            lambda sent: asked.append([*sent]) or {node: answers[node] for node in sent},
        )
    assert asked == [[A], [B]]
    assert caught.value.error is DENIED
    assert caught.value.address == "10.0.0.1:3,10.0.0.1:2"


def test_who_denies_access_is_an_error_of_its_own_commands_and_is_not_asked_again():
    answer = lambda node, sent: DENIED if node == B else echo(node, sent)  # noqa: E731
    play = Play(answer, patience=5)
    for keys, reply in zip(BUCKETS, play.run(*GETS), strict=True):
        assert reply == (Failed(DENIED, B) if owner_of(keys.hll) == B.port else (*reply[:1], "GET", keys.hll))
    assert sum(B in sent for sent in play.sent) == 1
    assert play.now == 0


def test_who_denied_access_a_moment_ago_is_not_asked_again_so_soon():
    cluster = BaseCluster(ClusterSettings([A, B], None, {}))
    cluster.settings.failed(A, DENIED)
    assert cluster.absent([A, B]) == {A: DENIED}
    assert next(cluster.learning()) == {B: [("CLUSTER", "SLOTS")]}
    cluster.settings.answered(A)
    assert cluster.absent([A, B]) == {}
    assert next(cluster.learning()) == {A: [("CLUSTER", "SLOTS")]}


def test_what_any_master_may_answer_is_asked_of_one_that_lets_the_user_in():
    play = Play(lambda node, sent: DENIED if node == A else echo(node, sent))
    assert play.run(("TIME",)) == [(B.port, "TIME")]
    play.answer = lambda _node, _sent: DENIED
    assert play.run(("TIME",)) == [Failed(DENIED, C)]
    assert [list(sent) for sent in play.sent] == [[A], [B], [A], [B], [C]]


def test_a_slot_whose_master_was_replaced_by_a_node_that_denies_access_is_its_new_masters():
    promoted = Node(A.host, 4)
    play = Play(lambda node, sent: DENIED if node == A else echo(node, sent))
    play.slots = {B: [[first, last, promoted if node == A else node] for first, last, node in thirds()]}
    play.topology.nodes = [B]
    key = next(keys.hll for keys in BUCKETS if owner_of(keys.hll) == A.port)
    assert play.run(("GET", key)) == [(promoted.port, "GET", key)]


def test_of_nodes_that_run_a_script_who_denies_access_says_so():
    script = ("EVAL", "return", 0)
    [told] = Play(lambda node, _sent: DENIED if node == B else [b"x"]).run(script)
    assert f"{OF_NODE}{B.address}\r\n{OF_DENIAL}no such user".encode() in told
    assert told.count(b"x") == 2


# Reading from replicas


def with_replicas(answer, **options):
    """A cluster each of whose masters, at ports 1 to 3, has replicas at 10 and 100 times that."""
    play = Play(answer, **options)
    ranges = [(first, last, node) for first, last, node in thirds()]
    replicas = {node: [Node(node.host, 10**power * node.port) for power in (1, 2)] for *_, node in ranges}
    play.topology.learn([[first, last, node, *replicas[node]] for first, last, node in ranges], A)
    play.from_replicas = True
    play.topology.fresh_until = 60.0
    return play


def thirds():
    bounds = [-(-SLOTS * index // 3) for index in range(4)]
    return [(first, end - 1, node) for first, end, node in zip(bounds, bounds[1:], (A, B, C), strict=False)]


GETS = [("GET", keys.hll) for keys in BUCKETS]


def test_what_keys_hold_is_asked_of_the_same_replica_each_time():
    play = with_replicas(echo)
    for _ in range(5):
        ports = [reply[0] for reply in play.run(*GETS)]
        owners = [owner_of(key) for _, key in GETS]
        assert all(port in (10 * owner, 100 * owner) for port, owner in zip(ports, owners, strict=True))
    assert all(sent == play.sent[0] for sent in play.sent)
    assert all(node.is_replica for node in play.sent[0])
    play.from_replicas = False
    assert [reply[0] for reply in play.run(*GETS)] == owners


def test_processes_differ_in_the_replicas_they_ask():
    assert {with_replicas(echo).run(GETS[0])[0][0] for _ in range(50)} == {
        power * owner_of(GETS[0][1]) for power in (10, 100)
    }


def test_what_has_no_key_is_asked_of_masters():
    play = with_replicas(lambda node, sent: [[0, []] if name == "SCAN" else b"" for name, *_ in sent])
    play.run(("TIME",), ("INFO", "server"))
    assert set(play.sent[0]) == {A, B, C}


@pytest.mark.parametrize("command", ["SSCAN", "HSCAN"])
def test_what_is_read_by_a_cursor_is_asked_of_masters(command):
    play = with_replicas(lambda node, sent: [[0, []]] * len(sent))
    play.run(*((command, keys.raw, 0) for keys in BUCKETS))
    assert set(play.sent[0]) == {A, B, C}


@pytest.mark.parametrize(
    "failure",
    [
        lambda _sent: redis.ConnectionError("gone"),
        lambda sent: [redis.ResponseError("LOADING wait") for _ in sent],
        lambda sent: [redis.ResponseError("MASTERDOWN wait") for _ in sent],
        lambda sent: [redis.ResponseError("CLUSTERDOWN wait") for _ in sent],
        lambda _sent: DENIED,
    ],
)
def test_what_a_replica_does_not_answer_its_master_is_asked_at_once(failure):
    play = with_replicas(lambda node, sent: failure(sent) if node.is_replica else echo(node, sent))
    assert [reply[0] for reply in play.run(*GETS)] == [owner_of(key) for _, key in GETS]
    assert len(play.sent) == 2
    assert play.waits == [0]


def test_a_replica_that_is_down_is_left_out():
    play = with_replicas(echo)
    [first] = play.run(GETS[0])
    play.down = {Node(A.host, first[0], is_replica=True)}
    [second] = play.run(GETS[0])
    assert {first[0], second[0]} == {power * owner_of(GETS[0][1]) for power in (10, 100)}
    play.down.add(Node(A.host, second[0], is_replica=True))
    assert play.run(GETS[0])[0][0] == owner_of(GETS[0][1])
    assert play.waits == []


def test_a_replica_whose_slot_has_moved_says_to_whom():
    [(slot, _)] = split(GETS[0]).parts
    elsewhere = (A, B, C)[owner_of(GETS[0][1]) % 3]

    def answer(node, sent):
        return echo(node, sent) if node == elsewhere else [MOVED[1](slot, elsewhere) for _ in sent]

    play = with_replicas(answer)
    assert play.run(GETS[0]) == [(elsewhere.port, *GETS[0])]


def test_replicas_are_looked_for_again_each_minute():
    play = Play(echo)
    play.run(("GET", "k"))
    assert play.waits == []
    play.from_replicas = True
    for now in (0.0, 59.0, 60.0, 119.0):
        play.now = now
        play.run(("GET", "k"))
    assert play.waits == [0, 0]


def test_other_errors_are_replies():
    answer = lambda _node, sent: [redis.ResponseError("WRONGTYPE no") for _ in sent]  # noqa: E731
    play = Play(answer, patience=5)
    [failed] = play.run(("GET", "k"))
    assert "WRONGTYPE" in str(failed.error)
    assert len(play.sent) == 1


def test_the_topology_of_a_node_that_does_not_know_its_own_name():
    topology = Topology(nodes=[A])
    topology.learn(
        [[0, 8191, [b"", 1, b"id"], [b"10.0.0.9", 5, b"id"]], [8192, 16383, [b"10.0.0.1", 2, b"i"]]], A
    )
    assert topology.owners[0] == A
    assert topology.owners[-1] == B
    assert topology.masters == [A, B]
    assert Node("10.0.0.9", 5) in topology.nodes


def test_a_cluster_that_serves_nothing():
    play = Play(echo)
    play.topology = Topology(nodes=[A])
    scripts = ("EVAL", "return", 0), ("EVALSHA", "0" * 40, 0)
    replies = play.run(("INFO",), ("GET", "k"), ("TIME",), *scripts)
    assert all(isinstance(reply, BackendResponseError) for reply in replies)
    assert {str(reply) for reply in replies} == {
        "no node of the cluster serves any slot, as 10.0.0.1:1 tells: is it one of its nodes?"
    }
    assert play.sent == []


def test_a_slot_that_nobody_serves():
    play = Play(echo)
    play.topology.learn([[0, 0, [*A]]], B)
    [(slot, _)] = split(("GET", "k")).parts
    [reply] = play.run(("GET", "k"))
    assert isinstance(reply, BackendResponseError)
    assert str(reply).startswith(f"no node of the cluster serves slot {slot}, as 10.0.0.1:2 tells: redis-cli")
