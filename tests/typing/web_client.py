"""The adapters from a user's side: for type checkers, nothing here is run."""

from collections.abc import MutableMapping
from typing import Any

from flask import Flask
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from activity_tracker_hll import ActivityTracker, BufferedTracker
from activity_tracker_hll.aio import AsyncBufferedTracker
from activity_tracker_hll.metrics import CountsCollector, WriterCollector
from activity_tracker_hll.web import Activity, asgi, wsgi


def of_scope(scope: MutableMapping[str, Any]) -> Activity | None:
    """As a user would write it."""
    user = HTTPConnection(scope).session.get("user")
    return Activity(user, "member") if user else None


def of_environ(environ: dict[str, Any]) -> tuple[str, str]:
    """A plain tuple will do."""
    return environ["REMOTE_USER"], "member"


def adapters(tracker: ActivityTracker, writer: BufferedTracker, other: AsyncBufferedTracker) -> None:
    """Both kinds of writer, and the frameworks' own types."""
    app = Starlette(middleware=[Middleware(asgi.ActivityMiddleware, writer=writer, identify=of_scope)])
    app.add_middleware(asgi.ActivityMiddleware, writer=other, identify=of_scope)
    asgi.FlushOnShutdown(asgi.ActivityMiddleware(app, writer, of_scope), other)
    wsgi.ActivityMiddleware(Flask(__name__).wsgi_app, writer, of_environ)
    REGISTRY.register(WriterCollector({"web": writer, "jobs": other}))
    REGISTRY.register(CountsCollector(tracker, ["daily"], buckets=["member", None], refresh=30, limit=10))
