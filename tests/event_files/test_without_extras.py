"""What is read without the package for access logs, which is of an extra."""

import subprocess
import sys

import pytest

READ = """
import io, sys
sys.modules["apachelogs"] = None
from activity_tracker_hll import MissingExtraError
from activity_tracker_hll.event_files.layout import Layout
from activity_tracker_hll.event_files.sources import read_events
from activity_tracker_hll.periods import Calendar
text, options = sys.argv[1].encode(), eval(sys.argv[2])
try:
    parts = read_events(io.BytesIO(text), Layout(**options), Calendar("UTC"))
    print([id.decode() for part in parts for id, _, _ in part.rows()])
except MissingExtraError as error:
    print(error)
"""
W3C = "#Fields: date time c-ip\n2026-01-02 10:00:00 192.0.2.1\n"
LOG = '192.0.2.1 - - [02/Jan/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5\n'
NEEDED = "access logs need apachelogs, of the extra 'cli': pip install 'activity-tracker-hll[cli]'"


def read(text, **options):
    return subprocess.check_output([sys.executable, "-c", READ, text, str(options)], text=True).rstrip("\n")


@pytest.mark.parametrize(
    "text",
    [
        "id,time\nann,2026-01-02T10:00:00\n",
        "id\ttime\nann\t2026-01-02T10:00:00\n",
        "id time\nann 2026-01-02T10:00:00\n",
        '{"id": "ann", "time": "2026-01-02T10:00:00"}\n',
        '[{"id": "ann", "time": "2026-01-02T10:00:00"}]\n',
    ],
    ids=["CSV", "TSV", "white space", "JSON lines", "JSON"],
)
def test_what_is_no_access_log_needs_no_package(text):
    assert read(text) == "['ann']"


def test_nor_do_logs_of_other_servers():
    assert read(W3C) == "['192.0.2.1']"


@pytest.mark.parametrize("options", [{}, {"format": "log"}, {"log_format": "%h %l %u %t"}])
def test_access_logs_name_the_extra(options):
    assert read(LOG, **options) == NEEDED
