"""Hashes of batches: whatever ids come in, in whatever, each is hashed as its bytes are, in order.

What an id's bytes are is written here again, in one line; nothing of the package says what to expect.
"""

from array import array
from collections import deque

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activity_tracker_hll import bulk
from activity_tracker_hll.bulk import CHUNK
from activity_tracker_hll.columns import Coded
from activity_tracker_hll.ids import IdEncoder
from helpers.errors import raises
from helpers.hashing import murmur
from helpers.ids import BAD, CONTAINERS, INTEGERS, KINDS, MIXED, SLICES, TEXT, Number, T, Text, V, bytes_of


def found(ids, encoder=None):
    """All hashes of a batch. They are copied: each chunk is overwritten by the next."""
    return [hashed for chunk in bulk.hashes(encoder or IdEncoder(), ids) for hashed in chunk.tolist()]


def expected(ids):
    return [murmur(bytes_of(id)) for id in ids]


# Kinds of ids


def test_values_may_be_added_to_those_that_codes_stand_for():
    hashes, values = bulk.CodedHashes(IdEncoder()), ["a"]
    for value in ("b", "c"):
        assert hashes.of(Coded(values, np.array([len(values) - 1]))).tolist() == expected([values[-1]])
        values.append(value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_of_one_kind(kind):
    @given(st.lists(KINDS[kind], max_size=30))
    def check(ids):
        assert found(ids) == found(tuple(ids)) == found(iter(ids)) == expected(ids)

    check()


@given(st.lists(MIXED, max_size=30))
@example(["a", b"b", 3])
@example([b"a", "b", 3])
@example([3, "a", b"b"])
@example([3, 2**64, -3])
@example(["a", np.str_("b"), Text("c")])
@example(["a\n", "b"])
@example(["a", "\n"])
@example(["\n"] * 3)
@example([b"\n", b"ab", b"\n\n"])
@example(["a", "b\n\nc", "d"])
def test_a_list_of_mixed_kinds(ids):
    assert found(ids) == expected(ids)
    assert found(np.fromiter(ids, object, len(ids))) == expected(ids)


def test_one_id_whatever_its_type():
    sevens = [7, "7", b"7", np.int64(7), np.uint8(7), np.str_("7"), np.bytes_(b"7"), Number.SEVEN, Text("7")]
    assert set(found(sevens)) == {murmur(b"7")}
    for seven in sevens:
        assert found([seven, seven]) == [murmur(b"7")] * 2
    for dtype in ("S1", "S9", "U1", "U9", ">U3", "i1", "u1", ">i8", "u8", object):
        assert found(np.array([7, 7]).astype(dtype)) == [murmur(b"7")] * 2


@pytest.mark.parametrize("size", [*range(1, 70), 127, 128, 129, 1000, 1023, 1024])
def test_every_size_in_every_kind_of_batch(size):
    text = np.random.default_rng(size).integers(ord("A"), ord("z"), 6 * size, np.uint8).tobytes()
    ids = [text[number * size :][:size] for number in range(6)]
    letters = [id.decode() for id in ids]
    assert found(ids) == found(letters) == found(np.array(ids)) == found(np.array(letters)) == expected(ids)
    odd = [*ids, b"x"]
    assert found(odd) == found([*letters, "x"]) == found(np.array(odd)) == expected(odd)
    accented = ["é" * (size // 2) + "x" * (size % 2), "日"[: size // 3] + "y" * (size - 3)]
    accented = [text for text in accented if len(text.encode()) == size]
    assert found(accented) == found(np.array(accented, "U")) == expected(accented)


# Containers


@given(st.sets(TEXT, max_size=20))
def test_containers(ids):
    numbered = dict(enumerate(ids))
    for batch in (ids, frozenset(ids), dict.fromkeys(ids).keys(), numbered.values(), deque(ids)):
        assert found(batch) == expected(batch)


def test_numbers_from_elsewhere():
    assert found(range(-5, 50)) == expected(range(-5, 50))
    assert found(range(2**63 - 3, 2**63 + 3)) == expected(range(2**63 - 3, 2**63 + 3))
    assert found(array("q", [-1, 0, 2**63 - 1])) == expected([-1, 0, 2**63 - 1])
    assert found(map(int, "123")) == expected([1, 2, 3])


def test_nothing():
    for batch in ([], (), set(), iter(()), {}.keys(), range(0)):
        assert found(batch) == []
    for dtype in ("S1", "U5", ">U5", "i8", ">u2", "O"):
        assert found(np.array([], dtype)) == []


# Arrays


STRINGS = {
    "S": st.binary(max_size=40) | st.text("ab\0\n", max_size=40).map(str.encode),
    "U": TEXT | st.text("ab\0\n", max_size=40),
}


@pytest.mark.parametrize("kind", ["S", "U", ">U"])
@pytest.mark.parametrize("widths", [(1, 8), (9, 32), (33, 40)], ids=str)
def test_arrays_of_strings(kind, widths):
    nul = b"\0" if kind == "S" else "\0"

    @given(st.integers(*widths), st.lists(STRINGS[kind[-1]], max_size=9))
    def check(width, ids):
        # To numpy, NULs at the end are padding.
        ids = [id[:width].rstrip(nul) for id in ids if id[:width].rstrip(nul)]
        batch = np.array(ids, f"{kind}{width}")
        for part in SLICES:
            assert found(batch[part]) == expected(ids[part])

    check()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_arrays_of_integers(dtype):
    info = np.iinfo(dtype)
    edges = [info.min, info.max, 0, 1, info.max // 2, info.max - 1, min(info.max, 10**9)]

    @given(st.lists(st.integers(info.min, info.max), max_size=20))
    @example(edges)
    @example([number for number in edges if number >= 0])
    @example([info.min])
    @example([0, 0, 0])
    def check(ids):
        batch = np.array(ids, dtype)
        for part in SLICES:
            assert found(batch[part]) == expected(ids[part])
        assert batch.tolist() == ids  # the caller's

    check()


def test_columns_of_a_table():
    table = np.zeros(50, [("pad", "u1"), ("number", "<i8"), ("bytes", "S9"), ("text", "U9")])
    table["number"] = np.arange(50) * 1234567
    for column in ("bytes", "text"):
        table[column] = table["number"]
    for column in ("number", "bytes", "text"):
        assert found(table[column]) == expected(range(0, 50 * 1234567, 1234567))


@pytest.mark.parametrize("ids", [[b"abc"], ["abc"], ["é"], [7], [-7]])
def test_one_id_broadcast_over_an_array(ids):
    batch = np.broadcast_to(np.array(ids), (7,))
    assert found(batch) == expected(ids * 7)


@pytest.mark.parametrize("batch", [np.arange(99, dtype=np.uint64), np.array([b"a" * 40, b"b" * 40])])
def test_arrays_are_only_read(batch):
    before = batch.copy()
    batch.flags.writeable = False
    assert found(batch) == expected(before.tolist())
    assert np.array_equal(batch, before)


# Chunks

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]
SOME_SIZES = [0, *(pytest.param(size, marks=pytest.mark.extended) for size in SIZES[1:-2]), *SIZES[-2:]]


@pytest.mark.parametrize("count", SOME_SIZES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_chunk_borders(container, count):
    make = CONTAINERS[container]
    ids = range(99_000, 99_000 + count)
    assert found(make(ids)) == expected(make(ids).tolist() if hasattr(make(ids), "tolist") else make(ids))


@pytest.mark.parametrize("size", [23, 24, 25, 383, 384, 1024])
@pytest.mark.parametrize("kind", ["str", "bytes"])
def test_borders_of_what_is_joined(kind, size):
    [joined, *_] = map(len, bulk.hashes(IdEncoder(), ["x" * size] * (CHUNK + 1)))
    assert 1024 <= joined <= CHUNK
    for count in (joined - 1, joined, joined + 1, 2 * joined + 1):
        ids = [b"%0*d" % (size, id) for id in range(count)]
        assert found(ids if kind == "bytes" else [id.decode() for id in ids]) == expected(ids)


@pytest.mark.parametrize("size", [64, 100])
def test_the_first_ids_tell_nothing_about_the_others(size):
    short, long = [f"{id:02}" for id in range(size)], [f"{id:0900}" for id in range(3000)]
    for ids in (short + long, long[:size] + short * 50, [*short, b"x" * 900, 5] * 30):
        assert found(ids) == expected(ids)


def test_an_iterator_is_consumed_once_and_no_further_than_needed():
    taken = []
    chunks = bulk.hashes(IdEncoder(), (taken.append(id) or id for id in range(3 * CHUNK)))
    assert not taken
    assert next(chunks).tolist() == expected(range(CHUNK))
    assert len(taken) == CHUNK
    assert sum(map(len, chunks)) == 2 * CHUNK
    assert taken == list(range(3 * CHUNK))


def test_what_an_iterator_raises_is_raised():
    def ids():
        yield from range(CHUNK + 1)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        found(ids())


# All at once


@given(st.lists(MIXED, max_size=20))
def test_all_hashes_and_hashes_of_bytes(ids):
    assert bulk.all_hashes(IdEncoder(), ids).tolist() == expected(ids)
    assert bulk.hashes_of_bytes([bytes_of(id) for id in ids]).tolist() == expected(ids)


def test_all_hashes_of_many():
    ids = range(2 * CHUNK + 1)
    encoded = [b"%d" % id for id in ids]
    assert bulk.all_hashes(IdEncoder(), list(ids)).tolist() == expected(ids)
    assert bulk.hashes_of_bytes(encoded).tolist() == expected(ids)


NO_TEXTS = [None, True, 1.5, [], "", b"", "x" * 1025, "\ud800"]


@given(
    st.lists(MIXED | st.sampled_from(NO_TEXTS), min_size=1, max_size=8),
    st.sampled_from([0, CHUNK - 4, CHUNK]),
)
@example(["a\nb"], 0)
@example(["\ud800"], 0)
@example(["x" * 1024, "ä" * 512], 0)
@example(["x" * 1025], 0)
@example(["a", "x" * 1025, "b"], 0)
@example(["x" * 1024] * 3, 0)
@example(["ä" * 513], 0)
@example(["a", "", "b"], 0)
@example([""], 0)
@example(["x" * 600 + "\n" + "x" * 600], 0)
@example(["\nb", "a"], 0)
@example(["a\n", "b"], 0)
def test_texts_are_those_that_can_be_counted_as_they_stand(ids, before):
    def lines_of(id):
        """What an id is made of, as far as it is looked at."""
        try:
            return [len(line) for line in str.encode(id).split(b"\n")] if isinstance(id, str) else [0]
        except UnicodeEncodeError:
            return [0]

    sizes = [size for id in ids for size in lines_of(id)]
    assert bulk.are_texts(["x"] * before + ids) == (0 < min(sizes) <= max(sizes) <= 1024)


# With a secret


@given(st.lists(MIXED, max_size=20))
def test_a_secret(ids):
    encoder = IdEncoder("s")
    hidden = list(map(murmur, IdEncoder("s").many(ids)))
    assert found(ids, encoder) == found(iter(ids), encoder) == hidden
    assert bulk.all_hashes(encoder, ids).tolist() == hidden
    assert bulk.hashes_of_bytes(encoder.many(ids)).tolist() == hidden
    assert not set(hidden) & set(expected(ids))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_secret_across_chunks(container):
    ids = CONTAINERS[container](range(CHUNK + 5))
    plain = CONTAINERS[container](range(CHUNK + 5))
    listed = plain.tolist() if isinstance(plain, np.ndarray) else list(plain)
    encoder = IdEncoder(b"s")
    conceal = [encoder.conceal(bytes_of(id)) for id in listed]
    assert found(ids, encoder) == bulk.hashes_of_bytes(conceal).tolist()


# Bad ids


@pytest.mark.parametrize("encoder", [IdEncoder(), IdEncoder("s")], ids=["plain", "secret"])
@pytest.mark.parametrize("good", [7, "seven", b"seven"])
@pytest.mark.parametrize(("bad", "error", "words"), BAD.values(), ids=BAD)
def test_the_place_of_a_bad_id(bad, error, words, good, encoder):
    # Under a secret ids are hashed one by one, which takes a while; far ones come below.
    for index in (0, 3, 9) if encoder.has_secret else (0, 3, 9, CHUNK, 2 * CHUNK + 5):
        ids = [good] * (index + 5)
        ids[index] = bad
        for batch in (ids, tuple(ids), iter(ids), np.fromiter(ids, object, len(ids))):
            with raises(error, rf"^ids\[{index}\] {words}"):
                found(batch, encoder)


@pytest.mark.parametrize("encoder", [IdEncoder(), IdEncoder("s")], ids=["plain", "secret"])
def test_the_first_of_several_bad_ids_is_named(encoder):
    ids = ["x"] * 40_010
    ids[40_000], ids[40_005] = 1.5, None
    with raises(T, r"^ids\[40000\] .*float"):
        found(ids, encoder)


@pytest.mark.parametrize("width", [5, 1025, 1100])
@pytest.mark.parametrize("kind", ["S", "U"])
def test_the_place_of_a_bad_id_in_an_array_of_strings(kind, width):
    batch = np.full(CHUNK + 9, "x" * min(width, 9), f"{kind}{width}")
    batch[CHUNK + 3] = ""
    with raises(V, rf"^ids\[{CHUNK + 3}\] must not be empty"):
        found(batch)
    batch[:] = "x"
    batch[2] = "x" * width
    if width > 1024:
        with raises(V, rf"^ids\[2\] must be at most 1024 bytes, got {width}"):
            found(batch)
    else:
        assert len(found(batch)) == len(batch)


def test_lone_surrogates_in_an_array():
    with raises(V, r"^ids\[1\] cannot be encoded"):
        found(np.array(["a", "\udc80"]))


def test_ids_of_1024_bytes_in_a_wider_array():
    ids = ["x" * 1024, "y"]
    assert found(np.array(ids, "S1200")) == found(np.array(ids, "U1200")) == expected(ids)


def test_the_argument_is_named_as_the_caller_calls_it():
    with raises(T, r"^users\[1\] must be"):
        list(bulk.hashes(IdEncoder(), [1, None], "users"))
    with raises(T, "^users must be a list"):
        list(bulk.hashes(IdEncoder(), 7, "users"))
