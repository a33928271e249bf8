"""Records: uniting two of them, what stands for ids, and what is kept of each."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll import HyperLogLog, MalformedSketchError
from activity_tracker_hll.archives.records import (
    Record,
    digest,
    fields,
    record_of,
    stand_ins,
    united,
    unpack_moves,
    with_members,
)
from activity_tracker_hll.hll import codec
from helpers.registers import drawn

NAME = ("daily-20260101", "a")


def registers(ids):
    return codec.decode(HyperLogLog(ids).to_bytes())


IDS = st.frozensets(st.integers(0, 60))
STAMPS = st.integers(-5, 5).filter(bool)
TABLES = st.dictionaries(st.binary(min_size=1, max_size=4), STAMPS, max_size=6)


def record(ids, moved=(), moves=(), counted=None, stderr=""):
    return Record(*NAME, counted, stderr, registers(ids), registers(moved) if moved else None, dict(moves))


RECORDS = st.builds(record, IDS, IDS, TABLES)


def same(one, other):
    return all(
        (first is None) == (second is None) and (first is None or np.array_equal(first, second))
        for first, second in ((one.tracked, other.tracked), (one.moved, other.moved))
    ) and dict(one.moves) == dict(other.moves)


def unite(one, other):
    return united(one, other, has_tables=True)


@settings(max_examples=30)
@given(RECORDS, RECORDS, RECORDS)
def test_sketches_and_tables_are_united_in_any_order(a, b, c):
    assert same(unite(a, b), unite(b, a))
    assert same(unite(unite(a, b), c), unite(a, unite(b, c)))
    assert same(unite(a, a), a)


def test_of_two_events_at_one_moment_activity_is_the_newer():
    one, other = record([1], [1], {b"1": -7}), record([1], [1], {b"1": 7})
    assert unite(one, other).moves == unite(other, one).moves == {b"1": 7}


COUNTED = record(range(100), counted=100)
COUNTS = {
    "a newer count stands": (COUNTED, record(range(150), counted=150), 150),
    "one that is not counted any more": (COUNTED, record(range(150)), None),
    "sketches were lost, and others counted": (COUNTED, record(range(50, 90), counted=40), None),
    "the sketch has expired": (COUNTED, Record(*NAME, 101), 101),
    "nothing is left": (COUNTED, Record(*NAME), 100),
    "activity-tracker's count of nobody": (COUNTED, Record(*NAME, 0), 100),
    "nobody, counted": (COUNTED, Record(*NAME, 0, "0.5"), 0),
    "it cannot be read": (COUNTED, Record(*NAME, 7, is_whole=False), 100),
}


@pytest.mark.parametrize("case", COUNTS)
def test_counts(case):
    old, new, expected = COUNTS[case]
    found = unite(old, new)
    assert found.counted == expected
    assert found.is_whole
    assert (found.tracked >= old.tracked).all()


def test_without_tables_the_newer_one_replaces_the_older():
    old, new = record(range(9), range(4), {b"1": 1, b"2": 1}), record(range(9), range(4), {b"2": 1})
    assert united(old, new, has_tables=False).moves == {b"2": 1}
    lost = record(range(5), range(2), {b"3": 1})
    assert united(old, lost, has_tables=False).moves == {b"1": 1, b"2": 1, b"3": 1}


@settings(max_examples=30)
@given(st.dictionaries(st.binary(min_size=1, max_size=20), STAMPS, max_size=50))
def test_what_stands_for_ids_has_their_number_and_their_registers(moves):
    found = stand_ins(moves)
    back = [id for id, stamp in moves.items() if stamp > 0]
    assert set(found.values()) <= {1}
    assert len(found) == len(back)
    assert all(len(id) == 8 for id in found)
    assert HyperLogLog(back) == HyperLogLog(list(found))
    assert stand_ins(found) == found


def test_ids_that_look_alike_are_told_apart():
    back = {b"%d" % id: 1 for id in range(60_000)}
    found = stand_ins(back)
    assert len(found) == len(back)
    assert HyperLogLog(list(back)) == HyperLogLog(list(found))


def test_members_of_a_table_are_in_both_sketches():
    found = with_members(record(range(5), range(2), {b"2": -1, b"77": 3}))
    assert np.array_equal(found.tracked, registers([*range(5), 77]))
    assert np.array_equal(found.moved, registers([0, 1, 2, 77]))
    plain = record(range(5))
    assert with_members(plain) is plain


@settings(max_examples=20)
@given(RECORDS, st.none() | st.integers(0, 2**53), st.text(max_size=5))
def test_what_is_kept_is_what_was_known(known, counted, stderr):
    known = known._replace(counted=counted, stderr=stderr)
    row = fields(known)
    found = record_of(row)
    assert same(found, known)
    assert found[:4] == known[:4]
    assert digest(row) == digest(fields(known))


def test_digests_tell_types_and_bounds():
    rows = [("ab", "c"), ("a", "bc"), (b"ab", "c"), (1, "c"), ("1", "c"), (None, "c"), ("None", "c"), ("ab",)]
    assert len({digest(row) for row in rows}) == len(rows)


def test_a_table_that_is_none_is_refused():
    whole = fields(record([1], [1], {b"1": 1, b"22": -1}))[6]
    body = zlib.decompress(whole)
    for bad in (
        b"",
        b"x",
        whole[:-3],
        zlib.compress(body[:-1]),
        zlib.compress(body + b"x"),
        zlib.compress(b""),
    ):
        with pytest.raises(MalformedSketchError):
            unpack_moves(bad)
    twice = zlib.compress(np.array([2, 1, 1, 1, 1], "<i8").tobytes() + b"aa")
    for bad in (twice, zlib.compress(np.array([-1, 1], "<i8").tobytes())):
        with pytest.raises(MalformedSketchError):
            unpack_moves(bad)


def test_large_sketches_are_kept_whole():
    drawn_ = Record(*NAME, tracked=drawn(np.random.default_rng(3), 10**7))
    assert same(record_of(fields(drawn_)), drawn_)
