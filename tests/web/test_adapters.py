"""The adapters, each around tiny applications, among them such that fail."""

import asyncio
import importlib
import subprocess
import sys
from inspect import iscoroutinefunction
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from activity_tracker_hll import ArgumentTypeError, MissingExtraError
from activity_tracker_hll.web import Activity, Recorder
from activity_tracker_hll.web.asgi import ActivityMiddleware as ASGIMiddleware
from activity_tracker_hll.web.asgi import FlushOnShutdown
from activity_tracker_hll.web.wsgi import ActivityMiddleware as WSGIMiddleware
from helpers.errors import raises

pytest.importorskip("django")

import asgiref.sync
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

if not settings.configured:
    settings.configure()

from activity_tracker_hll.web.django import ActivityMiddleware as DjangoMiddleware


class Noted:
    """A writer that notes what it is told."""

    def __init__(self):
        self.told = []

    def track(self, *, id, bucket, old_id, old_bucket):
        self.told.append((id, bucket, old_id, old_bucket))

    def flush(self):
        self.told.append("flush")


class NotedAsync(Noted):
    async def flush(self):
        self.told.append("flush")


@pytest.fixture
def writer():
    return Noted()


def fault(_request):
    raise RuntimeError("my own")


# What they share


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
def test_what_it_must_not(writer, caplog, found):
    Recorder(writer, lambda request: found).record("a request")
    assert writer.told == []
    [record] = caplog.records
    assert (record.name, record.levelname) == ("activity_tracker_hll", "ERROR")
    assert isinstance(record.exc_info[1], ArgumentTypeError)
    assert f"got {found!r}" in str(record.exc_info[1])


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


async def awaited(_request):
    return ("a",)


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
    [("web.django", "django.conf", "django"), ("metrics", "prometheus_client.core", "metrics")],
)
def test_a_missing_package_names_the_extra(monkeypatch, module, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"activity_tracker_hll.{module}", raising=False)
    with raises(MissingExtraError, rf"pip install 'activity-tracker-hll\[{extra}\]'"):
        importlib.import_module(f"activity_tracker_hll.{module}")


# WSGI


def call_wsgi(app):
    """What a server makes of an application: the start of its response, and the body."""
    environ = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    started, body = [], []

    def start_response(status, headers, exc_info=None):
        started.append((status, headers, exc_info))
        return body.append

    result = app(environ, start_response)
    try:
        body += result
    finally:
        if hasattr(result, "close"):
            result.close()
    return started, b"".join(body)


HEADERS = [("Content-Type", "text/plain")]


def hello(environ, start_response):
    environ["user"] = "ann"
    start_response("200 OK", HEADERS)
    return [b"hello"]


def by_user(request):
    return (request["user"], "member")


ANN = ("ann", "member", None, None)


def test_wsgi_knows_what_the_application_found_out(writer):
    app = validator(WSGIMiddleware(validator(hello), writer, by_user))
    assert call_wsgi(app) == ([("200 OK", HEADERS, None)], b"hello")
    assert writer.told == [ANN]


def test_wsgi_hands_on_what_the_application_returns(writer):
    class Body:
        """What a server sends as a file, by its type, and closes."""

        closed = False

        def __iter__(self):
            return iter([b"a", b"b"])

        def close(self):
            self.closed = True

    body = Body()

    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        return body

    counted = WSGIMiddleware(app, writer, lambda _: ("a",))
    assert counted({}, lambda *_: None) is body
    assert call_wsgi(counted)[1] == b"ab"
    assert body.closed


def test_wsgi_generators_and_write(writer):
    def generator(environ, start_response):
        environ["user"] = "ann"
        write = start_response("200 OK", HEADERS)
        write(b"written, ")
        yield b"yielded"

    app = WSGIMiddleware(generator, writer, by_user)
    assert call_wsgi(app) == ([("200 OK", HEADERS, None)], b"written, yielded")
    assert writer.told == [ANN]


def test_wsgi_a_response_that_is_started_again(writer):
    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        try:
            fault(environ)
        except RuntimeError:
            start_response("500 Sorry", HEADERS, sys.exc_info())
        return [b"sorry"]

    started, body = call_wsgi(WSGIMiddleware(app, writer, lambda _: ("a",)))
    assert [status for status, _, _ in started] == ["200 OK", "500 Sorry"]
    assert isinstance(started[1][2][1], RuntimeError)
    assert body == b"sorry"
    assert len(writer.told) == 1


def test_wsgi_an_application_that_raises(writer):
    app = WSGIMiddleware(fault_of_wsgi, writer, lambda _: ("a",))
    with pytest.raises(RuntimeError, match="my own"):
        call_wsgi(app)
    assert writer.told == []


def fault_of_wsgi(_environ, _start_response):
    raise RuntimeError("my own")


def test_wsgi_a_fault_of_identify(writer, caplog):
    assert call_wsgi(WSGIMiddleware(hello, writer, fault)) == call_wsgi(hello)
    assert "my own" in caplog.text


# ASGI


def call_asgi(app, type="http", received=()):
    """Run an application on one scope; returns the types of what it sent."""
    sent = []
    messages = iter(received)

    async def receive():
        return {"type": next(messages)}

    async def send(message):
        sent.append(message["type"])

    asyncio.run(app({"type": type, "path": "/"}, receive, send))
    return sent


def sends(*types, fails=None):
    """An application that knows a user, and sends messages."""

    async def app(scope, receive, send):
        scope["user"] = "ann"
        for type in types:
            await send({"type": type})
        if fails is not None:
            raise fails

    return app


RESPONSE = ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("type", "messages", "told"),
    [
        ("http", RESPONSE, [ANN]),
        ("websocket", ["websocket.accept", "websocket.send", "websocket.close"], [ANN]),
        ("websocket", ["websocket.close"], []),
        ("websocket", ["websocket.http.response.start", "websocket.http.response.body"], []),
        ("other", ["other.start"], []),
    ],
)
def test_asgi(writer, type, messages, told):
    assert call_asgi(ASGIMiddleware(sends(*messages), writer, by_user), type) == messages
    assert writer.told == told


@pytest.mark.parametrize(("sent", "told"), [([], []), (RESPONSE, [ANN])])
def test_asgi_an_application_that_raises(writer, sent, told):
    app = ASGIMiddleware(sends(*sent, fails=RuntimeError("my own")), writer, by_user)
    with pytest.raises(RuntimeError, match="my own"):
        call_asgi(app)
    assert writer.told == told


def test_asgi_a_fault_of_identify(writer, caplog):
    assert call_asgi(ASGIMiddleware(sends(*RESPONSE), writer, fault)) == RESPONSE
    assert "my own" in caplog.text


LIFE = ["lifespan.startup", "lifespan.shutdown"]
COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("kind", [Noted, NotedAsync])
@pytest.mark.parametrize("last", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
def test_lifespan_of_an_application_that_knows_it(kind, last):
    writer = kind()

    async def app(scope, receive, send):
        assert (await receive())["type"] == LIFE[0]
        await send({"type": COMPLETE[0]})
        assert (await receive())["type"] == LIFE[1]
        assert writer.told == []
        writer.track(id="last", bucket=None, old_id=None, old_bucket=None)
        await send({"type": last})

    assert call_asgi(ASGIMiddleware(app, writer, by_user), "lifespan", LIFE) == [COMPLETE[0], last]
    assert writer.told == [("last", None, None, None), "flush"]


async def refuses(scope, _receive, _send):
    if scope["type"] != "http":
        raise ValueError("only HTTP")


async def ignores(scope, _receive, _send):
    assert scope["type"] != "http"


@pytest.mark.parametrize("app", [refuses, ignores])
@pytest.mark.parametrize("kind", [Noted, NotedAsync])
def test_lifespan_of_an_application_that_does_not(kind, app):
    writer = kind()
    assert call_asgi(FlushOnShutdown(app, writer), "lifespan", LIFE) == COMPLETE
    assert writer.told == ["flush"]


def test_lifespan_that_fails_at_the_start(writer):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed"})
        raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="my own"):
        call_asgi(FlushOnShutdown(app, writer), "lifespan", LIFE)
    assert writer.told == []


def test_a_flush_that_fails_does_not_keep_the_server_from_ending(writer, caplog):
    writer.flush = lambda: fault(None)
    assert call_asgi(FlushOnShutdown(refuses, writer), "lifespan", LIFE) == COMPLETE
    assert "my own" in caplog.text


def test_a_flush_does_not_hold_up_the_loop(writer):
    looped = []

    def flush():
        done = asyncio.run_coroutine_threadsafe(tick(), looped[0])
        writer.told.append(done.result(20))

    async def tick():
        return "ticked"

    async def app(scope, receive, send):
        looped.append(asyncio.get_running_loop())
        raise ValueError("only HTTP")

    writer.flush = flush
    call_asgi(FlushOnShutdown(app, writer), "lifespan", LIFE)
    assert writer.told == ["ticked"]


def test_only_a_writer_can_be_flushed():
    with raises(ArgumentTypeError, "writer"):
        FlushOnShutdown(refuses, print)


# Django

noted = Noted()


def identify(request):
    return (request.user, "member")


def page(request):
    request.user = "ann"
    return HttpResponse("hello")


async def page_async(request):
    return page(request)


def call_django(view, **setting):
    with override_settings(ACTIVITY_TRACKER=setting):
        middleware = DjangoMiddleware(view)
    request = RequestFactory().get("/")
    assert asgiref.sync.iscoroutinefunction(middleware) == iscoroutinefunction(view)
    response = middleware(request)
    return asyncio.run(response) if asyncio.iscoroutine(response) else response


@pytest.mark.parametrize("view", [page, page_async])
@pytest.mark.parametrize("dotted", [False, True])
def test_django(view, dotted):
    noted.told.clear()
    given = (
        {"writer": f"{__name__}.noted", "identify": f"{__name__}.identify"}
        if dotted
        else {"writer": noted, "identify": identify}
    )
    assert call_django(view, **given).content == b"hello"
    assert noted.told == [ANN]


@pytest.mark.parametrize("view", [page, page_async])
def test_django_a_fault_of_identify(writer, caplog, view):
    assert call_django(view, writer=writer, identify=fault).content == b"hello"
    assert "my own" in caplog.text


async def fault_async(_request):
    raise RuntimeError("my own")


@pytest.mark.parametrize("view", [fault, fault_async])
def test_django_an_application_that_raises(writer, view):
    with pytest.raises(RuntimeError, match="my own"):
        call_django(view, writer=writer, identify=identify)
    assert writer.told == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (None, "writer and identify"),
        ("project.writer", "writer and identify"),
        ({}, "writer and identify"),
        ({"writer": noted}, "writer and identify"),
        ({"writer": noted, "identify": identify, "idnetify": 1}, "idnetify"),
        ({"writer": "no.such.module", "identify": identify}, "'writer'.*no.such|'writer'.*No module"),
        ({"writer": "writer", "identify": identify}, "'writer'.*imported"),
        ({"writer": noted, "identify": f"{__name__}.no_such"}, "'identify'.*no_such"),
        ({"writer": identify, "identify": identify}, "writer must"),
        ({"writer": noted, "identify": None}, "identify must"),
        ({"writer": noted, "identify": awaited}, "identify must"),
    ],
)
def test_django_settings_that_are_wrong(setting, words):
    with override_settings(ACTIVITY_TRACKER=setting):
        with pytest.raises(ImproperlyConfigured, match=f"ACTIVITY_TRACKER.*({words})"):
            DjangoMiddleware(page)


def test_django_without_the_setting():
    with pytest.raises(ImproperlyConfigured, match="ACTIVITY_TRACKER"):
        DjangoMiddleware(page)
