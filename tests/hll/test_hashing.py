"""MurmurHash64A of one id and of many, and the fold: against loops written from Appleby's source.

The reference is proved by the value that SMHasher publishes for the function; everything else is
compared with the reference. Dice are seeded.
"""

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activity_tracker_hll.hll import registers
from activity_tracker_hll.hll.hashing import SLACK, Hasher, hash_one
from activity_tracker_hll.hll.registers import MAX_RANK, REGISTERS, fold, histogram
from helpers.hashing import SIZES, WORD, folded, murmur, murmur64a, place_and_rank

# The reference


def test_the_reference_is_murmurhash64a():
    # KeysetTest's VerificationTest: keys of 0 to 255 bytes, each with a seed of its own.
    hashes = [murmur64a(bytes(range(size)), 256 - size) for size in range(256)]
    assert murmur64a(struct.pack("<256Q", *hashes), 0) & 0xFFFFFFFF == 0x1F0D3804


# One id


@pytest.mark.parametrize(
    ("data", "hashed"),
    [
        (b"", 0xD8DFEA6585BC9732),
        (b"7", 0x4D1458E7C530F9F7),
        (b"12345678", 0x95EBB86389132953),
        (b"123456789", 0x217532CB09F2A44D),
        (b"user@example.com", 0xD43EB48DDAD089C7),
        (bytes(8), 0x396F86B121D9C351),
        (b"\xff" * 17, 0x5E376FD9E669D582),
        ("日本".encode(), 0xA0E9E41D188EA7F6),
        (b"x" * 1024, 0xC94F6E074F57FA42),
    ],
)
def test_known_hashes(data, hashed):
    assert hash_one(data) == murmur(data) == hashed


@given(st.binary(max_size=1100))
def test_one_id(data):
    assert hash_one(data) == murmur(data)


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
def test_one_id_of_every_size(byte):
    hashes = [hash_one(byte * size) for size in range(1025)]
    assert hashes == [murmur(byte * size) for size in range(1025)]
    assert len(set(hashes)) == 1025


# Many of equal size


def equal(data, offset, count, size, stride):
    """Hashes by the code under test and by the reference, of ids in a buffer that ends where it may."""
    end = offset + ((count - 1) * stride + size if size >= 8 else count * stride + 8)
    buffer = np.frombuffer(data[:end], np.uint8)[offset:]
    ids = (data[offset + place * stride :][:size] for place in range(count))
    return Hasher(count).equal(buffer, count, size, stride).tolist(), list(map(murmur, ids))


@pytest.mark.parametrize("size", SIZES)
def test_equal_sizes_at_every_alignment_and_distance(size):
    data = np.random.default_rng(size).bytes(8 * (size + 20))
    for offset in range(8):
        for stride in (size, size + 1, size + 7, size + 8):
            hashes, expected = equal(data, offset, 5, size, stride)
            assert hashes == expected


@given(st.data())
def test_equal_sizes(data):
    size = data.draw(st.integers(1, 64))
    count = data.draw(st.integers(1, 9))
    stride = size + data.draw(st.integers(0, 9))
    text = data.draw(st.binary(min_size=count * stride + 15, max_size=count * stride + 15))
    hashes, expected = equal(text, data.draw(st.integers(0, 7)), count, size, stride)
    assert hashes == expected


def test_what_surrounds_ids_is_not_hashed():
    for size in SIZES:
        ids = [bytes([place]) * size for place in range(1, 4)]
        buffer = np.frombuffer(b"\xff".join(ids) + b"\xff" * 40, np.uint8)
        assert Hasher(3).equal(buffer, 3, size, size + 1).tolist() == list(map(murmur, ids))


# Many of different sizes


def ragged(hasher, ids, between=b"", after=b"\xff"):
    """Hashes of ids that stand in a buffer with something between them, and no more slack than needed."""
    starts = [sum(len(id) + len(between) for id in ids[:place]) for place in range(len(ids))]
    joined = between.join(ids) + after * SLACK
    sizes = np.array([len(id) for id in ids], np.int64)
    return hasher.ragged(np.frombuffer(joined, np.uint8), np.array(starts, np.int64), sizes).tolist()


@pytest.mark.parametrize("size", SIZES)
def test_one_size_alone_and_beside_its_neighbours(size):
    data = np.random.default_rng(size).bytes(1100)
    hasher = Hasher(40)
    for shift in range(8):
        ids = [data[shift:][:size]]
        assert ragged(hasher, ids) == [murmur(ids[0])]
    ids = [data[shift:][: max(0, size + change)] for shift in range(8) for change in (0, 1, -1, 7, -8)]
    assert ragged(hasher, ids) == ragged(hasher, ids, b"\xff") == list(map(murmur, ids))


def test_all_sizes_in_any_order():
    dice = np.random.default_rng(1)
    ids = [dice.bytes(size) for size in SIZES for _ in range(3)]
    hasher = Hasher(len(ids))
    for _ in range(3):
        dice.shuffle(ids)
        assert ragged(hasher, ids) == list(map(murmur, ids))


@given(st.lists(st.binary(max_size=80) | st.binary(min_size=1000, max_size=1024), max_size=40))
@example([])
@example([b""])
@example([b"\xff" * 32, b"\xff" * 64])
@example([b"\xff" * 255, b"\xff"])
@example([b"\xff" * 256, b"\xff"])
def test_different_sizes(ids):
    assert ragged(Hasher(40), ids) == list(map(murmur, ids))


def test_ids_may_overlap():
    data = np.random.default_rng(2).bytes(200)
    starts, sizes = np.array([0, 0, 100, 3, 199]), np.array([200, 8, 99, 150, 1])
    expected = [murmur(data[start:][:size]) for start, size in zip(starts, sizes, strict=True)]
    buffer = np.frombuffer(data + bytes(SLACK), np.uint8)
    assert Hasher(5).ragged(buffer, starts, sizes).tolist() == expected
    assert starts.tolist() == [0, 0, 100, 3, 199]  # the caller's
    assert sizes.tolist() == [200, 8, 99, 150, 1]


# Many numbers


def decimals(numbers):
    array = np.array(numbers, np.uint64)
    array.flags.writeable = False
    return Hasher(len(numbers)).decimals(array).tolist()


def hashes_of_text(numbers):
    return [murmur(b"%d" % number) for number in numbers]


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [0],
        [0, 0],
        [0, 1],
        [9, 0, 10],
        [1] * 5,
        [2**63 - 1],
        [2**63],
        [2**64 - 1],
        [0, 2**64 - 1, 2**63 - 1, 0],
        [2**power for power in range(64)],
    ],
)
def test_numbers(numbers):
    assert decimals(numbers) == hashes_of_text(numbers)


def test_numbers_around_each_power_of_ten():
    around = [10**power + change for power in range(20) for change in (-1, 0, 1)]
    assert decimals(around) == decimals(around[::-1])[::-1] == hashes_of_text(around)
    for number in around:
        assert decimals([number]) == hashes_of_text([number])


@pytest.mark.parametrize("length", range(1, 21))
def test_numbers_of_each_length(length):
    low, high = 10 ** (length - 1) if length > 1 else 0, min(10**length, 2**64) - 1
    dice = np.random.default_rng(length)
    numbers = [low, high, *dice.integers(low, high, 500, np.uint64, endpoint=True).tolist()]
    assert decimals(numbers) == hashes_of_text(numbers)


def test_every_number_of_up_to_four_digits_and_some_of_eight():
    # The two tables, and where 10^4 is divided by with a multiplication.
    assert decimals(range(10_000)) == hashes_of_text(range(10_000))
    edges = [
        head * 10_000 + tail for head in (*range(1000, 1100), *range(9900, 10_000)) for tail in (0, 9999)
    ]
    assert decimals(edges) == hashes_of_text(edges)


@given(
    st.lists(st.integers(0, 20).flatmap(lambda length: st.integers(0, min(10**length, WORD))), max_size=50)
)
def test_numbers_of_different_lengths(numbers):
    assert decimals(numbers) == hashes_of_text(numbers)


# The memory that is kept


def test_a_hasher_forgets_one_batch_before_the_next():
    hasher, ids = Hasher(100), [b"x" * size for size in range(1, 101)]
    for _ in range(2):
        assert ragged(hasher, ids) == list(map(murmur, ids))
        assert hasher.equal(np.frombuffer(b"abc" * 9, np.uint8), 5, 3, 3).tolist() == [murmur(b"abc")] * 5
        assert hasher.decimals(np.arange(100, dtype=np.uint64)).tolist() == hashes_of_text(range(100))
        assert ragged(hasher, [b"abc"]) == [murmur(b"abc")]


# The fold


def of(*hashes):
    return np.array(hashes, np.uint64)


@pytest.mark.parametrize(
    ("hashed", "place", "rank"),
    [
        (0, 0, 51),
        (0x3FFF, 0x3FFF, 51),
        (1234, 1234, 51),
        (1 << 63, 0, 50),
        (1 << 63 | 77, 77, 50),
        (WORD, 0x3FFF, 1),
        *((1 << bit, 0, bit - 13) for bit in range(14, 64)),
        *((WORD << bit & WORD, 0, bit - 13) for bit in range(14, 64)),
    ],
)
def test_ranks(hashed, place, rank):
    assert place_and_rank(hashed) == (place, rank)
    seen = registers.empty()
    fold(seen, of(hashed))
    assert seen[place] == rank
    assert np.count_nonzero(seen) == 1


HASHES = st.lists(
    st.integers(0, WORD)
    | st.builds(lambda place, bit: place | 1 << bit, st.integers(0, 3), st.integers(14, 63))
    | st.integers(0, 3),
    max_size=60,
)


@given(HASHES, HASHES, st.randoms(use_true_random=False))
def test_fold_is_a_loop_in_any_order_any_number_of_times(first, second, dice):
    seen = registers.empty()
    fold(seen, of(*first))
    assert np.array_equal(seen, folded(first))
    fold(seen, of(*second))
    both = folded(second, folded(first))
    assert np.array_equal(seen, both)
    mixed = [*first, *second, *first]
    dice.shuffle(mixed)
    again = registers.empty()
    fold(again, of(*mixed))
    assert np.array_equal(again, both)
    fold(again, of(*mixed))
    assert np.array_equal(again, both)


def test_fold_of_many():
    hashes = np.random.default_rng(3).integers(0, WORD, 50_000, np.uint64, endpoint=True)
    expected, seen = folded(hashes.tolist()), registers.empty()
    fold(seen, hashes)
    assert np.array_equal(seen, expected)
    parts = registers.empty()
    for part in np.array_split(hashes[::-1], 7):
        fold(parts, part)
    assert np.array_equal(parts, expected)


def test_a_register_that_is_chosen_often_keeps_the_highest():
    seen = registers.empty()
    fold(seen, of(*(5 | 1 << bit for bit in (20, 14, 63, 30, 14))))
    assert seen[5] == 50
    fold(seen, of(5 | 1 << 40))
    assert seen[5] == 50
    fold(seen, of(5))
    assert seen[5] == MAX_RANK == 51


def test_fold_of_nothing():
    seen = folded(range(100))
    before = seen.copy()
    fold(seen, of())
    assert np.array_equal(seen, before)


def test_registers_to_begin_with():
    seen, other = registers.empty(), registers.empty()
    seen[:] = 1
    assert (other.shape, other.dtype, other.any()) == ((REGISTERS,), np.uint8, False)


@given(HASHES)
def test_histogram(hashes):
    seen = folded(hashes)
    counted = histogram(seen)
    assert counted.shape == (52,)
    assert counted.tolist() == [seen.tolist().count(rank) for rank in range(52)]
