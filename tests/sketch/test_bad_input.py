"""What is no id, no batch of ids and no sketch is refused, and leaves a sketch as it was."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll import HyperLogLog
from activity_tracker_hll.bulk import CHUNK
from activity_tracker_hll.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    MalformedSketchError,
    UnknownEncodingError,
)
from helpers.errors import raises
from helpers.ids import BAD
from helpers.sketches import numbers

T, V = ArgumentTypeError, ArgumentValueError

BAD_BATCHES = [
    ("None", None, "must be a list, tuple, set, iterator, array or column of ids, got NoneType None"),
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
    ("bool array", np.array([True]), "must be a one-dimensional array of S, U, T or integer type, .*bool"),
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


@pytest.mark.parametrize("index", [0, 5, CHUNK, 40_000])
@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", [str, int, lambda number: b"%d" % number])
def test_all_ids_or_none(index, make, kind):
    ids = list(map(kind, range(1000, 46_000)))
    sketch = numbers(10)
    for bad, error in (("", V), (1.5, T)):
        ids[index] = bad
        with raises(error, rf"^ids\[{index}\] must "):
            sketch.update(make(ids))
        assert sketch == numbers(10)
    ids[index] = kind(1)
    sketch.update(make(ids))
    assert sketch == numbers(10) | HyperLogLog(ids)


@pytest.mark.parametrize("kind", ["S", "U"])
def test_all_ids_of_an_array_or_none(kind):
    batch, sketch = np.arange(1000, 46_000).astype(f"{kind}9"), numbers(10)
    for index in (0, 5, 40_000):
        damaged = batch.copy()
        damaged[index] = ""
        with raises(V, rf"^ids\[{index}\] must not be empty"):
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


def test_a_view_of_memory_is_one_id_or_none():
    with pytest.raises(ArgumentTypeError, match="memoryview"):
        HyperLogLog(memoryview(b"abc"))


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
