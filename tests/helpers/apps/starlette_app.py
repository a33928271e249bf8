"""A Starlette service whose visitors have a signed cookie, and may sign in."""

import os
from inspect import isawaitable
from uuid import uuid4

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from writers import writer

from activity_tracker_hll.web import Activity
from activity_tracker_hll.web.asgi import ActivityMiddleware


async def page(request):
    return PlainTextResponse(request.session.setdefault("visitor", uuid4().hex))


async def sign_in(request):
    request.state.moved_from = request.session["visitor"]
    request.session["user"] = request.query_params["user"]
    return PlainTextResponse("welcome")


async def flush(_request):
    pushed = writer.flush()
    if isawaitable(pushed):
        await pushed
    return PlainTextResponse(str(os.getpid()))


def identify(scope):
    session = scope["session"]
    if "user" in session:
        return Activity(session["user"], "member", scope.get("state", {}).get("moved_from"), "anon")
    return Activity(session["visitor"], "anon") if "visitor" in session else None


app = Starlette(
    routes=[
        Route("/", page),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/flush", flush, methods=["POST"]),
    ],
    middleware=[
        Middleware(ActivityMiddleware, writer=writer, identify=identify),
        Middleware(SessionMiddleware, secret_key="not a secret"),
    ],
)
