"""The file: used whole, or refused whole with a sentence; and what is written to it."""

import os
import pickle
import random
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from activity_tracker_hll import Archive, ArchiveError, ArgumentTypeError, ArgumentValueError
from activity_tracker_hll.archives import ArchiveFile, Head, Record
from activity_tracker_hll.archives import database as database_module
from activity_tracker_hll.hll.registers import empty
from helpers.errors import raises

NEW = Head("active", 0, has_tables=True)


def record(number=1, bucket="a"):
    registers = empty()
    registers[: 16384 // 2] = number
    return Record("daily-20260101", bucket, number, "1.5", registers, registers, {b"x" * 40: -7, b"y": 8})


def content(path):
    """All that is in an archive."""
    file = ArchiveFile(path)
    with file.reading() as held:
        return held.head, {of: held.row(entry) for of, entry in held.entries.items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activity.archive"


@pytest.fixture
def written(path):
    with ArchiveFile(path).writing(NEW) as changes:
        for number in range(12):
            changes.put(record(number, f"bucket {number}"))
    return path


def test_what_was_written_is_read(written):
    with ArchiveFile(written).reading() as held:
        assert held.head.records == len(held.entries) == 12
        read = held.record("daily-20260101", "bucket 3")
        assert (read.counted, read.stderr, read.moves) == (3, "1.5", record().moves)
        assert (read.tracked == record(3).tracked).all()
        assert held.record("daily-20260101", None) is None


def test_writing_the_same_changes_nothing(written):
    before = content(written)
    with ArchiveFile(written).writing(NEW) as changes:
        changes.put(record(3, "bucket 3"))
        assert changes.changed == 0
        changes.put(record(9, "bucket 4"))
        assert changes.changed == 1
    head, rows = content(written)
    assert (head.records, head.revision) == (12, before[0].revision + 1)
    assert sum(row != before[1][of] for of, row in rows.items()) == 1


def test_an_exception_leaves_it_as_it_was(written):
    before = written.read_bytes()

    def fail():
        with ArchiveFile(written).writing(NEW) as changes:
            changes.put(record(9))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert written.read_bytes() == before


def test_what_is_cut_off_is_refused_whole(written):
    data = written.read_bytes()
    size = len(data)
    for length in sorted({0, 1, 15, 16, 99, 100, 4095, size - 1, *range(0, size, max(1, size // 150))}):
        written.write_bytes(data[:length])
        with raises(ArchiveError, "^the archive '.*(damaged|cut off)"):
            content(written)
        with raises(ArchiveError, "damaged|cut off"), ArchiveFile(written).writing(NEW):
            pass
        assert written.read_bytes() == data[:length]


def flip(written, places):
    """Flip a bit at each place, one at a time; returns how often that was refused."""
    data, before, refused = written.read_bytes(), content(written), 0
    for place in places:
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        written.write_bytes(changed)
        try:
            found = content(written)
        except ArchiveError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
        else:  # of a byte that means nothing, such as one of a page that is not full
            assert found[1] == before[1]
            assert found[0] == before[0]
    return refused


def test_a_flipped_bit_is_seen_or_means_nothing(written):
    dice = random.Random(1)
    bits = 8 * written.stat().st_size
    assert flip(written, [dice.randrange(bits) for _ in range(150)]) > 30


@pytest.mark.extended
def test_any_flipped_bit_of_the_first_pages_is_seen_or_means_nothing(written):
    flip(written, range(8 * 100))
    dice = random.Random(2)
    bits = 8 * written.stat().st_size
    flip(written, [dice.randrange(bits) for _ in range(1000)])


def test_every_byte_of_a_record_counts(written):
    moves = content(written)[1]["daily-20260101", "bucket 3"][6]
    start = written.read_bytes().index(moves)
    assert flip(written, [8 * (start + at) for at in range(len(moves))]) == len(moves)


def database(path, **pragmas):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE head (id, document, digest)")
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")
    connection.commit()
    connection.close()


FOREIGN = {
    "text": lambda path: path.write_text("date,bucket,count\n" * 100),
    "SQLite": database,
    "other application": lambda path: database(path, application_id=7, user_version=1),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_and_left_alone(path, kind):
    FOREIGN[kind](path)
    before = path.read_bytes()
    with raises(ArchiveError, "is no archive of activity_tracker_hll"):
        Archive(path)
    with raises(ArchiveError, "is no archive"), ArchiveFile(path).writing(NEW):
        pass
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_newer_file_is_refused(written):
    data = bytearray(written.read_bytes())
    data[60:64] = (2).to_bytes(4, "big")
    written.write_bytes(data)
    with raises(
        ArchiveError, "has format 2, of which this version of activity_tracker_hll knows only 1: a newer"
    ):
        Archive(written)


def test_records_that_were_left_out_put_back_or_repeated_are_seen(written):
    connection = sqlite3.connect(written)
    for statement in (
        "DELETE FROM records WHERE id = 3",
        """INSERT INTO records SELECT 99, digest, period, bucket, count, stderr, tracked, moved, moves,
        is_whole FROM records WHERE id = 3""",
        "UPDATE records SET bucket = 'other' WHERE id = 3",
        "DELETE FROM head",
        "DROP TABLE records",
    ):
        connection.execute("BEGIN")
        connection.execute(statement)
        connection.commit()
        data = written.read_bytes()
        with raises(ArchiveError, "is damaged, so nothing of it is used"):
            content(written)
        assert written.read_bytes() == data
    connection.close()


def test_a_name_that_is_none_is_damage(path):
    with ArchiveFile(path).writing(NEW) as changes:
        changes.put(record(1)._replace(period="daily-20260231"))
    with raises(ArchiveError, "is no period and bucket"):
        content(path)


TRY_TO_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    sys.exit(str(error))
"""


def test_who_reads_in_a_process_that_writes_lets_no_other_write(written):
    """Locks are a process's: who opens and closes the file without SQLite ends them, and it gets damaged."""
    with ArchiveFile(written).writing(NEW) as changes:
        changes.put(record(3, "new"))
        assert len(content(written)[1]) == 12
        other = subprocess.run(
            [sys.executable, "-c", TRY_TO_WRITE, written], capture_output=True, text=True, check=False
        )
        assert other.stderr == "database is locked\n"
    assert len(content(written)[1]) == 13


def test_what_is_no_file_is_not_waited_for(path):
    os.mkfifo(path)
    with raises(ArchiveError, "it is no regular file"):
        content(path)


def test_paths_that_are_none(tmp_path):
    for bad in (7, None, b"x\0"):
        with raises((ArgumentTypeError, ArgumentValueError), "path"):
            Archive(bad)
    for bad in ("", "a\0b"):
        with raises(ArgumentValueError, "path must"):
            Archive(bad)
    with raises(ArchiveError, "the archive '.*none' cannot be used: there is no such file or directory"):
        Archive(tmp_path / "none")
    with raises(ArchiveError, "cannot be used: it is a directory"):
        Archive(tmp_path)
    with (
        raises(ArchiveError, "there is no directory '.*no'"),
        ArchiveFile(tmp_path / "no" / "dir").writing(NEW),
    ):
        pass


def test_odd_names(tmp_path):
    for name in ("a b?mode=memory#x%20", "ü", "-journal", "x" * 240):
        with ArchiveFile(tmp_path / name).writing(NEW) as changes:
            changes.put(record())
        assert content(tmp_path / name)[0].records == 1
    assert len(list(tmp_path.iterdir())) == 4


def test_a_reader_sees_what_another_wrote_meanwhile(written):
    archive = Archive(written)
    assert len(archive.inventory()) == 12
    with ArchiveFile(written).writing(NEW) as changes:
        changes.put(record(1, "new"))
        assert len(archive.inventory()) == 12
    assert len(archive.inventory()) == 13


def test_two_writers_wait_for_each_other(written):
    def write(bucket):
        with ArchiveFile(written).writing(NEW) as changes:
            changes.put(record(1, bucket))

    threads = [threading.Thread(target=write, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(written)[0].records == 20


def test_a_writer_that_never_ends_is_named(written, monkeypatch):
    monkeypatch.setattr(database_module, "_PATIENCE_S", 0.01)
    with ArchiveFile(written).writing(NEW):
        with raises(ArchiveError, "is being written by another process"), ArchiveFile(written).writing(NEW):
            pass
        assert content(written)[0].records == 12


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_only_be_read(written):
    written.chmod(stat.S_IRUSR)
    assert content(written)[0].records == 12
    with raises(ArchiveError, "cannot be"), ArchiveFile(written).writing(NEW):
        pass


def test_an_archive_is_pickled_by_its_arguments(written):
    archive = Archive(written, periods=["daily"], buckets=["a"], secret="pepper")
    again = pickle.loads(pickle.dumps(archive))
    assert repr(again) == repr(archive)
    assert again.inventory() == archive.inventory()
    assert "pepper" not in repr(archive)


def test_who_uses_no_archive_needs_no_sqlite(tmp_path):
    code = (
        "import sys; sys.modules['sqlite3'] = None\n"
        "import activity_tracker_hll as library, activity_tracker_hll.aio\n"
        "try: library.Archive('none')\n"
        "except library.ArchiveError as error: print(error)\n"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert said == "archives need the module sqlite3, which this Python was made without\n"
