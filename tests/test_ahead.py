"""Results that are made while the one before is in use."""

from functools import partial
from itertools import count
from threading import get_ident

import pytest

from activity_tracker_hll.ahead import ahead


def test_results_come_in_order_and_all_but_the_first_from_one_other_thread():
    results = list(ahead(partial(lambda number: (number, get_ident()), number) for number in range(50)))
    numbers, threads = zip(*results, strict=True)
    assert numbers == tuple(range(50))
    assert threads[0] == get_ident()
    assert len(set(threads[1:]) - {get_ident()}) == len(set(threads[1:])) == 1


@pytest.mark.parametrize("size", [0, 1, 2])
def test_few_calls_have_their_results(size):
    assert list(ahead([lambda: "made"] * size)) == ["made"] * size


def test_no_more_than_one_is_made_ahead():
    made = []
    results = ahead(partial(made.append, number) for number in count())
    for wanted in range(20):
        next(results)
        assert len(made) <= wanted + 2
    results.close()
    assert len(made) <= 21


def test_what_a_call_raises_comes_in_its_place():
    results = ahead([lambda: 1, lambda: 1 // 0, lambda: 3])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
