"""A writer that notes what an adapter tells it."""

import pytest

from helpers.adapters import Noted


@pytest.fixture
def writer():
    return Noted()
