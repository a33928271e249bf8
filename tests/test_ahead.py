"""Values made ahead: the same as without, whatever happens."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.ahead import ahead


def made(count, fails, threads):
    for value in range(count):
        threads.append(threading.current_thread())
        yield value
    if fails:
        raise LookupError("at the end")


@given(st.integers(0, 6), st.booleans())
def test_the_same_values_and_the_same_error_in_its_turn(count, fails):
    threads, found = [], []
    before = threading.active_count()
    try:
        for value in ahead(made(count, fails, threads)):
            found.append(value)  # noqa: PERF402 (some are found before it raises)
    except LookupError:
        assert fails
    else:
        assert not fails
    assert found == list(range(count))
    assert threads[:2] == [threading.current_thread()] * min(2, count)
    assert threading.current_thread() not in threads[2:]
    assert threading.active_count() == before


@pytest.mark.parametrize("taken", range(5))
def test_who_stops_early_leaves_no_thread(taken):
    before = threading.active_count()
    with closing(ahead(iter(range(9)))) as values:
        assert [next(values) for _ in range(taken)] == list(range(taken))
    assert threading.active_count() == before


@pytest.mark.parametrize("allowed", range(4))
def test_without_threads_all_is_made_in_its_turn(monkeypatch, allowed):
    """As when the interpreter is ending, while other threads are still at work."""
    submit, calls = ThreadPoolExecutor.submit, []

    def refusing(self, *arguments):
        calls.append(arguments)
        if len(calls) > allowed:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        return submit(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refusing)
    assert list(ahead(iter(range(9)))) == list(range(9))
    assert len(calls) == allowed + 1
