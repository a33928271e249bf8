"""What tests expect of errors."""

from __future__ import annotations

from typing import Any

import pytest

from activity_tracker_hll import ActivityTrackerError


def raises(expected: type[ActivityTrackerError], *words: str) -> Any:
    """pytest.raises that also wants each of the words in the message."""
    return pytest.raises(expected, match="(?is)" + "".join(f"(?=.*{word})" for word in words))
