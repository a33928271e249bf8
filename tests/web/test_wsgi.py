"""The adapter for WSGI around tiny applications, among them such that fail."""

import sys
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from activity_tracker_hll.web.wsgi import ActivityMiddleware as WSGIMiddleware
from helpers.adapters import ANN, by_user, fault


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
