"""One file as events: by its path, or as a stream that is open."""

import gzip
import io
import os
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from activity_tracker_hll.errors import ArgumentTypeError
from activity_tracker_hll.event_files.layout import Layout, LayoutError
from activity_tracker_hll.event_files.lines import Rejected
from activity_tracker_hll.event_files.sources import Source, read_events, read_sources
from helpers.event_files import UTC, rows

TEXT = b"id,time\nann,2026-01-02T10:00:00\nbob,soon\neve,2026-01-03T10:00:00\n"


def found(file, **options):
    rejected = Rejected()
    ids = [id for id, _, _ in rows(read_events(file, calendar=UTC, rejected=rejected, **options))]
    return sorted(ids), rejected.first


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_bytes(TEXT)
    return path


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path(path, kind):
    ids, bad = found(kind(path))
    assert ids == [b"ann", b"eve"]
    assert bad[0].startswith(f"{path}, line 3: ")


@pytest.mark.parametrize(
    "made",
    [
        io.BytesIO,
        lambda text: io.BytesIO(gzip.compress(text)),
        lambda text: io.BufferedReader(io.BytesIO(text)),
    ],
)
def test_a_stream_stays_open(made):
    stream = made(TEXT)
    ids, [bad] = found(stream)
    assert ids == [b"ann", b"eve"]
    assert "line 3: " in bad
    assert not stream.closed


@pytest.mark.parametrize("kept", [0, 1000, 60_000])
def test_a_file_that_is_cut_while_it_is_read_is_damaged(path, kept):
    """As by logrotate's copytruncate: what it had is lost, wherever the cut is."""
    line = b"ann,2026-01-02T10:00:00\n"
    path.write_bytes(b"id,time\n" + 60_001 * line)
    source = Source(str(path))
    parts = read_sources([source], Layout(), UTC)
    next(parts)
    os.truncate(path, 8 + kept * len(line))
    list(parts)
    assert source.events < 60_001
    assert "cut while it was read" in f"{source.error} {source.rejected.first}"


def test_a_file_that_is_open(path):
    with path.open("rb") as stream:
        assert found(stream) == found(path)
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(TEXT))) as stream:
        assert found(stream)[0] == [b"ann", b"eve"]


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
    ids, [bad] = found("-")
    assert ids == [b"ann", b"eve"]
    assert bad.startswith("stdin, line 3: ")


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")


def database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE visits (id, time)")
        connection.commit()


def arrow_stream(path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"id": ["x"]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def old_feather(path):
    path.write_bytes(b"FEA1" + bytes(60) + b"FEA1")  # pyarrow is about to forget how


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (zipped, "zip archive, as Excel's"),
        (database, "database of SQLite"),
        (arrow_stream, "stream of Arrow's"),
        (old_feather, "Feather of version 1"),
    ],
)
def test_what_is_neither_text_nor_a_table_is_called_by_its_name(tmp_path, write, words, pack):
    write(tmp_path / "visits")
    (tmp_path / "packed").write_bytes(pack((tmp_path / "visits").read_bytes()))
    with pytest.raises(LayoutError, match=words):
        found(tmp_path / "packed")


def test_a_table_by_its_path_only(tmp_path):
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "visits"
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"id": ["x"], "time": ["2026-01-02"]}), path)
    assert found(path) == ([b"x"], [])
    with pytest.raises(LayoutError, match="neither piped"):
        found(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("file", [None, 3, b"visits.csv", io.StringIO("id,time"), ["visits.csv"]])
def test_what_is_no_file_is_refused_before_anything_is_asked_for(file):
    with pytest.raises(ArgumentTypeError, match="file must be a path"):
        read_events(file)


def test_what_keeps_a_file_from_being_read_is_raised(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        found(tmp_path / "none")
    with pytest.raises(LayoutError, match="no field 'user'"):
        found(path, layout=Layout(id="user"))
