"""Reading in blocks: line numbers, bounds, slow streams; no server."""

import io

import pytest

from activity_tracker_hll.event_files.blocks import blocks
from activity_tracker_hll.event_files.lines import LONGEST_LINE, Lines, Rejected


def found(text, size, rejected):
    return [
        (block.number + place, block.line(place))
        for block in blocks(io.BytesIO(text), "in", rejected, lambda: size)
        for place in range(block.count)
    ]


@pytest.mark.parametrize("size", [1, 7, 1000, LONGEST_LINE])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a",
        b"\n",
        b"a\n\nb\r\nc",
        b"\xef\xbb\xbfa\nb\n",
        b"".join(b"%d\n" % number for number in range(500)),
    ],
)
def test_lines_and_numbers_are_those_of_a_reader_of_lines(text, size):
    lines = Lines.of(io.BytesIO(text), "in", Rejected())
    expected = [(lines.number, line if line.endswith(b"\n") else line + b"\n") for line in lines]
    assert found(text, size, Rejected()) == expected


@pytest.mark.parametrize("before", [b"", b"a\n"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nb\n"])
@pytest.mark.parametrize("more", [-2, -1, 0, 1, LONGEST_LINE])
def test_a_line_that_is_too_long_is_bad_and_counted_once(before, end, more):
    text = before + b"x" * (LONGEST_LINE + more) + end
    by_block, by_line = Rejected(), Rejected()
    lines = Lines.of(io.BytesIO(text), "in", by_line)
    expected = [(lines.number, len(line.strip())) for line in lines]
    numbers = [(number, len(line.strip())) for number, line in found(text, LONGEST_LINE, by_block)]
    assert numbers == expected
    assert by_block == by_line


def test_what_a_slow_stream_brings_is_not_waited_with():
    now = iter(range(100))

    class Slow(io.RawIOBase):
        left = 3

        def read1(self, _size):
            self.left -= 1
            return b"line\n" if self.left >= 0 else b""

    made = list(blocks(Slow(), "in", Rejected(), lambda: 1000, lambda: next(now)))
    assert [(block.number, block.text, block.is_slow) for block in made] == [
        (number, b"line\n", True) for number in (1, 2, 3)
    ]

    class Idle(Slow):
        def wait(self, seconds):
            assert 0 < seconds < 1
            return False

    made = list(blocks(Idle(), "in", Rejected(), lambda: 1000, lambda: 0))
    assert [(block.number, block.is_slow) for block in made] == [(1, True), (2, True), (3, True)]
    for size in (15, 1000):  # the end is not slow, either
        fast = list(blocks(io.BytesIO(b"line\n" * 3), "in", Rejected(), lambda size=size: size, lambda: 0))
        assert [(block.count, block.is_slow) for block in fast] == [(3, False)]


def test_a_block_has_so_many_lines_at_most():
    """What is made of each line takes more memory than an empty one."""
    text = b"\n" * 150_000 + b"line\n" * 3
    made = list(blocks(io.BytesIO(text), "in", Rejected(), lambda: len(text)))
    assert [block.number for block in made] == [1, 65_537, 131_073]
    assert b"".join(block.text for block in made) == text
    assert made[-1].line(made[-1].count - 1) == b"line\n"


def test_of_the_parts_of_what_a_slow_stream_brought_only_the_last_one_is_slow():
    class Idle(io.BytesIO):
        def wait(self, _seconds):
            return False

    text = b"\n" * 150_000
    made = list(blocks(Idle(text), "in", Rejected(), lambda: len(text) + 1))
    assert [block.is_slow for block in made] == [False, False, True]
