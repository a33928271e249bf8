"""The adapter for ASGI around tiny applications, among them such that fail; and flushes at the end."""

import asyncio

import pytest

from activity_tracker_hll import ArgumentTypeError
from activity_tracker_hll.web.asgi import ActivityMiddleware as ASGIMiddleware
from activity_tracker_hll.web.asgi import FlushOnShutdown
from helpers.adapters import ANN, Noted, NotedAsync, by_user, fault
from helpers.errors import raises


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
def test_asgi_tells_who_was_answered_and_hands_on_what_is_sent(writer, type, messages, told):
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


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("kind", [Noted, NotedAsync])
def test_lifespan_of_an_application_that_does_not_say_that_it_ended(kind, waits):
    writer = kind()

    async def app(scope, receive, send):
        await receive()
        await send({"type": COMPLETE[0]})
        if waits:
            await receive()

    assert call_asgi(FlushOnShutdown(app, writer), "lifespan", LIFE) == COMPLETE
    assert writer.told == ["flush"]


@pytest.mark.parametrize("kind", [Noted, NotedAsync])
def test_lifespan_of_an_application_that_does_not_wait_for_the_start(kind):
    writer = kind()
    assert call_asgi(FlushOnShutdown(sends(COMPLETE[0]), writer), "lifespan", LIFE) == COMPLETE
    assert writer.told == ["flush"]


@pytest.mark.parametrize("begun", ["lifespan.startup.complete", "lifespan.startup.failed"])
def test_lifespan_that_fails_without_waiting(writer, begun):
    app = FlushOnShutdown(sends(begun, fails=RuntimeError("my own")), writer)
    with pytest.raises(RuntimeError, match="my own"):
        call_asgi(app, "lifespan", LIFE)


def test_lifespan_that_says_at_once_that_it_cannot_start(writer):
    failed = "lifespan.startup.failed"
    assert call_asgi(FlushOnShutdown(sends(failed), writer), "lifespan", LIFE) == [failed]
    assert writer.told == []


def test_lifespan_that_fails_at_the_end(writer):
    async def app(scope, receive, send):
        await receive()
        await send({"type": COMPLETE[0]})
        await receive()
        raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="my own"):
        call_asgi(FlushOnShutdown(app, writer), "lifespan", LIFE)
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
