"""Rights (ACL): each role has all that its calls need and nothing else, and what is missing is named."""

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from activity_tracker_hll import ActivityTracker, ArgumentValueError, BackendAuthError, CollapseError
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.keys import Keys
from activity_tracker_hll.operations import rights, server
from activity_tracker_hll.operations.rights import OF_CLUSTER, RIGHTS, ROLES, Lack, commands, rules
from activity_tracker_hll.scripts.calls import SCRIPTS
from activity_tracker_hll.scripts.rights import commands_of
from helpers import duties
from helpers.archives import state
from helpers.awaited import Awaited
from helpers.clusters import SLOTS, key_slot
from helpers.errors import raises
from helpers.moments import TODAY, YESTERDAY, day
from helpers.servers import eventually

KEYS = Keys()
EXTRA = {"config|get", "memory|usage", "cluster|info"}
"""What examine() asks too, if it may."""
OF_CONNECTIONS = {"hello", "auth", "client|setinfo"}
"""What clients send by themselves: allowed to all, or no matter if it is refused."""
QUIET = {"info", "time"}
"""Without these, calls do less well, and raise nothing."""


def allow(client, role=None, *, without=None, is_cluster=False):
    """Make the user, with the rights of a role but one."""
    given = rules(KEYS, ROLES if role is None else [role], is_cluster=is_cluster)
    if without is not None:
        given.remove(without)
    client.execute_command("ACL", "SETUSER", "user", "reset", "on", ">secret", *given)


@pytest.fixture
def make(real_server):
    """Makes trackers of the user."""
    made = []

    def make(**options):
        options = {"username": "user", "password": "secret", **duties.SETTINGS, **options}
        made.append(ActivityTracker(["daily"], **real_server.options, **options))
        return made[-1]

    yield make
    for tracker in made:
        tracker.close()
    real_server.client.execute_command("ACL", "DELUSER", "user")


@pytest.fixture
def prepared(real_server, tmp_path):
    """A server with data, which knows no script."""
    duties.prepare(real_server.client, real_server.tracker(secret="pepper"), tmp_path)
    real_server.client.script_flush()
    return real_server.client


def refusals(calls):
    """What calls raise because of rights."""
    found = []
    for call in calls:
        try:
            call()
        except BackendAuthError as error:
            found.append(error)
        except CollapseError as error:
            found += [failure for _, _, failure in error.failures]
    assert [error for error in found if not isinstance(error, BackendAuthError)] == []
    return [str(error) for error in found]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_the_rights_that_its_calls_need_and_no_others(prepared, make, role, monkeypatch, tmp_path):
    monkeypatch.setattr(server, "lacking", lambda context, _: rights.lacking(context, ()))  # it tries all
    allow(prepared, role)
    prepared.config_resetstat()
    assert refusals(duties.CALLS[role](make, tmp_path)) == []
    ran = {name.removeprefix("cmdstat_") for name, of in prepared.info("commandstats").items() if of["calls"]}
    assert ran - EXTRA - OF_CONNECTIONS - {"config|resetstat"} == set(commands([role]))


ORDER = ("restore", "read", "collapse", "track")


@pytest.mark.parametrize(
    ("role", "right"),
    [
        pytest.param(
            max(of, key=ORDER.index),
            f"+{command}",
            marks=() if command in {"pfadd", "pfmerge", "get"} else pytest.mark.extended,
        )
        for command, of in RIGHTS.items()
    ]
    + [
        pytest.param("restore", f"+{command}", marks=pytest.mark.extended)
        for command in ("hsetnx", "expireat", "pexpire", "pfmerge", "sadd", "ttl", "zadd")
    ]
    + [(role, pattern) for role in ROLES for pattern in KEYS.patterns()],
)
def test_a_right_that_is_missing_is_named(prepared, make, role, right, tmp_path):
    allow(prepared, role, without=right)
    assert make().examine(role=role).lacking == (Lack(right),)
    found = refusals(duties.CALLS[role](make, tmp_path))
    named = [error for error in found if f"give the user {right}," in error or right in KEYS.patterns()]
    assert named == found
    assert found or right[1:] in QUIET
    if right in KEYS.patterns():
        patterns = r"give the user ~active:(new:)?\* ~{active:\1?\*,"
        assert [error for error in found if not re.search(patterns, error)] == []


@pytest.mark.parametrize("secret", ["pepper", None])
@pytest.mark.parametrize("right", ["+set", "+del", "+expireat", "+persist"])
def test_an_aggregate_that_a_right_was_missing_for_is_counted_once_it_is_there(
    real_server, make, secret, right
):
    """A script ends where a command is denied: what it has stored until then must not stay."""
    tracker = real_server.tracker(secret=secret)
    for bucket in duties.BUCKETS:
        tracker.track_many(range(50), bucket=bucket, date=YESTERDAY)
    allow(real_server.client, "collapse", without=right)
    job = make(secret=secret, aggregate_buckets=duties.AGGREGATES)
    refusals([job.collapse])
    for name in duties.AGGREGATES:
        keys = duties.named(YESTERDAY, name)
        left = real_server.client.ttl(keys.hll)
        assert left != -1 or real_server.client.exists(keys.counted)
        if 0 < left <= 60:
            real_server.client.delete(keys.hll)  # a minute later
    allow(real_server.client, "collapse")
    job.collapse()
    assert job.lookup(start=YESTERDAY, buckets=[*duties.AGGREGATES], live=False)[0][1] == {
        "both": 50,
        "plain": 50,
    }


@pytest.mark.parametrize(
    "right",
    [
        "+set",
        "+zadd",
        *(pytest.param(f"+{name}", marks=pytest.mark.extended) for name in ("expireat", "pfcount", "ttl")),
        *(
            pytest.param(f"+{name}", marks=pytest.mark.extended)
            for name in ("pexpire", "pfadd", "pttl", "sadd")
        ),
    ],
)
def test_what_a_right_was_missing_for_is_restored_once_it_is_there(prepared, make, right, tmp_path):
    """Scripts end where a command is denied; what they did until then is united with what comes."""
    path = tmp_path / duties.ARCHIVE

    def restored():
        """What the server holds after it, and what has no expiry once all is counted."""
        make().restore(path)
        held = {key: value for key, value in state(prepared).items() if ":tmp:" not in key}
        make(username="default", password="").collapse()
        return held, {key for key in prepared.scan_iter() if prepared.ttl(key) == -1}

    prepared.flushall()
    allow(prepared, "restore")
    whole = restored()
    prepared.flushall()
    allow(prepared, "restore", without=right)
    [refused] = refusals([lambda: make().restore(path)])
    assert f"give the user {right}," in refused
    allow(prepared, "restore")
    assert restored() == whole


def test_nothing_is_changed_by_looking_for_rights(prepared, make):
    allow(prepared)
    before = {key: prepared.dump(key) for key in prepared.scan_iter()}
    assert make().examine().lacking == ()
    assert {key: prepared.dump(key) for key in prepared.scan_iter()} == before


def test_all_that_is_missing_is_told_at_once(real_server, make):
    client = real_server.client
    client.execute_command("ACL", "SETUSER", "user", "reset", "on", ">secret", "~active:*", "+eval", "+info")
    found = make().examine()
    wanted = {*rules(KEYS)} - {"+eval", "+info", "~active:*"}
    # Keys are only looked at by commands that are allowed.
    assert {lack.right for lack in found.lacking} == wanted - {"~{active:*"}
    assert not found.agrees
    [told] = [warning for warning in found.warnings if "rights" in warning]
    assert told == f"the user lacks rights: {' '.join(lack.right for lack in found.lacking)} (ACL SETUSER)"
    client.execute_command("ACL", "SETUSER", "user", "-eval")
    found = make().examine()
    assert found.lacking == (Lack("+eval"), Lack("+evalsha"))
    assert "cannot be found out without +eval" in found.warnings[-1]


def test_another_namespace(real_server, make):
    allow(real_server.client)
    found = make(namespace="o*her").examine()
    assert found.lacking == (Lack(r"~o\*her:*"), Lack(r"~{o\*her:*"))
    allow_other = ["ACL", "SETUSER", "user", *(lack.right for lack in found.lacking)]
    real_server.client.execute_command(*allow_other)
    assert make(namespace="o*her").examine().lacking == ()
    assert make(namespace="other").examine().lacking == (Lack("~other:*"), Lack("~{other:*"))


def test_all_commands_that_a_script_lacks_are_named(prepared, make):
    allow(prepared)
    prepared.execute_command("ACL", "SETUSER", "user", "-pttl", "-zcard", "-rename")
    with raises(BackendAuthError, "give the user .*zcard") as caught:
        make().track(id=3, bucket="a", date=YESTERDAY)
    assert "rename" not in str(caught.value)  # another script's

    async def main():
        options = {"username": "user", "password": "secret", **duties.SETTINGS}
        async with AsyncActivityTracker(["daily"], unix_socket_path=path, **options) as tracker:
            await tracker.track(id=3, bucket="a", date=YESTERDAY)

    path = prepared.connection_pool.connection_kwargs["path"]
    with raises(BackendAuthError, "give the user .*zcard"):
        asyncio.run(main())


def test_a_sketch_that_may_not_be_read_is_not_taken_for_one_that_cannot(prepared, make):
    allow(prepared, without="+get")
    with raises(BackendAuthError, r"\+get"):
        make().lookup(start=day(3), live=True)


def test_commands_of_scripts_are_those_of_the_functions_they_use():
    called = {script.name: commands_of(script.sha) for script in SCRIPTS}
    assert called["expire"] == ["expireat", "persist", "time", "ttl"]
    assert called["lengthen"] == ["hget", "hset"]
    assert {"pfadd", "zadd", "zcount", "del"} <= set(called["write"])
    assert called["write"] == [name for name in called["write"] if "track" in RIGHTS[name]]
    assert called["unite"] == [name for name in called["unite"] if "track" in RIGHTS[name]]
    assert {name for of in called.values() for name in of} <= RIGHTS.keys()
    assert all(commands_of(script.source) == commands_of(script.sha) for script in SCRIPTS)
    assert commands_of("no script") == []


def test_the_page_has_the_rights_of_the_table():
    page = Path(__file__).parents[2] / "docs" / "rights_and_tls.rst"
    text = re.sub(r" *\\\n *", " ", page.read_text("utf-8"))
    found = re.findall(r"ACL SETUSER (\S+) on \S+ resetkeys -@all (.*)", text)
    shown = [(name, rights.replace("'", "").replace("\\", "").split()) for name, rights in found]
    of_roles = [(f"shop-{role}", rules(KEYS, [role])) for role in ROLES]
    assert shown == [("shop", rules(KEYS)), *of_roles, ("shop", [*_in_front(OF_CLUSTER), *rules(KEYS)[2:]])]


def _in_front(of_cluster):
    return [*KEYS.patterns(), *(f"+{command}" for command in of_cluster)]


def test_a_role_that_there_is_not(server):
    with raises(
        ArgumentValueError, "role must be one of 'track', 'read', 'collapse', 'restore', got 'admin'"
    ):
        server.tracker().examine(role="admin")


def test_a_server_that_does_not_tell():
    fakeredis = pytest.importorskip("fakeredis")
    with ActivityTracker(["daily"], client=fakeredis.FakeRedis()) as tracker:
        assert tracker.examine().lacking is None


# Of a cluster


@pytest.fixture(params=["valkey", "redis"])
def cluster(request, started_cluster):
    cluster = started_cluster(request.param)
    cluster.flush()
    for node in cluster.nodes:
        allow(node.client, is_cluster=True)
    yield cluster
    for node in cluster.nodes:
        node.client.execute_command("ACL", "DELUSER", "user")


@pytest.fixture
def of_cluster(cluster):
    """Makes trackers of the user."""
    made = []

    def make(**options):
        options = {"username": "user", "password": "secret", **duties.SETTINGS, **options}
        made.append(ActivityTracker(["daily"], url=cluster.url, **options))
        return made[-1]

    yield make
    for tracker in made:
        tracker.close()


@pytest.mark.parametrize("role", ROLES)
def test_the_rights_on_a_cluster(cluster, of_cluster, role, tmp_path):
    with ActivityTracker(["daily"], url=cluster.url, **duties.SETTINGS) as tracker:
        duties.prepare(cluster.client(), tracker, tmp_path)
    for node in cluster.nodes:
        allow(node.client, role, is_cluster=True)
    assert refusals(duties.CALLS[role](of_cluster, tmp_path)) == []
    assert of_cluster().examine(role=role).lacking == ()


def test_what_the_nodes_of_a_cluster_lack(cluster, of_cluster):
    master, replica = cluster.masters[1], cluster.replicas[2]
    where = [f"127.0.0.1:{node.port}" for node in (master, replica)]
    allow(master.client, without="+pfmerge", is_cluster=True)
    allow(replica.client, without="+eval", is_cluster=True)
    found = of_cluster().examine()
    assert set(found.lacking) == {Lack("+pfmerge", where[0]), Lack("+eval", where[1])}
    assert f"the user lacks rights on {where[0]}: +pfmerge (ACL SETUSER)" in found.warnings
    for node in cluster.nodes:
        allow(node.client, without="+evalsha", is_cluster=True)
    assert {lack.right for lack in of_cluster().examine().lacking} == {"+evalsha"}
    assert len(of_cluster().examine().lacking) == 6


def test_where_slots_are_may_be_asked_of_one_node_at_least(cluster, of_cluster):
    for node in cluster.nodes:
        allow(node.client, without="+cluster|slots", is_cluster=True)
    for call in (lambda: of_cluster().track(id=1, bucket="a"), lambda: of_cluster().examine()):
        with raises(BackendAuthError, r"give the user \+cluster\|slots,"):
            call()
    allow(cluster.masters[2].client, is_cluster=True)
    of_cluster().track(id=1, bucket="a")
    assert {lack.right for lack in of_cluster().examine().lacking} == {"+cluster|slots"}
    assert len(of_cluster().examine().lacking) == 5


def test_a_slot_that_moves_is_asked_for(cluster, of_cluster):
    slot = cluster.masters[0].client.execute_command("CLUSTER", "KEYSLOT", duties.named(TODAY, "a").hll)
    source = cluster.masters[next(index for index in range(3) if slot < SLOTS * (index + 1) // 3)]
    target = next(node for node in cluster.masters if node is not source)
    tracker = of_cluster()
    tracker.track(id=1, bucket="b")
    ids = {node: cluster.id_of(node) for node in (source, target)}
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    try:
        allow(target.client, without="+asking", is_cluster=True)
        with raises(BackendAuthError, r"give the user \+asking,", str(target.port)):
            tracker.track(id=1, bucket="a")
        assert of_cluster().examine().lacking == (Lack("+asking", f"127.0.0.1:{target.port}"),)
        allow(target.client, is_cluster=True)
        tracker.track(id=1, bucket="a")
    finally:
        for node in (source, target):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


def test_a_node_that_does_not_know_the_user(cluster, of_cluster):
    """As one that is new or was rebuilt: nodes do not tell each other of users. All others are used."""
    stranger, replica = cluster.masters[0], cluster.replicas[1]
    address, of_replica = (f"127.0.0.1:{node.port}" for node in (stranger, replica))
    buckets = [f"b{index}" for index in range(60)]
    slots = {bucket: key_slot(duties.named(TODAY, bucket).hll.encode()) for bucket in buckets}
    others = [bucket for bucket in buckets if slots[bucket] > SLOTS // 3]
    held = cluster.client()

    def have(count):
        return [bucket for bucket in buckets if held.pfcount(duties.named(TODAY, bucket).hll) == count]

    used = of_cluster()
    for bucket in buckets:
        used.track(id=0, bucket=bucket)
    with used.buffered(flush_interval=0.1) as writer:
        writer.track(id=0, bucket="b0")
        assert writer.flush(30).pending == 0
        for node in (stranger, replica):
            node.client.execute_command("ACL", "DELUSER", "user")
        for bucket in buckets:
            writer.track(id=1, bucket=bucket)
        eventually(lambda: have(2) == others)
        assert writer.statistics.pending == len(buckets) - len(others)
        for number, tracker in enumerate((used, of_cluster()), 2):
            for bucket in buckets:
                if bucket in others:
                    tracker.track(id=number, bucket=bucket)
                else:
                    with raises(BackendAuthError, f" {address} refuses the password"):
                        tracker.track(id=number, bucket=bucket)
        with raises(BackendAuthError, f" {address} refuses the password"):
            used.import_events([(4, bucket, TODAY) for bucket in buckets])
        asyncio.run(track_asynchronously(cluster, others, address))
        assert have(6) == others
        assert set(used.examine().lacking) == {Lack("on", address), Lack("on", of_replica)}
        found = of_cluster().examine()
        assert set(found.lacking) == {Lack("on", address), Lack("on", of_replica)}
        nodes = ", ".join(sorted([address, of_replica]))
        assert [warning for warning in found.warnings if address in warning] == [
            f"1 master cannot be examined ({address}): of what is there, nothing is told here",
            f"{nodes} cannot be logged in to: the user or its password is another there (ACL SETUSER)",
        ]
        assert found.server.missing == (address,)
        allow(stranger.client, is_cluster=True)
        assert writer.flush(30).pending == 0
        assert len(have(6)) + len(have(2)) == len(buckets)


def test_a_node_that_has_the_names_of_open_periods_and_does_not_know_the_user(cluster, of_cluster):
    buckets = [f"b{index}" for index in range(20)]
    of = {
        bucket: cluster.owner(cluster.masters[0], key_slot(duties.named(TODAY, bucket).hll.encode()))
        for bucket in buckets
    }
    for bucket in buckets:
        of_cluster().track(id=0, bucket=bucket)
    port = cluster.owner(cluster.masters[0], key_slot(b"active:{open}"))
    [stranger] = [node for node in cluster.masters if node.port == port]
    stranger.client.execute_command("ACL", "DELUSER", "user")
    found = of_cluster().examine()
    assert found.agrees
    assert {entry.bucket for entry in found.entries} == {bucket for bucket in buckets if of[bucket] != port}


async def track_asynchronously(cluster, buckets, stranger):
    options = {"username": "user", "password": "secret", **duties.SETTINGS}
    async with AsyncActivityTracker(["daily"], url=cluster.url, **options) as tracker:
        for bucket in buckets:
            await tracker.track(id=5, bucket=bucket)
        with pytest.raises(BackendAuthError, match=f" {stranger} refuses the password"):
            await tracker.import_events([(5, f"b{index}", TODAY) for index in range(60)])


@pytest.fixture(params=["waits", "asyncio"])
def make_either(request, cluster):
    """Makes trackers of the user, of both kinds."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as trackers:

        def make(password):
            options = {"url": cluster.url, "username": "user", "password": password, **duties.SETTINGS}
            if request.param == "waits":
                return trackers.enter_context(ActivityTracker(["daily"], **options))
            return trackers.enter_context(Awaited(runner, AsyncActivityTracker(["daily"], **options)))

        yield make


def test_each_node_is_told_a_wrong_password_once(cluster, make_either):
    def tries():
        return [sum(entry["count"] for entry in node.client.acl_log()) for node in cluster.masters]

    for node in cluster.nodes:
        node.client.acl_log_reset()
    addresses = ",".join(f"127.0.0.1:{node.port}" for node in cluster.masters)
    with raises(BackendAuthError, f"^{addresses} refuses the password"):
        make_either("wrong").track(id=1, bucket="a")
    assert tries() == [1, 1, 1]

    tracker = make_either("secret")
    buckets = [f"b{index}" for index in range(60)]
    tracker.lookup(start=YESTERDAY, buckets=buckets)
    for node in cluster.nodes:
        node.client.execute_command("ACL", "SETUSER", "user", "resetpass", ">new")
        node.client.client_kill_filter(user="user", skipme=True)
        node.client.acl_log_reset()
    with raises(BackendAuthError, r"127.0.0.1:\d+ refuses the password"):
        tracker.import_events([(1, bucket, TODAY) for bucket in buckets])
    assert tries() == [1, 1, 1]
