"""However a stream is cut into reads, and however slow it is, its lines are those of the whole."""

import bz2
import gzip
import io
import lzma
import os
import random
import sys
import threading
import zlib
from contextlib import contextmanager
from itertools import islice, pairwise, repeat
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("apachelogs")

from activity_tracker_hll.event_files import opening
from activity_tracker_hll.event_files.blocks import blocks
from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.lines import Lines, Rejected
from activity_tracker_hll.event_files.opening import HEAD, Stream, opened
from activity_tracker_hll.event_files.sources import Source, read_sources
from helpers.event_files import COMBINED, UTC

zstd = pytest.importorskip("backports.zstd")

COMPRESSIONS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


class Reads:
    """A pipe that brings parts, each in reads of any size, and is idle as it pleases."""

    def __init__(self, text, sizes, is_there=lambda: True):
        self._text, self._sizes, self._is_there = io.BytesIO(text), sizes, is_there

    def read1(self, size):
        return self._text.read(min(size, next(self._sizes)))

    def wait(self, _seconds):
        return self._is_there()


class Idle:
    """A pipe that brings no more than this for now."""

    def __init__(self, *parts):
        self._parts = list(parts)

    def read1(self, size):
        if not self._parts:
            pytest.fail("waits for ever")
        part, rest = self._parts[0][:size], self._parts[0][size:]
        self._parts[:1] = [rest] if rest else []
        return part

    def wait(self, _seconds):
        return bool(self._parts)


@contextmanager
def reading(pipe, head=HEAD):
    """A stream of what a pipe brings, of which so many bytes can be looked at."""
    waiting = patch.object(opening, "_waiting", lambda file: file.wait)
    with waiting, patch.object(opening, "HEAD", head), opened("-", pipe, lambda _: None) as stream:
        yield stream


def by_lines(stream, _size, rejected):
    return list(Lines.of(stream, "in", rejected))


def by_blocks(stream, size, rejected):
    made = blocks(stream, "in", rejected, size, clock=lambda: 0.0)  # how slow the machine is changes nothing
    return [line for block in made for line in io.BytesIO(block.text)]


@pytest.mark.parametrize("read", [by_lines, by_blocks])
@given(
    lines=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff"))),
    parts=st.integers(1, 3),
    encoding=st.sampled_from(ENCODINGS),
    compression=st.sampled_from(sorted(COMPRESSIONS)),
    head=st.integers(6, 40),
    has_isal=st.booleans(),
    largest=st.sampled_from([1, 2, 5, 100]),
    seed=st.randoms(use_true_random=False),
)
def test_lines_do_not_depend_on_the_sizes_of_reads(
    read, lines, parts, encoding, compression, head, has_isal, largest, seed
):
    expected = [f"{line}\n".encode() for line in lines]
    text = "".join(f"{line}\n" for line in lines).encode(encoding)
    cuts = [0, *sorted(seed.randint(0, len(text)) for _ in range(parts - 1)), len(text)]
    packed = b"".join(COMPRESSIONS[compression](text[a:b]) for a, b in pairwise(cuts))
    sizes = iter(lambda: seed.randint(1, largest), None)
    modules = {} if has_isal else {"isal": None}
    reads = Reads(packed, sizes, lambda: seed.random() < 0.7)
    with patch.dict(sys.modules, modules), reading(reads, head) as stream:
        rejected = Rejected()
        assert read(stream, lambda: seed.randint(1, 50), rejected) == expected
        assert rejected.count == 0


@pytest.mark.parametrize("room", range(1, 9))
def test_no_room_is_too_small_to_hand_out_something(room):
    """What reads nothing is at its end, to whoever reads."""
    source = io.BytesIO(b"x" * 20)
    stream = Stream(lambda _: source.read(5), lambda _: True)
    assert b"".join(iter(lambda: stream.read1(room), b"")) == b"x" * 20


ROWS = {
    "csv": (b"time,id\n", lambda n: b"2026-01-02T10:00:00Z,user%06d\n" % n),
    "jsonl": (b"", lambda n: b'{"id": "user%06d", "time": "2026-01-02T10:00:00Z"}\n' % n),
    "log": (b"", lambda n: COMBINED.replace(b"10.0.0.1", b"10.0.%d.%d" % divmod(n, 256))),
}


def events_of(standard_input, format):
    source = Source("-")
    found = read_sources([source], Layout(format=format), UTC, standard_input)
    ids = {id for part in found for id in part.ids}
    assert (source.error, source.rejected.count) == (None, 0)
    return len(ids), source.events


@pytest.mark.parametrize("largest", [1 << 20, 5_000])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("format", ROWS)
def test_files_that_are_longer_than_what_is_looked_at_first(format, encoding, largest):
    header, row = ROWS[format]
    text = header + b"".join(map(row, range(12_000)))
    assert len(text) > 1.3 * HEAD
    sizes = random.Random(1)
    reads = Reads(text.decode().encode(encoding), iter(lambda: sizes.randint(1, largest), None))
    assert events_of(reads, format) == (12_000, 12_000)


def in_parts(text, compress, chance):
    """A text that was compressed in parts of any size."""
    cuts = [0]
    while cuts[-1] < len(text):
        cuts.append(cuts[-1] + chance.randint(1, chance.choice([100, 10_000, 300_000])))
    return b"".join(compress(text[a:b]) for a, b in pairwise(cuts))


@pytest.mark.extended
@pytest.mark.usefixtures("reader_of_gzip")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_long_files_in_parts_and_reads_of_any_size(compression, encoding):
    chance = random.Random(1)
    header, row = ROWS["csv"]
    text = (header + b"".join(map(row, range(20_000)))).decode().encode(encoding)
    packed = in_parts(text, COMPRESSIONS[compression], chance)
    largest = chance.choice([50, 5_000, 1 << 20])
    assert events_of(Reads(packed, iter(lambda: chance.randint(1, largest), None)), "csv") == (20_000, 20_000)


@pytest.mark.parametrize("compression", ["plain", "gzip"])
def test_a_pipe_that_is_written_line_by_line(compression):
    header, row = ROWS["csv"]
    lines = [header, *map(row, range(3_000))]
    receiver, sender = os.pipe()

    def write():
        with os.fdopen(sender, "wb", buffering=0) as pipe:
            pipe.writelines(map(COMPRESSIONS[compression], lines))

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(receiver, "rb") as pipe:
        assert events_of(pipe, "csv") == (3_000, 3_000)
    writer.join()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes always wait")
def test_a_pipe_that_never_waits_is_waited_for():
    """Who shares a pipe may have set it so; nothing to read is not its end then."""
    receiver, sender = os.pipe()
    os.set_blocking(receiver, False)
    with os.fdopen(sender, "wb", buffering=0) as writing, os.fdopen(receiver, "rb") as pipe:
        assert pipe.read1(9) == b""
        writer = threading.Timer(0.05, lambda: (writing.write(b"u1,2026-01-02\n"), writing.close()))
        writer.start()
        assert [*opened_lines(pipe)] == [b"u1,2026-01-02\n"]
        writer.join()


def opened_lines(pipe):
    with opened("-", pipe, lambda _: None) as stream:
        yield from Lines.of(stream, "in", Rejected())


# Slow ones


def flushed(compression, text):
    """A text of which all can be decompressed, and more is to come."""
    if compression == "gzip":
        packer = zlib.compressobj(wbits=31)
        return packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
    packer = zstd.ZstdCompressor()
    return packer.compress(text, zstd.ZstdCompressor.FLUSH_BLOCK)


@pytest.mark.usefixtures("reader_of_gzip")
@pytest.mark.parametrize("form", ["plain", "utf-16", "gzip", "zstd"])
def test_what_a_slow_pipe_brings_is_handed_on_before_more_comes(form):
    text = b"first\nsecond\n"
    packed = {"plain": text, "utf-16": text.decode().encode("utf-16")}.get(form) or flushed(form, text)
    with reading(Idle(packed)) as stream:
        block = next(blocks(stream, "in", Rejected(), lambda: 1 << 18))
        assert (block.text, block.is_slow) == (text, True)


@pytest.mark.usefixtures("reader_of_gzip")
@pytest.mark.parametrize("form", ["utf-16", *COMPRESSIONS])
def test_no_block_is_slow_while_there_is_more_of_what_was_read(form):
    """However idle the pipe is."""
    text = b"".join(b"line %d\n" % number for number in range(50_000))
    packed = text.decode().encode("utf-16") if form == "utf-16" else COMPRESSIONS[form](text)
    with reading(Idle(packed, b"")) as stream:
        found = list(islice(blocks(stream, "in", Rejected(), lambda: 1000, lambda: 0), 500))
        assert not any(block.is_slow for block in found)
        assert stream.wait(0)


def test_what_a_pipe_begins_with_is_a_whole_line_at_least():
    """Half of it could look like something else."""
    with reading(Reads(b"time,id\nx", repeat(1), lambda: False)) as stream:
        assert stream.peek() == b"time,id\n"


def test_a_carriage_return_whose_line_feed_is_still_to_come_is_no_line_end():
    with reading(Reads(b"a,b\r\nc\r\n", repeat(9)), head=4) as stream:
        assert list(Lines.of(stream, "in", Rejected())) == [b"a,b\r\n", b"c\r\n"]
