"""A pipe that pauses: what it brought is handed on whole, once, and that it pauses is told."""

import re
from itertools import takewhile
from threading import Timer

import pytest

pytest.importorskip("apachelogs")

from activity_tracker_hll.event_files import blocks, opening
from activity_tracker_hll.event_files.layout import Filter, Layout
from activity_tracker_hll.event_files.lines import Rejected
from activity_tracker_hll.event_files.sources import read_events
from helpers.event_files import UTC
from helpers.pipes import pipe

LOG = '%s - - [02/Jan/2026:10:00:00 +0000] "GET / HTTP/1.1" %d 5 "-" "-"\n'
BAD = "neither\n"


def csv(*ids):
    return "".join(f"{id},2026-01-02T10:00:00\n" for id in ids)


def jsonl(*ids):
    return "".join(f'{{"id": "{id}", "time": "2026-01-02T10:00:00"}}\n' for id in ids)


def log(*ids):
    return "".join(LOG % (id, 200) for id in ids)


def words(*ids):
    return "".join(f"{id} 2026-01-02T10:00:00\n" for id in ids)


ONLY_200 = Layout(format="log", filters=(Filter("status", re.compile("200"), keeps=True),))
CASES = {
    "csv": (Layout(format="csv"), "id,time\n", csv, BAD),
    "whitespace": (Layout(format="whitespace"), "id time\n", words, "\n" + BAD),
    "jsonl": (Layout(format="jsonl"), "", jsonl, "\n" + BAD),
    "a log": (Layout(format="log"), "", log, BAD),
    "a log with filters": (ONLY_200, "", log, LOG % ("bob", 404)),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    for module in (blocks, opening):
        monkeypatch.setattr(module, "PATIENCE_S", 0.02)


@pytest.mark.parametrize("case", CASES)
def test_what_a_pipe_brings_is_handed_on_when_it_pauses(case):
    """Also where the last line is no event, or only a part of one has come."""
    layout, head, lines, other = CASES[case]
    steps = [
        (head + lines("u1", "u2"), [b"u1", b"u2"]),
        (lines("u3"), [b"u3"]),
        (other + lines("u4") + other, [b"u4"]),
        (other, []),
        (lines("u5", "u6") + "u", [b"u5", b"u6"]),
        ("n", []),
    ]
    with pipe() as (stream, sink):
        events = read_events(stream, layout, UTC, rejected=Rejected())
        for text, expected in steps:
            sink.write(text.encode())
            assert [id for part in until_a_pause(events) for id in part.ids.tolist()] == expected


@pytest.mark.parametrize("names", [None, ("id", "time")])
@pytest.mark.parametrize("place", [2, 5, 6, 8])
def test_a_pipe_may_pause_anywhere_in_its_first_lines(place, names):
    text = ("sep=;\n" + ("id;time\n" if names is None else "") + csv("u1").replace(",", ";")).encode()
    with pipe() as (stream, sink):

        def write_the_rest():
            sink.write(text[place:])
            sink.close()

        sink.write(text[:place])
        writer = Timer(5 * opening.PATIENCE_S, write_the_rest)
        writer.start()
        events = list(read_events(stream, Layout(format="csv", delimiter=";", names=names), UTC))
        writer.join()
    assert [id for part in events for id in part.ids.tolist()] == [b"u1"]


def test_what_a_pipe_brings_at_once_is_handed_on_in_few_parts():
    """Whether the fast path reads it, or not."""
    plain, quoted = csv("u"), csv('"u\n"')
    with pipe() as (stream, sink):
        sink.write(("id,time\n" + (plain + quoted) * 300).encode())
        parts = until_a_pause(read_events(stream, Layout(format="csv"), UTC))
    assert sum(map(len, parts)) == 600
    assert len(parts) <= 4


def test_of_a_file_nothing_pauses_however_long_it_takes_to_read(tmp_path, monkeypatch):
    """Such as one that is compressed well."""
    monkeypatch.setattr(blocks, "PATIENCE_S", 0)
    path = tmp_path / "in.csv"
    path.write_text("id,time\n" + csv(*range(30_000)))
    assert all(map(len, read_events(path, Layout(format="csv"), UTC)))


def until_a_pause(events):
    return list(takewhile(len, events))
