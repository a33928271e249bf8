"""The server's clock as a process knows it: no server, and clocks that are set by hand."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from activity_tracker_hll.errors import BackendResponseError
from activity_tracker_hll.operations.tracking.stamps import ServerClock

S = 1_000_000
NOON_US = 20_000 * 86_400 * S
MINUTE_US = 60 * S


class Times:
    """What the server's clock, and those of one process, show."""

    def __init__(self) -> None:
        self.server, self.ticks, self.wall = NOON_US, 5 * S, NOON_US - 20 * S
        self.clock = self.process()

    def process(self, *, asks: bool = True) -> ServerClock:
        """The clock of another process."""
        clock = ServerClock(lambda: self.ticks, lambda: self.wall)
        if asks:
            self.ask(clock)
        return clock

    def ask(self, clock: ServerClock | None = None, *, there_us: int = 0, back_us: int = 0) -> None:
        """A sample, with the time that the question and the answer take."""
        sent = self.ticks
        self.passes(there_us)
        reply = divmod(self.server, S)
        self.passes(back_us)
        (clock or self.clock).sample(sent, reply)

    def passes(self, us: int) -> None:
        self.server, self.ticks, self.wall = self.server + us, self.ticks + us, self.wall + us


@pytest.fixture
def times() -> Times:
    return Times()


def test_without_an_answer_the_own_clock_is_the_guess(times):
    clock = times.process(asks=False)
    clock.sample(times.ticks, BackendResponseError("NOPERM"))
    assert clock.now() == times.wall


def test_the_first_answer_replaces_the_guess(times):
    clock = times.process(asks=False)
    assert clock.stamp(times.ticks) == times.wall
    times.ask(clock)
    assert clock.stamp(times.ticks) == times.server
    times.wall += 30 * S
    assert clock.stamp(times.ticks) == times.server


def test_now_is_greater_than_any_before(times):
    stamps = [times.clock.now() for _ in range(5)]
    assert stamps == list(range(times.server, times.server + 5))


def test_events_of_the_past_bear_their_moments(times):
    then = times.ticks
    times.passes(3 * S)
    assert times.clock.stamp(then) == NOON_US
    assert times.clock.stamp(np.array([then, times.ticks])).tolist() == [NOON_US, NOON_US + 3 * S]


def test_an_answer_that_took_long_is_worth_less_than_a_quick_one(times):
    clock = times.process(asks=False)
    times.ask(clock, back_us=40_000)  # it had to connect first
    assert clock.stamp(times.ticks) == times.server - 20_000
    times.ask(clock, there_us=1000, back_us=1000)
    assert clock.stamp(times.ticks) == times.server


def test_what_is_known_to_the_microsecond_stays(times):
    times.ask(there_us=3000)
    times.ask(back_us=2000)
    assert times.clock.stamp(times.ticks) == times.server


def test_a_clock_that_is_set_forward_is_followed_at_once(times):
    times.server += 30 * S
    times.ask()
    assert times.clock.stamp(times.ticks) == times.server


def test_a_clock_that_was_told_badly_at_first_is_returned_to_slowly(times):
    clock = times.process(asks=False)
    times.ask(clock, there_us=40_000)
    assert clock.stamp(times.ticks) == times.server + 20_000
    times.ask(clock)
    assert clock.stamp(times.ticks) == times.server + 20_000
    times.passes(2 * S)
    assert clock.stamp(times.ticks) == pytest.approx(times.server + 20_000 - 2 * S / 128, abs=1)
    times.passes(2 * S)
    assert clock.stamp(times.ticks) == times.server


@pytest.mark.parametrize("back", [1000, S, 30 * S, MINUTE_US])
@pytest.mark.parametrize("again", [False, True], ids=["the same server", "another"])
def test_where_the_clock_is_set_back_stamps_go_on(times, back, again):
    first = times.clock.now()
    times.server -= back
    if again:
        times.clock.reset()
    stamps, agreed = [first], 0
    for _ in range(200):
        times.passes(MINUTE_US)
        times.ask()
        stamps.append(times.clock.now())
        agreed += stamps[-1] == times.server
    steps = np.diff(stamps)
    assert (steps >= MINUTE_US * 127 // 128 - 1).all()
    assert agreed >= 200 - 1 - back * 128 / MINUTE_US


def test_processes_that_notice_a_minute_apart_tell_times_less_than_half_a_second_apart(times):
    late = times.process()
    times.server -= 30 * S
    times.ask()
    for minute in range(100):
        times.passes(MINUTE_US)
        if minute:
            times.ask()
        times.ask(late)
        assert abs(times.clock.stamp(times.ticks) - late.stamp(times.ticks)) < S / 2
    assert late.stamp(times.ticks) == times.server


@pytest.mark.parametrize("back", [MINUTE_US + S, 86_400 * S])
def test_a_clock_that_was_wrong_by_more_than_a_minute_is_set_right_at_once(times, back):
    times.clock.now()
    times.server -= back
    times.ask()
    assert times.clock.now() == times.clock.stamp(times.ticks) == times.server
    times.passes(MINUTE_US)
    assert times.clock.stamp(times.ticks) == times.server


def test_who_came_after_the_clock_was_set_back_learns_from_the_tables(times):
    """Else what others stamp, who hold the former time, would always be newer."""
    times.server -= 30 * S
    new = times.process()
    times.passes(S)
    others = times.clock.now()
    new.observe(others)
    times.passes(S)
    assert new.stamp(times.ticks) == pytest.approx(times.clock.stamp(times.ticks), abs=S / 128 + 1)
    times.passes(70 * MINUTE_US)
    times.ask(new)
    assert new.stamp(times.ticks) == times.server


def test_moments_between_two_looks_at_a_table_stay_apart(times):
    """All events of a push would else be squeezed in behind what was observed last."""
    times.server -= 30 * S
    new, then = times.process(), times.ticks
    new.observe(times.clock.now())
    before = new.stamp(then)
    times.passes(2 * S)
    new.observe(times.clock.stamp(then + S))
    assert new.stamp(then) - before < 10_000
    assert new.stamp(times.ticks) - new.stamp(then) > 1.9 * S


@pytest.mark.parametrize("ahead", [MINUTE_US + S, 365 * 86_400 * S])
def test_a_stamp_of_a_far_future_is_not_followed(times, ahead):
    times.clock.observe(times.server + ahead)
    assert times.clock.stamp(times.ticks) == times.server


def test_ticks_of_stamps_and_moments(times):
    then = times.ticks
    stamp = times.clock.now()
    times.passes(3 * S)
    assert times.clock.ticks_of(stamp) == then
    assert times.clock.ticks_of(NOON_US + S) == then + S
    assert times.clock.ticks_of(NOON_US + 10 * S) == times.ticks


def test_the_clock_is_shared_by_threads():
    """A tracker's threads and its writers' take samples of it, and forget them, at the same time."""
    clock = ServerClock(lambda: 0, lambda: 0)
    resets = []

    class Interrupted(int):
        """Who subtracts from what comes of it is interrupted by a thread that resets the clock."""

        def __rsub__(self, other):
            return Interrupted(other - int(self))

        def __sub__(self, other):
            thread = threading.Thread(target=clock.reset)
            thread.start()
            thread.join()
            resets.append(thread)
            return int(self) - other

    clock.sample(-10, [1, 0])
    clock.sample(Interrupted(-10), [2, 0])
    assert resets
    assert clock.stamp(0) == 2_000_005
