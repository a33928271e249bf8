"""The queues that callers append to: no server, no threads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activity_tracker_hll.writer.intake import STEP, Appends, Intake, extend, in_steps


@pytest.fixture
def intake():
    return Intake(10, lambda bucket: pytest.fail(f"{bucket} has no queue"))


@pytest.mark.parametrize("others", [0, 1, 5])
@pytest.mark.parametrize("first", [True, False], ids=["held by the first", "held by the last"])
def test_only_queues_that_a_caller_may_append_to_outlive_their_release(intake, others, first):
    names = [f"b{n}" for n in range(others)]
    for name in [] if first else names:
        intake.append_to(name)
    held = intake.append_to("held")
    for name in names if first else []:
        intake.append_to(name)
    intake.release_unused([])
    assert not intake.appends
    assert intake.released == 1
    held("late")
    del held
    intake.release_unused([])
    assert intake.take() == ([("held", ["late"])], 0)
    intake.release_unused([])
    assert intake.released == 0


def test_queues_in_use_and_queues_with_events_are_not_released(intake):
    for bucket in ("in use", "full", "unused"):
        intake.append_to(bucket)
    intake.appends["full"]("event")
    intake.release_unused(["in use"])
    assert set(intake.appends) == {"in use", "full"}
    assert intake.released == 0


class Disturbed(Appends):
    """Its queues are listed while the garbage collector runs a finalizer that tracks a new bucket."""

    disturbed = 0

    def _disturb(self, view):
        if self.disturbed < 3:
            self.disturbed += 1
            listed = iter(view())
            next(listed)
            self[f"by a finalizer, {self.disturbed}"] = ["late"].append
            list(listed)  # raises
        return view()

    def keys(self):
        return self._disturb(super().keys)

    def values(self):
        return self._disturb(super().values)


@pytest.mark.parametrize(
    "call",
    [Intake.take, Intake.reset, lambda intake: intake.release_unused([]), lambda intake: intake.events],
    ids=["take", "reset", "release_unused", "events"],
)
def test_a_finalizer_may_track_a_new_bucket_at_any_moment(intake, call):
    intake.append_to("a")("event")
    disturbed = Disturbed(intake.appends.open_queue)
    disturbed.update(intake.appends)
    intake.appends = disturbed
    call(intake)
    assert "by a finalizer, 1" in disturbed


def test_long_queues_are_taken_whole_and_in_order(intake):
    for count in (STEP, STEP + 1, 3 * STEP + 5):
        append = intake.append_to("long")
        extend(append, range(count))
        intake.append_to("short")(count)
        taken, _ = intake.take()
        del append  # held while it was taken: what is appended now still counts
        assert sorted(taken, key=lambda row: len(row[1])) == [("short", [count]), ("long", [*range(count)])]
        assert intake.events == 0


def test_what_is_appended_while_a_long_queue_is_taken_is_in_the_next_lot(intake):
    held = intake.append_to("b")
    extend(held, range(STEP + 1))
    assert intake.take() == ([("b", [*range(STEP + 1)])], 0)
    held("late")
    intake.append_to("b")("new")
    assert intake.appends["b"] is not held
    assert (intake.released, intake.events) == (1, 2)
    assert intake.take() == ([("b", ["late"]), ("b", ["new"])], 0)
    del held
    assert intake.take() == ([], 0)
    assert intake.released == 0


@given(st.lists(st.integers(0, 3 * STEP), max_size=6))
def test_steps_are_small_and_keep_the_order_of_each_bucket(sizes):
    taken = [
        (bucket % 4, [*range(bucket * 100_000, bucket * 100_000 + size)]) for bucket, size in enumerate(sizes)
    ]
    wanted, found = {}, {}
    for bucket, events in taken:
        wanted.setdefault(bucket, []).extend(events)
    for step in in_steps(taken):
        assert 0 <= sum(len(events) for _, events in step) <= STEP
        for bucket, events in step:
            found.setdefault(bucket, []).extend(events)
    assert found == wanted
