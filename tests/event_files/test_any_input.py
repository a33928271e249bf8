"""Input of any kind, damaged and hostile: bad lines at most, and memory stays flat; no server."""

import gzip
import io
import tracemalloc
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("apachelogs")

from activity_tracker_hll.event_files.layout import FORMATS, Layout, LayoutError
from activity_tracker_hll.event_files.lines import Rejected
from activity_tracker_hll.event_files.readers import read_stream
from helpers.event_files import COMBINED, COMMON, UTC, events, read_opened

SAMPLES = {
    "log": COMBINED + COMMON,
    "csv": b'id,time,site\n"x",2026-01-02,a\ny,2026-01-02,"b\nc"\n',
    "tsv": b"id\ttime\tsite\nx\t2026-01-02\ta\n",
    "whitespace": b"id time site\nx 2026-01-02 a\n",
    "jsonl": b'{"id": "x", "time": "2026-01-02", "site": 1}\n{"id": 7, "time": 20260102}\n',
}
junk = st.binary(max_size=60) | st.text("\"',:{}[]0123456789/-+\t\r\n \\x", max_size=60).map(str.encode)


@st.composite
def damaged(draw, format):
    """What may stand in a file: junk, or a good file with junk in its midst."""
    text = SAMPLES.get(format) or draw(st.sampled_from(sorted(SAMPLES.values())))
    if draw(st.booleans()):
        return draw(junk)
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return text[:first] + draw(junk) + text[last:]


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
def test_no_input_whatsoever_is_more_than_bad(format, data):
    text = data.draw(damaged(format))
    fields = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "id": st.sampled_from(["1", "id", "User-Agent"]),
                "time": st.sampled_from(["2", "time", "request_time"]),
                "bucket_field": st.sampled_from(["3", "site", "user"]),
                "time_format": st.sampled_from(["epoch", "epoch_ms", "%Y-%m-%d"]),
                "header": st.booleans(),
            },
        )
    )
    with suppress(LayoutError):
        found, rejected = events(text, format=format, hourly=data.draw(st.booleans()), **fields)
        assert all(isinstance(id, bytes) and isinstance(time, datetime) for id, _, time in found)
        assert all(reason.isprintable() for reason in rejected.first)


@given(st.binary(max_size=100), st.booleans())
@example(gzip.compress(b"a\n")[:8], False)  # noqa: FBT003 (hypothesis's arguments)
def test_no_gzip_whatsoever_is_more_than_bad(junk, is_body):
    packed = (gzip.compress(b"a\n" * 100)[:15] if is_body else b"\x1f\x8b") + junk
    assert read_opened("-", packed)[2].count <= 1


GOOD = b"".join(b"u%d,2026-01-02\n" % n for n in range(20_000))


@pytest.mark.parametrize(
    ("before", "bad"),
    [
        (b"", b'"open,2026-01-02\n'),
        (b"", b'open,"2026-01-02\n'),
        (GOOD, b'"open,2026-01-02\n'),
        (GOOD, b'"open,2026-01-02'),
        (b"", b'"open,2026-01-02\n' * 30),
    ],
)
def test_an_unbalanced_quote_costs_its_own_line_only(before, bad):
    after = b"" if before and not bad.endswith(b"\n") else GOOD
    found, rejected = events(b"id,time\n" + before + bad + after, name="in.csv")
    assert len(found) == (before + after).count(b"\n")
    lines = bad.count(b"\n") or 1
    assert rejected.count == lines
    first = before.count(b"\n") + 2
    assert [reason.split(":")[0] for reason in rejected.first] == [
        f"in.csv, line {n}" for n in range(first, first + min(lines, 5))
    ]
    assert "quote" in rejected.first[0]


@pytest.mark.parametrize(
    "closing",
    [
        b'"y",2026-01-02\n',  # opens a field where the quote would close
        b'y,"2026-01-02"\n',
        b'y,2026-01-02,"z"\n',
        b'y,2026-01-02,"z\nz"\n',
    ],
)
def test_an_unbalanced_quote_before_quoted_fields(closing):
    text = b'id,time,note\n"open,2026-01-02\nx,2026-01-02\n' + closing + b"z,2026-01-02\n"
    found, rejected = events(text, name="in.csv")
    assert [id for id, _, _ in found] == [b"x", b"y", b"z"]
    assert rejected.first == ["in.csv, line 2: a quote is opened and not closed"]
    assert rejected.count == 1


def test_a_record_of_a_few_lines_is_read_and_named_by_its_first():
    text = b'id,time\n"a\n\nb",2026-01-02\n"c\nd",never\ne,2026-01-02\n"f\n",2026-01-02\n'
    found, rejected = events(text, name="in.csv")
    assert [id for id, _, _ in found] == [b"a\n\nb", b"e", b"f\n"]
    assert [reason.split(":")[0] for reason in rejected.first] == ["in.csv, line 5"]
    ten, eleven = (b'id,time\n"' + b"\n" * (n - 1) + b'",2026-01-02\n' for n in (10, 11))
    assert events(ten, name="in.csv")[1].count == 0
    assert events(eleven, name="in.csv")[1].count > 0


def test_memory_stays_flat_whatever_quotes_are_open():
    line = b'"open,' + b"x" * 1000 + b"\n"

    class Endless(io.RawIOBase):
        left = 5000

        def readable(self):
            return True

        def readinto(self, buffer):
            self.left -= 1
            buffer[: len(line)] = line
            return len(line) if self.left >= 0 else 0

    rejected = Rejected()
    stream, layout = io.BufferedReader(Endless(), 2048), Layout(header=False, id="1", time="2")
    tracemalloc.start()
    assert list(read_stream(stream, "in.csv", layout, UTC, rejected)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rejected.count == 5000
    assert peak < 1_000_000
