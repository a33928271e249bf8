"""The queues that callers append to: no server, no threads."""

import pytest

from activity_tracker_hll.writer.intake import Appends, Intake


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

    def items(self):
        self.disturb(super().items())
        return super().items()

    def values(self):
        self.disturb(super().values())
        return super().values()

    def disturb(self, view):
        if "by a finalizer" not in self:
            listed = iter(view)
            next(listed)
            self["by a finalizer"] = ["late"].append
            list(listed)  # raises


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
    assert "by a finalizer" in disturbed
