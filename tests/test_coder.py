"""Codes stand for the texts that they were made of, however texts come, and however many there are."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll import coder
from activity_tracker_hll.coder import BAD, LONGEST, Coder, words_of
from activity_tracker_hll.columns import Texts

TEXTS = st.one_of(
    st.sampled_from([b"", b"\0", b"a", b"a\0", b"web", b"12345678", b"12345678\0", b"123456789", b"bad"]),
    st.binary(max_size=LONGEST + 2),
    st.integers(0, LONGEST).map(lambda size: b"x" * size),
)
BATCHES = st.lists(st.lists(TEXTS, max_size=20), max_size=5)


def check(text):
    """What the text stands for."""
    if text == b"bad":
        raise ValueError(text)
    return text


def as_texts(values, form):
    """The same texts in several layouts."""
    texts = Texts.of(values)
    if form == "adjoining":
        return Texts(texts.buffer[: sum(map(len, values))], texts.starts, texts.sizes, adjoin=True)
    if form == "scattered":
        texts = Texts.of([part for value in values for part in (b"-", value)])
        return texts[list(range(1, 2 * len(values), 2))]
    return texts[::-1][::-1]


@pytest.mark.parametrize("bits", [1, 16])
@pytest.mark.parametrize("most", [3, 4096])
@pytest.mark.parametrize("form", ["adjoining", "scattered", "sliced"])
@given(BATCHES)
def test_codes_stand_for_the_texts(bits, most, form, parts):
    with patch.object(coder, "_SLOT_BITS", bits), patch.object(coder, "_MOST", most):
        made, found = Coder(check), []
        for values in parts * 2:
            codes = made.codes_of_texts(as_texts(values, form)).tolist()
            found.append((values, codes, made.values))
    for values, codes, stand_for in found:
        assert [b"bad" if code == BAD else stand_for[code] for code in codes] == values


@pytest.mark.parametrize("form", ["adjoining", "scattered", "sliced"])
@given(st.lists(st.binary(max_size=LONGEST), min_size=1, max_size=20))
def test_words_begin_with_the_text(form, values):
    words = words_of(as_texts(values, form))
    longest = max(map(len, values))
    assert len(words) == max(1, -(-longest // 8))
    rows = np.stack(words, axis=1)
    assert [row.tobytes()[: len(value)] for row, value in zip(rows, values, strict=True)] == values
