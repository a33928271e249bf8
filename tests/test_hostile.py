"""Ids chosen to deceive: the server's hash has a public seed, and MurmurHash64A can be run backwards.

Without a secret every reader gives an error or a count that is marked as suspect; with one the same ids count
as any others do. And no id leaves the process in clear then.
"""

import json
import time

import numpy as np
import pytest
from click.testing import CliRunner

from activity_tracker_hll import (
    ActivityTracker,
    BackendResponseError,
    CollapseError,
    Estimate,
    HyperLogLog,
    SettingsMismatchError,
    bulk,
)
from activity_tracker_hll.cli.app import cli
from activity_tracker_hll.hll import codec
from activity_tracker_hll.hll.randomness import is_random, is_random_remainder
from activity_tracker_hll.hll.registers import REGISTERS, empty, fold
from helpers.errors import raises
from helpers.faults import Proxy
from helpers.moments import NOON, TODAY, YESTERDAY

M, SEED = np.uint64(0xC6A4A7935BD1E995), 0xADC83B19
INVERSE = np.uint64(pow(int(M), -1, 1 << 64))
SHIFT, BITS = np.uint64(47), np.uint64(14)
FEW, MANY = REGISTERS, 50_000


def ids_of(hashes):
    """The ids of 8 bytes that hash to these: each step of the function undone, from the last to the first."""
    mixed = hashes ^ (hashes >> SHIFT)
    mixed *= INVERSE
    mixed ^= mixed >> SHIFT
    mixed *= INVERSE
    block = mixed ^ np.uint64((SEED ^ (8 * int(M))) % (1 << 64))
    block *= INVERSE
    block ^= block >> SHIFT
    block *= INVERSE
    return [id.tobytes() for id in block]


def hashes_of(registers, rest):
    return registers.astype(np.uint64) | (rest.astype(np.uint64) << BITS)


def random_rest(count):
    return np.random.default_rng(1).integers(1 << 50, size=count, dtype=np.uint64)


def one_register():
    """Of 200,000 ids there the quarter that ranks highest: no other raises it."""
    return hashes_of(np.full(MANY, 4711), (random_rest(MANY) << np.uint64(2)) % np.uint64(1 << 50))


def all_ranks_one():
    return hashes_of(np.arange(MANY) % REGISTERS, random_rest(MANY) | np.uint64(1))


def inflation():
    """Rank 14 in every register."""
    rest = (random_rest(FEW) >> np.uint64(14) | np.uint64(1)) << np.uint64(13)
    return hashes_of(np.arange(FEW), rest % np.uint64(1 << 50))


def overflow():
    """The highest rank in every register."""
    return hashes_of(np.arange(FEW), np.zeros(FEW, np.uint64))


ATTACKS = (one_register, all_ranks_one, inflation, overflow)
TOLD = {one_register: range(2), all_ranks_one: range(10_000, 40_000), inflation: range(10**8, 10**9)}


@pytest.fixture(scope="module", params=ATTACKS)
def attack(request):
    return request.param, ids_of(request.param())


def test_the_ids_are_what_they_are_meant_to_be(attack):
    kind, ids = attack
    assert (bulk.hashes_of_bytes(ids) == kind()).all()
    assert len(set(ids)) == len(ids)


@pytest.fixture(params=["track_many", "import", "buffered"])
def bring(request):
    """How the ids come in; through a writer only those of today: it takes events of other days one by one."""

    def bring(tracker, ids, bucket, date):
        if request.param == "track_many" or (request.param == "buffered" and date != TODAY):
            tracker.track_many(ids, bucket=bucket, date=date)
        elif request.param == "import":
            tracker.import_events((id, bucket, date) for id in ids)
        else:
            with tracker.buffered(flush_interval=0.05) as writer:
                writer.track_many(ids, bucket=bucket)

    return bring


def suspect(read):
    """Whether a reader says that something is wrong, in one of the two ways there are."""
    try:
        count = read()
    except (BackendResponseError, CollapseError):
        return True
    assert count >= 0
    return count.suspect and count.stderr == float("inf")


def collapsed(tracker, bucket):
    tracker.collapse(buckets=None if bucket == "all" else [bucket])
    return stored(tracker, bucket)


def stored(tracker, bucket):
    [(_, counts)] = tracker.lookup(start=YESTERDAY, buckets=[bucket])
    return counts[bucket]


def test_every_reader_notices(real_server, attack, bring):
    _, ids = attack
    aggregates = {"buckets": ["b", "c"], "aggregate_buckets": {"all": ["b", "c"]}}
    tracker = real_server.tracker(**aggregates)
    bring(tracker, ids, "b", YESTERDAY)
    bring(tracker, ids, "b", TODAY)
    live = {"live": True, "buckets": ["b"]}
    assert suspect(lambda: tracker.lookup(start=TODAY, **live)[-1][1]["b"])
    assert suspect(lambda: tracker.lookup(start=TODAY, live=True, buckets=["all"])[-1][1]["all"])
    assert suspect(lambda: collapsed(tracker, "all"))
    assert suspect(lambda: collapsed(tracker, "b"))
    with_moves = real_server.tracker(namespace="moves", **aggregates)
    bring(with_moves, ids, "b", YESTERDAY)
    with_moves.track(id="x", bucket="c", old_id=ids[0], old_bucket="b", date=YESTERDAY)
    assert suspect(lambda: with_moves.lookup(start=YESTERDAY, end=TODAY, **live)[0][1]["b"])
    assert suspect(lambda: collapsed(with_moves, "all"))
    assert suspect(lambda: collapsed(with_moves, "b"))
    blob = real_server.client.get(f"{{active:daily-{TODAY:%Y%m%d}:b}}:hll")
    assert suspect(HyperLogLog.from_bytes(blob).count)


def test_what_is_told_besides_the_flag(real_server, attack):
    kind, ids = attack
    tracker = real_server.tracker()
    tracker.track_many(ids, date=YESTERDAY)
    if kind is overflow:
        with raises(CollapseError, "impossible cardinality"):
            tracker.collapse()
        return
    [(_, _, count)] = tracker.collapse()
    assert count in TOLD[kind]
    assert count.suspect
    assert stored(tracker, None) == count
    assert stored(tracker, None).interval() == (0, 2**63 - 1)
    tracker.collapse(recount=True)
    assert stored(tracker, None).suspect


def test_a_suspect_bucket_that_is_sound_later_is_told_so(real_server):
    tracker = real_server.tracker()
    tracker.track_many(ids_of(one_register()), date=YESTERDAY)
    tracker.collapse()
    assert stored(tracker, None).suspect
    real_server.client.delete(f"{{active:daily-{YESTERDAY:%Y%m%d}}}:hll")
    real_server.client.delete(f"active:daily-{YESTERDAY:%Y%m%d}")
    tracker.track_many(range(1000), date=YESTERDAY)
    tracker.collapse()
    assert not stored(tracker, None).suspect


def test_with_a_secret_they_count_as_any_others(real_server, attack, bring):
    _, ids = attack
    tracker = real_server.tracker(secret="s3cret", buckets=["b", "c"], aggregate_buckets={"all": ["b", "c"]})
    bring(tracker, ids, "b", YESTERDAY)
    bring(tracker, ids, "b", TODAY)
    tracker.collapse()
    [*_, (_, today)] = tracker.lookup(live=True, buckets=["b"])
    for count in (stored(tracker, "b"), stored(tracker, "all"), today["b"]):
        assert abs(count - len(ids)) < 5 * count.stderr
        assert not count.suspect


def test_the_command_line_shows_it(real_server):
    tracker = real_server.tracker(clock=time.time)
    tracker.track_many(ids_of(all_ranks_one()), date=YESTERDAY)
    tracker.collapse()
    address = ["--url", f"unix://{real_server.options['unix_socket_path']}", "--timezone", "UTC"]
    lookup = [*address, "lookup", "--start", YESTERDAY.isoformat()]
    assert "suspect" in CliRunner().invoke(cli, lookup).output
    [told] = json.loads(CliRunner().invoke(cli, [*lookup, "--json"]).output)
    assert told["suspect"]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000, 1_000_000])
def test_random_ids_are_not_suspected(count):
    """Nine in a million would be; these are some hundred of each size."""
    random = np.random.default_rng(count)
    for _ in range(max(300_000 // max(count, 1000), 10)):
        tracked, moved = empty(), empty()
        hashes = random.integers(1 << 64, size=count, dtype=np.uint64)
        fold(tracked, hashes)
        fold(moved, hashes[: count // 2])
        assert is_random(tracked)
        assert is_random_remainder(tracked, moved, count - count // 2)


def test_a_union_of_random_sketches_is_not_suspected(real_server):
    names = ["a", "b", "c"]
    tracker = real_server.tracker(buckets=names, aggregate_buckets={"all": names})
    for index, name in enumerate(names):
        tracker.track_many(range(index * 500, index * 500 + 1000), bucket=name, date=YESTERDAY)
    for id in range(50):
        tracker.track(id=id, bucket="c", old_id=id, old_bucket="a", date=YESTERDAY)
    tracker.collapse()
    assert not [name for name in (*names, "all") if stored(tracker, name).suspect]


def test_an_estimate_without_a_bound():
    count = Estimate(7, float("inf"))
    assert (count, count.suspect, count.relative_error) == (7, True, float("inf"))
    assert not Estimate(7).suspect
    assert not Estimate(0).suspect
    assert json.dumps(count) == "7"


# Secrets


def every_path(tracker):
    tracker.track(id="secret-a", bucket="b")
    tracker.track(id="secret-b", bucket="c", old_id="secret-a", old_bucket="b")
    tracker.track(id="secret-a", bucket="b")
    tracker.track(old_id="secret-c", old_bucket="b")
    for count in (5, 500):
        tracker.track_many([f"secret-{n}" for n in range(count)], bucket="b")
        tracker.track_many(np.array([f"secret-{n}" for n in range(count)], "S"), bucket="b")
        tracker.import_events((f"secret-i{n}", "b", YESTERDAY) for n in range(count))
        with tracker.buffered(flush_interval=0.02) as writer:
            writer.track_many([f"secret-w{n}" for n in range(count)], bucket="b")
            writer.track(id="secret-x", bucket="c", old_id="secret-w1", old_bucket="b")
            writer.flush()
            writer.track(id="secret-w1", bucket="b")
    tracker.collapse(buckets=["b", "c"])


def test_a_secret_hides_ids_on_every_path(real_server, tmp_path):
    with Proxy(tmp_path / "p", real_server.options["unix_socket_path"]) as proxy:
        options = {"unix_socket_path": proxy.path, "timezone": "UTC", "clock": lambda: NOON}
        with ActivityTracker(["daily"], secret="s3cret", **options) as tracker:
            every_path(tracker)
        sent = [part for command in proxy.commands for part in command]
        assert len(sent) > 200
        assert not [part for part in sent if b"secret-" in part or b"s3cret" in part]
        with ActivityTracker(["daily"], namespace="open", **options) as tracker:  # the test can see them
            every_path(tracker)
        assert [part for command in proxy.commands for part in command if b"secret-" in part]


def test_a_secret_hides_ids_on_the_disk(tmp_path):
    for secret, found in (("s3cret", False), (None, True)):
        path = tmp_path / str(secret)
        with ActivityTracker(["daily"], "embedded", path=path, secret=secret, timezone="UTC") as tracker:
            every_path(tracker)
        files = [file for file in path.rglob("*") if file.is_file()]
        written = b"".join(file.read_bytes() for file in files)
        assert b"active" in written
        assert (b"secret-" in written) is found
        assert b"s3cret" not in written


@pytest.mark.parametrize("secrets", [("one", "other"), (None, "other"), ("one", None)])
def test_a_writer_with_another_secret_is_refused(server, secrets):
    first, second = secrets
    server.tracker(secret=first).track(id="known")
    before = server.names()
    errors = []
    writer = server.tracker(secret=second).buffered(
        flush_interval=0.02, close_timeout=0.3, on_error=errors.append
    )
    writer.track(id="refused")
    assert writer.close().pending == 1
    assert [type(error) for error in errors] == [SettingsMismatchError]
    assert "secret" in str(errors[0])
    assert server.names() == before
    assert server.tracker(secret=first).lookup(live=True)[-1][1] == {None: 1}


def test_a_secret_can_be_changed(server):
    """As the README says: the old one's fingerprint is deleted, the next writer stores its own."""
    server.tracker(secret="old").track_many(range(10), date=YESTERDAY)
    server.tracker(secret="old").collapse()
    server.client.hdel("active:{meta}", "secret")
    new = server.tracker(secret="new")
    new.track_many(range(5))
    assert [int(counts[None]) for _, counts in new.lookup(start=YESTERDAY, live=True)] == [10, 5]
    with raises(SettingsMismatchError, "secret"):
        server.tracker(secret="old").track(id=1)


def test_damaged_registers_are_no_sketch():
    damaged = bytearray(codec.encode_dense(np.full(REGISTERS, 51, np.uint8)))
    damaged[16:] = b"\xff" * (len(damaged) - 16)
    with pytest.raises(ValueError, match="rank"):
        HyperLogLog.from_bytes(bytes(damaged))
