"""Every error that this package raises on purpose, under one root.

Only exception classes live here. Messages name the argument and the value they are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "ActivityTrackerError",
    "ArchiveError",
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
    "MissingSketchesError",
    "ReportError",
    "SettingsMismatchError",
    "UnknownEncodingError",
    "WriterClosedError",
]


class ActivityTrackerError(Exception):
    """The root of all errors raised by activity_tracker_hll."""


class ArgumentTypeError(ActivityTrackerError, TypeError):
    """An argument has a type that is not accepted."""


class ArgumentValueError(ActivityTrackerError, ValueError):
    """An argument has the right type, but a value that is not accepted."""


class MissingExtraError(ActivityTrackerError, ImportError):
    """An optional dependency is not installed; the message names the pip extra."""


class LateEventError(ActivityTrackerError):
    """Events were refused because their period was collapsed and its sketches are gone.

    Attributes:
        periods: the names of these periods.
    """

    def __init__(self, periods: Sequence[str]) -> None:
        self.periods = tuple(periods)
        super().__init__(
            f"refused as late: {', '.join(self.periods)} already collapsed and the sketches are gone"
        )

    def __reduce__(self) -> tuple[type[LateEventError], tuple[tuple[str, ...]]]:
        return type(self), (self.periods,)


class DroppedEventsError(ActivityTrackerError):
    """A writer had to drop events: it already has as many buckets or moves as it may keep."""


class WriterClosedError(ActivityTrackerError):
    """A method of a closed writer was called."""


class MissingSketchesError(ActivityTrackerError, LookupError):
    """Sketches that are needed are not there: they have expired, or nothing was ever tracked.

    Attributes:
        gaps: what is missing, see :class:`.result.Gap`.
    """

    def __init__(self, message: str, gaps: Sequence[Any] = ()) -> None:
        self.gaps = tuple(gaps)
        super().__init__(message)

    def __reduce__(self) -> tuple[type[MissingSketchesError], tuple[Any, ...]]:
        return type(self), (self.args[0], self.gaps)


class ReportError(ActivityTrackerError):
    """A report cannot be written; the system's own error is the cause."""


class MalformedSketchError(ActivityTrackerError, ValueError):
    """Bytes that are not a sketch in the format of Redis and Valkey, or a damaged one."""


class UnknownEncodingError(MalformedSketchError):
    """A sketch in an encoding that this library does not know; the server may."""


class BackendError(ActivityTrackerError):
    """The server or the connection to it failed; the client's own exception is the cause."""


class BackendConnectionError(BackendError):
    """The server cannot be reached, the connection broke and all retries failed, or none is free."""


class BackendTimeoutError(BackendError):
    """The server did not reply within the socket timeout, nor did retries help."""


class BackendAuthError(BackendError):
    """Wrong password, unknown user, or a user without the permission needed."""


class BackendResponseError(BackendError):
    """The server replied with an error that may pass (out of memory, disk full, busy...)."""


class _OfBucketsError(ActivityTrackerError):
    """An error that tells which buckets it is about."""

    def __init__(self, message: str, failures: Sequence[tuple[str, str | None, Exception]] = ()) -> None:
        self.failures = tuple(failures)
        super().__init__(message)

    def __reduce__(self) -> tuple[type[ActivityTrackerError], tuple[Any, ...]]:
        return type(self), (self.args[0], self.failures)


class BackendDataError(_OfBucketsError, BackendResponseError):
    """A key holds something that does not belong there: another type, a corrupt sketch, text for a number.

    This does not pass until someone repairs the key.

    Attributes:
        failures: (period name, bucket, error) for each bucket that cannot be read; of ``lookup`` all that it
            was asked for, so that it answers when these are left out. Empty where the key is of no bucket.
    """


class EmbeddedServerError(BackendError):
    """The embedded server cannot be started, shared or reached."""


class SettingsMismatchError(BackendError):
    """The data on the server were written with settings that differ from this tracker's."""


class ArchiveError(_OfBucketsError, BackendError):
    """The file of an archive is missing, foreign, newer, damaged or in use, or cannot be written.

    It is used whole or not at all. Only where some buckets could not be read, from the server or from the
    file, all others were archived or restored.

    Attributes:
        failures: (period name, bucket, error) for each of those buckets.
    """


class CollapseError(_OfBucketsError, BackendError):
    """Some buckets could not be collapsed; all others were.

    Attributes:
        failures: (period name, bucket, error) for each bucket that failed.
        collapsed: the counts that were stored, as :meth:`.ActivityTracker.collapse` returns them.
    """

    def __init__(
        self,
        message: str,
        failures: Sequence[tuple[str, str | None, Exception]] = (),
        collapsed: Sequence[Any] = (),
    ) -> None:
        self.collapsed = list(collapsed)
        super().__init__(message, failures)

    def __reduce__(self) -> tuple[type[CollapseError], tuple[Any, ...]]:
        return type(self), (self.args[0], self.failures, self.collapsed)
