"""No file makes the process that reads it grow: measured in a process of its own, of which little is asked.

What an import makes of many days and buckets is in tests/cli/test_memory.py.
"""

import gzip
import lzma
import sys
import zlib
from itertools import chain, repeat

import pytest

pytest.importorskip("apachelogs")
pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.event_files import COMBINED
from helpers.peaks import peak_of

MB = 1 << 20
MOST = 100 * MB
"""For a process that reads; the modules alone take half of it."""

READ = """
import sys
from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.sources import Source, read_sources
from activity_tracker_hll.periods import Calendar

source, layout = Source(sys.argv[1]), Layout(id=sys.argv[2] or None)
for _ in read_sources([source], layout, Calendar("UTC"), hourly=True):
    pass
print(source.events, source.rejected.count, source.error, *source.rejected.first[:1])
"""


def long_times(count):
    """Each a little less than a megabyte, so that its line is none that is skipped, and unlike the others."""
    yield b"id,time\n"
    for number in range(count):
        yield b"ann,%d" % number + b"1" * (MB - 100) + b"\n"


def long_times_of_a_log(count):
    for number in range(count):
        time = b"%d" % number + b"1" * (MB - 200)
        yield COMBINED.replace(b"17/May/2015:10:05:03 +0200", time)


def long_times_in_json(count):
    for number in range(count):
        yield b'{"id": "ann", "time": "%d' % number + b"1" * (MB - 100) + b'"}\n'


def long_values(count):
    """Ids and buckets that are all too long, and names of fields that differ."""
    for number in range(count):
        yield b'{"id": "%d%s", "time": "2026-01-02T10:00:00", "%d": 0}\n' % (
            number,
            b"1" * (MB - 100),
            number,
        )


def many_names(count):
    """Each object has fields of its own, hundreds of thousands in all."""
    for number in range(count):
        names = b",".join(b'"%d-%d": 0' % (number, place) for place in range(50_000))
        yield b'{"id": "ann", "time": "2026-01-02T10:00:00", %s}\n' % names


def many_fields(count):
    yield b"id,time\n"
    yield from repeat(b"," * (MB - 1) + b"\n", count)


def many_times(count):
    """A hundred a kilobyte: in each form of fraction and offset that there is, in a zone of its own."""
    yield b"id,time\n"
    for number in range(count * 500):
        second, offset = number % 60, number % 1400
        yield b"ann,%d-%02d-%02dT10:00:%02d.%0*d+%02d:%02d\n" % (
            1990 + number // 372 % 100,
            number // 31 % 12 + 1,
            number % 28 + 1,
            second,
            number % 6 + 1,
            0,
            offset // 60,
            offset % 60,
        )


EVENT = b"ann,2026-01-02T10:00:00"
OBJECT = b'{"id": "ann", "time": "2026-01-02T10:00:00"}\n'
LONG_LINES = (b"x" * 999 + b"\n") * 1000
BRACKETS = (b"[" * 999 + b"\n") * 1000

FILES = {
    "times of a megabyte, csv": long_times,
    "times of a megabyte, log": long_times_of_a_log,
    "times of a megabyte, jsonl": long_times_in_json,
    "ids of a megabyte": long_values,
    "names": many_names,
    "fields": many_fields,
    "forms of times": many_times,
    "a line without an end": lambda count: chain([b"id,time\n"], repeat(b"x" * MB, count)),
    "a quote without an end": lambda count: chain([b'id,time\n"'], repeat(LONG_LINES, count)),
    "an object without an end": lambda count: chain([b'{"id": "x",\n"x": ["'], repeat(LONG_LINES, count)),
    "brackets without an end": lambda count: chain([b'{"id": "x",\n'], repeat(BRACKETS, count)),
    "an array without an end": lambda count: chain([b"["], repeat(b"[" * MB, count)),
    "deep lines": lambda count: chain([OBJECT], repeat(b'{"id": ' + b"[" * (MB - 100) + b"\n", count)),
    "empty lines": lambda count: chain([b"id,time\n" + EVENT + b"\n"], repeat(b"\n" * 10_000, count)),
    "old Mac's lines": lambda count: chain([b"id,time\r"], repeat((EVENT + b"\r") * 10_000, count)),
    "zeros": lambda count: repeat(bytes(MB), count),
}


def written(path, pieces):
    """A bomb: what is all the same takes next to nothing."""
    with gzip.open(path, "wb", 1) as file:
        file.writelines(pieces)
    return path


def size_of(path, status=0, id=""):
    peak = peak_of([sys.executable, "-c", READ, str(path), id], 8 * MOST)
    assert peak.status == status, peak.output
    return peak.size, peak.output


SHORT = [name for name in FILES if "without" not in name and name not in ("zeros", "fields", "empty lines")]


@pytest.mark.extended
@pytest.mark.parametrize("name", [*SHORT, "a line without an end", "a quote without an end"])
def test_no_file_fills_the_memory(tmp_path, name):
    size, output = size_of(written(tmp_path / "in.gz", FILES[name](12)))
    assert size < MOST, output


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_no_large_file_fills_the_memory(tmp_path, name):
    size, output = size_of(written(tmp_path / "in.gz", FILES[name](1000)))
    assert size < MOST, output


STEPS, ROWS = 20, 1000
LONG = "x" * 20_000
BY_DIFFERENCES = {"use_dictionary": False, "column_encoding": {"id": "DELTA_BYTE_ARRAY"}}


@pytest.mark.extended
@pytest.mark.parametrize(
    ("column", "options", "told"),
    [
        ("id", {"use_dictionary": True}, "id must be at most 1024 bytes"),
        ("id", {"use_dictionary": False}, "id must be at most 1024 bytes"),
        ("id", BY_DIFFERENCES, "id must be at most 1024 bytes"),
        ("user.id", {"use_dictionary": True}, "id must be at most 1024 bytes"),
        ("time", {"use_dictionary": True}, "no time has the format 'iso'"),
    ],
    ids=str,
)
def test_no_small_table_fills_the_memory(tmp_path, column, options, told):
    """A long value in all rows, which the file has once, or compressed."""
    columns = {"id": ["ann"] * ROWS, "time": ["2026-01-02T10:00:00"] * ROWS}
    long = {"user": [{"id": LONG}] * ROWS} if column == "user.id" else {column: [LONG] * ROWS}
    table, path = pa.table({**columns, **long}), tmp_path / "events.parquet"
    with pq.ParquetWriter(path, table.schema, compression="zstd", **options) as writer:
        for _ in range(STEPS):
            writer.write_table(table)
    assert path.stat().st_size < MB
    size, output = size_of(path, id="" if column == "time" else column)
    assert told in output
    assert size < 2.5 * MOST, output


@pytest.mark.extended
def test_a_file_of_xz_does_not_say_how_much_memory_it_takes(tmp_path):
    """Of 4 GB as of 8 MB: a number in its header, which has a checksum."""
    packed = bytearray(lzma.compress(b"id,time\nann,2026-01-02T10:00:00\n" * 10_000))
    assert packed[14:16] == b"\x21\x01"  # the filter LZMA2, and one byte: the size of its dictionary
    packed[16] = 40
    packed[20:24] = zlib.crc32(packed[12:20]).to_bytes(4, "little")
    path = tmp_path / "in.xz"
    path.write_bytes(packed)
    size, output = size_of(path)
    assert "xz data" in output
    assert size < MOST


@pytest.mark.extended
def test_what_grows_is_noticed():
    grows = "some = [b'x' * (1 << 20) for _ in range(150)]"
    assert peak_of([sys.executable, "-c", grows]).size > 150 * MB
    assert "MemoryError" in peak_of([sys.executable, "-c", grows], 100 * MB).output
