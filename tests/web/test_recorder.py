"""What the adapters share: what identify may return, its faults, and what is needed for what."""

import importlib
import subprocess
import sys

import pytest

from activity_tracker_hll import ArgumentTypeError, MissingExtraError
from activity_tracker_hll.web import Activity, Recorder
from activity_tracker_hll.web.asgi import ActivityMiddleware as ASGIMiddleware
from activity_tracker_hll.web.wsgi import ActivityMiddleware as WSGIMiddleware
from helpers.adapters import awaited, fault
from helpers.errors import raises


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (("a",), ("a", None, None, None)),
        ((1, "b"), (1, "b", None, None)),
        (("a", "b", "s"), ("a", "b", "s", None)),
        (("a", "b", "s", "c"), ("a", "b", "s", "c")),
        (Activity("a"), ("a", None, None, None)),
        (Activity("a", old_id=b"s", old_bucket="c"), ("a", None, b"s", "c")),
        (None, None),
    ],
)
def test_what_identify_may_return(writer, caplog, found, told):
    Recorder(writer, lambda request: found).record("a request")
    assert writer.told == ([] if told is None else [told])
    assert not caplog.records


@pytest.mark.parametrize("found", [(), ("a", "b", "s", "c", "d"), "abc", ["a"], {"id": 1}, True, 7])
def test_what_identify_must_not_return(writer, caplog, found):
    Recorder(writer, lambda request: found).record("a request")
    assert writer.told == []
    [record] = caplog.records
    assert (record.name, record.levelname) == ("activity_tracker_hll", "ERROR")
    assert isinstance(record.exc_info[1], ArgumentTypeError)
    said = str(record.exc_info[1])
    assert f"got {found!r}" in said
    assert "must return a tuple (id, bucket, old_id, old_bucket), or its first fields, as in (id,)" in said


@pytest.mark.parametrize(
    "identify", [fault, lambda _: Activity(""), lambda _: (None, "b"), lambda _: (1.5,), lambda _: ("a", "{")]
)
def test_faults_of_identify_and_bad_ids_are_logged(server, caplog, identify):
    with server.tracker().buffered() as writer:
        Recorder(writer, identify).record("a request")
        assert writer.statistics.tracked == 0
    [record] = caplog.records
    assert record.exc_info is not None


def test_a_closed_writer_is_logged(server, caplog):
    writer = server.tracker().buffered()
    writer.close()
    Recorder(writer, lambda _: ("a",)).record("a request")
    assert "WriterClosedError" in caplog.text


@pytest.mark.parametrize("middleware", [Recorder, WSGIMiddleware, ASGIMiddleware])
def test_what_the_middleware_must_be_given(server, writer, middleware):
    app = [] if middleware is Recorder else [print]
    for bad in (None, "project.writer", server.tracker()):  # which would wait for the network
        with raises(ArgumentTypeError, "writer", "buffered"):
            middleware(*app, bad, print)
    for bad in (None, "project.identify", awaited):
        with raises(ArgumentTypeError, "identify", "not async"):
            middleware(*app, writer, bad)


def test_no_framework_is_imported():
    code = (
        "import sys, activity_tracker_hll.web.asgi, activity_tracker_hll.web.wsgi\n"
        "print(sorted({'asgiref', 'django', 'flask', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("web.django", "django.conf", "django"), ("metrics", "prometheus_client", "metrics")],
)
def test_a_missing_package_names_the_extra(monkeypatch, module, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(f"activity_tracker_hll.{module}")]:
        monkeypatch.delitem(sys.modules, name)
    with raises(MissingExtraError, rf"pip install 'activity-tracker-hll\[{extra}\]'"):
        importlib.import_module(f"activity_tracker_hll.{module}")
