import pytest

from activity_tracker_hll.words import first_of


@pytest.mark.parametrize(
    ("number", "most", "joint", "text"),
    [
        (0, 2, "; ", ""),
        (1, 2, "; ", "a"),
        (2, 2, "; ", "a; b"),
        (3, 2, "; ", "a; b; and 1 more"),
        (5, 3, ", ", "a, b, c, and 2 more"),
        (2002, 2, ", ", "a, b, and 2,000 more"),
    ],
)
def test_the_first_of_many(number, most, joint, text):
    assert first_of([*"abc", *"-" * 2000][:number], most, joint) == text
