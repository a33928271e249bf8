"""Commands on a directory of the test's own, with an embedded server."""

import pytest

from activity_tracker_hll import ActivityTracker


@pytest.fixture
def run(tmp_path):
    """Runs a command on the test's own directory."""
    from helpers.command_line import runner  # here, as it needs packages that may be missing

    (tmp_path / "data").mkdir(exist_ok=True)
    return runner(tmp_path / "data")


@pytest.fixture
def tracker(tmp_path):
    with ActivityTracker(["daily"], backend="embedded", path=tmp_path / "data", timezone="UTC") as tracker:
        yield tracker
