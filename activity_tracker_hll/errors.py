"""Every error this package raises on purpose, under one root.

Only exception classes live here. Messages name the argument and the value they are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "ActivityTrackerError",
    "ArgumentTypeError",
    "ArgumentValueError",
    "BackendAuthError",
    "BackendConnectionError",
    "BackendDataError",
    "BackendError",
    "BackendResponseError",
    "BackendTimeoutError",
    "CollapseError",
    "DroppedEventsError",
    "EmbeddedServerError",
    "LateEventError",
    "MalformedSketchError",
    "MissingExtraError",
    "SettingsMismatchError",
    "UnknownEncodingError",
    "WriterClosedError",
]


class ActivityTrackerError(Exception):
    """Root of every error raised by activity_tracker_hll."""


class ArgumentTypeError(ActivityTrackerError, TypeError):
    """An argument is of a type that is not accepted."""


class ArgumentValueError(ActivityTrackerError, ValueError):
    """An argument is of the right type but its value is not accepted."""


class MissingExtraError(ActivityTrackerError, ImportError):
    """An optional dependency is not installed; the message names the pip extra."""


class LateEventError(ActivityTrackerError):
    """Events for a period that was collapsed and whose sketches are gone were refused.

    Attributes:
        periods: names of the periods that refused the events.
    """

    def __init__(self, periods: Sequence[str]) -> None:
        self.periods = tuple(periods)
        super().__init__(
            f"refused as late: {', '.join(self.periods)} already collapsed and the sketches are gone"
        )

    def __reduce__(self) -> tuple[type[LateEventError], tuple[tuple[str, ...]]]:
        return type(self), (self.periods,)


class DroppedEventsError(ActivityTrackerError):
    """A writer had to drop events: it holds as many buckets or moves as it may."""


class WriterClosedError(ActivityTrackerError):
    """A call of a writer that was closed."""


class MalformedSketchError(ActivityTrackerError, ValueError):
    """Bytes that are not a sketch in the format of Redis and Valkey, or a damaged one."""


class UnknownEncodingError(MalformedSketchError):
    """A sketch in an encoding newer than this library; the server may know it."""


class BackendError(ActivityTrackerError):
    """The server or the way to it failed; the client's own exception is the cause."""


class BackendConnectionError(BackendError):
    """The server cannot be reached, or the connection broke and every retry failed."""


class BackendTimeoutError(BackendError):
    """The server did not answer within the socket timeout, retries included."""


class BackendAuthError(BackendError):
    """Wrong password, unknown user, or a user without the permission needed."""


class BackendResponseError(BackendError):
    """The server answered a command with an error, which may pass (out of memory, disk full, busy...)."""


class BackendDataError(BackendResponseError):
    """A key holds what does not belong there (wrong type, corrupt sketch, text where a number belongs).

    It stays so until someone mends it.
    """


class EmbeddedServerError(BackendError):
    """The embedded server cannot be started, shared or reached."""


class SettingsMismatchError(BackendError):
    """The data on the server were written with other settings than this tracker's."""


class CollapseError(BackendError):
    """Some buckets could not be collapsed; all others were.

    Attributes:
        failures: (period name, bucket, error) of each bucket that failed.
        collapsed: what was stored all the same, as :meth:`.ActivityTracker.collapse` returns it.
    """

    def __init__(
        self, failures: Sequence[tuple[str, str | None, Exception]], collapsed: Sequence[Any] = ()
    ) -> None:
        self.failures = tuple(failures)
        self.collapsed = list(collapsed)
        shown = "; ".join(f"{name} bucket {bucket!r}: {error}" for name, bucket, error in failures[:10])
        more = f"; and {len(failures) - 10} more" if len(failures) > 10 else ""
        super().__init__(f"{len(failures)} not collapsed (all others were): {shown}{more}")

    def __reduce__(self) -> tuple[type[CollapseError], tuple[Any, ...]]:
        return type(self), (self.failures, self.collapsed)
