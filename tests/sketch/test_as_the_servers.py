"""A sketch is the server's own, register by register.

What the servers say is asked from them: `PFADD` of the bytes of ids, `GET`, `PFCOUNT`. Sketches are
compared by registers, as encodings are not canonical and the header caches a count. Dice are seeded.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import HyperLogLog
from activity_tracker_hll.bulk import CHUNK
from activity_tracker_hll.hll import codec
from activity_tracker_hll.ids import IdEncoder
from helpers.hashing import folded, murmur
from helpers.ids import CONTAINERS, INTEGERS, KINDS
from helpers.sketches import IDS, numbers

# Around where a sparse sketch becomes dense (some 1800 to 1900 ids), linear counting ends, and beyond.
COUNTS = [0, 1, 2, 3, 10, 99, 100, 101, 1000, 1700, 1800, 1850, 1900, 2000, 2500, 10_000, 40_000, 70_000]
COUNTS += [100_000, 150_000, 199_999, 200_000]
on_a_server = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def pfadd(client, ids, key="sketch"):
    """The sketch a server makes of ids."""
    encoded = list(map(IdEncoder().one, ids))
    with client.pipeline(transaction=False) as pipe:
        pipe.delete(key)
        pipe.pfadd(key)
        for start in range(0, len(encoded), 1000):
            pipe.pfadd(key, *encoded[start : start + 1000])
        pipe.get(key)
        return HyperLogLog.from_bytes(pipe.execute()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_one_kind_are_the_servers(kind, real_server):
    @on_a_server
    @given(st.lists(KINDS[kind], max_size=20))
    def check(ids):
        assert HyperLogLog(ids) == pfadd(real_server.client, ids)

    check()


@on_a_server
@given(ids=IDS)
@example(ids=["\n", "\0", "\r\n", "é", "e\u0301", "\U0001f600", b"\xff", b"\0\n\xff", -1, 0, 2**64, 10**1000])
@example(ids=["x" * size for size in range(1, 1025)])
@example(ids=[b"\n" * size for size in range(1, 1025)])
def test_mixed_ids_are_the_servers(ids, real_server):
    assert HyperLogLog(ids) == pfadd(real_server.client, ids)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_arrays_of_integers_are_the_servers(dtype, real_server):
    info = np.iinfo(dtype)
    dice = np.random.default_rng(4)
    for low in (info.min, 0):
        batch = dice.integers(low, info.max, 300, dtype[1:], endpoint=True).astype(dtype)
        batch[:4] = low, info.max, 0, 1
        for part in (batch, batch[::-1], batch[::2]):
            assert HyperLogLog(part) == pfadd(real_server.client, part.tolist())


@pytest.mark.parametrize("kind", ["S", "U", ">U"])
def test_arrays_of_strings_are_the_servers(kind, real_server):
    dice = np.random.default_rng(5)
    for width in (1, 2, 5, 7, 8, 9, 17, 31, 32, 33, 36, 40):
        top = 256 if kind == "S" else width * 60
        letters = dice.integers(0, top, (60, width), np.uint32)
        letters[:, 0] |= 1  # a NUL there could make an id empty
        batch = letters.astype(np.uint8).view(f"S{width}") if kind == "S" else letters.view(f"U{width}")
        batch = batch.ravel().astype(f"{kind}{width}")
        for part in (batch, batch[::-1], batch[::2]):
            assert HyperLogLog(part) == pfadd(real_server.client, part.tolist())


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("count", [CHUNK - 1, CHUNK + 1, 3 * CHUNK + 5])
def test_many_ids_are_the_servers(container, count, real_server):
    ids = range(99_000, 99_000 + count)
    batch = CONTAINERS[container](ids)
    plain = CONTAINERS[container](ids)
    listed = plain.tolist() if isinstance(plain, np.ndarray) else list(plain)
    assert HyperLogLog(batch) == pfadd(real_server.client, listed)


def test_counts_are_the_servers(real_server):
    client, sketch, before = real_server.client, HyperLogLog(), 0
    client.pfadd("sketch")
    for count in COUNTS:
        ids = [b"user:%d" % number for number in range(before, count)]
        with client.pipeline(transaction=False) as pipe:
            for start in range(0, len(ids), 1000):
                pipe.pfadd("sketch", *ids[start : start + 1000])
            pipe.execute()
        sketch.update(ids)
        before = count
        blob = client.get("sketch")
        assert HyperLogLog.from_bytes(blob) == sketch
        assert sketch.count() == client.pfcount("sketch") == HyperLogLog.from_bytes(blob).count()
        # What is written here is read there: counted, added to, merged, made dense.
        client.set("ours", sketch.to_bytes())
        assert client.pfcount("ours") == sketch.count()
        client.pfadd("ours", "one more")
        assert HyperLogLog.from_bytes(client.get("ours")) == sketch | HyperLogLog(["one more"])
        client.pfmerge("union", "sketch", "ours")
        assert HyperLogLog.from_bytes(client.get("union")) == sketch | HyperLogLog(["one more"])
        client.delete("union")


def test_more_counts_are_the_servers(real_server):
    client, counts = real_server.client, np.geomspace(1, 2e6, 150).astype(int).tolist()
    sketch, before = HyperLogLog(), 0
    for count in counts:
        sketch.update(np.arange(before, count))
        before = count
        client.set("ours", sketch.to_bytes())
        assert client.pfcount("ours") == sketch.count()


def test_the_cached_count_is_not_believed(real_server):
    client = real_server.client
    for count in (10, 10_000):
        sketch = numbers(count)
        for cached in (0, 7, 2**62, 1 << 63):
            blob = bytearray(sketch.to_bytes())
            blob[8:16] = cached.to_bytes(8, "little")
            assert HyperLogLog.from_bytes(bytes(blob)) == sketch
            assert HyperLogLog.from_bytes(bytes(blob)).count() == sketch.count()
        blob[8:16] = bytes([7, *bytes(7)])
        client.set("forged", bytes(blob))
        assert client.pfcount("forged") == 7  # the server believes
        # and ours says that it is stale, so that the server counts
        client.set("ours", HyperLogLog.from_bytes(bytes(blob)).to_bytes())
        assert client.pfcount("ours") == sketch.count()


def test_registers_are_those_of_a_loop():
    ids = [b"user:%d" % number for number in range(20_000)]
    assert codec.decode(HyperLogLog(ids).to_bytes()).tolist() == folded(map(murmur, ids)).tolist()
