"""WSGI middleware: Flask, Pyramid, Bottle, anything that runs under gunicorn or mod_wsgi.

Only start_response is wrapped. What the application returns (iterables with a close(), generators, files)
goes to the server unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from . import Identify, Recorder, Writer, check_app

__all__ = ["ActivityMiddleware"]


class ActivityMiddleware:
    """Counts the requests of a WSGI application.

    Args:
        app: the application.
        writer: made by ``tracker.buffered()``.
        identify: called with the environ when the application starts its response. By then, the application
            may have noted there who signed in.

    Raises:
        ArgumentTypeError: naming the argument.
    """

    def __init__(self, app: WSGIApplication, writer: Writer, identify: Identify[WSGIEnvironment]) -> None:
        check_app(app)
        self.app = app
        self._recorder = Recorder(writer, identify)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Run the application."""
        recorded = False

        def start(*response: Any) -> Callable[[bytes], object]:
            nonlocal recorded
            if not recorded:  # an application that fails may start its response again
                recorded = True
                self._recorder.record(environ)
            return start_response(*response)

        return self.app(environ, start)
