"""Adapters that count the requests of a web service, one module for each kind of server interface.

Each asks a function of the service's who was active, once a response starts: what inner layers found out
about the request, such as who signed in by it, is known by then. Here is what the adapters share.

Nothing that goes wrong in counting reaches a client: it is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ..errors import ArgumentTypeError

__all__ = ["Activity", "Identify", "Recorder", "Writer"]

_LOG = logging.getLogger("activity_tracker_hll")
_MOST_SHOWN = 100

R = TypeVar("R")


class Activity(NamedTuple):
    """Who was active, and who that was until now; see :meth:`.ActivityTracker.track`.

    Attributes:
        id: str, bytes, int or UUID.
        bucket: where it counts; None = the unnamed bucket.
        old_id: what the id was until now: it is moved. None = nothing is moved.
        old_bucket: the bucket it was in.
    """

    id: object
    bucket: str | None = None
    old_id: object = None
    old_bucket: str | None = None


Identify = Callable[[R], tuple[Any, ...] | None]
"""From a request to an :class:`Activity`, or a plain tuple of its first fields; None = do not count it."""


class Writer(Protocol):
    """What the adapters use of a writer, be it of a tracker or of an asynchronous one."""

    def track(self, *, id: object, bucket: str | None, old_id: object, old_bucket: str | None) -> object:
        """Record an event without waiting.

        Args:
            id, bucket, old_id, old_bucket: see :class:`Activity`.
        """

    def flush(self) -> Any:
        """Push what was recorded; may have to be awaited."""


class Recorder(Generic[R]):
    """Hands the activity of each request to a writer.

    Args:
        writer: made by ``tracker.buffered()``.
        identify: see :data:`Identify`.

    Raises:
        ArgumentTypeError: one of them is none, or would have to be waited for.
    """

    def __init__(self, writer: Writer, identify: Identify[R]) -> None:
        check_writer(writer)
        check_identify(identify)
        self._writer, self._identify = writer, identify

    def record(self, request: R) -> None:
        """Track who was active in a request; never raises."""
        try:
            found = self._identify(request)
            if found is not None:
                id, bucket, old_id, old_bucket = _activity(found)
                self._writer.track(id=id, bucket=bucket, old_id=old_id, old_bucket=old_bucket)
        except Exception:  # noqa: BLE001 (the response must go on)
            _LOG.exception("a request was not counted")


def check_writer(writer: object) -> None:
    """Refuse what is no writer; a tracker itself would wait for the network in each request."""
    if not all(callable(getattr(writer, name, None)) for name in ("track", "flush")):
        raise ArgumentTypeError(f"writer must be made by tracker.buffered(), got {writer!r}")


def check_identify(identify: object) -> None:
    """Refuse what cannot be called, or has to be awaited."""
    if not callable(identify) or iscoroutinefunction(identify):
        raise ArgumentTypeError(f"identify must be a function that is not async, got {identify!r}")


def _activity(found: object) -> Activity:
    if not isinstance(found, tuple) or not 1 <= len(found) <= len(Activity._fields):
        shown = f"{found!r:.{_MOST_SHOWN}}"
        raise ArgumentTypeError(
            f"identify must return {Activity._fields}, the id alone, or None, got {shown}"
        )
    return Activity(*found)
