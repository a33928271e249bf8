"""Sketches of ids that are hashed with a secret."""

import copy
import pickle

import pytest

from activity_tracker_hll import HyperLogLog
from activity_tracker_hll.errors import ArgumentTypeError, ArgumentValueError

PLAIN, ONE, OTHER = HyperLogLog(["a"]), HyperLogLog(["a"], "one"), HyperLogLog(["a"], b"other")
TOGETHER = {
    "merge": lambda a, b: a.copy().merge(b),
    "or": lambda a, b: a | b,
    "ior": lambda a, b: a.copy().__ior__(b),
    "difference": lambda a, b: a.difference(b),
    "overlap": lambda a, b: a.overlap(b),
    "jaccard": lambda a, b: a.jaccard(b),
}


def test_a_secret_changes_registers_and_no_counts():
    ids = range(1000)
    assert HyperLogLog(ids, "one") == HyperLogLog(ids, b"one") != HyperLogLog(ids)
    assert HyperLogLog(ids, "one").count() == pytest.approx(1000, rel=0.03)
    added = HyperLogLog(secret="one")
    for id in ids:
        added.add(id)
    assert added == HyperLogLog(ids, "one")


def test_it_is_the_sketch_of_a_tracker_with_that_secret(real_server):
    tracker = real_server.tracker(secret="one")
    tracker.track_many(range(500))
    [key] = [name for name in real_server.names() if name.endswith(":hll")]
    assert HyperLogLog.from_bytes(real_server.client.get(key)) == HyperLogLog(range(500), "one")


@pytest.mark.parametrize("call", TOGETHER)
@pytest.mark.parametrize(("a", "b"), [(PLAIN, ONE), (ONE, PLAIN), (ONE, OTHER)])
def test_different_secrets_are_refused(call, a, b):
    with pytest.raises(ArgumentValueError, match="hashed with different secrets"):
        TOGETHER[call](a, b)


@pytest.mark.parametrize("call", TOGETHER)
@pytest.mark.parametrize("unknown", [HyperLogLog(), HyperLogLog.from_bytes(ONE.to_bytes())])
def test_what_is_not_known_is_taken_to_be_right(call, unknown):
    TOGETHER[call](unknown, ONE)
    TOGETHER[call](ONE, unknown)


def test_a_union_takes_more_ids_as_its_first_part_did():
    total = HyperLogLog()
    total |= ONE
    total.add("b")
    assert total == HyperLogLog(["a", "b"], "one")
    with pytest.raises(ArgumentValueError, match="different secrets"):
        total.merge(OTHER)
    known = HyperLogLog.from_bytes(ONE.to_bytes(), "one")
    known.update(["b"])
    assert known == total


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, HyperLogLog.copy])
def test_copies_know_the_secret(duplicate):
    again = duplicate(ONE)
    with pytest.raises(ArgumentValueError, match="different secrets"):
        again.merge(OTHER)


def test_a_pickle_holds_no_secret():
    pickled = pickle.dumps(HyperLogLog(["a"], "a long secret"))
    assert b"long" not in pickled
    again = pickle.loads(pickled)
    assert again == HyperLogLog(["a"], "a long secret")
    assert again.count() == 1
    for refused in (lambda: again.add("b"), lambda: again.update(["b"]), lambda: again.merge(PLAIN)):
        with pytest.raises(ArgumentValueError):
            refused()
    again.update([])
    again.merge(HyperLogLog(["c"], "a long secret"))
    plain = pickle.loads(pickle.dumps(PLAIN))
    plain.add("b")
    assert plain == HyperLogLog(["a", "b"])


@pytest.mark.parametrize(("secret", "error"), [("", ArgumentValueError), (7, ArgumentTypeError)])
def test_bad_secrets(secret, error):
    with pytest.raises(error, match="secret must"):
        HyperLogLog(secret=secret)
    with pytest.raises(error, match="secret must"):
        HyperLogLog.from_bytes(HyperLogLog().to_bytes(), secret)
