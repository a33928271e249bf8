"""TLS and passwords of one server, a cluster, Sentinel; and what is said if they fail.

Asked of Debian's Redis, as the embedded Valkey speaks no TLS.
"""

import asyncio
import gc
import re
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import redis.asyncio
import redis.sentinel

from activity_tracker_hll import ActivityTracker, BackendAuthError, BackendConnectionError
from activity_tracker_hll.aio import AsyncActivityTracker
from helpers.clusters import Cluster
from helpers.errors import raises
from helpers.faults import Node
from helpers.sentinels import SERVICE, Sentinels
from helpers.servers import missing, program
from helpers.tls import Certificates

PASSWORD = "hunter2 / ü"  # noqa: S105 (of the tests' own servers)
IN_URL = "hunter2%20%2F%20%C3%BC"
FAST = {"retries": 0, "socket_timeout": 5.0, "timezone": "UTC"}
pytestmark = [
    pytest.mark.extended,
    # The client does not wait for TLS to say goodbye where access is denied, and here its event loop ends.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def executable():
    return program("redis") or missing("Debian's redis-server")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def node(executable, tls, tmp_path_factory):
    node = Node(executable, tmp_path_factory.mktemp("node"), tls)
    node.start()
    allow(node)
    yield node
    node.close()


def allow(node):
    node.client.execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    node.client.execute_command("ACL", "SETUSER", "default", "resetkeys", "-@write")


@pytest.fixture
def url(node):
    return f"rediss://ann:{IN_URL}@127.0.0.1:{node.port}"


@pytest.fixture(scope="module")
def cluster(executable, tls, tmp_path_factory):
    cluster = Cluster(executable, tmp_path_factory.mktemp("cluster"), tls=tls)
    cluster.start()
    for node in cluster.nodes:
        node.client.execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    yield cluster
    cluster.close()


@pytest.fixture
def cluster_url(cluster):
    return f"rediss+cluster://ann:{IN_URL}@" + cluster.url.partition("://")[2]


def waits(**options):
    """Tracks, counts, and writes; returns how many."""
    with ActivityTracker(["daily"], **options) as tracker:
        tracker.track(id="a")
        with tracker.buffered() as writer:
            writer.track_many(["a", "b"])
            writer.flush(20)
        return int(tracker.lookup(live=True)[-1][1][None])


def awaits(**options):
    """The same, awaited."""

    async def main():
        async with AsyncActivityTracker(["daily"], **options) as tracker:
            await tracker.track(id="a")
            async with tracker.buffered() as writer:
                writer.track_many(["a", "b"])
                await writer.flush(20)
            return int((await tracker.lookup(live=True))[-1][1][None])

    return asyncio.run(main())


def query(tls):
    """The options in the query of a URL, as the command line is given them."""
    return "&".join(f"{name}={value}" for name, value in tls.of_client.items())


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    gc.collect()  # what asyncio's clients left open, while that is no matter


BOTH = pytest.mark.parametrize("use", [waits, awaits])


@BOTH
def test_one_server(url, tls, use):
    assert use(url=url, **tls.of_client, **FAST) == 2


@BOTH
def test_a_cluster(cluster_url, tls, use):
    assert use(url=cluster_url, timezone="UTC", **tls.of_client) == 2
    assert use(url=f"{cluster_url}?{query(tls)}", timezone="UTC") == 2


@BOTH
def test_sentinel(executable, tls, tmp_path, use):
    sentinels = Sentinels(executable, tmp_path, tls)
    try:
        sentinels.start()
        for node in (sentinels.master, sentinels.replica):
            node.client.execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        url = sentinels.url.replace("redis+sentinel://", f"rediss+sentinel://ann:{IN_URL}@")
        assert use(url=url, timezone="UTC", **tls.of_client) == 2
        assert use(url=f"{url}?{query(tls)}", timezone="UTC") == 2
        options = {"ssl": True, **tls.of_client}
        addresses = [("127.0.0.1", port) for port in sentinels.ports]
        sentinel = redis.sentinel.Sentinel(addresses, sentinel_kwargs=options)
        client = sentinel.master_for(SERVICE, username="ann", password=PASSWORD, **options)
        assert waits(client=client, timezone="UTC") == 2
        client.close()
    finally:
        sentinels.close()


def test_clients_that_are_handed_in(node, cluster, tls):
    options = {"username": "ann", "password": PASSWORD, "ssl": True, **tls.of_client}
    with redis.Redis(port=node.port, **options) as client:
        assert waits(client=client, timezone="UTC") == 2
    with redis.RedisCluster("127.0.0.1", cluster.masters[0].port, **options) as client:
        assert waits(client=client, timezone="UTC") == 2

    async def main():
        async with redis.asyncio.Redis(port=node.port, **options) as client:
            tracker = AsyncActivityTracker(["daily"], client=client, timezone="UTC")
            await tracker.track(id="a")
        async with redis.asyncio.RedisCluster("127.0.0.1", cluster.masters[0].port, **options) as client:
            async with AsyncActivityTracker(["daily"], client=client, timezone="UTC") as tracker:
                await tracker.track(id="a")
                return (await tracker.lookup(live=True))[-1][1]

    assert asyncio.run(main()) == {None: 2}


def test_the_command_line(url, cluster_url, tls):
    from helpers.command_line import invoke

    for address in (url, cluster_url):
        result = invoke(["--url", f"{address}?{query(tls)}", "doctor"])
        assert result.exit_code == 0, result.output
        assert "Redis 7" in result.output
        assert "hunter2" not in result.output
        result = invoke(["--url", address, "doctor"])
        assert result.exit_code == 1
        assert "not trusted here" in " ".join(result.output.split())
        assert "hunter2" not in result.output


def test_the_page(node, cluster, tls, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "rights_and_tls.rst").read_text("utf-8")
    monkeypatch.chdir(Path(tls.strange).parent)
    [shown] = re.findall(r"^    (tracker = ActivityTracker\((?:\n    .*)*\n    \))", page, re.MULTILINE)
    user = f"ann:{IN_URL}@127.0.0.1"
    names = {"ActivityTracker": ActivityTracker}
    exec(textwrap.dedent(shown).replace("shop:a-password@localhost:6379", f"{user}:{node.port}"), names)  # noqa: S102
    with names["tracker"] as tracker:
        tracker.track(id="a")
    [url] = re.findall(r"``(rediss\+cluster://\S+\?\S+)``", page)
    url = url.replace("localhost:6379", f"{user}:{cluster.masters[0].port}")
    assert waits(url=url, timezone="UTC") == 2


@BOTH
@pytest.mark.parametrize("of", ["url", "cluster_url"])
def test_an_authority_that_nobody_knows(request, tls, use, of):
    options = {**tls.of_client, "ssl_ca_certs": tls.strange}
    url = request.getfixturevalue(of)
    with raises(
        BackendConnectionError, "not trusted here: give that of its authority by ssl_ca_certs="
    ) as caught:
        use(url=url, **options, **FAST)
    assert "hunter2" not in str(caught.value)


@BOTH
@pytest.mark.parametrize("of", ["url", "cluster_url"])
def test_a_client_without_a_certificate(request, tls, use, of):
    words = "certificate of its clients"  # it may be told, or cut off before that arrives
    with raises(BackendConnectionError, words, "ssl_certfile=", "ssl_keyfile="):
        use(url=request.getfixturevalue(of), **tls.trusting, **FAST)


@BOTH
def test_files_that_are_not_there_or_do_not_fit(url, tls, use, tmp_path):
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        options = {**tls.of_client, name: str(tmp_path / "absent.pem")}
        with raises(BackendConnectionError, "no such file: ssl_ca_certs=, ssl_certfile= or ssl_keyfile="):
            use(url=url, **options, **FAST)
    with raises(BackendConnectionError, "do not belong together"):
        use(url=url, **{**tls.of_client, "ssl_certfile": tls.strange}, **FAST)


@BOTH
@pytest.mark.parametrize(
    ("names", "lives", "words"),
    [
        (["elsewhere.example"], 1, "of another name: connect to it by the name that is in it"),
        (["127.0.0.1"], -1, "that has expired"),
    ],
)
def test_a_certificate_that_does_not_hold(executable, tmp_path, use, names, lives, words):
    tls = Certificates(tmp_path, *names, until=datetime.now(UTC) + timedelta(days=lives))
    node = Node(executable, tmp_path, tls, tls_auth_clients="no")  # which have an expired one, too
    node.client.connection_pool.connection_kwargs |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    try:
        node.start()
        with raises(BackendConnectionError, words):
            use(url=f"rediss://127.0.0.1:{node.port}", ssl_check_hostname=True, **tls.of_client, **FAST)
    finally:
        node.close()


@BOTH
def test_a_server_that_speaks_nothing_but_tls(node, use):
    with raises(BackendConnectionError, r"expects TLS \(rediss://\)"):
        use(url=f"redis://127.0.0.1:{node.port}", **FAST)


@BOTH
@pytest.mark.parametrize("of", ["url", "cluster_url"])
def test_passwords(request, tls, use, of):
    url = request.getfixturevalue(of)
    for wrong in (url.replace("hunter2", "hunter3"), url.replace("ann", "nobody")):
        with raises(
            BackendAuthError, "refuses the password: it is wrong, or there is no such user"
        ) as caught:
            use(url=wrong, **tls.of_client, **FAST)
        assert not [secret for secret in ("hunter", "nobody") if secret in str(caught.value)]


@BOTH
def test_a_password_that_is_not_given(executable, tls, tmp_path, use):
    node = Node(executable, tmp_path, tls)
    try:
        node.start()
        node.client.config_set("requirepass", PASSWORD)
        with raises(BackendAuthError, "wants a password: give password="):
            use(url=f"rediss://127.0.0.1:{node.port}", **tls.of_client, **FAST)
    finally:
        node.close()
