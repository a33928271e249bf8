"""What several tests of reading files share."""

import sys

import pytest


@pytest.fixture(params=["isal", None])
def reader_of_gzip(request, monkeypatch):
    """What reads gzip: the package of an extra, or the standard library."""
    if request.param is None:
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        pytest.importorskip(request.param)
