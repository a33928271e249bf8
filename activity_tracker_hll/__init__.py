"""Daily, weekly, monthly... active users, counted with HyperLogLog in Redis or Valkey."""

from .errors import (
    ActivityTrackerError,
    ArgumentTypeError,
    ArgumentValueError,
    BackendAuthError,
    BackendConnectionError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
    CollapseError,
    DroppedEventsError,
    EmbeddedServerError,
    LateEventError,
    MalformedSketchError,
    MissingExtraError,
    SettingsMismatchError,
    UnknownEncodingError,
    WriterClosedError,
)
from .estimates import Estimate
from .ids import Id
from .operations import Collapsed, DataSettings, Entry, Examination, Imported, Row, RowWithGaps
from .periods import PeriodKind
from .sketch import HyperLogLog
from .tracker import ActivityTracker
from .writer import BufferedTracker, Statistics

__version__ = "1.0.0.dev0"

__all__ = [
    "ActivityTracker",
    "ActivityTrackerError",
    "ArgumentTypeError",
    "ArgumentValueError",
    "BackendAuthError",
    "BackendConnectionError",
    "BackendDataError",
    "BackendError",
    "BackendResponseError",
    "BackendTimeoutError",
    "BufferedTracker",
    "CollapseError",
    "Collapsed",
    "DataSettings",
    "DroppedEventsError",
    "EmbeddedServerError",
    "Entry",
    "Estimate",
    "Examination",
    "HyperLogLog",
    "Id",
    "Imported",
    "LateEventError",
    "MalformedSketchError",
    "MissingExtraError",
    "PeriodKind",
    "Row",
    "RowWithGaps",
    "SettingsMismatchError",
    "Statistics",
    "UnknownEncodingError",
    "WriterClosedError",
    "__version__",
]
