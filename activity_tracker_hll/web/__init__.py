"""Adapters that count the requests of a web service, one module for each kind of server interface.

When a response starts, they ask a function of the service who was active: by then it is known what inner
layers found out about the request, such as who has just signed in. What the adapters share is here.

If something goes wrong in counting, it is logged; no client of the service notices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ..arguments import attribute
from ..errors import ArgumentTypeError
from ..ids import Id
from ..messages import shown

__all__ = ["Activity", "Identify", "Recorder", "Writer", "check_app", "check_writer"]

_LOG = logging.getLogger("activity_tracker_hll")

R = TypeVar("R")


class Activity(NamedTuple):
    """Who was active, and who that was until now; see :meth:`.ActivityTracker.track`.

    Attributes:
        id: str, bytes, int or UUID.
        bucket: where the id counts; None = the unnamed bucket.
        old_id: what the id was until now; it is moved. None = nothing is moved.
        old_bucket: the bucket of old_id.
    """

    id: Id | None
    bucket: str | None = None
    old_id: Id | None = None
    old_bucket: str | None = None


Identify = Callable[[R], tuple[Any, ...] | None]
"""Takes a request; returns an :class:`Activity`, or a tuple of its first fields; None = do not count it."""


class Writer(Protocol):
    """What the adapters need of a writer, asynchronous or not."""

    def track(
        self, *, id: Id | None, bucket: str | None, old_id: Id | None, old_bucket: str | None
    ) -> object:
        """Record an event without waiting.

        Args:
            id, bucket, old_id, old_bucket: see :class:`Activity`.
        """

    def flush(self) -> Any:
        """Push what was recorded; the result may have to be awaited."""


class Recorder(Generic[R]):
    """Hands the activity of each request to a writer.

    Args:
        writer: made by ``tracker.buffered()``.
        identify: see :data:`Identify`.

    Raises:
        ArgumentTypeError: not a writer, or not a function that can be called without awaiting it.
    """

    def __init__(self, writer: Writer, identify: Identify[R]) -> None:
        check_writer(writer)
        check_identify(identify)
        self._writer, self._identify = writer, identify

    def record(self, request: R) -> None:
        """Track who was active in a request; never raises."""
        try:
            activity = self._identify(request)
            if activity is not None:
                id, bucket, old_id, old_bucket = _activity(activity)
                self._writer.track(id=id, bucket=bucket, old_id=old_id, old_bucket=old_bucket)
        except Exception:  # noqa: BLE001 (the response must go on)
            _LOG.exception("a request was not counted")


def check_writer(writer: object) -> None:
    """Refuse anything but a writer; a tracker itself would wait for the network in each request."""
    if not all(callable(attribute(writer, name)) for name in ("track", "flush")):
        raise ArgumentTypeError(f"writer must be made by tracker.buffered(), got {shown(writer)}")


def check_app(app: object) -> None:
    """Refuse an application that cannot be called, here rather than in each request."""
    if not callable(app):
        raise ArgumentTypeError(f"app must be callable, got {shown(app)}")


def check_identify(identify: object) -> None:
    """Refuse anything but a function that is not asynchronous."""
    if not callable(identify) or _is_async(identify):
        raise ArgumentTypeError(f"identify must be a function that is not async, got {shown(identify)}")


def _is_async(function: Callable[..., Any]) -> bool:
    try:
        return iscoroutinefunction(function)
    except Exception:  # noqa: BLE001 (it is asked for its attributes, and may be any object)
        return False


def _activity(activity: object) -> Activity:
    fields = Activity._fields  # public in a NamedTuple, in spite of its underscore
    if not isinstance(activity, tuple) or not 1 <= len(activity) <= len(fields):
        raise ArgumentTypeError(
            f"identify must return a tuple ({', '.join(fields)}), or its first fields, as in (id,), or None,"
            f" got {shown(activity)}"
        )
    return Activity(*activity)
