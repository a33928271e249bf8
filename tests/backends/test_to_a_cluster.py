"""One server becomes a cluster, as docs/operations.rst has it, while writers go on: nothing is lost."""

import shutil
import subprocess

import pytest
from redis.crc import key_slot

from activity_tracker_hll import ActivityTracker, HyperLogLog
from helpers.faults import Node
from helpers.moments import NOON
from helpers.servers import eventually, free_port, missing, program

pytestmark = [pytest.mark.extended, pytest.mark.on_redis("extended")]
BUCKETS = [f"b{n}" for n in range(150)]


def run_redis_cli(*arguments, answer=""):
    program = shutil.which("redis-cli") or missing("redis-cli")
    command = [program, "--cluster", *arguments]
    return subprocess.run(command, input=answer, capture_output=True, text=True, timeout=120, check=False)


def redis_cli(*arguments, answer=""):
    done = run_redis_cli(*arguments, answer=answer)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(params=[pytest.param("valkey", marks=pytest.mark.long), "redis"])
def nodes(request, tmp_path):
    """The server there is, and one that is to join it."""
    executable, made = program(request.param), []
    for name, config in (
        ("old", {"appendonly": "yes", "appendfsync": "always"}),
        ("new", {"cluster_enabled": "yes", "cluster_port": free_port()}),
    ):
        (tmp_path / name).mkdir()
        made.append(Node(executable, tmp_path / name, **config))
    yield made
    for node in made:
        node.close()


def test_one_server_becomes_a_cluster(nodes):
    old, new = nodes
    options = {"timezone": "UTC", "clock": lambda: NOON, "buckets": BUCKETS}
    tracked = {bucket: set() for bucket in BUCKETS}

    def track(writer, count):
        for n in range(count):
            bucket = BUCKETS[n % len(BUCKETS)]
            id = f"u{len(tracked[bucket])}"
            tracked[bucket].add(id)
            writer.track(id=id, bucket=bucket)

    old.start()
    before = ActivityTracker(["daily"], url=f"redis://127.0.0.1:{old.port}", **options)
    with before, before.buffered() as writer:
        before.track(id="moved", bucket="b0")
        before.track(id="moved", bucket="b1", old_id="moved", old_bucket="b0")
        tracked["b1"].add("moved")
        track(writer, 4000)
        assert writer.flush(20).pending == 0
        old.client.shutdown()
        old.process.wait(30)
        track(writer, 1000)  # they wait for it
        old.start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
        redis_cli("fix", f"127.0.0.1:{old.port}", answer="yes\n")
        track(writer, 1000)
        before.track(id="direct", bucket="b2")
        tracked["b2"].add("direct")
        assert writer.flush(30).pending == 0  # who still has the old URL tracks as before

    after = ActivityTracker(["daily"], url=f"redis+cluster://127.0.0.1:{old.port}", **options)
    with after, after.buffered() as writer:
        track(writer, 1000)
        new.start()
        redis_cli("add-node", f"127.0.0.1:{new.port}", f"127.0.0.1:{old.port}")
        for node in nodes:
            eventually(
                lambda node=node: b"cluster_state:ok" in node.client.execute_command("CLUSTER", "INFO")
            )
        eventually(lambda: run_redis_cli("check", f"127.0.0.1:{old.port}").returncode == 0)
        track(writer, 1000)
        ids = [node.client.execute_command("CLUSTER", "MYID").decode() for node in nodes]
        some = ("--cluster-from", ids[0], "--cluster-to", ids[1], "--cluster-slots", 1000, "--cluster-yes")
        redis_cli("reshard", f"127.0.0.1:{old.port}", *map(str, some))
        track(writer, 1000)
        assert writer.flush(30).pending == 0
        assert {key_slot(key) for key in new.client.scan_iter()}
        counts = after.lookup(live=True)[-1][1]
        without_moves = {bucket: HyperLogLog(tracked[bucket]).count() for bucket in BUCKETS if bucket != "b0"}
        assert {bucket: counts[bucket] for bucket in without_moves} == without_moves
        assert counts["b0"] == pytest.approx(len(tracked["b0"]), rel=0.1)
