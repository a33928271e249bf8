"""Opening files: compressed, damaged, in other encodings; nothing of what can be read is lost."""

import bz2
import gzip
import io
import lzma
import os
import random
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.opening import HEAD, DamagedError, MissingPackageError, opened
from activity_tracker_hll.event_files.sources import Source, read_sources
from helpers.event_files import UTC, read_opened

zstd = pytest.importorskip("backports.zstd")

LINES = [b"line %d %d\n" % (number, number * 7919 % 1009) for number in range(20_000)]
TEXT = b"".join(LINES)
COMPRESSIONS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}


by_each_reader_of_gzip = pytest.mark.usefixtures("reader_of_gzip")


@by_each_reader_of_gzip
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_each_compression_by_its_first_bytes(name, tmp_path):
    packed = COMPRESSIONS[name](TEXT)
    (tmp_path / "x.log").write_bytes(packed)
    lines, size, rejected = read_opened(tmp_path / "x.log")
    assert (lines == LINES, size, rejected.count) == (True, len(packed), 0)
    assert read_opened("-", packed + packed)[0] == LINES * 2  # as `cat` of two such files


@by_each_reader_of_gzip
@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("damage", ["cut", "altered", "only the first bytes"])
def test_what_comes_before_damage_is_read(name, damage):
    packed = COMPRESSIONS[name](TEXT)
    middle = len(packed) * 4 // 5
    packed = {
        "cut": packed[:middle],
        "altered": packed[:middle]
        + bytes(255 - byte for byte in packed[middle : middle + 64])
        + packed[middle + 64 :],
        "only the first bytes": packed[:7],
    }[damage]
    lines, _, rejected = read_opened("-", packed)
    assert rejected.count == 1
    assert f"the {name} data are damaged or cut short" in rejected.first[0]
    if damage != "only the first bytes" and name in ("gzip", "xz"):
        assert len(lines) > 2_000


@by_each_reader_of_gzip
@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("after", ["a byte", "text", "another magic", "a damaged second part", "half of one"])
def test_damage_behind_the_end_is_told_in_each_format(name, after):
    packed = COMPRESSIONS[name](TEXT)
    garbage = {
        "a byte": b"x",
        "text": b"no compressed data\n" * 100,
        "another magic": b"".join(pack(b"") for other, pack in COMPRESSIONS.items() if other != name),
        "a damaged second part": packed[:2] + b"\xff" + packed[3:],
        "half of one": packed[: len(packed) // 2],
    }[after]
    lines, _, rejected = read_opened("-", packed + garbage)
    assert lines[: len(LINES)] == LINES
    assert rejected.count == 1
    assert f"the {name} data are damaged or cut short" in rejected.first[0]


def test_frames_of_zstd_that_are_to_be_skipped():
    """As seekable files have at their end, and those of pzstd before each part."""
    rest = b"\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"\xff\0\n\xff\0"
    first, last = b"\x50" + rest, b"\x5e" + rest
    assert read_opened("-", (zstd.compress(TEXT) + last) * 2)[0] == LINES * 2
    assert read_opened("-", (first + zstd.compress(TEXT)) * 2)[0] == LINES * 2


@pytest.mark.parametrize("zeros", [0, 4, 4 * HEAD])
def test_what_was_compressed_apart_is_one_file_whatever_zeros_are_between(zeros):
    assert read_opened("-", (lzma.compress(TEXT) + bytes(zeros)) * 2)[0] == LINES * 2


def test_a_file_does_not_decide_how_much_memory_its_reading_takes():
    packed = bytearray(lzma.compress(TEXT))
    end = 12 + 4 * packed[12] + 4 - 4  # of the header of the first block, without its checksum
    size = packed.index(b"\x21\x01", 13) + 2  # the number of the filter LZMA2 and the size of its properties
    packed[size] = 40  # 4 GB
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    lines, _, rejected = read_opened("-", bytes(packed))
    assert lines == []
    assert "Memory usage limit exceeded" in rejected.first[0]


def test_zstd_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(MissingPackageError, match=r"activity-tracker-hll\[zstd\]"):
        read_opened("-", zstd.compress(TEXT))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@settings(max_examples=20)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30), times=st.sampled_from([1, 9000]))
def test_encodings_by_their_mark(encoding, text, times):
    text = f"\n{text}" * times
    packed = (b"\xfe\xff" if encoding == "utf-16-be" else b"") + text.encode(encoding)
    assert b"".join(read_opened("-", packed)[0]) == text.encode()


def test_utf_16_that_is_cut_short():
    lines, _, rejected = read_opened("-", "a\nb\n".encode("utf-16")[:-1])
    assert lines == [b"a\n"]  # the other one is not known to be whole
    assert "UTF-16 text is cut short" in rejected.first[0]
    lines, _, rejected = read_opened("-", "a\nb\ud83d".encode("utf-16", "surrogatepass"))
    assert (lines, rejected.count) == ([b"a\n", b"b\xed\xa0\xbd"], 0)  # no UTF-8, and not left out


def test_a_pipe_that_is_written_a_little_at_a_time_is_seen_as_a_whole():
    class Pipe(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(1)

    with opened("-", Pipe(b"id,time\nx,2026-01-02\n"), lambda _: None) as stream:
        assert stream.peek() == b"id,time\nx,2026-01-02\n"


def test_line_ends_of_old_macs_and_of_others():
    assert read_opened("-", b"a\rb\r")[0] == [b"a\n", b"b\n"]
    assert read_opened("-", b"a\rb\r\n")[0] == [b"a\rb\r\n"]
    assert read_opened("-", b"a\r" * HEAD)[0] == [b"a\n"] * HEAD


@by_each_reader_of_gzip
def test_an_error_of_the_disk_is_no_damage(tmp_path):
    with pytest.raises(OSError, match="directory"), opened(str(tmp_path), io.BytesIO(), lambda _: None):
        pass

    class Broken(io.BytesIO):
        def read1(self, size=-1):
            if self.tell() > HEAD:
                raise OSError(5, "Input/output error")
            return super().read1(size)

    packed = gzip.compress(random.Random(1).randbytes(2 * HEAD))
    with opened("-", Broken(packed), lambda _: None) as stream, pytest.raises(OSError, match="Input/output"):
        stream.read()
    assert not issubclass(DamagedError, OSError)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names")
def test_of_a_pipe_with_a_name_nothing_is_lost():
    reading, writing = os.pipe()
    os.write(writing, b"".join(b"u%d,2026-01-02\n" % number for number in range(1000)))  # fits in it
    os.close(writing)
    source = Source(f"/dev/fd/{reading}")
    layout = Layout(format="csv", id="1", time="2", header=False)
    assert sum(map(len, read_sources([source], layout, UTC))) == 1000
    os.close(reading)
    assert source.error is None
