"""What several tests of reading files share."""

import sys

import pytest


def with_or_without(package):
    """A fixture for tests that run with a package of an extra, and with the standard library instead."""

    @pytest.fixture(params=[package, None])
    def reader(request, monkeypatch):
        if request.param is None:
            monkeypatch.setitem(sys.modules, package, None)
        else:
            pytest.importorskip(package)

    return reader


reader_of_gzip = with_or_without("isal")
parser_of_json = with_or_without("msgspec")
